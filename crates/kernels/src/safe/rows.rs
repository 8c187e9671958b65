//! Rows: norms, sums of exponentials, maxima, softmax.

use super::elementwise::composed_sqrt;
use crate::cpu::{self, Real};
use crate::rows::{self, Kind, RowFn};
use candle::shape::Dim;
use candle::{D, Result, Tensor};

/// A row function on the CPU, its composed form elsewhere.
fn on_rows<F: RowFn>(x: &Tensor, composed: fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    rows::check(F::NAME, x)?;
    if cpu::native(x) {
        rows::apply::<F>(x)
    } else {
        composed(x)
    }
}

/// A function of rows along any dimension: that dimension is moved to the end, and back if the
/// result still has it.
fn along<I: Dim>(
    op: &'static str,
    x: &Tensor,
    dim: I,
    f: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), op)?;
    let last = x.rank() - 1;
    if dim == last {
        return f(x);
    }
    let mut order: Vec<usize> = (0..x.rank()).filter(|&d| d != dim).collect();
    order.push(dim);
    let y = f(&x.permute(order)?)?;
    if y.rank() < x.rank() {
        return Ok(y);
    }
    let mut back: Vec<usize> = (0..last).collect();
    back.insert(dim, last);
    y.permute(back)?.contiguous()
}

/// Euclidean norm, scaled by the largest magnitude so that squares neither overflow nor vanish.
#[inline(always)]
fn length<T: Real>(x: &[T]) -> T {
    let mut top = T::ZERO;
    for &v in x {
        if v.abs() > top {
            top = v.abs();
        }
    }
    if top == T::ZERO {
        // All zero, or NaN among zeros, which the sum keeps.
        return crate::reduce::sum(x).abs();
    }
    if top.is_infinite() {
        return top;
    }
    let inverse = T::ONE / top;
    if inverse.is_infinite() {
        // A subnormal row: too short to have a direction.
        return T::ZERO;
    }
    top * crate::reduce::lanes(x.len(), |i| (x[i] * inverse) * (x[i] * inverse)).sqrt()
}

#[derive(Clone, Copy)]
struct Norm;

impl RowFn for Norm {
    const NAME: &'static str = "safe::norm_last_dim";
    const KIND: Kind = Kind::Scalar;

    #[inline(always)]
    fn forward<T: Real>(x: &[T], out: &mut [T]) {
        if let [out] = out {
            *out = length(x);
        }
    }

    #[inline(always)]
    fn backward<T: Real>(x: &[T], y: &[T], dy: &[T], dx: &mut [T]) {
        let (&[norm], &[dy]) = (y, dy) else { return };
        if norm == T::ZERO {
            dx.fill(T::ZERO);
            return;
        }
        for (d, &x) in dx.iter_mut().zip(x) {
            *d = dy * (x / norm);
        }
    }
}

/// Euclidean norm of the rows; the gradient of a zero row is zero.
///
/// # Shapes
/// `x` (..., D); result (...).
///
/// # Errors
/// When the input is empty, a scalar, or not of a float type.
pub fn norm_last_dim(x: &Tensor) -> Result<Tensor> {
    on_rows::<Norm>(x, composed_norm)
}

pub(super) fn composed_norm(x: &Tensor) -> Result<Tensor> {
    // In units of the largest element, so that squares of huge and tiny ones stay in range.
    let unit = unit(x)?;
    let scaled = x.broadcast_div(&unit)?;
    composed_sqrt(&scaled.sqr()?.sum(D::Minus1)?)?.mul(&unit.squeeze(D::Minus1)?)
}

/// The largest magnitude of each row, 1 where all elements are zero or one is not finite; a constant.
fn unit(x: &Tensor) -> Result<Tensor> {
    let top = x.detach().abs()?.max_keepdim(D::Minus1)?;
    let one = top.ones_like()?;
    // Neither holds for what is not a number.
    let fits = (top.gt(0.0)? * top.lt(f64::INFINITY)?)?;
    fits.where_cond(&top, &one)
}

#[derive(Clone, Copy)]
struct Normalize;

impl RowFn for Normalize {
    const NAME: &'static str = "safe::normalize_last_dim";
    const KIND: Kind = Kind::Row;

    #[inline(always)]
    fn forward<T: Real>(x: &[T], out: &mut [T]) {
        let norm = length(x);
        if norm == T::ZERO {
            out.fill(T::ZERO);
            return;
        }
        for (o, &x) in out.iter_mut().zip(x) {
            *o = x / norm;
        }
    }

