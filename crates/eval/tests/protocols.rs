//! Rules by hand, invariants by property, and errors by their one line.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use phiz_eval::{
    BootstrapConfig, Embeddings, EvaluateOptions, Pair, PairList, Protocol, Roc, Score,
    VerificationConfig, evaluate, retrieve, verify_all_pairs, verify_pairs,
};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// `n` random embeddings, of which those of one label are pulled together.
fn table(n: usize, dim: usize, labels: &[u32], seed: u64) -> Embeddings {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values = (0..n * dim)
        .map(|i| {
            let pull = ((labels[i / dim] as usize * 7 + i % dim) % 5) as f32 / 5.0;
            rng.random::<f32>() - 0.5 + 0.5 * pull
        })
        .collect();
    Embeddings::new(values, dim)
        .unwrap()
        .with_labels("labels", labels.to_vec())
        .unwrap()
}

#[test]
fn tar_at_far_by_hand() {
    // Ten impostors 0.0 .. 0.9, four genuine.
    let impostor: Vec<f64> = (0..10).map(|i| f64::from(i) / 10.0).collect();
    let roc = Roc::from_scores(&[0.95, 0.9, 0.85, 0.05], &impostor).unwrap();
    // One impostor (0.9) may be accepted, the next largest is 0.8: genuine above 0.8 pass.
    let at = roc.tar_at_far(0.1).unwrap();
    assert_eq!((at.tar, at.far, at.false_accepts), (0.75, 0.1, 1));
    // 0.19 of 10 is still one impostor.
    assert_eq!(roc.tar_at_far(0.19).unwrap().tar, 0.75);
    // Fewer impostors than 1/FAR: undefined, not the rate without any false accept.
    assert!(roc.tar_at_far(0.0999).is_none());
    assert!(roc.tar_at_far(0.0).is_none());
    assert!(roc.tar_at_far(f64::NAN).is_none());
    assert_eq!(roc.tar_at_far(1.0).unwrap().tar, 1.0);
}

#[test]
fn tar_at_far_does_not_split_ties() {
    // Genuine 0.9 ties with two impostors: accepting it would accept both, 2 of 10, above 0.1.
    let impostor = [0.9, 0.9, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1, 0.0, 0.0];
    let roc = Roc::from_scores(&[0.95, 0.9, 0.8], &impostor).unwrap();
    let at = roc.tar_at_far(0.1).unwrap();
    assert_eq!((at.tar, at.far), (1.0 / 3.0, 0.0));
    assert!(at.threshold > 0.9 && at.threshold <= 0.95);
    let at = roc.tar_at_far(0.2).unwrap();
    assert_eq!((at.tar, at.far, at.threshold), (1.0, 0.2, 0.8));
}

#[test]
fn tar_at_far_takes_quotients_as_written() {
    // 0.29 * 100 is below 29 in binary floats; 29 of 100 is still a FAR of 0.29.
    let impostor: Vec<f64> = (0..100).map(f64::from).collect();
    let roc = Roc::from_scores(&[70.5, 71.5], &impostor).unwrap();
    assert_eq!(roc.tar_at_far(0.29).unwrap().false_accepts, 29);
}

