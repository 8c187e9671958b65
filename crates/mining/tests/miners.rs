//! Miners against their definitions, under any relation, on hostile input.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use candle::{DType, Device, Tensor};
use phiz_mining::*;
use proptest::prelude::*;

const DEVICE: Device = Device::Cpu;

fn tensor(rows: &[Vec<f64>]) -> Tensor {
    Tensor::new(rows.to_vec(), &DEVICE).unwrap()
}

/// Embeddings that depend on nothing but their shape and a seed; values on a coarse grid, so that there are ties and duplicates.
fn grid(count: usize, dim: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 9) as f64 / 4.0 - 1.0
    };
    (0..count)
        .map(|_| (0..dim).map(|_| next()).collect())
        .collect()
}

/// Every miner, with its random choices fixed by the draw.
fn every_miner() -> Vec<Box<dyn Miner>> {
    vec![
        Box::new(BatchHardMiner),
        Box::new(BatchEasyHardMiner::default()),
        Box::new(BatchEasyHardMiner {
            positive: Pick::SemiHard,
            negative: Pick::Easy,
            positive_range: Some(0.1..=1.0),
            negative_range: None,
        }),
        Box::new(BatchEasyHardMiner {
            positive: Pick::All,
            negative: Pick::Hard,
            ..Default::default()
        }),
        Box::new(TripletMarginMiner::default()),
        Box::new(TripletMarginMiner {
            margin: 0.3,
            kind: TripletKind::SemiHard,
        }),
        Box::new(PairMarginMiner::default()),
        Box::new(MultiSimilarityMiner::default()),
        Box::new(AngularMiner::default()),
        Box::new(HdcMiner::default()),
        Box::new(RankedMiner {
            positives: 0..2,
            negatives: 1..4,
        }),
        Box::new(DistanceWeightedMiner::default()),
        Box::new(DistanceWeightedMiner {
            fallback: Fallback::Nearest,
            per_anchor: Some(3),
            ..Default::default()
        }),
        Box::new(UniformHistogramMiner {
            bins: 5,
            positive_per_bin: 2,
            negative_per_bin: 3,
        }),
    ]
}

/// Positives are positive, negatives negative, nothing is out of range or compared with itself.
fn valid(mined: &Mined, relation: &dyn Relation) {
    let own = relation.references().is_none();
    let (rows, columns) = (
        relation.anchors(),
        relation.references().unwrap_or(relation.anchors()),
    );
    let link = |a: u32, b: u32, wanted: Link| {
        assert!((a as usize) < rows && (b as usize) < columns);
        assert!(!own || a != b, "an item compared with itself");
        assert_eq!(relation.link(a as usize, b as usize), wanted);
    };
    match mined {
        Mined::Pairs(pairs) => {
            pairs.check(rows, columns).unwrap();
            pairs
                .positive
                .iter()
                .for_each(|&(a, p)| link(a, p, Link::Positive));
            pairs
                .negative
                .iter()
                .for_each(|&(a, n)| link(a, n, Link::Negative));
        }
        Mined::Triplets(triplets) => triplets.iter().for_each(|(a, p, n)| {
            link(a, p, Link::Positive);
            link(a, n, Link::Negative);
        }),
    }
}

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
        let measures = [Measure::EUCLIDEAN, Measure::SQUARED, Measure::COSINE, Measure::SQUARED.raw(), Measure::DOT];
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
        let compare = || Comparison::new(&e, rules.clone()).unwrap().measure(Measure::SQUARED.raw());
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

