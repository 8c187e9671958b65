//! Partners by their rank, so that the very hardest can be passed over.

use std::ops::Range;

use candle::{Result, bail};

use super::{deterministic, joined};
use crate::comparison::Comparison;
use crate::tuples::Pairs;

/// For each anchor the positives and negatives of given ranks, rank 0 being the hardest (`NHardTripletsMiner` of Open Metric
/// Learning).
///
/// Starting above rank 0 passes over the hardest partners, which in noisy data are mostly wrong labels. Anchors that have no
/// partner of such a rank on one side are left out. Equally hard partners are ranked by their index. Time O(B M log M).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankedMiner {
    /// Ranks of positives, farthest first. Default 0..1.
    pub positives: Range<usize>,
    /// Ranks of negatives, nearest first. Default 0..1.
    pub negatives: Range<usize>,
}

impl Default for RankedMiner {
    fn default() -> Self {
        Self {
            positives: 0..1,
            negatives: 0..1,
        }
    }
}

impl RankedMiner {
    /// The pairs of those ranks, hardest first for each anchor.
    ///
    /// # Errors
    /// When a range of ranks is empty.
    pub fn mine(&self, comparison: &Comparison<'_>) -> Result<Pairs> {
        if self.positives.is_empty() || self.negatives.is_empty() {
            bail!(
                "a range of ranks is empty: {:?} and {:?}",
                self.positives,
                self.negatives
            );
        }
        let rows = comparison.map_rows(|row| {
            let ranked =
                |mut found: Vec<(usize, f64)>, farthest_first: bool, ranks: &Range<usize>| {
                    found.sort_by(|a, b| match farthest_first {
                        true => b.1.total_cmp(&a.1),
                        false => a.1.total_cmp(&b.1),
                    });
                    let (from, to) = (ranks.start.min(found.len()), ranks.end.min(found.len()));
                    found[from..to]
                        .iter()
                        .map(|&(j, _)| (row.anchor as u32, j as u32))
                        .collect::<Vec<_>>()
                };
            let positive = ranked(row.positives().collect(), true, &self.positives);
            let negative = ranked(row.negatives().collect(), false, &self.negatives);
            if positive.is_empty() || negative.is_empty() {
                Pairs::default()
            } else {
                Pairs { positive, negative }
            }
        })?;
        Ok(joined(rows))
    }
}

deterministic!(RankedMiner);
