//! Every figure for each group, and the gaps between groups with intervals.
//!
//! A group is any label column: gender, age band, skin type, lighting. Three views:
//!
//! * [`by_group`]: any figure of any rows, per group;
//! * [`verification_by_group`]: error rates inside each group at **one** threshold for all, as deployed systems have it,
//!   beside each group's own AUC (the protocol of RFW and of NIST's demographic reports);
//! * [`decision_gaps`]: demographic parity, equal opportunity and equalised odds of a yes-or-no decision.
//!
//! All intervals draw identities with replacement, over all groups at once, so that people who occur in several groups
//! are drawn once. The interval of a gap is that of the two groups that are best and worst on the full data: were they
//! chosen anew in each resample, the gap of two equal groups would never include 0.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bootstrap::{BootstrapConfig, WeightedPairs, dense_codes, intervals};
use crate::error::{Error, Result};
use crate::paired::{PairClusters, codes_or_rows};
use crate::roc::Roc;

/// A figure of one group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupFigure {
    /// The group's code.
    pub group: u32,
    /// Samples or pairs in it.
    pub count: usize,
    /// The figure; `None` where it is undefined on the group.
    pub value: Option<f64>,
    /// Its interval.
    pub interval: Option<[f64; 2]>,
}

/// A figure by group with its gap.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupFigures {
    /// In ascending order of the group's code.
    pub groups: Vec<GroupFigure>,
    /// Largest minus smallest value; `None` with fewer than two defined groups.
    pub gap: Option<f64>,
    /// Interval of the difference between the groups with the largest and the smallest value.
    pub gap_interval: Option<[f64; 2]>,
    /// Codes of the groups with the largest and the smallest value.
    pub extremes: Option<[u32; 2]>,
    /// Standard deviation of the groups' values, with n - 1.
    pub sd: Option<f64>,
}

/// Any figure by group: `figure` is given the rows of a group, rows of an identity drawn m times m times, and returns NaN
/// where it is undefined.
///
/// ```
/// use phiz_eval::by_group;
/// let right = [1.0, 1.0, 0.0, 1.0, 0.0, 0.0];
/// let groups = [7, 7, 7, 9, 9, 9];
/// let mean = |rows: &[usize]| rows.iter().map(|&r| right[r]).sum::<f64>() / rows.len() as f64;
/// let found = by_group(&groups, None, None, mean)?;
/// assert!((found.gap.expect("two groups") - 1.0 / 3.0).abs() < 1e-15);
/// assert_eq!(found.extremes, Some([7, 9]));
/// # Ok::<(), phiz_eval::Error>(())
/// ```
///
/// # Errors
/// When there is no row, or not one cluster a row.
pub fn by_group<F>(
    groups: &[u32],
    clusters: Option<&[u32]>,
    bootstrap: Option<&BootstrapConfig>,
    figure: F,
) -> Result<GroupFigures>
where
    F: Fn(&[usize]) -> f64 + Sync,
{
    let n = groups.len();
    if n == 0 {
        return Err(Error::degenerate("no sample to judge by group"));
    }
    if clusters.is_some_and(|c| c.len() != n) {
        return Err(Error::shape(format!(
            "{} clusters for {n} rows with a group",
            clusters.map_or(0, <[u32]>::len)
        )));
    }
    let (codes, names, members) = split(groups);
    let values: Vec<f64> = members.iter().map(|rows| figure(rows)).collect();
    let extremes = extremes(&values);
    let found = bootstrap.map(|config| {
        let (cluster, count) = codes_or_rows(clusters, n);
        intervals(count, config, |weights| {
            let mut drawn: Vec<Vec<usize>> = vec![Vec::new(); names.len()];
            for (row, (&code, &c)) in codes.iter().zip(&cluster).enumerate() {
                let times = weights.get(c as usize).copied().unwrap_or(0);
                if let Some(rows) = drawn.get_mut(code as usize) {
                    rows.extend((0..times).map(|_| row));
                }
            }
            let value = |rows: &Vec<usize>| {
                if rows.is_empty() {
                    f64::NAN
                } else {
                    figure(rows)
                }
            };
            with_gap(drawn.iter().map(value).collect(), extremes)
        })
    });
    let counts = members.iter().map(Vec::len).collect::<Vec<_>>();
    Ok(assemble(&names, &counts, &values, extremes, found))
}

