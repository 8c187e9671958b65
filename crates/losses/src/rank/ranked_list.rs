//! The ranked list loss.

use candle::{Result, Tensor, bail};

use crate::batch::{Batch, MetricLoss};
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, Whom, evaluate};
use crate::ops::check_finite;
use crate::reducer::Reducer;
use phiz_mining::Measure;

/// Ranked list loss (Wang, Hua, Kodirov, Hu, Garnier, Robertson, CVPR 2019): for each anchor, with `u = d - (alpha - margin)` of
/// the positives beyond `alpha - margin` and `v = alpha - d` of the negatives within `alpha`,
///
/// ```text
/// (1 - imbalance) sum_p e^(tp u) u / (sum_p e^(tp u) + B 1e-5)  +  imbalance sum_n e^(tn v) v / (sum_n e^(tn v) + B 1e-5)
/// ```
///
/// The gradient runs through the weights. One term an anchor. O(B^2 D) time. Distances only.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedList {
    /// Between the positives' and the negatives' boundary. Default 0.4 (the paper's).
    pub margin: f64,
    /// Temperature of the negatives' weights. Default 10 (the paper's). A value above about 50 overflows in f32.
    pub tn: f64,
    /// Temperature of the positives' weights. Default 0.
    pub tp: f64,
    /// Weight of the negatives. Default 0.5.
    pub imbalance: f64,
    /// The negatives' boundary; `None`, the default, is `1 + margin / 2`.
    pub alpha: Option<f64>,
    /// Default [`Measure::L2`].
    pub measure: Measure,
    /// Default [`Reducer::Mean`].
    pub reducer: Reducer,
}

impl Default for RankedList {
    fn default() -> Self {
        Self {
            margin: 0.4,
            tn: 10.0,
            tp: 0.0,
            imbalance: 0.5,
            alpha: None,
            measure: Measure::L2,
            reducer: Reducer::Mean,
        }
    }
}

impl MetricLoss for RankedList {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        for (name, value) in [
            ("the margin of the ranked list loss", self.margin),
            ("tn", self.tn),
            ("tp", self.tp),
            ("alpha", self.alpha.unwrap_or(0.0)),
        ] {
            check_finite(name, value)?;
        }
        if !(0.0..=1.0).contains(&self.imbalance) {
            bail!("imbalance must lie in [0, 1], got {}", self.imbalance);
        }
        if self.measure.is_similarity() {
            bail!("the ranked list loss needs a distance");
        }
        evaluate(batch, &self.measure, Reading::PairSet, self, &[])
    }
}

impl MatrixLoss for RankedList {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let alpha = self.alpha.unwrap_or(1.0 + self.margin / 2.0);
        let near = alpha - self.margin;
        let rest = matrix.m as f64 * 1e-5;
        matrix.anchors(Whom::Others, &self.reducer, |row| {
            // u = a d + b where that is above 0.
            let side = |x: &mut [T], (a, b): (f64, f64), t: f64, share: f64| {
                let (mut weights, mut sum) = (rest, 0.0);
                for v in x.iter() {
                    let u = a * v.to_f64() + b;
                    if u > 0.0 {
                        let w = (t * u).exp();
                        weights += w;
                        sum += w * u;
                    }
                }
                let value = sum / weights;
                for v in x {
                    let u = a * v.to_f64() + b;
                    *v = if u > 0.0 {
                        let w = (t * u).exp();
                        T::from_f64(share * a * w * (1.0 + t * (u - value)) / weights)
                    } else {
                        T::ZERO
                    };
                }
                share * value
            };
            Some(
                side(row.pos, (1.0, -near), self.tp, 1.0 - self.imbalance)
                    + side(row.neg, (-1.0, alpha), self.tn, self.imbalance),
            )
        })
    }
}
