//! Gradients against central differences; what must not change the loss; sampled classes; running statistics.

use candle::{DType, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use phiz_kernels::gradcheck::check;
use phiz_losses::*;

use crate::{build, close, cpu, labels, numbers, run, values};

pub const LABELS: [u32; 6] = [0, 2, 1, 3, 2, 0];

pub fn weights(k: usize) -> Tensor {
    numbers((4 * k, 5), 3, 1.0)
}

pub fn head(name: &str, w: &Tensor) -> Result<Box<dyn Head>> {
    let config = serde_json::json!({"scale": 4.0, "centers": w.dim(0)? / 4, "counts": [3, 1, 2, 9], "gradient": "exact", "norms": [0.2, 4.0]});
    Ok(build::head(name, w, None, &config)?.unwrap())
}

pub fn centers(name: &str) -> usize {
    if matches!(
        name,
        "subcenter-arcface" | "soft-triple" | "dynamic-arcface"
    ) {
        2
    } else {
        1
    }
}

#[test]
fn central_differences_agree() -> Result<()> {
    let e = numbers((6, 5), 11, 1.0);
    for name in HEAD_NAMES.into_iter().chain(["dynamic-arcface"]) {
        // Their forward pass holds constants for the gradient, which differences see; the golden gradients judge them.
        if matches!(
            name,
            "adaface"
                | "arc-negative-face"
                | "circle-head"
                | "combined-margin"
                | "curricularface"
                | "sphereface2"
        ) {
            continue;
        }
        let loss = |v: &[Tensor]| head(name, &v[1])?.loss(&v[0], &labels(&LABELS));
        check(loss, &[e.clone(), weights(centers(name))], 2e-7)
            .map_err(|e| candle::Error::Msg(format!("{name}: {e}")))?;
    }
    check(
        |v| {
            let head = SphereFace2::from_weight(
                v[1].clone(),
                SphereFace2Config {
                    gradient: ArcGradient::Exact,
                    scale: 5.0,
                    ..Default::default()
                },
            )?;
            head.with_bias(v[2].clone())?.loss(&v[0], &labels(&LABELS))
        },
        &[e.clone(), weights(1), Tensor::new(&[-0.7f64], cpu())?],
        2e-7,
    )?;
    check(
        |v| {
            focal_loss(
                &v[0],
                &labels(&[0, 4, 2, 3, 2, 0]),
                FocalConfig {
                    gamma: 1.7,
                    class_weights: vec![1., 2., 0.5, 1., 3.],
                },
            )
        },
        std::slice::from_ref(&e),
        2e-7,
    )?;
    check(
        |v| instance_loss(&v[0], &LABELS, InstanceTarget::FirstOfLabel, 3.0),
        std::slice::from_ref(&e),
        2e-7,
    )?;
    check(|v| regular_face(&v[0]), std::slice::from_ref(&e), 2e-7)?;
    check(|v| sparse_centers(&v[0], 3), std::slice::from_ref(&e), 2e-7)?;
    check(|v| center_invariant(&v[0]), std::slice::from_ref(&e), 2e-7)?;
    let manifold = ManifoldLossConfig {
        proxies: 4,
        ..Default::default()
    };
    check(
        |v| ManifoldLoss::from_proxies(v[1].clone(), manifold)?.loss(&v[0], &LABELS),
        &[e, weights(1)],
        2e-6,
    )
}

#[test]
fn order_and_names_do_not_matter() {
    let e = numbers((6, 5), 11, 1.0);
    let order = [3usize, 5, 0, 4, 1, 2];
    let names = [2u32, 0, 3, 1];
    let moved = e
        .index_select(
            &Tensor::new(order.map(|i| i as u32).as_slice(), cpu()).unwrap(),
            0,
        )
        .unwrap();
    for name in HEAD_NAMES {
        let k = centers(name);
        let w = weights(k);
        let expected = run(&e, &w, |e, w| head(name, w)?.loss(e, &labels(&LABELS)));
        if name != "elasticface" {
            let permuted = order.map(|i| LABELS[i]);
            let got = run(&moved, &w, |e, w| {
                head(name, w)?.loss(e, &labels(&permuted))
            });
            close(name, &[got.0], &[expected.0], 1e-12);
            close(name, &got.2, &expected.2, 1e-11);
            for (at, &i) in order.iter().enumerate() {
                close(
                    name,
                    &got.1[at * 5..at * 5 + 5],
                    &expected.1[i * 5..i * 5 + 5],
                    1e-11,
                );
            }
        }
        // Class c becomes names[c]; its vectors move along.
        let mut rows = vec![0u32; 4 * k];
        for (c, &n) in names.iter().enumerate() {
            for j in 0..k {
                rows[n as usize * k + j] = (c * k + j) as u32;
            }
        }
        let renamed = w
            .index_select(&Tensor::new(rows, cpu()).unwrap(), 0)
            .unwrap();
        let new_labels = LABELS.map(|l| names[l as usize]);
        let got = run(&e, &renamed, |e, w| {
            head(name, w)?.loss(e, &labels(&new_labels))
        });
        close(name, &[got.0], &[expected.0], 1e-12);
        close(name, &got.1, &expected.1, 1e-11);
    }
}

#[test]
fn lengths_do_not_matter_where_only_angles_count() {
    let e = numbers((6, 5), 11, 1.0);
    for name in HEAD_NAMES {
        let w = weights(centers(name));
        let plain = run(&e, &w, |e, w| head(name, w)?.loss(e, &labels(&LABELS))).0;
        let longer = run(&e, &(&w * 7.0).unwrap(), |e, w| {
            head(name, w)?.loss(e, &labels(&LABELS))
        })
        .0;
        assert_eq!(
            (plain - longer).abs() < 1e-12 * plain.abs().max(1.0),
            name != "large-margin-softmax",
            "{name}"
        );
        let longer = run(&(&e * 7.0).unwrap(), &w, |e, w| {
            head(name, w)?.loss(e, &labels(&LABELS))
        })
        .0;
        let norms_count = matches!(name, "large-margin-softmax" | "sphereface" | "magface");
        // AdaFace's statistics follow the norms: nearly the same.
        let tol = if name == "adaface" { 1e-1 } else { 1e-12 };
        assert_eq!(
            (plain - longer).abs() < tol * plain.abs().max(1.0),
            !norms_count,
            "{name} {plain} {longer}"
        );
    }
}

#[test]
fn weights_count_like_repetitions() {
    let e = numbers((3, 5), 11, 1.0);
    let twice = Tensor::cat(&[&e, &e.narrow(0, 1, 1).unwrap()], 0).unwrap();
    for name in [
        "arcface",
        "cosface",
        "sphereface",
        "soft-triple",
        "uniface",
        "p2s-grad",
        "large-margin-softmax",
    ] {
        let w = weights(centers(name));
        let a = head(name, &w)
            .unwrap()
            .weighted_loss(&e, &labels(&[0, 1, 2]), Some(&[1.0, 2.0, 1.0]))
            .unwrap();
        let b = head(name, &w)
            .unwrap()
            .loss(&twice, &labels(&[0, 1, 2, 1]))
            .unwrap();
        close(name, &[values(&a)[0] * 3.0], &[values(&b)[0] * 4.0], 1e-12);
    }
}

#[test]
fn sampled_classes_are_exact_at_rate_one() -> Result<()> {
    let (e, w) = (numbers((6, 5), 11, 1.0), weights(1));
    let config = CosFaceConfig {
        scale: 8.0,
        margin: 0.2,
    };
    let full = run(&e, &w, |e, w| {
        CosFace::from_weight(w.clone(), config)?.loss(e, &labels(&LABELS))
    });
    let at = |rate: f64, step: u64| {
        run(&e, &w, |e, w| {
            let head = CosFace::from_weight(w.clone(), config)?;
            PartialFc {
                head,
                rate,
                seed: 5,
            }
            .loss(e, &labels(&LABELS), step)
        })
    };
    assert_eq!(at(1.0, 0), full);
    // Every class is in the batch: nothing is left to sample.
    let (loss, de, _) = at(0.5, 0);
    close("all positive", &[loss], &[full.0], 1e-12);
    close("all positive", &de, &full.1, 1e-12);
    let all = sample_classes(&[3, 1, 3], 6, 1.0, 0, 0)?;
    assert_eq!(
        (all.classes, all.labels),
        (vec![0, 1, 2, 3, 4, 5], vec![3, 1, 3])
    );
    let mut hits = vec![0usize; 100];
    for step in 0..400 {
        let sample = sample_classes(&[70, 3, 70], 100, 0.3, 9, step)?;
        assert_eq!(sample.classes.len(), 30);
        assert!(sample.classes.is_sorted_by(|a, b| a < b));
        assert_eq!(
            sample
                .labels
                .iter()
                .map(|&l| sample.classes[l as usize])
                .collect::<Vec<_>>(),
            [70, 3, 70]
        );
        assert_eq!(sample, sample_classes(&[70, 3, 70], 100, 0.3, 9, step)?);
        sample.classes.iter().for_each(|&c| hits[c as usize] += 1);
    }
    assert_eq!((hits[70], hits[3]), (400, 400));
    hits.retain(|&h| h != 400);
    // 28 of 98 each time: 114 expected, standard deviation 9.
    assert!(hits.iter().all(|&h| (70..160).contains(&h)), "{hits:?}");
    Ok(())
}

#[test]
fn a_sample_leaves_the_other_classes_alone() {
    let (e, w) = (numbers((2, 5), 11, 1.0), numbers((20, 5), 4, 1.0));
    let head = |w: &Tensor| CosFace::from_weight(w.clone(), CosFaceConfig::default());
    let (_, _, dw) = run(&e, &w, |e, w| {
        PartialFc {
            head: head(w)?,
            rate: 0.25,
            seed: 1,
        }
        .loss(e, &labels(&[7, 9]), 3)
    });
    let chosen = sample_classes(&[7, 9], 20, 0.25, 1, 3).unwrap().classes;
    assert_eq!(chosen.len(), 5);
    for (class, g) in dw.chunks_exact(5).enumerate() {
        assert_eq!(
            g.iter().any(|&g| g != 0.0),
            chosen.contains(&(class as u32)),
            "{class}"
        );
    }
}

#[test]
fn fused_equals_logits_and_cross_entropy() {
    let (e, w) = (numbers((6, 5), 11, 1.0), weights(1));
    for (gradient, past_pi) in [
        (ArcGradient::Exact, PastPi::Monotone),
        (ArcGradient::Exact, PastPi::Easy),
        (ArcGradient::StraightThrough, PastPi::Monotone),
    ] {
        let config = ArcFaceConfig {
            scale: 16.0,
            margin: 1.1,
            gradient,
            past_pi,
        };
        let fused = run(&e, &w, |e, w| {
            ArcFace::from_weight(w.clone(), config)?.loss(e, &labels(&LABELS))
        });
        let plain = run(&e, &w, |e, w| {
            cross_entropy(
                &ArcFace::from_weight(w.clone(), config)?.forward(e, &labels(&LABELS))?,
                &labels(&LABELS),
                0.0,
            )
        });
        close("loss", &[fused.0], &[plain.0], 1e-12);
        close("embeddings", &fused.1, &plain.1, 1e-11);
        close("weight", &fused.2, &plain.2, 1e-11);
    }
}

#[test]
fn names_build_heads() -> Result<()> {
    for name in HEAD_NAMES {
        let vars = VarMap::new();
        let vb = VarBuilder::from_varmap(&vars, DType::F32, cpu());
        let head = head_by_name(name, 5, 4, vb)?;
        assert_eq!((head.classes(), head.weight().dim(1)?), (4, 5), "{name}");
        let e = numbers((6, 5), 11, 1.0).to_dtype(DType::F32)?;
        assert_eq!(head.scores(&e)?.dims(), [6, 4], "{name}");
        let loss = head.loss(&e, &labels(&LABELS))?;
        assert!(loss.to_scalar::<f32>()?.is_finite(), "{name}");
        let grads = loss.backward()?;
        assert!(grads.get(head.weight()).is_some(), "{name}");
        assert_eq!(head.select(&[2, 0])?.scores(&e)?.dims(), [6, 2], "{name}");
    }
    let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, cpu());
    let message = head_by_name("arcfce", 5, 4, vb)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(message.contains("arcface"), "{message}");
    Ok(())
}

