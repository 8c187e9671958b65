//! What is said about a handful of times: median and spread, means of ratios, growth with size.

use serde::Serialize;

/// Order statistics of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Middle value; between two middle ones, their mean.
    pub median: f64,
    /// Smallest value.
    pub min: f64,
    /// First quartile, interpolated linearly between neighbours (NumPy's default).
    pub lower: f64,
    /// Third quartile, likewise.
    pub upper: f64,
    /// How many values there are.
    pub count: usize,
}

/// Order statistics of `sample`; `None` when it is empty or holds a NaN.
pub fn spread(sample: &[f64]) -> Option<Spread> {
    let mut sorted = sample.to_vec();
    if sorted.iter().any(|value| value.is_nan()) {
        return None;
    }
    sorted.sort_by(f64::total_cmp);
    Some(Spread {
        median: quantile(&sorted, 0.5)?,
        min: *sorted.first()?,
        lower: quantile(&sorted, 0.25)?,
        upper: quantile(&sorted, 0.75)?,
        count: sorted.len(),
    })
}

fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = q * last as f64;
    let below = at.floor() as usize;
    let (low, high) = (*sorted.get(below)?, *sorted.get((below + 1).min(last))?);
    Some(low + (high - low) * (at - below as f64))
}

/// `(x1 x2 ... xn)^(1/n)`: the mean that treats twice as fast and half as fast as opposites. `None`
/// when there is no value or one is not a positive number.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    let fits = values.iter().all(|value| *value > 0. && value.is_finite());
    if values.is_empty() || !fits {
        return None;
    }
    let logs: f64 = values.iter().map(|value| value.ln()).sum();
    Some((logs / values.len() as f64).exp())
}

/// The exponent `e` of `time = c * size^e` by least squares over the logarithms. `None` with fewer
/// than two different sizes, or when a number is not positive.
pub fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let positive = |value: f64| value > 0. && value.is_finite();
    if !points.iter().all(|(x, y)| positive(*x) && positive(*y)) {
        return None;
    }
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let n = logs.len() as f64;
    let mean_x = logs.iter().map(|p| p.0).sum::<f64>() / n;
    let mean_y = logs.iter().map(|p| p.1).sum::<f64>() / n;
    let across: f64 = logs.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum();
    let along: f64 = logs.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
    (along > 1e-12).then(|| across / along)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_that_of_numpy() {
        // numpy.percentile([7, 1, 3, 10], [25, 50, 75]) = [2.5, 5.0, 7.75]
        let s = spread(&[7., 1., 3., 10.]).unwrap();
        assert_eq!(
            (s.min, s.lower, s.median, s.upper, s.count),
            (1., 2.5, 5., 7.75, 4)
        );
        let one = spread(&[2.]).unwrap();
        assert_eq!(
            (one.min, one.lower, one.median, one.upper),
            (2., 2., 2., 2.)
        );
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[1., f64::NAN]), None);
    }

    #[test]
    fn twice_and_half_cancel() {
        assert!((geometric_mean(&[2., 0.5]).unwrap() - 1.).abs() < 1e-15);
        assert!((geometric_mean(&[1., 10., 100.]).unwrap() - 10.).abs() < 1e-12);
        for bad in [&[][..], &[1., 0.], &[1., -2.], &[f64::INFINITY]] {
            assert_eq!(geometric_mean(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn exponent_of_a_power_is_its_power() {
        let points: Vec<(f64, f64)> = [512., 1024., 2048.]
            .iter()
            .map(|b: &f64| (*b, 3e-9 * b.powf(2.1)))
            .collect();
        assert!((exponent(&points).unwrap() - 2.1).abs() < 1e-12);
        assert_eq!(exponent(&[(512., 1.)]), None);
        assert_eq!(exponent(&[(512., 1.), (512., 2.)]), None);
        assert_eq!(exponent(&[(512., 1.), (1024., 0.)]), None);
    }
}
