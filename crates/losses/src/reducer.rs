//! From the terms of a loss to one number: the reducers of the pair and triplet losses.
//!
//! A loss has *terms*: one per anchor, per pair or per triplet (each loss says which). A reducer weighs them with constants,
//! so the gradient of the result is the weighted sum of the gradients of the terms; thresholds are comparisons, not
//! differentiated through. No term at all, or none past a threshold, gives exactly 0.

use candle::{Result, Tensor, bail};

use crate::label::{Label, keys};
use crate::ops::{constant, host};

/// How the terms `l_i` of a loss become a scalar.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Reducer {
    /// `(1/N) sum_i l_i`.
    Mean,
    /// `sum_i l_i`.
    Sum,
    /// Mean over the terms above 0, `Threshold { low: Some(0), high: None }`: pytorch-metric-learning's `AvgNonZeroReducer`.
    AvgNonZero,
    /// Mean over the terms strictly between the limits.
    Threshold {
        /// Terms at or below are left out.
        low: Option<f64>,
        /// Terms at or above are left out.
        high: Option<f64>,
    },
    /// `(1/N) sum_i w_i l_i` with the weight of the class of the term's anchor: entry `label` of the list.
    ClassWeighted(Vec<f64>),
    /// `(1/divisor) sum_i l_i`; 0 if the divisor is 0.
    Divisor(f64),
    /// Mean over the pairs of each anchor (0 for an anchor without any), and these means reduced by the inner reducer.
    /// Losses with one term an anchor use the inner reducer directly; triplet losses refuse it.
    PerAnchor(Box<Reducer>),
}

/// What the terms of a loss belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terms {
    Anchors,
    Pairs,
    Triplets,
}

/// Sum, number past the threshold, and number of some terms.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Part {
    pub sum: f64,
    pub kept: f64,
    pub total: f64,
}

impl Part {
    pub(crate) fn add(self, other: Part) -> Part {
        Part {
            sum: self.sum + other.sum,
            kept: self.kept + other.kept,
            total: self.total + other.total,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outer {
    Total,
    Kept,
    By(f64),
}

/// A reducer made ready for one batch: gates on single terms, a factor for each anchor, a last factor for everything.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// NaN stands for no limit: no comparison with it holds, so that a term that is NaN or infinite is not hidden either.
    low: f64,
    high: f64,
    classes: Option<Vec<f64>>,
    per_anchor: bool,
    outer: Outer,
}

impl Reducer {
    /// `anchors` are the labels of the anchors, needed by class weights alone.
    pub(crate) fn plan(&self, terms: Terms, anchors: Option<&[i64]>) -> Result<Plan> {
        let mut plan = Plan {
            low: f64::NAN,
            high: f64::NAN,
            classes: None,
            per_anchor: false,
            outer: Outer::Total,
        };
        match self {
            Reducer::Mean => {}
            Reducer::Sum => plan.outer = Outer::By(1.0),
            Reducer::AvgNonZero => {
                plan.low = 0.0;
                plan.outer = Outer::Kept;
            }
            Reducer::Threshold { low, high } => {
                if low.is_none() && high.is_none() {
                    bail!("a threshold reducer needs a low or a high limit");
                }
                for limit in [low, high].into_iter().flatten() {
                    if limit.is_nan() {
                        bail!("the limits of a threshold reducer must be numbers");
                    }
                }
                plan.low = low.unwrap_or(f64::NAN);
                plan.high = high.unwrap_or(f64::NAN);
                plan.outer = Outer::Kept;
            }
            Reducer::ClassWeighted(weights) => {
                let Some(labels) = anchors else {
                    bail!("class weights need labels, and this batch was given as tuples only");
                };
                let mut list = Vec::with_capacity(labels.len());
                for (row, &label) in labels.iter().enumerate() {
                    match usize::try_from(label).ok().and_then(|l| weights.get(l)) {
                        Some(&w) => list.push(w),
                        None => bail!(
                            "label {label} of row {row} has none of the {} class weights",
                            weights.len()
                        ),
                    }
                }
                plan.classes = Some(list);
            }
            Reducer::Divisor(divisor) => {
                plan.outer = Outer::By(if *divisor == 0.0 { 0.0 } else { 1.0 / divisor });
            }
            Reducer::PerAnchor(inner) => {
                if terms == Terms::Triplets {
                    bail!("a per-anchor reducer averages pairs; this loss has triplets");
                }
                if matches!(**inner, Reducer::PerAnchor(_)) {
                    bail!("a per-anchor reducer cannot hold another one");
                }
                plan = inner.plan(Terms::Anchors, anchors)?;
                plan.per_anchor = terms == Terms::Pairs;
            }
        }
        Ok(plan)
    }

    /// Reduces one term a row; differentiable.
    ///
    /// # Shapes
    /// `losses` (N), `labels` N (used by class weights); result: scalar.
    ///
    /// # Errors
    /// When the shapes disagree, or a label has no class weight.
    pub fn reduce<L: Label>(&self, losses: &Tensor, labels: Option<&[L]>) -> Result<Tensor> {
        let n = losses.dims1()?;
        if let Some(labels) = labels
            && labels.len() != n
        {
            bail!("{n} losses but {} labels", labels.len());
        }
        let plan = self.plan(Terms::Anchors, labels.map(keys).as_deref())?;
        let values = host(losses)?;
        let mut weights = Vec::with_capacity(n);
        let mut all = Part::default();
        for (row, &value) in values.iter().enumerate() {
            let part = plan.term(value);
            let (factor, part) = plan.row(row, part);
            weights.push(if part.kept > 0.0 { factor } else { 0.0 });
            all = all.add(part);
        }
        let (_, scale) = plan.finish(all);
        let weights = weights.into_iter().map(|w| w * scale).collect();
        (losses * constant(weights, n, losses)?)?.sum_all()
    }
}

impl Plan {
    /// Whether a term counts by its value. Always, where the threshold is on the mean of an anchor.
    #[inline(always)]
    pub(crate) fn keeps(&self, term: f64) -> bool {
        self.per_anchor || self.gate(term)
    }

    /// Whether every term counts, whatever its value.
    pub(crate) fn keeps_all(&self) -> bool {
        self.per_anchor || (self.low.is_nan() && self.high.is_nan())
    }

    /// Whether exactly the terms above 0 count.
    pub(crate) fn keeps_above_zero(&self) -> bool {
        !self.per_anchor && self.low == 0.0 && self.high.is_nan()
    }

    #[inline(always)]
    #[allow(
        clippy::neg_cmp_op_on_partial_ord,
        reason = "NaN, no limit and not a number alike, passes"
    )]
    fn gate(&self, term: f64) -> bool {
        !(term <= self.low) && !(term >= self.high)
    }

