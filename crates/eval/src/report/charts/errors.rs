//! Errors by size, confidences against their truth, values with intervals.

use std::fmt::Write;

use super::{HEIGHT, Series, in_figures, legend};
use crate::calibration::Calibration;
use crate::report::Headline;
use crate::report::svg::{Axis, Plot, mark};
use crate::report::text::{coordinate, count, escape, number};

/// Cumulative error curves, with the threshold of the failure rate.
pub(in crate::report) fn ced(id: &str, series: &[Series], threshold: Option<f64>) -> String {
    let right = series
        .iter()
        .flat_map(|s| &s.points)
        .map(|p| p.0)
        .filter(|x| x.is_finite())
        .fold(0.0, f64::max);
    let mut plot = Plot::new(
        Axis::linear(0.0, right),
        Axis::linear(0.0, 1.0),
        "Normalised error",
        "Share of images at or below",
        HEIGHT,
    );
    if let Some(t) = threshold.filter(|t| t.is_finite() && *t <= right) {
        plot.line("guide", [(t, 0.0), (t, 1.0)]);
    }
    let mut words = Vec::new();
    for (i, s) in series.iter().enumerate() {
        plot.line(&format!("line s{}", i % 8), s.points.iter().copied());
        if let Some(last) = s.points.last() {
            words.push(format!(
                "{}: {} at {}",
                s.name,
                number(last.1),
                number(last.0)
            ));
        }
    }
    let rows: Vec<Vec<String>> = (1..=10)
        .map(|k| right * f64::from(k) / 10.0)
        .map(|x| {
            let at = |s: &Series| {
                let inside = s.points.iter().filter(|p| p.0 <= x * (1.0 + 1e-9));
                inside
                    .map(|p| p.1)
                    .reduce(f64::max)
                    .map_or("\u{2013}".to_string(), number)
            };
            [number(x)]
                .into_iter()
                .chain(series.iter().map(at))
                .collect()
        })
        .collect();
    let head = ["Error"].into_iter();
    let head: Vec<&str> = head.chain(series.iter().map(|s| s.name.as_str())).collect();
    let svg = plot.finish(
        id,
        "Cumulative error curve",
        &format!("Share of images by error. {}", words.join("; ")),
    );
    svg + &legend(series.iter().map(|s| s.name.as_str())) + &in_figures(&head, &rows)
}

/// Accuracy by confidence; bars that end on the diagonal are honest.
pub(in crate::report) fn reliability(id: &str, calibration: &Calibration) -> String {
    let mut plot = Plot::new(
        Axis::linear(0.0, 1.0),
        Axis::linear(0.0, 1.0),
        "Confidence",
        "Share that is right",
        HEIGHT,
    );
    let most = calibration
        .bins
        .iter()
        .map(|b| b.count)
        .max()
        .unwrap_or(0)
        .max(1) as f64;
    for bin in calibration.bins.iter().filter(|b| b.count > 0) {
        let (x0, x1) = (plot.px(bin.low) + 1.0, plot.px(bin.high) - 1.0);
        let bar = |plot: &mut Plot, class: &str, a: f64, b: f64, opacity: f64| {
            let (top, bottom) = (plot.py(a.max(b)), plot.py(a.min(b)));
            plot.push(&format!(
                "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill-opacity=\"{opacity:.2}\">\
                 <title>confidence {}: {} of {} samples right</title></rect>",
                coordinate(x0),
                coordinate(top),
                coordinate((x1 - x0).max(0.5)),
                coordinate((bottom - top).max(0.5)),
                number(bin.confidence),
                number(bin.accuracy),
                count(bin.count as u64)
            ));
        };
        // Darker bars hold more samples.
        let share = (bin.count as f64 / most).sqrt();
        // The gap is drawn as a frame, so that it is told from the bar on either side of its top.
        bar(&mut plot, "fill s0", 0.0, bin.accuracy, 0.25 + 0.6 * share);
        bar(&mut plot, "gap s1", bin.accuracy, bin.confidence, 0.14);
    }
    plot.line("guide", [(0.0, 0.0), (1.0, 1.0)]);
    let rows: Vec<Vec<String>> = calibration
        .bins
        .iter()
        .filter(|b| b.count > 0)
        .map(|b| {
            vec![
                format!("{:.2} to {:.2}", b.low, b.high),
                number(b.confidence),
                number(b.accuracy),
                count(b.count as u64),
            ]
        })
        .collect();
    let svg = plot.finish(
        id,
        "Reliability diagram",
        &format!(
            "Expected calibration error {}; the dashed line is honest confidence",
            number(calibration.ece)
        ),
    );
    svg + &legend(["share that is right", "gap to the confidence"])
        + &in_figures(&["Bin", "Mean confidence", "Share right", "Samples"], &rows)
}

/// Values with their intervals, one a line; `guide` is a value to compare with (0 for differences).
pub(in crate::report) fn intervals(
    id: &str,
    title: &str,
    items: &[Headline],
    guide: Option<f64>,
) -> String {
    const ROW: f64 = 30.0;
    let ends = || {
        let values = items.iter().flat_map(|i| {
            let [low, high] = i.interval.unwrap_or([i.value; 2]);
            [low, high, i.value]
        });
        values.chain(guide).filter(|v| v.is_finite())
    };
    let axis = Axis::rounded(
        ends().fold(f64::INFINITY, f64::min),
        ends().fold(f64::NEG_INFINITY, f64::max),
    );
    let height = ROW * items.len() as f64 + 64.0;
    let mut plot = Plot::beside(axis, height);
    if let Some(guide) = guide {
        plot.upright("guide", guide);
    }
    let mut words = Vec::new();
    for (k, item) in items.iter().enumerate() {
        let y = 24.0 + ROW * k as f64;
        plot.push(&format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            coordinate(plot.left() - 10.0),
            coordinate(y + 4.0),
            escape(&shortened(&item.label))
        ));
        if !item.value.is_finite() {
            words.push(format!("{}: undefined", item.label));
            continue;
        }
        let mut said = format!("{}: {}", item.label, number(item.value));
        if let Some([low, high]) = item.interval {
            plot.push(&format!(
                "<path class=\"line s0\" d=\"M{} {y}H{}\"><title>{} to {}</title></path>",
                coordinate(plot.px(low)),
                coordinate(plot.px(high)),
                number(low),
                number(high)
            ));
            let _ = write!(said, " ({} to {})", number(low), number(high));
        }
        let dot = mark(0, plot.px(item.value), y, 4.6);
        plot.push(&dot);
        words.push(said);
    }
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|i| {
            let [low, high] = i
                .interval
                .map_or(["\u{2013}".to_string(), "\u{2013}".to_string()], |v| {
                    v.map(number)
                });
            vec![i.label.clone(), number(i.value), low, high]
        })
        .collect();
    plot.finish(id, title, &words.join("; ")) + &in_figures(&["", "Value", "Low", "High"], &rows)
}

/// At most 24 letters, so that names keep clear of the chart.
fn shortened(name: &str) -> String {
    if name.chars().count() > 24 {
        let start: String = name.chars().take(23).collect();
        format!("{start}\u{2026}")
    } else {
        name.to_string()
    }
}
