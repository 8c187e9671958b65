//! What is in a data set: sizes, brightness, and how often each class comes.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use crate::decode::{check_image, luma_thousandths};
use crate::{Column, Dataset, Result};

/// A data set in figures; serialises to one JSON object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Info {
    /// The data set's name.
    pub name: String,
    /// Number of images.
    pub images: usize,
    /// Number of people that have an image; none where there is no label `identity`.
    pub identities: Option<usize>,
    /// Width in pixels; none where images differ.
    pub width: Option<usize>,
    /// Height in pixels; none where images differ.
    pub height: Option<usize>,
    /// Channels; none where images differ.
    pub channels: Option<usize>,
    /// Mean over all pixels of all images, 0 to 255; colours by their luma (BT.601).
    pub mean_grey: f64,
    /// Every label.
    pub labels: BTreeMap<String, LabelInfo>,
    /// Whether the images are rendered.
    pub rendered: bool,
}

/// One label column in figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum LabelInfo {
    /// Of a class a sample.
    Categorical {
        /// Number of classes that have a sample.
        classes: usize,
        /// Samples of every class, by name; classes without a sample are listed with 0.
        counts: BTreeMap<String, usize>,
    },
    /// Of a number a sample.
    Continuous {
        /// Smallest known value; none where no value is known.
        min: Option<f64>,
        /// Mean of the known values.
        mean: Option<f64>,
        /// Largest known value.
        max: Option<f64>,
        /// Samples whose value is not known.
        unknown: usize,
    },
    /// Of several numbers a sample.
    Vectors {
        /// Shape of one sample's numbers.
        shape: Vec<usize>,
    },
}

/// Decodes every image and sums up.
///
/// # Errors
/// The error of the first image, by index, that cannot be read.
pub fn info(dataset: &dyn Dataset) -> Result<Info> {
    // Whole numbers, so that the sum does not depend on the order of the threads.
    let seen: Vec<Result<(usize, usize, usize, u128)>> = (0..dataset.len())
        .into_par_iter()
        .map(|i| {
            let image = dataset.image(i)?;
            check_image(&image).map_err(|e| e.record(dataset.sample_id(i)))?;
            let sum: u64 = if image.channels == 1 {
                image.pixels.iter().map(|&p| 1000 * u64::from(p)).sum()
            } else {
                image
                    .pixels
                    .chunks_exact(3)
                    .map(|p| luma_thousandths(p[0], p[1], p[2]))
                    .sum()
            };
            Ok((image.width, image.height, image.channels, u128::from(sum)))
        })
        .collect();
    let seen = seen.into_iter().collect::<Result<Vec<_>>>()?;
    let pixels: u128 = seen.iter().map(|(w, h, ..)| (w * h) as u128).sum();
    let sum: u128 = seen.iter().map(|(.., sum)| sum).sum();
    let same = |of: fn(&(usize, usize, usize, u128)) -> usize| {
        let first = seen.first().map(of)?;
        seen.iter().all(|image| of(image) == first).then_some(first)
    };
    let labels: BTreeMap<String, LabelInfo> = dataset
        .labels()
        .columns()
        .iter()
        .map(|(name, column)| (name.clone(), label_info(column)))
        .chain(dataset.labels().all_vectors().iter().map(|(name, column)| {
            let shape = column.shape().to_vec();
            (name.clone(), LabelInfo::Vectors { shape })
        }))
        .collect();
    let identities = match labels.get("identity") {
        Some(LabelInfo::Categorical { classes, .. }) => Some(*classes),
        _ => None,
    };
    Ok(Info {
        name: dataset.name().to_string(),
        images: dataset.len(),
        identities,
        width: same(|image| image.0),
        height: same(|image| image.1),
        channels: same(|image| image.2),
        mean_grey: if pixels == 0 {
            0.0
        } else {
            sum as f64 / 1000.0 / pixels as f64
        },
        labels,
        rendered: dataset.rendered(),
    })
}

fn label_info(column: &Column) -> LabelInfo {
    match column {
        Column::Categorical { codes, names } => {
            let mut counts = vec![0usize; names.len()];
            for &code in codes {
                counts[code as usize] += 1;
            }
            LabelInfo::Categorical {
                classes: counts.iter().filter(|count| **count > 0).count(),
                counts: names.iter().cloned().zip(counts).collect(),
            }
        }
        Column::Continuous(values) => {
            let known: Vec<f64> = values
                .iter()
                .filter(|value| !value.is_nan())
                .map(|&value| f64::from(value))
                .collect();
            let mean = known.iter().sum::<f64>() / known.len() as f64;
            LabelInfo::Continuous {
                min: known.iter().copied().reduce(f64::min),
                mean: (!known.is_empty()).then_some(mean),
                max: known.iter().copied().reduce(f64::max),
                unknown: values.len() - known.len(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Image, InMemory};

    #[test]
    fn figures_of_a_small_set() {
        let grey = Image {
            width: 2,
            height: 1,
            channels: 1,
            pixels: vec![0, 100],
        };
        let red = Image {
            width: 1,
            height: 1,
            channels: 3,
            pixels: vec![200, 0, 0],
        };
        let columns = vec![
            ("identity", Column::from_names(&["a", "b"])),
            ("factor.x", Column::Continuous(vec![f32::NAN, 2.0])),
        ];
        let set = InMemory::from_images("mixed", vec![grey, red], columns).unwrap();
        let info = info(&set).unwrap();
        assert_eq!(
            (info.images, info.identities, info.width, info.height),
            (2, Some(2), None, Some(1))
        );
        assert!((info.mean_grey - (100.0 + 59.8) / 3.0).abs() < 1e-12);
        let json = serde_json::to_value(&info).unwrap();
        assert_eq!(json["labels"]["identity"]["counts"]["b"], 1);
        assert_eq!(json["labels"]["factor.x"]["mean"], 2.0);
        assert_eq!(json["labels"]["factor.x"]["unknown"], 1);
        assert!(json["width"].is_null());
    }
}
