//! Landmark error: NME with a named normaliser, failure rate, area under the cumulative error curve.
//!
//! The normalised mean error of an image is the mean over its points of ||predicted - true||, in pixels of the original
//! image, divided by a length d that the set's own rules name. The same predictions differ by a third between normalisers,
//! so the [`Normaliser`] stands in every result.
//!
//! ```text
//! NME = mean over images      FR@t = share of images above t      AUC@t = (1/t) integral over [0, t] of CED
//! ```
//!
//! The cumulative error curve CED(x) is the share of images with an error of at most x. AUC@t is Simpson's rule over
//! steps of 1e-4, as published code has it, on a grid that ends at t (some programs run one step past it);
//! [`exact_ced_area`] is the integral itself.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bootstrap::{BootstrapConfig, cluster_mean_interval};
use crate::error::{Error, Result};

/// The length that errors are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Normaliser {
    /// Outer eye corners: points 36 and 45 of 68, 60 and 72 of 98 (WFLW), 8 and 9 of 29 (COFW).
    InterOcular,
    /// Pupils: means of points 36..=41 and 42..=47 of 68; points 96 and 97 of 98.
    InterPupil,
    /// The mean of the inner (39, 42) and the outer (36, 45) corner distances of 68 points, which 3FabRec calls "pupil".
    MeanCorners,
    /// sqrt(w h) of the given box.
    Box,
    /// sqrt(w^2 + h^2) of the given box.
    Diagonal,
}

impl fmt::Display for Normaliser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InterOcular => "inter-ocular",
            Self::InterPupil => "inter-pupil",
            Self::MeanCorners => "mean-corners",
            Self::Box => "box",
            Self::Diagonal => "diagonal",
        })
    }
}

/// A box in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FaceBox {
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

/// Landmark errors of a set of images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LandmarkErrors {
    /// What they are divided by.
    pub normaliser: Normaliser,
    /// The normalised mean error of each image.
    pub errors: Vec<f64>,
}

/// What a landmark protocol reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LandmarkFigures {
    /// Mean of the images' errors, a share (0.04), not a percentage.
    pub nme: f64,
    /// Share of images above the threshold.
    pub failure_rate: f64,
    /// Area under the cumulative error curve up to the threshold, over the threshold.
    pub auc: f64,
    /// The threshold of the two.
    pub threshold: f64,
    /// Intervals by metric name, where wanted.
    pub intervals: BTreeMap<String, [f64; 2]>,
}

impl Normaliser {
    /// The length for one image's true points (x, y, x, y, ...).
    ///
    /// # Errors
    /// When the number of points has no such normaliser, a box is needed and not given, or the length is 0.
    pub fn length(self, truth: &[f64], face: Option<FaceBox>) -> Result<f64> {
        let points = truth.len() / 2;
        let none = || {
            Error::usage(format!(
                "no {self} normaliser is defined for {points} points"
            ))
        };
        let mean = |range: std::ops::RangeInclusive<usize>| -> Result<[f64; 2]> {
            let count = range.clone().count() as f64;
            let mut sum = [0.0; 2];
            for p in range {
                let [x, y] = point(truth, p).ok_or_else(none)?;
                sum = [sum[0] + x / count, sum[1] + y / count];
            }
            Ok(sum)
        };
        let between = |a: usize, b: usize| -> Result<f64> {
            Ok(distance(
                point(truth, a).ok_or_else(none)?,
                point(truth, b).ok_or_else(none)?,
            ))
        };
        let face = || face.ok_or_else(|| Error::missing(format!("{self} needs a box per image")));
        let length = match (self, points) {
            (Self::InterOcular, 68) => between(36, 45)?,
            (Self::InterOcular, 98) => between(60, 72)?,
            (Self::InterOcular, 29) => between(8, 9)?,
            (Self::InterPupil, 68) => distance(mean(36..=41)?, mean(42..=47)?),
            (Self::InterPupil, 98) => between(96, 97)?,
            (Self::MeanCorners, 68) => 0.5 * (between(39, 42)? + between(36, 45)?),
            (Self::Box, _) => {
                let b = face()?;
                (b.width * b.height).sqrt()
            }
            (Self::Diagonal, _) => {
                let b = face()?;
                b.width.hypot(b.height)
            }
            _ => return Err(none()),
        };
        if length > 0.0 && length.is_finite() {
            Ok(length)
        } else {
            Err(Error::degenerate(format!(
                "the {self} length is {length}: it must be above 0"
            )))
        }
    }
}

