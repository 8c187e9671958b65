//! At which rank each query finds the other samples of its identity, without sorting anything but those.
//!
//! Every figure of retrieval follows from the ranks of the relevant samples, and the rank of one is how many others
//! score above it. So the relevant samples' exact scores become levels, and all else is only counted against them,
//! in f32 products with a proven margin (`crate::screen`); what lies within the margin is decided in f64.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use crate::products::row_products;
use crate::score::{Measure, Side};
use crate::screen::Screen;
use crate::simd;

/// Edge of a tile of levels: 256 KiB of f32, and as much again turned round.
const TILE: usize = 256;
/// Queries with at most this many relevant samples count by vector comparisons, others by search.
const FEW: usize = 24;
/// Relevant samples whose levels are held at once: 20 bytes each.
const MAX_TARGETS: usize = 4 << 20;

/// Rows grouped by identity, with their codes in ascending order.
pub(crate) struct Grouped<'a> {
    pub(crate) side: Side<'a>,
    pub(crate) codes: Vec<u32>,
}

/// Ranks for queries against a gallery.
pub(crate) struct Ranking<'g, 'a> {
    pub(crate) queries: &'g Grouped<'a>,
    pub(crate) gallery: &'g Grouped<'a>,
    /// Places of each identity in the gallery.
    pub(crate) places: Vec<Range<usize>>,
    pub(crate) measure: Measure,
    /// Both are one table: a query is no candidate of its own.
    pub(crate) same_table: bool,
    /// Both are the same rows in the same order: each tile serves both sides.
    pub(crate) symmetric: bool,
}

/// The relevant samples of a batch of queries.
struct Targets {
    /// First query of the batch.
    first: usize,
    /// Where each query's targets begin; one more than there are queries.
    starts: Vec<usize>,
    /// Exact score and gallery row, best first.
    exact: Vec<(f64, u32)>,
    levels: Vec<f32>,
    /// For few targets: candidates above target k. For many: candidates below target k-1 and above target k.
    counts: Vec<AtomicU32>,
}

impl Targets {
    fn of(&self, query: usize) -> Range<usize> {
        self.starts[query - self.first]..self.starts[query - self.first + 1]
    }
}

impl Ranking<'_, '_> {
    /// Calls `visit(query place, ranks of its relevant samples, ascending from 1)` for each query with any, and collects.
    pub(crate) fn map<R: Send>(&self, visit: impl Fn(usize, &[u32]) -> R + Sync) -> Vec<R> {
        let score = self.measure.score();
        let longest = self
            .queries
            .side
            .largest_norm()
            .max(self.gallery.side.largest_norm());
        let query_screen = Screen::new(&self.queries.side, score, longest);
        let other = (!self.symmetric).then(|| Screen::new(&self.gallery.side, score, longest));
        let gallery_screen = other.as_ref().unwrap_or(&query_screen);
        let mut out = Vec::new();
        for batch in self.batches() {
            let targets = self.targets(batch.clone(), &query_screen);
            self.count(&batch, &targets, &query_screen, gallery_screen);
            let found: Vec<Option<R>> = batch
                .into_par_iter()
                .map(|query| {
                    let range = targets.of(query);
                    if range.is_empty() {
                        return None;
                    }
                    let many = range.len() > FEW;
                    let mut above = 0;
                    let counts = targets.counts[range].iter().enumerate();
                    let ranks: Vec<u32> = counts
                        .map(|(k, count)| {
                            let count = count.load(Ordering::Relaxed);
                            above = if many { above + count } else { count };
                            1 + k as u32 + above
                        })
                        .collect();
                    Some(visit(query, &ranks))
                })
                .collect();
            out.extend(found.into_iter().flatten());
        }
        out
    }

    fn relevant(&self, query: usize) -> Range<usize> {
        let code = self.queries.codes[query] as usize;
        self.places.get(code).cloned().unwrap_or(0..0)
    }

