//! The weight gradient: sums over pixels of window values times gradients.

use super::kernel::{Outer, Segment};
use super::window::{Correlation, Units};
use super::{FRAME, PIXELS, Unit, block_width, columns_of};
use crate::conv::geometry::Geometry;
use crate::conv::turn::{LANES, interleave, separate};
use crate::cpu::part;
use crate::scratch;
use crate::simd::WithSimd;
use pulp::Simd;
use rayon::prelude::*;
use std::ops::Range;

/// Parts that the weight gradient is summed in: few, since each needs its own sums.
const PARTS: usize = 8;

/// One block of one part of the weight gradient's sums.
struct Sums<'a> {
    work: &'a Correlation,
    units: &'a Units,
    segments: &'a [Segment],
    x: &'a [f32],
    grad: &'a [f32],
    range: Range<usize>,
    columns: Range<usize>,
    lanes: usize,
    frame: &'a mut [f32],
    turned: &'a mut [f32],
    offsets: &'a mut [usize],
    out: &'a mut [f32],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (work, lanes) = (self.work, self.lanes);
        for index in self.range.clone() {
            let unit = Unit::new(work, self.units, index);
            unit.fill(simd, work, self.x, self.frame);
            let (pixels, frame) = (unit.pixels(work), unit.frame(work));
            let mut count = 0;
            for (i, image) in unit.images.clone().enumerate() {
                work.visit(unit.rows, |_, source, _| {
                    self.offsets[count] = source + i * frame;
                    count += 1;
                });
                let plane = work.target.pixels();
                let image = &self.grad[image * work.target.channels * plane..];
                for first in self.columns.clone().step_by(LANES) {
                    let planes = &image[first * plane + unit.rows.0 * work.target.width..];
                    let channels = LANES.min(self.columns.end - first);
                    let to = i * pixels * lanes + first - self.columns.start;
                    let out = (&mut self.turned[to..], lanes);
                    interleave(simd, planes, plane, channels, pixels, out);
                }
            }
            Outer {
                segments: self.segments,
                source: self.frame,
                offsets: &self.offsets[..count],
                grad: self.turned,
                lanes,
                sums: self.out,
                accumulate: index > self.range.start,
            }
            .with_simd(simd);
        }
    }
}

/// Adds up the parts of the sums of `LANES` output channels and turns them to kernels.
struct Gather<'a> {
    parts: &'a [f32],
    /// Length of one part.
    len: usize,
    /// Start of these channels' sums, and length of a row of them.
    start: usize,
    lanes: usize,
    channels: usize,
    taps: usize,
    out: &'a mut [f32],
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let depth = self.channels * self.taps;
        let kernels = self.out.len() / depth;
        scratch::with(self.taps * LANES, |sums: &mut [f32]| {
            for c in 0..self.channels {
                for (tap, sums) in sums.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                    *sums = [0.0; LANES];
                    for part in self.parts.chunks_exact(self.len) {
                        let at = self.start + (tap * self.channels + c) * self.lanes;
                        for (sum, value) in sums.iter_mut().zip(&part[at..at + LANES]) {
                            *sum += *value;
                        }
                    }
                }
                let mut rest = &mut self.out[c * self.taps..];
                let mut lines: [&mut [f32]; LANES] = std::array::from_fn(|lane| {
                    if lane >= kernels {
                        return &mut [][..];
                    }
                    let whole = std::mem::take(&mut rest);
                    let (line, next) = whole.split_at_mut(depth.min(whole.len()));
                    rest = next;
                    &mut line[..self.taps]
                });
                separate(simd, (sums, LANES), &[0.0; LANES], &mut lines);
            }
        });
    }
}

/// Gradient of the weight.
pub(crate) fn weight_gradient(g: &Geometry, x: &[f32], grad: &[f32], out: &mut [f32]) {
    let work = &Correlation::forward(g);
    let units = &work.units(2 * PIXELS, 2 * FRAME);
    let count = units.count(work.batch);
    // One phase: a convolution has no more.
    let all = work.segments();
    let segments = all.first().map_or(&[][..], Vec::as_slice);
    let width = block_width(g.out_channels);
    let blocks = g.out_channels.div_ceil(width);
    let parts = (PARTS / blocks).clamp(1, count);
    let pixels = units.images * units.rows * work.target.width;
    let len = g.out_channels.next_multiple_of(LANES) * work.depth();
    scratch::with(parts * len, |sums: &mut [f32]| {
        sums.par_chunks_mut(len)
            .enumerate()
            .flat_map(|(index, sums)| {
                sums.par_chunks_mut(width * work.depth())
                    .enumerate()
                    .map(move |(block, out)| (index, block, out))
            })
            .for_each(|(index, block, out)| {
                let (columns, lanes) = columns_of(g.out_channels, width, block);
                scratch::with(units.frame + pixels * width, |buffer: &mut [f32]| {
                    scratch::with(pixels, |offsets: &mut [usize]| {
                        let (frame, turned) = buffer.split_at_mut(units.frame);
                        crate::simd::with(Sums {
                            work,
                            units,
                            segments,
                            x,
                            grad,
                            range: part(count, parts, index),
                            columns,
                            lanes,
                            frame,
                            turned,
                            offsets,
                            out,
                        });
                    });
                });
            });
        let sums = &*sums;
        out.par_chunks_mut(LANES * work.depth())
            .enumerate()
            .for_each(|(index, out)| {
                let block = index * LANES / width;
                let (_, lanes) = columns_of(g.out_channels, width, block);
                let start = block * width * work.depth() + index * LANES % width;
                crate::simd::with(Gather {
                    parts: sums,
                    len,
                    start,
                    lanes,
                    channels: g.in_channels,
                    taps: work.taps,
                    out,
                });
            });
    });
}
