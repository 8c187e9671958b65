//! How many levels lie above each of several thresholds: the inner loops of ranking, with explicit vectors, because the
//! compiler turns the plain loops into gathers or mask moves that cost several times as much.

use pulp::Simd;

use crate::simd;

/// Queries that are counted side by side.
pub(crate) const LANES: usize = 16;

/// Counts above a threshold with a margin: surely above, and above or too near to tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) sure: u32,
    pub(crate) maybe: u32,
}

/// For each threshold, how many of `row` are above its `high` and above its `low`; both descend. What nothing reaches
/// stays as it is in `out`.
pub(crate) fn count_row(row: &[f32], high: &[f32], low: &[f32], out: &mut [Count]) {
    simd::with(Row {
        row,
        high,
        low,
        out,
    });
}

struct Row<'a> {
    row: &'a [f32],
    high: &'a [f32],
    low: &'a [f32],
    out: &'a mut [Count],
}

impl pulp::WithSimd for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let best = simd::largest(self.row);
        let (pairs, rest) = self.row.as_chunks::<64>();
        let thresholds = self.high.iter().zip(self.low).zip(self.out).rev();
        for ((&high, &low), out) in thresholds.take_while(|((_, low), _)| best > **low) {
            let mut counts = [[simd.splat_u32s(0); 2]; 2];
            let (h, l) = (simd.splat_f32s(high), simd.splat_f32s(low));
            for pair in pairs {
                let (levels, _) = S::as_simd_f32s(pair);
                let (twos, _) = levels.as_chunks::<2>();
                for two in twos {
                    for (v, [above_high, above_low]) in two.iter().zip(&mut counts) {
                        *above_high = count_if_above(simd, *v, h, *above_high);
                        *above_low = count_if_above(simd, *v, l, *above_low);
                    }
                }
            }
            let sum = |which: usize| {
                let both = simd.add_u32s(counts[0][which], counts[1][which]);
                let mut all = [0u32; LANES];
                if let Some(to) = S::as_mut_simd_u32s(&mut all).0.first_mut() {
                    *to = both;
                }
                all.iter().sum::<u32>()
            };
            *out = Count {
                sure: sum(0) + rest.iter().map(|&v| u32::from(v > high)).sum::<u32>(),
                maybe: sum(1) + rest.iter().map(|&v| u32::from(v > low)).sum::<u32>(),
            };
        }
    }
}

#[inline(always)]
fn count_if_above<S: Simd>(simd: S, v: S::f32s, threshold: S::f32s, count: S::u32s) -> S::u32s {
    let more = simd.add_u32s(count, simd.splat_u32s(1));
    simd.select_u32s(simd.greater_than_f32s(v, threshold), more, count)
}

/// The same for [`LANES`] rows side by side, each with its own thresholds.
pub(crate) fn count_lanes(
    levels: &[[f32; LANES]],
    high: &[[f32; LANES]],
    low: &[[f32; LANES]],
    out: &mut [[Count; LANES]],
) {
    simd::with(Lanes {
        levels,
        high,
        low,
        out,
    });
}

struct Lanes<'a> {
    levels: &'a [[f32; LANES]],
    high: &'a [[f32; LANES]],
    low: &'a [[f32; LANES]],
    out: &'a mut [[Count; LANES]],
}

impl pulp::WithSimd for Lanes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Vectors of a row of levels, each on its own.
        for part in 0..LANES / S::F32_LANES {
            let vector = |row: &[f32; LANES]| {
                let (vectors, _) = S::as_simd_f32s(row);
                vectors[part]
            };
            let mut best = simd.splat_f32s(f32::NEG_INFINITY);
            for row in self.levels {
                best = simd.max_f32s(best, vector(row));
            }
            for ((high, low), out) in self.high.iter().zip(self.low).zip(&mut *self.out) {
                let (high, low) = (vector(high), vector(low));
                let reached = simd.greater_than_f32s(best, low);
                if simd.first_true_m32s(reached) == S::F32_LANES {
                    continue;
                }
                let mut sure = simd.splat_u32s(0);
                let mut maybe = simd.splat_u32s(0);
                for row in self.levels {
                    let v = vector(row);
                    sure = count_if_above(simd, v, high, sure);
                    maybe = count_if_above(simd, v, low, maybe);
                }
                let mut counts = [[0u32; LANES]; 2];
                for (to, from) in counts.iter_mut().zip([sure, maybe]) {
                    if let Some(to) = S::as_mut_simd_u32s(to).0.first_mut() {
                        *to = from;
                    }
                }
                let from = part * S::F32_LANES;
                for (i, out) in out[from..from + S::F32_LANES].iter_mut().enumerate() {
                    *out = Count {
                        sure: counts[0][i],
                        maybe: counts[1][i],
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_to_the_plain_loops() {
        let values: Vec<f32> = (0..2000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e7 - 0.8)
            .collect();
        let high = [2.0, 0.7, 0.3, -0.1, -2.0];
        let low = [1.5, 0.69, 0.1, -0.3, -3.0];
        let above = |values: &mut dyn Iterator<Item = f32>, t: f32| {
            values.filter(|&v| v > t).count() as u32
        };
        for n in [0, 1, 15, 16, 33, 63, 64, 65, 512, 2000] {
            let row = &values[..n];
            let mut out = [Count::default(); 5];
            count_row(row, &high, &low, &mut out);
            for k in 0..5 {
                let expected = Count {
                    sure: above(&mut row.iter().copied(), high[k]),
                    maybe: above(&mut row.iter().copied(), low[k]),
                };
                assert_eq!(out[k], expected, "{n} levels, threshold {k}");
            }
        }
        let (levels, _) = values.as_chunks::<LANES>();
        let lane = |t: f32| std::array::from_fn::<f32, LANES, _>(|l| t + l as f32 * 0.01);
        let (high, low) = (high.map(lane), low.map(lane));
        let mut out = [[Count::default(); LANES]; 5];
        count_lanes(levels, &high, &low, &mut out);
        for (k, out) in out.iter().enumerate() {
            for (l, &count) in out.iter().enumerate() {
                let column = || levels.iter().map(move |row| row[l]);
                let expected = Count {
                    sure: above(&mut column(), high[k][l]),
                    maybe: above(&mut column(), low[k][l]),
                };
                assert_eq!(count, expected, "lane {l}, threshold {k}");
            }
        }
    }
}
