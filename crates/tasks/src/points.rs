//! Points straight from features: 2D landmarks or 3D points as one linear layer's numbers.
//!
//! The layer predicts how far each point lies from a mean shape, so that a head which has learned nothing says the
//! mean. Losses are over distances e along each coordinate, in parts of the image times 100 (per cent of the side):
//!
//! ```text
//! L1        |e|
//! Squared   e^2
//! SmoothL1  e^2 / 2 for |e| < 1, else |e| - 1/2
//! Wing      w ln(1 + |e| / c) for |e| < w, else |e| - (w - w ln(1 + w / c)),  w = 10, c = 2
//! ```
//!
//! Source of the wing loss: Feng et al., "Wing loss for robust facial landmark localisation with convolutional neural
//! networks" (CVPR 2018), whose w and c are in pixels of a 256-pixel face; here they are in per cent of the side.

use candle::{Module, Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};
use phiz_kernels::layers::{Linear, linear};
use phiz_kernels::safe::abs;

use crate::known::same_shape;

/// Loss of a coordinate's distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PointLoss {
    /// |e|.
    L1,
    /// e^2.
    Squared,
    /// Huber's, with the corner at one per cent of the side.
    #[default]
    SmoothL1,
    /// The wing loss with w = 10 and c = 2 per cent of the side.
    Wing,
}

/// Mean over everything of the loss of each coordinate. See the [module text](self).
///
/// # Shapes
/// `predicted` and `target` the same, in parts of the image; result: scalar.
///
/// # Errors
/// When the shapes differ.
pub fn point_loss(predicted: &Tensor, target: &Tensor, loss: PointLoss) -> Result<Tensor> {
    same_shape("points", predicted, target)?;
    let target = target.detach().to_dtype(predicted.dtype())?;
    let e = ((predicted - target)? * 100.)?;
    let each = match loss {
        PointLoss::Squared => e.sqr()?,
        PointLoss::L1 => abs(&e)?,
        PointLoss::SmoothL1 => {
            let size = abs(&e)?;
            let near = size.lt(1.)?;
            near.where_cond(&(e.sqr()? * 0.5)?, &(size - 0.5)?)?
        }
        PointLoss::Wing => {
            let (w, c) = (10f64, 2f64);
            let size = abs(&e)?;
            let near = size.lt(w)?;
            let curve = (((&size / c)? + 1.)?.log()? * w)?;
            near.where_cond(&curve, &(size - (w - w * (1. + w / c).ln()))?)?
        }
    };
    each.mean_all()
}

/// Features (B, F) to points (B, N, D) in parts of the image: `points` (a linear layer) around `memory_mean` (N, D).
#[derive(Debug, Clone)]
pub struct PointHead {
    layer: Linear,
    mean: Var,
}

impl PointHead {
    /// A head for `count` points of `dim` coordinates on `features` numbers an image. The mean shape is 0, the
    /// middle of the image, until [`set_mean`](Self::set_mean); it is saved with the parameters and not trained.
    ///
    /// # Errors
    /// When a size is 0, or the builder cannot give the tensors.
    pub fn new(features: usize, count: usize, dim: usize, vb: VarBuilder) -> Result<Self> {
        if features == 0 || count == 0 || dim == 0 {
            candle::bail!("PointHead: {features} features to {count} points of {dim} coordinates")
        }
        let mean = vb.get_with_hints((count, dim), "memory_mean", Init::Const(0.))?;
        Ok(Self {
            layer: linear(features, count * dim, vb.pp("points"))?,
            mean: Var::from_tensor(&mean)?,
        })
    }

    /// Sets the mean shape.
    ///
    /// # Errors
    /// When `mean` is not (N, D).
    pub fn set_mean(&self, mean: &Tensor) -> Result<()> {
        self.mean.set(&mean.to_dtype(self.mean.dtype())?)
    }

    /// Points.
    ///
    /// # Shapes
    /// `features` (B, F); result (B, N, D).
    ///
    /// # Errors
    /// When the features have another length.
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let (count, dim) = self.mean.dims2()?;
        // A tenth: PyTorch's start values would throw points about by a third of the image.
        let offset = (self.layer.forward(features)? * 0.1)?;
        let batch = offset.dim(0)?;
        offset
            .reshape((batch, count, dim))?
            .broadcast_add(&self.mean.as_detached_tensor())
    }
}
