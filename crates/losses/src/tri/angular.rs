//! The angular loss.

use candle::{Result, Tensor, bail};
use phiz_kernels::safe::normalize_last_dim;

use super::joined::Roles;
use crate::batch::{Batch, Input, MetricLoss, Relation};
use crate::engine::{
    Class, Matrix, MatrixLoss, Outcome, Reading, Real, evaluate, host, simd, total,
};
use crate::heads::wide;
use crate::ops::{check_finite, constant, indices, zero};
use crate::reducer::{Part, Plan, Reducer, Terms};
use phiz_mining::Measure;

/// Angular loss (Wang, Zhou, Wen, Liu, Lin, ICCV 2017), the N-pair form on unit-length embeddings: for each positive pair
///
/// ```text
/// log( 1 + sum_n e^(4 tan^2 alpha (a + p).n - 2 (1 + tan^2 alpha) a.p) )
/// ```
///
/// over all items of other classes, whatever negatives a miner names. One term an ordered positive pair. O(B^2 (D + |C|)) time; with
/// explicit tuples O(P B D) for their P positive pairs, and they need labels. All of `a`, `p` and `n` are normalised: pytorch-metric-learning takes `n` as given, so that its loss depends on the scale
/// of the embeddings; on unit-length input both are the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Angular {
    /// In degrees. Default 40.
    pub alpha: f64,
    /// Default [`Reducer::Mean`].
    pub reducer: Reducer,
}

impl Default for Angular {
    fn default() -> Self {
        Self {
            alpha: 40.0,
            reducer: Reducer::Mean,
        }
    }
}

impl MetricLoss for Angular {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        check_finite("alpha of the angular loss", self.alpha)?;
        if let (Relation::Pairs(_) | Relation::Triplets(_), Input::Embeddings { own, reference }) =
            (&batch.relation, &batch.input)
        {
            return self.listed(batch, own, reference.as_ref());
        }
        let (joined, roles) = Roles::of(batch)?;
        let run = Run {
            config: self,
            roles,
        };
        evaluate(&joined, &Measure::COSINE, Reading::Pairs, &run, &[])
    }
}

impl Angular {
    /// The factors of `(a + p).n` and of `-a.p`.
    fn factors(&self) -> (f64, f64) {
        let square = self.alpha.to_radians().tan().powi(2);
        (4.0 * square, 2.0 * (1.0 + square))
    }

    /// Explicit positive pairs, against every item of another class: one row a pair, `(a + p, a.p)`, whose product with `(n, -c)`
    /// is the exponent.
    fn listed(&self, batch: &Batch, own: &Tensor, reference: Option<&Tensor>) -> Result<Tensor> {
        let pairs: Vec<(u32, u32)> = match &batch.relation {
            Relation::Pairs(pairs) if pairs.negative.is_empty() => Vec::new(),
            Relation::Pairs(pairs) => pairs.positive.clone(),
            Relation::Triplets(triplets) => triplets.iter().map(|(a, p, _)| (a, p)).collect(),
            Relation::Labels { .. } => Vec::new(),
        };
        let Some(labels) = batch.labels() else {
            bail!(
                "the angular loss takes every item of another class as a negative: add labels to the tuples"
            );
        };
        if reference.is_some() {
            bail!(
                "the angular loss takes every reference of another class as a negative: give the labels of the references in place of tuples"
            );
        }
        let x = wide(own)?;
        if let Some(i) = host::<f64>(&x)?.iter().position(|v| !v.is_finite()) {
            bail!(
                "embedding {i} holds a value that is not finite",
                i = i / x.dim(1)?
            );
        }
        if pairs.is_empty() {
            return zero(&[&x]);
        }
        let (by_neg, by_pos) = self.factors();
        let unit = normalize_last_dim(&x.contiguous()?)?;
        let take = |which: Vec<u32>| unit.index_select(&indices(which, &unit)?, 0);
        let anchors: Vec<u32> = pairs.iter().map(|pair| pair.0).collect();
        let a = take(anchors.clone())?;
        let p = take(pairs.iter().map(|pair| pair.1).collect())?;
        let rows = Tensor::cat(&[(&a + &p)?, (a * p)?.sum_keepdim(1)?], 1)?;
        let last = constant(vec![-by_pos / by_neg; x.dim(0)?], (x.dim(0)?, 1), &x)?;
        let columns = Tensor::cat(&[&unit, &last], 1)?;
        let of_pair: Vec<i64> = anchors.iter().map(|&a| labels[a as usize]).collect();
        let batch = Batch::against(&rows, &of_pair, &columns, labels)?;
        evaluate(&batch, &Measure::DOT, Reading::Pairs, &Listed(self), &[])
    }
}

