//! What a loss tells the log beside its value.

use candle::{Result, Tensor};

use crate::ops::{check_embeddings, host};

/// What a tuplet loss saw.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TupletReport {
    /// Tuplets in the batch.
    pub tuplets: usize,
    /// Positive members over all tuplets, queries among them.
    pub positives: usize,
    /// Negative members over all tuplets.
    pub negatives: usize,
    /// `|P| / N`: the share of the positives whose hinge is active; 0 without any.
    pub active_positives: f64,
    /// `|Q| / M`: the share of the negatives whose hinge is active; 0 without any.
    pub active_negatives: f64,
    /// Mean over the positives of what the loss compares: `D - T` in the fixed form, `g` in the adaptive one, `D` for coupled
    /// clusters.
    pub positive_mean: f64,
    /// The same over the negatives. Training works when it stays above `positive_mean`.
    pub negative_mean: f64,
}

/// What a triplet loss saw.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TripletReport {
    /// Triplets.
    pub triplets: usize,
    /// Share of the triplets that violate the margin; 0 without triplets.
    pub active: f64,
    /// Mean distance of anchor and positive.
    pub positive_mean: f64,
    /// Mean distance of anchor and negative.
    pub negative_mean: f64,
}

/// What an N-pair loss saw.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct NPairReport {
    /// (query, positive) pairs that had a negative.
    pub pairs: usize,
    /// Share of the pairs for which some negative is at least as close to the query as the positive (by more than the margin).
    pub active: f64,
}

/// Mean over the dimensions of the standard deviation over the batch: near 0 when embeddings collapse to a point, which the
/// hinge of a cluster loss cannot undo, its gradient vanishing there.
///
/// # Shapes
/// `embeddings` (B, D) in f32 or f64.
///
/// # Errors
/// When the shape or type is another.
pub fn embedding_std(embeddings: &Tensor) -> Result<f64> {
    let (b, d) = check_embeddings(embeddings)?;
    if b == 0 || d == 0 {
        return Ok(0.0);
    }
    let values = host(embeddings)?;
    let mut total = 0.0;
    for j in 0..d {
        let column = || values.iter().skip(j).step_by(d);
        let mean = column().sum::<f64>() / b as f64;
        total += (column().map(|v| (v - mean) * (v - mean)).sum::<f64>() / b as f64).sqrt();
    }
    Ok(total / d as f64)
}

/// Mean that is 0 of nothing.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(s, n), v| (s + v, n + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// `part / whole`, 0 of nothing.
pub(crate) fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}
