//! Float images in planes, and the two ways to resample them: resizing and a small warp.
//!
//! Resizing is separable with a triangle filter that widens when it shrinks (no aliasing): the rule of
//! Pillow's BILINEAR and of PyTorch's `interpolate(mode="bilinear", antialias=True)`, in f32 and
//! without rounding between the passes.

use crate::decode::{check_image, luma_thousandths};
use crate::{Image, Result};

/// Channel-first f32 image, values in 0..1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Planes {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    /// (C, H, W).
    pub values: Vec<f32>,
}

impl Planes {
    /// `image` with 1 or 3 channels, whatever it has itself: grey is repeated, RGB becomes its luma.
    pub fn from_image(image: &Image, channels: usize) -> Result<Self> {
        check_image(image)?;
        let Image { width, height, .. } = *image;
        let values = match (image.channels, channels) {
            (1, 1) => image.pixels.iter().map(|&p| scale(p)).collect(),
            (1, n) => {
                let plane: Vec<f32> = image.pixels.iter().map(|&p| scale(p)).collect();
                plane.repeat(n)
            }
            (_, 1) => {
                let pixels = image.pixels.chunks_exact(3);
                pixels
                    .map(|p| luma_thousandths(p[0], p[1], p[2]) as f32 / 255_000.0)
                    .collect()
            }
            _ => (0..3)
                .flat_map(|c| image.pixels.iter().skip(c).step_by(3).map(|&p| scale(p)))
                .collect(),
        };
        Ok(Self {
            channels,
            height,
            width,
            values,
        })
    }

    /// Back to bytes, rounded to nearest.
    pub fn to_image(&self) -> Image {
        let plane = self.height * self.width;
        let mut pixels = vec![0u8; plane * self.channels];
        for (c, values) in self.values.chunks_exact(plane.max(1)).enumerate() {
            for (slot, value) in pixels.iter_mut().skip(c).step_by(self.channels).zip(values) {
                *slot = (value * 255.0).round().clamp(0.0, 255.0) as u8;
            }
        }
        Image {
            width: self.width,
            height: self.height,
            channels: self.channels,
            pixels,
        }
    }

    /// Resized with antialiasing; the same values when the size stays.
    pub fn resized(self, height: usize, width: usize) -> Self {
        let mut planes = self;
        if width != planes.width {
            let taps = taps(planes.width, width);
            let rows = planes.values.chunks_exact(planes.width);
            let values = rows
                .flat_map(|row| {
                    taps.iter().map(|(start, weights)| {
                        weights
                            .iter()
                            .zip(&row[*start..])
                            .map(|(weight, value)| weight * value)
                            .sum::<f32>()
                    })
                })
                .collect();
            planes = Self {
                width,
                values,
                ..planes
            };
        }
        if height != planes.height {
            let taps = taps(planes.height, height);
            let mut values = vec![0f32; planes.channels * height * width];
            let sources = planes.values.chunks_exact(planes.height * width);
            for (target, source) in values.chunks_exact_mut(height * width).zip(sources) {
                for (row, (start, weights)) in target.chunks_exact_mut(width).zip(&taps) {
                    for (weight, line) in
                        weights.iter().zip(source.chunks_exact(width).skip(*start))
                    {
                        for (slot, value) in row.iter_mut().zip(line) {
                            *slot += weight * value;
                        }
                    }
                }
            }
            planes = Self {
                height,
                values,
                ..planes
            };
        }
        planes
    }

    /// A (height, width) window whose top left corner lies at (`top`, `left`), outside of the image where
    /// it wants to: edge pixels are repeated there.
    pub fn window(&self, top: isize, left: isize, height: usize, width: usize) -> Self {
        let clamp = |at: isize, n: usize| at.clamp(0, n as isize - 1) as usize;
        let mut values = Vec::with_capacity(self.channels * height * width);
        for plane in self.values.chunks_exact(self.height * self.width) {
            for y in 0..height {
                let row = &plane[clamp(top + y as isize, self.height) * self.width..][..self.width];
                values.extend((0..width).map(|x| row[clamp(left + x as isize, self.width)]));
            }
        }
        Self {
            channels: self.channels,
            height,
            width,
            values,
        }
    }

    /// Turned by `degrees` (counter-clockwise on the screen) and enlarged by `zoom` about the centre;
    /// bilinear, edge pixels repeated.
    pub fn turned(&self, degrees: f32, zoom: f32) -> Self {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let (cy, cx) = (
            (self.height - 1) as f32 / 2.0,
            (self.width - 1) as f32 / 2.0,
        );
        let mut values = vec![0f32; self.values.len()];
        let plane = self.height * self.width;
        for y in 0..self.height {
            for x in 0..self.width {
                let (dx, dy) = ((x as f32 - cx) / zoom, (y as f32 - cy) / zoom);
                let sx = (cx + cos * dx - sin * dy).clamp(0.0, (self.width - 1) as f32);
                let sy = (cy + sin * dx + cos * dy).clamp(0.0, (self.height - 1) as f32);
                let (x0, y0) = (sx as usize, sy as usize);
                let (x1, y1) = ((x0 + 1).min(self.width - 1), (y0 + 1).min(self.height - 1));
                let (fx, fy) = (sx - x0 as f32, sy - y0 as f32);
                for (target, source) in values
                    .chunks_exact_mut(plane)
                    .zip(self.values.chunks_exact(plane))
                {
                    let top = source[y0 * self.width + x0] * (1.0 - fx)
                        + source[y0 * self.width + x1] * fx;
                    let bottom = source[y1 * self.width + x0] * (1.0 - fx)
                        + source[y1 * self.width + x1] * fx;
                    target[y * self.width + x] = top * (1.0 - fy) + bottom * fy;
                }
            }
        }
        Self { values, ..*self }
    }
}

