//! The charts: each takes plain numbers and gives one SVG element, or HTML for the confusion matrix.

use std::fmt::Write;

use super::Headline;
use super::svg::{Axis, Plot, WIDTH, frame, mark};
use super::text::{coordinate, count, escape, number};
use crate::bootstrap::BandPoint;
use crate::calibration::Calibration;
use crate::classification::Confusion;
use crate::roc::CurvePoint;
use crate::score::ScoreHistogram;

/// Height of the standard chart.
const HEIGHT: f64 = 340.0;
/// Most points of one line; longer ones are averaged in groups.
const MAX_POINTS: usize = 400;
/// Most classes that get a legend.
const MAX_LEGEND: usize = 12;

/// A named line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What it is.
    pub name: String,
    /// (x, y), x ascending; a NaN leaves a gap.
    pub points: Vec<(f64, f64)>,
}

/// A named ROC.
#[derive(Debug, Clone, PartialEq)]
pub struct RocSeries {
    /// What it is.
    pub name: String,
    /// The points of [`Roc::curve`](crate::Roc::curve).
    pub points: Vec<CurvePoint>,
    /// Pointwise interval of the true accept rate; empty for none.
    pub band: Vec<BandPoint>,
}

impl RocSeries {
    /// A curve without a band.
    pub fn new(name: impl Into<String>, points: Vec<CurvePoint>) -> Self {
        Self {
            name: name.into(),
            points,
            band: Vec::new(),
        }
    }

    /// Adds a band.
    #[must_use]
    pub fn with_band(mut self, band: Vec<BandPoint>) -> Self {
        self.band = band;
        self
    }

    /// The largest true accept rate at a false accept rate of at most `far`.
    fn at(&self, far: f64) -> Option<f64> {
        let inside = self.points.iter().filter(|p| p.far <= far);
        inside.map(|p| p.tar).reduce(f64::max)
    }
}

/// A key to the series; nothing for a single one.
pub(super) fn legend<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = names
        .into_iter()
        .enumerate()
        .map(|(i, name)| {
            format!(
                "<li><svg viewBox=\"0 0 14 14\" aria-hidden=\"true\">{}</svg>{}</li>",
                mark(i, 7.0, 7.0, 5.0),
                escape(name)
            )
        })
        .collect();
    if items.len() < 2 {
        String::new()
    } else {
        format!("<ul class=\"legend\">{}</ul>", items.concat())
    }
}

/// The power of ten at or below the smallest positive rate.
fn floor_decade(rates: impl Iterator<Item = f64>) -> f64 {
    let least = rates.filter(|r| *r > 0.0).fold(1.0, f64::min);
    10f64.powf((least.log10() + 1e-9).floor().clamp(-8.0, -1.0))
}

pub(super) fn roc(id: &str, series: &[RocSeries]) -> String {
    let low = floor_decade(series.iter().flat_map(|s| &s.points).map(|p| p.far));
    let mut plot = Plot::new(
        Axis::log(low, 1.0),
        Axis::linear(0.0, 1.0),
        "False accept rate (log)",
        "True accept rate",
        HEIGHT,
    );
    let chance = (0..=60).map(|i| low.powf(1.0 - f64::from(i) / 60.0));
    plot.line("guide", chance.map(|far| (far, far)));
    let mut words = Vec::new();
    for (i, s) in series.iter().enumerate() {
        let edge = |end: fn(&BandPoint) -> f64| {
            let inside = s.band.iter().filter(|b| b.far >= low);
            inside.map(|b| (b.far, end(b))).collect::<Vec<_>>()
        };
        plot.band(
            &format!("band s{}", i % 8),
            &edge(|b| b.low),
            &edge(|b| b.high),
        );
        plot.line(
            &format!("line s{}", i % 8),
            s.points.iter().map(|p| (p.far, p.tar)),
        );
        words.push(format!(
            "{}: true accept rate {} at false accept rate 0.01",
            s.name,
            number(s.at(0.01).unwrap_or(0.0))
        ));
    }
    let svg = plot.finish(id, "Receiver operating characteristic", &words.join("; "));
    svg + &legend(series.iter().map(|s| s.name.as_str())) + &rates_table(series, low, |tar| tar)
}

