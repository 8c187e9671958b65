//! Losses that are a sum over the rows of a matrix, with their gradient written by hand; above all over the matrix of cosines
//! between two sets of vectors, which is never kept whole.
//!
//! A loss implements [`RowLoss`] for one row: it reads the row's values, returns its loss, and leaves the derivative in their
//! place. [`cosine_row_loss`] does the rest in blocks of rows: one product for the cosines, the row function on all threads, two
//! products for the gradients. Nothing larger than one block (32 MiB) and the gradients themselves is allocated. Value and
//! gradient are taken in the same pass, since everything is linear in the gradient of the scalar that comes out.
//!
//! On the CPU f32 and f64 run as one custom op. On other devices the products are candle's own and run there, while the row function
//! runs on the host over the copied matrix: same results, one copy each way.

mod cosine;

use std::sync::Mutex;

use candle::{CpuStorage, CustomOp2, DType, Device, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::cpu::{self, Real, for_float};
use crate::{pairwise, reduce};
use cosine::CosineOp;

/// What one row gives: its loss, and the derivative of that loss by the row's parameter.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RowValue {
    /// The row's loss.
    pub loss: f64,
    /// The derivative of the loss by the row's parameter; 0 where the loss has none.
    pub parameter: f64,
}

/// A loss of one row of a matrix.
pub trait RowLoss: Send + Sync + 'static {
    /// The loss of row `index`. `values` holds the row and takes the derivative of the loss by each of its entries; `scratch`, as
    /// long, holds anything. `parameter` is the row's entry of the parameter vector, 0 if there is none.
    ///
    /// Mark implementations `#[inline(always)]`: they are compiled for each instruction set.
    fn row<T: Real>(
        &self,
        index: usize,
        parameter: f64,
        values: &mut [T],
        scratch: &mut [T],
    ) -> RowValue;
}

/// The largest element of a row without NaN; minus infinity of an empty one.
#[inline(always)]
pub fn largest<T: Real>(x: &[T]) -> T {
    let mut lanes = [T::NEG_INFINITY; 32];
    let (whole, rest) = x.as_chunks::<32>();
    for chunk in whole {
        for l in 0..32 {
            lanes[l] = if chunk[l] > lanes[l] {
                chunk[l]
            } else {
                lanes[l]
            };
        }
    }
    let mut top = T::NEG_INFINITY;
    for &v in lanes.iter().chain(rest) {
        top = if v > top { v } else { top };
    }
    top
}

/// Replaces each `x` by `exp(scale * x - shift)` and gives their sum.
#[inline(always)]
pub fn exp_sum<T: Real>(x: &mut [T], scale: T, shift: T) -> T {
    for v in x.iter_mut() {
        *v = (scale * *v - shift).fast_exp();
    }
    reduce::sum(x)
}

/// The sum of a row, in a fixed order.
#[inline(always)]
pub fn sum<T: Real>(x: &[T]) -> T {
    reduce::sum(x)
}

/// The sum of products of two rows, in a fixed order.
#[inline(always)]
pub fn dot<T: Real>(x: &[T], y: &[T]) -> T {
    reduce::dot(x, y)
}

/// `sum_i w_i f_i(x_i)` over the rows of a matrix.
///
/// # Shapes
/// `x` (N, M) in f32 or f64; `parameters` (N), of the same dtype, through which the gradient passes as well; `weights` N; result:
/// scalar.
///
/// # Errors
/// When shapes, dtypes or devices disagree, or the matrix is empty.
pub fn row_loss<F: RowLoss>(
    op: &'static str,
    x: &Tensor,
    parameters: Option<&Tensor>,
    weights: Vec<f64>,
    f: F,
) -> Result<Tensor> {
    cpu::float(op, x)?;
    cpu::not_empty(op, "the matrix", x)?;
    let (n, m) = x.dims2()?;
    let parameters = check_parameters(op, x, parameters, n, &weights)?;
    let wants = x.track_op() || parameters.track_op();
    let rows = Rows {
        f,
        m,
        weights,
        wants,
    };
    if cpu::native(x) {
        let op = MatrixOp {
            op,
            n,
            rows,
            cached: Mutex::default(),
        };
        return x.contiguous()?.apply_op2(&parameters, op);
    }
    elsewhere(op, x, &parameters, n, &rows)
}

