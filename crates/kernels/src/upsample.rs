//! Nearest and bilinear resizing of maps, to any size, with the adjoint as gradient.
//!
//! Both are separable. A result's row is the blend of two rows of the input (or one of them), from
//! which its pixels are picked; the backward pass runs the same steps transposed. One task handles
//! whole planes, so sums have one order.

use crate::cpu::{self, Real, View, for_float};
use crate::scratch;
use candle::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Where the pixels of a result come from, along one axis.
#[derive(Debug, Clone)]
struct Axis {
    /// The input's size.
    size: usize,
    /// Of every output position: the nearer input position before it.
    low: Vec<usize>,
    /// The position after; the same as `low` at the border and for nearest.
    high: Vec<usize>,
    /// The share of `high`, in [0, 1).
    share: Vec<f64>,
    /// Whether every share is 0.
    picks: bool,
}

impl Axis {
    fn new(size: usize, sources: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high, mut share) = (vec![], vec![], vec![]);
        for source in sources {
            let before = (source.max(0.0) as usize).min(size - 1);
            let after = (before + 1).min(size - 1);
            let t = (source.max(0.0) - before as f64).clamp(0.0, 1.0);
            low.push(before);
            high.push(after);
            share.push(if after == before { 0.0 } else { t });
        }
        let picks = share.iter().all(|&t| t == 0.0);
        Self {
            size,
            low,
            high,
            share,
            picks,
        }
    }

    /// Nearest neighbour: `floor(i * step)` with `step` input pixels a pixel.
    fn nearest(size: usize, out: usize, step: Option<f64>) -> Self {
        let sources = (0..out).map(|i| match step {
            Some(step) => (i as f64 * step).floor(),
            // Whole numbers: a quotient rounded down a hair early would pick the pixel before.
            None => (i as u128 * size as u128 / out as u128) as f64,
        });
        Self::new(size, sources)
    }

    fn linear(size: usize, out: usize, step: Option<f64>, align_corners: bool) -> Self {
        if align_corners {
            let step = (size - 1) as f64 / (out.max(2) - 1) as f64;
            return Self::new(size, (0..out).map(|i| i as f64 * step));
        }
        let step = step.unwrap_or(size as f64 / out as f64);
        Self::new(size, (0..out).map(|i| (i as f64 + 0.5) * step - 0.5))
    }

    fn len(&self) -> usize {
        self.low.len()
    }
}

struct Resize {
    op: &'static str,
    rows: Axis,
    cols: Axis,
}

/// Planes for one task, so that it handles a few thousand pixels.
fn planes_per_task(pixels: usize) -> usize {
    (1 << 12) / pixels + 1
}

impl Resize {
    fn in_pixels(&self) -> usize {
        self.rows.size * self.cols.size
    }

    fn out_pixels(&self) -> usize {
        self.rows.len() * self.cols.len()
    }

    #[inline(always)]
    fn forward<T: Real>(&self, shares: &[T], plane: &[T], out: &mut [T], blend: &mut [T]) {
        let (rows, cols, width) = (&self.rows, &self.cols, self.cols.size);
        let row = |y: usize| &plane[y * width..(y + 1) * width];
        for y in 0..rows.len() {
            let (low, high, t) = (rows.low[y], rows.high[y], T::from_f64(rows.share[y]));
            let (done, rest) = out.split_at_mut(y * cols.len());
            let target = &mut rest[..cols.len()];
            if rows.picks && y > 0 && rows.low[y - 1] == low {
                target.copy_from_slice(&done[done.len() - cols.len()..]);
                continue;
            }
            let line = if t == T::ZERO {
                row(low)
            } else {
                for ((d, &a), &b) in blend.iter_mut().zip(row(low)).zip(row(high)) {
                    *d = (T::ONE - t) * a + t * b;
                }
                &*blend
            };
            if cols.picks {
                for (d, &at) in target.iter_mut().zip(&cols.low) {
                    *d = line[at];
                }
            } else {
                let sources = cols.low.iter().zip(&cols.high).zip(shares);
                for (d, ((&low, &high), &t)) in target.iter_mut().zip(sources) {
                    *d = (T::ONE - t) * line[low] + t * line[high];
                }
            }
        }
    }

