//! Transposed convolution: the convolution's input gradient as a forward pass.
//!
//! The map from `x` to the result is the adjoint of the convolution with the same weight that takes
//! the result's size to the size of `x`. So its three passes are that convolution's, exchanged: its
//! forward pass is our input gradient, its input gradient is our forward pass, and its weight gradient
//! is ours with `x` and the output gradient in each other's place.

use crate::conv::geometry::Geometry;
use crate::conv::{Conv2dConfig, Convolution};
use crate::cpu::{self, Real};
use crate::reduce;
use crate::weighted::{self, Weighted};
use candle::{Result, Shape, Tensor};
use rayon::prelude::*;

const OP: &str = "conv_transpose2d";

/// Sizes of [`conv_transpose2d`]; the same for rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvTranspose2dConfig {
    /// Rows and columns cut from every side of the result: the padding of the convolution that this
    /// is the transpose of. Default 0.
    pub padding: usize,
    /// Rows and columns added at the bottom and right of the result, less than the stride or the
    /// dilation: of several sizes that a convolution takes to one, it picks. Default 0.
    pub output_padding: usize,
    /// Step between windows of the result. Default 1.
    pub stride: usize,
    /// Step between the taps of a window. Default 1.
    pub dilation: usize,
    /// Independent groups of channels. Default 1.
    pub groups: usize,
}

impl Default for ConvTranspose2dConfig {
    fn default() -> Self {
        Self {
            padding: 0,
            output_padding: 0,
            stride: 1,
            dilation: 1,
            groups: 1,
        }
    }
}

/// Adds every pixel of `x`, weighted by a kernel, to the window of the result at `stride` times its
/// place, as PyTorch's `conv_transpose2d`:
/// `out[b, o, y*s + i*d - p, x*s + j*d - p] += weight[c, o, i, j] * x[b, c, y, x]`, plus `bias[o]`.
///
/// # Shapes
/// `x` (B, C, H, W), `weight` (C, O / groups, kh, kw), `bias` (O); result (B, O, H', W') with
/// `H' = (H - 1) s - 2 p + d (kh - 1) + output_padding + 1`.
///
/// # Errors
/// When shapes, dtypes or devices disagree, a dimension is zero, the groups do not divide the
/// channels, the output padding is neither below the stride nor below the dilation, or the padding
/// leaves nothing of the result.
pub fn conv_transpose2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    cfg: ConvTranspose2dConfig,
) -> Result<Tensor> {
    cpu::float(OP, x)?;
    cpu::same_kind(OP, &[("x", x), ("weight", weight)])?;
    let sizes = Sizes::new(x, weight, &cfg)?;
    if let Some(bias) = bias {
        cpu::same_kind(OP, &[("x", x), ("bias", bias)])?;
        if bias.dims() != [sizes.channels] {
            candle::bail!(
                "{OP}: bias {:?} does not match weight {:?} in {} groups",
                bias.shape(),
                weight.shape(),
                cfg.groups
            );
        }
    }
    if !cpu::native(x) {
        return composed(&padded(x, &cfg)?, weight, bias, cfg, &sizes);
    }
    let (x, op) = transposed(x, weight, &cfg)?;
    weighted::apply(op, &x, weight, bias)
}

/// An output padding of a whole stride or more lets the convolution see further windows, which are zero
/// here.
fn padded(x: &Tensor, cfg: &ConvTranspose2dConfig) -> Result<Tensor> {
    match cfg.output_padding / cfg.stride {
        0 => Ok(x.clone()),
        n => x.pad_with_zeros(2, 0, n)?.pad_with_zeros(3, 0, n),
    }
}

/// The op, and its input.
///
/// # Errors
/// As [`conv_transpose2d`].
pub(crate) fn transposed(
    x: &Tensor,
    weight: &Tensor,
    cfg: &ConvTranspose2dConfig,
) -> Result<(Tensor, Transposed)> {
    let sizes = Sizes::new(x, weight, cfg)?;
    let padded = padded(x, cfg)?;
    let convolution = Conv2dConfig {
        padding: cfg.padding,
        stride: cfg.stride,
        dilation: cfg.dilation,
        groups: cfg.groups,
    };
    let result = [sizes.batch, sizes.channels, sizes.height, sizes.width];
    let geometry = Geometry::new(&result, weight.dims(), &convolution)?;
    if padded.dims()[2..] != [geometry.out_height, geometry.out_width] {
        candle::bail!(
            "{OP}: {:?} is not what a convolution makes of {result:?} with {cfg:?}",
            x.shape()
        );
    }
    Ok((padded, Transposed { geometry }))
}

