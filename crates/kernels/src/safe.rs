//! Functions whose gradient stays finite at the points where the formula has none: roots at zero,
//! norms of zero rows, rows of minus infinity, ties of a maximum, cosines of exactly one.

use crate::activation::{Elementwise, elementwise};
use crate::cpu::{self, Real};
use crate::rows::{self, Kind, RowFn, largest};
use candle::{D, Device, Result, Tensor};

#[derive(Clone, Copy)]
struct Sqrt;

impl Elementwise for Sqrt {
    const NAME: &'static str = "safe::sqrt";

    #[inline(always)]
    fn value<T: Real>(self, x: T) -> T {
        if x <= T::ZERO { T::ZERO } else { x.sqrt() }
    }

    #[inline(always)]
    fn gradient<T: Real>(self, x: T, grad: T) -> T {
        if x <= T::ZERO {
            T::ZERO
        } else {
            grad / (x.sqrt() + x.sqrt())
        }
    }
}

/// The square root; value and gradient 0 for `x <= 0` (rounding leaves squared distances slightly
/// negative).
///
/// # Shapes
/// Any; the result has the same.
///
/// # Errors
/// When the dtype is not a float.
pub fn sqrt(x: &Tensor) -> Result<Tensor> {
    cpu::float(Sqrt::NAME, x)?;
    if x.device().is_cpu() {
        elementwise(x, Sqrt)
    } else {
        composed_sqrt(x)
    }
}

fn composed_sqrt(x: &Tensor) -> Result<Tensor> {
    // Two masks: with the outer alone the gradient would be 0 * inf.
    let empty = x.le(0.0)?;
    let root = empty.where_cond(&x.ones_like()?, x)?.sqrt()?;
    empty.where_cond(&x.zeros_like()?, &root)
}

#[derive(Clone, Copy)]
struct Acos;

/// Floor of `1 - x^2` in the derivative of acos: about the rounding of a cosine in f32.
const SINE_FLOOR: f64 = 1e-7;

impl Elementwise for Acos {
    const NAME: &'static str = "safe::acos";

    #[inline(always)]
    fn value<T: Real>(self, x: T) -> T {
        let one = T::ONE;
        if x > one {
            one.acos()
        } else if x < -one {
            (-one).acos()
        } else {
            x.acos()
        }
    }

    #[inline(always)]
    fn gradient<T: Real>(self, x: T, grad: T) -> T {
        let one = T::ONE;
        if x >= one || x <= -one {
            return T::ZERO;
        }
        let (square, floor) = ((one - x) * (one + x), T::from_f64(SINE_FLOOR));
        let square = if square < floor { floor } else { square };
        -grad / square.sqrt()
    }
}

/// The angle of a cosine, in radians. The argument is clamped to [-1, 1]; the gradient
/// `-1 / sqrt(1 - x^2)` is bounded by `1 - x^2 >= 1e-7` and is 0 at and beyond +-1. On devices other
/// than the CPU the values travel to the CPU and back.
///
/// # Shapes
/// Any; the result has the same.
///
/// # Errors
/// When the dtype is not a float.
pub fn acos(x: &Tensor) -> Result<Tensor> {
    cpu::float(Acos::NAME, x)?;
    if x.device().is_cpu() {
        return elementwise(x, Acos);
    }
    let wide = x.to_dtype(candle::DType::F32)?.to_device(&Device::Cpu)?;
    elementwise(&wide, Acos)?
        .to_device(x.device())?
        .to_dtype(x.dtype())
}

/// Euclidean norm, scaled by the largest magnitude so that squares neither overflow nor vanish.
#[inline(always)]
fn norm<T: Real>(x: &[T]) -> T {
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
            *out = norm(x);
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
    rows::check(Norm::NAME, x)?;
    if x.device().is_cpu() {
        rows::apply::<Norm>(x)
    } else {
        composed_norm(x)
    }
}

fn composed_norm(x: &Tensor) -> Result<Tensor> {
    composed_sqrt(&x.sqr()?.sum(D::Minus1)?)
}

#[derive(Clone, Copy)]
struct Normalize;

impl RowFn for Normalize {
    const NAME: &'static str = "safe::normalize_last_dim";
    const KIND: Kind = Kind::Row;

