//! Programs against one operation after the other.

use super::*;
use crate::layers::Conv2d;
use crate::{Activation, Conv2dConfig, avg_pool2d, conv2d_act, max_pool2d};
use candle::{Device, Result, Tensor};

fn rand(shape: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu)
}

fn close(ours: &Tensor, theirs: &Tensor, what: &str) -> Result<()> {
    assert_eq!(ours.dims(), theirs.dims(), "{what}");
    let size = theirs.sqr()?.mean_all()?.to_scalar::<f32>()?.sqrt();
    let off = (ours - theirs)?.abs()?.max_all()?.to_scalar::<f32>()? / size;
    assert!(off < 1e-5, "{what}: {off}");
    Ok(())
}

fn layer(
    from: usize,
    to: usize,
    kernel: (usize, usize),
    cfg: Conv2dConfig,
    bias: bool,
) -> Result<Conv2d> {
    let bias = if bias { Some(rand(&[to])?) } else { None };
    Ok(Conv2d::new(
        rand(&[to, from, kernel.0, kernel.1])?,
        bias,
        cfg,
    ))
}

#[test]
fn convolutions_of_many_forms_agree() -> Result<()> {
    // Channels from and to, kernel, padding, stride, dilation, side.
    let cases = [
        (3, 16, (3, 3), 1, 1, 1, (9, 12)),
        (16, 24, (1, 1), 0, 1, 1, (5, 5)),
        (24, 80, (3, 3), 1, 2, 1, (11, 8)),
        (5, 70, (5, 2), 2, 3, 1, (13, 10)),
        (17, 33, (3, 3), 2, 1, 2, (8, 8)),
        (1, 1, (7, 7), 3, 1, 1, (7, 7)),
        (20, 130, (2, 3), 0, 2, 1, (6, 7)),
    ];
    for (from, to, kernel, padding, stride, dilation, (h, w)) in cases {
        let cfg = Conv2dConfig {
            padding,
            stride,
            dilation,
            groups: 1,
        };
        let slope = rand(&[to])?;
        for (batch, bias) in [(1, true), (5, false)] {
            let conv = layer(from, to, kernel, cfg, bias)?;
            let x = rand(&[batch, from, h, w])?;
            for act in [
                Activation::None,
                Activation::Relu,
                Activation::PRelu(&slope),
            ] {
                let theirs = conv2d_act(&x, conv.weight(), conv.bias(), None, cfg, act)?;
                let mut network = Builder::new(from, h, w)?;
                let out = network.map(to, theirs.dim(2)?, theirs.dim(3)?)?;
                network.conv(network.input(), &conv, act, out)?;
                let ours = network.finish(out)?.run(&x)?;
                close(&ours, &theirs, &format!("{cfg:?} {act:?} {kernel:?}"))?;
            }
        }
    }
    Ok(())
}

