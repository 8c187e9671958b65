//! Two runs compared, against NumPy, SciPy and scikit-learn (`fixtures/eval/compare.py`), and by property.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use phiz_eval::{
    BootstrapConfig, Embeddings, EvaluateOptions, PairClusters, Protocol, VerificationConfig,
    cluster_weights, delong, delong_test, evaluate, paired_differences, paired_verification,
    verify_all_pairs,
};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    delong: Vec<DeLongCase>,
    weighted: Weighted,
}

#[derive(Deserialize)]
struct DeLongCase {
    scores_a: Vec<f64>,
    scores_b: Vec<f64>,
    same: Vec<bool>,
    auc: [f64; 2],
    standard_errors: [f64; 2],
    interval_a: [f64; 2],
    standard_error: f64,
    z: f64,
    p: f64,
}

#[derive(Deserialize)]
struct Weighted {
    identity: Vec<u32>,
    pairs: Vec<[usize; 2]>,
    same: Vec<bool>,
    scores_a: Vec<f64>,
    scores_b: Vec<f64>,
    cases: Vec<WeightedCase>,
}

#[derive(Deserialize)]
struct WeightedCase {
    weights: Vec<u32>,
    auc: [f64; 2],
}

fn golden() -> Golden {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/eval/compare.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn delong_equals_the_quadratic_statement() {
    let cases = golden().delong;
    assert_eq!(cases.len(), 2);
    for case in cases {
        let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-12, "{got} {want}");
        let got = delong_test(&case.scores_a, &case.scores_b, &case.same, 0.95).unwrap();
        close(got.a, case.auc[0]);
        close(got.b, case.auc[1]);
        close(got.standard_error, case.standard_error);
        close(got.z.unwrap(), case.z);
        close(got.p_value.unwrap(), case.p);
        let a = delong(&case.scores_a, &case.same, 0.95).unwrap();
        let b = delong(&case.scores_b, &case.same, 0.95).unwrap();
        close(a.standard_error, case.standard_errors[0]);
        close(b.standard_error, case.standard_errors[1]);
        close(a.interval[0], case.interval_a[0]);
        close(a.interval[1], case.interval_a[1]);
    }
}

/// The resampled figures are those of scikit-learn on explicit copies, resample by resample.
#[test]
fn weighting_equals_copying() {
    let case = golden().weighted;
    let pairs: Vec<PairClusters> = case
        .pairs
        .iter()
        .zip(&case.same)
        .map(|(&[i, j], &same)| PairClusters {
            a: case.identity[i],
            b: case.identity[j],
            same,
        })
        .collect();
    let area = |scores: &[f64], weights: &[u32]| {
        let (mut doubled, mut all) = (0u64, 0u64);
        let weight = |p: &PairClusters| {
            let w = u64::from(weights[p.a as usize]);
            if p.a == p.b {
                w
            } else {
                w * u64::from(weights[p.b as usize])
            }
        };
        for (x, p) in scores.iter().zip(&pairs).filter(|(_, p)| p.same) {
            for (y, q) in scores.iter().zip(&pairs).filter(|(_, q)| !q.same) {
                let times = weight(p) * weight(q);
                all += times;
                doubled += times * (u64::from(x > y) + u64::from(x >= y));
            }
        }
        doubled as f64 / (2 * all) as f64
    };
    for one in &case.cases {
        assert!((area(&case.scores_a, &one.weights) - one.auc[0]).abs() < 1e-12);
        assert!((area(&case.scores_b, &one.weights) - one.auc[1]).abs() < 1e-12);
    }
    // The library's own resamples by the same rule, spelled out with its published weights.
    let config = BootstrapConfig {
        resamples: 60,
        seed: 9,
        level: 0.9,
    };
    let fast = paired_verification(&case.scores_a, &case.scores_b, &pairs, &[], &config).unwrap();
    let slow = paired_differences(6, &config, |weights| {
        vec![(area(&case.scores_a, weights), area(&case.scores_b, weights))]
    })
    .unwrap();
    let (fast, slow) = (fast["auc"], slow[0]);
    assert_eq!(fast.p_value, slow.p_value);
    for k in 0..2 {
        assert!((fast.interval.unwrap()[k] - slow.interval.unwrap()[k]).abs() < 1e-12);
    }
    assert_eq!(cluster_weights(6, 9, 0).iter().sum::<u32>(), 6);
}

