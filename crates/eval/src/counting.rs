//! How many levels lie above each of several thresholds: the inner loop of ranking.
//!
//! Most candidates lie below all relevant samples, so those above the lowest threshold are packed together first and
//! only they meet the others; as thresholds rise and fewer are left, they are packed again. With AVX-512 packing is one
//! instruction and counting a comparison and the bits of its mask; elsewhere plain loops do the same.

use crate::simd::largest;

/// Counts above a threshold with a margin: surely above, and above or too near to tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) sure: u32,
    pub(crate) maybe: u32,
}

/// Numbers that are compared at once; `kept` must be longer than the row by as many.
pub(crate) const LANES: usize = 16;
/// Packing costs about as much as counting against two thresholds: with fewer to go it would not pay.
const WORTH_PACKING: usize = 3;

/// For each threshold, how many of `row` are above its `high` and above its `low`; both descend, and `high >= low`.
/// What nothing reaches stays as it is in `out`. `kept` is scratch, at least [`LANES`] longer than `row`.
pub(crate) fn count_row(
    row: &[f32],
    high: &[f32],
    low: &[f32],
    kept: &mut [f32],
    out: &mut [Count],
) {
    debug_assert!(kept.len() >= row.len() + LANES, "scratch is too short");
    #[cfg(target_arch = "x86_64")]
    if avx512::supported() {
        // SAFETY: the CPU has the features that the function is compiled for.
        unsafe { avx512::count(row, high, low, kept, out) }
        return;
    }
    plain(row, high, low, kept, out);
}

fn plain(row: &[f32], high: &[f32], low: &[f32], kept: &mut [f32], out: &mut [Count]) {
    let best = crate::simd::run(
        #[inline(always)]
        || largest(row),
    );
    let Some(&lowest) = low.last().filter(|lowest| best > **lowest) else {
        return;
    };
    let mut held = 0;
    for &v in row {
        kept[held] = v;
        held += usize::from(v > lowest);
    }
    let thresholds = high.iter().zip(low).zip(out).enumerate().rev();
    for (k, ((&high, &low), out)) in thresholds {
        if best <= low {
            break;
        }
        let kept = &mut kept[..held];
        *out = crate::simd::run(
            #[inline(always)]
            || {
                let above = |t: f32| kept.iter().map(|&v| u32::from(v > t)).sum::<u32>();
                Count {
                    sure: above(high),
                    maybe: above(low),
                }
            },
        );
        if k > WORTH_PACKING && out.maybe as usize * 2 < held {
            held = 0;
            for i in 0..kept.len() {
                kept[held] = kept[i];
                held += usize::from(kept[i] > low);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        _CMP_GT_OQ, _mm512_cmp_ps_mask, _mm512_maskz_compress_ps, _mm512_set1_ps,
    };

    use super::{Count, LANES, WORTH_PACKING};
    use crate::simd::avx512::{numbers, vector};

    pub(super) fn supported() -> bool {
        std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("popcnt")
    }

    #[target_feature(enable = "avx512f,popcnt")]
    pub(super) fn count(
        row: &[f32],
        high: &[f32],
        low: &[f32],
        kept: &mut [f32],
        out: &mut [Count],
    ) {
        let Some(&lowest) = low.last() else {
            return;
        };
        let mut held = 0;
        let (vectors, rest) = row.as_chunks::<LANES>();
        for part in vectors {
            held += pack(part, lowest, &mut kept[held..]);
        }
        if !rest.is_empty() {
            let mut part = [f32::NEG_INFINITY; LANES];
            part[..rest.len()].copy_from_slice(rest);
            held += pack(&part, lowest, &mut kept[held..]);
        }
        fill_up(kept, held);
        let thresholds = high.iter().zip(low).zip(out).enumerate().rev();
        for (k, ((&high, &low), out)) in thresholds {
            if held == 0 {
                break;
            }
            let (h, l) = (_mm512_set1_ps(high), _mm512_set1_ps(low));
            let (vectors, _) = kept[..held.next_multiple_of(LANES)].as_chunks::<LANES>();
            let mut count = Count::default();
            for part in vectors {
                let v = vector(part);
                count.sure += _mm512_cmp_ps_mask::<_CMP_GT_OQ>(v, h).count_ones();
                count.maybe += _mm512_cmp_ps_mask::<_CMP_GT_OQ>(v, l).count_ones();
            }
            *out = count;
            let left = count.maybe as usize;
            if left == 0 || (k > WORTH_PACKING && left * 2 < held) {
                let mut to = 0;
                for from in (0..held).step_by(LANES) {
                    let mut part = [0f32; LANES];
                    part.copy_from_slice(&kept[from..from + LANES]);
                    // Never past what has been read: as much is kept at most.
                    to += pack(&part, low, &mut kept[to..]);
                }
                held = to;
                fill_up(kept, held);
            }
        }
    }

    /// Writes what is above the threshold, and anything after it; gives how many they are.
    #[target_feature(enable = "avx512f,popcnt")]
    fn pack(part: &[f32; LANES], threshold: f32, to: &mut [f32]) -> usize {
        let v = vector(part);
        let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(v, _mm512_set1_ps(threshold));
        if let Some(to) = to.first_chunk_mut::<LANES>() {
            *to = numbers(_mm512_maskz_compress_ps(above, v));
        }
        above.count_ones() as usize
    }

    /// What is compared beyond the last one kept is above nothing.
    #[target_feature(enable = "avx512f")]
    fn fill_up(kept: &mut [f32], held: usize) {
        if let Some(to) = kept[held..].first_chunk_mut::<LANES>() {
            *to = [f32::NEG_INFINITY; LANES];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_to_the_plain_count() {
        let values: Vec<f32> = (0..2000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e7 - 0.8)
            .collect();
        let few = vec![2.0, 0.7, 0.3, -0.1, -2.0];
        let none = vec![2.0, 1.9, 1.5];
        let many: Vec<f32> = (0..90).map(|i| 0.9 - i as f32 * 0.02).collect();
        for high in [few, none, many, Vec::new()] {
            let low: Vec<f32> = high.iter().map(|h| h - 0.03).collect();
            for n in [0, 1, 15, 16, 17, 33, 63, 64, 65, 512, 2000] {
                let row = &values[..n];
                let above = |t: f32| row.iter().filter(|&&v| v > t).count() as u32;
                let expected: Vec<Count> = high
                    .iter()
                    .zip(&low)
                    .map(|(&high, &low)| Count {
                        sure: above(high),
                        maybe: above(low),
                    })
                    .collect();
                for count in [count_row, plain] {
                    // What lies in the scratch before does not matter.
                    let mut kept = vec![9.0; n + LANES];
                    let mut out = vec![Count::default(); high.len()];
                    count(row, &high, &low, &mut kept, &mut out);
                    assert_eq!(out, expected, "{n} levels, {} thresholds", high.len());
                }
            }
        }
    }
}
