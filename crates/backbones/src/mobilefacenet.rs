//! MobileFaceNet in the form of the ArcFace training code (`mbf`), under its parameter names.
//!
//! Every convolution is followed by a batch norm, and by a PReLU unless it is the last of a
//! bottleneck. `layers.0` 3 x 3 with stride 2; `layers.1` 3 x 3 in **64 groups** (two channels a
//! group at the default width, so it is not depthwise); then four bottlenecks with residual
//! stages between them. A bottleneck is 1 x 1, 3 x 3 depthwise, 1 x 1. `conv_sep` 1 x 1 to 512
//! channels, then `features`: a depthwise convolution as large as the map, a linear layer without
//! bias and a batch norm.
//!
//! Convolutions and the linear layer start from Kaiming normal over the outputs.
//!
//! Source: Chen et al., "MobileFaceNets" (CCBR 2018), in the wider variant of insightface's
//! `recognition/arcface_torch`.

use candle::{Module, Result, Tensor};
use candle_nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use candle_nn::{Init, ModuleT, VarBuilder};
use phiz_kernels::layers::{BatchNorm, Linear, batch_norm, fold_batch_norm_linear};
use phiz_kernels::{Activation, Conv2dConfig};

use crate::cost::Cost;
use crate::unit::{Act, Unit, check_images, conv, same};

const INIT: Init = Init::Kaiming {
    dist: NormalOrUniform::Normal,
    fan: FanInOut::FanOut,
    non_linearity: NonLinearity::ReLU,
};

/// Channels in front of the global depthwise convolution.
const LAST: usize = 512;

/// Shape of a [`MobileFaceNet`]; the default is `mbf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MobileFaceNetConfig {
    /// Side of the square input in pixels, a multiple of 16. Default 112.
    pub image_size: usize,
    /// Channels of the input. Default 3.
    pub in_channels: usize,
    /// Length of the embedding. Default 512.
    pub embedding_dim: usize,
    /// Residual bottlenecks of the four stages; a first entry of 1 stands for one grouped
    /// convolution instead. Default 1, 4, 6, 2.
    pub blocks: [usize; 4],
    /// Channels are 64 and 128 times this. Default 2.
    pub scale: usize,
}

impl Default for MobileFaceNetConfig {
    fn default() -> Self {
        Self {
            image_size: 112,
            in_channels: 3,
            embedding_dim: 512,
            blocks: [1, 4, 6, 2],
            scale: 2,
        }
    }
}

impl MobileFaceNetConfig {
    /// The large variant: blocks 2, 8, 12, 4 at scale 4.
    pub fn large() -> Self {
        Self {
            blocks: [2, 8, 12, 4],
            scale: 4,
            ..Default::default()
        }
    }
}

/// Convolution, norm and PReLU under `layers.0`, `layers.1`, `layers.2`.
fn conv_block(
    channels: (usize, usize),
    kernel: usize,
    config: Conv2dConfig,
    cost: &mut Cost,
    vb: &VarBuilder,
) -> Result<Unit> {
    let act = Act::prelu(channels.1, &vb.pp("layers").pp(2))?;
    block(channels, kernel, config, act, cost, vb)
}

/// Convolution and norm under `layers.0`, `layers.1`.
fn linear_block(
    channels: (usize, usize),
    kernel: usize,
    config: Conv2dConfig,
    cost: &mut Cost,
    vb: &VarBuilder,
) -> Result<Unit> {
    block(channels, kernel, config, Act::None, cost, vb)
}

fn block(
    channels: (usize, usize),
    kernel: usize,
    config: Conv2dConfig,
    act: Act,
    cost: &mut Cost,
    vb: &VarBuilder,
) -> Result<Unit> {
    let vb = vb.pp("layers");
    let conv = conv(channels, kernel, config, INIT, &vb.pp(0))?;
    cost.conv(&conv)?;
    let norm = batch_norm(channels.1, 1e-5, vb.pp(1))?;
    Ok(Unit::new(conv, norm, act))
}

#[derive(Debug, Clone)]
struct Bottleneck {
    units: [Unit; 3],
    residual: bool,
}

