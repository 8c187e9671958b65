//! Max pooling.

use super::window::{Pool2dConfig, Window, planes_per_task};
use crate::cpu::{self, View, for_float};
use crate::max_pool;
use candle::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::OnceLock;

struct Max {
    window: Window,
    /// Whether a gradient may be asked for.
    keep: bool,
    /// Which tap won each window.
    taps: OnceLock<Vec<u8>>,
}

impl Max {
    /// Whether every window is searched by itself: where the vectorised form has no room for it.
    fn searches(&self) -> bool {
        let w = &self.window;
        w.kernel.0.max(w.kernel.1) > max_pool::LARGEST_KERNEL || w.overhangs()
    }
}

const OP: &str = "max_pool2d";

impl CustomOp1 for Max {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        let w = &self.window;
        for_float!(x.dtype(), OP, T => {
            let x = cpu::operand::<T>(OP, x, l)?;
            // Every plane is written by its task.
            let mut out = cpu::unwritten::<T>(w.out_len());
            let planes = out
                .par_chunks_mut(w.out_pixels())
                .zip(x.par_chunks(w.in_pixels()))
                .with_min_len(planes_per_task(w.in_pixels()));
            if self.searches() {
                planes.for_each(|(out, plane)| {
                    w.each(|o, rows, cols| out[o] = plane[w.largest(plane, rows, cols)]);
                });
            } else if self.keep {
                let mut taps = vec![0; w.out_len()];
                planes
                    .zip(taps.par_chunks_mut(w.out_pixels()))
                    .for_each(|((out, plane), taps)| max_pool::forward(w, plane, out, Some(taps)));
                // An op runs forward once; a second run would compute the same.
                let _ = self.taps.set(taps);
            } else {
                planes.for_each(|(out, plane)| max_pool::forward(w, plane, out, None));
            }
            Ok((T::to_cpu_storage_owned(out), w.out_shape()))
        })
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let w = &self.window;
        let grad = grad.contiguous()?;
        for_float!(x.dtype(), OP, T => {
            let (xs, dy) = (View::of(x), View::of(&grad));
            let (xs, dy) = (xs.slice::<T>(OP)?, dy.slice::<T>(OP)?);
            // Every plane is written by its task.
            let mut dx = cpu::unwritten::<T>(xs.len());
            let planes = dx
                .par_chunks_mut(w.in_pixels())
                .zip(dy.par_chunks(w.out_pixels()))
                .with_min_len(planes_per_task(w.in_pixels()));
            match self.taps.get() {
                Some(taps) => planes
                    .zip(taps.par_chunks(w.out_pixels()))
                    .for_each(|((dx, dy), taps)| max_pool::backward(w, taps, dy, dx)),
                None => planes.zip(xs.par_chunks(w.in_pixels())).for_each(|((dx, dy), plane)| {
                    dx.fill(T::default());
                    w.each(|o, rows, cols| dx[w.largest(plane, rows, cols)] += dy[o]);
                }),
            }
            Ok(Some(cpu::tensor(dx, x.shape())?))
        })
    }
}

/// The largest value of every `kernel x kernel` window; its gradient goes to the first such pixel
/// (row by row), as in PyTorch. candle's own gradient is `kernel^2` times too small.
///
/// # Shapes
/// `x` (B, C, H, W); result (B, C, (H + 2 padding - kernel) / stride + 1, likewise for W).
///
/// # Errors
/// When the input is empty or not of rank 4, kernel or stride is 0, the padding exceeds half of the
/// kernel, or the kernel does not fit.
pub fn max_pool2d(x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
    max_pool2d_with(
        x,
        Pool2dConfig {
            stride: (stride, stride),
            padding: (padding, padding),
            ..kernel.into()
        },
    )
}

/// [`max_pool2d`] with windows of any form; padding is never the largest.
///
/// # Shapes
/// `x` (B, C, H, W); result (B, C, H', W') with `H' = (H + 2 padding - kernel) / stride + 1`, and one
/// more with `ceil_mode` where a further window begins before the padding's far side.
///
/// # Errors
/// As [`max_pool2d`].
pub fn max_pool2d_with(x: &Tensor, cfg: Pool2dConfig) -> Result<Tensor> {
    let window = Window::new(OP, x, cfg)?;
    if !cpu::native(x) {
        return composed(x, window);
    }
    x.contiguous()?.apply_op1(Max {
        window,
        keep: x.track_op(),
        taps: OnceLock::new(),
    })
}

/// Pads a dimension with minus infinity.
fn pad(x: &Tensor, dim: usize, before: usize, after: usize) -> Result<Tensor> {
    let block = |n: usize| -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        shape[dim] = n;
        Tensor::full(f32::NEG_INFINITY, shape, x.device())?.to_dtype(x.dtype())
    };
    let mut parts = Vec::with_capacity(3);
    if before > 0 {
        parts.push(block(before)?);
    }
    parts.push(x.clone());
    if after > 0 {
        parts.push(block(after)?);
    }
    Tensor::cat(&parts, dim)
}

/// From candle's own operations: the shifted and strided copies of the input, one for every tap. Where a
/// window holds nothing above minus infinity, its gradient may go to the padding.
fn composed(x: &Tensor, w: Window) -> Result<Tensor> {
    let ((kh, kw), (sh, sw)) = (w.kernel, w.stride);
    let after = |kernel: usize, out: usize, stride: usize, size: usize, padding: usize| {
        (kernel - 1 + out * stride).saturating_sub(size + padding)
    };
    let below = after(kh, w.out_height, sh, w.height, w.padding.0);
    let right = after(kw, w.out_width, sw, w.width, w.padding.1);
    let x = pad(x, 2, w.padding.0, below)?;
    let x = pad(&x, 3, w.padding.1, right)?;
    let mut best: Option<Tensor> = None;
    for tap in 0..kh * kw {
        let other = x
            .narrow(2, tap / kw, w.out_height * sh)?
            .narrow(3, tap % kw, w.out_width * sw)?
            .reshape((w.batch, w.channels, w.out_height, sh, w.out_width, sw))?
            .narrow(5, 0, 1)?
            .narrow(3, 0, 1)?
            .squeeze(5)?
            .squeeze(3)?
            .contiguous()?;
        best = Some(match best {
            None => other,
            // A strict comparison gives ties to the earlier pixel, and the whole gradient with them.
            // What is not a number counts as largest, the first of them stays.
            Some(best) => {
                let first = (other.ne(&other)? * best.eq(&best)?)?;
                let above = (other.gt(&best)? + first)?;
                above.where_cond(&other, &best)?
            }
        });
    }
    match best {
        Some(best) => Ok(best),
        None => candle::bail!("{OP}: empty window"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::average::tests::{configs, same_value_and_gradient};
    use candle::{Device, Var};

    #[test]
    fn composed_form_agrees() -> Result<()> {
        let x = Var::rand(-1f64, 1.0, (2, 3, 7, 9), &Device::Cpu)?;
        for cfg in configs() {
            let theirs = composed(&x, Window::new("test", &x, cfg)?)?;
            same_value_and_gradient(&x, &max_pool2d_with(&x, cfg)?, &theirs)?;
        }
        Ok(())
    }
}
