//! Probes: how much a frozen code says about a label.
//!
//! A probe is trained afresh on frozen features and judged on rows it has not seen. Discriminators that took part in
//! training underestimate what a code holds and are never the measure.
//!
//! * [`linear_probe`], [`mlp_probe`]: classifiers with a fixed search over their regularisation;
//! * [`ridge_probe`]: one number;
//! * [`nearest_neighbours`]: no training at all; [`few_shot`]: written subsets to train on;
//! * [`leakage`]: the whole protocol for "what does this code still say about that factor?".
//!
//! Regularisation is chosen on a part of the training rows (a fifth), drawn by group where groups are given, so that no
//! person stands on both sides; the linear probes are then fitted again on all training rows.

mod few_shot;
pub(crate) mod lbfgs;
mod leakage;
pub(crate) mod logistic;
mod mlp;
mod neighbours;
mod ridge;

use std::collections::BTreeMap;

use serde::Serialize;

pub use few_shot::{FewShot, FewShotResult, few_shot, few_shot_probe};
pub use leakage::{Leakage, LeakageConfig, LeakageScore, leakage, leakage_of_number};
pub use logistic::{Logistic, LogisticConfig};
pub use mlp::{Mlp, MlpConfig};
pub use neighbours::{NeighbourConfig, nearest_neighbours};
pub use ridge::{Ridge, r_squared};

use crate::classification::Classification;
use crate::error::{Error, Result};
use crate::rows::{Rows, check_labels};
use crate::streams::{shuffle, stream};

/// How probes search and split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProbeConfig {
    /// Values of C for [`linear_probe`], of alpha for [`ridge_probe`] (as 1 / C). Default 1e-4 to 1e4 in decades.
    pub penalties: Vec<f64>,
    /// Weight decays for [`mlp_probe`]. Default 1e-4, 1e-2, 1.
    pub decays: Vec<f64>,
    /// Whether features are standardised by the training rows. Default true.
    pub standardise: bool,
    /// Share of the training rows (or groups) on which the choice is made. Default 0.2.
    pub validation: f64,
    /// Seed of the split and of the perceptron. Default 0.
    pub seed: u64,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            penalties: (-4..=4).map(|e| 10f64.powi(e)).collect(),
            decays: vec![1e-4, 1e-2, 1.0],
            standardise: true,
            validation: 0.2,
            seed: 0,
        }
    }
}

/// A linear classifier with the penalty that was chosen.
#[derive(Debug, Clone)]
pub struct LinearProbe {
    /// The chosen C.
    pub c: f64,
    /// Balanced accuracy on the validation rows for each C tried, in the order of the configuration.
    pub searched: Vec<(f64, f64)>,
    fit: Logistic,
    mean: Vec<f64>,
    sd: Vec<f64>,
}

impl LinearProbe {
    /// The predicted class of each row.
    ///
    /// # Errors
    /// When the rows have another dimension than those fitted to.
    pub fn predict(&self, rows: &Rows) -> Result<Vec<u32>> {
        self.check(rows)?;
        self.fit.predict(&rows.standardised(&self.mean, &self.sd))
    }

    /// Probabilities (N, classes) in ascending order of the class.
    ///
    /// # Errors
    /// As [`LinearProbe::predict`].
    pub fn probabilities(&self, rows: &Rows) -> Result<Vec<f64>> {
        self.check(rows)?;
        self.fit
            .probabilities(&rows.standardised(&self.mean, &self.sd))
    }

    /// The classes, ascending.
    pub fn classes(&self) -> &[u32] {
        self.fit.classes()
    }

    fn check(&self, rows: &Rows) -> Result<()> {
        if rows.dim() == self.mean.len() {
            Ok(())
        } else {
            Err(Error::shape(format!(
                "fitted to rows of {}, asked about rows of {}",
                self.mean.len(),
                rows.dim()
            )))
        }
    }
}

