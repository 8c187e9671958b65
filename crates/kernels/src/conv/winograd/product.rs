//! Small matrix products out of the cache, without packing: both sides lie as the kernel reads them.

use pulp::Simd;

/// Strides of one product within the kernel.
#[derive(Clone, Copy)]
struct Steps {
    depth: usize,
    /// Between rows of the left side, and between its columns.
    a: (usize, usize),
    b: usize,
    out: usize,
}

/// R rows and N vectors of columns of the result, in registers over the whole depth.
///
/// # Safety
/// `a`, `b` and `out` are valid for every element that the strides, R rows, the depth and N vectors reach.
#[inline(always)]
unsafe fn kernel<S: Simd, const R: usize, const N: usize>(
    simd: S,
    s: Steps,
    a: *const f32,
    b: *const f32,
    out: *mut f32,
    accumulate: bool,
) {
    let lanes = S::F32_LANES;
    let mut acc = [[simd.splat_f32s(0.0); N]; R];
    // SAFETY: all accesses are those the caller vouches for; vectors of floats need no alignment here.
    unsafe {
        if accumulate {
            for (r, row) in acc.iter_mut().enumerate() {
                for (n, value) in row.iter_mut().enumerate() {
                    *value = out
                        .add(r * s.out + n * lanes)
                        .cast::<S::f32s>()
                        .read_unaligned();
                }
            }
        }
        let (mut a, mut b) = (a, b);
        for _ in 0..s.depth {
            let mut right = [simd.splat_f32s(0.0); N];
            for (n, value) in right.iter_mut().enumerate() {
                *value = b.add(n * lanes).cast::<S::f32s>().read_unaligned();
            }
            for (r, row) in acc.iter_mut().enumerate() {
                let left = simd.splat_f32s(*a.add(r * s.a.0));
                for (value, right) in row.iter_mut().zip(right) {
                    *value = simd.mul_add_e_f32s(left, right, *value);
                }
            }
            // One past the end after the last step, which is not read.
            a = a.wrapping_add(s.a.1);
            b = b.wrapping_add(s.b);
        }
        for (r, row) in acc.iter().enumerate() {
            for (n, value) in row.iter().enumerate() {
                out.add(r * s.out + n * lanes)
                    .cast::<S::f32s>()
                    .write_unaligned(*value);
            }
        }
    }
}

/// All rows of N vectors of columns.
///
/// # Safety
/// As [`kernel`], for `rows` rows.
#[inline(always)]
unsafe fn strip<S: Simd, const N: usize>(
    simd: S,
    s: Steps,
    rows: usize,
    a: *const f32,
    b: *const f32,
    out: *mut f32,
    accumulate: bool,
) {
    let mut r = 0;
    // SAFETY: rows r.. of both sides, of which there are enough in every branch.
    unsafe {
        while r + 6 <= rows {
            kernel::<S, 6, N>(simd, s, a.add(r * s.a.0), b, out.add(r * s.out), accumulate);
            r += 6;
        }
        if r + 4 <= rows {
            kernel::<S, 4, N>(simd, s, a.add(r * s.a.0), b, out.add(r * s.out), accumulate);
            r += 4;
        }
        if r + 2 <= rows {
            kernel::<S, 2, N>(simd, s, a.add(r * s.a.0), b, out.add(r * s.out), accumulate);
            r += 2;
        }
        if r < rows {
            kernel::<S, 1, N>(simd, s, a.add(r * s.a.0), b, out.add(r * s.out), accumulate);
        }
    }
}

/// `out = a b`, or `out += a b` with `accumulate`, for (rows, depth, columns). `a` comes with its row and
/// column strides, `b` and `out` with the stride of their rows. Columns come in whole vectors.
#[inline(always)]
pub(super) fn product<S: Simd>(
    simd: S,
    (rows, depth, columns): (usize, usize, usize),
    (a, a_row, a_col): (&[f32], usize, usize),
    (b, b_row): (&[f32], usize),
    (out, out_row): (&mut [f32], usize),
    accumulate: bool,
) {
    if rows == 0 || depth == 0 || columns == 0 {
        return;
    }
    let lanes = S::F32_LANES;
    assert!(
        columns.is_multiple_of(lanes)
            && (rows - 1) * a_row + (depth - 1) * a_col < a.len()
            && (depth - 1) * b_row + columns <= b.len()
            && (rows - 1) * out_row + columns <= out.len(),
        "product out of range"
    );
    let s = Steps {
        depth,
        a: (a_row, a_col),
        b: b_row,
        out: out_row,
    };
    // 24 of 32 registers hold sums, or 12 of 16 where vectors are short.
    let wide = if lanes >= 16 { 4 } else { 2 };
    let mut c = 0;
    while c < columns {
        let n = ((columns - c) / lanes).min(wide);
        let (a, b, out) = (a.as_ptr(), b[c..].as_ptr(), out[c..].as_mut_ptr());
        // SAFETY: the assertion bounds every row, the whole depth and n vectors of columns from c on.
        unsafe {
            match n {
                4 => strip::<S, 4>(simd, s, rows, a, b, out, accumulate),
                3 => strip::<S, 3>(simd, s, rows, a, b, out, accumulate),
                2 => strip::<S, 2>(simd, s, rows, a, b, out, accumulate),
                _ => strip::<S, 1>(simd, s, rows, a, b, out, accumulate),
            }
        }
        c += n * lanes;
    }
}
