//! The vision transformer, under timm's names.
//!
//! `patch_embed.proj` cuts the image into patches and maps each to a token, `cls_token` is put in front,
//! `pos_embed` is added, and `depth` blocks follow: x + attn(norm1(x)), then x + mlp(norm2(x)). `attn` has one
//! layer `qkv` for queries, keys and values of all heads and `proj` behind them; `mlp` is `fc1`, GELU, `fc2`. The
//! result is the class token behind `norm`, or `head` of it where outputs are asked for. Norms use eps 1e-6.
//! [`VisionTransformer::patches`] and [`VisionTransformer::encode`] are its two halves, for training that leaves
//! tokens out between them.
//!
//! Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021); the widths Tiny and Small are from
//! Touvron et al., "Training data-efficient image transformers" (ICML 2021); names: timm
//! `models/vision_transformer.py`.

use candle::{Module, Result, Tensor};
use candle_nn::{Init, ModuleT, VarBuilder};
use phiz_kernels::layers::{
    Conv2d, LayerNorm, Linear, TransformerBlock, TransformerBlockConfig, layer_norm,
    linear_zero_bias, transformer_block,
};
use phiz_kernels::{Conv2dConfig, layers};

use crate::cost::Cost;
use crate::unit::check_images;

/// N(0, 0.02), timm's for tokens, positions and linear layers (there cut at 2, that is at 100 deviations).
const INIT: Init = Init::Randn {
    mean: 0.,
    stdev: 0.02,
};

/// Shape of a [`VisionTransformer`]; the default is ViT-Tiny/16 at 224 pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisionTransformerConfig {
    /// Side of the square input in pixels, a multiple of the patch. Default 224.
    pub image_size: usize,
    /// Side of a patch in pixels; 8 suits faces of 64 pixels. Default 16.
    pub patch_size: usize,
    /// Channels of the input. Default 3.
    pub in_channels: usize,
    /// Length of a token, a multiple of the heads. Default 192.
    pub dim: usize,
    /// Number of blocks. Default 12.
    pub depth: usize,
    /// Heads of an attention. Default 3.
    pub heads: usize,
    /// Length of the hidden layer of `mlp`, in tokens. Default 4.
    pub mlp_ratio: usize,
    /// Outputs of a last linear layer `head`; without, the class token is the result. Default none.
    pub outputs: Option<usize>,
}

impl Default for VisionTransformerConfig {
    fn default() -> Self {
        Self {
            image_size: 224,
            patch_size: 16,
            in_channels: 3,
            dim: 192,
            depth: 12,
            heads: 3,
            mlp_ratio: 4,
            outputs: None,
        }
    }
}

impl VisionTransformerConfig {
    /// ViT-Small/16: 384 channels, 6 heads.
    pub fn small() -> Self {
        Self {
            dim: 384,
            heads: 6,
            ..Self::default()
        }
    }
}

/// Images (B, C, S, S) to the class token (B, D), or to the outputs of `head`. See the [module text](self).
///
/// ```
/// use candle::{DType, Device, Tensor};
/// use candle_nn::{ModuleT, VarBuilder, VarMap};
/// use phiz_backbones::{VisionTransformer, VisionTransformerConfig};
/// # fn main() -> candle::Result<()> {
/// let parameters = VarMap::new();
/// let vb = VarBuilder::from_varmap(&parameters, DType::F32, &Device::Cpu);
/// let config = VisionTransformerConfig { image_size: 32, patch_size: 8, dim: 24, depth: 2, ..Default::default() };
/// let network = VisionTransformer::new(config, vb)?;
/// let images = Tensor::zeros((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// assert_eq!(network.forward_t(&images, false)?.dims(), [2, 24]);
/// assert_eq!(network.patches(&images)?.dims(), [2, 16, 24]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct VisionTransformer {
    config: VisionTransformerConfig,
    embed: Conv2d,
    class: Tensor,
    positions: Tensor,
    blocks: Vec<TransformerBlock>,
    norm: LayerNorm,
    head: Option<Linear>,
}

