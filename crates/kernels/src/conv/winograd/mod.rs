//! Convolutions of 3 x 3 at stride 1 by minimal filtering: a quarter of the multiplications.
//!
//! An image is cut into tiles of 4 x 4 output pixels, which see 6 x 6 input pixels. Interpolation at six
//! points along each axis turns the convolution of a tile into 36 independent products, each summed over the
//! channels: 36 matrix products of (tiles x C) by (C x K), for 16 x 9 multiplications done directly
//! (Winograd, 1980; Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016).
//! The weight gradient is the same with the roles changed: 3 x 3 outputs, tiles of 4 x 4 gradients as
//! kernels. The points are 0, +-1/sqrt 2, +-sqrt 2 and infinity; with these the transforms have
//! coefficients near 1 and lose about a digit of f32, where 0, +-1, +-2 lose more.
//!
//! Tiles are transformed 16 channels at a time, which become the lanes of vectors; a block of tiles stays
//! in the second-level cache from the first transform to the last. Sums run over channels (over
//! tiles, for weights, in eight fixed parts at most) in an order that no number of threads changes.

mod product;
mod transform;
mod weights;

use super::geometry::Geometry;
use super::turn::{LANES, interleave, separate};
use crate::cpu::part;
use crate::gemm::Shared;
use crate::scratch;
use product::product;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;
use transform::{Tile, input_tile, kernel_tile, output_tile};
pub(crate) use weights::weight_gradient;

/// Output channels handled together: the columns of a product.
const BLOCK: usize = 64;
/// Products, one for each pair of points.
const POINTS: usize = 36;
/// Input channels of kernels that are brought near together.
const NEAR: usize = 8;
/// Fewest tiles worth the transforms of the kernels.
const LEAST_TILES: usize = 64;

/// How a convolution is cut into tiles. A segment is a row of tiles of one image.
#[derive(Clone, Copy)]
struct Plan {
    /// Tiles in a segment.
    tiles: usize,
    /// Segments in an image.
    rows: usize,
    segments: usize,
    /// Segments handled together.
    block: usize,
    /// Input channels, in whole lanes.
    depth: usize,
}

impl Plan {
    fn new(g: &Geometry) -> Self {
        let (rows, tiles) = (g.out_height.div_ceil(4), g.out_width.div_ceil(4));
        let wanted = if g.in_channels > 128 { 96 } else { 48 };
        Self {
            tiles,
            rows,
            segments: g.batch * rows,
            block: (wanted / tiles).max(1),
            depth: g.in_channels.next_multiple_of(LANES),
        }
    }

    /// Length of the transformed tiles of one pair of points; the odd part spreads them over the cache.
    fn stride(tiles: usize, channels: usize) -> usize {
        tiles * channels + LANES
    }
}

/// Output channels of block `index`, and their number in whole lanes.
fn columns(g: &Geometry, index: usize) -> (Range<usize>, usize) {
    let range = index * BLOCK..((index + 1) * BLOCK).min(g.out_channels);
    let lanes = range.len().next_multiple_of(LANES);
    (range, lanes)
}

/// Whether this is faster than the products over unfolded columns.
pub(crate) fn fits(g: &Geometry) -> bool {
    let plan = Plan::new(g);
    g.kernel == (3, 3)
        && (g.stride, g.dilation, g.groups) == (1, 1, 1)
        && g.in_channels >= LANES
        && g.out_channels >= LANES
        && plan.segments * plan.tiles >= LEAST_TILES
        // Tiles that hang over the edge are computed whole.
        && 16 * plan.rows * plan.tiles * 2 <= 3 * g.out_pixels()
}

/// Copies `LANES` channels of some rows of an image so that channels come last: (rows, `width`, lanes).
/// Pixels and channels outside are zero. `top` is the first row, `left` the columns of padding before.
struct Gather {
    channels: usize,
    height: usize,
    width: usize,
    top: isize,
    left: usize,
}

