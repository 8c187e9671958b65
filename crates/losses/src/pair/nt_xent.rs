//! NT-Xent and its decoupled forms: each positive against the negatives of its anchor.

use candle::{Result, Tensor};

use super::{check_positive, sign};
use crate::batch::{Batch, MetricLoss};
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, Whom, evaluate, simd};
use crate::reducer::{Part, Reducer, Terms};
use phiz_mining::Measure;

/// Normalised temperature-scaled cross entropy (Sohn, NIPS 2016; Chen et al., ICML 2020), in pytorch-metric-learning's form: for
/// each positive pair
///
/// ```text
/// -log( e^(s_ap/t) / (e^(s_ap/t) + sum_n e^(s_an/t)) )  =  softplus( log sum_n e^(s_an/t) - s_ap/t )
/// ```
///
/// over the negatives of the anchor; its other positives are not in the denominator. With a distance, `s = -d`. One term a
/// positive pair. O(B^2 D) time: the sum over negatives is taken once an anchor. The softplus form does not saturate in f32.
#[derive(Debug, Clone, PartialEq)]
pub struct NtXent {
    /// Default 0.07.
    pub temperature: f64,
    /// Default [`Measure::COSINE`].
    pub measure: Measure,
    /// Default [`Reducer::Mean`].
    pub reducer: Reducer,
}

impl Default for NtXent {
    fn default() -> Self {
        Self {
            temperature: 0.07,
            measure: Measure::COSINE,
            reducer: Reducer::Mean,
        }
    }
}

impl From<f64> for NtXent {
    fn from(temperature: f64) -> Self {
        Self {
            temperature,
            ..Self::default()
        }
    }
}

impl MetricLoss for NtXent {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        check_positive("the temperature of NT-Xent", self.temperature)?;
        evaluate(batch, &self.measure, Reading::Pairs, self, &[])
    }
}

impl MatrixLoss for NtXent {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let c = -sign::<T>(matrix.similarity) * T::from_f64(1.0 / self.temperature);
        matrix.pairs(Terms::Pairs, &self.reducer, |row, plan| {
            let negatives = simd::softmax(row.neg, c);
            let (mut part, mut pull) = (Part::default(), T::ZERO);
            for v in row.pos.iter_mut() {
                let (loss, share) = simd::softplus(negatives - c * *v);
                let term = plan.term(loss.to_f64());
                let share = if term.kept > 0.0 { share } else { T::ZERO };
                *v = -(c * share);
                pull += share;
                part = part.add(term);
            }
            simd::scale(row.neg, c * pull);
            part
        })
    }
}

/// Decoupled contrastive learning (Yeh et al., ECCV 2022): NT-Xent without the positive in the denominator,
///
/// ```text
/// -w_ap s_ap/t + log sum_n e^(s_an/t)
/// ```
///
/// with `w = 1` (DCL), or `w_ap = 2 - e^(s_ap/sigma) / mean e^(s/sigma)` over all positive pairs, a constant to the gradient
/// (DCLW, which weighs far positives more). An anchor without negatives has no term. One term a positive pair. O(B^2 D) time.
#[derive(Debug, Clone, PartialEq)]
pub struct Dcl {
    /// Default 0.1.
    pub temperature: f64,
    /// Sigma of DCLW; `None`, the default, is DCL. The paper takes 0.5.
    pub sigma: Option<f64>,
    /// Default [`Measure::COSINE`].
    pub measure: Measure,
    /// Default [`Reducer::Mean`].
    pub reducer: Reducer,
}

impl Default for Dcl {
    fn default() -> Self {
        Self {
            temperature: 0.1,
            sigma: None,
            measure: Measure::COSINE,
            reducer: Reducer::Mean,
        }
    }
}

impl Dcl {
    /// DCLW with sigma 0.5.
    pub fn weighted() -> Self {
        Self {
            sigma: Some(0.5),
            ..Self::default()
        }
    }
}

impl MetricLoss for Dcl {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        check_positive("the temperature of DCL", self.temperature)?;
        if let Some(sigma) = self.sigma {
            check_positive("sigma of DCLW", sigma)?;
        }
        evaluate(batch, &self.measure, Reading::Pairs, self, &[])
    }
}

impl MatrixLoss for Dcl {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let alike = -sign::<T>(matrix.similarity);
        let c = alike * T::from_f64(1.0 / self.temperature);
        let weigh = match self.sigma {
            None => None,
            Some(sigma) => {
                let k = alike * T::from_f64(1.0 / sigma);
                // The mean in logarithms, so that a small sigma does not overflow.
                let logs = matrix.scan(Whom::Others, |row| {
                    let counted = if row.neg.is_empty() { &[] } else { &*row.pos };
                    (simd::log_sum_exp(counted, k).to_f64(), counted.len() as f64)
                });
                let (sums, counts): (Vec<f64>, Vec<f64>) = logs.into_iter().unzip();
                let mean = simd::log_sum_exp(&sums, 1.0) - counts.iter().sum::<f64>().ln();
                Some((k, T::from_f64(mean)))
            }
        };
        matrix.pairs(Terms::Pairs, &self.reducer, |row, plan| {
            if row.neg.is_empty() {
                row.pos.fill(T::ZERO);
                return Part::default();
            }
            let negatives = simd::softmax(row.neg, c);
            let (mut part, mut pull) = (Part::default(), T::ZERO);
            for v in row.pos.iter_mut() {
                let weight =
                    weigh.map_or(T::ONE, |(k, mean)| T::ONE + T::ONE - (k * *v - mean).exp());
                let term = plan.term((negatives - weight * c * *v).to_f64());
                if term.kept > 0.0 {
                    *v = -(weight * c);
                    pull += T::ONE;
                } else {
                    *v = T::ZERO;
                }
                part = part.add(term);
            }
            simd::scale(row.neg, c * pull);
            part
        })
    }
}
