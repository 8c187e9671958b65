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
/// hot that it calls. Products and sums are not fused, so every CPU gives the same values.
#[inline(always)]
pub(super) fn run<R>(f: impl FnMut() -> R) -> R {
    pulp::Arch::new().dispatch(Body(f))
}
