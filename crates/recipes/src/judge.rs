//! Judging a run, or embeddings written by any program: figures, `eval.json`, `report.html`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use candle::{Device, Tensor};
use phiz_data::{Column, Dataset, load_images};
use phiz_eval::{Comparison, Embeddings, EvaluateOptions, Evaluation, Protocol, compare, evaluate};
use serde_json::{Map, Value, json};

use crate::network::Network;
use crate::run::Run;
use crate::source::{Source, class_targets, open, open_source};
use crate::{Result, open_device};

/// Images embedded at once.
const BATCH: usize = 128;

/// What was found, by one or more protocols.
pub struct Verdict {
    /// Name, rules and counts of the protocols, and what was judged.
    pub protocol: Map<String, Value>,
    /// Every metric by its name.
    pub metrics: BTreeMap<String, f64>,
    /// Bootstrap intervals by metric name.
    pub intervals: BTreeMap<String, [f64; 2]>,
    /// Metrics that are undefined on this input, with the reason.
    pub undefined: BTreeMap<String, String>,
    /// The protocols' own results, with their curves.
    pub evaluations: Vec<Evaluation>,
    /// What was judged.
    pub embeddings: Embeddings,
    /// Differences from another table, protocol by protocol; see [`Verdict::against`].
    pub comparisons: Vec<Comparison>,
    pub(crate) subject: Subject,
}

/// What a verdict is about, for titles and pictures.
pub(crate) struct Subject {
    pub title: String,
    pub rendered: bool,
    /// Images in the order of the embeddings.
    pub images: Option<(Arc<dyn Dataset>, Vec<usize>)>,
    /// Folder with `metrics.jsonl`.
    pub run: Option<PathBuf>,
}

/// Judges a run on what its training held out, or on the whole of the data set `data` names.
///
/// A `data` that is the run's own training data is judged on its held-out part too. Without
/// `protocols`: classification where the labels are the classes that were learned; verification on
/// all pairs and retrieval where they are new identities.
///
/// # Errors
/// When the weights do not fit, the data cannot be read, or a protocol is undefined on it.
pub fn judge(
    run: &Run,
    data: Option<&str>,
    protocols: &[Protocol],
    device: &str,
) -> Result<Verdict> {
    let device = open_device(device)?;
    let own = data.is_none_or(|data| data == run.config.data.source);
    let (dataset, indices, part) = if own {
        let Source {
            dataset,
            held_out,
            description,
            ..
        } = open_source(&run.config)?;
        (dataset, held_out, description)
    } else {
        let dataset = open(data.unwrap_or_default())?;
        let everything = (0..dataset.len()).collect();
        (dataset, everything, "all images".to_string())
    };
    let embeddings = embed_part(run, dataset.as_ref(), &indices, &device)?;
    let chosen = match protocols {
        [] if embeddings.logits().is_some() => {
            vec![Protocol::Classification, Protocol::VerificationAllPairs]
        }
        [] => vec![Protocol::VerificationAllPairs, Protocol::Retrieval],
        chosen => chosen.to_vec(),
    };
    let about = json!({
        "source": data.unwrap_or(&run.config.data.source),
        "part": part,
        "images": indices.len(),
        "rendered": dataset.rendered(),
        "target": run.config.data.target,
        "recipe": run.config.recipe,
        "seed": run.config.seed,
    });
    let rendered = dataset.rendered();
    let subject = Subject {
        title: format!("{} on {}", run.config.recipe, dataset.name()),
        rendered,
        images: Some((dataset, indices)),
        run: Some(run.folder.clone()),
    };
    verdict(embeddings, &chosen, about, subject)
}

/// Judges a table of embeddings called `name`; without `protocols` by verification on all pairs.
///
/// # Errors
/// When a protocol is undefined on it.
pub fn judge_embeddings(
    name: &Path,
    embeddings: Embeddings,
    protocols: &[Protocol],
    options: &EvaluateOptions,
) -> Result<Verdict> {
    let about = json!({ "embeddings": name.display().to_string(), "rows": embeddings.len() });
    let title = name.file_name().map_or_else(
        || "embeddings".into(),
        |name| name.to_string_lossy().into_owned(),
    );
    let subject = Subject {
        title,
        rendered: false,
        images: None,
        run: None,
    };
    verdict_with(embeddings, &or_default(protocols), options, about, subject)
}

