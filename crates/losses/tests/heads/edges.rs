//! Empty batches, one class, zero and missing numbers, equal embeddings, cosines of one, labels out of range.

use candle::{DType, Tensor, Var};
use phiz_losses::*;

use crate::invariances::{centers, head};
use crate::{build, cpu, labels, numbers, run, values};

fn weights(k: usize) -> Tensor {
    numbers((4 * k, 5), 3, 1.0)
}

#[test]
fn an_empty_batch_is_exactly_zero() {
    let e = Tensor::zeros((0, 5), DType::F64, cpu()).unwrap();
    for (name, head) in build::all(&weights) {
        let e = Var::from_tensor(&e).unwrap();
        let loss = head.loss(&e, &labels(&[])).unwrap();
        assert_eq!(values(&loss), [0.0], "{name}");
        loss.backward().unwrap();
    }
}

#[test]
fn one_class_is_exactly_zero_for_softmax_heads() {
    let one = |k: usize| numbers((k, 5), 3, 1.0);
    let e = numbers((3, 5), 8, 1.0);
    for (name, head) in build::all(&one) {
        let loss = values(&head.loss(&e, &labels(&[0, 0, 0])).unwrap())[0];
        if !matches!(
            name,
            "p2s-grad" | "sphereface2" | "uniface" | "proxy-anchor" | "magface"
        ) {
            assert_eq!(loss, 0.0, "{name}");
        }
        assert!(loss.is_finite(), "{name}");
    }
}

#[test]
fn bad_rows_and_labels_are_named() {
    for (name, head) in build::all(&weights) {
        for bad in [f64::NAN, f64::INFINITY] {
            let mut rows = numbers((3, 5), 8, 1.0).to_vec2::<f64>().unwrap();
            rows[1][2] = bad;
            let e = Tensor::new(rows, cpu()).unwrap();
            let message = head.loss(&e, &labels(&[0, 1, 2])).unwrap_err().to_string();
            assert!(message.contains("row 1 of embeddings"), "{name}: {message}");
        }
        let e = numbers((3, 5), 8, 1.0);
        let message = head.loss(&e, &labels(&[0, 1, 4])).unwrap_err().to_string();
        assert!(
            message.contains("label 4 of item 2 is not below the 4 classes"),
            "{name}: {message}"
        );
        let negative = Tensor::new(&[0i64, -1, 2], cpu()).unwrap();
        assert!(head.loss(&e, &negative).is_err(), "{name}");
        assert!(head.loss(&e, &labels(&[0, 1])).is_err(), "{name}");
        assert!(
            head.loss(&numbers((3, 6), 8, 1.0), &labels(&[0, 1, 2]))
                .is_err(),
            "{name}"
        );
        assert!(
            head.weighted_loss(&e, &labels(&[0, 1, 2]), Some(&[1.0]))
                .is_err(),
            "{name}"
        );
        assert!(head.select(&[0, 4]).is_err(), "{name}");
    }
}

#[test]
fn gradients_are_finite_at_every_bad_point() {
    // Equal embeddings, opposite ones, ones on their weight, zero ones, in both types; weights of which two are equal.
    for dtype in [DType::F32, DType::F64] {
        let mut w = numbers((8, 5), 3, 1.0).to_vec2::<f64>().unwrap();
        w[1] = w[0].clone();
        let opposite: Vec<f64> = w[0].iter().map(|v| -2.0 * v).collect();
        let rows = vec![
            w[0].clone(),
            w[0].clone(),
            opposite,
            vec![0.0; 5],
            w[2].clone(),
        ];
        let e = Tensor::new(rows, cpu()).unwrap().to_dtype(dtype).unwrap();
        let w = Tensor::new(w, cpu()).unwrap().to_dtype(dtype).unwrap();
        let part = |k: usize| w.narrow(0, 0, 4 * k).unwrap();
        for name in HEAD_NAMES.into_iter().chain(["dynamic-arcface"]) {
            let w = part(centers(name));
            let (loss, de, dw) = run(&e, &w, |e, w| {
                head(name, w)?.loss(e, &labels(&[0, 3, 0, 1, 2]))
            });
            assert!(loss.is_finite(), "{name}");
            assert!(
                de.iter().chain(&dw).all(|g| g.is_finite()),
                "{name} {de:?} {dw:?}"
            );
            // The negatives of the large-margin softmax are plain inner products.
            let still = de[15..20].iter().all(|&g| g == 0.0);
            assert_eq!(
                still,
                name != "large-margin-softmax",
                "{name}: a zero embedding"
            );
        }
    }
}

