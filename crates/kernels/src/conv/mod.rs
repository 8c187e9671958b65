//! Two-dimensional convolution with any stride, padding, dilation and groups.
//!
//! [`dense`] unfolds tiles of columns and multiplies matrices, unless [`winograd`] (3 x 3 at stride 1) or
//! [`direct`] (windows read where they lie) is faster; [`depthwise`] loops directly where a
//! group has a single input channel. All write all three passes by hand: output, input gradient and
//! weight gradient.

pub(crate) mod dense;
pub(crate) mod depthwise;
pub(crate) mod direct;
pub(crate) mod geometry;
pub(crate) mod im2col;
pub(crate) mod turn;
pub(crate) mod winograd;

use crate::cpu::{self, Real, View, for_float};
use candle::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use geometry::Geometry;
use rayon::prelude::*;

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
    if !x.device().is_cpu() {
        return composed(x, weight, bias, cfg);
    }
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        None => x.apply_op2(&weight, Convolution { geometry }),
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, Convolution { geometry }),
    }
}

/// The same by candle's own operations.
pub(crate) fn composed(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    cfg: Conv2dConfig,
) -> Result<Tensor> {
    let y = x.conv2d(weight, cfg.padding, cfg.stride, cfg.dilation, cfg.groups)?;
    match bias {
        None => Ok(y),
        Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?),
    }
}

pub(crate) struct Convolution {
    pub(crate) geometry: Geometry,
}

impl Convolution {
    pub(crate) fn run<T: Real>(&self, x: &[T], w: &[T], bias: Option<&[T]>) -> Vec<T> {
        let g = &self.geometry;
        // SAFETY: all tasks together write every pixel.
        let mut out: Vec<T> = unsafe { cpu::unwritten(g.out_len()) };
        if g.is_depthwise() {
            depthwise::forward(g, x, w, bias, &mut out);
        } else {
            dense::forward(g, x, w, bias, &mut out);
        }
        out
    }

    fn shape(&self) -> Shape {
        let g = &self.geometry;
        Shape::from((g.batch, g.out_channels, g.out_height, g.out_width))
    }

    pub(crate) fn gradients(
        &self,
        x: &Tensor,
        weight: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let g = &self.geometry;
        for_float!(x.dtype(), OP, T => {
            let dx = match x.track_op() {
                false => None,
                true => {
                    // SAFETY: all tasks together write every pixel.
                    let mut out: Vec<T> = unsafe { cpu::unwritten(g.in_len()) };
                    let (w, dy) = (View::of(weight), View::of(grad));
                    let (w, dy) = (w.slice::<T>(OP)?, dy.slice::<T>(OP)?);
                    if g.is_depthwise() {
                        depthwise::input_gradient(g, w, dy, &mut out);
                    } else {
                        dense::input_gradient(g, w, dy, &mut out);
                    }
                    Some(cpu::tensor(out, x.shape())?)
                }
            };
            let dw = match weight.track_op() {
                false => None,
                true => {
                    // SAFETY: all tasks together write every weight.
                    let mut out: Vec<T> = unsafe { cpu::unwritten(g.weight_len()) };
                    let (xs, dy) = (View::of(x), View::of(grad));
                    let (xs, dy) = (xs.slice::<T>(OP)?, dy.slice::<T>(OP)?);
                    if g.is_depthwise() {
                        depthwise::weight_gradient(g, xs, dy, &mut out);
                    } else {
                        dense::weight_gradient(g, xs, dy, &mut out);
                    }
                    Some(cpu::tensor(out, weight.shape())?)
                }
            };
            Ok((dx, dw))
        })
    }
}

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        for_float!(x.dtype(), OP, T => {
            let out = self.run::<T>(cpu::operand(OP, x, xl)?, cpu::operand(OP, w, wl)?, None);
            Ok((T::to_cpu_storage_owned(out), self.shape()))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(x, weight, &grad.contiguous()?)
    }
}

impl CustomOp3 for Convolution {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        for_float!(x.dtype(), OP, T => {
            let bias = cpu::operand(OP, b, bl)?;
            let out = self.run::<T>(cpu::operand(OP, x, xl)?, cpu::operand(OP, w, wl)?, Some(bias));
            Ok((T::to_cpu_storage_owned(out), self.shape()))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (dx, dw) = self.gradients(x, weight, &grad)?;
        let db = match bias.track_op() {
            false => None,
            true => Some(bias_gradient(&self.geometry, &grad)?),
        };
        Ok((dx, dw, db))
    }
}

/// Sums the output gradient over images and pixels.
fn bias_gradient(g: &Geometry, grad: &Tensor) -> Result<Tensor> {
    for_float!(grad.dtype(), OP, T => {
        let view = View::of(grad);
        let dy = view.slice::<T>(OP)?;
        let pixels = g.out_pixels();
        let sums: Vec<T> = (0..g.out_channels)
            .into_par_iter()
            .map(|o| {
                let mut total = T::ZERO;
                for image in 0..g.batch {
                    let at = (image * g.out_channels + o) * pixels;
                    total += crate::reduce::sum(&dy[at..at + pixels]);
                }
                total
            })
            .collect();
        cpu::tensor(sums, g.out_channels)
    })
}
