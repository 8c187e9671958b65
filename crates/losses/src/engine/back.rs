//! Where the gradients of the elements go: back to the embeddings, with matrix products.

use std::ops::Range;

use phiz_mining::MeasureKind;
use rayon::prelude::*;

use super::product::{Mat, product};
use super::real::Real;
use super::side::signum;
use super::simd::{self, LANES};
use super::source::{CHUNK, NearPair, Source, TILE};

/// Below this share the gradient of a distance, `(x - y) / d`, is taken from the difference itself as well.
const NEAR: f64 = 1e-3;

impl<T: Real> Source<T> {
    /// From the gradient `g` of element (i, j), whose value is `v`, to the factor of the pair and the factor of `x_i` alone:
    ///
    /// - distances: the gradient of `x_i` is `c phi(x_i - y_j) + r x_i`, of `y_j` it is `-c phi(x_i - y_j)`;
    /// - inner products: of `x_i` it is `c y_j`, of `y_j` it is `c x_i`.
    #[inline(always)]
    fn factor(&self, i: usize, g: T, v: T) -> (T, T) {
        if g == T::ZERO {
            return (T::ZERO, T::ZERO);
        }
        let power = self.measure.power;
        match self.measure.kind {
            MeasureKind::Dot => (g, T::ZERO),
            MeasureKind::Snr => {
                let u = self.x.sq[i];
                let (ratio, g) = if power == 1.0 {
                    (v, g)
                } else if v > T::ZERO {
                    let ratio = v.powf(T::from_f64(1.0 / power));
                    (ratio, g * T::from_f64(power) * v / ratio)
                } else {
                    (v, T::ZERO)
                };
                let c = (g + g) / u;
                (c, -(c * ratio))
            }
            MeasureKind::Lp(p) => {
                if power == 2.0 && p == 2.0 {
                    return (g + g, T::ZERO);
                }
                if v <= T::ZERO {
                    return (T::ZERO, T::ZERO);
                }
                if power == 1.0 && p == 2.0 {
                    return (g / v, T::ZERO);
                }
                let d = if power == 1.0 {
                    v
                } else {
                    v.powf(T::from_f64(1.0 / power))
                };
                let outer = g * T::from_f64(power) * v / d;
                let inner = if p.is_infinite() || p == 1.0 {
                    T::ONE
                } else {
                    d.powf(T::from_f64(1.0 - p))
                };
                (outer * inner, T::ZERO)
            }
        }
    }

    /// Turns `values` (row `i`) into what the products of [`Self::pull_rows`] and [`Self::pull_columns`] need, from the gradients `g` of
    /// its elements. Very near pairs go to `near` instead. Gives the factor of `x_i` itself.
    pub(crate) fn convert(
        &self,
        i: usize,
        values: &mut [T],
        g: &[T],
        near: &mut Vec<NearPair<T>>,
    ) -> T {
        if self.measure.kind == MeasureKind::Dot {
            values.copy_from_slice(g);
            return T::ZERO;
        }
        let mut own = T::ZERO;
        if !self.gram() {
            for (v, &g) in values.iter_mut().zip(g) {
                *v = self.factor(i, g, *v).0;
            }
            return own;
        }
        let u = self.x.sq[i];
        match (self.measure.kind, self.measure.power) {
            (MeasureKind::Lp(_), 1.0) => {
                let limit = T::from_f64(NEAR) * (u + u);
                simd::run(
                    #[inline(always)]
                    || {
                        let chunks = values.chunks_mut(CHUNK).zip(g.chunks(CHUNK));
                        for (c, (values, g)) in chunks.enumerate() {
                            if !slope(values, g, limit) {
                                continue;
                            }
                            for (k, (v, &g)) in values.iter_mut().zip(g).enumerate() {
                                let d = *v;
                                if d * d > limit {
                                    *v = -g / d;
                                    continue;
                                }
                                *v = T::ZERO;
                                if g != T::ZERO && d > T::ZERO {
                                    near.push((i as u32, (c * CHUNK + k) as u32, g / d));
                                }
                            }
                        }
                    },
                );
            }
            (MeasureKind::Lp(_), 2.0) => scaled(values, g, -(T::ONE + T::ONE)),
            (MeasureKind::Snr, 1.0) => {
                let c = -(T::ONE + T::ONE) / u;
                own = c * simd::dot(g, values);
                scaled(values, g, c);
            }
            _ => {
                for (v, &g) in values.iter_mut().zip(g) {
                    let (c, r) = self.factor(i, g, *v);
                    *v = -c;
                    own += r;
                }
            }
        }
        own
    }

