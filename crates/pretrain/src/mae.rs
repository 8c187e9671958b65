//! The masked auto-encoder: what a few patches of an image say about the others.

use candle::{D, DType, Device, Module, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};
use phiz_kernels::layers::{
    LayerNorm, Linear, TransformerBlock, TransformerBlockConfig, layer_norm, linear_zero_bias,
    transformer_block,
};

use crate::masking::{Mask, patch_rows};
use crate::method::{Method, Moment, StepReport, scalar};
use crate::monitor::spread;
use crate::views::{Tokens, Trunk, Views};

/// Settings of [`Mae`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaeConfig {
    /// Share of the patches that are hidden. Default 0.75.
    pub hidden: f64,
    /// Length of a token in the decoder, a multiple of four and of `heads`. Default 512.
    pub dim: usize,
    /// Blocks of the decoder. Default 8.
    pub depth: usize,
    /// Heads of its attention. Default 16.
    pub heads: usize,
    /// Whether each patch that is to be told is scaled to mean 0 and variance 1. Default true.
    pub normalised: bool,
    /// Seed of the masks. Default 0.
    pub seed: u64,
}

impl Default for MaeConfig {
    fn default() -> Self {
        Self {
            hidden: 0.75,
            dim: 512,
            depth: 8,
            heads: 16,
            normalised: true,
            seed: 0,
        }
    }
}

/// What the trunk is: sizes that a decoder has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenShape {
    /// Length of the trunk's tokens.
    pub dim: usize,
    /// Side of the square images.
    pub image: usize,
    /// Side of a patch.
    pub patch: usize,
    /// Channels of the images.
    pub channels: usize,
}

/// Masked auto-encoders (He et al., CVPR 2022): the trunk sees a quarter of an image's patches; a small decoder gets its
/// tokens, one shared `mask_token` for each hidden patch, and fixed positions, and tells the pixels of the hidden ones:
///
/// ```text
/// mean over hidden patches of mean over pixels of (told - true)^2
/// ```
///
/// with the true patch scaled by its own mean and (unbiased) deviation. Names are those of the published program
/// (`decoder_embed`, `mask_token`, `decoder_blocks.N`, `decoder_norm`, `decoder_pred`); its decoder's positions are sines
/// and cosines that do not learn, and are computed here, not stored. The trunk's own positions learn, as in any
/// vision transformer here; there they do not.
///
/// The trunk has to be one of tokens ([`Trunk::tokens`]); views is one of each image.
#[derive(Debug, Clone)]
pub struct Mae {
    config: MaeConfig,
    shape: TokenShape,
    embed: Linear,
    mask_token: Tensor,
    positions: Tensor,
    blocks: Vec<TransformerBlock>,
    norm: LayerNorm,
    pred: Linear,
}