/// The curve in figures, for those who cannot see it and for copying.
fn rates_table(series: &[RocSeries], low: f64, shown: fn(f64) -> f64) -> String {
    let decades = (low.log10() + 1e-9).floor() as i32;
    let rows: Vec<Vec<String>> = (decades..=0)
        .rev()
        .map(|e| {
            let far = 10f64.powi(e);
            let cell = |s: &RocSeries| {
                let value = s.at(far).map(|tar| number(shown(tar)));
                let band = s.band.iter().find(|b| (b.far / far).ln().abs() < 1e-6);
                match (value, band) {
                    (None, _) => "\u{2013}".to_string(),
                    (Some(value), None) => value,
                    (Some(value), Some(b)) => {
                        let (x, y) = (shown(b.low), shown(b.high));
                        format!(
                            "{value} ({} \u{2013} {})",
                            number(x.min(y)),
                            number(x.max(y))
                        )
                    }
                }
            };
            let first = if e == 0 {
                "1".to_string()
            } else {
                format!("1e{e}")
            };
            [first].into_iter().chain(series.iter().map(cell)).collect()
        })
        .collect();
    let head = ["False accept rate"].into_iter();
    let head: Vec<&str> = head.chain(series.iter().map(|s| s.name.as_str())).collect();
    in_figures(&head, &rows)
}

/// A folded table below a chart.
fn in_figures(head: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() || head.len() < 2 {
        return String::new();
    }
    let mut out = String::from(
        "<details><summary>In figures</summary><div class=\"scroll\"><table class=\"sort\">\
         <caption>The chart above in figures</caption><thead><tr>",
    );
    for (c, name) in head.iter().enumerate() {
        let class = if c == 0 { "" } else { " class=\"n\"" };
        let _ = write!(out, "<th scope=\"col\"{class}>{}</th>", escape(name));
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        out.push_str("<tr>");
        for (c, cell) in row.iter().enumerate() {
            let _ = if c == 0 {
                write!(out, "<th scope=\"row\">{}</th>", escape(cell))
            } else {
                write!(out, "<td class=\"n\">{}</td>", escape(cell))
            };
        }
        out.push_str("</tr>");
    }
    out + "</tbody></table></div></details>"
}

