//! Instance loss: the batch itself as the set of classes.

use candle::{Result, Tensor, bail};

use super::{AdditiveRule, Softmax, check_positive, nothing, wide};
use crate::ops::check_embeddings;
use phiz_kernels::row_loss::cosine_row_loss;

/// Which column of the B x B matrix an item should choose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InstanceTarget {
    /// The first item of the batch with its label: items of a class gather at one of them. The default.
    #[default]
    FirstOfLabel,
    /// The column whose number is the rank of the item's label among the labels of the batch: pytorch-metric-learning's. Unless labels are
    /// ascending and distinct, that column belongs to an unrelated item.
    LabelRank,
    /// Itself: every item is a class of its own.
    Own,
}

/// Cross-entropy over the cosines of each item to every item of the batch, itself among them, times `scale` (after Zheng et al.,
/// "Dual-path convolutional image-text embeddings with instance loss", TOMM 2020, whose classifier is shared weights over all instances). pytorch-metric-learning's scale is 64.
///
/// Time O(B^2 D), memory one block of rows.
///
/// # Shapes
/// `embeddings` (B, D), `labels` B; result: scalar, the mean over the items. An empty batch gives 0.
///
/// # Errors
/// When the counts disagree, the scale is not above 0, or a row holds NaN or infinity.
pub fn instance_loss(
    embeddings: &Tensor,
    labels: &[u32],
    target: InstanceTarget,
    scale: f64,
) -> Result<Tensor> {
    check_positive("the scale of the instance loss", scale)?;
    let x = wide(embeddings)?;
    let (n, _) = check_embeddings(&x)?;
    if labels.len() != n {
        bail!("instance-loss: {} labels for {n} items", labels.len());
    }
    if n == 0 {
        return nothing(&x, &x);
    }
    let mut distinct = labels.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let rank = |l: &u32| distinct.binary_search(l).unwrap_or(0) as u32;
    let mut first = vec![u32::MAX; distinct.len()];
    for (i, l) in labels.iter().enumerate().rev() {
        first[rank(l) as usize] = i as u32;
    }
    let columns = match target {
        InstanceTarget::Own => (0..n as u32).collect(),
        InstanceTarget::LabelRank => labels.iter().map(rank).collect(),
        InstanceTarget::FirstOfLabel => labels.iter().map(|l| first[rank(l) as usize]).collect(),
    };
    let rule = AdditiveRule {
        scale,
        margin: 0.0,
        margins: None,
    };
    let rows = Softmax {
        labels: columns,
        rule,
    };
    let weights = vec![1.0 / n as f64; n];
    cosine_row_loss(
        "instance-loss",
        ("embeddings", &x),
        ("embeddings", &x),
        None,
        weights,
        rows,
    )
}