    /// Writes `dx`.
    #[inline(always)]
    fn backward<T: Real>(&self, shares: &[T], dy: &[T], dx: &mut [T], blend: &mut [T]) {
        let (rows, cols, width) = (&self.rows, &self.cols, self.cols.size);
        dx.fill(T::ZERO);
        for (y, source) in dy.chunks_exact(cols.len()).enumerate() {
            blend.fill(T::ZERO);
            if cols.picks {
                for (&dy, &at) in source.iter().zip(&cols.low) {
                    blend[at] += dy;
                }
            } else {
                let targets = cols.low.iter().zip(&cols.high).zip(shares);
                for (&dy, ((&low, &high), &t)) in source.iter().zip(targets) {
                    blend[low] += (T::ONE - t) * dy;
                    blend[high] += t * dy;
                }
            }
            let t = T::from_f64(rows.share[y]);
            for (row, share) in [(rows.low[y], T::ONE - t), (rows.high[y], t)] {
                if share != T::ZERO {
                    let row = &mut dx[row * width..(row + 1) * width];
                    for (d, &v) in row.iter_mut().zip(&*blend) {
                        *d += share * v;
                    }
                }
            }
        }
    }

    /// The shares along the columns in the element type.
    fn shares<T: Real>(&self) -> Vec<T> {
        self.cols.share.iter().map(|&t| T::from_f64(t)).collect()
    }
}

impl CustomOp1 for Resize {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        let (b, c, ..) = l.shape().dims4()?;
        for_float!(x.dtype(), self.op, T => {
            let x = cpu::operand::<T>(self.op, x, l)?;
            let (shares, width) = (self.shares::<T>(), self.cols.size);
            let mut out = cpu::unwritten(b * c * self.out_pixels());
            out.par_chunks_mut(self.out_pixels())
                .zip(x.par_chunks(self.in_pixels()))
                .with_min_len(planes_per_task(self.out_pixels()))
                .for_each(|(out, plane)| {
                    scratch::with(width, |blend: &mut [T]| {
                        crate::simd::run(
                            #[inline(always)]
                            || self.forward(&shares, plane, out, blend),
                        );
                    });
                });
            let shape = Shape::from((b, c, self.rows.len(), self.cols.len()));
            Ok((T::to_cpu_storage_owned(out), shape))
        })
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        for_float!(x.dtype(), self.op, T => {
            let view = View::of(&grad);
            let dy = view.slice::<T>(self.op)?;
            let (shares, width) = (self.shares::<T>(), self.cols.size);
            let mut dx = cpu::unwritten(x.elem_count());
            dx.par_chunks_mut(self.in_pixels())
                .zip(dy.par_chunks(self.out_pixels()))
                .with_min_len(planes_per_task(self.out_pixels()))
                .for_each(|(dx, dy)| {
                    scratch::with(width, |blend: &mut [T]| {
                        crate::simd::run(
                            #[inline(always)]
                            || self.backward(&shares, dy, dx, blend),
                        );
                    });
                });
            Ok(Some(cpu::tensor(dx, x.shape())?))
        })
    }
}

/// Checks the operand and the size of the result; gives the input's size.
fn check(op: &'static str, x: &Tensor, (h, w): (usize, usize)) -> Result<(usize, usize)> {
    cpu::float(op, x)?;
    let &[b, c, height, width] = x.dims() else {
        candle::bail!("{op}: expected input (B, C, H, W), got {:?}", x.shape())
    };
    cpu::not_empty(op, "input", x)?;
    let elements = [b, c, h, w]
        .into_iter()
        .try_fold(1usize, usize::checked_mul);
    match elements {
        Some(n) if n > 0 && n <= isize::MAX as usize / 8 => Ok((height, width)),
        _ => candle::bail!("{op}: cannot resize {:?} to {h} x {w}", x.shape()),
    }
}

