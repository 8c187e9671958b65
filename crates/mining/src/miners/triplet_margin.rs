//! Triplets by how far the negative is behind the positive.

use std::collections::BTreeSet;

use candle::{Result, bail};
use rand::RngExt;

use super::{deterministic, gathered};
use crate::comparison::{Comparison, Row};
use crate::mined::finite;
use crate::random::Draw;
use crate::triplets::TripletKind;
use crate::tuples::Triplets;

/// The triplets of a [`TripletKind`], out of all triplets of the batch (`TripletMarginMiner`; Schroff, Kalenichenko, Philbin,
/// CVPR 2015).
///
/// With `t = d(a, n) - d(a, p)`, or `s(a, p) - s(a, n)` for similarities: all violations `t <= margin`, hard ones `t <= 0`
/// too, semi-hard ones `0 < t <= margin`, easy ones `t > margin`. For each anchor the negatives are sorted once and every
/// positive takes a range of them, so that time is O(B M log M) plus the triplets found, and no B x M x M mask exists.
/// [`mine_some`](Self::mine_some) bounds what is found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TripletMarginMiner {
    /// Default 0.2, in units of the measure.
    pub margin: f64,
    /// Default [`TripletKind::All`].
    pub kind: TripletKind,
}

impl Default for TripletMarginMiner {
    fn default() -> Self {
        Self {
            margin: 0.2,
            kind: TripletKind::All,
        }
    }
}

const CHOICE: u64 = 21;

/// A positive and where its negatives lie in the sorted list.
type Range = (u32, usize, usize);

impl TripletMarginMiner {
    /// Every triplet of the kind, in ascending order.
    ///
    /// # Errors
    /// When the margin is not finite.
    pub fn mine(&self, comparison: &Comparison<'_>) -> Result<Triplets> {
        finite("the margin of a triplet miner", self.margin)?;
        let rows = comparison.map_rows(|row| {
            let (negatives, ranges) = self.ranges(&row);
            let mut found = Vec::with_capacity(ranges.iter().map(|r| r.2 - r.1).sum());
            for (p, from, to) in ranges {
                let first = found.len();
                found.extend(negatives[from..to].iter().map(|&(n, _)| (p, n)));
                found[first..].sort_unstable();
            }
            found
        })?;
        Ok(gathered(rows))
    }

    /// At most `per_anchor` triplets of each anchor, a uniform choice without repetition out of those [`mine`](Self::mine)
    /// gives; the others are never written down. Time O(B (M log M + per_anchor)).
    ///
    /// # Errors
    /// When the margin is not finite, or `per_anchor` is 0.
    pub fn mine_some(
        &self,
        comparison: &Comparison<'_>,
        per_anchor: usize,
        draw: Draw,
    ) -> Result<Triplets> {
        finite("the margin of a triplet miner", self.margin)?;
        if per_anchor == 0 {
            bail!("0 triplets for each anchor leave nothing to train on");
        }
        let rows = comparison.map_rows(|row| {
            let (negatives, ranges) = self.ranges(&row);
            // Where each positive's triplets begin in a list of all of them.
            let mut starts = Vec::with_capacity(ranges.len());
            let mut total = 0usize;
            for &(_, from, to) in &ranges {
                starts.push(total);
                total += to - from;
            }
            let mut rng = draw.rng(CHOICE, row.anchor as u64);
            let mut found: Vec<(u32, u32)> = distinct(total, per_anchor, &mut rng)
                .into_iter()
                .map(|at| {
                    let which = starts.partition_point(|&start| start <= at) - 1;
                    let (p, from, _) = ranges[which];
                    (p, negatives[from + at - starts[which]].0)
                })
                .collect();
            found.sort_unstable();
            found
        })?;
        Ok(gathered(rows))
    }

    /// How many triplets [`mine`](Self::mine) would give, without giving them.
    ///
    /// # Errors
    /// When the margin is not finite.
    pub fn count(&self, comparison: &Comparison<'_>) -> Result<u64> {
        finite("the margin of a triplet miner", self.margin)?;
        let rows = comparison.map_rows(|row| -> u64 {
            let (_, ranges) = self.ranges(&row);
            ranges.iter().map(|&(_, from, to)| (to - from) as u64).sum()
        })?;
        Ok(rows.into_iter().sum())
    }

    /// The negatives of an anchor, nearest first, and the range of them each positive takes.
    fn ranges(&self, row: &Row<'_>) -> (Vec<(u32, f64)>, Vec<Range>) {
        let mut negatives: Vec<(u32, f64)> = row.negatives().map(|(n, d)| (n as u32, d)).collect();
        negatives.sort_unstable_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        let all = negatives.len();
        let ranges = row
            .positives()
            .map(|(p, dp)| {
                // The difference is rounded as the definition has it, and rounding keeps its order, so that the ranges hold
                // exactly the triplets that a test of each would keep.
                let upto = |limit: f64| negatives.partition_point(|&(_, dn)| dn - dp <= limit);
                let (from, to) = match self.kind {
                    TripletKind::All => (0, upto(self.margin)),
                    TripletKind::Hard => (0, upto(self.margin.min(0.0))),
                    TripletKind::SemiHard => {
                        let to = upto(self.margin);
                        (upto(0.0).min(to), to)
                    }
                    TripletKind::Easy => (upto(self.margin), all),
                };
                (p as u32, from, to)
            })
            .collect();
        (negatives, ranges)
    }
}

deterministic!(TripletMarginMiner);

/// `count` different numbers below `total`, uniformly (Floyd); all of them if there are no more.
fn distinct(total: usize, count: usize, rng: &mut impl RngExt) -> Vec<usize> {
    if total <= count {
        return (0..total).collect();
    }
    let mut chosen = BTreeSet::new();
    for top in total - count..total {
        let at = rng.random_range(0..=top);
        if !chosen.insert(at) {
            chosen.insert(top);
        }
    }
    chosen.into_iter().collect()
}