    /// `dx += (W + W^T) x + r x` of a set compared with itself, from all its rows: half the products of [`Self::pull_rows`] and
    /// [`Self::pull_columns`].
    pub(crate) fn pull_own(&self, w: &[T], own: &[T], dx: &mut [T]) {
        let (n, d) = (self.x.n, self.x.d);
        let along = self.measure.kind != MeasureKind::Dot && self.radial();
        dx.par_chunks_mut(TILE * d).enumerate().for_each(|(t, dx)| {
            let rows = t * TILE..t * TILE + dx.len() / d;
            let mut both = w[rows.start * n..rows.end * n].to_vec();
            add_transposed(&mut both, w, n, rows.start);
            let x = Mat::rows(&self.x.rows, d);
            product(dx, (rows.len(), d, n), Mat::rows(&both, n), x, true);
            for ((i, dx), w) in rows.zip(dx.chunks_exact_mut(d)).zip(both.chunks_exact(n)) {
                let r = own[i] - if along { simd::sum(w) } else { T::ZERO };
                if r != T::ZERO {
                    simd::axpy(dx, r, self.x.row(i));
                }
            }
        });
    }

    /// `dx += W y + r x` for the rows of one tile, whose factors `w` and `own` [`Self::convert`] made.
    pub(crate) fn pull_rows(&self, rows: Range<usize>, w: &[T], own: &[T], dx: &mut [T]) {
        let (d, m) = (self.x.d, self.y().n);
        if self.gram() {
            product(
                dx,
                (rows.len(), d, m),
                Mat::rows(w, m),
                Mat::rows(&self.y().rows, d),
                true,
            );
        } else {
            for ((i, dx), w) in rows
                .clone()
                .zip(dx.chunks_exact_mut(d))
                .zip(w.chunks_exact(m))
            {
                for (j, &c) in w.iter().enumerate().filter(|&(_, &c)| c != T::ZERO) {
                    self.add_phi(dx, c, i, j);
                }
            }
        }
        let along = self.gram() && self.measure.kind != MeasureKind::Dot && self.radial();
        let lines = dx.chunks_exact_mut(d).zip(w.chunks_exact(m));
        for ((i, &r), (dx, w)) in rows.zip(own).zip(lines) {
            let r = r - if along { simd::sum(w) } else { T::ZERO };
            if r != T::ZERO {
                simd::axpy(dx, r, self.x.row(i));
            }
        }
    }

    /// `dy += W^T x - colsum(W) y` for the columns `cols`, from the rows that begin at `first`.
    pub(crate) fn pull_columns(&self, cols: Range<usize>, first: usize, w: &[T], dy: &mut [T]) {
        let (d, m) = (self.x.d, self.y().n);
        let rows = w.len() / m.max(1);
        if !self.gram() {
            for (k, w) in w.chunks_exact(m).enumerate() {
                for (j, dy) in cols.clone().zip(dy.chunks_exact_mut(d)) {
                    if w[j] != T::ZERO {
                        self.add_phi(dy, -w[j], first + k, j);
                    }
                }
            }
            return;
        }
        let transposed = Mat {
            data: &w[cols.start..],
            row: 1,
            col: m,
        };
        let x = Mat::rows(&self.x.rows[first * d..], d);
        product(dy, (cols.len(), d, rows), transposed, x, true);
        if self.measure.kind != MeasureKind::Dot && self.radial() {
            let mut sums = vec![T::ZERO; cols.len()];
            for w in w.chunks_exact(m) {
                for (s, &v) in sums.iter_mut().zip(&w[cols.clone()]) {
                    *s += v;
                }
            }
            for ((j, dy), s) in cols.zip(dy.chunks_exact_mut(d)).zip(sums) {
                simd::axpy(dy, -s, self.y().row(j));
            }
        }
    }

