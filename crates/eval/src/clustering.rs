//! How well clusters agree with labels: NMI, AMI, pairwise F.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bootstrap::dense_codes;
use crate::error::{Error, Result};

/// Agreement of a clustering with labels; nothing changes when either is renamed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Clustering {
    /// Number of samples.
    pub samples: usize,
    /// Number of labels.
    pub classes: usize,
    /// Number of clusters that have a sample.
    pub clusters: usize,
    /// Normalised mutual information, 2 I / (H(labels) + H(clusters)): scikit-learn's
    /// `normalized_mutual_info_score` with its default arithmetic mean, also called V-measure. Rises with the number of
    /// clusters even by chance.
    pub nmi: f64,
    /// Adjusted mutual information, (I - E I) / (mean H - E I) with E over all clusterings of the same sizes (Vinh et al.
    /// 2010): 0 by chance, 1 for agreement; scikit-learn's `adjusted_mutual_info_score`.
    pub ami: f64,
    /// 1 - H(labels | clusters) / H(labels): every cluster holds one label.
    pub homogeneity: f64,
    /// 1 - H(clusters | labels) / H(clusters): every label lies in one cluster.
    pub completeness: f64,
    /// Of the pairs in one cluster, the share with one label; 1 when no cluster has two samples.
    pub pair_precision: f64,
    /// Of the pairs with one label, the share in one cluster; 1 when no label has two samples.
    pub pair_recall: f64,
    /// Harmonic mean of the two; 0 when both are.
    pub pair_f: f64,
}

impl Clustering {
    /// Metric names to values: `nmi`, `ami`, `homogeneity`, `completeness`, `pair_precision`, `pair_recall`, `pair_f`.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        [
            ("nmi", self.nmi),
            ("ami", self.ami),
            ("homogeneity", self.homogeneity),
            ("completeness", self.completeness),
            ("pair_precision", self.pair_precision),
            ("pair_recall", self.pair_recall),
            ("pair_f", self.pair_f),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .into()
    }
}

/// Compares a clustering with labels.
///
/// ```
/// let figures = phiz_eval::compare_clusters(&[7, 7, 8, 8], &[1, 1, 0, 0])?;
/// assert_eq!((figures.nmi, figures.ami, figures.pair_f), (1.0, 1.0, 1.0));
/// # Ok::<(), phiz_eval::Error>(())
/// ```
///
/// # Errors
/// When the lengths differ or there is no sample.
pub fn compare_clusters(labels: &[u32], clusters: &[u32]) -> Result<Clustering> {
    let n = labels.len();
    if n == 0 || clusters.len() != n {
        return Err(Error::shape(format!(
            "{n} labels for {} clustered samples; expected as many, and one at least",
            clusters.len()
        )));
    }
    let ((truth, classes), (found, groups)) = (dense_codes(labels), dense_codes(clusters));
    let mut cells: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    let (mut a, mut b) = (vec![0u64; classes], vec![0u64; groups]);
    for (&i, &j) in truth.iter().zip(&found) {
        *cells.entry((i, j)).or_default() += 1;
        if let (Some(x), Some(y)) = (a.get_mut(i as usize), b.get_mut(j as usize)) {
            *x += 1;
            *y += 1;
        }
    }
    let total = n as f64;
    let size = |sizes: &[u64], i: u32| sizes.get(i as usize).copied().unwrap_or(0) as f64;
    let entropy = |sizes: &[u64]| -> f64 {
        let sum: f64 = sizes
            .iter()
            .map(|&s| s as f64 * (s as f64 / total).ln())
            .sum();
        (-sum / total).max(0.0)
    };
    let (h_a, h_b) = (entropy(&a), entropy(&b));
    let information: f64 = cells
        .iter()
        .map(|(&(i, j), &m)| {
            let m = m as f64;
            m / total * (total * m / (size(&a, i) * size(&b, j))).ln()
        })
        .sum::<f64>()
        .max(0.0);
    // Renamed labels give exactly 1, whatever the sums round to.
    let agree = cells.len() == classes && cells.len() == groups;
    let pairs = |sizes: &mut dyn Iterator<Item = u64>| {
        sizes.map(|s| s * s.saturating_sub(1) / 2).sum::<u64>()
    };
    let (both, of_a, of_b) = (
        pairs(&mut cells.values().copied()),
        pairs(&mut a.iter().copied()),
        pairs(&mut b.iter().copied()),
    );
    let share = |part: u64, whole: u64| {
        if whole == 0 {
            1.0
        } else {
            part as f64 / whole as f64
        }
    };
    let (precision, recall) = (share(both, of_b), share(both, of_a));
    let ratio = |h: f64| if h > 0.0 { information / h } else { 1.0 };
    let (nmi, ami) = if agree {
        (1.0, 1.0)
    } else {
        let mean = 0.5 * (h_a + h_b);
        let expected = expected_information(&a, &b, n);
        let spare = mean - expected;
        let spare = if spare < 0.0 {
            spare.min(-f64::EPSILON)
        } else {
            spare.max(f64::EPSILON)
        };
        (information / mean, (information - expected) / spare)
    };
    Ok(Clustering {
        samples: n,
        classes,
        clusters: groups,
        nmi,
        ami,
        homogeneity: if agree { 1.0 } else { ratio(h_a) },
        completeness: if agree { 1.0 } else { ratio(h_b) },
        pair_precision: precision,
        pair_recall: recall,
        pair_f: if precision + recall > 0.0 {
            2.0 * precision * recall / (precision + recall)
        } else {
            0.0
        },
    })
}

