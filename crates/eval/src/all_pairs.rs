//! Every pair of a table, scored tile by tile on all cores.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::conditions::{Condition, admitted};
use crate::hardest::{Hardest, ScoredPair};
use crate::roc::Kept;
use crate::score::{Measure, ScoreHistogram, Side};

/// Edge of a tile of scores: 512 KiB of f64, which stays in the second-level cache.
const TILE: usize = 256;
/// Bins of the score histogram; a plot may join neighbours.
pub(crate) const BINS: usize = 400;

/// All pairs of a table whose rows are grouped by identity.
pub(crate) struct AllPairs<'a> {
    pub(crate) side: Side<'a>,
    pub(crate) measure: Measure,
    /// Identity of each place, ascending.
    pub(crate) codes: Vec<u32>,
    /// Row of each place.
    pub(crate) order: Vec<usize>,
    pub(crate) conditions: &'a [Condition],
}

/// What the second pass adds up.
pub(crate) struct Counted {
    pub(crate) slots: Vec<u32>,
    pub(crate) histogram: ScoreHistogram,
    pub(crate) false_rejects: Hardest,
    pub(crate) false_accepts: Hardest,
}

impl AllPairs<'_> {
    fn tiles(&self) -> Vec<(Range<usize>, Range<usize>)> {
        let n = self.side.len();
        let block = |b: usize| b * TILE..((b + 1) * TILE).min(n);
        let blocks = n.div_ceil(TILE);
        (0..blocks)
            .flat_map(|r| (r..blocks).map(move |c| (block(r), block(c))))
            .collect()
    }

    fn admits(&self, r: usize, c: usize, same: bool) -> bool {
        self.conditions.is_empty() || admitted(self.conditions, self.order[r], self.order[c], same)
    }

    /// Genuine and impostor pairs that the conditions admit.
    pub(crate) fn totals(&self) -> (u64, u64) {
        self.tiles()
            .par_iter()
            .map(|(rows, columns)| {
                let (mut genuine, mut impostor) = (0u64, 0u64);
                for c in columns.clone() {
                    for r in rows.start..rows.end.min(c) {
                        let same = self.codes[r] == self.codes[c];
                        if self.admits(r, c, same) {
                            genuine += u64::from(same);
                            impostor += u64::from(!same);
                        }
                    }
                }
                (genuine, impostor)
            })
            .reduce(|| (0, 0), |x, y| (x.0 + y.0, x.1 + y.1))
    }

    /// Calls `visit(row, column, score, same)` for each admitted pair row < column of a tile.
    fn visit(
        &self,
        (rows, columns): &(Range<usize>, Range<usize>),
        mut visit: impl FnMut(usize, usize, f64, bool),
    ) {
        let tile = self
            .measure
            .tile(&self.side, rows.clone(), &self.side, columns.clone());
        for (column, c) in tile.columns().zip(columns.clone()) {
            for (&score, r) in column.iter().zip(rows.clone()) {
                if r < c {
                    let same = self.codes[r] == self.codes[c];
                    if self.admits(r, c, same) {
                        visit(r, c, score, same);
                    }
                }
            }
        }
    }
    /// All genuine (or all impostor) scores.
    pub(crate) fn collect(&self, genuine: bool) -> Vec<f64> {
        let parts: Vec<Vec<f64>> = self
            .tiles()
            .par_iter()
            // Codes ascend, so a tile holds a genuine pair only when its rows' last code reaches its columns' first.
            .filter(|(rows, columns)| {
                !genuine || self.codes[rows.end - 1] >= self.codes[columns.start]
            })
            .map(|tile| {
                let mut part = Vec::new();
                self.visit(tile, |_, _, score, same| {
                    if same == genuine {
                        part.push(score);
                    }
                });
                part
            })
            .collect();
        let mut out = Vec::with_capacity(parts.iter().map(Vec::len).sum());
        for part in parts {
            out.extend(part);
        }
        out
    }

    /// Counts the other set against the kept one, and what the report wants.
    pub(crate) fn count(&self, kept: &Kept, kept_is_genuine: bool, hardest: usize) -> Counted {
        let fresh = || Counted {
            slots: Vec::new(),
            histogram: ScoreHistogram::new(self.measure.range(), BINS),
            false_rejects: Hardest::new(hardest, 1.0),
            false_accepts: Hardest::new(hardest, -1.0),
        };
        let mut start = fresh();
        start.slots = vec![0; kept.index.slots()];
        // One shared array, as it may be large: a tile's slots are found first and added under the lock in one go.
        // Sums of integers do not depend on the order, and the hardest pairs are ordered by score and index.
        let total = Mutex::new(start);
        self.tiles().par_iter().for_each(|tile| {
            let mut part = fresh();
            let mut slots: Vec<usize> = Vec::with_capacity(TILE * TILE);
            self.visit(tile, |r, c, score, same| {
                if same != kept_is_genuine {
                    slots.push(kept.index.slot(score));
                }
                part.histogram.add(score, same);
                let hardest = if same {
                    &mut part.false_rejects
                } else {
                    &mut part.false_accepts
                };
                if hardest.wants(score) {
                    let (i, j) = (self.order[r], self.order[c]);
                    hardest.offer(ScoredPair {
                        a: i.min(j),
                        b: i.max(j),
                        score,
                    });
                }
            });
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            for slot in slots {
                total.slots[slot] += 1;
            }
            total.histogram.merge(&part.histogram);
            for pair in part.false_rejects.pairs {
                total.false_rejects.offer(pair);
            }
            for pair in part.false_accepts.pairs {
                total.false_accepts.offer(pair);
            }
        });
        total.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every pair with its clusters (one for each row, in the order of the rows), for the bootstrap.
    pub(crate) fn scored(&self, clusters: &[u32]) -> Vec<(f64, u32, u32, bool)> {
        let parts: Vec<Vec<(f64, u32, u32, bool)>> = self
            .tiles()
            .par_iter()
            .map(|tile| {
                let mut part = Vec::new();
                self.visit(tile, |r, c, score, same| {
                    part.push((score, clusters[r], clusters[c], same));
                });
                part
            })
            .collect();
        parts.concat()
    }
}
