//! Embeddings as plain rows on the host, cut off from the gradient.
//!
//! Mining is a comparison of numbers, so it runs on the host in f64: a batch is small beside the network that made it, the
//! decision does not depend on the device, and equal embeddings have a distance of exactly 0 (differences are taken
//! directly, not through a Gram matrix).

use candle::{DType, Device, Result, Tensor, bail};

/// The rows of `embeddings` (B, D), detached.
pub(crate) fn rows(embeddings: &Tensor) -> Result<Vec<Vec<f64>>> {
    if embeddings.rank() != 2 {
        bail!("embeddings must be (B, D), got {:?}", embeddings.dims());
    }
    let rows = embeddings
        .detach()
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F64)?
        .to_vec2::<f64>()?;
    if let Some(row) = rows
        .iter()
        .position(|row| row.iter().any(|v| !v.is_finite()))
    {
        bail!(
            "embedding {row} of {} holds a value that is not finite, so nothing can be mined from it",
            rows.len()
        );
    }
    Ok(rows)
}

/// Squared Euclidean distance.
pub(crate) fn squared(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// All squared distances, symmetric, zero diagonal.
pub(crate) fn squared_distances(rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut distances = vec![vec![0.0; rows.len()]; rows.len()];
    for i in 0..rows.len() {
        for j in 0..i {
            let d = squared(&rows[i], &rows[j]);
            distances[i][j] = d;
            distances[j][i] = d;
        }
    }
    distances
}

/// Fails unless there is one label for every row.
pub(crate) fn check_labels(rows: usize, labels: usize) -> Result<()> {
    if rows != labels {
        bail!("{rows} embeddings but {labels} labels");
    }
    Ok(())
}