#[test]
fn equal_embeddings_lone_batches_and_one_class() {
    let same = tensor(&vec![vec![1.0, 2.0, 3.0]; 6]);
    for labels in [[0u32, 0, 1, 1, 2, 2], [4; 6], [1, 2, 3, 4, 5, 6]] {
        let c = Comparison::new(&same, &labels).unwrap();
        for miner in every_miner() {
            valid(&miner.tuples(&c, Draw::default()).unwrap(), &&labels);
        }
        // Every triplet has t = 0: all are hard, none semi-hard.
        let count = |kind| TripletMarginMiner { margin: 0.2, kind }.count(&c).unwrap();
        assert_eq!(count(TripletKind::Hard), all_triplets(&labels).len() as u64);
        assert_eq!(
            (count(TripletKind::SemiHard), count(TripletKind::Easy)),
            (0, 0)
        );
    }
    let one = tensor(&[vec![1.0, 0.0]]);
    let none = Tensor::zeros((0, 3), DType::F32, &DEVICE).unwrap();
    for (e, labels) in [(&one, vec![3u32]), (&none, vec![])] {
        let c = Comparison::new(e, &labels).unwrap();
        for miner in every_miner() {
            assert!(miner.tuples(&c, Draw::default()).unwrap().is_empty());
        }
    }
    // No references at all.
    let relation = LabelsBetween {
        anchors: &[3u32],
        references: &[],
    };
    let c = Comparison::with_references(
        &one,
        &Tensor::zeros((0, 2), DType::F64, &DEVICE).unwrap(),
        relation,
    )
    .unwrap();
    for miner in every_miner() {
        assert!(miner.tuples(&c, Draw::default()).unwrap().is_empty());
    }
}

#[test]
fn what_cannot_be_compared_is_named() {
    let e = tensor(&[vec![0.0, 1.0], vec![1.0, f64::NAN], vec![1.0, 0.0]]);
    let text = |r: candle::Result<Comparison<'_>>| r.unwrap_err().to_string();
    assert!(text(Comparison::new(&e, &[0, 0, 1])).contains("embedding 1 of 3"));
    let fine = tensor(&[vec![0.0, 1.0], vec![1.0, 1.0], vec![1.0, 0.0]]);
    assert!(text(Comparison::new(&fine, &[0, 0])).contains("3 embeddings but 2 labels"));
    let between = LabelsBetween {
        anchors: &[0, 0, 1],
        references: &[1, 0],
    };
    assert!(text(Comparison::new(&fine, between)).contains("with_references"));
    assert!(
        text(Comparison::with_references(&fine, &fine, between))
            .contains("3 references but 2 labels")
    );
    assert!(text(Comparison::with_references(&fine, &fine, &[0, 0, 1])).contains("LabelsBetween"));
    let narrow = tensor(&[vec![0.0], vec![1.0]]);
    assert!(text(Comparison::with_references(&fine, &narrow, between)).contains("of 2 values"));
    let matrix = tensor(&[vec![0.0, 1.0], vec![f64::INFINITY, 0.0]]);
    assert!(
        text(Comparison::from_matrix(&matrix, Order::Distance, &[0, 1])).contains("score (1, 0)")
    );
    assert!(
        text(Comparison::from_matrix(&fine, Order::Distance, &[0, 1, 1]))
            .contains("2 references but 3 labels")
    );
    let flat = Tensor::zeros(3, DType::F32, &DEVICE).unwrap();
    assert!(text(Comparison::new(&flat, &[0, 0, 1])).contains("(B, D)"));
    let empty = Tensor::zeros((2, 0), DType::F32, &DEVICE).unwrap();
    assert!(text(Comparison::new(&empty, &[0, 0])).contains("0 values"));
    let level = Comparison::new(&tensor(&[vec![1.0, 1.0], vec![1.0, 0.0]]), &[0, 0])
        .unwrap()
        .measure(Measure::SIGNAL_TO_NOISE);
    assert!(
        BatchHardMiner
            .mine(&level)
            .unwrap_err()
            .to_string()
            .contains("embedding 0 has no variance")
    );
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let e = tensor(&[vec![0.0, 1.0], vec![1.0, 1.0], vec![1.0, 0.0]]);
    let labels = [0, 0, 1];
    let c = || Comparison::new(&e, &labels).unwrap();
    let refused = |miner: &dyn Miner, c: Comparison<'_>, word: &str| {
        let text = miner.tuples(&c, Draw::default()).unwrap_err().to_string();
        assert!(text.contains(word), "{text}");
    };
    let picks = |positive, negative| BatchEasyHardMiner {
        positive,
        negative,
        ..Default::default()
    };
    refused(&picks(Pick::SemiHard, Pick::SemiHard), c(), "both");
    refused(&picks(Pick::All, Pick::SemiHard), c(), "one partner");
    refused(&picks(Pick::SemiHard, Pick::All), c(), "one partner");
    refused(
        &TripletMarginMiner {
            margin: f64::NAN,
            ..Default::default()
        },
        c(),
        "finite",
    );
    refused(
        &PairMarginMiner {
            positive_margin: f64::INFINITY,
            ..Default::default()
        },
        c(),
        "finite",
    );
    refused(&MultiSimilarityMiner { epsilon: f64::NAN }, c(), "finite");
    refused(&AngularMiner { angle: 91.0 }, c(), "90");
    refused(&HdcMiner { share: 0.0 }, c(), "share");
    refused(
        &UniformHistogramMiner {
            bins: 0,
            ..Default::default()
        },
        c(),
        "bin",
    );
    refused(
        &RankedMiner {
            positives: 1..1,
            negatives: 0..1,
        },
        c(),
        "empty",
    );
    refused(
        &DistanceWeightedMiner {
            cutoff: 0.0,
            ..Default::default()
        },
        c(),
        "cutoff",
    );
    refused(
        &DistanceWeightedMiner::default(),
        c().measure(Measure::COSINE),
        "Euclidean",
    );
    refused(
        &DistanceWeightedMiner::default(),
        c().measure(Measure::EUCLIDEAN.raw()),
        "unit vectors",
    );
    refused(
        &AngularMiner::default(),
        c().measure(Measure::COSINE),
        "Euclidean",
    );
    let matrix = e.matmul(&e.t().unwrap()).unwrap();
    let given = || Comparison::from_matrix(&matrix, Order::Distance, &labels).unwrap();
    refused(&DistanceWeightedMiner::default(), given(), "dimension");
    DistanceWeightedMiner::default()
        .mine(&given().dimension(2), Draw::default())
        .unwrap();
    let between = LabelsBetween {
        anchors: &labels,
        references: &labels,
    };
    let refs = Comparison::from_matrix(&matrix, Order::Distance, between).unwrap();
    refused(&AngularMiner::default(), refs, "with each other");
    assert!(
        TripletMarginMiner::default()
            .mine_some(&c(), 0, Draw::default())
            .is_err()
    );
    let first = Pairs {
        positive: vec![(0, 3)],
        negative: vec![],
    };
    assert!(
        HdcMiner::default()
            .mine_from(&c(), &first)
            .unwrap_err()
            .to_string()
            .contains("(0, 3)")
    );
    assert!(
        packaged_triplets(7)
            .unwrap_err()
            .to_string()
            .contains("multiple of 3")
    );
    assert_eq!(
        packaged_triplets(6).unwrap().iter().collect::<Vec<_>>(),
        [(0, 1, 2), (3, 4, 5)]
    );
    refused(
        &PackagedTriplets,
        Comparison::with_references(&e, &e, between).unwrap(),
        "one batch",
    );
}

