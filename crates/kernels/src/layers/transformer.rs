//! The block of a vision transformer.

use candle::{D, Module, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};

use super::{LayerNorm, Linear, layer_norm, linear_zero_bias};
use crate::safe::softmax_last_dim;

/// Sizes and initial values of a [`TransformerBlock`].
#[derive(Debug, Clone, Copy)]
pub struct TransformerBlockConfig {
    /// Length of a token, a multiple of the heads.
    pub dim: usize,
    /// Heads of the attention.
    pub heads: usize,
    /// Length of the hidden layer.
    pub hidden: usize,
    /// Where a linear layer's weight begins, from its inputs and outputs; biases begin at 0.
    pub init: fn(usize, usize) -> Init,
}

/// `x + attn(norm1(x))`, then `x + mlp(norm2(x))`: pre-norm with eps 1e-6, attention scaled by `1 / sqrt(dim / heads)`, GELU by
/// the error function.
///
/// Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021); names: timm `models/vision_transformer.py`.
///
/// # Shapes
/// Tokens (B, T, dim) to tokens.
#[derive(Debug, Clone)]
pub struct TransformerBlock {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
}

/// A block from `norm1`, `attn.qkv`, `attn.proj`, `norm2`, `mlp.fc1` and `mlp.fc2` of `vb`.
///
/// # Errors
/// When a size is 0, the heads do not divide the token, or the builder cannot give the tensors.
pub fn transformer_block(
    config: TransformerBlockConfig,
    vb: VarBuilder<'_>,
) -> Result<TransformerBlock> {
    let TransformerBlockConfig {
        dim,
        heads,
        hidden,
        init,
    } = config;
    if [dim, heads, hidden].contains(&0) || !dim.is_multiple_of(heads) {
        bail!(
            "transformer block: {heads} heads for tokens of length {dim} with {hidden} hidden, expected sizes above 0 \
             and heads that divide the token"
        );
    }
    let affine =
        |from: usize, to: usize, vb: VarBuilder<'_>| linear_zero_bias(from, to, init(from, to), vb);
    let (attn, mlp) = (vb.pp("attn"), vb.pp("mlp"));
    Ok(TransformerBlock {
        norm1: layer_norm(dim, 1e-6, vb.pp("norm1"))?,
        qkv: affine(dim, 3 * dim, attn.pp("qkv"))?,
        proj: affine(dim, dim, attn.pp("proj"))?,
        norm2: layer_norm(dim, 1e-6, vb.pp("norm2"))?,
        fc1: affine(dim, hidden, mlp.pp("fc1"))?,
        fc2: affine(hidden, dim, mlp.pp("fc2"))?,
        heads,
    })
}

/// x Phi(x), composed: the gradient of candle's own op is good to six digits only.
fn gelu(x: &Tensor) -> Result<Tensor> {
    let cumulative = ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.)?;
    (x * (cumulative * 0.5)?)?.contiguous()
}

impl TransformerBlock {
    /// The linear layers, in the order in which they are passed: `qkv`, `proj`, `fc1`, `fc2`.
    pub fn linears(&self) -> [&Linear; 4] {
        [&self.qkv, &self.proj, &self.fc1, &self.fc2]
    }

    fn attention(&self, x: &Tensor) -> Result<Tensor> {
        let (b, t, d) = x.dims3()?;
        let width = d / self.heads;
        let qkv = self
            .qkv
            .forward(x)?
            .reshape((b, t, 3, self.heads, width))?
            .permute((2, 0, 3, 1, 4))?;
        let part = |i: usize| qkv.get(i)?.contiguous();
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let scores =
            (q.matmul(&k.transpose(D::Minus2, D::Minus1)?.contiguous()?)? / (width as f64).sqrt())?;
        let mixed = softmax_last_dim(&scores)?.matmul(&v)?;
        let joined = mixed.permute((0, 2, 1, 3))?.contiguous()?;
        self.proj.forward(&joined.reshape((b, t, d))?)
    }
}

impl Module for TransformerBlock {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = (x + self.attention(&self.norm1.forward(x)?)?)?;
        let hidden = gelu(&self.fc1.forward(&self.norm2.forward(&x)?)?)?;
        &x + self.fc2.forward(&hidden)?
    }
}