/// The result's sizes.
struct Sizes {
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
}

impl Sizes {
    fn new(x: &Tensor, weight: &Tensor, cfg: &ConvTranspose2dConfig) -> Result<Self> {
        let (&[batch, in_channels, height, width], &[inputs, per_group, kh, kw]) =
            (x.dims(), weight.dims())
        else {
            candle::bail!(
                "{OP}: expected input (B, C, H, W) and weight (C, O/groups, kh, kw), got {:?} and {:?}",
                x.shape(),
                weight.shape()
            )
        };
        cpu::not_empty(OP, "input", x)?;
        cpu::not_empty(OP, "weight", weight)?;
        if cfg.stride == 0 || cfg.dilation == 0 || cfg.groups == 0 {
            candle::bail!("{OP}: stride, dilation and groups must be positive, got {cfg:?}");
        }
        if in_channels != inputs {
            candle::bail!(
                "{OP}: channel mismatch, input {:?} and weight {:?}",
                x.shape(),
                weight.shape()
            );
        }
        if !in_channels.is_multiple_of(cfg.groups) {
            candle::bail!(
                "{OP}: groups {} do not divide {in_channels} input channels",
                cfg.groups
            );
        }
        if cfg.output_padding >= cfg.stride.max(cfg.dilation) {
            candle::bail!(
                "{OP}: output padding {} is neither below the stride {} nor below the dilation {}",
                cfg.output_padding,
                cfg.stride,
                cfg.dilation
            );
        }
        let channels = per_group.checked_mul(cfg.groups);
        let size = |axis: &str, size: usize, kernel: usize| -> Result<usize> {
            let reach = (kernel - 1).checked_mul(cfg.dilation);
            let full = (size - 1)
                .checked_mul(cfg.stride)
                .zip(reach)
                .and_then(|(span, reach)| span.checked_add(reach))
                .and_then(|span| span.checked_add(cfg.output_padding)?.checked_add(1));
            let cut = cfg.padding.checked_mul(2);
            match full.zip(cut).and_then(|(full, cut)| full.checked_sub(cut)) {
                Some(size) if size > 0 => Ok(size),
                _ => candle::bail!(
                    "{OP}: nothing is left of {axis} {size} with kernel {kernel} and {cfg:?}"
                ),
            }
        };
        let (height, width) = (size("height", height, kh)?, size("width", width, kw)?);
        let Some(channels) = channels else {
            candle::bail!("{OP}: too many groups, {}", cfg.groups)
        };
        let elements = [batch, channels, height, width]
            .into_iter()
            .try_fold(1usize, usize::checked_mul);
        if elements.is_none_or(|n| n > isize::MAX as usize / 8) {
            candle::bail!(
                "{OP}: a result of {batch} x {channels} x {height} x {width} is too large"
            );
        }
        Ok(Self {
            batch,
            channels,
            height,
            width,
        })
    }
}

/// The same by zeros between the pixels and a convolution with the kernels turned around.
fn composed(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    cfg: ConvTranspose2dConfig,
    sizes: &Sizes,
) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    let (_, per_group, kh, kw) = weight.dims4()?;
    let (s, groups) = (cfg.stride, cfg.groups);
    let spread = x
        .reshape((b, c, h, 1, w, 1))?
        .pad_with_zeros(3, 0, s - 1)?
        .pad_with_zeros(5, 0, s - 1)?
        .reshape((b, c, h * s, w * s))?;
    // To the size at which the windows are those of the result, whatever is cut or added.
    let fit = |x: &Tensor, dim: usize, kernel: usize, out: usize| -> Result<Tensor> {
        let reach = (kernel - 1) * cfg.dilation;
        let x = match reach.checked_sub(cfg.padding) {
            Some(before) => x.pad_with_zeros(dim, before, 0)?,
            None => {
                let cut = cfg.padding - reach;
                x.narrow(dim, cut, x.dim(dim)? - cut)?
            }
        };
        let (have, want) = (x.dim(dim)?, out + reach);
        if have < want {
            x.pad_with_zeros(dim, 0, want - have)
        } else {
            x.narrow(dim, 0, want)
        }
    };
    let spread = fit(&fit(&spread, 2, kh, sizes.height)?, 3, kw, sizes.width)?;
    let turned = |n: usize| Tensor::from_iter((0..n as u32).rev(), x.device());
    let kernels = weight
        .contiguous()?
        .index_select(&turned(kh)?, 2)?
        .index_select(&turned(kw)?, 3)?
        .reshape((groups, c / groups, per_group, kh, kw))?
        .transpose(1, 2)?
        .reshape((sizes.channels, c / groups, kh, kw))?;
    let y = spread
        .contiguous()?
        .conv2d(&kernels.contiguous()?, 0, 1, cfg.dilation, groups)?;
    match bias {
        None => Ok(y),
        Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?),
    }
}

