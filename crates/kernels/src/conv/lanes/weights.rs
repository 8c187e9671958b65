//! The gradient of the weight: for each tap a sum over pixels, whose lanes are channels.

use super::plan::Plan;
use crate::conv::geometry::Geometry;
use crate::conv::turn::{LANES, interleave};
use crate::scratch;
use crate::simd::{WithSimd, load, store};
use pulp::Simd;
use rayon::prelude::*;

/// The weight gradient of sixteen channels.
struct Gradient<'a> {
    g: &'a Geometry,
    plan: &'a Plan,
    x: &'a [f32],
    grad: &'a [f32],
    first: usize,
    lanes: usize,
    /// Of the length of the sums and those that [`Plan::lengths`] says.
    buffer: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (g, plan, taps) = (self.g, self.plan, self.g.taps());
        let (inside, outside) = (g.in_pixels(), g.out_pixels());
        let [map_len, _] = plan.lengths();
        let (sums, rest) = self.buffer.split_at_mut(taps * LANES);
        let (map, pixels) = rest.split_at_mut(map_len);
        sums.fill(0.0);
        for image in 0..g.batch {
            let plane = image * g.in_channels + self.first;
            let planes = &self.x[plane * inside..][..self.lanes * inside];
            plan.fill(simd, planes, self.lanes, map, pixels);
            let planes = &self.grad[plane * outside..][..self.lanes * outside];
            let out = (&mut *pixels, LANES);
            interleave(simd, planes, outside, self.lanes, outside, out);
            let mut t = 0;
            while t + 9 <= taps {
                sum::<S, 9>(simd, g, plan, (map, pixels), t, sums);
                t += 9;
            }
            while t + 4 <= taps {
                sum::<S, 4>(simd, g, plan, (map, pixels), t, sums);
                t += 4;
            }
            while t < taps {
                sum::<S, 1>(simd, g, plan, (map, pixels), t, sums);
                t += 1;
            }
        }
        for (lane, kernel) in self.out.chunks_exact_mut(taps).enumerate() {
            for (value, line) in kernel.iter_mut().zip(sums.chunks_exact(LANES)) {
                *value = line[lane];
            }
        }
    }
}

/// N taps from `t`, over the pixels of one image.
#[inline(always)]
fn sum<S: Simd, const N: usize>(
    simd: S,
    g: &Geometry,
    plan: &Plan,
    (map, pixels): (&[f32], &[f32]),
    t: usize,
    sums: &mut [f32],
) {
    let taps: [usize; N] = std::array::from_fn(|n| plan.taps[0][t + n].0);
    for v in (0..LANES).step_by(S::F32_LANES) {
        // Each image for itself: one chain over the whole batch would lose digits.
        let mut acc = [simd.splat_f32s(0.0); N];
        for y in 0..g.out_height {
            for x in 0..g.out_width {
                let at = (y * plan.pitch + x * LANES) * g.stride + v;
                let value = load::<S>(pixels, (y * g.out_width + x) * LANES + v);
                for (sum, tap) in acc.iter_mut().zip(taps) {
                    *sum = simd.mul_add_e_f32s(load::<S>(map, at + tap), value, *sum);
                }
            }
        }
        for (n, sum) in acc.iter().enumerate() {
            let at = (t + n) * LANES + v;
            store::<S>(sums, at, simd.add_f32s(load::<S>(sums, at), *sum));
        }
    }
}

/// Gradient of the weight.
pub(crate) fn weight_gradient(g: &Geometry, x: &[f32], grad: &[f32], out: &mut [f32]) {
    let (plan, taps) = (Plan::forward(g), g.taps());
    let length = taps * LANES + plan.lengths().iter().sum::<usize>();
    out.par_chunks_mut(LANES * taps)
        .enumerate()
        .for_each(|(index, out)| {
            scratch::with(length, |buffer: &mut [f32]| {
                crate::simd::with(Gradient {
                    g,
                    plan: &plan,
                    x,
                    grad,
                    first: index * LANES,
                    lanes: out.len() / taps,
                    buffer,
                    out,
                });
            });
        });
}
