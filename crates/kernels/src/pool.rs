//! Max, average and global average pooling, with any kernel, stride and padding.

use crate::cpu::{self, Real, View, for_float};
use crate::max_pool;
use candle::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Sizes of one pooling.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) out_height: usize,
    pub(crate) out_width: usize,
}

impl Window {
    fn new(
        op: &'static str,
        x: &Tensor,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
        cpu::float(op, x)?;
        let &[batch, channels, height, width] = x.dims() else {
            candle::bail!("{op}: expected input (B, C, H, W), got {:?}", x.shape())
        };
        cpu::not_empty(op, "input", x)?;
        if kernel == 0 || stride == 0 {
            candle::bail!("{op}: kernel and stride must be positive, got {kernel} and {stride}");
        }
        if padding > kernel / 2 {
            candle::bail!("{op}: padding {padding} exceeds half of the kernel {kernel}");
        }
        if height + 2 * padding < kernel || width + 2 * padding < kernel {
            candle::bail!(
                "{op}: kernel {kernel} does not fit input {:?} with padding {padding}",
                x.shape()
            );
        }
        Ok(Self {
            batch,
            channels,
            height,
            width,
            kernel,
            stride,
            padding,
            out_height: (height + 2 * padding - kernel) / stride + 1,
            out_width: (width + 2 * padding - kernel) / stride + 1,
        })
    }

    fn out_shape(&self) -> Shape {
        Shape::from((self.batch, self.channels, self.out_height, self.out_width))
    }

    fn in_pixels(&self) -> usize {
        self.height * self.width
    }

    fn out_pixels(&self) -> usize {
        self.out_height * self.out_width
    }

    /// Input rows or columns, of `size`, under the window at output position `o`.
    fn span(&self, o: usize, size: usize) -> std::ops::Range<usize> {
        let start = o * self.stride;
        let lo = start.saturating_sub(self.padding);
        lo..(start + self.kernel).saturating_sub(self.padding).min(size)
    }

    /// Calls `f(output pixel, input rows, input columns)` for every window of a plane.
    pub(crate) fn each(
        &self,
        mut f: impl FnMut(usize, std::ops::Range<usize>, std::ops::Range<usize>),
    ) {
        for oy in 0..self.out_height {
            let rows = self.span(oy, self.height);
            for ox in 0..self.out_width {
                f(
                    oy * self.out_width + ox,
                    rows.clone(),
                    self.span(ox, self.width),
                );
            }
        }
    }

    /// Index of the first largest pixel of a window; NaN wins, as in PyTorch.
    pub(crate) fn largest<T: Real>(
        &self,
        plane: &[T],
        rows: std::ops::Range<usize>,
        cols: std::ops::Range<usize>,
    ) -> usize {
        let mut best = rows.start * self.width + cols.start;
        for y in rows {
            for x in cols.clone() {
                let at = y * self.width + x;
                if plane[at] > plane[best] || (plane[at].is_nan() && !plane[best].is_nan()) {
                    best = at;
                }
            }
        }
        best
    }
}

/// Planes for one task, so that it handles a few thousand pixels.
fn planes_per_task(w: &Window) -> usize {
    (1 << 12) / w.in_pixels() + 1
}

struct Max {
    window: Window,
    /// Whether a gradient may be asked for.
    keep: bool,
    /// Which tap won each window.
    taps: OnceLock<Vec<u8>>,
}

const MAX: &str = "max_pool2d";

