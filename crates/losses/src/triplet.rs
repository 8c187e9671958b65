//! The triplet loss.

use candle::{Result, Tensor};
use phiz_kernels::safe::{normalize_last_dim, sqrt};
use phiz_kernels::softplus;
pub use phiz_mining::Distance;
use phiz_mining::Triplets;

use crate::ops::{check_embeddings, check_finite, host, indices, squared_distance, zero};
use crate::reduction::{Reduction, hinge, smooth};
use crate::report::{TripletReport, mean, share};

/// Configuration of [`triplet`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TripletConfig {
    /// Default 0.2, in units of `distance`.
    pub margin: f64,
    /// Default [`Distance::Squared`] (FaceNet); [`Distance::Euclidean`] is pytorch-metric-learning's.
    pub distance: Distance,
    /// `log(1 + exp(.))` in place of the hinge (usually with margin 0). Default false.
    pub soft: bool,
    /// Scale the embeddings to unit length first. Default true, as in both programs.
    pub normalize: bool,
    /// Default [`Reduction::MeanActive`].
    pub reduction: Reduction,
}

impl Default for TripletConfig {
    fn default() -> Self {
        Self {
            margin: 0.2,
            distance: Distance::Squared,
            soft: false,
            normalize: true,
            reduction: Reduction::MeanActive,
        }
    }
}

impl From<f64> for TripletConfig {
    fn from(margin: f64) -> Self {
        Self {
            margin,
            ..Self::default()
        }
    }
}

/// `[d(a,p) - d(a,n) + margin]_+` over given triplets (Schroff, Kalenichenko, Philbin, CVPR 2015).
///
/// With `soft`, `log(1 + exp(d(a,p) - d(a,n) + margin))` (Hermans, Beyer, Leibe, arXiv 1703.07737). Without triplets the loss is
/// exactly 0 with zero gradients. The Euclidean distance has gradient 0 between equal embeddings.
///
/// # Shapes
/// `embeddings` (B, D) in f32 or f64; result: scalar.
///
/// # Errors
/// When an index is outside of the batch, the margin is not finite, or shape or type is another.
pub fn triplet(
    embeddings: &Tensor,
    triplets: &Triplets,
    config: impl Into<TripletConfig>,
) -> Result<Tensor> {
    Ok(triplet_report(embeddings, triplets, config)?.0)
}

/// [`triplet`] with what to log.
///
/// # Errors
/// As [`triplet`].
pub fn triplet_report(
    embeddings: &Tensor,
    triplets: &Triplets,
    config: impl Into<TripletConfig>,
) -> Result<(Tensor, TripletReport)> {
    let config = config.into();
    let (batch, _) = check_embeddings(embeddings)?;
    check_finite("the margin of the triplet loss", config.margin)?;
    triplets.check(batch)?;
    if triplets.is_empty() {
        return Ok((zero(&[embeddings])?, TripletReport::default()));
    }
    let e = if config.normalize {
        normalize_last_dim(embeddings)?
    } else {
        embeddings.clone()
    };
    let pick = |list: &[u32]| e.index_select(&indices(list.to_vec(), &e)?, 0);
    let anchors = pick(&triplets.anchors)?;
    let distance = |others: &[u32]| {
        let d = squared_distance(&anchors, &pick(others)?)?;
        if config.distance == Distance::Euclidean {
            sqrt(&d)
        } else {
            Ok(d)
        }
    };
    let (positive, negative) = (
        distance(&triplets.positives)?,
        distance(&triplets.negatives)?,
    );
    let z = ((&positive - &negative)? + config.margin)?;
    let (loss, active) = if config.soft {
        let active = host(&z)?.iter().filter(|&&z| z > 0.0).count();
        (smooth(&softplus(&z)?, config.reduction)?, active)
    } else {
        hinge(&z, config.reduction)?
    };
    let report = TripletReport {
        triplets: triplets.len(),
        active: share(active, triplets.len()),
        positive_mean: mean(host(&positive)?.into_iter()),
        negative_mean: mean(host(&negative)?.into_iter()),
    };
    Ok((loss, report))
}
