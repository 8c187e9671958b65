//! The affine map, its three products written to the matrix multiplier directly.

use crate::cpu::{self, Real};
use crate::gemm::{Mat, MatMut, Threads, product};
use crate::weighted::{self, Weighted};
use candle::{Result, Shape, Tensor};

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
    if !cpu::native(x) {
        return composed(x, weight, bias);
    }
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    let op = Linear {
        rows: x.elem_count() / inputs,
        inputs,
        outputs,
        shape: Shape::from(shape),
    };
    weighted::apply(op, x, weight, bias)
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
    /// Of the result.
    shape: Shape,
}

impl Weighted for Linear {
    const NAME: &'static str = OP;

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn forward<T: Real>(&self, x: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T> {
        let (n, i, o) = (self.rows, self.inputs, self.outputs);
        let mut out = match bias {
            // The product below writes every element without reading it.
            None => cpu::unwritten(n * o),
            Some(bias) => bias.iter().copied().cycle().take(n * o).collect(),
        };
        let target = MatMut::rows(&mut out, n, o, o);
        let (x, w) = (Mat::rows(x, n, i, i), Mat::rows(weight, o, i, i).t());
        product(target, x, w, bias.is_some(), Threads::All);
        out
    }

    fn input_gradient<T: Real>(&self, weight: &[T], grad: &[T]) -> Vec<T> {
        let (n, i, o) = (self.rows, self.inputs, self.outputs);
        let mut out = cpu::unwritten(n * i);
        let target = MatMut::rows(&mut out, n, i, i);
        let (dy, w) = (Mat::rows(grad, n, o, o), Mat::rows(weight, o, i, i));
        product(target, dy, w, false, Threads::All);
        out
    }

    fn weight_gradient<T: Real>(&self, x: &[T], grad: &[T]) -> Vec<T> {
        let (n, i, o) = (self.rows, self.inputs, self.outputs);
        let mut out = cpu::unwritten(o * i);
        let target = MatMut::rows(&mut out, o, i, i);
        let (dy, x) = (Mat::rows(grad, n, o, o).t(), Mat::rows(x, n, i, i));
        product(target, dy, x, false, Threads::All);
        out
    }

    fn bias_gradient<T: Real>(&self, grad: &[T]) -> Vec<T> {
        let mut out = vec![T::ZERO; self.outputs];
        crate::simd::run(
            #[inline(always)]
            || {
                for row in grad.chunks_exact(self.outputs) {
                    for (sum, value) in out.iter_mut().zip(row) {
                        *sum += *value;
                    }
                }
            },
        );
        out
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
