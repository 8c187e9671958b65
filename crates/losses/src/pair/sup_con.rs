//! Supervised contrastive learning.

use candle::{Result, Tensor};

use super::{check_positive, sign};
use crate::batch::{Batch, MetricLoss};
use crate::distance::Measure;
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, Whom, clear, evaluate, simd};
use crate::reducer::Reducer;

/// Supervised contrastive loss, the form with the sum outside of the logarithm (Khosla et al., NeurIPS 2020): for each anchor
///
/// ```text
/// -(1/|P|) sum_p [ s_ap/t - log sum_{k in P and N} e^(s_ak/t) ]
/// ```
///
/// With a distance, `s = -d`. An anchor without positives has the term 0. A batch without any positive or without any negative
/// pair gives 0. One term an anchor. O(B^2 D) time.
#[derive(Debug, Clone, PartialEq)]
pub struct SupCon {
    /// Default 0.1.
    pub temperature: f64,
    /// Default [`Measure::COSINE`].
    pub measure: Measure,
    /// Default [`Reducer::AvgNonZero`].
    pub reducer: Reducer,
}

impl Default for SupCon {
    fn default() -> Self {
        Self {
            temperature: 0.1,
            measure: Measure::COSINE,
            reducer: Reducer::AvgNonZero,
        }
    }
}

impl From<f64> for SupCon {
    fn from(temperature: f64) -> Self {
        Self {
            temperature,
            ..Self::default()
        }
    }
}

impl MetricLoss for SupCon {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        check_positive("the temperature of SupCon", self.temperature)?;
        evaluate(batch, &self.measure, Reading::PairSet, self, &[])
    }
}

impl MatrixLoss for SupCon {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let c = -sign::<T>(matrix.similarity) * T::from_f64(1.0 / self.temperature);
        let counts = matrix.counts();
        if !counts.iter().any(|c| c.0 > 0) || !counts.iter().any(|c| c.1 > 0) {
            return Ok(Outcome::new((0.0, 0.0)));
        }
        matrix.anchors(Whom::Others, &self.reducer, |row| {
            if row.pos.is_empty() {
                clear(row);
                return Some(0.0);
            }
            let each = T::ONE / T::from_f64(row.pos.len() as f64);
            let mean = c * simd::sum(row.pos) * each;
            let (p, n) = (simd::softmax(row.pos, c), simd::softmax(row.neg, c));
            let (all, share) = simd::log_add_exp(p, n);
            simd::run(
                #[inline(always)]
                || {
                    for v in row.pos.iter_mut() {
                        *v = c * (share * *v - each);
                    }
                },
            );
            simd::scale(row.neg, c * (T::ONE - share));
            Some((all - mean).to_f64())
        })
    }
}
