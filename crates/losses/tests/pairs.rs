//! Pair and triplet losses: values and gradients equal to those of fixtures/losses/pairs.py, in f64 and in f32.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle::{DType, Device, Result, Tensor, Var};
use phiz_losses::*;
use phiz_mining::{Pairs, Triplets};
use serde_json::Value;

const FIXTURE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../fixtures/losses/pairs.json"
));

/// Relative to the largest value compared.
fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-9 } else { 1e-4 }
}

fn numbers(v: &Value) -> Vec<f64> {
    match v {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        v => vec![v.as_f64().unwrap()],
    }
}

fn shape(v: &Value) -> Vec<usize> {
    let (mut shape, mut inner) = (vec![], v);
    while let Value::Array(list) = inner {
        shape.push(list.len());
        inner = &list[0];
    }
    shape
}

fn var(v: &Value, dtype: DType) -> Var {
    let t = Tensor::from_vec(numbers(v), shape(v), &Device::Cpu).unwrap();
    Var::from_tensor(&t.to_dtype(dtype).unwrap()).unwrap()
}

fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn difference(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let scale = theirs.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    ours.iter()
        .zip(theirs)
        .map(|(a, b)| {
            let d = (a - b).abs() / scale;
            if d.is_nan() { f64::INFINITY } else { d }
        })
        .fold(0.0, f64::max)
}

struct Config<'a>(&'a Value);

impl Config<'_> {
    fn number(&self, name: &str, default: f64) -> f64 {
        self.0[name].as_f64().unwrap_or(default)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0[name].as_str()
    }

    fn measure(&self, default: Measure) -> Measure {
        let lp = |p, power, normalize| Measure {
            kind: MeasureKind::Lp(p),
            normalize,
            power,
        };
        match self.text("measure") {
            None => default,
            Some("l2") => Measure::L2,
            Some("l2_sq") => Measure::SQUARED_L2,
            Some("l2_cubed") => lp(2.0, 3.0, true),
            Some("l2_raw") => lp(2.0, 1.0, false),
            Some("l2_sq_raw") => lp(2.0, 2.0, false),
            Some("l1") => lp(1.0, 1.0, true),
            Some("l3_raw") => lp(3.0, 2.0, false),
            Some("linf") => lp(f64::INFINITY, 1.0, true),
            Some("cosine") => Measure::COSINE,
            Some("dot") => Measure::DOT,
            Some("snr") => Measure::SNR,
            Some("snr_raw") => Measure::SNR.unnormalized(),
            Some(other) => panic!("unknown measure {other}"),
        }
    }

    fn reducer(&self, default: Reducer) -> Reducer {
        match self.text("reducer") {
            None => default,
            Some("mean") => Reducer::Mean,
            Some("sum") => Reducer::Sum,
            Some("avg_non_zero") => Reducer::AvgNonZero,
            Some("threshold") => Reducer::Threshold {
                low: Some(0.2),
                high: Some(0.9),
            },
            Some("class_weighted") => Reducer::ClassWeighted(vec![1.0, 0.5, 2.0, 0.25]),
            Some("per_anchor") => Reducer::PerAnchor(Box::new(Reducer::AvgNonZero)),
            Some("per_anchor_mean") => Reducer::PerAnchor(Box::new(Reducer::Mean)),
            Some(other) => panic!("unknown reducer {other}"),
        }
    }
}

fn batch(fixture: &Value, case: &Value, x: &Tensor, reference: Option<&Tensor>) -> Batch {
    let labels: Vec<i64> = serde_json::from_value(
        fixture["batches"][case["batch"].as_str().unwrap()]["labels"].clone(),
    )
    .unwrap();
    let list = |name: &str| fixture[name].clone();
    match (case["tuples"].as_str(), reference) {
        (Some("triplets"), None) => {
            let t: Vec<(u32, u32, u32)> = serde_json::from_value(list("triplets")).unwrap();
            let t: Triplets = t.into_iter().collect();
            Batch::with_triplets(x, &t).unwrap().label(&labels).unwrap()
        }
        (Some(name), None) => {
            let (positive, negative): (Vec<(u32, u32)>, Vec<(u32, u32)>) =
                serde_json::from_value(list(name)).unwrap();
            Batch::with_pairs(x, &Pairs { positive, negative })
                .unwrap()
                .label(&labels)
                .unwrap()
        }
        (None, None) => Batch::new(x, &labels).unwrap(),
        (None, Some(r)) => {
            let other: Vec<i64> =
                serde_json::from_value(fixture["reference"]["labels"].clone()).unwrap();
            Batch::against(x, &labels, r, &other).unwrap()
        }
        (Some(_), Some(_)) => panic!("no such case"),
    }
}

