//! One set of embeddings made ready for comparison, and the way back of its gradient.

use candle::{Result, bail};
use rayon::prelude::*;

use super::real::Real;
use super::simd;
use super::source::TILE;
use phiz_mining::{Measure, MeasureKind};

/// Embeddings in the order of `perm`: normalised and centred as the measure asks.
pub(crate) struct Side<T> {
    pub n: usize,
    pub d: usize,
    /// What is compared, `n * d`.
    pub rows: Vec<T>,
    /// Squared 2-norms of `rows`.
    pub sq: Vec<T>,
    /// `1 / norm` of the embeddings as given; 0 for a zero row; empty without normalisation.
    inv: Vec<T>,
    /// Normalised rows before centring, where both happen.
    unit: Vec<T>,
    centre: bool,
    p: f64,
    perm: Vec<u32>,
}

impl<T: Real> Side<T> {
    /// Takes row `perm[i]` of `data` as row `i`.
    ///
    /// # Errors
    /// When an element is not finite, or a row has no variance where the measure divides by it.
    pub(crate) fn new(data: &[T], d: usize, perm: &[u32], measure: &Measure) -> Result<Self> {
        let n = perm.len();
        if !simd::all_finite(data)
            && let Some(i) = data.iter().position(|v| !v.is_finite())
        {
            bail!(
                "embedding {} of {n} holds a value that is not finite",
                i / d.max(1)
            );
        }
        let mut rows = vec![T::ZERO; n * d];
        for (row, &from) in rows.chunks_exact_mut(d.max(1)).zip(perm) {
            row.copy_from_slice(&data[from as usize * d..(from as usize + 1) * d]);
        }
        let p = match measure.kind {
            MeasureKind::Lp(p) => p,
            _ => 2.0,
        };
        let mut inv = Vec::new();
        if measure.normalize {
            inv = vec![T::ZERO; n];
            for (row, inv) in rows.chunks_exact_mut(d.max(1)).zip(&mut inv) {
                let length = norm(row, p);
                if length > T::ZERO {
                    *inv = T::ONE / length;
                    // Not times the reciprocal, which overflows for the smallest norms.
                    simd::run(
                        #[inline(always)]
                        || {
                            for v in row.iter_mut() {
                                *v /= length;
                            }
                        },
                    );
                }
            }
        }
        let centre = measure.kind == MeasureKind::Snr;
        let mut unit = Vec::new();
        if centre {
            if measure.normalize {
                unit.clone_from(&rows);
            }
            for row in rows.chunks_exact_mut(d.max(1)) {
                let mean = simd::sum(row) / T::from_f64(d as f64);
                for v in row.iter_mut() {
                    *v -= mean;
                }
            }
        }
        let sq: Vec<T> = rows
            .chunks_exact(d.max(1))
            .map(|r| simd::dot(r, r))
            .collect();
        Ok(Self {
            n,
            d,
            rows,
            sq,
            inv,
            unit,
            centre,
            p,
            perm: perm.to_vec(),
        })
    }

    pub(crate) fn row(&self, i: usize) -> &[T] {
        &self.rows[i * self.d..(i + 1) * self.d]
    }

    /// Fails when a row is constant: the signal-to-noise ratio divides by its variance.
    pub(crate) fn check_variance(&self) -> Result<()> {
        if let Some(i) = self.sq.iter().position(|&v| v == T::ZERO) {
            bail!(
                "embedding {} is constant over its dimensions; the SNR distance divides by its variance",
                self.perm[i]
            );
        }
        Ok(())
    }

    /// From the gradient of the prepared rows to that of the embeddings as given, in their own order, times `scale`.
    pub(crate) fn restore(&self, grad: &[T], scale: T) -> Vec<T> {
        let d = self.d.max(1);
        let mut sorted = vec![0; self.n];
        for (i, &given) in self.perm.iter().enumerate() {
            sorted[given as usize] = i;
        }
        let mut out = vec![T::ZERO; grad.len()];
        out.par_chunks_mut(d)
            .zip(&sorted)
            .with_min_len(TILE / 2)
            .for_each(|(g, &i)| {
                g.copy_from_slice(&grad[i * d..(i + 1) * d]);
                self.restore_row(i, g, scale);
            });
        out
    }

    fn restore_row(&self, i: usize, g: &mut [T], scale: T) {
        let d = self.d;
        simd::scale(g, scale);
        if self.centre {
            let mean = simd::sum(g) / T::from_f64(d as f64);
            for v in g.iter_mut() {
                *v -= mean;
            }
        }
        let Some(&inv) = self.inv.get(i) else { return };
        let x = if self.unit.is_empty() {
            self.row(i)
        } else {
            &self.unit[i * d..(i + 1) * d]
        };
        let along = simd::dot(g, x);
        if self.p == 2.0 {
            simd::axpy(g, -along, x);
            simd::scale(g, inv);
            return;
        }
        for (g, &x) in g.iter_mut().zip(x) {
            *g = inv * (*g - along * norm_slope(x, self.p));
        }
    }
}

/// The p-norm.
fn norm<T: Real>(x: &[T], p: f64) -> T {
    if p == 2.0 {
        let sum = simd::dot(x, x);
        if (T::from_f64(1e-25)..T::from_f64(1e25)).contains(&sum) {
            return sum.sqrt();
        }
    }
    // Scaled by the largest element, so that no square overflows or vanishes.
    let top = x.iter().fold(T::ZERO, |m, v| m.larger(v.abs()));
    if top == T::ZERO || p.is_infinite() {
        return top;
    }
    if p == 2.0 {
        let sum = x.iter().fold(T::ZERO, |s, &v| s + (v / top) * (v / top));
        return top * sum.sqrt();
    }
    let exponent = T::from_f64(p);
    let sum = x
        .iter()
        .fold(T::ZERO, |s, &v| s + (v.abs() / top).powf(exponent));
    top * sum.powf(T::from_f64(1.0 / p))
}

/// The derivative of the p-norm by an element, at a row of norm 1; for p = 2 that is the element.
fn norm_slope<T: Real>(x: T, p: f64) -> T {
    let sign = signum(x);
    if p == 1.0 {
        sign
    } else if p.is_infinite() {
        if x.abs() == T::ONE { sign } else { T::ZERO }
    } else {
        sign * x.abs().powf(T::from_f64(p - 1.0))
    }
}

/// -1, 0 or 1.
#[inline(always)]
pub(crate) fn signum<T: Real>(x: T) -> T {
    if x > T::ZERO {
        T::ONE
    } else if x < T::ZERO {
        -T::ONE
    } else {
        T::ZERO
    }
}