impl LandmarkErrors {
    /// Errors of images with `points` points each: `predicted` and `truth` are (N, points, 2), x before y. `boxes` has
    /// one box per image, for the normalisers that need them.
    ///
    /// # Errors
    /// When sizes disagree, a coordinate is not finite, or an image has no length to divide by (the image is named).
    pub fn new(
        predicted: &[f64],
        truth: &[f64],
        points: usize,
        normaliser: Normaliser,
        boxes: Option<&[FaceBox]>,
    ) -> Result<Self> {
        let row = 2 * points;
        if row == 0
            || truth.is_empty()
            || predicted.len() != truth.len()
            || !truth.len().is_multiple_of(row)
            || boxes.is_some_and(|b| b.len() != truth.len() / row)
        {
            return Err(Error::shape(format!(
                "{} predicted and {} true coordinates for images of {points} points, {} boxes",
                predicted.len(),
                truth.len(),
                boxes.map_or(0, <[FaceBox]>::len)
            )));
        }
        let images = predicted.chunks_exact(row).zip(truth.chunks_exact(row));
        let errors = images.enumerate().map(|(i, (p, t))| {
            let at = |e: Error| e.record(format!("image {i}"));
            if p.iter().chain(t).any(|v| !v.is_finite()) {
                return Err(at(Error::value("a coordinate is NaN or infinite")));
            }
            let face = boxes.and_then(|b| b.get(i).copied());
            let length = normaliser.length(t, face).map_err(at)?;
            Ok(mean_distance(p, t, 2) / length)
        });
        Ok(Self {
            normaliser,
            errors: errors.collect::<Result<_>>()?,
        })
    }

    /// NME, FR@`threshold` and AUC@`threshold`, with intervals over `clusters` (images of one person or video) where a
    /// bootstrap is wanted. Usual thresholds: 0.07 for AFLW with the box, 0.10 for WFLW, 0.08 for 300W.
    ///
    /// # Errors
    /// When the threshold is not above 0, or there is not one cluster per image.
    pub fn figures(
        &self,
        threshold: f64,
        clusters: Option<&[u32]>,
        bootstrap: Option<&BootstrapConfig>,
    ) -> Result<LandmarkFigures> {
        if !(threshold > 0.0 && threshold.is_finite()) {
            return Err(Error::usage(format!(
                "a threshold must be above 0, got {threshold}"
            )));
        }
        let n = self.errors.len();
        if clusters.is_some_and(|c| c.len() != n) {
            return Err(Error::shape(format!(
                "{} clusters for {n} images",
                clusters.map_or(0, <[u32]>::len)
            )));
        }
        let simpson = Simpson::new(threshold);
        // Each figure is a mean of one value per image, Simpson's sum included: it is linear in the curve.
        let failed: Vec<f64> = self
            .errors
            .iter()
            .map(|&e| f64::from(u8::from(e > threshold)))
            .collect();
        let areas: Vec<f64> = self.errors.iter().map(|&e| simpson.area(e)).collect();
        let mean = |v: &[f64]| v.iter().sum::<f64>() / n as f64;
        let mut out = LandmarkFigures {
            nme: mean(&self.errors),
            failure_rate: mean(&failed),
            auc: mean(&areas),
            threshold,
            intervals: BTreeMap::new(),
        };
        if let Some(config) = bootstrap {
            let rows: Vec<u32> = (0..n as u32).collect();
            for (name, values) in [
                ("nme", &self.errors),
                ("failure_rate", &failed),
                ("auc", &areas),
            ] {
                let found = cluster_mean_interval(values, clusters.unwrap_or(&rows), config);
                out.intervals
                    .extend(found.map(|interval| (name.to_string(), interval)));
            }
        }
        Ok(out)
    }

    /// The cumulative error curve on `steps` + 1 points from 0 to `limit`: (error, share of images at or below it).
    pub fn ced(&self, limit: f64, steps: usize) -> Vec<(f64, f64)> {
        let mut sorted = self.errors.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        (0..=steps.max(1))
            .map(|k| {
                let x = limit * k as f64 / steps.max(1) as f64;
                let below = sorted.partition_point(|e| *e <= x);
                (x, below as f64 / sorted.len().max(1) as f64)
            })
            .collect()
    }
}

/// The integral of the cumulative error curve over [0, t], divided by t, without a grid: mean of max(0, 1 - e / t).
pub fn exact_ced_area(errors: &[f64], threshold: f64) -> f64 {
    let parts = errors.iter().map(|e| (1.0 - e / threshold).max(0.0));
    parts.sum::<f64>() / errors.len() as f64
}

