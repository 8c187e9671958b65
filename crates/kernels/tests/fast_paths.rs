//! Vectorised max pooling against a search of every window; depthwise convolution of every width against
//! f64; the fused convolution and norm against the two ops one after the other.

mod common;

use candle::{DType, Device, Result, Tensor, Var};
use phiz_kernels::{
    Activation, Conv2dConfig, ConvTranspose2dConfig, batch_norm_train, conv_transpose2d,
    conv_transpose2d_batch_norm_train, conv2d, conv2d_batch_norm_train, max_pool2d, ops,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Values and gradient (of the sum weighted by `dy`) of pooling one plane, pixel by pixel.
fn search(
    (h, w): (usize, usize),
    (k, s, p): (usize, usize, usize),
    x: &[f32],
    dy: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let (oh, ow) = ((h + 2 * p - k) / s + 1, (w + 2 * p - k) / s + 1);
    let (mut out, mut dx) = (vec![], vec![0f32; h * w]);
    for oy in 0..oh {
        for ox in 0..ow {
            let mut best: Option<usize> = None;
            for (y, c) in (0..k).flat_map(|i| (0..k).map(move |j| (oy * s + i, ox * s + j))) {
                if (p..h + p).contains(&y) && (p..w + p).contains(&c) {
                    let at = (y - p) * w + c - p;
                    let wins = |b: usize| x[at] > x[b] || (x[at].is_nan() && !x[b].is_nan());
                    if best.is_none_or(wins) {
                        best = Some(at);
                    }
                }
            }
            let best = best.expect("every window holds a pixel");
            dx[best] += dy[out.len()];
            out.push(x[best]);
        }
    }
    (out, dx)
}

#[test]
fn max_pool_agrees_with_a_search() -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for round in 0..300 {
        let k = if round % 50 == 0 {
            17
        } else {
            rng.random_range(1..5)
        };
        let (s, p) = (rng.random_range(1..4), rng.random_range(0..=k / 2));
        let (h, w) = (rng.random_range(k..k + 20), rng.random_range(k..k + 20));
        // Few different values, so that ties are common; now and then infinite or not a number.
        // By candle's operations the gradient of a window of minus infinity may go to the padding.
        let low = match ops::chosen()? {
            ops::Ops::Phiz => f32::NEG_INFINITY,
            _ => f32::MIN,
        };
        let special = [low, f32::INFINITY, f32::NAN];
        let x: Vec<f32> = (0..2 * h * w)
            .map(|_| match rng.random_range(0..100) {
                i @ 0..3 if round % 3 == 0 => special[i],
                _ if round % 7 == 0 => low,
                i => (i % 5) as f32,
            })
            .collect();
        let var = Var::from_vec(x.clone(), (2, 1, h, w), &Device::Cpu)?;
        let y = max_pool2d(&var, k, s, p)?;
        let dy: Vec<f32> = (0..y.elem_count())
            .map(|_| rng.random_range(0..9) as f32)
            .collect();
        let weight = Tensor::from_vec(dy.clone(), y.shape(), &Device::Cpu)?;
        let grads = (&y * &weight)?.sum_all()?.backward()?;
        let dx = grads.get(&var).unwrap().flatten_all()?.to_vec1::<f32>()?;
        let values = y.flatten_all()?.to_vec1::<f32>()?;
        let untracked = max_pool2d(&var.detach(), k, s, p)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let per = values.len() / 2;
        for plane in 0..2 {
            let pixels = plane * h * w..(plane + 1) * h * w;
            let outs = plane * per..(plane + 1) * per;
            let (want, want_dx) = search((h, w), (k, s, p), &x[pixels.clone()], &dy[outs.clone()]);
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            let case = format!("kernel {k}, stride {s}, padding {p}, {h} x {w}");
            assert_eq!(bits(&values[outs.clone()]), bits(&want), "{case}");
            assert_eq!(bits(&untracked[outs]), bits(&want), "{case}");
            assert_eq!(dx[pixels], want_dx[..], "{case}");
        }
    }
    Ok(())
}

