//! The exact receiver operating characteristic of two sets of scores.
//!
//! A pair is accepted when its score is at least a threshold. The curve is held without binning. Lists of scores are
//! sorted and every distinct score is held. Of all pairs of a table the scores of the smaller set are kept, and of the
//! other set only how many fall on each kept value and between two neighbours. Between two kept values one rate stands
//! still, so the curve, its area and every rate read from it are exact, while the larger set (200 million impostor
//! pairs of 20,000 images) is never stored.

use rayon::prelude::*;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::ordered::{Run, key, merge, merge_runs, sorted_keys};
use crate::score_index::ScoreIndex;

/// One point of the curve: what is accepted at `threshold`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RocPoint {
    /// Scores at or above this are accepted.
    pub threshold: f64,
    /// Genuine pairs accepted.
    pub true_accepts: u64,
    /// Impostor pairs accepted.
    pub false_accepts: u64,
}

/// The equal error rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EqualError {
    /// The rate at which false accepts and false rejects are equal.
    pub rate: f64,
    /// The threshold at the nearer end of the segment on which they cross.
    pub threshold: f64,
}

/// The true accept rate at a bound on the false accept rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TarAtFar {
    /// The bound asked for.
    pub target: f64,
    /// Share of genuine pairs accepted.
    pub tar: f64,
    /// Share of impostor pairs accepted: at most `target`.
    pub far: f64,
    /// Impostor pairs accepted; with few of them the figure is coarse.
    pub false_accepts: u64,
    /// The threshold: scores at or above it are accepted.
    pub threshold: f64,
}

/// A point for plotting.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// False accept rate.
    pub far: f64,
    /// True accept rate.
    pub tar: f64,
}

/// A point of the detection error trade-off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DetPoint {
    /// False accept rate.
    pub far: f64,
    /// False reject rate, 1 - TAR.
    pub frr: f64,
    /// Scores at or above this are accepted.
    pub threshold: f64,
}

/// The exact curve.
///
/// ```
/// use phiz_eval::Roc;
/// let roc = Roc::from_scores(&[0.9, 0.8, 0.4], &[0.5, 0.3, 0.2, 0.1])?;
/// assert_eq!(roc.auc(), 11.0 / 12.0);
/// # Ok::<(), phiz_eval::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Roc {
    steps: Steps,
    genuine: u64,
    impostor: u64,
}

/// What lies on each value of the score.
#[derive(Debug, Clone)]
enum Steps {
    /// Every distinct score, in runs that ascend from one to the next.
    Listed(Vec<Run>),
    /// Every distinct score of one set, and how many of the other fall on it and below it.
    Counted {
        values: Vec<f64>,
        /// How many kept scores have each value.
        kept: Vec<u32>,
        /// Of the other set: slot 2k+1 counts scores equal to value k, slot 2k those between values k-1 and k.
        slots: Vec<u32>,
        kept_is_genuine: bool,
    },
}

/// The kept side, ready to count the other one.
pub(crate) struct Kept {
    pub(crate) index: ScoreIndex,
    counts: Vec<u32>,
}

impl Kept {
    /// Sorts and counts; `scores` is consumed to keep one copy only. `thresholds` become values of their own with no
    /// kept score on them, so that the curve is exact at each of them.
    pub(crate) fn new(scores: Vec<f64>, thresholds: &[f64]) -> Self {
        let keys = sorted_keys(&scores);
        drop(scores);
        let mut extra: Vec<u64> = thresholds
            .iter()
            .filter(|t| t.is_finite())
            .map(|&t| key(t))
            .collect();
        extra.sort_unstable();
        let merged = merge(&keys, &extra);
        Self {
            index: ScoreIndex::new(merged.values),
            counts: merged.first,
        }
    }

    pub(crate) fn into_roc(self, slots: Vec<u32>, kept_is_genuine: bool) -> Roc {
        let sum = |counts: &[u32]| counts.iter().map(|&c| u64::from(c)).sum::<u64>();
        let (kept, other) = (sum(&self.counts), sum(&slots));
        let (genuine, impostor) = if kept_is_genuine {
            (kept, other)
        } else {
            (other, kept)
        };
        Roc {
            steps: Steps::Counted {
                values: self.index.values,
                kept: self.counts,
                slots,
                kept_is_genuine,
            },
            genuine,
            impostor,
        }
    }
}

