//! The histogram loss.

use std::collections::BTreeSet;

use candle::{Result, Tensor, bail};

use crate::batch::{Batch, MetricLoss};
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, Row, Whom, evaluate};
use phiz_mining::Measure;

/// Histogram loss (Ustinova, Lempitsky, NIPS 2016): the probability that a random negative pair is more similar than a random
/// positive one,
///
/// ```text
/// sum_r p-_r sum_{q <= r} p+_q
/// ```
///
/// from soft histograms of the cosines over [-1, 1]. Each unordered pair counts once, and only pairs with an item that has both a
/// positive and a negative. O(B^2 D) time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    /// Default 100.
    pub n_bins: usize,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { n_bins: 100 }
    }
}

impl MetricLoss for Histogram {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        if self.n_bins == 0 {
            bail!("the histogram loss needs at least one bin");
        }
        if !batch.is_own() {
            bail!("the histogram loss takes no reference set");
        }
        evaluate(batch, &Measure::COSINE, Reading::PairSet, self, &[])
    }
}

#[inline(always)]
fn place(s: f64, bins: usize) -> (usize, f64) {
    let t = ((s + 1.0) * bins as f64 / 2.0).clamp(0.0, bins as f64);
    let low = (t as usize).min(bins - 1);
    (low, t - low as f64)
}

impl MatrixLoss for Histogram {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let bins = self.n_bins;
        let listed = !matrix.is_labelled();
        let eligible: Vec<bool> = matrix
            .counts()
            .iter()
            .map(|&(p, n)| p > 0 && n > 0)
            .collect();
        // Of each unordered pair the first eligible item keeps it; of named ones, the first that names it.
        let mut named = [BTreeSet::new(), BTreeSet::new()];
        if listed {
            for (a, pos, neg) in matrix.scan(Whom::Others, columns) {
                named[0].extend(pos.into_iter().map(|p| (a, p)));
                named[1].extend(neg.into_iter().map(|n| (a, n)));
            }
        }
        let keeps = |kind: usize, a: usize, b: usize| {
            let twin = if listed {
                eligible[b] && named[kind].contains(&(b, a))
            } else {
                eligible[b]
            };
            eligible[a] && (a < b || !twin)
        };
        let histograms = matrix.scan(Whom::Others, |row| {
            if !eligible[row.sorted] {
                return None;
            }
            let mut h = [vec![0.0; bins + 1], vec![0.0; bins + 1]];
            let mut counts = [0.0; 2];
            for_kept(row, &keeps, |kind, v| {
                let (low, share) = place(v.to_f64(), bins);
                h[kind][low] += 1.0 - share;
                h[kind][low + 1] += share;
                counts[kind] += 1.0;
                None
            });
            Some((h, counts))
        });
        let (mut h, mut counts) = ([vec![0.0; bins + 1], vec![0.0; bins + 1]], [0.0; 2]);
        for (row, n) in histograms.into_iter().flatten() {
            for kind in 0..2 {
                h[kind]
                    .iter_mut()
                    .zip(&row[kind])
                    .for_each(|(a, b)| *a += b);
                counts[kind] += n[kind];
            }
        }
        if counts[0] == 0.0 || counts[1] == 0.0 {
            return Ok(Outcome::new((0.0, 0.0)));
        }
        for kind in 0..2 {
            h[kind].iter_mut().for_each(|v| *v /= counts[kind]);
        }
        let mut below = 0.0;
        let cumulative: Vec<f64> = h[0]
            .iter()
            .map(|p| {
                below += p;
                below
            })
            .collect();
        let value = h[1].iter().zip(&cumulative).map(|(n, c)| n * c).sum();
        let mut above = 0.0;
        let mut g = [vec![0.0; bins + 1], cumulative];
        for (g, n) in g[0].iter_mut().zip(&h[1]).rev() {
            above += n;
            *g = above;
        }
        if matrix.wants_gradient() {
            let slopes = counts.map(|c| bins as f64 / 2.0 / c);
            matrix.write(Whom::Others, |row| {
                for_kept(row, &keeps, |kind, v| {
                    let (low, _) = place(v.to_f64(), bins);
                    Some(T::from_f64(
                        (g[kind][low + 1] - g[kind][low]) * slopes[kind],
                    ))
                });
            });
        }
        Ok(Outcome::new((value, 1.0)))
    }
}

/// A row with the columns of its positives and negatives.
fn columns<T: Real>(row: &mut Row<'_, T>) -> (usize, Vec<usize>, Vec<usize>) {
    let pos = (0..row.pos.len()).map(|k| row.cols.sorted_positive(k));
    let neg = (0..row.neg.len()).map(|k| row.cols.sorted_negative(k));
    (row.sorted, pos.collect(), neg.collect())
}

/// Runs `f` on the values of a row that count (kind 0 positive, 1 negative); what it returns replaces the value, and 0 replaces
/// values that do not count.
fn for_kept<T: Real>(
    row: &mut Row<'_, T>,
    keeps: &impl Fn(usize, usize, usize) -> bool,
    mut f: impl FnMut(usize, T) -> Option<T>,
) {
    let a = row.sorted;
    for (k, v) in row.pos.iter_mut().enumerate() {
        *v = if keeps(0, a, row.cols.sorted_positive(k)) {
            f(0, *v).unwrap_or(T::ZERO)
        } else {
            T::ZERO
        };
    }
    for (k, v) in row.neg.iter_mut().enumerate() {
        *v = if keeps(1, a, row.cols.sorted_negative(k)) {
            f(1, *v).unwrap_or(T::ZERO)
        } else {
            T::ZERO
        };
    }
}