/// Fits logistic regression with the C that has the best balanced accuracy on validation rows, the smallest (strongest
/// penalty) of equal ones, then on all rows.
///
/// `groups` (as a rule identities) keeps the validation rows' groups out of the fit; leave it out when the label is the
/// identity itself.
///
/// ```
/// use phiz_eval::{ProbeConfig, Rows, linear_probe};
/// let x: Vec<f64> = (0..40).map(|i| f64::from(i % 2) + 0.01 * f64::from(i)).collect();
/// let y: Vec<u32> = (0..40).map(|i| i % 2).collect();
/// let rows = Rows::new(x, 1)?;
/// let probe = linear_probe(&rows, &y, None, &ProbeConfig::default())?;
/// assert_eq!(probe.predict(&rows)?, y);
/// # Ok::<(), phiz_eval::Error>(())
/// ```
///
/// # Errors
/// When sizes disagree, there are fewer than two classes, nothing to search, or the split leaves one class only.
pub fn linear_probe(
    rows: &Rows,
    labels: &[u32],
    groups: Option<&[u32]>,
    config: &ProbeConfig,
) -> Result<LinearProbe> {
    let (mean, sd) = scale_of(rows, config);
    let scaled = rows.standardised(&mean, &sd);
    let split = Split::new(labels, groups, config)?;
    let (fit_rows, fit_labels) = split.fit_part(&scaled, labels)?;
    let (seen_rows, seen_labels) = split.seen_part(&scaled, labels)?;
    let mut penalties = config.penalties.clone();
    penalties.sort_unstable_by(f64::total_cmp);
    let blocks = logistic::Blocks::new(&fit_rows);
    let (mut best, mut last): (Option<(f64, f64)>, Option<Logistic>) = (None, None);
    let mut searched = Vec::new();
    for &c in &penalties {
        let config = LogisticConfig {
            c,
            ..Default::default()
        };
        let fit = Logistic::fit_blocks(&blocks, &fit_labels, &config, last.as_ref())?;
        let score = balanced(&fit.predict(&seen_rows)?, &seen_labels)?;
        searched.push((c, score));
        if best.is_none_or(|(_, top)| score > top) {
            best = Some((c, score));
        }
        last = Some(fit);
    }
    let Some((c, _)) = best else {
        return Err(Error::usage("no penalty to search over"));
    };
    let fit = Logistic::fit(
        &scaled,
        labels,
        &LogisticConfig {
            c,
            ..Default::default()
        },
    )?;
    Ok(LinearProbe {
        c,
        searched,
        fit,
        mean,
        sd,
    })
}

/// Fits perceptrons with each weight decay and keeps the one with the least loss on validation rows.
///
/// # Errors
/// As [`linear_probe`].
pub fn mlp_probe(
    rows: &Rows,
    labels: &[u32],
    groups: Option<&[u32]>,
    shape: &MlpConfig,
    config: &ProbeConfig,
) -> Result<Mlp> {
    let split = Split::new(labels, groups, config)?;
    let (fit_rows, fit_labels) = split.fit_part(rows, labels)?;
    let (seen_rows, seen_labels) = split.seen_part(rows, labels)?;
    let fits = rayon_map(&config.decays, |&weight_decay| {
        let shape = MlpConfig {
            weight_decay,
            seed: config.seed,
            ..shape.clone()
        };
        Mlp::fit((&fit_rows, &fit_labels), (&seen_rows, &seen_labels), &shape)
    })?;
    fits.into_iter()
        .reduce(|a, b| {
            if b.validation_loss() < a.validation_loss() {
                b
            } else {
                a
            }
        })
        .ok_or_else(|| Error::usage("no weight decay to search over"))
}

