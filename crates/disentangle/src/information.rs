//! Estimates of mutual information between codes, from an estimator q fitted to the codes.
//!
//! CLUB (Cheng et al., "CLUB: A Contrastive Log-ratio Upper Bound of Mutual Information", ICML 2020) bounds
//! I(u; v) from above by how much better q(v | u) predicts a row's own v than the batch's others:
//!
//! ```text
//! (1/B) sum_i [ log q(v_i | u_i) - (1/B) sum_j log q(v_j | u_i) ]
//! ```
//!
//! It is a bound only while q is close to p(v | u); with a stale q it can fall below any number. So q is refitted
//! before each use, and an estimate below 0 says that it was not refitted enough. Both players minimise, hence
//! min-min; MINE bounds from below, so there the estimator maximises what the encoder minimises.

use candle::{Result, Tensor};
use phiz_kernels::{log_softmax, safe, softplus};

use crate::factor::{Factor, FactorKind, FactorValues, one_hot};
use crate::targets::gaussian;

/// CLUB between what q's logits were computed from and a categorical variable:
/// `(1/B) sum_i [ log q(s_i | u_i) - sum_k pi_k log q(k | u_i) ]`, pi the batch's label frequencies.
///
/// For balanced labels this is the uniform-target loss less the discriminator's cross-entropy.
///
/// # Shapes
/// `logits` (B, K), `codes` (B) u32 below K; scalar result.
///
/// # Errors
/// When the shapes do not fit, the batch is empty or a code is out of range.
pub fn club_categorical(logits: &Tensor, codes: &Tensor) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    check_rows("CLUB", rows, codes)?;
    let own = one_hot("CLUB", codes, classes, logits.dtype())?.to_device(logits.device())?;
    let excess = own.broadcast_sub(&own.mean_keepdim(0)?)?;
    (log_softmax(logits)? * excess)?
        .sum_all()?
        .affine(1. / rows as f64, 0.)
}

/// CLUB for yes-or-no attributes given one by one, averaged over them.
///
/// # Shapes
/// `logits` (B, A), `labels` (B, A) of 0 and 1; scalar result.
///
/// # Errors
/// When the shapes differ or the batch is empty.
pub fn club_multi_label(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (rows, attributes) = logits.dims2()?;
    if labels.dims() != [rows, attributes] || rows == 0 {
        candle::bail!(
            "CLUB: logits {:?} with labels {:?}",
            logits.dims(),
            labels.dims()
        )
    }
    // log q(y) = y z - softplus(z): the softplus is the same for a row's own label and the others'.
    let labels = labels.to_dtype(logits.dtype())?;
    let excess = labels.broadcast_sub(&labels.mean_keepdim(0)?)?;
    (logits * excess)?.mean_all()
}

/// CLUB between what a Gaussian head's output was computed from and a continuous variable, over all pairs of rows
/// in O(B D): the mean over the others needs only their mean and variance.
///
/// With q = N(mean_i, exp(v_i)): `(1/2B) sum_i sum_k exp(-v_ik) [ var_k + (m_k - mean_ik)^2 - (x_ik - mean_ik)^2 ]`.
/// The gradient flows into the variable as well.
///
/// # Shapes
/// `output` (B, 2 D): means, then log-variances; `values` (B, D); scalar result.
///
/// # Errors
/// When the shapes do not fit or the batch is empty.
pub fn club_gaussian(output: &Tensor, values: &Tensor) -> Result<Tensor> {
    let (rows, dims) = values.dims2()?;
    if output.dims() != [rows, 2 * dims] || rows == 0 {
        candle::bail!(
            "CLUB: a Gaussian head's output {:?} for values {:?}",
            output.dims(),
            values.dims()
        )
    }
    let (mean, log_var) = gaussian(output)?;
    let centre = values.mean_keepdim(0)?;
    let variance = values.broadcast_sub(&centre)?.sqr()?.mean_keepdim(0)?;
    let others = mean
        .broadcast_sub(&centre)?
        .sqr()?
        .broadcast_add(&variance)?;
    let own = (values - &mean)?.sqr()?;
    ((others - own)? * log_var.neg()?.exp()?)?
        .sum_all()?
        .affine(0.5 / rows as f64, 0.)
}