/// Simpson's weights over an even number of steps of about 1e-4, summed from the right.
struct Simpson {
    step: f64,
    /// Sum of the weights of the grid points from k on, divided by the threshold.
    tails: Vec<f64>,
}

impl Simpson {
    fn new(threshold: f64) -> Self {
        // The tolerance keeps 0.07 / 1e-4 at 700 steps; an even number, which Simpson's rule needs.
        let steps = 2 * ((threshold / 2e-4 - 1e-6).ceil().clamp(1.0, 5e6) as usize);
        let step = threshold / steps as f64;
        let weight = |k: usize| match k {
            0 => 1.0,
            k if k == steps => 1.0,
            k if k % 2 == 1 => 4.0,
            _ => 2.0,
        };
        let mut tails = vec![0.0; steps + 2];
        let mut sum = 0.0;
        for k in (0..=steps).rev() {
            sum += weight(k);
            if let Some(tail) = tails.get_mut(k) {
                *tail = sum * step / 3.0 / threshold;
            }
        }
        Self { step, tails }
    }

    /// The share that one image with `error` adds: the weights of the grid points at or above it.
    fn area(&self, error: f64) -> f64 {
        let mut k = (error / self.step).floor().max(0.0) as usize;
        if (k as f64) * self.step < error {
            k += 1;
        }
        self.tails.get(k).copied().unwrap_or(0.0)
    }
}

fn point(points: &[f64], index: usize) -> Option<[f64; 2]> {
    match points.get(2 * index..2 * index + 2)? {
        [x, y] => Some([*x, *y]),
        _ => None,
    }
}

fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Mean Euclidean distance of points of `dim` coordinates.
pub(crate) fn mean_distance(a: &[f64], b: &[f64], dim: usize) -> f64 {
    let squares = |(p, q): (&[f64], &[f64])| {
        let parts = p.iter().zip(q).map(|(x, y)| (x - y) * (x - y));
        parts.sum::<f64>().sqrt()
    };
    let pairs = a.chunks_exact(dim).zip(b.chunks_exact(dim));
    pairs.map(squares).sum::<f64>() / (a.len() / dim) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_case_and_missing_box() {
        let truth: Vec<f64> = (0..29).flat_map(|i| [f64::from(i), 0.0]).collect();
        let moved: Vec<f64> = truth
            .chunks(2)
            .flat_map(|p| [p[0] + 3.0, p[1] + 4.0])
            .collect();
        let errors =
            LandmarkErrors::new(&moved, &truth, 29, Normaliser::InterOcular, None).unwrap();
        assert!((errors.errors[0] - 5.0).abs() < 1e-12);
        let boxes = [FaceBox {
            width: 4.0,
            height: 25.0,
        }];
        let boxed = LandmarkErrors::new(&moved, &truth, 29, Normaliser::Box, Some(&boxes)).unwrap();
        assert!((boxed.errors[0] - 0.5).abs() < 1e-12);
        for (normaliser, words) in [
            (
                Normaliser::Diagonal,
                "image 0: diagonal needs a box per image",
            ),
            (
                Normaliser::InterPupil,
                "image 0: no inter-pupil normaliser is defined for 29 points",
            ),
        ] {
            let error = LandmarkErrors::new(&moved, &truth, 29, normaliser, None).unwrap_err();
            assert_eq!(error.to_string(), words);
        }
        let zero = vec![0.0; 58];
        let error = LandmarkErrors::new(&zero, &zero, 29, Normaliser::InterOcular, None);
        assert!(error.unwrap_err().to_string().contains("above 0"));
    }

    #[test]
    fn areas_of_known_curves() {
        let of = |errors: Vec<f64>| LandmarkErrors {
            normaliser: Normaliser::Box,
            errors,
        };
        let perfect = of(vec![0.0; 5]).figures(0.07, None, None).unwrap();
        assert!((perfect.auc - 1.0).abs() < 1e-12 && perfect.failure_rate == 0.0);
        let lost = of(vec![0.5; 5]).figures(0.07, None, None).unwrap();
        assert_eq!((lost.auc, lost.failure_rate), (0.0, 1.0));
        let edge = of(vec![0.07]).figures(0.07, None, None).unwrap();
        assert_eq!(edge.failure_rate, 0.0, "at the threshold is no failure");
        let spread: Vec<f64> = (0..1000).map(|i| f64::from(i) / 10_000.0).collect();
        let figures = of(spread.clone()).figures(0.1, None, None).unwrap();
        assert!((figures.auc - exact_ced_area(&spread, 0.1)).abs() < 1e-3);
        assert!(of(spread).figures(0.0, None, None).is_err());
    }
}
