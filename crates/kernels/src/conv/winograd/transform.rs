//! The transforms of one tile, for a vector of channels.

use super::{LANES, POINTS};
pub(super) use crate::simd::load;
use crate::simd::store;
use pulp::Simd;

/// The points besides 0 and infinity are +-A and +-B.
const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
const B: f32 = std::f32::consts::SQRT_2;

/// Where the pixels of a tile lie.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) start: usize,
    pub(super) row: usize,
    pub(super) col: usize,
}

/// `a + k b`.
#[inline(always)]
fn plus<S: Simd>(simd: S, a: S::f32s, k: f32, b: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(k), b, a)
}

/// `k a`.
#[inline(always)]
fn times<S: Simd>(simd: S, k: f32, a: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.splat_f32s(k), a)
}

/// Six pixels at the six points.
#[inline(always)]
fn input<S: Simd>(simd: S, [d0, d1, d2, d3, d4, d5]: [S::f32s; 6]) -> [S::f32s; 6] {
    let (even_a, odd_a) = (plus(simd, d4, -2.0, d2), plus(simd, d3, -2.0, d1));
    let (even_b, odd_b) = (plus(simd, d4, -0.5, d2), plus(simd, d3, -0.5, d1));
    [
        plus(simd, simd.add_f32s(d0, d4), -2.5, d2),
        plus(simd, even_a, A, odd_a),
        plus(simd, even_a, -A, odd_a),
        plus(simd, even_b, B, odd_b),
        plus(simd, even_b, -B, odd_b),
        plus(simd, simd.add_f32s(d1, d5), -2.5, d3),
    ]
}

/// Three taps at the six points.
#[inline(always)]
fn kernel<S: Simd>(simd: S, [g0, g1, g2]: [S::f32s; 3]) -> [S::f32s; 6] {
    let (near, far) = (-2.0 / 3.0, 1.0 / 6.0);
    let (even_a, odd_a) = (
        times(simd, near, plus(simd, g0, 0.5, g2)),
        times(simd, near * A, g1),
    );
    let (even_b, odd_b) = (
        times(simd, far, plus(simd, g0, 2.0, g2)),
        times(simd, far * B, g1),
    );
    [
        g0,
        simd.add_f32s(even_a, odd_a),
        simd.sub_f32s(even_a, odd_a),
        simd.add_f32s(even_b, odd_b),
        simd.sub_f32s(even_b, odd_b),
        g2,
    ]
}

/// Four output gradients, as taps, at the six points; the weights of the points come in at the end.
#[inline(always)]
fn gradient<S: Simd>(simd: S, [g0, g1, g2, g3]: [S::f32s; 4]) -> [S::f32s; 6] {
    let (even_a, odd_a) = (plus(simd, g0, 0.5, g2), plus(simd, g1, 0.5, g3));
    let (even_b, odd_b) = (plus(simd, g0, 2.0, g2), plus(simd, g1, 2.0, g3));
    [
        g0,
        plus(simd, even_a, A, odd_a),
        plus(simd, even_a, -A, odd_a),
        plus(simd, even_b, B, odd_b),
        plus(simd, even_b, -B, odd_b),
        g3,
    ]
}

/// Four pixels from their values at the six points.
#[inline(always)]
fn output<S: Simd>(simd: S, [m0, m1, m2, m3, m4, m5]: [S::f32s; 6]) -> [S::f32s; 4] {
    let (sum_a, odd_a) = (simd.add_f32s(m1, m2), simd.sub_f32s(m1, m2));
    let (sum_b, odd_b) = (simd.add_f32s(m3, m4), simd.sub_f32s(m3, m4));
    [
        simd.add_f32s(m0, simd.add_f32s(sum_a, sum_b)),
        plus(simd, times(simd, A, odd_a), B, odd_b),
        plus(simd, times(simd, 0.5, sum_a), 2.0, sum_b),
        plus(simd, plus(simd, m5, A / 2.0, odd_a), 2.0 * B, odd_b),
    ]
}

/// Three taps from their values at the six points.
#[inline(always)]
fn taps<S: Simd>(simd: S, [m0, m1, m2, m3, m4, m5]: [S::f32s; 6]) -> [S::f32s; 3] {
    let (near, far) = (-2.0 / 3.0, 1.0 / 6.0);
    let (sum_a, odd_a) = (
        times(simd, near, simd.add_f32s(m1, m2)),
        times(simd, near, simd.sub_f32s(m1, m2)),
    );
    let (sum_b, odd_b) = (
        times(simd, far, simd.add_f32s(m3, m4)),
        times(simd, far, simd.sub_f32s(m3, m4)),
    );
    [
        simd.add_f32s(m0, simd.add_f32s(sum_a, sum_b)),
        plus(simd, times(simd, A, odd_a), B, odd_b),
        plus(simd, plus(simd, m5, 0.5, sum_a), 2.0, sum_b),
    ]
}

