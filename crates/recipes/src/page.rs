//! The page about a verdict: figures and curves, how training went, what the images look like.

use std::collections::BTreeMap;
use std::path::Path;

use phiz_data::encode_png;
use phiz_eval::report::{ExampleImage, ExamplePair, Report, Series};
use phiz_eval::{Embeddings, ScoredPair};
use serde_json::Value;

use crate::judge::{Subject, Verdict};
use crate::{Error, Result};

/// Example images on a page.
const EXAMPLES: usize = 21;

/// Training curves worth drawing, with their names on the page.
const CURVES: &[(&str, &str)] = &[
    ("loss", "whole"),
    ("softmax", "softmax"),
    ("metric", "metric"),
];

/// The report of a verdict as one HTML file.
pub(crate) fn page(verdict: &Verdict) -> Result<String> {
    let subject = &verdict.subject;
    let mut report = Report::new(subject.title.clone());
    report.rendered_faces(subject.rendered);
    if let Some(about) = verdict.protocol.get("data").and_then(Value::as_object) {
        for (name, value) in about {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_string);
            report.fact(name.clone(), text);
        }
    }
    for evaluation in &verdict.evaluations {
        report.evaluation(evaluation);
    }
    if let Ok(labels) = verdict.embeddings.labels("labels") {
        // One label alone has no map worth looking at.
        if labels.iter().any(|label| Some(label) != labels.first()) {
            report.embedding_map("Embedding map", &verdict.embeddings, "labels")?;
            report.neighbour_map("Neighbour map", &verdict.embeddings, "labels")?;
        }
    }
    if let Some(run) = &subject.run {
        training(&mut report, run)?;
    }
    if subject.images.is_some() {
        examples(&mut report, subject, &verdict.embeddings)?;
        for evaluation in &verdict.evaluations {
            let curves = &evaluation.curves;
            pairs(
                &mut report,
                subject,
                &verdict.embeddings,
                "Same label, farthest apart",
                &curves.false_rejects,
            )?;
            pairs(
                &mut report,
                subject,
                &verdict.embeddings,
                "Different labels, closest together",
                &curves.false_accepts,
            )?;
        }
    }
    Ok(report.to_html())
}

/// Curves from the run's `metrics.jsonl`.
fn training(report: &mut Report, run: &Path) -> Result<()> {
    let path = run.join("metrics.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        return Ok(());
    };
    let mut curves: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let entry: Value = serde_json::from_str(line).map_err(|error| {
            Error::run(
                &path,
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
    let series = |names: &[(&str, &str)]| -> Vec<Series> {
        names
            .iter()
            .filter_map(|(key, name)| {
                let points = curves.get(*key)?.clone();
                Some(Series {
                    name: (*name).to_string(),
                    points,
                })
            })
            .collect()
    };
    report.training("Training loss", "step", "loss", false, &series(CURVES));
    report.training(
        "Accuracy on training batches",
        "step",
        "accuracy",
        false,
        &series(&[("batch_accuracy", "accuracy")]),
    );
    report.training(
        "Learning rate",
        "step",
        "rate",
        false,
        &series(&[("lr", "rate")]),
    );
    Ok(())
}

fn examples(report: &mut Report, subject: &Subject, embeddings: &Embeddings) -> Result<()> {
    let stride = (embeddings.len() / EXAMPLES).max(1);
    let images = (0..embeddings.len())
        .step_by(stride)
        .take(EXAMPLES)
        .map(|row| {
            Ok(ExampleImage {
                png: picture(subject, row)?,
                caption: caption(embeddings, row),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    report.images(
        "What was judged",
        "A sample of the held-out images, evenly spaced.",
        &images,
    );
    Ok(())
}

fn pairs(
    report: &mut Report,
    subject: &Subject,
    embeddings: &Embeddings,
    title: &str,
    hardest: &[ScoredPair],
) -> Result<()> {
    if hardest.is_empty() {
        return Ok(());
    }
    let shown = hardest
        .iter()
        .map(|pair| {
            Ok(ExamplePair {
                left: picture(subject, pair.a)?,
                right: picture(subject, pair.b)?,
                score: pair.score,
                caption: format!(
                    "{} and {}",
                    caption(embeddings, pair.a),
                    caption(embeddings, pair.b)
                ),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    report.pairs(title, "The number is the score of the pair.", &shown);
    Ok(())
}

fn picture(subject: &Subject, row: usize) -> Result<Vec<u8>> {
    let Some((dataset, indices)) = &subject.images else {
        return Ok(Vec::new());
    };
    let index = indices.get(row).copied().unwrap_or_default();
    Ok(encode_png(&dataset.image(index)?)?)
}

/// The label's name, or the sample's id where it has none.
fn caption(embeddings: &Embeddings, row: usize) -> String {
    let code = embeddings
        .labels("labels")
        .ok()
        .and_then(|labels| labels.get(row).copied());
    let name = code.and_then(|code| embeddings.names("labels").get(code as usize));
    name.cloned().unwrap_or_else(|| embeddings.id(row))
}
