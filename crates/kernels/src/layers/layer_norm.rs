//! The layer normalisation layer.

use candle::{Result, Shape, Tensor};
use candle_nn::{Init, Module, VarBuilder};

/// Normalisation over the trailing dimensions; see [`crate::layer_norm`].
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// A layer from `weight` and `bias`, both of the normalised dimensions.
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self { weight, bias, eps }
    }

    /// The scale.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The shift.
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// Added to the variance.
    pub fn eps(&self) -> f64 {
        self.eps
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        crate::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

/// A layer normalisation over the trailing dimensions `shape`: `weight` (1) and `bias` (0). PyTorch's
/// `eps` is 1e-5.
///
/// # Errors
/// When the builder cannot give the tensors.
pub fn layer_norm(shape: impl Into<Shape>, eps: f64, vb: VarBuilder<'_>) -> Result<LayerNorm> {
    let shape = shape.into();
    let weight = vb.get_with_hints(shape.clone(), "weight", Init::Const(1.0))?;
    let bias = vb.get_with_hints(shape, "bias", Init::Const(0.0))?;
    Ok(LayerNorm::new(weight, bias, eps))
}
