//! The convolution layer.

use crate::Conv2dConfig;
use candle::{Result, Tensor};
use candle_nn::{Init, Module, VarBuilder, init};

/// A two-dimensional convolution; see [`crate::conv2d`].
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    config: Conv2dConfig,
}

impl Conv2d {
    /// A layer from `weight` (O, C / groups, kh, kw) and `bias` (O).
    pub fn new(weight: Tensor, bias: Option<Tensor>, config: Conv2dConfig) -> Self {
        Self {
            weight,
            bias,
            config,
        }
    }

    /// Padding, stride, dilation and groups.
    pub fn config(&self) -> &Conv2dConfig {
        &self.config
    }

    /// The kernels, (O, C / groups, kh, kw).
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, (O).
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

impl Module for Conv2d {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        crate::conv2d(x, &self.weight, self.bias.as_ref(), self.config)
    }
}

fn kernels(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: Conv2dConfig,
    vb: &VarBuilder<'_>,
) -> Result<Tensor> {
    if cfg.groups == 0 || !in_channels.is_multiple_of(cfg.groups) {
        candle::bail!(
            "conv2d: groups {} do not divide {in_channels} input channels",
            cfg.groups
        );
    }
    let shape = (
        out_channels,
        in_channels / cfg.groups,
        kernel_size,
        kernel_size,
    );
    vb.get_with_hints(shape, "weight", init::DEFAULT_KAIMING_NORMAL)
}

/// A convolution with square kernels and a bias: `weight` (Kaiming normal), `bias` (uniform within
/// `1 / sqrt(fan in)`).
///
/// # Errors
/// When the builder cannot give the tensors, or the groups do not divide the channels.
pub fn conv2d(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: Conv2dConfig,
    vb: VarBuilder<'_>,
) -> Result<Conv2d> {
    let weight = kernels(in_channels, out_channels, kernel_size, cfg, &vb)?;
    let fan_in = in_channels / cfg.groups * kernel_size * kernel_size;
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    let bias = vb.get_with_hints(
        out_channels,
        "bias",
        Init::Uniform {
            lo: -bound,
            up: bound,
        },
    )?;
    Ok(Conv2d::new(weight, Some(bias), cfg))
}

/// A convolution with square kernels and no bias: `weight` (Kaiming normal).
///
/// # Errors
/// When the builder cannot give the tensor, or the groups do not divide the channels.
pub fn conv2d_no_bias(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: Conv2dConfig,
    vb: VarBuilder<'_>,
) -> Result<Conv2d> {
    Ok(Conv2d::new(
        kernels(in_channels, out_channels, kernel_size, cfg, &vb)?,
        None,
        cfg,
    ))
}
