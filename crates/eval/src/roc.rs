//! The exact receiver operating characteristic of two sets of scores.
//!
//! A pair is accepted when its score is at least a threshold. The curve is held without binning: the scores of the
//! smaller set are kept, and of the other set only how many fall on each kept value and between two neighbours. Between
//! two kept values one rate stands still, so the curve, its area and every rate read from it are exact, while the larger
//! set (200 million impostor pairs of 20,000 images) is never stored.

use serde::Serialize;

use crate::error::{Error, Result};

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
    index: ScoreIndex,
    /// How many kept scores have each value.
    kept: Vec<u32>,
    /// Of the other set: slot 2k+1 counts scores equal to value k, slot 2k those between values k-1 and k.
    slots: Vec<u32>,
    kept_is_genuine: bool,
    genuine: u64,
    impostor: u64,
}

/// Distinct values in ascending order with a table that finds a score's slot in about one step.
#[derive(Debug, Clone)]
pub(crate) struct ScoreIndex {
    values: Vec<f64>,
    /// First value at or after each of the equal-width cells; one more than there are cells.
    cells: Vec<u32>,
    low: f64,
    scale: f64,
}

impl ScoreIndex {
    fn new(values: Vec<f64>) -> Self {
        let low = values.first().copied().unwrap_or(0.0);
        let high = values.last().copied().unwrap_or(0.0);
        let count = values.len().next_power_of_two().clamp(1, 1 << 22);
        let scale = count as f64 / (high - low);
        // One value, or a range so small that the division overflows: one cell, plain binary search.
        let scale = if scale.is_finite() { scale } else { 0.0 };
        let mut index = Self {
            values,
            cells: Vec::new(),
            low,
            scale,
        };
        let mut cells = vec![0u32; count + 1];
        for &value in &index.values {
            let cell = index.cell(value, count);
            if let Some(next) = cells.get_mut(cell + 1) {
                *next += 1;
            }
        }
        let mut sum = 0;
        for cell in &mut cells {
            sum += *cell;
            *cell = sum;
        }
        index.cells = cells;
        index
    }

    /// Monotone in `score`, which is all that `slot` needs: values in other cells compare as their cells do.
    fn cell(&self, score: f64, count: usize) -> usize {
        (((score - self.low) * self.scale) as usize).min(count - 1)
    }

    /// 2k+1 when `score` equals value k, otherwise 2k with k the number of values below it.
    pub(crate) fn slot(&self, score: f64) -> usize {
        let cell = self.cell(score, self.cells.len() - 1);
        let begin = self.cells[cell] as usize;
        let end = self.cells[cell + 1] as usize;
        let below = begin + self.values[begin..end].partition_point(|&v| v < score);
        if self.values.get(below) == Some(&score) {
            2 * below + 1
        } else {
            2 * below
        }
    }

    pub(crate) fn slots(&self) -> usize {
        2 * self.values.len() + 1
    }
}

/// The kept side, ready to count the other one.
pub(crate) struct Kept {
    pub(crate) index: ScoreIndex,
    counts: Vec<u32>,
}

impl Kept {
    /// Sorts and counts; `scores` is consumed to keep one copy only.
    pub(crate) fn new(mut scores: Vec<f64>) -> Self {
        use rayon::slice::ParallelSliceMut;
        // -0.0 and 0.0 are one value; `total_cmp` alone would split them.
        for score in &mut scores {
            *score += 0.0;
        }
        scores.par_sort_unstable_by(f64::total_cmp);
        let mut counts: Vec<u32> = Vec::new();
        let mut last = f64::NAN;
        for &score in &scores {
            if score == last
                && let Some(count) = counts.last_mut()
            {
                *count += 1;
            } else {
                counts.push(1);
                last = score;
            }
        }
        scores.dedup();
        Self {
            index: ScoreIndex::new(scores),
            counts,
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
            index: self.index,
            kept: self.counts,
            slots,
            kept_is_genuine,
            genuine,
            impostor,
        }
    }
}

impl Roc {
    /// The curve of two lists of scores (larger is more alike).
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
            if let Some(at) = scores.iter().position(|s| !s.is_finite()) {
                return Err(
                    Error::value("a score is NaN or infinite").record(format!("{name} pair {at}"))
                );
            }
        }
        if genuine.len() + impostor.len() > u32::MAX as usize {
            return Err(Error::too_large("more than 4294967295 pairs"));
        }
        let kept_is_genuine = genuine.len() <= impostor.len();
        let (kept, other) = if kept_is_genuine {
            (genuine, impostor)
        } else {
            (impostor, genuine)
        };
        let kept = Kept::new(kept.to_vec());
        let mut slots = vec![0u32; kept.index.slots()];
        for &score in other {
            if let Some(slot) = slots.get_mut(kept.index.slot(score)) {
                *slot += 1;
            }
        }
        Ok(kept.into_roc(slots, kept_is_genuine))
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
        let (mut kept, mut other) = (0u64, 0u64);
        let mut emit = |threshold, kept, other| {
            let (true_accepts, false_accepts) = if self.kept_is_genuine {
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
        emit(f64::INFINITY, 0, 0);
        for (k, (&value, &count)) in self.index.values.iter().zip(&self.kept).enumerate().rev() {
            let between = u64::from(self.slots.get(2 * k + 2).copied().unwrap_or(0));
            if between > 0 {
                other += between;
                emit(value.next_up(), kept, other);
            }
            kept += u64::from(count);
            other += u64::from(self.slots.get(2 * k + 1).copied().unwrap_or(0));
            emit(value, kept, other);
        }
        let below = u64::from(self.slots.first().copied().unwrap_or(0));
        if below > 0 {
            emit(f64::NEG_INFINITY, kept, other + below);
        }
    }

    fn far(&self, point: RocPoint) -> f64 {
        point.false_accepts as f64 / self.impostor as f64
    }

    fn tar(&self, point: RocPoint) -> f64 {
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
