//! Protocols over predictions and codes: regression, landmarks, probes, disentanglement.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::bootstrap::BootstrapConfig;
use crate::classification::Classification;
use crate::disentanglement::{Coded, DisentanglementConfig, Factors, disentanglement};
use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::figures::{name_unit, plain};
use crate::landmarks::{FaceBox, LandmarkErrors, Normaliser};
use crate::lookup::{clusters, resolve};
use crate::probes::{
    MlpConfig, NeighbourConfig, ProbeConfig, dense_pair, few_shot_probe, linear_probe, mlp_probe,
    nearest_neighbours, r_squared, ridge_probe,
};
use crate::protocol::{EvaluateOptions, Evaluation};
use crate::regression::regression;
use crate::rows::Rows;

/// Before the name of a column: predictions of that column.
pub(crate) const PREDICTED: &str = "predicted.";

/// Landmarks: where the truth is and what errors are divided by.
#[derive(Debug, Clone)]
pub(crate) struct LandmarkPlan {
    pub(crate) truth: PathBuf,
    pub(crate) normaliser: Normaliser,
    pub(crate) failure: f64,
}

/// Probes: what they are fitted to.
#[derive(Debug, Clone)]
pub(crate) struct ProbePlan {
    pub(crate) train: PathBuf,
    pub(crate) shots: Vec<usize>,
    pub(crate) seed: u64,
}

/// A column as numbers, whether it holds floats or whole numbers.
fn numbers(table: &Embeddings, name: &str) -> Option<Vec<f64>> {
    if let Some(column) = table.factors().get(name) {
        return Some(column.iter().map(|&v| f64::from(v)).collect());
    }
    let column = table.all_labels().get(name)?;
    Some(column.iter().map(|&v| f64::from(v)).collect())
}

/// A column with its predictions.
pub(crate) struct PredictedColumn {
    pub(crate) name: String,
    pub(crate) predicted: Vec<f64>,
    pub(crate) truth: Vec<f64>,
}

