//! MNIST-ROT and MNIST-DIL: digits with a known nuisance, the usual proving ground for removing one.
//!
//! The protocols as their publishers ran them leave much open (angles drawn anew each epoch, undocumented kernels and
//! borders). Here every image stands with every angle, so a set is the same at every reading:
//!
//! * **MNIST-ROT**: angles -45, -22.5, 0, 22.5, 45 degrees are the nuisance `angle`. `train` and `validation` are 50,000
//!   and 10,000 of MNIST's training images, by a list that is part of this crate; `test` is its test images. `55` and `65`
//!   are the test images at both signs of an angle that training never shows.
//! * **MNIST-DIL**: the upright test images, eroded or dilated, for networks trained on MNIST-ROT.

use std::path::Path;

use crate::labels::check_indices;
use crate::mnist::{Half, Mnist};
use crate::{Column, Dataset, Error, Image, Labels, Result};

/// What is done to a digit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Alteration {
    /// Turned by degrees; see [`rotate`].
    Rotate(f64),
    /// Least grey of a k x k square; strokes get thinner. See [`erode`].
    Erode(usize),
    /// Greatest grey of a k x k square; strokes get thicker. See [`dilate`].
    Dilate(usize),
}

/// Which images with which alterations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// 50,000 training images at the five angles.
    #[default]
    Train,
    /// The other 10,000 training images at the five angles.
    Validation,
    /// 10,000 test images at the five angles.
    Test,
    /// Test images at -55 and 55 degrees.
    Unseen55,
    /// Test images at -65 and 65 degrees.
    Unseen65,
    /// Test images eroded by a square of 2.
    Erode2,
    /// Test images dilated by a square of 2.
    Dilate2,
    /// Test images dilated by a square of 3.
    Dilate3,
    /// Test images dilated by a square of 4.
    Dilate4,
}

/// Parts of MNIST-ROT under their names in a specification.
pub const ROTATED: [(&str, Part); 5] = [
    ("train", Part::Train),
    ("validation", Part::Validation),
    ("test", Part::Test),
    ("55", Part::Unseen55),
    ("65", Part::Unseen65),
];

/// Parts of MNIST-DIL under their names in a specification.
pub const DILATED: [(&str, Part); 4] = [
    ("erode2", Part::Erode2),
    ("dilate2", Part::Dilate2),
    ("dilate3", Part::Dilate3),
    ("dilate4", Part::Dilate4),
];

/// The angles of training, degrees.
pub const SEEN_ANGLES: [f64; 5] = [-45., -22.5, 0., 22.5, 45.];

impl Part {
    /// Its name in a specification.
    #[must_use]
    pub fn name(self) -> &'static str {
        ROTATED
            .iter()
            .chain(&DILATED)
            .find(|(_, part)| *part == self)
            .map_or("", |(name, _)| name)
    }

    fn alterations(self) -> Vec<Alteration> {
        let turned = |angles: &[f64]| angles.iter().map(|&a| Alteration::Rotate(a)).collect();
        match self {
            Self::Train | Self::Validation | Self::Test => turned(&SEEN_ANGLES),
            Self::Unseen55 => turned(&[-55., 55.]),
            Self::Unseen65 => turned(&[-65., 65.]),
            Self::Erode2 => vec![Alteration::Erode(2)],
            Self::Dilate2 => vec![Alteration::Dilate(2)],
            Self::Dilate3 => vec![Alteration::Dilate(3)],
            Self::Dilate4 => vec![Alteration::Dilate(4)],
        }
    }

    fn half(self) -> Half {
        match self {
            Self::Train | Self::Validation => Half::Train,
            _ => Half::Test,
        }
    }
}

/// Indices of the training images that are kept for validation, ascending.
const VALIDATION: &str = include_str!("../lists/mnist-rot-validation.txt");

/// A part of MNIST-ROT or MNIST-DIL. Sample `i` is image `i / k` of the part under its alteration `i % k` of k.
///
/// Labels: `label`, and where images are turned `angle` (`-45`, `-22.5`, ...).
pub struct AlteredDigits {
    name: String,
    whole: Mnist,
    rows: Vec<usize>,
    alterations: Vec<Alteration>,
    labels: Labels,
}

impl AlteredDigits {
    /// Opens `part` from the folder of MNIST's idx files; see [`Mnist::open`].
    ///
    /// # Errors
    /// Names the file that is missing or malformed, or says that MNIST is not whole.
    pub fn open(name: &str, folder: &Path, part: Part) -> Result<Self> {
        let whole = Mnist::open(name, folder, part.half(), &[])?;
        let rows = match part.half() {
            Half::Test => (0..whole.len()).collect(),
            Half::Train => {
                const WHOLE: usize = 60_000;
                if whole.len() != WHOLE {
                    let message = format!(
                        "expected MNIST's {WHOLE} training images, found {}",
                        whole.len()
                    );
                    return Err(Error::format(message).at(folder));
                }
                let mut held = vec![false; WHOLE];
                for index in VALIDATION
                    .split_ascii_whitespace()
                    .filter_map(|word| word.parse::<usize>().ok())
                {
                    if let Some(place) = held.get_mut(index) {
                        *place = true;
                    }
                }
                (0..WHOLE)
                    .filter(|&i| held[i] == (part == Part::Validation))
                    .collect()
            }
        };
        Self::altered(
            format!("{name}:{}", part.name()),
            whole,
            rows,
            part.alterations(),
        )
    }