fn scale(pixel: u8) -> f32 {
    f32::from(pixel) / 255.0
}

/// For every output position the first input position and the weights from there on; they sum to 1.
fn taps(input: usize, output: usize) -> Vec<(usize, Vec<f32>)> {
    let step = input as f64 / output as f64;
    let support = step.max(1.0);
    (0..output)
        .map(|i| {
            let centre = (i as f64 + 0.5) * step;
            let start = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).clamp(start + 1, input);
            let weights: Vec<f64> = (start..end)
                .map(|j| (1.0 - ((j as f64 - centre + 0.5) / support).abs()).max(0.0))
                .collect();
            let sum: f64 = weights.iter().sum();
            (
                start,
                weights.iter().map(|weight| (weight / sum) as f32).collect(),
            )
        })
        .collect()
}

/// Resizes an image with antialiasing, rounding once at the end.
///
/// # Errors
/// When the image is inconsistent, or a side of the result is 0.
pub fn resize(image: &Image, height: usize, width: usize) -> Result<Image> {
    crate::transform::check_size(height, width)?;
    Ok(Planes::from_image(image, image.channels)?
        .resized(height, width)
        .to_image())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planes(height: usize, width: usize) -> Planes {
        let values = (0..3 * height * width)
            .map(|i| ((i * 37 + i * i * 11) % 101) as f32 / 100.0)
            .collect();
        Planes {
            channels: 3,
            height,
            width,
            values,
        }
    }

    #[test]
    fn same_size_and_constants_are_exact() {
        let original = planes(5, 7);
        assert_eq!(original.clone().resized(5, 7), original);
        let flat = Planes {
            channels: 1,
            height: 9,
            width: 4,
            values: vec![0.25; 36],
        };
        for (height, width) in [(1, 1), (3, 3), (20, 11), (9, 1)] {
            let out = flat.clone().resized(height, width);
            assert_eq!(out.values.len(), height * width);
            assert!(out.values.iter().all(|v| (v - 0.25).abs() < 1e-6));
        }
    }

    #[test]
    fn weights_lie_within_the_input_and_sum_to_one() {
        for input in 1..24 {
            for output in 1..40 {
                for (start, weights) in taps(input, output) {
                    assert!(start + weights.len() <= input, "{input} -> {output}");
                    assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn grey_and_rgb_convert() {
        let rgb = Image {
            width: 2,
            height: 1,
            channels: 3,
            pixels: vec![255, 0, 0, 10, 20, 30],
        };
        let grey = Planes::from_image(&rgb, 1).unwrap();
        assert!((grey.values[0] - 0.299).abs() < 1e-6);
        assert!((grey.values[1] - (2.99 + 11.74 + 3.42) / 255.0).abs() < 1e-6);
        let split = Planes::from_image(&rgb, 3).unwrap();
        let levels: Vec<f32> = split.values.iter().map(|v| (v * 255.0).round()).collect();
        assert_eq!(levels, [255., 10., 0., 20., 0., 30.]);
        assert_eq!(split.to_image().pixels, rgb.pixels);
        let one = Image {
            width: 2,
            height: 1,
            channels: 1,
            pixels: vec![3, 4],
        };
        assert_eq!(
            Planes::from_image(&one, 3).unwrap().to_image().pixels,
            [3, 3, 3, 4, 4, 4]
        );
    }

    #[test]
    fn windows_repeat_edges_and_turns_come_back() {
        let original = planes(4, 6);
        assert_eq!(original.window(0, 0, 4, 6), original);
        let shifted = original.window(-1, 2, 4, 6);
        assert_eq!(
            shifted.values[0], original.values[2],
            "the first row is repeated above"
        );
        assert_eq!(
            shifted.values[5], original.values[5],
            "the last column is repeated to the right"
        );
        let same = original.turned(0.0, 1.0);
        assert!(
            same.values
                .iter()
                .zip(&original.values)
                .all(|(a, b)| (a - b).abs() < 1e-6)
        );
        let square = planes(5, 5);
        let quarter = square.turned(90.0, 1.0);
        for y in 0..5 {
            for x in 0..5 {
                let (now, before) = (quarter.values[y * 5 + x], square.values[x * 5 + (4 - y)]);
                assert!(
                    (now - before).abs() < 1e-4,
                    "counter-clockwise: right side goes to the top"
                );
            }
        }
    }
}
