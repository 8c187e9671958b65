//! Random views of an image for learning without labels: crops of any scale, colours, blur, and several views at once.
//!
//! A [`ViewTransform`] is a random resized crop, a list of [`Distortion`]s in the order they are applied, and the scaling
//! of values; a [`MultiCrop`] is several groups of views. Each view has a random stream of its own, keyed by (seed, step,
//! place in the batch, number of the view), and every distortion draws the same numbers whether it is applied or not: one
//! change more or less in the list leaves what stands before it as it was.
//!
//! Distortions follow torchvision's on float images; values stay within 0..1 until the last step. Everything is done in
//! f32 on planes, with loops compiled for the vectors of the CPU at hand.
//!
//! From 256-pixel images in memory, in processor time of one core on a busy machine: 2 x 224 + 6 x 96 pixels 320 images a
//! second, torchvision 0.29 10 (tensors) and 9 (PIL); 2 x 64 + 4 x 32 pixels 2,650 against 56 and 61
//! (`examples/views_speed.rs`, `fixtures/data/views.py --speed`).

mod blur;
mod colour;
mod crop;
mod load;
mod multi;
mod simd;

use rand::Rng;

use crate::resize::Planes;
use crate::rng::{symmetric, uniform};
use crate::{Error, Image, Result};

pub use crop::RandomResizedCrop;
pub use load::{ViewBatch, ViewLoader, load_views};
pub use multi::{MultiCrop, ViewGroup};

/// One random change of a view.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Distortion {
    /// Brightness, contrast, saturation and hue, in a random order.
    ColourJitter {
        /// Probability that it is done at all.
        probability: f32,
        /// Brightness is multiplied by a factor within 1 ± this, from 0 up.
        brightness: f32,
        /// Pixels are spread about the mean luma by a factor within 1 ± this, from 0 up.
        contrast: f32,
        /// Colours are spread about their luma by a factor within 1 ± this, from 0 up.
        saturation: f32,
        /// Largest turn of the hue to either side, as a share of the circle; at most 0.5.
        hue: f32,
    },
    /// All channels become the luma.
    Grey {
        /// Probability.
        probability: f32,
    },
    /// Gaussian blur of a random width; the image is mirrored at its edges.
    Blur {
        /// Probability.
        probability: f32,
        /// Side of the kernel in pixels, odd.
        kernel: usize,
        /// Smallest and largest standard deviation, in pixels.
        sigma: [f32; 2],
    },
    /// Values from the threshold up are inverted.
    Solarise {
        /// Probability.
        probability: f32,
        /// Share of the range from black to white.
        threshold: f32,
    },
    /// Left and right change places.
    Flip {
        /// Probability.
        probability: f32,
    },
}

impl Distortion {
    fn probability(&self) -> f32 {
        match *self {
            Self::ColourJitter { probability, .. }
            | Self::Grey { probability }
            | Self::Blur { probability, .. }
            | Self::Solarise { probability, .. }
            | Self::Flip { probability } => probability,
        }
    }

    fn validate(&self) -> Result<()> {
        let within = |name: &str, value: f32, max: f32| {
            if (0.0..=max).contains(&value) {
                return Ok(());
            }
            Err(Error::config(format!(
                "{name} of {self:?} must lie between 0 and {max}, not {value}"
            )))
        };
        within("probability", self.probability(), 1.0)?;
        match *self {
            Self::ColourJitter {
                brightness,
                contrast,
                saturation,
                hue,
                ..
            } => {
                within("brightness", brightness, 10.0)?;
                within("contrast", contrast, 10.0)?;
                within("saturation", saturation, 10.0)?;
                within("hue", hue, 0.5)
            }
            Self::Blur { kernel, sigma, .. } => {
                within("smallest sigma", sigma[0], 100.0)?;
                within("largest sigma", sigma[1], 100.0)?;
                if kernel.is_multiple_of(2)
                    || kernel > 255
                    || sigma[0] <= 0.0
                    || sigma[1] < sigma[0]
                {
                    return Err(Error::config(format!(
                        "{self:?}: expected an odd kernel up to 255 and sigmas above 0 in ascending order"
                    )));
                }
                Ok(())
            }
            Self::Solarise { threshold, .. } => within("threshold", threshold, 1.0),
            Self::Grey { .. } | Self::Flip { .. } => Ok(()),
        }
    }

    fn apply<R: Rng + ?Sized>(&self, planes: &mut Planes, rng: &mut R) {
        let chosen = uniform(rng) < self.probability();
        match *self {
            Self::ColourJitter {
                brightness,
                contrast,
                saturation,
                hue,
                ..
            } => {
                let mut factor = |strength: f32| {
                    let (low, high) = ((1.0 - strength).max(0.0), 1.0 + strength);
                    low + (high - low) * uniform(rng)
                };
                let factors = [factor(brightness), factor(contrast), factor(saturation)];
                let turn = symmetric(rng, hue);
                let mut order = [0usize, 1, 2, 3];
                crate::rng::shuffle(rng, &mut order);
                if chosen {
                    for change in order {
                        match change {
                            0 => colour::brightness(planes, factors[0]),
                            1 => colour::contrast(planes, factors[1]),
                            2 => colour::saturation(planes, factors[2]),
                            _ => colour::hue(planes, turn),
                        }
                    }
                }
            }
            Self::Grey { .. } => {
                if chosen {
                    colour::grey(planes);
                }
            }
            Self::Blur { kernel, sigma, .. } => {
                let width = sigma[0] + (sigma[1] - sigma[0]) * uniform(rng);
                if chosen {
                    blur::gaussian(planes, kernel, width);
                }
            }
            Self::Solarise { threshold, .. } => {
                if chosen {
                    colour::solarise(planes, threshold);
                }
            }
            Self::Flip { .. } => {
                if chosen {
                    for row in planes.values.chunks_exact_mut(planes.width) {
                        row.reverse();
                    }
                }
            }
        }
    }
}

