//! The selectively contrastive triplet loss.

use candle::{Result, Tensor};

use crate::batch::{Batch, MetricLoss};
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, Whom, clear, evaluate, simd};
use crate::ops::check_finite;
use crate::pair::check_positive;
use crate::reducer::Reducer;
use phiz_mining::Measure;

/// Selectively contrastive triplet loss on cosines (Xuan, Stylianou, Liu, Pless, ECCV 2020): for each anchor with its nearest
/// positive and its nearest negative
///
/// ```text
/// s_an > s_ap:   hard_weight s_an          (the negative alone is pushed away)
/// otherwise:     -log( e^(s_ap/t) / (e^(s_ap/t) + e^(s_an/t)) )
/// ```
///
/// Plain triplet losses pull hard negatives together in early training; this one cannot. One term an anchor that has both. O(B^2
/// D) time.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectivelyContrastive {
    /// Default 0.1.
    pub temperature: f64,
    /// Default 1.
    pub hard_weight: f64,
    /// Default [`Reducer::Mean`].
    pub reducer: Reducer,
}

impl Default for SelectivelyContrastive {
    fn default() -> Self {
        Self {
            temperature: 0.1,
            hard_weight: 1.0,
            reducer: Reducer::Mean,
        }
    }
}

impl MetricLoss for SelectivelyContrastive {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        check_positive("the temperature", self.temperature)?;
        check_finite("the weight of hard negatives", self.hard_weight)?;
        evaluate(batch, &Measure::COSINE, Reading::PairSet, self, &[])
    }
}

impl MatrixLoss for SelectivelyContrastive {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let (c, weight) = (
            T::from_f64(1.0 / self.temperature),
            T::from_f64(self.hard_weight),
        );
        matrix.anchors(Whom::Others, &self.reducer, |row| {
            let (sp, sn) = (simd::max(row.pos), simd::max(row.neg));
            let p = row.pos.iter().position(|&v| v == sp);
            let n = row.neg.iter().position(|&v| v == sn);
            clear(row);
            let (Some(p), Some(n)) = (p, n) else {
                return None;
            };
            if sn > sp {
                row.neg[n] = weight;
                return Some((weight * sn).to_f64());
            }
            let (loss, share) = simd::softplus((sn - sp) * c);
            row.pos[p] = -(c * share);
            row.neg[n] = c * share;
            Some(loss.to_f64())
        })
    }
}
