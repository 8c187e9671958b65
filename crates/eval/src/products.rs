//! Blocks of dot products by the `gemm` crate, the one place that calls it.

use gemm::Parallelism;

mod sealed {
    pub trait Number: Copy + 'static {
        const ZERO: Self;
        const ONE: Self;
    }
    impl Number for f32 {
        const ZERO: Self = 0.0;
        const ONE: Self = 1.0;
    }
    impl Number for f64 {
        const ZERO: Self = 0.0;
        const ONE: Self = 1.0;
    }
}
use sealed::Number;

/// `out[j * m + i]` = row i of `a` times row j of `b`, for m rows `a` and n rows `b` of `dim` numbers each: one row of
/// the result for each row of `b`. One thread; the value of an element depends on `dim` and its two rows alone as far
/// as the kernel sums along `dim` in one order, which callers do not rely on.
pub(crate) fn row_products<T: Number>(a: &[T], b: &[T], dim: usize, out: &mut [T]) {
    assert!(dim > 0, "rows without numbers");
    let (m, n) = (a.len() / dim, b.len() / dim);
    assert!(
        a.len() == m * dim && b.len() == n * dim && out.len() == m * n,
        "row products: {} and {} numbers in rows of {dim}, {} results",
        a.len(),
        b.len(),
        out.len()
    );
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: the assertion above shows that `a` holds m x dim, `b` n x dim and `out` m x n numbers, which is all that
    // the strides reach: a(i, d) = i dim + d, b(d, j) = j dim + d, out(i, j) = j m + i. `out` is borrowed mutably, so
    // nothing aliases it; it is initialised and not read (`read_dst` is false). Row lengths fit isize as slices do.
    unsafe {
        gemm::gemm(
            m,
            n,
            dim,
            out.as_mut_ptr(),
            m as isize,
            1,
            false,
            a.as_ptr(),
            1,
            dim as isize,
            b.as_ptr(),
            dim as isize,
            1,
            T::ZERO,
            T::ONE,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_to_the_plain_loops() {
        for (m, n, dim) in [(1, 1, 1), (3, 5, 7), (17, 9, 33), (64, 70, 16), (0, 3, 2)] {
            let fill = |count: usize, salt: u32| -> Vec<f64> {
                (0..count as u32)
                    .map(|i| f64::from((i + salt).wrapping_mul(2_654_435_761) >> 20) / 4096.0 - 0.5)
                    .collect()
            };
            let (a, b) = (fill(m * dim, 1), fill(n * dim, 77));
            let mut out = vec![0.0; m * n];
            row_products(&a, &b, dim, &mut out);
            let narrow = |v: &[f64]| v.iter().map(|&x| x as f32).collect::<Vec<f32>>();
            let mut single = vec![0f32; m * n];
            row_products(&narrow(&a), &narrow(&b), dim, &mut single);
            for j in 0..n {
                for i in 0..m {
                    let plain: f64 = (0..dim).map(|d| a[i * dim + d] * b[j * dim + d]).sum();
                    assert!((out[j * m + i] - plain).abs() < 1e-13);
                    assert!((f64::from(single[j * m + i]) - plain).abs() < 1e-5);
                }
            }
        }
    }
}
