//! Single operations, one pass at a time.

use std::time::Instant;

use candle::{Device, Tensor, Var};
use phiz_kernels::{
    Activation, Conv2dConfig, ConvTranspose2dConfig, avg_pool2d, batch_norm_train,
    conv_transpose2d, conv2d, cross_entropy, global_avg_pool, linear, max_pool2d, prelu, relu,
};

use super::{Ready, normal};
use crate::bench::cases::{Convolution, Layer, Pass};
use crate::{Error, Result};

/// An operation over its inputs, the first of which is the image or batch.
type Operation = Box<dyn Fn(&[Tensor]) -> candle::Result<Tensor>>;

/// Times one pass of `operation`. For a gradient the output is computed first, outside the time, from
/// inputs of which those at the places in `wanted` are variables. The ones that candle's walk starts from
/// are made by the peer beforehand, and by training for a single number alone: what they take is timed
/// by itself and taken off.
fn pass(operation: Operation, inputs: Vec<Tensor>, wanted: &[usize]) -> Result<Ready> {
    let shape = operation(&inputs)?.dims().to_vec();
    let ready = if wanted.is_empty() {
        Ready::new(move || {
            let start = Instant::now();
            let output = operation(&inputs)?;
            let time = start.elapsed();
            drop(output);
            Ok(time)
        })
    } else {
        let mut inputs = inputs;
        let mut variables = Vec::new();
        for &place in wanted {
            if let Some(input) = inputs.get_mut(place) {
                let variable = Var::from_tensor(input)?;
                *input = variable.as_tensor().clone();
                variables.push(variable);
            }
        }
        Ready::new(move || {
            let output = operation(&inputs)?;
            let start = Instant::now();
            drop(output.ones_like()?);
            let ones = start.elapsed();
            let start = Instant::now();
            let gradients = output.backward()?;
            let time = start.elapsed().saturating_sub(ones);
            for variable in &variables {
                if gradients.get(variable).is_none() {
                    return Err(Error::config("an input got no gradient"));
                }
            }
            Ok(time)
        })
    };
    Ok(ready.fact("output", serde_json::json!(shape)))
}

/// A convolution without bias.
pub(super) fn convolution(sizes: &Convolution, which: Pass) -> Result<Ready> {
    let &Convolution {
        batch,
        channels,
        image,
        outputs,
        kernel,
        stride,
        padding,
        groups,
        transposed,
    } = sizes;
    if groups == 0 {
        return Err(Error::config(format!("convolution {sizes:?}: no groups")));
    }
    let x = normal(1, (batch, channels, image, image))?;
    let (shape, operation): (_, Operation) = if transposed {
        let config = ConvTranspose2dConfig {
            padding,
            stride,
            groups,
            ..ConvTranspose2dConfig::default()
        };
        let operation = Box::new(move |inputs: &[Tensor]| match inputs {
            [x, weight] => conv_transpose2d(x, weight, None, config),
            _ => candle::bail!("a transposed convolution has two inputs"),
        });
        ((channels, outputs / groups, kernel, kernel), operation)
    } else {
        let config = Conv2dConfig {
            padding,
            stride,
            dilation: 1,
            groups,
        };
        let operation = Box::new(move |inputs: &[Tensor]| match inputs {
            [x, weight] => conv2d(x, weight, None, config),
            _ => candle::bail!("a convolution has two inputs"),
        });
        ((outputs, channels / groups, kernel, kernel), operation)
    };
    let weight = (normal(2, shape)? * 0.1)?;
    let wanted: &[usize] = match which {
        Pass::Forward => &[],
        Pass::Input => &[0],
        Pass::Weight => &[1],
        Pass::Backward => &[0, 1],
    };
    pass(operation, vec![x, weight], wanted)
}

/// Another operation.
pub(super) fn layer(layer: Layer, shape: &[usize], which: Pass) -> Result<Ready> {
    let x = normal(1, shape)?;
    let &[rows, channels, ..] = shape else {
        return Err(Error::config(format!(
            "layer: shape {shape:?} has no channels"
        )));
    };
    if !matches!(which, Pass::Forward | Pass::Backward) {
        return Err(Error::config(format!("layer: no pass {which:?}")));
    }
    let channel = |value: f64| Tensor::full(value as f32, channels, &Device::Cpu);
    let norm = |activation: fn(&Tensor) -> Activation<'_>| -> Operation {
        Box::new(move |inputs| match inputs {
            [x, weight, bias, slope] => {
                Ok(batch_norm_train(x, weight, bias, 1e-5, activation(slope))?.0)
            }
            _ => candle::bail!("batch norm has four inputs"),
        })
    };
    let affine = || -> candle::Result<Vec<Tensor>> {
        Ok(vec![x.clone(), channel(1.)?, channel(0.)?, channel(0.25)?])
    };
    let one = |op: fn(&Tensor) -> candle::Result<Tensor>| -> Operation {
        Box::new(move |inputs| match inputs {
            [x] => op(x),
            _ => candle::bail!("expected one input"),
        })
    };
    let (operation, inputs, variables): (Operation, Vec<Tensor>, &[usize]) = match layer {
        Layer::BatchNorm => (norm(|_| Activation::None), affine()?, &[0, 1, 2]),
        Layer::BatchNormRelu => (norm(|_| Activation::Relu), affine()?, &[0, 1, 2]),
        Layer::BatchNormPrelu => (
            norm(|slope| Activation::PRelu(slope)),
            affine()?,
            &[0, 1, 2, 3],
        ),
        Layer::Prelu => (
            Box::new(|inputs| match inputs {
                [x, slope] => prelu(x, slope),
                _ => candle::bail!("PReLU has two inputs"),
            }),
            vec![x, channel(0.25)?],
            &[0, 1],
        ),
        Layer::Relu => (one(relu), vec![x], &[0]),
        Layer::MaxPool2 => (one(|x| max_pool2d(x, 2, 2, 0)), vec![x], &[0]),
        Layer::MaxPool3 => (one(|x| max_pool2d(x, 3, 1, 1)), vec![x], &[0]),
        Layer::AvgPool2 => (one(|x| avg_pool2d(x, 2, 2, 0)), vec![x], &[0]),
        Layer::GlobalAvgPool => (one(global_avg_pool), vec![x], &[0]),
        Layer::Linear512 => {
            let weight = (normal(2, (512, channels))? * 0.01)?;
            let bias = Tensor::zeros_like(&weight.narrow(1, 0, 1)?.flatten_all()?)?;
            let operation: Operation = Box::new(|inputs| match inputs {
                [x, weight, bias] => linear(x, weight, Some(bias)),
                _ => candle::bail!("linear has three inputs"),
            });
            (operation, vec![x, weight, bias], &[0, 1, 2])
        }
        Layer::CrossEntropy => {
            let target =
                Tensor::from_iter((0..rows as u32).map(|i| i % channels as u32), &Device::Cpu)?;
            let operation: Operation = Box::new(move |inputs| match inputs {
                [x] => cross_entropy(x, &target, 0.),
                _ => candle::bail!("cross-entropy has one input"),
            });
            (operation, vec![x], &[0])
        }
    };
    let wanted = if which == Pass::Forward {
        &[]
    } else {
        variables
    };
    pass(operation, inputs, wanted)
}
