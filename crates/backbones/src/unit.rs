//! Pieces every network here is made of: a convolution without bias, a batch norm, an activation.

use candle::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use phiz_kernels::inference::{Builder, Channels};
use phiz_kernels::layers::{
    BatchNorm, Conv2d, ConvBn, Linear, fold_batch_norm_before, linear_zero_bias,
};
use phiz_kernels::{Activation, Conv2dConfig};

use crate::cost::Cost;

/// What follows the batch norm of a [`Unit`].
#[derive(Debug, Clone)]
pub(crate) enum Act {
    None,
    Relu,
    /// One slope a channel.
    PRelu(Tensor),
}

impl Act {
    pub(crate) fn prelu(channels: usize, vb: &VarBuilder) -> Result<Self> {
        let slope = vb.get_with_hints(channels, "weight", Init::Const(0.25))?;
        Ok(Self::PRelu(slope))
    }

    pub(crate) fn as_activation(&self) -> Activation<'_> {
        match self {
            Self::None => Activation::None,
            Self::Relu => Activation::Relu,
            Self::PRelu(slope) => Activation::PRelu(slope),
        }
    }
}

/// Convolution, batch norm and activation: one op while training, and one once folded.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    layers: ConvBn,
    act: Act,
    /// What a norm folded from the front leaves at every pixel, (1, C, H, W).
    map: Option<Tensor>,
}

impl Unit {
    pub(crate) fn new(conv: Conv2d, norm: BatchNorm, act: Act) -> Self {
        Self {
            layers: ConvBn::new(conv, norm),
            act,
            map: None,
        }
    }

    pub(crate) fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let act = self.act.as_activation();
        self.layers.forward_act(x, self.map.as_ref(), act, train)
    }

    /// `residual` plus the unit without activation.
    pub(crate) fn forward_add(&self, x: &Tensor, residual: &Tensor, train: bool) -> Result<Tensor> {
        self.layers
            .forward_act(x, Some(residual), self.act.as_activation(), train)
    }

    /// The convolution; once folded, the one that does the norm's work too.
    pub(crate) fn conv(&self) -> &Conv2d {
        self.layers.conv()
    }

    /// Adds the folded unit to a network for inference.
    pub(crate) fn compile(
        &self,
        network: &mut Builder,
        from: Channels,
        to: Channels,
    ) -> Result<()> {
        network.conv(from, self.conv(), self.act.as_activation(), to)
    }

    pub(crate) fn cost(&self, cost: &mut Cost) -> Result<()> {
        cost.conv(self.layers.conv())
    }

    /// The unit for inference, its norm in the convolution.
    pub(crate) fn folded(&self) -> Result<Self> {
        Ok(Self {
            layers: self.layers.fold()?,
            ..self.clone()
        })
    }

    /// The unit for inference, its norm and the one in front of it in the convolution; for maps of
    /// `side` x `side`.
    pub(crate) fn folded_behind(&self, front: &BatchNorm, side: usize) -> Result<Self> {
        let conv = self.layers.fold()?;
        let (conv, map) = fold_batch_norm_before(front, conv.conv(), (side, side))?;
        Ok(Self {
            layers: ConvBn::folded(conv),
            act: self.act.clone(),
            map: Some(map),
        })
    }
}

/// A square convolution without bias whose start values are drawn from `init`.
pub(crate) fn conv(
    channels: (usize, usize),
    kernel: usize,
    config: Conv2dConfig,
    init: Init,
    vb: &VarBuilder,
) -> Result<Conv2d> {
    let (from, to) = channels;
    if config.groups == 0
        || !from.is_multiple_of(config.groups)
        || !to.is_multiple_of(config.groups)
    {
        candle::bail!(
            "{from} and {to} channels cannot be split into {} groups",
            config.groups
        )
    }
    let weight = vb.get_with_hints((to, from / config.groups, kernel, kernel), "weight", init)?;
    Ok(Conv2d::new(weight, None, config))
}

/// A linear layer with PyTorch's start values: weight and bias uniform in +-1/sqrt(inputs).
pub(crate) fn linear(from: usize, to: usize, vb: &VarBuilder) -> Result<Linear> {
    let bound = 1. / (from as f64).sqrt();
    let init = Init::Uniform {
        lo: -bound,
        up: bound,
    };
    let weight = vb.get_with_hints((to, from), "weight", init)?;
    let bias = vb.get_with_hints(to, "bias", init)?;
    Ok(Linear::new(weight, Some(bias)))
}

/// [`linear`] with He's initialisation (weights N(0, 2 / from), bias 0): keeps the size of signal and
/// gradient through several layers with ReLU between them, where PyTorch's default shrinks the
/// variance to a sixth at each.
pub(crate) fn he_linear(from: usize, to: usize, vb: &VarBuilder) -> Result<Linear> {
    let init = Init::Randn {
        mean: 0.,
        stdev: (2. / from as f64).sqrt(),
    };
    linear_zero_bias(from, to, init, vb.clone())
}

/// `kernel` x `kernel`, padded so that stride 1 keeps the side (odd kernels).
pub(crate) fn same(kernel: usize, stride: usize) -> Conv2dConfig {
    Conv2dConfig {
        padding: kernel / 2,
        stride,
        ..Default::default()
    }
}

/// Refuses anything but a non-empty batch of square images of the configured size.
///
/// `least` is the smallest batch that can be normalised: 2 while training through a norm layer
/// that sees one value an image and channel, 1 otherwise.
pub(crate) fn check_images(
    network: &str,
    x: &Tensor,
    channels: usize,
    side: usize,
    least: usize,
) -> Result<()> {
    match *x.dims() {
        [b, c, h, w] if c == channels && h == side && w == side && b >= least => Ok(()),
        [b, c, h, w] if c == channels && h == side && w == side => candle::bail!(
            "{network}: a batch of {b} is too small, at least {least} images are needed \
             (batch norm over one value a channel has no variance)"
        ),
        ref dims => candle::bail!(
            "{network}: expected images (B, {channels}, {side}, {side}), got {dims:?}"
        ),
    }
}
