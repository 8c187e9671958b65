//! Minimising a smooth function by L-BFGS with a line search that satisfies the weak Wolfe conditions.

use std::collections::VecDeque;

/// Pairs of steps and gradient changes that are remembered.
const MEMORY: usize = 12;
/// Most halvings and doublings of one line search.
const SEARCH: usize = 50;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Moves `x` to where the largest entry of the gradient is at most `tolerance`, or as far as `iterations` go; returns the
/// number of iterations. `f(x, gradient)` fills the gradient and returns the value.
///
/// (Liu and Nocedal 1989; the bracketing search is that of Lewis and Overton 2013.)
pub(crate) fn minimise(
    x: &mut Vec<f64>,
    tolerance: f64,
    iterations: usize,
    mut f: impl FnMut(&[f64], &mut [f64]) -> f64,
) -> usize {
    let n = x.len();
    let mut gradient = vec![0.0; n];
    let mut value = f(x, &mut gradient);
    let mut history: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::new();
    for iteration in 0..iterations {
        if gradient.iter().all(|g| g.abs() <= tolerance) {
            return iteration;
        }
        let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let mut alphas = Vec::with_capacity(history.len());
        for (s, y, rho) in history.iter().rev() {
            let alpha = rho * dot(s, &direction);
            for (d, y) in direction.iter_mut().zip(y) {
                *d -= alpha * y;
            }
            alphas.push(alpha);
        }
        let scale = history.back().map_or_else(
            || 1.0 / dot(&gradient, &gradient).sqrt().max(1.0),
            |(_, y, rho)| 1.0 / (rho * dot(y, y)),
        );
        for d in &mut direction {
            *d *= scale;
        }
        for ((s, y, rho), alpha) in history.iter().zip(alphas.into_iter().rev()) {
            let beta = rho * dot(y, &direction);
            for (d, s) in direction.iter_mut().zip(s) {
                *d += (alpha - beta) * s;
            }
        }
        let slope = dot(&gradient, &direction);
        if slope >= 0.0 {
            // Rounding has spoiled the memory: begin anew from here.
            if history.is_empty() {
                return iteration;
            }
            history.clear();
            continue;
        }
        let (mut low, mut high, mut step) = (0.0, f64::INFINITY, 1.0);
        let mut found = None;
        for _ in 0..SEARCH {
            let there: Vec<f64> = x
                .iter()
                .zip(&direction)
                .map(|(x, d)| x + step * d)
                .collect();
            let mut slope_there = vec![0.0; n];
            let value_there = f(&there, &mut slope_there);
            let enough = value_there <= value + 1e-4 * step * slope;
            let flat = dot(&slope_there, &direction) >= 0.9 * slope;
            if !enough {
                high = step;
            } else {
                found = Some((there, slope_there, value_there));
                if flat {
                    break;
                }
                low = step;
            }
            step = if high.is_finite() {
                0.5 * (low + high)
            } else {
                2.0 * low
            };
        }
        let Some((there, slope_there, value_there)) = found else {
            return iteration;
        };
        let s: Vec<f64> = there.iter().zip(x.iter()).map(|(a, b)| a - b).collect();
        let y: Vec<f64> = slope_there
            .iter()
            .zip(&gradient)
            .map(|(a, b)| a - b)
            .collect();
        let curvature = dot(&s, &y);
        if curvature > 1e-300 {
            history.push_back((s, y, 1.0 / curvature));
            if history.len() > MEMORY {
                history.pop_front();
            }
        }
        // Rounding hides any further descent: this is the minimum as far as f64 can tell.
        let stuck = value_there >= value;
        *x = there;
        gradient = slope_there;
        value = value_there;
        if stuck {
            return iteration + 1;
        }
    }
    iterations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_bottom_of_a_valley() {
        // Rosenbrock's function: curved, narrow, minimum at (1, 1).
        let mut x = vec![-1.2, 1.0];
        let taken = minimise(&mut x, 1e-10, 500, |x, g| {
            let (a, b) = (x[0], x[1]);
            g[0] = -2.0 * (1.0 - a) - 400.0 * a * (b - a * a);
            g[1] = 200.0 * (b - a * a);
            (1.0 - a).powi(2) + 100.0 * (b - a * a).powi(2)
        });
        assert!(taken < 100, "{taken}");
        assert!((x[0] - 1.0).abs() < 1e-8 && (x[1] - 1.0).abs() < 1e-8);
    }

    #[test]
    fn a_minimum_is_left_alone() {
        let mut x = vec![0.0];
        assert_eq!(
            minimise(&mut x, 1e-9, 10, |x, g| {
                g[0] = 2.0 * x[0];
                x[0] * x[0]
            }),
            0
        );
    }
}
