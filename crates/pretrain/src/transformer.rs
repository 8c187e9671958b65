//! Blocks of a transformer, for decoders that stand on a trunk.

use candle::{D, Module, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};
use phiz_kernels::layers::{LayerNorm, Linear, layer_norm};
use phiz_kernels::safe::softmax_last_dim;

/// x + attention(norm1(x)), then x + mlp(norm2(x)), under timm's names; pre-norm, eps 1e-6, GELU by the error function.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
}

/// A linear layer with bias that begins as Glorot's uniform and zeros, as in the masked auto-encoder.
pub(crate) fn affine(from: usize, to: usize, vb: &VarBuilder) -> Result<Linear> {
    let bound = (6. / (from + to) as f64).sqrt();
    let init = Init::Uniform {
        lo: -bound,
        up: bound,
    };
    let weight = vb.get_with_hints((to, from), "weight", init)?;
    let bias = vb.get_with_hints(to, "bias", Init::Const(0.))?;
    Ok(Linear::new(weight, Some(bias)))
}

/// A linear layer for every token of `x` (B, T, D).
pub(crate) fn each(linear: &Linear, x: &Tensor) -> Result<Tensor> {
    let (b, t, d) = x.dims3()?;
    let y = linear.forward(&x.contiguous()?.reshape((b * t, d))?)?;
    let width = y.dim(1)?;
    y.reshape((b, t, width))
}

/// x Phi(x), composed: the gradient of candle's own op is good to six digits only.
fn gelu(x: &Tensor) -> Result<Tensor> {
    let cumulative = ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.)?;
    (x * (cumulative * 0.5)?)?.contiguous()
}

impl Block {
    pub fn new(dim: usize, heads: usize, vb: &VarBuilder) -> Result<Self> {
        if heads == 0 || dim == 0 || !dim.is_multiple_of(heads) {
            bail!("transformer: {heads} heads do not divide tokens of length {dim}");
        }
        Ok(Self {
            norm1: layer_norm(dim, 1e-6, vb.pp("norm1"))?,
            qkv: affine(dim, 3 * dim, &vb.pp("attn").pp("qkv"))?,
            proj: affine(dim, dim, &vb.pp("attn").pp("proj"))?,
            norm2: layer_norm(dim, 1e-6, vb.pp("norm2"))?,
            fc1: affine(dim, 4 * dim, &vb.pp("mlp").pp("fc1"))?,
            fc2: affine(4 * dim, dim, &vb.pp("mlp").pp("fc2"))?,
            heads,
        })
    }

    fn attention(&self, x: &Tensor) -> Result<Tensor> {
        let (b, t, d) = x.dims3()?;
        let width = d / self.heads;
        let qkv = each(&self.qkv, x)?
            .reshape((b, t, 3, self.heads, width))?
            .permute((2, 0, 3, 1, 4))?;
        let part = |i: usize| qkv.get(i)?.contiguous();
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let scores =
            (q.matmul(&k.transpose(D::Minus2, D::Minus1)?.contiguous()?)? / (width as f64).sqrt())?;
        let mixed = softmax_last_dim(&scores)?.matmul(&v)?;
        let joined = mixed.permute((0, 2, 1, 3))?.contiguous()?;
        each(&self.proj, &joined.reshape((b, t, d))?)
    }

    /// Tokens (B, T, D) to tokens.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = (x + self.attention(&self.norm1.forward(x)?)?)?;
        let hidden = gelu(&each(&self.fc1, &self.norm2.forward(&x)?)?)?;
        &x + each(&self.fc2, &hidden)?
    }
}
