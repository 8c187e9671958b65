//! Cases at the edge: lone queries, nothing active, corners, no tuplets, NaN, equal embeddings.

use phiz_mining::{Triplets, all_triplets, class_tuplets};

use crate::*;

#[test]
fn a_lone_query_is_its_own_centre() {
    // N = 1: D(f, c) = 0, so only the negatives act, and on the query through c alone.
    let e = rows(&[vec![0., 0.], vec![0.6, 0.8], vec![3., 0.]]);
    let t = one(0, &[], &[1, 2]);
    let (loss, grad) = run(&e, |e| {
        tuplet_clusters(e, &t, fixed(1.0, 1.0, TupletReduction::Mean))
    });
    close(&[loss], &[(1.5 - 1.0) / 2.0], 1e-15);
    // -(2/M)(f_j - c) on the negative, the opposite on the query.
    close(&grad, &[0.6, 0.8, -0.6, -0.8, 0., 0.], 1e-15);
    let stop = TupletClustersConfig {
        stop_gradient: true,
        ..fixed(1.0, 1.0, TupletReduction::Mean)
    };
    let (_, grad) = run(&e, |e| tuplet_clusters(e, &t, stop));
    close(&grad, &[0., 0., -0.6, -0.8, 0., 0.], 1e-15);
}

#[test]
fn without_negatives_only_the_positives_count() {
    let e = rows(&[vec![-2., 0.], vec![2., 0.]]);
    for reduction in REDUCTIONS {
        let weight = match reduction {
            TupletReduction::Mean | TupletReduction::MeanActive => 1.0,
            TupletReduction::HalfSum => 1.0,
            TupletReduction::Sum => 2.0,
        };
        let (loss, report) =
            tuplet_clusters_report(&e, &one(0, &[1], &[]), fixed(1.0, 1.0, reduction)).unwrap();
        close(&[loss.to_scalar().unwrap()], &[weight * 3.5], 1e-15);
        assert_eq!(
            (
                report.negatives,
                report.active_negatives,
                report.negative_mean
            ),
            (0, 0.0, 0.0)
        );
    }
}

#[test]
fn nothing_active_is_exactly_zero() {
    let e = rows(&[vec![0.1, 0.], vec![-0.1, 0.], vec![9., 0.], vec![0., 9.]]);
    let t = one(0, &[1], &[2, 3]);
    for reduction in REDUCTIONS {
        let (loss, grad) = run(&e, |e| tuplet_clusters(e, &t, fixed(1.0, 1.0, reduction)));
        assert_eq!((loss, loss.is_sign_negative()), (0.0, false));
        assert!(grad.iter().all(|&g| g == 0.0));
        let learned = adaptive(
            2,
            AdaptiveConfig {
                reduction,
                ..Default::default()
            },
        )
        .unwrap();
        let (loss, grad) = run(&e, |e| learned.forward(e, &t));
        assert!(loss == 0.0 && grad.iter().all(|&g| g == 0.0));
        let config = CoupledClustersConfig {
            reduction,
            ..Default::default()
        };
        let (loss, grad) = run(&e, |e| coupled_clusters(e, &t, config));
        assert!(loss == 0.0 && grad.iter().all(|&g| g == 0.0));
    }
    let far = TripletConfig {
        normalize: false,
        ..TripletConfig::default()
    };
    let (loss, grad) = run(&e, |e| triplet(e, &t.to_triplets(), far));
    assert!(loss == 0.0 && grad.iter().all(|&g| g == 0.0));
}

#[test]
fn everything_active_by_hand() {
    // Query (0,0), positive (2,0): c = (1,0), D = 1 each. Negatives (1,0.5) and (1,-1): D = 0.25 and 1. T = 1, tau = 1.
    let e = rows(&[vec![0., 0.], vec![2., 0.], vec![1., 0.5], vec![1., -1.]]);
    let t = one(0, &[1], &[2, 3]);
    let (loss, grad) = run(&e, |e| {
        tuplet_clusters(e, &t, fixed(1.0, 1.0, TupletReduction::Mean))
    });
    // Positives 0.5 + 0.5, mean 0.5; negatives 1.25 + 0.5, mean 0.875.
    close(&[loss], &[0.5 + 0.875], 1e-15);
    // g_c = -(f_1 - c) - (f_2 - c) + (f_3 - c) + (f_4 - c) = (0, -0.5); half of it to each positive.
    close(&grad, &[-1., -0.25, 1., -0.25, 0., -0.5, 0., 1.], 1e-15);
    let report = tuplet_clusters_report(&e, &t, fixed(1.0, 1.0, TupletReduction::Mean))
        .unwrap()
        .1;
    let expected = TupletReport {
        tuplets: 1,
        positives: 2,
        negatives: 2,
        active_positives: 1.0,
        active_negatives: 1.0,
        positive_mean: 0.0,
        negative_mean: 0.625 - 1.0,
    };
    assert_eq!(report, expected);
}