proptest! {
    /// Order of pairs, rescaling and renaming of clusters change nothing.
    #[test]
    fn order_scale_and_names_do_not_matter(
        noise in prop::collection::vec(0.0f64..1.0, 66),
        rotate in 0usize..66,
        factor in 0.01f64..50.0,
    ) {
        let pairs: Vec<PairClusters> = (0..12u32)
            .flat_map(|i| (i + 1..12).map(move |j| PairClusters { a: i / 2, b: j / 2, same: i / 2 == j / 2 }))
            .collect();
        let a: Vec<f64> = noise.iter().zip(&pairs).map(|(n, p)| n + 0.3 * f64::from(p.same)).collect();
        let b: Vec<f64> = noise.iter().rev().copied().collect();
        let config = BootstrapConfig { resamples: 25, ..Default::default() };
        let one = paired_verification(&a, &b, &pairs, &[0.1], &config).unwrap();
        let (mut a2, mut b2, mut p2) = (a.clone(), b.clone(), pairs.clone());
        a2.rotate_left(rotate);
        b2.rotate_left(rotate);
        p2.rotate_left(rotate);
        for v in &mut a2 {
            *v *= factor;
        }
        // An order-preserving renaming: the draws go by rank of the cluster.
        for p in &mut p2 {
            p.a = 3 * p.a + 100;
            p.b = 3 * p.b + 100;
        }
        let two = paired_verification(&a2, &b2, &p2, &[0.1], &config).unwrap();
        prop_assert_eq!(one, two);
        let same: Vec<bool> = pairs.iter().map(|p| p.same).collect();
        let test = delong_test(&a, &b, &same, 0.95).unwrap();
        let back = delong_test(&b, &a, &same, 0.95).unwrap();
        prop_assert!((test.difference + back.difference).abs() < 1e-15);
        prop_assert!((test.standard_error - back.standard_error).abs() < 1e-15);
    }
}

/// Where labels are not identities, verification draws the identities that stand beside them.
#[test]
fn expressions_are_resampled_by_person() {
    let n = 120u32;
    let people: Vec<u32> = (0..n).map(|i| i % 12).collect();
    let expressions: Vec<u32> = (0..n).map(|i| i / 12 % 5).collect();
    let values = (0..n).flat_map(|i| {
        let t = f64::from(i) * 2.3;
        let (p, e) = (f64::from(i % 12), f64::from(i / 12 % 5));
        [t.sin() + p, t.cos() + 2.0 * e, (1.7 * t).sin() - p].map(|v| v as f32)
    });
    let table = Embeddings::new(values.collect(), 3)
        .unwrap()
        .with_labels("labels", expressions.clone())
        .unwrap()
        .with_labels("identity", people.clone())
        .unwrap();
    let options = EvaluateOptions::default();
    let found = evaluate(&Protocol::VerificationAllPairs, &table, &options).unwrap();
    assert_eq!(found.protocol["bootstrap"]["unit"], "identity");
    let by = |clusters: Option<Vec<u32>>| {
        let config = VerificationConfig {
            clusters,
            ..Default::default()
        };
        verify_all_pairs(&table, &expressions, &config).unwrap()
    };
    let (person, label) = (by(Some(people.clone())), by(None));
    assert_eq!(found.intervals, person.intervals);
    assert_eq!(
        (person.bootstrap_unit, label.bootstrap_unit),
        ("cluster", "label")
    );
    assert_ne!(person.intervals["auc"], label.intervals["auc"]);
    // The figure itself does not depend on what is drawn, and the band lies round the curve.
    assert_eq!(person.auc, label.auc);
    assert!(person.band.len() > 5 && person.band.windows(2).all(|w| w[0].far < w[1].far));
    for point in &person.band {
        assert!(point.low <= point.high && point.high <= 1.0);
    }
    let short = VerificationConfig {
        clusters: Some(vec![0; 3]),
        ..Default::default()
    };
    let line = verify_all_pairs(&table, &expressions, &short)
        .unwrap_err()
        .to_string();
    assert_eq!(line, "3 clusters for 120 embeddings");
}