#[test]
fn ranges_hold_for_all_partners_too() {
    let e = tensor(&[vec![0.0], vec![1.0], vec![2.0], vec![5.0], vec![6.0]]);
    let c = Comparison::new(&e, &[0, 0, 0, 1, 1])
        .unwrap()
        .measure(Measure::EUCLIDEAN.raw());
    let miner = BatchEasyHardMiner {
        positive: Pick::All,
        negative: Pick::All,
        positive_range: Some(0.0..=1.0),
        negative_range: Some(4.0..=5.0),
    };
    let pairs = miner.mine(&c).unwrap();
    assert_eq!(
        pairs.positive,
        [(0, 1), (1, 0), (1, 2), (2, 1), (3, 4), (4, 3)]
    );
    assert_eq!(
        pairs.negative,
        [
            (0, 3),
            (1, 3),
            (1, 4),
            (2, 4),
            (3, 0),
            (3, 1),
            (4, 1),
            (4, 2)
        ]
    );
}

#[test]
fn ranked_partners_skip_the_hardest() {
    let e = tensor(&[
        vec![0.0],
        vec![1.0],
        vec![2.0],
        vec![5.0],
        vec![6.0],
        vec![7.0],
    ]);
    let c = Comparison::new(&e, &[0, 0, 0, 1, 1, 2])
        .unwrap()
        .measure(Measure::EUCLIDEAN.raw());
    let pairs = RankedMiner {
        positives: 1..5,
        negatives: 1..3,
    }
    .mine(&c)
    .unwrap();
    assert_eq!(pairs.positive, [(0, 1), (1, 2), (2, 1)]);
    assert_eq!(
        pairs.negative,
        [(0, 4), (0, 5), (1, 4), (1, 5), (2, 4), (2, 5)]
    );
}

