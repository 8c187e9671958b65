//! The part of a batch with the largest loss.

use candle::{Result, bail};
use rand::seq::SliceRandom;

use crate::random::Draw;

const SUBSET: u64 = 22;

/// Of `trials` random subsets of `size` out of a batch, the one with the largest loss, in ascending order
/// (`MaximumLossMiner` of pytorch-metric-learning before version 1).
///
/// `loss` is asked once for each subset. Of equal losses the first subset wins.
///
/// # Errors
/// When `size` is 0 or more than the batch, `trials` is 0, or a loss is NaN or an error.
pub fn maximum_loss_subset(
    batch: usize,
    size: usize,
    trials: usize,
    draw: Draw,
    mut loss: impl FnMut(&[u32]) -> Result<f64>,
) -> Result<Vec<u32>> {
    if size == 0 || size > batch || trials == 0 {
        bail!("cannot try {trials} subsets of {size} out of a batch of {batch}");
    }
    if u32::try_from(batch).is_err() {
        bail!("at most {} items can be indexed", u32::MAX);
    }
    let mut best: Option<(f64, Vec<u32>)> = None;
    for trial in 0..trials {
        let mut items: Vec<u32> = (0..batch as u32).collect();
        let (chosen, _) = items.partial_shuffle(&mut draw.rng(SUBSET, trial as u64), size);
        let mut chosen = chosen.to_vec();
        chosen.sort_unstable();
        let value = loss(&chosen)?;
        if value.is_nan() {
            bail!("the loss of subset {trial} is NaN");
        }
        if best.as_ref().is_none_or(|(most, _)| value > *most) {
            best = Some((value, chosen));
        }
    }
    Ok(best.map_or_else(Vec::new, |(_, chosen)| chosen))
}
