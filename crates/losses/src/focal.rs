//! Focal loss: cross-entropy that turns away from items already right.

use candle::{Result, Tensor, bail};
use phiz_kernels::Real;
use phiz_kernels::row_loss::{RowLoss, RowValue, row_loss};

use crate::heads::{cross_entropy_row, read_labels, wide};
use crate::ops::{check_embeddings, check_finite, zero};

/// Configuration of [`focal_loss`].
#[derive(Debug, Clone, PartialEq)]
pub struct FocalConfig {
    /// gamma, not negative; 0 is cross-entropy. Default 2.
    pub gamma: f64,
    /// alpha, a factor for each class; empty for none. Default empty.
    pub class_weights: Vec<f64>,
}

impl Default for FocalConfig {
    fn default() -> Self {
        Self {
            gamma: 2.0,
            class_weights: vec![],
        }
    }
}

impl From<f64> for FocalConfig {
    fn from(gamma: f64) -> Self {
        Self {
            gamma,
            ..Self::default()
        }
    }
}

struct FocalRows {
    labels: Vec<u32>,
    gamma: f64,
}

impl RowLoss for FocalRows {
    #[inline(always)]
    fn row<T: Real>(&self, i: usize, _: f64, x: &mut [T], _: &mut [T]) -> RowValue {
        let label = self.labels[i] as usize;
        let entropy = cross_entropy_row(x, label, 1.0, x[label].to_f64());
        // q is the probability of the target, miss = 1 - q.
        let (loss, miss, gamma) = (entropy.loss, entropy.miss, self.gamma);
        let weight = miss.powf(gamma);
        // miss^(gamma - 1) loss: finite at miss = 0 where gamma >= 1, and its limit for smaller gamma, since loss ~ miss.
        let bend = if gamma == 0.0 || miss == 0.0 {
            0.0
        } else {
            gamma * miss.powf(gamma - 1.0) * (1.0 - miss) * loss
        };
        let factor = T::from_f64(weight + bend);
        x.iter_mut().for_each(|g| *g *= factor);
        x[label] = T::from_f64(-miss * (weight + bend));
        RowValue {
            loss: weight * loss,
            parameter: 0.0,
        }
    }
}

/// Focal loss (Lin, Goyal, Girshick, He, Dollar, ICCV 2017) of logits: the mean over the batch of `-alpha_y (1 - q)^gamma log q`, `q = softmax(z)_y`.
///
/// The factor is each item's own. (face.evoLVe's `FocalLoss` multiplies the mean cross-entropy by one factor made of that mean, which
/// does not distinguish items.)
///
/// # Shapes
/// `logits` (B, C) in f32 or f64, `labels` (B) of an integer type; result: scalar. An empty batch gives 0. Time O(B C).
///
/// # Errors
/// When shapes disagree, a label is not below C, gamma is negative, or the class weights are not C finite numbers.
pub fn focal_loss<C: Into<FocalConfig>>(
    logits: &Tensor,
    labels: &Tensor,
    config: C,
) -> Result<Tensor> {
    let FocalConfig {
        gamma,
        class_weights,
    } = config.into();
    let logits = wide(logits)?;
    let (n, classes) = check_embeddings(&logits)?;
    check_finite("the gamma of the focal loss", gamma)?;
    if gamma < 0.0 {
        bail!("the gamma of the focal loss must not be negative, got {gamma}");
    }
    if !class_weights.is_empty()
        && (class_weights.len() != classes || class_weights.iter().any(|w| !w.is_finite()))
    {
        bail!(
            "focal-loss: {} class weights for {classes} classes, or one that is not finite",
            class_weights.len()
        );
    }
    let labels = read_labels("focal-loss", labels, n, classes)?;
    if n == 0 {
        return zero(&[&logits]);
    }
    let weight = |&l: &u32| class_weights.get(l as usize).copied().unwrap_or(1.0) / n as f64;
    let weights = labels.iter().map(weight).collect();
    row_loss(
        "focal-loss",
        &logits,
        None,
        weights,
        FocalRows { labels, gamma },
    )
}