impl Gather {
    #[inline(always)]
    fn run<S: Simd>(
        &self,
        simd: S,
        image: &[f32],
        first: usize,
        rows: usize,
        width: usize,
        out: &mut [f32],
    ) {
        let lanes = LANES.min(self.channels - first);
        let (lo, hi) = (self.left, (self.left + self.width).min(width));
        for (i, line) in out[..rows * width * LANES]
            .chunks_exact_mut(width * LANES)
            .enumerate()
        {
            let y = self.top + i as isize;
            if y < 0 || y >= self.height as isize {
                line.fill(0.0);
                continue;
            }
            line[..lo * LANES].fill(0.0);
            line[hi * LANES..].fill(0.0);
            let planes = &image[(first * self.height + y as usize) * self.width..];
            let pixels = &mut line[lo * LANES..hi * LANES];
            let pixels = (pixels, LANES);
            interleave(
                simd,
                planes,
                self.height * self.width,
                lanes,
                hi - lo,
                pixels,
            );
        }
    }
}

/// The transformed input of a block of segments: (36, tiles, channels).
#[inline(always)]
fn input<S: Simd>(
    simd: S,
    g: &Geometry,
    plan: &Plan,
    x: &[f32],
    segments: Range<usize>,
    pixels: &mut [f32],
    out: &mut [f32],
) {
    let width = 4 * plan.tiles + 2;
    let stride = Plan::stride(segments.len() * plan.tiles, plan.depth);
    let per_image = g.in_channels * g.in_pixels();
    for (index, segment) in segments.enumerate() {
        let (image, row) = (segment / plan.rows, segment % plan.rows);
        let gather = Gather {
            channels: g.in_channels,
            height: g.height,
            width: g.width,
            top: (4 * row) as isize - g.padding.0 as isize,
            left: g.padding.1,
        };
        for c in (0..plan.depth).step_by(LANES) {
            gather.run(simd, &x[image * per_image..], c, 6, width, pixels);
            for t in 0..plan.tiles {
                for v in (0..LANES).step_by(S::F32_LANES) {
                    let from = Tile {
                        start: 4 * t * LANES + v,
                        row: width * LANES,
                        col: LANES,
                    };
                    let to = (index * plan.tiles + t) * plan.depth + c + v;
                    input_tile(simd, pixels, from, out, to, stride);
                }
            }
        }
    }
}

/// Splits a buffer into parts of the given lengths, the first of which starts at a cache line.
fn split<const N: usize>(buffer: &mut [f32], lengths: [usize; N]) -> [&mut [f32]; N] {
    let skip = buffer.as_ptr().align_offset(64).min(16);
    let mut rest = &mut buffer[skip..];
    lengths.map(|len| {
        let (head, tail) = std::mem::take(&mut rest).split_at_mut(len.next_multiple_of(LANES));
        rest = tail;
        head
    })
}

fn total(lengths: &[usize]) -> usize {
    lengths
        .iter()
        .map(|l| l.next_multiple_of(LANES))
        .sum::<usize>()
        + 16
}

/// Transforms kernels (K, C, 3, 3), or (C, K, 3, 3) turned around, to (blocks of K, 36, C, columns).
struct Kernels<'a> {
    g: &'a Geometry,
    weight: &'a [f32],
    adjoint: bool,
    index: usize,
    out: &'a mut [f32],
}

impl WithSimd for Kernels<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (depth, (range, lanes)) = (self.g.in_channels, columns(self.g, self.index));
        // Kernels of one output channel lie a power of two apart where there are many inputs, so that few of them find
        // room in the cache together: a few inputs of each are brought near first.
        let mut near = [[0.0; NEAR * 9]; BLOCK];
        for c in 0..depth {
            if c % NEAR == 0 && !self.adjoint {
                let len = NEAR.min(depth - c) * 9;
                for (near, o) in near.iter_mut().zip(range.clone()) {
                    near[..len].copy_from_slice(&self.weight[(o * depth + c) * 9..][..len]);
                }
            }
            for k in (0..lanes).step_by(LANES) {
                let mut taps = [[0.0; LANES]; 9];
                for (lane, o) in
                    (range.start + k..range.end.min(range.start + k + LANES)).enumerate()
                {
                    if self.adjoint {
                        let kernel = &self.weight[(c * self.g.out_channels + o) * 9..][..9];
                        for (tap, value) in taps.iter_mut().rev().zip(kernel) {
                            tap[lane] = *value;
                        }
                    } else {
                        let kernel = &near[o - range.start][c % NEAR * 9..][..9];
                        for (tap, value) in taps.iter_mut().zip(kernel) {
                            tap[lane] = *value;
                        }
                    }
                }
                for v in (0..LANES).step_by(S::F32_LANES) {
                    let to = c * lanes + k + v;
                    kernel_tile(simd, &taps, v, self.out, to, depth * lanes);
                }
            }
        }
    }
}

