//! Explicit tuples: only the elements that a miner named are computed, each directly, so that memory is that of the tuples.

use std::ops::Range;

use rayon::prelude::*;

use super::dense::Backing;
use super::real::Real;
use super::row::{Cols, Row, RowFn};
use super::simd;

/// For every row, the columns of its positives and of its negatives, duplicates as they were given.
pub(crate) struct Lists<T> {
    pub backing: Backing<T>,
    pub n: usize,
    pub m: usize,
    starts: Vec<(usize, usize)>,
    cols: Vec<u32>,
    values: Vec<T>,
    pub dx: Vec<T>,
    pub dy: Vec<T>,
    gradients: bool,
}

/// Rows handled by one task.
const ROWS: usize = 16;

impl<T: Real> Lists<T> {
    /// `pairs` are (row, column, positive); their order is kept within a row.
    pub(crate) fn new(
        backing: Backing<T>,
        (n, m): (usize, usize),
        positive: &[(u32, u32)],
        negative: &[(u32, u32)],
        gradients: bool,
    ) -> Self {
        // Counting sort by row: positives of a row first, then its negatives.
        let mut counts = vec![(0usize, 0usize); n];
        for &(a, _) in positive {
            counts[a as usize].0 += 1;
        }
        for &(a, _) in negative {
            counts[a as usize].1 += 1;
        }
        let mut starts = Vec::with_capacity(n + 1);
        let mut at = 0;
        for (p, q) in counts {
            starts.push((at, at + p));
            at += p + q;
        }
        starts.push((at, at));
        let mut cols = vec![0; at];
        let mut next = starts.clone();
        for &(a, c) in positive {
            let slot = &mut next[a as usize].0;
            cols[*slot] = c;
            *slot += 1;
        }
        for &(a, c) in negative {
            let slot = &mut next[a as usize].1;
            cols[*slot] = c;
            *slot += 1;
        }
        let mut lists = Self {
            backing,
            n,
            m,
            starts,
            cols,
            values: Vec::new(),
            dx: Vec::new(),
            dy: Vec::new(),
            gradients,
        };
        let values: Vec<Vec<T>> = (0..n)
            .collect::<Vec<_>>()
            .par_chunks(ROWS)
            .map(|rows| {
                let mut out = Vec::new();
                for &i in rows {
                    let (p, n) = lists.ranges(i);
                    for &j in &lists.cols[p.start..n.end] {
                        out.push(match &lists.backing {
                            Backing::Embedded(source) => source.one(i, j as usize),
                            Backing::Given(values) => values[i * m + j as usize],
                        });
                    }
                }
                out
            })
            .collect();
        lists.values = values.concat();
        lists
    }

    fn ranges(&self, i: usize) -> (Range<usize>, Range<usize>) {
        let (start, middle) = self.starts[i];
        (start..middle, middle..self.starts[i + 1].0)
    }

    /// Runs `f` on every row; with `write` carries its gradients back.
    pub(crate) fn pass(&mut self, write: bool, f: RowFn<'_, T>) {
        let this = &*self;
        let rows: Vec<usize> = (0..self.n).collect();
        let grads: Vec<Vec<T>> = rows
            .par_chunks(ROWS)
            .map(|rows| {
                let mut grads = Vec::new();
                for &i in rows {
                    let (p, n) = this.ranges(i);
                    let mut values = this.values[p.start..n.end].to_vec();
                    let (pos, neg) = values.split_at_mut(p.len());
                    f(&mut Row {
                        sorted: i,
                        anchor: i,
                        pos,
                        neg,
                        cols: Cols::Listed {
                            pos: &this.cols[p],
                            neg: &this.cols[n],
                        },
                    });
                    if write {
                        grads.extend(values);
                    }
                }
                grads
            })
            .collect();
        if write && self.gradients {
            self.pull(&grads.concat());
        }
    }

    fn pull(&mut self, grads: &[T]) {
        let source = match &self.backing {
            Backing::Given(_) => {
                let mut out = vec![T::ZERO; self.n * self.m];
                for i in 0..self.n {
                    let (p, n) = self.ranges(i);
                    for k in p.start..n.end {
                        out[i * self.m + self.cols[k] as usize] += grads[k];
                    }
                }
                self.dx = out;
                return;
            }
            Backing::Embedded(source) => source,
        };
        let d = source.x.d;
        let mut dx = vec![T::ZERO; self.n * d];
        if d == 0 {
            self.dx = dx;
            self.dy = Vec::new();
            return;
        }
        dx.par_chunks_mut(d).enumerate().for_each(|(i, dx)| {
            let (p, n) = self.ranges(i);
            let entries: Vec<(u32, T, T)> = (p.start..n.end)
                .filter(|&k| grads[k] != T::ZERO)
                .map(|k| (self.cols[k], grads[k], self.values[k]))
                .collect();
            source.pull_entries_to_row(dx, i, &entries);
        });
        // The same elements by column.
        let mut by_column: Vec<Vec<(u32, T, T)>> = vec![Vec::new(); self.m];
        for i in 0..self.n {
            let (p, n) = self.ranges(i);
            for k in (p.start..n.end).filter(|&k| grads[k] != T::ZERO) {
                by_column[self.cols[k] as usize].push((i as u32, grads[k], self.values[k]));
            }
        }
        let mut dy = vec![T::ZERO; self.m * d];
        dy.par_chunks_mut(d)
            .zip(&by_column)
            .enumerate()
            .for_each(|(j, (dy, entries))| source.pull_entries_to_column(dy, j, entries));
        if source.is_own() {
            simd::axpy(&mut dx, T::ONE, &dy);
        } else {
            self.dy = dy;
        }
        self.dx = dx;
    }

    /// As [`super::dense::Dense::gradients`].
    pub(crate) fn gradients(&mut self, scale: T) -> (Vec<T>, Option<Vec<T>>) {
        let (mut dx, mut dy) = (std::mem::take(&mut self.dx), std::mem::take(&mut self.dy));
        match &self.backing {
            Backing::Given(_) => {
                dx.resize(self.n * self.m, T::ZERO);
                simd::scale(&mut dx, scale);
                (dx, None)
            }
            Backing::Embedded(source) => {
                dx.resize(self.n * source.x.d, T::ZERO);
                dy.resize(self.m * source.x.d, T::ZERO);
                (
                    source.x.restore(&dx, scale),
                    (!source.is_own()).then(|| source.y().restore(&dy, scale)),
                )
            }
        }
    }
}
