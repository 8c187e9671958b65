//! The engine under the pair and triplet losses.
//!
//! A loss is written as passes over the rows of the matrix of anchors and others ([`Matrix::scan`], [`Matrix::write`]); each row is
//! two slices, the values at the positives and at the negatives. The engine makes the rows block by block with matrix
//! products, and carries the gradients that a loss writes into them back to the embeddings with matrix products. The value and
//! the gradient are computed together, in the forward pass, and [`link`](link::link) hands the gradient out in the backward pass.
//!
//! Work is split into tiles of a fixed size and every sum has a fixed order, so results do not depend on the number of threads.
//! The engine runs on the host: embeddings on another device are copied there and their gradient back, which for (B, D) numbers
//! costs less than the matrix would.

mod back;
mod classes;
mod dense;
mod link;
mod lists;
mod product;
pub(crate) mod real;
mod row;
mod side;
pub(crate) mod simd;
mod source;

use std::ops::Range;
use std::sync::OnceLock;

use candle::{DType, Device, Result, Tensor, bail};

pub(crate) use classes::Class;
use dense::NONE;
use dense::{Backing, Dense};
pub(crate) use link::link;
use lists::Lists;
pub(crate) use real::Real;
use row::RowFn;
pub(crate) use row::{Row, Whom};
pub(crate) use side::Side;
pub(crate) use source::Source;

use crate::batch::{Batch, Input, Relation};
use crate::reducer::{Part, Plan, Reducer, Terms};
use phiz_mining::Measure;

/// Runs `$body` with `$t` bound to f32 or f64.
macro_rules! for_real {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            candle::DType::F32 => {
                #[allow(unused_imports)]
                use candle::WithDType as _;
                type $t = f32;
                $body
            }
            candle::DType::F64 => {
                #[allow(unused_imports)]
                use candle::WithDType as _;
                type $t = f64;
                $body
            }
            other => candle::bail!("unsupported type {other:?}, expected a float"),
        }
    };
}
pub(crate) use for_real;

/// How explicit tuples are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// As pairs; one that is named twice counts twice.
    Pairs,
    /// As a set of pairs.
    PairSet,
    /// As triplets: pairs are joined on the anchor.
    Triplets,
}

/// What a loss computed: its value, what its gradient is still to be multiplied by, and the gradients of its parameters.
pub(crate) struct Outcome {
    pub value: f64,
    pub scale: f64,
    pub parameters: Vec<Vec<f64>>,
}

impl Outcome {
    pub(crate) fn new((value, scale): (f64, f64)) -> Self {
        Self {
            value,
            scale,
            parameters: Vec::new(),
        }
    }
}

/// A loss over the rows of a matrix.
pub(crate) trait MatrixLoss: Sync {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome>;
}

enum Layout<T> {
    Dense(Dense<T>),
    Lists(Lists<T>),
}

/// The matrix, however it is held.
pub(crate) struct Matrix<T> {
    layout: Layout<T>,
    /// Rows.
    pub n: usize,
    /// Columns.
    pub m: usize,
    /// Labels of the anchors, in the caller's order.
    pub anchors: Option<Vec<i64>>,
    /// Rows and columns are the same items.
    pub own: bool,
    /// Positive `k` and negative `k` of a row belong to one triplet; otherwise every positive goes with every negative.
    pub aligned: bool,
    /// Whether larger values mean more alike.
    pub similarity: bool,
    want: bool,
}

