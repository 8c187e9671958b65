//! One against one: are two images of the same identity?

use std::collections::BTreeMap;
use std::str::FromStr;

use rayon::prelude::*;
use serde::Serialize;

use crate::all_pairs::{AllPairs, BINS};
use crate::bootstrap::{
    BandPoint, BootstrapConfig, FIXED_FIGURES, WeightedPairs, band_rates, dense_codes,
};
use crate::conditions::{Condition, admitted};
use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::folds::{FoldAccuracy, FoldRule, fold_accuracy};
use crate::hardest::{Hardest, ScoredPair};
use crate::pairs::{Pair, PairList};
use crate::roc::{EqualError, Kept, Roc, TarAtFar};
use crate::score::{Measure, Score, ScoreHistogram, Side};

/// Most scores of the smaller set that are kept: 4 GB at 28 bytes each, when no two are equal. Two equal classes of
/// 20,000 images are 100 million; a thousand classes are 0.2 million.
const MAX_KEPT: u64 = 150_000_000;
/// Most pairs that are resampled (2,828 images, all pairs): 64 MB and about a second on two cores.
pub const MAX_BOOTSTRAP_PAIRS: u64 = 4_000_000;

/// How to verify.
#[derive(Debug, Clone, PartialEq)]
pub struct VerificationConfig {
    /// The similarity. Default cosine.
    pub score: Score,
    /// False accept rates at which the true accept rate is read. Default 1e-1, 1e-2, 1e-3, 1e-4.
    pub fars: Vec<f64>,
    /// Intervals over identities; `None` leaves them out. Default 200 resamples.
    pub bootstrap: Option<BootstrapConfig>,
    /// How many of the hardest pairs of each kind to keep. Default 8.
    pub hardest: usize,
    /// Only pairs that all of these admit take part. Default none.
    pub conditions: Vec<Condition>,
    /// Thresholds chosen elsewhere, to be applied here. Default none.
    pub thresholds: Vec<f64>,
    /// Whose image each sample is: what the bootstrap draws. Default `None`: the labels, which is right where these are
    /// identities and too narrow where one person has several of them (expressions, attributes).
    pub clusters: Option<Vec<u32>>,
}

impl Default for VerificationConfig {
    fn default() -> Self {
        Self {
            score: Score::default(),
            fars: vec![1e-1, 1e-2, 1e-3, 1e-4],
            bootstrap: Some(BootstrapConfig::default()),
            hardest: 8,
            conditions: Vec::new(),
            thresholds: Vec::new(),
            clusters: None,
        }
    }
}

/// What a threshold from elsewhere does here.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Operating {
    /// Scores at or above this are accepted.
    pub threshold: f64,
    /// Share of genuine pairs accepted.
    pub tar: f64,
    /// Share of impostor pairs accepted.
    pub far: f64,
    /// Share of right decisions.
    pub accuracy: f64,
    /// Genuine pairs accepted.
    pub true_accepts: u64,
    /// Impostor pairs accepted.
    pub false_accepts: u64,
}

/// How a threshold is chosen, to be applied to another set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ThresholdRule {
    /// Most right decisions; the largest such threshold.
    BestAccuracy,
    /// Where false accepts and false rejects are equal.
    EqualError,
    /// The largest acceptance whose false accept rate does not exceed this.
    Far(f64),
}

impl FromStr for ThresholdRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "best-accuracy" => Ok(Self::BestAccuracy),
            "eer" => Ok(Self::EqualError),
            _ => text
                .strip_prefix("far=")
                .and_then(|far| far.parse().ok())
                .filter(|far| (0.0..=1.0).contains(far))
                .map(Self::Far)
                .ok_or_else(|| {
                    Error::usage(format!(
                        "unknown threshold rule `{text}`; known: best-accuracy, eer, far=RATE"
                    ))
                }),
        }
    }
}

impl Roc {
    /// The threshold that `rule` chooses on this curve.
    ///
    /// # Errors
    /// When there are fewer impostor pairs than the false accept rate asks for.
    pub fn threshold(&self, rule: ThresholdRule) -> Result<f64> {
        match rule {
            ThresholdRule::BestAccuracy => Ok(self.best_accuracy().1),
            ThresholdRule::EqualError => Ok(self.equal_error().threshold),
            ThresholdRule::Far(far) => self.tar_at_far(far).map(|t| t.threshold).ok_or_else(|| {
                Error::degenerate(format!(
                    "no threshold at a false accept rate of {far:e}: it {}",
                    too_few(far, self.impostor())
                ))
            }),
        }
    }

