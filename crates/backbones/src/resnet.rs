//! ResNet, version 1.5, as torchvision has it, with stems for small images.
//!
//! Stem, four layers of 1, 2, 4 and 8 times `base_channels` (times 4 with bottlenecks), global average
//! pooling, and `fc` where outputs are asked for. Layers 2, 3 and 4 halve the map in their first block.
//! Basic block: `conv1` 3 x 3 (stride here) -> `bn1` -> ReLU -> `conv2` 3 x 3 -> `bn2`. Bottleneck: `conv1`
//! 1 x 1 -> `bn1` -> ReLU -> `conv2` 3 x 3 (stride here, which is what version 1.5 means; version 1 has it in
//! `conv1`) -> `bn2` -> ReLU -> `conv3` 1 x 1 -> `bn3`. Both add the block's input, through `downsample` where
//! the shape changes, and end in ReLU.
//!
//! The published stem takes a quarter of the side away before the first block, which leaves a 64-pixel face a
//! last map of 2 x 2. [`Stem`] names the two others that are usual for small images; their parameters keep the
//! names. Any side works, and different ones one after the other, because nothing behind the pooling
//! knows the size of the map.
//!
//! Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016); version 1.5 and names:
//! torchvision `models/resnet.py`.

use candle::{Module, Result, Tensor};
use candle_nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use candle_nn::{Init, ModuleT, VarBuilder};
use phiz_kernels::layers::{Linear, batch_norm};
use phiz_kernels::{global_avg_pool, max_pool2d};

use crate::cost::Cost;
use crate::unit::{Act, Unit, conv, linear, same};

/// He's initialisation over the fan out, torchvision's for these networks.
const INIT: Init = Init::Kaiming {
    dist: NormalOrUniform::Normal,
    fan: FanInOut::FanOut,
    non_linearity: NonLinearity::ReLU,
};

/// What stands before the first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stem {
    /// 7 x 7 with stride 2 and a 3 x 3 max pool with stride 2: for images of 112 pixels and more.
    #[default]
    Imagenet,
    /// 3 x 3 with stride 2, no pool: for 48 to 96 pixels. A face of 64 pixels has maps of 32, 16, 8 and 4.
    Half,
    /// 3 x 3 with stride 1, no pool: for 32 pixels and less; four times the cost of [`Stem::Half`].
    Full,
}

impl Stem {
    /// The stem that suits square images of `side` pixels: [`Stem::Full`] below 40, [`Stem::Half`] below 112.
    pub fn for_side(side: usize) -> Self {
        match side {
            0..40 => Self::Full,
            40..112 => Self::Half,
            _ => Self::Imagenet,
        }
    }
}

/// The block of a [`ResNet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResNetBlock {
    /// Two 3 x 3 convolutions, as in the networks of 18 and 34 layers.
    Basic,
    /// 1 x 1, 3 x 3, 1 x 1 with four times the channels at the end, as in those of 50 layers and more.
    Bottleneck,
}

impl ResNetBlock {
    fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// Shape of a [`ResNet`]; the default is the published one without its classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResNetConfig {
    /// Channels of the input: 3 for RGB, 1 for grey. Default 3.
    pub in_channels: usize,
    /// Channels of the stem; a width multiplier of 0.25 is 16. Default 64.
    pub base_channels: usize,
    /// What stands before the first block. Default [`Stem::Imagenet`].
    pub stem: Stem,
    /// Outputs of a last linear layer `fc`; without, the pooled features are the result. Default none.
    pub outputs: Option<usize>,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            base_channels: 64,
            stem: Stem::Imagenet,
            outputs: None,
        }
    }
}

impl ResNetConfig {
    /// `base_channels` for a width multiplier on the published 64: at least 1, rounded.
    pub fn width(multiplier: f64) -> usize {
        ((64. * multiplier).round() as usize).max(1)
    }
}

#[derive(Debug, Clone)]
struct Block {
    /// All but the last, each with ReLU.
    front: Vec<Unit>,
    /// The last, which adds the block's input before its ReLU.
    last: Unit,
    downsample: Option<Unit>,
}

/// Convolution `number` of a block with its norm, and ReLU.
fn unit(
    number: usize,
    channels: (usize, usize),
    kernel: usize,
    stride: usize,
    vb: &VarBuilder,
) -> Result<Unit> {
    Ok(Unit::new(
        conv(
            channels,
            kernel,
            same(kernel, stride),
            INIT,
            &vb.pp(format!("conv{number}")),
        )?,
        batch_norm(channels.1, 1e-5, vb.pp(format!("bn{number}")))?,
        Act::Relu,
    ))
}

