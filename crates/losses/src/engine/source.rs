//! Where the elements of the matrix come from.
//!
//! With `g = x . y`, `u = |x|^2`, `v = |y|^2` every measure but the general Lp distance is a function of `(g, u, v)`, so blocks of the
//! matrix and of its pullback are matrix products.

use std::ops::Range;

use super::product::{Mat, product};
use super::real::Real;
use super::side::Side;
use super::simd::{self, LANES};
use phiz_mining::{Measure, MeasureKind};

/// Rows of one tile: the unit of parallel work, whatever the number of threads.
pub(crate) const TILE: usize = 128;

/// Below this share of `u + v` the expansion `u + v - 2g` has lost too many digits and the distance is summed directly.
const CANCELLED: f64 = 0.05;

/// Two sets of embeddings and a measure; the second set may be the first.
pub(crate) struct Source<T> {
    pub x: Side<T>,
    y: Option<Side<T>>,
    pub(super) measure: Measure,
}

/// An element whose gradient goes through the difference: row, column, factor of `x - y`.
pub(crate) type NearPair<T> = (u32, u32, T);

impl<T: Real> Source<T> {
    pub(crate) fn own(x: Side<T>, measure: Measure) -> Self {
        Self {
            x,
            y: None,
            measure,
        }
    }

    pub(crate) fn two(x: Side<T>, y: Side<T>, measure: Measure) -> Self {
        Self {
            x,
            y: Some(y),
            measure,
        }
    }

    pub(crate) fn y(&self) -> &Side<T> {
        self.y.as_ref().unwrap_or(&self.x)
    }

    pub(crate) fn is_own(&self) -> bool {
        self.y.is_none()
    }

    pub(super) fn euclidean(&self) -> bool {
        self.measure.kind == MeasureKind::Lp(2.0)
    }

    pub(super) fn gram(&self) -> bool {
        self.euclidean() || !matches!(self.measure.kind, MeasureKind::Lp(_))
    }

    /// Whether [`Self::pull_own`] can do the work of both other ways back.
    pub(crate) fn merges(&self) -> bool {
        self.is_own() && self.gram()
    }

    /// The gradient along a row itself vanishes in the way back through the normalisation.
    pub(super) fn radial(&self) -> bool {
        !(self.euclidean() && self.measure.normalize)
    }

    /// The elements of `rows`, row after row.
    pub(crate) fn values(&self, rows: Range<usize>, out: &mut [T]) {
        let (d, m) = (self.x.d, self.y().n);
        if m == 0 || rows.is_empty() {
            return;
        }
        if !self.gram() {
            for (i, line) in rows.zip(out.chunks_exact_mut(m)) {
                for (j, value) in line.iter_mut().enumerate() {
                    *value = self.one(i, j);
                }
            }
            return;
        }
        let x = Mat::rows(&self.x.rows[rows.start * d..], d);
        product(
            out,
            (rows.len(), m, d),
            x,
            Mat::rows(&self.y().rows, d).t(),
            false,
        );
        for (i, line) in rows.zip(out.chunks_exact_mut(m)) {
            self.measure_row(i, line);
        }
    }

    /// From inner products to the measure.
    fn measure_row(&self, i: usize, line: &mut [T]) {
        match self.measure.kind {
            MeasureKind::Dot => {
                if self.measure.normalize {
                    simd::run(
                        #[inline(always)]
                        || {
                            for v in line.iter_mut() {
                                *v = v.larger(-T::ONE).smaller(T::ONE);
                            }
                        },
                    );
                }
            }
            _ => {
                let (u, y) = (self.x.sq[i], self.y());
                let (x, limit) = (self.x.row(i), T::from_f64(CANCELLED));
                simd::run(
                    #[inline(always)]
                    || {
                        for (c, (line, sq)) in
                            line.chunks_mut(CHUNK).zip(y.sq.chunks(CHUNK)).enumerate()
                        {
                            if !expand(line, sq, u, limit) {
                                continue;
                            }
                            for (k, (v, &s)) in line.iter_mut().zip(sq).enumerate() {
                                if *v < limit * (u + s) {
                                    *v = simd::distance_inline(x, y.row(c * CHUNK + k));
                                }
                            }
                        }
                    },
                );
                self.finish_row(u, line);
            }
        }
    }

    /// From squared distances to the measure.
    fn finish_row(&self, u: T, line: &mut [T]) {
        let power = self.measure.power;
        if self.measure.kind == MeasureKind::Snr {
            simd::scale(line, T::ONE / u);
            if power != 1.0 {
                line.iter_mut()
                    .for_each(|v| *v = v.powf(T::from_f64(power)));
            }
        } else if power == 1.0 {
            simd::run(
                #[inline(always)]
                || {
                    for v in line.iter_mut() {
                        *v = v.sqrt();
                    }
                },
            );
        } else if power != 2.0 {
            line.iter_mut()
                .for_each(|v| *v = v.powf(T::from_f64(power / 2.0)));
        }
    }

    /// One element, computed directly.
    pub(crate) fn one(&self, i: usize, j: usize) -> T {
        let (x, y) = (self.x.row(i), self.y().row(j));
        match self.measure.kind {
            MeasureKind::Dot => {
                let g = simd::dot(x, y);
                if self.measure.normalize {
                    g.larger(-T::ONE).smaller(T::ONE)
                } else {
                    g
                }
            }
            MeasureKind::Lp(p) if p != 2.0 => {
                let diffs = x.iter().zip(y).map(|(&a, &b)| (a - b).abs());
                let d = if p.is_infinite() {
                    diffs.fold(T::ZERO, T::larger)
                } else if p == 1.0 {
                    diffs.fold(T::ZERO, |s, v| s + v)
                } else {
                    let q = T::from_f64(p);
                    diffs
                        .fold(T::ZERO, |s, v| s + v.powf(q))
                        .powf(T::from_f64(1.0 / p))
                };
                if self.measure.power == 1.0 {
                    d
                } else {
                    d.powf(T::from_f64(self.measure.power))
                }
            }
            _ => {
                let mut line = [distance(x, y)];
                self.finish_row(self.x.sq[i], &mut line);
                line[0]
            }
        }
    }
}

/// Elements that are looked at together for ones that need care.
pub(super) const CHUNK: usize = 4 * LANES;

/// Inner products in `line` become squared distances; says whether one of them has lost too many digits. At most [`CHUNK`] at a time.
#[inline(always)]
fn expand<T: Real>(line: &mut [T], sq: &[T], u: T, limit: T) -> bool {
    for (v, &s) in line.iter_mut().zip(sq) {
        *v = (u + s) - (*v + *v);
    }
    let (Some(line), Some(sq)) = (line.as_array::<CHUNK>(), sq.as_array::<CHUNK>()) else {
        return true;
    };
    let mut room = [T::INFINITY; LANES];
    for k in (0..CHUNK).step_by(LANES) {
        for l in 0..LANES {
            room[l] = room[l].smaller(line[k + l] - limit * (u + sq[k + l]));
        }
    }
    simd::tree(room, T::smaller) < T::ZERO
}

fn distance<T: Real>(x: &[T], y: &[T]) -> T {
    simd::run(
        #[inline(always)]
        || simd::distance_inline(x, y),
    )
}