/// The size of a map scaled by `scale`: rounded down, as PyTorch does.
fn scaled(op: &'static str, x: &Tensor, (sh, sw): (f64, f64)) -> Result<(usize, usize)> {
    let &[_, _, h, w] = x.dims() else {
        candle::bail!("{op}: expected input (B, C, H, W), got {:?}", x.shape())
    };
    let size = |n: usize, s: f64| (n as f64 * s).floor();
    let (h, w) = (size(h, sh), size(w, sw));
    // Sizes beyond 2^40 cannot be meant; NaN fails both comparisons.
    if (1.0..1e12).contains(&h) && (1.0..1e12).contains(&w) {
        Ok((h as usize, w as usize))
    } else {
        candle::bail!("{op}: cannot scale {:?} by {sh} and {sw}", x.shape())
    }
}

fn apply(x: &Tensor, op: &'static str, rows: Axis, cols: Axis) -> Result<Tensor> {
    if cpu::native(x) {
        x.contiguous()?.apply_op1(Resize { op, rows, cols })
    } else {
        composed(&composed(x, 2, &rows)?, 3, &cols)
    }
}

/// One axis by candle's own operations.
fn composed(x: &Tensor, dim: usize, axis: &Axis) -> Result<Tensor> {
    let pick = |indices: &[usize]| -> Result<Tensor> {
        let indices: Vec<u32> = indices.iter().map(|&i| i as u32).collect();
        x.contiguous()?
            .index_select(&Tensor::from_vec(indices, axis.len(), x.device())?, dim)
    };
    let low = pick(&axis.low)?;
    if axis.picks {
        return Ok(low);
    }
    let mut shape = [1; 4];
    shape[dim] = axis.len();
    let share = Tensor::from_slice(&axis.share, &shape, &Device::Cpu)?
        .to_dtype(x.dtype())?
        .to_device(x.device())?;
    low.broadcast_mul(&share.affine(-1.0, 1.0)?)? + pick(&axis.high)?.broadcast_mul(&share)?
}

const NEAREST: &str = "upsample_nearest2d";
const BILINEAR: &str = "upsample_bilinear2d";

/// Resizes maps by repeating (or leaving out) pixels, as PyTorch's `interpolate(mode="nearest")` with
/// a size: `out[y, x] = in[floor(y H / H'), floor(x W / W')]`. Any sizes, up or down.
/// The quotients are whole-number ones; PyTorch in f32 rounds `H / H'` first and takes the neighbour of
/// a few pixels at some pairs of sizes (9 to 447, say).
///
/// # Shapes
/// `x` (B, C, H, W); result (B, C, H', W') with `(H', W') = size`.
///
/// # Errors
/// When the input is empty, not of rank 4 or not of a float type, or a size is 0.
pub fn upsample_nearest2d(x: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    let (h, w) = check(NEAREST, x, size)?;
    let (rows, cols) = (
        Axis::nearest(h, size.0, None),
        Axis::nearest(w, size.1, None),
    );
    apply(x, NEAREST, rows, cols)
}

/// [`upsample_nearest2d`] by scale factors, as PyTorch with `scale_factor`: the size is rounded down,
/// and pixels are picked by the factor itself, `in[floor(y / scale)]`.
///
/// # Shapes
/// `x` (B, C, H, W); result (B, C, floor(H scale.0), floor(W scale.1)).
///
/// # Errors
/// As [`upsample_nearest2d`], and when a factor is not positive or leaves nothing.
pub fn upsample_nearest2d_scale(x: &Tensor, scale: (f64, f64)) -> Result<Tensor> {
    let size = scaled(NEAREST, x, scale)?;
    let (h, w) = check(NEAREST, x, size)?;
    let rows = Axis::nearest(h, size.0, Some(1.0 / scale.0));
    let cols = Axis::nearest(w, size.1, Some(1.0 / scale.1));
    apply(x, NEAREST, rows, cols)
}

