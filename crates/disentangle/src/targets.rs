//! What an encoder asks of a discriminator: to know nothing.
//!
//! Maximising a discriminator's cross-entropy is unbounded, and for a yes-or-no factor its optimum is a confident
//! wrong answer, which tells as much as the right one. The terms here are bounded below and have their optimum where
//! the answer is the ignorant one.

use candle::{D, Result, Tensor};
use phiz_kernels::{log_softmax, softplus};

use crate::factor::{Factor, FactorKind};

/// Cross-entropy to a fixed target distribution, `-(1/B) sum_i sum_k target_k log p_ik`, p the softmax of the
/// logits. Not below the target's entropy; with the uniform target, `dL/dlogit = (p - 1/K) / B`.
///
/// # Shapes
/// `logits` (B, K), `target` K shares; scalar result.
///
/// # Errors
/// When the shapes do not fit or a share is not a number from 0 to 1.
pub fn target_cross_entropy(logits: &Tensor, target: &[f64]) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    if classes != target.len() || rows == 0 {
        candle::bail!(
            "target cross-entropy: logits {:?} for a target of {} shares",
            logits.dims(),
            target.len()
        )
    }
    check_shares(target)?;
    let target = row(target, logits)?;
    (log_softmax(logits)?.broadcast_mul(&target)?.sum_all()?).affine(-1. / rows as f64, 0.)
}

/// Negative entropy of the answers, `(1/B) sum_i sum_k p_ik log p_ik`, at least `-log K`.
///
/// Its gradient `p_k (log p_k + H)` vanishes as an answer becomes certain, so it supplements
/// [`target_cross_entropy`] and cannot replace it.
///
/// # Shapes
/// `logits` (B, K); scalar result.
///
/// # Errors
/// When the logits are not a matrix with rows.
pub fn negative_entropy(logits: &Tensor) -> Result<Tensor> {
    let (rows, _) = logits.dims2()?;
    let log_p = log_softmax(logits)?;
    (log_p.exp()? * &log_p)?
        .sum_all()?
        .affine(1. / rows.max(1) as f64, 0.)
}

/// [`target_cross_entropy`] for yes-or-no attributes, averaged over them:
/// `-(1/(B A)) sum (t log p + (1 - t) log (1 - p))`, p the logistic function of the logit.
///
/// # Shapes
/// `logits` (B, A), `target` A shares of yes; scalar result.
///
/// # Errors
/// As [`target_cross_entropy`].
pub fn target_binary_cross_entropy(logits: &Tensor, target: &[f64]) -> Result<Tensor> {
    let (rows, attributes) = logits.dims2()?;
    if attributes != target.len() || rows == 0 {
        candle::bail!(
            "target cross-entropy: logits {:?} for {} attributes",
            logits.dims(),
            target.len()
        )
    }
    check_shares(target)?;
    // -t log p - (1 - t) log(1 - p) = softplus(z) - t z.
    let target = row(target, logits)?;
    (softplus(logits)? - logits.broadcast_mul(&target)?)?.mean_all()
}

/// [`negative_entropy`] for yes-or-no attributes, averaged over them.
///
/// # Shapes
/// `logits` (B, A); scalar result.
///
/// # Errors
/// When the logits are not a matrix.
pub fn negative_binary_entropy(logits: &Tensor) -> Result<Tensor> {
    logits.dims2()?;
    // p log p + (1-p) log(1-p) with log p = -softplus(-z), log(1-p) = -softplus(z).
    let (yes, no) = (softplus(&logits.neg()?)?, softplus(logits)?);
    let (p, q) = (yes.neg()?.exp()?, no.neg()?.exp()?);
    ((p * yes)? + (q * no)?)?.mean_all()?.neg()
}

/// The ignorant answer about a factor, as a loss of the encoder: [`target_cross_entropy`] to the uniform
/// distribution (to the prior when `prior`), its binary form, or, for continuous factors, the divergence
/// `KL(N(0,1) || N(mean, var))` of the discriminator's answer, since standardised labels are that without knowledge.
///
/// # Shapes
/// `output` (B, [`Factor::output_dim`]); scalar result.
///
/// # Errors
/// When the shapes do not fit.
pub fn ignorance(factor: &Factor, output: &Tensor, prior: bool) -> Result<Tensor> {
    match &factor.kind {
        FactorKind::Categorical { prior: shares } if prior => target_cross_entropy(output, shares),
        FactorKind::Categorical { prior: shares } => {
            let classes = shares.len();
            target_cross_entropy(output, &vec![1. / classes as f64; classes])
        }
        FactorKind::MultiLabel { prior: shares } if prior => {
            target_binary_cross_entropy(output, shares)
        }
        FactorKind::MultiLabel { prior: shares } => {
            target_binary_cross_entropy(output, &vec![0.5; shares.len()])
        }
        FactorKind::Continuous { .. } => {
            let (mean, log_var) = gaussian(output)?;
            // (1/2) (v + (1 + m^2) / exp(v) - 1) for each dimension.
            let spread = (mean.sqr()?.affine(1., 1.)? * log_var.neg()?.exp()?)?;
            (log_var + spread)?.affine(0.5, -0.5)?.mean_all()
        }
    }
}

/// Certainty of the answers about a factor, to be minimised: [`negative_entropy`] or its binary form; for
/// continuous factors minus the mean log-variance, half of it.
///
/// # Shapes
/// `output` (B, [`Factor::output_dim`]); scalar result.
///
/// # Errors
/// When the shapes do not fit.
pub fn certainty(factor: &Factor, output: &Tensor) -> Result<Tensor> {
    match &factor.kind {
        FactorKind::Categorical { .. } => negative_entropy(output),
        FactorKind::MultiLabel { .. } => negative_binary_entropy(output),
        FactorKind::Continuous { .. } => gaussian(output)?.1.mean_all()?.affine(-0.5, 0.),
    }
}

/// Mean and log-variance (within -6 to 6) from a Gaussian head's output (B, 2 dims).
pub(crate) fn gaussian(output: &Tensor) -> Result<(Tensor, Tensor)> {
    let width = output.dim(D::Minus1)?;
    if width % 2 != 0 {
        candle::bail!(
            "a Gaussian head has an even number of outputs, got {:?}",
            output.dims()
        )
    }
    let mean = output.narrow(D::Minus1, 0, width / 2)?.contiguous()?;
    let log_var = output
        .narrow(D::Minus1, width / 2, width / 2)?
        .contiguous()?;
    Ok((mean, soft_clamp(&log_var)?))
}

/// Largest log-variance of a Gaussian head, and least with a minus sign.
pub(crate) const LOG_VARIANCE_LIMIT: f64 = 6.;

/// `6 tanh(x / 6)`: near 0 the identity, never beyond +-6, with a gradient everywhere (a hard clamp has none
/// outside, and a variance that left the range could never come back).
fn soft_clamp(x: &Tensor) -> Result<Tensor> {
    x.affine(1. / LOG_VARIANCE_LIMIT, 0.)?
        .tanh()?
        .affine(LOG_VARIANCE_LIMIT, 0.)
}

fn row(values: &[f64], like: &Tensor) -> Result<Tensor> {
    Tensor::from_slice(values, (1, values.len()), like.device())?.to_dtype(like.dtype())
}

fn check_shares(shares: &[f64]) -> Result<()> {
    match shares.iter().find(|share| !(0. ..=1.).contains(*share)) {
        Some(share) => candle::bail!("target share {share}; expected a number from 0 to 1"),
        None => Ok(()),
    }
}
