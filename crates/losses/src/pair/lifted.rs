//! The lifted structure loss and its generalised form.

use candle::{Result, Tensor, bail};

use super::sign;
use crate::batch::{Batch, MetricLoss};
use crate::distance::Measure;
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, Whom, evaluate, simd, total};
use crate::ops::check_finite;
use crate::reducer::{Part, Reducer, Terms};

/// Lifted structure loss (Oh Song, Xiang, Jegelka, Savarese, CVPR 2016): for each positive pair
///
/// ```text
/// 1/2 [ log( sum_{n of a} e^(neg_margin - d_an) + sum_{n of p} e^(neg_margin - d_pn) ) + d_ap - pos_margin ]_+^2
/// ```
///
/// (signs reversed for a similarity). Without negatives the logarithm counts as 0; a batch without any positive or without any
/// negative pair gives 0. One term an ordered positive pair. O(B^2 D) time: the sums are taken once an anchor and joined for
/// each pair. Not for a reference set: the negatives of `p` are compared with the batch.
#[derive(Debug, Clone, PartialEq)]
pub struct LiftedStructure {
    /// Default 1.
    pub neg_margin: f64,
    /// Default 0.
    pub pos_margin: f64,
    /// Default [`Measure::L2`].
    pub measure: Measure,
    /// Default [`Reducer::Mean`].
    pub reducer: Reducer,
}

impl Default for LiftedStructure {
    fn default() -> Self {
        Self {
            neg_margin: 1.0,
            pos_margin: 0.0,
            measure: Measure::L2,
            reducer: Reducer::Mean,
        }
    }
}

impl MetricLoss for LiftedStructure {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        check_finite("the negative margin", self.neg_margin)?;
        check_finite("the positive margin", self.pos_margin)?;
        if !batch.is_own() {
            bail!(
                "the lifted structure loss compares the negatives of both items of a pair with the batch: it takes no reference set"
            );
        }
        evaluate(batch, &self.measure, Reading::Pairs, self, &[])
    }
}

impl MatrixLoss for LiftedStructure {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let plan = matrix.plan(&self.reducer, Terms::Pairs)?;
        let s = sign::<T>(matrix.similarity);
        let (shift, own) = (
            (s * T::from_f64(self.neg_margin)).to_f64(),
            (s * T::from_f64(self.pos_margin)).to_f64(),
        );
        let counts = matrix.counts();
        if !counts.iter().any(|c| c.0 > 0) || !counts.iter().any(|c| c.1 > 0) {
            return Ok(Outcome::new((0.0, 0.0)));
        }
        let sign = s.to_f64();
        let rows = matrix.scan(Whom::Others, |row| {
            let sum = simd::log_sum_exp(row.neg, -s).to_f64() + shift;
            let pairs: Vec<(usize, f64)> = row
                .pos
                .iter()
                .enumerate()
                .map(|(k, v)| (row.cols.sorted_positive(k), sign * v.to_f64() - own))
                .collect();
            (row.anchor, sum, pairs)
        });
        // The pull of every row's negatives, and of its pairs.
        let mut pulls = vec![0.0; rows.len()];
        let mut pair_pulls = Vec::with_capacity(rows.len());
        let mut parts = Vec::with_capacity(rows.len());
        for (a, (anchor, sum, pairs)) in rows.iter().enumerate() {
            let (mut part, mut slopes) = (Part::default(), Vec::with_capacity(pairs.len()));
            for &(p, z) in pairs {
                let (all, share) = simd::log_add_exp(*sum, rows[p].1);
                let none = all == f64::NEG_INFINITY;
                let active = (z + if none { 0.0 } else { all }).max(0.0);
                let term = plan.term(0.5 * active * active);
                let slope = if term.kept > 0.0 { active } else { 0.0 };
                slopes.push((slope, if none { 0.0 } else { share }));
                part = part.add(term);
            }
            let (factor, share) = plan.row(*anchor, part);
            parts.push(share);
            for (slope, &(p, _)) in slopes.iter_mut().zip(pairs) {
                slope.0 *= factor;
                pulls[a] += slope.0 * slope.1;
                if rows[p].1 != f64::NEG_INFINITY {
                    pulls[p] += slope.0 * (1.0 - slope.1);
                }
            }
            pair_pulls.push(slopes);
        }
        let outcome = Outcome::new(plan.finish(total(parts)));
        if matrix.wants_gradient() {
            matrix.write(Whom::Others, |row| {
                simd::softmax(row.neg, -s);
                simd::scale(row.neg, -(s * T::from_f64(pulls[row.sorted])));
                for (v, &(slope, _)) in row.pos.iter_mut().zip(&pair_pulls[row.sorted]) {
                    *v = s * T::from_f64(slope);
                }
            });
        }
        Ok(outcome)
    }
}

/// Generalised lifted structure loss (Hermans, Beyer, Leibe, arXiv 1703.07737): for each anchor
///
/// ```text
/// [ log sum_p e^(d_ap - pos_margin) + log sum_n e^(neg_margin - d_an) ]_+
/// ```
///
/// (signs reversed for a similarity; an empty sum counts as 0). One term an anchor. O(B^2 D) time.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneralizedLiftedStructure {
    /// Default 1.
    pub neg_margin: f64,
    /// Default 0.
    pub pos_margin: f64,
    /// Default [`Measure::L2`].
    pub measure: Measure,
    /// Default [`Reducer::Mean`].
    pub reducer: Reducer,
}

impl Default for GeneralizedLiftedStructure {
    fn default() -> Self {
        Self {
            neg_margin: 1.0,
            pos_margin: 0.0,
            measure: Measure::L2,
            reducer: Reducer::Mean,
        }
    }
}

impl MetricLoss for GeneralizedLiftedStructure {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        check_finite("the negative margin", self.neg_margin)?;
        check_finite("the positive margin", self.pos_margin)?;
        evaluate(batch, &self.measure, Reading::PairSet, self, &[])
    }
}

impl MatrixLoss for GeneralizedLiftedStructure {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let s = sign::<T>(matrix.similarity);
        let (pos, neg) = (T::from_f64(self.pos_margin), T::from_f64(self.neg_margin));
        matrix.anchors(Whom::Others, &self.reducer, |row| {
            let mut z = T::ZERO;
            if !row.pos.is_empty() {
                z += simd::softmax(row.pos, s) - s * pos;
            }
            if !row.neg.is_empty() {
                z += simd::softmax(row.neg, -s) + s * neg;
            }
            let slope = if z > T::ZERO { s } else { T::ZERO };
            simd::scale(row.pos, slope);
            simd::scale(row.neg, -slope);
            Some(z.larger(T::ZERO).to_f64())
        })
    }
}
