//! Values and gradients equal to fixtures/losses/heads.py.

use candle::{DType, Result, Tensor, Var};
use phiz_losses::*;
use serde_json::Value;

use crate::build::{Options, head};
use crate::{close, cpu, labels, values};

const FIXTURE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../fixtures/losses/heads.json"
));

fn flat(v: &Value) -> Vec<f64> {
    match v {
        Value::Array(list) => list.iter().flat_map(flat).collect(),
        v => vec![v.as_f64().unwrap()],
    }
}

fn matrix(v: &Value, dtype: DType) -> Var {
    let rows = v.as_array().unwrap().len();
    let t = Tensor::from_vec(flat(v), (rows, ()), cpu()).unwrap();
    Var::from_tensor(&t.to_dtype(dtype).unwrap()).unwrap()
}

/// The loss of a case.
fn loss(case: &Value, e: &Tensor, w: &Tensor, bias: Option<&Tensor>, y: &[u32]) -> Result<Tensor> {
    let (name, config) = (case["head"].as_str().unwrap(), &case["config"]);
    let o = Options(config);
    if let Some(head) = head(name, w, bias, config)? {
        let weights: Option<Vec<f64>> = serde_json::from_value(config["weights"].clone()).unwrap();
        return head.weighted_loss(e, &labels(y), weights.as_deref());
    }
    match name {
        "center" => {
            let learned = CenterLossConfig {
                learned: true,
                ..Default::default()
            };
            CenterLoss::from_centers(w.clone(), learned)?.loss(e, &labels(y))
        }
        "instance" => instance_loss(e, y, InstanceTarget::LabelRank, o.number("scale", 64.0)),
        "center-invariant" => center_invariant(w),
        "regular-face" => regular_face(w),
        "sparse-centers" => sparse_centers(w, 3),
        "focal" => focal_loss(&e.matmul(&w.t()?)?, &labels(y), o.number("gamma", 2.0)),
        "manifold" => {
            let context = o.number("context", 1.0);
            let config = ManifoldLossConfig {
                proxies: w.dim(0)?,
                context: if context < 0.0 {
                    f64::INFINITY
                } else {
                    context
                },
                walk: o.number("walk", 0.8),
                margin: o.number("margin", 5e-4),
            };
            let meta: Vec<u32> = serde_json::from_value(case["config"]["meta"].clone()).unwrap();
            ManifoldLoss::from_proxies(w.clone(), config)?.loss(e, &meta)
        }
        other => panic!("no head is called {other}"),
    }
}

#[test]
fn every_case_equals_pytorch() {
    let fixture: Value = serde_json::from_str(FIXTURE).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for (number, case) in fixture["cases"].as_array().unwrap().iter().enumerate() {
        let input = &fixture["inputs"][case["input"].as_u64().unwrap() as usize];
        let centers = case["centers"].as_u64().unwrap().to_string();
        let y: Vec<u32> = serde_json::from_value(input["labels"].clone()).unwrap();
        for dtype in [DType::F64, DType::F32] {
            let what = format!(
                "case {number} {} {} {dtype:?}",
                case["head"], case["config"]
            );
            let e = matrix(&input["embeddings"], dtype);
            let w = matrix(&input["weights"][&centers], dtype);
            let bias = match case["config"]["scale"].as_f64() {
                _ if case["grads"]["bias"].is_null() => None,
                _ => {
                    let start = if case["head"] == "uniface" { 2.3 } else { -3.7 };
                    let t = Tensor::new(&[start], cpu())
                        .unwrap()
                        .to_dtype(dtype)
                        .unwrap();
                    Some(Var::from_tensor(&t).unwrap())
                }
            };
            let loss = loss(case, &e, &w, bias.as_deref(), &y).unwrap();
            let tol = if dtype == DType::F64 { 1e-9 } else { 1e-4 };
            // Angles close to 0 or pi cost f32 half its digits; the fixture's own inputs have none.
            close(
                &what,
                &values(&loss),
                &[case["loss"].as_f64().unwrap()],
                tol,
            );
            let store = loss.backward().unwrap();
            let leaves = [
                ("embeddings", Some(&e)),
                ("weight", Some(&w)),
                ("bias", bias.as_ref()),
            ];
            for (name, leaf) in leaves {
                let Some(leaf) = leaf else { continue };
                let ours = store
                    .get(leaf)
                    .map_or_else(|| vec![0.0; leaf.elem_count()], values);
                let theirs = match &case["grads"][name] {
                    Value::Null => vec![0.0; leaf.elem_count()],
                    g => flat(g),
                };
                close(&format!("{what}, gradient of {name}"), &ours, &theirs, tol);
            }
        }
        seen.insert(case["head"].as_str().unwrap());
    }
    for name in HEAD_NAMES {
        // ElasticFace draws its margins; see the invariances.
        assert!(
            name == "elasticface" || seen.contains(name),
            "{name} has no golden case"
        );
    }
}
