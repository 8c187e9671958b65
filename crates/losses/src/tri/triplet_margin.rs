//! The triplet margin loss over all triplets, a range of them, or the hardest one of each anchor.

use candle::{Result, Tensor, bail};

use super::hinge::{Filter, hinge, soft};
use crate::batch::{Batch, MetricLoss};
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, evaluate, simd};
use crate::ops::check_finite;
use crate::pair::sign;
use crate::reducer::{Part, Plan, Reducer, Terms};
use phiz_mining::Measure;

/// Which triplets of the batch take part, by `t = d(a,n) - d(a,p)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Select {
    /// Every one. The default.
    #[default]
    All,
    /// `t <= 0`: the negative is not farther than the positive.
    Hard,
    /// `0 < t <= margin`: ranked rightly, within the margin.
    SemiHard,
    /// Of each anchor its farthest positive with its nearest negative (of equals the first).
    BatchHard,
}

/// Triplet margin loss (Weinberger, Saul, 2009; Schroff, Kalenichenko, Philbin, CVPR 2015):
///
/// ```text
/// [ d(a,p) - d(a,n) + margin ]_+        smooth:  log(1 + e^(d(a,p) - d(a,n) + margin))
/// ```
///
/// over all triplets of the batch (signs reversed for a similarity). What the triplet miners keep is chosen by [`Select`]
/// here, without a list of triplets. One term a triplet.
///
/// # Complexity
/// The hinge: O(B^2 (D + log P)) time with P positives an anchor, O(B^2) memory at most (blocks beyond 192 MiB): positives are
/// sorted and each negative meets a range of them. The smooth form and `swap` look at each triplet, O(B^2 (D + P)) time, in
/// vectorised loops over a row.
///
/// ```
/// use candle::{Device, Tensor};
/// use phiz_losses::{MetricLoss, TripletMargin};
/// # fn main() -> candle::Result<()> {
/// let e = Tensor::new(&[[1f64, 0.], [0.8, 0.6], [0., 1.]], &Device::Cpu)?;
/// // Two triplets, (0, 1, 2) and (1, 0, 2). d(0,1) = sqrt(0.4), d(0,2) = sqrt(2), d(1,2) = sqrt(0.8): only none violates 0.2.
/// assert_eq!(TripletMargin::default().loss(&e, &[4u32, 4, 5])?.to_scalar::<f64>()?, 0.0);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TripletMargin {
    /// Default 0.2 (as pytorch-metric-learning from v3 on; 0.05 before).
    pub margin: f64,
    /// Softplus in place of the hinge. Default false.
    pub smooth: bool,
    /// Take `d(p,n)` in place of `d(a,n)` where it is smaller (between two references, where there is a reference set). Default false.
    pub swap: bool,
    /// Default [`Select::All`].
    pub select: Select,
    /// Default [`Measure::L2`].
    pub measure: Measure,
    /// Default [`Reducer::AvgNonZero`].
    pub reducer: Reducer,
}

impl Default for TripletMargin {
    fn default() -> Self {
        Self {
            margin: 0.2,
            smooth: false,
            swap: false,
            select: Select::All,
            measure: Measure::L2,
            reducer: Reducer::AvgNonZero,
        }
    }
}

impl From<f64> for TripletMargin {
    fn from(margin: f64) -> Self {
        Self {
            margin,
            ..Self::default()
        }
    }
}

impl TripletMargin {
    /// On the hardest triplet of each anchor (Hermans, Beyer, Leibe, arXiv 1703.07737).
    pub fn batch_hard() -> Self {
        Self {
            select: Select::BatchHard,
            ..Self::default()
        }
    }

    /// Value and slope of one term.
    #[inline(always)]
    pub(super) fn term<T: Real>(&self, v: T) -> (T, T) {
        if self.smooth {
            simd::softplus(v)
        } else if v > T::ZERO {
            (v, T::ONE)
        } else {
            (T::ZERO, T::ZERO)
        }
    }
}

impl MetricLoss for TripletMargin {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        check_finite("the margin of the triplet loss", self.margin)?;
        if self.swap {
            if self.select != Select::All {
                bail!("swap takes all triplets; it cannot be combined with a selection");
            }
            return self.swapped(batch);
        }
        evaluate(batch, &self.measure, Reading::Triplets, self, &[])
    }
}

impl MatrixLoss for TripletMargin {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let s = sign::<T>(matrix.similarity);
        let margin = T::from_f64(self.margin);
        let aligned = matrix.aligned;
        if aligned && self.select != Select::All {
            bail!("triplets that a miner has chosen are not selected from again");
        }
        let filter = match self.select {
            Select::Hard => Filter::Hard,
            Select::SemiHard => Filter::SemiHard,
            _ => Filter::All,
        };
        matrix.pairs(Terms::Triplets, &self.reducer, |row, plan| {
            let (pos, neg) = (&mut *row.pos, &mut *row.neg);
            if s < T::ZERO {
                simd::scale(pos, s);
                simd::scale(neg, s);
            }
            let part = if aligned {
                let mut part = Part::default();
                for (p, n) in pos.iter_mut().zip(neg.iter_mut()) {
                    let (loss, slope) = self.term(*p - *n + margin);
                    let term = plan.term(loss.to_f64());
                    let slope = if term.kept > 0.0 { slope } else { T::ZERO };
                    (*p, *n) = (slope, -slope);
                    part = part.add(term);
                }
                part
            } else if self.select == Select::BatchHard {
                self.hardest(pos, neg, margin, plan)
            } else if self.smooth {
                soft(pos, neg, margin, filter, plan)
            } else {
                hinge(pos, neg, margin, filter, plan)
            };
            if s < T::ZERO {
                simd::scale(pos, s);
                simd::scale(neg, s);
            }
            part
        })
    }
}

impl TripletMargin {
    fn hardest<T: Real>(&self, pos: &mut [T], neg: &mut [T], margin: T, plan: &Plan) -> Part {
        let (top, low) = (simd::max(pos), simd::min(neg));
        let p = pos.iter().position(|&v| v == top);
        let n = neg.iter().position(|&v| v == low);
        pos.fill(T::ZERO);
        neg.fill(T::ZERO);
        let (Some(p), Some(n)) = (p, n) else {
            return Part::default();
        };
        let (loss, slope) = self.term(top - low + margin);
        let term = plan.term(loss.to_f64());
        if term.kept > 0.0 {
            pos[p] = slope;
            neg[n] = -slope;
        }
        term
    }
}
