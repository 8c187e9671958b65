//! Lines over steps or epochs.

use super::{HEIGHT, Series, legend};
use crate::report::svg::{Axis, Plot};
use crate::report::text::{coordinate, number};

/// Most points of one line; longer ones are averaged in groups.
const MAX_POINTS: usize = 400;

/// Lines over steps or epochs; long and noisy ones faint, with a moving mean on top.
pub(in crate::report) fn lines(
    id: &str,
    title: &str,
    x_name: &str,
    y_name: &str,
    log_y: bool,
    series: &[Series],
) -> String {
    let thinned: Vec<Vec<(f64, f64)>> = series.iter().map(|s| thin(&s.points)).collect();
    let finite = || {
        thinned
            .iter()
            .flatten()
            .filter(|p| p.0.is_finite() && p.1.is_finite())
    };
    let range = |value: fn(&(f64, f64)) -> f64| {
        finite()
            .map(value)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |r, v| {
                (r.0.min(v), r.1.max(v))
            })
    };
    let (x, y) = (range(|p| p.0), range(|p| p.1));
    let y_axis = if log_y && y.0 > 0.0 {
        Axis::log(y.0, y.1)
    } else {
        Axis::rounded(y.0, y.1)
    };
    let mut plot = Plot::new(Axis::linear(x.0, x.1), y_axis, x_name, y_name, HEIGHT);
    let mut words = Vec::new();
    for (i, (s, points)) in series.iter().zip(&thinned).enumerate() {
        let class = i % 8;
        if points.len() > 60 {
            plot.line(&format!("line faint s{class}"), points.iter().copied());
            plot.line(&format!("line s{class}"), smooth(points, points.len() / 25));
        } else {
            plot.line(&format!("line s{class}"), points.iter().copied());
        }
        if let Some(last) = s.points.iter().rev().find(|p| p.1.is_finite()) {
            words.push(format!(
                "{}: {} at {}",
                s.name,
                number(last.1),
                coordinate(last.0)
            ));
        }
    }
    let svg = plot.finish(id, title, &format!("Last values: {}", words.join("; ")));
    svg + &legend(series.iter().map(|s| s.name.as_str()))
}

/// Means of equal groups, at most `MAX_POINTS`.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(MAX_POINTS).max(1);
    let mean = |chunk: &[(f64, f64)], value: fn(&(f64, f64)) -> f64| {
        chunk.iter().map(value).sum::<f64>() / chunk.len() as f64
    };
    points
        .chunks(group)
        .map(|chunk| (mean(chunk, |p| p.0), mean(chunk, |p| p.1)))
        .collect()
}

/// Moving mean over `half` neighbours each way.
fn smooth(points: &[(f64, f64)], half: usize) -> Vec<(f64, f64)> {
    (0..points.len())
        .map(|i| {
            // As many neighbours on both sides, so that the ends are not pulled.
            let reach = half.min(i).min(points.len() - 1 - i);
            let near = points.get(i - reach..=i + reach).unwrap_or(&[]);
            let (sum, n) = near
                .iter()
                .filter(|p| p.1.is_finite())
                .fold((0.0, 0u32), |a, p| (a.0 + p.1, a.1 + 1));
            (points.get(i).map_or(f64::NAN, |p| p.0), sum / f64::from(n))
        })
        .collect()
}
