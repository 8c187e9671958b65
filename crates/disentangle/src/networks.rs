//! Encoder and decoder: an image into features and codes back into an image.

use candle::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use phiz_kernels::layers::{
    BatchNorm, Conv2d, ConvTranspose2d, Linear, batch_norm, conv_transpose2d_no_bias, conv2d,
    conv2d_no_bias, linear,
};
use phiz_kernels::{
    Activation, Conv2dConfig, ConvTranspose2dConfig, max_pool2d, upsample_nearest2d,
};

/// A network from images (B, C, H, W) to features (B, [`Trunk::dim`]): any backbone, or a [`ConvEncoder`].
pub trait Trunk {
    /// Number of features.
    fn dim(&self) -> usize;

    /// The features of a batch; `train` decides where batch norms take their statistics from.
    ///
    /// # Errors
    /// When the images do not fit the network.
    fn features(&self, images: &Tensor, train: bool) -> Result<Tensor>;
}

/// Sides of images the encoder and the decoder are made for.
const SIDES: [usize; 4] = [28, 32, 64, 112];

/// How the encoder halves a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Halving {
    /// Convolution 5 x 5 of stride 2.
    #[default]
    Stride,
    /// Convolution 3 x 3, then the greatest of 2 x 2: on a CPU faster for as many channels.
    Pool,
}

/// A plain encoder: halvings with batch norm and ReLU, then a linear layer with both.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvEncoderConfig {
    /// Side of the image: 28, 32, 64 or 112 (default 28).
    pub image_size: usize,
    /// 1 or 3 (default 1).
    pub channels: usize,
    /// Channels after each halving (default 32, 64).
    pub widths: Vec<usize>,
    /// Features (default 256).
    pub features: usize,
    /// How a map is halved.
    pub halving: Halving,
}

impl Default for ConvEncoderConfig {
    fn default() -> Self {
        Self {
            image_size: 28,
            channels: 1,
            widths: vec![32, 64],
            features: 256,
            halving: Halving::default(),
        }
    }
}

/// See [`ConvEncoderConfig`].
#[derive(Debug, Clone)]
pub struct ConvEncoder {
    stages: Vec<(Conv2d, BatchNorm)>,
    linear: Linear,
    norm: BatchNorm,
    features: usize,
    halving: Halving,
}

impl ConvEncoder {
    /// The encoder `config` describes: `stage0`, `stage1`, ... and `fc` below the builder's prefix.
    ///
    /// # Errors
    /// When the image is of another size than 28, 32, 64 or 112, or too small for so many halvings.
    pub fn new(config: &ConvEncoderConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        check_side(config.image_size)?;
        let (mut side, mut from) = (config.image_size, config.channels);
        let (kernel, halve) = match config.halving {
            Halving::Stride => (5, (2, 2)),
            Halving::Pool => (3, (1, 1)),
        };
        let halve = Conv2dConfig {
            padding: halve.0,
            stride: halve.1,
            ..Conv2dConfig::default()
        };
        let mut stages = Vec::new();
        for (i, &to) in config.widths.iter().enumerate() {
            if side < 4 {
                candle::bail!(
                    "encoder: {} halvings of {} pixels leave less than 2",
                    config.widths.len(),
                    config.image_size
                )
            }
            let vb = vb.pp(format!("stage{i}"));
            stages.push((
                conv2d_no_bias(from, to, kernel, halve, vb.pp("conv"))?,
                batch_norm(to, 1e-5, vb.pp("bn"))?,
            ));
            side = match config.halving {
                Halving::Stride => side.div_ceil(2),
                Halving::Pool => side / 2,
            };
            from = to;
        }
        Ok(Self {
            stages,
            linear: linear(from * side * side, config.features, vb.pp("fc"))?,
            norm: batch_norm(config.features, 1e-5, vb.pp("fc_bn"))?,
            features: config.features,
            halving: config.halving,
        })
    }
}

impl Trunk for ConvEncoder {
    fn dim(&self) -> usize {
        self.features
    }

    fn features(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        let mut x = images.clone();
        for (conv, norm) in &self.stages {
            x = norm.forward_conv(conv, &x, Activation::Relu, train)?;
            if self.halving == Halving::Pool {
                x = max_pool2d(&x, 2, 2, 0)?;
            }
        }
        let x = self.linear.forward(&x.flatten_from(1)?)?;
        self.norm.forward_act(&x, Activation::Relu, train)
    }
}