    #[inline(always)]
    fn backward<T: Real>(x: &[T], y: &[T], dy: &[T], dx: &mut [T]) {
        let norm = length(x);
        if norm == T::ZERO {
            dx.fill(T::ZERO);
            return;
        }
        let along = crate::reduce::dot(y, dy);
        for ((d, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
            *d = (dy - y * along) / norm;
        }
    }
}

/// Rows divided by their Euclidean norm; a zero row stays zero, with zero gradient.
///
/// # Shapes
/// `x` (..., D); the result has the same.
///
/// # Errors
/// When the input is empty, a scalar, or not of a float type.
pub fn normalize_last_dim(x: &Tensor) -> Result<Tensor> {
    on_rows::<Normalize>(x, composed_normalize)
}

pub(super) fn composed_normalize(x: &Tensor) -> Result<Tensor> {
    let x = &x.broadcast_div(&unit(x)?)?;
    let square = x.sqr()?.sum_keepdim(D::Minus1)?;
    let empty = square.le(0.0)?;
    // A zero row is divided by one: it stays zero; the outer mask cuts its gradient.
    let norm = empty.where_cond(&square.ones_like()?, &square)?.sqrt()?;
    let y = x.broadcast_div(&norm)?;
    empty
        .broadcast_as(x.shape())?
        .where_cond(&x.zeros_like()?, &y)
}

#[derive(Clone, Copy)]
struct LogSumExp;

impl RowFn for LogSumExp {
    const NAME: &'static str = "safe::log_sum_exp_last_dim";
    const KIND: Kind = Kind::Scalar;

    #[inline(always)]
    fn forward<T: Real>(x: &[T], out: &mut [T]) {
        if let [out] = out {
            *out = rows::log_sum_exp(x);
        }
    }

    #[inline(always)]
    fn backward<T: Real>(x: &[T], y: &[T], dy: &[T], dx: &mut [T]) {
        let (&[total], &[dy]) = (y, dy) else { return };
        if total == T::NEG_INFINITY {
            dx.fill(T::ZERO);
            return;
        }
        for (d, &x) in dx.iter_mut().zip(x) {
            *d = dy * (x - total).fast_exp();
        }
    }
}

/// `log(sum(exp(x)))` of the rows without overflow. Minus infinity stands for a missing element: a row
/// of nothing else gives minus infinity and zero gradient.
///
/// # Shapes
/// `x` (..., D); result (...).
///
/// # Errors
/// When the input is empty, a scalar, or not of a float type.
pub fn log_sum_exp_last_dim(x: &Tensor) -> Result<Tensor> {
    on_rows::<LogSumExp>(x, composed_log_sum_exp)
}

pub(super) fn composed_log_sum_exp(x: &Tensor) -> Result<Tensor> {
    let top = x.max_keepdim(D::Minus1)?.detach();
    let empty = top.eq(f32::NEG_INFINITY)?;
    let shift = empty.where_cond(&top.zeros_like()?, &top)?;
    let sum = x.broadcast_sub(&shift)?.exp()?.sum_keepdim(D::Minus1)?;
    let sum = empty.where_cond(&sum.ones_like()?, &sum)?;
    let y = (sum.log()? + &shift)?;
    empty.where_cond(&top, &y)?.squeeze(D::Minus1)
}

#[derive(Clone, Copy)]
struct Max;

impl RowFn for Max {
    const NAME: &'static str = "safe::max_last_dim";
    const KIND: Kind = Kind::Scalar;

    #[inline(always)]
    fn forward<T: Real>(x: &[T], out: &mut [T]) {
        if let [out] = out {
            *out = crate::reduce::largest(x);
        }
    }