    /// Runs of queries with a bounded number of targets.
    fn batches(&self) -> Vec<Range<usize>> {
        let n = self.queries.side.len();
        let mut out = Vec::new();
        let (mut start, mut held) = (0, 0);
        for query in 0..n {
            let more = self.relevant(query).len();
            if held + more > MAX_TARGETS && query > start {
                out.push(start..query);
                (start, held) = (query, 0);
            }
            held += more;
        }
        out.push(start..n);
        out
    }

    fn targets(&self, batch: Range<usize>, screen: &Screen<'_, '_>) -> Targets {
        let (queries, gallery) = (&self.queries.side, &self.gallery.side);
        let lists: Vec<Vec<(f64, u32)>> = batch
            .clone()
            .into_par_iter()
            .map(|query| {
                let own = queries.origin(query);
                let mut list: Vec<(f64, u32)> = self
                    .relevant(query)
                    .filter(|&g| !(self.same_table && gallery.origin(g) == own))
                    .map(|g| {
                        let score = self.measure.pair(queries, query, gallery, g);
                        (score, gallery.origin(g))
                    })
                    .collect();
                list.sort_unstable_by(|x, y| y.0.total_cmp(&x.0).then(x.1.cmp(&y.1)));
                list
            })
            .collect();
        let mut starts = vec![0];
        for list in &lists {
            starts.push(starts.last().copied().unwrap_or(0) + list.len());
        }
        let first = batch.start;
        let levels = lists
            .iter()
            .enumerate()
            .flat_map(|(i, list)| list.iter().map(move |t| (i, t.0)))
            .map(|(i, score)| screen.level(first + i, score))
            .collect();
        let exact = lists.concat();
        let counts = (0..exact.len()).map(|_| AtomicU32::new(0)).collect();
        Targets {
            first,
            starts,
            exact,
            levels,
            counts,
        }
    }

    fn count(
        &self,
        batch: &Range<usize>,
        targets: &Targets,
        query_screen: &Screen<'_, '_>,
        gallery_screen: &Screen<'_, '_>,
    ) {
        let blocks = |range: Range<usize>| -> Vec<Range<usize>> {
            let end = range.end;
            range
                .step_by(TILE)
                .map(|s| s..(s + TILE).min(end))
                .collect()
        };
        let both = self.symmetric && batch.len() == self.gallery.side.len();
        let gallery_blocks = blocks(0..self.gallery.side.len());
        let tiles: Vec<(Range<usize>, Range<usize>)> = blocks(batch.clone())
            .into_iter()
            .flat_map(|q| {
                let others = gallery_blocks.iter();
                let others = others.filter(|g| !both || g.start >= q.start);
                others.map(|g| (q.clone(), g.clone())).collect::<Vec<_>>()
            })
            .collect();
        let dim = self.queries.side.dim();
        tiles.par_iter().for_each_init(
            || (vec![0f32; TILE * TILE], vec![0f32; TILE * TILE]),
            |(levels, turned), (rows, columns)| {
                let levels = &mut levels[..rows.len() * columns.len()];
                row_products(
                    &gallery_screen.block(columns.clone()),
                    &query_screen.block(rows.clone()),
                    dim,
                    levels,
                );
                if both && rows != columns {
                    let turned = &mut turned[..levels.len()];
                    turn(levels, columns.len(), turned);
                    self.count_rows(targets, turned, columns, rows, query_screen);
                }
                self.count_rows(targets, levels, rows, columns, gallery_screen);
            },
        );
    }