/// Output channels `blocks` of the segments `segments`.
struct Forward<'a> {
    g: &'a Geometry,
    plan: &'a Plan,
    x: &'a [f32],
    kernels: &'a [f32],
    bias: Option<&'a [f32]>,
    segments: Range<usize>,
    blocks: Range<usize>,
    buffer: &'a mut [f32],
    out: &'a Shared<'a, f32>,
}

impl Forward<'_> {
    /// Lengths of the buffers for pixels, transformed input and sums.
    fn lengths(g: &Geometry, plan: &Plan, segments: usize) -> [usize; 3] {
        let tiles = segments * plan.tiles;
        let most = g.out_channels.next_multiple_of(LANES).min(BLOCK);
        [
            6 * (4 * plan.tiles + 2) * LANES,
            POINTS * Plan::stride(tiles, plan.depth),
            POINTS * Plan::stride(tiles, most),
        ]
    }
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (g, plan) = (self.g, self.plan);
        let tiles = self.segments.len() * plan.tiles;
        let stride = Plan::stride(tiles, plan.depth);
        let lengths = Self::lengths(g, plan, self.segments.len());
        let [pixels, inputs, sums] = split(self.buffer, lengths);
        input(simd, g, plan, self.x, self.segments.clone(), pixels, inputs);
        for block in self.blocks.clone() {
            let (range, lanes) = columns(g, block);
            let out_stride = Plan::stride(tiles, lanes);
            let kernels = &self.kernels[block * BLOCK * POINTS * g.in_channels..];
            for p in 0..POINTS {
                product(
                    simd,
                    (tiles, g.in_channels, lanes),
                    (&inputs[p * stride..], plan.depth, 1),
                    (&kernels[p * g.in_channels * lanes..], lanes),
                    (&mut sums[p * out_stride..], lanes),
                    false,
                );
            }
            let segments = self.segments.clone();
            let to = (self.bias, self.out);
            output(
                simd,
                g,
                plan,
                segments,
                (range, lanes),
                (sums, out_stride),
                pixels,
                to,
            );
        }
    }
}

/// Transforms the sums of some output channels back to pixels.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn output<S: Simd>(
    simd: S,
    g: &Geometry,
    plan: &Plan,
    segments: Range<usize>,
    (range, lanes): (Range<usize>, usize),
    (sums, stride): (&[f32], usize),
    pixels: &mut [f32],
    (bias, out): (Option<&[f32]>, &Shared<'_, f32>),
) {
    let width = 4 * plan.tiles;
    for (index, segment) in segments.enumerate() {
        let (image, row) = (segment / plan.rows, segment % plan.rows);
        for k in (0..lanes).step_by(LANES) {
            for t in 0..plan.tiles {
                for v in (0..LANES).step_by(S::F32_LANES) {
                    let from = (index * plan.tiles + t) * lanes + k + v;
                    let to = Tile {
                        start: 4 * t * LANES + v,
                        row: width * LANES,
                        col: LANES,
                    };
                    output_tile(simd, sums, from, stride, pixels, to);
                }
            }
            let first = range.start + k;
            let channels = LANES.min(range.end - first);
            let mut start = [0.0; LANES];
            if let Some(bias) = bias {
                start[..channels].copy_from_slice(&bias[first..first + channels]);
            }
            for i in 0..4.min(g.out_height - 4 * row) {
                let mut lines: [&mut [f32]; LANES] = std::array::from_fn(|lane| {
                    if lane >= channels {
                        return &mut [][..];
                    }
                    let plane = image * g.out_channels + first + lane;
                    let at = (plane * g.out_height + 4 * row + i) * g.out_width;
                    // SAFETY: tasks differ in segments or channels, so no two write the same rows, and
                    // within a task the rows are written one after another.
                    unsafe { out.part(at, g.out_width) }
                });
                let pixels = (&pixels[i * width * LANES..], LANES);
                separate(simd, pixels, &start, &mut lines);
            }
        }
    }
}

