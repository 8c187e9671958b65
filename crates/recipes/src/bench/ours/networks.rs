//! Whole networks: a training step, and evaluation.

use std::time::{Duration, Instant};

use candle::{DType, Device, Tensor, Var};
use candle_nn::{ModuleT, VarBuilder};
use phiz_backbones::{
    ExpressionNet, ExpressionNetConfig, IResNetConfig, MobileFaceNetConfig, iresnet18,
    mobilefacenet,
};
use phiz_kernels::cross_entropy;
use phiz_train::{GroupRules, Optimizer, OptimizerConfig, Parameters, Streams};

use super::digits::Digits;
use super::{Ready, normal};
use crate::Result;
use crate::bench::cases::BenchNetwork;

/// Small, so that the numbers stay in range however often the step is repeated.
const LEARNING_RATE: f64 = 1e-3;

/// Scalar loss of a batch, and its outputs: what is trained.
type Objective = Box<dyn Fn(&Tensor) -> candle::Result<(Tensor, Vec<Tensor>)>>;
/// Outputs of a batch in evaluation mode.
type Forward = Box<dyn Fn(&Tensor) -> candle::Result<Vec<Tensor>>>;

fn images(network: BenchNetwork, batch: usize) -> candle::Result<Tensor> {
    let (channels, side) = network.image();
    normal(1, (batch, channels, side, side))
}

fn dims(outputs: &[Tensor]) -> Vec<Vec<usize>> {
    outputs.iter().map(|out| out.dims().to_vec()).collect()
}

/// Class `i % classes` for image `i`.
fn classes(batch: usize, classes: u32) -> candle::Result<Tensor> {
    Tensor::from_iter((0..batch as u32).map(|i| i % classes), &Device::Cpu)
}

/// The loss is softmax cross-entropy over the embedding (the expression network: over its seven
/// classes, plus the mean square of the metric embedding, so that both branches work; the digits: see
/// [`Digits`]).
fn objective(network: BenchNetwork, batch: usize, vb: VarBuilder<'_>) -> candle::Result<Objective> {
    Ok(match network {
        BenchNetwork::Iresnet18 => {
            let net = iresnet18(IResNetConfig::default(), vb)?;
            let target = classes(batch, 512)?;
            Box::new(move |x| {
                let out = net.forward_t(x, true)?;
                Ok((cross_entropy(&out, &target, 0.)?, vec![out]))
            })
        }
        BenchNetwork::Mobilefacenet => {
            let net = mobilefacenet(MobileFaceNetConfig::default(), vb)?;
            let target = classes(batch, 512)?;
            Box::new(move |x| {
                let out = net.forward_t(x, true)?;
                Ok((cross_entropy(&out, &target, 0.)?, vec![out]))
            })
        }
        BenchNetwork::Expression => {
            let net = ExpressionNet::new(ExpressionNetConfig::default(), vb)?;
            let target = classes(batch, 7)?;
            Box::new(move |x| {
                let out = net.forward_t(x, true)?;
                let spread = out.metric_embedding.sqr()?.mean_all()?;
                let loss = (cross_entropy(&out.logits, &target, 0.)? + spread)?;
                Ok((loss, vec![out.logits, out.metric_embedding]))
            })
        }
        BenchNetwork::Digits => {
            let net = Digits::new(&vb)?;
            Box::new(move |x| net.loss(x))
        }
    })
}

/// A step: forward, loss, backward, SGD over every parameter.
pub(super) fn train(network: BenchNetwork, batch: usize) -> Result<Ready> {
    let parameters = Parameters::new(Streams::new(0), DType::F32, &Device::Cpu);
    let objective = objective(network, batch, parameters.var_builder())?;
    let sgd = OptimizerConfig::Sgd {
        momentum: 0.9,
        nesterov: false,
        weight_decay: 5e-4,
    };
    // As torch.optim.SGD does by default.
    let rules = GroupRules {
        decay_vectors: true,
        ..GroupRules::default()
    };
    let mut optimizer = Optimizer::new(&parameters, sgd, &rules)?;
    let x = images(network, batch)?;
    let count = parameters.trainable_count();
    let mut step = move || -> Result<(Duration, Vec<Vec<usize>>)> {
        let start = Instant::now();
        let (loss, outputs) = objective(&x)?;
        let gradients = loss.backward()?;
        optimizer.step(&gradients, LEARNING_RATE)?;
        drop(gradients);
        Ok((start.elapsed(), dims(&outputs)))
    };
    let (_, shapes) = step()?;
    Ok(Ready::new(move || Ok(step()?.0))
        .fact("parameters", count)
        .fact("outputs", serde_json::json!(shapes)))
}

fn forward(network: BenchNetwork, vb: VarBuilder<'_>) -> candle::Result<Forward> {
    Ok(match network {
        BenchNetwork::Iresnet18 => {
            let net = iresnet18(IResNetConfig::default(), vb)?.folded()?;
            Box::new(move |x| Ok(vec![net.forward_t(x, false)?]))
        }
        BenchNetwork::Mobilefacenet => {
            let net = mobilefacenet(MobileFaceNetConfig::default(), vb)?.folded()?;
            Box::new(move |x| Ok(vec![net.forward_t(x, false)?]))
        }
        BenchNetwork::Expression => {
            let net = ExpressionNet::new(ExpressionNetConfig::default(), vb)?.folded()?;
            Box::new(move |x| {
                let out = net.classify(x)?;
                Ok(vec![out.embedding, out.logits])
            })
        }
        BenchNetwork::Digits => candle::bail!("the digits networks are trained, not evaluated"),
    })
}

/// A forward pass in evaluation mode over parameters that track no gradient, norms folded into the
/// convolutions beforehand (onnxruntime does the same when it loads a network; PyTorch eager does not).
pub(super) fn infer(network: BenchNetwork, batch: usize) -> Result<Ready> {
    let parameters = Parameters::new(Streams::new(0), DType::F32, &Device::Cpu);
    // Made once to draw the parameters, then again from tensors that leave no tape behind.
    drop(forward(network, parameters.var_builder())?);
    let tensors = parameters.snapshot()?.into_iter().collect();
    let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    // Leaves the parameters out that only training uses: the metric branch.
    let used = |name: &str| !(network == BenchNetwork::Expression && name.starts_with("metric"));
    let all: Vec<(String, Var)> = parameters.trainable();
    let count: usize = all
        .iter()
        .filter(|(name, _)| used(name))
        .map(|(_, var)| var.elem_count())
        .sum();
    drop((all, parameters));
    let forward = forward(network, vb)?;
    let x = images(network, batch)?;
    let shapes = dims(&forward(&x)?);
    Ok(Ready::new(move || {
        let start = Instant::now();
        let outputs = forward(&x)?;
        let time = start.elapsed();
        drop(outputs);
        Ok(time)
    })
    .fact("parameters", count)
    .fact("outputs", serde_json::json!(shapes)))
}
