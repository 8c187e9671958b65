//! The inner loops: windows of a channels-last map times weights, and the adjoint for the weights.

use crate::simd::WithSimd;
use pulp::Simd;

/// A part of a window whose values lie side by side: `len` of them, `at` elements from its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) at: usize,
    pub(crate) len: usize,
}

/// Where a pixel's window starts in the source, and where its result goes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    pub(crate) source: usize,
    pub(crate) target: usize,
}

/// What is done with a sum before it is stored.
#[derive(Clone, Copy)]
pub(crate) enum Finish<'a> {
    /// Nothing.
    None,
    /// A bias for every column.
    Bias(&'a [f32]),
    /// A bias, then negative values become zero.
    Relu(&'a [f32]),
    /// A bias, then negative values times a slope for every column.
    PRelu(&'a [f32], &'a [f32]),
}

/// R pixels and N vectors of columns, in registers over the whole window.
///
/// # Safety
/// Every `a` is valid for the segments, `b` for N vectors at as many rows as the segments are long,
/// and every `out` for `columns` elements.
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const N: usize>(
    simd: S,
    segments: &[Segment],
    a: [*const f32; R],
    (b, b_row): (*const f32, usize),
    out: [*mut f32; R],
    (first, columns): (usize, usize),
    finish: Finish<'_>,
) {
    let lanes = S::F32_LANES;
    let mut acc = [[simd.splat_f32s(0.0); N]; R];
    let mut b = b;
    // SAFETY: all accesses are those the caller vouches for; vectors of floats need no alignment here.
    unsafe {
        for segment in segments {
            for k in segment.at..segment.at + segment.len {
                let mut right = [simd.splat_f32s(0.0); N];
                for (n, value) in right.iter_mut().enumerate() {
                    *value = b.add(n * lanes).cast::<S::f32s>().read_unaligned();
                }
                for (row, a) in acc.iter_mut().zip(a) {
                    let left = simd.splat_f32s(*a.add(k));
                    for (value, right) in row.iter_mut().zip(right) {
                        *value = simd.mul_add_e_f32s(left, right, *value);
                    }
                }
                // One past the end after the last step, which is not read.
                b = b.wrapping_add(b_row);
            }
        }
        // Loops this simple are unrolled, so that the sums never leave their registers: one body for all
        // ways to finish has them stored at every step of the loop above.
        let zero = simd.splat_f32s(0.0);
        let read = |from: &[f32]| {
            let from = from.as_ptr().add(first);
            std::array::from_fn::<_, N, _>(|n| {
                from.add(n * lanes).cast::<S::f32s>().read_unaligned()
            })
        };
        if let Finish::Bias(bias) | Finish::Relu(bias) | Finish::PRelu(bias, _) = finish {
            let bias = read(bias);
            for row in &mut acc {
                for (value, bias) in row.iter_mut().zip(bias) {
                    *value = simd.add_f32s(*value, bias);
                }
            }
        }
        if let Finish::Relu(_) = finish {
            for row in &mut acc {
                for value in row {
                    let low = simd.less_than_or_equal_f32s(*value, zero);
                    *value = simd.select_f32s(low, zero, *value);
                }
            }
        }
        if let Finish::PRelu(_, slope) = finish {
            let slope = read(slope);
            for row in &mut acc {
                for (value, slope) in row.iter_mut().zip(slope) {
                    let low = simd.less_than_or_equal_f32s(*value, zero);
                    *value = simd.select_f32s(low, simd.mul_f32s(*value, slope), *value);
                }
            }
        }
        if columns >= N * lanes {
            for (row, out) in acc.iter().zip(out) {
                for (n, value) in row.iter().enumerate() {
                    out.add(n * lanes).cast::<S::f32s>().write_unaligned(*value);
                }
            }
        } else {
            let masks = std::array::from_fn::<_, N, _>(|n| {
                let left = columns.saturating_sub(n * lanes).min(lanes);
                simd.mask_between_m32s(0, left as u32)
            });
            for (row, out) in acc.iter().zip(out) {
                for (n, (value, mask)) in row.iter().zip(masks).enumerate() {
                    // Past the last column the mask is empty and the address is not used.
                    simd.mask_store_ptr_f32s(mask, out.wrapping_add(n * lanes), *value);
                }
            }
        }
    }
}

/// The windows of many pixels times a block of columns:
/// `out[target + n] = finish(sum_k source[place + k] * weights[k * lanes + n])`.
pub(crate) struct Windows<'a> {
    pub(crate) segments: &'a [Segment],
    pub(crate) source: &'a [f32],
    pub(crate) places: &'a [Place],
    /// At least as large as every place.
    pub(crate) most: Place,
    /// (window, `lanes`): a whole number of vectors of sixteen.
    pub(crate) weights: &'a [f32],
    pub(crate) lanes: usize,
    /// How many of the lanes are stored.
    pub(crate) columns: usize,
    /// Of whole lanes.
    pub(crate) finish: Finish<'a>,
    pub(crate) out: *mut f32,
    /// Elements that `out` is valid for.
    pub(crate) len: usize,
}

