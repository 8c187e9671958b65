//! The tuplet margin loss.

use candle::{DType, Result, Tensor};

use super::check_positive;
use crate::batch::{Batch, MetricLoss};
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, evaluate, simd};
use crate::ops::check_finite;
use crate::reducer::{Part, Reducer, Terms};
use phiz_mining::Measure;

/// Tuplet margin loss on cosines (Yu, Tao, ICCV 2019): for each positive pair
///
/// ```text
/// log( 1 + sum_n e^(s (cos t_an - cos(t_ap - margin))) )
/// ```
///
/// `cos(t - m)` is taken as `c cos m + sqrt(1 - c^2) sin m` of the clamped cosine, whose slope is cut where the square root leaves no
/// digits: duplicates have finite gradients. One term a positive pair. O(B^2 D) time.
#[derive(Debug, Clone, PartialEq)]
pub struct TupletMargin {
    /// In degrees. Default 5.73 (0.1 rad).
    pub margin: f64,
    /// Default 64.
    pub scale: f64,
    /// Default [`Reducer::Mean`].
    pub reducer: Reducer,
}

impl Default for TupletMargin {
    fn default() -> Self {
        Self {
            margin: 5.73,
            scale: 64.0,
            reducer: Reducer::Mean,
        }
    }
}

impl MetricLoss for TupletMargin {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        check_finite("the margin of the tuplet margin loss", self.margin)?;
        check_positive("the scale of the tuplet margin loss", self.scale)?;
        evaluate(batch, &Measure::COSINE, Reading::Pairs, self, &[])
    }
}

impl MatrixLoss for TupletMargin {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let scale = T::from_f64(self.scale);
        let (sin, cos) = self.margin.to_radians().sin_cos();
        let (sin, cos) = (T::from_f64(sin), T::from_f64(cos));
        let floor = T::from_f64(if T::DTYPE == DType::F64 {
            1.5e-8
        } else {
            3.5e-4
        });
        matrix.pairs(Terms::Pairs, &self.reducer, |row, plan| {
            let negatives = simd::softmax(row.neg, scale);
            let (mut part, mut pull) = (Part::default(), T::ZERO);
            for v in row.pos.iter_mut() {
                let c = *v;
                let root = (T::ONE - c * c).larger(T::ZERO).sqrt();
                let (loss, share) = simd::softplus(negatives - scale * (c * cos + root * sin));
                let term = plan.term(loss.to_f64());
                let share = if term.kept > 0.0 { share } else { T::ZERO };
                *v = -(scale * share * (cos - c / root.larger(floor) * sin));
                pull += share;
                part = part.add(term);
            }
            simd::scale(row.neg, scale * pull);
            part
        })
    }
}
