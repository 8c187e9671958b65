//! Unfolding images into the columns of a matrix product, and the adjoint.
//!
//! Columns are numbered over the whole batch: column `q` is output pixel `q % P` of image `q / P`,
//! so that a tile of columns may span several small images.

use super::geometry::Geometry;
use std::ops::Range;

/// Output positions `lo..hi` along the width whose input column for kernel column `j` is not padding.
fn valid(g: &Geometry, j: usize) -> (usize, usize) {
    let offset = j * g.dilation;
    let lo = g.padding.1.saturating_sub(offset).div_ceil(g.stride);
    let hi = (g.width + g.padding.1)
        .saturating_sub(offset)
        .div_ceil(g.stride);
    (lo.min(g.out_width), hi.min(g.out_width))
}

/// A run of output pixels within one row of one image.
struct Run {
    image: usize,
    row: usize,
    col: usize,
    len: usize,
    /// Position of the run within the tile.
    at: usize,
}

/// The runs of the columns `columns`.
fn runs(g: &Geometry, columns: &Range<usize>) -> Vec<Run> {
    let mut out = Vec::with_capacity((columns.end - columns.start) / g.out_width + 2);
    let mut q = columns.start;
    while q < columns.end {
        let (image, p) = (q / g.out_pixels(), q % g.out_pixels());
        let (row, col) = (p / g.out_width, p % g.out_width);
        let len = (g.out_width - col).min(columns.end - q);
        out.push(Run {
            image,
            row,
            col,
            len,
            at: q - columns.start,
        });
        q += len;
    }
    out
}

/// Writes the rows of `channels` for the columns `columns` into `out`, whose rows are `stride` long.
/// `x` is the whole input batch.
#[inline(always)]
pub(crate) fn unfold<T: Copy + Default>(
    g: &Geometry,
    x: &[T],
    channels: Range<usize>,
    columns: Range<usize>,
    out: &mut [T],
    stride: usize,
) {
    if g.stride == 1 && g.out_width == g.width {
        unfold_same(g, x, channels, columns, out, stride);
        return;
    }
    let runs = runs(g, &columns);
    let spans: Vec<_> = (0..g.kernel.1).map(|j| valid(g, j)).collect();
    for (c, channel) in channels.enumerate() {
        for i in 0..g.kernel.0 {
            for (j, &(lo, hi)) in spans.iter().enumerate() {
                let line = &mut out[((c * g.kernel.0 + i) * g.kernel.1 + j) * stride..];
                for run in &runs {
                    let dst = &mut line[run.at..run.at + run.len];
                    let y = run.row * g.stride + i * g.dilation;
                    if y < g.padding.0 || y - g.padding.0 >= g.height {
                        dst.fill(T::default());
                        continue;
                    }
                    let plane = (run.image * g.in_channels + channel) * g.in_pixels();
                    let src = &x[plane + (y - g.padding.0) * g.width..][..g.width];
                    let a = lo.clamp(run.col, run.col + run.len);
                    let b = hi.clamp(a, run.col + run.len);
                    dst[..a - run.col].fill(T::default());
                    dst[b - run.col..].fill(T::default());
                    if a == b {
                        continue;
                    }
                    let first = a * g.stride + j * g.dilation - g.padding.1;
                    let dst = &mut dst[a - run.col..b - run.col];
                    if g.stride == 1 {
                        dst.copy_from_slice(&src[first..first + (b - a)]);
                    } else {
                        gather(dst, &src[first..], g.stride);
                    }
                }
            }
        }
    }
}

