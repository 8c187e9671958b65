//! The affine map, its three products written to the matrix multiplier directly.

use crate::cpu::{self, Real};
use crate::gemm::{Mat, MatMut, Shared, Threads, product};
use crate::panel::{Dots, Run, SUM};
use crate::scratch;
use crate::weighted::{self, Weighted};
use candle::{Result, Shape, Tensor};
use rayon::prelude::*;

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

/// Rows that are fewer than packing the weight is worth.
const FEW: usize = 16;
/// Outputs of one task.
const OUTPUTS: usize = 48;

impl Linear {
    /// The forward pass of a few rows: each weight is read once, where it lies.
    fn few(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        let (n, i, o) = (self.rows, self.inputs, self.outputs);
        let shared = Shared::new(out);
        let runs = [Run { a: 0, b: 0, len: i }];
        weight
            .par_chunks(OUTPUTS * i)
            .with_min_len((1 << 16) / (OUTPUTS * i) + 1)
            .enumerate()
            .for_each(|(index, weight)| {
                let (first, cols) = (index * OUTPUTS, weight.len() / i);
                scratch::with(n * cols * SUM, |sums: &mut [f32]| {
                    sums.fill(0.0);
                    crate::simd::with(Dots {
                        a: x,
                        a_row: i,
                        rows: n,
                        b: weight,
                        b_row: i,
                        cols,
                        runs: &runs,
                        sums,
                    });
                    for (r, sums) in sums.chunks_exact(cols * SUM).enumerate() {
                        // SAFETY: tasks differ in outputs, and the rows come one after another.
                        let out = unsafe { shared.part(r * o + first, cols) };
                        for (c, (value, sum)) in
                            out.iter_mut().zip(sums.chunks_exact(SUM)).enumerate()
                        {
                            *value = sum.iter().sum::<f32>() + bias.map_or(0.0, |b| b[first + c]);
                        }
                    }
                });
            });
    }
}

impl Weighted for Linear {
    const NAME: &'static str = OP;

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn forward<T: Real>(&self, x: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T> {
        let (n, i, o) = (self.rows, self.inputs, self.outputs);
        if n <= FEW
            && let (Some(x), Some(weight)) = (T::f32s(x), T::f32s(weight))
        {
            // The tasks of `few` write every element.
            let mut out = cpu::unwritten::<T>(n * o);
            if let Some(out) = T::f32s_mut(&mut out) {
                self.few(x, weight, bias.and_then(T::f32s), out);
            }
            return out;
        }
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

    /// A few rows, read where they lie, agree with f64, on every number of rows and odd sizes.
    #[test]
    fn few_rows_agree_with_many() -> Result<()> {
        for (rows, inputs, outputs) in [(1, 300, 101), (2, 33, 7), (5, 64, 49), (16, 70, 3)] {
            let x = Tensor::rand(-1f64, 1.0, (rows, inputs), &Device::Cpu)?;
            let w = Tensor::rand(-1f64, 1.0, (outputs, inputs), &Device::Cpu)?;
            let b = Tensor::rand(-1f64, 1.0, outputs, &Device::Cpu)?;
            let f = |t: &Tensor| t.to_dtype(candle::DType::F32);
            for bias in [None, Some(&b)] {
                let exact = composed(&x, &w, bias)?;
                let low = bias.map(f).transpose()?;
                let ours = linear(&f(&x)?, &f(&w)?, low.as_ref())?;
                let worst = (ours.to_dtype(candle::DType::F64)? - exact)?
                    .abs()?
                    .max_all()?;
                let worst = worst.to_scalar::<f64>()?;
                assert!(worst < 1e-4, "{rows} x {inputs} to {outputs}: {worst}");
            }
        }
        Ok(())
    }
}
