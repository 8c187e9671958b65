//! Neighbourhood components analysis.

use candle::{Result, Tensor};

use super::{check_positive, sign};
use crate::batch::{Batch, MetricLoss};
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, Whom, clear, evaluate, simd};
use crate::reducer::Reducer;
use phiz_mining::Measure;

/// Neighbourhood components analysis (Goldberger, Roweis, Hinton, Salakhutdinov, NIPS 2004), the logarithmic form: for each
/// anchor with a positive
///
/// ```text
/// -log( sum_p e^(-scale d_ap) / sum_{k != a} e^(-scale d_ak) )  =  softplus( LSE_n(-scale d) - LSE_p(-scale d) )
/// ```
///
/// (with a similarity, `-d` becomes `s`). Positives are in the denominator, the anchor is not. One term an anchor that has a
/// positive. O(B^2 D) time.
#[derive(Debug, Clone, PartialEq)]
pub struct Nca {
    /// Default 1.
    pub softmax_scale: f64,
    /// Default [`Measure::SQUARED_L2`].
    pub measure: Measure,
    /// Default [`Reducer::Mean`].
    pub reducer: Reducer,
}

impl Default for Nca {
    fn default() -> Self {
        Self {
            softmax_scale: 1.0,
            measure: Measure::SQUARED_L2,
            reducer: Reducer::Mean,
        }
    }
}

impl MetricLoss for Nca {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        check_positive("the scale of NCA", self.softmax_scale)?;
        evaluate(batch, &self.measure, Reading::PairSet, self, &[])
    }
}

impl MatrixLoss for Nca {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let c = -sign::<T>(matrix.similarity) * T::from_f64(self.softmax_scale);
        matrix.anchors(Whom::Others, &self.reducer, |row| {
            if row.pos.is_empty() {
                clear(row);
                return None;
            }
            let (p, n) = (simd::softmax(row.pos, c), simd::softmax(row.neg, c));
            let (loss, share) = simd::softplus(n - p);
            simd::scale(row.pos, -(c * share));
            simd::scale(row.neg, c * share);
            Some(loss.to_f64())
        })
    }
}
