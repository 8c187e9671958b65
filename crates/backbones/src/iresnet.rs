//! IResNet: the residual network of the ArcFace line of work, exactly as its checkpoints have it.
//!
//! Stem `conv1` 3 x 3 at full resolution, `bn1`, `prelu`, no max pool. Four layers of 64, 128,
//! 256 and 512 channels, each of which halves the map in its first block. Block: `bn1` -> `conv1`
//! 3 x 3 -> `bn2` -> `prelu` -> `conv2` 3 x 3 (stride here) -> `bn3`, plus the block's input,
//! through a 1 x 1 convolution and a norm where the shape changes; nothing after the sum. Tail:
//! `bn2`, flatten, dropout, `fc`, `features` (a batch norm whose scale is fixed at 1; state dicts
//! hold it all the same as `features.weight`, see [`from_pytorch`] and [`to_pytorch`]).
//!
//! Convolutions have no bias and start from N(0, 0.1). Norms use eps 1e-5.
//!
//! Source: insightface, `recognition/arcface_torch`; the block is from Han, Kim and Kim,
//! "Deep Pyramidal Residual Networks" (CVPR 2017), as used by Deng et al., "ArcFace" (CVPR 2019).

use std::collections::BTreeMap;

use candle::{DType, Device, Module, Result, Tensor};
use candle_nn::{Init, ModuleT, VarBuilder};
use phiz_kernels::layers::{
    BatchNorm, BatchNormConfig, Linear, batch_norm, fold_batch_norm_before_linear,
    fold_batch_norm_linear,
};
use phiz_kernels::{Activation, dropout};

use crate::cost::Cost;
use crate::unit::{Act, Unit, check_images, conv, linear, same};

const INIT: Init = Init::Randn {
    mean: 0.,
    stdev: 0.1,
};

/// The scale of the last norm: in state dicts, but neither learned here nor asked for.
const FIXED: &str = "features.weight";

/// Shape of an [`IResNet`]; the default is the published one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IResNetConfig {
    /// Side of the square input in pixels, a multiple of 16. The map is (side / 16)^2 at the end,
    /// so checkpoints fit only the size they were trained at. Default 112.
    pub image_size: usize,
    /// Channels of the input: 3 for RGB, 1 for grey. Default 3.
    pub in_channels: usize,
    /// Length of the embedding. Default 512.
    pub embedding_dim: usize,
    /// Channels of the stem and of the first layer; each further layer doubles them. Default 64.
    pub base_channels: usize,
    /// Probability of dropping a value before `fc` while training. Default 0.
    pub dropout: f64,
}

impl Default for IResNetConfig {
    fn default() -> Self {
        Self {
            image_size: 112,
            in_channels: 3,
            embedding_dim: 512,
            base_channels: 64,
            dropout: 0.,
        }
    }
}

#[derive(Debug, Clone)]
struct Block {
    /// None once folded.
    bn1: Option<BatchNorm>,
    /// Side of the map in front.
    side: usize,
    first: Unit,
    second: Unit,
    downsample: Option<Unit>,
}

impl Block {
    fn new(
        from: usize,
        to: usize,
        stride: usize,
        cost: &mut Cost,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let side = cost.side;
        let first = Unit::new(
            conv((from, to), 3, same(3, 1), INIT, &vb.pp("conv1"))?,
            batch_norm(to, 1e-5, vb.pp("bn2"))?,
            Act::prelu(to, &vb.pp("prelu"))?,
        );
        let second = Unit::new(
            conv((to, to), 3, same(3, stride), INIT, &vb.pp("conv2"))?,
            batch_norm(to, 1e-5, vb.pp("bn3"))?,
            Act::None,
        );
        let downsample = if stride != 1 || from != to {
            let vb = vb.pp("downsample");
            let unit = Unit::new(
                conv((from, to), 1, same(1, stride), INIT, &vb.pp(0))?,
                batch_norm(to, 1e-5, vb.pp(1))?,
                Act::None,
            );
            // The shortcut sees the map as it is before the block.
            let mut shortcut = Cost::new(cost.side);
            unit.cost(&mut shortcut)?;
            cost.macs += shortcut.macs;
            Some(unit)
        } else {
            None
        };
        first.cost(cost)?;
        second.cost(cost)?;
        Ok(Self {
            bn1: Some(batch_norm(from, 1e-5, vb.pp("bn1"))?),
            side,
            first,
            second,
            downsample,
        })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let y = match &self.bn1 {
            Some(norm) => self
                .first
                .forward(&norm.forward_act(x, Activation::None, train)?, train)?,
            None => self.first.forward(x, train)?,
        };
        match &self.downsample {
            Some(unit) => {
                let shortcut = unit.forward(x, train)?;
                self.second.forward_add(&y, &shortcut, train)
            }
            None => self.second.forward_add(&y, x, train),
        }
    }

