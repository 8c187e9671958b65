//! What must hold of every loss: starting identity, edge cases, invariances, bad input.

use candle::{DType, Device, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use phiz_losses::*;
use phiz_mining::{Triplets, Tuplet, Tuplets, all_triplets, class_tuplets};
use proptest::prelude::*;

const REDUCTIONS: [TupletReduction; 4] = [
    TupletReduction::Mean,
    TupletReduction::MeanActive,
    TupletReduction::HalfSum,
    TupletReduction::Sum,
];

fn rows(list: &[Vec<f64>]) -> Tensor {
    Tensor::new(list.to_vec(), &Device::Cpu).unwrap()
}

fn random(n: usize, d: usize, seed: u64) -> Tensor {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f64> = (0..n * d).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(values, (n, d), &Device::Cpu).unwrap()
}

fn one(query: u32, positives: &[u32], negatives: &[u32]) -> Tuplets {
    Tuplets(vec![Tuplet {
        query,
        positives: positives.to_vec(),
        negatives: negatives.to_vec(),
    }])
}

fn fixed(reference_distance: f64, tau: f64, reduction: TupletReduction) -> TupletClustersConfig {
    TupletClustersConfig {
        reference_distance,
        tau,
        reduction,
        ..TupletClustersConfig::default()
    }
}

fn adaptive(dim: usize, config: AdaptiveConfig) -> Result<AdaptiveTupletClusters> {
    AdaptiveTupletClusters::new(
        dim,
        config,
        VarBuilder::from_varmap(&VarMap::new(), DType::F64, &Device::Cpu),
    )
}

/// Value and gradient with respect to the embeddings.
fn run(e: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> (f64, Vec<f64>) {
    let v = Var::from_tensor(&e.copy().unwrap()).unwrap();
    let loss = f(v.as_tensor()).unwrap();
    let store = loss.backward().unwrap();
    let grad = store
        .get(&v)
        .expect("a gradient")
        .to_dtype(DType::F64)
        .unwrap();
    let loss = loss.to_dtype(DType::F64).unwrap().to_scalar().unwrap();
    (loss, grad.flatten_all().unwrap().to_vec1().unwrap())
}

fn close(a: &[f64], b: &[f64], tol: f64) {
    assert_eq!(a.len(), b.len());
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= tol, "{a:?}\n{b:?}");
    }
}

/// Every loss over tuplets, by name.
type Loss = Box<dyn Fn(&Tensor, &Tuplets) -> Result<Tensor>>;

fn tuplet_losses(dim: usize) -> Vec<(&'static str, Loss)> {
    let cosine = TupletClustersConfig {
        distance: ClusterDistance::Cosine,
        ..fixed(0.5, 0.4, TupletReduction::Mean)
    };
    let unit = TupletClustersConfig {
        normalize: true,
        ..fixed(0.5, 0.4, TupletReduction::Mean)
    };
    let learned = adaptive(dim, AdaptiveConfig::default()).unwrap();
    let distance = NPairForm::Distance { margin: 0.5 };
    vec![
        (
            "fixed",
            Box::new(move |e, t| tuplet_clusters(e, t, fixed(0.8, 0.6, TupletReduction::Mean))),
        ),
        (
            "cosine",
            Box::new(move |e, t| tuplet_clusters(e, t, cosine)),
        ),
        ("unit", Box::new(move |e, t| tuplet_clusters(e, t, unit))),
        (
            "adaptive",
            Box::new(move |e, t| learned.forward(&e.to_dtype(DType::F64)?, t)),
        ),
        ("coupled", Box::new(|e, t| coupled_clusters(e, t, 0.5))),
        (
            "n-pair",
            Box::new(|e, t| n_pair(e, t, NPairConfig::default())),
        ),
        (
            "n-pair distance",
            Box::new(move |e, t| n_pair(e, t, distance)),
        ),
        (
            "triplet",
            Box::new(|e, t| triplet(e, &t.to_triplets(), 0.5)),
        ),
    ]
}

