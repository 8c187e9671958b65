//! Items by weight.

use candle::{Result, bail};
use rand::RngExt;

use crate::random::Draw;

const ITEMS: u64 = 37;

/// `count` items drawn with repetition, each with a probability proportional to its weight: the second half of offline mining
/// (`TuplesToWeightsSampler`), after [`Mined::weights`](crate::Mined::weights) on the embeddings of the whole data set.
///
/// ```
/// use phiz_mining::{Draw, weighted_draws};
/// # fn main() -> candle::Result<()> {
/// let items = weighted_draws(&[0.0, 1.0, 0.5], 100, Draw::new(7, 0))?;
/// assert!(items.len() == 100 && !items.contains(&0));
/// # Ok(()) }
/// ```
///
/// # Errors
/// When a weight is negative or not finite, or all are 0.
pub fn weighted_draws(weights: &[f64], count: usize, draw: Draw) -> Result<Vec<usize>> {
    if let Some(at) = weights.iter().position(|w| !w.is_finite() || *w < 0.0) {
        bail!(
            "weight {at} must be finite and not negative, got {}",
            weights[at]
        );
    }
    let mut total = 0.0;
    let cumulative: Vec<f64> = weights
        .iter()
        .map(|w| {
            total += w;
            total
        })
        .collect();
    if total <= 0.0 {
        bail!(
            "all {} weights are 0: there is nothing to draw",
            weights.len()
        );
    }
    let mut rng = draw.rng(ITEMS, 0);
    Ok((0..count)
        .map(|_| {
            // In (0, total], so that an item of weight 0 is never hit.
            let at = total * (1.0 - rng.random::<f64>());
            cumulative
                .partition_point(|&c| c < at)
                .min(weights.len() - 1)
        })
        .collect())
}