impl Mae {
    /// A decoder on a trunk of `shape`.
    ///
    /// # Errors
    /// When a setting makes no sense, or sizes do not divide each other.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "candle's constructors take the builder by value"
    )]
    pub fn new(config: &MaeConfig, shape: TokenShape, vb: VarBuilder) -> Result<Self> {
        let TokenShape {
            dim,
            image,
            patch,
            channels,
        } = shape;
        if patch == 0 || !image.is_multiple_of(patch) {
            bail!("masked auto-encoder: patches of {patch} do not divide images of {image}");
        }
        if !config.dim.is_multiple_of(4) {
            bail!(
                "masked auto-encoder: tokens of length {} in the decoder, expected a multiple of 4",
                config.dim
            );
        }
        let affine = |from: usize, to: usize, vb: VarBuilder<'_>| {
            linear_zero_bias(from, to, glorot(from, to), vb)
        };
        let side = image / patch;
        // Refuses shares and sizes that leave nothing on one side.
        Mask::draw(side * side, config.hidden, 0, 0, 0)?;
        let block = TransformerBlockConfig {
            dim: config.dim,
            heads: config.heads,
            hidden: 4 * config.dim,
            init: glorot,
        };
        let blocks =
            (0..config.depth).map(|i| transformer_block(block, vb.pp("decoder_blocks").pp(i)));
        let init = Init::Randn {
            mean: 0.,
            stdev: 0.02,
        };
        Ok(Self {
            config: *config,
            shape,
            embed: affine(dim, config.dim, vb.pp("decoder_embed"))?,
            mask_token: vb.get_with_hints((1, 1, config.dim), "mask_token", init)?,
            positions: sines(config.dim, side, vb.device())?.to_dtype(vb.dtype())?,
            blocks: blocks.collect::<Result<_>>()?,
            norm: layer_norm(config.dim, 1e-6, vb.pp("decoder_norm"))?,
            pred: affine(config.dim, patch * patch * channels, vb.pp("decoder_pred"))?,
        })
    }

    /// What is to be told: hidden patches (B H, patch^2 C), image by image.
    fn targets(&self, images: &Tensor, masks: &[Mask]) -> Result<Tensor> {
        let rows = patch_rows(images, self.shape.patch)?;
        let (batch, patches, width) = rows.dims3()?;
        let places = places(masks, patches, |mask| &mask.hidden);
        let places = Tensor::new(places, images.device())?;
        let rows = rows.reshape((batch * patches, width))?;
        let rows = rows.detach().index_select(&places, 0)?;
        if !self.config.normalised {
            return Ok(rows);
        }
        let centred = rows.broadcast_sub(&rows.mean_keepdim(1)?)?;
        let free = 1. / width.max(2).saturating_sub(1) as f64;
        let variance = (centred.sqr()?.sum_keepdim(1)? * free)?;
        centred.broadcast_div(&(variance + 1e-6)?.sqrt()?)
    }

    /// The loss under given masks, which all hide as many patches; with it the encoded tokens (B, 1 + seen, D) and the
    /// loss of telling nothing but the mean.
    ///
    /// # Shapes
    /// `images` (B, C, S, S), one mask an image; loss scalar.
    ///
    /// # Errors
    /// When the masks differ in length or do not fit the images, or the trunk does not.
    pub fn reconstruct(
        &self,
        trunk: &dyn Tokens,
        images: &Tensor,
        masks: &[Mask],
    ) -> Result<(Tensor, Tensor, f64)> {
        let tokens = trunk.patches(images)?;
        let (batch, patches, dim) = tokens.dims3()?;
        let side = self.shape.image / self.shape.patch;
        let seen = masks.first().map_or(0, |mask| mask.seen.len());
        let fits = |mask: &Mask| {
            let mut all = [mask.seen.as_slice(), mask.hidden.as_slice()].concat();
            all.sort_unstable();
            mask.seen.len() == seen && all.iter().copied().eq(0..patches)
        };
        if masks.len() != batch || patches != side * side || !masks.iter().all(fits) {
            bail!(
                "masked auto-encoder: {} masks for {batch} images of {patches} patches; expected one each, all of one \
                 length, that name every of {} patches once",
                masks.len(),
                side * side
            );
        }
        let device = images.device();
        let visible = Tensor::new(places(masks, patches, |mask| &mask.seen), device)?;
        let tokens = tokens.reshape((batch * patches, dim))?;
        let tokens = tokens.index_select(&visible, 0)?;
        let encoded = trunk.encode(&tokens.reshape((batch, seen, dim))?)?;

        // Tokens back in their places, with the shared one where nothing was seen.
        let small = self.embed.forward(&encoded)?;
        let width = self.config.dim;
        let class = small.narrow(1, 0, 1)?;
        let known = small.narrow(1, 1, seen)?.contiguous()?;
        let known = known.reshape((batch * seen, width))?;
        let pool = Tensor::cat(&[&known, &self.mask_token.reshape((1, width))?], 0)?;
        let mut order = vec![(batch * seen) as u32; batch * patches];
        for (image, mask) in masks.iter().enumerate() {
            for (rank, &patch) in mask.seen.iter().enumerate() {
                if let Some(place) = order.get_mut(image * patches + patch) {
                    *place = (image * seen + rank) as u32;
                }
            }
        }
        let all = pool.index_select(&Tensor::new(order, device)?, 0)?;
        let all = all.reshape((batch, patches, width))?;
        let mut x = Tensor::cat(&[&class, &all], 1)?.broadcast_add(&self.positions)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        // Only what is compared is told.
        let x = x.narrow(1, 1, patches)?.contiguous()?;
        let hidden = Tensor::new(places(masks, patches, |mask| &mask.hidden), device)?;
        let x = x
            .reshape((batch * patches, width))?
            .index_select(&hidden, 0)?;
        let told = self.pred.forward(&self.norm.forward(&x)?)?;
        let targets = self.targets(images, masks)?;
        let blind = targets.broadcast_sub(&targets.mean_keepdim(D::Minus1)?)?;
        let blind = scalar(&blind.sqr()?.mean_all()?)?;
        Ok(((told - targets)?.sqr()?.mean_all()?, encoded, blind))
    }
}

