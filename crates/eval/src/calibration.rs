//! Does a confidence of 0.9 mean right nine times in ten? Expected calibration error and the reliability diagram.
//!
//! The confidence of a sample is the probability of the class it is called. Samples are put into bins by confidence:
//!
//! ```text
//! ECE = sum_b (n_b / n) |accuracy_b - confidence_b|      MCE = max_b |accuracy_b - confidence_b|
//! Brier = mean_i sum_k (p_ik - [k = y_i])^2              NLL = mean_i -ln p_i,y_i
//! ```
//!
//! (Guo et al., ICML 2017). Bins of equal width are (low, high], the first one closed; bins of equal mass hold the same
//! number of samples each. ECE is biased upwards on few samples: its interval does not mend that.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bootstrap::{BootstrapConfig, intervals};
use crate::embeddings::Logits;
use crate::error::{Error, Result};
use crate::paired::codes_or_rows;

/// How confidences are put into bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binning {
    /// Bins of equal width over [0, 1].
    EqualWidth,
    /// Bins with as many samples each.
    EqualMass,
}

/// How to judge calibration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CalibrationConfig {
    /// Number of bins. Default 15.
    pub bins: usize,
    /// How they are cut. Default equal width.
    pub binning: Binning,
}

impl Default for CalibrationConfig {
    fn default() -> Self {
        Self {
            bins: 15,
            binning: Binning::EqualWidth,
        }
    }
}

/// One bin of a reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ReliabilityBin {
    /// Lower edge.
    pub low: f64,
    /// Upper edge.
    pub high: f64,
    /// Samples in it.
    pub count: usize,
    /// Their mean confidence; 0 for an empty bin.
    pub confidence: f64,
    /// Share of them that is right; 0 for an empty bin.
    pub accuracy: f64,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Expected calibration error.
    pub ece: f64,
    /// Largest gap of a bin that is not empty.
    pub mce: f64,
    /// Brier score over all classes, from 0 to 2.
    pub brier: f64,
    /// Mean negative log-probability of the true class, nats; infinite when one has probability 0.
    pub nll: f64,
    /// Mean confidence minus accuracy: above 0 is overconfident.
    pub overconfidence: f64,
    /// The diagram.
    pub bins: Vec<ReliabilityBin>,
    /// Intervals of `ece`, `brier` and `overconfidence`, where wanted.
    pub intervals: BTreeMap<String, [f64; 2]>,
}

impl Calibration {
    /// Metric names to values: `ece`, `mce`, `brier`, `nll` (where finite), `overconfidence`.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        [
            ("ece", self.ece),
            ("mce", self.mce),
            ("brier", self.brier),
            ("nll", self.nll),
            ("overconfidence", self.overconfidence),
        ]
        .into_iter()
        .filter(|(_, value)| value.is_finite())
        .map(|(name, value)| (name.to_string(), value))
        .collect()
    }
}

