//! What a code still says about a factor that it should not hold.
//!
//! Fresh probes, linear and perceptron, over several seeds, trained on frozen codes of people that the test rows do not
//! have, and read as **balanced accuracy minus 1/K**: 0 is no leakage whatever the balance of the factor. Plain accuracy
//! stands beside the majority share, since both conventions are in use. Two controls: the same probes on labels that are
//! shuffled (must come out near 0), and, by calling this on raw pixels, the ceiling.

use rayon::prelude::*;
use serde::Serialize;

use super::{MlpConfig, ProbeConfig, dense_pair, linear_probe, mlp_probe, r_squared, ridge_probe};
use crate::bootstrap::BootstrapConfig;
use crate::classification::Classification;
use crate::error::{Error, Result};
use crate::regression::regression;
use crate::rows::{Rows, check_labels};
use crate::stats::mean_sd_ci95;
use crate::streams::{shuffle, stream};

/// How leakage is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct LeakageConfig {
    /// Seeds of splits and perceptrons. Default 0 to 4.
    pub seeds: Vec<u64>,
    /// The perceptron; `None` leaves it out. Default 256, 256.
    pub mlp: Option<MlpConfig>,
    /// The search.
    pub probe: ProbeConfig,
    /// Interval by subject, of the first seed. Default 1,000 resamples.
    pub bootstrap: Option<BootstrapConfig>,
}

impl Default for LeakageConfig {
    fn default() -> Self {
        Self {
            seeds: (0..5).collect(),
            mlp: Some(MlpConfig::default()),
            probe: ProbeConfig::default(),
            bootstrap: Some(BootstrapConfig {
                resamples: 1_000,
                ..Default::default()
            }),
        }
    }
}

/// What one kind of probe found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeakageScore {
    /// Balanced accuracy minus chance, mean over seeds.
    pub leakage: f64,
    /// Standard deviation over seeds (n - 1), where there are several.
    pub sd: Option<f64>,
    /// 95 % bootstrap interval of the first seed, over the subjects of the test rows.
    pub interval: Option<[f64; 2]>,
    /// Plain accuracy, mean over seeds: compare with the majority share.
    pub accuracy: f64,
    /// Leakage with shuffled training labels, mean over seeds: should be near 0.
    pub shuffled: f64,
}

/// What a code says about a factor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Leakage {
    /// Values of the factor.
    pub classes: usize,
    /// 1 / classes.
    pub chance: f64,
    /// Share of the test rows that have the most frequent value.
    pub majority: f64,
    /// Logistic regression.
    pub linear: LeakageScore,
    /// The perceptron, where wanted.
    pub mlp: Option<LeakageScore>,
}

/// Fits to labels with a seed and predicts the test rows.
type Predict<'a> = dyn Fn(&[u32], u64) -> Result<Vec<u32>> + Sync + 'a;

