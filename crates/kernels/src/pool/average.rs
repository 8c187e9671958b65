//! Average pooling over windows, over cells that divide a map, and over the whole of it.
//!
//! An average over a rectangle is separable: rows are added as long vectors first, then the columns
//! of the one row that is left. The backward pass runs the same steps transposed.

use super::window::{Pool2dConfig, Window, maps, planes_per_task};
use crate::cpu::{self, Real, View, for_float};
use crate::rows::ALONE;
use crate::scratch;
use candle::{CpuStorage, CustomOp1, D, Device, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// The rectangles' extent along one axis.
#[derive(Debug, Clone)]
struct Axis {
    /// The input's size.
    size: usize,
    /// The input positions of every output position.
    spans: Vec<Range<usize>>,
    /// What their sum is multiplied by.
    scales: Vec<f64>,
}

impl Axis {
    /// `out` cells that cover all positions: from `floor(i n / out)` to `ceil((i + 1) n / out)`.
    fn cells(size: usize, out: usize) -> Self {
        let at = |i: usize| i as u128 * size as u128;
        let spans: Vec<_> = (0..out)
            .map(|i| (at(i) / out as u128) as usize..at(i + 1).div_ceil(out as u128) as usize)
            .collect();
        let scales = spans.iter().map(|s| 1.0 / s.len() as f64).collect();
        Self {
            size,
            spans,
            scales,
        }
    }

    fn windows(
        size: usize,
        spans: Vec<Range<usize>>,
        (kernel, stride, padding): (usize, usize, usize),
        include_padding: bool,
    ) -> Self {
        let count = |(o, span): (usize, &Range<usize>)| {
            if include_padding {
                // What reaches beyond the padding does not count.
                kernel.min(size + 2 * padding - o * stride)
            } else {
                span.len()
            }
        };
        let scales = spans.iter().enumerate().map(|s| 1.0 / count(s) as f64);
        Self {
            size,
            scales: scales.collect(),
            spans,
        }
    }

    fn len(&self) -> usize {
        self.spans.len()
    }
}

struct Average {
    op: &'static str,
    rows: Axis,
    cols: Axis,
}

impl Average {
    fn in_pixels(&self) -> usize {
        self.rows.size * self.cols.size
    }

    fn out_pixels(&self) -> usize {
        self.rows.len() * self.cols.len()
    }

    /// Whether there is one cell, the plane.
    fn is_global(&self) -> bool {
        let whole = |axis: &Axis| axis.len() == 1 && axis.spans[0] == (0..axis.size);
        whole(&self.rows) && whole(&self.cols)
    }

    #[inline(always)]
    fn forward<T: Real>(&self, plane: &[T], out: &mut [T], line: &mut [T]) {
        if self.is_global() {
            let scale = T::from_f64(self.rows.scales[0] * self.cols.scales[0]);
            out[0] = crate::reduce::sum(plane) * scale;
            return;
        }
        let width = self.cols.size;
        let rows = self.rows.spans.iter().zip(&self.rows.scales);
        for ((span, &scale), out) in rows.zip(out.chunks_exact_mut(self.cols.len())) {
            line.fill(T::ZERO);
            for row in plane[span.start * width..span.end * width].chunks_exact(width) {
                for (d, &v) in line.iter_mut().zip(row) {
                    *d += v;
                }
            }
            let cols = self.cols.spans.iter().zip(&self.cols.scales);
            for ((span, &share), out) in cols.zip(out) {
                let mut sum = T::ZERO;
                for &v in &line[span.clone()] {
                    sum += v;
                }
                *out = sum * T::from_f64(scale * share);
            }
        }
    }

    /// One of the two passes, plane by plane.
    fn by_planes<T: Real>(
        &self,
        (from, from_pixels): (&[T], usize),
        (to, to_pixels): (&mut [T], usize),
        pass: impl Fn(&Self, &[T], &mut [T], &mut [T]) + Sync,
    ) {
        let task = |(to, from): (&mut [T], &[T])| {
            scratch::with(self.cols.size, |line: &mut [T]| {
                crate::simd::run(
                    #[inline(always)]
                    || {
                        let to = to.chunks_exact_mut(to_pixels);
                        for (to, from) in to.zip(from.chunks_exact(from_pixels)) {
                            pass(self, from, to, line);
                        }
                    },
                );
            });
        };
        if from.len().max(to.len()) < ALONE {
            task((to, from));
        } else {
            let planes = planes_per_task(self.in_pixels());
            to.par_chunks_mut(planes * to_pixels)
                .zip(from.par_chunks(planes * from_pixels))
                .for_each(task);
        }
    }

    /// Writes `dx`.
    #[inline(always)]
    fn backward<T: Real>(&self, dy: &[T], dx: &mut [T], line: &mut [T]) {
        let width = self.cols.size;
        dx.fill(T::ZERO);
        let rows = self.rows.spans.iter().zip(&self.rows.scales);
        for ((span, &scale), dy) in rows.zip(dy.chunks_exact(self.cols.len())) {
            line.fill(T::ZERO);
            let cols = self.cols.spans.iter().zip(&self.cols.scales);
            for ((span, &share), &dy) in cols.zip(dy) {
                let dy = dy * T::from_f64(scale * share);
                for d in &mut line[span.clone()] {
                    *d += dy;
                }
            }
            for row in dx[span.start * width..span.end * width].chunks_exact_mut(width) {
                for (d, &v) in row.iter_mut().zip(&*line) {
                    *d += v;
                }
            }
        }
    }
}

impl CustomOp1 for Average {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        let (b, c, ..) = l.shape().dims4()?;
        for_float!(x.dtype(), self.op, T => {
            let x = cpu::operand::<T>(self.op, x, l)?;
            let mut out = cpu::unwritten(b * c * self.out_pixels());
            self.by_planes((x, self.in_pixels()), (&mut out, self.out_pixels()), Self::forward);
            let shape = Shape::from((b, c, self.rows.len(), self.cols.len()));
            Ok((T::to_cpu_storage_owned(out), shape))
        })
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        for_float!(x.dtype(), self.op, T => {
            let view = View::of(&grad);
            let dy = view.slice::<T>(self.op)?;
            let mut dx = cpu::unwritten(x.elem_count());
            self.by_planes((dy, self.out_pixels()), (&mut dx, self.in_pixels()), Self::backward);
            Ok(Some(cpu::tensor(dx, x.shape())?))
        })
    }
}