    fn altered(
        name: String,
        whole: Mnist,
        rows: Vec<usize>,
        alterations: Vec<Alteration>,
    ) -> Result<Self> {
        let each = alterations.len();
        let mut labels = Labels::new(rows.len() * each);
        let codes = whole.labels().codes("label")?;
        labels.insert(
            "label",
            Column::Categorical {
                codes: rows
                    .iter()
                    .flat_map(|&row| std::iter::repeat_n(codes[row], each))
                    .collect(),
                names: whole.labels().names("label")?.to_vec(),
            },
        )?;
        let angles: Vec<String> = alterations
            .iter()
            .filter_map(|alteration| match alteration {
                Alteration::Rotate(degrees) => Some(degrees.to_string()),
                _ => None,
            })
            .collect();
        if angles.len() == each {
            labels.insert(
                "angle",
                Column::Categorical {
                    codes: (0..rows.len()).flat_map(|_| 0..each as u32).collect(),
                    names: angles,
                },
            )?;
        }
        Ok(Self {
            name,
            whole,
            rows,
            alterations,
            labels,
        })
    }
}

impl Dataset for AlteredDigits {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn sample_id(&self, index: usize) -> String {
        let each = self.alterations.len();
        match (
            self.rows.get(index / each),
            self.alterations.get(index % each),
        ) {
            (Some(&row), Some(alteration)) => {
                format!("{}/{alteration:?}", self.whole.sample_id(row))
            }
            _ => String::new(),
        }
    }

    fn image(&self, index: usize) -> Result<Image> {
        check_indices(&[index], self.len())?;
        let each = self.alterations.len();
        let image = self.whole.image(self.rows[index / each])?;
        Ok(match self.alterations[index % each] {
            Alteration::Rotate(degrees) => rotate(&image, degrees),
            Alteration::Erode(k) => erode(&image, k),
            Alteration::Dilate(k) => dilate(&image, k),
        })
    }
}

/// Turns an image by `degrees`: pixel (row, column) is taken from
/// `R (row - h/2 - 1/2, column - w/2 - 1/2) + (h/2 + 1/2, w/2 + 1/2)`, `R = [[cos, -sin], [sin, cos]]`, the nearest pixel
/// (halves up), the border's pixels repeated outside.
///
/// This is the routine of Keras' image generator, whose centre lies one pixel beyond the geometric one; published
/// figures on MNIST-ROT were made with it. At 45 degrees some places lie halfway between two pixels, and there the
/// rounding of a program's sums decides: about a pixel in a hundred may differ from SciPy's.
#[must_use]
pub fn rotate(image: &Image, degrees: f64) -> Image {
    let (h, w) = (image.height, image.width);
    let (centre_y, centre_x) = (h as f64 / 2. + 0.5, w as f64 / 2. + 0.5);
    let (sin, cos) = degrees.to_radians().sin_cos();
    let nearest = |at: f64, size: usize| -> usize {
        // A negative float becomes 0 by the cast.
        ((at + 0.5).floor() as usize).min(size.saturating_sub(1))
    };
    from_pixels(image, |y, x| {
        let (dy, dx) = (y as f64 - centre_y, x as f64 - centre_x);
        let row = nearest(cos * dy - sin * dx + centre_y, h);
        let column = nearest(sin * dy + cos * dx + centre_x, w);
        row * w + column
    })
}

/// The least value of each k x k square, rows and columns `-floor(k/2)` to `k - 1 - floor(k/2)` from the pixel; what
/// lies outside the image does not count.
#[must_use]
pub fn erode(image: &Image, k: usize) -> Image {
    extreme(image, k, |a, b| a < b)
}

/// The greatest value of each k x k square; see [`erode`].
#[must_use]
pub fn dilate(image: &Image, k: usize) -> Image {
    extreme(image, k, |a, b| a > b)
}

fn extreme(image: &Image, k: usize, better: impl Fn(u8, u8) -> bool) -> Image {
    let (h, w) = (image.height, image.width);
    let before = k / 2;
    let after = k - before; // One past the last offset.
    let mut out = image.clone();
    for y in 0..h {
        for x in 0..w {
            for c in 0..image.channels {
                let mut best = image.pixels[(y * w + x) * image.channels + c];
                for row in y.saturating_sub(before)..(y + after).min(h) {
                    for column in x.saturating_sub(before)..(x + after).min(w) {
                        let value = image.pixels[(row * w + column) * image.channels + c];
                        if better(value, best) {
                            best = value;
                        }
                    }
                }
                out.pixels[(y * w + x) * image.channels + c] = best;
            }
        }
    }
    out
}

fn from_pixels(image: &Image, source: impl Fn(usize, usize) -> usize) -> Image {
    let mut out = image.clone();
    let size = image.channels;
    for y in 0..image.height {
        for x in 0..image.width {
            let (to, from) = ((y * image.width + x) * size, source(y, x) * size);
            out.pixels[to..to + size].copy_from_slice(&image.pixels[from..from + size]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_holds_ten_thousand_different_images() {
        let list: Vec<usize> = VALIDATION
            .split_ascii_whitespace()
            .map(|word| word.parse().unwrap())
            .collect();
        assert_eq!(list.len(), 10_000);
        assert!(list.array_windows().all(|[a, b]| a < b));
        assert!(list.last().is_some_and(|&last| last < 60_000));
    }
}