impl Windows<'_> {
    /// # Safety
    /// No place exceeds `most`, and `out` is valid for writing `len` elements, which nobody else touches
    /// at the targets meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn run<S: Simd>(&self, simd: S) {
        let depth: usize = self.segments.iter().map(|s| s.len).sum();
        let reach = self
            .segments
            .iter()
            .map(|s| s.at + s.len)
            .max()
            .unwrap_or(0);
        let finished = match self.finish {
            Finish::None => self.lanes,
            Finish::Bias(b) | Finish::Relu(b) => b.len(),
            Finish::PRelu(b, s) => b.len().min(s.len()),
        };
        assert!(
            self.most.source + reach <= self.source.len()
                && self.most.target + self.columns <= self.len
                && depth * self.lanes <= self.weights.len()
                && self.lanes.is_multiple_of(16)
                && self.columns <= self.lanes
                && finished >= self.lanes,
            "windows out of range"
        );
        // 24 of 32 registers hold sums, or 12 of 16 where vectors are short.
        let wide = if S::F32_LANES >= 16 { 4 } else { 2 };
        let mut c = 0;
        while c < self.columns {
            let left = (self.lanes - c) / S::F32_LANES;
            // SAFETY: the assertion bounds every window, every row of weights and every target.
            unsafe {
                match left.min(wide) {
                    4 => self.strip::<S, 6, 4>(simd, c),
                    3 => self.strip::<S, 8, 3>(simd, c),
                    2 if wide == 4 => self.strip::<S, 8, 2>(simd, c),
                    2 => self.strip::<S, 6, 2>(simd, c),
                    _ => self.strip::<S, 8, 1>(simd, c),
                }
            }
            c += left.min(wide) * S::F32_LANES;
        }
    }

    /// All pixels, N vectors of columns from `c` on.
    ///
    /// # Safety
    /// As [`Windows::run`], after its assertion.
    #[inline(always)]
    unsafe fn strip<S: Simd, const R: usize, const N: usize>(&self, simd: S, c: usize) {
        let (whole, rest) = self.places.as_chunks::<R>();
        // SAFETY: the caller's promise.
        unsafe {
            for places in whole {
                self.rows::<S, R, N>(simd, c, places);
            }
            let (fours, rest) = rest.as_chunks::<4>();
            for places in fours {
                self.rows::<S, 4, N>(simd, c, places);
            }
            let (twos, rest) = rest.as_chunks::<2>();
            for places in twos {
                self.rows::<S, 2, N>(simd, c, places);
            }
            let (ones, _) = rest.as_chunks::<1>();
            for places in ones {
                self.rows::<S, 1, N>(simd, c, places);
            }
        }
    }

    /// # Safety
    /// As [`Windows::strip`].
    #[inline(always)]
    unsafe fn rows<S: Simd, const R: usize, const N: usize>(
        &self,
        simd: S,
        c: usize,
        places: &[Place; R],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            tile::<S, R, N>(
                simd,
                self.segments,
                places.map(|p| self.source.as_ptr().wrapping_add(p.source)),
                (self.weights.as_ptr().add(c), self.lanes),
                places.map(|p| self.out.wrapping_add(p.target + c)),
                (c, self.columns - c),
                self.finish,
            );
        }
    }
}

