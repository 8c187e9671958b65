//! The multi-similarity loss, with its miner built in on request.

use candle::{Result, Tensor};

use super::{check_positive, sign};
use crate::batch::{Batch, MetricLoss};
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, Whom, evaluate, simd};
use crate::ops::check_finite;
use crate::reducer::Reducer;
use phiz_mining::Measure;

/// Multi-similarity loss (Wang, Han, Huang, Dong, Scott, CVPR 2019): for each anchor
///
/// ```text
/// (1/alpha) log(1 + sum_p e^(-alpha (s_ap - base)))  +  (1/beta) log(1 + sum_n e^(beta (s_an - base)))
/// ```
///
/// (with a distance, `s - base` becomes `base - d`). With [`epsilon`](Self::epsilon) only the pairs that the paper's miner keeps are
/// summed: a negative when it is nearer than the farthest positive plus epsilon, a positive when it is farther than the
/// nearest negative minus epsilon. Doing it here costs one comparison a pair; no list of pairs is made.
///
/// One term an anchor. O(B^2 D) time.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiSimilarity {
    /// Default 2.
    pub alpha: f64,
    /// Default 50.
    pub beta: f64,
    /// Default 0.5.
    pub base: f64,
    /// Margin of the built-in miner; `None`, the default, is no mining. The paper takes 0.1.
    pub epsilon: Option<f64>,
    /// Default [`Measure::COSINE`].
    pub measure: Measure,
    /// Default [`Reducer::Mean`].
    pub reducer: Reducer,
}

impl Default for MultiSimilarity {
    fn default() -> Self {
        Self {
            alpha: 2.0,
            beta: 50.0,
            base: 0.5,
            epsilon: None,
            measure: Measure::COSINE,
            reducer: Reducer::Mean,
        }
    }
}

impl MultiSimilarity {
    /// With the paper's miner, epsilon 0.1.
    pub fn mined() -> Self {
        Self {
            epsilon: Some(0.1),
            ..Self::default()
        }
    }
}

impl MetricLoss for MultiSimilarity {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        check_positive("alpha of the multi-similarity loss", self.alpha)?;
        check_positive("beta of the multi-similarity loss", self.beta)?;
        check_finite("the base of the multi-similarity loss", self.base)?;
        if let Some(epsilon) = self.epsilon {
            check_finite("epsilon of the multi-similarity miner", epsilon)?;
        }
        evaluate(batch, &self.measure, Reading::PairSet, self, &[])
    }
}

impl MatrixLoss for MultiSimilarity {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let s = sign::<T>(matrix.similarity);
        let [alpha, beta, base] = [self.alpha, self.beta, self.base].map(T::from_f64);
        let (ca, cb) = (s * alpha, -(s * beta));
        let epsilon = self.epsilon.map(T::from_f64);
        matrix.anchors(Whom::Others, &self.reducer, |row| {
            if let Some(epsilon) = epsilon {
                mine(row.pos, row.neg, s, epsilon);
            }
            let (p, ps) = simd::softplus(simd::softmax(row.pos, ca) - ca * base);
            let (n, ns) = simd::softplus(simd::softmax(row.neg, cb) - cb * base);
            simd::scale(row.pos, s * ps);
            simd::scale(row.neg, -(s * ns));
            Some((p / alpha + n / beta).to_f64())
        })
    }
}

/// Moves what the miner drops out of reach of the sums. `s` is 1 for distances, -1 for similarities.
fn mine<T: Real>(pos: &mut [T], neg: &mut [T], s: T, epsilon: T) {
    // In terms of u = s x, which grows with distance.
    let (farthest, nearest) = if s > T::ZERO {
        (simd::max(pos), simd::min(neg))
    } else {
        (-simd::min(pos), -simd::max(neg))
    };
    let gone = s * T::INFINITY;
    simd::run(
        #[inline(always)]
        || {
            for v in pos.iter_mut() {
                *v = if s * *v + epsilon > nearest {
                    *v
                } else {
                    -gone
                };
            }
            for v in neg.iter_mut() {
                *v = if s * *v - epsilon < farthest {
                    *v
                } else {
                    gone
                };
            }
        },
    );
}