impl Block {
    fn new(
        kind: ResNetBlock,
        from: usize,
        planes: usize,
        stride: usize,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let to = planes * kind.expansion();
        let (front, last) = match kind {
            ResNetBlock::Basic => (
                vec![unit(1, (from, planes), 3, stride, vb)?],
                unit(2, (planes, to), 3, 1, vb)?,
            ),
            ResNetBlock::Bottleneck => (
                vec![
                    unit(1, (from, planes), 1, 1, vb)?,
                    unit(2, (planes, planes), 3, stride, vb)?,
                ],
                unit(3, (planes, to), 1, 1, vb)?,
            ),
        };
        let downsample = if stride != 1 || from != to {
            let vb = vb.pp("downsample");
            Some(Unit::new(
                conv((from, to), 1, same(1, stride), INIT, &vb.pp(0))?,
                batch_norm(to, 1e-5, vb.pp(1))?,
                Act::None,
            ))
        } else {
            None
        };
        Ok(Self {
            front,
            last,
            downsample,
        })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let mut y = x.clone();
        for unit in &self.front {
            y = unit.forward(&y, train)?;
        }
        match &self.downsample {
            Some(unit) => {
                let shortcut = unit.forward(x, train)?;
                self.last.forward_add(&y, &shortcut, train)
            }
            None => self.last.forward_add(&y, x, train),
        }
    }

    fn cost(&self, cost: &mut Cost) -> Result<()> {
        // The shortcut sees the map as it is before the block.
        let mut shortcut = Cost::new(cost.side);
        for unit in &self.front {
            unit.cost(cost)?;
        }
        self.last.cost(cost)?;
        if let Some(unit) = &self.downsample {
            unit.cost(&mut shortcut)?;
            cost.macs += shortcut.macs;
        }
        Ok(())
    }

    fn folded(&self) -> Result<Self> {
        Ok(Self {
            front: self.front.iter().map(Unit::folded).collect::<Result<_>>()?,
            last: self.last.folded()?,
            downsample: self.downsample.as_ref().map(Unit::folded).transpose()?,
        })
    }
}

/// Images (B, C, H, W) to pooled features (B, F), or to the outputs of `fc`. See the [module text](self).
///
/// ```
/// use candle::{DType, Device, Tensor};
/// use candle_nn::{ModuleT, VarBuilder, VarMap};
/// use phiz_backbones::{ResNetConfig, Stem, resnet18};
/// # fn main() -> candle::Result<()> {
/// let parameters = VarMap::new();
/// let vb = VarBuilder::from_varmap(&parameters, DType::F32, &Device::Cpu);
/// let config = ResNetConfig { base_channels: 8, stem: Stem::Half, ..Default::default() };
/// let network = resnet18(config, vb)?;
/// for side in [64, 32] {
///     let crops = Tensor::zeros((2, 3, side, side), DType::F32, &Device::Cpu)?;
///     assert_eq!(network.forward_maps(&crops, false)?.dims(), [2, 64, side / 16, side / 16]);
///     assert_eq!(network.forward_t(&crops, false)?.dims(), [2, network.features()]);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct ResNet {
    config: ResNetConfig,
    stem: Unit,
    layers: Vec<Vec<Block>>,
    features: usize,
    fc: Option<Linear>,
}

