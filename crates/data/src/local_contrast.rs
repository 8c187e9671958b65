//! Local contrast normalisation: what is left of an image when lighting and skin tone are divided out.

use crate::resize::Planes;

/// Added to the standard deviation, so that flat regions stay flat; as a share of the range.
const FLOOR: f64 = 0.05;

/// Standard deviations that black and white stand for.
const RANGE: f64 = 3.0;

/// Each value as its distance from the mean of the square around it, in standard deviations of that
/// square plus 5 % of the range: `0.5 + (x - mean) / (sd + 0.05) / 6`, within 0..1.
///
/// The square reaches `radius` pixels each way and is cut at the edges of the image; each channel is
/// normalised on its own. Sums are taken in f64 over an integral image, so the cost does not depend on
/// the radius. After Jarrett et al., "What is the best multi-stage architecture for object
/// recognition?", ICCV 2009, with a box in place of the Gaussian.
pub(crate) fn local_contrast(planes: &mut Planes, radius: usize) {
    let (height, width) = (planes.height, planes.width);
    let plane = height * width;
    if plane == 0 || radius == 0 {
        return;
    }
    let stride = width + 1;
    let mut sums = vec![[0f64; 2]; (height + 1) * stride];
    for values in planes.values.chunks_exact_mut(plane) {
        for y in 0..height {
            let mut row = [0f64; 2];
            for x in 0..width {
                let value = f64::from(values[y * width + x]);
                row[0] += value;
                row[1] += value * value;
                let above = sums[y * stride + x + 1];
                sums[(y + 1) * stride + x + 1] = [above[0] + row[0], above[1] + row[1]];
            }
        }
        for y in 0..height {
            let (top, bottom) = (y.saturating_sub(radius), (y + radius + 1).min(height));
            for x in 0..width {
                let (left, right) = (x.saturating_sub(radius), (x + radius + 1).min(width));
                let count = ((bottom - top) * (right - left)) as f64;
                let sum = |k: usize| {
                    sums[bottom * stride + right][k]
                        - sums[top * stride + right][k]
                        - sums[bottom * stride + left][k]
                        + sums[top * stride + left][k]
                };
                let mean = sum(0) / count;
                let deviation = (sum(1) / count - mean * mean).max(0.0).sqrt();
                let value = &mut values[y * width + x];
                let normal = (f64::from(*value) - mean) / (deviation + FLOOR);
                *value = (0.5 + normal / (2.0 * RANGE)).clamp(0.0, 1.0) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planes(values: Vec<f32>, height: usize, width: usize) -> Planes {
        Planes {
            channels: 1,
            height,
            width,
            values,
        }
    }

    #[test]
    fn flat_stays_flat_and_light_divides_out() {
        let mut flat = planes(vec![0.3; 35], 5, 7);
        local_contrast(&mut flat, 2);
        assert!(flat.values.iter().all(|v| (v - 0.5).abs() < 1e-6));

        let pattern: Vec<f32> = (0..81)
            .map(|i| if (i / 9 + i % 9) % 2 == 0 { 0.8 } else { 0.2 })
            .collect();
        let mut bright = planes(pattern.iter().map(|v| v * 0.5 + 0.4).collect(), 9, 9);
        let mut dark = planes(pattern.iter().map(|v| v * 0.5).collect(), 9, 9);
        local_contrast(&mut bright, 3);
        local_contrast(&mut dark, 3);
        for (a, b) in bright.values.iter().zip(&dark.values) {
            assert!((a - b).abs() < 1e-5);
        }
    }

    #[test]
    fn a_pixel_is_compared_with_the_square_around_it() {
        // Mean 1/9, variance 1/9 - 1/81 of a single white pixel among eight black ones.
        let mut image = planes(vec![0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0], 3, 3);
        local_contrast(&mut image, 1);
        let (mean, deviation) = (1.0 / 9.0, (1f64 / 9.0 - 1.0 / 81.0).sqrt());
        let expected = 0.5 + (1.0 - mean) / (deviation + 0.05) / 6.0;
        assert!((f64::from(image.values[4]) - expected).abs() < 1e-6);
        // The corner sees four pixels.
        let (mean, deviation) = (0.25, (0.25f64 - 0.0625).sqrt());
        let expected = 0.5 + (0.0 - mean) / (deviation + 0.05) / 6.0;
        assert!((f64::from(image.values[0]) - expected).abs() < 1e-6);
    }
}