/// Measures what `train` and `test` codes say about a categorical factor. Subjects are the identities of the rows, for
/// the search's split and the interval; leave them out when the factor is the identity.
///
/// # Errors
/// When sizes disagree, there are fewer than two values in training, a test value never occurs in training, or there is
/// no seed.
pub fn leakage(
    train: (&Rows, &[u32]),
    test: (&Rows, &[u32]),
    subjects: Option<(&[u32], &[u32])>,
    config: &LeakageConfig,
) -> Result<Leakage> {
    check_labels(train.0, train.1.len(), "labels")?;
    check_labels(test.0, test.1.len(), "labels")?;
    let mut known = train.1.to_vec();
    known.sort_unstable();
    known.dedup();
    if let Some(row) = test.1.iter().position(|l| known.binary_search(l).is_err()) {
        return Err(Error::value(format!(
            "value {} of the factor never occurs in the probe's training rows",
            test.1.get(row).copied().unwrap_or(0)
        ))
        .record(format!("test row {row}")));
    }
    if let Some((a, b)) = subjects
        && (a.len() != train.1.len() || b.len() != test.1.len())
    {
        return Err(Error::shape(format!(
            "{} and {} subjects for {} training and {} test rows",
            a.len(),
            b.len(),
            train.1.len(),
            test.1.len()
        )));
    }
    let mut counts = std::collections::BTreeMap::new();
    for label in test.1 {
        *counts.entry(label).or_insert(0usize) += 1;
    }
    let majority = counts.values().max().copied().unwrap_or(0) as f64 / test.1.len() as f64;
    let groups = subjects.map(|s| s.0);
    let linear = |labels: &[u32], seed: u64| -> Result<Vec<u32>> {
        let probe = ProbeConfig {
            seed,
            ..config.probe.clone()
        };
        linear_probe(train.0, labels, groups, &probe)?.predict(test.0)
    };
    let of = |predict: &Predict| {
        score(
            predict,
            train.1,
            test.1,
            subjects.map(|s| s.1),
            known.len(),
            config,
        )
    };
    Ok(Leakage {
        classes: known.len(),
        chance: 1.0 / known.len() as f64,
        majority,
        linear: of(&linear)?,
        mlp: match &config.mlp {
            None => None,
            Some(shape) => Some(of(&|labels, seed| {
                let probe = ProbeConfig {
                    seed,
                    ..config.probe.clone()
                };
                mlp_probe(train.0, labels, groups, shape, &probe)?.predict(test.0)
            })?),
        },
    })
}

fn score(
    predict: &Predict,
    labels: &[u32],
    truth: &[u32],
    subjects: Option<&[u32]>,
    classes: usize,
    config: &LeakageConfig,
) -> Result<LeakageScore> {
    let chance = 1.0 / classes as f64;
    let judged: Vec<Result<(Classification, f64)>> = config
        .seeds
        .par_iter()
        .enumerate()
        .map(|(i, &seed)| {
            let bootstrap = config.bootstrap.as_ref().filter(|_| i == 0);
            let judge = |labels: &[u32], bootstrap| {
                let (predicted, truth) = dense_pair(&predict(labels, seed)?, truth);
                Classification::from_predictions(&predicted, &truth, subjects, bootstrap)
            };
            let mut mixed = labels.to_vec();
            shuffle(&mut mixed, &mut stream(seed, "leakage-control", 0));
            Ok((
                judge(labels, bootstrap)?,
                judge(&mixed, None)?.mean_class_accuracy - chance,
            ))
        })
        .collect();
    let judged = judged.into_iter().collect::<Result<Vec<_>>>()?;
    let leaks: Vec<f64> = judged
        .iter()
        .map(|(c, _)| c.mean_class_accuracy - chance)
        .collect();
    let Some(summary) = mean_sd_ci95(&leaks) else {
        return Err(Error::usage("leakage needs at least one seed"));
    };
    let n = judged.len() as f64;
    Ok(LeakageScore {
        leakage: summary.mean,
        sd: summary.sd,
        interval: judged
            .first()
            .and_then(|(c, _)| c.intervals.get("mean_class_accuracy"))
            .map(|[low, high]| [low - chance, high - chance]),
        accuracy: judged.iter().map(|(c, _)| c.accuracy).sum::<f64>() / n,
        shuffled: judged.iter().map(|(_, s)| s).sum::<f64>() / n,
    })
}

