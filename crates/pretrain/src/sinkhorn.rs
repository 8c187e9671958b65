//! Sinkhorn's iteration in the log domain: soft assignments that use every prototype equally.

use candle::{D, DType, Result, Tensor, bail};
use phiz_kernels::safe::log_sum_exp;

use crate::check::positive;

/// How scores become assignments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SinkhornConfig {
    /// Smoothness: scores are divided by it; smaller is nearer to hard assignments. Default 0.05.
    pub epsilon: f64,
    /// Alternations of the two normalisations, at least 1. Default 3.
    pub iterations: usize,
}

impl Default for SinkhornConfig {
    fn default() -> Self {
        Self {
            epsilon: 0.05,
            iterations: 3,
        }
    }
}

/// What [`sinkhorn`] gives.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The share of each prototype in each row, (B, K): rows sum to 1 exactly. Without gradient.
    pub q: Tensor,
    /// How far the prototypes are from equal shares: the largest `|K / B sum_b q_bk - 1|` over the prototypes.
    pub marginal_error: f64,
    /// The mean of the same over the prototypes.
    pub mean_marginal_error: f64,
}

impl Assignment {
    /// The assignments of the last `rows` rows: those of the batch, where a queue stood in front of it.
    ///
    /// # Errors
    /// When there are fewer rows.
    pub fn last(&self, rows: usize) -> Result<Tensor> {
        let all = self.q.dim(0)?;
        if rows > all {
            bail!("sinkhorn: asked for the last {rows} of {all} rows");
        }
        self.q.narrow(0, all - rows, rows)?.contiguous()
    }
}

/// Entropy-regularised optimal transport between B rows and K prototypes with equal marginals (Cuturi, NIPS 2013), as
/// SwAV uses it. With `X = scores / epsilon`, `iterations` times
///
/// ```text
/// X_bk -= log sum_b' exp X_b'k        each prototype gets the same share
/// X_bk -= log sum_k' exp X_bk'        each row sums to 1
/// ```
///
/// and `q = exp X`. The factors `1 / K`, `1 / B` and the first normalisation of the exponential form cancel, so both
/// give the same numbers; this one neither overflows (`e^(1 / 0.05)` is beyond half precision) nor divides by 0.
///
/// Rows are exact; the prototypes' shares are so only in the limit, and their error is reported.
///
/// # Shapes
/// `scores` (B, K), computed in its own type, half precision in f32. Nothing has a gradient.
///
/// # Errors
/// When the scores are no matrix or not finite, or a setting makes no sense.
pub fn sinkhorn(scores: &Tensor, config: SinkhornConfig) -> Result<Assignment> {
    let &[rows, prototypes] = scores.dims() else {
        bail!("sinkhorn: expected scores (B, K), got {:?}", scores.shape())
    };
    if rows == 0 || prototypes == 0 {
        bail!("sinkhorn: empty scores {:?}", scores.shape());
    }
    positive("epsilon of sinkhorn", config.epsilon)?;
    if config.iterations == 0 {
        bail!("sinkhorn: needs at least one iteration");
    }
    let scores = match scores.dtype() {
        DType::F32 | DType::F64 => scores.detach(),
        _ => scores.detach().to_dtype(DType::F32)?,
    };
    let mut x = (scores / config.epsilon)?.contiguous()?;
    for _ in 0..config.iterations {
        x = x.broadcast_sub(&log_sum_exp(&x, 0)?.unsqueeze(0)?)?;
        x = x.broadcast_sub(&log_sum_exp(&x, D::Minus1)?.unsqueeze(1)?)?;
    }
    let q = x.exp()?;
    let shares = q.sum(0)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let errors: Vec<f64> = shares
        .iter()
        .map(|share| (share * prototypes as f64 / rows as f64 - 1.0).abs())
        .collect();
    // `max` would pass over NaN.
    if errors.iter().any(|error| !error.is_finite()) {
        bail!("sinkhorn: the scores are not finite");
    }
    Ok(Assignment {
        q,
        marginal_error: errors.iter().copied().fold(0.0, f64::max),
        mean_marginal_error: errors.iter().sum::<f64>() / prototypes as f64,
    })
}
