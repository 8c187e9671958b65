//! Two-dimensional convolution with any stride, padding, dilation and groups.
//!
//! [`dense`] unfolds tiles of columns and multiplies matrices, unless [`winograd`] (3 x 3 at stride 1), [`direct`]
//! (windows read where they lie) or, for the gradient of few weights, [`dots`] is faster. Where a group has a single
//! input channel, [`depthwise`] loops directly over wide maps ([`wide`] where they are 3 x 3 at stride 1) and [`lanes`] over narrow ones,
//! sixteen channels side by side. All write all three passes by hand: output, input gradient and
//! weight gradient.

pub(crate) mod dense;
pub(crate) mod depthwise;
pub(crate) mod direct;
mod dots;
pub(crate) mod geometry;
mod global;
pub(crate) mod im2col;
mod lanes;
mod phases;
mod split;
pub(crate) mod turn;
mod wide;
pub(crate) mod winograd;

use crate::cpu::{self, Real};
use crate::reduce;
use crate::weighted::{self, Weighted};
use candle::{Result, Shape, Tensor};
pub(crate) use direct::Prepared;
use geometry::Geometry;

const OP: &str = "conv2d";

/// Padding, stride, dilation and groups of [`conv2d`]; the same for rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Zeros added on every side. Default 0.
    pub padding: usize,
    /// Step between windows. Default 1.
    pub stride: usize,
    /// Step between the taps of a window. Default 1.
    pub dilation: usize,
    /// Independent groups of channels. Default 1.
    pub groups: usize,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self {
            padding: 0,
            stride: 1,
            dilation: 1,
            groups: 1,
        }
    }
}

/// Cross-correlation of a batch of images with a bank of kernels, as PyTorch's `conv2d`:
/// `out[b, o, y, x] = bias[o] + sum_{c, i, j} weight[o, c, i, j] * x[b, c, y*s + i*d - p, x*s + j*d - p]`.
///
/// On the CPU (f32, f64) all passes are computed here; elsewhere by candle. An argument that does not
/// track gradients costs nothing in the backward pass.
///
/// # Shapes
/// `x` (B, C, H, W), `weight` (O, C / groups, kh, kw), `bias` (O); result (B, O, H', W') with
/// `H' = (H + 2 p - d (kh - 1) - 1) / s + 1`.
///
/// # Errors
/// When shapes, dtypes or devices disagree, a dimension is zero, the groups do not divide the channels,
/// or the kernel does not fit the padded image.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    cfg: Conv2dConfig,
) -> Result<Tensor> {
    cpu::float(OP, x)?;
    cpu::same_kind(OP, &[("x", x), ("weight", weight)])?;
    let geometry = Geometry::new(x.dims(), weight.dims(), &cfg)?;
    if let Some(bias) = bias {
        cpu::same_kind(OP, &[("x", x), ("bias", bias)])?;
        if bias.dims() != [geometry.out_channels] {
            candle::bail!(
                "{OP}: bias {:?} does not match weight {:?}",
                bias.shape(),
                weight.shape()
            );
        }
    }
    if !cpu::native(x) {
        return composed(x, weight, bias, cfg, &geometry);
    }
    weighted::apply(Convolution { geometry }, x, weight, bias)
}

/// The same by candle's own operations.
fn composed(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    cfg: Conv2dConfig,
    g: &Geometry,
) -> Result<Tensor> {
    // How much of the padded image the windows reach.
    let reached =
        |out: usize, kernel: usize| (out - 1) * cfg.stride + (kernel - 1) * cfg.dilation + 1;
    let rows = reached(g.out_height, g.kernel.0);
    let cols = reached(g.out_width, g.kernel.1);
    let y = if g.height + cols == g.width + rows {
        x.conv2d(weight, cfg.padding, cfg.stride, cfg.dilation, cfg.groups)?
    } else {
        // candle's gradient takes the number of rows left over for that of columns: here none are.
        let x = x
            .pad_with_zeros(2, cfg.padding, cfg.padding)?
            .pad_with_zeros(3, cfg.padding, cfg.padding)?
            .narrow(2, 0, rows)?
            .narrow(3, 0, cols)?
            .contiguous()?;
        x.conv2d(weight, 0, cfg.stride, cfg.dilation, cfg.groups)?
    };
    match bias {
        None => Ok(y),
        Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?),
    }
}

/// The op; [`conv2d`] without its checks.
pub(crate) struct Convolution {
    pub(crate) geometry: Geometry,
}

impl Convolution {
    /// The forward pass, with weights kept in the order that products read them in.
    pub(crate) fn forward_with<T: Real>(
        &self,
        x: &[T],
        weight: &[T],
        bias: Option<&[T]>,
        prepared: Option<&Prepared>,
    ) -> Vec<T> {
        let g = &self.geometry;
        // All tasks together write every pixel.
        let mut out = cpu::unwritten(g.out_len());
        if g.is_depthwise() {
            depthwise::forward(g, x, weight, bias, &mut out);
        } else {
            dense::forward(g, x, weight, bias, &mut out, prepared);
        }
        out
    }
}

impl Weighted for Convolution {
    const NAME: &'static str = OP;

    fn shape(&self) -> Shape {
        let g = &self.geometry;
        Shape::from((g.batch, g.out_channels, g.out_height, g.out_width))
    }

    fn forward<T: Real>(&self, x: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T> {
        self.forward_with(x, weight, bias, None)
    }

    fn input_gradient<T: Real>(&self, weight: &[T], grad: &[T]) -> Vec<T> {
        let g = &self.geometry;
        // All tasks together write every pixel.
        let mut out = cpu::unwritten(g.in_len());
        if g.is_depthwise() {
            depthwise::input_gradient(g, weight, grad, &mut out);
        } else {
            dense::input_gradient(g, weight, grad, &mut out);
        }
        out
    }

    fn weight_gradient<T: Real>(&self, x: &[T], grad: &[T]) -> Vec<T> {
        let g = &self.geometry;
        // All tasks together write every weight.
        let mut out = cpu::unwritten(g.weight_len());
        if g.is_depthwise() {
            depthwise::weight_gradient(g, x, grad, &mut out);
        } else {
            dense::weight_gradient(g, x, grad, &mut out);
        }
        out
    }

    fn bias_gradient<T: Real>(&self, grad: &[T]) -> Vec<T> {
        let g = &self.geometry;
        reduce::channels(grad, g.out_channels, g.out_pixels())
    }
}
