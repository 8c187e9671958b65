//! DeLong's variance of the AUC, and his test of two AUCs on the same pairs.
//!
//! For genuine scores x_1..x_m and impostor scores y_1..y_n, psi(x, y) = 1, 1/2 or 0 as x is above, equal to or below y:
//!
//! ```text
//! V10_i = mean_j psi(x_i, y_j)        V01_j = mean_i psi(x_i, y_j)        AUC = mean V10 = mean V01
//! cov(AUC_a, AUC_b) = cov(V10_a, V10_b) / m + cov(V01_a, V01_b) / n       (covariances with n - 1)
//! ```
//!
//! (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988), computed from midranks in O(n log n) (Sun and Xu, IEEE
//! Signal Processing Letters 21, 2014).
//!
//! The formula takes scores to be independent. That holds for the scores of a classifier on independent people; it does
//! **not** hold for pairs that share people, where the interval comes out too narrow: use
//! [`paired_verification`](crate::paired_verification), which draws identities, and read this one beside it.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::stats::{normal_cdf, normal_quantile};

/// An AUC with its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DeLong {
    /// Area under the curve.
    pub auc: f64,
    /// Square root of DeLong's variance.
    pub standard_error: f64,
    /// AUC -+ z standard errors, cut to [0, 1].
    pub interval: [f64; 2],
}

/// Two AUCs on the same pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DeLongTest {
    /// AUC of the first run.
    pub a: f64,
    /// AUC of the second run.
    pub b: f64,
    /// a - b.
    pub difference: f64,
    /// Standard error of the difference, covariance taken into account.
    pub standard_error: f64,
    /// Difference -+ z standard errors.
    pub interval: [f64; 2],
    /// Difference over standard error; `None` when the standard error is 0.
    pub z: Option<f64>,
    /// Two-sided p-value of "no difference" from the normal distribution; 1 for two runs that order all pairs alike.
    pub p_value: Option<f64>,
}

/// AUC, standard error and interval of `level` (0.95) from one score a pair; `same` marks the genuine ones.
///
/// ```
/// let scores = [0.9, 0.8, 0.4, 0.5, 0.3, 0.2];
/// let same = [true, true, true, false, false, false];
/// let found = phiz_eval::delong(&scores, &same, 0.95)?;
/// assert!((found.auc - 8.0 / 9.0).abs() < 1e-15);
/// # Ok::<(), phiz_eval::Error>(())
/// ```
///
/// # Errors
/// When the lengths differ, a score is not finite, or there are fewer than two genuine or two impostor pairs.
pub fn delong(scores: &[f64], same: &[bool], level: f64) -> Result<DeLong> {
    let one = Components::new(scores, same)?;
    let variance = covariance(&one, &one);
    let half = normal_quantile(0.5 + 0.5 * check_level(level)?) * variance.sqrt();
    Ok(DeLong {
        auc: one.auc,
        standard_error: variance.sqrt(),
        interval: [(one.auc - half).max(0.0), (one.auc + half).min(1.0)],
    })
}

/// Compares the AUCs of two runs that scored the same pairs in the same order.
///
/// # Errors
/// As [`delong`].
pub fn delong_test(
    scores_a: &[f64],
    scores_b: &[f64],
    same: &[bool],
    level: f64,
) -> Result<DeLongTest> {
    let z_level = normal_quantile(0.5 + 0.5 * check_level(level)?);
    let (a, b) = (
        Components::new(scores_a, same)?,
        Components::new(scores_b, same)?,
    );
    // The components of the difference, so that two equal runs have a variance of exactly 0.
    let minus = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x - y).collect::<Vec<f64>>();
    let both = Components {
        auc: a.auc - b.auc,
        genuine: minus(&a.genuine, &b.genuine),
        impostor: minus(&a.impostor, &b.impostor),
    };
    let standard_error = covariance(&both, &both).sqrt();
    let difference = a.auc - b.auc;
    let z = (standard_error > 0.0).then(|| difference / standard_error);
    let p_value = match z {
        Some(z) => Some(2.0 * normal_cdf(-z.abs())),
        None if difference == 0.0 => Some(1.0),
        None => None,
    };
    let half = z_level * standard_error;
    Ok(DeLongTest {
        a: a.auc,
        b: b.auc,
        difference,
        standard_error,
        interval: [difference - half, difference + half],
        z,
        p_value,
    })
}

