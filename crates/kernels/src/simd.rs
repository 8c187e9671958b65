//! Loops compiled for the instruction set in use.

use crate::isa::{self, InstructionSet};
use pulp::Simd;
pub(crate) use pulp::WithSimd;

/// A loop body; a type of its own because a closure passed to pulp as it is reaches the dispatched
/// function through a shim that is not inlined, and so is compiled for the baseline instructions.
struct Body<F>(F);

impl<R, F: FnMut() -> R> WithSimd for Body<F> {
    type Output = R;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _simd: S) -> R {
        (self.0)()
    }
}

/// Runs `f` compiled for the instruction set in use. `f` must be marked `#[inline(always)]`, and so
/// must everything hot that it calls.
#[inline(always)]
pub(crate) fn run<R>(f: impl FnMut() -> R) -> R {
    with(Body(f))
}

/// Runs `job` for the instruction set in use, with its vectors in hand.
#[inline(always)]
pub(crate) fn with<W: WithSimd>(job: W) -> W::Output {
    // Each set is asked for by name: pulp's own dispatch knows AVX2 only with a feature that other
    // users of pulp in the build do not turn on.
    let set = isa::current();
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        if set == InstructionSet::Avx512
            && let Some(simd) = pulp::x86::V4::try_new()
        {
            return Simd::vectorize(simd, job);
        }
        if set == InstructionSet::Avx2
            && let Some(simd) = pulp::x86::V3::try_new()
        {
            return Simd::vectorize(simd, job);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if set == InstructionSet::Neon
        && let Some(simd) = pulp::aarch64::Neon::try_new()
    {
        return Simd::vectorize(simd, job);
    }
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = (set, InstructionSet::Scalar);
    Simd::vectorize(pulp::Scalar::new(), job)
}

/// The vector that starts at element `at`.
#[inline(always)]
pub(crate) fn load<S: Simd>(data: &[f32], at: usize) -> S::f32s {
    S::as_simd_f32s(&data[at..at + S::F32_LANES]).0[0]
}

/// Writes a vector from element `at` on.
#[inline(always)]
pub(crate) fn store<S: Simd>(data: &mut [f32], at: usize, value: S::f32s) {
    S::as_mut_simd_f32s(&mut data[at..at + S::F32_LANES]).0[0] = value;
}
