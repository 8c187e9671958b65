//! Depthwise convolution whose one window is the whole plane: a product of each plane with its kernel.

use super::geometry::Geometry;
use crate::cpu::Real;
use crate::simd::WithSimd;
use pulp::Simd;
use rayon::prelude::*;

/// Whether `g` is of this kind.
pub(crate) fn fits(g: &Geometry) -> bool {
    g.out_pixels() == 1
        && g.padding == (0, 0)
        && g.dilation == 1
        && g.kernel == (g.height, g.width)
        && g.out_per_group() == 1
}

/// The planes of one image.
struct Products<'a> {
    pixels: usize,
    planes: &'a [f32],
    kernels: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let planes = self.planes.chunks_exact(self.pixels);
        let kernels = self.kernels.chunks_exact(self.pixels);
        for ((out, plane), kernel) in self.out.iter_mut().zip(planes).zip(kernels) {
            let (xs, x) = S::as_simd_f32s(plane);
            let (ws, w) = S::as_simd_f32s(kernel);
            let (x, w) = (simd.partial_load_f32s(x), simd.partial_load_f32s(w));
            let mut sum = simd.mul_f32s(x, w);
            for (x, w) in xs.iter().zip(ws) {
                sum = simd.mul_add_e_f32s(*x, *w, sum);
            }
            *out = simd.reduce_sum_f32s(sum);
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
    let pixels = g.in_pixels();
    out.par_chunks_mut(g.in_channels)
        .zip(x.par_chunks(g.in_channels * pixels))
        .for_each(|(out, planes)| {
            if let (Some(planes), Some(kernels)) = (T::f32s(planes), T::f32s(weight))
                && let Some(out) = T::f32s_mut(out)
            {
                crate::simd::with(Products {
                    pixels,
                    planes,
                    kernels,
                    out,
                });
            } else {
                let pairs = planes.chunks_exact(pixels).zip(weight.chunks_exact(pixels));
                for (out, (plane, kernel)) in out.iter_mut().zip(pairs) {
                    *out = crate::reduce::dot(plane, kernel);
                }
            }
            for (out, bias) in out.iter_mut().zip(bias.into_iter().flatten()) {
                *out += *bias;
            }
        });
}

/// Gradient of the input from the gradient of the output.
pub(crate) fn input_gradient<T: Real>(g: &Geometry, weight: &[T], grad: &[T], out: &mut [T]) {
    out.par_chunks_mut(g.in_channels * g.in_pixels())
        .zip(grad.par_chunks(g.in_channels))
        .for_each(|(out, grads)| {
            crate::simd::run(
                #[inline(always)]
                || {
                    let kernels = weight.chunks_exact(g.in_pixels());
                    let planes = out.chunks_exact_mut(g.in_pixels());
                    for ((plane, kernel), &grad) in planes.zip(kernels).zip(grads) {
                        for (d, &w) in plane.iter_mut().zip(kernel) {
                            *d = w * grad;
                        }
                    }
                },
            );
        });
}
