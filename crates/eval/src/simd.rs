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
    with(Body(f))
}

/// Runs `job` with the widest vectors of this CPU in hand.
#[inline(always)]
pub(crate) fn with<W: pulp::WithSimd>(job: W) -> W::Output {
    // Each set is asked for by name: pulp's own dispatch knows AVX2 only with a feature that other users of pulp in the
    // build do not turn on.
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        if let Some(simd) = pulp::x86::V4::try_new() {
            return pulp::Simd::vectorize(simd, job);
        }
        if let Some(simd) = pulp::x86::V3::try_new() {
            return pulp::Simd::vectorize(simd, job);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if let Some(simd) = pulp::aarch64::Neon::try_new() {
        return pulp::Simd::vectorize(simd, job);
    }
    pulp::Simd::vectorize(pulp::Scalar::new(), job)
}

/// Vectors of AVX-512 for code that is written with its instructions.
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512 {
    use std::arch::x86_64::__m512;

    #[inline(always)]
    pub(crate) fn vector(from: &[f32; 16]) -> __m512 {
        // SAFETY: both are 64 bytes for which every pattern is a value.
        unsafe { std::mem::transmute(*from) }
    }

    #[inline(always)]
    pub(crate) fn numbers(from: __m512) -> [f32; 16] {
        // SAFETY: both are 64 bytes for which every pattern is a value.
        unsafe { std::mem::transmute(from) }
    }
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

/// The smallest of `values`, inf when there is none; NaN is passed over.
#[inline(always)]
pub(crate) fn smallest(values: &[f32]) -> f32 {
    let mut best = [f32::INFINITY; 32];
    let (parts, rest) = values.as_chunks::<32>();
    for part in parts {
        for (b, &v) in best.iter_mut().zip(part) {
            *b = if v < *b { v } else { *b };
        }
    }
    let all = best.iter().chain(rest).copied();
    all.fold(f32::INFINITY, |b, v| if v < b { v } else { b })
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
            assert_eq!(
                largest(v),
                v.iter().copied().fold(f32::NEG_INFINITY, f32::max)
            );
            assert_eq!(smallest(v), v.iter().copied().fold(f32::INFINITY, f32::min));
        }
    }
}