impl Bottleneck {
    fn new(
        channels: (usize, usize),
        inner: usize,
        stride: usize,
        residual: bool,
        cost: &mut Cost,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let vb = vb.pp("layers");
        let point = Conv2dConfig::default();
        let depth = Conv2dConfig {
            groups: inner,
            ..same(3, stride)
        };
        let units = [
            conv_block((channels.0, inner), 1, point, cost, &vb.pp(0))?,
            conv_block((inner, inner), 3, depth, cost, &vb.pp(1))?,
            linear_block((inner, channels.1), 1, point, cost, &vb.pp(2))?,
        ];
        Ok(Self { units, residual })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let [widen, depth, narrow] = &self.units;
        let y = depth.forward(&widen.forward(x, train)?, train)?;
        if self.residual {
            narrow.forward_add(&y, x, train)
        } else {
            narrow.forward(&y, train)
        }
    }

    fn folded(&self) -> Result<Self> {
        let [widen, depth, narrow] = &self.units;
        Ok(Self {
            units: [widen.folded()?, depth.folded()?, narrow.folded()?],
            residual: self.residual,
        })
    }
}

/// Images (B, C, S, S) to embeddings (B, D). See the [module text](self) for the layers.
#[derive(Debug, Clone)]
pub struct MobileFaceNet {
    config: MobileFaceNetConfig,
    stem: Unit,
    /// `layers.1` where it is one convolution and not a residual stage.
    second: Option<Unit>,
    bottlenecks: Vec<Bottleneck>,
    separate: Unit,
    global: Unit,
    linear: Linear,
    /// None once folded.
    norm: Option<BatchNorm>,
    macs: u64,
}

impl MobileFaceNet {
    /// Builds the network.
    ///
    /// # Errors
    /// When the image size is not a positive multiple of 16, a width or block count is 0, or the
    /// builder has no tensor of that name and shape.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "candle's constructors take the builder by value"
    )]
    pub fn new(config: MobileFaceNetConfig, vb: VarBuilder) -> Result<Self> {
        let MobileFaceNetConfig {
            image_size,
            in_channels,
            embedding_dim,
            blocks,
            scale,
        } = config;
        if image_size == 0 || !image_size.is_multiple_of(16) {
            candle::bail!("MobileFaceNet: image size {image_size} is not a positive multiple of 16")
        }
        if in_channels == 0 || embedding_dim == 0 || scale == 0 || blocks.contains(&0) {
            candle::bail!(
                "MobileFaceNet: channels ({in_channels}), embedding ({embedding_dim}), scale ({scale}) \
                 and blocks ({blocks:?}) must be positive"
            )
        }
        let (narrow, wide) = (64 * scale, 128 * scale);
        let mut cost = Cost::new(image_size);
        let layers = vb.pp("layers");
        let stem = conv_block(
            (in_channels, narrow),
            3,
            same(3, 2),
            &mut cost,
            &layers.pp(0),
        )?;
        let mut bottlenecks = Vec::new();
        let mut second = None;
        // The inner widths are constants of the source: they do not follow `scale`.
        if blocks[0] == 1 {
            let grouped = Conv2dConfig {
                groups: 64,
                ..same(3, 1)
            };
            second = Some(conv_block(
                (narrow, narrow),
                3,
                grouped,
                &mut cost,
                &layers.pp(1),
            )?);
        } else {
            residual_stage(
                narrow,
                blocks[0],
                128,
                &mut bottlenecks,
                &mut cost,
                &layers.pp(1),
            )?;
        }
        let mut from = narrow;
        for (i, (to, down, inner)) in [(narrow, 128, 128), (wide, 256, 256), (wide, 512, 256)]
            .into_iter()
            .enumerate()
        {
            let index = 2 + 2 * i;
            bottlenecks.push(Bottleneck::new(
                (from, to),
                down,
                2,
                false,
                &mut cost,
                &layers.pp(index),
            )?);
            residual_stage(
                to,
                blocks[i + 1],
                inner,
                &mut bottlenecks,
                &mut cost,
                &layers.pp(index + 1),
            )?;
            from = to;
        }
        let separate = conv_block(
            (from, LAST),
            1,
            Conv2dConfig::default(),
            &mut cost,
            &vb.pp("conv_sep"),
        )?;
        let head = vb.pp("features").pp("layers");
        let whole = Conv2dConfig {
            groups: LAST,
            ..Default::default()
        };
        let global = linear_block((LAST, LAST), cost.side, whole, &mut cost, &head.pp(0))?;
        let weight = head
            .pp(2)
            .get_with_hints((embedding_dim, LAST), "weight", INIT)?;
        let linear = Linear::new(weight, None);
        cost.linear(&linear);
        let norm = batch_norm(embedding_dim, 1e-5, head.pp(3))?;
        Ok(Self {
            config,
            stem,
            second,
            bottlenecks,
            separate,
            global,
            linear,
            norm: Some(norm),
            macs: cost.macs,
        })
    }

    /// The configuration the network was made with.
    pub fn config(&self) -> &MobileFaceNetConfig {
        &self.config
    }

    /// Multiply-accumulates of one forward pass, for one image.
    pub fn macs(&self) -> u64 {
        self.macs
    }

    /// The same network for inference, made of what its parameters and running statistics are now:
    /// norms stand in the weights of the layers in front of them, activations and residuals are applied
    /// where the convolution leaves its result. Embeddings agree to rounding (f32: within 1e-4 of the
    /// largest value). It cannot be trained, and later changes of the parameters do not reach it.
    ///
    /// # Errors
    /// When memory for the new weights cannot be had.
    pub fn folded(&self) -> Result<Self> {
        let bottlenecks = self.bottlenecks.iter().map(Bottleneck::folded);
        Ok(Self {
            config: self.config,
            stem: self.stem.folded()?,
            second: self.second.as_ref().map(Unit::folded).transpose()?,
            bottlenecks: bottlenecks.collect::<Result<_>>()?,
            separate: self.separate.folded()?,
            global: self.global.folded()?,
            linear: match &self.norm {
                Some(norm) => fold_batch_norm_linear(&self.linear, norm)?,
                None => self.linear.clone(),
            },
            norm: None,
            macs: self.macs,
        })
    }
}