    /// Counts products of queries `rows` with candidates `columns` against the queries' targets.
    fn count_rows(
        &self,
        targets: &Targets,
        products: &mut [f32],
        rows: &Range<usize>,
        columns: &Range<usize>,
        screen: &Screen<'_, '_>,
    ) {
        for (query, row) in rows
            .clone()
            .zip(products.chunks_exact_mut(columns.len().max(1)))
        {
            let range = targets.of(query);
            if range.is_empty() {
                continue;
            }
            screen.to_levels(row, columns.clone());
            // Relevant samples, and the query itself among them, are ranked by their exact scores alone.
            let own = self.relevant(query);
            let (from, to) = (own.start.max(columns.start), own.end.min(columns.end));
            if from < to {
                row[from - columns.start..to - columns.start].fill(f32::NEG_INFINITY);
            }
            let margin = screen.bound();
            let counting = Counting {
                ranking: self,
                query,
                exact: &targets.exact[range.clone()],
                levels: &targets.levels[range.clone()],
                counts: &targets.counts[range.clone()],
                margin,
                first: columns.start,
            };
            if range.len() > FEW {
                counting.search(row);
            } else {
                counting.compare(row);
            }
        }
    }
}

/// One query's row of levels.
struct Counting<'t, 'r, 'g, 'a> {
    ranking: &'r Ranking<'g, 'a>,
    query: usize,
    exact: &'t [(f64, u32)],
    levels: &'t [f32],
    counts: &'t [AtomicU32],
    margin: f32,
    /// Gallery place of the first level.
    first: usize,
}

impl Counting<'_, '_, '_, '_> {
    /// Whether the candidate comes before the target.
    fn before(&self, candidate: usize, target: &(f64, u32)) -> bool {
        let gallery = &self.ranking.gallery.side;
        let measure = &self.ranking.measure;
        let score = measure.pair(&self.ranking.queries.side, self.query, gallery, candidate);
        score > target.0 || (score == target.0 && gallery.origin(candidate) < target.1)
    }

    fn compare(&self, row: &[f32]) {
        let best = simd::run(
            #[inline(always)]
            || simd::largest(row),
        );
        // Levels descend, so those that nothing here can reach come first.
        let reached = self.levels.partition_point(|&t| best < t - self.margin);
        let targets = self.levels.iter().zip(self.exact).zip(self.counts);
        for ((&level, exact), count) in targets.skip(reached) {
            let (high, low) = (level + self.margin, level - self.margin);
            let (mut above, maybe) = simd::run(
                #[inline(always)]
                || simd::count_above(row, high, low.next_down()),
            );
            if maybe > above {
                for (i, &v) in row.iter().enumerate() {
                    if v >= low && v <= high {
                        above += u32::from(self.before(self.first + i, exact));
                    }
                }
            }
            if above > 0 {
                count.fetch_add(above, Ordering::Relaxed);
            }
        }
    }

    fn search(&self, row: &[f32]) {
        let Some(&lowest) = self.levels.last() else {
            return;
        };
        for (i, &v) in row.iter().enumerate() {
            if v < lowest - self.margin {
                continue;
            }
            // Targets before `sure` lie above the candidate, those from `past` on below it.
            let sure = self.levels.partition_point(|&t| t > v + self.margin);
            let past = sure
                + self
                    .levels
                    .get(sure..)
                    .unwrap_or(&[])
                    .partition_point(|&t| t >= v - self.margin);
            let mut at = sure;
            if past > sure {
                let open = self.exact.get(sure..past).unwrap_or(&[]);
                at += open.partition_point(|t| !self.before(self.first + i, t));
            }
            if let Some(count) = self.counts.get(at) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// `to[c * n + r] = from[r * columns + c]`, in small squares that stay in the first-level cache.
fn turn(from: &[f32], columns: usize, to: &mut [f32]) {
    const SQUARE: usize = 16;
    let rows = from.len() / columns.max(1);
    for r0 in (0..rows).step_by(SQUARE) {
        for c0 in (0..columns).step_by(SQUARE) {
            for c in c0..(c0 + SQUARE).min(columns) {
                for r in r0..(r0 + SQUARE).min(rows) {
                    to[c * rows + r] = from[r * columns + c];
                }
            }
        }
    }
}