    /// What `threshold`, chosen elsewhere, does here; `None` where [`Roc::at`] is.
    pub fn operating(&self, threshold: f64) -> Option<Operating> {
        let point = self.at(threshold)?;
        let right = point.true_accepts + self.impostor() - point.false_accepts;
        Some(Operating {
            threshold,
            tar: self.tar(point),
            far: self.far(point),
            accuracy: right as f64 / (self.genuine() + self.impostor()) as f64,
            true_accepts: point.true_accepts,
            false_accepts: point.false_accepts,
        })
    }
}

/// Why a figure at a false accept rate is withheld: `needs 1000 impostor pairs, there are 12`.
pub(crate) fn too_few(far: f64, impostor: u64) -> String {
    format!(
        "needs {} impostor pairs, there are {impostor}",
        (1.0 / far).ceil()
    )
}

/// The result of a verification protocol.
#[derive(Debug, Clone)]
pub struct Verification {
    /// The exact curve.
    pub roc: Roc,
    /// Area under it.
    pub auc: f64,
    /// Equal error rate.
    pub eer: EqualError,
    /// Average precision of the genuine pairs among all.
    pub average_precision: f64,
    /// Best share of right decisions over all thresholds.
    pub best_accuracy: f64,
    /// The threshold that reaches it.
    pub best_threshold: f64,
    /// True accept rate for each wanted false accept rate; `None` with fewer than 1/FAR impostor pairs.
    pub tars: Vec<(f64, Option<TarAtFar>)>,
    /// What the thresholds of the configuration do here.
    pub operating: Vec<Operating>,
    /// Bootstrap intervals by metric name; empty when not wanted or more than [`MAX_BOOTSTRAP_PAIRS`] pairs.
    pub intervals: BTreeMap<String, [f64; 2]>,
    /// Pointwise intervals of the true accept rate along the curve, from low to high false accept rates; empty with
    /// `intervals`.
    pub band: Vec<BandPoint>,
    /// What was resampled: `cluster` with clusters of the configuration, else `label`, or `pair` where a pair list comes
    /// without labels.
    pub bootstrap_unit: &'static str,
    /// Counts of scores.
    pub histogram: ScoreHistogram,
    /// Genuine pairs with the lowest scores, lowest first.
    pub false_rejects: Vec<ScoredPair>,
    /// Impostor pairs with the highest scores, highest first.
    pub false_accepts: Vec<ScoredPair>,
    /// Cross-validated accuracy, for pair lists with folds.
    pub folds: Option<FoldAccuracy>,
}

/// `tar@far=1e-3`: the name of a true accept rate in metric maps.
pub fn tar_name(far: f64) -> String {
    format!("tar@far={far:e}")
}

/// Compares every sample with every other one, i < j.
///
/// Exact for any number of pairs: scores of the smaller set (as a rule the genuine pairs) are kept and sorted, at most 28
/// bytes each at the peak; the others are counted against them tile by tile on all cores. 20,000 embeddings of 2,000
/// people, 200 million pairs, take some seconds and 0.2 GB; of 2 people, a minute and 2.8 GB.
///
/// # Errors
/// When `labels` does not have one entry per embedding, all labels are equal, no two are, the smaller set has more than
/// 150 million pairs, or there are more than 2^32 - 1 pairs.
pub fn verify_all_pairs(
    embeddings: &Embeddings,
    labels: &[u32],
    config: &VerificationConfig,
) -> Result<Verification> {
    let n = embeddings.len();
    check_clusters(config, n)?;
    if labels.len() != n {
        return Err(Error::shape(format!(
            "{} labels for {n} embeddings",
            labels.len()
        )));
    }
    let (codes, identities) = dense_codes(labels);
    if identities < 2 {
        return Err(Error::degenerate(format!(
            "one class only (all {n} labels are {}): verification needs at least two identities",
            labels.first().copied().unwrap_or(0)
        )));
    }
    let mut sizes = vec![0u64; identities];
    for &code in &codes {
        sizes[code as usize] += 1;
    }
    let genuine: u64 = sizes.iter().map(|s| s * (s - 1) / 2).sum();
    let total = n as u64 * (n as u64 - 1) / 2;
    if genuine == 0 {
        return Err(Error::degenerate(format!(
            "no genuine pair: each of the {identities} identities has one image only"
        )));
    }
    for condition in &config.conditions {
        condition.check(n)?;
    }
    let smaller = genuine.min(total - genuine);
    if total > u64::from(u32::MAX) || smaller > MAX_KEPT {
        return Err(Error::too_large(format!(
            "{total} pairs, {smaller} in the smaller set; at most {} and {MAX_KEPT}: give a pair list instead",
            u32::MAX
        )));
    }

    // Grouped by identity, genuine pairs lie in the tiles along the diagonal.
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&i| codes[i]);
    let codes: Vec<u32> = order.iter().map(|&i| codes[i]).collect();
    let rows = order.iter().map(|&i| i as u32).collect();
    let side = Side::new(embeddings, rows, config.score)?;
    let pairs = AllPairs {
        measure: Measure::new(config.score, side.largest_norm()),
        side,
        codes,
        order,
        conditions: &config.conditions,
    };
    let (genuine, impostor) = if config.conditions.is_empty() {
        (genuine, total - genuine)
    } else {
        pairs.totals()
    };
    if genuine == 0 || impostor == 0 {
        return Err(none_left(genuine == 0, &config.conditions));
    }

    let kept_is_genuine = genuine <= impostor;
    let kept = Kept::new(pairs.collect(kept_is_genuine), &config.thresholds);
    let counted = pairs.count(&kept, kept_is_genuine, config.hardest);
    let roc = kept.into_roc(counted.slots, kept_is_genuine);
    let mut out = summarise(roc, counted.histogram, config);
    out.false_rejects = counted.false_rejects.pairs;
    out.false_accepts = counted.false_accepts.pairs;
    if let Some(bootstrap) = &config.bootstrap
        && genuine + impostor <= MAX_BOOTSTRAP_PAIRS
    {
        let (clusters, count) = match &config.clusters {
            Some(clusters) => {
                let (codes, count) = dense_codes(clusters);
                let sorted = pairs.order.iter().filter_map(|&i| codes.get(i).copied());
                out.bootstrap_unit = "cluster";
                (sorted.collect(), count)
            }
            None => (pairs.codes.clone(), identities),
        };
        let weighted = WeightedPairs::new(pairs.scored(&clusters), count);
        out.resample(&weighted, bootstrap, config);
    }
    Ok(out)
}

