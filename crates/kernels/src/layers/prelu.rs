//! The PReLU layer.

use crate::Activation;
use candle::{Result, Tensor};
use candle_nn::{Init, Module, VarBuilder};

/// ReLU with learnt negative slopes (He et al., 2015); see [`crate::prelu`].
#[derive(Debug, Clone)]
pub struct PRelu {
    slope: Tensor,
}

impl PRelu {
    /// A layer from its slopes, (C) or (1).
    pub fn new(slope: Tensor) -> Self {
        Self { slope }
    }

    /// The slopes, (C).
    pub fn slope(&self) -> &Tensor {
        &self.slope
    }

    /// The activation to hand to a batch normalisation, which then does both in one pass.
    pub fn activation(&self) -> Activation<'_> {
        Activation::PRelu(&self.slope)
    }
}

impl Module for PRelu {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        crate::prelu(x, &self.slope)
    }
}

/// A PReLU with one slope a channel: `weight`, initially 0.25 as in PyTorch.
///
/// # Errors
/// When the builder cannot give the tensor.
pub fn prelu(channels: usize, vb: VarBuilder<'_>) -> Result<PRelu> {
    Ok(PRelu::new(vb.get_with_hints(
        channels,
        "weight",
        Init::Const(0.25),
    )?))
}
