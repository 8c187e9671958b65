//! Three errors of 3D face shape that all go by "mean NME on AFLW2000-3D" and cannot be compared with each other.
//!
//! | here | points | alignment | divided by |
//! |---|---|---|---|
//! | [`Sparse2d`] | 68 landmarks, x and y | none | sqrt(w h) of the true landmarks' box |
//! | [`Dense3d`] | face-region vertices, x, y and z | depth centred in both | sqrt(w h) of the true vertices' box |
//! | [`Reconstruction`] | face-region vertices | similarity (rotation, scale, shift) | 3D distance of the outer eye corners |
//!
//! The first is 3DDFA's, with the mean of the three yaw bins' means as its headline; the others are SADRNet's. Each has
//! a type of its own, so that a table cannot mix them.

use nalgebra::{Matrix3, Vector3};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::landmarks::mean_distance;

/// Sparse 2D error of one image, a share of the landmark box's size.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
pub struct Sparse2d(pub f64);

/// Dense 3D error of one image, a share of the vertices' box's size.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
pub struct Dense3d(pub f64);

/// Reconstruction error of one image after similarity alignment, a share of the outer inter-ocular distance.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
pub struct Reconstruction(pub f64);

/// Sparse 2D errors by absolute yaw: [0, 30], (30, 60] and (60, 90] degrees.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sparse2dByYaw {
    /// Images in each bin.
    pub counts: [usize; 3],
    /// Mean error of each bin.
    pub bins: [f64; 3],
    /// The headline: mean of the three means, each bin counting the same.
    pub mean_of_bins: f64,
    /// Standard deviation of the three means, with divisor 3 as in 3DDFA's program.
    pub sd_of_bins: f64,
    /// Mean over images, which is another figure when bins differ in size.
    pub mean_of_images: f64,
}

impl Sparse2d {
    /// Error of one image from (x, y) of its landmarks.
    ///
    /// # Errors
    /// When sizes differ, a coordinate is not finite, or the true landmarks span no box.
    pub fn new(predicted: &[f64], truth: &[f64]) -> Result<Self> {
        check(predicted, truth, 2)?;
        Ok(Self(
            mean_distance(predicted, truth, 2) / box_size(truth, 2)?,
        ))
    }

    /// Means by yaw (degrees, either sign).
    ///
    /// # Errors
    /// When the lengths differ, a yaw is beyond 90 degrees or not finite, or a bin is empty.
    pub fn by_yaw(errors: &[Self], yaw: &[f64]) -> Result<Sparse2dByYaw> {
        if errors.len() != yaw.len() {
            return Err(Error::shape(format!(
                "{} errors for {} yaw angles",
                errors.len(),
                yaw.len()
            )));
        }
        let (mut counts, mut bins) = ([0usize; 3], [0.0; 3]);
        for (i, (error, yaw)) in errors.iter().zip(yaw).enumerate() {
            let bin = match yaw.abs() {
                y if y <= 30.0 => 0,
                y if y <= 60.0 => 1,
                y if y <= 90.0 => 2,
                _ => {
                    return Err(Error::value(format!("yaw {yaw} is not within 90 degrees"))
                        .record(format!("image {i}")));
                }
            };
            counts[bin] += 1;
            bins[bin] += error.0;
        }
        if let Some(empty) = counts.iter().position(|c| *c == 0) {
            let names = ["[0, 30]", "(30, 60]", "(60, 90]"];
            return Err(Error::degenerate(format!(
                "no image with yaw in {}: the mean over bins is undefined",
                names.get(empty).copied().unwrap_or("a bin")
            )));
        }
        let mean_of_images = bins.iter().sum::<f64>() / errors.len() as f64;
        for (sum, count) in bins.iter_mut().zip(counts) {
            *sum /= count as f64;
        }
        let mean_of_bins = bins.iter().sum::<f64>() / 3.0;
        let squares: f64 = bins.iter().map(|b| (b - mean_of_bins).powi(2)).sum();
        Ok(Sparse2dByYaw {
            counts,
            bins,
            mean_of_bins,
            sd_of_bins: (squares / 3.0).sqrt(),
            mean_of_images,
        })
    }
}

