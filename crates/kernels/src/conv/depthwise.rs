//! Convolution where every group has one input channel, by direct loops.
//!
//! A plane is first copied with its padding, each row split by the stride into phases, so that the
//! inner loops read contiguous lanes whatever the stride: pixel `ox * s + t` of a row is element
//! `ox + t / s` of phase `t % s`.

use super::geometry::Geometry;
use super::im2col::gather;
use super::{global, lanes, wide};
use crate::cpu::Real;
use crate::scratch;
use rayon::prelude::*;

/// Pixels computed together; fixed-size arrays of them become vector registers.
const LANES: usize = 16;
/// Taps whose gradients are accumulated together.
const TAPS: usize = 9;

/// Where the padded, phase-split rows of a plane lie in the scratch buffer.
struct Phases {
    stride: usize,
    /// Elements of one phase of one row, with room for whole lanes past the end.
    length: usize,
    rows: usize,
    /// Offset of every tap from the start of an output row's first input row.
    taps: Vec<usize>,
}

impl Phases {
    fn new(g: &Geometry) -> Self {
        let (s, d) = (g.stride, g.dilation);
        let length = (g.width + 2 * g.padding.1).div_ceil(s) + 2 * LANES;
        let taps = (0..g.taps())
            .map(|t| {
                let (i, j) = (t / g.kernel.1 * d, t % g.kernel.1 * d);
                (i * s + j % s) * length + j / s
            })
            .collect();
        Self {
            stride: s,
            length,
            rows: g.height + 2 * g.padding.0,
            taps,
        }
    }

    fn len(&self) -> usize {
        self.rows * self.stride * self.length
    }

    /// Start of the first input row of output row `oy`.
    fn row(&self, oy: usize) -> usize {
        oy * self.stride * self.stride * self.length
    }

    /// Copies a plane with its padding.
    #[inline(always)]
    fn split<T: Real>(&self, g: &Geometry, plane: &[T], out: &mut [T]) {
        out.fill(T::ZERO);
        for (y, row) in plane.chunks_exact(g.width).enumerate() {
            let start = (y + g.padding.0) * self.stride * self.length;
            if self.stride == 1 {
                out[start + g.padding.1..start + g.padding.1 + g.width].copy_from_slice(row);
                continue;
            }
            for phase in 0..self.stride {
                // First unpadded column of this phase.
                let skip = (phase + self.stride - g.padding.1 % self.stride) % self.stride;
                let at = (g.padding.1 + skip) / self.stride;
                let count = row.len().saturating_sub(skip).div_ceil(self.stride);
                let line = &mut out[start + phase * self.length + at..][..count];
                if count > 0 {
                    gather(line, &row[skip..], self.stride);
                }
            }
        }
    }

    /// The adjoint of [`Phases::split`]: reads the unpadded pixels back.
    #[inline(always)]
    fn join<T: Real>(&self, g: &Geometry, phases: &[T], plane: &mut [T]) {
        for (y, row) in plane.chunks_exact_mut(g.width).enumerate() {
            let start = (y + g.padding.0) * self.stride * self.length;
            for phase in 0..self.stride {
                let skip = (phase + self.stride - g.padding.1 % self.stride) % self.stride;
                let at = (g.padding.1 + skip) / self.stride;
                let line = &phases[start + phase * self.length + at..];
                let target = row.iter_mut().skip(skip).step_by(self.stride);
                for (d, s) in target.zip(line) {
                    *d = *s;
                }
            }
        }
    }
}

#[inline(always)]
fn vector<T>(data: &[T], at: usize) -> &[T] {
    &data[at..at + LANES]
}

/// `out (+)= conv(plane)` for one plane whose phases are given.
#[inline(always)]
fn plane_forward<T: Real>(
    g: &Geometry,
    p: &Phases,
    phases: &[T],
    kernel: &[T],
    start: T,
    accumulate: bool,
    out: &mut [T],
) {
    for (oy, row) in out.chunks_exact_mut(g.out_width).enumerate() {
        let base = p.row(oy);
        for (block, target) in row.chunks_mut(LANES).enumerate() {
            let at = base + block * LANES;
            let mut acc = [start; LANES];
            for (&offset, &w) in p.taps.iter().zip(kernel) {
                for (a, x) in acc.iter_mut().zip(vector(phases, at + offset)) {
                    *a += w * *x;
                }
            }
            for (d, a) in target.iter_mut().zip(acc) {
                *d = if accumulate { *d + a } else { a };
            }
        }
    }
}

