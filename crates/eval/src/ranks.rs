//! At which rank each query finds the other samples of its identity, without sorting anything but those.
//!
//! Every figure of retrieval follows from the ranks of the relevant samples, and the rank of one is how many others
//! score above it. So the relevant samples' exact scores become levels, and all else is only counted against them,
//! in f32 products with a proven margin (`crate::screen`); what lies within the margin is decided in f64. A table against
//! itself needs half of the products: each block of them is read along for one side and turned round for the other.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::counting::{Count, PART, between, count, pack};
use crate::panels::{PANEL, STRIP, products};
use crate::score::{Measure, Side};
use crate::screen::Screen;
use crate::turned::{WIDTH, turn};

/// Queries that a thread treats at once where panels lie ready; a multiple of [`PANEL`] and of [`STRIP`].
const ROWS: usize = 384;
/// Queries that a thread treats at once where it makes the panels itself.
const ROWS_OF_MAPPED: usize = 4 * ROWS;
/// Candidates that they are multiplied with at once.
const COLUMNS: usize = 8 * PANEL;
/// Numbers between rows of levels: rows a power of two apart would fall on the same lines of the cache.
const STRIDE: usize = COLUMNS + WIDTH;
/// Queries with at most this many relevant samples count by vector comparisons, others by search.
const FEW: usize = 96;
/// Memory for the relevant samples that are held at once.
const MAX_TARGETS: usize = 128 << 20;

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
    /// What is above `high` in f32 is above the target, and what is not above `low` is below it.
    high: Vec<f32>,
    low: Vec<f32>,
}

impl Targets {
    fn of(&self, query: usize) -> Range<usize> {
        self.starts[query - self.first]..self.starts[query - self.first + 1]
    }
}

/// What a thread works in.
struct Scratch {
    /// Rows of products, [`STRIDE`] apart.
    products: Vec<f32>,
    /// Some columns of them as rows.
    turned: Vec<f32>,
    packing: Packing,
    /// What was counted for each target. For few targets: candidates above target k. For many: candidates below target
    /// k - 1 and above target k.
    counts: Vec<u32>,
}

/// What [`WIDTH`] queries are counted in.
struct Packing {
    /// What of each query's levels is above its lowest target.
    kept: Vec<f32>,
    /// How many they are.
    held: [usize; WIDTH],
    /// Counts of one query.
    found: [Count; FEW],
}

/// The levels of up to [`WIDTH`] queries against some candidates, rows `stride` numbers apart.
struct Levels<'l> {
    values: &'l mut [f32],
    stride: usize,
    queries: Range<usize>,
    candidates: Range<usize>,
}

