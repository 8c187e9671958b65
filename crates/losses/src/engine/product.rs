//! Matrix products over strided slices, on the calling thread: the engine splits the work into fixed tiles itself, so that no
//! result depends on the number of threads.

use super::real::Real;

/// A matrix whose element (i, j) lies at `i * row + j * col`.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a, T> {
    pub data: &'a [T],
    pub row: usize,
    pub col: usize,
}

impl<'a, T> Mat<'a, T> {
    /// Rows of `width` elements, one after the other.
    pub(crate) fn rows(data: &'a [T], width: usize) -> Self {
        Self {
            data,
            row: width,
            col: 1,
        }
    }

    /// The transpose.
    pub(crate) fn t(self) -> Self {
        Self {
            row: self.col,
            col: self.row,
            ..self
        }
    }

    fn fits(&self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.row + (cols - 1) * self.col < self.data.len()
    }
}

/// `out = a b`, or `out += a b` with `accumulate`; `out` is `m` rows of `n` elements, `k` the inner dimension.
pub(crate) fn product<T: Real>(
    out: &mut [T],
    (m, n, k): (usize, usize, usize),
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    accumulate: bool,
) {
    assert!(
        m * n <= out.len() && a.fits(m, k) && b.fits(k, n),
        "product out of range"
    );
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !accumulate {
            out[..m * n].fill(T::ZERO);
        }
        return;
    }
    // SAFETY: every element addressed lies inside its slice by the assertion above, and `out` is borrowed uniquely.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            a.data.as_ptr(),
            a.col as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.col as isize,
            b.row as isize,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
