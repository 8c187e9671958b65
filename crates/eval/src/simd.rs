//! Loops compiled for the instruction set found at run time.

/// A loop body; a type of its own because a closure passed to pulp as it is reaches the dispatched function through a
/// shim that is not inlined, and so is compiled for the baseline instructions.
struct Body<F>(F);

impl<R, F: FnMut() -> R> pulp::WithSimd for Body<F> {
    type Output = R;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(mut self, _simd: S) -> R {
        (self.0)()
    }
}

/// Runs `f` compiled for the widest vectors of this CPU. `f` must be marked `#[inline(always)]`, and so must everything
/// hot that it calls.
#[inline(always)]
pub(crate) fn run<R>(f: impl FnMut() -> R) -> R {
    pulp::Arch::new().dispatch(Body(f))
}

/// Lanes that are summed side by side; the order of summation is the same on every machine.
const LANES: usize = 16;

/// a.b in f64 of two rows of f32: each product is exact, so that only the sum rounds.
#[inline(always)]
fn dot_body(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f64; LANES];
    let (a_parts, a_rest) = a.as_chunks::<LANES>();
    let (b_parts, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_parts.iter().zip(b_parts) {
        for l in 0..LANES {
            sums[l] += f64::from(x[l]) * f64::from(y[l]);
        }
    }
    let rest: f64 = a_rest
        .iter()
        .zip(b_rest)
        .map(|(&x, &y)| f64::from(x) * f64::from(y))
        .sum();
    sums.iter().sum::<f64>() + rest
}

/// a.b in f64.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    run(
        #[inline(always)]
        || dot_body(a, b),
    )
}

/// a.b of f64 rows.
pub(crate) fn dot64(a: &[f64], b: &[f64]) -> f64 {
    run(
        #[inline(always)]
        || {
            let mut sums = [0.0f64; LANES];
            let (a_parts, a_rest) = a.as_chunks::<LANES>();
            let (b_parts, b_rest) = b.as_chunks::<LANES>();
            for (x, y) in a_parts.iter().zip(b_parts) {
                for l in 0..LANES {
                    sums[l] += x[l] * y[l];
                }
            }
            let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
            sums.iter().sum::<f64>() + rest
        },
    )
}

/// The largest of `values`, -inf when there is none; NaN is passed over.
#[inline(always)]
pub(crate) fn largest(values: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; 32];
    let (parts, rest) = values.as_chunks::<32>();
    for part in parts {
        for (b, &v) in best.iter_mut().zip(part) {
            *b = if v > *b { v } else { *b };
        }
    }
    let all = best.iter().chain(rest).copied();
    all.fold(f32::NEG_INFINITY, |b, v| if v > b { v } else { b })
}

/// How many of `values` are above `high`, and how many above `low`.
#[inline(always)]
pub(crate) fn count_above(values: &[f32], high: f32, low: f32) -> (u32, u32) {
    let (mut above_high, mut above_low) = ([0u32; 32], [0u32; 32]);
    let (parts, rest) = values.as_chunks::<32>();
    for part in parts {
        for l in 0..32 {
            above_high[l] += u32::from(part[l] > high);
            above_low[l] += u32::from(part[l] > low);
        }
    }
    for &v in rest {
        above_high[0] += u32::from(v > high);
        above_low[0] += u32::from(v > low);
    }
    (above_high.iter().sum(), above_low.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_to_the_plain_loops() {
        let values: Vec<f32> = (0..1000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e7 - 0.8)
            .collect();
        for n in [0, 1, 15, 16, 31, 32, 33, 100, 1000] {
            let v = &values[..n];
            let plain: f64 = v.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            assert!((dot(v, v) - plain).abs() <= 1e-12 * plain.max(1.0));
            let wide: Vec<f64> = v.iter().map(|&x| f64::from(x)).collect();
            assert_eq!(dot64(&wide, &wide), dot(v, v));
            let count = |t: f32| v.iter().filter(|&&x| x > t).count() as u32;
            assert_eq!(count_above(v, 0.3, -0.1), (count(0.3), count(-0.1)));
            assert_eq!(
                largest(v),
                v.iter().copied().fold(f32::NEG_INFINITY, f32::max)
            );
        }
    }
}
