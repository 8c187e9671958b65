//! The affine map, its three products written to the matrix multiplier directly.

use crate::cpu::{self, Real, View, for_float};
use crate::gemm::{Mat, MatMut, Threads, product};
use candle::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

const OP: &str = "linear";

/// `y = x weight^T + bias` over the last dimension.
///
/// # Shapes
/// `x` (..., I), `weight` (O, I), `bias` (O); result (..., O).
///
/// # Errors
/// When shapes, dtypes or devices disagree.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    cpu::float(OP, x)?;
    cpu::same_kind(OP, &[("x", x), ("weight", weight)])?;
    let (&[outputs, inputs], Some(&last)) = (weight.dims(), x.dims().last()) else {
        candle::bail!(
            "{OP}: expected input (..., I) and weight (O, I), got {:?} and {:?}",
            x.shape(),
            weight.shape()
        )
    };
    if last != inputs {
        candle::bail!(
            "{OP}: input {:?} does not match weight {:?}",
            x.shape(),
            weight.shape()
        );
    }
    cpu::not_empty(OP, "input", x)?;
    cpu::not_empty(OP, "weight", weight)?;
    if let Some(bias) = bias {
        cpu::same_kind(OP, &[("x", x), ("bias", bias)])?;
        if bias.dims() != [outputs] {
            candle::bail!(
                "{OP}: bias {:?} does not match weight {:?}",
                bias.shape(),
                weight.shape()
            );
        }
    }
    if !x.device().is_cpu() {
        return composed(x, weight, bias);
    }
    let op = Linear {
        rows: x.elem_count() / inputs,
        inputs,
        outputs,
    };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        None => x.apply_op2(&weight, op),
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op),
    }
}

fn composed(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = weight.dim(0)?;
    }
    let y = x
        .reshape(((), weight.dim(1)?))?
        .matmul(&weight.t()?)?
        .reshape(shape)?;
    match bias {
        None => Ok(y),
        Some(bias) => y.broadcast_add(bias),
    }
}

struct Linear {
    rows: usize,
    inputs: usize,
    outputs: usize,
}

impl Linear {
    fn run<T: Real>(
        &self,
        x: &[T],
        w: &[T],
        bias: Option<&[T]>,
        l: &Layout,
    ) -> (CpuStorage, Shape) {
        let (n, i, o) = (self.rows, self.inputs, self.outputs);
        let mut out = match bias {
            // SAFETY: the product below writes every element without reading it.
            None => unsafe { cpu::unwritten(n * o) },
            Some(bias) => bias.iter().copied().cycle().take(n * o).collect(),
        };
        let target = MatMut::rows(&mut out, n, o, o);
        product(
            target,
            Mat::rows(x, n, i, i),
            Mat::rows(w, o, i, i).t(),
            bias.is_some(),
            Threads::All,
        );
        let mut dims = l.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = o;
        }
        (T::to_cpu_storage_owned(out), Shape::from(dims))
    }

    fn gradients(
        &self,
        x: &Tensor,
        weight: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (n, i, o) = (self.rows, self.inputs, self.outputs);
        for_float!(x.dtype(), OP, T => {
            let view = View::of(grad);
            let dy = Mat::rows(view.slice::<T>(OP)?, n, o, o);
            let mut dx = None;
            if x.track_op() {
                // SAFETY: the product below writes every element.
                let mut out: Vec<T> = unsafe { cpu::unwritten(n * i) };
                let w = View::of(weight);
                let w = Mat::rows(w.slice::<T>(OP)?, o, i, i);
                product(MatMut::rows(&mut out, n, i, i), dy, w, false, Threads::All);
                dx = Some(cpu::tensor(out, x.shape())?);
            }
            let mut dw = None;
            if weight.track_op() {
                // SAFETY: the product below writes every element.
                let mut out: Vec<T> = unsafe { cpu::unwritten(o * i) };
                let xs = View::of(x);
                let xs = Mat::rows(xs.slice::<T>(OP)?, n, i, i);
                product(MatMut::rows(&mut out, o, i, i), dy.t(), xs, false, Threads::All);
                dw = Some(cpu::tensor(out, weight.shape())?);
            }
            Ok((dx, dw))
        })
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        for_float!(x.dtype(), OP, T => {
            Ok(self.run::<T>(cpu::operand(OP, x, xl)?, cpu::operand(OP, w, wl)?, None, xl))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(x, weight, &grad.contiguous()?)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        for_float!(x.dtype(), OP, T => {
            let bias = cpu::operand(OP, b, bl)?;
            Ok(self.run::<T>(cpu::operand(OP, x, xl)?, cpu::operand(OP, w, wl)?, Some(bias), xl))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (dx, dw) = self.gradients(x, weight, &grad)?;
        let db = match bias.track_op() {
            false => None,
            true => Some(grad.reshape((self.rows, self.outputs))?.sum(0)?),
        };
        Ok((dx, dw, db))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::Device;

    #[test]
    fn composed_form_agrees() -> Result<()> {
        let x = Tensor::rand(-1f64, 1.0, (2, 3, 5), &Device::Cpu)?;
        let w = Tensor::rand(-1f64, 1.0, (4, 5), &Device::Cpu)?;
        let b = Tensor::rand(-1f64, 1.0, 4, &Device::Cpu)?;
        let worst = (linear(&x, &w, Some(&b))? - composed(&x, &w, Some(&b))?)?;
        assert!(worst.abs()?.max_all()?.to_scalar::<f64>()? < 1e-12);
        Ok(())
    }
}
