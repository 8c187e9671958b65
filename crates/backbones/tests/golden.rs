//! Outputs, gradients and running statistics against PyTorch in f64, see `fixtures/backbones/make.py`.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use candle::{DType, Result, Tensor};
use candle_nn::{ModuleT, VarBuilder};
use common::{close, dims, filled, flat, images, json, numbers, tensor, trainable, uniform};
use phiz_backbones::{
    IResNet, IResNetConfig, MobileFaceNet, MobileFaceNetConfig, iresnet18, mobilefacenet,
};

fn eval<M: ModuleT>(
    case: &str,
    dtype: DType,
    tolerance: f64,
    build: impl Fn(VarBuilder) -> Result<M>,
) {
    let want = &json("golden.json")[case];
    let network = build(filled(dtype).0).unwrap();
    let x = images(&dims(&want["input"]), dtype);
    let got = flat(&network.forward_t(&x, false).unwrap());
    close(case, &got, &numbers(&want["output"]), tolerance);
}

fn train<M: ModuleT>(
    case: &str,
    dtype: DType,
    tolerance: f64,
    build: impl Fn(VarBuilder) -> Result<M>,
) {
    let want = &json("golden.json")[case];
    let (vb, vars) = filled(dtype);
    let network = build(vb).unwrap();
    let x = images(&dims(&want["input"]), dtype);
    let out = network.forward_t(&x, true).unwrap();
    close(case, &flat(&out), &numbers(&want["output"]), tolerance);
    let pattern = uniform("pattern", out.elem_count())
        .into_iter()
        .map(|u| u - 0.5)
        .collect();
    let pattern = tensor(pattern, out.dims(), dtype);
    let grads = (out * pattern)
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    let norm = |t: &Tensor| flat(t).iter().map(|v| v * v).sum::<f64>().sqrt();
    let norms = want["gradient_norms"].as_object().unwrap();
    let largest = norms
        .values()
        .map(|v| v.as_f64().unwrap())
        .fold(0f64, f64::max);
    let mut seen = 0;
    for (name, var) in trainable(&vars) {
        if name == "features.weight" && !norms.contains_key(&name) {
            assert!(
                grads.get(&var).is_none(),
                "{name} is fixed and must get no gradient"
            );
            continue;
        }
        let got = norm(
            grads
                .get(&var)
                .unwrap_or_else(|| panic!("{name} got no gradient")),
        );
        let expected = norms[&name].as_f64().unwrap();
        assert!(
            (got - expected).abs() <= tolerance * (expected + 1e-3 * largest),
            "{name}: gradient norm {got}, expected {expected}"
        );
        seen += 1;
    }
    assert_eq!(seen, norms.len());
    for (name, expected) in want["buffer_norms"].as_object().unwrap() {
        let got = norm(vars.lock().unwrap()[name].as_tensor());
        let expected = expected.as_f64().unwrap();
        assert!(
            (got - expected).abs() <= tolerance * expected,
            "{name}: norm {got}, expected {expected}"
        );
    }
}

#[test]
fn iresnet18_evaluation() {
    let build = |vb: VarBuilder| {
        iresnet18(
            IResNetConfig {
                image_size: 32,
                ..Default::default()
            },
            vb,
        )
    };
    eval("iresnet18_eval", DType::F64, 1e-10, build);
    eval("iresnet18_eval", DType::F32, 1e-4, build);
}

#[test]
fn iresnet_training() {
    let config = IResNetConfig {
        image_size: 48,
        in_channels: 1,
        embedding_dim: 8,
        base_channels: 4,
        ..Default::default()
    };
    let build = |vb: VarBuilder| IResNet::new([2, 1, 1, 1], config, vb);
    train("iresnet_tiny_train", DType::F64, 1e-9, build);
    train("iresnet_tiny_train", DType::F32, 1e-3, build);
}

#[test]
fn mobilefacenet_evaluation() {
    let config = MobileFaceNetConfig {
        image_size: 32,
        embedding_dim: 64,
        ..Default::default()
    };
    let build = |vb: VarBuilder| mobilefacenet(config, vb);
    eval("mobilefacenet_eval", DType::F64, 1e-10, build);
    eval("mobilefacenet_eval", DType::F32, 1e-4, build);
}

#[test]
fn mobilefacenet_training() {
    let config = MobileFaceNetConfig {
        image_size: 32,
        in_channels: 1,
        embedding_dim: 8,
        blocks: [1, 1, 1, 1],
        scale: 1,
    };
    let build = |vb: VarBuilder| MobileFaceNet::new(config, vb);
    train("mobilefacenet_tiny_train", DType::F64, 1e-9, build);
    train("mobilefacenet_tiny_train", DType::F32, 2e-3, build);
}
