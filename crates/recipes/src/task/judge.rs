//! Judging a task: figures by the names of `phiz-eval`, `eval.json`, `report.html`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use candle::{D, Device, Tensor};
use phiz_data::{encode_png, load_images};
use phiz_eval::report::{ExampleImage, Headline, Report, Series};
use phiz_eval::{
    BootstrapConfig, Classification, Dense3d, Embeddings, EvaluateOptions, LandmarkErrors,
    Normaliser, Protocol, Reconstruction, Sparse2d, cluster_mean_interval, evaluate, regression,
};
use phiz_tasks::image_points;
use serde_json::{Map, Value, json};

use super::config::{TaskConfig, TaskHead, TaskKind};
use super::network::TaskNetwork;
use super::run::TaskRun;
use super::source::{Part, Shelf, Targets, TaskSource, open_task};
use crate::folder::{create_folder, write};
use crate::{Error, Result, open_device};

/// Images seen at once.
const BATCH: usize = 64;

/// Threshold of failure rate and area, as for WFLW.
const THRESHOLD: f64 = 0.1;

/// Figures of one state of a network on one set of images.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Figures {
    pub metrics: BTreeMap<String, f64>,
    pub intervals: BTreeMap<String, [f64; 2]>,
    pub undefined: BTreeMap<String, String>,
    /// Figures of single columns: `AU12.icc`.
    pub columns: BTreeMap<String, f64>,
    /// Cumulative error curve of landmarks.
    pub curve: Vec<(f64, f64)>,
}

/// What was found about a run.
pub struct TaskVerdict {
    /// Data, rules and counts.
    pub protocol: Map<String, Value>,
    /// Every metric by its name, at the last step.
    pub metrics: BTreeMap<String, f64>,
    /// Bootstrap intervals over identities, by metric name.
    pub intervals: BTreeMap<String, [f64; 2]>,
    /// Metrics that are undefined on this input, with the reason.
    pub undefined: BTreeMap<String, String>,
    /// Figures of single action units or numbers, by `AU12.icc` and the like.
    pub columns: BTreeMap<String, f64>,
    /// The step of the best check by the task's first metric, and its metrics; chosen on the images it is judged by.
    pub best: Option<(u64, BTreeMap<String, f64>)>,
    title: String,
    rendered: bool,
    curve: Vec<(f64, f64)>,
    checks: Vec<(u64, BTreeMap<String, f64>)>,
    examples: Vec<ExampleImage>,
}

/// The metric that tells better from worse, and whether more is better.
pub(crate) fn first_metric(config: &TaskConfig) -> (&'static str, bool) {
    match (config.task.kind, config.task.head) {
        (TaskKind::Landmarks, _) => ("nme", false),
        (TaskKind::Face3d, TaskHead::Dense) => ("dense3d", false),
        (TaskKind::Face3d, _) => ("sparse2d", false),
        (TaskKind::ActionUnits, _) => ("icc", true),
        (TaskKind::Affect, _) => ("ccc", true),
        (TaskKind::Recognition, _) => ("auc", true),
    }
}

fn rows(t: &Tensor) -> candle::Result<Vec<Vec<f32>>> {
    t.flatten_from(1)?.to_vec2::<f32>()
}

fn f64s(rows: &[Vec<f32>]) -> Vec<f64> {
    rows.iter().flatten().map(|&v| f64::from(v)).collect()
}

