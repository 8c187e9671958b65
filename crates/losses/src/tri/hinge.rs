//! The hinges and soft hinges of one anchor over all its triplets, without a list of them.
//!
//! In terms of `u`, which grows with distance, a triplet has `v = u_p + margin - u_n`; its hinge is active when `u_n < u_p + margin`, one
//! comparison that value, count and gradient share.

use crate::engine::{Real, simd};
use crate::reducer::{Part, Plan};

/// Which triplets take part, by `t = u_n - u_p`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    All,
    /// `t <= 0`.
    Hard,
    /// `0 < t <= margin`.
    SemiHard,
}

/// `u_n` takes part with `u_p` when `low < u_n <= high`.
#[inline(always)]
fn limits<T: Real>(filter: Filter, up: T, margin: T) -> (T, T) {
    match filter {
        Filter::All => (T::NEG_INFINITY, T::INFINITY),
        Filter::Hard => (T::NEG_INFINITY, up),
        Filter::SemiHard => (up, up + margin),
    }
}

/// Up to this many positives each is held against every negative in one vectorised loop; more are sorted.
const FEW: usize = 8;

/// All triplets of an anchor; `pos` and `neg` are replaced by gradients of the sum.
pub(super) fn hinge<T: Real>(
    pos: &mut [T],
    neg: &mut [T],
    margin: T,
    filter: Filter,
    plan: &Plan,
) -> Part {
    if !plan.keeps_all() && !plan.keeps_above_zero() {
        return one_by_one(pos, neg, margin, filter, plan, |v| {
            let active = v > T::ZERO;
            (v.larger(T::ZERO), if active { T::ONE } else { T::ZERO })
        });
    }
    let mut part = if pos.len() <= FEW {
        few(pos, neg, margin, filter)
    } else {
        sorted(pos, neg, margin, filter)
    };
    if plan.keeps_all() {
        part.kept = part.total;
    }
    part
}

/// `log(1 + e^v)` over all triplets.
pub(super) fn soft<T: Real>(
    pos: &mut [T],
    neg: &mut [T],
    margin: T,
    filter: Filter,
    plan: &Plan,
) -> Part {
    if !plan.keeps_all() && !plan.keeps_above_zero() {
        return one_by_one(pos, neg, margin, filter, plan, |v| simd::softplus(v));
    }
    let mut slopes = vec![T::ZERO; neg.len()];
    let mut part = Part::default();
    for p in pos.iter_mut() {
        let (low, high) = limits(filter, *p, margin);
        let top = *p + margin;
        let [sum, pull, total] = lanes(
            neg,
            &mut slopes,
            #[inline(always)]
            |u, slope| {
                let (loss, share) = simd::softplus(top - u);
                let on = if u > low && u <= high {
                    T::ONE
                } else {
                    T::ZERO
                };
                *slope -= on * share;
                [on * loss, on * share, on]
            },
        );
        *p = pull;
        part.sum += sum.to_f64();
        part.total += total.to_f64();
    }
    neg.copy_from_slice(&slopes);
    // A soft hinge is above 0 whatever its argument.
    part.kept = part.total;
    part
}

/// Three sums over `x`, each in lanes of a fixed order.
#[inline(always)]
fn lanes<T: Real>(x: &[T], y: &mut [T], f: impl Fn(T, &mut T) -> [T; 3]) -> [T; 3] {
    use simd::LANES;
    simd::run(
        #[inline(always)]
        || {
            let mut acc = [[T::ZERO; LANES]; 3];
            let (xs, xr) = x.as_chunks::<LANES>();
            let (ys, yr) = y.as_chunks_mut::<LANES>();
            for (x, y) in xs.iter().zip(ys) {
                for l in 0..LANES {
                    let [a, b, c] = f(x[l], &mut y[l]);
                    acc[0][l] += a;
                    acc[1][l] += b;
                    acc[2][l] += c;
                }
            }
            for (l, (&x, y)) in xr.iter().zip(yr).enumerate() {
                let [a, b, c] = f(x, y);
                acc[0][l] += a;
                acc[1][l] += b;
                acc[2][l] += c;
            }
            acc.map(|a| simd::tree(a, |a, b| a + b))
        },
    )
}

fn few<T: Real>(pos: &mut [T], neg: &mut [T], margin: T, filter: Filter) -> Part {
    let mut slopes = vec![T::ZERO; neg.len()];
    let mut part = Part::default();
    for p in pos.iter_mut() {
        let (low, high) = limits(filter, *p, margin);
        let top = *p + margin;
        let [sum, active, total] = lanes(
            neg,
            &mut slopes,
            #[inline(always)]
            |u, slope| {
                let on = if u > low && u <= high {
                    T::ONE
                } else {
                    T::ZERO
                };
                let active = if u < top { on } else { T::ZERO };
                *slope -= active;
                [active * (top - u), active, on]
            },
        );
        *p = active;
        part.sum += sum.to_f64();
        part.kept += active.to_f64();
        part.total += total.to_f64();
    }
    neg.copy_from_slice(&slopes);
    part
}

