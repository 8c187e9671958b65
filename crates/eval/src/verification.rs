//! One against one: are two images of the same identity?

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use serde::Serialize;

use crate::bootstrap::{BootstrapConfig, WeightedPairs, dense_codes};
use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::pairs::PairList;
use crate::roc::{EqualError, Kept, Roc, TarAtFar};
use crate::score::{Score, ScoreHistogram, Scorer};
use crate::stats::mean_sd_ci95;

/// Edge of a tile of scores: 512 KiB of f64, which stays in the second-level cache.
const TILE: usize = 256;
/// Most scores of the smaller set that are kept: 4 GB at 28 bytes each, when no two are equal. Two equal classes of
/// 20,000 images are 100 million; a thousand classes are 0.2 million.
const MAX_KEPT: u64 = 150_000_000;
/// Most pairs that are resampled (2,828 images, all pairs): 64 MB and about a second on two cores.
pub const MAX_BOOTSTRAP_PAIRS: u64 = 4_000_000;
/// Bins of the score histogram; a plot may join neighbours.
const BINS: usize = 400;

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
}

impl Default for VerificationConfig {
    fn default() -> Self {
        Self {
            score: Score::default(),
            fars: vec![1e-1, 1e-2, 1e-3, 1e-4],
            bootstrap: Some(BootstrapConfig::default()),
            hardest: 8,
        }
    }
}

/// A pair of samples with its score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScoredPair {
    /// Row of the first sample.
    pub a: usize,
    /// Row of the second sample.
    pub b: usize,
    /// Their similarity.
    pub score: f64,
}

