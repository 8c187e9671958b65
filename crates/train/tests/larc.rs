//! LARC against its formula in front of torch.optim.SGD, in f64 (`fixtures/pretrain/make.py`).
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are not recognised as tests"
)]

use std::collections::BTreeMap;

use candle::{DType, Device, Tensor};
use phiz_train::{GroupRules, Optimizer, OptimizerConfig, Parameters, Streams};
use serde::Deserialize;

#[derive(Deserialize)]
struct Flat {
    shape: Vec<usize>,
    values: Vec<f64>,
}

#[derive(Deserialize)]
struct Golden {
    weights: Vec<Flat>,
    trace: Vec<Vec<Vec<f64>>>,
    lr: f64,
    momentum: f64,
    weight_decay: f64,
    trust: f64,
}

#[test]
fn larc_follows_its_formula_on_vectors_and_zeros_too_and_survives_a_restart() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/train/larc.json"
    );
    let golden: Golden = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let parameters = Parameters::new(Streams::new(0), DType::F64, &Device::Cpu);
    let vb = parameters.var_builder();
    let mut start = BTreeMap::new();
    for (i, weight) in golden.weights.iter().enumerate() {
        vb.get(weight.shape.as_slice(), &i.to_string()).unwrap();
        let shape = weight.shape.as_slice();
        let tensor = Tensor::from_vec(weight.values.clone(), shape, &Device::Cpu).unwrap();
        start.insert(i.to_string(), tensor);
    }
    parameters.load(&start).unwrap();
    let config = OptimizerConfig::Larc {
        momentum: golden.momentum,
        weight_decay: golden.weight_decay,
        trust: golden.trust,
    };
    let rules = GroupRules {
        decay_vectors: true,
        ..GroupRules::default()
    };
    let mut optimizer = Optimizer::new(&parameters, config, &rules).unwrap();
    for (step, wanted) in golden.trace.iter().enumerate() {
        if step == 2 {
            let state = optimizer.state().unwrap();
            optimizer = Optimizer::new(&parameters, config, &rules).unwrap();
            optimizer.load_state(&state).unwrap();
        }
        let var = |i: usize| parameters.get(&i.to_string()).unwrap().as_tensor().clone();
        let wave = |i: usize| {
            (var(i) * (step as f64 + 1.))
                .unwrap()
                .sin()
                .unwrap()
                .sum_all()
                .unwrap()
        };
        // A product with a tensor: `* 0.` would leave no gradient at all, where PyTorch leaves zeros.
        let slope = Tensor::new(step as f64 - 1., &Device::Cpu).unwrap();
        let straight = var(2).broadcast_mul(&slope).unwrap().sum_all().unwrap();
        let loss = ((wave(0) + wave(1)).unwrap() + straight).unwrap();
        // Half the gradient, doubled on the way: clipping and LARC go together.
        let gradients = (loss * 0.5).unwrap().backward().unwrap();
        optimizer.step_scaled(&gradients, golden.lr, 2.).unwrap();
        for (i, wanted) in wanted.iter().enumerate() {
            let values = var(i).flatten_all().unwrap().to_vec1::<f64>().unwrap();
            for (value, wanted) in values.iter().zip(wanted) {
                assert!(
                    (value - wanted).abs() < 1e-13,
                    "step {step}, variable {i}: {value} {wanted}"
                );
            }
        }
    }
    let bad = OptimizerConfig::Larc {
        momentum: 0.9,
        weight_decay: 0.,
        trust: -1.,
    };
    assert!(Optimizer::new(&parameters, bad, &rules).is_err());
}
