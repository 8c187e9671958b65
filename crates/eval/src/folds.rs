//! Cross-validated accuracy of a pair list, LFW style: the threshold for a fold is chosen on the other folds.
//!
//! Programs disagree on the score, on which threshold is the best, and on what stands behind "±"; so the rules carry
//! their program's name.
//!
//! | | [`Strict`](FoldRule::Strict) | [`Insightface`](FoldRule::Insightface) | [`FaceXZoo`](FoldRule::FaceXZoo) |
//! |---|---|---|---|
//! | score | cosine (or the one asked for) | squared Euclidean distance of unit vectors | cosine |
//! | candidates | midway between neighbouring scores | 0, 0.01, ... 3.99 | min + span i / 1000, i = 1..1000 |
//! | chosen | most right decisions, of equals the largest | most right decisions, of equals the smallest distance | largest TPR - FPR, of equals the smallest |
//! | same when | score >= t | distance < t | score > t; equal counts as wrong |
//! | spread | sd with n - 1 | sd with n | sd with n - 1, over sqrt(n) |
//! | folds | must not share identities | as they come | as they come |
//!
//! Sources: insightface `recognition/arcface_torch/eval/verification.py`, FaceX-Zoo `test_protocol/lfw/face_recognition`;
//! written from their rules, tested against independent NumPy statements of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::pairs::{Pair, PairList};
use crate::score::Score;
use crate::stats::mean_sd_ci95;
use crate::verification::score_pairs;

/// Folds that a list without a fold column is cut into, in file order.
const FOLDS: usize = 10;
/// The false accept rate of insightface's validation rate.
const VAL_FAR: f64 = 1e-3;

/// By whose rules the folds are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FoldRule {
    /// Ours: exact thresholds, identities in one fold only.
    Strict,
    /// insightface's `evaluate` (after facenet).
    Insightface,
    /// FaceX-Zoo's `LFWTester`.
    #[serde(rename = "facex-zoo")]
    FaceXZoo,
}

impl fmt::Display for FoldRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::Insightface => "insightface",
            Self::FaceXZoo => "facex-zoo",
        })
    }
}

impl FromStr for FoldRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "strict" => Ok(Self::Strict),
            "insightface" => Ok(Self::Insightface),
            "facex-zoo" => Ok(Self::FaceXZoo),
            other => Err(Error::usage(format!(
                "unknown fold rule `{other}`; known: strict, insightface, facex-zoo"
            ))),
        }
    }
}

/// Accuracy over folds by one rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FoldAccuracy {
    /// By whose rules.
    pub rule: FoldRule,
    /// Accuracy of each fold, in ascending order of its number.
    pub accuracies: Vec<f64>,
    /// The threshold each fold was judged with: a score, or a squared distance under insightface's rules.
    pub thresholds: Vec<f64>,
    /// Mean of the accuracies.
    pub mean: f64,
    /// Their standard deviation with n - 1.
    pub sd: f64,
    /// What the rule's program prints behind "±"; see the table of the module.
    pub spread: f64,
    /// Validation rate at a false accept rate of 1e-3, under insightface's rules only.
    pub validation: Option<Validation>,
}

/// insightface's VAL@FAR: the threshold comes from a straight line between the points (FAR, threshold) of the other folds
/// on a grid of 0.001, 0 where that FAR is never reached; so the FAR met may exceed the one asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Validation {
    /// The false accept rate asked for.
    pub target: f64,
    /// Mean share of genuine pairs accepted.
    pub val: f64,
    /// Standard deviation over folds, with n.
    pub val_sd: f64,
    /// Mean share of impostor pairs accepted.
    pub far: f64,
}

