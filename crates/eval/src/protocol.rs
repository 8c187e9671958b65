//! Protocols by name: what is compared with what, by whose rules.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::bootstrap::{BandPoint, BootstrapConfig};
use crate::calibration::{Calibration, CalibrationConfig, calibration_of_logits};
use crate::classification::{Classification, Confusion};
use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::hardest::ScoredPair;
use crate::pairs::PairList;
use crate::retrieval::{Retrieval, RetrievalConfig, retrieve};
use crate::roc::CurvePoint;
use crate::score::{Score, ScoreHistogram};
use crate::verification::{
    MAX_BOOTSTRAP_PAIRS, Verification, VerificationConfig, tar_name, verify_all_pairs, verify_pairs,
};

/// A named way of judging embeddings.
///
/// ```
/// use phiz_eval::Protocol;
/// let protocol: Protocol = "verification-all-pairs".parse()?;
/// assert_eq!(protocol, Protocol::VerificationAllPairs);
/// let error = "verification".parse::<Protocol>().unwrap_err();
/// assert!(error.to_string().contains("known: verification-all-pairs, "));
/// # Ok::<(), phiz_eval::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// `verification-all-pairs`: every sample against every other one.
    VerificationAllPairs,
    /// `verification-pairs:FILE`: the pairs of a CSV file `a,b,same[,fold]`.
    VerificationPairs(PathBuf),
    /// `retrieval`: the nearest other samples of each sample.
    Retrieval,
    /// `classification`: predicted against true classes.
    Classification,
}

impl Protocol {
    /// The names that are understood, for help texts.
    pub const NAMES: [&'static str; 4] = [
        "verification-all-pairs",
        "verification-pairs:FILE",
        "retrieval",
        "classification",
    ];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VerificationAllPairs => f.write_str("verification-all-pairs"),
            Self::VerificationPairs(path) => write!(f, "verification-pairs:{}", path.display()),
            Self::Retrieval => f.write_str("retrieval"),
            Self::Classification => f.write_str("classification"),
        }
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "verification-all-pairs" => Ok(Self::VerificationAllPairs),
            "retrieval" => Ok(Self::Retrieval),
            "classification" => Ok(Self::Classification),
            _ => match text.strip_prefix("verification-pairs:") {
                Some(path) if !path.is_empty() => Ok(Self::VerificationPairs(path.into())),
                _ => Err(Error::usage(format!(
                    "unknown protocol `{text}`; known: {}",
                    Self::NAMES.join(", ")
                ))),
            },
        }
    }
}

/// Choices that protocols share.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluateOptions {
    /// The label column to judge by. Default `labels`; when that is absent and there is only one column, that one.
    pub label: String,
    /// The column whose values the bootstrap draws, for verification and classification (as a rule `identity`). Default
    /// `None`: `identity` where there is such a column, else the values of `label` (verification) or samples
    /// (classification). Retrieval draws the values of `label`.
    pub cluster: Option<String>,
    /// The similarity. Default cosine.
    pub score: Score,
    /// False accept rates. Default 1e-1, 1e-2, 1e-3, 1e-4.
    pub fars: Vec<f64>,
    /// The k of `recall@k`. Default 1, 5, 10.
    pub ks: Vec<usize>,
    /// Bootstrap intervals; `None` leaves them out. Default 200 resamples.
    pub bootstrap: Option<BootstrapConfig>,
    /// How many of the hardest pairs of each kind to keep. Default 8.
    pub hardest: usize,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        let verification = VerificationConfig::default();
        Self {
            label: "labels".to_string(),
            cluster: None,
            score: verification.score,
            fars: verification.fars,
            ks: RetrievalConfig::default().ks,
            bootstrap: verification.bootstrap,
            hardest: verification.hardest,
        }
    }
}

/// What came out: serialises as `{"protocol": {...}, "metrics": {...}}`, with `intervals` and `undefined` beside them
/// where there are any. Curves are for the report and are not serialised.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// Name, rules and counts: enough to repeat the evaluation and to tell it from others.
    pub protocol: Map<String, Value>,
    /// Metric names to values.
    pub metrics: BTreeMap<String, f64>,
    /// Bootstrap intervals by metric name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub intervals: BTreeMap<String, [f64; 2]>,
    /// Metrics that are undefined on this input, with the reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub undefined: BTreeMap<String, String>,
    /// Curves, counts and pairs for the report.
    #[serde(skip)]
    pub curves: Curves,
}

/// What a report draws.
#[derive(Debug, Clone, Default)]
pub struct Curves {
    /// ROC, thinned for plotting.
    pub roc: Vec<CurvePoint>,
    /// Pointwise intervals along it.
    pub band: Vec<BandPoint>,
    /// Score counts.
    pub histogram: Option<ScoreHistogram>,
    /// Genuine pairs with the lowest scores.
    pub false_rejects: Vec<ScoredPair>,
    /// Impostor pairs with the highest scores.
    pub false_accepts: Vec<ScoredPair>,
    /// Cumulative match curve from rank 1.
    pub cmc: Vec<f64>,
    /// Counts of true and predicted classes.
    pub confusion: Option<Confusion>,
    /// How honest the confidences are, for logits.
    pub calibration: Option<Calibration>,
    /// Names of the classes, where known.
    pub class_names: Vec<String>,
}