    /// `out += c phi(x_i - y_j)`.
    fn add_phi(&self, out: &mut [T], c: T, i: usize, j: usize) {
        let (x, y) = (self.x.row(i), self.y().row(j));
        let p = match self.measure.kind {
            MeasureKind::Lp(p) => p,
            _ => 2.0,
        };
        if p == 2.0 {
            simd::run(
                #[inline(always)]
                || {
                    for ((o, &x), &y) in out.iter_mut().zip(x).zip(y) {
                        *o += c * (x - y);
                    }
                },
            );
            return;
        }
        let top = if p.is_infinite() {
            x.iter()
                .zip(y)
                .fold(T::ZERO, |m, (&a, &b)| m.larger((a - b).abs()))
        } else {
            T::ZERO
        };
        for ((o, &x), &y) in out.iter_mut().zip(x).zip(y) {
            let diff = x - y;
            let phi = if p == 1.0 {
                signum(diff)
            } else if p.is_infinite() {
                if diff.abs() == top {
                    signum(diff)
                } else {
                    T::ZERO
                }
            } else {
                signum(diff) * diff.abs().powf(T::from_f64(p - 1.0))
            };
            *o += c * phi;
        }
    }

    /// Adds the gradient of single elements to one of their rows; `entries` are (row, column, gradient, value).
    pub(crate) fn pull_entries_to_row(&self, dx: &mut [T], i: usize, entries: &[(u32, T, T)]) {
        let mut own = T::ZERO;
        for &(j, g, v) in entries {
            let (c, r) = self.factor(i, g, v);
            own += r;
            if c == T::ZERO {
                continue;
            }
            if self.measure.kind == MeasureKind::Dot {
                simd::axpy(dx, c, self.y().row(j as usize));
            } else {
                self.add_phi(dx, c, i, j as usize);
            }
        }
        if own != T::ZERO {
            simd::axpy(dx, own, self.x.row(i));
        }
    }

    /// The same for a column; `entries` are (row, gradient, value).
    pub(crate) fn pull_entries_to_column(&self, dy: &mut [T], j: usize, entries: &[(u32, T, T)]) {
        for &(i, g, v) in entries {
            let (c, _) = self.factor(i as usize, g, v);
            if c == T::ZERO {
                continue;
            }
            if self.measure.kind == MeasureKind::Dot {
                simd::axpy(dy, c, self.x.row(i as usize));
            } else {
                self.add_phi(dy, -c, i as usize, j);
            }
        }
    }

    /// The gradient of a set compared with itself from single elements (row, column, gradient, value), each added to in their order.
    pub(crate) fn pull_entries(&self, entries: &[(u32, u32, T, T)]) -> Vec<T> {
        let (n, d) = (self.x.n, self.x.d);
        let mut by_row: Vec<Vec<(u32, T, T)>> = vec![Vec::new(); n];
        let mut by_column: Vec<Vec<(u32, T, T)>> = vec![Vec::new(); n];
        for &(i, j, g, v) in entries {
            by_row[i as usize].push((j, g, v));
            by_column[j as usize].push((i, g, v));
        }
        let mut dx = vec![T::ZERO; n * d];
        dx.par_chunks_mut(d)
            .zip(by_row.par_iter().zip(&by_column))
            .enumerate()
            .for_each(|(i, (dx, (row, column)))| {
                self.pull_entries_to_row(dx, i, row);
                self.pull_entries_to_column(dx, i, column);
            });
        dx
    }

    /// Adds `c (x - y)` to the rows of near pairs, and subtracts it from their columns. `dy` is `None` where both are one set.
    pub(crate) fn pull_near(&self, near: &[NearPair<T>], dx: &mut [T], mut dy: Option<&mut [T]>) {
        let d = self.x.d;
        for &(i, j, c) in near {
            let (i, j) = (i as usize, j as usize);
            self.add_phi(&mut dx[i * d..(i + 1) * d], c, i, j);
            let to = dy.as_deref_mut().unwrap_or(&mut *dx);
            self.add_phi(&mut to[j * d..(j + 1) * d], -c, i, j);
        }
    }

