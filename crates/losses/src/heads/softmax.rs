//! One row of a softmax head: a target that a margin has changed, negatives that a rule may change, cross-entropy and its gradient.

use candle::DType;
use phiz_kernels::Real;
use phiz_kernels::row_loss::{RowLoss, RowValue, exp_sum, largest};

/// The target of a row after its margin.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Target {
    /// What stands in place of the cosine.
    pub value: f64,
    /// Its derivative by the cosine.
    pub slope: f64,
    /// Its derivative by the row's parameter.
    pub by_parameter: f64,
    /// A loss added to the row's, with its derivative by the parameter.
    pub extra: RowValue,
}

impl Target {
    pub(crate) fn new(value: f64, slope: f64) -> Self {
        Self {
            value,
            slope,
            ..Self::default()
        }
    }
}

/// What distinguishes one softmax head from another.
pub(crate) trait Rule: Send + Sync + 'static {
    /// s, above 0.
    fn scale(&self) -> f64;

    /// The target from the cosine. Where `1 - cosine^2` is not above `noise` it is nothing but rounding.
    fn target(&self, row: usize, cosine: f64, noise: f64, parameter: f64) -> Target;

    /// Changes the cosines of a row into negatives (whatever happens to the target's own entry is overwritten), writing the
    /// derivative of each to `slopes`; `cosine` is the target's. Says whether it did anything.
    #[inline(always)]
    fn negatives<T: Real>(
        &self,
        _cosine: f64,
        _target: &Target,
        _cosines: &mut [T],
        _slopes: &mut [T],
    ) -> bool {
        false
    }
}

/// A softmax head's row function.
pub(crate) struct Softmax<R> {
    pub labels: Vec<u32>,
    pub rule: R,
}

/// What cross-entropy leaves behind.
pub(crate) struct CrossEntropy {
    pub loss: f64,
    /// One less the probability of the target, without cancellation.
    pub miss: f64,
}

/// Cross-entropy of the logits `scale * x` with the target's entry replaced by `scale * target`. Leaves the probabilities in `x`, the
/// target's entry 0.
#[inline(always)]
pub(crate) fn cross_entropy_row<T: Real>(
    x: &mut [T],
    label: usize,
    scale: f64,
    target: f64,
) -> CrossEntropy {
    // In the type of the row: the same rounding as the entries have.
    let target = T::from_f64(target);
    let (before, after) = x.split_at_mut(label);
    let after = &mut after[1..];
    let (a, b) = (largest(before), largest(after));
    let others = if a > b { a } else { b };
    let top = if others > target { others } else { target };
    let (s, shift) = (T::from_f64(scale), T::from_f64(scale) * top);
    let rest = exp_sum(before, s, shift) + exp_sum(after, s, shift);
    let gap = (shift - s * target).to_f64();
    let rest = rest.to_f64();
    let own = (-gap).exp();
    let total = own + rest;
    let share = T::from_f64(1.0 / total);
    x.iter_mut().for_each(|p| *p *= share);
    x[label] = T::ZERO;
    let log = if gap == 0.0 { rest.ln_1p() } else { total.ln() };
    CrossEntropy {
        loss: gap + log,
        miss: rest / total,
    }
}

/// Where `1 - c^2` is rounding, in the type of the row.
#[inline(always)]
pub(crate) fn noise<T: Real>() -> f64 {
    if T::DTYPE == DType::F64 { 1e-14 } else { 1e-6 }
}

impl<R: Rule> RowLoss for Softmax<R> {
    #[inline(always)]
    fn row<T: Real>(&self, i: usize, parameter: f64, x: &mut [T], slopes: &mut [T]) -> RowValue {
        let label = self.labels[i] as usize;
        let scale = self.rule.scale();
        let cosine = x[label].to_f64();
        let target = self.rule.target(i, cosine, noise::<T>(), parameter);
        let changed = self.rule.negatives(cosine, &target, x, slopes);
        let CrossEntropy { loss, miss } = cross_entropy_row(x, label, scale, target.value);
        let s = T::from_f64(scale);
        if changed {
            x.iter_mut()
                .zip(&*slopes)
                .for_each(|(g, &slope)| *g *= s * slope);
        } else {
            x.iter_mut().for_each(|g| *g *= s);
        }
        let by_target = -scale * miss;
        x[label] = T::from_f64(by_target * target.slope);
        RowValue {
            loss: loss + target.extra.loss,
            parameter: by_target * target.by_parameter + target.extra.parameter,
        }
    }
}
