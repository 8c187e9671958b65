//! How far a predicted number is from the true one: action-unit intensity, valence and arousal, pose angles.
//!
//! For predictions x and truths y, means m, variances s^2 and covariance s_xy with divisor n:
//!
//! ```text
//! MSE = mean (x - y)^2      MAE = mean |x - y|      RMSE = sqrt(MSE)      SAGR = share of sign(x) = sign(y)
//! PCC = s_xy / (s_x s_y)    CCC = 2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2)
//! ICC(3,1) = (BMS - EMS) / (BMS + EMS) = 2 s_xy / (s_x^2 + s_y^2)         for two raters
//! ```
//!
//! sign(0) = 0 is a class of its own in SAGR. ICC(3,1) is Shrout and Fleiss' consistency of single fixed raters (1979);
//! [`icc_3_1`] takes any number of them. A figure whose denominator is 0 (a constant prediction and a constant truth) is
//! missing, never 0 and never NaN.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bootstrap::{BootstrapConfig, intervals};
use crate::error::{Error, Result};
use crate::paired::codes_or_rows;

/// Figures of one predicted number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Regression {
    /// Samples.
    pub samples: usize,
    /// Mean squared error.
    pub mse: f64,
    /// Mean absolute error.
    pub mae: f64,
    /// Square root of the mean squared error.
    pub rmse: f64,
    /// Share of equal signs.
    pub sagr: f64,
    /// Pearson's correlation; missing when predictions or truths are constant.
    pub pcc: Option<f64>,
    /// Lin's concordance correlation; missing when both are constant and equal.
    pub ccc: Option<f64>,
    /// ICC(3,1) of prediction and truth as two raters; missing when both are constant.
    pub icc: Option<f64>,
    /// Bootstrap intervals by metric name.
    pub intervals: BTreeMap<String, [f64; 2]>,
}

const NAMES: [&str; 7] = ["mse", "mae", "rmse", "sagr", "pcc", "ccc", "icc"];

impl Regression {
    /// Metric names to values, the defined ones: `mse`, `mae`, `rmse`, `sagr`, `pcc`, `ccc`, `icc`.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let values = [
            Some(self.mse),
            Some(self.mae),
            Some(self.rmse),
            Some(self.sagr),
            self.pcc,
            self.ccc,
            self.icc,
        ];
        let named = NAMES.iter().zip(values);
        named
            .filter_map(|(name, value)| Some(((*name).to_string(), value?)))
            .collect()
    }
}

/// Several predicted numbers, such as the intensities of several action units.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RegressionColumns {
    /// One for each column.
    pub columns: Vec<Regression>,
    /// The mean over columns of each metric, over those columns on which it is defined.
    pub mean: BTreeMap<String, f64>,
    /// How many columns each mean is over: fewer than there are where a column is constant.
    pub defined: BTreeMap<String, usize>,
}

/// Judges predictions of one number.
///
/// `clusters` are the identities that the bootstrap draws; without them every sample is drawn by itself.
///
/// ```
/// let judged = phiz_eval::regression(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0], None, None)?;
/// assert!((judged.mae - 1.0 / 3.0).abs() < 1e-15 && judged.sagr == 1.0);
/// # Ok::<(), phiz_eval::Error>(())
/// ```
///
/// # Errors
/// When the lengths differ, there is no sample, or a value is not finite.
pub fn regression(
    predicted: &[f64],
    truth: &[f64],
    clusters: Option<&[u32]>,
    bootstrap: Option<&BootstrapConfig>,
) -> Result<Regression> {
    let n = truth.len();
    if predicted.len() != n || clusters.is_some_and(|c| c.len() != n) {
        return Err(Error::shape(format!(
            "{} predictions and {} clusters for {n} true values",
            predicted.len(),
            clusters.map_or(n, <[u32]>::len)
        )));
    }
    if n == 0 {
        return Err(Error::degenerate("no sample to judge"));
    }
    for (what, values) in [("prediction", predicted), ("true value", truth)] {
        if let Some(row) = values.iter().position(|v| !v.is_finite()) {
            return Err(
                Error::value(format!("the {what} is NaN or infinite")).record(format!("row {row}"))
            );
        }
    }
    let (codes, count) = codes_or_rows(clusters, n);
    // Moments about the overall means lose no digits, and resamples are sums of them.
    let mean = |v: &[f64]| v.iter().sum::<f64>() / n as f64;
    let (origin_x, origin_y) = (mean(predicted), mean(truth));
    let mut parts = vec![Moments::default(); count];
    let mut whole = Moments::default();
    for ((&x, &y), &code) in predicted.iter().zip(truth).zip(&codes) {
        let one = Moments::of(x, y, origin_x, origin_y);
        whole.add(&one, 1.0);
        if let Some(part) = parts.get_mut(code as usize) {
            part.add(&one, 1.0);
        }
    }
    let scale = Scale {
        shift: origin_x - origin_y,
        least_x: least_variance(predicted, &whole, whole.xx),
        least_y: least_variance(truth, &whole, whole.yy),
    };
    let [mse, mae, rmse, sagr, pcc, ccc, icc] = whole.figures(&scale);
    let defined = |v: f64| v.is_finite().then_some(v);
    let mut out = Regression {
        samples: n,
        mse,
        mae,
        rmse,
        sagr,
        pcc: defined(pcc),
        ccc: defined(ccc),
        icc: defined(icc),
        intervals: BTreeMap::new(),
    };
    if let Some(config) = bootstrap {
        let found = intervals(count, config, |weights| {
            let mut sum = Moments::default();
            for (part, &w) in parts.iter().zip(weights) {
                sum.add(part, f64::from(w));
            }
            sum.figures(&scale).to_vec()
        });
        let metrics = out.metrics();
        out.intervals = NAMES
            .iter()
            .zip(found)
            .filter(|(name, _)| metrics.contains_key(**name))
            .filter_map(|(name, interval)| Some(((*name).to_string(), interval?)))
            .collect();
    }
    Ok(out)
}

