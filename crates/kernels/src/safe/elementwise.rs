//! Elementwise: roots, magnitudes and arc functions.

use crate::activation::{Elementwise, elementwise};
use crate::cpu::{self, Real};
use candle::{DType, Device, Result, Tensor};

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
    if cpu::native(x) {
        elementwise(x, Sqrt)
    } else {
        composed_sqrt(x)
    }
}

pub(super) fn composed_sqrt(x: &Tensor) -> Result<Tensor> {
    // Two masks: with the outer alone the gradient would be 0 * inf.
    let empty = x.le(0.0)?;
    let root = empty.where_cond(&x.ones_like()?, x)?.sqrt()?;
    empty.where_cond(&x.zeros_like()?, &root)
}

#[derive(Clone, Copy)]
struct Abs;

impl Elementwise for Abs {
    const NAME: &'static str = "safe::abs";

    #[inline(always)]
    fn value<T: Real>(self, x: T) -> T {
        x.abs()
    }

    #[inline(always)]
    fn gradient<T: Real>(self, x: T, grad: T) -> T {
        if x > T::ZERO {
            grad
        } else if x < T::ZERO {
            -grad
        } else {
            T::ZERO
        }
    }
}

/// The magnitude; its gradient is the sign, 0 at 0 (candle's own is 1 there).
///
/// # Shapes
/// Any; the result has the same.
///
/// # Errors
/// When the dtype is not a float.
pub fn abs(x: &Tensor) -> Result<Tensor> {
    cpu::float(Abs::NAME, x)?;
    if cpu::native(x) {
        elementwise(x, Abs)
    } else {
        composed_abs(x)
    }
}

pub(super) fn composed_abs(x: &Tensor) -> Result<Tensor> {
    let zeros = x.zeros_like()?;
    let positive = x.gt(0.0)?.where_cond(x, &zeros)?;
    positive - x.lt(0.0)?.where_cond(x, &zeros)?
}

/// Floor of `1 - x^2` in the derivatives of acos and asin: about the rounding of a cosine in f32.
const SINE_FLOOR: f64 = 1e-7;

/// The derivative of asin, bounded; 0 at and beyond the ends.
#[inline(always)]
fn arc_slope<T: Real>(x: T) -> T {
    let one = T::ONE;
    if x >= one || x <= -one {
        return T::ZERO;
    }
    let (square, floor) = ((one - x) * (one + x), T::from_f64(SINE_FLOOR));
    one / (if square < floor { floor } else { square }).sqrt()
}

/// `x` clamped to [-1, 1]; NaN stays.
#[inline(always)]
fn unit<T: Real>(x: T) -> T {
    if x > T::ONE {
        T::ONE
    } else if x < -T::ONE {
        -T::ONE
    } else {
        x
    }
}

/// An elementwise function for which other devices have no operation: by way of the CPU.
fn arc<F: Elementwise>(x: &Tensor, f: F) -> Result<Tensor> {
    cpu::float(F::NAME, x)?;
    if cpu::native(x) {
        return elementwise(x, f);
    }
    let wide = match x.dtype() {
        DType::F64 => x.clone(),
        _ => x.to_dtype(DType::F32)?,
    };
    elementwise(&wide.to_device(&Device::Cpu)?, f)?
        .to_device(x.device())?
        .to_dtype(x.dtype())
}

#[derive(Clone, Copy)]
struct Acos;

impl Elementwise for Acos {
    const NAME: &'static str = "safe::acos";

    #[inline(always)]
    fn value<T: Real>(self, x: T) -> T {
        unit(x).acos()
    }

    #[inline(always)]
    fn gradient<T: Real>(self, x: T, grad: T) -> T {
        -grad * arc_slope(x)
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
    arc(x, Acos)
}

#[derive(Clone, Copy)]
struct Asin;

impl Elementwise for Asin {
    const NAME: &'static str = "safe::asin";

    #[inline(always)]
    fn value<T: Real>(self, x: T) -> T {
        T::from_f64(unit(x).to_f64().asin())
    }

    #[inline(always)]
    fn gradient<T: Real>(self, x: T, grad: T) -> T {
        grad * arc_slope(x)
    }
}

/// The angle of a sine, in radians; clamped and bounded as [`acos`].
///
/// # Shapes
/// Any; the result has the same.
///
/// # Errors
/// When the dtype is not a float.
pub fn asin(x: &Tensor) -> Result<Tensor> {
    arc(x, Asin)
}

#[derive(Clone, Copy)]
struct Atan;

impl Elementwise for Atan {
    const NAME: &'static str = "safe::atan";

    #[inline(always)]
    fn value<T: Real>(self, x: T) -> T {
        T::from_f64(x.to_f64().atan())
    }

    #[inline(always)]
    fn gradient<T: Real>(self, x: T, grad: T) -> T {
        // Beyond 1 by the reciprocal: the square of a large x would overflow to a wrong 0 too early.
        if x.abs() > T::ONE {
            let inverse = T::ONE / x;
            grad * (inverse * inverse / (T::ONE + inverse * inverse))
        } else {
            grad / (T::ONE + x * x)
        }
    }
}

/// The angle of a tangent, in radians, within +-pi / 2. On devices other than the CPU the values
/// travel to the CPU and back.
///
/// # Shapes
/// Any; the result has the same.
///
/// # Errors
/// When the dtype is not a float.
pub fn atan(x: &Tensor) -> Result<Tensor> {
    arc(x, Atan)
}

#[derive(Clone, Copy)]
struct ClampUnit;

impl Elementwise for ClampUnit {
    const NAME: &'static str = "pairwise::cosine";

    #[inline(always)]
    fn value<T: Real>(self, x: T) -> T {
        unit(x)
    }

    #[inline(always)]
    fn gradient<T: Real>(self, _x: T, grad: T) -> T {
        grad
    }
}

/// Clamps to [-1, 1] and passes the gradient through: for values that leave the interval by rounding.
pub(crate) fn clamp_unit(x: &Tensor) -> Result<Tensor> {
    if cpu::native(x) {
        return elementwise(x, ClampUnit);
    }
    let clamped = x.detach().clamp(-1.0, 1.0)?;
    x + (clamped - x.detach())?
}