impl Scratch {
    fn new(rows: usize, targets: usize) -> Self {
        Self {
            products: vec![0.0; rows * STRIDE],
            turned: vec![0.0; WIDTH * (rows + WIDTH)],
            packing: Packing {
                kept: vec![0.0; WIDTH * (rows.max(COLUMNS) + PART)],
                held: [0; WIDTH],
                found: [Count::default(); FEW],
            },
            counts: vec![0; targets],
        }
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
        let gallery_screen = Screen::of_candidates(&self.gallery.side, score, longest);
        let mut out = Vec::new();
        for batch in self.batches() {
            let targets = self.targets(batch.clone(), &query_screen, gallery_screen.bound());
            let counts = self.count(&batch, &targets, &query_screen, &gallery_screen);
            let found: Vec<Option<R>> = batch
                .into_par_iter()
                .map(|query| {
                    let range = targets.of(query);
                    if range.is_empty() {
                        return None;
                    }
                    let many = range.len() > FEW;
                    let mut above = 0;
                    let counts = counts[range].iter().enumerate();
                    let ranks: Vec<u32> = counts
                        .map(|(k, &count)| {
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
        // Score, row, two levels, 16 bytes more while they are sorted, and a count on each thread.
        let bytes = 40 + 4 * rayon::current_num_threads();
        let most = MAX_TARGETS / bytes;
        let mut out = Vec::new();
        let (mut start, mut held) = (0, 0);
        for query in 0..n {
            let more = self.relevant(query).len();
            if held + more > most && query > start {
                out.push(start..query);
                (start, held) = (query, 0);
            }
            held += more;
        }
        out.push(start..n);
        out
    }

    fn targets(&self, batch: Range<usize>, screen: &Screen<'_, '_>, margin: f32) -> Targets {
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
        let (high, low) = lists
            .iter()
            .enumerate()
            .flat_map(|(i, list)| list.iter().map(move |t| (i, t.0)))
            .map(|(i, score)| {
                let level = screen.level(first + i, score);
                (level + margin, (level - margin).next_down())
            })
            .unzip();
        let exact = lists.concat();
        Targets {
            first,
            starts,
            exact,
            high,
            low,
        }
    }

    /// The counts of all targets of a batch.
    fn count(
        &self,
        batch: &Range<usize>,
        targets: &Targets,
        query_screen: &Screen<'_, '_>,
        gallery_screen: &Screen<'_, '_>,
    ) -> Vec<u32> {
        let both = self.symmetric && batch.len() == self.gallery.side.len();
        let dim = self.queries.side.dim();
        let most = if gallery_screen.is_held() {
            ROWS
        } else {
            ROWS_OF_MAPPED
        };
        let starts: Vec<usize> = batch.clone().step_by(most).collect();
        // Blocks at the front have the most work where tiles serve both sides; threads take them one by one.
        let next = AtomicUsize::new(0);
        let threads = rayon::current_num_threads().min(starts.len());
        let parts: Vec<Vec<u32>> = (0..threads)
            .into_par_iter()
            .with_max_len(1)
            .map(|_| {
                let mut scratch = Scratch::new(most, targets.exact.len());
                while let Some(&start) = starts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let rows = start..(start + most).min(batch.end);
                    let strips = query_screen.strips(rows.clone());
                    let end = self.gallery.side.len();
                    // The square on the diagonal holds both orders of its pairs; the rest of the row of tiles serves twice.
                    let mut from = if both { rows.start } else { 0 };
                    while from < end {
                        let square = both && from < rows.end;
                        let last = if square {
                            rows.end.min(from + COLUMNS)
                        } else {
                            from + COLUMNS
                        };
                        let columns = from..last.min(end);
                        let panels = gallery_screen.panels(columns.clone());
                        let levels = &mut scratch.products;
                        products(
                            &panels,
                            &strips,
                            dim,
                            #[inline(always)]
                            |panel, strip, tile| {
                                for (row, i) in tile.iter().zip(strip * STRIP..rows.len()) {
                                    let at = i * STRIDE + panel * PANEL;
                                    levels[at..at + PANEL].copy_from_slice(row);
                                }
                            },
                        );
                        if both && !square {
                            self.count_columns(
                                targets,
                                &mut scratch,
                                &rows,
                                &columns,
                                gallery_screen,
                            );
                        }
                        self.count_rows(targets, &mut scratch, &rows, &columns, gallery_screen);
                        from = columns.end;
                    }
                }
                scratch.counts
            })
            .collect();
        let mut parts = parts.into_iter();
        let mut counts = parts.next().unwrap_or_default();
        for part in parts {
            for (sum, count) in counts.iter_mut().zip(part) {
                *sum += count;
            }
        }
        counts
    }

    /// Counts products of queries `rows` with candidates `columns` against the queries' targets.
    fn count_rows(
        &self,
        targets: &Targets,
        scratch: &mut Scratch,
        rows: &Range<usize>,
        columns: &Range<usize>,
        screen: &Screen<'_, '_>,
    ) {
        for first in rows.clone().step_by(WIDTH) {
            let at = first - rows.start;
            let levels = Levels {
                values: &mut scratch.products[at * STRIDE..],
                stride: STRIDE,
                queries: first..(first + WIDTH).min(rows.end),
                candidates: columns.clone(),
            };
            let Scratch {
                packing, counts, ..
            } = scratch;
            self.count_some(targets, levels, packing, screen, counts);
        }
    }

    /// The same with the sides exchanged: `columns` are the queries and `rows` the candidates.
    fn count_columns(
        &self,
        targets: &Targets,
        scratch: &mut Scratch,
        rows: &Range<usize>,
        columns: &Range<usize>,
        screen: &Screen<'_, '_>,
    ) {
        let stride = scratch.turned.len() / WIDTH;
        for first in columns.clone().step_by(WIDTH) {
            let products = &scratch.products[first - columns.start..];
            turn(products, STRIDE, rows.len(), &mut scratch.turned, stride);
            let levels = Levels {
                values: &mut scratch.turned,
                stride,
                queries: first..(first + WIDTH).min(columns.end),
                candidates: rows.clone(),
            };
            let Scratch {
                packing, counts, ..
            } = scratch;
            self.count_some(targets, levels, packing, screen, counts);
        }
    }

    /// Adds all levels to the counts. What is packed is read again after the other queries' turn: right away it would
    /// not have reached the cache.
    fn count_some(
        &self,
        targets: &Targets,
        levels: Levels<'_>,
        packing: &mut Packing,
        screen: &Screen<'_, '_>,
        counts: &mut [u32],
    ) {
        let candidates = levels.candidates;
        let room = packing.kept.len() / WIDTH;
        let kept = packing.kept.chunks_exact_mut(room).zip(&mut packing.held);
        let rows = levels.values.chunks_mut(levels.stride);
        for ((query, row), (kept, held)) in levels.queries.clone().zip(rows).zip(kept) {
            let row = &mut row[..candidates.len()];
            screen.to_levels(row, candidates.clone());
            let counting = self.counting(targets, query, candidates.start);
            counting.hide_own(row);
            *held = match counting.low.last() {
                Some(&lowest) if counting.low.len() <= FEW => pack(row, lowest, kept),
                _ => 0,
            };
        }
        let kept = packing.kept.chunks_exact_mut(room).zip(&packing.held);
        let rows = levels.values.chunks(levels.stride);
        for ((query, row), (kept, &held)) in levels.queries.zip(rows).zip(kept) {
            let row = &row[..candidates.len()];
            let counting = self.counting(targets, query, candidates.start);
            let counts = &mut counts[targets.of(query)];
            let Some(found) = packing.found.get_mut(..counts.len()) else {
                counting.search(row, counts);
                continue;
            };
            if held == 0 {
                continue;
            }
            found.fill(Count::default());
            count(kept, held, counting.high, counting.low, found);
            // Nothing reaches the targets before one that nothing reaches.
            let reached = found.iter().zip(counts).enumerate().rev();
            for (k, (found, sum)) in reached.take_while(|(_, (found, _))| found.maybe > 0) {
                *sum += found.sure;
                if found.maybe > found.sure {
                    *sum += counting.near(k, row);
                }
            }
        }
    }

    fn counting<'t>(&'t self, targets: &'t Targets, query: usize, first: usize) -> Counting<'t> {
        let range = targets.of(query);
        Counting {
            ranking: self,
            query,
            exact: &targets.exact[range.clone()],
            high: &targets.high[range.clone()],
            low: &targets.low[range],
            first,
        }
    }
}

/// One query against some candidates.
struct Counting<'t> {
    ranking: &'t Ranking<'t, 't>,
    query: usize,
    exact: &'t [(f64, u32)],
    high: &'t [f32],
    low: &'t [f32],
    /// Gallery place of the first candidate.
    first: usize,
}

impl Counting<'_> {
    /// Relevant samples, and the query itself among them, are ranked by their exact scores alone.
    fn hide_own(&self, row: &mut [f32]) {
        let own = self.ranking.relevant(self.query);
        let place = |p: usize| p.saturating_sub(self.first).min(row.len());
        let range = place(own.start)..place(own.end);
        if let Some(own) = row.get_mut(range) {
            own.fill(f32::NEG_INFINITY);
        }
    }

    /// Whether the candidate comes before the target.
    fn before(&self, candidate: usize, target: &(f64, u32)) -> bool {
        let gallery = &self.ranking.gallery.side;
        let measure = &self.ranking.measure;
        let score = measure.pair(&self.ranking.queries.side, self.query, gallery, candidate);
        score > target.0 || (score == target.0 && gallery.origin(candidate) < target.1)
    }

    /// Of the candidates those too near to target `k` to tell that f64 puts above it.
    #[inline(never)]
    fn near(&self, k: usize, row: &[f32]) -> u32 {
        let (Some(exact), Some(&high), Some(&low)) =
            (self.exact.get(k), self.high.get(k), self.low.get(k))
        else {
            return 0;
        };
        let mut above = 0;
        between(row, high, low, |i| {
            above += u32::from(self.before(self.first + i, exact));
        });
        above
    }

    /// Where targets are many, the place of each candidate among them is found by halving.
    fn search(&self, row: &[f32], counts: &mut [u32]) {
        let Some(&lowest) = self.low.last() else {
            return;
        };
        for (i, &v) in row.iter().enumerate() {
            if v <= lowest {
                continue;
            }
            // Targets before `sure` lie above the candidate, those from `past` on below it.
            let sure = self.low.partition_point(|&t| t >= v);
            let past = sure
                + self
                    .high
                    .get(sure..)
                    .unwrap_or(&[])
                    .partition_point(|&t| t >= v);
            let mut at = sure;
            if past > sure {
                let open = self.exact.get(sure..past).unwrap_or(&[]);
                at += open.partition_point(|t| !self.before(self.first + i, t));
            }
            if let Some(count) = counts.get_mut(at) {
                *count += 1;
            }
        }
    }
}