#[test]
fn adaptive_starts_at_the_fixed_loss() -> Result<()> {
    let e = random(12, 5, 1);
    let tuplets = Tuplets(vec![
        Tuplet {
            query: 0,
            positives: vec![1, 2, 3],
            negatives: vec![4, 5, 6],
        },
        Tuplet {
            query: 7,
            positives: vec![8],
            negatives: vec![9, 10, 11, 0],
        },
    ]);
    for reduction in REDUCTIONS {
        for stop_gradient in [false, true] {
            let fixed = TupletClustersConfig {
                stop_gradient,
                ..fixed(1.3, 0.9, reduction)
            };
            let config = AdaptiveConfig {
                reference_distance: 1.3,
                tau: 0.9,
                reduction,
                stop_gradient,
            };
            let learned = adaptive(5, config)?;
            let (a, ga) = run(&e, |e| tuplet_clusters(e, &tuplets, fixed));
            let (b, gb) = run(&e, |e| learned.forward(e, &tuplets));
            assert!(a > 0.1);
            close(&[a], &[b], 1e-13);
            close(&ga, &gb, 1e-13);
        }
    }
    // The plain sum of one is twice the half sum of the other.
    let learned = adaptive(
        5,
        AdaptiveConfig {
            reduction: TupletReduction::Sum,
            ..AdaptiveConfig::default()
        },
    )?;
    let (a, _) = run(&e, |e| {
        tuplet_clusters(e, &tuplets, fixed(1.0, 1.0, TupletReduction::HalfSum))
    });
    let (b, _) = run(&e, |e| learned.forward(e, &tuplets));
    close(&[2.0 * a], &[b], 1e-13);
    Ok(())
}

#[test]
fn adaptive_parameters_are_new_or_loaded() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    AdaptiveTupletClusters::new(
        3,
        AdaptiveConfig {
            reference_distance: 2.0,
            ..Default::default()
        },
        vb.pp("t"),
    )?;
    let data = vars.data().lock().unwrap().clone();
    let get = |name: &str| data[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let r = std::f32::consts::SQRT_2;
    assert_eq!(get("t.l_a"), [r, 0., 0., 0., r, 0., 0., 0., r]);
    assert_eq!(get("t.l_b"), get("t.l_a"));
    assert_eq!((get("t.w"), get("t.b")), (vec![0.; 3], vec![-2.]));
    // What training made of them survives a second construction, and a reload from plain tensors.
    data["t.l_a"].set(&Tensor::full(0.5f32, (3, 3), &Device::Cpu)?)?;
    AdaptiveTupletClusters::new(3, AdaptiveConfig::default(), vb.pp("t"))?;
    assert_eq!(get("t.l_a"), [0.5; 9]);
    let plain = data
        .iter()
        .map(|(k, v)| (k.clone(), v.as_tensor().detach()))
        .collect();
    let vb = VarBuilder::from_tensors(plain, DType::F32, &Device::Cpu);
    let loaded = AdaptiveTupletClusters::new(3, AdaptiveConfig::default(), vb.pp("t"))?;
    let u = Tensor::new(&[[1f32, 0., 0.]], &Device::Cpu)?;
    // 1/2 |L_A u|^2 twice = 0.75; |L_B u|^2 = 2; b = -2.
    assert!((loaded.decide(&u, &u)?.to_vec1::<f32>()?[0] - (0.75 - 2.0 - 2.0)).abs() < 1e-6);
    assert!(AdaptiveTupletClusters::new(4, AdaptiveConfig::default(), vb.pp("t")).is_err());
    Ok(())
}

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
fn margin_heads_at_cosine_one() -> Result<()> {
    // Item 0 lies on its class weight, item 1 opposite to it, item 2 is zero.
    for dtype in [DType::F32, DType::F64] {
        let e =
            rows(&[vec![0.3, 0.6, -0.2], vec![-2., 1., 0.5], vec![0., 0., 0.]]).to_dtype(dtype)?;
        let w = rows(&[vec![0.6, 1.2, -0.4], vec![4., -2., -1.]]).to_dtype(dtype)?;
        let labels = Tensor::new(&[0u32, 1, 0], &Device::Cpu)?;
        for gradient in [ArcGradient::Exact, ArcGradient::StraightThrough] {
            let head = ArcFace::from_weight(
                w.clone(),
                ArcFaceConfig {
                    gradient,
                    ..Default::default()
                },
            )?;
            let logits = head
                .forward(&e, &labels)?
                .to_dtype(DType::F64)?
                .to_vec2::<f64>()?;
            // cos(0 + m); beyond pi - m the exact form goes on as cos - m sin m, the other as cos(pi + m).
            assert!(
                (logits[0][0] - 64.0 * 0.5f64.cos()).abs() < 0.05,
                "{logits:?}"
            );
            let opposite = if gradient == ArcGradient::Exact {
                -1.0 - 0.5 * 0.5f64.sin()
            } else {
                -(0.5f64.cos())
            };
            assert!((logits[1][1] - 64.0 * opposite).abs() < 0.05, "{logits:?}");
            let (loss, grad) = run(&e, |e| {
                cross_entropy(&head.forward(e, &labels)?, &labels, 0.0)
            });
            assert!(loss.is_finite() && grad.iter().all(|g| g.is_finite()));
            assert!(
                grad[6..].iter().all(|&g| g == 0.0),
                "a zero embedding has no direction"
            );
        }
        let angle = mean_target_angle(
            &ArcFace::from_weight(w, ArcFaceConfig::default())?.cosine(&e)?,
            &[0, 1, 0],
        )?;
        assert!(
            (angle - (0.0 + std::f64::consts::PI + std::f64::consts::FRAC_PI_2) / 3.0).abs() < 1e-3
        );
    }
    Ok(())
}

