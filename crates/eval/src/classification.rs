//! Right or wrong class: accuracies, F1, confusion and log-loss.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bootstrap::{BootstrapConfig, dense_codes, intervals};
use crate::embeddings::Logits;
use crate::error::{Error, Result};

/// Most classes: the confusion matrix has their square, here 134 MB.
const MAX_CLASSES: usize = 4_096;

/// Counts of (true class, predicted class).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confusion {
    classes: usize,
    counts: Vec<u64>,
}

impl Confusion {
    fn new(classes: usize) -> Self {
        Self {
            classes,
            counts: vec![0; classes * classes],
        }
    }

    fn add(&mut self, truth: u32, predicted: u32, times: u64) {
        let at = truth as usize * self.classes + predicted as usize;
        if let Some(count) = self.counts.get_mut(at) {
            *count += times;
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Samples of class `truth` that were called `predicted`; 0 outside the matrix.
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        if predicted < self.classes {
            self.counts
                .get(truth * self.classes + predicted)
                .copied()
                .unwrap_or(0)
        } else {
            0
        }
    }

    /// The row of true class `truth`.
    pub fn row(&self, truth: usize) -> &[u64] {
        self.counts
            .get(truth * self.classes..(truth + 1) * self.classes)
            .unwrap_or(&[])
    }

    /// Per class: samples of it, samples called it, right ones.
    fn sums(&self) -> Vec<(u64, u64, u64)> {
        let mut sums = vec![(0, 0, 0); self.classes];
        for truth in 0..self.classes {
            for (predicted, &count) in self.row(truth).iter().enumerate() {
                sums[truth].0 += count;
                sums[predicted].1 += count;
                if truth == predicted {
                    sums[truth].2 += count;
                }
            }
        }
        sums
    }

    /// Share of right predictions; NaN without samples.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.classes).map(|c| self.count(c, c)).sum();
        right as f64 / self.counts.iter().sum::<u64>() as f64
    }

    /// Mean over the classes that occur of the share of their samples that are right (balanced accuracy, unweighted
    /// average recall). Equal to scikit-learn's `balanced_accuracy_score`, which leaves classes without samples out too.
    pub fn mean_class_accuracy(&self) -> f64 {
        let recalls: Vec<f64> = self
            .sums()
            .iter()
            .filter(|s| s.0 > 0)
            .map(|s| s.2 as f64 / s.0 as f64)
            .collect();
        recalls.iter().sum::<f64>() / recalls.len() as f64
    }

    /// Mean over the classes that occur or are predicted of F1 = 2 right / (samples + predictions). Equal to
    /// scikit-learn's `f1_score(average="macro")`: a class that is predicted but never occurs counts with 0, one that
    /// neither occurs nor is predicted does not count.
    pub fn macro_f1(&self) -> f64 {
        let scores: Vec<f64> = self
            .sums()
            .iter()
            .filter(|s| s.0 + s.1 > 0)
            .map(|s| 2.0 * s.2 as f64 / (s.0 + s.1) as f64)
            .collect();
        scores.iter().sum::<f64>() / scores.len() as f64
    }
}

/// The result of the classification protocol.
#[derive(Debug, Clone)]
pub struct Classification {
    /// Counts of (true, predicted).
    pub confusion: Confusion,
    /// Share of right predictions.
    pub accuracy: f64,
    /// Mean of the accuracies of the classes.
    pub mean_class_accuracy: f64,
    /// Mean of the F1 of the classes.
    pub macro_f1: f64,
    /// Mean of -ln softmax(logits)\[true class\], nats; only from logits. scikit-learn's `log_loss` clips probabilities at
    /// the machine epsilon of their type first; this does not.
    pub log_loss: Option<f64>,
    /// Bootstrap intervals by metric name.
    pub intervals: BTreeMap<String, [f64; 2]>,
}

