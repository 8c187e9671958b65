//! The weight gradient: 3 x 3 outputs, tiles of 4 x 4 gradients as kernels.

use super::transform::{Tile, gradient_tile, kernel_gradient, load};
use super::{BLOCK, Gather, POINTS, Plan, columns, input, product, split, total};
use crate::conv::geometry::Geometry;
use crate::conv::turn::LANES;
use crate::cpu::part;
use crate::scratch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// Parts that the weight gradient is summed in: few, since each needs its own sums.
const PARTS: usize = 8;

/// The products of one part of the segments for one block of output channels, summed up.
struct Sums<'a> {
    g: &'a Geometry,
    plan: &'a Plan,
    x: &'a [f32],
    grad: &'a [f32],
    segments: Range<usize>,
    block: usize,
    buffer: &'a mut [f32],
    /// (36, C, columns).
    out: &'a mut [f32],
}

impl Sums<'_> {
    /// Lengths of the buffers for pixels, transformed input and transformed gradients.
    fn lengths(g: &Geometry, plan: &Plan) -> [usize; 3] {
        let most = plan.block * plan.tiles;
        let lanes = g.out_channels.next_multiple_of(LANES).min(BLOCK);
        [
            6 * (4 * plan.tiles + 2) * LANES,
            POINTS * Plan::stride(most, plan.depth),
            POINTS * Plan::stride(most, lanes),
        ]
    }
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (g, plan) = (self.g, self.plan);
        let (range, lanes) = columns(g, self.block);
        let width = 4 * plan.tiles;
        let [pixels, inputs, grads] = split(self.buffer, Self::lengths(g, plan));
        for first in self.segments.clone().step_by(plan.block) {
            let segments = first..(first + plan.block).min(self.segments.end);
            let tiles = segments.len() * plan.tiles;
            let (stride, grad_stride) =
                (Plan::stride(tiles, plan.depth), Plan::stride(tiles, lanes));
            for (index, segment) in segments.clone().enumerate() {
                let (image, row) = (segment / plan.rows, segment % plan.rows);
                let gather = Gather {
                    channels: range.end,
                    height: g.out_height,
                    width: g.out_width,
                    top: (4 * row) as isize,
                    left: 0,
                };
                let image = &self.grad[image * g.out_channels * g.out_pixels()..];
                for k in (0..lanes).step_by(LANES) {
                    gather.run(simd, image, range.start + k, 4, width, pixels);
                    for t in 0..plan.tiles {
                        for v in (0..LANES).step_by(S::F32_LANES) {
                            let from = Tile {
                                start: 4 * t * LANES + v,
                                row: width * LANES,
                                col: LANES,
                            };
                            let to = (index * plan.tiles + t) * lanes + k + v;
                            gradient_tile(simd, pixels, from, grads, to, grad_stride);
                        }
                    }
                }
            }
            input(simd, g, plan, self.x, segments, pixels, inputs);
            for p in 0..POINTS {
                product(
                    simd,
                    (g.in_channels, tiles, lanes),
                    (&inputs[p * stride..], 1, plan.depth),
                    (&grads[p * grad_stride..], lanes),
                    (&mut self.out[p * g.in_channels * lanes..], lanes),
                    first > self.segments.start,
                );
            }
        }
    }
}

/// Adds up the parts and transforms the sums of `LANES` output channels to the gradient of their kernels.
struct Finish<'a> {
    g: &'a Geometry,
    parts: &'a [f32],
    /// Length of one part.
    len: usize,
    /// First output channel.
    first: usize,
    out: &'a mut [f32],
}

impl WithSimd for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (depth, block) = (self.g.in_channels, self.first / BLOCK);
        let (_, lanes) = columns(self.g, block);
        let start = block * BLOCK * POINTS * depth + self.first % BLOCK;
        let kernels = self.out.len() / (depth * 9);
        for c in 0..depth {
            let mut taps = [[0.0; LANES]; 9];
            for v in (0..LANES).step_by(S::F32_LANES) {
                let mut sums = [simd.splat_f32s(0.0); POINTS];
                for part in self.parts.chunks_exact(self.len) {
                    for (p, sum) in sums.iter_mut().enumerate() {
                        let at = start + (p * depth + c) * lanes + v;
                        *sum = simd.add_f32s(*sum, load::<S>(part, at));
                    }
                }
                kernel_gradient(simd, &sums, &mut taps, v);
            }
            for lane in 0..kernels {
                let kernel = &mut self.out[(lane * depth + c) * 9..][..9];
                for (value, tap) in kernel.iter_mut().zip(&taps) {
                    *value = tap[lane];
                }
            }
        }
    }
}

/// Gradient of the weight.
pub(crate) fn weight_gradient(g: &Geometry, x: &[f32], grad: &[f32], out: &mut [f32]) {
    let plan = Plan::new(g);
    let blocks = g.out_channels.div_ceil(BLOCK);
    let parts = (PARTS / blocks).clamp(1, plan.segments);
    let len = POINTS * g.in_channels * g.out_channels.next_multiple_of(LANES);
    scratch::with(parts * len + 16, |sums: &mut [f32]| {
        let [sums] = split(sums, [parts * len]);
        sums.par_chunks_mut(len)
            .enumerate()
            .flat_map(|(index, sums)| {
                sums.par_chunks_mut(BLOCK * POINTS * g.in_channels)
                    .enumerate()
                    .map(move |(block, out)| (index, block, out))
            })
            .for_each(|(index, block, out)| {
                scratch::with(total(&Sums::lengths(g, &plan)), |buffer: &mut [f32]| {
                    crate::simd::with(Sums {
                        g,
                        plan: &plan,
                        x,
                        grad,
                        segments: part(plan.segments, parts, index),
                        block,
                        buffer,
                        out,
                    });
                });
            });
        let sums = &*sums;
        out.par_chunks_mut(LANES * g.in_channels * 9)
            .enumerate()
            .for_each(|(index, out)| {
                crate::simd::with(Finish {
                    g,
                    parts: sums,
                    len,
                    first: index * LANES,
                    out,
                });
            });
    });
}