/// The mutual information expected of random clusterings with these sizes (hypergeometric cells). Depends on sizes alone,
/// so equal sizes are summed once.
fn expected_information(a: &[u64], b: &[u64], n: usize) -> f64 {
    let log_factorial = log_factorials(n);
    let log = |k: u64| log_factorial.get(k as usize).copied().unwrap_or(0.0);
    let times = |sizes: &[u64]| {
        let mut out: BTreeMap<u64, f64> = BTreeMap::new();
        for &s in sizes {
            *out.entry(s).or_default() += 1.0;
        }
        out
    };
    let (total, whole) = (n as u64, n as f64);
    let mut sum = 0.0;
    for (&x, &often_x) in &times(a) {
        for (&y, &often_y) in &times(b) {
            let fixed = log(x) + log(y) + log(total - x) + log(total - y) - log(total);
            let mut cell = 0.0;
            for m in 1.max((x + y).saturating_sub(total))..=x.min(y) {
                let weight = fixed - log(m) - log(x - m) - log(y - m) - log(total + m - x - y);
                let gain = (whole * m as f64 / (x as f64 * y as f64)).ln();
                cell += m as f64 / whole * gain * weight.exp();
            }
            sum += often_x * often_y * cell;
        }
    }
    sum
}

/// ln k! for k = 0..=n, summed with compensation.
fn log_factorials(n: usize) -> Vec<f64> {
    let (mut sum, mut lost) = (0.0f64, 0.0f64);
    let mut out = vec![0.0];
    for k in 1..=n {
        let term = (k as f64).ln() - lost;
        let next = sum + term;
        lost = (next - sum) - term;
        sum = next;
        out.push(sum);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let one = compare_clusters(&[1, 1, 1], &[5, 5, 5]).unwrap();
        assert_eq!((one.nmi, one.ami, one.pair_f), (1.0, 1.0, 1.0));
        // One cluster for everything says nothing.
        let lump = compare_clusters(&[1, 1, 2, 2], &[0, 0, 0, 0]).unwrap();
        assert_eq!(
            (lump.nmi, lump.homogeneity, lump.completeness),
            (0.0, 0.0, 1.0)
        );
        assert!(lump.ami.abs() < 1e-12);
        assert_eq!((lump.pair_precision, lump.pair_recall), (2.0 / 6.0, 1.0));
        // Every sample alone: no pair in a cluster.
        let split = compare_clusters(&[1, 1, 2, 2], &[0, 1, 2, 3]).unwrap();
        assert_eq!((split.pair_recall, split.pair_f), (0.0, 0.0));
        assert!(compare_clusters(&[], &[]).is_err());
        assert!(compare_clusters(&[1], &[1, 2]).is_err());
    }
}
