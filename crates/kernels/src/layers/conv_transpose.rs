//! The transposed convolution layer.

use crate::ConvTranspose2dConfig;
use candle::{Result, Tensor};
use candle_nn::{Init, Module, VarBuilder};

/// A two-dimensional transposed convolution; see [`crate::conv_transpose2d`].
#[derive(Debug, Clone)]
pub struct ConvTranspose2d {
    weight: Tensor,
    bias: Option<Tensor>,
    config: ConvTranspose2dConfig,
}

impl ConvTranspose2d {
    /// A layer from `weight` (C, O / groups, kh, kw) and `bias` (O).
    pub fn new(weight: Tensor, bias: Option<Tensor>, config: ConvTranspose2dConfig) -> Self {
        Self {
            weight,
            bias,
            config,
        }
    }

    /// Padding, output padding, stride, dilation and groups.
    pub fn config(&self) -> &ConvTranspose2dConfig {
        &self.config
    }

    /// The kernels, (C, O / groups, kh, kw).
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, (O).
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

impl Module for ConvTranspose2d {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        crate::conv_transpose2d(x, &self.weight, self.bias.as_ref(), self.config)
    }
}

/// Weight, and the bound of PyTorch's start values: `1 / sqrt(O / groups * k * k)`.
fn kernels(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: ConvTranspose2dConfig,
    vb: &VarBuilder<'_>,
) -> Result<(Tensor, Init)> {
    let divides = |n: usize| cfg.groups != 0 && n.is_multiple_of(cfg.groups);
    if !divides(in_channels) || !divides(out_channels) {
        candle::bail!(
            "conv_transpose2d: groups {} do not divide {in_channels} input and {out_channels} output channels",
            cfg.groups
        );
    }
    let per_group = out_channels / cfg.groups;
    let bound = 1.0 / ((per_group * kernel_size * kernel_size).max(1) as f64).sqrt();
    let init = Init::Uniform {
        lo: -bound,
        up: bound,
    };
    let shape = (in_channels, per_group, kernel_size, kernel_size);
    Ok((vb.get_with_hints(shape, "weight", init)?, init))
}

/// A transposed convolution with square kernels and a bias: `weight` and `bias`, both uniform within
/// `1 / sqrt(out_channels / groups * kernel_size^2)` as in PyTorch.
///
/// # Errors
/// When the builder cannot give the tensors, or the groups do not divide the channels.
pub fn conv_transpose2d(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: ConvTranspose2dConfig,
    vb: VarBuilder<'_>,
) -> Result<ConvTranspose2d> {
    let (weight, init) = kernels(in_channels, out_channels, kernel_size, cfg, &vb)?;
    let bias = vb.get_with_hints(out_channels, "bias", init)?;
    Ok(ConvTranspose2d::new(weight, Some(bias), cfg))
}

/// A transposed convolution with square kernels and no bias: `weight` as for [`conv_transpose2d`].
///
/// # Errors
/// When the builder cannot give the tensor, or the groups do not divide the channels.
pub fn conv_transpose2d_no_bias(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: ConvTranspose2dConfig,
    vb: VarBuilder<'_>,
) -> Result<ConvTranspose2d> {
    let (weight, _) = kernels(in_channels, out_channels, kernel_size, cfg, &vb)?;
    Ok(ConvTranspose2d::new(weight, None, cfg))
}