/// Applies `f` along columns, then along rows: N x N to M x M, where `at(i, j)` reads.
#[inline(always)]
fn both<S: Simd, const N: usize, const M: usize>(
    simd: S,
    at: impl Fn(usize, usize) -> S::f32s,
    f: impl Fn([S::f32s; N]) -> [S::f32s; M],
) -> [[S::f32s; M]; M] {
    let zero = simd.splat_f32s(0.0);
    let mut half = [[zero; N]; M];
    for j in 0..N {
        let mut column = [zero; N];
        for (i, value) in column.iter_mut().enumerate() {
            *value = at(i, j);
        }
        for (row, value) in half.iter_mut().zip(f(column)) {
            row[j] = value;
        }
    }
    let mut out = [[zero; M]; M];
    for (d, row) in out.iter_mut().zip(half) {
        *d = f(row);
    }
    out
}

/// Stores the values at pairs of points `stride` apart.
#[inline(always)]
fn scatter<S: Simd>(values: &[[S::f32s; 6]; 6], out: &mut [f32], to: usize, stride: usize) {
    for (i, row) in values.iter().enumerate() {
        for (j, value) in row.iter().enumerate() {
            store::<S>(out, to + (i * 6 + j) * stride, *value);
        }
    }
}

/// 6 x 6 pixels to 6 x 6 points.
#[inline(always)]
pub(super) fn input_tile<S: Simd>(
    simd: S,
    pixels: &[f32],
    from: Tile,
    out: &mut [f32],
    to: usize,
    stride: usize,
) {
    let values = both::<S, 6, 6>(
        simd,
        #[inline(always)]
        |i, j| load::<S>(pixels, from.start + i * from.row + j * from.col),
        #[inline(always)]
        |d| input(simd, d),
    );
    scatter::<S>(&values, out, to, stride);
}

/// 4 x 4 output gradients to 6 x 6 points.
#[inline(always)]
pub(super) fn gradient_tile<S: Simd>(
    simd: S,
    pixels: &[f32],
    from: Tile,
    out: &mut [f32],
    to: usize,
    stride: usize,
) {
    let values = both::<S, 4, 6>(
        simd,
        #[inline(always)]
        |i, j| load::<S>(pixels, from.start + i * from.row + j * from.col),
        #[inline(always)]
        |d| gradient(simd, d),
    );
    scatter::<S>(&values, out, to, stride);
}

/// 3 x 3 taps, from lane `first` on, to 6 x 6 points.
#[inline(always)]
pub(super) fn kernel_tile<S: Simd>(
    simd: S,
    taps: &[[f32; LANES]; 9],
    first: usize,
    out: &mut [f32],
    to: usize,
    stride: usize,
) {
    let values = both::<S, 3, 6>(
        simd,
        #[inline(always)]
        |i, j| load::<S>(&taps[i * 3 + j], first),
        #[inline(always)]
        |d| kernel(simd, d),
    );
    scatter::<S>(&values, out, to, stride);
}

/// 6 x 6 points, `stride` apart, to 4 x 4 pixels.
#[inline(always)]
pub(super) fn output_tile<S: Simd>(
    simd: S,
    sums: &[f32],
    from: usize,
    stride: usize,
    pixels: &mut [f32],
    to: Tile,
) {
    let values = both::<S, 6, 4>(
        simd,
        #[inline(always)]
        |i, j| load::<S>(sums, from + (i * 6 + j) * stride),
        #[inline(always)]
        |d| output(simd, d),
    );
    for (i, row) in values.iter().enumerate() {
        for (j, value) in row.iter().enumerate() {
            store::<S>(pixels, to.start + i * to.row + j * to.col, *value);
        }
    }
}

/// 6 x 6 points to 3 x 3 taps, from lane `first` on.
#[inline(always)]
pub(super) fn kernel_gradient<S: Simd>(
    simd: S,
    sums: &[S::f32s; POINTS],
    out: &mut [[f32; LANES]; 9],
    first: usize,
) {
    let values = both::<S, 6, 3>(
        simd,
        #[inline(always)]
        |i, j| sums[i * 6 + j],
        #[inline(always)]
        |d| taps(simd, d),
    );
    for (i, row) in values.iter().enumerate() {
        for (j, value) in row.iter().enumerate() {
            store::<S>(&mut out[i * 3 + j], first, *value);
        }
    }
}
