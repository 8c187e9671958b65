//! Matrix products on the instruction set in use.
//!
//! The crate `gemm` picks the widest set itself and offers no say in it. Its parts are public, though:
//! the blocked algorithm and the inner kernels of each set, from which the lower ones are put together
//! here.

use crate::cpu::Real;
use crate::isa::{self, InstructionSet};
use candle::DType;
use gemm::Parallelism;
use gemm_common::gemm::gemm_basic_generic;
use gemm_common::simd::{MixedSimd, Scalar};

/// A matrix as `gemm` takes it: element (i, j) lies at `i * rs + j * cs`.
#[derive(Clone, Copy)]
pub(crate) struct Raw<P> {
    pub(crate) data: P,
    pub(crate) rs: usize,
    pub(crate) cs: usize,
}

/// `out = a b`, or `out += a b` with `accumulate`; `sizes` are rows and columns of `out` and the length
/// of the sums.
///
/// # Safety
/// The three matrices must lie within memory that is valid for reading (`out`: and writing, by nobody
/// else meanwhile).
pub(crate) unsafe fn gemm<T: Real>(
    sizes: (usize, usize, usize),
    out: Raw<*mut T>,
    a: Raw<*const T>,
    b: Raw<*const T>,
    accumulate: bool,
    parallelism: Parallelism,
) {
    // SAFETY: the caller's promise.
    unsafe { gemm_on(isa::current(), sizes, out, a, b, accumulate, parallelism) }
}

/// [`gemm`] on a given set, which this machine must have.
///
/// # Safety
/// As [`gemm`].
unsafe fn gemm_on<T: Real>(
    set: InstructionSet,
    (m, n, k): (usize, usize, usize),
    out: Raw<*mut T>,
    a: Raw<*const T>,
    b: Raw<*const T>,
    accumulate: bool,
    parallelism: Parallelism,
) {
    /// The algorithm with the inner kernels of module `$set` for `$t`, whose vectors hold `$lanes`.
    macro_rules! generic {
        ($simd:expr, $crate_:ident, $set:ident, $t:ident, $lanes:literal) => {{
            use $crate_::microkernel::$set::$t::{H_M, H_N, H_UKR, MR_DIV_N, NR, UKR};
            // SAFETY: the caller's promise; `$t` is `T`, and the machine has the set: `$simd` is the
            // proof.
            unsafe {
                gemm_basic_generic::<
                    _,
                    $t,
                    $lanes,
                    { MR_DIV_N * $lanes },
                    NR,
                    MR_DIV_N,
                    H_M,
                    H_N,
                >(
                    $simd,
                    m,
                    n,
                    k,
                    out.data.cast::<$t>(),
                    out.cs as isize,
                    out.rs as isize,
                    accumulate,
                    a.data.cast::<$t>(),
                    a.cs as isize,
                    a.rs as isize,
                    b.data.cast::<$t>(),
                    b.cs as isize,
                    b.rs as isize,
                    1.0,
                    1.0,
                    false,
                    false,
                    false,
                    |a, b, c| a * b + c,
                    &UKR,
                    &H_UKR,
                    false,
                    parallelism,
                )
            }
        }};
    }

    if !isa::is_widest(set) {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        if set == InstructionSet::Avx2 {
            use gemm_common::simd::V3;
            match T::DTYPE {
                DType::F32 => {
                    if let Some(simd) = <V3 as MixedSimd<f32, f32, f32, f32>>::try_new() {
                        generic!(simd, gemm_f32, fma, f32, 8);
                        return;
                    }
                }
                DType::F64 => {
                    if let Some(simd) = <V3 as MixedSimd<f64, f64, f64, f64>>::try_new() {
                        generic!(simd, gemm_f64, fma, f64, 4);
                        return;
                    }
                }
                _ => (),
            }
        }
        match T::DTYPE {
            DType::F32 => {
                generic!(Scalar, gemm_f32, scalar, f32, 1);
                return;
            }
            DType::F64 => {
                generic!(Scalar, gemm_f64, scalar, f64, 1);
                return;
            }
            _ => (),
        }
    }
    // SAFETY: the caller's promise.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.data,
            out.cs as isize,
            out.rs as isize,
            accumulate,
            a.data,
            a.cs as isize,
            a.rs as isize,
            b.data,
            b.cs as isize,
            b.rs as isize,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers: exact on every set, in either type.
    fn values<T: Real>(n: usize, seed: usize) -> Vec<T> {
        (0..n)
            .map(|i| T::from_f64(((i * 31 + seed) % 11) as f64 - 5.0))
            .collect()
    }

    fn products<T: Real>() {
        // Sizes around the blocks of every kernel, vectors, and long sums.
        let sizes = [
            (1, 1, 1),
            (5, 7, 3),
            (1, 33, 20),
            (40, 1, 19),
            (49, 50, 17),
            (16, 9, 600),
            (65, 130, 40),
        ];
        for set in isa::available() {
            for (m, n, k) in sizes {
                for (accumulate, turned) in [(false, false), (true, true)] {
                    let (a, b) = (values::<T>(m * k, 1), values::<T>(k * n, 2));
                    let start = values::<T>(m * n, 3);
                    let mut out = start.clone();
                    let a_view = match turned {
                        true => (1, m),
                        false => (k, 1),
                    };
                    let view = |data, (rs, cs)| Raw { data, rs, cs };
                    let target = Raw {
                        data: out.as_mut_ptr(),
                        rs: n,
                        cs: 1,
                    };
                    // SAFETY: the three matrices lie within their vectors.
                    unsafe {
                        gemm_on(
                            set,
                            (m, n, k),
                            target,
                            view(a.as_ptr(), a_view),
                            view(b.as_ptr(), (n, 1)),
                            accumulate,
                            Parallelism::None,
                        );
                    }
                    for i in 0..m {
                        for j in 0..n {
                            let mut expected = if accumulate {
                                start[i * n + j]
                            } else {
                                T::ZERO
                            };
                            for l in 0..k {
                                expected += a[i * a_view.0 + l * a_view.1] * b[l * n + j];
                            }
                            assert!(
                                out[i * n + j] == expected,
                                "{set:?} {m} x {n} x {k}, element {i}, {j}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_set_multiplies_alike() {
        products::<f32>();
        products::<f64>();
    }
}
