//! Embeddings as plain rows on the host, cut off from the gradient.
//!
//! Mining is a comparison of numbers, so it runs on the host in f64: a batch is small beside the network that made it, and the
//! decision does not depend on the device.

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