/// Judges a pair list with folds.
///
/// Without a fold column the list is cut into ten parts in file order, the first ones longer by one where ten does not
/// divide it. `labels` are the identities of the samples; [`FoldRule::Strict`] refuses lists that have one identity in
/// two folds, and cannot check it without labels. `score` counts for [`FoldRule::Strict`] alone.
///
/// # Errors
/// When there are fewer than two folds, or the part a threshold is chosen on lacks genuine or impostor pairs; under
/// insightface's rules also when a fold does.
pub fn verify_folds(
    embeddings: &Embeddings,
    list: &PairList,
    labels: Option<&[u32]>,
    rule: FoldRule,
    score: Score,
) -> Result<FoldAccuracy> {
    let pairs = with_folds(list)?;
    if rule == FoldRule::Strict
        && let Some(labels) = labels
    {
        check_disjoint(&pairs, labels)?;
    }
    let scores = match rule {
        FoldRule::Strict => score_pairs(embeddings, &pairs, score)?,
        FoldRule::FaceXZoo => score_pairs(embeddings, &pairs, Score::Cosine)?,
        FoldRule::Insightface => unit_distances(embeddings, &pairs)?,
    };
    fold_accuracy(&pairs, &scores, rule)
}

/// The pairs with a fold each.
fn with_folds(list: &PairList) -> Result<Vec<Pair>> {
    let pairs = list.pairs();
    if list.has_folds() {
        return Ok(pairs.to_vec());
    }
    let n = pairs.len();
    if n < FOLDS {
        return Err(Error::degenerate(format!(
            "{n} pairs cannot be cut into {FOLDS} folds"
        )));
    }
    let (each, longer) = (n / FOLDS, n % FOLDS);
    let sizes = (0..FOLDS).map(|fold| each + usize::from(fold < longer));
    let folds = sizes
        .enumerate()
        .flat_map(|(fold, size)| std::iter::repeat_n(fold as u32, size));
    Ok(pairs
        .iter()
        .zip(folds)
        .map(|(&pair, fold)| Pair {
            fold: Some(fold),
            ..pair
        })
        .collect())
}

fn check_disjoint(pairs: &[Pair], labels: &[u32]) -> Result<()> {
    let mut home = std::collections::BTreeMap::new();
    for pair in pairs {
        for place in [pair.a, pair.b] {
            let Some(&label) = labels.get(place) else {
                continue;
            };
            let fold = *home.entry(label).or_insert(pair.fold);
            if fold != pair.fold {
                return Err(Error::degenerate(format!(
                    "identity {label} is in folds {} and {}: the strict rules need folds that share no identity",
                    fold.unwrap_or(0),
                    pair.fold.unwrap_or(0)
                )));
            }
        }
    }
    Ok(())
}

/// Squared Euclidean distance of the embeddings at unit length, summed over differences.
fn unit_distances(embeddings: &Embeddings, pairs: &[Pair]) -> Result<Vec<f64>> {
    // Checks the rows, and names one that is zero.
    score_pairs(embeddings, pairs, Score::Cosine)?;
    let unit = |i: usize| -> Vec<f64> {
        let row = embeddings.row(i).unwrap_or(&[]);
        let norm = row
            .iter()
            .map(|&v| f64::from(v).powi(2))
            .sum::<f64>()
            .sqrt();
        row.iter().map(|&v| f64::from(v) / norm).collect()
    };
    Ok(pairs
        .iter()
        .map(|p| {
            let (a, b) = (unit(p.a), unit(p.b));
            a.iter().zip(&b).map(|(x, y)| (x - y) * (x - y)).sum()
        })
        .collect())
}

/// Ascending scores of the genuine and of the impostor pairs.
struct Sides {
    genuine: Vec<f64>,
    impostor: Vec<f64>,
}

impl Sides {
    fn new<'a>(scored: impl Iterator<Item = (&'a Pair, f64)>) -> Self {
        let (mut genuine, mut impostor) = (Vec::new(), Vec::new());
        for (pair, score) in scored {
            if pair.same {
                genuine.push(score);
            } else {
                impostor.push(score);
            }
        }
        genuine.sort_unstable_by(f64::total_cmp);
        impostor.sort_unstable_by(f64::total_cmp);
        Self { genuine, impostor }
    }

    fn len(&self) -> usize {
        self.genuine.len() + self.impostor.len()
    }
}

