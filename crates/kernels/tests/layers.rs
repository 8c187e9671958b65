//! Layers: names, shared running statistics, a small network that learns, and seeded dropout.

#![allow(clippy::unwrap_used)]

mod common;

use candle::{DType, Device, Result, Tensor, Var};
use candle_nn::{Module, ModuleT, VarBuilder, VarMap};
use phiz_kernels::gradcheck::every_variable_has_gradient;
use phiz_kernels::layers::{self, BatchNormConfig};
use phiz_kernels::{Activation, Conv2dConfig, cross_entropy, dropout, global_avg_pool};

fn names(vars: &VarMap) -> Vec<String> {
    let mut names: Vec<String> = vars.data().lock().unwrap().keys().cloned().collect();
    names.sort();
    names
}

fn named(vars: &VarMap) -> Vec<(String, Var)> {
    let data = vars.data().lock().unwrap();
    let mut out: Vec<_> = data.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out.retain(|(n, _)| !n.contains("running"));
    out
}

#[test]
fn parameters_have_pytorch_names() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let cfg = Conv2dConfig {
        groups: 2,
        ..Default::default()
    };
    let conv = layers::conv2d(4, 6, 3, cfg, vb.pp("conv"))?;
    assert_eq!(conv.weight().dims(), [6, 2, 3, 3]);
    layers::batch_norm(6, 1e-5, vb.pp("bn"))?;
    let fixed = BatchNormConfig {
        learn_scale: false,
        ..Default::default()
    };
    layers::batch_norm(6, fixed, vb.pp("fixed"))?;
    layers::linear(6, 2, vb.pp("fc"))?;
    let slope = layers::prelu(6, vb.pp("act"))?;
    assert_eq!(slope.slope().to_vec1::<f32>()?, [0.25; 6]);
    let expected = [
        "act.weight",
        "bn.bias",
        "bn.running_mean",
        "bn.running_var",
        "bn.weight",
        "conv.bias",
        "conv.weight",
        "fc.bias",
        "fc.weight",
        "fixed.bias",
        "fixed.running_mean",
        "fixed.running_var",
    ];
    assert_eq!(names(&vars), expected);
    Ok(())
}

#[test]
fn running_statistics_are_updated_in_the_builders_variables() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F64, &Device::Cpu);
    let norm = layers::batch_norm(1, 1e-5, vb)?;
    let x = Tensor::new(&[[1f64], [2.0], [6.0]], &Device::Cpu)?;
    norm.forward_t(&x, true)?;
    // mean 3, unbiased variance 7
    let get = |name: &str| vars.data().lock().unwrap()[name].to_vec1::<f64>();
    assert!((get("running_mean")?[0] - 0.3).abs() < 1e-12);
    assert!((get("running_var")?[0] - (0.9 + 0.7)).abs() < 1e-12);
    let y = norm.forward_t(&x, false)?.to_vec2::<f64>()?;
    assert!((y[0][0] - 0.7 / (1.6f64 + 1e-5).sqrt()).abs() < 1e-12);
    assert!(
        (get("running_mean")?[0] - 0.3).abs() < 1e-12,
        "evaluation must not update"
    );
    Ok(())
}

#[test]
fn a_small_network_learns_and_every_variable_has_a_gradient() -> Result<()> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let same = Conv2dConfig {
        padding: 1,
        ..Default::default()
    };
    let wide = Conv2dConfig {
        padding: 1,
        stride: 2,
        groups: 8,
        ..Default::default()
    };
    let conv1 = layers::conv2d_no_bias(1, 8, 3, same, vb.pp("conv1"))?;
    let bn1 = layers::batch_norm(8, 1e-5, vb.pp("bn1"))?;
    let act1 = layers::prelu(8, vb.pp("act1"))?;
    let conv2 = layers::conv2d(8, 8, 3, wide, vb.pp("conv2"))?;
    let bn2 = layers::batch_norm(8, 1e-5, vb.pp("bn2"))?;
    let fc = layers::linear(8, 2, vb.pp("fc"))?;
    // Class 1 has stripes, class 0 is nearly uniform.
    let mut pixels = Vec::new();
    for image in 0..16usize {
        for at in 0..64usize {
            let stripe = if image % 2 == 1 {
                (at + image / 2) % 2
            } else {
                0
            };
            pixels.push(stripe as f32 - 0.5 + (image * at % 7) as f32 * 0.02);
        }
    }
    let x = Tensor::from_vec(pixels, (16, 1, 8, 8), &Device::Cpu)?;
    let labels: Vec<u32> = (0..16).map(|i| i % 2).collect();
    let labels = Tensor::new(labels, &Device::Cpu)?;
    let loss = |train: bool| -> Result<Tensor> {
        let h = bn1.forward_act(&conv1.forward(&x)?, act1.activation(), train)?;
        let h = bn2.forward_act(&conv2.forward(&h)?, Activation::Relu, train)?;
        cross_entropy(&fc.forward(&global_avg_pool(&h)?)?, &labels, 0.0)
    };
    let trainable = named(&vars);
    // The builder's own start is drawn anew every time; a fixed one makes the test repeatable.
    for (name, var) in trainable
        .iter()
        .filter(|(name, _)| name.ends_with("weight"))
    {
        if name.starts_with("conv") || name.starts_with("fc") {
            let n = var.elem_count();
            let wave: Vec<f32> = (0..n).map(|i| 0.4 * (1.7 * i as f32 + 0.3).sin()).collect();
            var.set(&Tensor::from_vec(wave, var.shape(), &Device::Cpu)?)?;
        }
    }
    let first = loss(true)?.to_scalar::<f32>()?;
    for _ in 0..40 {
        let grads = loss(true)?.backward()?;
        // The bias before a batch normalisation has gradient zero, but it has one.
        every_variable_has_gradient(&grads, &trainable)?;
        for (_, var) in &trainable {
            var.set(&(var.as_tensor() - (grads.get(var).unwrap() * 0.1)?)?)?;
        }
    }
    let last = loss(true)?.to_scalar::<f32>()?;
    assert!(last < 0.2 * first, "loss went from {first} to {last}");
    Ok(())
}

#[test]
fn dropout_depends_on_its_seed_alone() -> Result<()> {
    let x = Tensor::ones((100, 200), DType::F32, &Device::Cpu)?;
    let flat = |p, seed| dropout(&x, p, seed)?.flatten_all()?.to_vec1::<f32>();
    let a = flat(0.25, 7)?;
    assert!(a == flat(0.25, 7)?);
    assert!(a != flat(0.25, 8)?);
    let kept = a.iter().filter(|&&v| v > 0.0).count();
    assert!((14_700..15_300).contains(&kept), "{kept} of 20000 kept");
    assert!(a.iter().all(|&v| v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6));
    // A prefix of the input gets a prefix of the mask.
    let head = dropout(&x.narrow(0, 0, 10)?, 0.25, 7)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    assert_eq!(head, a[..2000]);
    assert!(flat(1.0, 1)?.iter().all(|&v| v == 0.0));
    assert!(flat(0.0, 1)?.iter().all(|&v| v == 1.0));
    Ok(())
}

#[test]
fn passes_on_every_instruction_set() {
    common::pass_on_every_instruction_set();
}

#[test]
fn passes_by_candles_operations() {
    common::pass_by_candles_operations();
}