/// From an image to one random view as a network reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewTransform {
    /// What part of the image, at what size.
    pub crop: RandomResizedCrop,
    /// What is done to it, in this order.
    pub distortions: Vec<Distortion>,
    /// 1 (the luma, after all else) or 3.
    pub channels: usize,
    /// Mean of each channel, taken off; with one channel the first counts.
    pub mean: [f32; 3],
    /// Deviation of each channel, divided by.
    pub deviation: [f32; 3],
}

impl ViewTransform {
    /// The views of SwAV's training, of `size` pixels from a share of the area within `scale`: colour jitter
    /// (0.8, 0.8, 0.8, 0.2) with probability 0.8, grey 0.2, blur 0.5 (kernel 23, sigma 0.1 to 2), flip 0.5; mean
    /// (0.485, 0.456, 0.406), deviation (0.228, 0.224, 0.225).
    ///
    /// The sigmas are in pixels and were chosen for 224 of them: a smaller view wants a smaller blur.
    #[must_use]
    pub fn swav(size: usize, scale: [f32; 2]) -> Self {
        Self {
            crop: RandomResizedCrop {
                size,
                scale,
                ..RandomResizedCrop::default()
            },
            distortions: vec![
                Distortion::ColourJitter {
                    probability: 0.8,
                    brightness: 0.8,
                    contrast: 0.8,
                    saturation: 0.8,
                    hue: 0.2,
                },
                Distortion::Grey { probability: 0.2 },
                Distortion::Blur {
                    probability: 0.5,
                    kernel: 23,
                    sigma: [0.1, 2.0],
                },
                Distortion::Flip { probability: 0.5 },
            ],
            channels: 3,
            mean: [0.485, 0.456, 0.406],
            deviation: [0.228, 0.224, 0.225],
        }
    }

    /// Number of f32 values a view has.
    #[must_use]
    pub fn values(&self) -> usize {
        self.channels * self.crop.size * self.crop.size
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// Names the setting that makes no sense, its value and what is expected.
    pub fn validate(&self) -> Result<()> {
        self.crop.validate()?;
        if !matches!(self.channels, 1 | 3) {
            return Err(Error::config(format!(
                "channels of a view must be 1 or 3, not {}",
                self.channels
            )));
        }
        let finite = self.mean.iter().all(|v| v.is_finite());
        let positive = self.deviation.iter().all(|v| v.is_finite() && *v > 0.0);
        if !finite || !positive {
            return Err(Error::config(format!(
                "mean {:?} and deviation {:?} of a view: expected finite numbers, deviations above 0",
                self.mean, self.deviation
            )));
        }
        self.distortions.iter().try_for_each(Distortion::validate)
    }

    /// One view: (C, S, S), `(value - mean) / deviation` of values within 0..1. A function of image, transform and the
    /// state of the generator alone.
    ///
    /// # Errors
    /// When the transform or the image is invalid.
    ///
    /// ```
    /// use phiz_data::{Image, ViewTransform, stream_rng};
    /// # fn main() -> phiz_data::Result<()> {
    /// let image = Image { width: 40, height: 50, channels: 3, pixels: vec![90; 40 * 50 * 3] };
    /// let transform = ViewTransform::swav(32, [0.14, 1.0]);
    /// let a = transform.apply(&image, &mut stream_rng(7, "view", 0, 0))?;
    /// let b = transform.apply(&image, &mut stream_rng(7, "view", 0, 0))?;
    /// assert_eq!(a.len(), 3 * 32 * 32);
    /// assert_eq!(a, b);
    /// # Ok(()) }
    /// ```
    pub fn apply<R: Rng + ?Sized>(&self, image: &Image, rng: &mut R) -> Result<Vec<f32>> {
        self.validate()?;
        crate::decode::check_image(image)?;
        Ok(self.view(image, rng))
    }

    /// [`ViewTransform::apply`] of what has been checked.
    fn view<R: Rng + ?Sized>(&self, image: &Image, rng: &mut R) -> Vec<f32> {
        let window = self.crop.draw(image.height, image.width, rng);
        let mut planes = crop::resized_window(image, window, self.crop.size);
        for distortion in &self.distortions {
            distortion.apply(&mut planes, rng);
        }
        if self.channels == 1 {
            colour::grey(&mut planes);
            planes.values.truncate(self.values());
        }
        let plane = (planes.height * planes.width).max(1);
        for (values, (mean, deviation)) in planes
            .values
            .chunks_exact_mut(plane)
            .zip(self.mean.iter().zip(&self.deviation))
        {
            let (factor, shift) = (1.0 / deviation, -mean / deviation);
            for value in values {
                *value = *value * factor + shift;
            }
        }
        planes.values
    }
}

#[cfg(test)]
mod tests;
