//! The page about a pre-training run: what its features are good for, and how it learned.

use std::collections::BTreeMap;

use phiz_eval::report::{Report, Series};
use serde_json::Value;

use super::judge::PretrainVerdict;
use crate::{Error, Result};

/// A chart: its title, the name of its axis, and of each curve the key in the log and the name on the page.
type Chart = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const CHARTS: &[Chart] = &[
    ("Training loss", "loss", &[("loss", "loss")]),
    (
        "Nearest neighbours on held-out people",
        "accuracy",
        &[
            ("knn_identity", "identity"),
            ("knn_expression", "expression"),
        ],
    ),
    (
        "Linear probes on held-out people",
        "accuracy",
        &[
            ("linear_identity", "identity"),
            ("linear_expression", "expression"),
        ],
    ),
    (
        "Monitors of collapse",
        "healthy near 1",
        &[
            ("spread", "spread of the embeddings"),
            ("prediction_entropy", "entropy of the mean prediction"),
            ("choice_entropy", "entropy of the choices"),
        ],
    ),
    (
        "Loss minus that of chance",
        "difference",
        &[("loss_over_chance", "difference")],
    ),
    (
        "Error of the prototypes' shares",
        "relative error",
        &[
            ("marginal_error", "largest"),
            ("marginal_error_mean", "mean"),
        ],
    ),
    ("Learning rate", "rate", &[("lr", "rate")]),
];

/// The report as one HTML file.
pub(super) fn page(verdict: &PretrainVerdict) -> Result<String> {
    let mut report = Report::new(verdict.title.clone());
    report.rendered_faces(verdict.rendered);
    if let Some(about) = verdict.protocol.get("data").and_then(Value::as_object) {
        for (name, value) in about {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_string);
            report.fact(name.clone(), text);
        }
    }
    let names: Vec<&str> = verdict
        .probed
        .values()
        .next()
        .map(|probed| probed.named().into_iter().map(|(name, _)| name).collect())
        .unwrap_or_default();
    let header: Vec<String> = std::iter::once("features")
        .chain(names)
        .map(str::to_string)
        .collect();
    let order = [
        ("trunk", "the trained trunk"),
        ("initialised", "the trunk as initialised, its norms fitted"),
        ("pixels", "grey pixels, 24 x 24"),
    ];
    let rows: Vec<Vec<String>> = order
        .iter()
        .filter_map(|(who, words)| {
            let values = verdict.probed.get(who)?.named().into_iter();
            let cells = values.map(|(_, value)| format!("{value:.4}"));
            Some(std::iter::once((*words).to_string()).chain(cells).collect())
        })
        .collect();
    report.table(
        "What frozen features are good for",
        "Share of right answers about people that were not in training. Identity: every second image of a person is \
         labelled. Expression: labelled images show other people.",
        &header,
        &rows,
    );
    let curves = curves(&verdict.run.join("metrics.jsonl"))?;
    for (title, axis, series) in CHARTS {
        let series: Vec<Series> = series
            .iter()
            .filter_map(|(key, name)| {
                Some(Series {
                    name: (*name).to_string(),
                    points: curves.get(*key)?.clone(),
                })
            })
            .collect();
        if !series.is_empty() {
            report.training(title, "step", axis, false, &series);
        }
    }
    Ok(report.to_html())
}

/// Every number of the log by name, over the steps.
fn curves(path: &std::path::Path) -> Result<BTreeMap<String, Vec<(f64, f64)>>> {
    let mut curves: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    let Ok(text) = std::fs::read_to_string(path) else {
        return Ok(curves);
    };
    for (at, line) in text.lines().enumerate() {
        let entry: Value = serde_json::from_str(line).map_err(|error| {
            Error::run(
                path,
                format!("line {}: expected a JSON object: {error}", at + 1),
            )
        })?;
        let Some(step) = entry["step"].as_f64() else {
            continue;
        };
        for (name, value) in entry.as_object().into_iter().flatten() {
            if let Some(value) = value.as_f64() {
                curves.entry(name.clone()).or_default().push((step, value));
            }
        }
    }
    Ok(curves)
}
