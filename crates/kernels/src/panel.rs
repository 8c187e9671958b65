//! Products of matrices read where they lie: rows of pixels, nothing packed.
//!
//! A packed product copies both matrices first, which pays when each value is used hundreds of times. The
//! convolutions of small networks use theirs some tens of times: a 1 x 1 layer of 24 channels, a stem of
//! three. Here rows of pixels are the vectors. [`Panel`] takes a weight times whole vectors of pixels; [`Dots`]
//! takes the products of two rows of pixels, which is a weight's gradient, and adds its lanes up at the very end.

use crate::simd::WithSimd;
use pulp::Simd;

/// `out[r][p] (+)= sum_k a[r * a_row + k * a_col] * b[k * b_row + p]`.
pub(crate) struct Panel {
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) columns: usize,
    pub(crate) a: (*const f32, usize, usize),
    pub(crate) b: (*const f32, usize),
    pub(crate) out: (*mut f32, usize),
    pub(crate) accumulate: bool,
}

impl Panel {
    /// # Safety
    /// The two matrices are valid for reading, `out` for writing by nobody else, all of the sizes given.
    #[inline(always)]
    pub(crate) unsafe fn run<S: Simd>(&self, simd: S) {
        let lanes = S::F32_LANES;
        // SAFETY: columns c.. of the result, N vectors of them or what is left.
        unsafe {
            let mut c = 0;
            if lanes >= 16 {
                if self.rows < 4 {
                    while c + 8 * lanes <= self.columns {
                        match self.rows {
                            3 => self.tile::<S, 3, 8, false>(simd, 0, c),
                            2 => self.tile::<S, 2, 8, false>(simd, 0, c),
                            _ => self.tile::<S, 1, 8, false>(simd, 0, c),
                        }
                        c += 8 * lanes;
                    }
                }
                while c + 4 * lanes <= self.columns {
                    self.strip::<S, 6, 4, false>(simd, c);
                    c += 4 * lanes;
                }
                match (self.columns - c).div_ceil(lanes) {
                    0 => (),
                    1 => self.strip::<S, 8, 1, true>(simd, c),
                    2 => self.strip::<S, 8, 2, true>(simd, c),
                    3 => self.strip::<S, 8, 3, true>(simd, c),
                    _ => self.strip::<S, 6, 4, true>(simd, c),
                }
            } else {
                while c + 2 * lanes <= self.columns {
                    self.strip::<S, 6, 2, false>(simd, c);
                    c += 2 * lanes;
                }
                match (self.columns - c).div_ceil(lanes) {
                    0 => (),
                    1 => self.strip::<S, 6, 1, true>(simd, c),
                    _ => self.strip::<S, 6, 2, true>(simd, c),
                }
            }
        }
    }

    /// All rows, N vectors of columns.
    ///
    /// # Safety
    /// As [`Panel::run`].
    #[inline(always)]
    unsafe fn strip<S: Simd, const R: usize, const N: usize, const TAIL: bool>(
        &self,
        simd: S,
        c: usize,
    ) {
        let mut r = 0;
        // SAFETY: rows r.., of which there are enough in every branch.
        unsafe {
            while r + R <= self.rows {
                self.tile::<S, R, N, TAIL>(simd, r, c);
                r += R;
            }
            while r + 4 <= self.rows {
                self.tile::<S, 4, N, TAIL>(simd, r, c);
                r += 4;
            }
            if r + 2 <= self.rows {
                self.tile::<S, 2, N, TAIL>(simd, r, c);
                r += 2;
            }
            if r < self.rows {
                self.tile::<S, 1, N, TAIL>(simd, r, c);
            }
        }
    }

