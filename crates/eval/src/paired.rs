//! Is one run better than another on the same samples? Differences with intervals, by resampling both together.
//!
//! Two runs judged on the same people err on the same people, so intervals of each alone say little about their
//! difference. Here each resample draws identities once and computes both figures on that draw; the interval is of
//! a - b. The p-value is the share of resampled differences on the far side of 0, doubled and counted with one more
//! resample than there were: 2 (min(#{d <= 0}, #{d >= 0}) + 1) / (B + 1), so that it is never 0. It is a guide, not a
//! test with exact size.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use crate::bootstrap::{
    BootstrapConfig, WeightedPairs, cluster_weights, dense_codes, percentile_interval,
};
use crate::error::{Error, Result};
use crate::verification::tar_name;

/// One figure of two runs, and how sure their difference is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairedDifference {
    /// The figure of the first run.
    pub a: f64,
    /// The figure of the second run.
    pub b: f64,
    /// a - b.
    pub difference: f64,
    /// Percentile interval of the difference; `None` when it is undefined on more than half of the resamples.
    pub interval: Option<[f64; 2]>,
    /// Two-sided bootstrap p-value of "no difference"; `None` with the interval.
    pub p_value: Option<f64>,
}

/// Two samples that were compared, as the bootstrap sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PairClusters {
    /// Cluster (as a rule the identity) of the first sample.
    pub a: u32,
    /// Cluster of the second sample.
    pub b: u32,
    /// Whether the pair is genuine.
    pub same: bool,
}

/// Resamples any figures of two runs together.
///
/// `figures(weights)` is given how often each of `clusters` clusters is drawn (all 1 for the plain figures) and returns
/// (a, b) for each figure; NaN marks an undefined one.
///
/// # Errors
/// When there is no cluster or no resample.
pub fn paired_differences<F>(
    clusters: usize,
    config: &BootstrapConfig,
    figures: F,
) -> Result<Vec<PairedDifference>>
where
    F: Fn(&[u32]) -> Vec<(f64, f64)> + Sync,
{
    if clusters == 0 || config.resamples == 0 {
        return Err(Error::degenerate(
            "a paired difference needs at least one cluster and one resample",
        ));
    }
    let plain = figures(&vec![1; clusters]);
    let rows: Vec<Vec<(f64, f64)>> = (0..config.resamples as u64)
        .into_par_iter()
        .map(|b| figures(&cluster_weights(clusters, config.seed, b)))
        .collect();
    let out = plain.iter().enumerate().map(|(k, &(a, b))| {
        let drawn: Vec<f64> = rows
            .iter()
            .filter_map(|row| row.get(k).map(|(a, b)| a - b))
            .collect();
        let interval = percentile_interval(&drawn, config.level);
        PairedDifference {
            a,
            b,
            difference: a - b,
            interval,
            p_value: interval.map(|_| two_sided(&drawn)),
        }
    });
    Ok(out.collect())
}

fn two_sided(differences: &[f64]) -> f64 {
    let defined = differences.iter().filter(|d| d.is_finite());
    let (mut low, mut high, mut n) = (0u64, 0u64, 0u64);
    for &d in defined {
        low += u64::from(d <= 0.0);
        high += u64::from(d >= 0.0);
        n += 1;
    }
    (2.0 * (low.min(high) + 1) as f64 / (n + 1) as f64).min(1.0)
}

