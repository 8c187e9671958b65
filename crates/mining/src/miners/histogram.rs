//! Pairs drawn evenly over the range of distances.

use std::collections::BTreeMap;

use candle::{Result, bail};
use rand::RngExt;

use super::joined;
use crate::comparison::{Comparison, Row};
use crate::mined::{Mined, Miner};
use crate::random::Draw;
use crate::relation::Link;
use crate::tuples::Pairs;

/// The same number of pairs from every bin of the histogram of scores, drawn with repetition (`UniformHistogramMiner`).
///
/// The range from the smallest to the largest score of the positive pairs is cut into `bins` equal parts, and `positive_per_bin`
/// pairs are drawn uniformly from each that is not empty; the same for negatives over their own range. A bin holds its lower
/// edge, the last one both. Three passes over the scores, O(B M D) each, instead of a list of all pairs; memory
/// O(B bins).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UniformHistogramMiner {
    /// Default 100.
    pub bins: usize,
    /// Positive pairs from each bin. Default 10.
    pub positive_per_bin: usize,
    /// Negative pairs from each bin. Default 10.
    pub negative_per_bin: usize,
}

impl Default for UniformHistogramMiner {
    fn default() -> Self {
        Self {
            bins: 100,
            positive_per_bin: 10,
            negative_per_bin: 10,
        }
    }
}

const POSITIVE: u64 = 24;
const NEGATIVE: u64 = 25;

/// Equal parts of a range of scores.
#[derive(Clone, Copy)]
struct Bins {
    low: f64,
    high: f64,
    count: usize,
}

impl Bins {
    fn edge(self, i: usize) -> f64 {
        let step = (self.high - self.low) / self.count as f64;
        // From the nearer end, so that the last edge is the largest score exactly.
        if i <= self.count / 2 {
            self.low + step * i as f64
        } else {
            self.high - step * (self.count - i) as f64
        }
    }

    /// The last bin whose lower edge is not above the score.
    fn of(self, score: f64) -> usize {
        let step = (self.high - self.low) / self.count as f64;
        let last = self.count - 1;
        // All scores equal: only the last bin, which holds its upper edge, is not empty.
        if step <= 0.0 {
            return last;
        }
        let mut bin = (((score - self.low) / step) as usize).min(last);
        while bin > 0 && score < self.edge(bin) {
            bin -= 1;
        }
        while bin < last && score >= self.edge(bin + 1) {
            bin += 1;
        }
        bin
    }
}

/// Wanted pairs of an anchor: its how-manieth pair of a bin, and how often.
type Wanted = BTreeMap<(usize, u32), u32>;

impl UniformHistogramMiner {
    /// The drawn pairs, in ascending order.
    ///
    /// # Errors
    /// When there are no bins.
    pub fn mine(&self, comparison: &Comparison<'_>, draw: Draw) -> Result<Pairs> {
        if self.bins == 0 {
            bail!("a histogram needs at least one bin");
        }
        let sign = if comparison.is_similarity() {
            -1.0
        } else {
            1.0
        };
        let kinds = [Link::Positive, Link::Negative];
        let ranges = comparison.map_rows(|row| {
            kinds.map(|kind| {
                scores(&row, kind, sign).fold((f64::INFINITY, f64::NEG_INFINITY), |r, (_, s)| {
                    (r.0.min(s), r.1.max(s))
                })
            })
        })?;
        let bins: [Option<Bins>; 2] = [0, 1].map(|kind| {
            let (low, high) = ranges
                .iter()
                .map(|r| r[kind])
                .fold((f64::INFINITY, f64::NEG_INFINITY), |a, b| {
                    (a.0.min(b.0), a.1.max(b.1))
                });
            (low <= high).then_some(Bins {
                low,
                high,
                count: self.bins,
            })
        });
        let counts = comparison.map_rows(|row| {
            [0, 1].map(|kind| {
                let mut counts = BTreeMap::<usize, u32>::new();
                if let Some(bins) = bins[kind] {
                    for (_, score) in scores(&row, kinds[kind], sign) {
                        *counts.entry(bins.of(score)).or_default() += 1;
                    }
                }
                counts
            })
        })?;
        let wanted = [
            self.draw(&counts, 0, self.positive_per_bin, POSITIVE, draw),
            self.draw(&counts, 1, self.negative_per_bin, NEGATIVE, draw),
        ];
        let rows = comparison.map_rows(|row| {
            let pick = |kind: usize| -> Vec<(u32, u32)> {
                let (Some(bins), Some(wanted)) = (bins[kind], wanted[kind].get(&row.anchor)) else {
                    return Vec::new();
                };
                let mut seen = BTreeMap::<usize, u32>::new();
                let mut found = Vec::new();
                for (j, score) in scores(&row, kinds[kind], sign) {
                    let bin = bins.of(score);
                    let rank = seen.entry(bin).or_default();
                    let times = wanted.get(&(bin, *rank)).copied().unwrap_or(0);
                    found.extend((0..times).map(|_| (row.anchor as u32, j as u32)));
                    *rank += 1;
                }
                found
            };
            Pairs {
                positive: pick(0),
                negative: pick(1),
            }
        })?;
        Ok(joined(rows))
    }

    /// Which pairs of which anchor to take, counted within their bin.
    fn draw(
        &self,
        counts: &[[BTreeMap<usize, u32>; 2]],
        kind: usize,
        per_bin: usize,
        domain: u64,
        draw: Draw,
    ) -> BTreeMap<usize, Wanted> {
        // For each bin the anchors that have pairs in it, with the number of pairs before theirs.
        let mut bins = BTreeMap::<usize, (Vec<(u64, usize)>, u64)>::new();
        for (anchor, counts) in counts.iter().enumerate() {
            for (&bin, &count) in &counts[kind] {
                let (starts, total) = bins.entry(bin).or_default();
                starts.push((*total, anchor));
                *total += u64::from(count);
            }
        }
        let mut wanted = BTreeMap::<usize, Wanted>::new();
        for (bin, (starts, total)) in bins {
            let mut rng = draw.rng(domain, bin as u64);
            for _ in 0..per_bin {
                let at = rng.random_range(0..total);
                let (start, anchor) = starts[starts.partition_point(|&(start, _)| start <= at) - 1];
                let rank = (at - start) as u32;
                *wanted
                    .entry(anchor)
                    .or_default()
                    .entry((bin, rank))
                    .or_default() += 1;
            }
        }
        wanted
    }
}

fn scores<'r>(
    row: &'r Row<'_>,
    kind: Link,
    sign: f64,
) -> Box<dyn Iterator<Item = (usize, f64)> + 'r> {
    match kind {
        Link::Positive => Box::new(row.positives().map(move |(j, d)| (j, sign * d))),
        _ => Box::new(row.negatives().map(move |(j, d)| (j, sign * d))),
    }
}

impl Miner for UniformHistogramMiner {
    fn tuples(&self, comparison: &Comparison<'_>, draw: Draw) -> Result<Mined> {
        Ok(self.mine(comparison, draw)?.into())
    }
}