/// A row for each positive pair.
struct Listed<'a>(&'a Angular);

impl MatrixLoss for Listed<'_> {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let by_neg = T::from_f64(self.0.factors().0);
        matrix.pairs(Terms::Triplets, &self.0.reducer, |row, plan| {
            row.pos.fill(T::ZERO);
            let (loss, share) = simd::softplus(simd::softmax(row.neg, by_neg));
            let term = plan.term(loss.to_f64());
            let slope = if term.kept > 0.0 {
                by_neg * share
            } else {
                T::ZERO
            };
            simd::scale(row.neg, slope);
            term
        })
    }
}

struct Run<'a> {
    config: &'a Angular,
    roles: Roles,
}

impl MatrixLoss for Run<'_> {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        // A term pulls on the rows of both its items, so it has no mean by anchor.
        let plan = matrix.plan(&self.config.reducer, Terms::Triplets)?;
        if !matrix.counts().iter().any(|c| c.1 > 0) {
            return Ok(Outcome::new((0.0, 0.0)));
        }
        let parts = matrix.classes(|mut class| {
            let part = self.class(&mut class, &plan);
            let (factor, part) = plan.row(class.anchor, part);
            if factor != 1.0 {
                simd::scale(class.grads, T::from_f64(factor));
            }
            part
        });
        match parts {
            Some(parts) => Ok(Outcome::new(plan.finish(total(parts)))),
            None => bail!(
                "the angular loss compares positives with negatives, which a matrix of anchors against references does not hold"
            ),
        }
    }
}

impl Run<'_> {
    fn class<T: Real>(&self, class: &mut Class<'_, T>, plan: &Plan) -> Part {
        let (by_neg, by_pos) = self.config.factors();
        let (by_neg, by_pos) = (T::from_f64(by_neg), T::from_f64(by_pos));
        let (k, m, first, values) = (
            class.members.len(),
            class.m,
            class.members.start,
            class.values,
        );
        let [before, after] = class.negatives();
        let low = before.len();
        // Negative infinity for the columns that cannot be negatives, so that they have no share.
        let bias: Vec<T> = before
            .clone()
            .chain(after.clone())
            .map(|c| {
                if self.roles.other(class, c) {
                    T::ZERO
                } else {
                    T::NEG_INFINITY
                }
            })
            .collect();
        let mut sums = vec![T::ZERO; bias.len()];
        let mut part = Part::default();
        for a in 0..k {
            for p in a + 1..k {
                // The sum over negatives is the same for both orders.
                let orders = [(a, p), (p, a)].map(|(a, p)| self.roles.pair(class, a, p));
                if orders == [false; 2] {
                    continue;
                }
                let (x, y) = (&values[a * m..(a + 1) * m], &values[p * m..(p + 1) * m]);
                let (head, tail) = sums.split_at_mut(low);
                for (out, range, bias) in
                    [(head, &before, &bias[..low]), (tail, &after, &bias[low..])]
                {
                    let (x, y) = (&x[range.clone()], &y[range.clone()]);
                    simd::run(
                        #[inline(always)]
                        || {
                            let lines = x.iter().zip(y).zip(bias);
                            for (o, ((&x, &y), &bias)) in out.iter_mut().zip(lines) {
                                *o = (x + y) + bias;
                            }
                        },
                    );
                }
                let all = simd::softmax(&mut sums, by_neg);
                let mut slope = T::ZERO;
                for (at, own) in [
                    (a * m + first + p, x[first + p]),
                    (p * m + first + a, y[first + a]),
                ]
                .into_iter()
                .zip(orders)
                .filter_map(|(pair, is)| is.then_some(pair))
                {
                    let (loss, share) = simd::softplus(all - by_pos * own);
                    let term = plan.term(loss.to_f64());
                    part = part.add(term);
                    if term.kept > 0.0 {
                        slope += by_neg * share;
                        class.grads[at] -= by_pos * share;
                    }
                }
                if slope != T::ZERO {
                    let (gx, gy) = class.grads_of(a, p);
                    for g in [gx, gy] {
                        simd::axpy(&mut g[before.clone()], slope, &sums[..low]);
                        simd::axpy(&mut g[after.clone()], slope, &sums[low..]);
                    }
                }
            }
        }
        part
    }
}
