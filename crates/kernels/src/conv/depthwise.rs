//! Convolution where every group has one input channel, by direct loops.
//!
//! A plane is first copied with its padding, each row split by the stride into phases ([`Split`]), so that the
//! inner loops read contiguous lanes whatever the stride.

use super::geometry::Geometry;
use super::split::{LANES, Split};
use super::{global, lanes, wide};
use crate::cpu::Real;
use crate::scratch;
use rayon::prelude::*;

/// Taps whose gradients are accumulated together.
const TAPS: usize = 9;

#[inline(always)]
fn vector<T>(data: &[T], at: usize) -> &[T] {
    &data[at..at + LANES]
}

/// `out (+)= conv(plane)` for one plane whose phases are given.
#[inline(always)]
fn plane_forward<T: Real>(
    g: &Geometry,
    p: &Split,
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
    let p = Split::new(g);
    let (multiplier, pixels, taps) = (g.out_per_group(), g.out_pixels(), g.taps());
    out.par_chunks_mut(multiplier * pixels)
        .zip(x.par_chunks(g.in_pixels()))
        .enumerate()
        .for_each(|(index, (out, plane))| {
            let channel = index % g.in_channels;
            scratch::with(p.len(p.rows), |phases: &mut [T]| {
                crate::simd::run(
                    #[inline(always)]
                    || {
                        p.split(g, plane, 0..p.rows, phases);
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
    let p = Split::new(adjoint.as_ref().unwrap_or(g));
    out.par_chunks_mut(g.in_pixels())
        .zip(grad.par_chunks(multiplier * pixels))
        .enumerate()
        .for_each(|(index, (out, grads))| {
            let channel = index % g.in_channels;
            let kernel = |m: usize| {
                let o = channel * multiplier + m;
                &weight[o * taps..(o + 1) * taps]
            };
            scratch::with(p.len(p.rows), |phases: &mut [T]| {
                crate::simd::run(
                    #[inline(always)]
                    || {
                        if let Some(adjoint) = &adjoint {
                            for (m, grad) in grads.chunks_exact(pixels).enumerate() {
                                p.split(adjoint, grad, 0..p.rows, phases);
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
fn scatter<T: Real>(g: &Geometry, p: &Split, grad: &[T], kernel: &[T], phases: &mut [T]) {
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
    let p = Split::new(g);
    let (multiplier, pixels, taps) = (g.out_per_group(), g.out_pixels(), g.taps());
    // Rows of the gradient padded with zeros to whole lanes, so that lanes past the end add nothing.
    let padded = g.out_width.next_multiple_of(LANES);
    out.par_chunks_mut(multiplier * taps)
        .enumerate()
        .for_each(|(channel, out)| {
            out.fill(T::ZERO);
            scratch::with(
                p.len(p.rows) + g.out_height * padded,
                |buffer: &mut [T]| {
                    let (phases, rows) = buffer.split_at_mut(p.len(p.rows));
                    crate::simd::run(
                        #[inline(always)]
                        || {
                            for image in 0..g.batch {
                                let plane = (image * g.in_channels + channel) * g.in_pixels();
                                p.split(g, &x[plane..plane + g.in_pixels()], 0..p.rows, phases);
                                for (m, out) in out.chunks_exact_mut(taps).enumerate() {
                                    let o = image * g.out_channels + channel * multiplier + m;
                                    let source = grad[o * pixels..(o + 1) * pixels]
                                        .chunks_exact(g.out_width);
                                    for (row, source) in rows.chunks_exact_mut(padded).zip(source) {
                                        row[..g.out_width].copy_from_slice(source);
                                        row[g.out_width..].fill(T::ZERO);
                                    }
                                    plane_weight_gradient(&p, phases, rows, padded, out);
                                }
                            }
                        },
                    );
                },
            );
        });
}

/// Adds the weight gradient of one plane.
#[inline(always)]
fn plane_weight_gradient<T: Real>(
    p: &Split,
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