    /// R rows from `r` and N vectors of columns from `c`, in registers; with `TAIL`, as many columns as
    /// there are.
    ///
    /// # Safety
    /// As [`Panel::run`]; there are these rows and, without `TAIL`, these columns.
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const N: usize, const TAIL: bool>(
        &self,
        simd: S,
        r: usize,
        c: usize,
    ) {
        let lanes = S::F32_LANES;
        let left = self.columns - c;
        let masks: [_; N] = std::array::from_fn(|n| {
            simd.mask_between_m32s(0, left.saturating_sub(n * lanes).min(lanes) as u32)
        });
        let mut acc = [[simd.splat_f32s(0.0); N]; R];
        let (a, a_row, a_col) = self.a;
        let (b, b_row) = self.b;
        let (out, out_row) = self.out;
        // SAFETY: by the caller's promise; masked lanes are neither read nor written.
        unsafe {
            let load = |from: *const f32, n: usize| {
                if TAIL {
                    simd.mask_load_ptr_f32s(masks[n], from)
                } else {
                    from.cast::<S::f32s>().read_unaligned()
                }
            };
            let mut a = a.add(r * a_row);
            let mut b = b.add(c);
            for _ in 0..self.depth {
                let mut right = [simd.splat_f32s(0.0); N];
                for (n, value) in right.iter_mut().enumerate() {
                    *value = load(b.wrapping_add(n * lanes), n);
                }
                for (i, row) in acc.iter_mut().enumerate() {
                    let left = simd.splat_f32s(*a.add(i * a_row));
                    for (value, right) in row.iter_mut().zip(right) {
                        *value = simd.mul_add_e_f32s(left, right, *value);
                    }
                }
                // One past the end after the last step, which is not read.
                a = a.wrapping_add(a_col);
                b = b.wrapping_add(b_row);
            }
            if self.accumulate {
                for (i, row) in acc.iter_mut().enumerate() {
                    let out = out.add((r + i) * out_row + c);
                    for (n, value) in row.iter_mut().enumerate() {
                        *value = simd.add_f32s(*value, load(out.wrapping_add(n * lanes), n));
                    }
                }
            }
            for (i, row) in acc.iter().enumerate() {
                let out = out.add((r + i) * out_row + c);
                for (n, value) in row.iter().enumerate() {
                    let to = out.wrapping_add(n * lanes);
                    if TAIL {
                        simd.mask_store_ptr_f32s(masks[n], to, *value);
                    } else {
                        to.cast::<S::f32s>().write_unaligned(*value);
                    }
                }
            }
        }
    }
}

/// Floats kept for a sum: as many as the widest vectors have lanes.
pub(crate) const SUM: usize = 16;

/// Neighbouring pixels: where they start in the rows of both matrices, and how many they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) a: usize,
    pub(crate) b: usize,
    pub(crate) len: usize,
}

/// `sums[i][j] += sum_p a[run.a + i * a_row + p] * b[run.b + j * b_row + p]` over the pixels of all runs, each sum
/// spread over [`SUM`] floats.
pub(crate) struct Dots<'a> {
    pub(crate) a: &'a [f32],
    pub(crate) a_row: usize,
    pub(crate) rows: usize,
    pub(crate) b: &'a [f32],
    pub(crate) b_row: usize,
    pub(crate) cols: usize,
    pub(crate) runs: &'a [Run],
    pub(crate) sums: &'a mut [f32],
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let Some((last_row, last_col)) = self.rows.checked_sub(1).zip(self.cols.checked_sub(1))
        else {
            return;
        };
        assert!(
            self.runs.iter().all(|run| {
                run.a + last_row * self.a_row + run.len <= self.a.len()
                    && run.b + last_col * self.b_row + run.len <= self.b.len()
            }) && self.rows * self.cols * SUM <= self.sums.len()
                && S::F32_LANES <= SUM,
            "runs out of range"
        );
        // SAFETY: the assertion bounds every run of every row, and the sums.
        unsafe {
            if S::F32_LANES >= 16 {
                let mut i = 0;
                while i + 4 <= self.rows {
                    self.across::<S, 4, 6, 3>(simd, i);
                    i += 4;
                }
                if i + 2 <= self.rows {
                    self.across::<S, 2, 6, 3>(simd, i);
                    i += 2;
                }
                if i < self.rows {
                    self.across::<S, 1, 6, 3>(simd, i);
                }
            } else {
                let mut i = 0;
                while i + 2 <= self.rows {
                    self.across::<S, 2, 4, 2>(simd, i);
                    i += 2;
                }
                if i < self.rows {
                    self.across::<S, 1, 4, 2>(simd, i);
                }
            }
        }
    }
}