/// Judges several columns, each over all rows, then takes the mean over columns.
///
/// `predicted` and `truth` are (N, `columns`) row by row.
///
/// # Errors
/// As [`regression`]; also when the values are no whole number of rows.
pub fn regression_columns(
    predicted: &[f64],
    truth: &[f64],
    columns: usize,
    clusters: Option<&[u32]>,
    bootstrap: Option<&BootstrapConfig>,
) -> Result<RegressionColumns> {
    if columns == 0 || predicted.len() != truth.len() || !truth.len().is_multiple_of(columns) {
        return Err(Error::shape(format!(
            "{} predictions and {} true values in rows of {columns}",
            predicted.len(),
            truth.len()
        )));
    }
    let column = |values: &[f64], c: usize| -> Vec<f64> {
        values.iter().skip(c).step_by(columns).copied().collect()
    };
    let judged = (0..columns)
        .map(|c| {
            let (x, y) = (column(predicted, c), column(truth, c));
            regression(&x, &y, clusters, bootstrap)
        })
        .collect::<Result<Vec<_>>>()?;
    let (mut mean, mut defined) = (BTreeMap::new(), BTreeMap::new());
    for one in &judged {
        for (name, value) in one.metrics() {
            *mean.entry(name.clone()).or_insert(0.0) += value;
            *defined.entry(name).or_insert(0usize) += 1;
        }
    }
    for (name, sum) in &mut mean {
        *sum /= defined.get(name).copied().unwrap_or(1) as f64;
    }
    Ok(RegressionColumns {
        columns: judged,
        mean,
        defined,
    })
}

/// ICC(3,1): consistency of single ratings by the same `raters`, for `ratings` (N, `raters`) row by row.
///
/// `None` when between and within variation are both 0.
///
/// # Errors
/// When there are fewer than two rows or raters, the ratings are no whole rows, or one is not finite.
pub fn icc_3_1(ratings: &[f64], raters: usize) -> Result<Option<f64>> {
    if raters < 2 || !ratings.len().is_multiple_of(raters) || ratings.len() < 2 * raters {
        return Err(Error::shape(format!(
            "ICC needs at least two rows of at least two ratings, got {} in rows of {raters}",
            ratings.len()
        )));
    }
    if let Some(at) = ratings.iter().position(|v| !v.is_finite()) {
        return Err(
            Error::value("a rating is NaN or infinite").record(format!("row {}", at / raters))
        );
    }
    let (k, n) = (raters as f64, (ratings.len() / raters) as f64);
    let grand = ratings.iter().sum::<f64>() / (n * k);
    let (mut between, mut within) = (0.0, 0.0);
    let mut columns = vec![0.0; raters];
    for row in ratings.chunks_exact(raters) {
        let mean = row.iter().sum::<f64>() / k;
        between += k * (mean - grand) * (mean - grand);
        for (sum, &v) in columns.iter_mut().zip(row) {
            within += (v - mean) * (v - mean);
            *sum += v;
        }
    }
    let rater: f64 = columns.iter().map(|s| n * (s / n - grand).powi(2)).sum();
    let bms = between / (n - 1.0);
    let ems = (within - rater).max(0.0) / ((n - 1.0) * (k - 1.0));
    let below = bms + (k - 1.0) * ems;
    let scale = ratings.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    Ok((below > 1e-28 * scale * scale).then(|| (bms - ems) / below))
}

/// Below this a resampled variance is rounding: 0 for constant values, else a tiny part of the whole one.
fn least_variance(values: &[f64], whole: &Moments, squares: f64) -> f64 {
    let constant = values.iter().all(|v| Some(v) == values.first());
    if constant {
        f64::INFINITY
    } else {
        1e-13 * squares / whole.n
    }
}

struct Scale {
    shift: f64,
    least_x: f64,
    least_y: f64,
}