fn check_level(level: f64) -> Result<f64> {
    if level > 0.0 && level < 1.0 {
        Ok(level)
    } else {
        Err(Error::usage(format!(
            "a level lies between 0 and 1, got {level}"
        )))
    }
}

/// V10 in the order of the genuine pairs and V01 in that of the impostor pairs.
struct Components {
    auc: f64,
    genuine: Vec<f64>,
    impostor: Vec<f64>,
}

impl Components {
    fn new(scores: &[f64], same: &[bool]) -> Result<Self> {
        if scores.len() != same.len() {
            return Err(Error::shape(format!(
                "{} scores for {} pairs",
                scores.len(),
                same.len()
            )));
        }
        if let Some(at) = scores.iter().position(|s| !s.is_finite()) {
            return Err(Error::value("a score is NaN or infinite").record(format!("pair {at}")));
        }
        let of = |wanted: bool| -> Vec<f64> {
            let chosen = scores.iter().zip(same).filter(|(_, s)| **s == wanted);
            chosen.map(|(score, _)| *score).collect()
        };
        let (x, y) = (of(true), of(false));
        for (name, count) in [("genuine", x.len()), ("impostor", y.len())] {
            if count < 2 {
                return Err(Error::degenerate(format!(
                    "DeLong's variance needs at least two {name} pairs, there are {count}"
                )));
            }
        }
        let (m, n) = (x.len() as f64, y.len() as f64);
        let among_impostors = counts_below(&x, &y);
        let among_genuine = counts_below(&y, &x);
        let genuine: Vec<f64> = among_impostors.iter().map(|c| c / n).collect();
        let impostor: Vec<f64> = among_genuine.iter().map(|c| 1.0 - c / m).collect();
        Ok(Self {
            // Halves sum exactly, so the area is exact up to the last division.
            auc: among_impostors.iter().sum::<f64>() / (m * n),
            genuine,
            impostor,
        })
    }
}

/// For each of `of`: how many of `among` are below it, equal ones counting half.
fn counts_below(of: &[f64], among: &[f64]) -> Vec<f64> {
    let mut sorted = among.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    of.iter()
        .map(|v| {
            let below = sorted.partition_point(|s| s < v);
            let up_to = sorted.partition_point(|s| s <= v);
            (below + up_to) as f64 / 2.0
        })
        .collect()
}

fn covariance(a: &Components, b: &Components) -> f64 {
    sample_covariance(&a.genuine, &b.genuine) / a.genuine.len() as f64
        + sample_covariance(&a.impostor, &b.impostor) / a.impostor.len() as f64
}

fn sample_covariance(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let products = a.iter().zip(b).map(|(x, y)| (x - mean_a) * (y - mean_b));
    products.sum::<f64>() / (n - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_runs_and_monotone_maps() {
        let scores = [0.1, 0.4, 0.35, 0.8, 0.5, 0.7, 0.2, 0.9];
        let same = [false, false, true, true, false, true, false, true];
        let mapped: Vec<f64> = scores.iter().map(|s| 3.0 * s * s * s - 7.0).collect();
        let found = delong_test(&scores, &mapped, &same, 0.95).unwrap();
        assert_eq!((found.difference, found.standard_error), (0.0, 0.0));
        assert_eq!((found.z, found.p_value), (None, Some(1.0)));
    }

    #[test]
    fn perfect_and_reversed_have_no_variance() {
        let scores = [0.9, 0.8, 0.2, 0.1];
        let found = delong(&scores, &[true, true, false, false], 0.95).unwrap();
        assert_eq!((found.auc, found.interval), (1.0, [1.0, 1.0]));
        let found = delong(&scores, &[false, false, true, true], 0.95).unwrap();
        assert_eq!((found.auc, found.interval), (0.0, [0.0, 0.0]));
    }

    #[test]
    fn bad_input_is_one_line() {
        for (scores, same, words) in [
            (vec![0.1, 0.2], vec![true], "2 scores for 1 pairs"),
            (vec![0.1, 0.2, 0.3], vec![true, false, false], "two genuine"),
            (
                vec![f64::NAN, 0.2, 0.3, 0.4],
                vec![true, true, false, false],
                "pair 0",
            ),
        ] {
            let line = delong(&scores, &same, 0.95).unwrap_err().to_string();
            assert!(line.contains(words) && !line.contains('\n'), "{line}");
        }
        assert!(delong(&[0.1, 0.2, 0.3, 0.4], &[true, true, false, false], 1.0).is_err());
    }
}