fn apply(x: &Tensor, op: &'static str, rows: Axis, cols: Axis) -> Result<Tensor> {
    if cpu::native(x) {
        x.contiguous()?.apply_op1(Average { op, rows, cols })
    } else {
        composed(x, &rows, &cols)
    }
}

/// `A x B^T`, each row of the two matrices the average over one span, by candle's own operations.
fn composed(x: &Tensor, rows: &Axis, cols: &Axis) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    let weights = |axis: &Axis| -> Result<Tensor> {
        let mut data = vec![0.0; axis.len() * axis.size];
        for (row, (span, &scale)) in axis.spans.iter().zip(&axis.scales).enumerate() {
            data[row * axis.size..(row + 1) * axis.size][span.clone()].fill(scale);
        }
        Tensor::from_vec(data, (axis.len(), axis.size), &Device::Cpu)?
            .to_dtype(x.dtype())?
            .to_device(x.device())
    };
    let across = x
        .reshape((b * c * h, w))?
        .matmul(&weights(cols)?.t()?)?
        .reshape((b * c, h, cols.len()))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((b * c * cols.len(), h))?;
    across
        .matmul(&weights(rows)?.t()?)?
        .reshape((b * c, cols.len(), rows.len()))?
        .transpose(1, 2)?
        .reshape((b, c, rows.len(), cols.len()))
}

const AVERAGE: &str = "avg_pool2d";

/// The mean of every `kernel x kernel` window, padding counted as zeros (PyTorch's
/// `count_include_pad`).
///
/// # Shapes
/// `x` (B, C, H, W); result (B, C, (H + 2 padding - kernel) / stride + 1, likewise for W).
///
/// # Errors
/// As [`max_pool2d`](crate::max_pool2d).
pub fn avg_pool2d(x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
    avg_pool2d_with(
        x,
        Pool2dConfig {
            stride: (stride, stride),
            padding: (padding, padding),
            ..kernel.into()
        },
    )
}

/// [`avg_pool2d`] with windows of any form.
///
/// # Shapes
/// `x` (B, C, H, W); result as of [`max_pool2d_with`](crate::max_pool2d_with).
///
/// # Errors
/// As [`max_pool2d`](crate::max_pool2d).
pub fn avg_pool2d_with(x: &Tensor, cfg: Pool2dConfig) -> Result<Tensor> {
    let w = Window::new(AVERAGE, x, cfg)?;
    let (rows, cols) = axes(&w, cfg.count_include_pad);
    apply(x, AVERAGE, rows, cols)
}

