//! Ops that work row by row over the last dimension, written once around their inner loops.

use crate::cpu::{self, Real, View, for_float};
use candle::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Shape of a row's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One number a row.
    Scalar,
    /// As many numbers as the row has.
    Row,
}

/// A function of one row, with its gradient.
pub(crate) trait RowFn: Copy + Send + Sync + 'static {
    const NAME: &'static str;
    const KIND: Kind;
    /// `out` has one element or as many as the row, by [`RowFn::KIND`].
    fn forward<T: Real>(x: &[T], out: &mut [T]);
    /// Writes the gradient of the row from the row, its result and the result's gradient.
    fn backward<T: Real>(x: &[T], y: &[T], dy: &[T], dx: &mut [T]);
}

struct Rows<F>(std::marker::PhantomData<F>);

/// With fewer elements than this the calling thread does the work itself: to wake a worker takes some ten microseconds, on a virtual
/// machine up to a hundred, and so long does a pass over as many take.
pub(crate) const ALONE: usize = 1 << 16;

/// Rows for one task, so that it handles a few thousand elements.
fn rows_per_task(width: usize) -> usize {
    (1 << 12) / width.max(1) + 1
}

impl<F: RowFn> CustomOp1 for Rows<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        let mut dims = l.dims().to_vec();
        let Some(width) = dims.last().copied() else {
            candle::bail!("{}: expected at least one dimension", F::NAME);
        };
        let out_width = match F::KIND {
            Kind::Row => width,
            Kind::Scalar => {
                dims.pop();
                1
            }
        };
        for_float!(x.dtype(), F::NAME, T => {
            let x = cpu::operand::<T>(F::NAME, x, l)?;
            let mut out = vec![T::ZERO; x.len() / width * out_width];
            out.par_chunks_mut(out_width)
                .zip(x.par_chunks(width))
                .with_min_len(rows_per_task(width))
                .for_each(|(out, x)| crate::simd::run(#[inline(always)] || F::forward(x, out)));
            Ok((T::to_cpu_storage_owned(out), Shape::from(dims)))
        })
    }

    fn bwd(&self, x: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let width = x.dim(candle::D::Minus1)?;
        let out_width = match F::KIND {
            Kind::Row => width,
            Kind::Scalar => 1,
        };
        for_float!(x.dtype(), F::NAME, T => {
            let (xs, ys, dys) = (View::of(x), View::of(res), View::of(&grad));
            let xs = xs.slice::<T>(F::NAME)?;
            let (ys, dys) = (ys.slice::<T>(F::NAME)?, dys.slice::<T>(F::NAME)?);
            // A row function writes its whole row.
            let mut dx: Vec<T> = cpu::unwritten(xs.len());
            dx.par_chunks_mut(width)
                .zip(xs.par_chunks(width))
                .zip(ys.par_chunks(out_width))
                .zip(dys.par_chunks(out_width))
                .with_min_len(rows_per_task(width))
                .for_each(|(((dx, x), y), dy)| {
                    crate::simd::run(#[inline(always)] || F::backward(x, y, dy, dx));
                });
            Ok(Some(cpu::tensor(dx, x.shape())?))
        })
    }
}

/// Applies a row function to a CPU tensor.
pub(crate) fn apply<F: RowFn>(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?
        .apply_op1(Rows::<F>(std::marker::PhantomData))
}

/// Checks the operand of a row function.
pub(crate) fn check(op: &'static str, x: &Tensor) -> Result<()> {
    cpu::float(op, x)?;
    if x.rank() == 0 {
        candle::bail!("{op}: expected at least one dimension, got a scalar");
    }
    cpu::not_empty(op, "input", x)
}

/// `log(sum(exp(x)))` without overflow; negative infinity when every element is.
#[inline(always)]
pub(crate) fn log_sum_exp<T: Real>(x: &[T]) -> T {
    let top = crate::reduce::largest(x);
    if top.is_infinite() || top.is_nan() {
        return top;
    }
    let sum = crate::reduce::elements(
        x,
        #[inline(always)]
        |x| (x - top).fast_exp(),
    );
    top + sum.ln()
}