/// CLUB between the input of a discriminator and the factor it answers about.
///
/// # Shapes
/// `output` (B, [`Factor::output_dim`]); scalar result.
///
/// # Errors
/// When the shapes or kinds do not fit.
pub fn club(factor: &Factor, output: &Tensor, values: &FactorValues) -> Result<Tensor> {
    match (&factor.kind, values) {
        (FactorKind::Categorical { .. }, FactorValues::Categorical(codes)) => {
            club_categorical(output, codes)
        }
        (FactorKind::MultiLabel { .. }, FactorValues::MultiLabel(labels)) => {
            club_multi_label(output, labels)
        }
        (FactorKind::Continuous { .. }, FactorValues::Continuous(values)) => {
            club_gaussian(output, &values.to_dtype(output.dtype())?)
        }
        _ => candle::bail!(
            "factor `{}`: its labels are of another kind than the factor",
            factor.name
        ),
    }
}

/// MINE's lower bound of mutual information (Belghazi et al., ICML 2018, the Donsker-Varadhan form):
/// `mean(T_joint) - log mean exp(T_marginal)`. The statistics network T maximises it, encoders minimise it.
///
/// # Shapes
/// T of matching pairs (B) and of pairs from different rows (B'); scalar result.
///
/// # Errors
/// When one of them is empty.
pub fn mine(joint: &Tensor, marginal: &Tensor) -> Result<Tensor> {
    let rows = marginal.elem_count();
    if joint.elem_count() == 0 || rows == 0 {
        candle::bail!("MINE: no pairs")
    }
    let log_mean = safe::log_sum_exp_last_dim(&marginal.flatten_all()?.unsqueeze(0)?)?
        .squeeze(0)?
        .affine(1., -(rows as f64).ln())?;
    joint.mean_all()? - log_mean
}

/// What a discriminator minimises: the mean negative log-likelihood of a factor's labels under its answers
/// (cross-entropy; binary cross-entropy averaged over attributes; Gaussian, averaged over dimensions, without the
/// constant `log(2 pi) / 2`).
///
/// # Shapes
/// `output` (B, [`Factor::output_dim`]); scalar result.
///
/// # Errors
/// When the shapes or kinds do not fit.
pub fn negative_log_likelihood(
    factor: &Factor,
    output: &Tensor,
    values: &FactorValues,
) -> Result<Tensor> {
    match (&factor.kind, values) {
        (FactorKind::Categorical { .. }, FactorValues::Categorical(codes)) => {
            phiz_kernels::cross_entropy(output, codes, 0.)
        }
        (FactorKind::MultiLabel { .. }, FactorValues::MultiLabel(labels)) => {
            let labels = labels.to_dtype(output.dtype())?;
            (softplus(output)? - (output * labels)?)?.mean_all()
        }
        (FactorKind::Continuous { .. }, FactorValues::Continuous(values)) => {
            gaussian_nll(output, &values.to_dtype(output.dtype())?)
        }
        _ => candle::bail!(
            "factor `{}`: its labels are of another kind than the factor",
            factor.name
        ),
    }
}

/// `(1/2) mean( (x - mean)^2 exp(-v) + v )` for a Gaussian head.
///
/// # Shapes
/// `output` (B, 2 D): means, then log-variances; `values` (B, D); scalar result.
///
/// # Errors
/// When the shapes do not fit.
pub fn gaussian_nll(output: &Tensor, values: &Tensor) -> Result<Tensor> {
    let (rows, dims) = values.dims2()?;
    if output.dims() != [rows, 2 * dims] {
        candle::bail!(
            "a Gaussian head's output {:?} for values {:?}",
            output.dims(),
            values.dims()
        )
    }
    let (mean, log_var) = gaussian(output)?;
    let error = ((values - mean)?.sqr()? * log_var.neg()?.exp()?)?;
    (error + log_var)?.mean_all()?.affine(0.5, 0.)
}

fn check_rows(what: &str, rows: usize, codes: &Tensor) -> Result<()> {
    if codes.dims() != [rows] || rows == 0 {
        candle::bail!("{what}: {rows} rows of logits, labels {:?}", codes.dims())
    }
    Ok(())
}
