//! The affine layer.

use candle::{Result, Tensor};
use candle_nn::{Init, Module, VarBuilder, init};

/// `y = x weight^T + bias`; see [`crate::linear`].
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// A layer from `weight` (O, I) and `bias` (O).
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// The weight, (O, I).
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, (O).
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        crate::linear(x, &self.weight, self.bias.as_ref())
    }
}

/// An affine layer: `weight` (Kaiming normal), `bias` (uniform within `1 / sqrt(in_dim)`).
///
/// # Errors
/// When the builder cannot give the tensors.
pub fn linear(in_dim: usize, out_dim: usize, vb: VarBuilder<'_>) -> Result<Linear> {
    let weight = vb.get_with_hints((out_dim, in_dim), "weight", init::DEFAULT_KAIMING_NORMAL)?;
    let bound = 1.0 / (in_dim.max(1) as f64).sqrt();
    let bias = vb.get_with_hints(
        out_dim,
        "bias",
        Init::Uniform {
            lo: -bound,
            up: bound,
        },
    )?;
    Ok(Linear::new(weight, Some(bias)))
}

/// An affine layer: `weight` as `init` says, `bias` zeros.
///
/// # Errors
/// When the builder cannot give the tensors.
pub fn linear_zero_bias(
    in_dim: usize,
    out_dim: usize,
    init: Init,
    vb: VarBuilder<'_>,
) -> Result<Linear> {
    let weight = vb.get_with_hints((out_dim, in_dim), "weight", init)?;
    let bias = vb.get_with_hints(out_dim, "bias", Init::Const(0.))?;
    Ok(Linear::new(weight, Some(bias)))
}

/// A linear layer without bias: `weight` (Kaiming normal).
///
/// # Errors
/// When the builder cannot give the tensor.
pub fn linear_no_bias(in_dim: usize, out_dim: usize, vb: VarBuilder<'_>) -> Result<Linear> {
    let weight = vb.get_with_hints((out_dim, in_dim), "weight", init::DEFAULT_KAIMING_NORMAL)?;
    Ok(Linear::new(weight, None))
}