/// `sum_i w_i f_i(c_i)` over the rows of the matrix of cosines between the rows of `a` and of `b`.
///
/// Cosines are clamped to [-1, 1]; the clamp passes gradients, since only rounding leaves the interval. A zero row has cosine 0 to
/// everything, and no gradient. Time O(N M D), memory one block of rows.
///
/// # Shapes
/// `a` (N, D), `b` (M, D) in f32 or f64; `parameters` (N), through which the gradient passes as well; `weights` N; result: scalar.
///
/// # Errors
/// When shapes, dtypes or devices disagree, an operand is empty, or a row holds NaN or infinity: the message names it.
pub fn cosine_row_loss<F: RowLoss>(
    op: &'static str,
    (a_name, a): (&'static str, &Tensor),
    (b_name, b): (&'static str, &Tensor),
    parameters: Option<&Tensor>,
    weights: Vec<f64>,
    f: F,
) -> Result<Tensor> {
    cpu::float(op, a)?;
    cpu::same_kind(op, &[(a_name, a), (b_name, b)])?;
    cpu::not_empty(op, a_name, a)?;
    cpu::not_empty(op, b_name, b)?;
    let (&[n, d], &[m, e]) = (a.dims(), b.dims()) else {
        candle::bail!(
            "{op}: expected {a_name} (N, D) and {b_name} (M, D), got {:?} and {:?}",
            a.dims(),
            b.dims()
        )
    };
    if d != e {
        candle::bail!("{op}: {a_name} is ({n}, {d}) but {b_name} is ({m}, {e})");
    }
    let parameters = check_parameters(op, a, parameters, n, &weights)?;
    let wants = a.track_op() || b.track_op() || parameters.track_op();
    let rows = Rows {
        f,
        m,
        weights,
        wants,
    };
    if cpu::native(a) {
        let op = CosineOp {
            op,
            names: (a_name, b_name),
            dims: (n, m, d),
            rows,
            cached: Mutex::default(),
        };
        return a.contiguous()?.apply_op3(&b.contiguous()?, &parameters, op);
    }
    for (name, x) in [(a_name, a), (b_name, b)] {
        let norms = x
            .detach()
            .to_dtype(DType::F32)?
            .sqr()?
            .sum(1)?
            .to_vec1::<f32>()?;
        if let Some(row) = norms.iter().position(|v| !v.is_finite()) {
            candle::bail!("{op}: row {row} of {name} holds NaN or infinity");
        }
    }
    elsewhere(op, &pairwise::cosine(a, b)?, &parameters, n, &rows)
}

fn check_parameters(
    op: &'static str,
    like: &Tensor,
    parameters: Option<&Tensor>,
    n: usize,
    weights: &[f64],
) -> Result<Tensor> {
    if weights.len() != n {
        candle::bail!("{op}: {} weights for {n} rows", weights.len());
    }
    let Some(p) = parameters else {
        return Tensor::zeros(n, like.dtype(), like.device());
    };
    cpu::same_kind(op, &[("the matrix", like), ("the parameters", p)])?;
    if p.dims() != [n] {
        candle::bail!("{op}: parameters must be ({n}), got {:?}", p.dims());
    }
    p.contiguous()
}

/// The row function with what belongs to every row.
struct Rows<F> {
    f: F,
    /// Length of a row.
    m: usize,
    weights: Vec<f64>,
    /// Whether anybody wants gradients.
    wants: bool,
}

/// Inverse norms of the rows and of the columns of a matrix of inner products that is to become one of cosines.
type Scales<'a, T> = Option<(&'a [T], &'a [T])>;

impl<F: RowLoss> Rows<F> {
    /// Runs the row function over rows `first..` of the matrix, in place.
    fn run<T: Real>(
        &self,
        first: usize,
        z: &mut [T],
        scales: Scales<'_, T>,
        parameters: &[T],
        values: &mut [RowValue],
    ) {
        let m = self.m;
        z.par_chunks_mut(m)
            .zip(values.par_iter_mut())
            .enumerate()
            .for_each_init(
                || vec![T::ZERO; m],
                |scratch, (k, (row, value))| {
                    let i = first + k;
                    crate::simd::run(
                        #[inline(always)]
                        || {
                            let weight = self.weights[i];
                            if let Some((own, others)) = scales {
                                for (z, &s) in row.iter_mut().zip(others) {
                                    let c = *z * own[i] * s;
                                    let c = if c > T::ONE { T::ONE } else { c };
                                    *z = if c < -T::ONE { -T::ONE } else { c };
                                }
                            }
                            let v = self.f.row(i, parameters[i].to_f64(), row, scratch);
                            *value = RowValue {
                                loss: weight * v.loss,
                                parameter: weight * v.parameter,
                            };
                            let weight = T::from_f64(weight);
                            match scales {
                                None => row.iter_mut().for_each(|g| *g *= weight),
                                Some((own, others)) => {
                                    let weight = weight * own[i];
                                    for (g, &s) in row.iter_mut().zip(others) {
                                        *g *= weight * s;
                                    }
                                }
                            }
                        },
                    );
                },
            );
    }
}

fn total<T: Real>(values: &[RowValue]) -> (T, Vec<T>) {
    let loss: f64 = values.iter().map(|v| v.loss).sum();
    // The addition turns a sum of negative zeros into 0.
    let loss = T::from_f64(loss + 0.0);
    (
        loss,
        values.iter().map(|v| T::from_f64(v.parameter)).collect(),
    )
}

/// The products on the device, the row function on the host: a scalar of the right value whose gradient is that of
/// `sum(x * dx) + sum(p * dp)`.
fn elsewhere<F: RowLoss>(
    op: &'static str,
    x: &Tensor,
    parameters: &Tensor,
    n: usize,
    rows: &Rows<F>,
) -> Result<Tensor> {
    let host = |t: &Tensor| {
        let t = t.detach().to_device(&Device::Cpu)?;
        let low = matches!(t.dtype(), DType::F16 | DType::BF16);
        if low {
            t.to_dtype(DType::F32)?.contiguous()
        } else {
            t.contiguous()
        }
    };
    let (hx, hp) = (host(x)?, host(parameters)?);
    let (value, dx, dp) = for_float!(hx.dtype(), op, T => {
        let mut z = hx.flatten_all()?.to_vec1::<T>()?;
        let p = hp.to_vec1::<T>()?;
        let mut values = vec![RowValue::default(); n];
        rows.run(0, &mut z, None, &p, &mut values);
        let (loss, dp) = total::<T>(&values);
        (loss.to_f64(), cpu::tensor(z, x.shape())?, cpu::tensor(dp, n)?)
    });
    let there = |t: Tensor| t.to_dtype(x.dtype())?.to_device(x.device());
    let zero = Tensor::zeros((), x.dtype(), x.device())?;
    let value = zero.affine(1.0, value)?;
    if !rows.wants {
        return Ok(value);
    }
    let linear = ((x * there(dx)?)?.sum_all()? + (parameters * there(dp)?)?.sum_all()?)?;
    (&linear - linear.detach())? + value
}

/// Gradients kept from the forward pass, for a gradient of one.
type Cached<const N: usize> = Mutex<Option<[Tensor; N]>>;

fn keep<const N: usize>(cached: &Cached<N>, gradients: [Tensor; N]) {
    let mut slot = cached
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    *slot = Some(gradients);
}

/// What was kept, times the gradient of the result; `None` for operands that want none.
fn scaled<const N: usize>(
    op: &'static str,
    cached: &Cached<N>,
    operands: [&Tensor; N],
    grad: &Tensor,
) -> Result<[Option<Tensor>; N]> {
    let slot = cached
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(gradients) = slot.as_ref() else {
        candle::bail!("{op}: no gradient was kept, none of the operands was tracked");
    };
    let factor = grad.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    let mut out = [const { None }; N];
    for ((out, kept), operand) in out.iter_mut().zip(gradients).zip(operands) {
        if operand.track_op() {
            *out = Some(if factor == 1.0 {
                kept.clone()
            } else {
                (kept * factor)?
            });
        }
    }
    Ok(out)
}

struct MatrixOp<F> {
    op: &'static str,
    n: usize,
    rows: Rows<F>,
    cached: Cached<2>,
}

impl<F: RowLoss> CustomOp2 for MatrixOp<F> {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        p: &CpuStorage,
        pl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        for_float!(x.dtype(), self.op, T => {
            let mut z = cpu::operand::<T>(self.op, x, xl)?.to_vec();
            let mut values = vec![RowValue::default(); self.n];
            self.rows.run(0, &mut z, None, cpu::operand::<T>(self.op, p, pl)?, &mut values);
            let (loss, dp) = total::<T>(&values);
            if self.rows.wants {
                keep(&self.cached, [cpu::tensor(z, xl.shape())?, cpu::tensor(dp, self.n)?]);
            }
            Ok((T::to_cpu_storage_owned(vec![loss]), Shape::from(())))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        p: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dp] = scaled(self.op, &self.cached, [x, p], grad)?;
        Ok((dx, dp))
    }
}

#[cfg(test)]
mod tests;
