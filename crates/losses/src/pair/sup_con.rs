//! Supervised contrastive learning.

use candle::{Result, Tensor};

use super::{check_positive, sign};
use crate::batch::{Batch, MetricLoss};
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, Whom, clear, evaluate, simd};
use crate::label::{Label, keys};
use crate::ops::check_finite;
use crate::reducer::Reducer;
use phiz_mining::Measure;

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

/// Supervised contrastive loss for items with several labels: with `J` the Jaccard index of the label sets of two items
/// (common labels over all labels) and `P` the items with `J > threshold`,
///
/// ```text
/// -(1/|P|) sum_{p in P} J_ap [ s_ap/t - log sum_{k != a} e^(s_ak/t) ]
/// ```
///
/// An anchor without positives has the term 0. One term an anchor. O(B^2 (D + labels an item)) time.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiSupCon {
    /// Default 0.1.
    pub temperature: f64,
    /// Default 0.3.
    pub threshold: f64,
    /// Default [`Measure::COSINE`].
    pub measure: Measure,
    /// Default [`Reducer::AvgNonZero`].
    pub reducer: Reducer,
}

impl Default for MultiSupCon {
    fn default() -> Self {
        Self {
            temperature: 0.1,
            threshold: 0.3,
            measure: Measure::COSINE,
            reducer: Reducer::AvgNonZero,
        }
    }
}

impl MultiSupCon {
    /// The loss of embeddings with a set of labels each (order and repetitions do not matter; a set may be empty).
    ///
    /// # Shapes
    /// `embeddings` (B, D), `labels` B sets; result: scalar.
    ///
    /// # Errors
    /// When the shapes disagree, an embedding is not finite, or a parameter makes no sense.
    pub fn forward<L: Label>(&self, embeddings: &Tensor, labels: &[Vec<L>]) -> Result<Tensor> {
        check_positive("the temperature of MultiSupCon", self.temperature)?;
        check_finite("the threshold of MultiSupCon", self.threshold)?;
        let sets: Vec<Vec<i64>> = labels
            .iter()
            .map(|set| {
                let mut set = keys(set);
                set.sort_unstable();
                set.dedup();
                set
            })
            .collect();
        // Every item a class of its own: all others are the row.
        let batch = Batch::new(embeddings, &(0..labels.len()).collect::<Vec<_>>())?;
        let loss = Weighted { config: self, sets };
        evaluate(&batch, &self.measure, Reading::PairSet, &loss, &[])
    }
}

struct Weighted<'a> {
    config: &'a MultiSupCon,
    sets: Vec<Vec<i64>>,
}

/// Common elements of two ascending lists over all of theirs; 0 for two empty ones.
fn jaccard(a: &[i64], b: &[i64]) -> f64 {
    let (mut i, mut j, mut common) = (0, 0, 0usize);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        common += usize::from(x == y);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    let all = a.len() + b.len() - common;
    if all == 0 {
        0.0
    } else {
        common as f64 / all as f64
    }
}

impl MatrixLoss for Weighted<'_> {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let c = -sign::<T>(matrix.similarity) * T::from_f64(1.0 / self.config.temperature);
        matrix.anchors(Whom::Others, &self.config.reducer, |row| {
            let own = &self.sets[row.anchor];
            let (mut positives, mut mass) = (Vec::new(), 0.0);
            for k in 0..row.neg.len() {
                let weight = jaccard(own, &self.sets[row.cols.negative(k)]);
                if weight > self.config.threshold {
                    positives.push((k, weight));
                    mass += weight;
                }
            }
            if positives.is_empty() {
                clear(row);
                return Some(0.0);
            }
            let each = 1.0 / positives.len() as f64;
            let near: f64 = positives
                .iter()
                .map(|&(k, w)| w * (c * row.neg[k]).to_f64())
                .sum();
            let all = simd::softmax(row.neg, c).to_f64();
            simd::scale(row.neg, c * T::from_f64(mass * each));
            for &(k, w) in &positives {
                row.neg[k] -= c * T::from_f64(w * each);
            }
            Some((mass * all - near) * each)
        })
    }
}