#[test]
fn gradients_vanish_at_the_documented_minimum() -> Result<()> {
    // Items at their centres; weights of equal length; equal centres.
    let w = numbers((4, 5), 3, 1.0);
    let e = w.index_select(&labels(&LABELS), 0)?;
    let learned = CenterLossConfig {
        learned: true,
        ..Default::default()
    };
    let (loss, de, dw) = run(&e, &w, |e, w| {
        CenterLoss::from_centers(w.clone(), learned)?.loss(e, &labels(&LABELS))
    });
    assert!(loss == 0.0 && de.iter().chain(&dw).all(|&g| g == 0.0));
    let unit = phiz_kernels::safe::normalize_last_dim(&w)?;
    let (loss, _, dw) = run(&e, &unit, |_, w| center_invariant(w));
    assert!(loss < 1e-30 && dw.iter().all(|g| g.abs() < 1e-15));
    let equal = w.narrow(0, 0, 1)?.broadcast_as((4, 5))?.contiguous()?;
    let (loss, _, dw) = run(&e, &equal, |_, w| sparse_centers(w, 2));
    assert!(loss == 0.0 && dw.iter().all(|&g| g == 0.0));
    // Two opposite classes, items on them: the largest cosine and the smallest.
    let w = Tensor::new(&[[3f64, 4.0], [-3.0, -4.0]], cpu())?;
    let e = Tensor::new(&[[0.6f64, 0.8], [-6.0, -8.0]], cpu())?;
    for name in [
        "arcface",
        "cosface",
        "normalized-softmax",
        "proxy-nca",
        "uniface",
    ] {
        let (_, de, dw) = run(&e, &w, |e, w| {
            let config = serde_json::json!({"scale": 4.0});
            let head = build::head(name, w, None, &config)?.unwrap();
            head.loss(e, &labels(&[0, 1]))
        });
        assert!(
            de.iter().chain(&dw).all(|g| g.abs() < 1e-7),
            "{name} {de:?} {dw:?}"
        );
    }
    Ok(())
}