impl Classification {
    /// Metric names to values: `accuracy`, `mean_class_accuracy`, `macro_f1`, `log_loss` where defined.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let mut out = BTreeMap::from([
            ("accuracy".to_string(), self.accuracy),
            ("mean_class_accuracy".to_string(), self.mean_class_accuracy),
            ("macro_f1".to_string(), self.macro_f1),
        ]);
        out.extend(self.log_loss.map(|v| ("log_loss".to_string(), v)));
        out
    }

    /// Judges predicted classes. `clusters` are the identities that the bootstrap draws; without them every sample is
    /// drawn by itself, which is too narrow when people recur.
    ///
    /// # Errors
    /// When the lengths differ, there is no sample, or a class is 4,096 or above.
    pub fn from_predictions(
        predicted: &[u32],
        truth: &[u32],
        clusters: Option<&[u32]>,
        bootstrap: Option<&BootstrapConfig>,
    ) -> Result<Self> {
        let highest = predicted.iter().chain(truth).max().copied().unwrap_or(0);
        Self::build(predicted, truth, highest as usize + 1, clusters, bootstrap)
    }

    /// Judges logits: the predicted class is the largest one, the lowest class of equal ones (as `numpy.argmax`).
    ///
    /// # Errors
    /// As [`Classification::from_predictions`]; also when a true class has no column, or a row is NaN.
    pub fn from_logits(
        logits: &Logits,
        truth: &[u32],
        clusters: Option<&[u32]>,
        bootstrap: Option<&BootstrapConfig>,
    ) -> Result<Self> {
        let classes = logits.classes;
        if classes == 0 || classes > MAX_CLASSES || logits.values.len() != truth.len() * classes {
            return Err(Error::shape(format!(
                "{} logits of {classes} classes for {} labels (at most {MAX_CLASSES} classes)",
                logits.values.len(),
                truth.len()
            )));
        }
        let mut predicted = Vec::with_capacity(truth.len());
        let mut loss = 0.0;
        for (i, (row, &target)) in logits.values.chunks_exact(classes).zip(truth).enumerate() {
            let at = |message: String| Error::value(message).record(format!("row {i}"));
            if row.iter().any(|v| !v.is_finite()) {
                return Err(at("a logit is NaN or infinite".to_string()));
            }
            let Some(&wanted) = row.get(target as usize) else {
                return Err(at(format!(
                    "label {target} has no column in logits of {classes} classes"
                )));
            };
            let (mut best, mut top) = (0, f32::NEG_INFINITY);
            for (class, &value) in row.iter().enumerate() {
                if value > top {
                    (best, top) = (class, value);
                }
            }
            let top = f64::from(top);
            let sum: f64 = row.iter().map(|&v| (f64::from(v) - top).exp()).sum();
            loss += top + sum.ln() - f64::from(wanted);
            predicted.push(best as u32);
        }
        let mut out = Self::build(&predicted, truth, classes, clusters, bootstrap)?;
        out.log_loss = Some(loss / truth.len() as f64);
        Ok(out)
    }

    fn build(
        predicted: &[u32],
        truth: &[u32],
        classes: usize,
        clusters: Option<&[u32]>,
        bootstrap: Option<&BootstrapConfig>,
    ) -> Result<Self> {
        let n = truth.len();
        if predicted.len() != n || clusters.is_some_and(|c| c.len() != n) {
            return Err(Error::shape(format!(
                "{} predictions and {} clusters for {n} labels",
                predicted.len(),
                clusters.map_or(n, <[u32]>::len)
            )));
        }
        if n == 0 {
            return Err(Error::degenerate("no sample to judge"));
        }
        if classes > MAX_CLASSES {
            return Err(Error::too_large(format!(
                "{classes} classes; a confusion matrix is made for at most {MAX_CLASSES}"
            )));
        }
        let mut confusion = Confusion::new(classes);
        for (&t, &p) in truth.iter().zip(predicted) {
            confusion.add(t, p, 1);
        }
        let mut out = Self {
            accuracy: confusion.accuracy(),
            mean_class_accuracy: confusion.mean_class_accuracy(),
            macro_f1: confusion.macro_f1(),
            log_loss: None,
            intervals: BTreeMap::new(),
            confusion,
        };
        if let Some(config) = bootstrap {
            out.intervals = resample(predicted, truth, classes, clusters, config);
        }
        Ok(out)
    }
}