/// Error rates of verification inside each group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupVerification {
    /// The false accept rate that the common threshold was set for, over all pairs of all groups.
    pub far: f64,
    /// The common threshold: scores at or above it are accepted.
    pub threshold: f64,
    /// Each group's AUC.
    pub auc: GroupFigures,
    /// Each group's equal error rate, at its own threshold.
    pub eer: GroupFigures,
    /// Each group's false accept rate at the common threshold.
    pub false_accept: GroupFigures,
    /// Each group's false reject rate at the common threshold.
    pub false_reject: GroupFigures,
}

/// Judges pairs whose two samples are of one group, group by group.
///
/// `groups` has the group of each pair; pairs across groups are left out by the caller. The common threshold is the one
/// that lets at most `far` of all impostor pairs pass.
///
/// # Errors
/// When lengths differ, a score is not finite, there is no genuine or impostor pair, or fewer than 1/`far` impostor pairs.
pub fn verification_by_group(
    scores: &[f64],
    pairs: &[PairClusters],
    groups: &[u32],
    far: f64,
    bootstrap: Option<&BootstrapConfig>,
) -> Result<GroupVerification> {
    let n = pairs.len();
    if scores.len() != n || groups.len() != n {
        return Err(Error::shape(format!(
            "{} scores and {} groups for {n} pairs",
            scores.len(),
            groups.len()
        )));
    }
    let of = |same: bool| -> Vec<f64> {
        let chosen = scores.iter().zip(pairs).filter(|(_, p)| p.same == same);
        chosen.map(|(s, _)| *s).collect()
    };
    let all = Roc::from_scores(&of(true), &of(false))?;
    let Some(threshold) = all.tar_at_far(far).map(|t| t.threshold) else {
        return Err(Error::degenerate(format!(
            "a false accept rate of {far} needs {} impostor pairs, there are {}",
            (1.0 / far).ceil(),
            all.impostor()
        )));
    };
    let both: Vec<u32> = pairs.iter().flat_map(|p| [p.a, p.b]).collect();
    let (clusters, cluster_count) = dense_codes(&both);
    let code = |i: usize| clusters.get(i).copied().unwrap_or(0);
    let (_, names, members) = split(groups);
    let parts: Vec<GroupPairs> = members
        .iter()
        .map(|rows| {
            let mut scored = Vec::with_capacity(rows.len());
            let mut accepted = Vec::with_capacity(rows.len());
            for &row in rows {
                let (score, same) = match (scores.get(row), pairs.get(row)) {
                    (Some(score), Some(pair)) => (*score, pair.same),
                    _ => continue,
                };
                let (a, b) = (code(2 * row), code(2 * row + 1));
                scored.push((score, a, b, same));
                accepted.push((a, b, same, score >= threshold));
            }
            GroupPairs {
                curve: WeightedPairs::new(scored, cluster_count),
                accepted,
            }
        })
        .collect();
    let figures = |weights: &[u32]| -> [Vec<f64>; 4] {
        let mut out: [Vec<f64>; 4] = Default::default();
        for part in &parts {
            let values = part.figures(weights);
            for (column, value) in out.iter_mut().zip(values) {
                column.push(value);
            }
        }
        out
    };
    let plain = figures(&vec![1; cluster_count]);
    let worst = plain.each_ref().map(|values| extremes(values));
    let found = bootstrap.map(|config| {
        intervals(cluster_count, config, |weights| {
            figures(weights)
                .into_iter()
                .zip(worst)
                .flat_map(|(values, extremes)| with_gap(values, extremes))
                .collect()
        })
    });
    let counts = members.iter().map(Vec::len).collect::<Vec<_>>();
    let width = names.len() + 1;
    let mut built = plain.iter().zip(worst).enumerate().map(|(k, (values, w))| {
        let part = found
            .as_ref()
            .and_then(|f| f.get(k * width..(k + 1) * width))
            .map(<[_]>::to_vec);
        assemble(&names, &counts, values, w, part)
    });
    let mut next = || {
        built
            .next()
            .ok_or_else(|| Error::degenerate("no group to judge"))
    };
    Ok(GroupVerification {
        far,
        threshold,
        auc: next()?,
        eer: next()?,
        false_accept: next()?,
        false_reject: next()?,
    })
}

struct GroupPairs {
    curve: WeightedPairs,
    /// Clusters, genuine, accepted.
    accepted: Vec<(u32, u32, bool, bool)>,
}

