//! A network's gradients by this workspace's operations beside those by candle's own: in f64 the same to
//! the last digits, so no formula differs; in f32 each as near to f64 as its order of summing lets it be.
//! Where a slope changes sign (PReLU), rounding moves single activations across the corner, and
//! gradients in f32 differ in the fourth digit, whoever computes them.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests; figures for --nocapture"
)]

mod common;

use std::collections::BTreeMap;

use candle::{DType, ModuleT, Result, Tensor};
use candle_nn::VarBuilder;
use common::{filled, flat, images, tensor, trainable, uniform};
use phiz_backbones::{
    ExpressionNet, ExpressionNetConfig, IResNetConfig, MobileFaceNetConfig, iresnet18,
    mobilefacenet,
};
use phiz_kernels::ops::{self, Ops};

type Gradients = BTreeMap<String, Vec<f64>>;

/// The gradients of a fixed weighting of the outputs that `forward` gives of the images `x`.
fn gradients<N>(
    x: &Tensor,
    dtype: DType,
    by: Ops,
    build: impl Fn(VarBuilder) -> Result<N>,
    forward: impl Fn(&N, &Tensor) -> Result<Tensor>,
) -> Gradients {
    let (vb, vars) = filled(dtype);
    let network = build(vb).unwrap();
    let x = x.to_dtype(dtype).unwrap();
    let out = ops::with(by, || forward(&network, &x)).unwrap();
    let pattern = uniform("pattern", out.elem_count());
    let pattern = pattern.into_iter().map(|u| u - 0.5).collect();
    let pattern = tensor(pattern, out.dims(), dtype);
    let score = (out * pattern).unwrap().sum_all().unwrap();
    let grads = score.backward().unwrap();
    trainable(&vars)
        .into_iter()
        .filter_map(|(name, var)| Some((name, flat(grads.get(&var)?))))
        .collect()
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

/// The distance between two sets of gradients, over the length of the second; and the same of the
/// variable in which it is largest, over the length of all of its gradients.
fn distance(a: &Gradients, b: &Gradients) -> (f64, (String, f64)) {
    let gap = |(name, theirs): (&String, &Vec<f64>)| {
        let gap = norm(a[name].iter().zip(theirs).map(|(p, q)| p - q));
        (name.clone(), gap)
    };
    let gaps: Vec<_> = b.iter().map(gap).collect();
    let all = norm(b.values().flatten().copied());
    let (name, worst) = gaps
        .iter()
        .max_by(|p, q| p.1.total_cmp(&q.1))
        .unwrap()
        .clone();
    (
        norm(gaps.iter().map(|(_, v)| *v)) / all,
        (name, worst / all),
    )
}

/// Checks one network; prints what was found.
fn beside<N>(
    what: &str,
    x: &Tensor,
    bound: f64,
    build: impl Fn(VarBuilder) -> Result<N> + Copy,
    forward: impl Fn(&N, &Tensor) -> Result<Tensor> + Copy,
) {
    let run = |dtype, by| gradients(x, dtype, by, build, forward);
    let exact = run(DType::F64, Ops::Phiz);
    let same = run(DType::F64, Ops::Candle);
    // What is fixed gets no gradient here; candle's operations give one to every operand.
    for name in exact.keys() {
        assert!(same.contains_key(name), "{what}: {name}");
    }
    let (gap, worst) = distance(&same, &exact);
    println!("{what}: f64, candle's from ours {gap:.1e}, most {worst:?}");
    assert!(gap < 1e-11, "{what}: {gap} {worst:?}");
    let (ours, theirs) = (run(DType::F32, Ops::Phiz), run(DType::F32, Ops::Candle));
    let (gap, worst) = distance(&ours, &exact);
    println!("{what}: f32, ours from f64 {gap:.1e}, most {worst:?}");
    assert!(gap < bound, "{what}: {gap} {worst:?}");
    let (other, worst) = distance(&theirs, &exact);
    println!("{what}: f32, candle's from f64 {other:.1e}, most {worst:?}");
    assert!(other < 10. * bound, "{what}: {other} {worst:?}");
}

#[test]
fn expression_network() {
    beside(
        "expression network",
        &images(&[6, 3, 64, 64], DType::F64),
        2e-5,
        |vb| ExpressionNet::new(ExpressionNetConfig::default(), vb),
        |net, x| {
            let out = net.forward_t(x, true)?;
            Tensor::cat(&[out.logits, out.metric_embedding], 1)
        },
    );
}

/// Photographs have flat areas, where thousands of pixels share one value. candle adds a whole map up in f32, one
/// element after the other; of equal elements the roundings do not cancel, and the statistics of its norms
/// lose three digits. Here sums run in lanes and are finished in f64. In f64 both agree.
#[test]
fn flat_images_differ_by_what_rounding_moves() {
    let x = images(&[6, 3, 64, 64], DType::F64);
    let x = x.maximum(0.5).unwrap();
    let build = |vb: VarBuilder| ExpressionNet::new(ExpressionNetConfig::default(), vb);
    let forward = |net: &ExpressionNet, x: &Tensor| {
        let out = net.forward_t(x, true)?;
        Tensor::cat(&[out.logits, out.metric_embedding], 1)
    };
    let run = |x: &Tensor, dtype, by| gradients(x, dtype, by, build, forward);
    let exact = run(&x, DType::F64, Ops::Phiz);
    let (same, _) = distance(&run(&x, DType::F64, Ops::Candle), &exact);
    let pattern = images(&[6, 3, 64, 64], DType::F64);
    let moved = (&x + (pattern * 6e-8).unwrap()).unwrap();
    let (moved, _) = distance(&run(&moved, DType::F64, Ops::Phiz), &exact);
    let (ours, _) = distance(&run(&x, DType::F32, Ops::Phiz), &exact);
    let (theirs, _) = distance(&run(&x, DType::F32, Ops::Candle), &exact);
    println!(
        "f64 by candle's {same:.1e}, f64 moved {moved:.1e}, f32 {ours:.1e}, candle's {theirs:.1e}"
    );
    assert!(same < 1e-9, "{same}");
    assert!(moved < 1e-4 && ours < 1e-4, "{moved} {ours}");
    assert!(theirs < 5e-2 && theirs > 10. * ours, "{theirs} {ours}");
}

#[test]
fn iresnet() {
    let config = IResNetConfig {
        image_size: 32,
        base_channels: 16,
        embedding_dim: 16,
        ..Default::default()
    };
    beside(
        "IResNet-18",
        &images(&[6, 3, 32, 32], DType::F64),
        1e-3,
        |vb| iresnet18(config, vb),
        |net, x| net.forward_t(x, true),
    );
}

#[test]
fn mobile_face_net() {
    let config = MobileFaceNetConfig {
        image_size: 32,
        embedding_dim: 16,
        blocks: [1, 1, 1, 1],
        scale: 1,
        ..Default::default()
    };
    beside(
        "MobileFaceNet",
        &images(&[6, 3, 32, 32], DType::F64),
        1e-3,
        |vb| mobilefacenet(config, vb),
        |net, x| net.forward_t(x, true),
    );
}
