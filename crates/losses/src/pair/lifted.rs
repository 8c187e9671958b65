//! The lifted structure loss and its generalised form.

use std::sync::OnceLock;

use candle::{Result, Tensor, bail};

use super::sign;
use crate::batch::{Batch, MetricLoss};
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, Row, Whom, evaluate, simd, total};
use crate::ops::check_finite;
use crate::reducer::{Part, Reducer, Terms};
use phiz_mining::{Measure, MeasureKind};

/// Lifted structure loss (Oh Song, Xiang, Jegelka, Savarese, CVPR 2016): for each positive pair
///
/// ```text
/// 1/2 [ log( sum_{n of a} e^(neg_margin - d_an) + sum_{n of p} e^(neg_margin - d_pn) ) + d_ap - pos_margin ]_+^2
/// ```
///
/// (signs reversed for a similarity). Without negatives the logarithm counts as 0; a batch without any positive or without any
/// negative pair gives 0. One term an ordered positive pair. O(B^2 D) time: the sums are taken once an anchor and joined for
/// each pair. Where there is a reference set, the negatives of `p`, a reference, are the anchors of other classes (of explicit pairs:
/// those that name `p` as a negative).
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
        let mut run = Run {
            config: self,
            columns: None,
        };
        if !batch.is_own() {
            if self.measure.kind == MeasureKind::Snr {
                bail!(
                    "the lifted structure loss compares references with anchors as well: with a reference set it needs a measure that is the same both ways"
                );
            }
            // The sums of the references' negatives, from the matrix the other way round.
            let sums = Sums {
                config: self,
                found: OnceLock::new(),
            };
            let flipped = batch.transposed()?;
            evaluate(&flipped, &self.measure, Reading::Pairs, &sums, &[])?;
            run.columns = sums.found.into_inner();
        }
        evaluate(batch, &self.measure, Reading::Pairs, &run, &[])
    }
}

impl LiftedStructure {
    /// `log sum_n e^(neg_margin - d_n)` of one row.
    fn sum<T: Real>(&self, row: &Row<'_, T>, s: T) -> f64 {
        simd::log_sum_exp(row.neg, -s).to_f64() + s.to_f64() * self.neg_margin
    }
}

/// Finds the sums of all rows, by the caller's row.
struct Sums<'a> {
    config: &'a LiftedStructure,
    found: OnceLock<Vec<f64>>,
}

impl MatrixLoss for Sums<'_> {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let s = sign::<T>(matrix.similarity);
        let mut found = vec![f64::NEG_INFINITY; matrix.n];
        for (row, sum) in matrix.scan(Whom::Others, |row| (row.anchor, self.config.sum(row, s))) {
            found[row] = sum;
        }
        // A loss runs once.
        let _ = self.found.set(found);
        Ok(Outcome::new((0.0, 0.0)))
    }
}

struct Run<'a> {
    config: &'a LiftedStructure,
    /// The sums of the references, where there is a reference set.
    columns: Option<Vec<f64>>,
}

impl MatrixLoss for Run<'_> {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let plan = matrix.plan(&self.config.reducer, Terms::Pairs)?;
        let s = sign::<T>(matrix.similarity);
        let (sign, own) = (s.to_f64(), s.to_f64() * self.config.pos_margin);
        let counts = matrix.counts();
        if !counts.iter().any(|c| c.0 > 0) || !counts.iter().any(|c| c.1 > 0) {
            return Ok(Outcome::new((0.0, 0.0)));
        }
        let rows = matrix.scan(Whom::Others, |row| {
            let pairs: Vec<(usize, f64)> = row
                .pos
                .iter()
                .enumerate()
                .map(|(k, v)| (row.cols.positive(k), sign * v.to_f64() - own))
                .collect();
            (row.anchor, self.config.sum(row, s), pairs)
        });
        let mut of_rows = vec![f64::NEG_INFINITY; matrix.n];
        for (row, sum, _) in &rows {
            of_rows[*row] = *sum;
        }
        let of_columns = self.columns.as_ref().unwrap_or(&of_rows);
        // The pull of the negatives of every row and of every column, and of the pairs of every row.
        let (mut by_row, mut by_column) = (vec![0.0; matrix.n], vec![0.0; matrix.m]);
        let mut pair_pulls = Vec::with_capacity(rows.len());
        let mut parts = Vec::with_capacity(rows.len());
        for (anchor, sum, pairs) in &rows {
            let (mut part, mut slopes) = (Part::default(), Vec::with_capacity(pairs.len()));
            for &(p, z) in pairs {
                let (all, share) = simd::log_add_exp(*sum, of_columns[p]);
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
                by_row[*anchor] += slope.0 * slope.1;
                if of_columns[p] != f64::NEG_INFINITY {
                    by_column[p] += slope.0 * (1.0 - slope.1);
                }
            }
            pair_pulls.push(slopes);
        }
        let outcome = Outcome::new(plan.finish(total(parts)));
        if matrix.wants_gradient() {
            if self.columns.is_none() {
                by_row.iter_mut().zip(&by_column).for_each(|(r, c)| *r += c);
            }
            let shift = sign * self.config.neg_margin;
            matrix.write(Whom::Others, |row| {
                // What the columns' sums pull on, where they are not the rows'.
                let mut others = Vec::new();
                if let Some(sums) = &self.columns {
                    others.extend(row.neg.iter().enumerate().map(|(k, v)| {
                        let column = row.cols.negative(k);
                        let pull = by_column[column];
                        if pull == 0.0 {
                            return T::ZERO;
                        }
                        T::from_f64(sign * pull * (shift - sign * v.to_f64() - sums[column]).exp())
                    }));
                }
                simd::softmax(row.neg, -s);
                simd::scale(row.neg, -(s * T::from_f64(by_row[row.anchor])));
                for (v, &other) in row.neg.iter_mut().zip(&others) {
                    *v -= other;
                }
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