#[test]
fn the_corner_of_a_hinge_has_gradient_zero() {
    // D = 1.5 = T + tau/2 for the negative, D = 0 for the query: both terms exactly 0 or below.
    let e = rows(&[vec![0., 0.], vec![0.5, 0.5], vec![1., 0.]]);
    let corner = TupletClustersConfig {
        ..fixed(0.75, 0.5, TupletReduction::Sum)
    };
    let (loss, grad) = run(&e, |e| tuplet_clusters(e, &one(0, &[], &[2]), corner));
    assert!(
        loss == 0.0 && grad.iter().all(|&g| g == 0.0),
        "{loss} {grad:?}"
    );
    // d(a,p) - d(a,n) + margin = 0.5 - 1 + 0.5 = 0.
    let config = TripletConfig {
        margin: 0.5,
        normalize: false,
        reduction: Reduction::Sum,
        ..Default::default()
    };
    let (loss, grad) = run(&e, |e| {
        triplet(e, &Triplets::from_iter([(0, 1, 2)]), config)
    });
    assert!(loss == 0.0 && grad.iter().all(|&g| g == 0.0));
}

#[test]
fn no_tuplets_give_zero_and_zero_gradients() {
    // Even of embeddings that are not finite.
    let e = rows(&[vec![f64::NAN, 1.], vec![f64::INFINITY, 2.]]);
    for (name, loss) in tuplet_losses(2) {
        let (value, grad) = run(&e, |e| loss(e, &Tuplets::default()));
        assert!(value == 0.0 && grad.iter().all(|&g| g == 0.0), "{name}");
        if name == "coupled" || name.starts_with("n-pair") {
            // A tuplet without negatives is no tuplet to these.
            let (value, grad) = run(&e, |e| loss(e, &one(0, &[1], &[])));
            assert!(value == 0.0 && grad.iter().all(|&g| g == 0.0), "{name}");
        }
    }
    let learned = adaptive(2, AdaptiveConfig::default()).unwrap();
    assert_eq!(
        learned
            .forward(&e, &Tuplets::default())
            .unwrap()
            .to_scalar::<f64>()
            .unwrap(),
        0.0
    );
    assert!(
        all_triplets(&[3, 3, 3]).is_empty(),
        "one class has no triplet"
    );
    // One class: a cluster without negatives, whose positives still gather.
    let (loss, _) = run(&random(4, 2, 0), |e| {
        tuplet_clusters(
            e,
            &class_tuplets(&[3; 4]),
            fixed(0.2, 0.1, TupletReduction::Mean),
        )
    });
    assert!(loss > 0.0);
}

#[test]
fn a_nan_that_takes_part_is_a_nan_loss() {
    let mut list = vec![
        vec![0.1, 0.2],
        vec![0.3, -0.1],
        vec![0.5, 0.5],
        vec![-0.4, 0.9],
    ];
    for bad in 0..3 {
        let clean = list[bad].clone();
        list[bad] = vec![f64::NAN, 0.0];
        let e = rows(&list);
        for (name, loss) in tuplet_losses(2) {
            let value = loss(&e, &one(0, &[1], &[2]))
                .unwrap()
                .to_scalar::<f64>()
                .unwrap();
            assert!(value.is_nan(), "{name}, row {bad}: {value}");
        }
        list[bad] = clean;
    }
    // Row 3 takes no part.
    list[3] = vec![f64::NAN; 2];
    for (name, loss) in tuplet_losses(2) {
        let (value, grad) = run(&rows(&list), |e| loss(e, &one(0, &[1], &[2])));
        assert!(
            value.is_finite() && grad[..6].iter().all(|g| g.is_finite()),
            "{name}"
        );
    }
}