/// Compares the pairs of a list.
///
/// With `labels` the intervals resample identities, without them pairs (too narrow when people recur in the list).
///
/// # Errors
/// When the list has no genuine or no impostor pair, or refers past the end of the embeddings.
pub fn verify_pairs(
    embeddings: &Embeddings,
    list: &PairList,
    labels: Option<&[u32]>,
    config: &VerificationConfig,
) -> Result<Verification> {
    let n = embeddings.len();
    check_clusters(config, n)?;
    if let Some(bad) = list.pairs().iter().find(|p| p.a >= n || p.b >= n) {
        return Err(Error::shape(format!(
            "sample {} is past the end of {n} embeddings",
            bad.a.max(bad.b)
        )));
    }
    for condition in &config.conditions {
        condition.check(n)?;
    }
    let taken: Vec<Pair> = list
        .pairs()
        .iter()
        .filter(|p| admitted(&config.conditions, p.a, p.b, p.same))
        .copied()
        .collect();
    let scores = score_pairs(embeddings, &taken, config.score)?;
    let longest = Side::whole(embeddings, config.score)?.largest_norm();
    let measure = Measure::new(config.score, longest);
    let mut histogram = ScoreHistogram::new(measure.range(), BINS);
    let (mut genuine, mut impostor) = (Vec::new(), Vec::new());
    let mut false_rejects = Hardest::new(config.hardest, 1.0);
    let mut false_accepts = Hardest::new(config.hardest, -1.0);
    for (pair, &score) in taken.iter().zip(&scores) {
        histogram.add(score, pair.same);
        let scored = ScoredPair {
            a: pair.a,
            b: pair.b,
            score,
        };
        if pair.same {
            genuine.push(score);
            false_rejects.offer(scored);
        } else {
            impostor.push(score);
            false_accepts.offer(scored);
        }
    }
    if genuine.is_empty() || impostor.is_empty() {
        return Err(none_left(genuine.is_empty(), &config.conditions));
    }
    let roc = Roc::from_scores(&genuine, &impostor)?;
    let mut out = summarise(roc, histogram, config);
    out.false_rejects = false_rejects.pairs;
    out.false_accepts = false_accepts.pairs;
    if list.has_folds() && config.conditions.is_empty() {
        out.folds = fold_accuracy(&taken, &scores, FoldRule::Strict).ok();
    }
    if let Some(bootstrap) = &config.bootstrap
        && scores.len() as u64 <= MAX_BOOTSTRAP_PAIRS
    {
        let usable = config
            .clusters
            .as_deref()
            .or(labels.filter(|l| l.len() == n));
        let (codes, clusters) = match usable {
            Some(labels) => dense_codes(labels),
            None => (Vec::new(), scores.len()),
        };
        let scored = taken
            .iter()
            .zip(&scores)
            .enumerate()
            .map(|(i, (p, &score))| {
                if usable.is_some() {
                    (score, codes[p.a], codes[p.b], p.same)
                } else {
                    (score, i as u32, i as u32, p.same)
                }
            });
        let weighted = WeightedPairs::new(scored.collect(), clusters);
        out.resample(&weighted, bootstrap, config);
        out.bootstrap_unit = match (&config.clusters, usable) {
            (Some(_), _) => "cluster",
            (None, Some(_)) => "label",
            (None, None) => "pair",
        };
    }
    Ok(out)
}