impl Dense3d {
    /// Error of one image from (x, y, z) of its vertices.
    ///
    /// # Errors
    /// When sizes differ, a coordinate is not finite, or the true vertices span no box.
    pub fn new(predicted: &[f64], truth: &[f64]) -> Result<Self> {
        check(predicted, truth, 3)?;
        let size = box_size(truth, 3)?;
        let centred = |points: &[f64]| -> Vec<f64> {
            let depth = points.iter().skip(2).step_by(3);
            let mean = depth.sum::<f64>() / (points.len() / 3) as f64;
            let shifted = points.iter().enumerate();
            shifted
                .map(|(i, v)| if i % 3 == 2 { v - mean } else { *v })
                .collect()
        };
        Ok(Self(
            mean_distance(&centred(predicted), &centred(truth), 3) / size,
        ))
    }
}

impl Reconstruction {
    /// Error of one image from (x, y, z) of its vertices; `corners` are the true outer eye corners (landmarks 36 and 45
    /// of 68) in the same units.
    ///
    /// # Errors
    /// When sizes differ, a coordinate is not finite, the corners coincide, or the predicted vertices coincide.
    pub fn new(predicted: &[f64], truth: &[f64], corners: [[f64; 3]; 2]) -> Result<Self> {
        check(predicted, truth, 3)?;
        let [a, b] = corners;
        let length = mean_distance(&a, &b, 3);
        if !(length > 0.0 && length.is_finite()) {
            return Err(Error::degenerate(format!(
                "the outer eye corners are {length} apart: it must be above 0"
            )));
        }
        let aligned = similarity_align(predicted, truth)?;
        Ok(Self(mean_distance(&aligned, truth, 3) / length))
    }
}

/// Moves `points` onto `target` by the rotation, scale and shift with the least squared error (Umeyama 1991; no
/// reflection).
///
/// # Errors
/// When sizes differ, a coordinate is not finite, or all `points` coincide.
pub fn similarity_align(points: &[f64], target: &[f64]) -> Result<Vec<f64>> {
    check(points, target, 3)?;
    let vectors = |v: &[f64]| -> Vec<Vector3<f64>> {
        v.chunks_exact(3).map(Vector3::from_column_slice).collect()
    };
    let (from, to) = (vectors(points), vectors(target));
    let n = from.len() as f64;
    let mean = |v: &[Vector3<f64>]| v.iter().sum::<Vector3<f64>>() / n;
    let (mean_from, mean_to) = (mean(&from), mean(&to));
    let mut covariance = Matrix3::zeros();
    let mut spread = 0.0;
    for (p, q) in from.iter().zip(&to) {
        covariance += (q - mean_to) * (p - mean_from).transpose() / n;
        spread += (p - mean_from).norm_squared() / n;
    }
    if spread <= 0.0 {
        return Err(Error::degenerate(
            "all points to be aligned coincide: no similarity moves them",
        ));
    }
    let svd = covariance.svd(true, true);
    let (Some(u), Some(v)) = (svd.u, svd.v_t) else {
        return Err(Error::degenerate("no similarity alignment was found"));
    };
    let mut signs = Vector3::new(1.0, 1.0, 1.0);
    if (u * v).determinant() < 0.0 {
        // The least singular value carries the reflection; nalgebra sorts them in descending order.
        signs[2] = -1.0;
    }
    let rotation = u * Matrix3::from_diagonal(&signs) * v;
    let scale = svd.singular_values.component_mul(&signs).sum() / spread;
    let moved = from
        .iter()
        .map(|p| scale * (rotation * (p - mean_from)) + mean_to);
    Ok(moved.flat_map(|p| [p.x, p.y, p.z]).collect())
}

