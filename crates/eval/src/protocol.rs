//! Protocols by name: what is compared with what, by whose rules.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::bootstrap::{BandPoint, BootstrapConfig};
use crate::calibration::Calibration;
use crate::classification::Confusion;
use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::folds::FoldRule;
use crate::hardest::ScoredPair;
use crate::plan::Plan;
use crate::retrieval::RetrievalConfig;
use crate::roc::CurvePoint;
use crate::score::{Score, ScoreHistogram};
use crate::verification::VerificationConfig;

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
    /// `lfw-strict:FILE`, `lfw-insightface:FILE`, `lfw-facex-zoo:FILE`: accuracy over the folds of a pair list, by the
    /// rules of that name.
    Folds(FoldRule, PathBuf),
    /// `retrieval`: the nearest other samples of each sample.
    Retrieval,
    /// `clustering`: agreement of k-means clusters, as many as labels, with the labels.
    Clustering,
    /// `classification`: predicted against true classes.
    Classification,
    /// `regression`: columns `predicted.NAME` against `NAME`.
    Regression,
    /// `landmarks:FILE`: the rows are coordinates x, y, x, y, ...; the true ones are in the file. Divided by the distance
    /// of the outer eye corners for 29, 68 and 98 points, else by the diagonal of the box (`box.width`, `box.height`
    /// beside the truth); failures above 0.1. A protocol file says otherwise.
    Landmarks(PathBuf),
    /// `probes:FILE`: linear, perceptron and nearest-neighbour probes fitted to the table in the file, judged on this one.
    Probes(PathBuf),
    /// `disentanglement`: how the rows as codes follow the factors in the label columns (`factor.*` where there are any).
    Disentanglement,
    /// `NAME.toml`: what a file says; see [`ProtocolFile`](crate::ProtocolFile).
    File(PathBuf),
}

impl Protocol {
    /// The names that are understood, for help texts.
    pub const NAMES: [&'static str; 13] = [
        "verification-all-pairs",
        "verification-pairs:FILE",
        "lfw-strict:FILE",
        "lfw-insightface:FILE",
        "lfw-facex-zoo:FILE",
        "retrieval",
        "clustering",
        "classification",
        "regression",
        "landmarks:FILE",
        "probes:FILE",
        "disentanglement",
        "FILE.toml",
    ];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VerificationAllPairs => f.write_str("verification-all-pairs"),
            Self::VerificationPairs(path) => write!(f, "verification-pairs:{}", path.display()),
            Self::Folds(rule, path) => write!(f, "lfw-{rule}:{}", path.display()),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Retrieval => f.write_str("retrieval"),
            Self::Clustering => f.write_str("clustering"),
            Self::Classification => f.write_str("classification"),
            Self::Regression => f.write_str("regression"),
            Self::Landmarks(path) => write!(f, "landmarks:{}", path.display()),
            Self::Probes(path) => write!(f, "probes:{}", path.display()),
            Self::Disentanglement => f.write_str("disentanglement"),
        }
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, file) = text.split_once(':').unwrap_or((text, ""));
        let rule = name.strip_prefix("lfw-").and_then(|rule| rule.parse().ok());
        match (name, rule) {
            (_, Some(rule)) if !file.is_empty() => Ok(Self::Folds(rule, file.into())),
            ("verification-pairs", _) if !file.is_empty() => {
                Ok(Self::VerificationPairs(file.into()))
            }
            ("landmarks", _) if !file.is_empty() => Ok(Self::Landmarks(file.into())),
            ("probes", _) if !file.is_empty() => Ok(Self::Probes(file.into())),
            _ if text.ends_with(".toml") => Ok(Self::File(text.into())),
            ("verification-all-pairs", _) if text == name => Ok(Self::VerificationAllPairs),
            ("retrieval", _) if text == name => Ok(Self::Retrieval),
            ("clustering", _) if text == name => Ok(Self::Clustering),
            ("classification", _) if text == name => Ok(Self::Classification),
            ("regression", _) if text == name => Ok(Self::Regression),
            ("disentanglement", _) if text == name => Ok(Self::Disentanglement),
            _ => Err(Error::usage(format!(
                "unknown protocol `{text}`; known: {}",
                Self::NAMES.join(", ")
            ))),
        }
    }
}

/// Choices that protocols share.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluateOptions {
    /// The label column to judge by. Default `labels`; when that is absent and there is only one column, that one.
    pub label: String,
    /// The column whose values the bootstrap draws (as a rule `identity`). Default `None`: `identity` where there is such
    /// a column, else the values of `label` (verification, retrieval) or samples (the others).
    pub cluster: Option<String>,
    /// A column whose values are groups: figures for each of them and the gaps between them are added. Default `None`.
    pub group: Option<String>,
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
            group: None,
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
    /// Cumulative error curve of landmarks: (error, share of images at or below it).
    pub ced: Vec<(f64, f64)>,
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
/// `predictions`. What a protocol file says goes before `options`. With a group column, figures by group are added.
///
/// # Errors
/// When the table lacks what the protocol needs, or the metric is undefined on it (one class only, no genuine pair).
pub fn evaluate(
    protocol: &Protocol,
    embeddings: &Embeddings,
    options: &EvaluateOptions,
) -> Result<Evaluation> {
    Plan::new(protocol, embeddings, options)?.run(embeddings)
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