#[test]
fn heads_draw_small_weights() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let arc = ArcFace::new(64, 50, ArcFaceConfig::default(), vb.pp("arc"))?;
    CosFace::new(64, 50, CosFaceConfig::default(), vb.pp("cos"))?;
    assert_eq!(arc.weight().dims(), [50, 64]);
    let sd = arc.weight().sqr()?.mean_all()?.to_scalar::<f32>()?.sqrt();
    assert!((sd - 0.01).abs() < 0.001, "{sd}");
    let mut names: Vec<_> = vars.data().lock().unwrap().keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["arc.weight", "cos.weight"]);
    Ok(())
}

#[test]
fn bad_input_is_named() {
    let e = random(4, 2, 0);
    let says = |r: Result<Tensor>, what: &str| {
        let message = r.unwrap_err().to_string();
        assert!(message.contains(what), "{message}");
    };
    let t = one(0, &[1], &[2]);
    says(
        tuplet_clusters(&e, &t, fixed(0.4, 1.0, TupletReduction::Mean)),
        "T > tau/2 > 0, got T = 0.4, tau = 1",
    );
    says(
        tuplet_clusters(&e, &t, fixed(1.0, 0.0, TupletReduction::Mean)),
        "T > tau/2",
    );
    says(
        tuplet_clusters(&e, &t, fixed(f64::NAN, 1.0, TupletReduction::Mean)),
        "reference distance must be finite",
    );
    for (_, loss) in tuplet_losses(2) {
        says(loss(&e, &one(0, &[1], &[9])), "outside of the batch of 4");
        says(
            loss(&Tensor::zeros(4, DType::F64, &Device::Cpu).unwrap(), &t),
            "(B, D)",
        );
    }
    says(
        tuplet_clusters(&e.to_dtype(DType::U8).unwrap(), &t, Default::default()),
        "f32 or f64",
    );
    says(
        triplet(&e, &t.to_triplets(), f64::NAN),
        "margin of the triplet loss must be finite",
    );
    says(
        n_pair(
            &e,
            &t,
            NPairConfig {
                scale: 0.0,
                ..Default::default()
            },
        ),
        "scale of the N-pair loss",
    );
    says(
        adaptive(3, AdaptiveConfig::default())
            .unwrap()
            .forward(&e, &t),
        "made for (B, 3)",
    );
    assert!(
        adaptive(
            3,
            AdaptiveConfig {
                tau: 4.0,
                ..Default::default()
            }
        )
        .is_err()
    );

    let w = random(3, 2, 1);
    let labels = |l: &[u32]| Tensor::new(l, &Device::Cpu).unwrap();
    let arc = |config| ArcFace::from_weight(w.clone(), config).unwrap();
    says(
        arc(ArcFaceConfig::default()).forward(&e, &labels(&[0, 1, 3, 2])),
        "label 3 of item 2",
    );
    says(
        arc(ArcFaceConfig::default()).forward(&e, &labels(&[0, 1])),
        "labels must be (4)",
    );
    says(
        arc(ArcFaceConfig {
            margin: 28.6,
            ..Default::default()
        })
        .forward(&e, &labels(&[0; 4])),
        "radians",
    );
    says(
        arc(ArcFaceConfig {
            scale: -1.0,
            ..Default::default()
        })
        .forward(&e, &labels(&[0; 4])),
        "above 0",
    );
    says(
        arc(ArcFaceConfig::default()).forward(&random(4, 5, 0), &labels(&[0; 4])),
        "weight is (3, 2)",
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Order within positives, within negatives and of the tuplets does not matter; nor does where in the batch an item sits.
    #[test]
    fn order_does_not_matter(seed in any::<u64>()) {
        use rand::{SeedableRng, seq::SliceRandom};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let e = random(10, 3, seed);
        let tuplets = Tuplets(vec![
            Tuplet { query: 0, positives: vec![1, 2, 3], negatives: vec![4, 5, 6] },
            Tuplet { query: 7, positives: vec![8], negatives: vec![9, 1, 0] },
        ]);
        let mut order: Vec<u32> = (0..10).collect();
        order.shuffle(&mut rng);
        // Item i of the first batch is item place[i] of the second.
        let mut place = vec![0u32; 10];
        for (new, &old) in (0u32..).zip(&order) {
            place[old as usize] = new;
        }
        let moved_e = e.index_select(&Tensor::new(order.clone(), &Device::Cpu).unwrap(), 0).unwrap();
        let mut moved: Vec<Tuplet> = tuplets.iter().map(|t| {
            let mut m = Tuplet {
                query: place[t.query as usize],
                positives: t.positives.iter().map(|&i| place[i as usize]).collect(),
                negatives: t.negatives.iter().map(|&i| place[i as usize]).collect(),
            };
            m.positives.shuffle(&mut rng);
            m.negatives.shuffle(&mut rng);
            m
        }).collect();
        moved.shuffle(&mut rng);
        let moved = Tuplets(moved);
        for (name, loss) in tuplet_losses(3) {
            let (a, ga) = run(&e, |e| loss(e, &tuplets));
            let (b, gb) = run(&moved_e, |e| loss(e, &moved));
            prop_assert!((a - b).abs() < 1e-12, "{}", name);
            for (i, &p) in place.iter().enumerate() {
                close(&ga[i * 3..i * 3 + 3], &gb[p as usize * 3..p as usize * 3 + 3], 1e-12);
            }
        }
    }

    /// Distances do not see a common translation or rotation; the gradient turns along.
    #[test]
    fn translation_and_rotation_do_not_matter(seed in any::<u64>(), angle in 0.0f64..6.3, shift in -2.0f64..2.0) {
        let e = random(7, 2, seed);
        let (s, c) = angle.sin_cos();
        let rotation = rows(&[vec![c, s], vec![-s, c]]);
        let moved = (e.matmul(&rotation).unwrap() + shift).unwrap();
        let t = one(0, &[1, 2], &[3, 4, 5, 6]);
        for (name, loss) in tuplet_losses(2) {
            if matches!(name, "fixed" | "coupled" | "n-pair distance" | "adaptive") {
                let (a, ga) = run(&e, |e| loss(e, &t));
                let (b, gb) = run(&moved, |e| loss(e, &t));
                prop_assert!((a - b).abs() < 1e-11, "{}", name);
                let turned = Tensor::from_vec(ga, (7, 2), &Device::Cpu).unwrap().matmul(&rotation).unwrap();
                close(&turned.flatten_all().unwrap().to_vec1::<f64>().unwrap(), &gb, 1e-11);
            }
        }
    }

    /// An item that appears twice in the batch under two indices counts like two items.
    #[test]
    fn duplicates_share_the_gradient(seed in any::<u64>()) {
        let e = random(5, 3, seed);
        let twice = e.index_select(&Tensor::new(&[0u32, 1, 2, 3, 4, 1], &Device::Cpu).unwrap(), 0).unwrap();
        for (name, loss) in tuplet_losses(3) {
            let first = Tuplets(vec![
                Tuplet { query: 0, positives: vec![1], negatives: vec![2, 3] },
                Tuplet { query: 4, positives: vec![2], negatives: vec![1] },
            ]);
            let mut second = first.clone();
            second.0[1].negatives = vec![5];
            let (a, ga) = run(&e, |e| loss(e, &first));
            let (b, gb) = run(&twice, |e| loss(e, &second));
            prop_assert!((a - b).abs() < 1e-13, "{}", name);
            let merged: Vec<f64> = (0..3).map(|k| gb[3 + k] + gb[15 + k]).collect();
            close(&ga[3..6], &merged, 1e-13);
        }
    }
}
