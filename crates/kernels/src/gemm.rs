//! Matrix products over strided views, and shared output buffers written from several threads.

use crate::conv::turn;
use crate::cpu::Real;
use crate::lower_gemm::{self, Raw};
use crate::panel::{self, Panel};
use candle::DType;
use gemm::Parallelism;
use std::marker::PhantomData;

/// A read-only matrix: element (i, j) lies at `i * row_stride + j * col_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// True when every element of a rows x cols matrix with these strides lies within `len`.
fn fits(len: usize, rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> bool {
    rows == 0 || cols == 0 || (rows - 1) * row_stride + (cols - 1) * col_stride < len
}

impl<'a, T> Mat<'a, T> {
    pub(crate) fn new(
        data: &'a [T],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Self {
        assert!(
            fits(data.len(), rows, cols, row_stride, col_stride),
            "matrix view out of range"
        );
        Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride,
        }
    }

    /// Rows of length `cols`, `stride` elements apart.
    pub(crate) fn rows(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Self {
        Self::new(data, rows, cols, stride, 1)
    }

    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// A writable matrix view; see [`Mat`].
pub(crate) struct MatMut<'a, T> {
    data: *mut T,
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

impl<'a, T> MatMut<'a, T> {
    /// Rows of length `cols`, `stride` elements apart.
    pub(crate) fn rows(data: &'a mut [T], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(
            fits(data.len(), rows, cols, stride, 1),
            "matrix view out of range"
        );
        Self {
            data: data.as_mut_ptr(),
            rows,
            cols,
            row_stride: stride,
            col_stride: 1,
            lifetime: PhantomData,
        }
    }
}

/// A buffer whose disjoint parts are written by several tasks at once.
pub(crate) struct Shared<'a, T> {
    data: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer is only dereferenced through the unsafe methods below, whose callers promise
// that concurrent accesses are disjoint; T itself may be sent.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(data: &'a mut [T]) -> Self {
        Self {
            data: data.as_mut_ptr(),
            len: data.len(),
            lifetime: PhantomData,
        }
    }

    /// The part `start..start + len`.
    ///
    /// # Safety
    /// No other live reference may overlap that part.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        assert!(
            start <= self.len && len <= self.len - start,
            "part out of range"
        );
        // SAFETY: in bounds by the assertion, unique by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), len) }
    }

    /// A strided matrix that begins at `start`.
    ///
    /// # Safety
    /// No other live reference may touch the elements of that matrix.
    pub(crate) unsafe fn matrix(
        &self,
        start: usize,
        rows: usize,
        cols: usize,
        stride: usize,
    ) -> MatMut<'_, T> {
        assert!(
            start <= self.len && fits(self.len - start, rows, cols, stride, 1),
            "matrix view out of range"
        );
        MatMut {
            // SAFETY: start lies within the buffer by the assertion.
            data: unsafe { self.data.add(start) },
            rows,
            cols,
            row_stride: stride,
            col_stride: 1,
            lifetime: PhantomData,
        }
    }
}

/// Who shares the work of one product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The calling thread alone: the caller has split the work already.
    One,
    /// All threads of rayon's pool.
    All,
}

/// Longest sums and largest first matrix of products that are not worth packing for.
const DEEPEST: usize = 640;
const LARGEST: usize = 1 << 13;
/// Longest distance between rows that many rows are written at.
const FARTHEST: usize = 1 << 10;

/// `out = a b`, or `out += a b` with `accumulate`.
pub(crate) fn product<T: Real>(
    out: MatMut<'_, T>,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    accumulate: bool,
    threads: Threads,
) {
    let rows = a.rows;
    product_of(rows, out, a, b, accumulate, threads);
}

/// [`product`] of a block of a matrix of `rows` rows: how sums are formed depends on those, so that it does not
/// depend on the blocks, which may be as many as there are threads.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the product uses up its unique view"
)]
pub(crate) fn product_of<T: Real>(
    rows: usize,
    out: MatMut<'_, T>,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    accumulate: bool,
    threads: Threads,
) {
    assert!(
        out.rows == a.rows && out.cols == b.cols && a.cols == b.rows,
        "product of mismatched matrices"
    );
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    if T::DTYPE == DType::F32
        && threads == Threads::One
        && (out.col_stride, b.col_stride) == (1, 1)
        && a.cols <= DEEPEST
        && rows * a.cols <= LARGEST
        && (rows <= 64 || out.row_stride <= FARTHEST)
    {
        // SAFETY: T is f32; the views were bounds-checked when made, the dimensions agree by the
        // assertion, and `out` is unique (a mutable borrow or a promise of the caller of
        // `Shared::matrix`).
        unsafe {
            panel::multiply(Panel {
                rows: out.rows,
                depth: a.cols,
                columns: out.cols,
                a: (a.data.as_ptr().cast(), a.row_stride, a.col_stride),
                b: (b.data.as_ptr().cast(), b.row_stride),
                out: (out.data.cast(), out.row_stride),
                accumulate,
            });
        }
        return;
    }
    fn raw<P>(data: P, rs: usize, cs: usize) -> Raw<P> {
        Raw { data, rs, cs }
    }
    // SAFETY: the views were bounds-checked when made, the dimensions agree by the assertion, and
    // `out` is unique (a mutable borrow or a promise of the caller of `Shared::matrix`).
    unsafe {
        lower_gemm::gemm(
            (out.rows, out.cols, a.cols),
            raw(out.data, out.row_stride, out.col_stride),
            raw(a.data.as_ptr(), a.row_stride, a.col_stride),
            raw(b.data.as_ptr(), b.row_stride, b.col_stride),
            accumulate,
            parallelism,
        );
    }
}

/// Transposes a rows x cols matrix, row stride `stride`, into `out` (cols x rows, row stride `out_stride`).
pub(crate) fn transpose<T: Real>(
    src: &[T],
    rows: usize,
    cols: usize,
    stride: usize,
    out: &mut [T],
    out_stride: usize,
) {
    // Blocks keep both sides' cache lines alive.
    const BLOCK: usize = 16;
    let done = match (T::f32s(src), T::f32s_mut(out)) {
        (Some(src), Some(out)) => turn::transpose(src, (rows, cols, stride), out, out_stride),
        _ => 0,
    };
    for r0 in (done..rows).step_by(BLOCK) {
        let r1 = (r0 + BLOCK).min(rows);
        for c0 in (0..cols).step_by(BLOCK) {
            let c1 = (c0 + BLOCK).min(cols);
            for c in c0..c1 {
                let line = &mut out[c * out_stride + r0..c * out_stride + r1];
                for (r, value) in (r0..r1).zip(line) {
                    *value = src[r * stride + c];
                }
            }
        }
    }
}