/// `out = conv(x, weight) + bias`; with `adjoint`, the weights are those of the convolution whose adjoint
/// this is: (C, K, 3, 3), turned around.
pub(crate) fn forward(
    g: &Geometry,
    x: &[f32],
    (weight, adjoint): (&[f32], bool),
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let plan = Plan::new(g);
    let blocks = g.out_channels.div_ceil(BLOCK);
    let len = POINTS * g.in_channels * g.out_channels.next_multiple_of(LANES);
    scratch::with(len + 16, |kernels: &mut [f32]| {
        let [kernels] = split(kernels, [len]);
        kernels
            .par_chunks_mut(BLOCK * POINTS * g.in_channels)
            .enumerate()
            .for_each(|(index, out)| {
                crate::simd::with(Kernels {
                    g,
                    weight,
                    adjoint,
                    index,
                    out,
                });
            });
        let kernels = &*kernels;
        let threads = rayon::current_num_threads();
        let shares = plan
            .segments
            .div_ceil(plan.block)
            .next_multiple_of(threads)
            .min(plan.segments);
        // Few segments: channels are shared out as well, and each task transforms the input anew.
        let groups = if shares >= 2 * threads || threads == 1 {
            1
        } else {
            blocks
        };
        let shared = Shared::new(out);
        (0..shares * groups).into_par_iter().for_each(|task| {
            let segments = part(plan.segments, shares, task / groups);
            let lengths = Forward::lengths(g, &plan, segments.len());
            scratch::with(total(&lengths), |buffer: &mut [f32]| {
                crate::simd::with(Forward {
                    g,
                    plan: &plan,
                    x,
                    kernels,
                    bias,
                    segments,
                    blocks: part(blocks, groups, task % groups),
                    buffer,
                    out: &shared,
                });
            });
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Conv2dConfig, conv2d};
    use candle::{DType, Device, Result, Tensor, Var};

    /// Values and gradients in f32, by tiles, against f64, by products of unfolded columns.
    #[test]
    fn tiles_agree_with_columns() -> Result<()> {
        let dev = Device::Cpu;
        let cases = [
            // Images, channels in and out, height, width, padding.
            ([2, 16, 16], (24, 25), 1),
            ([3, 20, 70], (17, 22), 1),
            ([6, 40, 33], (15, 13), 0),
            ([9, 17, 130], (11, 10), 2),
            ([64, 150, 16], (4, 4), 1),
        ];
        for ([batch, from, to], (height, width), padding) in cases {
            let cfg = Conv2dConfig {
                padding,
                ..Default::default()
            };
            let x = Tensor::randn(0f64, 1.0, (batch, from, height, width), &dev)?;
            let w = Tensor::randn(0f64, 1.0, (to, from, 3, 3), &dev)?;
            let b = Tensor::randn(0f64, 1.0, to, &dev)?;
            let g = Geometry::new(x.dims(), w.dims(), &cfg)?;
            assert!(fits(&g), "{g:?}");
            let run = |dtype: DType| -> Result<Vec<Tensor>> {
                let vars =
                    [&x, &w, &b].map(|t| t.to_dtype(dtype).and_then(|t| Var::from_tensor(&t)));
                let [x, w, b] = vars;
                let (x, w, b) = (x?, w?, b?);
                let y = conv2d(&x, &w, Some(&b), cfg)?;
                let weights = Tensor::from_iter(
                    (0..y.elem_count()).map(|i| (i * 7919 % 1009) as f64 / 504.0 - 1.0),
                    &dev,
                )?;
                let weights = weights.reshape(y.shape())?.to_dtype(dtype)?;
                let grads = y.mul(&weights)?.sum_all()?.backward()?;
                let mut out = vec![y];
                for v in [&x, &w, &b] {
                    out.extend(grads.get(v).cloned());
                }
                Ok(out)
            };
            let (ours, exact) = (run(DType::F32)?, run(DType::F64)?);
            assert_eq!(ours.len(), 4);
            for (ours, exact) in ours.iter().zip(&exact) {
                let size = exact.sqr()?.mean_all()?.to_scalar::<f64>()?.sqrt();
                let off = (ours.to_dtype(DType::F64)? - exact)?.abs()?.max_all()?;
                let off = off.to_scalar::<f64>()? / size;
                assert!(off < 5e-5, "{g:?}: {off}");
            }
        }
        Ok(())
    }
}