fn resample(
    predicted: &[u32],
    truth: &[u32],
    classes: usize,
    clusters: Option<&[u32]>,
    config: &BootstrapConfig,
) -> BTreeMap<String, [f64; 2]> {
    let (codes, count) = match clusters {
        Some(clusters) => dense_codes(clusters),
        None => ((0..truth.len() as u32).collect(), truth.len()),
    };
    // Only the classes that occur, so that a resample costs samples + occurring classes squared.
    let (dense, _) = dense_codes(&[truth, predicted].concat());
    let (truth, predicted) = dense.split_at(truth.len());
    let small = dense
        .iter()
        .max()
        .map_or(0, |&m| m as usize + 1)
        .min(classes);
    let found = intervals(count, config, |weights| {
        let mut confusion = Confusion::new(small);
        for ((&t, &p), &code) in truth.iter().zip(predicted).zip(&codes) {
            let times = weights.get(code as usize).copied().unwrap_or(0);
            confusion.add(t, p, u64::from(times));
        }
        vec![
            confusion.accuracy(),
            confusion.mean_class_accuracy(),
            confusion.macro_f1(),
        ]
    });
    ["accuracy", "mean_class_accuracy", "macro_f1"]
        .into_iter()
        .zip(found)
        .filter_map(|(name, interval)| Some((name.to_string(), interval?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_that_do_not_occur() {
        // Class 1 never occurs but is predicted once; class 3 is neither.
        let c = Classification::from_predictions(&[0, 1, 2, 2], &[0, 0, 2, 2], None, None).unwrap();
        assert_eq!(c.accuracy, 0.75);
        assert_eq!(c.mean_class_accuracy, 0.75);
        assert!((c.macro_f1 - (2.0 / 3.0 + 0.0 + 1.0) / 3.0).abs() < 1e-15);
        assert_eq!(c.confusion.count(0, 1), 1);
        assert_eq!(c.confusion.count(9, 9), 0);
    }

    #[test]
    fn logits_ties_and_large_values() {
        let logits = Logits {
            classes: 2,
            values: vec![1000.0, -1000.0, 0.0, 0.0],
        };
        let c = Classification::from_logits(&logits, &[0, 0], None, None).unwrap();
        assert_eq!(c.accuracy, 1.0);
        assert!((c.log_loss.unwrap() - 2f64.ln() / 2.0).abs() < 1e-15);
        let error = Classification::from_logits(&logits, &[0, 2], None, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "row 1: label 2 has no column in logits of 2 classes"
        );
    }

    #[test]
    fn bad_input_is_an_error() {
        assert!(Classification::from_predictions(&[], &[], None, None).is_err());
        assert!(Classification::from_predictions(&[0], &[0, 1], None, None).is_err());
        assert!(Classification::from_predictions(&[u32::MAX], &[0], None, None).is_err());
    }

    #[test]
    fn intervals_hold_the_figure() {
        let truth: Vec<u32> = (0..300).map(|i| i % 5).collect();
        let predicted: Vec<u32> = (0..300)
            .map(|i| if i % 11 == 0 { 0 } else { i % 5 })
            .collect();
        let subjects: Vec<u32> = (0..300).map(|i| i / 15).collect();
        let config = BootstrapConfig::default();
        let c =
            Classification::from_predictions(&predicted, &truth, Some(&subjects), Some(&config))
                .unwrap();
        for (name, value) in c.metrics() {
            let [low, high] = c.intervals[&name];
            assert!(
                low <= value && value <= high && high > low,
                "{name} {low} {value} {high}"
            );
        }
    }
}
