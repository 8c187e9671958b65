//! PNP: penalising negatives before positives.

use candle::{Result, Tensor, bail};

use super::{soft_rank, soft_rank_slope};
use crate::batch::{Batch, MetricLoss};
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, Whom, clear, evaluate};
use crate::ops::check_finite;
use crate::pair::check_positive;
use crate::reducer::Reducer;
use phiz_mining::Measure;

/// What [`Pnp`] makes of the number `R` of negatives before a positive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PnpVariant {
    /// `log(1 + R)`: gives up on far positives.
    Ds,
    /// `1 - (1 + R)^(-alpha)`: gives up faster.
    Dq,
    /// `(1 + R) log(1 + R)`: presses on far positives without bound.
    Iu,
    /// `(b R - log(1 + b R)) / b^2`: presses on them with a bounded slope.
    Ib,
    /// `R`. The default.
    #[default]
    O,
}

/// PNP loss (Li et al., AAAI 2022): for each anchor `a` the mean over its class, itself included, of a function of
///
/// ```text
/// R_aj = sum_{n of another class} sigmoid((cos_an - cos_aj) / anneal)
/// ```
///
/// the smooth number of negatives ranked before `j`. The mean over anchors that are not alone in their class. O(B^2 (D + |C|)) time, O(B) memory a row where the
/// original needs B^3.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pnp {
    /// Default [`PnpVariant::O`].
    pub variant: PnpVariant,
    /// Of [`PnpVariant::Ib`]. Default 2.
    pub b: f64,
    /// Of [`PnpVariant::Dq`]. Default 1.
    pub alpha: f64,
    /// Temperature of the sigmoid. Default 0.01.
    pub anneal: f64,
}

impl Default for Pnp {
    fn default() -> Self {
        Self {
            variant: PnpVariant::O,
            b: 2.0,
            alpha: 1.0,
            anneal: 0.01,
        }
    }
}

impl Pnp {
    /// The function of R and its slope.
    fn of(&self, r: f64) -> (f64, f64) {
        match self.variant {
            PnpVariant::O => (r, 1.0),
            PnpVariant::Ds => (r.ln_1p(), 1.0 / (1.0 + r)),
            PnpVariant::Dq => (
                1.0 - (1.0 + r).powf(-self.alpha),
                self.alpha * (1.0 + r).powf(-self.alpha - 1.0),
            ),
            PnpVariant::Iu => ((1.0 + r) * r.ln_1p(), r.ln_1p() + 1.0),
            PnpVariant::Ib => (
                (self.b * r - (self.b * r).ln_1p()) / (self.b * self.b),
                r / (1.0 + self.b * r),
            ),
        }
    }
}

impl MetricLoss for Pnp {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        check_positive("anneal of the PNP loss", self.anneal)?;
        check_positive("b of the PNP loss", self.b)?;
        check_finite("alpha of the PNP loss", self.alpha)?;
        if !batch.is_own() {
            bail!("the PNP loss takes no reference set");
        }
        evaluate(batch, &Measure::COSINE, Reading::PairSet, self, &[])
    }
}

impl MatrixLoss for Pnp {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        if !matrix.is_labelled() {
            bail!("the PNP loss ranks a whole batch: it takes labels, not tuples");
        }
        let inverse = T::from_f64(1.0 / self.anneal);
        matrix.anchors(Whom::WithSelf, &Reducer::Mean, |row| {
            let (p, n) = (row.pos.len(), row.neg.len());
            if p < 2 {
                clear(row);
                return None;
            }
            let (mut gp, mut gn, mut sn) = (vec![T::ZERO; p], vec![T::ZERO; n], vec![T::ZERO; n]);
            let mut sum = 0.0;
            for (g, &at) in gp.iter_mut().zip(row.pos.iter()) {
                let (value, slope) = self.of(soft_rank(row.neg, at, inverse, &mut sn));
                sum += value;
                let c = T::from_f64(slope / self.anneal / p as f64);
                *g -= soft_rank_slope(&mut gn, &sn, c);
            }
            row.pos.copy_from_slice(&gp);
            row.neg.copy_from_slice(&gn);
            Some(sum / p as f64)
        })
    }
}
