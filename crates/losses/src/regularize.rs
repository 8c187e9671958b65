//! Regularisers of embeddings, to be added to a loss.

use candle::{DType, Result, Tensor, bail};

use crate::engine::link;
use crate::ops::host;

/// Values of (B, D) embeddings, checked.
fn rows(embeddings: &Tensor) -> Result<(Vec<f64>, usize, usize)> {
    let Ok((b, d)) = embeddings.dims2() else {
        bail!("embeddings must be (B, D), got {:?}", embeddings.dims());
    };
    if !embeddings.dtype().is_float() || d == 0 {
        bail!(
            "embeddings must be floats with at least one dimension, got {:?} {:?}",
            embeddings.dims(),
            embeddings.dtype()
        );
    }
    let values = host(embeddings)?;
    if let Some(i) = values.iter().position(|v| !v.is_finite()) {
        bail!(
            "embedding {} of {b} holds a value that is not finite",
            i / d
        );
    }
    Ok((values, b, d))
}

/// A scalar with the given gradient.
fn scalar(embeddings: &Tensor, value: f64, grad: Vec<f64>) -> Result<Tensor> {
    let dtype = if embeddings.dtype() == DType::F64 {
        DType::F64
    } else {
        DType::F32
    };
    let grad = Tensor::from_vec(grad, embeddings.shape(), &candle::Device::Cpu)?;
    link(value, dtype, &[(embeddings, grad)])
}

/// Mean over the embeddings of `||x||_p^power` (pytorch-metric-learning's `LpRegularizer`, p 2, power 1). The gradient of a norm is 0
/// at 0.
///
/// # Shapes
/// `embeddings` (B, D) in any float type; result: scalar.
///
/// # Errors
/// Unless `p >= 1` (infinity included) and `power > 0`, or when an embedding is not finite.
pub fn lp_regularizer(embeddings: &Tensor, p: f64, power: f64) -> Result<Tensor> {
    if p.is_nan() || p < 1.0 {
        bail!("an Lp regulariser needs p >= 1, got {p}");
    }
    crate::pair::check_positive("the power of a regulariser", power)?;
    let (values, b, d) = rows(embeddings)?;
    let (mut total, mut grad) = (0.0, vec![0.0; b * d]);
    for (x, g) in values.chunks_exact(d).zip(grad.chunks_exact_mut(d)) {
        let top = x.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        if top == 0.0 {
            continue;
        }
        let norm = if p.is_infinite() {
            top
        } else {
            top * x
                .iter()
                .map(|v| (v.abs() / top).powf(p))
                .sum::<f64>()
                .powf(1.0 / p)
        };
        total += norm.powf(power);
        let outer = power * norm.powf(power - 1.0) / b as f64;
        for (g, &x) in g.iter_mut().zip(x) {
            let slope = if p.is_infinite() {
                if x.abs() == top { 1.0 } else { 0.0 }
            } else {
                (x.abs() / norm).powf(p - 1.0)
            };
            *g = if x == 0.0 {
                0.0
            } else {
                outer * slope * x.signum()
            };
        }
    }
    scalar(embeddings, total / b.max(1) as f64, grad)
}

/// Mean over the embeddings of `|sum_d x_d|`: each embedding is pulled to mean 0 over its dimensions (pytorch-metric-learning's
/// `ZeroMeanRegularizer`).
///
/// # Shapes
/// `embeddings` (B, D) in any float type; result: scalar.
///
/// # Errors
/// When an embedding is not finite.
pub fn zero_mean_regularizer(embeddings: &Tensor) -> Result<Tensor> {
    let (values, b, d) = rows(embeddings)?;
    let (mut total, mut grad) = (0.0, vec![0.0; b * d]);
    for (x, g) in values.chunks_exact(d).zip(grad.chunks_exact_mut(d)) {
        let sum: f64 = x.iter().sum();
        total += sum.abs();
        if sum != 0.0 {
            g.fill(sum.signum() / b as f64);
        }
    }
    scalar(embeddings, total / b.max(1) as f64, grad)
}

/// Spherical embedding constraint (Zhang, Li, Zhang, NeurIPS 2020): the variance of the norms, `mean (||x|| - mean ||x||)^2`. For losses
/// on normalised embeddings: norms that drift apart make their gradients, which shrink with the norm, drift apart as well.
///
/// # Shapes
/// `embeddings` (B, D) in any float type; result: scalar.
///
/// # Errors
/// When an embedding is not finite.
pub fn spherical_regularizer(embeddings: &Tensor) -> Result<Tensor> {
    let (values, b, d) = rows(embeddings)?;
    let norms: Vec<f64> = values
        .chunks_exact(d)
        .map(|x| x.iter().map(|v| v * v).sum::<f64>().sqrt())
        .collect();
    let count = b.max(1) as f64;
    let mean = norms.iter().sum::<f64>() / count;
    let value = norms.iter().map(|n| (n - mean) * (n - mean)).sum::<f64>() / count;
    let mut grad = vec![0.0; b * d];
    for ((x, g), n) in values
        .chunks_exact(d)
        .zip(grad.chunks_exact_mut(d))
        .zip(&norms)
    {
        if *n > 0.0 {
            let c = 2.0 * (n - mean) / (count * n);
            g.iter_mut().zip(x).for_each(|(g, x)| *g = c * x);
        }
    }
    scalar(embeddings, value, grad)
}