/// Negatives are drawn in proportion to the weights, far below the smallest number a plain weight could hold.
#[test]
fn distance_weighted_draws_follow_the_weights() {
    // In 512 dimensions a negative at 0.6 weighs e^400 times one at 1.3.
    let dim = 512;
    let at = |d: f64, axis: usize| {
        let cos = 1.0 - 0.5 * d * d;
        let mut v = vec![0.0; dim];
        v[0] = cos;
        v[axis] = (1.0 - cos * cos).sqrt();
        v
    };
    let e = tensor(&[
        at(0.0, 1),
        at(0.1, 2),
        at(1.3, 3),
        at(1.3, 4),
        at(1.301, 5),
        at(1.5, 6),
    ]);
    let c = Comparison::new(&e, &[0, 0, 1, 2, 3, 4]).unwrap();
    let miner = DistanceWeightedMiner {
        per_anchor: Some(20_000),
        ..Default::default()
    };
    let (triplets, stats) = miner.mine(&c, Draw::new(1, 2)).unwrap();
    assert_eq!(
        stats,
        WeightedStats {
            anchors: 2,
            fallbacks: 0
        }
    );
    let drawn = |n: u32| triplets.iter().filter(|t| t.0 == 0 && t.2 == n).count() as f64;
    assert_eq!(drawn(5), 0.0, "beyond the loss cutoff");
    let ratio = (miner.log_weight(1.301, dim) - miner.log_weight(1.3, dim)).exp();
    let share = 1.0 / (2.0 + ratio);
    for (n, share) in [(2, share), (3, share), (4, share * ratio)] {
        let (mean, sd) = (20_000.0 * share, (20_000.0 * share * (1.0 - share)).sqrt());
        assert!(
            (drawn(n) - mean).abs() < 5.0 * sd,
            "{n}: {} {mean}",
            drawn(n)
        );
    }
    // Two steps differ, a step repeated does not.
    assert_ne!(miner.mine(&c, Draw::new(1, 3)).unwrap().0, triplets);
    assert_eq!(miner.mine(&c, Draw::new(1, 2)).unwrap().0, triplets);
}

#[test]
fn anchors_without_weights_are_counted() {
    // All negatives opposite: beyond the loss cutoff.
    let e = tensor(&[
        vec![1.0, 0.0, 0.1],
        vec![1.0, 0.1, 0.0],
        vec![-1.0, 0.0, 0.0],
        vec![-1.0, 0.2, 0.0],
    ]);
    let c = Comparison::new(&e, &[0, 0, 1, 2]).unwrap();
    let with = |fallback| {
        let miner = DistanceWeightedMiner {
            fallback,
            per_anchor: Some(50),
            ..Default::default()
        };
        miner.mine(&c, Draw::default()).unwrap()
    };
    let stats = WeightedStats {
        anchors: 2,
        fallbacks: 2,
    };
    let (skipped, found) = with(Fallback::Skip);
    assert!(skipped.is_empty() && found == stats);
    let (uniform, found) = with(Fallback::Uniform);
    assert!(found == stats && [2, 3].iter().all(|n| uniform.negatives.contains(n)));
    let (nearest, found) = with(Fallback::Nearest);
    assert_eq!((nearest.len(), found), (100, stats));
    // (1, .1, 0) is nearer to (-1, .2, 0).
    assert!(nearest.iter().all(|(a, _, n)| a == 0 || n == 3));
}