fn below(scores: &[f64], t: f64) -> usize {
    scores.partition_point(|&s| s < t)
}

fn above(scores: &[f64], t: f64) -> usize {
    scores.len() - scores.partition_point(|&s| s <= t)
}

/// Judges scored pairs that have folds; distances under insightface's rules.
pub(crate) fn fold_accuracy(
    pairs: &[Pair],
    scores: &[f64],
    rule: FoldRule,
) -> Result<FoldAccuracy> {
    let mut folds: Vec<u32> = pairs.iter().filter_map(|p| p.fold).collect();
    folds.sort_unstable();
    folds.dedup();
    if folds.len() < 2 {
        return Err(Error::degenerate(format!(
            "{} fold; a threshold is chosen on the other folds, so there must be two at least",
            folds.len()
        )));
    }
    let (mut accuracies, mut thresholds) = (Vec::new(), Vec::new());
    let mut validations = Vec::new();
    for &fold in &folds {
        let part = |inside: bool| {
            let scored = pairs.iter().zip(scores.iter().copied());
            Sides::new(scored.filter(move |(p, _)| (p.fold == Some(fold)) == inside))
        };
        let (train, test) = (part(false), part(true));
        let lacking = |side: &Sides| side.genuine.is_empty() || side.impostor.is_empty();
        if lacking(&train) || (rule == FoldRule::Insightface && lacking(&test)) {
            return Err(Error::degenerate(format!(
                "fold {fold}: {} genuine and {} impostor pairs in it, {} and {} in the others; {rule} needs both kinds",
                test.genuine.len(),
                test.impostor.len(),
                train.genuine.len(),
                train.impostor.len()
            )));
        }
        let (threshold, right) = match rule {
            FoldRule::Strict => {
                let t = best_midpoint(&train);
                let accepted = test.genuine.len() - below(&test.genuine, t);
                (t, accepted + below(&test.impostor, t))
            }
            FoldRule::Insightface => {
                validations.push(validation(&train, &test));
                let t = best_grid_distance(&train);
                let rejected = test.impostor.len() - below(&test.impostor, t);
                (t, below(&test.genuine, t) + rejected)
            }
            FoldRule::FaceXZoo => {
                let t = best_youden(&train);
                (t, above(&test.genuine, t) + below(&test.impostor, t))
            }
        };
        thresholds.push(threshold);
        accuracies.push(right as f64 / test.len() as f64);
    }
    let n = folds.len() as f64;
    let summary = mean_sd_ci95(&accuracies)
        .ok_or_else(|| Error::degenerate("an accuracy of a fold is not a number"))?;
    let sd = summary.sd.unwrap_or(0.0);
    let spread = match rule {
        FoldRule::Strict => sd,
        FoldRule::Insightface => sd * ((n - 1.0) / n).sqrt(),
        FoldRule::FaceXZoo => sd / n.sqrt(),
    };
    let validation = (rule == FoldRule::Insightface).then(|| {
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / n;
        let val = mean(&mut validations.iter().map(|v| v.0));
        let variance = mean(&mut validations.iter().map(|v| (v.0 - val).powi(2)));
        Validation {
            target: VAL_FAR,
            val,
            val_sd: variance.sqrt(),
            far: mean(&mut validations.iter().map(|v| v.1)),
        }
    });
    Ok(FoldAccuracy {
        rule,
        accuracies,
        thresholds,
        mean: summary.mean,
        sd,
        spread,
        validation,
    })
}

