//! Values and gradients equal to PyTorch's and to the NumPy statement of the tuplet losses (fixtures/losses/make.py).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle::{DType, Device, Tensor, Var};
use phiz_losses::*;
use phiz_mining::{Tuplet, Tuplets};
use serde_json::Value;

const LOSSES: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../fixtures/losses/losses.json"
));
const TUPLETS: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../fixtures/losses/tuplets.json"
));

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn numbers(v: &Value) -> Vec<f64> {
    match v {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        v => vec![v.as_f64().unwrap()],
    }
}

/// A variable of the JSON array's own shape.
fn var(v: &Value, dtype: DType) -> Var {
    let mut shape = vec![];
    let mut inner = v;
    while let Value::Array(list) = inner {
        shape.push(list.len());
        inner = &list[0];
    }
    let t = Tensor::from_vec(numbers(v), shape, &Device::Cpu).unwrap();
    Var::from_tensor(&t.to_dtype(dtype).unwrap()).unwrap()
}

fn tuplets(v: &Value) -> Tuplets {
    let list: Vec<(u32, Vec<u32>, Vec<u32>)> = serde_json::from_value(v.clone()).unwrap();
    list.into_iter()
        .map(|(query, positives, negatives)| Tuplet {
            query,
            positives,
            negatives,
        })
        .collect()
}

/// Tolerance relative to the largest value compared.
fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-12 } else { 3e-5 }
}

fn close(what: &str, ours: &[f64], theirs: &[f64], tol: f64) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let scale = theirs.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!(
            (a - b).abs() <= tol * scale,
            "{what}, element {i}: ours {a}, theirs {b}"
        );
    }
}

fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn compare(what: &str, loss: &Tensor, value: &Value, grads: &[(&Var, &Value)], tol: f64) {
    assert_eq!(loss.rank(), 0, "{what}: a scalar");
    close(what, &values(loss), &numbers(value), tol);
    let store = loss.backward().unwrap();
    for (i, (var, expected)) in grads.iter().enumerate() {
        let grad = store
            .get(var)
            .unwrap_or_else(|| panic!("{what}: no gradient {i}"));
        assert_eq!(grad.dims(), var.dims(), "{what}");
        close(
            &format!("{what}, gradient {i}"),
            &values(grad),
            &numbers(expected),
            tol,
        );
    }
}

fn each_dtype(f: impl Fn(DType)) {
    f(DType::F64);
    f(DType::F32);
}

#[test]
fn triplet_equals_pytorch() {
    let all = read(LOSSES);
    let fixture = &all["triplet"];
    let list: Vec<(u32, u32, u32)> = serde_json::from_value(fixture["triplets"].clone()).unwrap();
    let triplets = list.into_iter().collect();
    each_dtype(|dtype| {
        let e = var(&fixture["embeddings"], dtype);
        for case in fixture["cases"].as_array().unwrap() {
            let config = TripletConfig {
                margin: case["margin"].as_f64().unwrap(),
                distance: if case["distance"] == "squared" {
                    Distance::Squared
                } else {
                    Distance::Euclidean
                },
                soft: case["soft"].as_bool().unwrap(),
                normalize: case["normalize"].as_bool().unwrap(),
                reduction: match case["reduction"].as_str().unwrap() {
                    "mean" => Reduction::Mean,
                    "sum" => Reduction::Sum,
                    _ => Reduction::MeanActive,
                },
            };
            let loss = triplet(&e, &triplets, config).unwrap();
            compare(
                &format!("{config:?}"),
                &loss,
                &case["loss"],
                &[(&e, &case["grad"])],
                tolerance(dtype),
            );
        }
    });
}

#[test]
fn n_pair_equals_pytorch() {
    let all = read(LOSSES);
    let fixture = &all["n_pair"];
    each_dtype(|dtype| {
        let e = var(&fixture["embeddings"], dtype);
        for case in fixture["cases"].as_array().unwrap() {
            let margin = case["margin"].as_f64().unwrap();
            let config = NPairConfig {
                form: if case["form"] == "inner" {
                    NPairForm::InnerProduct
                } else {
                    NPairForm::Distance { margin }
                },
                scale: case["scale"].as_f64().unwrap(),
                normalize: case["normalize"].as_bool().unwrap(),
                reduction: if case["reduction"] == "sum" {
                    Reduction::Sum
                } else {
                    Reduction::Mean
                },
            };
            let loss = n_pair(&e, &tuplets(&case["tuplets"]), config).unwrap();
            compare(
                &format!("{config:?}"),
                &loss,
                &case["loss"],
                &[(&e, &case["grad"])],
                tolerance(dtype),
            );
        }
    });
}

