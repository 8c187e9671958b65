//! The (N+1)-tuplet loss, known as N-pair.

use candle::{D, DType, Device, Result, Tensor, bail};
use phiz_kernels::safe::normalize_last_dim;
use phiz_mining::Tuplets;

use crate::ops::{
    check_embeddings, check_finite, host, indices, log1p_sum_exp, squared_distance, zero,
};
use crate::reduction::{Reduction, smooth};
use crate::report::{NPairReport, share};

/// What an N-pair loss compares.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum NPairForm {
    /// Inner products, as Sohn wrote it. The default.
    #[default]
    InnerProduct,
    /// Squared distances with a margin, as the (N+1)-tuplet loss is quoted beside the tuplet clusters loss.
    Distance {
        /// In squared units.
        margin: f64,
    },
}

/// Configuration of [`n_pair`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NPairConfig {
    /// Default [`NPairForm::InnerProduct`].
    pub form: NPairForm,
    /// Multiplies every exponent; an inverse temperature, wanted when `normalize` bounds the products. Default 1.
    pub scale: f64,
    /// Scale the embeddings to unit length first. Default false.
    pub normalize: bool,
    /// Default [`Reduction::Mean`]; every term is above 0, so [`Reduction::MeanActive`] is the same.
    pub reduction: Reduction,
}

impl Default for NPairConfig {
    fn default() -> Self {
        Self {
            form: NPairForm::InnerProduct,
            scale: 1.0,
            normalize: false,
            reduction: Reduction::Mean,
        }
    }
}

impl From<NPairForm> for NPairConfig {
    fn from(form: NPairForm) -> Self {
        Self {
            form,
            ..Self::default()
        }
    }
}

/// `log(1 + sum_j exp(scale * z_j))` for every (query, positive) pair, `j` over the tuplet's negatives (Sohn, NIPS 2016).
///
/// `z_j = f.f_j - f.f+` for inner products, `z_j = ||f - f+||^2 + margin - ||f - f_j||^2` for distances. A tuplet with several
/// positives gives one term for each, all against the same negatives. A tuplet without positives or negatives gives none;
/// without any term the loss is exactly 0 with zero gradients.
///
/// # Shapes
/// `embeddings` (B, D) in f32 or f64; result: scalar.
///
/// # Errors
/// When an index is outside of the batch, the scale is not above 0, the margin is not finite, or shape or type is another.
pub fn n_pair(
    embeddings: &Tensor,
    tuplets: &Tuplets,
    config: impl Into<NPairConfig>,
) -> Result<Tensor> {
    Ok(n_pair_report(embeddings, tuplets, config)?.0)
}

/// [`n_pair`] with what to log.
///
/// # Errors
/// As [`n_pair`].
pub fn n_pair_report(
    embeddings: &Tensor,
    tuplets: &Tuplets,
    config: impl Into<NPairConfig>,
) -> Result<(Tensor, NPairReport)> {
    let config = config.into();
    let (batch, _) = check_embeddings(embeddings)?;
    check_finite("the scale of the N-pair loss", config.scale)?;
    if config.scale <= 0.0 {
        bail!(
            "the scale of the N-pair loss must be above 0, got {}",
            config.scale
        );
    }
    tuplets.check(batch)?;

    // One score for each (query, other) row; then one line of exponents for each (query, positive), padded to equal length.
    let (mut query, mut other) = (Vec::<u32>::new(), Vec::<u32>::new());
    let mut pairs: Vec<(u32, std::ops::Range<u32>)> = Vec::new();
    for t in tuplets
        .iter()
        .filter(|t| !t.positives.is_empty() && !t.negatives.is_empty())
    {
        let first = other.len() as u32;
        other.extend(t.positives.iter().chain(&t.negatives));
        query.resize(other.len(), t.query);
        let middle = first + t.positives.len() as u32;
        pairs.extend((first..middle).map(|p| (p, middle..other.len() as u32)));
    }
    let Some(width) = pairs.iter().map(|(_, n)| n.len()).max() else {
        return Ok((zero(&[embeddings])?, NPairReport::default()));
    };
    let (mut gather, mut keep) = (
        Vec::with_capacity(pairs.len() * width),
        Vec::with_capacity(pairs.len() * width),
    );
    for (_, negatives) in &pairs {
        gather.extend(negatives.clone());
        keep.resize(gather.len(), 1u8);
        let end = gather.len() + width - negatives.len();
        gather.resize(end, negatives.start);
        keep.resize(end, 0u8);
    }

    let e = if config.normalize {
        normalize_last_dim(embeddings)?
    } else {
        embeddings.clone()
    };
    let f = e.index_select(&indices(query, &e)?, 0)?;
    let g = e.index_select(&indices(other, &e)?, 0)?;
    let (score, margin) = match config.form {
        NPairForm::InnerProduct => ((f * g)?.sum(D::Minus1)?, 0.0),
        NPairForm::Distance { margin } => (squared_distance(&f, &g)?.neg()?, margin),
    };
    check_finite("the margin of the N-pair loss", margin)?;
    let shape = (pairs.len(), width);
    let negatives = score
        .index_select(&indices(gather, &e)?, 0)?
        .reshape(shape)?;
    let positives = score
        .index_select(&indices(pairs.iter().map(|p| p.0).collect(), &e)?, 0)?
        .unsqueeze(1)?;
    let z = negatives
        .broadcast_sub(&positives)?
        .affine(config.scale, config.scale * margin)?;
    let values = host(&z)?;
    let violated = |row: &[f64]| row.iter().any(|&z| z >= 0.0);
    let active = values.chunks(width).filter(|row| violated(row)).count();
    let keep = Tensor::from_vec(keep, shape, &Device::Cpu)?
        .to_dtype(DType::U8)?
        .to_device(e.device())?;
    let loss = smooth(&log1p_sum_exp(&z, &keep)?, config.reduction)?;
    Ok((
        loss,
        NPairReport {
            pairs: pairs.len(),
            active: share(active, pairs.len()),
        },
    ))
}
