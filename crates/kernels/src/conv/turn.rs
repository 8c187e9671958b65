//! Channels last and back: the rows of sixteen planes become pixels of sixteen lanes.
//!
//! The loops below turn into one store or load for every element, which takes a fifth of the time of a
//! convolution of 64 channels; sixteen vectors turned in registers take a twentieth.

use crate::simd::{self, WithSimd};
use pulp::Simd;

/// Channels that are turned together.
pub(crate) const LANES: usize = 16;

/// `out[p * step + l] = planes[l * plane + p]` for `n` pixels of `lanes` planes. Where `step` is a multiple
/// of sixteen, lanes without a plane become zero; else they are not written.
#[inline(always)]
pub(crate) fn interleave<S: Simd>(
    _simd: S,
    planes: &[f32],
    plane: usize,
    lanes: usize,
    n: usize,
    (out, step): (&mut [f32], usize),
) {
    if n == 0 {
        return;
    }
    let written = if step.is_multiple_of(LANES) {
        LANES
    } else {
        lanes
    };
    assert!(
        (1..=LANES).contains(&lanes)
            && (lanes - 1) * plane + n <= planes.len()
            && (n - 1) * step + written <= out.len(),
        "planes out of range"
    );
    #[cfg(target_arch = "x86_64")]
    if S::F32_LANES == LANES {
        // SAFETY: on x86 vectors of sixteen floats exist in AVX-512 alone, so this CPU has it; the
        // assertion bounds what is read and written.
        unsafe {
            wide::interleave(
                planes.as_ptr(),
                plane,
                lanes,
                n,
                (out.as_mut_ptr(), step, written),
            );
        }
        return;
    }
    for lane in 0..written {
        let pixels = out[lane..].iter_mut().step_by(step.max(1)).take(n);
        if lane < lanes {
            for (pixel, value) in pixels.zip(&planes[lane * plane..]) {
                *pixel = *value;
            }
        } else {
            pixels.for_each(|pixel| *pixel = 0.0);
        }
    }
}

/// `rows[l][p] = pixels[p * step + l] + start[l]` for the whole of every row.
#[inline(always)]
pub(crate) fn separate<S: Simd>(
    _simd: S,
    (pixels, step): (&[f32], usize),
    start: &[f32; LANES],
    rows: &mut [&mut [f32]; LANES],
) {
    let width = rows.iter().map(|r| r.len()).max().unwrap_or(0);
    if width == 0 {
        return;
    }
    assert!(
        (width - 1) * step + LANES <= pixels.len(),
        "pixels out of range"
    );
    #[cfg(target_arch = "x86_64")]
    if S::F32_LANES == LANES {
        // SAFETY: AVX-512 as above; the assertion bounds what is read, rows are written to their length.
        unsafe { wide::separate((pixels.as_ptr(), step), start, rows, width) };
        return;
    }
    for (lane, row) in rows.iter_mut().enumerate() {
        let values = pixels[lane..].iter().step_by(step.max(1));
        for (d, s) in row.iter_mut().zip(values) {
            *d = *s + start[lane];
        }
    }
}

/// Turns the rows of a matrix that fill whole vectors of sixteen, where the machine has such vectors, and gives their number:
/// `out[c * out_stride + r] = src[r * stride + c]`.
pub(crate) fn transpose(
    src: &[f32],
    (rows, cols, stride): (usize, usize, usize),
    out: &mut [f32],
    out_stride: usize,
) -> usize {
    simd::with(Transpose {
        src,
        rows: rows / LANES * LANES,
        cols,
        stride,
        out,
        out_stride,
    })
}

struct Transpose<'a> {
    src: &'a [f32],
    rows: usize,
    cols: usize,
    stride: usize,
    out: &'a mut [f32],
    out_stride: usize,
}