fn or_default(protocols: &[Protocol]) -> Vec<Protocol> {
    if protocols.is_empty() {
        vec![Protocol::VerificationAllPairs]
    } else {
        protocols.to_vec()
    }
}

/// Reads protocol names.
///
/// # Errors
/// When one is unknown; the message lists those there are.
pub fn protocols(names: &[String]) -> Result<Vec<Protocol>> {
    names
        .iter()
        .map(|name| Ok(Protocol::from_str(name)?))
        .collect()
}

/// The embeddings of a whole data set under a run's network, with every label it has.
///
/// # Errors
/// When the weights do not fit or the data cannot be read.
pub fn embed(run: &Run, data: &str, device: &str) -> Result<Embeddings> {
    let device = open_device(device)?;
    let dataset = open(data)?;
    let indices: Vec<usize> = (0..dataset.len()).collect();
    embed_part(run, dataset.as_ref(), &indices, &device)
}

fn embed_part(
    run: &Run,
    dataset: &dyn Dataset,
    indices: &[usize],
    device: &Device,
) -> Result<Embeddings> {
    let network = run.network(device)?;
    let mut values = Vec::new();
    let mut logits = Vec::new();
    for chunk in indices.chunks(BATCH) {
        let images = load_images(
            dataset,
            chunk,
            &run.config.image.transform().without_augment(),
            device,
        )?;
        let (embedding, scores) = forward(&network, &images, run.config.image.test_flip)?;
        values.extend(embedding.flatten_all()?.to_vec1::<f32>()?);
        if let Some(scores) = scores {
            logits.extend(scores.flatten_all()?.to_vec1::<f32>()?);
        }
    }
    let mut embeddings = Embeddings::new(values, run.config.model.embedding_dim)?.with_ids(
        indices
            .iter()
            .map(|&index| dataset.sample_id(index))
            .collect(),
    )?;
    for (name, column) in dataset.labels().columns() {
        embeddings = match column {
            Column::Categorical { codes, names } => embeddings
                .with_labels(name, pick(codes, indices))?
                .with_names(name, names.clone()),
            Column::Continuous(numbers) => embeddings.with_factor(name, pick(numbers, indices))?,
        };
    }
    let target = &run.config.data.target;
    if dataset.labels().get(target).is_none() {
        return Ok(embeddings);
    }
    let known: Option<Vec<u32>> = {
        let targets = class_targets(dataset, target, &run.classes)?;
        indices.iter().map(|&index| targets[index]).collect()
    };
    Ok(match known {
        // The labels are the classes that were learned, so the logits can be judged.
        Some(labels) => {
            let embeddings = embeddings
                .with_labels("labels", labels)?
                .with_names("labels", run.classes.clone());
            if logits.is_empty() {
                embeddings
            } else {
                embeddings.with_logits(logits, run.classes.len())?
            }
        }
        None => embeddings
            .with_labels("labels", pick(dataset.labels().codes(target)?, indices))?
            .with_names("labels", dataset.labels().names(target)?.to_vec()),
    })
}

fn forward(network: &Network, images: &Tensor, mirrored: bool) -> Result<(Tensor, Option<Tensor>)> {
    let seen = network.judge(images)?;
    if !mirrored {
        return Ok((seen.embedding, seen.logits));
    }
    let width = images.dim(3)? as u32;
    let backwards = Tensor::from_vec(
        (0..width).rev().collect::<Vec<u32>>(),
        width as usize,
        images.device(),
    )?;
    let mirror = network.judge(&images.index_select(&backwards, 3)?)?;
    let mean = |a: &Tensor, b: &Tensor| -> Result<Tensor> { Ok(((a + b)? * 0.5)?) };
    let logits = match (&seen.logits, &mirror.logits) {
        (Some(a), Some(b)) => Some(mean(a, b)?),
        _ => None,
    };
    Ok((mean(&seen.embedding, &mirror.embedding)?, logits))
}

fn pick<T: Copy>(values: &[T], indices: &[usize]) -> Vec<T> {
    indices.iter().map(|&index| values[index]).collect()
}

pub(crate) fn verdict(
    embeddings: Embeddings,
    protocols: &[Protocol],
    about: Value,
    subject: Subject,
) -> Result<Verdict> {
    let options = EvaluateOptions::default();
    verdict_with(embeddings, protocols, &options, about, subject)
}

