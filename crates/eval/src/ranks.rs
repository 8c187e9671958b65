//! At which rank each query finds the other samples of its identity, without sorting anything but those.
//!
//! Every figure of retrieval follows from the ranks of the relevant samples, and the rank of one is how many others
//! score above it. So the relevant samples' exact scores become levels, and all else is only counted against them,
//! in f32 products with a proven margin (`crate::screen`); what lies within the margin is decided in f64.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use crate::counting::{Count, LANES, count_lanes, count_row};
use crate::panels::{PANEL, STRIP, products};
use crate::score::{Measure, Side};
use crate::screen::Screen;
use crate::simd;

/// Queries that a thread treats at once where panels lie ready; a multiple of [`PANEL`] and of [`STRIP`].
const ROWS: usize = 384;
/// Queries that a thread treats at once where it makes the panels itself.
const ROWS_OF_MAPPED: usize = 4 * ROWS;
/// Candidates that they are multiplied with at once.
const COLUMNS: usize = 8 * PANEL;
/// Numbers between rows of levels: rows a power of two apart would fall on the same lines of the cache.
const STRIDE: usize = COLUMNS + LANES;
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
        let gallery_screen = Screen::of_candidates(&self.gallery.side, score, longest);
        let mut out = Vec::new();
        for batch in self.batches() {
            let targets = self.targets(batch.clone(), &query_screen);
            self.count(&batch, &targets, &query_screen, &gallery_screen);
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
        let both = self.symmetric && batch.len() == self.gallery.side.len();
        let dim = self.queries.side.dim();
        let most = if gallery_screen.is_held() {
            ROWS
        } else {
            ROWS_OF_MAPPED
        };
        let starts: Vec<usize> = batch.clone().step_by(most).collect();
        // Blocks at the front have the most work where tiles serve both sides; threads take them one by one.
        starts.par_iter().with_max_len(1).for_each_init(
            || (vec![0f32; most * STRIDE], Vec::new(), vec![0; most * FEW]),
            |(levels, lanes, totals), &start| {
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
                        self.count_columns(targets, levels, lanes, &rows, &columns, gallery_screen);
                    }
                    self.count_rows(targets, levels, totals, &rows, &columns, gallery_screen);
                    from = columns.end;
                }
                for (query, totals) in rows.clone().zip(totals.chunks_exact_mut(FEW)) {
                    for (count, total) in targets.counts[targets.of(query)].iter().zip(totals) {
                        count.fetch_add(std::mem::take(total), Ordering::Relaxed);
                    }
                }
            },
        );
    }

    /// Counts products of queries `rows` with candidates `columns` against the queries' targets.
    fn count_rows(
        &self,
        targets: &Targets,
        products: &mut [f32],
        totals: &mut [u32],
        rows: &Range<usize>,
        columns: &Range<usize>,
        screen: &Screen<'_, '_>,
    ) {
        let rows = rows.clone().zip(products.chunks_mut(STRIDE));
        for ((query, row), totals) in rows.zip(totals.chunks_exact_mut(FEW)) {
            let row = &mut row[..columns.len()];
            if !targets.of(query).is_empty() {
                screen.to_levels(row, columns.clone());
                self.hide_own(query, row, columns);
                let counting = self.counting(targets, query, screen, columns.start);
                if counting.levels.len() > FEW {
                    counting.search(row);
                } else {
                    counting.compare(row, totals);
                }
            }
        }
    }

    /// Relevant samples, and the query itself among them, are ranked by their exact scores alone.
    fn hide_own(&self, query: usize, row: &mut [f32], candidates: &Range<usize>) {
        let own = self.relevant(query);
        let (from, to) = (own.start.max(candidates.start), own.end.min(candidates.end));
        if from < to {
            row[from - candidates.start..to - candidates.start].fill(f32::NEG_INFINITY);
        }
    }

    fn counting<'t>(
        &'t self,
        targets: &'t Targets,
        query: usize,
        screen: &Screen<'_, '_>,
        first: usize,
    ) -> Counting<'t> {
        let range = targets.of(query);
        Counting {
            ranking: self,
            query,
            exact: &targets.exact[range.clone()],
            levels: &targets.levels[range.clone()],
            counts: &targets.counts[range],
            margin: screen.bound(),
            first,
        }
    }

    /// The same with the sides exchanged: `columns` are the queries and `rows` the candidates. [`LANES`] queries are
    /// counted side by side, so that nothing has to be turned round.
    fn count_columns(
        &self,
        targets: &Targets,
        products: &[f32],
        lanes: &mut Vec<[f32; LANES]>,
        rows: &Range<usize>,
        columns: &Range<usize>,
        screen: &Screen<'_, '_>,
    ) {
        let halves: Vec<f32> = rows.clone().map(|r| screen.below_product(r)).collect();
        let margin = screen.bound();
        for first in columns.clone().step_by(LANES) {
            let queries = first..(first + LANES).min(columns.end);
            let at = first - columns.start;
            lanes.resize(rows.len(), [f32::NEG_INFINITY; LANES]);
            simd::run(
                #[inline(always)]
                || {
                    let rows = products.chunks_exact(STRIDE).zip(&halves);
                    for (level, (row, half)) in lanes.iter_mut().zip(rows) {
                        for (to, product) in level.iter_mut().zip(&row[at..]) {
                            *to = product - half;
                        }
                    }
                },
            );
            let mut most = 0;
            let mut low = [[f32::INFINITY; LANES]; FEW];
            let mut high = low;
            for (lane, query) in queries.clone().enumerate() {
                let own = self.relevant(query);
                for place in own.start.max(rows.start)..own.end.min(rows.end) {
                    lanes[place - rows.start][lane] = f32::NEG_INFINITY;
                }
                let range = targets.of(query);
                if range.len() > FEW {
                    let row: Vec<f32> = lanes.iter().map(|level| level[lane]).collect();
                    self.counting(targets, query, screen, rows.start)
                        .search(&row);
                    continue;
                }
                most = most.max(range.len());
                let thresholds = low.iter_mut().zip(&mut high);
                for ((low, high), level) in thresholds.zip(&targets.levels[range]) {
                    (low[lane], high[lane]) = ((level - margin).next_down(), level + margin);
                }
            }
            let mut counts = [[Count::default(); LANES]; FEW];
            count_lanes(lanes, &high[..most], &low[..most], &mut counts[..most]);
            for (lane, query) in queries.enumerate() {
                let column = lanes.iter().map(|row| row[lane]);
                let counting = self.counting(targets, query, screen, rows.start);
                for ((k, counts), total) in counts[..most].iter().enumerate().zip(counting.counts) {
                    let Count { sure, maybe } = counts[lane];
                    let near = if maybe > sure {
                        counting.near(k, 0, column.clone())
                    } else {
                        0
                    };
                    if sure + near > 0 {
                        total.fetch_add(sure + near, Ordering::Relaxed);
                    }
                }
            }
        }
    }
}

