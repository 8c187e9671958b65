//! How many levels lie above each of several thresholds: the inner loop of ranking.
//!
//! Most candidates lie below all relevant samples, so those above the lowest threshold are packed together first and
//! only they meet the others; as thresholds rise and fewer are left, they are packed again. With AVX-512 packing is one
//! instruction and counting a comparison and the bits of its mask; elsewhere plain loops do the same.

/// Counts above a threshold with a margin: surely above, and above or too near to tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) sure: u32,
    pub(crate) maybe: u32,
}

/// Numbers that are counted at once: loops over a few large parts end where the CPU expects it.
pub(crate) const PART: usize = 64;
/// Numbers of a vector.
const LANES: usize = 16;
/// Packing costs about as much as counting against two thresholds: with fewer to go it would not pay.
const WORTH_PACKING: usize = 3;

/// Whether to pack `held` numbers again when `left` of them are above threshold `k` and count.
fn worth_packing(k: usize, left: usize, held: usize) -> bool {
    k > WORTH_PACKING && 2 * left.div_ceil(PART) <= held.div_ceil(PART)
}

/// Copies what of `row` is above the threshold to the front of `kept`, and gives how many they are. What lies behind
/// them in `kept` is anything; it is at least [`PART`] longer than `row`.
pub(crate) fn pack(row: &[f32], threshold: f32, kept: &mut [f32]) -> usize {
    assert!(kept.len() >= row.len() + PART, "too little room");
    #[cfg(target_arch = "x86_64")]
    if avx512::supported() {
        // SAFETY: the CPU has the features that the function is compiled for.
        return unsafe { avx512::pack(row, threshold, kept) };
    }
    plain::pack(row, threshold, kept)
}

/// For each threshold, how many of the first `held` in `kept` are above its `high` and above its `low`; both descend,
/// and `high >= low`. What nothing reaches stays as it is in `out`. `kept` is changed, and must have [`PART`] numbers
/// behind the first `held`.
pub(crate) fn count(kept: &mut [f32], held: usize, high: &[f32], low: &[f32], out: &mut [Count]) {
    assert!(kept.len() >= held + PART, "too little room");
    #[cfg(target_arch = "x86_64")]
    if avx512::supported() {
        // SAFETY: the CPU has the features that the function is compiled for.
        unsafe { avx512::count(kept, held, high, low, out) }
        return;
    }
    plain::count(kept, held, high, low, out);
}

/// Calls `visit` with the place of each of `row` that is above `low` and not above `high`.
pub(crate) fn between(row: &[f32], high: f32, low: f32, mut visit: impl FnMut(usize)) {
    #[cfg(target_arch = "x86_64")]
    if avx512::supported() {
        // SAFETY: the CPU has the features that the function is compiled for.
        let whole = unsafe { avx512::between(row, high, low, &mut visit) };
        plain::between(&row[whole..], high, low, |i| visit(whole + i));
        return;
    }
    plain::between(row, high, low, visit);
}

mod plain {
    use super::{Count, PART, worth_packing};
    use crate::simd;

    pub(super) fn pack(row: &[f32], threshold: f32, kept: &mut [f32]) -> usize {
        let mut held = 0;
        for &v in row {
            kept[held] = v;
            held += usize::from(v > threshold);
        }
        held
    }

    pub(super) fn count(
        kept: &mut [f32],
        mut held: usize,
        high: &[f32],
        low: &[f32],
        out: &mut [Count],
    ) {
        let thresholds = high.iter().zip(low).zip(out).enumerate().rev();
        for (k, ((&high, &low), out)) in thresholds {
            let values = &mut kept[..held];
            let count = simd::run(
                #[inline(always)]
                || {
                    let above = |t: f32| values.iter().map(|&v| u32::from(v > t)).sum::<u32>();
                    Count {
                        sure: above(high),
                        maybe: above(low),
                    }
                },
            );
            if count.maybe == 0 {
                break;
            }
            *out = count;
            if worth_packing(k, count.maybe as usize, held) {
                held = 0;
                for i in 0..values.len() {
                    values[held] = values[i];
                    held += usize::from(values[i] > low);
                }
            }
        }
    }

