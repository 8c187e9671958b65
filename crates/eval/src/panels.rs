//! Products of many rows with many rows, laid out so that one pass of the kernel needs no packing and its results can be
//! looked at while they lie in the first-level cache.
//!
//! One side lies in panels of [`PANEL`] rows, the other in strips of [`STRIP`] rows, both number by number: a panel is
//! all its rows' first numbers, then all their second ones. A general matrix product packs both sides anew for each block
//! and writes the whole result; over rows of some hundred numbers that and the second look cost as much as the products.

use pulp::Simd;

use crate::simd;

/// Rows of a panel: four AVX-512 vectors, twice four registers of NEON.
pub(crate) const PANEL: usize = 64;
/// Rows of a strip: with four vectors of a panel 24 sums, which leaves registers for what they are made of.
pub(crate) const STRIP: usize = 6;

/// Products of a strip's rows with a panel's rows.
pub(crate) type Tile = [[f32; PANEL]; STRIP];

/// Lays `rows` of `dim` numbers out `width` at a time, the last group filled up with zeros. `fill(i, out)` writes row i.
pub(crate) fn lay_out(
    rows: usize,
    dim: usize,
    width: usize,
    out: &mut Vec<f32>,
    fill: impl Fn(usize, &mut [f32]),
) {
    out.clear();
    out.resize(rows.div_ceil(width) * width * dim, 0.0);
    let mut plain = vec![0f32; width * dim];
    for (group, laid) in out.chunks_exact_mut((width * dim).max(1)).enumerate() {
        let held = width.min(rows - group * width);
        for (i, row) in plain.chunks_exact_mut(dim.max(1)).take(held).enumerate() {
            fill(group * width + i, row);
        }
        for (d, numbers) in laid.chunks_exact_mut(width).enumerate() {
            for (to, row) in numbers.iter_mut().zip(plain.chunks_exact(dim)).take(held) {
                *to = row[d];
            }
        }
    }
}

/// Calls `visit(panel, strip, products)` for each panel with each strip, panel by panel; both of rows of `dim` numbers.
/// One thread. Mark `visit` `#[inline(always)]`: it is compiled for the instruction set of the products.
pub(crate) fn products(
    panels: &[f32],
    strips: &[f32],
    dim: usize,
    visit: impl FnMut(usize, usize, &mut Tile),
) {
    simd::with(Sweep {
        panels,
        strips,
        dim,
        visit,
    });
}

struct Sweep<'p, F> {
    panels: &'p [f32],
    strips: &'p [f32],
    dim: usize,
    visit: F,
}

impl<F: FnMut(usize, usize, &mut Tile)> pulp::WithSimd for Sweep<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Sums that fit the registers: 32 of AVX-512 and NEON, 16 elsewhere.
        match (S::F32_LANES, cfg!(target_arch = "aarch64")) {
            (16, _) | (_, true) => self.sweep::<S, 4>(simd),
            _ => self.sweep::<S, 2>(simd),
        }
    }
}

impl<F: FnMut(usize, usize, &mut Tile)> Sweep<'_, F> {
    #[inline(always)]
    fn sweep<S: Simd, const V: usize>(mut self, simd: S) {
        let mut out: Tile = [[0.0; PANEL]; STRIP];
        let panels = self.panels.chunks_exact((PANEL * self.dim).max(1));
        for (p, panel) in panels.enumerate() {
            let strips = self.strips.chunks_exact((STRIP * self.dim).max(1));
            for (s, strip) in strips.enumerate() {
                tile::<S, V>(simd, panel, strip, &mut out);
                (self.visit)(p, s, &mut out);
            }
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const V: usize>(simd: S, panel: &[f32], strip: &[f32], out: &mut Tile) {
    let (columns, _) = panel.as_chunks::<PANEL>();
    let (rows, _) = strip.as_chunks::<STRIP>();
    let width = V * S::F32_LANES;
    for from in (0..PANEL).step_by(width) {
        let mut sums = [[simd.splat_f32s(0.0); V]; STRIP];
        for (column, row) in columns.iter().zip(rows) {
            let (lanes, _) = S::as_simd_f32s(&column[from..from + width]);
            for (sums, &number) in sums.iter_mut().zip(row) {
                let number = simd.splat_f32s(number);
                for v in 0..V {
                    sums[v] = simd.mul_add_e_f32s(lanes[v], number, sums[v]);
                }
            }
        }
        for (to, sums) in out.iter_mut().zip(&sums) {
            let (to, _) = S::as_mut_simd_f32s(&mut to[from..from + width]);
            to[..V].copy_from_slice(sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_to_the_plain_loops() {
        for (m, n, dim) in [(1, 1, 1), (64, 6, 8), (70, 13, 5), (200, 7, 33)] {
            let make = |rows: usize, salt: u32| -> Vec<f32> {
                (0..(rows * dim) as u32)
                    .map(|i| ((i + salt).wrapping_mul(2_654_435_761) >> 20) as f32 / 4096.0 - 0.5)
                    .collect()
            };
            let (a, b) = (make(m, 1), make(n, 77));
            let row = |table: &[f32], i: usize, out: &mut [f32]| {
                out.copy_from_slice(&table[i * dim..(i + 1) * dim]);
            };
            let (mut panels, mut strips) = (Vec::new(), Vec::new());
            lay_out(m, dim, PANEL, &mut panels, |i, out| row(&a, i, out));
            lay_out(n, dim, STRIP, &mut strips, |i, out| row(&b, i, out));
            let mut seen = 0;
            products(&panels, &strips, dim, |p, s, tile| {
                for (r, products) in tile.iter().enumerate() {
                    for (c, &product) in products.iter().enumerate() {
                        let (i, j) = (p * PANEL + c, s * STRIP + r);
                        if i >= m || j >= n {
                            assert_eq!(product, 0.0);
                            continue;
                        }
                        let plain: f64 = (0..dim)
                            .map(|d| f64::from(a[i * dim + d]) * f64::from(b[j * dim + d]))
                            .sum();
                        assert!((f64::from(product) - plain).abs() < 1e-5);
                        seen += 1;
                    }
                }
            });
            assert_eq!(seen, m * n);
        }
    }
}
