//! Sorting scores as integers, and merging two sorted sets into their distinct values with counts.

use rayon::prelude::*;

/// Parts that two sorted sets are merged in; fixed, so that the result does not depend on the number of threads.
const PARTS: usize = 16;

/// Distinct values in ascending order, and how many of the first and of the second set lie on each.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Run {
    pub(crate) values: Vec<f64>,
    pub(crate) first: Vec<u32>,
    pub(crate) second: Vec<u32>,
}

/// A finite score as an integer of the same order; -0.0 and 0.0 are one.
pub(crate) fn key(score: f64) -> u64 {
    let bits = (score + 0.0).to_bits();
    if bits >> 63 == 0 {
        bits | 1 << 63
    } else {
        !bits
    }
}

/// The score of a key.
pub(crate) fn value(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 1 { key ^ 1 << 63 } else { !key })
}

/// The keys of all scores, ascending.
pub(crate) fn sorted_keys(scores: &[f64]) -> Vec<u64> {
    let mut keys: Vec<u64> = scores.par_iter().map(|&s| key(s)).collect();
    keys.par_sort_unstable();
    keys
}

/// Length of the run of equal keys at the start.
fn run_length(keys: &[u64], first: u64) -> usize {
    keys.iter().take_while(|&&k| k == first).count()
}

/// Two ascending lists as one.
pub(crate) fn merge(mut first: &[u64], mut second: &[u64]) -> Run {
    let mut run = Run::default();
    loop {
        let next = match (first.first(), second.first()) {
            (Some(&a), Some(&b)) => a.min(b),
            (Some(&a), None) => a,
            (None, Some(&b)) => b,
            (None, None) => return run,
        };
        let (a, b) = (run_length(first, next), run_length(second, next));
        first = &first[a..];
        second = &second[b..];
        run.values.push(value(next));
        run.first.push(a as u32);
        run.second.push(b as u32);
    }
}

/// Two ascending lists as runs that follow each other, merged side by side on all cores.
pub(crate) fn merge_runs(first: &[u64], second: &[u64]) -> Vec<Run> {
    let longer = if first.len() >= second.len() {
        first
    } else {
        second
    };
    // Cut in front of the same key in both, so that no value is split.
    let mut cuts: Vec<(usize, usize)> = (0..PARTS)
        .filter_map(|part| longer.get(part * longer.len() / PARTS))
        .map(|&at| {
            (
                first.partition_point(|&k| k < at),
                second.partition_point(|&k| k < at),
            )
        })
        .collect();
    if let Some(start) = cuts.first_mut() {
        *start = (0, 0);
    }
    cuts.push((first.len(), second.len()));
    cuts.dedup();
    cuts.par_windows(2)
        .filter_map(|pair| match pair {
            [(a, b), (c, d)] => Some(merge(first.get(*a..*c)?, second.get(*b..*d)?)),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_keep_the_order() {
        let scores = [-1e300, -2.0, -1e-310, 0.0, 1e-310, 0.5, 1.0, 1e300];
        for pair in scores.windows(2) {
            assert!(key(pair[0]) < key(pair[1]));
        }
        for score in scores {
            assert_eq!(value(key(score)), score);
        }
        assert_eq!(key(-0.0), key(0.0));
    }

    proptest! {
        #[test]
        fn runs_hold_everything(
            a in proptest::collection::vec(-20i8..20, 0..200),
            b in proptest::collection::vec(-20i8..20, 0..200),
        ) {
            let wide = |v: &[i8]| v.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
            let (a, b) = (wide(&a), wide(&b));
            let (keys_a, keys_b) = (sorted_keys(&a), sorted_keys(&b));
            let whole = merge(&keys_a, &keys_b);
            let mut joined = Run::default();
            for run in merge_runs(&keys_a, &keys_b) {
                joined.values.extend(run.values);
                joined.first.extend(run.first);
                joined.second.extend(run.second);
            }
            prop_assert_eq!(&joined, &whole);
            for ((v, &x), &y) in whole.values.iter().zip(&whole.first).zip(&whole.second) {
                prop_assert_eq!(a.iter().filter(|s| *s == v).count() as u32, x);
                prop_assert_eq!(b.iter().filter(|s| *s == v).count() as u32, y);
            }
            prop_assert!(whole.values.windows(2).all(|w| w[0] < w[1]));
        }
    }
}