impl Roc {
    /// The curve of two lists of scores (larger is more alike).
    ///
    /// Both are sorted as integers on all cores; 16 bytes a distinct score stay, and 8 more a score are needed while
    /// they are sorted.
    ///
    /// # Errors
    /// When either list is empty, a score is NaN or infinite, or there are more than 2^32 - 1 scores.
    pub fn from_scores(genuine: &[f64], impostor: &[f64]) -> Result<Self> {
        for (name, scores) in [("genuine", genuine), ("impostor", impostor)] {
            if scores.is_empty() {
                return Err(Error::degenerate(format!(
                    "no {name} pair: a ROC needs pairs of one and of different identities"
                )));
            }
            if let Some(at) = scores.par_iter().position_first(|s| !s.is_finite()) {
                return Err(
                    Error::value("a score is NaN or infinite").record(format!("{name} pair {at}"))
                );
            }
        }
        if genuine.len() + impostor.len() > u32::MAX as usize {
            return Err(Error::too_large("more than 4294967295 pairs"));
        }
        Ok(Self {
            steps: Steps::Listed(merge_runs(&sorted_keys(genuine), &sorted_keys(impostor))),
            genuine: genuine.len() as u64,
            impostor: impostor.len() as u64,
        })
    }

    /// The curve of one list of scores, `same[i]` saying whether pair i is genuine.
    ///
    /// # Errors
    /// When the lengths differ, and as [`Roc::from_scores`].
    pub fn from_labelled(scores: &[f64], same: &[bool]) -> Result<Self> {
        if scores.len() != same.len() {
            return Err(Error::shape(format!(
                "{} scores, but {} labels of pairs",
                scores.len(),
                same.len()
            )));
        }
        if let Some(at) = scores.par_iter().position_first(|s| !s.is_finite()) {
            return Err(Error::value("a score is NaN or infinite").record(format!("pair {at}")));
        }
        let of = |wanted: bool| -> Vec<f64> {
            let both = scores.iter().zip(same);
            both.filter(|&(_, &s)| s == wanted)
                .map(|(&score, _)| score)
                .collect()
        };
        Self::from_scores(&of(true), &of(false))
    }

    /// Number of genuine pairs.
    pub fn genuine(&self) -> u64 {
        self.genuine
    }

    /// Number of impostor pairs.
    pub fn impostor(&self) -> u64 {
        self.impostor
    }

    /// Visits the corners of the curve from "nothing accepted" to "all accepted".
    pub fn walk(&self, mut visit: impl FnMut(RocPoint)) {
        visit(RocPoint {
            threshold: f64::INFINITY,
            true_accepts: 0,
            false_accepts: 0,
        });
        match &self.steps {
            Steps::Listed(runs) => {
                let (mut true_accepts, mut false_accepts) = (0, 0);
                for run in runs.iter().rev() {
                    let steps = run.values.iter().zip(&run.first).zip(&run.second);
                    for ((&threshold, &genuine), &impostor) in steps.rev() {
                        true_accepts += u64::from(genuine);
                        false_accepts += u64::from(impostor);
                        visit(RocPoint {
                            threshold,
                            true_accepts,
                            false_accepts,
                        });
                    }
                }
            }
            Steps::Counted {
                values,
                kept,
                slots,
                kept_is_genuine,
            } => walk_counted(values, kept, slots, *kept_is_genuine, visit),
        }
    }

    /// What is accepted at `threshold`.
    ///
    /// `None` where the curve was counted (all pairs of a table) and scores of the larger set lie between the threshold
    /// and its neighbours; thresholds named in [`VerificationConfig::thresholds`](crate::VerificationConfig::thresholds)
    /// are always held.
    pub fn at(&self, threshold: f64) -> Option<RocPoint> {
        let sum = |counts: Option<&[u32]>| -> u64 {
            counts.unwrap_or(&[]).iter().map(|&c| u64::from(c)).sum()
        };
        let (true_accepts, false_accepts) = match &self.steps {
            Steps::Listed(runs) => runs.iter().fold((0, 0), |(genuine, impostor), run| {
                let from = run.values.partition_point(|&v| v < threshold);
                (
                    genuine + sum(run.first.get(from..)),
                    impostor + sum(run.second.get(from..)),
                )
            }),
            Steps::Counted {
                values,
                kept,
                slots,
                kept_is_genuine,
            } => {
                let from = values.partition_point(|&v| v < threshold);
                let held = values.get(from) == Some(&threshold);
                if !held && slots.get(2 * from).is_some_and(|&c| c > 0) {
                    return None;
                }
                let (kept, other) = (sum(kept.get(from..)), sum(slots.get(2 * from + 1..)));
                if *kept_is_genuine {
                    (kept, other)
                } else {
                    (other, kept)
                }
            }
        };
        Some(RocPoint {
            threshold,
            true_accepts,
            false_accepts,
        })
    }

    /// The false accept rate of a point.
    pub fn far(&self, point: RocPoint) -> f64 {
        point.false_accepts as f64 / self.impostor as f64
    }

