//! Embeddings that come as triplets already.

use candle::{Result, bail};

use crate::comparison::Comparison;
use crate::mined::{Mined, Miner};
use crate::random::Draw;
use crate::tuples::Triplets;

/// The triplets (0, 1, 2), (3, 4, 5), ... of a batch that was put together as anchor, positive, negative
/// (`EmbeddingsAlreadyPackagedAsTriplets`; see [`FixedTriplets`](crate::FixedTriplets)). Labels are not looked at.
///
/// # Errors
/// When the batch is not a multiple of three.
pub fn packaged_triplets(batch: usize) -> Result<Triplets> {
    if !batch.is_multiple_of(3) {
        bail!("a batch of packaged triplets must be a multiple of 3, got {batch}");
    }
    if u32::try_from(batch).is_err() {
        bail!("at most {} items can be indexed", u32::MAX);
    }
    Ok((0..batch as u32)
        .step_by(3)
        .map(|a| (a, a + 1, a + 2))
        .collect())
}

/// [`packaged_triplets`] as a [`Miner`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackagedTriplets;

impl Miner for PackagedTriplets {
    fn tuples(&self, comparison: &Comparison<'_>, _draw: Draw) -> Result<Mined> {
        if !comparison.is_own() {
            bail!("packaged triplets lie in one batch; there can be no separate references");
        }
        Ok(packaged_triplets(comparison.anchors())?.into())
    }
}