/// One query's row of levels.
struct Counting<'t> {
    ranking: &'t Ranking<'t, 't>,
    query: usize,
    exact: &'t [(f64, u32)],
    levels: &'t [f32],
    counts: &'t [AtomicU32],
    margin: f32,
    /// Gallery place of the first level.
    first: usize,
}

impl Counting<'_> {
    /// Whether the candidate comes before the target.
    fn before(&self, candidate: usize, target: &(f64, u32)) -> bool {
        let gallery = &self.ranking.gallery.side;
        let measure = &self.ranking.measure;
        let score = measure.pair(&self.ranking.queries.side, self.query, gallery, candidate);
        score > target.0 || (score == target.0 && gallery.origin(candidate) < target.1)
    }

    fn compare(&self, row: &[f32], totals: &mut [u32]) {
        let (mut low, mut high) = ([0f32; FEW], [0f32; FEW]);
        let few = self.levels.len();
        for ((low, high), level) in low.iter_mut().zip(&mut high).zip(self.levels) {
            (*low, *high) = ((level - self.margin).next_down(), level + self.margin);
        }
        let mut counts = [Count::default(); FEW];
        count_row(row, &high[..few], &low[..few], &mut counts[..few]);
        let targets = counts[..few].iter().zip(self.levels).enumerate();
        for ((k, (&count, &level)), total) in targets.zip(totals) {
            *total += count.sure;
            if count.maybe > count.sure {
                // Levels near one target are few: find the parts that hold any first.
                let (low, high) = (level - self.margin, level + self.margin);
                for (i, part) in row.chunks(64).enumerate() {
                    let holds = simd::run(
                        #[inline(always)]
                        || {
                            part.iter()
                                .fold(false, |any, &v| any | ((v >= low) & (v <= high)))
                        },
                    );
                    if holds {
                        *total += self.near(k, i * 64, part.iter().copied());
                    }
                }
            }
        }
    }

    /// Of `all` candidates those too near to target `k` to tell that f64 puts above it.
    #[inline(never)]
    fn near(&self, k: usize, skipped: usize, all: impl Iterator<Item = f32>) -> u32 {
        let (Some(&level), Some(exact)) = (self.levels.get(k), self.exact.get(k)) else {
            return 0;
        };
        let mut above = 0;
        for (i, v) in all.enumerate() {
            if v >= level - self.margin && v <= level + self.margin {
                above += u32::from(self.before(self.first + skipped + i, exact));
            }
        }
        above
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