/// Judges a network on a part. Intervals are made with `bootstrap` only: checks on the way go without.
pub(crate) fn judge_part(
    config: &TaskConfig,
    source: &TaskSource,
    part: &Part,
    network: &TaskNetwork,
    device: &Device,
    bootstrap: Option<&BootstrapConfig>,
) -> Result<Figures> {
    let plain = config.image.transform().without_augment();
    let (mut found, mut classes) = (Vec::new(), Vec::new());
    for chunk in part.indices.chunks(BATCH) {
        let images = load_images(part.dataset.as_ref(), chunk, &plain, device)?;
        let prediction = network.predict(&network.read(&images, false)?)?;
        if let Some(values) = &prediction.values {
            if matches!(config.task.kind, TaskKind::Landmarks | TaskKind::Face3d) {
                // Back to pixels of the images as they are stored.
                let dim = values.dim(2)?;
                let pixels = image_points(values, config.image.size)?;
                let maps = source.maps(part, config, chunk)?;
                for (mut row, map) in rows(&pixels)?.into_iter().zip(maps) {
                    let depth = map.depth(1.);
                    for point in row.chunks_exact_mut(dim) {
                        if let [x, y, rest @ ..] = point {
                            [*x, *y] = map.back([*x, *y]);
                            if let [z] = rest {
                                *z /= depth;
                            }
                        }
                    }
                    found.push(row);
                }
            } else {
                found.extend(rows(values)?);
            }
        }
        if let Some(p) = &prediction.classes {
            classes.extend(p.argmax(D::Minus1)?.to_vec1::<u32>()?);
        }
    }
    let labels = part.dataset.labels();
    let identity = labels.codes("identity").ok();
    let clusters: Option<Vec<u32>> =
        identity.map(|codes| part.indices.iter().map(|&i| codes[i]).collect());
    let clusters = clusters.as_deref();
    let mut out = Figures::default();
    match config.task.kind {
        TaskKind::Landmarks => {
            let truth: Vec<f64> = widened(&labels.vectors("landmarks")?.rows(&part.indices)?);
            let errors = LandmarkErrors::new(
                &f64s(&found),
                &truth,
                source.count,
                Normaliser::InterOcular,
                None,
            )?;
            let figures = errors.figures(THRESHOLD, clusters, bootstrap)?;
            out.metrics = BTreeMap::from([
                ("nme".to_string(), figures.nme),
                ("failure_rate".to_string(), figures.failure_rate),
                ("auc".to_string(), figures.auc),
            ]);
            out.intervals = figures.intervals;
            out.curve = errors.ced(THRESHOLD, 100);
        }
        TaskKind::Face3d => three_d(config, part, &found, clusters, bootstrap, &mut out)?,
        TaskKind::ActionUnits => {
            let truth = labels.vectors("action_units")?.rows(&part.indices)?;
            let names = &source.columns;
            columns(
                &found,
                &truth,
                names,
                &["icc", "mse", "mae"],
                clusters,
                bootstrap,
                &mut out,
            )?;
        }
        TaskKind::Affect => {
            if let Ok(column) = labels.vectors("valence_arousal") {
                let truth = column.rows(&part.indices)?;
                let names = ["valence".to_string(), "arousal".to_string()];
                let kept = ["ccc", "pcc", "rmse", "sagr"];
                columns(&found, &truth, &names, &kept, clusters, bootstrap, &mut out)?;
            }
            if !classes.is_empty() {
                let maps = source.maps(part, config, &part.indices)?;
                let targets = source.targets(part, config, &part.indices, &maps, &Device::Cpu)?;
                if let Targets::Affect(Some(truth), _) = targets {
                    let truth = truth.to_vec1::<u32>()?;
                    let judged =
                        Classification::from_predictions(&classes, &truth, clusters, bootstrap)?;
                    out.metrics.extend(judged.metrics());
                    out.intervals.extend(judged.intervals);
                }
            }
        }
        TaskKind::Recognition => {
            let codes = clusters.ok_or_else(|| Error::config("no label identity to judge by"))?;
            let dim = found.first().map_or(1, Vec::len);
            let embeddings =
                Embeddings::new(found.concat(), dim)?.with_labels("labels", codes.to_vec())?;
            let options = EvaluateOptions {
                bootstrap: bootstrap.copied(),
                ..EvaluateOptions::default()
            };
            let judged = evaluate(&Protocol::VerificationAllPairs, &embeddings, &options)?;
            out.metrics = judged.metrics;
            out.intervals = judged.intervals;
            out.undefined = judged.undefined;
        }
    }
    Ok(out)
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Several numbers a sample, each judged over the samples of which it is known; then the mean over those on which a
/// figure is defined.
fn columns(
    found: &[Vec<f32>],
    truth: &[f32],
    names: &[String],
    kept: &[&str],
    clusters: Option<&[u32]>,
    bootstrap: Option<&BootstrapConfig>,
    out: &mut Figures,
) -> Result<()> {
    let width = (truth.len() / found.len().max(1)).max(1);
    let mut sums: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
    for column in 0..width {
        let name = names
            .get(column)
            .cloned()
            .unwrap_or_else(|| column.to_string());
        let (mut x, mut y, mut people) = (Vec::new(), Vec::new(), Vec::new());
        for (i, (p, t)) in found.iter().zip(truth.chunks_exact(width)).enumerate() {
            if let (Some(p), Some(t)) = (p.get(column), t.get(column).filter(|t| !t.is_nan())) {
                x.push(f64::from(*p));
                y.push(f64::from(*t));
                people.extend(clusters.and_then(|c| c.get(i)));
            }
        }
        if y.is_empty() {
            out.undefined
                .insert(name, "known of no judged image".to_string());
            continue;
        }
        let people = clusters.map(|_| people.as_slice());
        let judged = regression(&x, &y, people, bootstrap)?;
        for (metric, value) in judged.metrics() {
            if let Some(metric) = kept.iter().find(|kept| **kept == metric) {
                let sum = sums.entry(metric).or_default();
                *sum = (sum.0 + value, sum.1 + 1);
                out.columns.insert(format!("{name}.{metric}"), value);
            }
        }
        for (metric, interval) in &judged.intervals {
            if kept.contains(&metric.as_str()) {
                out.intervals.insert(format!("{name}.{metric}"), *interval);
            }
        }
    }
    for &metric in kept {
        match sums.get(metric) {
            Some((sum, count)) => {
                let mean = sum / *count as f64;
                out.metrics.insert(metric.to_string(), mean);
                if *count < width {
                    let key = format!("{metric} (columns)");
                    let text = format!("the mean is over {count} of {width} columns");
                    out.undefined.insert(key, text);
                }
            }
            None => {
                let reason = "every column is constant or unknown".to_string();
                out.undefined.insert(metric.to_string(), reason);
            }
        }
    }
    Ok(())
}

fn three_d(
    config: &TaskConfig,
    part: &Part,
    found: &[Vec<f32>],
    clusters: Option<&[u32]>,
    bootstrap: Option<&BootstrapConfig>,
    out: &mut Figures,
) -> Result<()> {
    let labels = part.dataset.labels();
    let dense = config.task.head == TaskHead::Dense;
    let column = labels.vectors(if dense { "vertices" } else { "points3d" })?;
    let corners = labels.vectors("points3d").ok();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (p, &index) in found.iter().zip(&part.indices) {
        let (p, truth) = (widened(p), widened(&column.row(index)?));
        let at = |error: phiz_eval::Error| Error::from(error.record(part.dataset.sample_id(index)));
        if dense {
            first.push(Dense3d::new(&p, &truth).map_err(at)?.0);
        } else {
            let flat =
                |v: &[f64]| -> Vec<f64> { v.chunks_exact(3).flat_map(|p| [p[0], p[1]]).collect() };
            first.push(Sparse2d::new(&flat(&p), &flat(&truth)).map_err(at)?.0);
        }
        if let Some(corners) = corners {
            let points = widened(&corners.row(index)?);
            let corner = |i: usize| {
                points
                    .get(3 * i..3 * i + 3)
                    .and_then(|p| <[f64; 3]>::try_from(p).ok())
            };
            if let (Some(a), Some(b)) = (corner(36), corner(45)) {
                second.push(Reconstruction::new(&p, &truth, [a, b]).map_err(at)?.0);
            }
        }
    }
    let single: Vec<u32> = (0..found.len() as u32).collect();
    let name = if dense { "dense3d" } else { "sparse2d" };
    for (name, errors) in [(name, &first), ("reconstruction", &second)] {
        if errors.len() != found.len() || errors.is_empty() {
            let reason = "needs the label points3d for the corners of the eyes".to_string();
            out.undefined.insert(name.to_string(), reason);
            continue;
        }
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        out.metrics.insert(name.to_string(), mean);
        if let Some(config) = bootstrap {
            let interval = cluster_mean_interval(errors, clusters.unwrap_or(&single), config);
            out.intervals
                .extend(interval.map(|found| (name.to_string(), found)));
        }
    }
    if !dense && let Ok(yaw) = labels.values("factor.yaw") {
        let yaw: Vec<f64> = part.indices.iter().map(|&i| f64::from(yaw[i])).collect();
        let errors: Vec<Sparse2d> = first.iter().map(|&e| Sparse2d(e)).collect();
        match Sparse2d::by_yaw(&errors, &yaw) {
            Ok(bins) => {
                out.metrics
                    .insert("sparse2d_mean_of_yaw_bins".to_string(), bins.mean_of_bins);
            }
            Err(error) => {
                out.undefined
                    .insert("sparse2d_mean_of_yaw_bins".to_string(), error.to_string());
            }
        }
    }
    Ok(())
}

/// Judges a finished run on what its training held out, or on the whole of the data set `data` names.
///
/// # Errors
/// When the weights do not fit, the data cannot be read or lacks the task's labels, or a figure is undefined throughout.
pub fn judge_task(run: &TaskRun, data: Option<&str>, device: &str) -> Result<TaskVerdict> {
    let mut shelf = Shelf::default();
    judge_on_shelf(run, data, device, &mut shelf)
}

pub(crate) fn judge_on_shelf(
    run: &TaskRun,
    data: Option<&str>,
    device: &str,
    shelf: &mut Shelf,
) -> Result<TaskVerdict> {
    let device = open_device(device)?;
    let mut config = run.config.clone();
    if let Some(data) = data.filter(|data| *data != config.data.source) {
        config.data.judged = data.to_string();
    }
    let source = open_task(&config, shelf)?;
    let network = run.network(&device)?;
    let part = &source.judged;
    let bootstrap = BootstrapConfig::default();
    let found = judge_part(&config, &source, part, &network, &device, Some(&bootstrap))?;
    let (first, more) = first_metric(&config);
    let checks = run.checks()?;
    let best = checks
        .iter()
        .filter_map(|(step, metrics)| Some((*step, *metrics.get(first)?)))
        .reduce(|a, b| {
            if (b.1 > a.1) == more && b.1 != a.1 {
                b
            } else {
                a
            }
        })
        .and_then(|(step, _)| checks.iter().find(|(at, _)| *at == step).cloned())
        .filter(|_| data.is_none());
    let rendered = part.dataset.rendered();
    let mut protocol = Map::new();
    protocol.insert("name".into(), json!(config.recipe));
    protocol.insert(
        "data".into(),
        json!({
            "source": config.data.source,
            "split": source.description,
            "judged": part.indices.len(),
            "trained_on": source.train.indices.len(),
            "of": source.whole,
            "rule": config.data.rule.describe(),
            "subset_seed": config.data.subset_seed,
            "rendered": rendered,
            "seed": config.seed,
            "init": config.model.init,
            "mode": config.model.mode,
        }),
    );
    let examples = examples(&config, part)?;
    Ok(TaskVerdict {
        protocol,
        metrics: found.metrics,
        intervals: found.intervals,
        undefined: found.undefined,
        columns: found.columns,
        best,
        title: format!("{} on {}", config.recipe, part.dataset.name()),
        rendered,
        curve: found.curve,
        checks,
        examples,
    })
}

fn examples(_config: &TaskConfig, part: &Part) -> Result<Vec<ExampleImage>> {
    let step = (part.indices.len() / 14).max(1);
    part.indices
        .iter()
        .step_by(step)
        .take(14)
        .map(|&index| {
            Ok(ExampleImage {
                png: encode_png(&part.dataset.image(index)?)?,
                caption: part.dataset.sample_id(index),
            })
        })
        .collect()
}

impl TaskVerdict {
    /// `{"protocol": {...}, "metrics": {...}}`, with `intervals`, `undefined`, `columns` and `best_check` where there
    /// are any.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("protocol".into(), Value::Object(self.protocol.clone()));
        object.insert("metrics".into(), json!(self.metrics));
        if !self.intervals.is_empty() {
            object.insert("intervals".into(), json!(self.intervals));
        }
        if !self.undefined.is_empty() {
            object.insert("undefined".into(), json!(self.undefined));
        }
        if !self.columns.is_empty() {
            object.insert("columns".into(), json!(self.columns));
        }
        if let Some((step, metrics)) = &self.best {
            object.insert(
                "best_check".into(),
                json!({ "step": step, "metrics": metrics, "note": "chosen on the judged images" }),
            );
        }
        Value::Object(object)
    }

    /// The figures as aligned text, one metric a line.
    pub fn table(&self) -> String {
        let about = if self.rendered {
            " (rendered faces)"
        } else {
            ""
        };
        let mut text = format!("{}{about}\n", self.title);
        for (name, value) in &self.metrics {
            let _ = match self.intervals.get(name) {
                Some([low, high]) => {
                    writeln!(text, "  {name:<22} {value:.4}  [{low:.4}, {high:.4}]")
                }
                None => writeln!(text, "  {name:<22} {value:.4}"),
            };
        }
        for (name, reason) in &self.undefined {
            let _ = writeln!(text, "  {name:<22} undefined: {reason}");
        }
        if let Some((step, metrics)) = &self.best {
            let _ = writeln!(
                text,
                "best check, step {step}, chosen on the judged images:"
            );
            for (name, value) in metrics {
                let _ = writeln!(text, "  {name:<22} {value:.4}");
            }
        }
        text
    }

    /// Writes `eval.json` and `report.html` into `folder`.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        create_folder(folder)?;
        write(
            &folder.join("eval.json"),
            &format!("{:#}\n", self.to_json()),
        )?;
        write(&folder.join("report.html"), &self.page())
    }

    fn page(&self) -> String {
        let mut report = Report::new(self.title.clone());
        report.rendered_faces(self.rendered);
        if let Some(about) = self.protocol.get("data").and_then(Value::as_object) {
            for (name, value) in about {
                let text = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_string);
                report.fact(name.clone(), text);
            }
        }
        let line = |values: &BTreeMap<String, f64>| -> Vec<Headline> {
            values
                .iter()
                .map(|(name, value)| Headline {
                    label: name.clone(),
                    value: *value,
                    interval: self.intervals.get(name).copied(),
                })
                .collect()
        };
        report.headline("After the last step", "", &line(&self.metrics));
        if !self.columns.is_empty() {
            report.intervals("Column by column", "", &line(&self.columns), None);
        }
        if let Some((step, metrics)) = &self.best {
            let cards: Vec<Headline> = metrics
                .iter()
                .map(|(name, value)| Headline {
                    label: name.clone(),
                    value: *value,
                    interval: None,
                })
                .collect();
            let note =
                format!("At step {step}, chosen on the images it is judged by: not a result.");
            report.headline("Best check", &note, &cards);
        }
        if !self.curve.is_empty() {
            let series = Series {
                name: "held out".to_string(),
                points: self.curve.clone(),
            };
            report.ced("Cumulative error", &[series], Some(THRESHOLD));
        }
        if self.checks.len() > 1 {
            let names: Vec<&String> = self.metrics.keys().collect();
            for name in names {
                let points: Vec<(f64, f64)> = self
                    .checks
                    .iter()
                    .filter_map(|(step, metrics)| Some((*step as f64, *metrics.get(name)?)))
                    .collect();
                if points.len() > 1 {
                    let series = Series {
                        name: name.clone(),
                        points,
                    };
                    report.training(
                        &format!("{name} on the way"),
                        "step",
                        name,
                        false,
                        &[series],
                    );
                }
            }
        }
        report.images(
            "What was judged",
            "A sample of the judged images.",
            &self.examples,
        );
        report.to_html()
    }
}