/// Cumulative error curves, with the threshold of the failure rate.
pub(super) fn ced(id: &str, series: &[Series], threshold: Option<f64>) -> String {
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
pub(super) fn reliability(id: &str, calibration: &Calibration) -> String {
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
pub(super) fn intervals(id: &str, title: &str, items: &[Headline], guide: Option<f64>) -> String {
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

pub(super) fn det(id: &str, series: &[RocSeries]) -> String {
    let points = || series.iter().flat_map(|s| &s.points);
    let low_x = floor_decade(points().map(|p| p.far));
    let low_y = floor_decade(points().map(|p| 1.0 - p.tar)).max(1e-5);
    let mut plot = Plot::new(
        Axis::log(low_x, 1.0),
        Axis::log(low_y, 1.0),
        "False accept rate (log)",
        "False reject rate (log)",
        HEIGHT,
    );
    let low = low_x.max(low_y);
    plot.line("guide", [(low, low), (1.0, 1.0)]);
    for (i, s) in series.iter().enumerate() {
        let edge = |end: fn(&BandPoint) -> f64| {
            let inside = s.band.iter().filter(|b| b.far >= low_x);
            let points = inside.map(|b| (b.far, (1.0 - end(b)).max(low_y)));
            points.collect::<Vec<_>>()
        };
        plot.band(
            &format!("band s{}", i % 8),
            &edge(|b| b.high),
            &edge(|b| b.low),
        );
        plot.line(
            &format!("line s{}", i % 8),
            s.points.iter().map(|p| (p.far, (1.0 - p.tar).max(low_y))),
        );
    }
    let svg = plot.finish(
        id,
        "Detection error trade-off",
        "False reject rate against false accept rate; the dashed line marks where both are equal",
    );
    svg + &legend(series.iter().map(|s| s.name.as_str()))
        + &rates_table(series, low_x, |tar| 1.0 - tar)
}

/// Two overlaid histograms, each as shares of its own pairs.
pub(super) fn histogram(id: &str, histogram: &ScoreHistogram, threshold: Option<f64>) -> String {
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
pub(super) fn cmc(id: &str, cmc: &[f64]) -> String {
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

/// Lines over steps or epochs; long and noisy ones faint, with a moving mean on top.
pub(super) fn lines(
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

/// The projected points, one colour and shape per class.
pub(super) fn map(
    id: &str,
    kind: &str,
    rows: &[usize],
    points: &[[f64; 2]],
    labels: &[u32],
    names: &[String],
) -> String {
    const HEIGHT: f64 = 390.0;
    let mut classes: Vec<u32> = rows
        .iter()
        .filter_map(|&r| labels.get(r))
        .copied()
        .collect();
    classes.sort_unstable();
    classes.dedup();
    let name = |code: u32| {
        names
            .get(code as usize)
            .cloned()
            .unwrap_or_else(|| format!("class {code}"))
    };
    // One scale for both axes: distances in the picture are comparable.
    let range = |axis: usize| {
        let values = || points.iter().filter_map(move |p| p.get(axis)).copied();
        (
            values().fold(f64::INFINITY, f64::min),
            values().fold(f64::NEG_INFINITY, f64::max),
        )
    };
    let (x, y) = (range(0), range(1));
    let scale =
        ((WIDTH - 20.0) / (x.1 - x.0).max(1e-12)).min((HEIGHT - 20.0) / (y.1 - y.0).max(1e-12));
    let (mid_x, mid_y) = ((x.0 + x.1) / 2.0, (y.0 + y.1) / 2.0);
    let height = (scale * (y.1 - y.0) + 20.0).clamp(160.0, HEIGHT);
    let radius = if points.len() > 800 { 2.6 } else { 3.6 };
    let mut body = String::new();
    for (series, &class) in classes.iter().enumerate() {
        let _ = write!(
            body,
            "<g data-class=\"{class}\"><title>{}</title>",
            escape(&name(class))
        );
        for (&row, point) in rows.iter().zip(points) {
            if labels.get(row) == Some(&class) {
                let px = WIDTH / 2.0 + (point[0] - mid_x) * scale;
                let py = height / 2.0 - (point[1] - mid_y) * scale;
                body.push_str(&mark(series, px, py, radius));
            }
        }
        body.push_str("</g>");
    }
    let svg = frame(
        id,
        "Embedding map",
        &format!(
            "{} embeddings of {} classes, {kind}",
            points.len(),
            classes.len()
        ),
        WIDTH,
        height,
        &body,
    );
    let key = if classes.len() <= MAX_LEGEND {
        let items: Vec<String> = classes
            .iter()
            .enumerate()
            .map(|(i, &class)| {
                format!(
                    "<li data-class=\"{class}\"><svg viewBox=\"0 0 14 14\" aria-hidden=\"true\">{}</svg>{}</li>",
                    mark(i, 7.0, 7.0, 5.0),
                    escape(&name(class))
                )
            })
            .collect();
        format!("<ul class=\"legend pick\">{}</ul>", items.concat())
    } else {
        format!(
            "<p class=\"note\">{} classes; colours and shapes repeat after 32. Point at a mark for its class.</p>",
            classes.len()
        )
    };
    svg + &key
}

/// Rows are true classes. A table with shades up to 16 classes, squares up to 100, the most frequent confusions beyond.
pub(super) fn confusion(id: &str, confusion: &Confusion, names: &[String]) -> String {
    let n = confusion.classes();
    let name = |c: usize| names.get(c).cloned().unwrap_or_else(|| c.to_string());
    if n <= 16 {
        return confusion_table(confusion, &name);
    }
    let mut out = String::new();
    if n <= 100 {
        let (gap, size) = (26.0, (WIDTH - 30.0) / n as f64);
        let mut body = format!(
            "<text x=\"{0}\" y=\"14\" text-anchor=\"middle\">called</text>\
             <text transform=\"translate(14 {0}) rotate(-90)\" text-anchor=\"middle\">true class</text>",
            coordinate(gap + size * n as f64 / 2.0)
        );
        for truth in 0..n {
            let total = confusion.row(truth).iter().sum::<u64>().max(1) as f64;
            for (called, &times) in confusion.row(truth).iter().enumerate().filter(|c| *c.1 > 0) {
                let _ = write!(
                    body,
                    "<rect class=\"cell\" x=\"{}\" y=\"{}\" width=\"{s}\" height=\"{s}\" fill-opacity=\"{:.2}\"><title>{} called {}: {times}</title></rect>",
                    coordinate(gap + size * called as f64),
                    coordinate(gap + size * truth as f64),
                    0.08 + 0.92 * times as f64 / total,
                    escape(&name(truth)),
                    escape(&name(called)),
                    s = coordinate(size * 0.94),
                );
            }
        }
        let description = format!("{n} classes; accuracy {}", number(confusion.accuracy()));
        out = frame(id, "Confusion matrix", &description, WIDTH, WIDTH, &body);
    }
    let mut wrong: Vec<(u64, usize, usize)> = (0..n)
        .flat_map(|t| {
            confusion
                .row(t)
                .iter()
                .enumerate()
                .map(move |(p, &c)| (c, t, p))
        })
        .filter(|&(c, t, p)| c > 0 && t != p)
        .collect();
    wrong.sort_unstable_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let rows: String = wrong
        .iter()
        .take(10)
        .map(|&(c, t, p)| {
            format!(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{}</td></tr>",
                escape(&name(t)),
                escape(&name(p)),
                count(c)
            )
        })
        .collect();
    out + &format!(
        "<table class=\"sort\"><caption>Most frequent confusions</caption><thead><tr><th scope=\"col\">True class</th>\
         <th scope=\"col\">Called</th><th scope=\"col\" class=\"n\">Times</th></tr></thead><tbody>{rows}</tbody></table>"
    )
}

fn confusion_table(confusion: &Confusion, name: &dyn Fn(usize) -> String) -> String {
    let n = confusion.classes();
    let mut out = String::from(
        "<div class=\"scroll\"><table class=\"heat\"><caption>Rows: true class. Columns: what it was called. \
         Percent of the row; counts on pointing.</caption><thead><tr><td></td>",
    );
    for c in 0..n {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(&name(c)));
    }
    out.push_str("</tr></thead><tbody>");
    for truth in 0..n {
        let total = confusion.row(truth).iter().sum::<u64>();
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", escape(&name(truth)));
        for (called, &times) in confusion.row(truth).iter().enumerate() {
            let share = times as f64 / total.max(1) as f64;
            let mut class = String::new();
            for (on, word) in [
                (truth != called, "miss"),
                (share > 0.55, "deep"),
                (times == 0, "zero"),
            ] {
                if on {
                    class.push_str(if class.is_empty() { "" } else { " " });
                    class.push_str(word);
                }
            }
            let _ = write!(
                out,
                "<td class=\"{class}\" style=\"--v:{share:.3}\" title=\"{} called {}: {times} of {total}\">{}</td>",
                escape(&name(truth)),
                escape(&name(called)),
                if times == 0 {
                    "\u{b7}".to_string()
                } else {
                    format!("{:.0}", 100.0 * share)
                }
            );
        }
        out.push_str("</tr>");
    }
    out + "</tbody></table></div>"
}
