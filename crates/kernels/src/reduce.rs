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
    fold(acc)
}

/// The sum of partial sums, pairwise.
#[inline(always)]
fn fold<T: Real>(mut acc: [T; LANES]) -> T {
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

/// [`lanes`] of the elements of one slice: whole arrays need no bounds checks, and the partial sums
/// stay in registers.
#[inline(always)]
fn elements<T: Real>(x: &[T], f: impl Fn(T) -> T) -> T {
    let mut acc = [T::ZERO; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for l in 0..LANES {
            acc[l] += f(chunk[l]);
        }
    }
    if !rest.is_empty() {
        let mut last = [T::ZERO; LANES];
        for (value, &x) in last.iter_mut().zip(rest) {
            *value = f(x);
        }
        for l in 0..LANES {
            acc[l] += last[l];
        }
    }
    fold(acc)
}

/// The sum of a slice.
#[inline(always)]
pub(crate) fn sum<T: Real>(x: &[T]) -> T {
    elements(
        x,
        #[inline(always)]
        |x| x,
    )
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
    elements(
        x,
        #[inline(always)]
        |x| (x - center) * (x - center),
    )
}

/// The squared Euclidean distance of two slices of equal length.
#[inline(always)]
pub(crate) fn distance<T: Real>(x: &[T], y: &[T]) -> T {
    let n = x.len().min(y.len());
    let (x, y) = (&x[..n], &y[..n]);
    lanes(n, |i| (x[i] - y[i]) * (x[i] - y[i]))
}

/// Sums of every channel of maps (images, channels, pixels): over the images, in order, of the
/// planes' sums.
pub(crate) fn channels<T: Real>(maps: &[T], channels: usize, pixels: usize) -> Vec<T> {
    use rayon::prelude::*;
    (0..channels)
        .into_par_iter()
        .map(|channel| {
            let mut total = T::ZERO;
            for plane in maps.chunks_exact(pixels).skip(channel).step_by(channels) {
                total += crate::simd::run(
                    #[inline(always)]
                    || sum(plane),
                );
            }
            total
        })
        .collect()
}
