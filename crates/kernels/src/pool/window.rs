//! Where the windows of a pooling lie.

use crate::cpu;
use crate::cpu::Real;
use candle::{Result, Shape, Tensor};
use std::ops::Range;

/// Options of [`max_pool2d_with`](crate::max_pool2d_with) and
/// [`avg_pool2d_with`](crate::avg_pool2d_with); pairs are rows, then columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool2dConfig {
    /// Size of the windows. Default 2.
    pub kernel: (usize, usize),
    /// Step between windows. Default 2.
    pub stride: (usize, usize),
    /// Rows and columns added on every side, at most half of the kernel. Default 0.
    pub padding: (usize, usize),
    /// Rounds the number of windows up: a last one that begins inside the image or its padding may
    /// reach beyond. Default false.
    pub ceil_mode: bool,
    /// Whether padding counts as zeros in an average (what lies beyond the padding never counts).
    /// Default true.
    pub count_include_pad: bool,
}

impl Default for Pool2dConfig {
    fn default() -> Self {
        Self::from(2)
    }
}

impl From<usize> for Pool2dConfig {
    /// Square windows side by side.
    fn from(kernel: usize) -> Self {
        Self::from((kernel, kernel))
    }
}

impl From<(usize, usize)> for Pool2dConfig {
    /// Windows side by side.
    fn from(kernel: (usize, usize)) -> Self {
        Self {
            kernel,
            stride: kernel,
            padding: (0, 0),
            ceil_mode: false,
            count_include_pad: true,
        }
    }
}

/// Sizes of one pooling by windows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) kernel: (usize, usize),
    pub(crate) stride: (usize, usize),
    pub(crate) padding: (usize, usize),
    pub(crate) out_height: usize,
    pub(crate) out_width: usize,
}

/// Checks a map and gives its sizes.
pub(super) fn maps(op: &'static str, x: &Tensor) -> Result<(usize, usize, usize, usize)> {
    cpu::float(op, x)?;
    let &[batch, channels, height, width] = x.dims() else {
        candle::bail!("{op}: expected input (B, C, H, W), got {:?}", x.shape())
    };
    cpu::not_empty(op, "input", x)?;
    Ok((batch, channels, height, width))
}

impl Window {
    pub(super) fn new(op: &'static str, x: &Tensor, cfg: Pool2dConfig) -> Result<Self> {
        let (batch, channels, height, width) = maps(op, x)?;
        let size = |size: usize, kernel: usize, stride: usize, padding: usize| -> Result<usize> {
            if kernel == 0 || stride == 0 {
                candle::bail!(
                    "{op}: kernel and stride must be positive, got {kernel} and {stride}"
                );
            }
            if padding > kernel / 2 {
                candle::bail!("{op}: padding {padding} exceeds half of the kernel {kernel}");
            }
            // Twice the padding is at most the kernel: no overflow.
            let padded = size.checked_add(2 * padding);
            let Some(free) = padded.and_then(|p| p.checked_sub(kernel)) else {
                candle::bail!(
                    "{op}: kernel {kernel} does not fit input {:?} with padding {padding}",
                    x.shape()
                );
            };
            let more = cfg.ceil_mode
                && free % stride != 0
                // The window must begin before the padding on the far side.
                && (free / stride + 1).saturating_mul(stride) < size + padding;
            Ok(free / stride + 1 + usize::from(more))
        };
        Ok(Self {
            batch,
            channels,
            height,
            width,
            kernel: cfg.kernel,
            stride: cfg.stride,
            padding: cfg.padding,
            out_height: size(height, cfg.kernel.0, cfg.stride.0, cfg.padding.0)?,
            out_width: size(width, cfg.kernel.1, cfg.stride.1, cfg.padding.1)?,
        })
    }

    pub(super) fn out_shape(&self) -> Shape {
        Shape::from((self.batch, self.channels, self.out_height, self.out_width))
    }

    pub(super) fn in_pixels(&self) -> usize {
        self.height * self.width
    }

    pub(super) fn out_pixels(&self) -> usize {
        self.out_height * self.out_width
    }

    pub(super) fn out_len(&self) -> usize {
        self.batch * self.channels * self.out_pixels()
    }

    /// True when a window reaches beyond the padding.
    pub(super) fn overhangs(&self) -> bool {
        let beyond = |out: usize, kernel: usize, stride: usize, size: usize, padding: usize| {
            (out - 1) * stride + kernel > size + 2 * padding
        };
        beyond(
            self.out_height,
            self.kernel.0,
            self.stride.0,
            self.height,
            self.padding.0,
        ) || beyond(
            self.out_width,
            self.kernel.1,
            self.stride.1,
            self.width,
            self.padding.1,
        )
    }

    /// Input rows under the windows of output row `o`.
    pub(super) fn rows(&self, o: usize) -> Range<usize> {
        span(o, self.height, self.kernel.0, self.stride.0, self.padding.0)
    }

    /// Input columns under the windows of output column `o`.
    pub(super) fn cols(&self, o: usize) -> Range<usize> {
        span(o, self.width, self.kernel.1, self.stride.1, self.padding.1)
    }

    /// Calls `f(output pixel, input rows, input columns)` for every window of a plane.
    pub(crate) fn each(&self, mut f: impl FnMut(usize, Range<usize>, Range<usize>)) {
        for oy in 0..self.out_height {
            let rows = self.rows(oy);
            for ox in 0..self.out_width {
                f(oy * self.out_width + ox, rows.clone(), self.cols(ox));
            }
        }
    }

    /// Index of the first largest pixel of a window; NaN wins, as in PyTorch.
    pub(crate) fn largest<T: Real>(
        &self,
        plane: &[T],
        rows: Range<usize>,
        cols: Range<usize>,
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

/// Input positions, of `size`, under the window at output position `o`.
fn span(o: usize, size: usize, kernel: usize, stride: usize, padding: usize) -> Range<usize> {
    let start = o * stride;
    let lo = start.saturating_sub(padding);
    lo..(start + kernel).saturating_sub(padding).min(size)
}

/// Planes for one task, so that it handles a few thousand pixels.
pub(super) fn planes_per_task(pixels: usize) -> usize {
    (1 << 12) / pixels + 1
}
