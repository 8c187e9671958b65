//! What miners promise, for any labels and embeddings.

use std::collections::BTreeSet;

use candle::{DType, Tensor};
use phiz_mining::*;
use proptest::prelude::*;

use crate::common::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    /// Whatever the labels, embeddings and measure: no panic, valid tuples, the same again, and the same for renamed labels.
    #[test]
    fn miners_keep_their_promises(
        labels in prop::collection::vec(prop_oneof![0u32..4, Just(1 << 24), Just((1 << 24) + 1), any::<u32>()], 0..20),
        dim in 2usize..6, seed in 0u64..50, step in any::<u64>(),
    ) {
        let e = if labels.is_empty() {
            Tensor::zeros((0, dim), DType::F64, &DEVICE).unwrap()
        } else {
            tensor(&grid(labels.len(), dim, seed))
        };
        let names: BTreeSet<u32> = labels.iter().copied().collect();
        let renamed: Vec<String> = labels.iter()
            .map(|l| format!("class {}", names.iter().rev().position(|n| n == l).unwrap())).collect();
        let draw = Draw::new(seed, step);
        let measures = [Measure::L2, Measure::SQUARED_L2, Measure::COSINE, Measure::SQUARED_L2.unnormalized(), Measure::DOT];
        let measure = measures[step as usize % measures.len()];
        let names: Vec<&str> = renamed.iter().map(String::as_str).collect();
        for (i, miner) in every_miner().into_iter().enumerate() {
            // The angle needs Euclidean distances, distance-weighted draws those of unit vectors.
            if i == 8 && measure.is_similarity() || [11, 12].contains(&i) && (measure.is_similarity() || !measure.normalize) {
                continue;
            }
            let c = Comparison::new(&e, &labels).unwrap().measure(measure);
            let mined = miner.tuples(&c, draw).unwrap();
            valid(&mined, &&labels);
            prop_assert_eq!(&miner.tuples(&c, draw).unwrap(), &mined);
            let other = Comparison::new(&e, &names).unwrap().measure(measure);
            prop_assert_eq!(&miner.tuples(&other, draw).unwrap(), &mined);
        }
    }

    /// A permuted batch gives the permuted tuples, for rules without ties and without chance.
    #[test]
    fn miners_follow_a_permutation(
        rows in prop::collection::vec((-3.0f64..3.0, -3.0f64..3.0, -3.0f64..3.0, 0u32..4), 3..18), shift in 1usize..17,
    ) {
        let count = rows.len();
        let order: Vec<usize> = (0..count).map(|i| (i * if count % 5 == 0 { 3 } else { 5 } + shift) % count).collect();
        prop_assume!(order.iter().collect::<BTreeSet<_>>().len() == count);
        let labels: Vec<u32> = rows.iter().map(|r| r.3).collect();
        let moved_labels: Vec<u32> = order.iter().map(|&i| labels[i]).collect();
        let of = |r: &(f64, f64, f64, u32)| vec![r.0, r.1, r.2];
        let e = tensor(&rows.iter().map(of).collect::<Vec<_>>());
        let moved = tensor(&order.iter().map(|&i| of(&rows[i])).collect::<Vec<_>>());
        let here = Comparison::new(&e, &labels).unwrap();
        let there = Comparison::new(&moved, &moved_labels).unwrap();
        // The last three draw; HDC may cut between (a, b) and (b, a).
        for (i, miner) in every_miner().into_iter().enumerate().filter(|(i, _)| ![9, 11, 12, 13].contains(i)) {
            let back = |i: u32| order[i as usize] as u32;
            let set = |mined: Mined, f: &dyn Fn(u32) -> u32| -> BTreeSet<(u8, u32, u32, u32)> {
                match mined {
                    Mined::Pairs(p) => p.positive.iter().map(|&(a, b)| (0, f(a), f(b), 0))
                        .chain(p.negative.iter().map(|&(a, b)| (1, f(a), f(b), 0))).collect(),
                    Mined::Triplets(t) => t.iter().map(|(a, p, n)| (2, f(a), f(p), f(n))).collect(),
                }
            };
            let (a, b) = (miner.tuples(&here, Draw::default()).unwrap(), miner.tuples(&there, Draw::default()).unwrap());
            prop_assert_eq!(set(a, &|i| i), set(b, &back), "miner {}", i);
        }
    }

    /// Under the two-label relation every miner gives what a test of each triplet or pair by definition gives.
    #[test]
    fn two_labels_by_definition(
        items in prop::collection::vec((0u32..3, 0u32..3), 2..14), seed in 0u64..99, margin in -0.5f64..1.0,
    ) {
        let expression: Vec<u32> = items.iter().map(|i| i.0).collect();
        let identity: Vec<u32> = items.iter().map(|i| i.1).collect();
        let rules = PairRules::new(
            Rule { same: vec![&expression], different: vec![&identity] },
            Rule { same: vec![&identity], different: vec![&expression] },
        ).unwrap();
        let rows = grid(items.len(), 3, seed);
        let e = tensor(&rows);
        let d = |a: usize, b: usize| rows[a].iter().zip(&rows[b]).map(|(x, y)| (x - y) * (x - y)).sum::<f64>();
        let compare = || Comparison::new(&e, rules.clone()).unwrap().measure(Measure::SQUARED_L2.unnormalized());
        let n = items.len();
        let positive = |a: usize, b: usize| expression[a] == expression[b] && identity[a] != identity[b];
        let negative = |a: usize, b: usize| identity[a] == identity[b] && expression[a] != expression[b];
        for kind in [TripletKind::All, TripletKind::Hard, TripletKind::SemiHard, TripletKind::Easy] {
            let mut wanted = Vec::new();
            for a in 0..n { for p in (0..n).filter(|&p| positive(a, p)) { for m in (0..n).filter(|&m| negative(a, m)) {
                let t = d(a, m) - d(a, p);
                let keep = match kind {
                    TripletKind::All => t <= margin,
                    TripletKind::Hard => t <= margin && t <= 0.0,
                    TripletKind::SemiHard => t <= margin && t > 0.0,
                    TripletKind::Easy => t > margin,
                };
                if keep { wanted.push((a as u32, p as u32, m as u32)); }
            }}}
            let miner = TripletMarginMiner { margin, kind };
            let found: Vec<_> = miner.mine(&compare()).unwrap().iter().collect();
            prop_assert_eq!(&found, &wanted);
            // A bounded choice is a part of them, as many as there can be.
            let some: Vec<_> = miner.mine_some(&compare(), 2, Draw::new(seed, 0)).unwrap().iter().collect();
            for a in 0..n as u32 {
                let of = |list: &[(u32, u32, u32)]| list.iter().filter(|t| t.0 == a).count();
                prop_assert_eq!(of(&some), of(&wanted).min(2));
            }
            prop_assert!(some.iter().all(|t| wanted.contains(t)));
            prop_assert_eq!(some.iter().collect::<BTreeSet<_>>().len(), some.len());
        }
        let hard: Vec<_> = BatchHardMiner.mine(&compare()).unwrap().iter().collect();
        let mut wanted = Vec::new();
        for a in 0..n {
            let far = (0..n).filter(|&p| positive(a, p)).reduce(|x, y| if d(a, y) > d(a, x) { y } else { x });
            let near = (0..n).filter(|&m| negative(a, m)).reduce(|x, y| if d(a, y) < d(a, x) { y } else { x });
            if let (Some(p), Some(m)) = (far, near) { wanted.push((a as u32, p as u32, m as u32)); }
        }
        prop_assert_eq!(hard, wanted);
    }

    /// The median-length form of the angle agrees with the distance to the centre itself.
    #[test]
    fn angles_by_definition(seed in 0u64..500, angle in 1.0f64..89.0) {
        let rows: Vec<Vec<f64>> = grid(9, 4, seed).into_iter().enumerate()
            .map(|(i, r)| { let mut r: Vec<f64> = r.into_iter().map(|v| v + 0.01 * i as f64).collect(); r[0] += 0.3;
                let n = r.iter().map(|v| v * v).sum::<f64>().sqrt(); r.into_iter().map(|v| v / n).collect() }).collect();
        let labels = [0u32, 0, 0, 1, 1, 1, 2, 2, 3];
        let found: BTreeSet<_> = AngularMiner { angle }.mine(&Comparison::new(&tensor(&rows), &labels).unwrap()).unwrap().iter().collect();
        let d = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt();
        for (a, p, n) in all_triplets(&labels).iter() {
            let (ra, rp, rn) = (&rows[a as usize], &rows[p as usize], &rows[n as usize]);
            let c: Vec<f64> = ra.iter().zip(rp).map(|(x, y)| 0.5 * (x + y)).collect();
            let truth = d(ra, rp).atan2(2.0 * d(rn, &c)).to_degrees();
            if (truth - angle).abs() > 1e-6 {
                prop_assert_eq!(found.contains(&(a, p, n)), truth > angle, "{} {}", truth, angle);
            }
        }
    }
}