impl CustomOp1 for Max {
    fn name(&self) -> &'static str {
        MAX
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        let w = &self.window;
        for_float!(x.dtype(), MAX, T => {
            let x = cpu::operand::<T>(MAX, x, l)?;
            let mut out = vec![T::ZERO; w.batch * w.channels * w.out_pixels()];
            let planes = out
                .par_chunks_mut(w.out_pixels())
                .zip(x.par_chunks(w.in_pixels()))
                .with_min_len(planes_per_task(w));
            if w.kernel > max_pool::LARGEST_KERNEL {
                planes.for_each(|(out, plane)| {
                    w.each(|o, rows, cols| out[o] = plane[w.largest(plane, rows, cols)]);
                });
            } else if self.keep {
                let mut taps = vec![0; w.batch * w.channels * w.out_pixels()];
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
        for_float!(x.dtype(), MAX, T => {
            let (xs, dy) = (View::of(x), View::of(&grad));
            let (xs, dy) = (xs.slice::<T>(MAX)?, dy.slice::<T>(MAX)?);
            let mut dx = vec![T::ZERO; xs.len()];
            let planes = dx
                .par_chunks_mut(w.in_pixels())
                .zip(dy.par_chunks(w.out_pixels()))
                .with_min_len(planes_per_task(w));
            match self.taps.get() {
                Some(taps) => planes
                    .zip(taps.par_chunks(w.out_pixels()))
                    .for_each(|((dx, dy), taps)| max_pool::backward(w, taps, dy, dx)),
                None => planes.zip(xs.par_chunks(w.in_pixels())).for_each(|((dx, dy), plane)| {
                    w.each(|o, rows, cols| dx[w.largest(plane, rows, cols)] += dy[o]);
                }),
            }
            Ok(Some(cpu::tensor(dx, x.shape())?))
        })
    }
}

struct Average {
    window: Window,
}

const AVERAGE: &str = "avg_pool2d";

impl Average {
    fn forward<T: Real>(w: &Window, plane: &[T], out: &mut [T]) {
        let scale = T::from_f64(1.0 / (w.kernel * w.kernel) as f64);
        w.each(|o, rows, cols| {
            let mut sum = T::ZERO;
            for y in rows {
                for value in &plane[y * w.width + cols.start..y * w.width + cols.end] {
                    sum += *value;
                }
            }
            out[o] = sum * scale;
        });
    }

    /// Adds to `dx`, which is zero at first.
    fn backward<T: Real>(w: &Window, dy: &[T], dx: &mut [T]) {
        let scale = T::from_f64(1.0 / (w.kernel * w.kernel) as f64);
        w.each(|o, rows, cols| {
            for y in rows {
                for value in &mut dx[y * w.width + cols.start..y * w.width + cols.end] {
                    *value += dy[o] * scale;
                }
            }
        });
    }
}

impl CustomOp1 for Average {
    fn name(&self) -> &'static str {
        AVERAGE
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        let w = &self.window;
        for_float!(x.dtype(), AVERAGE, T => {
            let x = cpu::operand::<T>(AVERAGE, x, l)?;
            let mut out = vec![T::ZERO; w.batch * w.channels * w.out_pixels()];
            out.par_chunks_mut(w.out_pixels())
                .zip(x.par_chunks(w.in_pixels()))
                .with_min_len(planes_per_task(w))
                .for_each(|(out, plane)| Self::forward(w, plane, out));
            Ok((T::to_cpu_storage_owned(out), w.out_shape()))
        })
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let w = &self.window;
        let grad = grad.contiguous()?;
        for_float!(x.dtype(), AVERAGE, T => {
            let view = View::of(&grad);
            let dy = view.slice::<T>(AVERAGE)?;
            let mut dx = vec![T::ZERO; x.elem_count()];
            dx.par_chunks_mut(w.in_pixels())
                .zip(dy.par_chunks(w.out_pixels()))
                .with_min_len(planes_per_task(w))
                .for_each(|(dx, dy)| Self::backward(w, dy, dx));
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
    let window = Window::new(MAX, x, kernel, stride, padding)?;
    if !x.device().is_cpu() {
        return composed_max(x, window);
    }
    x.contiguous()?.apply_op1(Max {
        window,
        keep: x.track_op(),
        taps: OnceLock::new(),
    })
}

/// The mean of every `kernel x kernel` window, padding counted as zeros (PyTorch's
/// `count_include_pad`).
///
/// # Shapes
/// `x` (B, C, H, W); result (B, C, (H + 2 padding - kernel) / stride + 1, likewise for W).
///
/// # Errors
/// As [`max_pool2d`].
pub fn avg_pool2d(x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let window = Window::new(AVERAGE, x, kernel, stride, padding)?;
    if !x.device().is_cpu() {
        return composed_average(x, window);
    }
    x.contiguous()?.apply_op1(Average { window })
}

/// Pads a dimension with a constant.
fn pad(x: &Tensor, dim: usize, before: usize, after: usize, value: f64) -> Result<Tensor> {
    let block = |n: usize| -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        shape[dim] = n;
        Tensor::full(value as f32, shape, x.device())?.to_dtype(x.dtype())
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

/// The `kernel^2` shifted and strided copies of the input, each of the output's shape.
fn shifted(x: &Tensor, w: Window, value: f64) -> Result<Vec<Tensor>> {
    let reach = |out: usize| w.kernel - 1 + out * w.stride;
    let after = |out: usize, size: usize| reach(out).saturating_sub(size + w.padding);
    let x = pad(x, 2, w.padding, after(w.out_height, w.height), value)?;
    let x = pad(&x, 3, w.padding, after(w.out_width, w.width), value)?;
    let mut out = Vec::with_capacity(w.kernel * w.kernel);
    for i in 0..w.kernel {
        for j in 0..w.kernel {
            let shape = (
                w.batch,
                w.channels,
                w.out_height,
                w.stride,
                w.out_width,
                w.stride,
            );
            out.push(
                x.narrow(2, i, w.out_height * w.stride)?
                    .narrow(3, j, w.out_width * w.stride)?
                    .reshape(shape)?
                    .narrow(5, 0, 1)?
                    .narrow(3, 0, 1)?
                    .squeeze(5)?
                    .squeeze(3)?
                    .contiguous()?,
            );
        }
    }
    Ok(out)
}

fn composed_max(x: &Tensor, w: Window) -> Result<Tensor> {
    let mut shifted = shifted(x, w, f64::NEG_INFINITY)?.into_iter();
    let Some(mut best) = shifted.next() else {
        candle::bail!("max_pool2d: empty window");
    };
    for other in shifted {
        // A strict comparison gives ties to the earlier pixel, and the whole gradient with them.
        best = other.gt(&best)?.where_cond(&other, &best)?;
    }
    Ok(best)
}

fn composed_average(x: &Tensor, w: Window) -> Result<Tensor> {
    let shifted = shifted(x, w, 0.0)?;
    let mut sum: Option<Tensor> = None;
    for other in shifted {
        sum = Some(match sum {
            None => other,
            Some(sum) => (sum + other)?,
        });
    }
    match sum {
        Some(sum) => sum / (w.kernel * w.kernel) as f64,
        None => candle::bail!("avg_pool2d: empty window"),
    }
}

struct GlobalAverage;

impl CustomOp1 for GlobalAverage {
    fn name(&self) -> &'static str {
        "global_avg_pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        let (b, c, h, w) = l.shape().dims4()?;
        for_float!(x.dtype(), self.name(), T => {
            let x = cpu::operand::<T>(self.name(), x, l)?;
            let scale = T::from_f64(1.0 / (h * w) as f64);
            let out: Vec<T> =
                x.par_chunks(h * w).map(|plane| crate::reduce::sum(plane) * scale).collect();
            Ok((T::to_cpu_storage_owned(out), Shape::from((b, c))))
        })
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, h, w) = x.dims4()?;
        let grad = grad.contiguous()?;
        for_float!(x.dtype(), self.name(), T => {
            let view = View::of(&grad);
            let dy = view.slice::<T>(self.name())?;
            let scale = T::from_f64(1.0 / (h * w) as f64);
            let mut dx = vec![T::ZERO; x.elem_count()];
            dx.par_chunks_mut(h * w).zip(dy).for_each(|(plane, &dy)| plane.fill(dy * scale));
            Ok(Some(cpu::tensor(dx, x.shape())?))
        })
    }
}

/// The mean over all pixels of each channel.
///
/// # Shapes
/// `x` (B, C, H, W); result (B, C).
///
/// # Errors
/// When the input is empty or not of rank 4.
pub fn global_avg_pool(x: &Tensor) -> Result<Tensor> {
    const OP: &str = "global_avg_pool";
    cpu::float(OP, x)?;
    if x.rank() != 4 {
        candle::bail!("{OP}: expected input (B, C, H, W), got {:?}", x.shape());
    }
    cpu::not_empty(OP, "input", x)?;
    if x.device().is_cpu() {
        x.contiguous()?.apply_op1(GlobalAverage)
    } else {
        x.flatten_from(2)?.mean(D::Minus1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::{DType, Device, Var};

    /// The composed forms, which other devices use, agree with the CPU's own in value and gradient.
    #[test]
    fn composed_forms_agree() -> Result<()> {
        let x = Tensor::rand(-1f64, 1.0, (2, 3, 7, 9), &Device::Cpu)?;
        for (kernel, stride, padding) in [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 1), (1, 2, 0)] {
            for max in [false, true] {
                let var = Var::from_tensor(&x)?;
                let window = Window::new("test", &x, kernel, stride, padding)?;
                let (ours, theirs) = if max {
                    (
                        max_pool2d(&var, kernel, stride, padding)?,
                        composed_max(&var, window)?,
                    )
                } else {
                    (
                        avg_pool2d(&var, kernel, stride, padding)?,
                        composed_average(&var, window)?,
                    )
                };
                let weight = Tensor::rand(0f64, 1.0, ours.shape(), &Device::Cpu)?;
                let grad = |y: &Tensor| -> Result<Tensor> {
                    let grads = y.mul(&weight)?.sum_all()?.backward()?;
                    Ok(grads.get(&var).unwrap().clone())
                };
                for (a, b) in [
                    (ours.clone(), theirs.clone()),
                    (grad(&ours)?, grad(&theirs)?),
                ] {
                    assert_eq!(a.dtype(), DType::F64);
                    let worst = (a - b)?.abs()?.max_all()?.to_scalar::<f64>()?;
                    assert!(worst < 1e-12, "{kernel} {stride} {padding} {max}: {worst}");
                }
            }
        }
        Ok(())
    }
}
