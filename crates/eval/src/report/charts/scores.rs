//! Counts of scores, and hits by rank.

use super::{HEIGHT, in_figures, legend};
use crate::report::svg::{Axis, Plot, mark};
use crate::report::text::number;
use crate::score::ScoreHistogram;

/// Two overlaid histograms, each as shares of its own pairs.
pub(in crate::report) fn histogram(
    id: &str,
    histogram: &ScoreHistogram,
    threshold: Option<f64>,
) -> String {
    let bins = histogram.genuine.len().min(histogram.impostor.len());
    let used = |i: &usize| {
        histogram.genuine.get(*i).is_some_and(|c| *c > 0)
            || histogram.impostor.get(*i).is_some_and(|c| *c > 0)
    };
    let first = (0..bins).find(used).unwrap_or(0);
    let last = (0..bins).rev().find(used).unwrap_or(0);
    let group = (last + 1 - first).div_ceil(64).max(1);
    let width = (histogram.high - histogram.low) / bins.max(1) as f64;
    let edge = |bin: usize| histogram.low + width * bin as f64;
    let outline = |counts: &[u64]| {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        let mut points = Vec::new();
        for start in (first..=last).step_by(group) {
            let end = (start + group).min(bins);
            let share = counts.get(start..end).unwrap_or(&[]).iter().sum::<u64>() as f64 / total;
            points.push((edge(start), share));
            points.push((edge(start + group), share));
        }
        points
    };
    let (genuine, impostor) = (outline(&histogram.genuine), outline(&histogram.impostor));
    let highest = genuine
        .iter()
        .chain(&impostor)
        .map(|p| p.1)
        .fold(0.0, f64::max);
    let mut plot = Plot::new(
        Axis::linear(edge(first), edge(last + 1)),
        Axis::rounded(0.0, highest),
        "Score (larger is more alike)",
        "Share of pairs",
        HEIGHT,
    );
    plot.area("area s1", &impostor);
    plot.area("area s0", &genuine);
    let mut note = String::new();
    if let Some(threshold) = threshold.filter(|t| t.is_finite()) {
        plot.line("guide", [(threshold, 0.0), (threshold, f64::MAX)]);
        note = format!(
            "; the dashed line is the threshold of equal error, {}",
            number(threshold)
        );
    }
    let svg = plot.finish(
        id,
        "Scores of genuine and impostor pairs",
        &format!(
            "{} genuine and {} impostor pairs{note}",
            histogram.genuine.iter().sum::<u64>(),
            histogram.impostor.iter().sum::<u64>()
        ),
    );
    svg + &legend(["same label", "different labels"])
}

/// Cumulative match curve.
pub(in crate::report) fn cmc(id: &str, cmc: &[f64]) -> String {
    let low = cmc.first().copied().unwrap_or(0.0);
    let mut plot = Plot::new(
        Axis::linear(1.0, cmc.len().max(2) as f64),
        Axis::rounded((low - 0.02).max(0.0), 1.0),
        "Rank k",
        "Share of queries with a hit in the first k",
        HEIGHT,
    );
    let points = cmc.iter().enumerate().map(|(i, &v)| ((i + 1) as f64, v));
    plot.line("line s0", points.clone());
    for (x, y) in points {
        let dot = mark(0, plot.px(x), plot.py(y), 3.2);
        plot.push(&dot);
    }
    let rows: Vec<Vec<String>> = cmc
        .iter()
        .enumerate()
        .map(|(i, v)| vec![(i + 1).to_string(), number(*v)])
        .collect();
    plot.finish(
        id,
        "Cumulative match curve",
        &format!("Rank 1: {}", number(low)),
    ) + &in_figures(&["Rank", "Share"], &rows)
}
