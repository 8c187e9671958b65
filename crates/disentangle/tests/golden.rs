//! Every term's value and gradient against f64 statements made by `fixtures/disentangle/make.py`, and against
//! central differences.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle::{Device, Result, Tensor, Var};
use phiz_disentangle::*;
use phiz_kernels::gradcheck;
use serde_json::Value;

fn cases() -> Vec<Value> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/disentangle/golden.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    let array = value.as_array().unwrap();
    array.iter().map(|x| x.as_f64().unwrap()).collect()
}

fn term(case: &Value, x: &[Tensor]) -> Result<Tensor> {
    let codes = || {
        let codes: Vec<u32> = numbers(&case["codes"]).iter().map(|&c| c as u32).collect();
        Tensor::new(codes, &Device::Cpu)
    };
    let labels = || Tensor::from_vec(numbers(&case["labels"]), x[0].shape(), &Device::Cpu);
    match case["name"].as_str().unwrap() {
        "target" => target_cross_entropy(&x[0], &numbers(&case["target"])),
        "negative_entropy" => negative_entropy(&x[0]),
        "club_categorical" => club_categorical(&x[0], &codes()?),
        "target_binary" => target_binary_cross_entropy(&x[0], &numbers(&case["target"])),
        "negative_binary_entropy" => negative_binary_entropy(&x[0]),
        "club_multi_label" => club_multi_label(&x[0], &labels()?),
        "nll_multi_label" => {
            let attributes = x[0].dim(1)?;
            let both: Vec<bool> = (0..2 * attributes).map(|i| i < attributes).collect();
            let factor = Factor::multi_label("attributes", &both, attributes)?;
            negative_log_likelihood(&factor, &x[0], &FactorValues::MultiLabel(labels()?))
        }
        "club_gaussian" => club_gaussian(&x[0], &x[1]),
        "gaussian_nll" => gaussian_nll(&x[0], &x[1]),
        "ignorance_continuous" => {
            ignorance(&Factor::continuous("pose", x[0].dim(1)? / 2), &x[0], false)
        }
        "given_categorical" | "given_multi_label" | "given_continuous" => {
            let by_class = case["by_class"].as_array().unwrap();
            let rows: Vec<Vec<f64>> = by_class.iter().map(numbers).collect();
            let width = rows[0].len();
            let kind = match case["name"].as_str().unwrap() {
                "given_categorical" => FactorKind::Categorical {
                    prior: vec![1. / width as f64; width],
                },
                "given_multi_label" => FactorKind::MultiLabel {
                    prior: vec![0.5; width],
                },
                _ => FactorKind::Continuous { dims: width / 2 },
            };
            let factor = Factor::new("light", kind).given_class(rows)?;
            ignorance_given_class(&factor, &x[0], &codes()?)
        }
        "club_given_categorical" | "club_given_multi_label" | "club_given_continuous" => {
            let (rows, width) = x[0].dims2()?;
            let (factor, values) = match case["name"].as_str().unwrap() {
                "club_given_categorical" => {
                    let values: Vec<u32> =
                        numbers(&case["values"]).iter().map(|&v| v as u32).collect();
                    let kind = FactorKind::Categorical {
                        prior: vec![1. / width as f64; width],
                    };
                    (
                        Factor::new("light", kind),
                        FactorValues::Categorical(Tensor::new(values, &Device::Cpu)?),
                    )
                }
                "club_given_multi_label" => {
                    let values =
                        Tensor::from_vec(numbers(&case["values"]), (rows, width), &Device::Cpu)?;
                    let kind = FactorKind::MultiLabel {
                        prior: vec![0.5; width],
                    };
                    (Factor::new("light", kind), FactorValues::MultiLabel(values))
                }
                _ => (
                    Factor::continuous("light", width / 2),
                    FactorValues::Continuous(x[1].clone()),
                ),
            };
            // The estimate takes the batch's rows of a class, not what is known of it.
            let row = match factor.kind {
                FactorKind::Continuous { .. } => vec![0.; width],
                _ => vec![1. / width as f64; width],
            };
            let factor = factor.given_class(vec![row; 4])?;
            club_given_class(&factor, &x[0], &values, &codes()?)
        }
        "mine" => mine(&x[0], &x[1]),
        "ssim" => ssim(&x[0], &x[1]),
        "l2_l1" => {
            let mix = Reconstruction {
                l2: 0.7,
                l1: 0.3,
                ssim: 0.,
            };
            mix.error(&x[0], &x[1])
        }
        other => panic!("no term for the case `{other}`"),
    }
}

#[test]
fn values_and_gradients_equal_the_statements() {
    let cases = cases();
    assert!(cases.len() > 25, "{}", cases.len());
    for (at, case) in cases.iter().enumerate() {
        let name = case["name"].as_str().unwrap();
        let vars: Vec<Var> = case["inputs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|input| {
                let shape: Vec<usize> = numbers(&input["shape"])
                    .iter()
                    .map(|&d| d as usize)
                    .collect();
                Var::from_vec(numbers(&input["values"]), shape, &Device::Cpu).unwrap()
            })
            .collect();
        let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let value = term(case, &tensors).unwrap();
        let expected = case["value"].as_f64().unwrap();
        let got = value.to_scalar::<f64>().unwrap();
        assert!(
            (got - expected).abs() < 1e-10 * expected.abs().max(1.),
            "{at} {name}: {got} {expected}"
        );
        let gradients = value.backward().unwrap();
        for (var, wanted) in vars.iter().zip(case["gradients"].as_array().unwrap()) {
            let got = gradients
                .get(var)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f64>()
                .unwrap();
            for (got, wanted) in got.iter().zip(numbers(wanted)) {
                assert!(
                    (got - wanted).abs() < 1e-9,
                    "{at} {name}: gradient {got} {wanted}"
                );
            }
        }
        if !["ssim", "l2_l1"].contains(&name) || tensors[0].elem_count() < 400 {
            gradcheck::check(|x| term(case, x), &tensors, 1e-6).unwrap();
        }
    }
}

#[test]
fn single_precision_stays_near() {
    for case in cases() {
        let tensors: Vec<Tensor> = case["inputs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|input| {
                let shape: Vec<usize> = numbers(&input["shape"])
                    .iter()
                    .map(|&d| d as usize)
                    .collect();
                let values: Vec<f32> = numbers(&input["values"])
                    .iter()
                    .map(|&x| x as f32)
                    .collect();
                Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
            })
            .collect();
        if case.get("labels").is_some() {
            continue; // The labels above are f64 on purpose.
        }
        let got = f64::from(term(&case, &tensors).unwrap().to_scalar::<f32>().unwrap());
        let expected = case["value"].as_f64().unwrap();
        assert!(
            (got - expected).abs() < 2e-5 * expected.abs().max(1.),
            "{}: {got} {expected}",
            case["name"]
        );
    }
}
