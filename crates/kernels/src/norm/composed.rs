//! Batch normalisation from candle's own operations, for devices without kernels here.

use super::{BatchStats, Dims};
use crate::activation::{self, Activation};
use candle::{DType, Result, Tensor};

/// Reshapes a per-channel tensor for broadcasting over `x`.
fn spread(t: &Tensor, x: &Tensor) -> Result<Tensor> {
    let mut shape = vec![1; x.rank()];
    if let Some(c) = shape.get_mut(1) {
        *c = t.elem_count();
    }
    t.reshape(shape)
}

fn activated(y: &Tensor, act: &Activation<'_>) -> Result<Tensor> {
    match act {
        Activation::None => Ok(y.clone()),
        Activation::Relu => activation::composed_relu(y),
        Activation::PRelu(slope) => activation::composed_prelu(y, slope),
    }
}

/// [`super::batch_norm_train`] by candle's own operations.
pub(super) fn train(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
    act: &Activation<'_>,
) -> Result<(Tensor, BatchStats)> {
    let dims = Dims::of(x.dims())?;
    let over: Vec<usize> = (0..x.rank()).filter(|&d| d != 1).collect();
    let wide = match x.dtype() {
        DType::F16 | DType::BF16 => x.to_dtype(DType::F32)?,
        _ => x.clone(),
    };
    let mean = wide.mean_keepdim(over.as_slice())?;
    let centered = wide.broadcast_sub(&mean)?;
    let var = centered.sqr()?.mean_keepdim(over.as_slice())?;
    let normal = centered
        .broadcast_div(&(&var + eps)?.sqrt()?)?
        .to_dtype(x.dtype())?;
    let y = normal
        .broadcast_mul(&spread(weight, x)?)?
        .broadcast_add(&spread(bias, x)?)?;
    let unbiased = dims.count() as f64 / (dims.count() - 1) as f64;
    let stats = BatchStats {
        mean: mean.flatten_all()?.detach().to_dtype(x.dtype())?,
        var: (var.flatten_all()?.detach() * unbiased)?.to_dtype(x.dtype())?,
    };
    Ok((activated(&y, act)?, stats))
}

/// [`super::batch_norm_eval`] by candle's own operations.
pub(super) fn eval(
    x: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
    act: &Activation<'_>,
) -> Result<Tensor> {
    let inverse = (var.detach() + eps)?.sqrt()?.recip()?;
    let scale = weight.mul(&inverse)?;
    let shift = bias.sub(&mean.detach().mul(&scale)?)?;
    let y = x
        .broadcast_mul(&spread(&scale, x)?)?
        .broadcast_add(&spread(&shift, x)?)?;
    activated(&y, act)
}

#[cfg(test)]
mod tests {
    use super::super::{batch_norm_eval, batch_norm_train};
    use super::*;
    use candle::{Device, Var};

    /// The composed forms, which other devices use, agree with the CPU's own in value, statistics and
    /// gradients.
    #[test]
    fn composed_forms_agree() -> Result<()> {
        let dev = Device::Cpu;
        for shape in [&[6, 3][..], &[3, 3, 5, 4]] {
            let x = Var::rand(-1f64, 2.0, shape, &dev)?;
            let per_channel = || Var::rand(0.2f64, 1.0, 3, &dev);
            let (w, b, a) = (per_channel()?, per_channel()?, per_channel()?);
            let (mean, var) = (per_channel()?, per_channel()?);
            let cotangent = Tensor::rand(-1f64, 1.0, shape, &dev)?;
            let close = |p: &Tensor, q: &Tensor| -> Result<()> {
                let worst = (p - q)?.abs()?.max_all()?.to_scalar::<f64>()?;
                assert!(worst < 1e-10, "{worst}");
                Ok(())
            };
            for act in [Activation::None, Activation::Relu, Activation::PRelu(&a)] {
                let (y, stats) = batch_norm_train(&x, &w, &b, 1e-5, act)?;
                let (z, other) = train(&x, &w, &b, 1e-5, &act)?;
                close(&stats.mean, &other.mean)?;
                close(&stats.var, &other.var)?;
                let p = batch_norm_eval(&x, &mean, &var, &w, &b, 1e-5, act)?;
                let q = eval(&x, &mean, &var, &w, &b, 1e-5, &act)?;
                for (ours, theirs) in [(y, z), (p, q)] {
                    close(&ours, &theirs)?;
                    let ours = ours.mul(&cotangent)?.sum_all()?.backward()?;
                    let theirs = theirs.mul(&cotangent)?.sum_all()?.backward()?;
                    for v in [&x, &w, &b, &a] {
                        match (ours.get(v), theirs.get(v)) {
                            (Some(g), Some(h)) => close(g, h)?,
                            (None, None) => (),
                            _ => panic!("a gradient is missing"),
                        }
                    }
                    assert!(ours.get(&mean).is_none() && ours.get(&var).is_none());
                }
            }
        }
        Ok(())
    }
}
