//! Mean, spread and interval of a few repeated runs; the normal distribution.

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

/// The standard normal distribution function, to about 1e-15 relative error in the lower tail.
///
/// From erfc: the series of Abramowitz and Stegun 7.1.6 near 0, all of whose terms have one sign, and the continued
/// fraction 7.1.14 in the tail.
pub fn normal_cdf(z: f64) -> f64 {
    if z.is_nan() {
        return f64::NAN;
    }
    let x = z.abs() / std::f64::consts::SQRT_2;
    let tail = 0.5 * erfc_positive(x);
    if z < 0.0 { tail } else { 1.0 - tail }
}

/// erfc(x) for x >= 0.
fn erfc_positive(x: f64) -> f64 {
    let root_pi = std::f64::consts::PI.sqrt();
    if x > 27.0 {
        return 0.0;
    }
    if x < 2.0 {
        let (mut term, mut sum, mut n) = (x, 0.0, 0.0);
        while term > 1e-18 * sum {
            sum += term;
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
        }
        return 1.0 - 2.0 / root_pi * (-x * x).exp() * sum;
    }
    // x + (1/2)/(x + (2/2)/(x + (3/2)/(x + ...))), from the inside out.
    let mut fraction = x;
    for k in (1..=120).rev() {
        fraction = x + 0.5 * f64::from(k) / fraction;
    }
    (-x * x).exp() / (root_pi * fraction)
}

/// The standard normal quantile for 0 < p < 1; NaN elsewhere.
///
/// ```
/// assert!((phiz_eval::normal_quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-12);
/// ```
pub fn normal_quantile(p: f64) -> f64 {
    if !(p > 0.0 && p < 1.0) {
        return f64::NAN;
    }
    let (mut low, mut high) = (-38.0, 38.0);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        // The upper half by symmetry: 1 - tail would lose the digits.
        let too_low = if middle > 0.0 {
            normal_cdf(-middle) > 1.0 - p
        } else {
            normal_cdf(middle) < p
        };
        if too_low {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
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
    fn normal_distribution_equals_the_tables() {
        // scipy.stats.norm.cdf
        for (z, p) in [
            (0.0, 0.5),
            (-1.0, 0.158_655_253_931_457_05),
            (1.0, 0.841_344_746_068_542_9),
            (-2.7, 0.003_466_973_803_040_672),
            (-3.0, 0.001_349_898_031_630_094_6),
            (-6.0, 9.865_876_450_376_98e-10),
            (-20.0, 2.753_624_118_606_233_5e-89),
        ] {
            assert!(
                (normal_cdf(z) / p - 1.0).abs() < 1e-12,
                "{z}: {}",
                normal_cdf(z)
            );
            assert!(
                (normal_quantile(p) - z).abs() < 1e-9,
                "{p}: {}",
                normal_quantile(p)
            );
        }
        assert!(normal_quantile(0.0).is_nan() && normal_quantile(1.0).is_nan());
        assert_eq!(normal_cdf(40.0), 1.0);
    }

    #[test]
    fn few_or_bad_values() {
        assert!(mean_sd_ci95(&[]).is_none());
        assert!(mean_sd_ci95(&[1.0, f64::NAN]).is_none());
        let one = mean_sd_ci95(&[0.5]).unwrap();
        assert_eq!((one.mean, one.sd, one.ci95), (0.5, None, None));
    }
}
