//! From a result to what is said of it: facts of the protocol, figures under their names, curves.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::calibration::{CalibrationConfig, calibration_of_logits};
use crate::classification::Classification;
use crate::embeddings::Embeddings;
use crate::error::Result;
use crate::lookup::{clusters, predictions, resolve};
use crate::protocol::{Curves, EvaluateOptions, Evaluation};
use crate::retrieval::Retrieval;
use crate::verification::{MAX_BOOTSTRAP_PAIRS, Verification, tar_name, too_few};

/// What every evaluation begins with.
pub(crate) fn describe(
    name: &str,
    embeddings: &Embeddings,
    options: &EvaluateOptions,
) -> Map<String, Value> {
    let mut info = Map::new();
    info.insert("name".into(), json!(name));
    info.insert("score".into(), json!(options.score));
    info.insert("samples".into(), json!(embeddings.len()));
    info.insert("dim".into(), json!(embeddings.dim()));
    if let Some(bootstrap) = &options.bootstrap {
        info.insert("bootstrap".into(), json!(bootstrap));
        name_unit(&mut info, "label");
    }
    info
}

/// Says what the bootstrap draws.
pub(crate) fn name_unit(info: &mut Map<String, Value>, unit: &str) {
    if let Some(bootstrap) = info.get_mut("bootstrap").and_then(Value::as_object_mut) {
        bootstrap.insert("unit".into(), json!(unit));
    }
}

/// A result of figures alone.
pub(crate) fn plain(info: Map<String, Value>, metrics: BTreeMap<String, f64>) -> Evaluation {
    Evaluation {
        protocol: info,
        metrics,
        intervals: BTreeMap::new(),
        undefined: BTreeMap::new(),
        curves: Curves::default(),
    }
}

/// Accuracies and the confusion matrix, with calibration where there are logits.
pub(crate) fn classification(
    mut info: Map<String, Value>,
    embeddings: &Embeddings,
    options: &EvaluateOptions,
) -> Result<Evaluation> {
    let (label, labels) = resolve(embeddings, &options.label)?;
    let drawn = clusters(embeddings, options)?;
    let (cluster, clusters) = (drawn.map_or("sample", |d| d.0), drawn.map(|d| d.1));
    let bootstrap = options.bootstrap.as_ref();
    let result = if let Some(logits) = embeddings.logits() {
        Classification::from_logits(logits, labels, clusters, bootstrap)?
    } else {
        Classification::from_predictions(&predictions(embeddings)?, labels, clusters, bootstrap)?
    };
    info.remove("score");
    info.insert("label".into(), json!(label));
    info.insert("classes".into(), json!(result.confusion.classes()));
    name_unit(&mut info, cluster);
    let calibration = match embeddings.logits() {
        Some(logits) => {
            let config = CalibrationConfig::default();
            Some(calibration_of_logits(
                logits, labels, &config, clusters, bootstrap,
            )?)
        }
        None => None,
    };
    let (mut metrics, mut intervals) = (result.metrics(), result.intervals);
    if let Some(calibration) = &calibration {
        metrics.insert("ece".to_string(), calibration.ece);
        let interval = calibration.intervals.get("ece");
        intervals.extend(interval.map(|i| ("ece".to_string(), *i)));
    }
    Ok(Evaluation {
        protocol: info,
        metrics,
        intervals,
        undefined: BTreeMap::new(),
        curves: Curves {
            calibration,
            confusion: Some(result.confusion),
            class_names: embeddings.names(label).to_vec(),
            ..Default::default()
        },
    })
}

/// Pairs: curves, rates, and what the rates rest on.
pub(crate) fn verification(
    mut info: Map<String, Value>,
    result: Verification,
    options: &EvaluateOptions,
) -> Evaluation {
    let (genuine, impostor) = (result.roc.genuine(), result.roc.impostor());
    info.insert("genuine_pairs".into(), json!(genuine));
    info.insert("impostor_pairs".into(), json!(impostor));
    info.insert(
        "tar_rule".into(),
        json!("largest acceptance whose FAR does not exceed the target"),
    );
    info.insert("eer_threshold".into(), json!(result.eer.threshold));
    let accepted: Map<String, Value> = result
        .tars
        .iter()
        .filter_map(|(far, tar)| Some((tar_name(*far), json!(tar.as_ref()?))))
        .collect();
    info.insert("tar_detail".into(), Value::Object(accepted));
    let unit = match result.bootstrap_unit {
        "cluster" => options.cluster.as_deref().unwrap_or("identity"),
        other => other,
    };
    name_unit(&mut info, unit);
    if options.bootstrap.is_some() && genuine + impostor > MAX_BOOTSTRAP_PAIRS {
        info.insert(
            "bootstrap".into(),
            json!(format!("left out: more than {MAX_BOOTSTRAP_PAIRS} pairs")),
        );
    }
    if let Some(folds) = &result.folds {
        info.insert("folds".into(), json!(folds));
    }
    if !result.operating.is_empty() {
        info.insert("operating".into(), json!(result.operating));
    }
    let undefined = result
        .tars
        .iter()
        .filter(|(_, tar)| tar.is_none())
        .map(|&(far, _)| (tar_name(far), too_few(far, impostor)))
        .collect();
    let mut metrics = result.metrics();
    for at in &result.operating {
        for (figure, value) in [("tar", at.tar), ("far", at.far), ("accuracy", at.accuracy)] {
            metrics.insert(format!("{figure}@threshold={:.6}", at.threshold), value);
        }
    }
    Evaluation {
        protocol: info,
        metrics,
        undefined,
        curves: Curves {
            roc: result.roc.curve(),
            band: result.band,
            histogram: Some(result.histogram),
            false_rejects: result.false_rejects,
            false_accepts: result.false_accepts,
            ..Default::default()
        },
        intervals: result.intervals,
    }
}

/// Ranks.
pub(crate) fn retrieval(mut info: Map<String, Value>, result: Retrieval) -> Evaluation {
    info.insert("queries".into(), json!(result.queries));
    if result.per_class.len() <= 200 {
        info.insert("per_class".into(), json!(result.per_class));
    }
    info.insert("lone_samples".into(), json!(result.lone));
    Evaluation {
        protocol: info,
        metrics: result.metrics(),
        intervals: result.intervals,
        undefined: BTreeMap::new(),
        curves: Curves {
            cmc: result.cmc,
            ..Default::default()
        },
    }
}