    /// The true accept rate of a point.
    pub fn tar(&self, point: RocPoint) -> f64 {
        point.true_accepts as f64 / self.genuine as f64
    }

    /// Area under the curve by trapezoids: the chance that a genuine pair scores above an impostor pair, ties counting
    /// half (Mann-Whitney). Computed in integers, so exact up to the last division; equal to scikit-learn's
    /// `roc_auc_score` on the same scores.
    pub fn auc(&self) -> f64 {
        let mut last = (0u64, 0u64);
        let mut doubled = 0u128;
        self.walk(|p| {
            doubled += u128::from(p.false_accepts - last.1) * u128::from(p.true_accepts + last.0);
            last = (p.true_accepts, p.false_accepts);
        });
        doubled as f64 / (2.0 * self.genuine as f64 * self.impostor as f64)
    }

    /// Where the false accept rate equals the false reject rate, on the curve with straight lines between its corners.
    ///
    /// This is the exact solution of what `brentq(lambda x: 1 - x - interp1d(fpr, tpr)(x), 0, 1)` over scikit-learn's
    /// `roc_curve` approximates. Programs that take the nearest threshold instead differ by up to half a step.
    pub fn equal_error(&self) -> EqualError {
        let mut last = RocPoint {
            threshold: f64::INFINITY,
            true_accepts: 0,
            false_accepts: 0,
        };
        let mut found = None;
        self.walk(|p| {
            if found.is_some() {
                return;
            }
            // FAR - FRR rises from -1 to 1; the first corner at or above 0 ends the segment.
            let (before, after) = (self.imbalance(last), self.imbalance(p));
            if after >= 0 {
                let share = -before as f64 / (after - before) as f64;
                let (far0, far1) = (self.far(last), self.far(p));
                let nearer = if share < 0.5 && last.threshold.is_finite() {
                    last
                } else {
                    p
                };
                found = Some(EqualError {
                    rate: far0 + share * (far1 - far0),
                    threshold: nearer.threshold,
                });
            }
            last = p;
        });
        found.unwrap_or(EqualError {
            rate: 1.0,
            threshold: f64::NEG_INFINITY,
        })
    }

    /// FAR - FRR as the numerator over genuine x impostor, so that its sign is exact.
    fn imbalance(&self, point: RocPoint) -> i128 {
        let rejected = self.genuine - point.true_accepts;
        i128::from(point.false_accepts) * i128::from(self.genuine)
            - i128::from(rejected) * i128::from(self.impostor)
    }

    /// The largest true accept rate whose false accept rate does not exceed `target`.
    ///
    /// With k = floor(target x impostors), this is the share of genuine scores strictly above the (k+1)-th largest
    /// impostor score. It never exceeds the target, unlike rules that take the nearest point of the curve. `None` when
    /// there are fewer than 1/`target` impostor pairs: the figure would rest on no accepted impostor at all.
    pub fn tar_at_far(&self, target: f64) -> Option<TarAtFar> {
        // The correctly rounded quotient equals the literal when it should; a product like 0.29 * 100 need not.
        if target.is_nan() || 1.0 / self.impostor as f64 > target {
            return None;
        }
        let mut best = None;
        self.walk(|p| {
            if self.far(p) <= target {
                best = Some(p);
            }
        });
        best.map(|p| TarAtFar {
            target,
            tar: self.tar(p),
            far: self.far(p),
            false_accepts: p.false_accepts,
            threshold: p.threshold,
        })
    }

    /// The true accept rate at the point of the curve whose false accept rate is *nearest* to `target`, of equally near
    /// ones the last: insightface's rule for IJB.
    ///
    /// The points are those of scikit-learn's `roc_curve` with its default `drop_intermediate=True`, which leaves out
    /// a point when the steps to it and from it are equal. The rate may exceed the target; with few impostors it is
    /// the rate without any false accept. `None` for a curve that was counted (all pairs), as single impostors cannot
    /// be told apart there.
    pub fn tar_at_nearest_far(&self, target: f64) -> Option<TarAtFar> {
        if !matches!(self.steps, Steps::Listed(_)) || target.is_nan() {
            return None;
        }
        let mut best: Option<(f64, RocPoint)> = None;
        let mut offer = |p: RocPoint| {
            let distance = (self.far(p) - target).abs();
            if best.is_none_or(|b| distance <= b.0) {
                best = Some((distance, p));
            }
        };
        let step = |from: RocPoint, to: RocPoint| {
            (
                to.true_accepts - from.true_accepts,
                to.false_accepts - from.false_accepts,
            )
        };
        let mut seen: Vec<RocPoint> = Vec::with_capacity(3);
        self.walk(|p| {
            // The origin is put in front after the dropping, so it takes no part in it.
            if p.threshold == f64::INFINITY {
                offer(p);
                return;
            }
            match *seen.as_slice() {
                [] => offer(p),
                [.., before, middle] if step(before, middle) != step(middle, p) => offer(middle),
                _ => {}
            }
            if seen.len() == 2 {
                seen.remove(0);
            }
            seen.push(p);
        });
        if let Some(&last) = seen.last() {
            offer(last);
        }
        best.map(|(_, p)| TarAtFar {
            target,
            tar: self.tar(p),
            far: self.far(p),
            false_accepts: p.false_accepts,
            threshold: p.threshold,
        })
    }

