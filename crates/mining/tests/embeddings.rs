//! What is mined from embeddings: online positives against a hand-made case, triplets against pytorch-metric-learning.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle::{DType, Device, Tensor, Var};
use phiz_mining::*;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

fn tensor(rows: &[Vec<f64>]) -> Tensor {
    Tensor::new(rows.to_vec(), &Device::Cpu).unwrap()
}

fn line(xs: &[f64]) -> Tensor {
    tensor(&xs.iter().map(|&x| vec![x, 0.0]).collect::<Vec<_>>())
}

fn one(query: u32, positives: &[u32], negatives: &[u32]) -> Tuplets {
    Tuplets(vec![Tuplet {
        query,
        positives: positives.to_vec(),
        negatives: negatives.to_vec(),
    }])
}

fn config(positives: usize) -> TupletConfig {
    TupletConfig {
        positives,
        ..Default::default()
    }
}

#[test]
fn far_candidates_are_dropped_and_the_farthest_of_the_rest_kept() {
    // Query 0 and candidates 1, -1, 2, -2, 10, -10: centre 0. Negative at 3: reach 9, so +-10 go.
    let e = line(&[0., 1., -1., 2., -2., 10., -10., 3.]);
    let t = one(0, &[1, 2, 3, 4, 5, 6], &[7]);
    let (mined, stats) = mine_positives(&t, &e, &config(3)).unwrap();
    assert_eq!(mined, one(0, &[3, 4], &[7]));
    assert_eq!(
        stats,
        MiningStats {
            tuplets: 1,
            candidates: 6,
            dropped: 2,
            kept: 2,
            undone: 0
        }
    );
    assert!((stats.drop_rate() - 1. / 3.).abs() < 1e-12);
    // Of equal distances the first listed stays.
    assert_eq!(
        mine_positives(&t, &e, &config(2)).unwrap().0,
        one(0, &[3], &[7])
    );
    assert_eq!(
        mine_positives(&t, &e, &config(4)).unwrap().0,
        one(0, &[1, 3, 4], &[7])
    );
    // N = 1 keeps the query alone.
    assert_eq!(
        mine_positives(&t, &e, &config(1)).unwrap().0,
        one(0, &[], &[7])
    );
}

#[test]
fn a_drop_that_leaves_too_few_is_undone() {
    // Centre 0, reach 0.01: every candidate would go.
    let e = line(&[0., 1., -1., 2., -2., 0.1]);
    let t = one(0, &[1, 2, 3, 4], &[5]);
    let (mined, stats) = mine_positives(&t, &e, &config(3)).unwrap();
    assert_eq!(mined, one(0, &[3, 4], &[5]));
    assert_eq!(
        (stats.undone, stats.dropped, stats.drop_rate()),
        (1, 0, 0.0)
    );
    // With a minimum of one, the query suffices and the drop stands.
    let (mined, stats) = mine_positives(
        &t,
        &e,
        &TupletConfig {
            min_positives: 1,
            ..config(3)
        },
    )
    .unwrap();
    assert_eq!((mined, stats.dropped), (one(0, &[], &[5]), 4));
    // Without negatives nothing is dropped.
    let (mined, stats) = mine_positives(&one(0, &[1, 2, 3, 4], &[]), &e, &config(8)).unwrap();
    assert_eq!((mined.0[0].positives.len(), stats.dropped), (4, 0));
}

#[test]
fn mining_refuses_what_it_cannot_rank() {
    let t = one(0, &[1], &[2]);
    let e = line(&[0., f64::NAN, 1.]);
    assert!(
        mine_positives(&t, &e, &config(2))
            .unwrap_err()
            .to_string()
            .contains("embedding 1 of 3")
    );
    assert!(
        batch_hard(&e, &[0, 0, 1])
            .unwrap_err()
            .to_string()
            .contains("embedding 1 of 3")
    );
    assert!(
        mine_positives(&one(0, &[1], &[7]), &line(&[0., 1., 1.]), &config(2))
            .unwrap_err()
            .to_string()
            .contains("index 7")
    );
    assert!(
        batch_hard(&line(&[0., 1.]), &[0, 0, 1])
            .unwrap_err()
            .to_string()
            .contains("2 embeddings but 3 labels")
    );
    assert!(
        semi_hard(&line(&[0., 1.]), &[0, 1], f64::NAN)
            .unwrap_err()
            .to_string()
            .contains("finite")
    );
    let flat = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
    assert!(
        batch_hard(&flat, &[0, 0, 1])
            .unwrap_err()
            .to_string()
            .contains("(B, D)")
    );
}

