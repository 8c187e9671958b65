//! The charts: each takes plain numbers and gives one SVG element, or HTML for the confusion matrix.

use std::fmt::Write;

use super::svg::{Axis, Plot, WIDTH, frame, mark};
use super::text::{coordinate, count, escape, number};
use crate::classification::Confusion;
use crate::projection::Projection;
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
        plot.line(
            &format!("line s{}", i % 8),
            s.points.iter().map(|p| (p.far, p.tar)),
        );
        let at = s
            .points
            .iter()
            .rev()
            .find(|p| p.far <= 0.01)
            .map_or(0.0, |p| p.tar);
        words.push(format!(
            "{}: true accept rate {} at false accept rate 0.01",
            s.name,
            number(at)
        ));
    }
    let svg = plot.finish(id, "Receiver operating characteristic", &words.join("; "));
    svg + &legend(series.iter().map(|s| s.name.as_str()))
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
        plot.line(
            &format!("line s{}", i % 8),
            s.points.iter().map(|p| (p.far, 1.0 - p.tar)),
        );
    }
    let svg = plot.finish(
        id,
        "Detection error trade-off",
        "False reject rate against false accept rate; the dashed line marks where both are equal",
    );
    svg + &legend(series.iter().map(|s| s.name.as_str()))
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
    plot.finish(
        id,
        "Cumulative match curve",
        &format!("Rank 1: {}", number(low)),
    )
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
pub(super) fn map(id: &str, plane: &Projection, labels: &[u32], names: &[String]) -> String {
    const HEIGHT: f64 = 390.0;
    let mut classes: Vec<u32> = plane
        .rows
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
        let values = || {
            plane
                .points
                .iter()
                .filter_map(move |p| p.get(axis))
                .copied()
        };
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
    let radius = if plane.points.len() > 800 { 2.6 } else { 3.6 };
    let mut body = String::new();
    for (series, &class) in classes.iter().enumerate() {
        let _ = write!(body, "<g><title>{}</title>", escape(&name(class)));
        for (&row, point) in plane.rows.iter().zip(&plane.points) {
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
            "{} embeddings of {} classes on their two principal components",
            plane.points.len(),
            classes.len()
        ),
        WIDTH,
        height,
        &body,
    );
    let key = if classes.len() <= MAX_LEGEND {
        let names: Vec<String> = classes.iter().map(|&c| name(c)).collect();
        legend(names.iter().map(String::as_str))
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
        "<table><caption>Most frequent confusions</caption><thead><tr><th scope=\"col\">True class</th>\
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