/// Fits ridge regression with the alpha that explains most variance of the validation rows, the largest of equal ones,
/// then on all rows. Features are standardised where the configuration says so, and the weights are given back in the
/// features' own units.
///
/// # Errors
/// When sizes disagree, the targets are constant or not finite, or there is nothing to search.
pub fn ridge_probe(
    rows: &Rows,
    targets: &[f64],
    groups: Option<&[u32]>,
    config: &ProbeConfig,
) -> Result<Ridge> {
    check_labels(rows, targets.len(), "target values")?;
    let (mean, sd) = scale_of(rows, config);
    let scaled = rows.standardised(&mean, &sd);
    let classless = vec![0; targets.len()];
    let split = Split::new(&classless, groups, config)?;
    let (fit_rows, fit_targets) = split.fit_part(&scaled, targets)?;
    let (seen_rows, seen_targets) = split.seen_part(&scaled, targets)?;
    let normal = ridge::Normal::new(&fit_rows, &fit_targets)?;
    let mut penalties: Vec<f64> = config.penalties.iter().map(|c| 1.0 / c).collect();
    penalties.sort_unstable_by(|a, b| b.total_cmp(a));
    let mut best: Option<(f64, f64)> = None;
    for alpha in penalties {
        let predicted = normal.solve(alpha)?.predict(&seen_rows)?;
        let Some(score) = r_squared(&predicted, &seen_targets) else {
            return Err(Error::degenerate(
                "the target values of the validation rows are constant",
            ));
        };
        if best.is_none_or(|(_, top)| score > top) {
            best = Some((alpha, score));
        }
    }
    let Some((alpha, _)) = best else {
        return Err(Error::usage("no penalty to search over"));
    };
    let fit = Ridge::fit(&scaled, targets, alpha)?;
    // Back to the features' own units: the scaled column of a constant one has weight 0.
    let unit = Rows::new(
        [vec![0.0; rows.dim()], vec![1.0; rows.dim()]].concat(),
        rows.dim(),
    )?
    .standardised(&mean, &sd);
    let (zero, one) = (unit.row(0), unit.row(1));
    let weights = fit.weights.iter().zip(zero.iter().zip(one));
    let bias = fit.predict(&unit.select(&[0])?)?;
    Ok(Ridge {
        bias: bias.first().copied().unwrap_or(fit.bias),
        weights: weights.map(|(w, (z, o))| w * (o - z)).collect(),
    })
}

/// Balanced accuracy.
pub(crate) fn balanced(predicted: &[u32], truth: &[u32]) -> Result<f64> {
    let (predicted, truth) = dense_pair(predicted, truth);
    Ok(Classification::from_predictions(&predicted, &truth, None, None)?.mean_class_accuracy)
}

/// Both under one set of small codes, since class codes may be any u32.
pub(crate) fn dense_pair(predicted: &[u32], truth: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let both = [predicted, truth].concat();
    let (mut codes, _) = crate::bootstrap::dense_codes(&both);
    let truth = codes.split_off(predicted.len());
    (codes, truth)
}

/// Runs on all cores, results in order, the first error wins.
pub(crate) fn rayon_map<T: Sync, R: Send>(
    items: &[T],
    f: impl Fn(&T) -> Result<R> + Sync + Send,
) -> Result<Vec<R>> {
    use rayon::prelude::*;
    let found: Vec<Result<R>> = items.par_iter().map(f).collect();
    found.into_iter().collect()
}

fn scale_of(rows: &Rows, config: &ProbeConfig) -> (Vec<f64>, Vec<f64>) {
    if config.standardise {
        rows.moments()
    } else {
        (vec![0.0; rows.dim()], vec![1.0; rows.dim()])
    }
}

/// Rows to fit and rows to choose on.
struct Split {
    fit: Vec<usize>,
    seen: Vec<usize>,
}

