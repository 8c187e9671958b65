//! Losses on the spread of similarities: intra-pair variance, threshold-consistent margin.

use candle::{Result, Tensor};

use super::sign;
use crate::batch::{Batch, MetricLoss};
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, Whom, evaluate, simd, total};
use crate::ops::check_finite;
use crate::reducer::{Part, Reducer, Terms};
use phiz_mining::Measure;

/// Intra-pair variance loss (Yu, Tao, ICCV 2019): with `mean` over all pairs of a kind,
///
/// ```text
/// positives  [(1 - pos_eps) mean(s_p) - s_p]_+^2        negatives  [s_n - (1 + neg_eps) mean(s_n)]_+^2
/// ```
///
/// (for a distance `[d_p - (1 + pos_eps) mean]_+^2` and `[(1 - neg_eps) mean - d_n]_+^2`), reduced on their own and added; the gradient
/// runs through the means. One term a pair. O(B^2 D) time. Meant beside another loss.
#[derive(Debug, Clone, PartialEq)]
pub struct IntraPairVariance {
    /// Default 0.01.
    pub pos_eps: f64,
    /// Default 0.01.
    pub neg_eps: f64,
    /// Default [`Measure::COSINE`].
    pub measure: Measure,
    /// Of both kinds. Default [`Reducer::Mean`].
    pub reducer: Reducer,
}

impl Default for IntraPairVariance {
    fn default() -> Self {
        Self {
            pos_eps: 0.01,
            neg_eps: 0.01,
            measure: Measure::COSINE,
            reducer: Reducer::Mean,
        }
    }
}

impl MetricLoss for IntraPairVariance {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        check_finite("the positive epsilon", self.pos_eps)?;
        check_finite("the negative epsilon", self.neg_eps)?;
        evaluate(batch, &self.measure, Reading::Pairs, self, &[])
    }
}

impl MatrixLoss for IntraPairVariance {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let plan = matrix.plan(&self.reducer, Terms::Pairs)?;
        let s = sign::<T>(matrix.similarity).to_f64();
        let sums = matrix.scan(Whom::Others, |row| {
            let f = |x: &[T]| Part {
                sum: simd::sum(x).to_f64(),
                kept: 0.0,
                total: x.len() as f64,
            };
            (f(row.pos), f(row.neg))
        });
        let mean = |p: Part| if p.total > 0.0 { p.sum / p.total } else { 0.0 };
        let all_pos = total(sums.iter().map(|p| p.0).collect());
        let all_neg = total(sums.iter().map(|p| p.1).collect());
        // z = a x + b mean: positive pairs should come nearer, negative ones go away.
        let kinds = [
            (
                s,
                -s * (1.0 + s * self.pos_eps),
                mean(all_pos),
                all_pos.total,
            ),
            (
                -s,
                s * (1.0 - s * self.neg_eps),
                mean(all_neg),
                all_neg.total,
            ),
        ];
        let parts = matrix.scan(Whom::Others, |row| {
            let f = |x: &[T], (a, b, mean, _): (f64, f64, f64, f64)| {
                let (mut part, mut slope) = (Part::default(), 0.0);
                for v in x {
                    let z = (a * v.to_f64() + b * mean).max(0.0);
                    let term = plan.term(z * z);
                    if term.kept > 0.0 {
                        slope += 2.0 * z;
                    }
                    part = part.add(term);
                }
                let (factor, part) = plan.row(row.anchor, part);
                (factor, part, factor * slope)
            };
            [f(row.pos, kinds[0]), f(row.neg, kinds[1])]
        });
        let mut value = 0.0;
        // Scale, and the gradient of the mean shared out over its pairs.
        let mut shares = [(0.0, 0.0); 2];
        for (k, share) in shares.iter_mut().enumerate() {
            let (v, scale) = plan.finish(total(parts.iter().map(|p| p[k].1).collect()));
            value += v;
            let (_, b, _, count) = kinds[k];
            let through_mean: f64 = parts.iter().map(|p| p[k].2).sum::<f64>() * b * scale;
            *share = (
                scale,
                if count > 0.0 {
                    through_mean / count
                } else {
                    0.0
                },
            );
        }
        if matrix.wants_gradient() {
            matrix.write(Whom::Others, |row| {
                let part = &parts[row.sorted];
                let f = |x: &mut [T], k: usize| {
                    let (a, b, mean, _) = kinds[k];
                    let (scale, through_mean) = shares[k];
                    for v in x {
                        let z = (a * v.to_f64() + b * mean).max(0.0);
                        let own = if plan.keeps(z * z) {
                            2.0 * z * a * part[k].0 * scale
                        } else {
                            0.0
                        };
                        *v = T::from_f64(own + through_mean);
                    }
                };
                f(row.pos, 0);
                f(row.neg, 1);
            });
        }
        Ok(Outcome::new((value, 1.0)))
    }
}

