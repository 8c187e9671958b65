//! Plain softmax over cosines: normalised softmax, proxy-NCA; and proxy-anchor, which sums over the batch for each proxy.

use candle::{Result, Tensor};
use candle_nn::Init;
use phiz_kernels::Real;
use phiz_kernels::row_loss::{RowLoss, RowValue, cosine_row_loss, exp_sum, largest};
use phiz_kernels::safe::norm_last_dim;

use super::sphere::NormScaled;
use super::{AdditiveRule, Batch, HeadConfig, check_positive, cosine_scores, head};
use crate::ops::check_finite;

/// Configuration of [`NormalizedSoftmax`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormalizedSoftmaxConfig {
    /// tau. Default 0.05.
    pub temperature: f64,
    /// Whether embeddings are brought to unit length, as in the paper; without, the logits are `x . w_j / (|w_j| tau)`. Default true.
    pub normalize: bool,
}

impl Default for NormalizedSoftmaxConfig {
    fn default() -> Self {
        Self {
            temperature: 0.05,
            normalize: true,
        }
    }
}

impl HeadConfig for NormalizedSoftmaxConfig {
    const OP: &'static str = "normalized-softmax";

    fn init(&self, _: usize) -> Init {
        Init::Randn {
            mean: 0.0,
            stdev: 1.0,
        }
    }

    fn check(&self) -> Result<()> {
        check_positive(
            "the temperature of the normalised softmax",
            self.temperature,
        )
    }
}

head! {
    /// Normalised softmax (Zhai and Wu, BMVC 2019; Wang et al., "NormFace", 2017): cross-entropy over `c_j / tau`.
    ///
    /// Parameter `weight` (classes, dim), drawn from N(0, 1). Time O(B C D).
    NormalizedSoftmax, NormalizedSoftmaxConfig, ()
}
cosine_scores!(NormalizedSoftmax);

impl NormalizedSoftmax {
    fn run(&self, batch: Batch) -> Result<Tensor> {
        let scale = 1.0 / self.config.temperature;
        if self.config.normalize {
            let rule = AdditiveRule {
                scale,
                margin: 0.0,
                margins: None,
            };
            return batch.softmax(NormalizedSoftmaxConfig::OP, rule, None);
        }
        let norms = norm_last_dim(&batch.embeddings)?;
        let rows = NormScaled {
            labels: batch.labels,
            scale,
            multiple: 1,
        };
        cosine_row_loss(
            NormalizedSoftmaxConfig::OP,
            ("embeddings", &batch.embeddings),
            ("the weight", &batch.weight),
            Some(&norms),
            batch.weights,
            rows,
        )
    }
}

/// Configuration of [`ProxyNca`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProxyNcaConfig {
    /// Multiplies the squared distances. Default 1.
    pub scale: f64,
}

impl Default for ProxyNcaConfig {
    fn default() -> Self {
        Self { scale: 1.0 }
    }
}

impl HeadConfig for ProxyNcaConfig {
    const OP: &'static str = "proxy-nca";

    fn init(&self, _: usize) -> Init {
        Init::Randn {
            mean: 0.0,
            stdev: 1.0,
        }
    }

    fn check(&self) -> Result<()> {
        check_positive("the scale of proxy-NCA", self.scale)
    }
}

head! {
    /// Proxy-NCA (Movshovitz-Attias et al., ICCV 2017): `-log softmax_j(-scale |x - p_j|^2)_y` over embeddings and proxies of unit length,
    /// the own proxy in the denominator (the paper leaves it out). Since `|x - p|^2 = 2 - 2c` this is cross-entropy over `2 scale c_j`.
    ///
    /// Parameter `weight` (classes, dim), drawn from N(0, 1). Time O(B C D).
    ProxyNca, ProxyNcaConfig, ()
}
cosine_scores!(ProxyNca);

impl ProxyNca {
    fn run(&self, batch: Batch) -> Result<Tensor> {
        let rule = AdditiveRule {
            scale: 2.0 * self.config.scale,
            margin: 0.0,
            margins: None,
        };
        batch.softmax(ProxyNcaConfig::OP, rule, None)
    }
}

/// Configuration of [`ProxyAnchor`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProxyAnchorConfig {
    /// delta. Default 0.1.
    pub margin: f64,
    /// alpha. Default 32.
    pub scale: f64,
}

impl Default for ProxyAnchorConfig {
    fn default() -> Self {
        Self {
            margin: 0.1,
            scale: 32.0,
        }
    }
}

impl HeadConfig for ProxyAnchorConfig {
    const OP: &'static str = "proxy-anchor";

    fn init(&self, rows: usize) -> Init {
        Init::Randn {
            mean: 0.0,
            stdev: (2.0 / rows.max(1) as f64).sqrt(),
        }
    }

    fn check(&self) -> Result<()> {
        check_finite("the margin of proxy-anchor", self.margin)?;
        check_positive("the scale of proxy-anchor", self.scale)
    }
}