impl Split {
    /// By group where given, else stratified by label: of each label's rows a share, at least one where there are two.
    fn new(labels: &[u32], groups: Option<&[u32]>, config: &ProbeConfig) -> Result<Self> {
        if groups.is_some_and(|g| g.len() != labels.len()) {
            return Err(Error::shape(format!(
                "{} groups for {} labels",
                groups.map_or(0, <[u32]>::len),
                labels.len()
            )));
        }
        if !(config.validation > 0.0 && config.validation < 1.0) {
            return Err(Error::usage(format!(
                "the share of validation rows lies between 0 and 1, got {}",
                config.validation
            )));
        }
        let mut seen = vec![false; labels.len()];
        let mut rng = stream(config.seed, "probe-validation", 0);
        let mut mark = |sets: Vec<Vec<usize>>, whole: bool| {
            // Whole groups, or of each set a share.
            let mut sets = sets;
            if whole {
                shuffle(&mut sets, &mut rng);
                let count = (config.validation * sets.len() as f64).round().max(1.0) as usize;
                for row in sets.iter().take(count).flatten() {
                    if let Some(s) = seen.get_mut(*row) {
                        *s = true;
                    }
                }
            } else {
                for set in &mut sets {
                    shuffle(set, &mut rng);
                    let count = (config.validation * set.len() as f64).round() as usize;
                    let count = count.clamp(usize::from(set.len() > 1), set.len() - 1);
                    for row in set.iter().take(count) {
                        if let Some(s) = seen.get_mut(*row) {
                            *s = true;
                        }
                    }
                }
            }
        };
        let sets = |keys: &[u32]| -> Vec<Vec<usize>> {
            let mut out: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
            for (row, &key) in keys.iter().enumerate() {
                out.entry(key).or_default().push(row);
            }
            out.into_values().collect()
        };
        match groups {
            Some(groups) => mark(sets(groups), true),
            None => mark(sets(labels), false),
        }
        let of = |wanted: bool| -> Vec<usize> {
            let rows = seen.iter().enumerate();
            rows.filter(|(_, s)| **s == wanted)
                .map(|(i, _)| i)
                .collect()
        };
        let split = Self {
            fit: of(false),
            seen: of(true),
        };
        if split.fit.is_empty() || split.seen.is_empty() {
            return Err(Error::degenerate(format!(
                "{} rows{} are too few to set some aside for the search",
                labels.len(),
                if groups.is_some() {
                    " in their groups"
                } else {
                    ""
                }
            )));
        }
        Ok(split)
    }

    fn fit_part<T: Copy>(&self, rows: &Rows, labels: &[T]) -> Result<(Rows, Vec<T>)> {
        part(rows, labels, &self.fit)
    }

    fn seen_part<T: Copy>(&self, rows: &Rows, labels: &[T]) -> Result<(Rows, Vec<T>)> {
        part(rows, labels, &self.seen)
    }
}

fn part<T: Copy>(rows: &Rows, labels: &[T], chosen: &[usize]) -> Result<(Rows, Vec<T>)> {
    check_labels(rows, labels.len(), "labels")?;
    let picked = chosen.iter().filter_map(|&r| labels.get(r)).copied();
    Ok((rows.select(chosen)?, picked.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stay_on_one_side() {
        let groups: Vec<u32> = (0..100).map(|i| i / 5).collect();
        let labels: Vec<u32> = (0..100).map(|i| i % 2).collect();
        let split = Split::new(&labels, Some(&groups), &ProbeConfig::default()).unwrap();
        assert_eq!((split.seen.len(), split.fit.len()), (20, 80));
        for &s in &split.seen {
            assert!(split.fit.iter().all(|&f| groups[f] != groups[s]));
        }
        let plain = Split::new(&labels, None, &ProbeConfig::default()).unwrap();
        assert_eq!(plain.seen.iter().filter(|&&r| labels[r] == 0).count(), 10);
        assert!(Split::new(&[1], None, &ProbeConfig::default()).is_err());
    }

    #[test]
    fn ridge_comes_back_in_the_features_units() {
        let values: Vec<f64> = (0..120)
            .flat_map(|i| [100.0 + 5.0 * (1.3 * f64::from(i)).sin(), 4.0])
            .collect();
        let rows = Rows::new(values, 2).unwrap();
        let y: Vec<f64> = (0..120).map(|i| 3.0 * rows.row(i)[0] - 11.0).collect();
        let fit = ridge_probe(&rows, &y, None, &ProbeConfig::default()).unwrap();
        assert!((fit.weights[0] - 3.0).abs() < 1e-4, "{fit:?}");
        let predicted = fit.predict(&rows).unwrap();
        assert!(r_squared(&predicted, &y).unwrap() > 1.0 - 1e-8);
    }
}