    #[inline(always)]
    fn forward<T: Real>(x: &[T], out: &mut [T]) {
        let norm = norm(x);
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
        let norm = norm(x);
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
    rows::check(Normalize::NAME, x)?;
    if x.device().is_cpu() {
        rows::apply::<Normalize>(x)
    } else {
        composed_normalize(x)
    }
}

fn composed_normalize(x: &Tensor) -> Result<Tensor> {
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
            *d = dy * (x - total).exp();
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
    rows::check(LogSumExp::NAME, x)?;
    if x.device().is_cpu() {
        rows::apply::<LogSumExp>(x)
    } else {
        composed_log_sum_exp(x)
    }
}

fn composed_log_sum_exp(x: &Tensor) -> Result<Tensor> {
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
            *out = largest(x);
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
    rows::check(Max::NAME, x)?;
    if x.device().is_cpu() {
        rows::apply::<Max>(x)
    } else {
        composed_max(x)
    }
}

fn composed_max(x: &Tensor) -> Result<Tensor> {
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
            *o = (x - total).exp();
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
    rows::check(Softmax::NAME, x)?;
    if x.device().is_cpu() {
        rows::apply::<Softmax>(x)
    } else {
        composed_softmax(x)
    }
}

fn composed_softmax(x: &Tensor) -> Result<Tensor> {
    let top = x.max_keepdim(D::Minus1)?.detach();
    let empty = top.eq(f32::NEG_INFINITY)?;
    let shift = empty.where_cond(&top.zeros_like()?, &top)?;
    let e = x.broadcast_sub(&shift)?.exp()?;
    let sum = e.sum_keepdim(D::Minus1)?;
    e.broadcast_div(&empty.where_cond(&sum.ones_like()?, &sum)?)
}

#[derive(Clone, Copy)]
struct ClampUnit;

impl Elementwise for ClampUnit {
    const NAME: &'static str = "pairwise::cosine";

    #[inline(always)]
    fn value<T: Real>(self, x: T) -> T {
        let one = T::ONE;
        if x > one {
            one
        } else if x < -one {
            -one
        } else {
            x
        }
    }

    #[inline(always)]
    fn gradient<T: Real>(self, _x: T, grad: T) -> T {
        grad
    }
}

/// Clamps to [-1, 1] and passes the gradient through: for values that leave the interval by rounding.
pub(crate) fn clamp_unit(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() {
        return elementwise(x, ClampUnit);
    }
    let clamped = x.detach().clamp(-1.0, 1.0)?;
    x + (clamped - x.detach())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::Var;

    type Unary = fn(&Tensor) -> Result<Tensor>;

    /// The composed forms, which other devices use, agree with the CPU's own in value and gradient,
    /// at the bad points too.
    #[test]
    fn composed_forms_agree() -> Result<()> {
        let low = f64::NEG_INFINITY;
        let x = Tensor::new(
            &[
                [0.0, 0.0, 0.0],
                [1.0, -2.0, 1.0],
                [3.0, 3.0, 0.5],
                [1e3, -1e3, 1e3],
            ],
            &Device::Cpu,
        )?;
        let masked = Tensor::new(&[[low, low, low], [low, 1.0, 2.0]], &Device::Cpu)?;
        let cases: [(&str, &Tensor, Unary, Unary); 10] = [
            ("sqrt", &x, sqrt, composed_sqrt),
            ("norm", &x, norm_last_dim, composed_norm),
            ("normalize", &x, normalize_last_dim, composed_normalize),
            (
                "log_sum_exp",
                &x,
                log_sum_exp_last_dim,
                composed_log_sum_exp,
            ),
            (
                "log_sum_exp masked",
                &masked,
                log_sum_exp_last_dim,
                composed_log_sum_exp,
            ),
            ("max", &x, max_last_dim, composed_max),
            ("softmax", &x, softmax_last_dim, composed_softmax),
            (
                "softmax masked",
                &masked,
                softmax_last_dim,
                composed_softmax,
            ),
            ("relu", &x, crate::relu, crate::activation::composed_relu),
            (
                "softplus",
                &x,
                crate::softplus,
                crate::activation::composed_softplus,
            ),
        ];
        for (name, x, ours, theirs) in cases {
            let var = Var::from_tensor(x)?;
            let (a, b) = (ours(&var)?, theirs(&var)?);
            let weight = Tensor::arange(1f64, a.elem_count() as f64 + 1.0, &Device::Cpu)?;
            let weight = weight.reshape(a.shape())?;
            let grad = |y: &Tensor| -> Result<Vec<f64>> {
                let grads = y.mul(&weight)?.sum_all()?.backward()?;
                grads.get(&var).unwrap().flatten_all()?.to_vec1()
            };
            let pairs = [
                (
                    a.flatten_all()?.to_vec1::<f64>()?,
                    b.flatten_all()?.to_vec1::<f64>()?,
                ),
                (grad(&a)?, grad(&b)?),
            ];
            for (ours, theirs) in pairs {
                for (a, b) in ours.iter().zip(&theirs) {
                    assert!(
                        a == b || (a - b).abs() < 1e-12 * a.abs().max(1.0),
                        "{name}: {ours:?} {theirs:?}"
                    );
                }
            }
        }
        Ok(())
    }
}
