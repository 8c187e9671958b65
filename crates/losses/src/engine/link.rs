//! Hands out a gradient that the forward pass has already computed.

use candle::{
    CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, WithDType, bail,
};

struct Link {
    value: f64,
    dtype: DType,
    grad: Tensor,
}

impl CustomOp1 for Link {
    fn name(&self) -> &'static str {
        "metric_loss"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let storage = match self.dtype {
            DType::F64 => f64::to_cpu_storage_owned(vec![self.value]),
            _ => f32::to_cpu_storage_owned(vec![self.value as f32]),
        };
        Ok((storage, Shape::from(())))
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        // Mostly the loss itself is differentiated: then the gradient is handed out as it is.
        if grad.to_dtype(DType::F64)?.to_scalar::<f64>()? == 1.0 {
            return Ok(Some(self.grad.to_dtype(x.dtype())?));
        }
        let upstream = grad.to_dtype(self.grad.dtype())?;
        Ok(Some(
            self.grad.broadcast_mul(&upstream)?.to_dtype(x.dtype())?,
        ))
    }
}

/// A scalar of type `dtype` with the given value, whose gradient with respect to each input is the tensor beside it.
///
/// On the CPU this is a custom operation. On other devices it is `value + sum(x * g) - detach(sum(x * g))`.
pub(crate) fn link(value: f64, dtype: DType, terms: &[(&Tensor, Tensor)]) -> Result<Tensor> {
    let mut total: Option<Tensor> = None;
    for (i, (x, grad)) in terms.iter().enumerate() {
        let share = if i == 0 { value } else { 0.0 };
        let term = if x.device().is_cpu() {
            x.apply_op1(Link {
                value: share,
                dtype,
                grad: grad.to_dtype(if dtype == DType::F64 {
                    dtype
                } else {
                    DType::F32
                })?,
            })?
        } else {
            let grad = grad.to_dtype(dtype)?.to_device(x.device())?;
            let dot = (x.to_dtype(dtype)? * grad)?.sum_all()?;
            let value = Tensor::new(share, &Device::Cpu)?
                .to_dtype(dtype)?
                .to_device(x.device())?;
            ((&dot - dot.detach())? + value)?
        };
        total = Some(match total {
            None => term,
            Some(t) => (t + term)?,
        });
    }
    match total {
        Some(t) => Ok(t),
        None => bail!("a loss needs an input"),
    }
}