/// How the decoder doubles a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Doubling {
    /// Repeat pixels, then convolve 3 x 3: no checkerboards.
    #[default]
    Upsample,
    /// Transposed convolution 4 x 4 of stride 2.
    Transposed,
}

/// A decoder: linear layer to a small map, doublings with batch norm and ReLU, a last 3 x 3 convolution, tanh.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Side of the image: 28, 32, 64 or 112 (default 28).
    pub image_size: usize,
    /// 1 or 3 (default 1).
    pub channels: usize,
    /// Channels of the smallest map and after each doubling (default 64, 32, 16: two doublings).
    pub widths: Vec<usize>,
    /// How a map is doubled.
    pub doubling: Doubling,
}

impl Default for DecoderConfig {
    fn default() -> Self {
        Self {
            image_size: 28,
            channels: 1,
            widths: vec![64, 32, 16],
            doubling: Doubling::Upsample,
        }
    }
}

#[derive(Debug, Clone)]
enum Double {
    Upsample(Conv2d),
    Transposed(ConvTranspose2d),
}

/// See [`DecoderConfig`].
#[derive(Debug, Clone)]
pub struct Decoder {
    linear: Linear,
    norm: BatchNorm,
    start: (usize, usize),
    stages: Vec<(Double, BatchNorm)>,
    last: Conv2d,
}

impl Decoder {
    /// A decoder of codes with `code_dim` numbers in all.
    ///
    /// # Errors
    /// When the image is of another size than 28, 32, 64 or 112, or cannot be halved so often.
    pub fn new(code_dim: usize, config: &DecoderConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        check_side(config.image_size)?;
        let Some((&first, rest)) = config.widths.split_first() else {
            candle::bail!("decoder: no widths; expected at least one")
        };
        let scale = 1usize << rest.len().min(16);
        if !config.image_size.is_multiple_of(scale) {
            candle::bail!(
                "decoder: {} pixels cannot be halved {} times",
                config.image_size,
                rest.len()
            )
        }
        let side = config.image_size / scale;
        let same = Conv2dConfig {
            padding: 1,
            ..Conv2dConfig::default()
        };
        let mut from = first;
        let mut stages = Vec::new();
        for (i, &to) in rest.iter().enumerate() {
            let vb = vb.pp(format!("stage{i}"));
            let double = match config.doubling {
                Doubling::Upsample => {
                    Double::Upsample(conv2d_no_bias(from, to, 3, same, vb.pp("conv"))?)
                }
                Doubling::Transposed => {
                    let twice = ConvTranspose2dConfig {
                        stride: 2,
                        padding: 1,
                        ..ConvTranspose2dConfig::default()
                    };
                    Double::Transposed(conv_transpose2d_no_bias(from, to, 4, twice, vb.pp("conv"))?)
                }
            };
            stages.push((double, batch_norm(to, 1e-5, vb.pp("bn"))?));
            from = to;
        }
        Ok(Self {
            linear: linear(code_dim, first * side * side, vb.pp("fc"))?,
            norm: batch_norm(first, 1e-5, vb.pp("fc_bn"))?,
            start: (first, side),
            stages,
            last: conv2d(from, config.channels, 3, same, vb.pp("last"))?,
        })
    }

    /// Images from codes; `train` decides where batch norms take their statistics from.
    ///
    /// # Shapes
    /// `codes` (B, code_dim); result (B, C, H, W) in (-1, 1).
    ///
    /// # Errors
    /// When the codes have another width.
    pub fn forward(&self, codes: &Tensor, train: bool) -> Result<Tensor> {
        let (channels, side) = self.start;
        let x = self
            .linear
            .forward(codes)?
            .reshape(((), channels, side, side))?;
        let mut x = self.norm.forward_act(&x, Activation::Relu, train)?;
        for (double, norm) in &self.stages {
            x = match double {
                Double::Upsample(conv) => {
                    let (_, _, h, w) = x.dims4()?;
                    let x = upsample_nearest2d(&x, (2 * h, 2 * w))?;
                    norm.forward_conv(conv, &x, Activation::Relu, train)?
                }
                Double::Transposed(conv) => {
                    norm.forward_conv_transpose(conv, &x, Activation::Relu, train)?
                }
            };
        }
        self.last.forward(&x)?.tanh()
    }
}

fn check_side(side: usize) -> Result<()> {
    if SIDES.contains(&side) {
        return Ok(());
    }
    candle::bail!("images of {side} pixels; expected 28, 32, 64 or 112")
}