    /// The block for inference: every norm in the convolution beside it.
    fn folded(&self) -> Result<Self> {
        Ok(Self {
            bn1: None,
            side: self.side,
            first: match &self.bn1 {
                Some(norm) => self.first.folded_behind(norm, self.side)?,
                None => self.first.clone(),
            },
            second: self.second.folded()?,
            downsample: self.downsample.as_ref().map(Unit::folded).transpose()?,
        })
    }
}

/// Images (B, C, S, S) to embeddings (B, D). See the [module text](self) for the layers.
#[derive(Debug, Clone)]
pub struct IResNet {
    config: IResNetConfig,
    stem: Unit,
    blocks: Vec<Block>,
    /// The two norms of the tail; none once folded.
    norms: Option<(BatchNorm, BatchNorm)>,
    fc: Linear,
    macs: u64,
}

impl IResNet {
    /// A network with `blocks[i]` blocks in layer `i + 1`.
    ///
    /// # Errors
    /// When the image size is not a positive multiple of 16, a width or a block count is 0,
    /// dropout is outside [0, 1), or the builder has no tensor of that name and shape.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "candle's constructors take the builder by value"
    )]
    pub fn new(blocks: [usize; 4], config: IResNetConfig, vb: VarBuilder) -> Result<Self> {
        let IResNetConfig {
            image_size,
            in_channels,
            embedding_dim,
            base_channels,
            dropout,
        } = config;
        if image_size == 0 || !image_size.is_multiple_of(16) {
            candle::bail!("IResNet: image size {image_size} is not a positive multiple of 16")
        }
        if in_channels == 0 || embedding_dim == 0 || base_channels == 0 || blocks.contains(&0) {
            candle::bail!(
                "IResNet: channels ({in_channels}), embedding ({embedding_dim}), base width ({base_channels}) \
                 and blocks ({blocks:?}) must be positive"
            )
        }
        if !(0. ..1.).contains(&dropout) {
            candle::bail!("IResNet: dropout {dropout} is outside [0, 1)")
        }
        let mut cost = Cost::new(image_size);
        let stem = Unit::new(
            conv(
                (in_channels, base_channels),
                3,
                same(3, 1),
                INIT,
                &vb.pp("conv1"),
            )?,
            batch_norm(base_channels, 1e-5, vb.pp("bn1"))?,
            Act::prelu(base_channels, &vb.pp("prelu"))?,
        );
        stem.cost(&mut cost)?;
        let mut layers = Vec::new();
        let mut from = base_channels;
        for (i, &count) in blocks.iter().enumerate() {
            let to = base_channels << i;
            let vb = vb.pp(format!("layer{}", i + 1));
            for j in 0..count {
                let stride = if j == 0 { 2 } else { 1 };
                layers.push(Block::new(from, to, stride, &mut cost, &vb.pp(j))?);
                from = to;
            }
        }
        let fc = linear(from * cost.side * cost.side, embedding_dim, &vb.pp("fc"))?;
        cost.linear(&fc);
        // A learned scale would let the norm of the embedding grow without changing any cosine.
        let fixed = BatchNormConfig {
            learn_scale: false,
            ..Default::default()
        };
        Ok(Self {
            config,
            stem,
            blocks: layers,
            norms: Some((
                batch_norm(from, 1e-5, vb.pp("bn2"))?,
                batch_norm(embedding_dim, fixed, vb.pp("features"))?,
            )),
            fc,
            macs: cost.macs,
        })
    }

    /// The configuration the network was made with.
    pub fn config(&self) -> &IResNetConfig {
        &self.config
    }

    /// Multiply-accumulates of one forward pass, for one image.
    pub fn macs(&self) -> u64 {
        self.macs
    }

    /// Embeddings, with the seed of this step's dropout mask (unused in evaluation and at rate 0).
    ///
    /// # Shapes
    /// `x` (B, C, S, S) in the scale (p / 255 - 0.5) / 0.5; result (B, D), not normalised.
    ///
    /// # Errors
    /// When `x` has another shape, or `train` is set and the batch has fewer than two images.
    pub fn forward_seeded(&self, x: &Tensor, train: bool, seed: u64) -> Result<Tensor> {
        let IResNetConfig {
            image_size,
            in_channels,
            dropout: rate,
            ..
        } = self.config;
        check_images(
            "IResNet",
            x,
            in_channels,
            image_size,
            if train { 2 } else { 1 },
        )?;
        let mut x = self.stem.forward(x, train)?;
        for block in &self.blocks {
            x = block.forward(&x, train)?;
        }
        let Some((bn2, features)) = &self.norms else {
            return self.fc.forward(&x.flatten_from(1)?);
        };
        let mut x = bn2
            .forward_act(&x, Activation::None, train)?
            .flatten_from(1)?;
        if train && rate > 0. {
            x = dropout(&x, rate, seed)?;
        }
        features.forward_act(&self.fc.forward(&x)?, Activation::None, train)
    }

    /// The same network for inference, made of what its parameters and running statistics are now:
    /// norms stand in the weights of the layers beside them, activations and residuals are applied
    /// where the convolution leaves its result. Embeddings agree to rounding (f32: within 1e-4 of the
    /// largest value). It cannot be trained, and later changes of the parameters do not reach it.
    ///
    /// # Errors
    /// When memory for the new weights cannot be had.
    pub fn folded(&self) -> Result<Self> {
        let fc = match &self.norms {
            Some((front, behind)) => {
                let fc = fold_batch_norm_before_linear(front, &self.fc)?;
                fold_batch_norm_linear(&fc, behind)?
            }
            None => self.fc.clone(),
        };
        Ok(Self {
            config: self.config,
            stem: self.stem.folded()?,
            blocks: self
                .blocks
                .iter()
                .map(Block::folded)
                .collect::<Result<_>>()?,
            norms: None,
            fc,
            macs: self.macs,
        })
    }
}

