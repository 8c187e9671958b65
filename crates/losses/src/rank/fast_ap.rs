//! FastAP.

use candle::{Result, Tensor, bail};

use crate::batch::{Batch, MetricLoss};
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, Whom, clear, evaluate};
use crate::reducer::Reducer;
use phiz_mining::Measure;

/// FastAP (Cakir, He, Xia, Kulis, Sclaroff, CVPR 2019): one minus the average precision of each anchor, from soft histograms of
/// the squared distances of unit-length embeddings over [0, 4],
///
/// ```text
/// 1 - (1/|P|) sum_b h+_b H+_b / H_b
/// ```
///
/// with `h+` the positives in bin `b` (each item is split linearly over its two nearest of `num_bins + 1` centres), `H+` and `H` running
/// sums of positives and of everything. One term an anchor that has a positive. O(B^2 (D + 1) + B bins) time.
#[derive(Debug, Clone, PartialEq)]
pub struct FastAp {
    /// Default 10.
    pub num_bins: usize,
    /// Default [`Reducer::Mean`].
    pub reducer: Reducer,
}

impl Default for FastAp {
    fn default() -> Self {
        Self {
            num_bins: 10,
            reducer: Reducer::Mean,
        }
    }
}

impl MetricLoss for FastAp {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        if self.num_bins == 0 {
            bail!("FastAP needs at least one bin");
        }
        evaluate(batch, &Measure::SQUARED_L2, Reading::PairSet, self, &[])
    }
}

/// Bin and share of the next bin.
#[inline(always)]
fn place(d: f64, bins: usize) -> (usize, f64) {
    let t = (d * bins as f64 / 4.0).clamp(0.0, bins as f64);
    let low = (t as usize).min(bins - 1);
    (low, t - low as f64)
}

impl MatrixLoss for FastAp {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let bins = self.num_bins;
        matrix.anchors(Whom::Others, &self.reducer, |row| {
            if row.pos.is_empty() {
                clear(row);
                return None;
            }
            let histogram = |x: &[T]| {
                let mut h = vec![0.0; bins + 1];
                for v in x {
                    let (low, share) = place(v.to_f64(), bins);
                    h[low] += 1.0 - share;
                    h[low + 1] += share;
                }
                h
            };
            let (pos, neg) = (histogram(row.pos), histogram(row.neg));
            let (mut above, mut all) = (0.0, 0.0);
            let running: Vec<(f64, f64)> = pos
                .iter()
                .zip(&neg)
                .map(|(p, n)| {
                    above += p;
                    all += p + n;
                    (above, all)
                })
                .collect();
            let count = row.pos.len() as f64;
            let mut precision = 0.0;
            // Gradients of the histograms: a running sum from the last bin.
            let (mut gp, mut gn) = (vec![0.0; bins + 1], vec![0.0; bins + 1]);
            let (mut through_above, mut through_all) = (0.0, 0.0);
            for b in (0..=bins).rev() {
                let (above, all) = running[b];
                let mut own = 0.0;
                if pos[b] * above > 0.0 && all > 0.0 {
                    precision += pos[b] * above / all;
                    own = above / all;
                    through_above += pos[b] / all;
                    through_all += pos[b] * above / (all * all);
                }
                gp[b] = own + through_above - through_all;
                gn[b] = -through_all;
            }
            let slope = bins as f64 / 4.0 / count;
            let back = |x: &mut [T], g: &[f64]| {
                for v in x {
                    let (low, _) = place(v.to_f64(), bins);
                    *v = T::from_f64((g[low] - g[low + 1]) * slope);
                }
            };
            back(row.pos, &gp);
            back(row.neg, &gn);
            Some(1.0 - precision / count)
        })
    }
}
