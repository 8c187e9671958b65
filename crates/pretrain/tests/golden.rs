//! Values and gradients against f64 statements made by `fixtures/pretrain/make.py` (which holds them against lightly),
//! and against central differences.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use candle::{DType, Device, Result, Tensor, Var};
use phiz_kernels::gradcheck;
use phiz_pretrain::*;
use phiz_train::{GroupRules, Optimizer, OptimizerConfig, Parameters, Streams};
use serde_json::Value;

fn cases() -> Vec<Value> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/pretrain/golden.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    let array = value.as_array().unwrap();
    array.iter().map(|x| x.as_f64().unwrap()).collect()
}

fn tensor(value: &Value) -> Tensor {
    let shape: Vec<usize> = numbers(&value["shape"])
        .iter()
        .map(|&n| n as usize)
        .collect();
    Tensor::from_vec(numbers(&value["values"]), shape, &Device::Cpu).unwrap()
}

fn loss(case: &Value, x: &[Tensor]) -> Result<Tensor> {
    match case["name"].as_str().unwrap() {
        "swapped_prediction" => {
            let views = case["views"].as_u64().unwrap() as usize;
            let (rows, prototypes) = x[0].dims2()?;
            let codes = case["codes"].as_array().unwrap().iter().map(|code| {
                let shape = (rows / views, prototypes);
                let q = Tensor::from_vec(numbers(&code[1]), shape, &Device::Cpu)?;
                Ok((code[0].as_u64().unwrap() as usize, q))
            });
            let codes = codes.collect::<Result<Vec<_>>>()?;
            swapped_prediction(&x[0], views, &codes, case["temperature"].as_f64().unwrap())
        }
        "nt_xent" => nt_xent(&x[0], &x[1], case["temperature"].as_f64().unwrap()),
        "regression" => regression(&x[0], &x[1]),
        "vic_reg" => {
            let weights = numbers(&case["weights"]);
            let config = VicRegConfig {
                invariance: weights[0],
                variance: weights[1],
                covariance: weights[2],
                ..VicRegConfig::default()
            };
            vic_reg(&x[0], &x[1], &config)
        }
        "barlow_twins" => barlow_twins(&x[0], &x[1], case["lambda_"].as_f64().unwrap()),
        other => panic!("no loss for the case `{other}`"),
    }
}

fn close(a: f64, b: f64, tolerance: f64, what: &str) {
    assert!(
        (a - b).abs() <= tolerance * b.abs().max(1.0),
        "{what}: {a} {b}"
    );
}

#[test]
fn losses_and_gradients_equal_the_statements_and_central_differences() {
    let mut seen = 0;
    for case in cases() {
        let name = case["name"].as_str().unwrap().to_string();
        if case["gradients"].is_null() {
            continue;
        }
        seen += 1;
        let vars: Vec<Var> = case["inputs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|input| Var::from_tensor(&tensor(input)).unwrap())
            .collect();
        let inputs: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let value = loss(&case, &inputs).unwrap();
        close(
            value.to_scalar::<f64>().unwrap(),
            case["value"].as_f64().unwrap(),
            1e-12,
            &name,
        );
        let gradients = value.backward().unwrap();
        for (var, wanted) in vars.iter().zip(case["gradients"].as_array().unwrap()) {
            let wanted = numbers(wanted);
            let found = gradients.get(var).map_or(vec![0.0; wanted.len()], |g| {
                g.flatten_all().unwrap().to_vec1::<f64>().unwrap()
            });
            for (found, wanted) in found.iter().zip(&wanted) {
                close(*found, *wanted, 1e-11, &name);
            }
        }
        // The target of BYOL has no gradient by intent, which differences cannot know.
        let checked = if name == "regression" {
            &inputs[..1]
        } else {
            &inputs[..]
        };
        let f = |x: &[Tensor]| {
            let mut all = x.to_vec();
            all.extend_from_slice(&inputs[x.len()..]);
            loss(&case, &all)
        };
        gradcheck::check(f, checked, 1e-6).unwrap();
    }
    assert_eq!(seen, 13);
}

#[test]
fn sinkhorn_equals_the_exponential_form() {
    let mut seen = 0;
    for case in cases().iter().filter(|case| case["name"] == "sinkhorn") {
        seen += 1;
        let scores = tensor(&case["inputs"][0]);
        let config = SinkhornConfig {
            epsilon: case["epsilon"].as_f64().unwrap(),
            iterations: case["iterations"].as_u64().unwrap() as usize,
        };
        let found = sinkhorn(&scores, config).unwrap();
        let q = found.q.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for (q, wanted) in q.iter().zip(numbers(&case["q"])) {
            assert!((q - wanted).abs() < 1e-12, "{q} {wanted}");
        }
        let errors = numbers(&case["errors"]);
        assert!((found.marginal_error - errors[0]).abs() < 1e-12);
        assert!((found.mean_marginal_error - errors[1]).abs() < 1e-12);
    }
    assert_eq!(seen, 4);
}

/// Four steps of the whole method: queue, frozen prototypes, unit norms, head with batch norm, SGD.
#[test]
fn whole_steps_equal_the_released_loop() {
    let cases = cases();
    let case = cases
        .iter()
        .find(|case| case["name"] == "swav_steps")
        .unwrap();
    let parameters = Parameters::new(Streams::new(0), DType::F64, &Device::Cpu);
    let vb = parameters.var_builder();
    let trunk = vb.get((6, 2), "trunk.weight").unwrap();
    let trunk = |x: &Tensor, _: bool| phiz_kernels::linear(&x.flatten_from(1)?, &trunk, None);
    let config = SwavConfig {
        hidden: 7,
        dim: 4,
        prototypes: 5,
        queue: 6,
        freeze_steps: 1,
        ..SwavConfig::default()
    };
    let swav = Swav::new(&config, 6, 3, vb).unwrap();
    let start: BTreeMap<String, Tensor> = case["start"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), tensor(value)))
        .collect();
    parameters.load_matching(&start, &[]).unwrap();
    let sgd = OptimizerConfig::Sgd {
        momentum: 0.9,
        nesterov: false,
        weight_decay: 1e-2,
    };
    let rules = GroupRules {
        decay_vectors: true,
        allow_unused: true,
        ..GroupRules::default()
    };
    let mut optimizer = Optimizer::new(&parameters, sgd, &rules).unwrap();
    let steps = case["steps"].as_array().unwrap();
    for (number, step) in steps.iter().enumerate() {
        let image = |key: &str| tensor(&step[key]).reshape(((), 2, 1, 1)).unwrap();
        let views = Views::new(vec![image("large"), image("small")], 3).unwrap();
        let moment = Moment {
            step: number as u64,
            total: 4,
        };
        assert_eq!(swav.uses_queue(moment.step), number >= 2);
        let report = swav.step(&trunk, &views, moment).unwrap();
        let loss = report.loss.to_scalar::<f64>().unwrap();
        close(
            loss,
            step["loss"].as_f64().unwrap(),
            1e-11,
            "loss of a step",
        );
        let gradients = report.loss.backward().unwrap();
        let moves = gradients.get(swav.prototypes().weight()).is_some();
        assert_eq!(moves, number >= 1, "prototypes are frozen for one step");
        optimizer.step(&gradients, 0.5).unwrap();
    }
    for (name, wanted) in case["end"].as_object().unwrap() {
        let found = parameters.get(name).unwrap().flatten_all().unwrap();
        for (found, wanted) in found
            .to_vec1::<f64>()
            .unwrap()
            .iter()
            .zip(numbers(&wanted["values"]))
        {
            close(*found, wanted, 1e-10, name);
        }
    }
}
