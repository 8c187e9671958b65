//! The circle loss over pairs.

use candle::{Result, Tensor};

use super::check_positive;
use crate::batch::{Batch, MetricLoss};
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, Whom, clear, evaluate, simd};
use crate::ops::check_finite;
use crate::reducer::Reducer;
use phiz_mining::Measure;

/// Circle loss on cosines (Sun et al., CVPR 2020): for each anchor
///
/// ```text
/// softplus( LSE_p(-gamma [1 + m - s_p]_+ (s_p - (1 - m)))  +  LSE_n(gamma [s_n + m]_+ (s_n - m)) )
/// ```
///
/// where LSE is the logarithm of a sum of exponentials and the brackets are constants to the gradient. An anchor without a
/// positive or without a negative has the term 0. One term an anchor. O(B^2 D) time.
#[derive(Debug, Clone, PartialEq)]
pub struct Circle {
    /// Default 0.4; the paper takes 0.25 for faces.
    pub m: f64,
    /// Default 80; the paper takes 256 for faces.
    pub gamma: f64,
    /// Default [`Reducer::AvgNonZero`].
    pub reducer: Reducer,
}

impl Default for Circle {
    fn default() -> Self {
        Self {
            m: 0.4,
            gamma: 80.0,
            reducer: Reducer::AvgNonZero,
        }
    }
}

impl MetricLoss for Circle {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        check_finite("m of the circle loss", self.m)?;
        check_positive("gamma of the circle loss", self.gamma)?;
        evaluate(batch, &Measure::COSINE, Reading::PairSet, self, &[])
    }
}

impl MatrixLoss for Circle {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let (m, gamma) = (T::from_f64(self.m), T::from_f64(self.gamma));
        // The bracket, and the exponent, of a similarity.
        let alpha_p = move |s: T| gamma * (T::ONE + m - s).larger(T::ZERO);
        let alpha_n = move |s: T| gamma * (s + m).larger(T::ZERO);
        matrix.anchors(Whom::Others, &self.reducer, |row| {
            if row.pos.is_empty() || row.neg.is_empty() {
                clear(row);
                return Some(0.0);
            }
            let (pos, neg) = (row.pos.to_vec(), row.neg.to_vec());
            simd::run(
                #[inline(always)]
                || {
                    for v in row.pos.iter_mut() {
                        *v = -(alpha_p(*v) * (*v - (T::ONE - m)));
                    }
                    for v in row.neg.iter_mut() {
                        *v = alpha_n(*v) * (*v - m);
                    }
                },
            );
            let z = simd::softmax(row.pos, T::ONE) + simd::softmax(row.neg, T::ONE);
            let (loss, share) = simd::softplus(z);
            simd::run(
                #[inline(always)]
                || {
                    for (v, &s) in row.pos.iter_mut().zip(&pos) {
                        *v *= -(share * alpha_p(s));
                    }
                    for (v, &s) in row.neg.iter_mut().zip(&neg) {
                        *v *= share * alpha_n(s);
                    }
                },
            );
            Some(loss.to_f64())
        })
    }
}
