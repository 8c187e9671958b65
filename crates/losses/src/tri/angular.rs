//! The angular loss.

use candle::{Result, Tensor, bail};

use crate::batch::{Batch, MetricLoss};
use crate::distance::Measure;
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, evaluate, simd, total};
use crate::ops::check_finite;
use crate::reducer::{Part, Reducer, Terms};

/// Angular loss (Wang, Zhou, Wen, Liu, Lin, ICCV 2017), the N-pair form on unit-length embeddings: for each positive pair
///
/// ```text
/// log( 1 + sum_n e^(4 tan^2 alpha (a + p).n - 2 (1 + tan^2 alpha) a.p) )
/// ```
///
/// over all items of other classes. One term an ordered positive pair. O(B^2 (D + |C|)) time. For a batch with labels compared
/// with itself. All of `a`, `p` and `n` are normalised: pytorch-metric-learning takes `n` as given, so that its loss depends on the scale
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
        evaluate(batch, &Measure::COSINE, Reading::Pairs, self, &[])
    }
}

impl MatrixLoss for Angular {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        // A term pulls on the rows of both its items, so it has no mean by anchor.
        let plan = matrix.plan(&self.reducer, Terms::Triplets)?;
        if !matrix.counts().iter().any(|c| c.1 > 0) {
            return Ok(Outcome::new((0.0, 0.0)));
        }
        let square = self.alpha.to_radians().tan().powi(2);
        let (by_neg, by_pos) = (T::from_f64(4.0 * square), T::from_f64(2.0 * (1.0 + square)));
        let parts = matrix.classes(|class| {
            let (k, m, first) = (class.members.len(), class.m, class.members.start);
            let [before, after] = class.negatives();
            let mut sums = vec![T::ZERO; before.len() + after.len()];
            let mut part = Part::default();
            for a in 0..k {
                for p in (0..k).filter(|&p| p != a) {
                    let (x, y) = (class.row(a), class.row(p));
                    let (low, high) = sums.split_at_mut(before.len());
                    for (out, range) in [(low, &before), (high, &after)] {
                        let (x, y) = (&x[range.clone()], &y[range.clone()]);
                        for ((o, &x), &y) in out.iter_mut().zip(x).zip(y) {
                            *o = x + y;
                        }
                    }
                    let own = x[first + p];
                    let z = simd::softmax(&mut sums, by_neg) - by_pos * own;
                    let (loss, share) = simd::softplus(z);
                    let term = plan.term(loss.to_f64());
                    part = part.add(term);
                    if term.kept == 0.0 {
                        continue;
                    }
                    let (low, high) = sums.split_at(before.len());
                    for row in [a, p] {
                        let g = &mut class.grads[row * m..(row + 1) * m];
                        simd::axpy(&mut g[before.clone()], by_neg * share, low);
                        simd::axpy(&mut g[after.clone()], by_neg * share, high);
                    }
                    class.grads[a * m + first + p] -= by_pos * share;
                }
            }
            let (factor, part) = plan.row(class.anchor, part);
            if factor != 1.0 {
                simd::scale(class.grads, T::from_f64(factor));
            }
            part
        });
        match parts {
            Some(parts) => Ok(Outcome::new(plan.finish(total(parts)))),
            None => bail!("the angular loss takes a batch with labels, without reference set"),
        }
    }
}
