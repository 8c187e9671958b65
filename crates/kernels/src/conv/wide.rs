//! Depthwise 3 x 3 convolution with stride 1 of wide maps: columns of vectors from the top down.
//!
//! A row of the input touches three rows of the output. Going down a strip of the map, the sums of those
//! three stay in registers, so that nine multiplications take three loads and an output is stored
//! once. The gradient of the weight keeps three rows of the output's gradient instead. f32, one output
//! channel for each input.

use super::geometry::Geometry;
use crate::scratch;
use crate::simd::{WithSimd, load, store};
use pulp::Simd;
use rayon::prelude::*;

/// Floats of the longest vectors.
const LANES: usize = 16;
/// Vectors side by side: one alone waits for its own sums.
const STRIP: usize = 2;

/// Whether `g` is of this kind.
pub(crate) fn fits(g: &Geometry) -> bool {
    g.is_depthwise()
        && g.out_per_group() == 1
        && g.kernel == (3, 3)
        && (g.stride, g.dilation) == (1, 1)
        && g.out_width >= STRIP * LANES
}

/// Length of a row with its padding and room for a vector past the end.
fn pitch(g: &Geometry) -> usize {
    (g.width + 2 * g.padding.1).next_multiple_of(LANES) + LANES
}

/// Length of a plane with its padding: two rows more than the output has.
fn frame_len(g: &Geometry) -> usize {
    (g.out_height + 2) * pitch(g)
}

/// Copies a plane with its padding.
#[inline(always)]
fn frame(g: &Geometry, plane: &[f32], out: &mut [f32]) {
    let pitch = pitch(g);
    out.fill(0.0);
    let rows = out.chunks_exact_mut(pitch).skip(g.padding.0);
    for (out, row) in rows.zip(plane.chunks_exact(g.width)) {
        out[g.padding.1..][..g.width].copy_from_slice(row);
    }
}

/// One plane.
struct Correlate<'a> {
    g: &'a Geometry,
    source: &'a [f32],
    weights: [f32; 9],
    start: f32,
    frame: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for Correlate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (g, pitch, width) = (self.g, pitch(self.g), self.g.out_width);
        frame(g, self.source, self.frame);
        let weights = self.weights.map(|w| simd.splat_f32s(w));
        let start = simd.splat_f32s(self.start);
        let step = STRIP * S::F32_LANES;
        for x in (0..width).step_by(step) {
            // The last strip may overlap the one before it.
            let x = x.min(width - step);
            // Sums of the output rows that the row at hand touches, the one it is the last of first.
            let mut sums = [[start; STRIP]; 3];
            for (y, row) in self.frame.chunks_exact(pitch).enumerate() {
                sums[2] = [start; STRIP];
                for j in 0..3 {
                    for n in 0..STRIP {
                        let value = load::<S>(row, x + j + n * S::F32_LANES);
                        for (i, sums) in sums.iter_mut().enumerate() {
                            let weight = weights[(2 - i) * 3 + j];
                            sums[n] = simd.mul_add_e_f32s(weight, value, sums[n]);
                        }
                    }
                }
                if let Some(y) = y.checked_sub(2) {
                    for (n, sum) in sums[0].iter().enumerate() {
                        store::<S>(self.out, y * width + x + n * S::F32_LANES, *sum);
                    }
                }
                (sums[0], sums[1]) = (sums[1], sums[2]);
            }
        }
    }
}

/// All planes; `kernel` has the weights of a channel.
fn correlate(
    g: &Geometry,
    x: &[f32],
    kernel: impl Fn(usize) -> [f32; 9] + Sync,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    out.par_chunks_mut(g.out_pixels())
        .zip(x.par_chunks(g.in_pixels()))
        .enumerate()
        .for_each(|(index, (out, source))| {
            let channel = index % g.in_channels;
            scratch::with(frame_len(g), |frame: &mut [f32]| {
                crate::simd::with(Correlate {
                    g,
                    source,
                    weights: kernel(channel),
                    start: bias.map_or(0.0, |bias| bias[channel]),
                    frame,
                    out,
                });
            });
        });
}

/// `out = conv(x, weight) + bias`.
pub(crate) fn forward(
    g: &Geometry,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let kernel = |channel: usize| std::array::from_fn(|t| weight[channel * 9 + t]);
    correlate(g, x, kernel, bias, out);
}

/// Gradient of the input from the gradient of the output, by the convolution that is the adjoint.
pub(crate) fn input_gradient(adjoint: &Geometry, weight: &[f32], grad: &[f32], out: &mut [f32]) {
    let kernel = |channel: usize| std::array::from_fn(|t| weight[channel * 9 + 8 - t]);
    correlate(adjoint, grad, kernel, None, out);
}

/// The weight gradient of one channel.
struct Gradient<'a> {
    g: &'a Geometry,
    channel: usize,
    x: &'a [f32],
    grad: &'a [f32],
    frame: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (g, pitch, width) = (self.g, pitch(self.g), self.g.out_width);
        let zero = simd.splat_f32s(0.0);
        self.out.fill(0.0);
        for image in 0..g.batch {
            let plane = image * g.in_channels + self.channel;
            frame(
                g,
                &self.x[plane * g.in_pixels()..][..g.in_pixels()],
                self.frame,
            );
            let grad = &self.grad[plane * g.out_pixels()..][..g.out_pixels()];
            // Each image for itself: one chain over the whole batch would lose digits.
            let mut sums = [zero; 9];
            for x in (0..width).step_by(S::F32_LANES) {
                let len = S::F32_LANES.min(width - x);
                // Gradients of the output rows that the row at hand touches, the first it meets last.
                let mut seen = [zero; 3];
                let mut next = grad.chunks_exact(width);
                for row in self.frame.chunks_exact(pitch) {
                    seen = [seen[1], seen[2], zero];
                    if let Some(next) = next.next() {
                        seen[2] = simd.partial_load_f32s(&next[x..x + len]);
                    }
                    for j in 0..3 {
                        let value = load::<S>(row, x + j);
                        for (i, seen) in seen.iter().enumerate() {
                            let sum = &mut sums[(2 - i) * 3 + j];
                            *sum = simd.mul_add_e_f32s(value, *seen, *sum);
                        }
                    }
                }
            }
            for (out, sum) in self.out.iter_mut().zip(sums) {
                *out += simd.reduce_sum_f32s(sum);
            }
        }
    }
}

/// Gradient of the weight.
pub(crate) fn weight_gradient(g: &Geometry, x: &[f32], grad: &[f32], out: &mut [f32]) {
    out.par_chunks_mut(9)
        .enumerate()
        .for_each(|(channel, out)| {
            scratch::with(frame_len(g), |frame: &mut [f32]| {
                crate::simd::with(Gradient {
                    g,
                    channel,
                    x,
                    grad,
                    frame,
                    out,
                });
            });
        });
}