/// Threshold-consistent margin loss on cosines (Zhang et al., ICLR 2024):
///
/// ```text
/// lambda_plus mean(margin_plus - s_p : s_p <= margin_plus)  +  lambda_minus mean(s_n - margin_minus : s_n >= margin_minus)
/// ```
///
/// A mean over nothing is 0. O(B^2 D) time. Meant beside another loss, to give classes one common threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThresholdConsistentMargin {
    /// Default 1.
    pub lambda_plus: f64,
    /// Default 1.
    pub lambda_minus: f64,
    /// Default 0.9.
    pub margin_plus: f64,
    /// Default 0.5.
    pub margin_minus: f64,
}

impl Default for ThresholdConsistentMargin {
    fn default() -> Self {
        Self {
            lambda_plus: 1.0,
            lambda_minus: 1.0,
            margin_plus: 0.9,
            margin_minus: 0.5,
        }
    }
}

impl MetricLoss for ThresholdConsistentMargin {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        check_finite("lambda_plus", self.lambda_plus)?;
        check_finite("lambda_minus", self.lambda_minus)?;
        check_finite("margin_plus", self.margin_plus)?;
        check_finite("margin_minus", self.margin_minus)?;
        evaluate(batch, &Measure::COSINE, Reading::Pairs, self, &[])
    }
}

impl MatrixLoss for ThresholdConsistentMargin {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let (plus, minus) = (
            T::from_f64(self.margin_plus),
            T::from_f64(self.margin_minus),
        );
        let far = move |v: T| v <= plus;
        let near = move |v: T| v >= minus;
        let one = |yes: bool| if yes { T::ONE } else { T::ZERO };
        let parts = matrix.scan(Whom::Others, |row| {
            let part = |x: &[T], counts: &dyn Fn(T) -> bool, sum: &dyn Fn(T) -> T| Part {
                sum: x.iter().map(|&v| sum(v).to_f64()).sum(),
                kept: x.iter().filter(|&&v| counts(v)).count() as f64,
                total: x.len() as f64,
            };
            (
                part(row.pos, &far, &|v| (plus - v).larger(T::ZERO)),
                part(row.neg, &near, &|v| (v - minus).larger(T::ZERO)),
            )
        });
        let pos = total(parts.iter().map(|p| p.0).collect());
        let neg = total(parts.iter().map(|p| p.1).collect());
        let each = |p: Part, lambda: f64| if p.kept > 0.0 { lambda / p.kept } else { 0.0 };
        let (cp, cn) = (each(pos, self.lambda_plus), each(neg, self.lambda_minus));
        if matrix.wants_gradient() {
            let (gp, gn) = (-T::from_f64(cp), T::from_f64(cn));
            matrix.write(Whom::Others, |row| {
                for v in row.pos.iter_mut() {
                    *v = gp * one(far(*v));
                }
                for v in row.neg.iter_mut() {
                    *v = gn * one(near(*v));
                }
            });
        }
        Ok(Outcome::new((cp * pos.sum + cn * neg.sum, 1.0)))
    }
}