fn check(predicted: &[f64], truth: &[f64], dim: usize) -> Result<()> {
    if truth.is_empty() || predicted.len() != truth.len() || !truth.len().is_multiple_of(dim) {
        return Err(Error::shape(format!(
            "{} predicted and {} true coordinates of {dim} a point",
            predicted.len(),
            truth.len()
        )));
    }
    match predicted
        .iter()
        .zip(truth)
        .position(|(p, t)| !(p.is_finite() && t.is_finite()))
    {
        Some(at) => {
            Err(Error::value("a coordinate is NaN or infinite")
                .record(format!("point {}", at / dim)))
        }
        None => Ok(()),
    }
}

/// sqrt(w h) of the box around x and y.
fn box_size(points: &[f64], dim: usize) -> Result<f64> {
    let side = |axis: usize| {
        let values = points.iter().skip(axis).step_by(dim);
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |r, &v| {
            (r.0.min(v), r.1.max(v))
        });
        high - low
    };
    let size = (side(0) * side(1)).sqrt();
    if size > 0.0 {
        Ok(size)
    } else {
        Err(Error::degenerate(
            "the true points span no box: nothing to divide by",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cloud() -> Vec<f64> {
        (0..60u32)
            .map(|i| f64::from(i.wrapping_mul(2_654_435_761) >> 8) / f64::from(1u32 << 24))
            .collect()
    }

    #[test]
    fn a_similar_shape_has_no_reconstruction_error() {
        let truth = cloud();
        let (sin, cos) = 0.7f64.sin_cos();
        let moved: Vec<f64> = truth
            .chunks(3)
            .flat_map(|p| {
                let (x, y) = (cos * p[0] - sin * p[1], sin * p[0] + cos * p[1]);
                [2.0 * x + 5.0, 2.0 * y - 1.0, 2.0 * p[2] + 3.0]
            })
            .collect();
        let corners = [[0.0; 3], [1.0, 0.0, 0.0]];
        let found = Reconstruction::new(&moved, &truth, corners).unwrap();
        assert!(found.0 < 1e-12, "{found:?}");
        // A mirror image is not a similar shape.
        let mirrored: Vec<f64> = truth
            .iter()
            .enumerate()
            .map(|(i, v)| if i % 3 == 0 { -v } else { *v })
            .collect();
        assert!(Reconstruction::new(&mirrored, &truth, corners).unwrap().0 > 0.05);
        assert!(Dense3d::new(&moved, &truth).unwrap().0 > 1.0);
        // Depth is centred: a shift along z alone is no error.
        let deeper: Vec<f64> = truth
            .iter()
            .enumerate()
            .map(|(i, v)| if i % 3 == 2 { v + 9.0 } else { *v })
            .collect();
        assert!(Dense3d::new(&deeper, &truth).unwrap().0 < 1e-12);
    }

    #[test]
    fn yaw_bins_count_the_same() {
        let errors = [0.01, 0.03, 0.06, 0.06].map(Sparse2d);
        let found = Sparse2d::by_yaw(&errors, &[-30.0, 60.0, 61.0, -90.0]).unwrap();
        assert_eq!(found.counts, [1, 1, 2]);
        assert!((found.mean_of_bins - 0.1 / 3.0).abs() < 1e-15);
        assert!((found.mean_of_images - 0.04).abs() < 1e-15);
        let line = Sparse2d::by_yaw(&errors, &[0.0, 10.0, 20.0, 70.0])
            .unwrap_err()
            .to_string();
        assert!(line.contains("(30, 60]"), "{line}");
        assert!(Sparse2d::by_yaw(&errors, &[0.0, 10.0, 20.0, 99.0]).is_err());
    }

    #[test]
    fn bad_input_is_one_line() {
        assert!(Sparse2d::new(&[1.0, 2.0], &[1.0, 2.0]).is_err());
        assert!(Sparse2d::new(&[], &[]).is_err());
        assert!(Dense3d::new(&[f64::NAN; 3], &[1.0; 3]).is_err());
        let same = vec![1.0; 9];
        assert!(similarity_align(&same, &cloud()[..9]).is_err());
        assert!(Reconstruction::new(&same, &same, [[0.0; 3]; 2]).is_err());
    }
}
