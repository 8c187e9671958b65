//! The few tensor operations the losses share; all of them run on any device and have gradients that stay finite.

use candle::{D, DType, Device, Result, Tensor, bail};
use phiz_kernels::safe::log_sum_exp_last_dim;

/// Fails unless `embeddings` is (B, D) in f32 or f64; gives (B, D).
pub(crate) fn check_embeddings(embeddings: &Tensor) -> Result<(usize, usize)> {
    if embeddings.rank() != 2 {
        bail!("embeddings must be (B, D), got {:?}", embeddings.dims());
    }
    if !matches!(embeddings.dtype(), DType::F32 | DType::F64) {
        bail!(
            "embeddings must be f32 or f64, got {:?}",
            embeddings.dtype()
        );
    }
    embeddings.dims2()
}

/// Fails unless the value of a configuration field is finite.
pub(crate) fn check_finite(name: &str, value: f64) -> Result<()> {
    if !value.is_finite() {
        bail!("{name} must be finite, got {value}");
    }
    Ok(())
}

/// A constant of the dtype and on the device of `like`.
pub(crate) fn constant(
    values: Vec<f64>,
    shape: impl Into<candle::Shape>,
    like: &Tensor,
) -> Result<Tensor> {
    let shape = shape.into();
    Tensor::from_vec(values, shape, &Device::Cpu)?
        .to_dtype(like.dtype())?
        .to_device(like.device())
}

/// Indices on the device of `like`.
pub(crate) fn indices(values: Vec<u32>, like: &Tensor) -> Result<Tensor> {
    let n = values.len();
    Tensor::from_vec(values, n, &Device::Cpu)?.to_device(like.device())
}

/// The values of a tensor of any shape on the host.
pub(crate) fn host(x: &Tensor) -> Result<Vec<f64>> {
    // To the host first: not every device has f64.
    x.detach()
        .flatten_all()?
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F64)?
        .to_vec1()
}

/// A scalar 0 that depends on every one of `inputs` with a gradient of exactly 0, whatever they hold (`0 * x` would pass a NaN
/// on).
pub(crate) fn zero(inputs: &[&Tensor]) -> Result<Tensor> {
    let mut total = None;
    for x in inputs {
        let never = Tensor::zeros(x.shape(), DType::U8, x.device())?;
        let z = never.where_cond(x, &x.zeros_like()?)?.sum_all()?;
        total = Some(match total {
            None => z,
            Some(t) => (t + z)?,
        });
    }
    match total {
        Some(t) => Ok(t),
        None => bail!("a zero loss needs an input"),
    }
}

/// `log(1 + sum_k exp(z_k))` of each row of `z` (P, K), over the entries where `keep` (P, K) is not 0; a row without any gives 0.
pub(crate) fn log1p_sum_exp(z: &Tensor, keep: &Tensor) -> Result<Tensor> {
    let missing = Tensor::full(f32::NEG_INFINITY, z.shape(), z.device())?.to_dtype(z.dtype())?;
    let z = keep.where_cond(z, &missing)?;
    // The 1 is the exponential of a 0 in front.
    let one = Tensor::zeros((z.dim(0)?, 1), z.dtype(), z.device())?;
    log_sum_exp_last_dim(&Tensor::cat(&[&one, &z], 1)?)
}

/// Squared Euclidean distance of each row of `a` to the same row of `b`.
pub(crate) fn squared_distance(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    (a - b)?.sqr()?.sum(D::Minus1)
}
