//! Sums over slices in a fixed order, in lanes that become vector registers.

use crate::cpu::Real;

/// Independent partial sums.
const LANES: usize = 32;

/// Adds up `f` of every index below `len`: lane by lane, then over the lanes.
#[inline(always)]
pub(crate) fn lanes<T: Real>(len: usize, f: impl Fn(usize) -> T) -> T {
    let mut acc = [T::ZERO; LANES];
    let whole = len / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (l, a) in acc.iter_mut().enumerate() {
            *a += f(start + l);
        }
    }
    for (l, a) in acc.iter_mut().enumerate().take(len - whole) {
        *a += f(whole + l);
    }
    let mut width = LANES / 2;
    while width > 0 {
        let (low, high) = acc.split_at_mut(width);
        for (a, b) in low.iter_mut().zip(high) {
            *a += *b;
        }
        width /= 2;
    }
    acc[0]
}

/// The sum of a slice.
#[inline(always)]
pub(crate) fn sum<T: Real>(x: &[T]) -> T {
    lanes(x.len(), |i| x[i])
}

/// The sum of products of two slices of equal length.
#[inline(always)]
pub(crate) fn dot<T: Real>(x: &[T], y: &[T]) -> T {
    let n = x.len().min(y.len());
    let (x, y) = (&x[..n], &y[..n]);
    lanes(n, |i| x[i] * y[i])
}

/// The sum of squared distances from `center`.
#[inline(always)]
pub(crate) fn squares<T: Real>(x: &[T], center: T) -> T {
    lanes(x.len(), |i| (x[i] - center) * (x[i] - center))
}

/// The squared Euclidean distance of two slices of equal length.
#[inline(always)]
pub(crate) fn distance<T: Real>(x: &[T], y: &[T]) -> T {
    let n = x.len().min(y.len());
    let (x, y) = (&x[..n], &y[..n]);
    lanes(n, |i| (x[i] - y[i]) * (x[i] - y[i]))
}