impl GroupPairs {
    /// AUC, EER, false accept and false reject rate.
    fn figures(&self, weights: &[u32]) -> [f64; 4] {
        let weight = |c: u32| u64::from(weights.get(c as usize).copied().unwrap_or(0));
        let mut counts = [[0u64; 2]; 2];
        for &(a, b, same, accepted) in &self.accepted {
            let w = if a == b {
                weight(a)
            } else {
                weight(a) * weight(b)
            };
            counts[usize::from(same)][usize::from(accepted)] += w;
        }
        let share = |[no, yes]: [u64; 2], part: u64| part as f64 / (no + yes) as f64;
        let curve = self.curve.figures(weights, &[]);
        let at = |k: usize| curve.get(k).copied().unwrap_or(f64::NAN);
        [
            at(0),
            at(1),
            share(counts[0], counts[0][1]),
            share(counts[1], counts[1][0]),
        ]
    }
}

/// Gaps of a yes-or-no decision between groups.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DecisionGaps {
    /// Share of yes: its gap is that of demographic parity.
    pub yes_rate: GroupFigures,
    /// Share of yes among the truly positive: its gap is that of equal opportunity.
    pub true_positive_rate: GroupFigures,
    /// Share of yes among the truly negative.
    pub false_positive_rate: GroupFigures,
    /// Equalised odds: the larger of the gaps of the last two; `None` where either is undefined.
    pub equalised_odds: Option<f64>,
}

/// Judges decisions by group.
///
/// # Errors
/// When the lengths differ or there is no sample.
pub fn decision_gaps(
    decided: &[bool],
    truth: &[bool],
    groups: &[u32],
    clusters: Option<&[u32]>,
    bootstrap: Option<&BootstrapConfig>,
) -> Result<DecisionGaps> {
    if decided.len() != groups.len() || truth.len() != groups.len() {
        return Err(Error::shape(format!(
            "{} decisions and {} true values for {} rows with a group",
            decided.len(),
            truth.len(),
            groups.len()
        )));
    }
    // NaN, hence undefined, for a group without such rows.
    let rate = |wanted: Option<bool>| {
        move |rows: &[usize]| {
            let counted = |r: &&usize| wanted.is_none() || truth.get(**r).copied() == wanted;
            let (yes, n) = rows.iter().filter(counted).fold((0u64, 0u64), |(y, n), r| {
                (
                    y + u64::from(decided.get(*r).copied().unwrap_or(false)),
                    n + 1,
                )
            });
            yes as f64 / n as f64
        }
    };
    let yes_rate = by_group(groups, clusters, bootstrap, rate(None))?;
    let true_positive_rate = by_group(groups, clusters, bootstrap, rate(Some(true)))?;
    let false_positive_rate = by_group(groups, clusters, bootstrap, rate(Some(false)))?;
    let gaps = true_positive_rate.gap.zip(false_positive_rate.gap);
    Ok(DecisionGaps {
        yes_rate,
        equalised_odds: gaps.map(|(t, f)| t.max(f)),
        true_positive_rate,
        false_positive_rate,
    })
}

/// Dense codes, the groups' own codes, and the rows of each.
fn split(groups: &[u32]) -> (Vec<u32>, Vec<u32>, Vec<Vec<usize>>) {
    let mut rows: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (row, &group) in groups.iter().enumerate() {
        rows.entry(group).or_default().push(row);
    }
    let (codes, _) = dense_codes(groups);
    let (names, members) = rows.into_iter().unzip();
    (codes, names, members)
}

/// Positions of the largest and the smallest finite value, the first of equal ones.
fn extremes(values: &[f64]) -> Option<[usize; 2]> {
    let finite = || values.iter().enumerate().filter(|(_, v)| v.is_finite());
    if finite().count() < 2 {
        return None;
    }
    let by = |better: fn(f64, f64) -> bool| {
        finite().fold(None, |best: Option<(usize, f64)>, (i, &v)| match best {
            Some((_, b)) if !better(v, b) => best,
            _ => Some((i, v)),
        })
    };
    Some([by(|v, b| v > b)?.0, by(|v, b| v < b)?.0])
}

/// The values and, last, the gap between the groups `extremes`.
fn with_gap(mut values: Vec<f64>, extremes: Option<[usize; 2]>) -> Vec<f64> {
    let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
    let gap = extremes.map_or(f64::NAN, |[high, low]| at(high) - at(low));
    values.push(gap);
    values
}