/// The op; [`conv_transpose2d`] without its checks.
pub(crate) struct Transposed {
    /// Of the convolution from the result to `x`.
    geometry: Geometry,
}

impl Weighted for Transposed {
    const NAME: &'static str = OP;

    fn shape(&self) -> Shape {
        let g = &self.geometry;
        Shape::from((g.batch, g.in_channels, g.height, g.width))
    }

    fn forward<T: Real>(&self, x: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T> {
        let g = &self.geometry;
        let geometry = self.geometry;
        let mut out = Convolution { geometry }.input_gradient(weight, x);
        if let Some(bias) = bias {
            out.par_chunks_mut(g.in_pixels())
                .with_min_len((1 << 13) / g.in_pixels() + 1)
                .enumerate()
                .for_each(|(plane, out)| {
                    let b = bias[plane % g.in_channels];
                    out.iter_mut().for_each(|v| *v += b);
                });
        }
        out
    }

    fn input_gradient<T: Real>(&self, weight: &[T], grad: &[T]) -> Vec<T> {
        let geometry = self.geometry;
        Convolution { geometry }.forward(grad, weight, None)
    }

    fn weight_gradient<T: Real>(&self, x: &[T], grad: &[T]) -> Vec<T> {
        let geometry = self.geometry;
        Convolution { geometry }.weight_gradient(grad, x)
    }

    fn bias_gradient<T: Real>(&self, grad: &[T]) -> Vec<T> {
        let g = &self.geometry;
        reduce::channels(grad, g.in_channels, g.in_pixels())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::{Device, Var};

    /// The composed form, which other devices use, agrees with the CPU's own in value and gradients.
    #[test]
    fn composed_form_agrees() -> Result<()> {
        // stride, padding, output padding, dilation, groups, kernel
        let cases = [
            (1, 0, 0, 1, 1, (3, 3)),
            (2, 1, 1, 1, 1, (3, 2)),
            (2, 0, 0, 1, 2, (2, 2)),
            (3, 2, 2, 2, 1, (3, 3)),
            (1, 1, 2, 3, 2, (2, 3)),
            (2, 1, 2, 3, 4, (3, 3)),
            (2, 1, 0, 1, 1, (1, 1)),
        ];
        for (stride, padding, output_padding, dilation, groups, (kh, kw)) in cases {
            let cfg = ConvTranspose2dConfig {
                padding,
                output_padding,
                stride,
                dilation,
                groups,
            };
            let x = Var::rand(-1f64, 1.0, (2, 4, 4, 5), &Device::Cpu)?;
            let w = Var::rand(-1f64, 1.0, (4, 3, kh, kw), &Device::Cpu)?;
            let b = Var::rand(-1f64, 1.0, 3 * groups, &Device::Cpu)?;
            let ours = conv_transpose2d(&x, &w, Some(&b), cfg)?;
            let more = output_padding / stride;
            let padded = x.pad_with_zeros(2, 0, more)?.pad_with_zeros(3, 0, more)?;
            let theirs = composed(&padded, &w, Some(&b), cfg, &Sizes::new(&x, &w, &cfg)?)?;
            let close = |a: &Tensor, b: &Tensor| -> Result<()> {
                assert_eq!(a.dims(), b.dims(), "{cfg:?}");
                let worst = (a - b)?.abs()?.max_all()?.to_scalar::<f64>()?;
                assert!(worst < 1e-12, "{cfg:?}: {worst}");
                Ok(())
            };
            close(&ours, &theirs)?;
            let weight = Tensor::rand(-1f64, 1.0, ours.shape(), &Device::Cpu)?;
            let ours = ours.mul(&weight)?.sum_all()?.backward()?;
            let theirs = theirs.mul(&weight)?.sum_all()?.backward()?;
            for v in [&x, &w, &b] {
                close(ours.get(v).unwrap(), theirs.get(v).unwrap())?;
            }
        }
        Ok(())
    }
}