/// `out = conv(x, weight) + bias`.
pub(crate) fn forward<T: Real>(
    g: &Geometry,
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    out: &mut [T],
) {
    if global::fits(g) {
        global::forward(g, x, weight, bias, out);
        return;
    }
    if lanes::fits(g)
        && let (Some(x), Some(weight)) = (T::f32s(x), T::f32s(weight))
        && let Some(out) = T::f32s_mut(out)
    {
        lanes::forward(g, x, weight, bias.and_then(T::f32s), out);
        return;
    }
    if wide::fits(g)
        && let (Some(x), Some(weight)) = (T::f32s(x), T::f32s(weight))
        && let Some(out) = T::f32s_mut(out)
    {
        wide::forward(g, x, weight, bias.and_then(T::f32s), out);
        return;
    }
    let p = Phases::new(g);
    let (multiplier, pixels, taps) = (g.out_per_group(), g.out_pixels(), g.taps());
    out.par_chunks_mut(multiplier * pixels)
        .zip(x.par_chunks(g.in_pixels()))
        .enumerate()
        .for_each(|(index, (out, plane))| {
            let channel = index % g.in_channels;
            scratch::with(p.len(), |phases: &mut [T]| {
                crate::simd::run(
                    #[inline(always)]
                    || {
                        p.split(g, plane, phases);
                        for (m, out) in out.chunks_exact_mut(pixels).enumerate() {
                            let o = channel * multiplier + m;
                            let kernel = &weight[o * taps..(o + 1) * taps];
                            let start = bias.map_or(T::ZERO, |b| b[o]);
                            plane_forward(g, &p, phases, kernel, start, false, out);
                        }
                    },
                );
            });
        });
}

/// Gradient of the input from the gradient of the output.
pub(crate) fn input_gradient<T: Real>(g: &Geometry, weight: &[T], grad: &[T], out: &mut [T]) {
    if global::fits(g) {
        global::input_gradient(g, weight, grad, out);
        return;
    }
    if lanes::fits(g)
        && let (Some(weight), Some(grad)) = (T::f32s(weight), T::f32s(grad))
        && let Some(out) = T::f32s_mut(out)
    {
        lanes::input_gradient(g, weight, grad, out);
        return;
    }
    let (multiplier, pixels, taps) = (g.out_per_group(), g.out_pixels(), g.taps());
    let adjoint = g.adjoint();
    if let Some(adjoint) = adjoint.as_ref().filter(|adjoint| wide::fits(adjoint))
        && let (Some(weight), Some(grad)) = (T::f32s(weight), T::f32s(grad))
        && let Some(out) = T::f32s_mut(out)
    {
        wide::input_gradient(adjoint, weight, grad, out);
        return;
    }
    let p = Phases::new(adjoint.as_ref().unwrap_or(g));
    out.par_chunks_mut(g.in_pixels())
        .zip(grad.par_chunks(multiplier * pixels))
        .enumerate()
        .for_each(|(index, (out, grads))| {
            let channel = index % g.in_channels;
            let kernel = |m: usize| {
                let o = channel * multiplier + m;
                &weight[o * taps..(o + 1) * taps]
            };
            scratch::with(p.len(), |phases: &mut [T]| {
                crate::simd::run(
                    #[inline(always)]
                    || {
                        if let Some(adjoint) = &adjoint {
                            for (m, grad) in grads.chunks_exact(pixels).enumerate() {
                                p.split(adjoint, grad, phases);
                                let flipped: Vec<T> = kernel(m).iter().rev().copied().collect();
                                plane_forward(adjoint, &p, phases, &flipped, T::ZERO, m > 0, out);
                            }
                        } else {
                            phases.fill(T::ZERO);
                            for (m, grad) in grads.chunks_exact(pixels).enumerate() {
                                scatter(g, &p, grad, kernel(m), phases);
                            }
                            p.join(g, phases, out);
                        }
                    },
                );
            });
        });
}