/// Judges `probabilities` (N, `classes`), row by row, each row summing to 1 within 1e-3.
///
/// # Errors
/// When sizes disagree, there is no sample or no bin, a probability is outside [0, 1], a row does not sum to 1, or a
/// true class has no column.
pub fn calibration(
    probabilities: &[f64],
    classes: usize,
    truth: &[u32],
    config: &CalibrationConfig,
    clusters: Option<&[u32]>,
    bootstrap: Option<&BootstrapConfig>,
) -> Result<Calibration> {
    let n = truth.len();
    if classes == 0 || probabilities.len() != n * classes || clusters.is_some_and(|c| c.len() != n)
    {
        return Err(Error::shape(format!(
            "{} probabilities of {classes} classes and {} clusters for {n} labels",
            probabilities.len(),
            clusters.map_or(n, <[u32]>::len)
        )));
    }
    if n == 0 {
        return Err(Error::degenerate("no sample to judge"));
    }
    if config.bins == 0 {
        return Err(Error::usage("calibration needs at least one bin"));
    }
    let (mut confidences, mut right) = (Vec::with_capacity(n), Vec::with_capacity(n));
    let (mut briers, mut nll) = (Vec::with_capacity(n), 0.0);
    for (i, (row, &target)) in probabilities.chunks_exact(classes).zip(truth).enumerate() {
        let at = |message: String| Error::value(message).record(format!("row {i}"));
        if let Some(bad) = row.iter().find(|p| !(-1e-9..=1.0 + 1e-9).contains(*p)) {
            return Err(at(format!("probability {bad} is not between 0 and 1")));
        }
        let sum: f64 = row.iter().sum();
        if (sum - 1.0).abs() > 1e-3 {
            return Err(at(format!("the probabilities sum to {sum}, not to 1")));
        }
        let Some(&wanted) = row.get(target as usize) else {
            return Err(at(format!(
                "label {target} has no column in {classes} classes"
            )));
        };
        let (mut best, mut top) = (0, f64::NEG_INFINITY);
        for (class, &p) in row.iter().enumerate() {
            if p > top {
                (best, top) = (class, p);
            }
        }
        confidences.push(top.clamp(0.0, 1.0));
        right.push(best == target as usize);
        let squares: f64 = row.iter().map(|p| p * p).sum();
        briers.push(squares - 2.0 * wanted + 1.0);
        nll -= wanted.ln();
    }
    let edges = edges(&confidences, config);
    let codes: Vec<usize> = confidences.iter().map(|&c| bin_of(c, &edges)).collect();
    let rows: Vec<Row> = (0..n)
        .map(|i| Row {
            bin: codes.get(i).copied().unwrap_or(0),
            confidence: confidences.get(i).copied().unwrap_or(0.0),
            right: f64::from(u8::from(right.get(i).copied().unwrap_or(false))),
            brier: briers.get(i).copied().unwrap_or(0.0),
        })
        .collect();
    let count = edges.len() - 1;
    let whole = Sums::new(count, rows.iter().map(|row| (row, 1.0)));
    let [ece, brier, overconfidence] = whole.figures();
    let bins = (0..count).map(|b| whole.bin(b, &edges)).collect::<Vec<_>>();
    let gaps = bins.iter().filter(|b| b.count > 0);
    let mut out = Calibration {
        ece,
        mce: gaps.fold(0.0, |m, b| m.max((b.accuracy - b.confidence).abs())),
        brier,
        nll: nll / n as f64,
        overconfidence,
        bins,
        intervals: BTreeMap::new(),
    };
    if let Some(config) = bootstrap {
        let (cluster, clusters) = codes_or_rows(clusters, n);
        let found = intervals(clusters, config, |weights| {
            let weighted = rows.iter().zip(&cluster).map(|(row, &c)| {
                (
                    row,
                    f64::from(weights.get(c as usize).copied().unwrap_or(0)),
                )
            });
            Sums::new(count, weighted).figures().to_vec()
        });
        out.intervals = ["ece", "brier", "overconfidence"]
            .into_iter()
            .zip(found)
            .filter_map(|(name, interval)| Some((name.to_string(), interval?)))
            .collect();
    }
    Ok(out)
}

/// Judges the softmax of `logits`.
///
/// # Errors
/// As [`calibration`]; also when a logit is not finite.
pub fn calibration_of_logits(
    logits: &Logits,
    truth: &[u32],
    config: &CalibrationConfig,
    clusters: Option<&[u32]>,
    bootstrap: Option<&BootstrapConfig>,
) -> Result<Calibration> {
    let mut probabilities = Vec::with_capacity(logits.values.len());
    for (i, row) in logits.values.chunks(logits.classes.max(1)).enumerate() {
        if row.iter().any(|v| !v.is_finite()) {
            return Err(Error::value("a logit is NaN or infinite").record(format!("row {i}")));
        }
        let top = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let exps: Vec<f64> = row.iter().map(|&v| (f64::from(v) - top).exp()).collect();
        let sum: f64 = exps.iter().sum();
        probabilities.extend(exps.iter().map(|e| e / sum));
    }
    calibration(
        &probabilities,
        logits.classes,
        truth,
        config,
        clusters,
        bootstrap,
    )
}

struct Row {
    bin: usize,
    confidence: f64,
    right: f64,
    brier: f64,
}

/// Weighted sums per bin: weight, confidence, right; and the Brier sum.
struct Sums {
    bins: Vec<[f64; 3]>,
    brier: f64,
}

impl Sums {
    fn new<'a>(bins: usize, rows: impl Iterator<Item = (&'a Row, f64)>) -> Self {
        let mut out = Self {
            bins: vec![[0.0; 3]; bins],
            brier: 0.0,
        };
        for (row, w) in rows {
            if let Some(bin) = out.bins.get_mut(row.bin) {
                bin[0] += w;
                bin[1] += w * row.confidence;
                bin[2] += w * row.right;
            }
            out.brier += w * row.brier;
        }
        out
    }

    /// ECE, Brier, overconfidence.
    fn figures(&self) -> [f64; 3] {
        let total: f64 = self.bins.iter().map(|b| b[0]).sum();
        let gaps: f64 = self.bins.iter().map(|b| (b[2] - b[1]).abs()).sum();
        let over: f64 = self.bins.iter().map(|b| b[1] - b[2]).sum();
        [gaps / total, self.brier / total, over / total]
    }

    fn bin(&self, index: usize, edges: &[f64]) -> ReliabilityBin {
        let [count, confidence, right] = self.bins.get(index).copied().unwrap_or_default();
        let mean = |sum: f64| if count > 0.0 { sum / count } else { 0.0 };
        ReliabilityBin {
            low: edges.get(index).copied().unwrap_or(0.0),
            high: edges.get(index + 1).copied().unwrap_or(1.0),
            count: count as usize,
            confidence: mean(confidence),
            accuracy: mean(right),
        }
    }
}

