//! Central differences in f64 of every loss with respect to everything it is differentiated by.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle::{Device, Result, Tensor};
use phiz_kernels::gradcheck::check;
use phiz_losses::*;
use phiz_mining::{Tuplet, Tuplets, all_triplets};

/// Fixed numbers without structure, so that no hinge sits at its corner.
fn numbers(shape: &[usize], seed: u64, scale: f64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0) * scale
    };
    let n = shape.iter().product();
    Tensor::from_vec(
        (0..n).map(|_| next()).collect::<Vec<f64>>(),
        shape,
        &Device::Cpu,
    )
    .unwrap()
}

fn tuplets() -> Tuplets {
    [
        (0, vec![1, 2, 3], vec![4, 5]),
        (6, vec![7], vec![8, 9, 0]),
        (4, vec![], vec![1, 2]),
        (5, vec![8], vec![]),
    ]
    .map(|(query, positives, negatives)| Tuplet {
        query,
        positives,
        negatives,
    })
    .into_iter()
    .collect()
}

const REDUCTIONS: [TupletReduction; 4] = [
    TupletReduction::Mean,
    TupletReduction::MeanActive,
    TupletReduction::HalfSum,
    TupletReduction::Sum,
];
const TOL: f64 = 2e-7;

#[test]
fn triplet_all_forms() -> Result<()> {
    let e = numbers(&[7, 3], 1, 1.0);
    let triplets = all_triplets(&[0, 0, 1, 1, 1, 2, 2]);
    for distance in [Distance::Squared, Distance::Euclidean] {
        for soft in [false, true] {
            for normalize in [false, true] {
                for reduction in [Reduction::MeanActive, Reduction::Mean, Reduction::Sum] {
                    let config = TripletConfig {
                        margin: 0.3,
                        distance,
                        soft,
                        normalize,
                        reduction,
                    };
                    let active = triplet_report(&e, &triplets, config)?.1.active;
                    assert!(active > 0.1 && active < 0.9, "{config:?} {active}");
                    check(
                        |v| triplet(&v[0], &triplets, config),
                        std::slice::from_ref(&e),
                        TOL,
                    )?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn n_pair_all_forms() -> Result<()> {
    let e = numbers(&[10, 3], 2, 1.0);
    for form in [NPairForm::InnerProduct, NPairForm::Distance { margin: 0.4 }] {
        for normalize in [false, true] {
            for reduction in [Reduction::Mean, Reduction::MeanActive, Reduction::Sum] {
                let config = NPairConfig {
                    form,
                    scale: 2.5,
                    normalize,
                    reduction,
                };
                check(
                    |v| n_pair(&v[0], &tuplets(), config),
                    std::slice::from_ref(&e),
                    TOL,
                )?;
            }
        }
    }
    Ok(())
}

#[test]
fn coupled_clusters_all_reductions() -> Result<()> {
    let e = numbers(&[10, 3], 3, 1.0);
    for reduction in REDUCTIONS {
        for normalize in [false, true] {
            let config = CoupledClustersConfig {
                margin: 0.2,
                reduction,
                normalize,
            };
            let active = coupled_clusters_report(&e, &tuplets(), config)?
                .1
                .active_positives;
            assert!(active > 0.0 && active < 1.0, "{active}");
            check(
                |v| coupled_clusters(&v[0], &tuplets(), config),
                std::slice::from_ref(&e),
                TOL,
            )?;
        }
    }
    Ok(())
}

#[test]
fn fixed_tuplet_clusters_all_forms() -> Result<()> {
    let e = numbers(&[10, 3], 4, 1.0);
    for reduction in REDUCTIONS {
        for (normalize, distance, reference_distance, tau) in [
            (false, ClusterDistance::Squared, 0.9, 0.6),
            (true, ClusterDistance::Squared, 0.7, 0.5),
            (true, ClusterDistance::Cosine, 0.5, 0.4),
        ] {
            let config = TupletClustersConfig {
                reference_distance,
                tau,
                reduction,
                normalize,
                distance,
                stop_gradient: false,
            };
            let report = tuplet_clusters_report(&e, &tuplets(), config)?.1;
            for active in [report.active_positives, report.active_negatives] {
                assert!(active > 0.0 && active < 1.0, "{config:?} {report:?}");
            }
            check(
                |v| tuplet_clusters(&v[0], &tuplets(), config),
                std::slice::from_ref(&e),
                TOL,
            )?;
        }
    }
    Ok(())
}

#[test]
fn adaptive_tuplet_clusters_every_parameter() -> Result<()> {
    let eye = Tensor::eye(3, candle::DType::F64, &Device::Cpu)?;
    let matrix = |seed| numbers(&[3, 3], seed, 0.3) + (&eye * 2f64.sqrt())?;
    let inputs = [
        numbers(&[10, 3], 5, 1.0),
        matrix(6)?,
        matrix(7)?,
        numbers(&[3], 8, 0.3),
        Tensor::new(&[-1.6f64], &Device::Cpu)?,
    ];
    for reduction in REDUCTIONS {
        let config = AdaptiveConfig {
            reduction,
            tau: 2.0,
            reference_distance: 1.6,
            stop_gradient: false,
        };
        let build = |v: &[Tensor]| {
            AdaptiveTupletClusters::from_tensors(
                v[1].clone(),
                v[2].clone(),
                v[3].clone(),
                v[4].clone(),
                config,
            )
        };
        let report = build(&inputs)?.forward_report(&inputs[0], &tuplets())?.1;
        for active in [report.active_positives, report.active_negatives] {
            assert!(active > 0.0 && active < 1.0, "{report:?}");
        }
        check(|v| build(v)?.forward(&v[0], &tuplets()), &inputs, TOL)?;
    }
    Ok(())
}

#[test]
fn stop_gradient_is_a_constant_centre() -> Result<()> {
    // With the centre held fixed by hand, differences must agree with the switch.
    let e = numbers(&[10, 3], 4, 1.0);
    let config = TupletClustersConfig {
        reference_distance: 0.9,
        tau: 0.6,
        stop_gradient: true,
        ..TupletClustersConfig::default()
    };
    let tuplet = Tuplets(vec![Tuplet {
        query: 0,
        positives: vec![1, 2],
        negatives: vec![4, 5, 6],
    }]);
    let centre = e.narrow(0, 0, 3)?.mean_keepdim(0)?;
    let by_hand = |v: &[Tensor]| {
        let d = v[0].broadcast_sub(&centre)?.sqr()?.sum(1)?;
        let p = (d.narrow(0, 0, 3)? - 0.6)?.relu()?.mean_all()?;
        let n = d.narrow(0, 4, 3)?.affine(-1.0, 1.2)?.relu()?.mean_all()?;
        p + n
    };
    check(by_hand, std::slice::from_ref(&e), TOL)?;
    let grad = |f: &dyn Fn(&[Tensor]) -> Result<Tensor>| -> Result<Vec<f64>> {
        let v = candle::Var::from_tensor(&e)?;
        let store = f(&[v.as_tensor().clone()])?.backward()?;
        store.get(&v).unwrap().flatten_all()?.to_vec1()
    };
    let ours = grad(&|v| tuplet_clusters(&v[0], &tuplet, config))?;
    for (a, b) in ours.iter().zip(grad(&by_hand)?) {
        assert!((a - b).abs() < 1e-12);
    }
    Ok(())
}

#[test]
fn margin_heads_with_embeddings_and_weights() -> Result<()> {
    let inputs = [numbers(&[5, 3], 9, 1.0), numbers(&[4, 3], 10, 1.0)];
    let labels = Tensor::new(&[0u32, 1, 2, 3, 0], &Device::Cpu)?;
    for (scale, margin) in [(4.0, 0.5), (16.0, 1.2)] {
        let arc = ArcFaceConfig {
            scale,
            margin,
            gradient: ArcGradient::Exact,
            ..ArcFaceConfig::default()
        };
        let cos = CosFaceConfig {
            scale,
            margin: margin / 2.0,
        };
        check(
            |v| {
                cross_entropy(
                    &ArcFace::from_weight(v[1].clone(), arc)?.forward(&v[0], &labels)?,
                    &labels,
                    0.1,
                )
            },
            &inputs,
            TOL,
        )?;
        check(
            |v| {
                cross_entropy(
                    &CosFace::from_weight(v[1].clone(), cos)?.forward(&v[0], &labels)?,
                    &labels,
                    0.0,
                )
            },
            &inputs,
            TOL,
        )?;
    }
    Ok(())
}