#[test]
fn mining_takes_variables_and_f32() {
    let var = Var::from_tensor(&line(&[0., 1., -1., 5.]).to_dtype(DType::F32).unwrap()).unwrap();
    let (mined, _) = mine_positives(&one(0, &[1, 2], &[3]), var.as_tensor(), &config(8)).unwrap();
    assert_eq!(mined, one(0, &[1, 2], &[3]));
}

#[test]
fn random_positives_keep_order_and_count() {
    let t = one(0, &[5, 4, 3, 2, 1], &[6]);
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..80 {
        let r = random_positives(&t, &config(3), &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(
            r,
            random_positives(&t, &config(3), &mut ChaCha8Rng::seed_from_u64(seed))
        );
        let p = &r.0[0].positives;
        assert!(p.len() == 2 && p[0] > p[1]);
        seen.insert(p.clone());
    }
    assert_eq!(seen.len(), 10, "every pair of five turns up");
}

#[test]
fn triplets_equal_pytorch_metric_learning() {
    let text = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/mining/triplets.json"
    ));
    let fixture: Value = serde_json::from_str(text).unwrap();
    let triples =
        |v: &Value| -> Vec<(u32, u32, u32)> { serde_json::from_value(v.clone()).unwrap() };
    for case in fixture["cases"].as_array().unwrap() {
        let labels: Vec<u32> = serde_json::from_value(case["labels"].clone()).unwrap();
        let rows: Vec<Vec<f64>> = serde_json::from_value(case["embeddings"].clone()).unwrap();
        let e = tensor(&rows);
        assert_eq!(
            all_triplets(&labels).iter().collect::<Vec<_>>(),
            triples(&case["all"])
        );
        let pairs = all_pairs(&labels);
        let expected =
            |name: &str| -> Vec<(u32, u32)> { serde_json::from_value(case[name].clone()).unwrap() };
        assert_eq!(pairs.positive, expected("positive_pairs"));
        assert_eq!(pairs.negative, expected("negative_pairs"));
        assert_eq!(
            batch_hard(&e, &labels).unwrap().iter().collect::<Vec<_>>(),
            triples(&case["batch_hard"])
        );
        for m in case["margin"].as_array().unwrap() {
            let distance = if m["distance"] == "squared" {
                Distance::Squared
            } else {
                Distance::Euclidean
            };
            let kind = match m["kind"].as_str().unwrap() {
                "all" => TripletKind::All,
                "hard" => TripletKind::Hard,
                "semihard" => TripletKind::SemiHard,
                _ => TripletKind::Easy,
            };
            let config = MarginMinerConfig {
                margin: m["margin"].as_f64().unwrap(),
                kind,
                distance,
            };
            let ours: Vec<_> = margin_triplets(&e, &labels, config)
                .unwrap()
                .iter()
                .collect();
            assert_eq!(ours, triples(&m["triplets"]), "{config:?}");
            if kind == TripletKind::SemiHard {
                assert_eq!(
                    semi_hard(&e, &labels, config)
                        .unwrap()
                        .iter()
                        .collect::<Vec<_>>(),
                    ours
                );
            }
        }
    }
}

#[test]
fn duplicates_and_ties_take_the_lowest_index() {
    let e = line(&[1., 1., 1., 2., 2.]);
    let labels = [0, 0, 0, 1, 1];
    let hard: Vec<_> = batch_hard(&e, &labels).unwrap().iter().collect();
    assert_eq!(
        hard,
        [(0, 1, 3), (1, 0, 3), (2, 0, 3), (3, 4, 0), (4, 3, 0)]
    );
    let same = line(&[3.; 4]);
    // All equal: t = 0 for every triplet, which is hard and not semi-hard.
    assert!(semi_hard(&same, &[0, 0, 1, 1], 0.2).unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    /// Renaming the labels and permuting the batch give the same triplets, renamed.
    #[test]
    fn batch_hard_follows_a_permutation(
        rows in prop::collection::vec((-3.0f64..3.0, -3.0f64..3.0, 0u32..4), 3..16), seed in any::<u64>(),
    ) {
        use rand::seq::SliceRandom;
        let labels: Vec<u32> = rows.iter().map(|r| r.2).collect();
        let e = tensor(&rows.iter().map(|r| vec![r.0, r.1]).collect::<Vec<_>>());
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let moved_labels: Vec<u32> = order.iter().map(|&i| 100 - labels[i] * 9).collect();
        let moved = tensor(&order.iter().map(|&i| vec![rows[i].0, rows[i].1]).collect::<Vec<_>>());
        let mut back: Vec<_> = batch_hard(&moved, &moved_labels).unwrap().iter()
            .map(|(a, p, n)| [a, p, n].map(|i| order[i as usize] as u32)).collect();
        back.sort_unstable();
        let here: Vec<_> = batch_hard(&e, &labels).unwrap().iter().map(|(a, p, n)| [a, p, n]).collect();
        prop_assert_eq!(back, here);
    }
}
