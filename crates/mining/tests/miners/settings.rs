//! What single settings do: ranges, ranks, weights, overlaps.

use std::collections::BTreeSet;

use phiz_mining::*;

use crate::common::*;

#[test]
fn ranges_hold_for_all_partners_too() {
    let e = tensor(&[vec![0.0], vec![1.0], vec![2.0], vec![5.0], vec![6.0]]);
    let c = Comparison::new(&e, &[0, 0, 0, 1, 1])
        .unwrap()
        .measure(Measure::L2.unnormalized());
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
        .measure(Measure::L2.unnormalized());
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