#[test]
fn configurations_without_sense_are_errors() {
    let w = weights(1);
    let arc = |margin| ArcFaceConfig {
        margin,
        ..Default::default()
    };
    let e = numbers((1, 5), 8, 1.0);
    for margin in [-0.1, std::f64::consts::PI, f64::NAN] {
        let head = ArcFace::from_weight(w.clone(), arc(margin)).unwrap();
        assert!(head.loss(&e, &labels(&[0])).is_err());
    }
    assert!(
        AdaFace::from_weight(
            w.clone(),
            AdaFaceConfig {
                momentum: 2.0,
                ..Default::default()
            }
        )
        .is_err()
    );
    assert!(
        MagFace::from_weight(
            w.clone(),
            MagFaceConfig {
                norms: (5.0, 5.0),
                ..Default::default()
            }
        )
        .is_err()
    );
    assert!(
        SphereFace::from_weight(
            w.clone(),
            SphereFaceConfig {
                margin: 0,
                ..Default::default()
            }
        )
        .is_err()
    );
    assert!(
        SubCenterArcFace::from_weight(
            w.clone(),
            SubCenterArcFaceConfig {
                centers: 0,
                ..Default::default()
            }
        )
        .is_err()
    );
    assert!(
        SubCenterArcFace::from_weight(w.clone(), SubCenterArcFaceConfig::default()).is_err(),
        "4 rows are not whole classes of 3"
    );
    assert!(
        NormalizedSoftmax::from_weight(
            w.clone(),
            NormalizedSoftmaxConfig {
                temperature: 0.0,
                ..Default::default()
            }
        )
        .is_err()
    );
    assert!(
        DynamicArcFace::from_weight(
            w.clone(),
            &[1, 2, 0, 4],
            DynamicArcFaceConfig {
                centers: 1,
                ..Default::default()
            }
        )
        .is_err()
    );
    assert!(focal_loss(&w, &labels(&[0, 1, 2, 3]), -1.0).is_err());
    assert!(sparse_centers(&w, 1).is_err());
    assert!(sparse_centers(&w, 3).is_err());
    assert!(sample_classes(&[0], 4, 0.0, 0, 0).is_err());
    assert!(sample_classes(&[4], 4, 0.5, 0, 0).is_err());
}

#[test]
fn half_precision_is_computed_in_f32() {
    let e = numbers((3, 5), 8, 1.0);
    for dtype in [DType::F16, DType::BF16] {
        let head = |w: Tensor| {
            NormalizedSoftmax::from_weight(
                w,
                NormalizedSoftmaxConfig {
                    temperature: 1.0,
                    normalize: true,
                },
            )
        };
        let w = Var::from_tensor(&weights(1).to_dtype(dtype).unwrap()).unwrap();
        let e16 = Var::from_tensor(&e.to_dtype(dtype).unwrap()).unwrap();
        let loss = head(w.as_tensor().clone())
            .unwrap()
            .loss(&e16, &labels(&[0, 1, 2]))
            .unwrap();
        assert_eq!(loss.dtype(), DType::F32);
        let exact = head(weights(1))
            .unwrap()
            .loss(&e, &labels(&[0, 1, 2]))
            .unwrap();
        assert!((values(&loss)[0] - values(&exact)[0]).abs() < 2e-2);
        let store = loss.backward().unwrap();
        assert_eq!(store.get(&e16).unwrap().dtype(), dtype);
        assert_eq!(store.get(&w).unwrap().dtype(), dtype);
    }
}

mod fuzz {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

        /// Any shapes and labels: an error or a finite loss with finite gradients, never a panic.
        #[test]
        fn any_batch_is_an_error_or_finite(
            batch in 0usize..7,
            dim in 1usize..5,
            classes in 1usize..6,
            extra in 0u32..2,
            scale in prop_oneof![Just(0.0), Just(1e-30), Just(1.0), Just(1e30)],
            seed in 1u64..1000,
        ) {
            let y: Vec<u32> = (0..batch).map(|i| (seed as u32).wrapping_mul(31 + i as u32) % (classes as u32 + extra)).collect();
            let inside = y.iter().all(|&l| (l as usize) < classes);
            let e = if batch == 0 {
                Tensor::zeros((0, dim), DType::F64, cpu()).unwrap()
            } else {
                numbers((batch, dim), seed, scale)
            };
            let w = |k: usize| numbers((classes * k, dim), seed + 1, 1.0);
            for (name, head) in build::all(&w) {
                let e = Var::from_tensor(&e).unwrap();
                match head.loss(&e, &labels(&y)) {
                    Err(error) => prop_assert!(!inside, "{name}: {error}"),
                    Ok(loss) => {
                        prop_assert!(inside, "{name}");
                        prop_assert!(values(&loss)[0].is_finite(), "{name}");
                        let store = loss.backward().unwrap();
                        if let Some(g) = store.get(&e) {
                            prop_assert!(values(g).iter().all(|g| g.is_finite()), "{name}");
                        }
                    }
                }
            }
        }
    }
}