/// Adds every output gradient, weighted, to the pixels its window covers.
#[inline(always)]
fn scatter<T: Real>(g: &Geometry, p: &Phases, grad: &[T], kernel: &[T], phases: &mut [T]) {
    for (oy, row) in grad.chunks_exact(g.out_width).enumerate() {
        for (&offset, &w) in p.taps.iter().zip(kernel) {
            let at = p.row(oy) + offset;
            for (d, s) in phases[at..at + g.out_width].iter_mut().zip(row) {
                *d += w * *s;
            }
        }
    }
}

/// Gradient of the weight.
pub(crate) fn weight_gradient<T: Real>(g: &Geometry, x: &[T], grad: &[T], out: &mut [T]) {
    if lanes::fits(g)
        && let (Some(x), Some(grad)) = (T::f32s(x), T::f32s(grad))
        && let Some(out) = T::f32s_mut(out)
    {
        lanes::weight_gradient(g, x, grad, out);
        return;
    }
    if wide::fits(g)
        && let (Some(x), Some(grad)) = (T::f32s(x), T::f32s(grad))
        && let Some(out) = T::f32s_mut(out)
    {
        wide::weight_gradient(g, x, grad, out);
        return;
    }
    let p = Phases::new(g);
    let (multiplier, pixels, taps) = (g.out_per_group(), g.out_pixels(), g.taps());
    // Rows of the gradient padded with zeros to whole lanes, so that lanes past the end add nothing.
    let padded = g.out_width.next_multiple_of(LANES);
    out.par_chunks_mut(multiplier * taps)
        .enumerate()
        .for_each(|(channel, out)| {
            out.fill(T::ZERO);
            scratch::with(p.len() + g.out_height * padded, |buffer: &mut [T]| {
                let (phases, rows) = buffer.split_at_mut(p.len());
                crate::simd::run(
                    #[inline(always)]
                    || {
                        for image in 0..g.batch {
                            let plane = (image * g.in_channels + channel) * g.in_pixels();
                            p.split(g, &x[plane..plane + g.in_pixels()], phases);
                            for (m, out) in out.chunks_exact_mut(taps).enumerate() {
                                let o = image * g.out_channels + channel * multiplier + m;
                                let source =
                                    grad[o * pixels..(o + 1) * pixels].chunks_exact(g.out_width);
                                for (row, source) in rows.chunks_exact_mut(padded).zip(source) {
                                    row[..g.out_width].copy_from_slice(source);
                                    row[g.out_width..].fill(T::ZERO);
                                }
                                plane_weight_gradient(&p, phases, rows, padded, out);
                            }
                        }
                    },
                );
            });
        });
}

/// Adds the weight gradient of one plane.
#[inline(always)]
fn plane_weight_gradient<T: Real>(
    p: &Phases,
    phases: &[T],
    rows: &[T],
    padded: usize,
    out: &mut [T],
) {
    for (offsets, out) in p.taps.chunks(TAPS).zip(out.chunks_mut(TAPS)) {
        let mut sums = [[T::ZERO; LANES]; TAPS];
        for (oy, row) in rows.chunks_exact(padded).enumerate() {
            for (sum, offset) in sums.iter_mut().zip(offsets) {
                // A copy in registers for the length of the row.
                let mut acc = *sum;
                let at = p.row(oy) + offset;
                let x = phases[at..at + padded].chunks_exact(LANES);
                for (x, dy) in x.zip(row.chunks_exact(LANES)) {
                    for ((a, x), dy) in acc.iter_mut().zip(x).zip(dy) {
                        *a += *x * *dy;
                    }
                }
                *sum = acc;
            }
        }
        for (d, sum) in out.iter_mut().zip(sums) {
            for a in sum {
                *d += a;
            }
        }
    }
}