/// Difference of the means of one value per item, for example each query's average precision under two runs.
///
/// `clusters` has the identity of each item; without it every item is drawn by itself.
///
/// ```
/// use phiz_eval::{BootstrapConfig, paired_mean_difference};
/// let a = [0.9, 0.8, 0.7, 0.9, 0.6, 0.8];
/// let b = [0.8, 0.7, 0.6, 0.8, 0.5, 0.7];
/// let found = paired_mean_difference(&a, &b, None, &BootstrapConfig::default())?;
/// let [low, high] = found.interval.expect("defined");
/// // Each value is 0.1 higher, so the difference does not vary at all, although the values do.
/// assert!((low - 0.1).abs() < 1e-12 && (high - 0.1).abs() < 1e-12);
/// # Ok::<(), phiz_eval::Error>(())
/// ```
///
/// # Errors
/// When the lengths differ, there is no item, or a value is not finite.
pub fn paired_mean_difference(
    a: &[f64],
    b: &[f64],
    clusters: Option<&[u32]>,
    config: &BootstrapConfig,
) -> Result<PairedDifference> {
    let n = a.len();
    if b.len() != n || clusters.is_some_and(|c| c.len() != n) {
        return Err(Error::shape(format!(
            "{n} values of one run, {} of the other and {} clusters",
            b.len(),
            clusters.map_or(n, <[u32]>::len)
        )));
    }
    if n == 0 {
        return Err(Error::degenerate("no value to compare"));
    }
    if let Some(row) = a.iter().zip(b).position(|(x, y)| !(x + y).is_finite()) {
        return Err(Error::value("a value is NaN or infinite").record(format!("row {row}")));
    }
    let (codes, count) = codes_or_rows(clusters, n);
    let mut sums = vec![(0.0, 0.0, 0u64); count];
    for ((&x, &y), &code) in a.iter().zip(b).zip(&codes) {
        if let Some(sum) = sums.get_mut(code as usize) {
            *sum = (sum.0 + x, sum.1 + y, sum.2 + 1);
        }
    }
    let found = paired_differences(count, config, |weights| {
        let (mut x, mut y, mut n) = (0.0, 0.0, 0u64);
        for (&w, s) in weights.iter().zip(&sums) {
            x += f64::from(w) * s.0;
            y += f64::from(w) * s.1;
            n += u64::from(w) * s.2;
        }
        vec![(x / n as f64, y / n as f64)]
    })?;
    found
        .into_iter()
        .next()
        .ok_or_else(|| Error::degenerate("no value to compare"))
}

/// Differences of `auc`, `eer`, `best_accuracy` and `tar@far=...` between two runs that scored the same pairs.
///
/// `pairs` names the cluster of each sample of pair i; a pair of clusters drawn m and n times counts m n times, one
/// inside a cluster drawn m times m times. A TAR whose FAR asks for more impostor pairs than there are is left out.
///
/// # Errors
/// When the lengths differ, a score is not finite, or there is no genuine or no impostor pair.
pub fn paired_verification(
    scores_a: &[f64],
    scores_b: &[f64],
    pairs: &[PairClusters],
    fars: &[f64],
    config: &BootstrapConfig,
) -> Result<BTreeMap<String, PairedDifference>> {
    let n = pairs.len();
    if scores_a.len() != n || scores_b.len() != n {
        return Err(Error::shape(format!(
            "{} scores of one run and {} of the other for {n} pairs",
            scores_a.len(),
            scores_b.len()
        )));
    }
    if let Some(at) = scores_a
        .iter()
        .zip(scores_b)
        .position(|(x, y)| !(x.is_finite() && y.is_finite()))
    {
        return Err(Error::value("a score is NaN or infinite").record(format!("pair {at}")));
    }
    let impostor = pairs.iter().filter(|p| !p.same).count();
    for (name, count) in [("genuine", n - impostor), ("impostor", impostor)] {
        if count == 0 {
            return Err(Error::degenerate(format!(
                "no {name} pair: a comparison needs pairs of one and of different identities"
            )));
        }
    }
    let both: Vec<u32> = pairs.iter().flat_map(|p| [p.a, p.b]).collect();
    let (codes, clusters) = dense_codes(&both);
    let weighted = |scores: &[f64]| {
        let scored = scores
            .iter()
            .zip(codes.chunks_exact(2))
            .zip(pairs)
            .filter_map(|((&score, code), pair)| match code {
                [a, b] => Some((score, *a, *b, pair.same)),
                _ => None,
            });
        WeightedPairs::new(scored.collect(), clusters)
    };
    let (first, second) = rayon::join(|| weighted(scores_a), || weighted(scores_b));
    let fars: Vec<f64> = fars
        .iter()
        .copied()
        .filter(|far| 1.0 / impostor as f64 <= *far)
        .collect();
    let found = paired_differences(clusters, config, |weights| {
        first
            .figures(weights, &fars)
            .into_iter()
            .zip(second.figures(weights, &fars))
            .collect()
    })?;
    let names = ["auc", "eer", "best_accuracy"].map(String::from);
    Ok(names
        .into_iter()
        .chain(fars.iter().map(|&far| tar_name(far)))
        .zip(found)
        .collect())
}

