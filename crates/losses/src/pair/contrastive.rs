//! The contrastive loss.

use candle::{Result, Tensor};

use super::sign;
use crate::batch::{Batch, MetricLoss};
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, Whom, evaluate, simd, total};
use crate::ops::check_finite;
use crate::reducer::{Part, Plan, Reducer, Terms};
use phiz_mining::Measure;

/// Contrastive loss (Hadsell, Chopra, LeCun, CVPR 2006; first powers, as in pytorch-metric-learning):
///
/// ```text
/// positives  [d(a,p) - pos_margin]_+        negatives  [neg_margin - d(a,n)]_+
/// ```
///
/// (signs reversed for a similarity), the two kinds reduced on their own and added. One term a pair. O(B^2 D) time.
///
/// With [`Measure::SNR`] this is pytorch-metric-learning's `SignalToNoiseRatioContrastiveLoss` ([`Contrastive::snr`]).
///
/// ```
/// use candle::{Device, Tensor};
/// use phiz_losses::{Contrastive, MetricLoss};
/// # fn main() -> candle::Result<()> {
/// let e = Tensor::new(&[[1f64, 0.], [1., 0.], [0., 1.]], &Device::Cpu)?;
/// // The positive pair is at distance 0, the negatives at sqrt(2), beyond the margin.
/// assert_eq!(Contrastive::default().loss(&e, &[7u32, 7, 9])?.to_scalar::<f64>()?, 0.0);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Contrastive {
    /// Default 0; with a similarity take 1.
    pub pos_margin: f64,
    /// Default 1; with a similarity take 0.
    pub neg_margin: f64,
    /// Default [`Measure::L2`].
    pub measure: Measure,
    /// Of the positives. Default [`Reducer::AvgNonZero`].
    pub pos_reducer: Reducer,
    /// Of the negatives. Default [`Reducer::AvgNonZero`].
    pub neg_reducer: Reducer,
}

impl Default for Contrastive {
    fn default() -> Self {
        Self {
            pos_margin: 0.0,
            neg_margin: 1.0,
            measure: Measure::L2,
            pos_reducer: Reducer::AvgNonZero,
            neg_reducer: Reducer::AvgNonZero,
        }
    }
}

impl Contrastive {
    /// On the signal-to-noise ratio distance (Yuan, Deng, Tang, Tang, Chen, CVPR 2019).
    pub fn snr() -> Self {
        Self {
            measure: Measure::SNR,
            ..Self::default()
        }
    }

    /// On cosines, with margins 1 and 0.
    pub fn cosine() -> Self {
        Self {
            measure: Measure::COSINE,
            pos_margin: 1.0,
            neg_margin: 0.0,
            ..Self::default()
        }
    }
}

impl MetricLoss for Contrastive {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        check_finite("the positive margin", self.pos_margin)?;
        check_finite("the negative margin", self.neg_margin)?;
        evaluate(batch, &self.measure, Reading::Pairs, self, &[])
    }
}

impl MatrixLoss for Contrastive {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let pos_plan = matrix.plan(&self.pos_reducer, Terms::Pairs)?;
        let neg_plan = matrix.plan(&self.neg_reducer, Terms::Pairs)?;
        let s = sign::<T>(matrix.similarity);
        // z = a d + b.
        let pos = (s, -(s * T::from_f64(self.pos_margin)));
        let neg = (-s, s * T::from_f64(self.neg_margin));
        let parts = matrix.scan(Whom::Others, |row| {
            let (p, n) = (
                hinge_part(row.pos, pos, &pos_plan),
                hinge_part(row.neg, neg, &neg_plan),
            );
            (pos_plan.row(row.anchor, p), neg_plan.row(row.anchor, n))
        });
        let pos_all = total(parts.iter().map(|p| p.0.1).collect());
        let neg_all = total(parts.iter().map(|p| p.1.1).collect());
        let (pos_value, pos_scale) = pos_plan.finish(pos_all);
        let (neg_value, neg_scale) = neg_plan.finish(neg_all);
        if matrix.wants_gradient() {
            matrix.write(Whom::Others, |row| {
                let ((p, _), (n, _)) = parts[row.sorted];
                hinge_slope(row.pos, pos, &pos_plan, T::from_f64(p * pos_scale));
                hinge_slope(row.neg, neg, &neg_plan, T::from_f64(n * neg_scale));
            });
        }
        Ok(Outcome::new((pos_value + neg_value, 1.0)))
    }
}

/// Whether the plan asks for nothing that a count of the terms above 0 does not tell.
fn simple(plan: &Plan) -> bool {
    plan.keeps_all() || plan.keeps_above_zero()
}

/// The terms `[a x + b]_+`.
pub(super) fn hinge_part<T: Real>(x: &[T], (a, b): (T, T), plan: &Plan) -> Part {
    if simple(plan) {
        let (sum, above) = simd::run(
            #[inline(always)]
            || {
                simd::fold_sums(
                    x,
                    #[inline(always)]
                    |v| {
                        let z = a * v + b;
                        let above = if z > T::ZERO { T::ONE } else { T::ZERO };
                        (z.larger(T::ZERO), above)
                    },
                )
            },
        );
        let total = x.len() as f64;
        return Part {
            sum: sum.to_f64(),
            kept: if plan.keeps_all() {
                total
            } else {
                above.to_f64()
            },
            total,
        };
    }
    let mut part = Part::default();
    for &v in x {
        part = part.add(plan.term((a * v + b).larger(T::ZERO).to_f64()));
    }
    part
}

/// Their gradient times `factor`.
pub(super) fn hinge_slope<T: Real>(x: &mut [T], (a, b): (T, T), plan: &Plan, factor: T) {
    let slope = a * factor;
    if simple(plan) {
        simd::run(
            #[inline(always)]
            || {
                for v in x.iter_mut() {
                    *v = if a * *v + b > T::ZERO { slope } else { T::ZERO };
                }
            },
        );
        return;
    }
    for v in x.iter_mut() {
        let z = a * *v + b;
        *v = if z > T::ZERO && plan.keeps(z.to_f64()) {
            slope
        } else {
            T::ZERO
        };
    }
}
