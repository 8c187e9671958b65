//! What a task asks of the data: name, shape, unit and range of its target, and the coordinates heads use.

use candle::{Result, Tensor};

/// What a task asks of a column of targets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contract {
    /// Name of the column.
    pub column: &'static str,
    /// Numbers of one row's last dimension: 2 for (x, y), 3 for (x, y, z), 1 for a plain number.
    pub width: usize,
    /// Rows of one sample, where it is fixed: 68 landmarks.
    pub count: Option<usize>,
    /// Least value, where there is one.
    pub least: Option<f32>,
    /// Largest value, where there is one.
    pub most: Option<f32>,
    /// Whether NaN may stand for unknown.
    pub unknown: bool,
}

/// 68 points (x, y) in 300-W order, pixels of the image as it is stored, the centre of the first pixel at (0, 0).
pub const LANDMARKS: Contract = Contract {
    column: "landmarks",
    width: 2,
    count: Some(68),
    least: None,
    most: None,
    unknown: false,
};

/// The 68 points with depth: x and y as in [`LANDMARKS`], z in pixels of the same scale, away from the camera, 0 at
/// the middle of the head.
pub const POINTS_3D: Contract = Contract {
    column: "points3d",
    width: 3,
    ..LANDMARKS
};

/// Vertices of a mesh whose numbering is the same for every sample; units as in [`POINTS_3D`].
pub const VERTICES: Contract = Contract {
    column: "vertices",
    width: 3,
    count: None,
    ..LANDMARKS
};

/// Intensities of action units on the scale of FACS, 0 absent to 5 maximum; NaN where a unit was not coded.
pub const ACTION_UNITS: Contract = Contract {
    column: "action_units",
    width: 1,
    count: None,
    least: Some(0.),
    most: Some(5.),
    unknown: true,
};

/// Valence and arousal, each -1 to 1; NaN where unknown.
pub const VALENCE_AROUSAL: Contract = Contract {
    column: "valence_arousal",
    width: 1,
    count: Some(2),
    least: Some(-1.),
    most: Some(1.),
    unknown: true,
};

impl Contract {
    /// Checks the numbers of one sample.
    ///
    /// # Errors
    /// Says what was found and what was expected: another count, a number outside the range, NaN where nothing may be
    /// unknown.
    pub fn check(&self, row: &[f32]) -> Result<()> {
        let column = self.column;
        let whole = row.len().is_multiple_of(self.width) && !row.is_empty();
        let found = row.len() / self.width;
        if !whole || self.count.is_some_and(|count| count != found) {
            let what = self.count.map_or("some".into(), |c| c.to_string());
            candle::bail!(
                "{column}: {} numbers, expected {what} rows of {}",
                row.len(),
                self.width
            )
        }
        for (i, &value) in row.iter().enumerate() {
            if value.is_nan() && self.unknown {
                continue;
            }
            let low = self.least.is_some_and(|least| value < least);
            let high = self.most.is_some_and(|most| value > most);
            if low || high {
                candle::bail!(
                    "{column}: number {i} is {value}, expected {} to {}",
                    self.least.unwrap_or(f32::NEG_INFINITY),
                    self.most.unwrap_or(f32::INFINITY)
                )
            }
            if !value.is_finite() {
                candle::bail!("{column}: number {i} is {value}, expected a finite one")
            }
        }
        Ok(())
    }
}

/// From pixels to parts of the image: (p + 0.5) / side - 0.5 along x and y, so that the image is -0.5 to 0.5 and its
/// middle 0; depth is divided by the side alone.
///
/// # Shapes
/// `points` (..., 2) or (..., 3); `side` in pixels; the result has the shape of `points`.
///
/// # Errors
/// When the last dimension is neither 2 nor 3, or the side is 0.
pub fn unit_points(points: &Tensor, side: usize) -> Result<Tensor> {
    let shift = shift(points, side)?;
    (points / side as f64)?.broadcast_add(&shift)
}

/// The inverse of [`unit_points`].
///
/// # Errors
/// As there.
pub fn image_points(points: &Tensor, side: usize) -> Result<Tensor> {
    let shift = shift(points, side)?;
    points.broadcast_sub(&shift)? * side as f64
}

/// 0.5 / side - 0.5 for x and y, 0 for depth.
fn shift(points: &Tensor, side: usize) -> Result<Tensor> {
    let dims = points.dims();
    let width = dims.last().copied().unwrap_or(0);
    if !(2..=3).contains(&width) || side == 0 {
        candle::bail!(
            "points must be (..., 2) or (..., 3) on a side above 0, got {dims:?} on {side}"
        )
    }
    let by = 0.5 / side as f64 - 0.5;
    let shift: Vec<f64> = [by, by, 0.].into_iter().take(width).collect();
    Tensor::from_vec(shift, width, points.device())?.to_dtype(points.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::Device;

    #[test]
    fn what_is_malformed_is_named() {
        // candle may add a backtrace below the message.
        let line = |contract: Contract, row: &[f32]| {
            let message = contract.check(row).unwrap_err().to_string();
            message.lines().next().unwrap_or_default().to_string()
        };
        assert!(LANDMARKS.check(&[1.0; 136]).is_ok());
        assert_eq!(
            line(LANDMARKS, &[1.0; 134]),
            "landmarks: 134 numbers, expected 68 rows of 2"
        );
        assert_eq!(
            line(ACTION_UNITS, &[0., 7.]),
            "action_units: number 1 is 7, expected 0 to 5"
        );
        assert_eq!(
            line(VALENCE_AROUSAL, &[3., 0.]),
            "valence_arousal: number 0 is 3, expected -1 to 1"
        );
        assert!(ACTION_UNITS.check(&[f32::NAN, 5.]).is_ok());
        let mut points = [1.0; 136];
        points[5] = f32::NAN;
        assert!(line(LANDMARKS, &points).contains("number 5 is NaN"));
    }

    #[test]
    fn parts_of_the_image() -> Result<()> {
        let pixels = Tensor::new(&[[0f64, 63., 10.], [31.5, 31.5, 0.]], &Device::Cpu)?;
        let unit = unit_points(&pixels, 64)?;
        let want = [[-0.4921875, 0.4921875, 0.15625], [0., 0., 0.]];
        assert_eq!(unit.to_vec2::<f64>()?, want);
        let back = image_points(&unit, 64)?;
        let apart = (back - pixels)?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(apart < 1e-12);
        assert!(unit_points(&Tensor::new(&[1f64], &Device::Cpu)?, 64).is_err());
        Ok(())
    }
}
