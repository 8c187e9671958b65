//! Few-shot subsets as explicit lists, so that two programs learn from the same rows.
//!
//! The rows of each class are shuffled by stream ("few-shot", seed, class code) and the first k are taken: subsets of one
//! seed are nested (k = 1 within k = 5), and a class's draw does not depend on the other classes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
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
        let text = serde_json::to_string(&three).unwrap();
        assert_eq!(serde_json::from_str::<FewShot>(&text).unwrap(), three);
    }
}