fn axes(w: &Window, include: bool) -> (Axis, Axis) {
    let rows = (0..w.out_height).map(|o| w.rows(o)).collect();
    let cols = (0..w.out_width).map(|o| w.cols(o)).collect();
    let down = (w.kernel.0, w.stride.0, w.padding.0);
    let across = (w.kernel.1, w.stride.1, w.padding.1);
    (
        Axis::windows(w.height, rows, down, include),
        Axis::windows(w.width, cols, across, include),
    )
}

/// The means of `size.0 x size.1` cells that cover the map, from pixel `floor(i H / H')` to
/// `ceil((i + 1) H / H')`: they overlap where the sizes do not divide, and repeat pixels where the
/// result is larger. PyTorch's `AdaptiveAvgPool2d`.
///
/// # Shapes
/// `x` (B, C, H, W); result (B, C, H', W') with `(H', W') = size`.
///
/// # Errors
/// When the input is empty, not of rank 4 or not of a float type, or a size is 0.
pub fn adaptive_avg_pool2d(x: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    const OP: &str = "adaptive_avg_pool2d";
    let (b, c, h, w) = maps(OP, x)?;
    let elements = [b, c, size.0, size.1]
        .into_iter()
        .try_fold(1usize, usize::checked_mul);
    if elements.is_none_or(|n| n == 0 || n > isize::MAX as usize / 8) {
        candle::bail!(
            "{OP}: cannot divide {:?} into {} x {} cells",
            x.shape(),
            size.0,
            size.1
        );
    }
    apply(x, OP, Axis::cells(h, size.0), Axis::cells(w, size.1))
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
            let mut dx = cpu::unwritten(x.elem_count());
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
    maps("global_avg_pool", x)?;
    if cpu::native(x) {
        x.contiguous()?.apply_op1(GlobalAverage)
    } else {
        x.flatten_from(2)?.mean(D::Minus1)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use candle::{DType, Var};

    pub(crate) fn configs() -> Vec<Pool2dConfig> {
        let mut all = vec![];
        for (kernel, stride, padding) in [
            ((2, 2), (2, 2), (0, 0)),
            ((3, 3), (2, 2), (1, 1)),
            ((3, 3), (1, 1), (1, 1)),
            ((2, 2), (3, 3), (1, 1)),
            ((1, 1), (2, 2), (0, 0)),
            ((2, 3), (1, 2), (1, 0)),
            ((4, 1), (3, 2), (2, 0)),
        ] {
            for (ceil_mode, count_include_pad) in [(false, true), (true, false), (true, true)] {
                all.push(Pool2dConfig {
                    kernel,
                    stride,
                    padding,
                    ceil_mode,
                    count_include_pad,
                });
            }
        }
        all
    }

    pub(crate) fn same_value_and_gradient(x: &Var, a: &Tensor, b: &Tensor) -> Result<()> {
        let weight = Tensor::rand(0f64, 1.0, a.shape(), &Device::Cpu)?;
        let gradient = |y: &Tensor| -> Result<Tensor> {
            let grads = y.mul(&weight)?.sum_all()?.backward()?;
            Ok(grads.get(x).unwrap().clone())
        };
        for (a, b) in [(a.clone(), b.clone()), (gradient(a)?, gradient(b)?)] {
            assert_eq!(a.dtype(), DType::F64);
            let worst = (a - b)?.abs()?.max_all()?.to_scalar::<f64>()?;
            assert!(worst < 1e-12, "{worst}");
        }
        Ok(())
    }

    #[test]
    fn composed_forms_agree() -> Result<()> {
        let x = Var::rand(-1f64, 1.0, (2, 3, 7, 9), &Device::Cpu)?;
        for cfg in configs() {
            let (rows, cols) = axes(&Window::new("test", &x, cfg)?, cfg.count_include_pad);
            let theirs = composed(&x, &rows, &cols)?;
            same_value_and_gradient(&x, &avg_pool2d_with(&x, cfg)?, &theirs)?;
        }
        for (h, w) in [(1, 1), (3, 4), (7, 2), (9, 11)] {
            let theirs = composed(&x, &Axis::cells(7, h), &Axis::cells(9, w))?;
            same_value_and_gradient(&x, &adaptive_avg_pool2d(&x, (h, w))?, &theirs)?;
        }
        Ok(())
    }
}