    /// Average precision: the sum over thresholds of the gain in recall times the precision there, equal scores taken
    /// together; scikit-learn's `average_precision_score`. No interpolation. For a counted curve (all pairs), scores of
    /// the larger set between two of the smaller are taken together too, which changes nothing when the genuine pairs
    /// are the smaller set: recall stands still there.
    pub fn average_precision(&self) -> f64 {
        let (mut sum, mut last) = (0.0, 0u64);
        self.walk(|p| {
            if p.true_accepts > last {
                let accepted = (p.true_accepts + p.false_accepts) as f64;
                sum += (p.true_accepts - last) as f64 * (p.true_accepts as f64 / accepted);
                last = p.true_accepts;
            }
        });
        sum / self.genuine as f64
    }

    /// The detection error trade-off: every corner of the curve as (FAR, FRR), from "nothing accepted" on.
    ///
    /// scikit-learn's `det_curve` holds the same points in the same or the opposite order; it drops those whose rates
    /// both stand still and those beyond the first and the last threshold with an error of either kind.
    pub fn det(&self) -> Vec<DetPoint> {
        let mut out = Vec::new();
        self.walk(|p| {
            out.push(DetPoint {
                far: self.far(p),
                frr: (self.genuine - p.true_accepts) as f64 / self.genuine as f64,
                threshold: p.threshold,
            });
        });
        out
    }

    /// The best share of right decisions over all thresholds, and the largest threshold that reaches it. With far more
    /// impostor than genuine pairs, rejecting everything is already good: compare with the majority share.
    pub fn best_accuracy(&self) -> (f64, f64) {
        let mut best = (0u64, f64::INFINITY);
        self.walk(|p| {
            let right = p.true_accepts + self.impostor - p.false_accepts;
            if right > best.0 {
                best = (right, p.threshold);
            }
        });
        (
            best.0 as f64 / (self.genuine + self.impostor) as f64,
            best.1,
        )
    }

    /// The curve for plotting on a linear or logarithmic axis: corners that move by less than a hundredth of a decade
    /// of FAR and by less than 0.002 of TAR are dropped, the first and the last kept; some 1,500 points at most.
    pub fn curve(&self) -> Vec<CurvePoint> {
        let mut out: Vec<CurvePoint> = Vec::new();
        let mut skipped = None;
        let floor = 0.5 / self.impostor as f64;
        self.walk(|p| {
            let point = CurvePoint {
                far: self.far(p),
                tar: self.tar(p),
            };
            let keep = out.last().is_none_or(|last: &CurvePoint| {
                point.tar - last.tar >= 0.002
                    || (point.far.max(floor) / last.far.max(floor)).log10() >= 0.01
            });
            if keep {
                // The corner just before a jump belongs to the shape.
                if let Some(corner) = skipped.take() {
                    out.push(corner);
                }
                out.push(point);
            } else {
                skipped = Some(point);
            }
        });
        out.extend(skipped);
        out
    }
}

/// Walks a counted curve; the corner at infinity has been visited.
fn walk_counted(
    values: &[f64],
    kept: &[u32],
    slots: &[u32],
    kept_is_genuine: bool,
    mut visit: impl FnMut(RocPoint),
) {
    let mut emit = |threshold, kept, other| {
        let (true_accepts, false_accepts) = if kept_is_genuine {
            (kept, other)
        } else {
            (other, kept)
        };
        visit(RocPoint {
            threshold,
            true_accepts,
            false_accepts,
        });
    };
    let (mut in_kept, mut in_other) = (0u64, 0u64);
    for (k, (&value, &count)) in values.iter().zip(kept).enumerate().rev() {
        let between = u64::from(slots.get(2 * k + 2).copied().unwrap_or(0));
        if between > 0 {
            in_other += between;
            emit(value.next_up(), in_kept, in_other);
        }
        in_kept += u64::from(count);
        in_other += u64::from(slots.get(2 * k + 1).copied().unwrap_or(0));
        emit(value, in_kept, in_other);
    }
    let below = u64::from(slots.first().copied().unwrap_or(0));
    if below > 0 {
        emit(f64::NEG_INFINITY, in_kept, in_other + below);
    }
}
