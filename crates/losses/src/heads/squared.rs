//! P2SGrad: squared error of the cosines.

use candle::{Result, Tensor};
use candle_nn::Init;
use phiz_kernels::Real;
use phiz_kernels::row_loss::{RowLoss, RowValue, cosine_row_loss, dot};

use super::{Batch, HeadConfig, cosine_scores, head};

/// Configuration of [`P2sGrad`]: nothing to choose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct P2sGradConfig {}

impl HeadConfig for P2sGradConfig {
    const OP: &'static str = "p2s-grad";

    fn init(&self, _: usize) -> Init {
        Init::Uniform { lo: -1.0, up: 1.0 }
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

head! {
    /// P2SGrad (Zhang et al., CVPR 2019): the mean over items and classes of `(c_j - [j = y])^2`, whose gradient is the paper's
    /// probability-to-similarity gradient. It has no hyper-parameter.
    ///
    /// Parameter `weight` (classes, dim), uniform in [-1, 1]; its length has no effect. Time O(B C D).
    P2sGrad, P2sGradConfig, ()
}
cosine_scores!(P2sGrad);

struct Squared(Vec<u32>);

impl RowLoss for Squared {
    #[inline(always)]
    fn row<T: Real>(&self, i: usize, _: f64, c: &mut [T], _: &mut [T]) -> RowValue {
        c[self.0[i] as usize] -= T::ONE;
        let share = 1.0 / c.len() as f64;
        let loss = dot(c, c).to_f64() * share;
        let factor = T::from_f64(2.0 * share);
        c.iter_mut().for_each(|g| *g *= factor);
        RowValue {
            loss,
            parameter: 0.0,
        }
    }
}

impl P2sGrad {
    fn run(&self, batch: Batch) -> Result<Tensor> {
        cosine_row_loss(
            P2sGradConfig::OP,
            ("embeddings", &batch.embeddings),
            ("the weight", &batch.weight),
            None,
            batch.weights,
            Squared(batch.labels),
        )
    }
}
