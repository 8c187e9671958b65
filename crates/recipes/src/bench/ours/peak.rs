//! What the machine can do: fused multiply-adds in registers, on every thread at once.

use std::hint::black_box;
use std::time::Instant;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::bench::protocol::Peak;

/// Independent sums, enough to hide the latency of the multiply-adds.
const SUMS: usize = 16;
/// Multiply-adds of each sum in one go.
const STEPS: usize = 1 << 17;

struct Chains;

impl WithSimd for Chains {
    /// Floating point operations done.
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        // Neither number is known to the compiler, so that nothing is computed beforehand.
        let factor = simd.splat_f32s(black_box(0.999_9));
        let term = simd.splat_f32s(black_box(1e-4));
        let mut sums = [simd.splat_f32s(black_box(1.)); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = simd.mul_add_f32s(*sum, factor, term);
            }
        }
        let mut total = simd.splat_f32s(0.);
        for sum in sums {
            total = simd.add_f32s(total, sum);
        }
        black_box(simd.reduce_sum_f32s(total));
        (2 * SUMS * STEPS * S::F32_LANES) as f64
    }
}

/// The best of many short measurements: other programs only ever lower the figure.
pub(super) fn measure() -> Peak {
    let threads = rayon::current_num_threads();
    let mut best = 0f64;
    for _ in 0..40 {
        let start = Instant::now();
        let work: f64 = (0..threads)
            .into_par_iter()
            .with_max_len(1)
            .map(|_| Arch::new().dispatch(Chains))
            .sum();
        best = best.max(work / start.elapsed().as_secs_f64());
    }
    Peak { gflops: best / 1e9 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_core_does_more_than_one_operation_a_nanosecond() {
        let gflops = super::measure().gflops;
        assert!(gflops > 1. && gflops < 1e5, "{gflops}");
    }
}
