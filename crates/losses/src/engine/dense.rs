//! The matrix of all rows with all columns, in blocks of rows, with labels that say what is positive and what negative.
//!
//! Rows and columns are sorted by label, so that the positives of a row are one range of columns and its negatives the rest.

use std::ops::Range;

use rayon::prelude::*;

use super::real::Real;
use super::row::{Cols, Row, RowFn, Whom};
use super::simd;
use super::source::{NearPair, Source, TILE};

/// No column.
pub(crate) const NONE: u32 = u32::MAX;

/// A matrix up to this size is kept between passes; a larger one is made again, block by block.
const KEEP_BYTES: usize = 192 << 20;
const BLOCK_BYTES: usize = 64 << 20;

/// A matrix up to this size leaves its memory to the next one on its thread, which would else be cleared, or fetched from the
/// system page by page, at a tenth of the time of a batch of 512.
const SPARE_BYTES: usize = 8 << 20;

/// What the elements are.
pub(crate) enum Backing<T> {
    /// Computed from embeddings.
    Embedded(Box<Source<T>>),
    /// Handed in, row after row in the caller's order.
    Given(Vec<T>),
}

/// Rows against columns.
pub(crate) struct Dense<T> {
    pub backing: Backing<T>,
    pub n: usize,
    pub m: usize,
    /// Row of the caller for each sorted row.
    pub row_perm: Vec<u32>,
    /// Column of the caller for each sorted column.
    pub col_perm: Vec<u32>,
    /// The sorted columns that share the label of each sorted row.
    pub same: Vec<Range<usize>>,
    /// The sorted column that is the very same item as each sorted row, or [`NONE`].
    pub own: Vec<u32>,
    /// Gradients: of rows and columns (columns empty where both are one set), or of the given matrix.
    pub dx: Vec<T>,
    pub dy: Vec<T>,
    kept: Vec<T>,
    /// Rows of one block; the number of rows or a multiple of the tile.
    pub block: usize,
}

struct Scratch<T> {
    pos: Vec<T>,
    neg: Vec<T>,
    grad: Vec<T>,
}

impl<T: Real> Dense<T> {
    pub(crate) fn new(
        backing: Backing<T>,
        (row_perm, col_perm): (Vec<u32>, Vec<u32>),
        same: Vec<Range<usize>>,
        own: Vec<u32>,
        gradients: bool,
    ) -> Self {
        let (n, m) = (row_perm.len(), col_perm.len());
        let (mut dx, mut dy) = (Vec::new(), Vec::new());
        if gradients {
            match &backing {
                Backing::Given(values) => dx = vec![T::ZERO; values.len()],
                Backing::Embedded(source) => {
                    dx = vec![T::ZERO; n * source.x.d];
                    if !source.is_own() {
                        dy = vec![T::ZERO; m * source.x.d];
                    }
                }
            }
        }
        let whole = n * m * size_of::<T>() <= KEEP_BYTES;
        let rows = BLOCK_BYTES / (m.max(1) * size_of::<T>());
        Self {
            backing,
            n,
            m,
            row_perm,
            col_perm,
            same,
            own,
            dx,
            dy,
            kept: Vec::new(),
            block: if whole {
                n.max(1)
            } else {
                (rows / TILE).max(1) * TILE
            },
        }
    }

    pub(super) fn values_of(&self, rows: Range<usize>, out: &mut [T]) {
        match &self.backing {
            Backing::Embedded(source) => source.values(rows, out),
            Backing::Given(values) => {
                for (i, line) in rows.zip(out.chunks_exact_mut(self.m)) {
                    let from = &values[self.row_perm[i] as usize * self.m..][..self.m];
                    for (v, &c) in line.iter_mut().zip(&self.col_perm) {
                        *v = from[c as usize];
                    }
                }
            }
        }
    }

    /// Runs `f` on every row, in parallel over tiles. With `write`, `f` has put gradients into the row's slices, and they are
    /// carried back to the embeddings.
    pub(crate) fn pass(&mut self, whom: Whom, write: bool, f: RowFn<'_, T>) {
        let (n, m, block) = (self.n, self.m, self.block);
        if m == 0 {
            let mut scratch = self.scratch();
            (0..n).for_each(|i| self.visit(i, &[], whom, f, &mut scratch));
            return;
        }
        let mut buffer = std::mem::take(&mut self.kept);
        let filled = !buffer.is_empty();
        if !filled {
            // Every pass writes an element before it reads it.
            buffer = T::spare().take();
            buffer.resize(block.min(n) * m, T::ZERO);
        }
        for first in (0..n).step_by(block) {
            let rows = first..(first + block).min(n);
            let part = &mut buffer[..rows.len() * m];
            if write {
                self.write_block(rows, part, filled, whom, f);
                continue;
            }
            let this = &*self;
            part.par_chunks_mut(TILE * m)
                .enumerate()
                .for_each(|(t, tile)| {
                    let start = rows.start + t * TILE;
                    if !filled {
                        this.values_of(start..start + tile.len() / m, tile);
                    }
                    let mut scratch = this.scratch();
                    for (k, line) in tile.chunks_exact(m).enumerate() {
                        this.visit(start + k, line, whom, f, &mut scratch);
                    }
                });
        }
        if self.block >= n && !write {
            self.kept = buffer;
        } else if size_of_val(buffer.as_slice()) <= SPARE_BYTES {
            T::spare().set(buffer);
        }
    }

    fn scratch(&self) -> Scratch<T> {
        Scratch {
            pos: Vec::new(),
            neg: Vec::with_capacity(self.m),
            grad: vec![T::ZERO; self.m],
        }
    }

