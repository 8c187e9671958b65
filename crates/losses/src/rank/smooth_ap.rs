//! Smooth-AP.

use candle::{Result, Tensor, bail};

use super::{soft_rank, soft_rank_slope};
use crate::batch::{Batch, MetricLoss};
use crate::engine::{Matrix, MatrixLoss, Outcome, Reading, Real, Whom, clear, evaluate};
use crate::pair::check_positive;
use crate::reducer::Reducer;
use phiz_mining::Measure;

/// Smooth-AP (Brown, Xie, Kalogeiton, Zisserman, ECCV 2020): for each anchor one minus a smooth average precision of its class,
/// itself included,
///
/// ```text
/// 1 - (1/|C|) sum_{j in C} (1 + sum_{k in C, k != j} s_jk) / (1 + sum_{k != j} s_jk),   s_jk = sigmoid((cos_ak - cos_aj)/t)
/// ```
///
/// One term an anchor, for any batch: classes may differ in size and order. O(B^2 (D + |C|)) time.
#[derive(Debug, Clone, PartialEq)]
pub struct SmoothAp {
    /// Default 0.01.
    pub temperature: f64,
    /// Default [`Reducer::Mean`].
    pub reducer: Reducer,
}

impl Default for SmoothAp {
    fn default() -> Self {
        Self {
            temperature: 0.01,
            reducer: Reducer::Mean,
        }
    }
}

impl MetricLoss for SmoothAp {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        check_positive("the temperature of Smooth-AP", self.temperature)?;
        evaluate(batch, &Measure::COSINE, Reading::PairSet, self, &[])
    }
}

impl MatrixLoss for SmoothAp {
    fn run<T: Real>(&self, matrix: &mut Matrix<T>) -> Result<Outcome> {
        if !matrix.is_labelled() {
            bail!("Smooth-AP ranks a whole batch: it takes labels, not tuples");
        }
        let inverse = T::from_f64(1.0 / self.temperature);
        matrix.anchors(Whom::WithSelf, &self.reducer, |row| {
            let (p, n) = (row.pos.len(), row.neg.len());
            if p == 0 {
                clear(row);
                return None;
            }
            let (mut gp, mut gn) = (vec![T::ZERO; p], vec![T::ZERO; n]);
            let (mut sp, mut sn) = (vec![T::ZERO; p], vec![T::ZERO; n]);
            let mut precision = 0.0;
            for j in 0..p {
                let at = row.pos[j];
                // The item itself has sigmoid 1/2.
                let among = 0.5 + soft_rank(row.pos, at, inverse, &mut sp);
                let all = among + soft_rank(row.neg, at, inverse, &mut sn);
                precision += among / all;
                // Of 1 - precision, by the rank among positives and by the rest.
                let scale = self.temperature.recip() / p as f64;
                let by_neg = among / (all * all) * scale;
                let by_pos = by_neg - scale / all;
                sp[j] = T::ZERO;
                let mut own = soft_rank_slope(&mut gp, &sp, T::from_f64(by_pos));
                own += soft_rank_slope(&mut gn, &sn, T::from_f64(by_neg));
                gp[j] -= own;
            }
            row.pos.copy_from_slice(&gp);
            row.neg.copy_from_slice(&gn);
            Some(1.0 - precision / p as f64)
        })
    }
}
