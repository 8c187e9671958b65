//! Pairs on the wrong side of two thresholds.

use candle::Result;

use super::{deterministic, joined};
use crate::comparison::Comparison;
use crate::mined::finite;
use crate::tuples::Pairs;

/// Positives farther than one threshold, negatives nearer than another (`PairMarginMiner`).
///
/// `d(a, p) > positive_margin`, `d(a, n) < negative_margin`; for similarities `s(a, p) < positive_margin`, `s(a, n) >
/// negative_margin`. Time O(B M D), memory linear beside the pairs found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairMarginMiner {
    /// Default 0.2, for distances; a similarity wants a large one.
    pub positive_margin: f64,
    /// Default 0.8, for distances; a similarity wants a small one.
    pub negative_margin: f64,
}

impl Default for PairMarginMiner {
    fn default() -> Self {
        Self {
            positive_margin: 0.2,
            negative_margin: 0.8,
        }
    }
}

impl PairMarginMiner {
    /// The pairs that violate their threshold, in ascending order.
    ///
    /// # Errors
    /// When a margin is not finite.
    pub fn mine(&self, comparison: &Comparison<'_>) -> Result<Pairs> {
        finite("the positive margin of a pair miner", self.positive_margin)?;
        finite("the negative margin of a pair miner", self.negative_margin)?;
        let sign = if comparison.is_similarity() {
            -1.0
        } else {
            1.0
        };
        let (far, near) = (sign * self.positive_margin, sign * self.negative_margin);
        let rows = comparison.map_rows(|row| {
            let pair = |(j, _): (usize, f64)| (row.anchor as u32, j as u32);
            Pairs {
                positive: row.positives().filter(|p| p.1 > far).map(pair).collect(),
                negative: row.negatives().filter(|n| n.1 < near).map(pair).collect(),
            }
        })?;
        Ok(joined(rows))
    }
}

deterministic!(PairMarginMiner);