    /// The gradients of both sides, in the order and scale of the embeddings as given, from the gradients of all elements.
    pub(crate) fn pull(&self, values: &[T], grads: Vec<T>) -> (Vec<T>, Vec<T>) {
        let (n, m, d) = (self.x.n, self.y().n, self.x.d);
        let (mut dx, mut dy) = (vec![T::ZERO; n * d], vec![T::ZERO; m * d]);
        if n * m * d > 0 {
            let mut w = values.to_vec();
            let near: Vec<Vec<NearPair<T>>> = w
                .par_chunks_mut(TILE * m)
                .zip(grads.par_chunks(TILE * m))
                .zip(dx.par_chunks_mut(TILE * d))
                .enumerate()
                .map(|(t, ((w, g), dx))| {
                    let mut near = Vec::new();
                    let first = t * TILE;
                    let own: Vec<T> = w
                        .chunks_exact_mut(m)
                        .zip(g.chunks_exact(m))
                        .enumerate()
                        .map(|(k, (w, g))| self.convert(first + k, w, g, &mut near))
                        .collect();
                    self.pull_rows(first..first + own.len(), w, &own, dx);
                    near
                })
                .collect();
            dy.par_chunks_mut(TILE * d).enumerate().for_each(|(t, dy)| {
                let cols = t * TILE..t * TILE + dy.len() / d;
                self.pull_columns(cols, 0, &w, dy);
            });
            for near in near {
                self.pull_near(&near, &mut dx, Some(&mut dy));
            }
        }
        (self.x.restore(&dx, T::ONE), self.y().restore(&dy, T::ONE))
    }
}

/// Distances in `values` become `-g / d`, unless one of them is so near that it is to be handled on its own: then says so and
/// leaves them all. At most [`CHUNK`] at a time.
#[inline(always)]
fn slope<T: Real>(values: &mut [T], g: &[T], limit: T) -> bool {
    let Some(all) = values.as_array::<CHUNK>() else {
        return true;
    };
    let mut least = [T::INFINITY; LANES];
    for k in (0..CHUNK).step_by(LANES) {
        for l in 0..LANES {
            least[l] = least[l].smaller(all[k + l]);
        }
    }
    let least = simd::tree(least, T::smaller);
    if least * least <= limit {
        return true;
    }
    for (v, &g) in values.iter_mut().zip(g) {
        *v = -g / *v;
    }
    false
}

/// `values = c g`.
fn scaled<T: Real>(values: &mut [T], g: &[T], c: T) {
    simd::run(
        #[inline(always)]
        || {
            for (v, &g) in values.iter_mut().zip(g) {
                *v = c * g;
            }
        },
    );
}

/// Adds to the rows in `out`, of which the first is row `first` of the n x n matrix, the columns of `w` of the same numbers.
fn add_transposed<T: Real>(out: &mut [T], w: &[T], n: usize, first: usize) {
    let rows = out.len() / n.max(1);
    simd::run(
        #[inline(always)]
        || {
            let mut block = [[T::ZERO; LANES]; LANES];
            // Along the rows of `w`, half of which another core has written: what lies side by side comes together.
            for j in (0..n).step_by(LANES) {
                let wide = LANES.min(n - j);
                for i in (0..rows).step_by(LANES) {
                    let high = LANES.min(rows - i);
                    for k in 0..wide {
                        let from = &w[(j + k) * n + first + i..][..high];
                        if let Some(from) = from.as_array::<LANES>() {
                            for l in 0..LANES {
                                block[l][k] = from[l];
                            }
                        } else {
                            for (block, &v) in block.iter_mut().zip(from) {
                                block[k] = v;
                            }
                        }
                    }
                    for (l, block) in block[..high].iter().enumerate() {
                        let to = &mut out[(i + l) * n + j..][..wide];
                        for (o, &v) in to.iter_mut().zip(block) {
                            *o += v;
                        }
                    }
                }
            }
        },
    );
}
