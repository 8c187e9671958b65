//! Gaussian blur, separable, the image mirrored at its edges.

use super::simd;
use crate::resize::Planes;

/// Weights below this part of the middle one are left out: they are beneath the rounding of the sum.
const NEGLIGIBLE: f32 = 1e-7;

/// The middle weight and those to one side of it; all together sum to 1.
fn weights(kernel: usize, sigma: f32) -> Vec<f32> {
    let half: Vec<f32> = (0..=kernel / 2)
        .map(|i| (-0.5 * (i as f32 / sigma).powi(2)).exp())
        .take_while(|&weight| weight >= NEGLIGIBLE)
        .collect();
    let sum = 2.0 * half.iter().sum::<f32>() - half.first().copied().unwrap_or(0.0);
    half.iter().map(|weight| weight / sum).collect()
}

/// Where `at` lies when the line from 0 to `n - 1` is mirrored at its ends, which are not repeated.
fn mirrored(at: isize, n: usize) -> usize {
    let period = (2 * (n as isize - 1)).max(1);
    let at = at.rem_euclid(period);
    (if at < n as isize { at } else { period - at }) as usize
}

/// Blurs by a Gaussian of `sigma` pixels, cut to `kernel` pixels.
pub(super) fn gaussian(planes: &mut Planes, kernel: usize, sigma: f32) {
    let weights = weights(kernel, sigma);
    let Some((&middle, sides)) = weights.split_first() else {
        return;
    };
    if sides.is_empty() {
        return;
    }
    let radius = sides.len();
    let (height, width) = (planes.height, planes.width);
    let mut padded = vec![0f32; width + 2 * radius];
    let mut blurred = vec![0f32; height * width];
    for plane in planes.values.chunks_exact_mut(height * width) {
        for (row, out) in plane
            .chunks_exact(width)
            .zip(blurred.chunks_exact_mut(width))
        {
            padded[radius..radius + width].copy_from_slice(row);
            for i in 1..=radius {
                padded[radius - i] = row[mirrored(-(i as isize), width)];
                padded[radius + width - 1 + i] = row[mirrored((width - 1 + i) as isize, width)];
            }
            let padded = &padded;
            simd::run(
                #[inline(always)]
                || {
                    let centre = &padded[radius..radius + width];
                    for (slot, value) in out.iter_mut().zip(centre) {
                        *slot = middle * value;
                    }
                    for (i, &weight) in (1..).zip(sides) {
                        let left = &padded[radius - i..radius - i + width];
                        let right = &padded[radius + i..radius + i + width];
                        for ((slot, a), b) in out.iter_mut().zip(left).zip(right) {
                            *slot += weight * (a + b);
                        }
                    }
                },
            );
        }
        let row = |y: isize| &blurred[mirrored(y, height) * width..][..width];
        for (y, out) in plane.chunks_exact_mut(width).enumerate() {
            simd::run(
                #[inline(always)]
                || {
                    for (slot, value) in out.iter_mut().zip(row(y as isize)) {
                        *slot = middle * value;
                    }
                    for (i, &weight) in (1..).zip(sides) {
                        let (above, below) = (row(y as isize - i), row(y as isize + i));
                        for ((slot, a), b) in out.iter_mut().zip(above).zip(below) {
                            *slot += weight * (a + b);
                        }
                    }
                },
            );
        }
    }
}