/// What a code says about a continuous factor: ridge regression's share of explained variance on the test rows, with a
/// bootstrap interval of the correlation. Returns (R^2, correlation, interval of the correlation).
///
/// # Errors
/// When sizes disagree, a value is not finite, or the test values are constant.
pub fn leakage_of_number(
    train: (&Rows, &[f64]),
    test: (&Rows, &[f64]),
    subjects: Option<(&[u32], &[u32])>,
    config: &LeakageConfig,
) -> Result<(f64, Option<f64>, Option<[f64; 2]>)> {
    check_labels(test.0, test.1.len(), "target values")?;
    let fit = ridge_probe(train.0, train.1, subjects.map(|s| s.0), &config.probe)?;
    let predicted = fit.predict(test.0)?;
    let judged = regression(
        &predicted,
        test.1,
        subjects.map(|s| s.1),
        config.bootstrap.as_ref(),
    )?;
    let explained = r_squared(&predicted, test.1)
        .ok_or_else(|| Error::degenerate("the test values of the factor are constant"))?;
    Ok((explained, judged.pcc, judged.intervals.get("pcc").copied()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::{below, normal};

    /// 40 people with 10 rows each; the factor stands in the first column with strength `hint`, and, as a product of two
    /// columns, where no linear probe sees it, with strength `hidden`.
    fn codes(seed: u64, hint: f64, hidden: bool) -> (Rows, Vec<u32>, Vec<u32>) {
        let mut rng = stream(seed, "codes", 0);
        let (mut values, mut factor, mut people) = (vec![], vec![], vec![]);
        for i in 0..400u32 {
            let v = below(&mut rng, 2) as u32;
            let sign = if v == 1 { 1.0 } else { -1.0 };
            let a = normal(&mut rng);
            let b = normal(&mut rng);
            let b = if hidden {
                sign * a.signum() * b.abs()
            } else {
                b
            };
            values.extend([hint * sign + normal(&mut rng), a, b]);
            factor.push(v);
            people.push(i / 10 + 1000 * seed as u32);
        }
        (Rows::new(values, 3).unwrap(), factor, people)
    }

    fn measure(hint: f64, hidden: bool) -> Leakage {
        let (train, test) = (codes(1, hint, hidden), codes(2, hint, hidden));
        let config = LeakageConfig {
            seeds: vec![0, 1],
            mlp: Some(MlpConfig {
                hidden: vec![32],
                learning_rate: 5e-3,
                ..Default::default()
            }),
            bootstrap: Some(BootstrapConfig::default()),
            ..Default::default()
        };
        leakage(
            (&train.0, &train.1),
            (&test.0, &test.1),
            Some((&train.2, &test.2)),
            &config,
        )
        .unwrap()
    }

    #[test]
    fn finds_what_is_there_and_nothing_else() {
        let none = measure(0.0, false);
        assert_eq!((none.classes, none.chance), (2, 0.5));
        assert!(none.linear.leakage.abs() < 0.08, "{none:?}");
        assert!(none.linear.shuffled.abs() < 0.08 && none.majority < 0.6);
        let [low, high] = none.linear.interval.unwrap();
        assert!(low < 0.03 && high > -0.03);
        let plain = measure(3.0, false);
        assert!(plain.linear.leakage > 0.45 && plain.linear.accuracy > 0.95);
        let hidden = measure(0.0, true);
        assert!(hidden.linear.leakage.abs() < 0.1, "{hidden:?}");
        assert!(hidden.mlp.unwrap().leakage > 0.35);
    }

    #[test]
    fn numbers_and_faults() {
        let (rows, labels, people) = codes(1, 1.0, false);
        let y: Vec<f64> = (0..rows.len())
            .map(|i| 2.0 * rows.row(i)[1] + 1.0)
            .collect();
        let config = LeakageConfig {
            mlp: None,
            seeds: vec![],
            ..Default::default()
        };
        let (explained, pcc, _) =
            leakage_of_number((&rows, &y), (&rows, &y), Some((&people, &people)), &config).unwrap();
        assert!(explained > 0.999 && pcc.unwrap() > 0.999);
        let unseen: Vec<u32> = labels.iter().map(|l| l + 7).collect();
        let line = leakage((&rows, &labels), (&rows, &unseen), None, &config)
            .unwrap_err()
            .to_string();
        assert!(
            line.contains("test row 0: value") && line.contains("never occurs"),
            "{line}"
        );
        let line = leakage((&rows, &labels), (&rows, &labels), None, &config).unwrap_err();
        assert_eq!(line.to_string(), "leakage needs at least one seed");
    }
}