/// Judges `embeddings` by `protocol`.
///
/// `classification` takes its predictions from the table: `logits` where there are any, otherwise an integer column
/// `predictions`.
///
/// # Errors
/// When the table lacks what the protocol needs, or the metric is undefined on it (one class only, no genuine pair).
pub fn evaluate(
    protocol: &Protocol,
    embeddings: &Embeddings,
    options: &EvaluateOptions,
) -> Result<Evaluation> {
    match protocol {
        Protocol::VerificationAllPairs => {
            let (label, labels) = resolve(embeddings, &options.label)?;
            let result = verify_all_pairs(
                embeddings,
                labels,
                &verification_config(embeddings, options)?,
            )?;
            let mut info = describe(protocol, embeddings, options);
            info.insert("label".into(), json!(label));
            info.insert("classes".into(), json!(distinct(labels)));
            Ok(verification(info, result, options))
        }
        Protocol::VerificationPairs(path) => {
            let list = PairList::read_csv(path, embeddings)?;
            let labels = resolve(embeddings, &options.label).ok();
            let config = verification_config(embeddings, options)?;
            let result = verify_pairs(embeddings, &list, labels.map(|l| l.1), &config)
                .map_err(|e| e.at(path))?;
            let mut info = describe(protocol, embeddings, options);
            if let Some((label, _)) = labels {
                info.insert("label".into(), json!(label));
            }
            Ok(verification(info, result, options))
        }
        Protocol::Retrieval => {
            let (label, labels) = resolve(embeddings, &options.label)?;
            let config = RetrievalConfig {
                score: options.score,
                ks: options.ks.clone(),
                bootstrap: options.bootstrap,
                ..Default::default()
            };
            let result = retrieve(embeddings, labels, &config)?;
            let mut info = describe(protocol, embeddings, options);
            info.insert("label".into(), json!(label));
            info.insert("classes".into(), json!(distinct(labels)));
            Ok(retrieval(info, result))
        }
        Protocol::Classification => {
            let (label, labels) = resolve(embeddings, &options.label)?;
            let drawn = clusters(embeddings, options)?;
            let (cluster, clusters) = (drawn.map_or("sample", |d| d.0), drawn.map(|d| d.1));
            let bootstrap = options.bootstrap.as_ref();
            let result = if let Some(logits) = embeddings.logits() {
                Classification::from_logits(logits, labels, clusters, bootstrap)?
            } else {
                let predicted = embeddings.labels("predictions").map_err(|_| {
                    Error::missing(
                        "classification needs `logits` (N, classes) or `predictions` (N) beside the embeddings",
                    )
                })?;
                Classification::from_predictions(predicted, labels, clusters, bootstrap)?
            };
            let mut info = describe(protocol, embeddings, options);
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
    }
}

/// The wanted label column, or the only one when the default is absent.
fn resolve<'a>(embeddings: &'a Embeddings, wanted: &'a str) -> Result<(&'a str, &'a [u32])> {
    match embeddings.labels(wanted) {
        Ok(labels) => Ok((wanted, labels)),
        Err(error) => {
            let mut others = embeddings
                .all_labels()
                .iter()
                .filter(|l| l.0 != "predictions");
            match (others.next(), others.next()) {
                (Some((name, labels)), None) if wanted == "labels" => Ok((name, labels)),
                _ => Err(error),
            }
        }
    }
}

fn distinct(labels: &[u32]) -> usize {
    labels
        .iter()
        .collect::<std::collections::BTreeSet<_>>()
        .len()
}

fn verification_config(
    embeddings: &Embeddings,
    options: &EvaluateOptions,
) -> Result<VerificationConfig> {
    Ok(VerificationConfig {
        score: options.score,
        fars: options.fars.clone(),
        bootstrap: options.bootstrap,
        hardest: options.hardest,
        clusters: clusters(embeddings, options)?.map(|c| c.1.to_vec()),
        ..Default::default()
    })
}

/// The column that the bootstrap draws: the one that was asked for, else `identity` where there is one.
fn clusters<'a>(
    embeddings: &'a Embeddings,
    options: &'a EvaluateOptions,
) -> Result<Option<(&'a str, &'a [u32])>> {
    let name = options.cluster.as_deref().unwrap_or("identity");
    match embeddings.labels(name) {
        Ok(clusters) => Ok(Some((name, clusters))),
        Err(error) if options.cluster.is_some() => Err(error),
        Err(_) => Ok(None),
    }
}

fn describe(
    protocol: &Protocol,
    embeddings: &Embeddings,
    options: &EvaluateOptions,
) -> Map<String, Value> {
    let mut info = Map::new();
    info.insert("name".into(), json!(protocol.to_string()));
    info.insert("score".into(), json!(options.score));
    info.insert("samples".into(), json!(embeddings.len()));
    info.insert("dim".into(), json!(embeddings.dim()));
    if let Some(bootstrap) = &options.bootstrap {
        info.insert("bootstrap".into(), json!(bootstrap));
        name_unit(&mut info, "label");
    }
    info
}

fn name_unit(info: &mut Map<String, Value>, unit: &str) {
    if let Some(bootstrap) = info.get_mut("bootstrap").and_then(Value::as_object_mut) {
        bootstrap.insert("unit".into(), json!(unit));
    }
}

fn verification(
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
    let undefined = result
        .tars
        .iter()
        .filter(|(_, tar)| tar.is_none())
        .map(|&(far, _)| {
            let reason = format!(
                "needs {} impostor pairs, there are {impostor}",
                (1.0 / far).ceil()
            );
            (tar_name(far), reason)
        })
        .collect();
    Evaluation {
        protocol: info,
        metrics: result.metrics(),
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

fn retrieval(mut info: Map<String, Value>, result: Retrieval) -> Evaluation {
    info.insert("queries".into(), json!(result.queries));
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

impl Evaluation {
    /// The protocol's name.
    pub fn name(&self) -> &str {
        self.protocol
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or("")
    }
}