    /// Gathers one row and runs `f` on it.
    fn visit(&self, i: usize, line: &[T], whom: Whom, f: RowFn<'_, T>, scratch: &mut Scratch<T>) {
        let same = self.same[i].clone();
        let own = self.own[i];
        let (pos, neg) = (&mut scratch.pos, &mut scratch.neg);
        pos.clear();
        neg.clear();
        let skip = whom == Whom::Others && own != NONE;
        if skip {
            let own = own as usize;
            pos.extend_from_slice(&line[same.start..own]);
            pos.extend_from_slice(&line[own + 1..same.end]);
        } else {
            pos.extend_from_slice(&line[same.clone()]);
        }
        neg.extend_from_slice(&line[..same.start]);
        neg.extend_from_slice(&line[same.end..]);
        f(&mut Row {
            sorted: i,
            anchor: self.row_perm[i] as usize,
            pos,
            neg,
            cols: Cols::Sorted {
                same,
                own: if own == NONE {
                    None
                } else {
                    Some(own as usize)
                },
                skip,
                perm: &self.col_perm,
            },
        });
    }

    /// Puts the gradients that `f` left in the scratch back in the order of the columns.
    fn spread(&self, i: usize, whom: Whom, scratch: &mut Scratch<T>) {
        let same = self.same[i].clone();
        let (grad, own) = (&mut scratch.grad, self.own[i]);
        let (before, after) = scratch.neg.split_at(same.start);
        grad[..same.start].copy_from_slice(before);
        grad[same.end..].copy_from_slice(after);
        if whom == Whom::Others && own != NONE {
            let own = own as usize;
            let (before, after) = scratch.pos.split_at(own - same.start);
            grad[same.start..own].copy_from_slice(before);
            grad[own] = T::ZERO;
            grad[own + 1..same.end].copy_from_slice(after);
        } else {
            grad[same].copy_from_slice(&scratch.pos);
        }
    }

    fn write_block(
        &mut self,
        rows: Range<usize>,
        part: &mut [T],
        filled: bool,
        whom: Whom,
        f: RowFn<'_, T>,
    ) {
        let (mut dx, mut dy) = (std::mem::take(&mut self.dx), std::mem::take(&mut self.dy));
        let m = self.m;
        let this = &*self;
        let tile = |t: usize, w: &mut [T], dx: Option<&mut [T]>| {
            let start = rows.start + t * TILE;
            let count = w.len() / m;
            if !filled {
                this.values_of(start..start + count, w);
            }
            let mut scratch = this.scratch();
            let mut near: Vec<NearPair<T>> = Vec::new();
            let mut own = Vec::with_capacity(count);
            for (k, line) in w.chunks_exact_mut(m).enumerate() {
                this.visit(start + k, line, whom, f, &mut scratch);
                this.spread(start + k, whom, &mut scratch);
                match &this.backing {
                    Backing::Embedded(source) => {
                        own.push(source.convert(start + k, line, &scratch.grad, &mut near));
                    }
                    Backing::Given(_) => line.copy_from_slice(&scratch.grad),
                }
            }
            if let (Backing::Embedded(source), Some(dx)) = (&this.backing, dx) {
                source.pull_rows(start..start + count, w, &own, dx);
            }
            (near, own)
        };
        match &this.backing {
            Backing::Embedded(source) if source.merges() && rows.len() == this.n => {
                let (near, own): (Vec<Vec<NearPair<T>>>, Vec<Vec<T>>) = part
                    .par_chunks_mut(TILE * m)
                    .enumerate()
                    .map(|(t, w)| tile(t, w, None))
                    .unzip();
                source.pull_own(part, &own.concat(), &mut dx);
                for near in &near {
                    source.pull_near(near, &mut dx, None);
                }
            }
            Backing::Embedded(source) => {
                let d = source.x.d;
                let near: Vec<Vec<NearPair<T>>> = part
                    .par_chunks_mut(TILE * m)
                    .zip(dx[rows.start * d..rows.end * d].par_chunks_mut(TILE * d))
                    .enumerate()
                    .map(|(t, (w, dx))| tile(t, w, Some(dx)).0)
                    .collect();
                let columns = if source.is_own() { &mut dx } else { &mut dy };
                columns
                    .par_chunks_mut(TILE * d)
                    .enumerate()
                    .for_each(|(t, dy)| {
                        let cols = t * TILE..t * TILE + dy.len() / d;
                        source.pull_columns(cols, rows.start, part, dy);
                    });
                for near in &near {
                    let other = (!source.is_own()).then_some(dy.as_mut_slice());
                    source.pull_near(near, &mut dx, other);
                }
            }
            Backing::Given(_) => {
                part.par_chunks_mut(TILE * m)
                    .enumerate()
                    .for_each(|(t, w)| {
                        tile(t, w, None);
                    });
                for (i, w) in rows.clone().zip(part.chunks_exact(m)) {
                    let to = &mut dx[this.row_perm[i] as usize * m..][..m];
                    for (&g, &c) in w.iter().zip(&this.col_perm) {
                        to[c as usize] = g;
                    }
                }
            }
        }
        (self.dx, self.dy) = (dx, dy);
    }

    /// The gradients of both sides in the caller's order, times `scale`; of a given matrix, its own gradient alone.
    pub(crate) fn gradients(&mut self, scale: T) -> (Vec<T>, Option<Vec<T>>) {
        let (mut dx, dy) = (std::mem::take(&mut self.dx), std::mem::take(&mut self.dy));
        match &self.backing {
            Backing::Given(_) => {
                simd::scale(&mut dx, scale);
                (dx, None)
            }
            Backing::Embedded(source) => (
                source.x.restore(&dx, scale),
                (!source.is_own()).then(|| source.y().restore(&dy, scale)),
            ),
        }
    }
}
