//! Pairs that are hard relative to the anchor's hardest pair of the other kind.

use candle::Result;

use super::{deterministic, joined};
use crate::comparison::Comparison;
use crate::mined::finite;
use crate::tuples::Pairs;

/// Negatives not clearly less similar than the least similar positive, and positives not clearly more similar than the most
/// similar negative (`MultiSimilarityMiner`; Wang et al., CVPR 2019, equations 11 and 12).
///
/// `n` stays if `s(a, n) + epsilon > min_p s(a, p)`, `p` stays if `s(a, p) - epsilon < max_n s(a, n)`; for distances the signs
/// turn. Anchors without a positive or without a negative give nothing. The paper's measure is the cosine; give the comparison
/// [`Measure::COSINE`](crate::Measure::COSINE). Time O(B M D), memory linear beside the pairs found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MultiSimilarityMiner {
    /// Default 0.1, in units of the measure.
    pub epsilon: f64,
}

impl Default for MultiSimilarityMiner {
    fn default() -> Self {
        Self { epsilon: 0.1 }
    }
}

impl MultiSimilarityMiner {
    /// The pairs that stay, in ascending order.
    ///
    /// # Errors
    /// When epsilon is not finite.
    pub fn mine(&self, comparison: &Comparison<'_>) -> Result<Pairs> {
        finite("epsilon of a multi-similarity miner", self.epsilon)?;
        let rows = comparison.map_rows(|row| {
            let farthest = row.positives().map(|p| p.1).reduce(f64::max);
            let nearest = row.negatives().map(|n| n.1).reduce(f64::min);
            let (Some(farthest), Some(nearest)) = (farthest, nearest) else {
                return Pairs::default();
            };
            let pair = |(j, _): (usize, f64)| (row.anchor as u32, j as u32);
            let (p, n) = (row.positives(), row.negatives());
            Pairs {
                positive: p
                    .filter(|p| p.1 + self.epsilon > nearest)
                    .map(pair)
                    .collect(),
                negative: n
                    .filter(|n| n.1 - self.epsilon < farthest)
                    .map(pair)
                    .collect(),
            }
        })?;
        Ok(joined(rows))
    }
}

deterministic!(MultiSimilarityMiner);