/// Rows of (B T, ...) that a part of each mask names.
fn places(masks: &[Mask], patches: usize, part: impl Fn(&Mask) -> &Vec<usize>) -> Vec<u32> {
    let of = |(image, mask)| {
        let own = part(mask).iter();
        own.map(move |patch| (image * patches + patch) as u32)
            .collect::<Vec<_>>()
    };
    masks.iter().enumerate().flat_map(of).collect()
}

/// Glorot's uniform, with which the layers of the masked auto-encoder begin.
fn glorot(from: usize, to: usize) -> Init {
    let bound = (6. / (from + to) as f64).sqrt();
    Init::Uniform {
        lo: -bound,
        up: bound,
    }
}

/// Positions (1, 1 + side^2, dim): zeros for the class token, then half of the numbers for the column and half for the row,
/// each sines and then cosines of the place times 10000^(-i / (dim / 4)).
fn sines(dim: usize, side: usize, device: &Device) -> Result<Tensor> {
    let quarter = dim / 4;
    let mut values = vec![0f64; dim];
    for row in 0..side {
        for column in 0..side {
            for place in [column, row] {
                let angles =
                    (0..quarter).map(|i| place as f64 / 10_000f64.powf(i as f64 / quarter as f64));
                values.extend(angles.clone().map(f64::sin));
                values.extend(angles.map(f64::cos));
            }
        }
    }
    Tensor::from_vec(values, (1, 1 + side * side, dim), device)?.to_dtype(DType::F64)
}

impl Method for Mae {
    fn step(&self, trunk: &dyn Trunk, views: &Views, moment: Moment) -> Result<StepReport> {
        let (Some(tokens), [images]) = (trunk.tokens(), views.groups()) else {
            bail!(
                "the masked auto-encoder takes a trunk of tokens, such as a vision transformer, and views of one size"
            );
        };
        if views.count() != 1 {
            bail!(
                "the masked auto-encoder takes one view of an image, got {}",
                views.count()
            );
        }
        let patches = (self.shape.image / self.shape.patch).pow(2);
        let masks = (0..views.batch() as u64).map(|image| {
            Mask::draw(
                patches,
                self.config.hidden,
                self.config.seed,
                moment.step,
                image,
            )
        });
        let masks = masks.collect::<Result<Vec<_>>>()?;
        let (loss, encoded, blind) = self.reconstruct(tokens, images, &masks)?;
        let class = encoded.detach().narrow(1, 0, 1)?.squeeze(1)?.contiguous()?;
        let mut metrics = vec![("loss_over_chance".to_string(), scalar(&loss)? - blind)];
        if views.batch() > 1 {
            metrics.push(("spread".to_string(), spread(&class)?));
        }
        Ok(StepReport { loss, metrics })
    }
}