#[test]
fn more_genuine_than_impostor_pairs() {
    // The other set is kept then; thresholds stay right.
    let labels: Vec<u32> = (0..30).map(|i| u32::from(i == 0)).collect();
    let table = table(30, 4, &labels, 3);
    let config = VerificationConfig::default();
    let result = verify_all_pairs(&table, &labels, &config).unwrap();
    assert_eq!(
        (result.roc.genuine(), result.roc.impostor()),
        (29 * 28 / 2, 29)
    );
    let at = result.roc.tar_at_far(0.1).unwrap();
    assert_eq!(at.false_accepts, 2);
    let score = |a: usize, b: usize| {
        let dot = |x: usize, y: usize| -> f64 {
            let (x, y) = (table.row(x).unwrap(), table.row(y).unwrap());
            x.iter()
                .zip(y)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum()
        };
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let mut passed = 0;
    for a in 1..30 {
        for b in a + 1..30 {
            passed += u64::from(score(a, b) >= at.threshold - 1e-11);
        }
    }
    assert_eq!(at.tar, passed as f64 / (29 * 28 / 2) as f64);
}

#[test]
fn pair_lists_with_folds() {
    // Scores on a line by distance: same pairs at distance 1, others at 3 to 5, one hard pair in fold 1.
    let table = Embeddings::new(vec![0.0, 1.0, 3.0, 4.0, 8.0, 8.5], 1).unwrap();
    let pair = |a, b, same, fold| Pair {
        a,
        b,
        same,
        fold: Some(fold),
    };
    let pairs = vec![
        pair(0, 1, true, 0),
        pair(0, 2, false, 0),
        pair(2, 3, true, 1),
        pair(4, 5, false, 1),
        pair(1, 4, false, 1),
    ];
    let list = PairList::new(pairs, table.len()).unwrap();
    let config = VerificationConfig {
        score: Score::Euclid,
        bootstrap: None,
        ..Default::default()
    };
    let result = verify_pairs(&table, &list, None, &config).unwrap();
    let folds = result.folds.clone().unwrap();
    // Fold 1 is judged with the threshold of fold 0, midway between -1 and -3: two of three right.
    // Fold 0 is judged with that of fold 1, where rejecting all (2 of 3) is as good as any: one of two right.
    assert_eq!(folds.accuracies, vec![0.5, 2.0 / 3.0]);
    assert_eq!(result.false_accepts[0].a, 4);
    assert!((result.metrics()["fold_accuracy"] - 7.0 / 12.0).abs() < 1e-15);
}

#[test]
fn pair_list_of_all_pairs_equals_all_pairs() {
    let labels: Vec<u32> = (0..60).map(|i| i % 9).collect();
    let table = table(60, 8, &labels, 1);
    let mut pairs = Vec::new();
    for a in 0..60 {
        for b in a + 1..60 {
            let same = labels[a] == labels[b];
            pairs.push(Pair {
                a,
                b,
                same,
                fold: None,
            });
        }
    }
    let list = PairList::new(pairs, 60).unwrap();
    let config = VerificationConfig::default();
    let all = verify_all_pairs(&table, &labels, &config).unwrap();
    let listed = verify_pairs(&table, &list, Some(&labels), &config).unwrap();
    assert_eq!(all.metrics(), listed.metrics());
    assert_eq!(all.intervals, listed.intervals);
    assert_eq!(all.histogram, listed.histogram);
    assert_eq!(all.false_accepts, listed.false_accepts);
    assert_eq!(all.false_rejects, listed.false_rejects);
    assert_eq!(all.false_accepts.len(), 8);
    assert!(
        all.false_accepts
            .windows(2)
            .all(|w| w[0].score >= w[1].score)
    );
    assert!(
        all.false_rejects
            .windows(2)
            .all(|w| w[0].score <= w[1].score)
    );
}

#[test]
fn tiles_do_not_show() {
    // More than one tile on each side, and the same figure from all scores at once.
    let labels: Vec<u32> = (0..700).map(|i| (i * i) % 23).collect();
    let table = table(700, 5, &labels, 2);
    let config = VerificationConfig {
        bootstrap: None,
        ..Default::default()
    };
    let result = verify_all_pairs(&table, &labels, &config).unwrap();
    let unit: Vec<Vec<f64>> = (0..700)
        .map(|i| {
            let row: Vec<f64> = table
                .row(i)
                .unwrap()
                .iter()
                .map(|v| f64::from(*v))
                .collect();
            let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            row.iter().map(|v| v / norm).collect()
        })
        .collect();
    let (mut genuine, mut impostor) = (vec![], vec![]);
    for a in 0..700 {
        for b in a + 1..700 {
            let score: f64 = unit[a].iter().zip(&unit[b]).map(|(x, y)| x * y).sum();
            if labels[a] == labels[b] {
                genuine.push(score);
            } else {
                impostor.push(score);
            }
        }
    }
    let plain = Roc::from_scores(&genuine, &impostor).unwrap();
    assert!((result.auc - plain.auc()).abs() < 1e-9);
    assert!((result.eer.rate - plain.equal_error().rate).abs() < 1e-9);
    let pairs = result
        .histogram
        .genuine
        .iter()
        .chain(&result.histogram.impostor)
        .sum::<u64>();
    assert_eq!(pairs, 700 * 699 / 2);
}

#[test]
fn intervals_are_repeatable_and_hold_the_figure() {
    let labels: Vec<u32> = (0..120).map(|i| i % 12).collect();
    let table = table(120, 6, &labels, 4);
    let run = |seed| {
        let options = EvaluateOptions {
            bootstrap: Some(BootstrapConfig {
                seed,
                ..Default::default()
            }),
            ..Default::default()
        };
        evaluate(&Protocol::VerificationAllPairs, &table, &options).unwrap()
    };
    let (a, b, c) = (run(0), run(0), run(1));
    assert_eq!(a.intervals, b.intervals);
    assert_ne!(a.intervals, c.intervals);
    for name in ["auc", "eer"] {
        let [low, high] = a.intervals[name];
        assert!(
            low < a.metrics[name] && a.metrics[name] < high,
            "{name} {low} {high}"
        );
    }
    let json = serde_json::to_value(&a).unwrap();
    assert_eq!(json["protocol"]["name"], "verification-all-pairs");
    assert_eq!(json["protocol"]["bootstrap"]["unit"], "label");
    assert!(json["metrics"]["auc"].is_f64());
    assert!(json.get("curves").is_none());
    // 6,600 impostor pairs are too few for a FAR of 1e-4.
    assert!(
        json["undefined"]["tar@far=1e-4"]
            .as_str()
            .unwrap()
            .starts_with("needs 10000")
    );
    assert!(json["metrics"].get("tar@far=1e-4").is_none());
    assert!(json["metrics"]["tar@far=1e-3"].is_f64());
}

#[test]
fn undefined_input_is_one_line() {
    let options = EvaluateOptions::default();
    let with = |labels: Vec<u32>| {
        Embeddings::new(vec![0.5; labels.len()], 1)
            .unwrap()
            .with_labels("labels", labels)
            .unwrap()
    };
    let message = |protocol: &Protocol, labels| {
        evaluate(protocol, &with(labels), &options)
            .unwrap_err()
            .to_string()
    };
    let all = Protocol::VerificationAllPairs;
    assert_eq!(
        message(&all, vec![4, 4, 4]),
        "one class only (all 3 labels are 4): verification needs at least two identities"
    );
    assert_eq!(
        message(&all, vec![1, 2, 3]),
        "no genuine pair: each of the 3 identities has one image only"
    );
    assert!(message(&all, vec![1]).starts_with("one class only"));
    assert!(message(&Protocol::Retrieval, vec![1, 2]).starts_with("no identity has two images"));
    assert!(message(&Protocol::Classification, vec![1, 2]).contains("`logits`"));
    let missing = EvaluateOptions {
        label: "identity".to_string(),
        ..Default::default()
    };
    let error = evaluate(&all, &with(vec![1, 1, 2]), &missing).unwrap_err();
    assert_eq!(error.to_string(), "no labels `identity`; there are: labels");
    let pairs = "verification-pairs:/no/such/file.csv"
        .parse::<Protocol>()
        .unwrap();
    assert!(message(&pairs, vec![1, 1]).starts_with("/no/such/file.csv: "));
}

#[test]
fn equal_embeddings_are_chance() {
    let labels = [1, 1, 2, 2];
    let table = Embeddings::new(vec![0.3; 8], 2).unwrap();
    for score in [Score::Cosine, Score::Euclid] {
        let config = VerificationConfig {
            score,
            ..Default::default()
        };
        let result = verify_all_pairs(&table, &labels, &config).unwrap();
        assert_eq!((result.auc, result.eer.rate), (0.5, 0.5));
    }
}

fn scores() -> impl Strategy<Value = Vec<f64>> {
    // Few distinct values: ties are the hard part.
    proptest::collection::vec((-8i32..8).prop_map(|v| f64::from(v) / 4.0), 1..40)
}

proptest! {
    #[test]
    fn auc_is_the_share_of_ordered_pairs(genuine in scores(), impostor in scores()) {
        let roc = Roc::from_scores(&genuine, &impostor).unwrap();
        let mut halves = 0u32;
        for g in &genuine {
            for i in &impostor {
                halves += if g > i { 2 } else { u32::from(g == i) };
            }
        }
        let want = f64::from(halves) / (2 * genuine.len() * impostor.len()) as f64;
        prop_assert!((roc.auc() - want).abs() < 1e-15);
    }

    #[test]
    fn monotone_transforms_change_no_rate(genuine in scores(), impostor in scores()) {
        let roc = Roc::from_scores(&genuine, &impostor).unwrap();
        let bend = |s: &Vec<f64>| s.iter().map(|x| (2.0 * x).exp() - 5.0).collect::<Vec<_>>();
        let bent = Roc::from_scores(&bend(&genuine), &bend(&impostor)).unwrap();
        prop_assert_eq!(roc.auc(), bent.auc());
        prop_assert_eq!(roc.equal_error().rate, bent.equal_error().rate);
        prop_assert_eq!(roc.best_accuracy().0, bent.best_accuracy().0);
        for far in [0.5, 0.1, 0.05] {
            prop_assert_eq!(roc.tar_at_far(far).map(|t| t.tar), bent.tar_at_far(far).map(|t| t.tar));
        }
    }

    #[test]
    fn turning_scores_round_mirrors_the_curve(genuine in scores(), impostor in scores()) {
        // Swapping the sets also swaps which of them is kept.
        let turn = |s: &Vec<f64>| s.iter().map(|x| -x).collect::<Vec<_>>();
        let roc = Roc::from_scores(&genuine, &impostor).unwrap();
        let swapped = Roc::from_scores(&turn(&impostor), &turn(&genuine)).unwrap();
        prop_assert_eq!(roc.auc(), swapped.auc());
        prop_assert!((roc.equal_error().rate - swapped.equal_error().rate).abs() < 1e-14);
        prop_assert_eq!(roc.best_accuracy().0, swapped.best_accuracy().0);
    }

    #[test]
    fn tar_at_far_is_the_best_allowed(genuine in scores(), impostor in scores(), far in 0.001f64..1.0) {
        let roc = Roc::from_scores(&genuine, &impostor).unwrap();
        let rates = |t: f64| {
            let share = |s: &[f64]| s.iter().filter(|x| **x >= t).count() as f64 / s.len() as f64;
            (share(&genuine), share(&impostor))
        };
        let best = genuine.iter().map(|&t| rates(t)).filter(|r| r.1 <= far).map(|r| r.0).fold(0.0, f64::max);
        match roc.tar_at_far(far) {
            None => prop_assert!(1.0 / impostor.len() as f64 > far),
            Some(at) => {
                prop_assert_eq!(at.tar, best);
                prop_assert_eq!(rates(at.threshold), (at.tar, at.far));
                prop_assert!(at.far <= far);
            }
        }
    }

    #[test]
    fn curves_are_monotone_and_complete(genuine in scores(), impostor in scores()) {
        let curve = Roc::from_scores(&genuine, &impostor).unwrap().curve();
        prop_assert_eq!((curve[0].far, curve[0].tar), (0.0, 0.0));
        let last = curve[curve.len() - 1];
        prop_assert_eq!((last.far, last.tar), (1.0, 1.0));
        prop_assert!(curve.windows(2).all(|w| w[0].far <= w[1].far && w[0].tar <= w[1].tar));
    }

    #[test]
    fn the_order_of_samples_does_not_matter(seed in 0u64..1000) {
        let labels: Vec<u32> = (0..40).map(|i| i % 6).collect();
        let table = table(40, 3, &labels, seed);
        let mut order: Vec<usize> = (0..40).collect();
        order.sort_by_key(|i| (*i as u64 * 7919 + seed * 104_729) % 1009);
        let shuffled = table.select(&order).unwrap();
        let config = VerificationConfig { bootstrap: None, ..Default::default() };
        let figures = |t: &Embeddings| {
            let labels = t.labels("labels").unwrap();
            let verification = verify_all_pairs(t, labels, &config).unwrap().metrics();
            let retrieval = retrieve(t, labels, &Default::default()).unwrap();
            (verification, retrieval.rank1, retrieval.cmc, (retrieval.map_at_r * 1e12).round())
        };
        prop_assert_eq!(figures(&table), figures(&shuffled));
    }
}
