//! The margin loss with its boundary, fixed or learned.

use candle::{DType, Result, Tensor, bail};

use crate::batch::{Batch, MetricLoss};
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, Whom, clear, evaluate};
use crate::ops::{check_finite, host};
use crate::pair::sign;
use phiz_mining::Measure;

/// Margin loss (Wu, Manmatha, Smola, Krähenbühl, ICCV 2017): with a boundary `beta` between near and far,
///
/// ```text
/// sum over triplets of  [ d(a,p) - beta + margin ]_+  +  [ beta - d(a,n) + margin ]_+
/// ```
///
/// divided by the number of brackets above 0 (signs reversed for a similarity). Usual with a distance-weighted miner. The sum
/// over triplets is a weighted sum over pairs: O(B^2 D) time.
///
/// The boundary can be learned, one or one a class: [`Margin::forward_learned`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margin {
    /// Default 0.2.
    pub margin: f64,
    /// Weight of the boundary in the loss, when it is learned. Default 0.
    pub nu: f64,
    /// The boundary, when it is not learned; where to start it, when it is. Default 1.2.
    pub beta: f64,
    /// Default [`Measure::L2`].
    pub measure: Measure,
}

impl Default for Margin {
    fn default() -> Self {
        Self {
            margin: 0.2,
            nu: 0.0,
            beta: 1.2,
            measure: Measure::L2,
        }
    }
}

impl Margin {
    fn check(&self) -> Result<()> {
        check_finite("the margin of the margin loss", self.margin)?;
        check_finite("nu of the margin loss", self.nu)?;
        check_finite("beta of the margin loss", self.beta)
    }

    /// The loss with a learned boundary, which gets a gradient: `beta` (1), or `beta` (C) with one for each label `0..C` of the anchors.
    /// Adds `nu beta` (of a boundary a class: its mean over triplets, by the same divisor as the loss).
    ///
    /// # Errors
    /// As [`MetricLoss::forward`]; when `beta` has another shape, or a label has none.
    pub fn forward_learned(&self, batch: &Batch, beta: &Tensor) -> Result<Tensor> {
        self.check()?;
        if beta.rank() != 1 || beta.elem_count() == 0 {
            bail!("beta must be (1) or (classes), got {:?}", beta.dims());
        }
        if !matches!(beta.dtype(), DType::F32 | DType::F64) {
            bail!("beta must be f32 or f64, got {:?}", beta.dtype());
        }
        let run = Run {
            config: self,
            beta: host(beta)?,
            learned: true,
        };
        evaluate(batch, &self.measure, Reading::Triplets, &run, &[beta])
    }
}

impl MetricLoss for Margin {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        self.check()?;
        let run = Run {
            config: self,
            beta: vec![self.beta],
            learned: false,
        };
        evaluate(batch, &self.measure, Reading::Triplets, &run, &[])
    }
}

struct Run<'a> {
    config: &'a Margin,
    beta: Vec<f64>,
    learned: bool,
}

#[derive(Default, Clone, Copy)]
struct Share {
    sum: f64,
    active: f64,
    by_beta: f64,
    triplets: f64,
}

impl MatrixLoss for Run<'_> {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        let classes = self.beta.len();
        // Which boundary each anchor has.
        let which: Vec<usize> = if classes == 1 {
            vec![0; matrix.n]
        } else {
            let Some(labels) = &matrix.anchors else {
                bail!("a boundary for each class needs labels");
            };
            let mut list = Vec::with_capacity(labels.len());
            for (row, &label) in labels.iter().enumerate() {
                match usize::try_from(label) {
                    Ok(l) if l < classes => list.push(l),
                    _ => bail!("label {label} of row {row} has none of the {classes} boundaries"),
                }
            }
            list
        };
        let s = sign::<T>(matrix.similarity);
        let margin = T::from_f64(self.config.margin);
        let aligned = matrix.aligned;
        let shares = matrix.write(Whom::Others, |row| {
            let class = which[row.anchor];
            let beta = T::from_f64(self.beta[class]);
            let (p, n) = (row.pos.len(), row.neg.len());
            if p == 0 || n == 0 {
                clear(row);
                return (class, Share::default());
            }
            // Every positive stands in a triplet with each negative, and the other way round.
            let (wp, wn, triplets) = if aligned {
                (1.0, 1.0, p as f64)
            } else {
                (n as f64, p as f64, p as f64 * n as f64)
            };
            let side = |x: &mut [T], s: T, weight: f64| {
                let (mut sum, mut active) = (0.0, 0.0);
                let slope = s * T::from_f64(weight);
                for v in x {
                    let z = s * (*v - beta) + margin;
                    if z > T::ZERO {
                        sum += z.to_f64();
                        active += 1.0;
                        *v = slope;
                    } else {
                        *v = T::ZERO;
                    }
                }
                (sum * weight, active * weight)
            };
            let (sp, ap) = side(row.pos, s, wp);
            let (sn, an) = side(row.neg, -s, wn);
            let share = Share {
                sum: sp + sn,
                active: ap + an,
                by_beta: s.to_f64() * (an - ap),
                triplets,
            };
            (class, share)
        });
        let mut all = Share::default();
        let mut by_class = vec![Share::default(); classes];
        for (class, share) in shares {
            for total in [&mut all, &mut by_class[class]] {
                total.sum += share.sum;
                total.active += share.active;
                total.by_beta += share.by_beta;
                total.triplets += share.triplets;
            }
        }
        let scale = if all.active > 0.0 {
            1.0 / all.active
        } else {
            0.0
        };
        let mut outcome = Outcome::new((all.sum * scale, scale));
        if self.learned {
            let nu = self.config.nu;
            let mut grads: Vec<f64> = by_class.iter().map(|c| c.by_beta * scale).collect();
            if all.triplets > 0.0 {
                if classes == 1 {
                    outcome.value += nu * self.beta[0];
                    grads[0] += nu;
                } else {
                    for ((g, class), beta) in grads.iter_mut().zip(&by_class).zip(&self.beta) {
                        outcome.value += nu * beta * class.triplets * scale;
                        *g += nu * class.triplets * scale;
                    }
                }
            }
            outcome.parameters.push(grads);
        }
        Ok(outcome)
    }
}