/// Narrow maps, wide ones and those in between take different loops in f32; f64 has one that is plain.
#[test]
fn depthwise_convolutions_of_every_width_agree_with_f64() -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for width in (3..80).chain([129, 512]) {
        let (height, padding) = (rng.random_range(3..9), rng.random_range(0..4));
        let (batch, channels) = (rng.random_range(1..3), rng.random_range(2..19));
        let config = Conv2dConfig {
            padding,
            groups: channels,
            ..Conv2dConfig::default()
        };
        let random = |shape: &[usize]| Tensor::randn(0f32, 1., shape, &Device::Cpu);
        let x = random(&[batch, channels, height, width])?;
        let (weight, bias) = (random(&[channels, 1, 3, 3])?, random(&[channels])?);
        let dy = random(conv2d(&x, &weight, None, config)?.dims())?;
        let results = |dtype: DType| -> Result<Vec<Vec<f64>>> {
            let x = Var::from_tensor(&x.to_dtype(dtype)?)?;
            let weight = Var::from_tensor(&weight.to_dtype(dtype)?)?;
            let y = conv2d(&x, &weight, Some(&bias.to_dtype(dtype)?), config)?;
            let gradients = (&y * &dy.to_dtype(dtype)?)?.sum_all()?.backward()?;
            let tensors = [Some(&y), gradients.get(&x), gradients.get(&weight)];
            let values = |t: Option<&Tensor>| {
                let t = t.expect("x and weight have gradients");
                t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()
            };
            tensors.into_iter().map(values).collect()
        };
        let (singles, doubles) = (results(DType::F32)?, results(DType::F64)?);
        for (pass, (a, b)) in singles.iter().zip(&doubles).enumerate() {
            let largest = b.iter().fold(1f64, |m, v| m.max(v.abs()));
            let worst = a.iter().zip(b).fold(0f64, |m, (a, b)| m.max((a - b).abs()));
            assert!(
                worst < 1e-5 * largest,
                "{height} x {width}, padding {padding}, {channels} channels, pass {pass}: off by {worst}"
            );
        }
    }
    Ok(())
}