impl VisionTransformer {
    /// A network of the given shape.
    ///
    /// # Errors
    /// When a size is 0, the patch does not divide the image or the heads do not divide the token, or the builder
    /// has no tensor of that name and shape.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "candle's constructors take the builder by value"
    )]
    pub fn new(config: VisionTransformerConfig, vb: VarBuilder) -> Result<Self> {
        let VisionTransformerConfig {
            image_size,
            patch_size: patch,
            in_channels,
            dim,
            depth,
            heads,
            mlp_ratio,
            outputs,
        } = config;
        if [image_size, patch, in_channels, dim, depth, heads, mlp_ratio].contains(&0)
            || outputs == Some(0)
        {
            candle::bail!("VisionTransformer: every size must be positive, got {config:?}")
        }
        if !image_size.is_multiple_of(patch) || !dim.is_multiple_of(heads) {
            candle::bail!(
                "VisionTransformer: patches of {patch} do not divide an image of {image_size}, or {heads} heads a \
                 token of {dim}"
            )
        }
        let tokens = (image_size / patch).pow(2);
        let cut = Conv2dConfig {
            stride: patch,
            ..Default::default()
        };
        let embed = layers::conv2d(
            in_channels,
            dim,
            patch,
            cut,
            vb.pp("patch_embed").pp("proj"),
        )?;
        let block = TransformerBlockConfig {
            dim,
            heads,
            hidden: dim * mlp_ratio,
            init: |_, _| INIT,
        };
        let blocks = (0..depth).map(|i| transformer_block(block, vb.pp("blocks").pp(i)));
        Ok(Self {
            config,
            embed,
            class: vb.get_with_hints((1, 1, dim), "cls_token", INIT)?,
            positions: vb.get_with_hints((1, tokens + 1, dim), "pos_embed", INIT)?,
            blocks: blocks.collect::<Result<_>>()?,
            norm: layer_norm(dim, 1e-6, vb.pp("norm"))?,
            head: match outputs {
                Some(outputs) => Some(linear_zero_bias(dim, outputs, INIT, vb.pp("head"))?),
                None => None,
            },
        })
    }

    /// The configuration the network was made with.
    pub fn config(&self) -> &VisionTransformerConfig {
        &self.config
    }

    /// Length of a token.
    pub fn features(&self) -> usize {
        self.config.dim
    }

    /// Multiply-accumulates of the convolution and the linear layers for one image; attention's own products, which
    /// published figures leave out too, do not count.
    pub fn macs(&self) -> u64 {
        let tokens = (self.config.image_size / self.config.patch_size).pow(2) as u64;
        let mut cost = Cost::new(self.config.image_size);
        for block in &self.blocks {
            for linear in block.linears() {
                cost.linear(linear);
            }
        }
        let each = cost.macs;
        let embed = self.embed.weight().elem_count() as u64;
        let head = self.head.as_ref().map_or(0, |h| h.weight().elem_count());
        each * (tokens + 1) + embed * tokens + head as u64
    }

    /// Tokens of the patches with their positions, row by row, without the class token.
    ///
    /// # Shapes
    /// `x` (B, C, S, S); result (B, (S / patch)^2, D).
    ///
    /// # Errors
    /// When `x` has another shape.
    pub fn patches(&self, x: &Tensor) -> Result<Tensor> {
        let VisionTransformerConfig {
            in_channels,
            image_size,
            ..
        } = self.config;
        check_images("VisionTransformer", x, in_channels, image_size, 1)?;
        let tokens = self.embed.forward(x)?.flatten_from(2)?;
        let tokens = tokens.transpose(1, 2)?.contiguous()?;
        let count = tokens.dim(1)?;
        tokens.broadcast_add(&self.positions.narrow(1, 1, count)?)
    }

    /// All blocks and the last norm over the class token and any choice of `tokens`; attention does not know which
    /// are missing.
    ///
    /// # Shapes
    /// `tokens` (B, T, D) as [`patches`](Self::patches) gives them; result (B, 1 + T, D), the class token first.
    ///
    /// # Errors
    /// When the tokens have another length.
    pub fn encode(&self, tokens: &Tensor) -> Result<Tensor> {
        let (batch, _, dim) = tokens.dims3()?;
        if dim != self.config.dim {
            candle::bail!(
                "VisionTransformer: tokens of length {}, got {:?}",
                self.config.dim,
                tokens.dims()
            )
        }
        let class = (&self.class + self.positions.narrow(1, 0, 1)?)?;
        let class = class.broadcast_as((batch, 1, dim))?;
        let mut x = Tensor::cat(&[&class, tokens], 1)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.norm.forward(&x)
    }
}

impl ModuleT for VisionTransformer {
    /// The class token (B, D), or `head` of it; training and evaluation are the same.
    fn forward_t(&self, x: &Tensor, _train: bool) -> Result<Tensor> {
        let class = self
            .encode(&self.patches(x)?)?
            .narrow(1, 0, 1)?
            .squeeze(1)?
            .contiguous()?;
        match &self.head {
            Some(head) => head.forward(&class),
            None => Ok(class),
        }
    }
}

/// ViT-Tiny/16 unless the configuration says otherwise: 5.72 M parameters with 1,000 outputs at 224 x 224.
///
/// # Errors
/// As [`VisionTransformer::new`].
pub fn vit_tiny(config: VisionTransformerConfig, vb: VarBuilder) -> Result<VisionTransformer> {
    VisionTransformer::new(
        VisionTransformerConfig {
            dim: 192,
            heads: 3,
            ..config
        },
        vb,
    )
}

/// ViT-Small/16: 22.05 M parameters with 1,000 outputs at 224 x 224.
///
/// # Errors
/// As [`VisionTransformer::new`].
pub fn vit_small(config: VisionTransformerConfig, vb: VarBuilder) -> Result<VisionTransformer> {
    VisionTransformer::new(
        VisionTransformerConfig {
            dim: 384,
            heads: 6,
            ..config
        },
        vb,
    )
}