/// The loss of one case; `None` where another test covers it.
fn compute(name: &str, c: &Config, batch: &Batch) -> Option<Result<Tensor>> {
    Some(match name {
        "contrastive" => {
            let d = Contrastive::default();
            Contrastive {
                pos_margin: c.number("pos_margin", d.pos_margin),
                neg_margin: c.number("neg_margin", d.neg_margin),
                measure: c.measure(d.measure),
                pos_reducer: c.reducer(d.pos_reducer),
                neg_reducer: c.reducer(d.neg_reducer),
            }
            .forward(batch)
        }
        "nt_xent" => {
            let d = NtXent::default();
            NtXent {
                temperature: c.number("temperature", d.temperature),
                measure: c.measure(d.measure),
                reducer: c.reducer(d.reducer),
            }
            .forward(batch)
        }
        "dcl" => Dcl {
            temperature: c.number("temperature", 0.1),
            sigma: c.0["sigma"].as_f64(),
            ..Dcl::default()
        }
        .forward(batch),
        "sup_con" => {
            let d = SupCon::default();
            SupCon {
                temperature: c.number("temperature", d.temperature),
                measure: c.measure(d.measure),
                reducer: c.reducer(d.reducer),
            }
            .forward(batch)
        }
        "multi_similarity" => {
            let d = MultiSimilarity::default();
            MultiSimilarity {
                alpha: c.number("alpha", d.alpha),
                beta: c.number("beta", d.beta),
                base: c.number("base", d.base),
                epsilon: c.0["epsilon"].as_f64(),
                measure: c.measure(d.measure),
                reducer: c.reducer(d.reducer),
            }
            .forward(batch)
        }
        _ => return None,
    })
}

#[test]
fn golden_values_and_gradients() {
    let fixture: Value = serde_json::from_str(FIXTURE).unwrap();
    let (mut wrong, mut done) = (vec![], 0);
    let mut skipped = std::collections::BTreeSet::new();
    for dtype in [DType::F64, DType::F32] {
        for case in fixture["cases"].as_array().unwrap() {
            let name = case["loss"].as_str().unwrap();
            let x = var(
                &fixture["batches"][case["batch"].as_str().unwrap()]["x"],
                dtype,
            );
            let reference = case["ref"]
                .as_bool()
                .unwrap()
                .then(|| var(&fixture["reference"]["x"], dtype));
            let what = format!(
                "{dtype:?} {name} {} {} ref {} tuples {}",
                case["config"], case["batch"], case["ref"], case["tuples"]
            );
            let b = batch(
                &fixture,
                case,
                &x,
                reference.as_deref().map(|v| v as &Tensor),
            );
            let Some(loss) = compute(name, &Config(&case["config"]), &b) else {
                skipped.insert(name);
                continue;
            };
            let loss = loss.unwrap_or_else(|e| panic!("{what}: {e}"));
            done += 1;
            let value = difference(&values(&loss), &numbers(&case["value"]));
            let store = loss.backward().unwrap();
            let mut worst = value;
            for (v, g) in [Some(&x), reference.as_ref()]
                .into_iter()
                .flatten()
                .zip(case["grads"].as_array().unwrap())
            {
                worst = worst.max(difference(&values(store.get(v).unwrap()), &numbers(g)));
            }
            if worst > tolerance(dtype) {
                wrong.push(format!(
                    "{what}: value off by {value:.1e}, worst {worst:.1e}"
                ));
            }
        }
    }
    println!("{done} compared, other tests: {skipped:?}");
    assert!(
        wrong.is_empty(),
        "{} of {done}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