    /// The only term of an anchor.
    pub(crate) fn term(&self, value: f64) -> Part {
        let kept = self.keeps(value);
        Part {
            sum: if kept { value } else { 0.0 },
            kept: if kept { 1.0 } else { 0.0 },
            total: 1.0,
        }
    }

    /// From the terms of anchor `row` to its factor (of the gradient of their sum) and its share of the total.
    pub(crate) fn row(&self, row: usize, part: Part) -> (f64, Part) {
        let class = self
            .classes
            .as_ref()
            .map_or(1.0, |w| w.get(row).copied().unwrap_or(1.0));
        if !self.per_anchor {
            return (
                class,
                Part {
                    sum: part.sum * class,
                    ..part
                },
            );
        }
        let mean = if part.total == 0.0 {
            0.0
        } else {
            part.sum / part.total
        };
        if !self.gate(mean) {
            return (
                0.0,
                Part {
                    total: 1.0,
                    ..Part::default()
                },
            );
        }
        (
            if part.total == 0.0 {
                0.0
            } else {
                class / part.total
            },
            Part {
                sum: mean * class,
                kept: 1.0,
                total: 1.0,
            },
        )
    }

    /// The value, and what the gradient of the sum is still to be multiplied by.
    pub(crate) fn finish(&self, all: Part) -> (f64, f64) {
        let scale = match self.outer {
            Outer::By(factor) => factor,
            Outer::Total if all.total > 0.0 => 1.0 / all.total,
            Outer::Kept if all.kept > 0.0 => 1.0 / all.kept,
            _ => 0.0,
        };
        if scale == 0.0 {
            return (0.0, 0.0);
        }
        (all.sum * scale, scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::{Device, Var};

    #[test]
    fn reducers_weigh_terms() -> Result<()> {
        let losses = Var::new(&[0.0f64, 1.0, 3.0, 8.0], &Device::Cpu)?;
        let labels = [0u32, 1, 1, 2];
        let cases: [(Reducer, f64, [f64; 4]); 7] = [
            (Reducer::Mean, 3.0, [0.25; 4]),
            (Reducer::Sum, 12.0, [1.0; 4]),
            (Reducer::AvgNonZero, 4.0, [0.0, 1. / 3., 1. / 3., 1. / 3.]),
            (
                Reducer::Threshold {
                    low: Some(0.5),
                    high: Some(5.0),
                },
                2.0,
                [0.0, 0.5, 0.5, 0.0],
            ),
            (
                Reducer::ClassWeighted(vec![1.0, 2.0, 0.5]),
                3.0,
                [0.25, 0.5, 0.5, 0.125],
            ),
            (Reducer::Divisor(6.0), 2.0, [1.0 / 6.0; 4]),
            (Reducer::PerAnchor(Box::new(Reducer::Sum)), 12.0, [1.0; 4]),
        ];
        for (reducer, value, grad) in cases {
            let loss = reducer.reduce(&losses, Some(&labels))?;
            assert!(
                (loss.to_scalar::<f64>()? - value).abs() < 1e-12,
                "{reducer:?}"
            );
            let store = loss.backward()?;
            let g = store.get(&losses).unwrap().to_vec1::<f64>()?;
            for (a, b) in g.iter().zip(grad) {
                assert!((a - b).abs() < 1e-12, "{reducer:?} {g:?}");
            }
        }
        let short = Reducer::ClassWeighted(vec![1.0]).reduce(&losses, Some(&labels));
        assert!(short.unwrap_err().to_string().contains("label 1 of row 1"));
        Ok(())
    }
}