impl WithSimd for Transpose<'_> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        if S::F32_LANES != LANES {
            return 0;
        }
        for r in (0..self.rows).step_by(LANES) {
            let src = &self.src[r * self.stride..];
            let out = (&mut self.out[r..], self.out_stride);
            interleave(simd, src, self.stride, LANES, self.cols, out);
        }
        self.rows
    }
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use super::LANES;
    use std::arch::x86_64::{
        __m512, _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd, _mm512_loadu_ps,
        _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
        _mm512_shuffle_f32x4, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd,
        _mm512_unpacklo_ps,
    };

    /// The transpose of sixteen vectors: pairs, then quarters of two rows, then quarters of four and eight.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn turn(r: [__m512; 16]) -> [__m512; 16] {
        let mut q = [_mm512_setzero_ps(); 16];
        for g in (0..16).step_by(4) {
            let low0 = _mm512_castps_pd(_mm512_unpacklo_ps(r[g], r[g + 1]));
            let low1 = _mm512_castps_pd(_mm512_unpacklo_ps(r[g + 2], r[g + 3]));
            let high0 = _mm512_castps_pd(_mm512_unpackhi_ps(r[g], r[g + 1]));
            let high1 = _mm512_castps_pd(_mm512_unpackhi_ps(r[g + 2], r[g + 3]));
            q[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(low0, low1));
            q[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low0, low1));
            q[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high0, high1));
            q[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high0, high1));
        }
        let mut out = q;
        for j in 0..4 {
            let a = _mm512_shuffle_f32x4::<0x88>(q[j], q[4 + j]);
            let b = _mm512_shuffle_f32x4::<0xdd>(q[j], q[4 + j]);
            let c = _mm512_shuffle_f32x4::<0x88>(q[8 + j], q[12 + j]);
            let d = _mm512_shuffle_f32x4::<0xdd>(q[8 + j], q[12 + j]);
            out[j] = _mm512_shuffle_f32x4::<0x88>(a, c);
            out[4 + j] = _mm512_shuffle_f32x4::<0x88>(b, d);
            out[8 + j] = _mm512_shuffle_f32x4::<0xdd>(a, c);
            out[12 + j] = _mm512_shuffle_f32x4::<0xdd>(b, d);
        }
        out
    }

    /// The lowest `n` of sixteen lanes.
    fn mask(n: usize) -> u16 {
        if n >= LANES { u16::MAX } else { (1 << n) - 1 }
    }

    /// # Safety
    /// `planes` is valid for `n` elements from every `l * plane`, `l < lanes`, and `out` for `written`
    /// elements from every `p * step`, `p < n`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn interleave(
        planes: *const f32,
        plane: usize,
        lanes: usize,
        n: usize,
        (out, step, written): (*mut f32, usize, usize),
    ) {
        let stored = mask(written);
        for p in (0..n).step_by(LANES) {
            let kept = mask(n - p);
            let mut rows = [_mm512_setzero_ps(); LANES];
            for (l, row) in rows.iter_mut().enumerate().take(lanes) {
                // SAFETY: masked lanes are not read, all others are within the n elements.
                *row = unsafe { _mm512_maskz_loadu_ps(kept, planes.add(l * plane + p)) };
            }
            for (i, pixel) in turn(rows).into_iter().enumerate().take(n - p) {
                // SAFETY: pixel p + i is below n, masked lanes are not written.
                unsafe { _mm512_mask_storeu_ps(out.add((p + i) * step), stored, pixel) };
            }
        }
    }

    /// # Safety
    /// `pixels` is valid for sixteen elements from every `p * step`, `p < width`; no row is longer than
    /// `width`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn separate(
        (pixels, step): (*const f32, usize),
        start: &[f32; LANES],
        rows: &mut [&mut [f32]; LANES],
        width: usize,
    ) {
        for p in (0..width).step_by(LANES) {
            let mut block = [_mm512_setzero_ps(); LANES];
            for (i, pixel) in block.iter_mut().enumerate().take(width - p) {
                // SAFETY: pixel p + i is below the width.
                *pixel = unsafe { _mm512_loadu_ps(pixels.add((p + i) * step)) };
            }
            for ((row, line), start) in rows.iter_mut().zip(turn(block)).zip(start) {
                let value = _mm512_add_ps(line, _mm512_set1_ps(*start));
                if p < row.len() {
                    // SAFETY: masked lanes are not written, all others are within the row.
                    unsafe {
                        _mm512_mask_storeu_ps(row.as_mut_ptr().add(p), mask(row.len() - p), value);
                    }
                }
            }
        }
    }
}