fn verdict_with(
    embeddings: Embeddings,
    protocols: &[Protocol],
    options: &EvaluateOptions,
    about: Value,
    subject: Subject,
) -> Result<Verdict> {
    let evaluations: Vec<Evaluation> = protocols
        .iter()
        .map(|protocol| Ok(evaluate(protocol, &embeddings, options)?))
        .collect::<Result<_>>()?;
    let mut verdict = Verdict {
        protocol: Map::new(),
        metrics: BTreeMap::new(),
        intervals: BTreeMap::new(),
        undefined: BTreeMap::new(),
        evaluations: Vec::new(),
        embeddings,
        comparisons: Vec::new(),
        subject,
    };
    for evaluation in &evaluations {
        match protocols {
            [_] => verdict.protocol.clone_from(&evaluation.protocol),
            _ => {
                let name = evaluation
                    .protocol
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or("protocol");
                verdict
                    .protocol
                    .insert(name.to_string(), Value::Object(evaluation.protocol.clone()));
            }
        }
        // A name that an earlier protocol has taken already is told apart by the protocol's.
        let name = |metric: &String| {
            let taken = &verdict.metrics;
            if taken.contains_key(metric) || verdict.undefined.contains_key(metric) {
                format!("{metric} ({})", evaluation.name())
            } else {
                metric.clone()
            }
        };
        let renamed: BTreeMap<&String, String> = evaluation
            .metrics
            .keys()
            .chain(evaluation.undefined.keys())
            .map(|metric| (metric, name(metric)))
            .collect();
        let called = |metric: &String| renamed.get(metric).unwrap_or(metric).clone();
        for (metric, value) in &evaluation.metrics {
            verdict.metrics.insert(called(metric), *value);
        }
        for (metric, interval) in &evaluation.intervals {
            verdict.intervals.insert(called(metric), *interval);
        }
        for (metric, reason) in &evaluation.undefined {
            verdict.undefined.insert(called(metric), reason.clone());
        }
    }
    verdict.protocol.insert("data".to_string(), about);
    verdict.evaluations = evaluations;
    Ok(verdict)
}

impl Verdict {
    /// `{"protocol": {...}, "metrics": {...}}`, with `intervals` and `undefined` where there are any.
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
        if !self.comparisons.is_empty() {
            object.insert("against".into(), json!(self.comparisons));
        }
        Value::Object(object)
    }

    /// Compares with another table of the same samples by the same protocols; differences are this one's minus the
    /// other's.
    ///
    /// # Errors
    /// When the tables are not of the same samples, or a protocol is undefined on the other.
    pub fn against(
        &mut self,
        name: &Path,
        other: &Embeddings,
        protocols: &[Protocol],
        options: &EvaluateOptions,
    ) -> Result<()> {
        let about = json!({ "embeddings": name.display().to_string(), "rows": other.len() });
        self.protocol.insert("against".to_string(), about);
        self.comparisons = or_default(protocols)
            .iter()
            .map(|protocol| Ok(compare(protocol, &self.embeddings, other, options)?))
            .collect::<Result<_>>()?;
        Ok(())
    }

    /// The figures as aligned text, one metric a line.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let about = if self.subject.rendered {
            " (rendered faces)"
        } else {
            ""
        };
        let _ = writeln!(text, "{}{about}", self.subject.title);
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
        for comparison in &self.comparisons {
            let _ = writeln!(
                text,
                "difference, {} (resampled by {})",
                comparison.protocol, comparison.unit
            );
            for (name, found) in &comparison.differences {
                let difference = found.difference;
                let _ = match found.interval {
                    Some([low, high]) => {
                        writeln!(
                            text,
                            "  {name:<22} {difference:+.4}  [{low:+.4}, {high:+.4}]"
                        )
                    }
                    None => writeln!(text, "  {name:<22} {difference:+.4}"),
                };
            }
            for (name, difference) in &comparison.plain {
                let _ = writeln!(text, "  {name:<22} {difference:+.4}");
            }
            if let Some(p) = comparison.delong.and_then(|d| d.p_value) {
                let _ = writeln!(text, "  {:<22} {p:.4} (pairs as independent)", "DeLong p");
            }
        }
        text
    }

    /// Writes `eval.json` and `report.html` into `folder`.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        crate::folder::create_folder(folder)?;
        crate::folder::write_json(&folder.join("eval.json"), &self.to_json())?;
        let page = crate::page::page(self)?;
        crate::folder::write(&folder.join("report.html"), &page)
    }
}