/// The similarity of each pair.
///
/// # Errors
/// When a pair refers past the end of the embeddings, or the score is undefined on one of them.
pub fn score_pairs(embeddings: &Embeddings, pairs: &[Pair], score: Score) -> Result<Vec<f64>> {
    let n = embeddings.len();
    if let Some((i, bad)) = pairs.iter().enumerate().find(|(_, p)| p.a >= n || p.b >= n) {
        return Err(Error::shape(format!(
            "sample {} is past the end of {n} embeddings",
            bad.a.max(bad.b)
        ))
        .record(format!("pair {i}")));
    }
    let side = Side::whole(embeddings, score)?;
    let measure = Measure::new(score, side.largest_norm());
    Ok(pairs
        .par_iter()
        .map(|p| measure.pair(&side, p.a, &side, p.b))
        .collect())
}

fn check_clusters(config: &VerificationConfig, n: usize) -> Result<()> {
    match &config.clusters {
        Some(clusters) if clusters.len() != n => Err(Error::shape(format!(
            "{} clusters for {n} embeddings",
            clusters.len()
        ))),
        _ => Ok(()),
    }
}

fn none_left(genuine: bool, conditions: &[Condition]) -> Error {
    let kind = if genuine { "genuine" } else { "impostor" };
    let mut message =
        format!("no {kind} pair: a ROC needs pairs of one and of different identities");
    for (i, condition) in conditions.iter().enumerate() {
        message.push_str(if i == 0 { "; asked for: " } else { ", " });
        message.push_str(&condition.to_string());
    }
    Error::degenerate(message)
}

fn summarise(roc: Roc, histogram: ScoreHistogram, config: &VerificationConfig) -> Verification {
    let (best_accuracy, best_threshold) = roc.best_accuracy();
    Verification {
        auc: roc.auc(),
        eer: roc.equal_error(),
        average_precision: roc.average_precision(),
        operating: config
            .thresholds
            .iter()
            .filter_map(|&t| roc.operating(t))
            .collect(),
        best_accuracy,
        best_threshold,
        tars: config
            .fars
            .iter()
            .map(|&f| (f, roc.tar_at_far(f)))
            .collect(),
        intervals: BTreeMap::new(),
        band: Vec::new(),
        bootstrap_unit: "label",
        histogram,
        false_rejects: Vec::new(),
        false_accepts: Vec::new(),
        folds: None,
        roc,
    }
}

impl Verification {
    /// Metric names to values: `auc`, `eer`, `average_precision`, `best_accuracy`, `tar@far=...` where defined, `fold_accuracy`,
    /// `fold_accuracy_sd`.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let mut out = BTreeMap::from([
            ("auc".to_string(), self.auc),
            ("eer".to_string(), self.eer.rate),
            ("average_precision".to_string(), self.average_precision),
            ("best_accuracy".to_string(), self.best_accuracy),
        ]);
        for (far, tar) in &self.tars {
            if let Some(tar) = tar {
                out.insert(tar_name(*far), tar.tar);
            }
        }
        if let Some(folds) = &self.folds {
            out.insert("fold_accuracy".to_string(), folds.mean);
            out.insert("fold_accuracy_sd".to_string(), folds.sd);
        }
        out
    }

    /// Fills the intervals and the band from one set of resamples.
    fn resample(
        &mut self,
        weighted: &WeightedPairs,
        bootstrap: &BootstrapConfig,
        config: &VerificationConfig,
    ) {
        let mut rates = band_rates(self.roc.impostor());
        rates.reverse();
        let fars: Vec<f64> = config.fars.iter().chain(&rates).copied().collect();
        let mut found = weighted.intervals(&fars, bootstrap);
        let band = found.split_off((FIXED_FIGURES + config.fars.len()).min(found.len()));
        self.band = rates
            .into_iter()
            .zip(band)
            .filter_map(|(far, interval)| {
                let [low, high] = interval?;
                Some(BandPoint { far, low, high })
            })
            .collect();
        self.name_intervals(found, config);
    }

    fn name_intervals(&mut self, intervals: Vec<Option<[f64; 2]>>, config: &VerificationConfig) {
        let fixed = ["auc", "eer", "best_accuracy"].map(String::from);
        let names = fixed
            .into_iter()
            .chain(config.fars.iter().map(|&f| tar_name(f)));
        let defined = self.metrics();
        self.intervals = names
            .zip(intervals)
            .filter(|(name, _)| defined.contains_key(name))
            .filter_map(|(name, interval)| Some((name, interval?)))
            .collect();
    }
}