#[test]
fn equal_and_zero_embeddings_stay_finite() {
    for point in [vec![0.3, -0.4], vec![0.0, 0.0]] {
        let e = rows(&vec![point.clone(); 5]);
        for (name, loss) in tuplet_losses(2) {
            for dtype in [DType::F32, DType::F64] {
                let (value, grad) = run(&e.to_dtype(dtype).unwrap(), |e| {
                    loss(e, &one(0, &[1, 2], &[3, 4]))
                });
                assert!(
                    value.is_finite() && grad.iter().all(|g| g.is_finite()),
                    "{name} {point:?}"
                );
                if name == "fixed" {
                    // f - c is 0 everywhere: a stationary point, at loss w_n M (T + tau/2) = T + tau/2.
                    assert!(grad.iter().all(|&g| g == 0.0));
                    assert!((value - 1.1).abs() < 1e-6);
                }
            }
        }
        let euclid = TripletConfig {
            distance: Distance::Euclidean,
            normalize: false,
            ..Default::default()
        };
        let (value, grad) = run(&e, |e| {
            triplet(e, &Triplets::from_iter([(0, 1, 2)]), euclid)
        });
        assert!(value == 0.2 && grad.iter().all(|&g| g == 0.0), "root at 0");
        assert_eq!(embedding_std(&e).unwrap(), 0.0);
    }
}

#[test]
fn the_cosine_mode_is_the_scalar_formula() {
    // The public program: every class a cluster, every other class its negatives, 1 - cos to the unit centre.
    let labels = [0u32, 1, 0, 2, 1, 0, 2];
    let e = random(7, 3, 9);
    let (t, tau) = (0.6, 0.5);
    let x = e.to_vec2::<f64>().unwrap();
    let unit = |v: &[f64]| -> Vec<f64> {
        let n = v.iter().map(|a| a * a).sum::<f64>().sqrt();
        v.iter().map(|a| a / n).collect()
    };
    let x: Vec<_> = x.iter().map(|v| unit(v)).collect();
    let mut total = 0.0;
    for class in 0..3u32 {
        let members: Vec<_> = (0..7).filter(|&i| labels[i] == class).collect();
        let sum: Vec<f64> = (0..3)
            .map(|k| members.iter().map(|&i| x[i][k]).sum())
            .collect();
        let c = unit(&sum);
        let d = |i: usize| 1.0 - x[i].iter().zip(&c).map(|(a, b)| a * b).sum::<f64>();
        let p: f64 = members
            .iter()
            .map(|&i| (d(i) - t + tau / 2.0).max(0.0))
            .sum();
        let others: Vec<_> = (0..7).filter(|&i| labels[i] != class).collect();
        let n: f64 = others
            .iter()
            .map(|&i| (t + tau / 2.0 - d(i)).max(0.0))
            .sum();
        total += (p / members.len() as f64 + n / others.len() as f64) / 3.0;
    }
    let config = TupletClustersConfig {
        distance: ClusterDistance::Cosine,
        ..fixed(t, tau, TupletReduction::Mean)
    };
    let (ours, _) = run(&e, |e| tuplet_clusters(e, &class_tuplets(&labels), config));
    assert!(total > 0.1);
    close(&[ours], &[total], 1e-14);
}

#[test]
fn reports_say_what_happened() {
    let e = rows(&[vec![1., 0.], vec![1., 0.], vec![2., 0.], vec![0., 1.]]);
    // Inner products with the query: positive 1, negatives 2 and 0. Against 2 the pair is violated, against 0 not.
    let t = Tuplets(
        [
            one(0, &[1], &[2, 3]).0,
            one(0, &[1], &[3]).0,
            one(0, &[1], &[]).0,
        ]
        .concat(),
    );
    let (_, report) = n_pair_report(&e, &t, NPairConfig::default()).unwrap();
    assert_eq!(
        report,
        NPairReport {
            pairs: 2,
            active: 0.5
        }
    );
    // d(a,p) = 0; d(a,n) = 1 and 2.
    let config = TripletConfig {
        margin: 1.5,
        normalize: false,
        ..Default::default()
    };
    let (loss, report) = triplet_report(&e, &one(0, &[1], &[2, 3]).to_triplets(), config).unwrap();
    let expected = TripletReport {
        triplets: 2,
        active: 0.5,
        positive_mean: 0.0,
        negative_mean: 1.5,
    };
    assert_eq!(report, expected);
    close(&[loss.to_scalar().unwrap()], &[0.5], 1e-15);
    // c = (1, 0), f* = item 2 at distance 1, item 3 at 2; two hinges of margin - 1.
    let (loss, report) = coupled_clusters_report(&e, &one(0, &[1], &[2, 3]), 1.5).unwrap();
    close(&[loss.to_scalar().unwrap()], &[0.5], 1e-15);
    assert_eq!(
        (report.active_positives, report.active_negatives),
        (1.0, 1.0)
    );
    assert_eq!((report.positive_mean, report.negative_mean), (0.0, 1.5));
    assert_eq!(
        embedding_std(&rows(&[vec![0., 0.], vec![2., 4.]])).unwrap(),
        1.5
    );
}