/// Sorts the positives; for each negative the active ones are a range, found by bisection and summed by prefix sums.
fn sorted<T: Real>(pos: &mut [T], neg: &mut [T], margin: T, filter: Filter) -> Part {
    let n = pos.len();
    let mut order: Vec<u32> = (0..n as u32).collect();
    order.sort_unstable_by(|&a, &b| pos[a as usize].order(&pos[b as usize]).then(a.cmp(&b)));
    let u: Vec<T> = order.iter().map(|&i| pos[i as usize]).collect();
    let top: Vec<T> = u.iter().map(|&v| v + margin).collect();
    let mut prefix = Vec::with_capacity(n + 1);
    let mut sum = 0.0;
    prefix.push(0.0);
    for &v in &top {
        sum += v.to_f64();
        prefix.push(sum);
    }
    let mut change = vec![0i64; n + 1];
    let mut part = Part::default();
    for v in neg.iter_mut() {
        let x = *v;
        let first_active = top.partition_point(|&t| t <= x);
        let (low, high, taken) = match filter {
            Filter::All => (first_active, n, n),
            Filter::Hard => {
                let from = u.partition_point(|&p| p < x);
                (first_active.max(from), n, n - from)
            }
            Filter::SemiHard => {
                let to = u.partition_point(|&p| p < x);
                let from = top.partition_point(|&t| t < x);
                (first_active.min(to), to, to.saturating_sub(from))
            }
        };
        let count = high - low;
        part.total += taken as f64;
        part.kept += count as f64;
        part.sum += prefix[high] - prefix[low] - count as f64 * x.to_f64();
        change[low] += 1;
        change[high] -= 1;
        *v = -T::from_f64(count as f64);
    }
    let mut active = 0;
    for (&i, c) in order.iter().zip(&change) {
        active += c;
        pos[i as usize] = T::from_f64(active as f64);
    }
    part
}

/// Any gate on single terms.
fn one_by_one<T: Real>(
    pos: &mut [T],
    neg: &mut [T],
    margin: T,
    filter: Filter,
    plan: &Plan,
    f: impl Fn(T) -> (T, T),
) -> Part {
    let mut slopes = vec![T::ZERO; neg.len()];
    let mut part = Part::default();
    for p in pos.iter_mut() {
        let (low, high) = limits(filter, *p, margin);
        let top = *p + margin;
        let mut pull = T::ZERO;
        for (&u, slope) in neg.iter().zip(&mut slopes) {
            if !(u > low && u <= high) {
                continue;
            }
            let (loss, share) = f(top - u);
            let term = plan.term(loss.to_f64());
            if term.kept > 0.0 {
                pull += share;
                *slope -= share;
            }
            part = part.add(term);
        }
        *p = pull;
    }
    neg.copy_from_slice(&slopes);
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reducer::{Reducer, Terms};

    #[test]
    fn sorting_equals_trying_every_triplet() {
        let mut state = 7u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            // Coarse, so that ties and zeros occur.
            ((state >> 60) as f64) / 8.0
        };
        let plan = Reducer::AvgNonZero.plan(Terms::Triplets, None).unwrap();
        for case in 0..200 {
            let (p, n) = (1 + case % 14, case % 23);
            let pos: Vec<f64> = (0..p).map(|_| next()).collect();
            let neg: Vec<f64> = (0..n).map(|_| next()).collect();
            for filter in [Filter::All, Filter::Hard, Filter::SemiHard] {
                for margin in [0.25, 0.0] {
                    let run = |f: &dyn Fn(&mut [f64], &mut [f64]) -> Part| {
                        let (mut a, mut b) = (pos.clone(), neg.clone());
                        let part = f(&mut a, &mut b);
                        (part, a, b)
                    };
                    let brute = run(&|a, b| {
                        one_by_one(a, b, margin, filter, &plan, |v| {
                            (v.max(0.0), if v > 0.0 { 1.0 } else { 0.0 })
                        })
                    });
                    for ours in [
                        run(&|a, b| few(a, b, margin, filter)),
                        run(&|a, b| sorted(a, b, margin, filter)),
                    ] {
                        assert!((ours.0.sum - brute.0.sum).abs() < 1e-12);
                        assert_eq!(
                            (ours.0.kept, ours.0.total),
                            (brute.0.kept, brute.0.total),
                            "{filter:?} {margin} {pos:?} {neg:?}"
                        );
                        assert_eq!((&ours.1, &ours.2), (&brute.1, &brute.2));
                    }
                }
            }
        }
    }
}
