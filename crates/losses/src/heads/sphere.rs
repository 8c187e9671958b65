//! Multiplicative angular margins: SphereFace and large-margin softmax.

use candle::{Result, Tensor, bail};
use candle_nn::Init;
use phiz_kernels::Real;
use phiz_kernels::row_loss::{RowLoss, RowValue, cosine_row_loss, dot, row_loss};
use phiz_kernels::safe::norm_last_dim;

use super::softmax::{CrossEntropy, cross_entropy_row};
use super::{Batch, HeadConfig, check_positive, cosine_scores, head};
use crate::ops::{host, indices};

/// `psi(theta) = (-1)^k cos(m theta) - 2k` with `k = floor(m theta / pi)`, and its derivative by the cosine: `cos(m theta)` is the
/// Chebyshev polynomial `T_m`, whose derivative `m U_(m-1)` has no singularity.
#[inline(always)]
fn psi(cosine: f64, m: u32) -> (f64, f64) {
    let k = piece(cosine, m);
    let sign = if k.is_multiple_of(2) { 1.0 } else { -1.0 };
    // T_1, T_0 and U_0, U_-1.
    let (mut t, mut t0) = (cosine, 1.0);
    let (mut u, mut u0) = (1.0, 0.0);
    for _ in 1..m {
        (t, t0) = (2.0 * cosine * t - t0, t);
        (u, u0) = (2.0 * cosine * u - u0, u);
    }
    (sign * t - 2.0 * f64::from(k), sign * f64::from(m) * u)
}

fn piece(cosine: f64, m: u32) -> u32 {
    let theta = cosine.clamp(-1.0, 1.0).acos();
    ((f64::from(m) * theta / std::f64::consts::PI).floor() as u32).min(m - 1)
}

/// A softmax whose logits are `s |x| c_j`, the target's `s |x| psi(theta_y)`; the row's parameter is the norm.
pub(crate) struct NormScaled {
    pub labels: Vec<u32>,
    pub scale: f64,
    /// m; 1 leaves the target as it is.
    pub multiple: u32,
}

impl RowLoss for NormScaled {
    #[inline(always)]
    fn row<T: Real>(&self, i: usize, norm: f64, x: &mut [T], cosines: &mut [T]) -> RowValue {
        let label = self.labels[i] as usize;
        let (value, slope) = psi(x[label].to_f64(), self.multiple);
        cosines.copy_from_slice(x);
        let scale = self.scale * norm;
        let CrossEntropy { loss, miss } = cross_entropy_row(x, label, scale, value);
        // The target's entry of x is 0 here.
        let by_logit = dot(x, cosines).to_f64() - miss * value;
        let s = T::from_f64(scale);
        x.iter_mut().for_each(|g| *g *= s);
        x[label] = T::from_f64(-scale * miss * slope);
        RowValue {
            loss,
            parameter: self.scale * by_logit,
        }
    }
}

/// Configuration of [`SphereFace`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SphereFaceConfig {
    /// Multiplies every logit. Default 1.
    pub scale: f64,
    /// m, a whole number from 1. Default 4.
    pub margin: u32,
}

impl Default for SphereFaceConfig {
    fn default() -> Self {
        Self {
            scale: 1.0,
            margin: 4,
        }
    }
}

impl HeadConfig for SphereFaceConfig {
    const OP: &'static str = "sphereface";

    fn init(&self, _: usize) -> Init {
        Init::Randn {
            mean: 0.0,
            stdev: 1.0,
        }
    }

    fn check(&self) -> Result<()> {
        check_positive("the scale of SphereFace", self.scale)?;
        check_multiple(self.margin)
    }
}

fn check_multiple(margin: u32) -> Result<()> {
    if !(1..=64).contains(&margin) {
        bail!("a multiplicative margin is a whole number from 1 to 64, got {margin}");
    }
    Ok(())
}

head! {
    /// SphereFace (Liu et al., CVPR 2017): logits `s |x| c_j`, the target's `s |x| psi(theta_y)` with `psi(theta) = (-1)^k cos(m theta) - 2k`,
    /// `k = floor(m theta / pi)`, which falls from 1 to `1 - 2m`.
    ///
    /// Parameter `weight` (classes, dim), drawn from N(0, 1); its length has no effect. Time O(B C D).
    SphereFace, SphereFaceConfig, ()
}
cosine_scores!(SphereFace);