#[test]
fn margin_heads_equal_pytorch() {
    let all = read(LOSSES);
    let fixture = &all["head"];
    let labels: Vec<u32> = serde_json::from_value(fixture["labels"].clone()).unwrap();
    let labels = Tensor::new(labels, &Device::Cpu).unwrap();
    each_dtype(|dtype| {
        let (e, w) = (
            var(&fixture["embeddings"], dtype),
            var(&fixture["weight"], dtype),
        );
        for case in fixture["cases"].as_array().unwrap() {
            let (scale, margin) = (
                case["scale"].as_f64().unwrap(),
                case["margin"].as_f64().unwrap(),
            );
            let weight = w.as_tensor().clone();
            let logits = match case["kind"].as_str().unwrap() {
                "cosface" => {
                    let config = CosFaceConfig { scale, margin };
                    CosFace::from_weight(weight, config)
                        .unwrap()
                        .forward(&e, &labels)
                }
                kind => {
                    let gradient = if kind == "exact" {
                        ArcGradient::Exact
                    } else {
                        ArcGradient::StraightThrough
                    };
                    let config = ArcFaceConfig {
                        scale,
                        margin,
                        gradient,
                        ..ArcFaceConfig::default()
                    };
                    ArcFace::from_weight(weight, config)
                        .unwrap()
                        .forward(&e, &labels)
                }
            }
            .unwrap();
            let what = format!("{} s {scale} {dtype:?}", case["kind"]);
            // One item lies at 1 - cos = 3e-7, where f32 has no digits left of 1 - cos^2 and the exact form's slope is cut.
            let tol = match (dtype, case["kind"] == "exact") {
                (DType::F64, _) => 1e-10,
                (_, true) => 1e-2,
                (_, false) => 1e-4,
            };
            close(&what, &values(&logits), &numbers(&case["logits"]), tol);
            let loss = cross_entropy(&logits, &labels, 0.0).unwrap();
            let grads = [(&e, &case["grad_embeddings"]), (&w, &case["grad_weight"])];
            compare(&what, &loss, &case["loss"], &grads, tol);
        }
    });
}

#[test]
fn tuplet_losses_equal_their_statement() {
    let fixture = read(TUPLETS);
    let tuplets = tuplets(&fixture["tuplets"]);
    each_dtype(|dtype| {
        let [e, l_a, l_b, w, b] =
            ["embeddings", "l_a", "l_b", "w", "b"].map(|name| var(&fixture[name], dtype));
        for case in fixture["cases"].as_array().unwrap() {
            let number = |name: &str| case[name].as_f64().unwrap();
            let reduction = match case["reduction"].as_str().unwrap() {
                "mean" => TupletReduction::Mean,
                "mean_active" => TupletReduction::MeanActive,
                "half_sum" => TupletReduction::HalfSum,
                _ => TupletReduction::Sum,
            };
            let stop_gradient = case["stop"].as_bool().unwrap_or(false);
            let mut grads = vec![(&e, &case["grad"])];
            let loss = match case["loss"].as_str().unwrap() {
                "coupled" => {
                    let config = CoupledClustersConfig {
                        margin: number("margin"),
                        reduction,
                        normalize: false,
                    };
                    coupled_clusters(&e, &tuplets, config)
                }
                "adaptive" => {
                    grads.extend(
                        [&l_a, &l_b, &w, &b]
                            .into_iter()
                            .zip(case["grads"].as_array().unwrap()),
                    );
                    let config = AdaptiveConfig {
                        tau: number("tau"),
                        reduction,
                        stop_gradient,
                        ..Default::default()
                    };
                    let [l_a, l_b, w, b] = [&l_a, &l_b, &w, &b].map(|v| v.as_tensor().clone());
                    AdaptiveTupletClusters::from_tensors(l_a, l_b, w, b, config)
                        .unwrap()
                        .forward(&e, &tuplets)
                }
                name => tuplet_clusters(
                    &e,
                    &tuplets,
                    TupletClustersConfig {
                        reference_distance: number("T"),
                        tau: number("tau"),
                        reduction,
                        normalize: name == "fixed_unit",
                        stop_gradient,
                        distance: if name == "cosine" {
                            ClusterDistance::Cosine
                        } else {
                            ClusterDistance::Squared
                        },
                    },
                ),
            }
            .unwrap();
            let what = format!(
                "{} {reduction:?} stop {stop_gradient} {dtype:?}",
                case["loss"]
            );
            compare(&what, &loss, &case["value"], &grads, tolerance(dtype));
        }
    });
}
