//! Random resized crops: a window of random area and aspect, resized with antialiasing straight from the image's bytes.

use rand::Rng;

use super::simd;
use crate::resize::Planes;
use crate::rng::uniform;
use crate::transform::check_size;
use crate::{Error, Image, Result};

/// Windows that are tried before the largest one of an allowed aspect is taken.
const TRIES: usize = 10;

/// A window of the image whose area is a random share of it and whose aspect is random too, resized to a square.
///
/// As torchvision has it: area uniform within `scale`, aspect log-uniform within `aspect`, place uniform; where ten
/// windows in turn do not fit, the largest window in the middle whose aspect is allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandomResizedCrop {
    /// Side of the result in pixels. Default 224.
    pub size: usize,
    /// Smallest and largest share of the image's area. Default 0.08 to 1.
    pub scale: [f32; 2],
    /// Smallest and largest width over height. Default 3/4 to 4/3.
    pub aspect: [f32; 2],
}

impl Default for RandomResizedCrop {
    fn default() -> Self {
        Self {
            size: 224,
            scale: [0.08, 1.0],
            aspect: [3.0 / 4.0, 4.0 / 3.0],
        }
    }
}

/// Part of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub top: usize,
    pub left: usize,
    pub height: usize,
    pub width: usize,
}

impl RandomResizedCrop {
    pub(super) fn validate(&self) -> Result<()> {
        check_size(self.size, self.size)?;
        let ascending = |[low, high]: [f32; 2], max: f32| low > 0.0 && low <= high && high <= max;
        if !ascending(self.scale, 1.0) {
            return Err(Error::config(format!(
                "scale {:?} of a crop: expected two shares of the area, ascending, above 0 and at most 1",
                self.scale
            )));
        }
        if !ascending(self.aspect, 100.0) {
            return Err(Error::config(format!(
                "aspect {:?} of a crop: expected two ratios, ascending, above 0 and at most 100",
                self.aspect
            )));
        }
        Ok(())
    }

    /// The window for an image; always draws the same number of random numbers.
    pub(super) fn draw<R: Rng + ?Sized>(&self, height: usize, width: usize, rng: &mut R) -> Window {
        let area = (height * width) as f64;
        let [low, high] = self.aspect.map(|aspect| f64::from(aspect).ln());
        let mut found = None;
        for _ in 0..TRIES {
            let [share, lean, down, right] = std::array::from_fn(|_| f64::from(uniform(rng)));
            let [least, most] = self.scale.map(f64::from);
            let target = area * (least + (most - least) * share);
            let aspect = (low + (high - low) * lean).exp();
            let w = (target * aspect).sqrt().round() as usize;
            let h = (target / aspect).sqrt().round() as usize;
            if found.is_none() && (1..=width).contains(&w) && (1..=height).contains(&h) {
                found = Some(Window {
                    top: (down * (height - h + 1) as f64) as usize,
                    left: (right * (width - w + 1) as f64) as usize,
                    height: h,
                    width: w,
                });
            }
        }
        found.unwrap_or_else(|| self.middle(height, width))
    }

    fn middle(&self, height: usize, width: usize) -> Window {
        let aspect = width as f64 / height as f64;
        let [narrow, wide] = self.aspect.map(f64::from);
        let (h, w) = if aspect < narrow {
            ((width as f64 / narrow).round() as usize, width)
        } else if aspect > wide {
            (height, (height as f64 * wide).round() as usize)
        } else {
            (height, width)
        };
        let (h, w) = (h.clamp(1, height), w.clamp(1, width));
        Window {
            top: (height - h) / 2,
            left: (width - w) / 2,
            height: h,
            width: w,
        }
    }
}

/// For every output position the first input position, and `count` weights that sum to 1: the triangle filter that
/// [`Planes::resized`] uses, in one piece of memory.
struct Taps {
    count: usize,
    starts: Vec<usize>,
    weights: Vec<f32>,
}

impl Taps {
    fn new(input: usize, output: usize) -> Self {
        let step = input as f64 / output as f64;
        let support = step.max(1.0);
        let range = |i: usize| {
            let centre = (i as f64 + 0.5) * step;
            let start = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).clamp(start + 1, input);
            (centre, start, end)
        };
        let count = (0..output)
            .map(|i| range(i).2 - range(i).1)
            .max()
            .unwrap_or(1);
        let mut starts = Vec::with_capacity(output);
        let mut weights = vec![0f32; output * count];
        let mut exact = vec![0f64; count];
        for (i, weights) in weights.chunks_exact_mut(count).enumerate() {
            let (centre, start, end) = range(i);
            // Moved to the left at the far edge, so that all windows of `count` lie within the input.
            let first = start.min(input - count);
            exact.fill(0.0);
            for j in start..end {
                exact[j - first] = (1.0 - ((j as f64 - centre + 0.5) / support).abs()).max(0.0);
            }
            let sum: f64 = exact.iter().sum();
            for (weight, value) in weights.iter_mut().zip(&exact) {
                *weight = (value / sum) as f32;
            }
            starts.push(first);
        }
        Self {
            count,
            starts,
            weights,
        }
    }
}

/// A window of `image` resized to `size` x `size`, as three planes within 0..1.
///
/// Columns first: a row of bytes is added to a row of sums in one go, and what is left to do along the rows is short.
pub(super) fn resized_window(image: &Image, window: Window, size: usize) -> Planes {
    let channels = image.channels;
    let (down, across) = (
        Taps::new(window.height, size),
        Taps::new(window.width, size),
    );
    let line = window.width * channels;
    let mut sums = vec![0f32; line];
    let mut values = vec![0f32; 3 * size * size];
    let plane = size * size;
    for y in 0..size {
        let weights = &down.weights[y * down.count..][..down.count];
        sums.fill(0.0);
        for (t, &weight) in weights.iter().enumerate() {
            if weight != 0.0 {
                let row = window.top + down.starts[y] + t;
                let at = (row * image.width + window.left) * channels;
                let (bytes, weight) = (&image.pixels[at..at + line], weight / 255.0);
                let sums = &mut sums;
                simd::run(
                    #[inline(always)]
                    || {
                        for (sum, &byte) in sums.iter_mut().zip(bytes) {
                            *sum += weight * f32::from(byte);
                        }
                    },
                );
            }
        }
        let (red, rest) = values.split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        let (red, green, blue) = (
            &mut red[y * size..][..size],
            &mut green[y * size..][..size],
            &mut blue[y * size..][..size],
        );
        let places = across
            .starts
            .iter()
            .zip(across.weights.chunks_exact(across.count));
        if channels == 3 {
            for ((((&start, weights), r), g), b) in places.zip(red).zip(green).zip(blue) {
                let pixels = sums[3 * start..].chunks_exact(3);
                let mut found = [0f32; 3];
                for (weight, pixel) in weights.iter().zip(pixels) {
                    found[0] += weight * pixel[0];
                    found[1] += weight * pixel[1];
                    found[2] += weight * pixel[2];
                }
                [*r, *g, *b] = found;
            }
        } else {
            for ((&start, weights), r) in places.zip(red.iter_mut()) {
                *r = weights.iter().zip(&sums[start..]).map(|(w, v)| w * v).sum();
            }
            green.copy_from_slice(red);
            blue.copy_from_slice(red);
        }
    }
    Planes {
        channels: 3,
        height: size,
        width: size,
        values,
    }
}