    #[inline(always)]
    fn backward<T: Real>(x: &[T], y: &[T], dy: &[T], dx: &mut [T]) {
        let (&[top], &[dy]) = (y, dy) else { return };
        let ties = x.iter().filter(|&&v| v == top).count();
        let share = dy / T::from_f64(ties.max(1) as f64);
        for (d, &x) in dx.iter_mut().zip(x) {
            *d = if x == top { share } else { T::ZERO };
        }
    }
}

/// The largest element of the rows; elements that tie share the gradient (PyTorch's `amax`; candle's
/// own hands each the whole of it).
///
/// # Shapes
/// `x` (..., D); result (...).
///
/// # Errors
/// When the input is empty, a scalar, or not of a float type.
pub fn max_last_dim(x: &Tensor) -> Result<Tensor> {
    on_rows::<Max>(x, composed_max)
}

pub(super) fn composed_max(x: &Tensor) -> Result<Tensor> {
    let mask = x.broadcast_eq(&x.max_keepdim(D::Minus1)?.detach())?;
    let ties = mask.to_dtype(x.dtype())?.sum(D::Minus1)?;
    mask.where_cond(x, &x.zeros_like()?)?.sum(D::Minus1)? / ties
}

/// The smallest element of the rows; elements that tie share the gradient.
///
/// # Shapes
/// `x` (..., D); result (...).
///
/// # Errors
/// When the input is empty, a scalar, or not of a float type.
pub fn min_last_dim(x: &Tensor) -> Result<Tensor> {
    max_last_dim(&x.neg()?)?.neg()
}

#[derive(Clone, Copy)]
struct Softmax;

impl RowFn for Softmax {
    const NAME: &'static str = "safe::softmax_last_dim";
    const KIND: Kind = Kind::Row;

    #[inline(always)]
    fn forward<T: Real>(x: &[T], out: &mut [T]) {
        let total = rows::log_sum_exp(x);
        if total == T::NEG_INFINITY {
            out.fill(T::ZERO);
            return;
        }
        for (o, &x) in out.iter_mut().zip(x) {
            *o = (x - total).fast_exp();
        }
    }

    #[inline(always)]
    fn backward<T: Real>(_x: &[T], y: &[T], dy: &[T], dx: &mut [T]) {
        let along = crate::reduce::dot(y, dy);
        for ((d, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
            *d = y * (dy - along);
        }
    }
}

/// Softmax of the rows, with a gradient (candle's fused one has none). Minus infinity stands for a
/// missing element; a row of nothing else gives zeros.
///
/// # Shapes
/// `x` (..., D); the result has the same.
///
/// # Errors
/// When the input is empty, a scalar, or not of a float type.
pub fn softmax_last_dim(x: &Tensor) -> Result<Tensor> {
    on_rows::<Softmax>(x, composed_softmax)
}

pub(super) fn composed_softmax(x: &Tensor) -> Result<Tensor> {
    let top = x.max_keepdim(D::Minus1)?.detach();
    let empty = top.eq(f32::NEG_INFINITY)?;
    let shift = empty.where_cond(&top.zeros_like()?, &top)?;
    let e = x.broadcast_sub(&shift)?.exp()?;
    let sum = e.sum_keepdim(D::Minus1)?;
    e.broadcast_div(&empty.where_cond(&sum.ones_like()?, &sum)?)
}

/// [`norm_last_dim`] along any dimension, which the result lacks.
///
/// # Errors
/// As there, and when the dimension does not exist.
pub fn norm<I: Dim>(x: &Tensor, dim: I) -> Result<Tensor> {
    along(Norm::NAME, x, dim, norm_last_dim)
}

/// [`normalize_last_dim`] along any dimension.
///
/// # Errors
/// As there, and when the dimension does not exist.
pub fn normalize<I: Dim>(x: &Tensor, dim: I) -> Result<Tensor> {
    along(Normalize::NAME, x, dim, normalize_last_dim)
}

/// [`log_sum_exp_last_dim`] along any dimension, which the result lacks.
///
/// # Errors
/// As there, and when the dimension does not exist.
pub fn log_sum_exp<I: Dim>(x: &Tensor, dim: I) -> Result<Tensor> {
    along(LogSumExp::NAME, x, dim, log_sum_exp_last_dim)
}

/// [`max_last_dim`] along any dimension, which the result lacks.
///
/// # Errors
/// As there, and when the dimension does not exist.
pub fn max<I: Dim>(x: &Tensor, dim: I) -> Result<Tensor> {
    along(Max::NAME, x, dim, max_last_dim)
}

/// [`min_last_dim`] along any dimension, which the result lacks.
///
/// # Errors
/// As there, and when the dimension does not exist.
pub fn min<I: Dim>(x: &Tensor, dim: I) -> Result<Tensor> {
    along(Max::NAME, x, dim, min_last_dim)
}

/// [`softmax_last_dim`] along any dimension.
///
/// # Errors
/// As there, and when the dimension does not exist.
pub fn softmax<I: Dim>(x: &Tensor, dim: I) -> Result<Tensor> {
    along(Softmax::NAME, x, dim, softmax_last_dim)
}
