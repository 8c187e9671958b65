//! Passes over whole classes: for losses whose terms join the rows of two items of one class.

use std::ops::Range;

use rayon::prelude::*;

use super::dense::{Backing, Dense};
use super::real::Real;
use super::source::{NearPair, TILE};

/// The rows of one class against all columns, both sorted by label.
pub(crate) struct Class<'a, T> {
    /// Rows and columns of the class.
    pub members: Range<usize>,
    /// Row of the caller of the first member.
    pub anchor: usize,
    /// Columns.
    pub m: usize,
    /// Column of the caller of each column; rows are the same items.
    pub perm: &'a [u32],
    /// Values, row after row.
    pub values: &'a [T],
    /// Gradients to fill, 0 at first.
    pub grads: &'a mut [T],
}

impl<T: Real> Class<'_, T> {
    /// The gradients of two different members.
    pub(crate) fn grads_of(&mut self, a: usize, b: usize) -> (&mut [T], &mut [T]) {
        let m = self.m;
        let (low, high) = (a.min(b), a.max(b));
        let (before, after) = self.grads.split_at_mut(high * m);
        let (x, y) = (&mut before[low * m..(low + 1) * m], &mut after[..m]);
        if a < b { (x, y) } else { (y, x) }
    }

    /// Columns of the negatives.
    pub(crate) fn negatives(&self) -> [Range<usize>; 2] {
        [0..self.members.start, self.members.end..self.m]
    }
}

/// What a pass does with each class.
pub(crate) type ClassFn<'a, T> = &'a (dyn Fn(Class<'_, T>) + Sync);

/// A block of classes is closed when it holds this many elements.
const BLOCK_BYTES: usize = 64 << 20;

impl<T: Real> Dense<T> {
    /// Runs `f` on every class, in parallel over classes, and carries the gradients it fills in back to the embeddings. For a matrix
    /// of items with themselves.
    pub(crate) fn classes(&mut self, write: bool, f: ClassFn<'_, T>) {
        let m = self.m;
        let mut ranges: Vec<Range<usize>> = self.same.clone();
        ranges.dedup();
        let mut at = 0;
        while at < ranges.len() {
            let mut end = at + 1;
            let first = ranges[at].start;
            while end < ranges.len()
                && (ranges[end].end - first) * m * size_of::<T>() <= BLOCK_BYTES
            {
                end += 1;
            }
            self.class_block(&ranges[at..end], write, f);
            at = end;
        }
    }

    fn class_block(&mut self, ranges: &[Range<usize>], write: bool, f: ClassFn<'_, T>) {
        let m = self.m;
        let Some((first, last)) = ranges.first().zip(ranges.last()) else {
            return;
        };
        let rows = first.start..last.end;
        let (mut dx, dy) = (std::mem::take(&mut self.dx), std::mem::take(&mut self.dy));
        let this = &*self;
        let mut w = vec![T::ZERO; rows.len() * m];
        // In tiles, not by class: a product of few rows costs nearly as much as one of many.
        w.par_chunks_mut(TILE * m.max(1))
            .enumerate()
            .for_each(|(t, tile)| {
                let first = rows.start + t * TILE;
                this.values_of(first..first + tile.len() / m.max(1), tile);
            });
        let d = match &this.backing {
            Backing::Embedded(source) => source.x.d,
            Backing::Given(_) => 0,
        };
        let carried = write && d > 0 && !dx.is_empty();
        // Disjoint parts for every class.
        let mut jobs = Vec::with_capacity(ranges.len());
        let mut rest = w.as_mut_slice();
        let mut rest_dx: &mut [T] = if carried {
            &mut dx[rows.start * d..rows.end * d]
        } else {
            &mut []
        };
        for range in ranges {
            let (mine, others) = rest.split_at_mut(range.len() * m);
            rest = others;
            let cut = if carried { range.len() * d } else { 0 };
            let (mine_dx, others_dx) = rest_dx.split_at_mut(cut);
            rest_dx = others_dx;
            jobs.push((range.clone(), mine, mine_dx));
        }
        let whole = rows.len() == this.n;
        let (done, own): (Vec<Vec<NearPair<T>>>, Vec<Vec<T>>) = jobs
            .into_par_iter()
            .map(|(range, w, dx)| {
                let mut grads = vec![T::ZERO; w.len()];
                f(Class {
                    members: range.clone(),
                    anchor: this.row_perm[range.start] as usize,
                    m,
                    perm: &this.col_perm,
                    values: w,
                    grads: &mut grads,
                });
                let (mut near, mut own) = (Vec::new(), Vec::new());
                match &this.backing {
                    Backing::Embedded(source) if carried => {
                        own = w
                            .chunks_exact_mut(m)
                            .zip(grads.chunks_exact(m))
                            .enumerate()
                            .map(|(k, (w, g))| source.convert(range.start + k, w, g, &mut near))
                            .collect();
                        if !(whole && source.merges()) {
                            source.pull_rows(range, w, &own, dx);
                        }
                    }
                    _ => w.copy_from_slice(&grads),
                }
                (near, own)
            })
            .unzip();
        match &this.backing {
            Backing::Embedded(source) if carried && whole && source.merges() => {
                source.pull_own(&w, &own.concat(), &mut dx);
                for near in &done {
                    source.pull_near(near, &mut dx, None);
                }
            }
            Backing::Embedded(source) if carried => {
                dx.par_chunks_mut(TILE * d).enumerate().for_each(|(t, dx)| {
                    let cols = t * TILE..t * TILE + dx.len() / d;
                    source.pull_columns(cols, rows.start, &w, dx);
                });
                for near in &done {
                    source.pull_near(near, &mut dx, None);
                }
            }
            Backing::Given(_) if write => {
                for (i, w) in rows.zip(w.chunks_exact(m)) {
                    let to = &mut dx[this.row_perm[i] as usize * m..][..m];
                    for (&g, &c) in w.iter().zip(&this.col_perm) {
                        to[c as usize] = g;
                    }
                }
            }
            _ => {}
        }
        (self.dx, self.dy) = (dx, dy);
    }
}