impl Dots<'_> {
    /// R rows of the first matrix with all of the second, C of them at a time, then D, then one.
    ///
    /// # Safety
    /// The checks of `with_simd` hold, and there are R rows from `i`.
    #[inline(always)]
    unsafe fn across<S: Simd, const R: usize, const C: usize, const D: usize>(
        &mut self,
        simd: S,
        i: usize,
    ) {
        let mut j = 0;
        // SAFETY: columns j.., of which there are enough in every branch.
        unsafe {
            while j + C <= self.cols {
                self.tile::<S, R, C>(simd, i, j);
                j += C;
            }
            while j + D <= self.cols {
                self.tile::<S, R, D>(simd, i, j);
                j += D;
            }
            while j < self.cols {
                self.tile::<S, R, 1>(simd, i, j);
                j += 1;
            }
        }
    }

    /// R by C sums, in registers over all runs.
    ///
    /// # Safety
    /// As [`Dots::across`], for C columns from `j`.
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const C: usize>(
        &mut self,
        simd: S,
        i: usize,
        j: usize,
    ) {
        let lanes = S::F32_LANES;
        let (a_row, b_row, cols) = (self.a_row, self.b_row, self.cols);
        // SAFETY: all accesses lie within what was checked; masked lanes are not read.
        unsafe {
            let a = self.a.as_ptr().add(i * a_row);
            let b = self.b.as_ptr().add(j * b_row);
            let sums = self.sums.as_mut_ptr();
            let place = |r: usize, c: usize| sums.add(((i + r) * cols + j + c) * SUM);
            let mut acc = [[simd.splat_f32s(0.0); C]; R];
            for (r, row) in acc.iter_mut().enumerate() {
                for (c, value) in row.iter_mut().enumerate() {
                    *value = place(r, c).cast::<S::f32s>().read_unaligned();
                }
            }
            for run in self.runs {
                let (a, b) = (a.add(run.a), b.add(run.b));
                let whole = run.len / lanes * lanes;
                let mut p = 0;
                while p < whole {
                    let mut right = [simd.splat_f32s(0.0); C];
                    for (c, value) in right.iter_mut().enumerate() {
                        *value = b.add(c * b_row + p).cast::<S::f32s>().read_unaligned();
                    }
                    for (r, row) in acc.iter_mut().enumerate() {
                        let left = a.add(r * a_row + p).cast::<S::f32s>().read_unaligned();
                        for (value, right) in row.iter_mut().zip(right) {
                            *value = simd.mul_add_e_f32s(left, right, *value);
                        }
                    }
                    p += lanes;
                }
                if p < run.len {
                    let mask = simd.mask_between_m32s(0, (run.len - p) as u32);
                    let mut right = [simd.splat_f32s(0.0); C];
                    for (c, value) in right.iter_mut().enumerate() {
                        *value = simd.mask_load_ptr_f32s(mask, b.add(c * b_row + p));
                    }
                    for (r, row) in acc.iter_mut().enumerate() {
                        let left = simd.mask_load_ptr_f32s(mask, a.add(r * a_row + p));
                        for (value, right) in row.iter_mut().zip(right) {
                            *value = simd.mul_add_e_f32s(left, right, *value);
                        }
                    }
                }
            }
            for (r, row) in acc.iter().enumerate() {
                for (c, value) in row.iter().enumerate() {
                    place(r, c).cast::<S::f32s>().write_unaligned(*value);
                }
            }
        }
    }
}

impl WithSimd for Job {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // SAFETY: the promise to `multiply`, which alone makes jobs.
        unsafe { self.0.run(simd) };
    }
}

struct Job(Panel);

/// Multiplies.
///
/// # Safety
/// As [`Panel::run`].
pub(crate) unsafe fn multiply(panel: Panel) {
    crate::simd::with(Job(panel));
}
