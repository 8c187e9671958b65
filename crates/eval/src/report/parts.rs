//! Parts of a section: its notes, the figures at its top, the table of all of them.

use std::fmt::Write;

use super::Headline;
use super::text::{count, escape, number};
use super::words;
use crate::protocol::Evaluation;

/// A note under a heading; nothing for an empty one.
pub(super) fn note_html(note: &str) -> String {
    if note.is_empty() {
        String::new()
    } else {
        format!("<p class=\"note\">{}</p>", escape(note))
    }
}

/// The figures at the top of a section.
pub(super) fn cards(figures: &[Headline]) -> String {
    if figures.is_empty() {
        return String::new();
    }
    let mut out = String::from("<div class=\"cards\">");
    for figure in figures {
        let _ = write!(
            out,
            "<div><div class=\"label\">{}</div><div class=\"figure\">{}</div>",
            escape(&figure.label),
            number(figure.value)
        );
        let inside = |v: f64| (0.0..=1.0).contains(&v);
        if let Some([low, high]) = figure.interval {
            if inside(low) && inside(high) && inside(figure.value) {
                let _ = write!(
                    out,
                    "<div class=\"track\" aria-hidden=\"true\"><i style=\"left:{:.2}%;width:{:.2}%\"></i><b style=\"left:{:.2}%\"></b></div>",
                    100.0 * low,
                    100.0 * (high - low),
                    100.0 * figure.value
                );
            }
            let _ = write!(
                out,
                "<div class=\"range\">{} \u{2013} {}</div>",
                number(low),
                number(high)
            );
        }
        out += "</div>";
    }
    out + "</div>"
}

/// The heading of a protocol's section.
pub(super) fn protocol_title(name: &str) -> String {
    match name.split(':').next().unwrap_or(name) {
        "verification-all-pairs" => "Verification, all pairs".to_string(),
        "verification-pairs" => "Verification, listed pairs".to_string(),
        "retrieval" => "Retrieval".to_string(),
        "classification" => "Classification".to_string(),
        other => other.to_string(),
    }
}

/// The protocol in one sentence.
pub(super) fn protocol_note(evaluation: &Evaluation) -> String {
    let text = |key: &str| {
        evaluation.protocol.get(key).map(|v| match v {
            serde_json::Value::String(s) => s.clone(),
            serde_json::Value::Number(n) => n.as_u64().map_or_else(|| n.to_string(), count),
            other => other.to_string(),
        })
    };
    let mut parts = Vec::new();
    for (key, words) in [
        ("samples", "samples"),
        ("classes", "classes"),
        ("genuine_pairs", "genuine pairs"),
        ("impostor_pairs", "impostor pairs"),
        ("queries", "queries"),
    ] {
        if let Some(value) = text(key) {
            parts.push(format!("{value} {words}"));
        }
    }
    if let Some(score) = text("score") {
        parts.push(format!("{score} score"));
    }
    let mut note = parts.join(", ") + ".";
    let bootstrap = evaluation
        .protocol
        .get("bootstrap")
        .and_then(serde_json::Value::as_object);
    if let (Some(bootstrap), false) = (bootstrap, evaluation.intervals.is_empty()) {
        let get = |key: &str| bootstrap.get(key).and_then(serde_json::Value::as_f64);
        let unit = bootstrap
            .get("unit")
            .and_then(serde_json::Value::as_str)
            .unwrap_or("sample");
        if let (Some(level), Some(resamples)) = (get("level"), get("resamples")) {
            let _ = write!(
                note,
                " Intervals: {:.0} % bootstrap by {unit}, {resamples} resamples.",
                100.0 * level
            );
        }
    }
    note
}

/// All figures of an evaluation with what they say, and those that are undefined with why.
pub(super) fn metric_table(evaluation: &Evaluation, metrics: &[(&str, f64)]) -> String {
    let mut out = format!(
        "<details><summary>All figures</summary><div class=\"scroll\"><table class=\"sort\"><caption>Protocol {}</caption><thead><tr><th scope=\"col\">Figure</th>\
         <th scope=\"col\" class=\"n\">Value</th><th scope=\"col\" class=\"n\">Interval</th><th scope=\"col\" class=\"why\">What it says</th></tr></thead><tbody>",
        escape(evaluation.name())
    );
    for &(metric, value) in metrics {
        let (title, meaning) = words::describe(metric);
        let interval = evaluation
            .intervals
            .get(metric)
            .map_or(String::new(), |[low, high]| {
                format!("{} \u{2013} {}", number(*low), number(*high))
            });
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{interval}</td><td class=\"why\">{}</td></tr>",
            escape(&title),
            number(value),
            escape(&meaning)
        );
    }
    for (metric, reason) in &evaluation.undefined {
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">\u{2013}</td><td class=\"n\"></td><td class=\"why\">undefined: {}</td></tr>",
            escape(&words::describe(metric).0),
            escape(reason)
        );
    }
    out + "</tbody></table></div></details>"
}