/// `count` bottlenecks that keep the shape, each added to its input.
fn residual_stage(
    channels: usize,
    count: usize,
    inner: usize,
    bottlenecks: &mut Vec<Bottleneck>,
    cost: &mut Cost,
    vb: &VarBuilder,
) -> Result<()> {
    let vb = vb.pp("layers");
    for i in 0..count {
        bottlenecks.push(Bottleneck::new(
            (channels, channels),
            inner,
            1,
            true,
            cost,
            &vb.pp(i),
        )?);
    }
    Ok(())
}

impl ModuleT for MobileFaceNet {
    /// # Shapes
    /// `x` (B, C, S, S) in the scale (p / 255 - 0.5) / 0.5; result (B, D), not normalised.
    ///
    /// # Errors
    /// When `x` has another shape, or `train` is set and the batch has fewer than two images.
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let MobileFaceNetConfig {
            image_size,
            in_channels,
            ..
        } = self.config;
        check_images(
            "MobileFaceNet",
            x,
            in_channels,
            image_size,
            if train { 2 } else { 1 },
        )?;
        let mut x = self.stem.forward(x, train)?;
        if let Some(unit) = &self.second {
            x = unit.forward(&x, train)?;
        }
        for bottleneck in &self.bottlenecks {
            x = bottleneck.forward(&x, train)?;
        }
        let x = self
            .global
            .forward(&self.separate.forward(&x, train)?, train)?;
        let x = self.linear.forward(&x.flatten_from(1)?)?;
        match &self.norm {
            Some(norm) => norm.forward_act(&x, Activation::None, train),
            None => Ok(x),
        }
    }
}

/// `mbf`: 2.06 M parameters, 0.45 GMAC at 112 x 112; with [`MobileFaceNetConfig::large`], 6.31 M.
///
/// # Errors
/// As [`MobileFaceNet::new`].
pub fn mobilefacenet(config: MobileFaceNetConfig, vb: VarBuilder) -> Result<MobileFaceNet> {
    MobileFaceNet::new(config, vb)
}