impl ResNet {
    /// A network with `blocks[i]` blocks in layer `i + 1`.
    ///
    /// # Errors
    /// When a width or a block count is 0, or the builder has no tensor of that name and shape.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "candle's constructors take the builder by value"
    )]
    pub fn new(
        kind: ResNetBlock,
        blocks: [usize; 4],
        config: ResNetConfig,
        vb: VarBuilder,
    ) -> Result<Self> {
        let ResNetConfig {
            in_channels,
            base_channels: base,
            stem,
            outputs,
        } = config;
        if in_channels == 0 || base == 0 || blocks.contains(&0) || outputs == Some(0) {
            candle::bail!(
                "ResNet: channels ({in_channels}), base width ({base}), blocks ({blocks:?}) and outputs \
                 ({outputs:?}) must be positive"
            )
        }
        let (kernel, stride) = match stem {
            Stem::Imagenet => (7, 2),
            Stem::Half => (3, 2),
            Stem::Full => (3, 1),
        };
        let stem = unit(1, (in_channels, base), kernel, stride, &vb)?;
        let mut from = base;
        let mut layers = Vec::new();
        for (i, &count) in blocks.iter().enumerate() {
            let planes = base << i;
            let vb = vb.pp(format!("layer{}", i + 1));
            let mut layer = Vec::new();
            for j in 0..count {
                let stride = if i > 0 && j == 0 { 2 } else { 1 };
                layer.push(Block::new(kind, from, planes, stride, &vb.pp(j))?);
                from = planes * kind.expansion();
            }
            layers.push(layer);
        }
        let fc = match outputs {
            Some(outputs) => Some(linear(from, outputs, &vb.pp("fc"))?),
            None => None,
        };
        Ok(Self {
            config,
            stem,
            layers,
            features: from,
            fc,
        })
    }

    /// The configuration the network was made with.
    pub fn config(&self) -> &ResNetConfig {
        &self.config
    }

    /// Channels of the last map, and length of the pooled features.
    pub fn features(&self) -> usize {
        self.features
    }

    /// By how much the last map is smaller than the image: 32, 16 or 8, by the stem.
    pub fn stride(&self) -> usize {
        match self.config.stem {
            Stem::Imagenet => 32,
            Stem::Half => 16,
            Stem::Full => 8,
        }
    }

    /// Multiply-accumulates of one forward pass for one image of `side` x `side`.
    ///
    /// # Errors
    /// When the image is too small for the stem.
    pub fn macs(&self, side: usize) -> Result<u64> {
        let mut cost = Cost::new(side);
        self.stem.cost(&mut cost)?;
        if self.config.stem == Stem::Imagenet {
            cost.pool(3, 2, 1)?;
        }
        for block in self.layers.iter().flatten() {
            block.cost(&mut cost)?;
        }
        if let Some(fc) = &self.fc {
            cost.linear(fc);
        }
        Ok(cost.macs)
    }

    /// The maps behind layers 1 to 4, in that order.
    ///
    /// # Shapes
    /// `x` (B, C, H, W). The last map is (B, F, H / s, W / s) with F [features](Self::features) and s the
    /// [stride](Self::stride), sides rounded up; each one before it has half the channels and twice the side.
    ///
    /// # Errors
    /// When `x` has another number of channels, or `train` is set and a norm would see one value a channel.
    pub fn forward_stages(&self, x: &Tensor, train: bool) -> Result<[Tensor; 4]> {
        match *x.dims() {
            [b, c, h, w] if b > 0 && c == self.config.in_channels && h > 0 && w > 0 => {}
            ref dims => candle::bail!(
                "ResNet: expected images (B, {}, H, W), got {dims:?}",
                self.config.in_channels
            ),
        }
        let mut x = self.stem.forward(x, train)?;
        if self.config.stem == Stem::Imagenet {
            x = max_pool2d(&x, 3, 2, 1)?;
        }
        let mut maps = Vec::with_capacity(4);
        for layer in &self.layers {
            for block in layer {
                x = block.forward(&x, train)?;
            }
            maps.push(x.clone());
        }
        <[Tensor; 4]>::try_from(maps)
            .map_err(|maps| candle::Error::msg(format!("ResNet: {} layers, not 4", maps.len())))
    }

    /// The last map, before the pooling.
    ///
    /// # Shapes
    /// `x` (B, C, H, W); result (B, [`features`](Self::features), H / [`stride`](Self::stride), ...), sides rounded up.
    ///
    /// # Errors
    /// As [`forward_stages`](Self::forward_stages).
    pub fn forward_maps(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let [.., last] = self.forward_stages(x, train)?;
        Ok(last)
    }

    /// The same network for inference, made of what its parameters and running statistics are now; it cannot be
    /// trained. Results agree to rounding.
    ///
    /// # Errors
    /// When memory for the new weights cannot be had.
    pub fn folded(&self) -> Result<Self> {
        let layer = |blocks: &Vec<Block>| blocks.iter().map(Block::folded).collect();
        Ok(Self {
            config: self.config,
            stem: self.stem.folded()?,
            layers: self.layers.iter().map(layer).collect::<Result<_>>()?,
            features: self.features,
            fc: self.fc.clone(),
        })
    }
}

impl ModuleT for ResNet {
    /// Pooled features (B, F); with `outputs`, `fc` of them (B, outputs).
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let pooled = global_avg_pool(&self.forward_maps(x, train)?)?;
        match &self.fc {
            Some(fc) => fc.forward(&pooled),
            None => Ok(pooled),
        }
    }
}

/// ResNet-18: 11.69 M parameters with 1,000 outputs, 1.8 GMAC at 224 x 224.
///
/// # Errors
/// As [`ResNet::new`].
pub fn resnet18(config: ResNetConfig, vb: VarBuilder) -> Result<ResNet> {
    ResNet::new(ResNetBlock::Basic, [2, 2, 2, 2], config, vb)
}

/// ResNet-50 v1.5: 25.56 M parameters with 1,000 outputs, 4.1 GMAC at 224 x 224.
///
/// # Errors
/// As [`ResNet::new`].
pub fn resnet50(config: ResNetConfig, vb: VarBuilder) -> Result<ResNet> {
    ResNet::new(ResNetBlock::Bottleneck, [3, 4, 6, 3], config, vb)
}