impl<T: Real> Matrix<T> {
    /// Looks at every row; what `f` writes is dropped.
    pub(crate) fn scan<R: Send + Sync>(
        &mut self,
        whom: Whom,
        f: impl Fn(&mut Row<'_, T>) -> R + Sync,
    ) -> Vec<R> {
        let slots = Slots::new(self.n);
        self.pass(whom, false, &|row| slots.put(row.sorted, f(row)));
        slots.take()
    }

    /// Looks at every row for the last time; `f` leaves the gradients of the row's values in their place.
    pub(crate) fn write<R: Send + Sync>(
        &mut self,
        whom: Whom,
        f: impl Fn(&mut Row<'_, T>) -> R + Sync,
    ) -> Vec<R> {
        let slots = Slots::new(self.n);
        let want = self.want;
        self.pass(whom, want, &|row| slots.put(row.sorted, f(row)));
        slots.take()
    }

    fn pass(&mut self, whom: Whom, write: bool, f: RowFn<'_, T>) {
        match &mut self.layout {
            Layout::Dense(dense) => dense.pass(whom, write, f),
            Layout::Lists(lists) => lists.pass(write, f),
        }
    }

    /// Runs `f` on every class of a labelled batch that is compared with itself; `None` for any other kind.
    pub(crate) fn classes<R: Send + Sync>(
        &mut self,
        f: impl Fn(Class<'_, T>) -> R + Sync,
    ) -> Option<Vec<R>> {
        let (want, own) = (self.want, self.own);
        let slots = Slots::new(self.n);
        match &mut self.layout {
            Layout::Dense(dense) if own => {
                // Each class leaves its result where its first member lies.
                dense.classes(want, &|class| slots.put(class.members.start, f(class)));
                Some(slots.take())
            }
            _ => None,
        }
    }

    /// Whether the gradient is asked for at all.
    pub(crate) fn wants_gradient(&self) -> bool {
        self.want
    }

    /// Whether the positives and negatives come from labels.
    pub(crate) fn is_labelled(&self) -> bool {
        matches!(self.layout, Layout::Dense(_))
    }

    /// Numbers of positives and negatives of each row, in the order of the pass.
    pub(crate) fn counts(&mut self) -> Vec<(usize, usize)> {
        match &self.layout {
            Layout::Dense(d) => (0..d.n)
                .map(|i| {
                    let same = d.same[i].len();
                    (same - usize::from(d.own[i] != NONE), d.m - same)
                })
                .collect(),
            Layout::Lists(_) => self.scan(Whom::Others, |row| (row.pos.len(), row.neg.len())),
        }
    }

    pub(crate) fn plan(&self, reducer: &Reducer, terms: Terms) -> Result<Plan> {
        reducer.plan(terms, self.anchors.as_deref())
    }

    /// A loss with one term an anchor, in one pass: `f` writes the gradient of its term and returns it, or `None` for an anchor
    /// that has no term.
    pub(crate) fn anchors(
        &mut self,
        whom: Whom,
        reducer: &Reducer,
        f: impl Fn(&mut Row<'_, T>) -> Option<f64> + Sync,
    ) -> Result<Outcome> {
        let plan = self.plan(reducer, Terms::Anchors)?;
        let parts = self.write(whom, |row| {
            let Some(term) = f(row) else {
                clear(row);
                return Part::default();
            };
            finish_row(&plan, row, plan.term(term))
        });
        Ok(Outcome::new(plan.finish(total(parts))))
    }

    /// A loss with one term for each positive pair (or triplet): `f` writes the gradient of the sum of the terms that
    /// [`Plan::keeps`], and returns that sum and the counts.
    pub(crate) fn pairs(
        &mut self,
        terms: Terms,
        reducer: &Reducer,
        f: impl Fn(&mut Row<'_, T>, &Plan) -> Part + Sync,
    ) -> Result<Outcome> {
        let plan = self.plan(reducer, terms)?;
        let parts = self.write(Whom::Others, |row| {
            let part = f(row, &plan);
            finish_row(&plan, row, part)
        });
        Ok(Outcome::new(plan.finish(total(parts))))
    }

    fn gradients(&mut self, scale: f64) -> (Vec<T>, Option<Vec<T>>) {
        let scale = T::from_f64(scale);
        match &mut self.layout {
            Layout::Dense(d) => d.gradients(scale),
            Layout::Lists(l) => l.gradients(scale),
        }
    }
}

/// Results of rows, put by the thread that had the row and taken in order.
struct Slots<R>(Vec<OnceLock<R>>);

impl<R> Slots<R> {
    fn new(n: usize) -> Self {
        Self((0..n).map(|_| OnceLock::new()).collect())
    }

    fn put(&self, at: usize, result: R) {
        if let Some(slot) = self.0.get(at) {
            // Every row is visited once in a pass, so the slot is empty.
            let _ = slot.set(result);
        }
    }

    fn take(self) -> Vec<R> {
        self.0
            .into_iter()
            .filter_map(OnceLock::into_inner)
            .collect()
    }
}

/// The sum of parts, in order.
pub(crate) fn total(parts: Vec<Part>) -> Part {
    parts.into_iter().fold(Part::default(), Part::add)
}

/// Sets the gradient of a row to 0.
pub(crate) fn clear<T: Real>(row: &mut Row<'_, T>) {
    row.pos.fill(T::ZERO);
    row.neg.fill(T::ZERO);
}

/// Applies the factor that the reducer has for this anchor.
pub(crate) fn finish_row<T: Real>(plan: &Plan, row: &mut Row<'_, T>, part: Part) -> Part {
    let (factor, share) = plan.row(row.anchor, part);
    if factor == 0.0 || part.kept == 0.0 {
        clear(row);
    } else if factor != 1.0 {
        simd::scale(row.pos, T::from_f64(factor));
        simd::scale(row.neg, T::from_f64(factor));
    }
    share
}

/// Positions of `labels` in ascending order of label, equal ones in their own order.
fn order(labels: &[i64]) -> Vec<u32> {
    let mut perm: Vec<u32> = (0..labels.len() as u32).collect();
    perm.sort_by_key(|&i| labels[i as usize]);
    perm
}

/// Values on the host as `T`.
pub(crate) fn host<T: Real>(t: &Tensor) -> Result<Vec<T>> {
    t.detach()
        .to_device(&Device::Cpu)?
        .to_dtype(T::DTYPE)?
        .flatten_all()?
        .to_vec1()
}

fn build<T: Real>(
    batch: &Batch,
    measure: &Measure,
    reading: Reading,
    want: bool,
) -> Result<Matrix<T>> {
    let (n, m) = batch.dims();
    let backing = |rows: &[u32], cols: &[u32]| -> Result<Backing<T>> {
        Ok(match &batch.input {
            Input::Matrix(matrix) => {
                let values: Vec<T> = host(matrix)?;
                if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                    bail!(
                        "the matrix holds a value that is not finite in row {}, column {}",
                        at / m,
                        at % m
                    );
                }
                Backing::Given(values)
            }
            Input::Embeddings { own, reference } => {
                let d = own.dim(1)?;
                let x = Side::new(&host(own)?, d, rows, measure)?;
                if matches!(measure.kind, phiz_mining::MeasureKind::Snr) {
                    x.check_variance()?;
                }
                Backing::Embedded(Box::new(match reference {
                    None => Source::own(x, *measure),
                    Some(reference) => {
                        let y = Side::new(&host(reference)?, d, cols, measure).map_err(|e| {
                            candle::Error::Msg(format!("in the reference set: {e}"))
                        })?;
                        Source::two(x, y, *measure)
                    }
                }))
            }
        })
    };
    let mut aligned = false;
    let layout = match &batch.relation {
        Relation::Labels { rows, cols, own } => {
            let row_perm = order(rows);
            let (col_perm, col_labels) = match cols {
                None => (row_perm.clone(), rows),
                Some(cols) => (order(cols), cols),
            };
            let sorted: Vec<i64> = col_perm.iter().map(|&c| col_labels[c as usize]).collect();
            let same: Vec<Range<usize>> = row_perm
                .iter()
                .map(|&r| {
                    let label = rows[r as usize];
                    sorted.partition_point(|&l| l < label)..sorted.partition_point(|&l| l <= label)
                })
                .collect();
            let own: Vec<u32> = match (cols, own) {
                (None, _) => (0..n as u32).collect(),
                (Some(_), None) => vec![NONE; n],
                (Some(_), Some(list)) => {
                    let mut place = vec![NONE; m];
                    for (at, &c) in (0u32..).zip(&col_perm) {
                        place[c as usize] = at;
                    }
                    row_perm
                        .iter()
                        .map(|&r| list[r as usize].map_or(NONE, |c| place[c]))
                        .collect()
                }
            };
            let backing = backing(&row_perm, &col_perm)?;
            let dense = Dense::new(backing, (row_perm, col_perm), same, own, want);
            Layout::Dense(dense)
        }
        Relation::Pairs(pairs) => {
            let (mut pos, mut neg) = (pairs.positive.clone(), pairs.negative.clone());
            if reading == Reading::PairSet {
                unique(&mut pos);
                unique(&mut neg);
            }
            lists(&backing, (n, m), &pos, &neg, want)?
        }
        Relation::Triplets(triplets) => {
            let mut pos: Vec<(u32, u32)> = triplets.iter().map(|(a, p, _)| (a, p)).collect();
            let mut neg: Vec<(u32, u32)> = triplets.iter().map(|(a, _, n)| (a, n)).collect();
            if reading == Reading::PairSet {
                unique(&mut pos);
                unique(&mut neg);
            }
            aligned = reading == Reading::Triplets;
            lists(&backing, (n, m), &pos, &neg, want)?
        }
    };
    Ok(Matrix {
        layout,
        n,
        m,
        anchors: batch.labels().map(<[i64]>::to_vec),
        own: batch.is_own(),
        aligned,
        similarity: measure.is_similarity(),
        want,
    })
}

fn lists<T: Real>(
    backing: &impl Fn(&[u32], &[u32]) -> Result<Backing<T>>,
    (n, m): (usize, usize),
    pos: &[(u32, u32)],
    neg: &[(u32, u32)],
    want: bool,
) -> Result<Layout<T>> {
    let identity = |k: usize| (0..k as u32).collect::<Vec<_>>();
    let backing = backing(&identity(n), &identity(m))?;
    Ok(Layout::Lists(Lists::new(backing, (n, m), pos, neg, want)))
}

fn unique(pairs: &mut Vec<(u32, u32)>) {
    pairs.sort_unstable();
    pairs.dedup();
}

/// Evaluates a loss on a batch: a scalar that depends on the embeddings, the reference set, or the given matrix, and on
/// `parameters`.
pub(crate) fn evaluate(
    batch: &Batch,
    measure: &Measure,
    reading: Reading,
    loss: &impl MatrixLoss,
    parameters: &[&Tensor],
) -> Result<Tensor> {
    measure.check()?;
    let inputs: Vec<&Tensor> = match &batch.input {
        Input::Matrix(matrix) => vec![matrix],
        Input::Embeddings { own, reference } => std::iter::once(own).chain(reference).collect(),
    };
    let want = inputs.iter().chain(parameters).any(|t| t.track_op());
    let dtype = match inputs[0].dtype() {
        DType::F64 => DType::F64,
        DType::F32 | DType::F16 | DType::BF16 => DType::F32,
        other => bail!("embeddings must be f16, bf16, f32 or f64, got {other:?}"),
    };
    for_real!(dtype, T => {
        // Once into the pool for all passes: each entry from outside wakes a thread and waits for it.
        let (value, grads, parameter_grads) = rayon::scope(|_| {
            let mut matrix = build::<T>(batch, measure, reading, want)?;
            let outcome = loss.run(&mut matrix)?;
            let (dx, dy) = if want { matrix.gradients(outcome.scale) } else { Default::default() };
            Ok::<_, candle::Error>((outcome.value, std::iter::once(dx).chain(dy), outcome.parameters))
        })?;
        if !want {
            return Tensor::new(value, &Device::Cpu)?.to_dtype(dtype)?.to_device(inputs[0].device());
        }
        let mut terms = Vec::new();
        for (input, grad) in inputs.iter().zip(grads) {
            terms.push((*input, Tensor::from_vec(grad, input.shape(), &Device::Cpu)?));
        }
        for (parameter, grad) in parameters.iter().zip(parameter_grads) {
            terms.push((*parameter, Tensor::from_vec(grad, parameter.shape(), &Device::Cpu)?));
        }
        link(value, dtype, &terms)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Contrastive, NtXent};

    type Run<'a> = &'a dyn Fn(&mut Matrix<f64>) -> Result<Outcome>;

    /// A batch too large for one block gives what one block gives.
    #[test]
    fn blocks_equal_the_whole() -> Result<()> {
        let n = 300;
        let values: Vec<f64> = (0..n * 6).map(|i| ((i * i) as f64 * 0.37).sin()).collect();
        let x = Tensor::from_vec(values, (n, 6), &Device::Cpu)?;
        let labels: Vec<u32> = (0..n as u32).map(|i| i * 7 % 50).collect();
        let other = Batch::against(&x, &labels, &(&x * 0.5)?, &labels)?;
        for batch in [Batch::new(&x, &labels)?, other] {
            let run = |block: usize, loss: Run| {
                let mut matrix = build::<f64>(&batch, &Measure::L2, Reading::Pairs, true)?;
                if let Layout::Dense(dense) = &mut matrix.layout {
                    dense.block = block;
                }
                let outcome = loss(&mut matrix)?;
                let (dx, dy) = matrix.gradients(outcome.scale);
                let mut all = vec![outcome.value];
                all.extend(dx);
                all.extend(dy.unwrap_or_default());
                Ok::<_, candle::Error>(all)
            };
            let (a, b) = (Contrastive::default(), NtXent::default());
            let losses: [Run; 2] = [&|m| a.run(m), &|m| b.run(m)];
            for loss in losses {
                for (p, q) in run(128, loss)?.iter().zip(run(n, loss)?) {
                    assert!((p - q).abs() <= 1e-12 * q.abs().max(1.0), "{p} {q}");
                }
            }
        }
        Ok(())
    }
}
