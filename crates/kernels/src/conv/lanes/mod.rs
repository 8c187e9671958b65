//! Depthwise convolution of small maps, with channels as lanes.
//!
//! A row of seven pixels fills no vector, and a stride breaks what there is. Sixteen planes turned so that their
//! channels lie side by side fill every one, whatever width, stride and kernel are; and a weight's
//! gradient is then a sum over pixels, with no lanes to add up. f32, one output channel for each input.

mod plan;
mod weights;

use super::geometry::Geometry;
use super::turn::{LANES, separate};
use crate::gemm::Shared;
use crate::scratch;
use crate::simd::WithSimd;
use plan::Plan;
use pulp::Simd;
use rayon::prelude::*;
pub(crate) use weights::weight_gradient;

/// Widest map handled here; longer rows are vectors as they are.
const WIDEST: usize = 32;

/// Whether this is faster than loops over rows.
pub(crate) fn fits(g: &Geometry) -> bool {
    g.is_depthwise()
        && g.out_per_group() == 1
        && g.width <= WIDEST
        && g.in_channels >= LANES / 2
        // Frames are small for maps this narrow unless they are very tall, or mostly padding.
        && (g.height + 2 * g.padding.0) * (g.width + 2 * g.padding.1) <= 1 << 13
}

/// Writes kernels as (sixteens of channels, taps, lanes).
fn turn_kernels(kernels: &[f32], taps: usize, out: &mut [f32]) {
    let groups = out.chunks_exact_mut(taps * LANES);
    for (out, kernels) in groups.zip(kernels.chunks(taps * LANES)) {
        out.fill(0.0);
        for (lane, kernel) in kernels.chunks_exact(taps).enumerate() {
            for (line, &value) in out.chunks_exact_mut(LANES).zip(kernel) {
                line[lane] = value;
            }
        }
    }
}

/// Lines of `pixels` elements, `lanes` of them, one after another.
fn planes_of(data: &mut [f32], pixels: usize, lanes: usize) -> [&mut [f32]; LANES] {
    let mut planes = data.chunks_exact_mut(pixels.max(1)).take(lanes);
    std::array::from_fn(|_| planes.next().unwrap_or_default())
}

/// Sixteen channels of one image.
struct Correlate<'a> {
    plan: &'a Plan,
    source: &'a [f32],
    /// As (taps, lanes).
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    lanes: usize,
    /// Of the lengths that [`Plan::lengths`] says.
    buffer: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for Correlate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let plan = self.plan;
        let [map_len, _] = plan.lengths();
        let (map, pixels) = self.buffer.split_at_mut(map_len);
        plan.fill(simd, self.source, self.lanes, map, pixels);
        plan.gather(simd, map, self.weights, pixels);
        let mut start = [0.0; LANES];
        if let Some(bias) = self.bias {
            start[..self.lanes].copy_from_slice(bias);
        }
        let mut lines = planes_of(self.out, plan.target.0 * plan.target.1, self.lanes);
        separate(simd, (pixels, LANES), &start, &mut lines);
    }
}

/// All channels of all images.
fn correlate(
    g: &Geometry,
    plan: &Plan,
    source: &[f32],
    kernels: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let (channels, taps) = (g.in_channels, g.taps());
    let groups = channels.div_ceil(LANES);
    let source_pixels = plan.source.0 * plan.source.1;
    let out_pixels = plan.target.0 * plan.target.1;
    let shared = Shared::new(out);
    scratch::with(groups * taps * LANES, |weights: &mut [f32]| {
        turn_kernels(kernels, taps, weights);
        let weights = &*weights;
        (0..g.batch * groups).into_par_iter().for_each(|task| {
            let (image, first) = (task / groups, task % groups * LANES);
            let lanes = LANES.min(channels - first);
            let plane = image * channels + first;
            // SAFETY: tasks differ in image or channels, so no two write the same planes.
            let out = unsafe { shared.part(plane * out_pixels, lanes * out_pixels) };
            // The buffer is taken out here: a closure would be compiled for the baseline instructions.
            scratch::with(plan.lengths().iter().sum(), |buffer: &mut [f32]| {
                crate::simd::with(Correlate {
                    plan,
                    source: &source[plane * source_pixels..][..lanes * source_pixels],
                    weights: &weights[first * taps..][..taps * LANES],
                    bias: bias.map(|bias| &bias[first..first + lanes]),
                    lanes,
                    buffer,
                    out,
                });
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
    correlate(g, &Plan::forward(g), x, weight, bias, out);
}

/// Gradient of the input from the gradient of the output.
pub(crate) fn input_gradient(g: &Geometry, weight: &[f32], grad: &[f32], out: &mut [f32]) {
    correlate(g, &Plan::adjoint(g), grad, weight, None, out);
}