/// Predictions and truths of each column that has both.
pub(crate) fn predicted_columns(table: &Embeddings) -> Result<Vec<PredictedColumn>> {
    let names = table.factors().keys().chain(table.all_labels().keys());
    let mut out = Vec::new();
    for name in names.filter_map(|name| name.strip_prefix(PREDICTED)) {
        let predicted = numbers(table, &format!("{PREDICTED}{name}"));
        let truth = numbers(table, name).ok_or_else(|| {
            Error::missing(format!(
                "`{PREDICTED}{name}` has no column `{name}` with the true values beside it"
            ))
        })?;
        out.push(PredictedColumn {
            name: name.to_string(),
            predicted: predicted.unwrap_or_default(),
            truth,
        });
    }
    if out.is_empty() {
        return Err(Error::missing(
            "regression needs columns `predicted.NAME` beside the true values `NAME`",
        ));
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}

/// Figures of each predicted column, and their means.
pub(crate) fn run_regression(
    mut info: Map<String, Value>,
    table: &Embeddings,
    options: &EvaluateOptions,
) -> Result<Evaluation> {
    let drawn = clusters(table, options)?;
    info.remove("score");
    name_unit(&mut info, drawn.map_or("sample", |d| d.0));
    let columns = predicted_columns(table)?;
    let (mut sums, mut defined) = (BTreeMap::new(), BTreeMap::new());
    let (mut metrics, mut intervals) = (BTreeMap::new(), BTreeMap::new());
    for column in &columns {
        let PredictedColumn {
            name,
            predicted,
            truth,
        } = column;
        let found = regression(
            predicted,
            truth,
            drawn.map(|d| d.1),
            options.bootstrap.as_ref(),
        )
        .map_err(|e| e.record(format!("column `{name}`")))?;
        for (figure, value) in found.metrics() {
            *sums.entry(figure.clone()).or_insert(0.0) += value;
            *defined.entry(figure.clone()).or_insert(0u32) += 1;
            let called = match columns.len() {
                1 => figure.clone(),
                _ => format!("{figure}[{name}]"),
            };
            if let Some(interval) = found.intervals.get(&figure) {
                intervals.insert(called.clone(), *interval);
            }
            metrics.insert(called, value);
        }
    }
    if columns.len() > 1 {
        for (figure, sum) in sums {
            let count = defined.get(&figure).copied().unwrap_or(1);
            metrics.insert(figure, sum / f64::from(count));
        }
        info.insert("defined_columns".into(), json!(defined));
    }
    let names: Vec<&String> = columns.iter().map(|c| &c.name).collect();
    info.insert("columns".into(), json!(names));
    let mut out = plain(info, metrics);
    out.intervals = intervals;
    Ok(out)
}

/// The embeddings are coordinates x0, y0, x1, y1, ...; the truth is a table of the same form.
pub(crate) fn run_landmarks(
    plan: &LandmarkPlan,
    mut info: Map<String, Value>,
    table: &Embeddings,
    options: &EvaluateOptions,
) -> Result<Evaluation> {
    let at = |e: Error| e.at_if_nowhere(&plan.truth);
    let truth = Embeddings::read(&plan.truth)?;
    same_rows(table, &truth).map_err(at)?;
    let dim = table.dim();
    if truth.dim() != dim || !dim.is_multiple_of(2) {
        return Err(at(Error::shape(format!(
            "{dim} predicted and {} true numbers a row; expected x, y of the same points",
            truth.dim()
        ))));
    }
    let wide =
        |table: &Embeddings| -> Vec<f64> { table.values().iter().map(|&v| f64::from(v)).collect() };
    let boxes = numbers(&truth, "box.width").zip(numbers(&truth, "box.height"));
    let boxes: Option<Vec<FaceBox>> = boxes.map(|(widths, heights)| {
        let sides = widths.into_iter().zip(heights);
        sides
            .map(|(width, height)| FaceBox { width, height })
            .collect()
    });
    let errors = LandmarkErrors::new(
        &wide(table),
        &wide(&truth),
        dim / 2,
        plan.normaliser,
        boxes.as_deref(),
    )
    .map_err(at)?;
    let drawn = clusters(&truth, options)?;
    let found = errors.figures(plan.failure, drawn.map(|d| d.1), options.bootstrap.as_ref())?;
    info.remove("score");
    name_unit(&mut info, drawn.map_or("sample", |d| d.0));
    info.insert("points".into(), json!(dim / 2));
    info.insert("normaliser".into(), json!(plan.normaliser));
    info.insert("failure_threshold".into(), json!(plan.failure));
    info.insert("truth".into(), json!(plan.truth.display().to_string()));
    let called = |name: &str| match name {
        "nme" => name.to_string(),
        other => format!("{other}@{}", plan.failure),
    };
    let metrics = [
        ("nme", found.nme),
        ("failure_rate", found.failure_rate),
        ("auc", found.auc),
    ];
    let metrics = metrics.map(|(name, value)| (called(name), value));
    let mut out = plain(info, metrics.into_iter().collect());
    out.intervals = found
        .intervals
        .iter()
        .map(|(name, interval)| (called(name), *interval))
        .collect();
    out.curves.ced = errors.ced(2.0 * plan.failure, 200);
    Ok(out)
}

/// Two tables of the same samples in the same order.
fn same_rows(a: &Embeddings, b: &Embeddings) -> Result<()> {
    if a.len() != b.len() {
        return Err(Error::shape(format!(
            "{} rows for {} predictions",
            b.len(),
            a.len()
        )));
    }
    let both = !a.ids().is_empty() && !b.ids().is_empty();
    match a.ids().iter().zip(b.ids()).position(|(x, y)| x != y) {
        Some(row) if both => Err(Error::value(format!(
            "sample `{}`, where the predictions have `{}`",
            b.id(row),
            a.id(row)
        ))
        .record(format!("row {row}"))),
        _ => Ok(()),
    }
}

/// Fits probes to another table and judges them on this one.
pub(crate) fn run_probes(
    plan: &ProbePlan,
    mut info: Map<String, Value>,
    table: &Embeddings,
    options: &EvaluateOptions,
) -> Result<Evaluation> {
    let train = Embeddings::read(&plan.train)?;
    if train.dim() != table.dim() {
        return Err(Error::shape(format!(
            "rows of {} numbers, those to judge have {}",
            train.dim(),
            table.dim()
        ))
        .at(&plan.train));
    }
    let config = ProbeConfig {
        seed: plan.seed,
        ..Default::default()
    };
    let (rows, asked) = (Rows::of(&train), Rows::of(table));
    info.insert("train".into(), json!(plan.train.display().to_string()));
    info.insert("train_rows".into(), json!(train.len()));
    info.insert("probe".into(), json!(config));
    let drawn = clusters(table, options)?;
    name_unit(&mut info, drawn.map_or("sample", |d| d.0));
    let groups = clusters(&train, options)?;
    let mut metrics = BTreeMap::new();
    let mut intervals = BTreeMap::new();
    if let (Some(known), Some(truth)) = (
        train.factors().get(&options.label),
        numbers(table, &options.label),
    ) {
        let known: Vec<f64> = known.iter().map(|&v| f64::from(v)).collect();
        let fit = ridge_probe(&rows, &known, groups.map(|g| g.1), &config)?;
        let predicted = fit.predict(&asked)?;
        info.insert("label".into(), json!(options.label));
        metrics.extend(r_squared(&predicted, &truth).map(|r| ("ridge.r2".to_string(), r)));
        let clusters = drawn.map(|d| d.1);
        let found = regression(&predicted, &truth, clusters, options.bootstrap.as_ref())?;
        let named = |name: &String| format!("ridge.{name}");
        metrics.extend(found.metrics().iter().map(|(name, v)| (named(name), *v)));
        intervals.extend(found.intervals.iter().map(|(name, v)| (named(name), *v)));
        let mut out = plain(info, metrics);
        out.intervals = intervals;
        return Ok(out);
    }
    let (label, truth) = resolve(table, &options.label)?;
    let known = resolve(&train, &options.label).map_err(|e| e.at_if_nowhere(&plan.train))?;
    let known = recoded(&train, known, table, label);
    info.insert("label".into(), json!(label));
    // The label itself is no group: its classes must be on both sides.
    let groups = groups.filter(|g| g.0 != label).map(|g| g.1);
    let drawn = drawn.filter(|d| d.0 != label).map(|d| d.1);
    let mut judge = |name: &str, predicted: &[u32], bootstrap: Option<&BootstrapConfig>| {
        let (predicted, truth) = dense_pair(predicted, truth);
        let found = Classification::from_predictions(&predicted, &truth, drawn, bootstrap)?;
        for (figure, value) in [
            ("accuracy", found.accuracy),
            ("balanced_accuracy", found.mean_class_accuracy),
        ] {
            metrics.insert(format!("{name}.{figure}"), value);
        }
        if let Some(interval) = found.intervals.get("accuracy") {
            intervals.insert(format!("{name}.accuracy"), *interval);
        }
        Ok::<(), Error>(())
    };
    let bootstrap = options.bootstrap.as_ref();
    let linear = linear_probe(&rows, &known, groups, &config)?;
    judge("linear", &linear.predict(&asked)?, bootstrap)?;
    let mlp = mlp_probe(&rows, &known, groups, &MlpConfig::default(), &config)?;
    judge("mlp", &mlp.predict(&asked)?, bootstrap)?;
    let near = NeighbourConfig::default();
    judge(
        "knn",
        &nearest_neighbours(&rows, &known, &asked, &near)?,
        bootstrap,
    )?;
    info.insert("linear_c".into(), json!(linear.c));
    info.insert("knn".into(), json!(near));
    let seeds: Vec<u64> = (plan.seed..plan.seed + 5).collect();
    for &shots in &plan.shots {
        let found = few_shot_probe((&rows, &known), (&asked, truth), shots, &seeds)?;
        let name = format!("few_shot@{shots}.balanced_accuracy");
        metrics.insert(name, found.accuracy.mean);
        info.insert(format!("few_shot@{shots}"), json!(found.accuracy));
    }
    let mut out = plain(info, metrics);
    out.intervals = intervals;
    Ok(out)
}

/// Codes of text depend on the table: the same name gets the code that it has in `table`.
fn recoded(
    train: &Embeddings,
    (name, codes): (&str, &[u32]),
    table: &Embeddings,
    label: &str,
) -> Vec<u32> {
    let (theirs, ours) = (train.names(name), table.names(label));
    if theirs.is_empty() || ours.is_empty() || theirs == ours {
        return codes.to_vec();
    }
    let mut new = ours.len() as u32;
    let places: Vec<u32> = theirs
        .iter()
        .map(|name| match ours.iter().position(|other| other == name) {
            Some(at) => at as u32,
            None => {
                new += 1;
                new - 1
            }
        })
        .collect();
    let place = |&code: &u32| places.get(code as usize).copied().unwrap_or(code);
    codes.iter().map(place).collect()
}

/// All figures of the embeddings as codes of the factors in the label columns.
pub(crate) fn run_disentanglement(
    factors: Option<&[String]>,
    seeds: u64,
    mut info: Map<String, Value>,
    table: &Embeddings,
) -> Result<Evaluation> {
    let names: Vec<String> = match factors {
        Some(names) => names.to_vec(),
        None => {
            let all = table.all_labels().keys().filter(|n| *n != "predictions");
            let marked: Vec<String> = all
                .clone()
                .filter(|n| n.starts_with("factor."))
                .cloned()
                .collect();
            if marked.is_empty() {
                all.cloned().collect()
            } else {
                marked
            }
        }
    };
    let columns = names
        .iter()
        .map(|name| Ok(table.labels(name)?.to_vec()))
        .collect::<Result<Vec<Vec<u32>>>>()?;
    for (name, column) in names.iter().zip(&columns) {
        if column.iter().all(|v| Some(v) == column.first()) {
            return Err(Error::degenerate(format!(
                "the factor `{name}` is constant: nothing can be said about it"
            )));
        }
    }
    let factors = Factors::new(&columns)?;
    let config = DisentanglementConfig {
        seeds: (0..seeds).collect(),
        ..Default::default()
    };
    let codes = Rows::of(table);
    let found = disentanglement(Coded::new(&codes, &factors)?, &config)?;
    info.remove("score");
    info.remove("bootstrap");
    info.insert("factors".into(), json!(names));
    info.insert("settings".into(), json!(config));
    info.insert("figures".into(), json!(found.figures));
    let metrics = found.figures.iter().map(|(n, s)| (n.clone(), s.mean));
    let mut out = plain(info, metrics.collect());
    out.undefined = found.undefined;
    Ok(out)
}

/// The default normaliser of a number of points: inter-ocular where it is defined, else the box's diagonal.
pub(crate) fn default_normaliser(points: usize) -> Normaliser {
    match points {
        29 | 68 | 98 => Normaliser::InterOcular,
        _ => Normaliser::Diagonal,
    }
}

/// A landmark plan from the part of a name after `landmarks:`.
pub(crate) fn landmark_plan(truth: &Path, points: usize) -> LandmarkPlan {
    LandmarkPlan {
        truth: truth.to_path_buf(),
        normaliser: default_normaliser(points),
        failure: 0.1,
    }
}
