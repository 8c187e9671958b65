//! Columns of a block of numbers as rows, sixteen at a time: what one side of a product reads along, the other reads
//! across.

/// Columns turned at once.
pub(crate) const WIDTH: usize = 16;

/// Writes the first [`WIDTH`] columns of `rows`, which begin `stride` numbers apart in `from`, as rows of `out`, which
/// begin `length` numbers apart.
///
/// # Panics
/// When a row does not reach that far, or `length` is less than the number of rows.
pub(crate) fn turn(from: &[f32], stride: usize, rows: usize, out: &mut [f32], length: usize) {
    assert!(
        rows == 0 || from.len() >= (rows - 1) * stride + WIDTH,
        "too few numbers"
    );
    assert!(
        length >= rows && out.len() >= WIDTH * length,
        "too little room"
    );
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU has the feature that the function is compiled for.
        unsafe { avx512::turn(from, stride, rows, out, length) }
        return;
    }
    plain(from, stride, 0..rows, out, length);
}

#[inline(always)]
fn plain(
    from: &[f32],
    stride: usize,
    rows: std::ops::Range<usize>,
    out: &mut [f32],
    length: usize,
) {
    for r in rows {
        let row = &from[r * stride..][..WIDTH];
        for (to, &v) in out[r..].iter_mut().step_by(length).zip(row) {
            *to = v;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512, _mm512_castpd_ps, _mm512_castps_pd, _mm512_setzero_ps, _mm512_shuffle_f32x4,
        _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
    };

    use super::{WIDTH, plain};
    use crate::simd::avx512::{numbers, vector};

    #[target_feature(enable = "avx512f")]
    pub(super) fn turn(from: &[f32], stride: usize, rows: usize, out: &mut [f32], length: usize) {
        let whole = rows / WIDTH * WIDTH;
        for first in (0..whole).step_by(WIDTH) {
            let mut square = [_mm512_setzero_ps(); WIDTH];
            for (i, to) in square.iter_mut().enumerate() {
                if let Some(row) = from[(first + i) * stride..].first_chunk() {
                    *to = vector(row);
                }
            }
            for (i, column) in turn_square(square).into_iter().enumerate() {
                if let Some(to) = out[i * length + first..].first_chunk_mut() {
                    *to = numbers(column);
                }
            }
        }
        plain(from, stride, whole..rows, out, length);
    }

    /// Pairs, then fours of rows are interleaved within quarters of the vectors, then the quarters are dealt out.
    #[target_feature(enable = "avx512f")]
    fn turn_square(r: [__m512; WIDTH]) -> [__m512; WIDTH] {
        let mut fours = [_mm512_setzero_ps(); WIDTH];
        for (to, r) in fours
            .as_chunks_mut::<4>()
            .0
            .iter_mut()
            .zip(r.as_chunks::<4>().0)
        {
            let wide = |v| _mm512_castps_pd(v);
            let (a, b) = (
                wide(_mm512_unpacklo_ps(r[0], r[1])),
                wide(_mm512_unpacklo_ps(r[2], r[3])),
            );
            let (c, d) = (
                wide(_mm512_unpackhi_ps(r[0], r[1])),
                wide(_mm512_unpackhi_ps(r[2], r[3])),
            );
            *to = [
                _mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)),
                _mm512_castpd_ps(_mm512_unpacklo_pd(c, d)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(c, d)),
            ];
        }
        let mut out = [_mm512_setzero_ps(); WIDTH];
        for j in 0..4 {
            let (a, b, c, d) = (fours[j], fours[4 + j], fours[8 + j], fours[12 + j]);
            // Quarters 0 and 2, or 1 and 3, of both.
            let (even, odd) = (
                _mm512_shuffle_f32x4::<0x88>(a, b),
                _mm512_shuffle_f32x4::<0xdd>(a, b),
            );
            let (even_too, odd_too) = (
                _mm512_shuffle_f32x4::<0x88>(c, d),
                _mm512_shuffle_f32x4::<0xdd>(c, d),
            );
            out[j] = _mm512_shuffle_f32x4::<0x88>(even, even_too);
            out[4 + j] = _mm512_shuffle_f32x4::<0x88>(odd, odd_too);
            out[8 + j] = _mm512_shuffle_f32x4::<0xdd>(even, even_too);
            out[12 + j] = _mm512_shuffle_f32x4::<0xdd>(odd, odd_too);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_rows() {
        let stride = 21;
        let from: Vec<f32> = (0..40 * stride).map(|i| i as f32).collect();
        for rows in [0, 1, 15, 16, 17, 32, 39] {
            let length = rows + 3;
            let mut out = vec![-1.0; WIDTH * length];
            turn(&from, stride, rows, &mut out, length);
            for (i, &v) in out.iter().enumerate() {
                let (column, row) = (i / length, i % length);
                let expected = if row < rows {
                    (row * stride + column) as f32
                } else {
                    -1.0
                };
                assert_eq!(v, expected, "{rows} rows, column {column}, row {row}");
            }
        }
    }
}