head! {
    /// Proxy-anchor (Kim, Kim, Cho, Kwak, CVPR 2020): each proxy pulls its items and pushes all others, the hardest most.
    ///
    /// `1/|P+| sum_{p in P+} log(1 + sum_{x in X+_p} e^(-alpha (c - delta))) + 1/|P| sum_p log(1 + sum_{x not in X+_p} e^(alpha (c + delta)))`; `P+` are the proxies
    /// with items in the batch. The weight `w` of an item multiplies its exponentials; the batch's size does not divide the loss.
    ///
    /// Parameter `weight` (classes, dim), drawn from N(0, 2 / classes). Time O(B C D).
    ProxyAnchor, ProxyAnchorConfig, ()
}
cosine_scores!(ProxyAnchor);

/// The rows are proxies, the columns items.
struct ProxyAnchorRows {
    config: ProxyAnchorConfig,
    /// The items of each class, one class after the other.
    items: Vec<u32>,
    /// Where each class begins in `items`; one more than there are classes.
    starts: Vec<usize>,
    /// The logarithm of each item's weight, if they are not all 1.
    logs: Option<Vec<f64>>,
    /// `1/|P+|` and `1/|P|`.
    shares: (f64, f64),
}

impl ProxyAnchorRows {
    fn new(config: ProxyAnchorConfig, classes: usize, labels: &[u32], weights: &[f64]) -> Self {
        let mut starts = vec![0; classes + 1];
        for &l in labels {
            starts[l as usize + 1] += 1;
        }
        let with_items = starts.iter().filter(|&&n| n > 0).count();
        for c in 0..classes {
            starts[c + 1] += starts[c];
        }
        let mut items: Vec<u32> = (0..labels.len() as u32).collect();
        items.sort_by_key(|&i| labels[i as usize]);
        let plain = weights.iter().all(|&w| w == 1.0);
        Self {
            config,
            items,
            starts,
            logs: (!plain).then(|| weights.iter().map(|w| w.ln()).collect()),
            shares: (1.0 / with_items.max(1) as f64, 1.0 / classes as f64),
        }
    }
}

/// `log(1 + sum exp(z))` of exponents `z`; replaces them by the derivatives.
#[inline(always)]
fn log1p_sum_exp<T: Real>(z: &mut [T]) -> f64 {
    let top = largest(z);
    let top = if top > T::ZERO { top } else { T::ZERO };
    let sum = exp_sum(z, T::ONE, top).to_f64();
    let one = (-top.to_f64()).exp();
    let share = T::from_f64(1.0 / (one + sum));
    z.iter_mut().for_each(|v| *v *= share);
    if top == T::ZERO {
        sum.ln_1p()
    } else {
        top.to_f64() + (one + sum).ln()
    }
}

impl RowLoss for ProxyAnchorRows {
    #[inline(always)]
    fn row<T: Real>(&self, class: usize, _: f64, c: &mut [T], scratch: &mut [T]) -> RowValue {
        let ProxyAnchorConfig { margin, scale } = self.config;
        let own = &self.items[self.starts[class]..self.starts[class + 1]];
        let (alpha, delta) = (T::from_f64(scale), T::from_f64(margin));
        let positive = &mut scratch[..own.len()];
        for (z, &i) in positive.iter_mut().zip(own) {
            *z = -alpha * (c[i as usize] - delta);
        }
        for z in c.iter_mut() {
            *z = alpha * (*z + delta);
        }
        if let Some(logs) = &self.logs {
            for (z, &i) in positive.iter_mut().zip(own) {
                *z += T::from_f64(logs[i as usize]);
            }
            for (z, &log) in c.iter_mut().zip(logs) {
                *z += T::from_f64(log);
            }
        }
        for &i in own {
            c[i as usize] = T::NEG_INFINITY;
        }
        let (with_items, all) = self.shares;
        let loss = with_items * log1p_sum_exp(positive) + all * log1p_sum_exp(c);
        let factor = T::from_f64(scale * all);
        c.iter_mut().for_each(|g| *g *= factor);
        let factor = T::from_f64(-scale * with_items);
        for (&g, &i) in positive.iter().zip(own) {
            c[i as usize] = factor * g;
        }
        RowValue {
            loss,
            parameter: 0.0,
        }
    }
}

impl ProxyAnchor {
    fn run(&self, batch: Batch) -> Result<Tensor> {
        let n = batch.weights.len() as f64;
        let weights: Vec<f64> = batch.weights.iter().map(|w| w * n).collect();
        if let Some(i) = weights.iter().position(|&w| w < 0.0) {
            candle::bail!("proxy-anchor: the weight of item {i} is negative");
        }
        // Undo the division by the batch's size exactly where the weights were 1.
        let weights: Vec<f64> = weights
            .iter()
            .map(|&w| if (w - 1.0).abs() < 1e-12 { 1.0 } else { w })
            .collect();
        cosine_row_loss(
            ProxyAnchorConfig::OP,
            ("the weight", &batch.weight),
            ("embeddings", &batch.embeddings),
            None,
            vec![1.0; self.classes],
            ProxyAnchorRows::new(self.config, self.classes, &batch.labels, &weights),
        )
    }
}
