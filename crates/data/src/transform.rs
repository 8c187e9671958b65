//! From an image to the numbers a network reads: size, channels, augmentation, scaling.

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::decode::MAX_PIXELS;
use crate::local_contrast::local_contrast;
use crate::resize::Planes;
use crate::rng::{near_normal, symmetric, uniform};
use crate::{Error, ErrorKind, Image, Result};

/// How an image of another shape is brought to the network's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// Each side is resized on its own; the aspect may change.
    #[default]
    Stretch,
    /// Resized to fit inside, then the shorter side is filled by repeating edge pixels evenly on both
    /// sides: 92 x 112 to 112 x 112 adds ten columns left and right and changes no pixel.
    Pad,
    /// Resized to cover, then the middle is cut out.
    Crop,
}

/// Random changes of a training image. Every strength is 0 (off) by default; the draws of one strength do
/// not depend on the others, so that switching one on changes nothing else.
///
/// Order: mirror, turn and zoom, shift, contrast, brightness, saturation, noise, erase. Values are kept
/// within black and white.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Probability of mirroring left and right; usual for faces: 0.5.
    pub flip: f32,
    /// Largest turn to either side, in degrees; usual: 5 to 15.
    pub rotate: f32,
    /// Largest relative change of size about the centre, below 1: 0.1 is between 0.9 and 1.1 times.
    pub zoom: f32,
    /// Largest shift as a share of the side, at most 1: the image is padded by its edge pixels and cropped
    /// back at random, in whole pixels. 4 pixels of 64 are 0.0625.
    pub crop_pad: f32,
    /// Largest change of contrast: pixels are spread about the image's mean by a factor within 1 ± this;
    /// at most 1.
    pub contrast: f32,
    /// Largest amount added to all pixels, as a share of the range from black to white; at most 1.
    pub brightness: f32,
    /// Largest change of saturation: colours are spread about their luma by a factor within 1 ± this; at
    /// most 1. Without effect on grey.
    pub saturation: f32,
    /// Largest standard deviation of pixel noise, as a share of the range; each image draws its own
    /// between 0 and this.
    pub noise: f32,
    /// Probability of painting a rectangle grey (2 to 20 % of the area, sides up to 1 : 3); Zhong et al.,
    /// Random Erasing, 2020.
    pub erase: f32,
}

impl Augment {
    /// A mild set that suits faces: mirror, 5 degrees, 5 % zoom, 6 % shift, 20 % contrast, 10 %
    /// brightness, 20 % saturation.
    #[must_use]
    pub fn mild() -> Self {
        Self {
            flip: 0.5,
            rotate: 5.0,
            zoom: 0.05,
            crop_pad: 0.06,
            contrast: 0.2,
            brightness: 0.1,
            saturation: 0.2,
            noise: 0.0,
            erase: 0.0,
        }
    }

    /// Whether nothing is changed.
    #[must_use]
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }
}

/// What is done to every image on its way to the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transform {
    /// Height and width of the result, in pixels; default 64 x 64.
    pub size: (usize, usize),
    /// 1 (grey, BT.601 luma of colour images) or 3 (RGB, grey repeated); default 3.
    pub channels: usize,
    /// How another shape is brought to `size`; default [`Fit::Stretch`].
    pub fit: Fit,
    /// Radius in pixels of local contrast normalisation (each pixel by mean and deviation of the square
    /// around it), done before the random changes; default 0, off.
    pub local_contrast: usize,
    /// Random changes; default off.
    pub augment: Augment,
}

impl Default for Transform {
    fn default() -> Self {
        Self {
            size: (64, 64),
            channels: 3,
            fit: Fit::default(),
            local_contrast: 0,
            augment: Augment::default(),
        }
    }
}

impl Transform {
    /// A transform to this size and number of channels, nothing random.
    #[must_use]
    pub fn new(height: usize, width: usize, channels: usize) -> Self {
        Self {
            size: (height, width),
            channels,
            ..Self::default()
        }
    }

    /// The same without its random part: for evaluation.
    #[must_use]
    pub fn without_augment(&self) -> Self {
        Self {
            augment: Augment::default(),
            ..self.clone()
        }
    }