#[test]
fn fused_convolution_and_norm_agree_with_two_ops() -> Result<()> {
    let cfg = |padding, stride, groups| Conv2dConfig {
        padding,
        stride,
        groups,
        dilation: 1,
    };
    for (channels, kernel, cfg) in [
        ((3, 5), 3, cfg(1, 1, 1)),
        ((4, 6), 1, cfg(0, 1, 2)),
        ((2, 3), 5, cfg(2, 2, 1)),
        ((4, 4), 3, cfg(1, 1, 4)),
    ] {
        for kind in 0..3 {
            let random =
                |shape: &[usize]| Var::from_tensor(&Tensor::randn(0f64, 1., shape, &Device::Cpu)?);
            let (from, to) = channels;
            let x = random(&[3, from, 9, 8])?;
            let k = random(&[to, from / cfg.groups, kernel, kernel])?;
            let (weight, bias, slope) = (random(&[to])?, random(&[to])?, random(&[to])?);
            let act = match kind {
                0 => Activation::None,
                1 => Activation::Relu,
                _ => Activation::PRelu(&slope),
            };
            let (one, one_stats) =
                conv2d_batch_norm_train(&x, &k, cfg, (&weight, &bias), 1e-5, act)?;
            let (two, two_stats) =
                batch_norm_train(&conv2d(&x, &k, None, cfg)?, &weight, &bias, 1e-5, act)?;
            let dy = Tensor::randn(0f64, 1., one.shape(), &Device::Cpu)?;
            let gradients = |y: &Tensor| (y * &dy)?.sum_all()?.backward();
            let (a, b) = (gradients(&one)?, gradients(&two)?);
            let mut pairs = vec![
                (one, two),
                (one_stats.mean, two_stats.mean),
                (one_stats.var, two_stats.var),
            ];
            for v in [&x, &k, &weight, &bias] {
                pairs.push((a.get(v).unwrap().clone(), b.get(v).unwrap().clone()));
            }
            if kind == 2 {
                pairs.push((
                    a.get(&slope).unwrap().clone(),
                    b.get(&slope).unwrap().clone(),
                ));
            }
            for (i, (a, b)) in pairs.into_iter().enumerate() {
                assert_eq!(a.dtype(), DType::F64);
                let worst = (a - b)?.abs()?.max_all()?.to_scalar::<f64>()?;
                assert!(
                    worst < 1e-12,
                    "{cfg:?}, activation {kind}, pair {i}: {worst}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn fused_transposed_convolution_and_norm_agree_with_two_ops() -> Result<()> {
    for (kernel, padding, stride, output_padding, groups) in [
        (4, 1, 2, 0, 1),
        (3, 1, 2, 1, 2),
        (2, 0, 1, 1, 1),
        (3, 0, 1, 0, 2),
    ] {
        let cfg = ConvTranspose2dConfig {
            padding,
            output_padding,
            stride,
            groups,
            dilation: if output_padding == stride { 2 } else { 1 },
        };
        let random =
            |shape: &[usize]| Var::from_tensor(&Tensor::randn(0f64, 1., shape, &Device::Cpu)?);
        let (x, k) = (
            random(&[3, 4, 5, 6])?,
            random(&[4, 6 / groups, kernel, kernel])?,
        );
        let (weight, bias, slope) = (random(&[6])?, random(&[6])?, random(&[6])?);
        let (act, affine) = (
            Activation::PRelu(&slope),
            (weight.as_tensor(), bias.as_tensor()),
        );
        let (one, one_stats) = conv_transpose2d_batch_norm_train(&x, &k, cfg, affine, 1e-5, act)?;
        let maps = conv_transpose2d(&x, &k, None, cfg)?;
        let (two, two_stats) = batch_norm_train(&maps, &weight, &bias, 1e-5, act)?;
        let dy = Tensor::randn(0f64, 1., one.shape(), &Device::Cpu)?;
        let gradients = |y: &Tensor| (y * &dy)?.sum_all()?.backward();
        let (a, b) = (gradients(&one)?, gradients(&two)?);
        let mut pairs = vec![
            (one, two),
            (one_stats.mean, two_stats.mean),
            (one_stats.var, two_stats.var),
        ];
        for v in [&x, &k, &weight, &bias, &slope] {
            pairs.push((a.get(v).unwrap().clone(), b.get(v).unwrap().clone()));
        }
        for (i, (a, b)) in pairs.into_iter().enumerate() {
            let worst = (a - b)?.abs()?.max_all()?.to_scalar::<f64>()?;
            assert!(worst < 1e-11, "{cfg:?}, pair {i}: {worst}");
        }
    }
    Ok(())
}

#[test]
fn fused_convolution_and_norm_name_what_is_wrong() -> Result<()> {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
    let (x, k) = (zeros(&[2, 3, 8, 8])?, zeros(&[4, 3, 3, 3])?);
    let run = |x: &Tensor, k: &Tensor, n: usize| {
        let (weight, bias) = (zeros(&[n])?, zeros(&[n])?);
        let cfg = Conv2dConfig::default();
        conv2d_batch_norm_train(x, k, cfg, (&weight, &bias), 1e-5, Activation::None)
    };
    assert!(run(&x, &k, 4).is_ok());
    let error = run(&x, &k, 3).unwrap_err().to_string();
    assert!(error.contains("4 channels of [2, 4, 6, 6]"), "{error}");
    let error = run(&x, &zeros(&[4, 2, 3, 3])?, 4).unwrap_err().to_string();
    assert!(error.contains("channel mismatch"), "{error}");
    let error = run(&zeros(&[1, 3, 3, 3])?, &k, 4).unwrap_err().to_string();
    assert!(error.contains("more than one value"), "{error}");
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
