//! The encoder-decoder of the digits task: what separating a digit from its rotation trains.
//!
//! ```text
//! 1 x 28 x 28 -- conv 5 x 5 /2, 64 -- conv 5 x 5 /2, 128 -- flatten --+-- linear, tanh ==> d (10) -- 128 -- logits (10)
//!                                                                     `-- linear, tanh ==> l (20)
//! d, l, s (one of 5) -- linear 128 x 7 x 7 -- transposed 4 x 4 /2, 64 -- transposed 4 x 4 /2, 32 -- conv 3 x 3, 1, sigmoid
//! ```
//!
//! d keeps the digit, l what else the image needs, s is the rotation as given. Batch norm and ReLU
//! follow every layer that is not an output. The loss is cross-entropy of the digit plus the mean
//! square error of the image.

use candle::{DType, Device, Module, Result, Tensor};
use candle_nn::VarBuilder;
use phiz_kernels::layers::{
    BatchNorm, Conv2d, ConvTranspose2d, Linear, batch_norm, conv_transpose2d_no_bias, conv2d,
    conv2d_no_bias, linear, linear_no_bias,
};
use phiz_kernels::{Activation, Conv2dConfig, ConvTranspose2dConfig, cross_entropy};

/// Digits told apart, and length of d.
const DIGITS: usize = 10;
/// Length of l.
const REST: usize = 20;
/// Rotations.
const ROTATIONS: usize = 5;
/// Channels and side of the smallest maps.
const SMALLEST: (usize, usize) = (128, 7);

/// The two networks; see the [module text](self).
pub(super) struct Digits {
    encoder: [(Conv2d, BatchNorm); 2],
    d: Linear,
    l: Linear,
    hidden: (Linear, BatchNorm),
    logits: Linear,
    start: (Linear, BatchNorm),
    ups: [(ConvTranspose2d, BatchNorm); 2],
    last: Conv2d,
}

/// What a batch becomes.
pub(super) struct Output {
    /// Digit scores, (B, 10).
    pub(super) logits: Tensor,
    /// The image again, (B, 1, 28, 28).
    pub(super) image: Tensor,
}

impl Digits {
    pub(super) fn new(vb: &VarBuilder<'_>) -> Result<Self> {
        let half = Conv2dConfig {
            padding: 2,
            stride: 2,
            ..Default::default()
        };
        let double = ConvTranspose2dConfig {
            padding: 1,
            stride: 2,
            ..Default::default()
        };
        let same = Conv2dConfig {
            padding: 1,
            ..Default::default()
        };
        let down = |from, to, name: &str| -> Result<(Conv2d, BatchNorm)> {
            let conv = conv2d_no_bias(from, to, 5, half, vb.pp(name))?;
            Ok((conv, batch_norm(to, 1e-5, vb.pp(name).pp("bn"))?))
        };
        let up = |from, to, name: &str| -> Result<(ConvTranspose2d, BatchNorm)> {
            let conv = conv_transpose2d_no_bias(from, to, 4, double, vb.pp(name))?;
            Ok((conv, batch_norm(to, 1e-5, vb.pp(name).pp("bn"))?))
        };
        let dense = |from, to, name: &str| -> Result<(Linear, BatchNorm)> {
            let layer = linear_no_bias(from, to, vb.pp(name))?;
            Ok((layer, batch_norm(to, 1e-5, vb.pp(name).pp("bn"))?))
        };
        let (channels, side) = SMALLEST;
        let flat = channels * side * side;
        Ok(Self {
            encoder: [down(1, 64, "down1")?, down(64, channels, "down2")?],
            d: linear(flat, DIGITS, vb.pp("d"))?,
            l: linear(flat, REST, vb.pp("l"))?,
            hidden: dense(DIGITS, 128, "hidden")?,
            logits: linear(128, DIGITS, vb.pp("logits"))?,
            start: dense(DIGITS + REST + ROTATIONS, flat, "start")?,
            ups: [up(channels, 64, "up1")?, up(64, 32, "up2")?],
            last: conv2d(32, 1, 3, same, vb.pp("last"))?,
        })
    }

    /// A training pass.
    ///
    /// # Shapes
    /// `x` (B, 1, 28, 28), `rotation` (B, 5) one-hot.
    pub(super) fn forward(&self, x: &Tensor, rotation: &Tensor) -> Result<Output> {
        let relu = Activation::Relu;
        let mut maps = x.clone();
        for (conv, norm) in &self.encoder {
            maps = norm.forward_conv(conv, &maps, relu, true)?;
        }
        let flat = maps.flatten_from(1)?;
        let d = self.d.forward(&flat)?.tanh()?;
        let l = self.l.forward(&flat)?.tanh()?;
        let (layer, norm) = &self.hidden;
        let hidden = norm.forward_act(&layer.forward(&d)?, relu, true)?;
        let logits = self.logits.forward(&hidden)?;
        let code = Tensor::cat(&[&d, &l, rotation], 1)?;
        let (layer, norm) = &self.start;
        let start = norm.forward_act(&layer.forward(&code)?, relu, true)?;
        let (channels, side) = SMALLEST;
        let mut maps = start.reshape((x.dim(0)?, channels, side, side))?;
        for (conv, norm) in &self.ups {
            maps = norm.forward_conv_transpose(conv, &maps, relu, true)?;
        }
        let image = candle_nn::ops::sigmoid(&self.last.forward(&maps)?)?;
        Ok(Output { logits, image })
    }

    /// Loss and outputs for images whose digit is `i % 10` and whose rotation is `i % 5`.
    pub(super) fn loss(&self, x: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        let batch = x.dim(0)?;
        let digits = Tensor::from_iter((0..batch as u32).map(|i| i % DIGITS as u32), &Device::Cpu)?;
        let one_hot = (0..batch * ROTATIONS).map(|at| {
            let (i, k) = (at / ROTATIONS, at % ROTATIONS);
            if i % ROTATIONS == k { 1f32 } else { 0. }
        });
        let rotation = Tensor::from_iter(one_hot, &Device::Cpu)?
            .reshape((batch, ROTATIONS))?
            .to_dtype(DType::F32)?;
        let out = self.forward(x, &rotation)?;
        let error = (&out.image - x)?.sqr()?.mean_all()?;
        let loss = (cross_entropy(&out.logits, &digits, 0.)? + error)?;
        Ok((loss, vec![out.logits, out.image]))
    }
}
