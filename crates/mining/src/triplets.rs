//! Triplets of a batch in one call: all of them, the hardest of each anchor, or those within a margin. Embeddings are taken as
//! given; the miners behind these functions take any measure.

use candle::{Result, Tensor};

use crate::comparison::Comparison;
use crate::miners::{BatchHardMiner, TripletMarginMiner};
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

/// For every anchor its farthest positive and its nearest negative (Hermans, Beyer, Leibe, arXiv 1703.07737), by the distance
/// of the embeddings as they are: the short form of [`BatchHardMiner`].
///
/// Anchors without a positive or without a negative are left out, so one class, or all classes of size one, give none.
///
/// # Shapes
/// `embeddings` (B, D), any float type; `labels` B.
///
/// # Errors
/// When the counts disagree, or an embedding is not finite (its row is named).
pub fn batch_hard(embeddings: &Tensor, labels: &[u32]) -> Result<Triplets> {
    BatchHardMiner.mine(&Comparison::new(embeddings, labels)?.measure(Distance::Squared))
}

/// The triplets of a kind, out of all triplets of the batch, in ascending order: the short form of [`TripletMarginMiner`], on
/// the embeddings as they are.
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
    let miner = TripletMarginMiner {
        margin: config.margin,
        kind: config.kind,
    };
    miner.mine(&Comparison::new(embeddings, labels)?.measure(config.distance))
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