/// Weighted sums about fixed origins.
#[derive(Debug, Clone, Default)]
struct Moments {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    yy: f64,
    xy: f64,
    square: f64,
    absolute: f64,
    signs: f64,
}

impl Moments {
    fn of(x: f64, y: f64, origin_x: f64, origin_y: f64) -> Self {
        let sign = |v: f64| i8::from(v > 0.0) - i8::from(v < 0.0);
        let (dx, dy) = (x - origin_x, y - origin_y);
        Self {
            n: 1.0,
            x: dx,
            y: dy,
            xx: dx * dx,
            yy: dy * dy,
            xy: dx * dy,
            square: (x - y) * (x - y),
            absolute: (x - y).abs(),
            signs: f64::from(u8::from(sign(x) == sign(y))),
        }
    }

    fn add(&mut self, other: &Self, weight: f64) {
        self.n += weight * other.n;
        self.x += weight * other.x;
        self.y += weight * other.y;
        self.xx += weight * other.xx;
        self.yy += weight * other.yy;
        self.xy += weight * other.xy;
        self.square += weight * other.square;
        self.absolute += weight * other.absolute;
        self.signs += weight * other.signs;
    }

    /// In the order of [`NAMES`]; NaN where undefined.
    fn figures(&self, scale: &Scale) -> [f64; 7] {
        let n = self.n;
        let (mx, my) = (self.x / n, self.y / n);
        let settled = |variance: f64, least: f64| if variance > least { variance } else { 0.0 };
        let vx = settled(self.xx / n - mx * mx, scale.least_x);
        let vy = settled(self.yy / n - my * my, scale.least_y);
        let covariance = if vx > 0.0 && vy > 0.0 {
            self.xy / n - mx * my
        } else {
            0.0
        };
        let apart = scale.shift + mx - my;
        let ratio = |above: f64, below: f64| {
            if below > 0.0 { above / below } else { f64::NAN }
        };
        [
            self.square / n,
            self.absolute / n,
            (self.square / n).sqrt(),
            self.signs / n,
            ratio(covariance, (vx * vy).sqrt()).clamp(-1.0, 1.0),
            ratio(2.0 * covariance, vx + vy + apart * apart),
            ratio(2.0 * covariance, vx + vy),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perfect_reversed_and_constant() {
        let truth = [-1.0, 0.0, 2.0, 5.0];
        let perfect = regression(&truth, &truth, None, None).unwrap();
        assert_eq!((perfect.mse, perfect.mae, perfect.sagr), (0.0, 0.0, 1.0));
        for figure in [perfect.pcc, perfect.ccc, perfect.icc] {
            assert!((figure.unwrap() - 1.0).abs() < 1e-12);
        }
        let reversed: Vec<f64> = truth.iter().map(|v| -v).collect();
        let reversed = regression(&reversed, &truth, None, None).unwrap();
        assert!((reversed.pcc.unwrap() + 1.0).abs() < 1e-12 && reversed.sagr == 0.25);
        let constant = regression(&[0.1; 4], &truth, None, None).unwrap();
        assert_eq!(
            (constant.pcc, constant.ccc, constant.icc),
            (None, Some(0.0), Some(0.0))
        );
        let nothing = regression(&[0.1; 4], &[0.1; 4], None, None).unwrap();
        assert_eq!((nothing.pcc, nothing.ccc, nothing.icc), (None, None, None));
        assert_eq!(nothing.metrics().len(), 4);
        assert_eq!(icc_3_1(&[0.1; 8], 2).unwrap(), None);
    }

    #[test]
    fn columns_average_over_what_is_defined() {
        let truth = [1.0, 0.0, 2.0, 0.0, 3.0, 0.0];
        let predicted = [1.0, 0.0, 2.5, 0.0, 2.0, 0.0];
        let out = regression_columns(&predicted, &truth, 2, None, None).unwrap();
        assert_eq!((out.defined["pcc"], out.defined["mae"]), (1, 2));
        assert_eq!(out.mean["mae"], 0.25);
        assert_eq!(out.mean["pcc"], out.columns[0].pcc.unwrap());
    }

    #[test]
    fn bad_input_is_one_line() {
        for (error, words) in [
            (regression(&[], &[], None, None).unwrap_err(), "no sample"),
            (
                regression(&[1.0], &[1.0, 2.0], None, None).unwrap_err(),
                "1 predictions",
            ),
            (
                regression(&[1.0, f64::NAN], &[1.0, 2.0], None, None).unwrap_err(),
                "row 1: the prediction is NaN",
            ),
            (icc_3_1(&[1.0, 2.0], 2).unwrap_err(), "two rows"),
            (
                regression_columns(&[1.0; 3], &[1.0; 3], 2, None, None).unwrap_err(),
                "rows of 2",
            ),
        ] {
            let line = error.to_string();
            assert!(line.contains(words) && !line.contains('\n'), "{line}");
        }
    }
}