    /// Number of f32 values an image becomes.
    #[must_use]
    pub fn values(&self) -> usize {
        self.channels * self.size.0 * self.size.1
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// When the size is 0 or huge, the channels are neither 1 nor 3, or a strength is out of its range.
    pub fn validate(&self) -> Result<()> {
        check_size(self.size.0, self.size.1)?;
        if !matches!(self.channels, 1 | 3) {
            return Err(Error::config(format!(
                "channels must be 1 or 3, not {}",
                self.channels
            )));
        }
        let a = &self.augment;
        let strengths = [
            ("flip", a.flip, 1.0),
            ("rotate", a.rotate, 180.0),
            ("zoom", a.zoom, 0.99),
            ("crop_pad", a.crop_pad, 1.0),
            ("contrast", a.contrast, 1.0),
            ("brightness", a.brightness, 1.0),
            ("saturation", a.saturation, 1.0),
            ("noise", a.noise, 1.0),
            ("erase", a.erase, 1.0),
        ];
        match strengths
            .iter()
            .find(|(_, value, max)| !(0.0..=*max).contains(value))
        {
            Some((name, value, max)) => Err(Error::config(format!(
                "augment.{name} must lie between 0 and {max}, not {value}"
            ))),
            None => Ok(()),
        }
    }
}

pub(crate) fn check_size(height: usize, width: usize) -> Result<()> {
    if height == 0 || width == 0 {
        return Err(Error::config(format!(
            "image size {height} x {width}: both sides must be at least 1"
        )));
    }
    if (height as u64)
        .checked_mul(width as u64)
        .is_none_or(|n| n > MAX_PIXELS)
    {
        let message = format!("image size {height} x {width}: the limit is {MAX_PIXELS} pixels");
        return Err(Error::new(ErrorKind::TooLarge(message)));
    }
    Ok(())
}

/// One image as a network reads it: (C, H, W), f32, `(p / 255 - 0.5) / 0.5`, so within -1..1.
///
/// Augmentation happens with an `rng` only. The result depends on image, transform and the state of the
/// generator alone; how many numbers are drawn depends on the transform alone.
///
/// # Errors
/// When the transform or the image is invalid.
///
/// ```
/// use phiz_data::{Image, Transform, to_chw_f32};
/// # fn main() -> phiz_data::Result<()> {
/// let image = Image { width: 2, height: 1, channels: 1, pixels: vec![0, 255] };
/// let no_rng = None::<&mut rand_chacha::ChaCha8Rng>;
/// assert_eq!(to_chw_f32(&image, &Transform::new(1, 2, 1), no_rng)?, [-1.0, 1.0]);
/// # Ok(()) }
/// ```
pub fn to_chw_f32<R: Rng + ?Sized>(
    image: &Image,
    transform: &Transform,
    rng: Option<&mut R>,
) -> Result<Vec<f32>> {
    transform.validate()?;
    let (height, width) = transform.size;
    let mut planes = fit(
        Planes::from_image(image, transform.channels)?,
        height,
        width,
        transform.fit,
    );
    local_contrast(&mut planes, transform.local_contrast);
    if let Some(rng) = rng
        && !transform.augment.is_off()
    {
        planes = augmented(planes, &transform.augment, rng);
    }
    for value in &mut planes.values {
        *value = (*value - 0.5) / 0.5;
    }
    Ok(planes.values)
}

fn fit(planes: Planes, height: usize, width: usize, fit: Fit) -> Planes {
    let by_height = height as f64 / planes.height as f64;
    let by_width = width as f64 / planes.width as f64;
    let factor = match fit {
        Fit::Stretch => return planes.resized(height, width),
        Fit::Pad => by_height.min(by_width),
        Fit::Crop => by_height.max(by_width),
    };
    // The side that decides the factor is met exactly; the other is rounded to a whole pixel, and kept on
    // its side of the target.
    let side = |n: usize, target: usize| {
        let scaled = ((n as f64 * factor).round() as usize).max(1);
        if fit == Fit::Pad {
            scaled.min(target)
        } else {
            scaled.max(target)
        }
    };
    let (inner_h, inner_w) = (side(planes.height, height), side(planes.width, width));
    // An extreme aspect could make the covering side huge: such a strip is cut before it is enlarged.
    let planes = if fit == Fit::Crop && inner_h.saturating_mul(inner_w) as u64 > MAX_PIXELS {
        let (keep_h, keep_w) = (
            ((height as f64 / factor).ceil() as usize).clamp(1, planes.height),
            ((width as f64 / factor).ceil() as usize).clamp(1, planes.width),
        );
        let (top, left) = ((planes.height - keep_h) / 2, (planes.width - keep_w) / 2);
        return planes
            .window(top as isize, left as isize, keep_h, keep_w)
            .resized(height, width);
    } else {
        planes.resized(inner_h, inner_w)
    };
    let offset = |inner: usize, target: usize| (inner as isize - target as isize).div_euclid(2);
    if (inner_h, inner_w) == (height, width) {
        return planes;
    }
    planes.window(
        offset(inner_h, height),
        offset(inner_w, width),
        height,
        width,
    )
}

fn augmented<R: Rng + ?Sized>(planes: Planes, augment: &Augment, rng: &mut R) -> Planes {
    let (height, width) = (planes.height, planes.width);
    let plane = height * width;
    // All draws first and always all of them: the stream does not depend on which are in use.
    let flip = uniform(rng) < augment.flip;
    let degrees = symmetric(rng, augment.rotate);
    let zoom = 1.0 + symmetric(rng, augment.zoom);
    let shift = |u: f32, side: usize| (u * side as f32).round() as isize;
    let down = shift(symmetric(rng, augment.crop_pad), height);
    let right = shift(symmetric(rng, augment.crop_pad), width);
    let contrast = 1.0 + symmetric(rng, augment.contrast);
    let brightness = symmetric(rng, augment.brightness);
    let saturation = 1.0 + symmetric(rng, augment.saturation);
    let noise = uniform(rng) * augment.noise;
    let erase = uniform(rng) < augment.erase;
    let (area, aspect, at_y, at_x) = (uniform(rng), uniform(rng), uniform(rng), uniform(rng));

    let mut out = planes;
    if flip {
        for row in out.values.chunks_exact_mut(width) {
            row.reverse();
        }
    }
    if augment.rotate > 0.0 || augment.zoom > 0.0 {
        out = out.turned(degrees, zoom);
    }
    if down != 0 || right != 0 {
        out = out.window(-down, -right, height, width);
    }
    if augment.contrast > 0.0 || augment.brightness > 0.0 {
        let mean = out.values.iter().sum::<f32>() / out.values.len() as f32;
        for value in &mut out.values {
            *value = mean + (*value - mean) * contrast + brightness;
        }
    }
    if augment.saturation > 0.0 && out.channels == 3 {
        let (r, rest) = out.values.split_at_mut(plane);
        let (g, b) = rest.split_at_mut(plane);
        for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
            let luma = 0.299 * *r + 0.587 * *g + 0.114 * *b;
            for value in [r, g, b] {
                *value = luma + (*value - luma) * saturation;
            }
        }
    }
    if augment.noise > 0.0 {
        for value in &mut out.values {
            *value += noise * near_normal(rng);
        }
    }
    if erase {
        let share = 0.02 + 0.18 * area;
        // Aspect between 1 : 3 and 3 : 1, as likely wide as tall.
        let lean = 2.0 * aspect - 1.0;
        let ratio = 1.0 + 2.0 * lean.abs();
        let (tall, broad) = if lean > 0.0 {
            (1.0 / ratio, ratio)
        } else {
            (ratio, 1.0 / ratio)
        };
        let side = |ratio: f32, n: usize| {
            (((share * ratio).sqrt() * n as f32).round() as usize).clamp(1, n)
        };
        let (h, w) = (side(tall, height), side(broad, width));
        let top = (at_y * (height - h + 1) as f32) as usize;
        let left = (at_x * (width - w + 1) as f32) as usize;
        for row in out
            .values
            .chunks_exact_mut(plane)
            .flat_map(|p| p.chunks_exact_mut(width).skip(top).take(h))
        {
            row[left..left + w].fill(0.5);
        }
    }
    for value in &mut out.values {
        *value = value.clamp(0.0, 1.0);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream_rng;
    use rand_chacha::ChaCha8Rng;

    fn picture(width: usize, height: usize) -> Image {
        let pixels = (0..width * height * 3)
            .map(|i| (i * 31 % 256) as u8)
            .collect();
        Image {
            width,
            height,
            channels: 3,
            pixels,
        }
    }

    fn plain(image: &Image, transform: &Transform) -> Vec<f32> {
        to_chw_f32(image, transform, None::<&mut ChaCha8Rng>).unwrap()
    }

    fn with(image: &Image, augment: Augment, position: u64) -> Vec<f32> {
        let transform = Transform {
            size: (image.height, image.width),
            augment,
            ..Transform::default()
        };
        to_chw_f32(
            image,
            &transform,
            Some(&mut stream_rng(1, "augment", 0, position)),
        )
        .unwrap()
    }

    #[test]
    fn padding_orl_to_a_square_changes_no_pixel() {
        let image = Image {
            width: 92,
            height: 112,
            channels: 1,
            pixels: (0..92 * 112).map(|i| (i % 251) as u8).collect(),
        };
        let transform = Transform {
            size: (112, 112),
            channels: 1,
            fit: Fit::Pad,
            ..Transform::default()
        };
        let out = plain(&image, &transform);
        for y in 0..112 {
            for x in 0..112usize {
                let pixel = image.pixels[y * 92 + x.saturating_sub(10).min(91)];
                assert_eq!(out[y * 112 + x], (f32::from(pixel) / 255.0 - 0.5) / 0.5);
            }
        }
    }

    #[test]
    fn fits_have_the_asked_size_for_odd_shapes() {
        for (width, height) in [(1, 1), (1, 300), (300, 1), (7, 5), (64, 64), (2, 3)] {
            for fit in [Fit::Stretch, Fit::Pad, Fit::Crop] {
                for size in [(1, 1), (8, 3), (3, 8), (64, 64)] {
                    let transform = Transform {
                        size,
                        fit,
                        ..Transform::default()
                    };
                    let out = plain(&picture(width, height), &transform);
                    assert_eq!(
                        out.len(),
                        transform.values(),
                        "{width}x{height} {fit:?} {size:?}"
                    );
                    assert!(out.iter().all(|v| (-1.0001..=1.0001).contains(v)));
                }
            }
        }
        // 100,000 x 1 cropped to 1024 x 1024 would be enlarged to 10^11 pixels without the early cut.
        let strip = Image {
            width: 100_000,
            height: 1,
            channels: 1,
            pixels: vec![9; 100_000],
        };
        let transform = Transform {
            size: (1024, 1024),
            channels: 1,
            fit: Fit::Crop,
            ..Transform::default()
        };
        assert_eq!(plain(&strip, &transform).len(), 1 << 20);
    }

    #[test]
    fn each_strength_does_what_it_says() {
        let image = picture(12, 10);
        let still = plain(&image, &Transform::new(10, 12, 3));
        assert_eq!(with(&image, Augment::default(), 0), still, "off means off");
        let flipped = with(
            &image,
            Augment {
                flip: 1.0,
                ..Augment::default()
            },
            0,
        );
        assert!(
            flipped
                .chunks(12)
                .zip(still.chunks(12))
                .all(|(a, b)| a.iter().eq(b.iter().rev()))
        );
        let brighter: Vec<f32> = (0..64)
            .map(|i| {
                with(
                    &image,
                    Augment {
                        brightness: 0.2,
                        ..Augment::default()
                    },
                    i,
                )
                .iter()
                .sum()
            })
            .collect();
        let base: f32 = still.iter().sum();
        assert!(
            brighter.iter().any(|sum| *sum > base + 20.0)
                && brighter.iter().any(|sum| *sum < base - 20.0)
        );
        let erased = with(
            &image,
            Augment {
                erase: 1.0,
                ..Augment::default()
            },
            3,
        );
        let grey = erased.iter().filter(|v| **v == 0.0).count();
        assert!(grey > 0 && grey <= 3 * 120 / 4, "{grey} of 360 painted");
        assert!(erased.iter().zip(&still).all(|(a, b)| *a == 0.0 || a == b));
        // A grey picture has no colour to change.
        let grey = Image {
            width: 4,
            height: 4,
            channels: 1,
            pixels: (0..16).map(|i| i * 9).collect(),
        };
        let saturated = with(
            &grey,
            Augment {
                saturation: 1.0,
                ..Augment::default()
            },
            5,
        );
        assert!(
            saturated
                .iter()
                .zip(plain(&grey, &Transform::new(4, 4, 3)))
                .all(|(a, b)| (a - b).abs() < 1e-5)
        );
        for augment in [
            Augment {
                rotate: 20.0,
                ..Augment::default()
            },
            Augment {
                zoom: 0.3,
                ..Augment::default()
            },
            Augment {
                crop_pad: 0.3,
                ..Augment::default()
            },
            Augment {
                contrast: 0.5,
                ..Augment::default()
            },
            Augment {
                saturation: 0.9,
                ..Augment::default()
            },
            Augment {
                noise: 0.3,
                ..Augment::default()
            },
        ] {
            let out = with(&image, augment, 4);
            assert_ne!(out, still, "{augment:?}");
            assert!(out.iter().all(|v| (-1.0..=1.0).contains(v)));
            assert_eq!(out, with(&image, augment, 4), "same stream, same picture");
            assert_ne!(
                out,
                with(&image, augment, 6),
                "another stream, another picture"
            );
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let bad = Transform {
            augment: Augment {
                zoom: 1.5,
                ..Augment::default()
            },
            ..Transform::default()
        };
        assert_eq!(
            bad.validate().unwrap_err().to_string(),
            "augment.zoom must lie between 0 and 0.99, not 1.5"
        );
        let nan = Transform {
            augment: Augment {
                flip: f32::NAN,
                ..Augment::default()
            },
            ..Transform::default()
        };
        assert!(nan.validate().is_err());
        assert!(Transform::new(0, 4, 3).validate().is_err());
        assert!(Transform::new(4, 4, 2).validate().is_err());
        assert!(Transform::new(usize::MAX, 4, 3).validate().is_err());
        Transform {
            augment: Augment::mild(),
            ..Transform::default()
        }
        .validate()
        .unwrap();
    }
}