/// Cross-validated accuracy of a pair list with folds: the threshold for a fold is the best one on the other folds
/// (midway between the two scores it lies between; of equally good ones the largest), as in the LFW protocol.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FoldAccuracy {
    /// Accuracy of each fold, in ascending order of its number.
    pub accuracies: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation with n - 1. LFW's standard error is this over sqrt(n); insightface prints the standard
    /// deviation with n.
    pub sd: f64,
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
    /// Best share of right decisions over all thresholds.
    pub best_accuracy: f64,
    /// The threshold that reaches it.
    pub best_threshold: f64,
    /// True accept rate for each wanted false accept rate; `None` with fewer than 1/FAR impostor pairs.
    pub tars: Vec<(f64, Option<TarAtFar>)>,
    /// Bootstrap intervals by metric name; empty when not wanted or more than [`MAX_BOOTSTRAP_PAIRS`] pairs.
    pub intervals: BTreeMap<String, [f64; 2]>,
    /// What was resampled: `identity`, or `pair` where a pair list comes without identity labels.
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
    let pairs = AllPairs {
        scorer: Scorer::new(embeddings, config.score, &order),
        codes,
        order,
    };

    let kept_is_genuine = genuine <= total - genuine;
    let kept = Kept::new(pairs.collect(kept_is_genuine));
    let counted = pairs.count(&kept, kept_is_genuine, config.hardest);
    let roc = kept.into_roc(counted.slots, kept_is_genuine);
    let mut out = summarise(roc, counted.histogram, config);
    out.false_rejects = counted.false_rejects.pairs;
    out.false_accepts = counted.false_accepts.pairs;
    if let Some(bootstrap) = &config.bootstrap
        && total <= MAX_BOOTSTRAP_PAIRS
    {
        let weighted = WeightedPairs::new(pairs.scored(), identities);
        out.name_intervals(weighted.intervals(&config.fars, bootstrap), config);
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
    if let Some(bad) = list.pairs().iter().find(|p| p.a >= n || p.b >= n) {
        return Err(Error::shape(format!(
            "sample {} is past the end of {n} embeddings",
            bad.a.max(bad.b)
        )));
    }
    let order: Vec<usize> = (0..n).collect();
    let scorer = Scorer::new(embeddings, config.score, &order);
    let scores: Vec<f64> = list
        .pairs()
        .par_iter()
        .map(|p| scorer.pair(p.a, p.b))
        .collect();
    let mut histogram = ScoreHistogram::new(scorer.range(), BINS);
    let (mut genuine, mut impostor) = (Vec::new(), Vec::new());
    let mut false_rejects = Hardest::new(config.hardest, 1.0);
    let mut false_accepts = Hardest::new(config.hardest, -1.0);
    for (pair, &score) in list.pairs().iter().zip(&scores) {
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
    let roc = Roc::from_scores(&genuine, &impostor)?;
    let mut out = summarise(roc, histogram, config);
    out.false_rejects = false_rejects.pairs;
    out.false_accepts = false_accepts.pairs;
    if list.has_folds() {
        out.folds = fold_accuracy(list, &scores);
    }
    if let Some(bootstrap) = &config.bootstrap
        && scores.len() as u64 <= MAX_BOOTSTRAP_PAIRS
    {
        let usable = labels.filter(|l| l.len() == n);
        let (codes, clusters) = match usable {
            Some(labels) => dense_codes(labels),
            None => (Vec::new(), scores.len()),
        };
        let scored = list
            .pairs()
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
        out.name_intervals(weighted.intervals(&config.fars, bootstrap), config);
        out.bootstrap_unit = if usable.is_some() { "label" } else { "pair" };
    }
    Ok(out)
}

fn summarise(roc: Roc, histogram: ScoreHistogram, config: &VerificationConfig) -> Verification {
    let (best_accuracy, best_threshold) = roc.best_accuracy();
    Verification {
        auc: roc.auc(),
        eer: roc.equal_error(),
        best_accuracy,
        best_threshold,
        tars: config
            .fars
            .iter()
            .map(|&f| (f, roc.tar_at_far(f)))
            .collect(),
        intervals: BTreeMap::new(),
        bootstrap_unit: "label",
        histogram,
        false_rejects: Vec::new(),
        false_accepts: Vec::new(),
        folds: None,
        roc,
    }
}

impl Verification {
    /// Metric names to values: `auc`, `eer`, `best_accuracy`, `tar@far=...` where defined, `fold_accuracy`,
    /// `fold_accuracy_sd`.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let mut out = BTreeMap::from([
            ("auc".to_string(), self.auc),
            ("eer".to_string(), self.eer.rate),
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

/// All pairs of a table whose rows are grouped by identity.
struct AllPairs {
    scorer: Scorer,
    codes: Vec<u32>,
    order: Vec<usize>,
}

/// What the second pass adds up.
struct Counted {
    slots: Vec<u32>,
    histogram: ScoreHistogram,
    false_rejects: Hardest,
    false_accepts: Hardest,
}

impl AllPairs {
    fn tiles(&self) -> Vec<(Range<usize>, Range<usize>)> {
        let n = self.scorer.len();
        let block = |b: usize| b * TILE..((b + 1) * TILE).min(n);
        let blocks = n.div_ceil(TILE);
        (0..blocks)
            .flat_map(|r| (r..blocks).map(move |c| (block(r), block(c))))
            .collect()
    }

    /// Calls `visit(row, column, score, same)` for each pair row < column of a tile.
    fn visit(
        &self,
        (rows, columns): &(Range<usize>, Range<usize>),
        mut visit: impl FnMut(usize, usize, f64, bool),
    ) {
        let tile = self.scorer.tile(rows.clone(), columns.clone());
        for (column, c) in tile.column_iter().zip(columns.clone()) {
            for (&score, r) in column.iter().zip(rows.clone()) {
                if r < c {
                    visit(r, c, score, self.codes[r] == self.codes[c]);
                }
            }
        }
    }

    /// All genuine (or all impostor) scores.
    fn collect(&self, genuine: bool) -> Vec<f64> {
        let parts: Vec<Vec<f64>> = self
            .tiles()
            .par_iter()
            // Codes ascend, so a tile holds a genuine pair only when its rows' last code reaches its columns' first.
            .filter(|(rows, columns)| {
                !genuine || self.codes[rows.end - 1] >= self.codes[columns.start]
            })
            .map(|tile| {
                let mut part = Vec::new();
                self.visit(tile, |_, _, score, same| {
                    if same == genuine {
                        part.push(score);
                    }
                });
                part
            })
            .collect();
        let mut out = Vec::with_capacity(parts.iter().map(Vec::len).sum());
        for part in parts {
            out.extend(part);
        }
        out
    }

    /// Counts the other set against the kept one, and what the report wants.
    fn count(&self, kept: &Kept, kept_is_genuine: bool, hardest: usize) -> Counted {
        let fresh = || Counted {
            slots: Vec::new(),
            histogram: ScoreHistogram::new(self.scorer.range(), BINS),
            false_rejects: Hardest::new(hardest, 1.0),
            false_accepts: Hardest::new(hardest, -1.0),
        };
        let mut start = fresh();
        start.slots = vec![0; kept.index.slots()];
        // One shared array, as it may be large: a tile's slots are found first and added under the lock in one go.
        // Sums of integers do not depend on the order, and the hardest pairs are ordered by score and index.
        let total = Mutex::new(start);
        self.tiles().par_iter().for_each(|tile| {
            let mut part = fresh();
            let mut slots: Vec<usize> = Vec::with_capacity(TILE * TILE);
            self.visit(tile, |r, c, score, same| {
                if same != kept_is_genuine {
                    slots.push(kept.index.slot(score));
                }
                part.histogram.add(score, same);
                let hardest = if same {
                    &mut part.false_rejects
                } else {
                    &mut part.false_accepts
                };
                if hardest.wants(score) {
                    let (i, j) = (self.order[r], self.order[c]);
                    hardest.offer(ScoredPair {
                        a: i.min(j),
                        b: i.max(j),
                        score,
                    });
                }
            });
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            for slot in slots {
                total.slots[slot] += 1;
            }
            total.histogram.merge(&part.histogram);
            for pair in part.false_rejects.pairs {
                total.false_rejects.offer(pair);
            }
            for pair in part.false_accepts.pairs {
                total.false_accepts.offer(pair);
            }
        });
        total.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every pair with its clusters, for the bootstrap.
    fn scored(&self) -> Vec<(f64, u32, u32, bool)> {
        let parts: Vec<Vec<(f64, u32, u32, bool)>> = self
            .tiles()
            .par_iter()
            .map(|tile| {
                let mut part = Vec::new();
                self.visit(tile, |r, c, score, same| {
                    part.push((score, self.codes[r], self.codes[c], same));
                });
                part
            })
            .collect();
        parts.concat()
    }
}

/// The few pairs with the smallest sign x score; ties by index.
struct Hardest {
    pairs: Vec<ScoredPair>,
    capacity: usize,
    sign: f64,
}

impl Hardest {
    fn new(capacity: usize, sign: f64) -> Self {
        Self {
            pairs: Vec::new(),
            capacity,
            sign,
        }
    }

    fn wants(&self, score: f64) -> bool {
        self.pairs.len() < self.capacity
            || self
                .pairs
                .last()
                .is_some_and(|p| self.sign * score <= self.sign * p.score)
    }

    fn offer(&mut self, pair: ScoredPair) {
        if !self.wants(pair.score) {
            return;
        }
        let sign = self.sign;
        let before = |p: &ScoredPair| {
            (sign * p.score)
                .total_cmp(&(sign * pair.score))
                .then((p.a, p.b).cmp(&(pair.a, pair.b)))
                .is_lt()
        };
        let at = self.pairs.partition_point(before);
        self.pairs.insert(at, pair);
        self.pairs.truncate(self.capacity);
    }
}

fn fold_accuracy(list: &PairList, scores: &[f64]) -> Option<FoldAccuracy> {
    let mut folds: Vec<u32> = list.pairs().iter().filter_map(|p| p.fold).collect();
    folds.sort_unstable();
    folds.dedup();
    if folds.len() < 2 {
        return None;
    }
    let accuracies: Vec<f64> = folds
        .iter()
        .map(|&fold| {
            let in_fold = |p: &crate::pairs::Pair| p.fold == Some(fold);
            let both = || list.pairs().iter().zip(scores);
            let train = both()
                .filter(|(p, _)| !in_fold(p))
                .map(|(p, &s)| (s, p.same));
            let threshold = best_threshold(train.collect());
            let (mut right, mut count) = (0u64, 0u64);
            for (pair, &score) in both().filter(|(p, _)| in_fold(p)) {
                right += u64::from((score >= threshold) == pair.same);
                count += 1;
            }
            right as f64 / count as f64
        })
        .collect();
    let summary = mean_sd_ci95(&accuracies)?;
    Some(FoldAccuracy {
        mean: summary.mean,
        sd: summary.sd?,
        accuracies,
    })
}

/// The threshold with most right decisions, midway between the scores it separates.
fn best_threshold(mut scored: Vec<(f64, bool)>) -> f64 {
    scored.sort_unstable_by(|x, y| y.0.total_cmp(&x.0));
    let mut right = scored.iter().filter(|s| !s.1).count();
    let mut best = (right, f64::INFINITY);
    for (i, &(score, same)) in scored.iter().enumerate() {
        if same {
            right += 1;
        } else {
            right -= 1;
        }
        let next = scored.get(i + 1).map(|s| s.0);
        if next != Some(score) && right > best.0 {
            best = (right, next.map_or(score, |next| 0.5 * (score + next)));
        }
    }
    best.1
}