/// R values of every window times N vectors of columns, summed over the pixels.
///
/// # Safety
/// `a` is valid for R elements from every offset, `b` for N vectors at a row for each of them, and
/// `out` for N vectors at R rows.
#[inline(always)]
unsafe fn outer<S: Simd, const R: usize, const N: usize>(
    simd: S,
    offsets: &[usize],
    a: *const f32,
    b: *const f32,
    out: *mut f32,
    row: usize,
    accumulate: bool,
) {
    let lanes = S::F32_LANES;
    let mut acc = [[simd.splat_f32s(0.0); N]; R];
    // SAFETY: all accesses are those the caller vouches for; vectors of floats need no alignment here.
    unsafe {
        if accumulate {
            for (r, line) in acc.iter_mut().enumerate() {
                for (n, value) in line.iter_mut().enumerate() {
                    *value = out
                        .add(r * row + n * lanes)
                        .cast::<S::f32s>()
                        .read_unaligned();
                }
            }
        }
        let mut b = b;
        for at in offsets {
            let a = a.add(*at);
            let mut right = [simd.splat_f32s(0.0); N];
            for (n, value) in right.iter_mut().enumerate() {
                *value = b.add(n * lanes).cast::<S::f32s>().read_unaligned();
            }
            for (r, line) in acc.iter_mut().enumerate() {
                let left = simd.splat_f32s(*a.add(r));
                for (value, right) in line.iter_mut().zip(right) {
                    *value = simd.mul_add_e_f32s(left, right, *value);
                }
            }
            // One past the end after the last step, which is not read.
            b = b.wrapping_add(row);
        }
        for (r, line) in acc.iter().enumerate() {
            for (n, value) in line.iter().enumerate() {
                out.add(r * row + n * lanes)
                    .cast::<S::f32s>()
                    .write_unaligned(*value);
            }
        }
    }
}

/// `sums[k * lanes + n] (+)= sum_p source[offsets[p] + k] * grad[p * lanes + n]`, k over the segments in
/// their order.
pub(super) struct Outer<'a> {
    pub(super) segments: &'a [Segment],
    pub(super) source: &'a [f32],
    pub(super) offsets: &'a [usize],
    pub(super) grad: &'a [f32],
    pub(super) lanes: usize,
    pub(super) sums: &'a mut [f32],
    pub(super) accumulate: bool,
}

impl WithSimd for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let depth: usize = self.segments.iter().map(|s| s.len).sum();
        let reach = self
            .segments
            .iter()
            .map(|s| s.at + s.len)
            .max()
            .unwrap_or(0);
        let last = self.offsets.iter().copied().max().unwrap_or(0);
        assert!(
            last + reach <= self.source.len()
                && self.offsets.len() * self.lanes <= self.grad.len()
                && depth * self.lanes <= self.sums.len()
                && self.lanes.is_multiple_of(16),
            "sums out of range"
        );
        let wide = if S::F32_LANES >= 16 { 4 } else { 2 };
        let mut c = 0;
        while c < self.lanes {
            let n = ((self.lanes - c) / S::F32_LANES).min(wide);
            let mut k = 0;
            for segment in self.segments {
                let a = self.source.as_ptr().wrapping_add(segment.at);
                let b = self.grad.as_ptr().wrapping_add(c);
                let out = self.sums.as_mut_ptr().wrapping_add(k * self.lanes + c);
                let job = (self.offsets, segment.len, self.lanes, self.accumulate);
                // SAFETY: the assertion bounds every segment of every window, all gradients and sums.
                unsafe {
                    match n {
                        4 => lines::<S, 6, 4>(simd, job, a, b, out),
                        3 => lines::<S, 8, 3>(simd, job, a, b, out),
                        2 if wide == 4 => lines::<S, 8, 2>(simd, job, a, b, out),
                        2 => lines::<S, 6, 2>(simd, job, a, b, out),
                        _ => lines::<S, 8, 1>(simd, job, a, b, out),
                    }
                }
                k += segment.len;
            }
            c += n * S::F32_LANES;
        }
    }
}

/// One segment, N vectors of columns.
///
/// # Safety
/// As [`outer`], for all rows of the segment.
#[inline(always)]
unsafe fn lines<S: Simd, const R: usize, const N: usize>(
    simd: S,
    (offsets, len, row, accumulate): (&[usize], usize, usize, bool),
    a: *const f32,
    b: *const f32,
    out: *mut f32,
) {
    let mut r = 0;
    // SAFETY: rows r.. of the segment, of which there are enough in every branch.
    unsafe {
        while r + R <= len {
            outer::<S, R, N>(
                simd,
                offsets,
                a.add(r),
                b,
                out.add(r * row),
                row,
                accumulate,
            );
            r += R;
        }
        while r + 4 <= len {
            outer::<S, 4, N>(
                simd,
                offsets,
                a.add(r),
                b,
                out.add(r * row),
                row,
                accumulate,
            );
            r += 4;
        }
        if r + 2 <= len {
            outer::<S, 2, N>(
                simd,
                offsets,
                a.add(r),
                b,
                out.add(r * row),
                row,
                accumulate,
            );
            r += 2;
        }
        if r < len {
            outer::<S, 1, N>(
                simd,
                offsets,
                a.add(r),
                b,
                out.add(r * row),
                row,
                accumulate,
            );
        }
    }
}
