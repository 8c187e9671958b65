//! Few-shot subsets as explicit lists, so that two programs learn from the same rows.
//!
//! The rows of each class are shuffled by stream ("few-shot", seed, class code) and the first k are taken: subsets of one
//! seed are nested (k = 1 within k = 5), and a class's draw does not depend on the other classes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::logistic::{Logistic, LogisticConfig};
use crate::error::{Error, Result};
use crate::rows::{Rows, check_labels};
use crate::stats::{Summary, mean_sd_ci95};
use crate::streams::{shuffle, stream};

/// A written subset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FewShot {
    /// How the rows were drawn.
    pub rule: String,
    /// Seed of the draw.
    pub seed: u64,
    /// Rows of each class.
    pub per_class: usize,
    /// The rows, ascending.
    pub rows: Vec<usize>,
}

/// Draws `per_class` rows of each class.
///
/// ```
/// let labels = [3, 3, 3, 8, 8, 8];
/// let one = phiz_eval::few_shot(&labels, 1, 0)?;
/// let two = phiz_eval::few_shot(&labels, 2, 0)?;
/// assert!(one.rows.len() == 2 && one.rows.iter().all(|r| two.rows.contains(r)));
/// # Ok::<(), phiz_eval::Error>(())
/// ```
///
/// # Errors
/// When `per_class` is 0 or a class has fewer rows (it is named).
pub fn few_shot(labels: &[u32], per_class: usize, seed: u64) -> Result<FewShot> {
    let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (row, &label) in labels.iter().enumerate() {
        classes.entry(label).or_default().push(row);
    }
    if per_class == 0 || classes.is_empty() {
        return Err(Error::usage(
            "a few-shot subset needs at least one row of at least one class",
        ));
    }
    let mut rows = Vec::with_capacity(per_class * classes.len());
    for (&class, members) in &mut classes {
        if members.len() < per_class {
            return Err(Error::degenerate(format!(
                "class {class} has {} rows, {per_class} were asked for",
                members.len()
            )));
        }
        shuffle(members, &mut stream(seed, "few-shot", u64::from(class)));
        rows.extend(members.iter().take(per_class));
    }
    rows.sort_unstable();
    Ok(FewShot {
        rule: "rows of each class in order, Fisher-Yates by ChaCha8 stream (few-shot, seed, class), first k".into(),
        seed,
        per_class,
        rows,
    })
}

/// What was learned from few rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FewShotResult {
    /// Balanced accuracy on the test rows: mean, spread and interval over the seeds.
    pub accuracy: Summary,
    /// The subsets, one a seed.
    pub subsets: Vec<FewShot>,
}

/// Learns from `per_class` rows of each class, for each seed, and judges on `test`: logistic regression with C = 1 on
/// features standardised by the subset, since there is nothing to set aside for a search.
///
/// # Errors
/// As [`few_shot`]; also when sizes disagree, there are fewer than two classes or no seed.
pub fn few_shot_probe(
    train: (&Rows, &[u32]),
    test: (&Rows, &[u32]),
    per_class: usize,
    seeds: &[u64],
) -> Result<FewShotResult> {
    check_labels(train.0, train.1.len(), "labels")?;
    check_labels(test.0, test.1.len(), "labels")?;
    let (mut accuracies, mut subsets) = (Vec::new(), Vec::new());
    for &seed in seeds {
        let subset = few_shot(train.1, per_class, seed)?;
        let rows = train.0.select(&subset.rows)?;
        let picked = subset.rows.iter().filter_map(|&r| train.1.get(r).copied());
        let (mean, sd) = rows.moments();
        let fit = Logistic::fit(
            &rows.standardised(&mean, &sd),
            &picked.collect::<Vec<u32>>(),
            &LogisticConfig::default(),
        )?;
        let predicted = fit.predict(&test.0.standardised(&mean, &sd))?;
        accuracies.push(super::balanced(&predicted, test.1)?);
        subsets.push(subset);
    }
    let accuracy = mean_sd_ci95(&accuracies)
        .ok_or_else(|| Error::usage("a few-shot probe needs at least one seed"))?;
    Ok(FewShotResult { accuracy, subsets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_balanced_nested_and_independent() {
        let labels: Vec<u32> = (0..120).map(|i| i * i % 7).collect();
        let ten = few_shot(&labels, 10, 4).unwrap();
        let three = few_shot(&labels, 3, 4).unwrap();
        let mut counts = BTreeMap::new();
        for &row in &ten.rows {
            *counts.entry(labels[row]).or_insert(0) += 1;
        }
        assert!(counts.values().all(|c| *c == 10) && counts.len() == 4);
        assert!(three.rows.iter().all(|r| ten.rows.contains(r)));
        assert_ne!(few_shot(&labels, 3, 5).unwrap().rows, three.rows);
        let line = few_shot(&labels, 100, 0).unwrap_err().to_string();
        assert!(line.contains("class 0 has"), "{line}");
        assert!(few_shot(&[], 1, 0).is_err() && few_shot(&labels, 0, 0).is_err());
        let values = labels.iter();
        let values = values.flat_map(|l| [f64::from(*l), f64::from(l * l)]);
        let rows = Rows::new(values.collect(), 2).unwrap();
        let judge = |k, seeds: &[u64]| few_shot_probe((&rows, &labels), (&rows, &labels), k, seeds);
        let found = judge(8, &[0, 1, 2]).unwrap();
        assert!(
            found.accuracy.mean > 0.7 && found.subsets.len() == 3,
            "{found:?}"
        );
        assert!(judge(8, &[]).is_err());
        let text = serde_json::to_string(&three).unwrap();
        assert_eq!(serde_json::from_str::<FewShot>(&text).unwrap(), three);
    }
}
