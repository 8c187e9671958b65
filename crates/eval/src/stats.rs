//! Mean, spread and interval of a few repeated runs.

use serde::Serialize;

/// Summary of repeated values, for example one metric over several seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Number of values.
    pub n: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation with n - 1; `None` for a single value.
    pub sd: Option<f64>,
    /// Student's t interval of the mean at 95 %: mean -+ t(0.975, n - 1) sd / sqrt(n); `None` for a single value.
    pub ci95: Option<[f64; 2]>,
}

/// Mean, sd (n - 1) and 95 % t interval; `None` when there is no value or one is not finite.
///
/// ```
/// let s = phiz_eval::mean_sd_ci95(&[0.90, 0.92, 0.94]).expect("three values");
/// assert!((s.mean - 0.92).abs() < 1e-12);
/// let [low, high] = s.ci95.expect("more than one value");
/// assert!((high - low - 2.0 * 4.302_652_73 * 0.02 / 3f64.sqrt()).abs() < 1e-8);
/// ```
pub fn mean_sd_ci95(values: &[f64]) -> Option<Summary> {
    if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n as f64;
    if n == 1 {
        return Some(Summary {
            n,
            mean,
            sd: None,
            ci95: None,
        });
    }
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    let sd = (squares / (n - 1) as f64).sqrt();
    let half = t_quantile(0.975, n - 1) * sd / (n as f64).sqrt();
    Some(Summary {
        n,
        mean,
        sd: Some(sd),
        ci95: Some([mean - half, mean + half]),
    })
}

/// The quantile of Student's t distribution with `df` degrees of freedom, for 0.5 < p < 1.
fn t_quantile(p: f64, df: usize) -> f64 {
    let (mut low, mut high) = (0.0, 2.0);
    while t_cdf(high, df) < p {
        high *= 2.0;
    }
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if t_cdf(middle, df) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The distribution function for t >= 0 and whole degrees of freedom, a finite sum (Abramowitz and Stegun 26.7.3, 26.7.4).
fn t_cdf(t: f64, df: usize) -> f64 {
    let theta = (t / (df as f64).sqrt()).atan();
    let (sine, cosine) = theta.sin_cos();
    let inside = if df % 2 == 1 {
        let (mut term, mut sum) = (cosine, 0.0);
        for k in (1..df).step_by(2) {
            sum += term;
            term *= cosine * cosine * (k + 1) as f64 / (k + 2) as f64;
        }
        std::f64::consts::FRAC_2_PI * (theta + sine * sum)
    } else {
        let (mut term, mut sum) = (1.0, 0.0);
        for k in (0..df).step_by(2) {
            sum += term;
            term *= cosine * cosine * (k + 1) as f64 / (k + 2) as f64;
        }
        sine * sum
    };
    0.5 + 0.5 * inside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_equal_the_tables() {
        // Fisher and Yates, table III; 1.959964 is the normal limit.
        for (df, value) in [
            (1, 12.706_205),
            (2, 4.302_653),
            (4, 2.776_445),
            (9, 2.262_157),
            (30, 2.042_272),
            (100_000, 1.959_988),
        ] {
            assert!((t_quantile(0.975, df) - value).abs() < 1e-6, "{df}");
        }
    }

    #[test]
    fn few_or_bad_values() {
        assert!(mean_sd_ci95(&[]).is_none());
        assert!(mean_sd_ci95(&[1.0, f64::NAN]).is_none());
        let one = mean_sd_ci95(&[0.5]).unwrap();
        assert_eq!((one.mean, one.sd, one.ci95), (0.5, None, None));
    }
}