fn assemble(
    names: &[u32],
    counts: &[usize],
    values: &[f64],
    extremes: Option<[usize; 2]>,
    found: Option<Vec<Option<[f64; 2]>>>,
) -> GroupFigures {
    let interval = |k: usize| found.as_ref().and_then(|f| f.get(k).copied()).flatten();
    let groups = names.iter().zip(counts).zip(values).enumerate();
    let finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    let at = |i: usize| values.get(i).copied();
    let name = |i: usize| names.get(i).copied();
    GroupFigures {
        groups: groups
            .map(|(k, ((&group, &count), &value))| GroupFigure {
                group,
                count,
                value: value.is_finite().then_some(value),
                interval: value.is_finite().then(|| interval(k)).flatten(),
            })
            .collect(),
        gap: extremes.and_then(|[high, low]| Some(at(high)? - at(low)?)),
        gap_interval: extremes.and_then(|_| interval(names.len())),
        extremes: extremes.and_then(|[high, low]| Some([name(high)?, name(low)?])),
        sd: crate::stats::mean_sd_ci95(&finite).and_then(|s| s.sd),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_groups_have_a_gap_that_may_be_zero() {
        let n = 400;
        let groups: Vec<u32> = (0..n).map(|i| i % 2).collect();
        let values: Vec<f64> = (0..n).map(|i| f64::from(i * 7919 % 97) / 97.0).collect();
        let mean =
            |rows: &[usize]| rows.iter().map(|&r| values[r]).sum::<f64>() / rows.len() as f64;
        let config = BootstrapConfig::default();
        let found = by_group(&groups, None, Some(&config), mean).unwrap();
        let [low, high] = found.gap_interval.unwrap();
        assert!(low < 0.0 && high > 0.0 && found.gap.unwrap() >= 0.0);
        // Names of the groups do not matter.
        let renamed: Vec<u32> = groups.iter().map(|g| 5 * g + 3).collect();
        let again = by_group(&renamed, None, Some(&config), mean).unwrap();
        assert_eq!(
            (again.gap, again.gap_interval),
            (found.gap, found.gap_interval)
        );
        assert_eq!(again.groups[1].group, 8);
    }

    #[test]
    fn one_threshold_for_all_groups() {
        // Group 1's impostors score 0.3 higher: fair by AUC, unfair at a common threshold.
        let (mut scores, mut pairs, mut groups) = (vec![], vec![], vec![]);
        for group in 0..2u32 {
            for i in 0..200u32 {
                let same = i % 2 == 0;
                let noise = f64::from((i / 2) * 37 % 100) / 100.0;
                scores.push(noise + if same { 1.0 } else { 0.0 } + 0.3 * f64::from(group));
                let person = group * 1000 + i % 20;
                pairs.push(PairClusters {
                    a: person,
                    b: if same { person } else { person + 1 },
                    same,
                });
                groups.push(group);
            }
        }
        let config = BootstrapConfig {
            resamples: 50,
            ..Default::default()
        };
        let found = verification_by_group(&scores, &pairs, &groups, 0.1, Some(&config)).unwrap();
        assert_eq!(found.auc.gap, Some(0.0));
        let accept = |g: usize| found.false_accept.groups[g].value.unwrap();
        assert!(accept(1) > accept(0) && (accept(0) + accept(1)) / 2.0 <= 0.1);
        assert_eq!(found.false_accept.extremes, Some([1, 0]));
        let [low, _] = found.false_accept.gap_interval.unwrap();
        assert!(low > 0.0);
        let line = verification_by_group(&scores, &pairs, &groups, 1e-3, None)
            .unwrap_err()
            .to_string();
        assert!(line.contains("needs 1000 impostor pairs"), "{line}");
    }

    #[test]
    fn decisions_by_hand() {
        let decided = [true, true, false, false, true, false, false, false];
        let truth = [true, false, true, false, true, true, false, false];
        let groups = [0, 0, 0, 0, 1, 1, 1, 1];
        let found = decision_gaps(&decided, &truth, &groups, None, None).unwrap();
        assert_eq!(found.yes_rate.gap, Some(0.25));
        assert_eq!(found.true_positive_rate.gap, Some(0.0));
        assert_eq!(found.false_positive_rate.gap, Some(0.5));
        assert_eq!(found.equalised_odds, Some(0.5));
        // A group without positives: its rate is undefined, and so is the gap.
        let found = decision_gaps(&decided[..2], &[true, false], &[0, 1], None, None).unwrap();
        assert_eq!(found.true_positive_rate.groups[1].value, None);
        assert_eq!(
            (found.true_positive_rate.gap, found.equalised_odds),
            (None, None)
        );
        assert!(decision_gaps(&[], &[], &[], None, None).is_err());
        assert!(decision_gaps(&[true], &[], &[0], None, None).is_err());
    }
}