/// The threshold with most right decisions, midway between the scores it separates; of equals the largest.
fn best_midpoint(train: &Sides) -> f64 {
    let mut all: Vec<f64> = train
        .genuine
        .iter()
        .chain(&train.impostor)
        .copied()
        .collect();
    all.sort_unstable_by(f64::total_cmp);
    all.dedup();
    // Nothing accepted: every impostor pair is right.
    let mut best = (train.impostor.len(), f64::INFINITY);
    for (i, &score) in all.iter().enumerate().rev() {
        let accepted = train.genuine.len() - below(&train.genuine, score);
        let right = accepted + below(&train.impostor, score);
        if right > best.0 {
            let lower = i.checked_sub(1).and_then(|i| all.get(i));
            best = (right, lower.map_or(score, |lower| 0.5 * (score + lower)));
        }
    }
    best.1
}

/// First of the distances 0, 0.01, ... 3.99 with the best accuracy.
fn best_grid_distance(train: &Sides) -> f64 {
    let mut best = (0, 0.0);
    for i in 0..400 {
        let t = f64::from(i) * 0.01;
        let rejected = train.impostor.len() - below(&train.impostor, t);
        let right = below(&train.genuine, t) + rejected;
        if i == 0 || right > best.0 {
            best = (right, t);
        }
    }
    best.1
}

/// First of 1,000 steps through the range of the scores with the largest TPR - FPR.
fn best_youden(train: &Sides) -> f64 {
    let ends = [train.genuine.first(), train.impostor.first()];
    let low = ends
        .into_iter()
        .flatten()
        .copied()
        .fold(f64::INFINITY, f64::min);
    let ends = [train.genuine.last(), train.impostor.last()];
    let high = ends
        .into_iter()
        .flatten()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    let span = high - low;
    let mut best = (f64::NEG_INFINITY, low);
    for i in 1..=1000 {
        let t = low + span * f64::from(i) / 1000.0;
        let tpr = above(&train.genuine, t) as f64 / train.genuine.len() as f64;
        let fpr = above(&train.impostor, t) as f64 / train.impostor.len() as f64;
        if tpr - fpr > best.0 {
            best = (tpr - fpr, t);
        }
    }
    best.1
}

/// Validation rate and false accept rate of a fold at the distance that the others give for a FAR of 1e-3.
fn validation(train: &Sides, test: &Sides) -> (f64, f64) {
    let far = |i: u32| {
        let t = f64::from(i) * 0.001;
        below(&train.impostor, t) as f64 / train.impostor.len() as f64
    };
    // The last grid point at or below the target; FAR only rises.
    let last = (0..4000).rev().find(|&i| far(i) <= VAL_FAR);
    let t = match last {
        Some(3999) if far(3999) < VAL_FAR => 0.0,
        Some(3999) => 3.999,
        Some(i) => {
            let (x0, x1) = (far(i), far(i + 1));
            let (y0, y1) = (f64::from(i) * 0.001, f64::from(i + 1) * 0.001);
            y0 + (VAL_FAR - x0) * ((y1 - y0) / (x1 - x0))
        }
        None => 0.0,
    };
    (
        below(&test.genuine, t) as f64 / test.genuine.len() as f64,
        below(&test.impostor, t) as f64 / test.impostor.len() as f64,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_in_file_order() {
        let pairs: Vec<Pair> = (0..23)
            .map(|i| Pair {
                a: i,
                b: i,
                same: true,
                fold: None,
            })
            .collect();
        let list = PairList::new(pairs, 23).unwrap();
        let sizes: Vec<usize> = {
            let cut = with_folds(&list).unwrap();
            (0..10)
                .map(|f| cut.iter().filter(|p| p.fold == Some(f)).count())
                .collect()
        };
        assert_eq!(sizes, [3, 3, 3, 2, 2, 2, 2, 2, 2, 2]);
        let short = PairList::new(list.pairs()[..9].to_vec(), 23).unwrap();
        assert_eq!(
            with_folds(&short).unwrap_err().to_string(),
            "9 pairs cannot be cut into 10 folds"
        );
    }
}