/// Dense cluster codes, or one cluster a row.
pub(crate) fn codes_or_rows(clusters: Option<&[u32]>, n: usize) -> (Vec<u32>, usize) {
    match clusters {
        Some(clusters) => dense_codes(clusters),
        None => ((0..n as u32).collect(), n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roc::Roc;

    fn pairs(n: u32) -> Vec<PairClusters> {
        (0..n)
            .flat_map(|i| (i + 1..n).map(move |j| (i, j)))
            .map(|(i, j)| PairClusters {
                a: i / 3,
                b: j / 3,
                same: i / 3 == j / 3,
            })
            .collect()
    }

    fn noisy(pairs: &[PairClusters], step: u64, lift: f64) -> Vec<f64> {
        pairs
            .iter()
            .enumerate()
            .map(|(i, p)| {
                let noise = ((i as u64 + 1) * step % 1009) as f64 / 1009.0;
                noise + if p.same { lift } else { 0.0 }
            })
            .collect()
    }

    #[test]
    fn a_run_against_itself_differs_by_nothing() {
        let pairs = pairs(30);
        let scores = noisy(&pairs, 617, 0.3);
        let config = BootstrapConfig::default();
        let found = paired_verification(&scores, &scores, &pairs, &[0.1, 1e-6], &config).unwrap();
        assert_eq!(found.len(), 4, "the FAR of 1e-6 is left out");
        for (name, d) in found {
            assert_eq!(
                (d.difference, d.interval, d.p_value),
                (0.0, Some([0.0, 0.0]), Some(1.0)),
                "{name}"
            );
        }
    }

    #[test]
    fn plain_figures_are_those_of_the_curve() {
        let pairs = pairs(24);
        let (a, b) = (noisy(&pairs, 617, 0.6), noisy(&pairs, 401, 0.2));
        let config = BootstrapConfig::default();
        let found = paired_verification(&a, &b, &pairs, &[0.1], &config).unwrap();
        let roc = |scores: &[f64]| {
            let of = |same| -> Vec<f64> {
                let chosen = scores.iter().zip(&pairs).filter(|(_, p)| p.same == same);
                chosen.map(|(s, _)| *s).collect()
            };
            Roc::from_scores(&of(true), &of(false)).unwrap()
        };
        let auc = found["auc"];
        assert!((auc.a - roc(&a).auc()).abs() < 1e-15 && (auc.b - roc(&b).auc()).abs() < 1e-15);
        let [low, high] = auc.interval.unwrap();
        assert!(low < auc.difference && auc.difference < high && low > 0.0);
        assert!(auc.p_value.unwrap() < 0.05);
        let back = paired_verification(&b, &a, &pairs, &[0.1], &config).unwrap();
        let [back_low, back_high] = back["auc"].interval.unwrap();
        assert!((back_low + high).abs() < 1e-12 && (back_high + low).abs() < 1e-12);
    }

    #[test]
    fn bad_input_is_one_line() {
        let config = BootstrapConfig::default();
        let pairs = pairs(6);
        let good = noisy(&pairs, 3, 0.1);
        let mut bad = good.clone();
        bad[4] = f64::NAN;
        for (error, words) in [
            (
                paired_verification(&good[1..], &good, &pairs, &[], &config).unwrap_err(),
                "14 scores",
            ),
            (
                paired_verification(&good, &bad, &pairs, &[], &config).unwrap_err(),
                "pair 4",
            ),
            (
                paired_mean_difference(&[], &[], None, &config).unwrap_err(),
                "no value",
            ),
            (
                paired_mean_difference(&[1.0], &[f64::INFINITY], None, &config).unwrap_err(),
                "row 0",
            ),
        ] {
            let line = error.to_string();
            assert!(line.contains(words) && !line.contains('\n'), "{line}");
        }
    }
}