impl SphereFace {
    fn run(&self, batch: Batch) -> Result<Tensor> {
        let norms = norm_last_dim(&batch.embeddings)?;
        let SphereFaceConfig { scale, margin } = self.config;
        cosine_row_loss(
            SphereFaceConfig::OP,
            ("embeddings", &batch.embeddings),
            ("the weight", &batch.weight),
            Some(&norms),
            batch.weights,
            NormScaled {
                labels: batch.labels,
                scale,
                multiple: margin,
            },
        )
    }
}

/// Configuration of [`LargeMarginSoftmax`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LargeMarginSoftmaxConfig {
    /// Multiplies every logit. Default 1.
    pub scale: f64,
    /// m, a whole number from 1. Default 4.
    pub margin: u32,
}

impl Default for LargeMarginSoftmaxConfig {
    fn default() -> Self {
        Self {
            scale: 1.0,
            margin: 4,
        }
    }
}

impl HeadConfig for LargeMarginSoftmaxConfig {
    const OP: &'static str = "large-margin-softmax";

    fn init(&self, _: usize) -> Init {
        Init::Randn {
            mean: 0.0,
            stdev: 1.0,
        }
    }

    fn check(&self) -> Result<()> {
        check_positive("the scale of the large-margin softmax", self.scale)?;
        check_multiple(self.margin)
    }
}

head! {
    /// Large-margin softmax (Liu et al., ICML 2016): logits `s |x| |w_j| c_j = s x . w_j`, the target's `s |x| |w_y| psi(theta_y)` as in
    /// [`SphereFace`].
    ///
    /// Parameter `weight` (classes, dim), drawn from N(0, 1). Scores are the inner products. Time O(B C D), memory
    /// O(B C): the inner products are kept whole.
    LargeMarginSoftmax, LargeMarginSoftmaxConfig, ()
}

/// A softmax over `s d_j`, the target's `s l psi(theta)` with `cos(theta) = d_y / l`; the row's parameter is `l`, the product of the lengths.
struct LargeMarginRows {
    labels: Vec<u32>,
    scale: f64,
    multiple: u32,
}

impl RowLoss for LargeMarginRows {
    #[inline(always)]
    fn row<T: Real>(&self, i: usize, lengths: f64, x: &mut [T], _: &mut [T]) -> RowValue {
        let label = self.labels[i] as usize;
        let cosine = if lengths > 0.0 {
            (x[label].to_f64() / lengths).clamp(-1.0, 1.0)
        } else {
            0.0
        };
        let (value, slope) = psi(cosine, self.multiple);
        let CrossEntropy { loss, miss } = cross_entropy_row(x, label, self.scale, lengths * value);
        let s = T::from_f64(self.scale);
        x.iter_mut().for_each(|g| *g *= s);
        let by_target = -self.scale * miss;
        x[label] = T::from_f64(by_target * slope);
        RowValue {
            loss,
            parameter: by_target * (value - cosine * slope),
        }
    }
}

impl LargeMarginSoftmax {
    fn run(&self, batch: Batch) -> Result<Tensor> {
        let Batch {
            embeddings: x,
            weight,
            labels,
            weights,
        } = batch;
        let LargeMarginSoftmaxConfig { scale, margin } = self.config;
        for (name, x) in [("embeddings", &x), ("the weight", &weight)] {
            if let Some(row) = host(&x.detach().sum(1)?)?
                .iter()
                .position(|v| !v.is_finite())
            {
                bail!(
                    "{}: row {row} of {name} holds NaN or infinity",
                    LargeMarginSoftmaxConfig::OP
                );
            }
        }
        let own = weight.index_select(&indices(labels.clone(), &x)?, 0)?;
        let lengths = (norm_last_dim(&x.contiguous()?)? * norm_last_dim(&own)?)?;
        let products = phiz_kernels::linear(&x, &weight, None)?;
        let rows = LargeMarginRows {
            labels,
            scale,
            multiple: margin,
        };
        let op = LargeMarginSoftmaxConfig::OP;
        row_loss(op, &products, Some(&lengths), weights, rows)
    }

    fn scores_of(&self, embeddings: &Tensor, weight: &Tensor) -> Result<Tensor> {
        phiz_kernels::linear(embeddings, weight, None)
    }
}

#[cfg(test)]
mod tests {
    use super::psi;

    #[test]
    fn psi_falls_from_one_and_is_continuous() {
        for m in 1..6 {
            let mut last = 1.0 + 1e-12;
            for i in 0..=1000 {
                let theta = std::f64::consts::PI * f64::from(i) / 1000.0;
                let (value, _) = psi(theta.cos(), m);
                assert!(value <= last + 1e-9 && last - value < 0.2, "{m} {theta}");
                last = value;
            }
            assert!((last - (1.0 - 2.0 * f64::from(m))).abs() < 1e-9);
        }
    }
}
