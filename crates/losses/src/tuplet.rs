//! The (N+M)-tuplet clusters loss with a fixed reference distance.

use candle::{D, Result, Tensor, bail};
use phiz_kernels::safe::normalize_last_dim;
use phiz_mining::Tuplets;

use crate::members::Members;
use crate::ops::{check_embeddings, check_finite, squared_distance, zero};
use crate::reduction::TupletReduction;
use crate::report::TupletReport;

/// The distance of a member to the centre of its tuplet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClusterDistance {
    /// `||f - c||^2`. The default.
    #[default]
    Squared,
    /// `1 - cos(f, c)` with `c` the mean of the unit-length embeddings, as a public PyTorch program has it (it takes every other
    /// class of the batch as negatives: [`phiz_mining::class_tuplets`]).
    Cosine,
}

/// Configuration of [`tuplet_clusters`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TupletClustersConfig {
    /// T: positives should be nearer to the centre than `T - tau/2`, negatives farther than `T + tau/2`. In squared units (of
    /// `1 - cos` for [`ClusterDistance::Cosine`]). Default 1.
    pub reference_distance: f64,
    /// tau, the whole width of the margin, in the same units. Default 1. It is not learned: its gradient is never negative, so
    /// descent would only shrink it.
    pub tau: f64,
    /// Default [`TupletReduction::Mean`].
    pub reduction: TupletReduction,
    /// Scale the embeddings to unit length first; squared distances are then at most 4 and T from 0.5 to 1 is usual. Default
    /// false. [`ClusterDistance::Cosine`] always does.
    pub normalize: bool,
    /// Treat the centre as a constant. Default false.
    pub stop_gradient: bool,
    /// Default [`ClusterDistance::Squared`].
    pub distance: ClusterDistance,
}

impl Default for TupletClustersConfig {
    fn default() -> Self {
        Self {
            reference_distance: 1.0,
            tau: 1.0,
            reduction: TupletReduction::Mean,
            normalize: false,
            stop_gradient: false,
            distance: ClusterDistance::Squared,
        }
    }
}

/// Requires `T > tau/2 > 0`.
pub(crate) fn check_margin(reference_distance: f64, tau: f64) -> Result<()> {
    check_finite("the reference distance", reference_distance)?;
    check_finite("tau", tau)?;
    if tau <= 0.0 || reference_distance <= tau / 2.0 {
        bail!("tuplet clusters need T > tau/2 > 0, got T = {reference_distance}, tau = {tau}");
    }
    Ok(())
}

/// `w_p sum_i [D(f_i, c) - T + tau/2]_+ + w_n sum_j [T + tau/2 - D(f_j, c)]_+`, the mean over tuplets.
///
/// `i` runs over the query and its positives, `j` over the negatives, `c` is the mean of the former. A tuplet without negatives
/// has no second term. Without tuplets the loss is exactly 0 with zero gradients.
///
/// When all embeddings are equal the gradient is 0 although the loss is not: log [`embedding_std`](crate::embedding_std).
///
/// # Shapes
/// `embeddings` (B, D) in f32 or f64; result: scalar.
///
/// # Errors
/// Unless `T > tau/2 > 0`, when an index is outside of the batch, or when shape or type is another.
pub fn tuplet_clusters(
    embeddings: &Tensor,
    tuplets: &Tuplets,
    config: TupletClustersConfig,
) -> Result<Tensor> {
    Ok(tuplet_clusters_report(embeddings, tuplets, config)?.0)
}

/// [`tuplet_clusters`] with what to log.
///
/// # Errors
/// As [`tuplet_clusters`].
pub fn tuplet_clusters_report(
    embeddings: &Tensor,
    tuplets: &Tuplets,
    config: TupletClustersConfig,
) -> Result<(Tensor, TupletReport)> {
    let (batch, _) = check_embeddings(embeddings)?;
    check_margin(config.reference_distance, config.tau)?;
    let members = Members::new(tuplets, batch)?;
    if tuplets.is_empty() {
        return Ok((zero(&[embeddings])?, TupletReport::default()));
    }
    let unit = config.normalize || config.distance == ClusterDistance::Cosine;
    let e = if unit {
        normalize_last_dim(embeddings)?
    } else {
        embeddings.clone()
    };
    let rows = members.rows(&e)?;
    let centres = members.centres(&rows, config.stop_gradient)?;
    let distance = match config.distance {
        ClusterDistance::Squared => squared_distance(&rows, &members.spread(&centres)?)?,
        ClusterDistance::Cosine => {
            let centres = members.spread(&normalize_last_dim(&centres)?)?;
            (rows * centres)?.sum(D::Minus1)?.affine(-1.0, 1.0)?
        }
    };
    members.two_sided_hinge(
        &(distance - config.reference_distance)?,
        config.tau / 2.0,
        config.reduction,
    )
}