/// Ascending edges, one more than there are bins; equal-mass bins that would be empty because of ties are merged.
fn edges(confidences: &[f64], config: &CalibrationConfig) -> Vec<f64> {
    let bins = config.bins;
    match config.binning {
        Binning::EqualWidth => (0..=bins).map(|b| b as f64 / bins as f64).collect(),
        Binning::EqualMass => {
            let mut sorted = confidences.to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            let n = sorted.len();
            let mut edges = vec![0.0];
            for b in 1..bins {
                let at = (b * n).div_ceil(bins).max(1) - 1;
                let edge = sorted.get(at).copied().unwrap_or(1.0);
                if edges.last().is_some_and(|last| *last < edge) && edge < 1.0 {
                    edges.push(edge);
                }
            }
            edges.push(1.0);
            edges
        }
    }
}

/// The bin (low, high] that holds the confidence; 0 belongs to the first.
fn bin_of(confidence: f64, edges: &[f64]) -> usize {
    edges
        .partition_point(|e| *e < confidence)
        .saturating_sub(1)
        .min(edges.len().saturating_sub(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(ps: &[f64]) -> Vec<f64> {
        ps.iter().flat_map(|p| [1.0 - p, *p]).collect()
    }

    #[test]
    fn certain_and_right_certain_and_wrong() {
        let config = CalibrationConfig::default();
        let good = calibration(
            &binary(&[1.0, 1.0, 0.0]),
            2,
            &[1, 1, 0],
            &config,
            None,
            None,
        )
        .unwrap();
        assert_eq!(
            (good.ece, good.mce, good.brier, good.nll),
            (0.0, 0.0, 0.0, 0.0)
        );
        let bad = calibration(&binary(&[1.0, 0.0]), 2, &[0, 1], &config, None, None).unwrap();
        assert_eq!((bad.ece, bad.brier, bad.overconfidence), (1.0, 2.0, 1.0));
        assert!(bad.nll.is_infinite() && !bad.metrics().contains_key("nll"));
    }

    #[test]
    fn edges_belong_to_the_bin_below() {
        let config = CalibrationConfig {
            bins: 10,
            ..Default::default()
        };
        let out = calibration(&binary(&[0.6, 0.7]), 2, &[1, 0], &config, None, None).unwrap();
        let filled: Vec<usize> = (0..10).filter(|&b| out.bins[b].count > 0).collect();
        assert_eq!(filled, [5, 6]);
        let mass = CalibrationConfig {
            bins: 4,
            binning: Binning::EqualMass,
        };
        let ps: Vec<f64> = (0..40).map(|i| 0.5 + f64::from(i) / 100.0).collect();
        let out = calibration(&binary(&ps), 2, &[1; 40], &mass, None, None).unwrap();
        assert!(out.bins.iter().all(|b| b.count == 10), "{:?}", out.bins);
        // All confidences equal: one bin holds them.
        let out = calibration(&binary(&[0.8; 9]), 2, &[1; 9], &mass, None, None).unwrap();
        assert_eq!(out.bins.iter().map(|b| b.count).max(), Some(9));
    }

    #[test]
    fn bad_input_is_one_line() {
        let config = CalibrationConfig::default();
        for (values, truth, words) in [
            (vec![0.5, 0.5], vec![0, 1], "2 probabilities"),
            (vec![], vec![], "no sample"),
            (
                vec![0.5, 0.9],
                vec![0],
                "row 0: the probabilities sum to 1.4",
            ),
            (vec![-0.5, 1.5], vec![0], "row 0: probability -0.5"),
            (vec![0.5, 0.5], vec![2], "label 2 has no column"),
        ] {
            let line = calibration(&values, 2, &truth, &config, None, None)
                .unwrap_err()
                .to_string();
            assert!(line.contains(words) && !line.contains('\n'), "{line}");
        }
    }
}
