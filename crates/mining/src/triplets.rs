//! Triplets of a batch: all of them, the hardest of each anchor, or those within a margin.
//!
//! The rules are those of pytorch-metric-learning's `BatchHardMiner` and `TripletMarginMiner`, with two differences that are
//! stated where they matter: embeddings are taken as given (normalise them first to get its default), and of equal distances
//! the lowest index wins.

use candle::{Result, Tensor, bail};

use crate::matrix::{check_labels, rows, squared_distances};
use crate::tuples::Triplets;

/// The distance a margin is measured in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Distance {
    /// `||a - b||^2`, as in FaceNet. The default.
    #[default]
    Squared,
    /// `||a - b||`, as in pytorch-metric-learning.
    Euclidean,
}

/// Which triplets to keep, by `t = d(anchor, negative) - d(anchor, positive)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TripletKind {
    /// `t <= margin`: every triplet that violates the margin.
    All,
    /// `t <= 0`: the negative is not farther than the positive.
    Hard,
    /// `0 < t <= margin`: ranked rightly, within the margin. The default.
    #[default]
    SemiHard,
    /// `t > margin`: the loss is zero already.
    Easy,
}

/// Configuration of [`margin_triplets`] and [`semi_hard`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MarginMinerConfig {
    /// Default 0.2, in units of `distance`.
    pub margin: f64,
    /// Default [`TripletKind::SemiHard`]; [`semi_hard`] ignores it.
    pub kind: TripletKind,
    /// Default [`Distance::Squared`].
    pub distance: Distance,
}

impl Default for MarginMinerConfig {
    fn default() -> Self {
        Self {
            margin: 0.2,
            kind: TripletKind::SemiHard,
            distance: Distance::Squared,
        }
    }
}

impl From<f64> for MarginMinerConfig {
    fn from(margin: f64) -> Self {
        Self {
            margin,
            ..Self::default()
        }
    }
}

/// Every (anchor, positive, negative) with equal and different labels, in ascending order.
pub fn all_triplets(labels: &[u32]) -> Triplets {
    let mut triplets = Triplets::default();
    each_triplet(labels, |a, p, n| {
        triplets.push(a as u32, p as u32, n as u32);
    });
    triplets
}

/// For every anchor its farthest positive and its nearest negative (Hermans, Beyer, Leibe, arXiv 1703.07737).
///
/// Anchors without a positive or without a negative are left out, so one class, or all classes of size one, give none.
///
/// # Shapes
/// `embeddings` (B, D), any float type; `labels` B.
///
/// # Errors
/// When the counts disagree, or an embedding is not finite (its row is named).
pub fn batch_hard(embeddings: &Tensor, labels: &[u32]) -> Result<Triplets> {
    let rows = rows(embeddings)?;
    check_labels(rows.len(), labels.len())?;
    let distances = squared_distances(&rows);
    let mut triplets = Triplets::default();
    for (a, row) in distances.iter().enumerate() {
        let (mut positive, mut negative): (Option<usize>, Option<usize>) = (None, None);
        for (i, &d) in row.iter().enumerate().filter(|&(i, _)| i != a) {
            if labels[i] == labels[a] {
                if positive.is_none_or(|p| d > row[p]) {
                    positive = Some(i);
                }
            } else if negative.is_none_or(|n| d < row[n]) {
                negative = Some(i);
            }
        }
        if let (Some(p), Some(n)) = (positive, negative) {
            triplets.push(a as u32, p as u32, n as u32);
        }
    }
    Ok(triplets)
}

/// The triplets of a kind, out of all triplets of the batch, in ascending order.
///
/// # Shapes
/// `embeddings` (B, D), any float type; `labels` B.
///
/// # Errors
/// When the counts disagree, the margin is not finite, or an embedding is not finite (its row is named).
pub fn margin_triplets(
    embeddings: &Tensor,
    labels: &[u32],
    config: impl Into<MarginMinerConfig>,
) -> Result<Triplets> {
    let config = config.into();
    if !config.margin.is_finite() {
        bail!(
            "the margin of a triplet miner must be finite, got {}",
            config.margin
        );
    }
    let rows = rows(embeddings)?;
    check_labels(rows.len(), labels.len())?;
    let mut distances = squared_distances(&rows);
    if config.distance == Distance::Euclidean {
        distances.iter_mut().flatten().for_each(|d| *d = d.sqrt());
    }
    let mut triplets = Triplets::default();
    each_triplet(labels, |a, p, n| {
        let t = distances[a][n] - distances[a][p];
        let keep = match config.kind {
            TripletKind::All => t <= config.margin,
            TripletKind::Hard => t <= config.margin && t <= 0.0,
            TripletKind::SemiHard => t > 0.0 && t <= config.margin,
            TripletKind::Easy => t > config.margin,
        };
        if keep {
            triplets.push(a as u32, p as u32, n as u32);
        }
    });
    Ok(triplets)
}

/// The triplets ranked rightly but within the margin, `0 < d(a,n) - d(a,p) <= margin` (FaceNet, CVPR 2015).
///
/// [`margin_triplets`] with [`TripletKind::SemiHard`]; a bare number is the margin in squared distance.
///
/// # Errors
/// As [`margin_triplets`].
pub fn semi_hard(
    embeddings: &Tensor,
    labels: &[u32],
    config: impl Into<MarginMinerConfig>,
) -> Result<Triplets> {
    margin_triplets(
        embeddings,
        labels,
        MarginMinerConfig {
            kind: TripletKind::SemiHard,
            ..config.into()
        },
    )
}

fn each_triplet(labels: &[u32], mut visit: impl FnMut(usize, usize, usize)) {
    for a in 0..labels.len() {
        for p in (0..labels.len()).filter(|&p| p != a && labels[p] == labels[a]) {
            for n in (0..labels.len()).filter(|&n| labels[n] != labels[a]) {
                visit(a, p, n);
            }
        }
    }
}