impl ModuleT for IResNet {
    /// [`IResNet::forward_seeded`] for networks without dropout.
    ///
    /// # Errors
    /// As there; and in training when the dropout rate is not 0, because a mask without a seed
    /// would be the same one at every step.
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        if train && self.config.dropout > 0. {
            candle::bail!(
                "IResNet: training with dropout {} needs forward_seeded",
                self.config.dropout
            )
        }
        self.forward_seeded(x, train, 0)
    }
}

/// IResNet-18: 24.03 M parameters, 2.6 GMAC at 112 x 112.
///
/// # Errors
/// As [`IResNet::new`].
pub fn iresnet18(config: IResNetConfig, vb: VarBuilder) -> Result<IResNet> {
    IResNet::new([2, 2, 2, 2], config, vb)
}

/// IResNet-34: 34.14 M parameters, 4.5 GMAC at 112 x 112.
///
/// # Errors
/// As [`IResNet::new`].
pub fn iresnet34(config: IResNetConfig, vb: VarBuilder) -> Result<IResNet> {
    IResNet::new([3, 4, 6, 3], config, vb)
}

/// IResNet-50: 43.59 M parameters, 6.3 GMAC at 112 x 112.
///
/// # Errors
/// As [`IResNet::new`].
pub fn iresnet50(config: IResNetConfig, vb: VarBuilder) -> Result<IResNet> {
    IResNet::new([3, 4, 14, 3], config, vb)
}

/// IResNet-100: 65.16 M parameters, 12.1 GMAC at 112 x 112.
///
/// # Errors
/// As [`IResNet::new`].
pub fn iresnet100(config: IResNetConfig, vb: VarBuilder) -> Result<IResNet> {
    IResNet::new([3, 13, 30, 3], config, vb)
}

/// Takes the fixed scale out of a loaded state dict, which then holds exactly what an [`IResNet`] asks for.
///
/// # Errors
/// When the scale is not 1 everywhere: such a network computes something else.
pub fn from_pytorch(mut tensors: BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
    if let Some(scale) = tensors.remove(FIXED) {
        let values = scale
            .flatten_all()?
            .to_dtype(DType::F64)?
            .to_vec1::<f64>()?;
        if let Some((i, v)) = values.iter().enumerate().find(|(_, v)| **v != 1.) {
            candle::bail!("{FIXED} must be 1 everywhere, its entry {i} is {v}")
        }
    }
    Ok(tensors)
}

/// Puts the fixed scale back, so that PyTorch's strict `load_state_dict` finds every name.
///
/// # Errors
/// When `features.bias`, which gives its length, is missing.
pub fn to_pytorch(mut tensors: BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
    let Some(bias) = tensors.get("features.bias") else {
        candle::bail!("features.bias is missing: these are not the parameters of an IResNet")
    };
    let scale = Tensor::ones(bias.dims1()?, bias.dtype(), &Device::Cpu)?;
    tensors.insert(FIXED.to_owned(), scale);
    Ok(tensors)
}