#[test]
fn label_sets_by_overlap() {
    let sets = [vec![1, 2, 2], vec![2, 1], vec![1], vec![9], vec![], vec![]];
    let relation = LabelSets::new(&sets, 0.6, 0.0).unwrap();
    assert_eq!(relation.link(0, 1), Link::Positive);
    assert_eq!(relation.link(0, 2), Link::Neither, "half in common");
    assert_eq!(relation.link(0, 3), Link::Negative);
    assert_eq!(relation.link(4, 5), Link::Negative, "nothing in common");
    assert!(LabelSets::new(&sets, 0.5, 0.5).is_err() && LabelSets::new(&sets, 1.5, 0.0).is_err());
    assert!(LabelSets::new(&sets, f64::NAN, 0.0).is_err());
    let e = tensor(&grid(6, 3, 3));
    for miner in every_miner() {
        let c = Comparison::new(&e, relation.clone()).unwrap();
        valid(&miner.tuples(&c, Draw::default()).unwrap(), &relation);
    }
    let uneven = PairRules::new(
        Rule {
            same: vec![&[1, 2]],
            different: vec![],
        },
        Rule {
            same: vec![],
            different: vec![&[1]],
        },
    );
    assert!(uneven.unwrap_err().to_string().contains("one length"));
    assert!(PairRules::new(Rule::default(), Rule::default()).is_err());
}

#[test]
fn low_precision_and_large_scales() {
    let rows = grid(12, 5, 8);
    let labels: Vec<u32> = (0..12).map(|i| i % 4).collect();
    let exact = BatchHardMiner
        .mine(&Comparison::new(&tensor(&rows), &labels).unwrap())
        .unwrap();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        // Grid values are exact in each of them.
        let e = tensor(&rows).to_dtype(dtype).unwrap();
        let found = BatchHardMiner
            .mine(&Comparison::new(&e, &labels).unwrap())
            .unwrap();
        assert_eq!(found, exact, "{dtype:?}");
    }
    // Lengths neither overflow nor vanish.
    for scale in [1e200, 1e-200] {
        let e = (tensor(&rows) * scale).unwrap();
        let c = Comparison::new(&e, &labels).unwrap();
        assert_eq!(BatchHardMiner.mine(&c).unwrap().len(), exact.len());
    }
}

#[test]
fn blocks_do_not_show() {
    // 3,000 references make several blocks of anchors.
    let count = 3000;
    let rows: Vec<Vec<f64>> = (0..count)
        .map(|i| {
            vec![
                (i as f64 * 0.7).sin(),
                (i as f64 * 1.3).cos(),
                (i as f64 * 0.11).sin(),
            ]
        })
        .collect();
    let labels: Vec<u32> = (0..count as u32).map(|i| i % 750).collect();
    let found = BatchHardMiner
        .mine(
            &Comparison::new(&tensor(&rows), &labels)
                .unwrap()
                .measure(Distance::Squared),
        )
        .unwrap();
    assert_eq!(found.len(), count);
    let d = |a: usize, b: usize| {
        rows[a]
            .iter()
            .zip(&rows[b])
            .map(|(x, y)| (x - y) * (x - y))
            .sum::<f64>()
    };
    for (a, p, n) in found.iter().step_by(97) {
        let a = a as usize;
        let far = (0..count)
            .filter(|&j| j != a && labels[j] == labels[a])
            .map(|j| d(a, j))
            .fold(0.0, f64::max);
        let near = (0..count)
            .filter(|&j| labels[j] != labels[a])
            .map(|j| d(a, j))
            .fold(f64::INFINITY, f64::min);
        assert!((d(a, p as usize) - far).abs() < 1e-12 && (d(a, n as usize) - near).abs() < 1e-12);
    }
}

#[test]
fn the_subset_with_the_largest_loss() {
    let mut asked = Vec::new();
    let best = maximum_loss_subset(10, 4, 6, Draw::new(5, 0), |subset| {
        assert!(subset.windows(2).all(|w| w[0] < w[1]) && subset.len() == 4);
        asked.push(subset.to_vec());
        Ok(subset.iter().map(|&i| f64::from(i)).sum())
    })
    .unwrap();
    assert_eq!(asked.len(), 6);
    let sum = |s: &Vec<u32>| s.iter().sum::<u32>();
    assert_eq!(sum(&best), asked.iter().map(sum).max().unwrap());
    assert!(asked.iter().collect::<BTreeSet<_>>().len() > 3);
    let draw = Draw::default();
    assert!(maximum_loss_subset(3, 4, 1, draw, |_| Ok(0.0)).is_err());
    assert!(maximum_loss_subset(3, 2, 0, draw, |_| Ok(0.0)).is_err());
    assert!(
        maximum_loss_subset(3, 2, 1, draw, |_| Ok(f64::NAN))
            .unwrap_err()
            .to_string()
            .contains("NaN")
    );
}