/// [`unfold`] where rows of the output are as long as those of the input: the columns of one tap are
/// then a plane moved by a fixed distance, copied at once, with zeros where it crosses the border.
#[inline(always)]
fn unfold_same<T: Copy + Default>(
    g: &Geometry,
    x: &[T],
    channels: Range<usize>,
    columns: Range<usize>,
    out: &mut [T],
    stride: usize,
) {
    let (width, pixels, zero) = (g.width, g.out_pixels(), T::default());
    for (c, channel) in channels.enumerate() {
        for tap in 0..g.taps() {
            let (i, j) = (tap / g.kernel.1, tap % g.kernel.1);
            let line = &mut out[(c * g.taps() + tap) * stride..][..columns.len()];
            let (down, right) = (i * g.dilation, j * g.dilation);
            let (lo, hi) = valid(g, j);
            // Rows whose source lies within the plane, and the distance to it.
            let first = g.padding.0.saturating_sub(down).min(g.out_height);
            let last = (g.height + g.padding.0)
                .saturating_sub(down)
                .min(g.out_height)
                .max(first);
            let (ahead, behind) = (down * width + right, g.padding.0 * width + g.padding.1);
            let mut q = columns.start;
            while q < columns.end {
                let (image, p) = (q / pixels, q % pixels);
                let end = pixels.min(p + columns.end - q);
                let dst = &mut line[q - columns.start..][..end - p];
                q += end - p;
                let plane = (image * g.in_channels + channel) * g.in_pixels();
                let plane = &x[plane..plane + g.in_pixels()];
                // Output pixels a..b of this image have a source; all others are padding.
                let a = p
                    .max(first * width)
                    .max(behind.saturating_sub(ahead))
                    .min(end);
                let b = end
                    .min(last * width)
                    .min((plane.len() + behind).saturating_sub(ahead))
                    .max(a);
                dst[..a - p].fill(zero);
                dst[b - p..].fill(zero);
                if a == b {
                    continue;
                }
                let from = a + ahead - behind;
                dst[a - p..b - p].copy_from_slice(&plane[from..from + (b - a)]);
                // What was copied from the neighbouring row is padding too.
                for col in (0..lo).chain(hi..width) {
                    let skip = (col + width - p % width) % width;
                    for value in dst.iter_mut().skip(skip).step_by(width) {
                        *value = zero;
                    }
                }
            }
        }
    }
}

/// `dst[i] = src[i * stride]`.
#[inline(always)]
pub(crate) fn gather<T: Copy>(dst: &mut [T], src: &[T], stride: usize) {
    if stride == 2 {
        // Whole pairs let the compiler load vectors and drop every other lane.
        let pairs = src.chunks_exact(2);
        let last = pairs.remainder().first();
        let whole = pairs.len();
        for (d, pair) in dst.iter_mut().zip(pairs) {
            *d = pair[0];
        }
        if let (Some(d), Some(s)) = (dst.get_mut(whole), last) {
            *d = *s;
        }
        return;
    }
    for (d, s) in dst.iter_mut().zip(src.iter().step_by(stride)) {
        *d = *s;
    }
}

/// Adds columns back onto the planes they were taken from: the adjoint of [`unfold`] for `columns`
/// of image `image`. `planes` holds the planes of one chunk of channels of that image.
#[inline(always)]
pub(crate) fn fold<T: Copy + std::ops::AddAssign>(
    g: &Geometry,
    cols: &[T],
    stride: usize,
    channels: usize,
    columns: Range<usize>,
    planes: &mut [T],
) {
    let runs = runs(g, &columns);
    let spans: Vec<_> = (0..g.kernel.1).map(|j| valid(g, j)).collect();
    for c in 0..channels {
        let plane = &mut planes[c * g.in_pixels()..(c + 1) * g.in_pixels()];
        for i in 0..g.kernel.0 {
            for (j, &(lo, hi)) in spans.iter().enumerate() {
                let line = &cols[((c * g.kernel.0 + i) * g.kernel.1 + j) * stride..];
                for run in &runs {
                    let y = run.row * g.stride + i * g.dilation;
                    if y < g.padding.0 || y - g.padding.0 >= g.height {
                        continue;
                    }
                    let a = lo.clamp(run.col, run.col + run.len);
                    let b = hi.clamp(a, run.col + run.len);
                    if a == b {
                        continue;
                    }
                    let row = &mut plane[(y - g.padding.0) * g.width..][..g.width];
                    let first = a * g.stride + j * g.dilation - g.padding.1;
                    let src = &line[run.at + a - run.col..run.at + b - run.col];
                    if g.stride == 1 {
                        for (d, s) in row[first..].iter_mut().zip(src) {
                            *d += *s;
                        }
                    } else {
                        for (d, s) in row[first..].iter_mut().step_by(g.stride).zip(src) {
                            *d += *s;
                        }
                    }
                }
            }
        }
    }
}
