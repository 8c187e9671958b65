//! The dynamic soft margin loss.

use std::sync::OnceLock;

use candle::{Result, Tensor, bail};

use crate::batch::Batch;
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, Row, Whom, evaluate, simd};
use crate::pair::check_positive;
use phiz_mining::Measure;

/// Dynamic soft margin loss on Euclidean distances of unit-length embeddings (Zhang, Rusinkiewicz, ICCV 2019): each `x = d(a,p) -
/// d(a,n)` weighted by the share of recent triplets that were easier,
///
/// ```text
/// mean over triplets of CDF(x) x
/// ```
///
/// CDF comes from a running histogram, this batch included, and is a constant to the gradient. The histogram is state: it moves
/// with every call to [`forward`](Self::forward) and belongs into a checkpoint ([`histogram`](Self::histogram),
/// [`set_histogram`](Self::set_histogram)). O(B^2 (D + |C|)) time.
#[derive(Debug, Clone, PartialEq)]
pub struct DynamicSoftMargin {
    min_val: f64,
    momentum: f64,
    histogram: Vec<f64>,
}

impl Default for DynamicSoftMargin {
    /// `min_val` -2, 10 bins, momentum 0.01.
    fn default() -> Self {
        Self {
            min_val: -2.0,
            momentum: 0.01,
            histogram: vec![0.0; 10],
        }
    }
}

impl DynamicSoftMargin {
    /// `num_bins` over `[-min_val, min_val]`; `momentum` is the weight of a new batch.
    ///
    /// # Errors
    /// Unless `min_val < 0`, there are at least two bins, and `0 < momentum <= 1`.
    pub fn new(min_val: f64, num_bins: usize, momentum: f64) -> Result<Self> {
        check_positive("-min_val of the dynamic soft margin loss", -min_val)?;
        check_positive("the momentum of the dynamic soft margin loss", momentum)?;
        if num_bins < 2 || momentum > 1.0 {
            bail!(
                "the dynamic soft margin loss needs two bins and a momentum up to 1, got {num_bins} and {momentum}"
            );
        }
        Ok(Self {
            min_val,
            momentum,
            histogram: vec![0.0; num_bins],
        })
    }

    /// The running histogram: shares that add up to 1, or zeros before the first triplet.
    pub fn histogram(&self) -> &[f64] {
        &self.histogram
    }

    /// Restores it from a checkpoint.
    ///
    /// # Errors
    /// When the number of bins is another, or a share is not a number from 0 up.
    pub fn set_histogram(&mut self, histogram: &[f64]) -> Result<()> {
        if histogram.len() != self.histogram.len() {
            bail!(
                "the histogram has {} bins, got {}",
                self.histogram.len(),
                histogram.len()
            );
        }
        if histogram.iter().any(|v| !(v.is_finite() && *v >= 0.0)) {
            bail!("the bins of a histogram must be finite and not negative");
        }
        self.histogram.copy_from_slice(histogram);
        Ok(())
    }

    /// The loss of a batch; moves the histogram.
    ///
    /// # Errors
    /// When an embedding is not finite.
    pub fn forward(&mut self, batch: &Batch) -> Result<Tensor> {
        let run = Run {
            state: self,
            moved: OnceLock::new(),
        };
        let loss = evaluate(batch, &Measure::L2, Reading::Triplets, &run, &[])?;
        if let Some(histogram) = run.moved.into_inner() {
            self.histogram = histogram;
        }
        Ok(loss)
    }
}

struct Run<'a> {
    state: &'a DynamicSoftMargin,
    moved: OnceLock<Vec<f64>>,
}

impl DynamicSoftMargin {
    /// Bin of `x` and the share that belongs to the next one; outside of the range, the last bin on that side.
    #[inline(always)]
    fn place<T: Real>(&self, x: T) -> (usize, f64) {
        let x = x.to_f64();
        let bins = self.histogram.len();
        let delta = -2.0 * self.min_val / bins as f64;
        let t = ((x - self.min_val) / delta).clamp(0.0, bins as f64);
        let low = (t as usize).min(bins - 1);
        (low, (t - low as f64).min(1.0))
    }
}

/// Calls `f` for every triplet of a row: indices into its slices.
fn each<T: Real>(row: &Row<'_, T>, aligned: bool, mut f: impl FnMut(usize, usize)) {
    for p in 0..row.pos.len() {
        if aligned {
            f(p, p);
        } else {
            (0..row.neg.len()).for_each(|n| f(p, n));
        }
    }
}

impl MatrixLoss for Run<'_> {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let state = self.state;
        let bins = state.histogram.len();
        let aligned = matrix.aligned;
        let new = |row: &mut Row<'_, T>| {
            let (mut h, mut count) = (vec![0.0; bins], 0.0);
            each(row, aligned, |p, n| {
                let (low, share) = state.place(row.pos[p] - row.neg[n]);
                h[low] += 1.0 - share;
                // What lies beyond the last centre stays in the last bin.
                h[(low + 1).min(bins - 1)] += share;
                count += 1.0;
            });
            (h, count)
        };
        let (mut now, mut count) = (vec![0.0; bins], 0.0);
        for (h, n) in matrix.scan(Whom::Others, new) {
            now.iter_mut().zip(h).for_each(|(a, b)| *a += b);
            count += n;
        }
        if count == 0.0 {
            return Ok(Outcome::new((0.0, 0.0)));
        }
        let old = &state.histogram;
        let fresh = old.iter().sum::<f64>() == 0.0;
        let momentum = if fresh { 1.0 } else { state.momentum };
        let mut moved: Vec<f64> = old
            .iter()
            .zip(&now)
            .map(|(o, n)| (1.0 - momentum) * o + momentum * n)
            .collect();
        let mass: f64 = moved.iter().sum();
        moved.iter_mut().for_each(|v| *v /= mass);
        let mut below = 0.0;
        let cdf: Vec<f64> = moved
            .iter()
            .map(|v| {
                below += v;
                below
            })
            .collect();
        let sums = matrix.write(Whom::Others, |row| {
            let mut grads = (vec![T::ZERO; row.pos.len()], vec![T::ZERO; row.neg.len()]);
            let mut sum = 0.0;
            each(row, aligned, |p, n| {
                let x = row.pos[p] - row.neg[n];
                let weight = cdf[state.place(x).0];
                sum += weight * x.to_f64();
                grads.0[p] += T::from_f64(weight);
                grads.1[n] -= T::from_f64(weight);
            });
            row.pos.copy_from_slice(&grads.0);
            row.neg.copy_from_slice(&grads.1);
            sum
        });
        // A loss runs once.
        let _ = self.moved.set(moved);
        let value = simd::sum(&sums) / count;
        Ok(Outcome::new((value, 1.0 / count)))
    }
}