/// Resizes maps by linear interpolation along rows and columns, as PyTorch's
/// `interpolate(mode="bilinear")` with a size. With `align_corners` the corner pixels keep their
/// places: source `y (H - 1) / (H' - 1)`; without, pixels are squares and the squares' corners do:
/// source `(y + 1/2) H / H' - 1/2`, not below 0. Nothing is smoothed when a map shrinks.
///
/// # Shapes
/// `x` (B, C, H, W); result (B, C, H', W') with `(H', W') = size`.
///
/// # Errors
/// When the input is empty, not of rank 4 or not of a float type, or a size is 0.
pub fn upsample_bilinear2d(
    x: &Tensor,
    size: (usize, usize),
    align_corners: bool,
) -> Result<Tensor> {
    let (h, w) = check(BILINEAR, x, size)?;
    let rows = Axis::linear(h, size.0, None, align_corners);
    let cols = Axis::linear(w, size.1, None, align_corners);
    apply(x, BILINEAR, rows, cols)
}

/// [`upsample_bilinear2d`] by scale factors, as PyTorch with `scale_factor`: the size is rounded down,
/// and without `align_corners` the source is `(y + 1/2) / scale - 1/2`, by the factor itself.
///
/// # Shapes
/// `x` (B, C, H, W); result (B, C, floor(H scale.0), floor(W scale.1)).
///
/// # Errors
/// As [`upsample_bilinear2d`], and when a factor is not positive or leaves nothing.
pub fn upsample_bilinear2d_scale(
    x: &Tensor,
    scale: (f64, f64),
    align_corners: bool,
) -> Result<Tensor> {
    let size = scaled(BILINEAR, x, scale)?;
    let (h, w) = check(BILINEAR, x, size)?;
    let rows = Axis::linear(h, size.0, Some(1.0 / scale.0), align_corners);
    let cols = Axis::linear(w, size.1, Some(1.0 / scale.1), align_corners);
    apply(x, BILINEAR, rows, cols)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::Var;

    /// The composed forms, which other devices use, agree with the CPU's own in value and gradient.
    #[test]
    fn composed_forms_agree() -> Result<()> {
        let x = Var::rand(-1f64, 1.0, (2, 3, 5, 4), &Device::Cpu)?;
        for (h, w) in [(10, 8), (7, 9), (5, 4), (1, 1), (3, 13), (1, 4)] {
            for kind in 0..3 {
                let (rows, cols) = match kind {
                    0 => (Axis::nearest(5, h, None), Axis::nearest(4, w, None)),
                    _ => (
                        Axis::linear(5, h, None, kind == 1),
                        Axis::linear(4, w, None, kind == 1),
                    ),
                };
                let theirs = composed(&composed(&x, 2, &rows)?, 3, &cols)?;
                let ours = apply(&x, "test", rows, cols)?;
                let weight = Tensor::rand(-1f64, 1.0, ours.shape(), &Device::Cpu)?;
                let gradient = |y: &Tensor| -> Result<Tensor> {
                    let grads = y.mul(&weight)?.sum_all()?.backward()?;
                    Ok(grads.get(&x).unwrap().clone())
                };
                for (a, b) in [
                    (ours.clone(), theirs.clone()),
                    (gradient(&ours)?, gradient(&theirs)?),
                ] {
                    let worst = (a - b)?.abs()?.max_all()?.to_scalar::<f64>()?;
                    assert!(worst < 1e-12, "{h} x {w}, kind {kind}: {worst}");
                }
            }
        }
        Ok(())
    }
}