/// Branches into one map, a branch that reads some channels only, pooling with and without padding,
/// memory used again, and the same bits for every batch.
#[test]
fn branches_pools_and_memory_agree() -> Result<()> {
    let same = Conv2dConfig {
        padding: 1,
        ..Default::default()
    };
    let plain = Conv2dConfig::default();
    let first = layer(3, 20, (3, 3), same, true)?;
    let reduce = layer(20, 27, (1, 1), plain, true)?;
    let left = layer(20, 9, (1, 1), plain, true)?;
    let right = layer(12, 21, (3, 3), same, true)?;
    let last = layer(45, 40, (3, 3), same, true)?;

    let mut network = Builder::new(3, 40, 36)?;
    let maps = network.map(20, 40, 36)?;
    network.conv(network.input(), &first, Activation::Relu, maps)?;
    let small = network.map(20, 20, 18)?;
    network.max_pool(maps, 2, 2, 0, small)?;
    let mixed = network.map(27, 20, 18)?;
    network.conv(small, &reduce, Activation::Relu, mixed)?;
    let joined = network.map(45, 20, 18)?;
    network.conv(small, &left, Activation::Relu, joined.narrow(0, 9)?)?;
    let branch = joined.narrow(9, 21)?;
    network.conv(mixed.narrow(0, 12)?, &right, Activation::Relu, branch)?;
    network.max_pool(mixed.narrow(12, 15)?, 3, 1, 1, joined.narrow(30, 15)?)?;
    let wide = network.map(40, 20, 18)?;
    network.conv(joined, &last, Activation::None, wide)?;
    let out = network.map(40, 10, 9)?;
    network.avg_pool(wide, 2, 2, out)?;
    let program = network.finish(out)?;

    let x = rand(&[7, 3, 40, 36])?;
    let relu = |x: &Tensor, conv: &Conv2d| {
        conv2d_act(
            x,
            conv.weight(),
            conv.bias(),
            None,
            *conv.config(),
            Activation::Relu,
        )
    };
    let small = max_pool2d(&relu(&x, &first)?, 2, 2, 0)?;
    let mixed = relu(&small, &reduce)?;
    let joined = Tensor::cat(
        &[
            relu(&small, &left)?,
            relu(&mixed.narrow(1, 0, 12)?, &right)?,
            max_pool2d(&mixed.narrow(1, 12, 15)?, 3, 1, 1)?,
        ],
        1,
    )?;
    let wide = conv2d_act(
        &joined,
        last.weight(),
        last.bias(),
        None,
        same,
        Activation::None,
    )?;
    let theirs = avg_pool2d(&wide, 2, 2, 0)?;
    let ours = program.run(&x)?;
    close(&ours, &theirs, "whole network")?;
    for image in 0..7 {
        let alone = program.run(&x.narrow(0, image, 1)?)?;
        let off = (alone - ours.narrow(0, image, 1)?)?.abs()?.max_all()?;
        assert_eq!(off.to_scalar::<f32>()?, 0.0, "image {image} alone");
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_an_error() -> Result<()> {
    let conv = layer(3, 8, (3, 3), Conv2dConfig::default(), true)?;
    let mut network = Builder::new(3, 8, 8)?;
    let input = network.input();
    let good = network.map(8, 6, 6)?;
    let tall = network.map(8, 7, 6)?;
    let few = network.map(7, 6, 6)?;
    let act = Activation::None;
    let message = |r: Result<()>| r.unwrap_err().to_string();
    assert!(message(network.conv(input, &conv, act, tall)).contains("its map is 7 x 6"));
    assert!(message(network.conv(input, &conv, act, few)).contains("3 channels to 7"));
    assert!(message(network.conv(good, &conv, act, tall)).contains("8 channels"));
    assert!(message(network.max_pool(good, 1, 1, 0, tall)).contains("Pool"));
    let back = layer(
        8,
        3,
        (3, 3),
        Conv2dConfig {
            padding: 2,
            ..Default::default()
        },
        true,
    )?;
    assert!(message(network.conv(good, &back, act, input)).contains("images"));
    assert!(network.map(0, 1, 1).is_err());
    assert!(network.map(usize::MAX, 2, 2).is_err());
    assert!(good.narrow(7, 2).is_err());
    assert!(good.narrow(usize::MAX, 2).is_err());
    assert!(network.finish(good).is_err(), "nothing was written");
    let wide = layer(3, 8, (3, 3), Conv2dConfig::default(), false)?;
    let doubles = Conv2d::new(
        wide.weight().to_dtype(candle::DType::F64)?,
        None,
        *wide.config(),
    );
    assert!(message(network.conv(input, &doubles, act, good)).contains("F64"));
    network.conv(input, &conv, act, good)?;
    let mut other = Builder::new(3, 8, 8)?;
    assert!(message(other.max_pool(good, 1, 1, 0, good)).contains("another network"));
    let program = network.finish(good)?;
    for shape in [&[1usize, 3, 8, 7][..], &[3, 8, 8], &[0, 3, 8, 8]] {
        let x = Tensor::zeros(shape, candle::DType::F32, &Device::Cpu)?;
        assert!(
            program
                .run(&x)
                .unwrap_err()
                .to_string()
                .contains("(B, 3, 8, 8)")
        );
    }
    let x = Tensor::zeros((1, 3, 8, 8), candle::DType::F64, &Device::Cpu)?;
    assert!(program.run(&x).unwrap_err().to_string().contains("F64"));
    Ok(())
}
