//! Numbers that tell a representation that works from one that has collapsed.

use candle::{D, DType, Result, Tensor, bail};
use phiz_kernels::safe::{normalize_last_dim, softmax_last_dim};

/// How much embeddings of different images differ: the standard deviation of each dimension of the L2-normalised
/// embeddings, averaged over the dimensions, times `sqrt(D)`. Near 1 when directions are spread out, 0 when all are
/// the same.
///
/// # Shapes
/// `embeddings` (N, D).
///
/// # Errors
/// When it is no matrix of at least two rows.
pub fn spread(embeddings: &Tensor) -> Result<f64> {
    let &[rows, dim] = embeddings.dims() else {
        bail!("spread: expected (N, D), got {:?}", embeddings.shape())
    };
    if rows < 2 {
        bail!("spread: needs at least two embeddings");
    }
    let unit = normalize_last_dim(&embeddings.detach())?.to_dtype(DType::F64)?;
    let centred = unit.broadcast_sub(&unit.mean_keepdim(0)?)?;
    let deviations = centred.sqr()?.mean(0)?.to_vec1::<f64>()?;
    let mean = deviations.iter().map(|v| v.sqrt()).sum::<f64>() / dim as f64;
    Ok(mean * (dim as f64).sqrt())
}

/// Entropy of the mean prediction, over its largest value `ln K`: 1 when all prototypes are predicted equally often, 0
/// when one is always.
///
/// # Shapes
/// `logits` (N, K): scores divided by the temperature.
///
/// # Errors
/// When it is no matrix with at least two columns.
pub fn prediction_entropy(logits: &Tensor) -> Result<f64> {
    let classes = classes(logits)?;
    let mean = softmax_last_dim(&logits.detach().contiguous()?)?
        .mean(0)?
        .to_dtype(DType::F64)?
        .to_vec1::<f64>()?;
    Ok(entropy(mean.into_iter()) / (classes as f64).ln())
}

/// Entropy of how often each prototype is the nearest, over `ln K`; and how many are the nearest of any row. It cannot be
/// above `ln N / ln K`.
///
/// # Shapes
/// `logits` (N, K).
///
/// # Errors
/// As [`prediction_entropy`].
pub fn choice_entropy(logits: &Tensor) -> Result<(f64, usize)> {
    let classes = classes(logits)?;
    let mut counts = vec![0usize; classes];
    let chosen = logits.detach().argmax(D::Minus1)?.to_vec1::<u32>()?;
    for &choice in &chosen {
        if let Some(count) = counts.get_mut(choice as usize) {
            *count += 1;
        }
    }
    let shares = counts
        .iter()
        .map(|&n| n as f64 / chosen.len().max(1) as f64);
    let used = counts.iter().filter(|&&n| n > 0).count();
    Ok((entropy(shares) / (classes as f64).ln(), used))
}

fn classes(logits: &Tensor) -> Result<usize> {
    match logits.dims() {
        &[rows, classes] if rows > 0 && classes > 1 => Ok(classes),
        other => bail!("expected logits (N, K) with K of at least 2, got {other:?}"),
    }
}

fn entropy(shares: impl Iterator<Item = f64>) -> f64 {
    shares.filter(|&p| p > 0.0).map(|p| -p * p.ln()).sum()
}
