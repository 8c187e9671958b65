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
pub(crate) fn elements<T: Real>(x: &[T], f: impl Fn(T) -> T) -> T {
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

/// [`lanes`] of the elements of two slices at equal places, as far as both go.
#[inline(always)]
pub(crate) fn pairs<T: Real>(x: &[T], y: &[T], f: impl Fn(T, T) -> T) -> T {
    let n = x.len().min(y.len());
    let mut acc = [T::ZERO; LANES];
    let ((xs, x), (ys, y)) = (x[..n].as_chunks::<LANES>(), y[..n].as_chunks::<LANES>());
    for (x, y) in xs.iter().zip(ys) {
        for l in 0..LANES {
            acc[l] += f(x[l], y[l]);
        }
    }
    if !x.is_empty() {
        let mut last = [T::ZERO; LANES];
        for ((value, &x), &y) in last.iter_mut().zip(x).zip(y) {
            *value = f(x, y);
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

/// The largest element, NaN if there is one, in lanes.
#[inline(always)]
pub(crate) fn largest<T: Real>(x: &[T]) -> T {
    let mut best = [T::NEG_INFINITY; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut last = [T::NEG_INFINITY; LANES];
    last[..rest.len()].copy_from_slice(rest);
    for chunk in whole.iter().chain(std::iter::once(&last)) {
        for l in 0..LANES {
            // A NaN takes the place of everything; once there, it stays.
            let keeps = (best[l] >= chunk[l]) | best[l].is_nan();
            best[l] = if keeps { best[l] } else { chunk[l] };
        }
    }
    let mut top = T::NEG_INFINITY;
    for v in best {
        if v > top || v.is_nan() {
            top = v;
        }
        if top.is_nan() {
            break;
        }
    }
    top
}

/// The sum of products of two slices of equal length.
#[inline(always)]
pub(crate) fn dot<T: Real>(x: &[T], y: &[T]) -> T {
    pairs(
        x,
        y,
        #[inline(always)]
        |x, y| x * y,
    )
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
    pairs(
        x,
        y,
        #[inline(always)]
        |x, y| (x - y) * (x - y),
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_found_anywhere_and_not_a_number_wins() {
        for len in [1, 2, 31, 32, 33, 64, 100] {
            for at in 0..len {
                let mut x: Vec<f32> = (0..len).map(|i| -1.0 - (i * 7 % 13) as f32).collect();
                assert!(largest(&x) < 0.0);
                x[at] = 2.0;
                assert_eq!(largest(&x), 2.0);
                x[len - 1 - at] = f32::NAN;
                assert!(largest(&x).is_nan(), "{len} {at}");
            }
            assert_eq!(largest(&vec![f64::NEG_INFINITY; len]), f64::NEG_INFINITY);
        }
    }
}