    pub(super) fn between(row: &[f32], high: f32, low: f32, mut visit: impl FnMut(usize)) {
        // They are few: find the parts that hold any first.
        for (i, part) in row.chunks(PART).enumerate() {
            let holds = simd::run(
                #[inline(always)]
                || {
                    let near = |v: f32| (v > low) & (v <= high);
                    part.iter().fold(false, |any, &v| any | near(v))
                },
            );
            if holds {
                let near = |(_, v): &(usize, &f32)| **v > low && **v <= high;
                for (j, _) in part.iter().enumerate().filter(near) {
                    visit(i * PART + j);
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        _CMP_GT_OQ, _CMP_LE_OQ, _mm512_cmp_ps_mask, _mm512_mask_cmp_ps_mask,
        _mm512_maskz_compress_ps, _mm512_set1_ps,
    };

    use super::{Count, LANES, PART, worth_packing};
    use crate::simd::avx512::{numbers, vector};

    pub(super) fn supported() -> bool {
        std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("popcnt")
    }

    #[target_feature(enable = "avx512f,popcnt")]
    pub(super) fn pack(row: &[f32], threshold: f32, kept: &mut [f32]) -> usize {
        let mut held = 0;
        let (parts, rest) = row.as_chunks::<LANES>();
        for part in parts {
            held += pack_part(part, threshold, &mut kept[held..]);
        }
        let mut last = [f32::NEG_INFINITY; LANES];
        if let Some(to) = last.get_mut(..rest.len()) {
            to.copy_from_slice(rest);
            held += pack_part(&last, threshold, &mut kept[held..]);
        }
        held
    }

    #[target_feature(enable = "avx512f,popcnt")]
    pub(super) fn count(
        kept: &mut [f32],
        mut held: usize,
        high: &[f32],
        low: &[f32],
        out: &mut [Count],
    ) {
        fill_up(kept, held);
        let thresholds = high.iter().zip(low).zip(out).enumerate().rev();
        for (k, ((&high, &low), out)) in thresholds {
            let (h, l) = (_mm512_set1_ps(high), _mm512_set1_ps(low));
            let (parts, _) = kept[..held.next_multiple_of(PART)].as_chunks::<PART>();
            let mut count = Count::default();
            for part in parts {
                for part in part.as_chunks::<LANES>().0 {
                    let v = vector(part);
                    count.sure += _mm512_cmp_ps_mask::<_CMP_GT_OQ>(v, h).count_ones();
                    count.maybe += _mm512_cmp_ps_mask::<_CMP_GT_OQ>(v, l).count_ones();
                }
            }
            if count.maybe == 0 {
                break;
            }
            *out = count;
            if worth_packing(k, count.maybe as usize, held) {
                let mut to = 0;
                for from in (0..held).step_by(LANES) {
                    let mut part = [0f32; LANES];
                    part.copy_from_slice(&kept[from..from + LANES]);
                    // Never past what has been read: as much is kept at most.
                    to += pack_part(&part, low, &mut kept[to..]);
                }
                held = to;
                fill_up(kept, held);
            }
        }
    }

    #[target_feature(enable = "avx512f,popcnt")]
    fn pack_part(part: &[f32; LANES], threshold: f32, to: &mut [f32]) -> usize {
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
        if let Some(to) = kept[held..].first_chunk_mut::<PART>() {
            *to = [f32::NEG_INFINITY; PART];
        }
    }

    /// Looks at as many of `row` as make whole vectors, and gives how many those are.
    #[target_feature(enable = "avx512f,popcnt")]
    pub(super) fn between(
        row: &[f32],
        high: f32,
        low: f32,
        visit: &mut impl FnMut(usize),
    ) -> usize {
        let (h, l) = (_mm512_set1_ps(high), _mm512_set1_ps(low));
        let (parts, _) = row.as_chunks::<LANES>();
        for (i, part) in parts.iter().enumerate() {
            let v = vector(part);
            let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(v, l);
            let mut found = _mm512_mask_cmp_ps_mask::<_CMP_LE_OQ>(above, v, h);
            while found != 0 {
                visit(i * LANES + found.trailing_zeros() as usize);
                found &= found - 1;
            }
        }
        parts.len() * LANES
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
        for high in [few, none, many] {
            let low: Vec<f32> = high.iter().map(|h| h - 0.03).collect();
            let lowest = low[low.len() - 1];
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
                let run = |fast: bool| {
                    // What lies in the scratch before does not matter.
                    let mut kept = vec![9.0; n + PART];
                    let mut out = vec![Count::default(); high.len()];
                    if fast {
                        let held = pack(row, lowest, &mut kept);
                        count(&mut kept, held, &high, &low, &mut out);
                    } else {
                        let held = plain::pack(row, lowest, &mut kept);
                        plain::count(&mut kept, held, &high, &low, &mut out);
                    }
                    out
                };
                assert_eq!(run(true), expected, "{n} levels");
                assert_eq!(run(false), expected, "{n} levels, plain");
                let (mut fast, mut slow) = (Vec::new(), Vec::new());
                between(row, high[1], low[1], |i| fast.push(i));
                plain::between(row, high[1], low[1], |i| slow.push(i));
                let near = |i: &usize| row[*i] > low[1] && row[*i] <= high[1];
                let wanted: Vec<usize> = (0..n).filter(near).collect();
                assert_eq!((fast, slow), (wanted.clone(), wanted), "{n} levels");
            }
        }
    }
}
