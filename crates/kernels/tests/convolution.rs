//! Convolutions large enough for every way of splitting the work, against plain loops in f64.

#![allow(clippy::unwrap_used)]

mod common;

use candle::{DType, Device, Result, Tensor, Var};
use phiz_kernels::{Conv2dConfig, conv2d, ops};

struct Case {
    input: [usize; 4],
    out: usize,
    kernel: (usize, usize),
    cfg: Conv2dConfig,
}

fn case(
    input: [usize; 4],
    out: usize,
    k: usize,
    padding: usize,
    stride: usize,
    groups: usize,
) -> Case {
    let cfg = Conv2dConfig {
        padding,
        stride,
        dilation: 1,
        groups,
    };
    Case {
        input,
        out,
        kernel: (k, k),
        cfg,
    }
}

/// Output, input gradient and weight gradient by definition.
fn reference(c: &Case, x: &[f64], w: &[f64], dy: Option<&[f64]>) -> [Vec<f64>; 3] {
    let [batch, cin, h, width] = c.input;
    let (kh, kw) = c.kernel;
    let (p, s, d) = (c.cfg.padding, c.cfg.stride, c.cfg.dilation);
    let (cin_g, cout_g) = (cin / c.cfg.groups, c.out / c.cfg.groups);
    let oh = (h + 2 * p - d * (kh - 1) - 1) / s + 1;
    let ow = (width + 2 * p - d * (kw - 1) - 1) / s + 1;
    let mut y = vec![0.0; batch * c.out * oh * ow];
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    for b in 0..batch {
        for o in 0..c.out {
            for i in 0..cin_g * kh * kw {
                let (ci, ky, kx) = (i / (kh * kw), i / kw % kh, i % kw);
                let channel = o / cout_g * cin_g + ci;
                let wi = o * cin_g * kh * kw + i;
                for oy in 0..oh {
                    let Some(iy) = (oy * s + ky * d).checked_sub(p).filter(|&v| v < h) else {
                        continue;
                    };
                    for ox in 0..ow {
                        let Some(ix) = (ox * s + kx * d).checked_sub(p).filter(|&v| v < width)
                        else {
                            continue;
                        };
                        let xi = ((b * cin + channel) * h + iy) * width + ix;
                        let yi = ((b * c.out + o) * oh + oy) * ow + ox;
                        y[yi] += w[wi] * x[xi];
                        if let Some(dy) = dy {
                            dx[xi] += w[wi] * dy[yi];
                            dw[wi] += x[xi] * dy[yi];
                        }
                    }
                }
            }
        }
    }
    [y, dx, dw]
}

/// Small integers: their products and sums are exact in f64.
fn draw(seed: usize, n: usize) -> Vec<f64> {
    (0..n)
        .map(|i| ((i * 7919 + seed * 104_729) % 1009 % 15) as f64 - 7.0)
        .collect()
}

fn compare(what: &str, ours: &Tensor, expected: &[f64], tolerance: f64) -> Result<()> {
    let ours = ours.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    assert_eq!(ours.len(), expected.len(), "{what}");
    // Minimal filtering rounds in proportion to the sums around a value, not to the value itself.
    let size = (expected.iter().map(|v| v * v).sum::<f64>() / expected.len() as f64).sqrt();
    for (i, (a, b)) in ours.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * b.abs().max(size).max(1.0),
            "{what} {i}: {a}, expected {b}"
        );
    }
    Ok(())
}

#[test]
fn every_split_of_the_work_agrees_with_the_definition() -> Result<()> {
    let mut cases = vec![
        // An image of several tiles; depth of several chunks.
        case([2, 70, 24, 31], 20, 3, 1, 1, 1),
        // Tiles over several small images, with a remainder.
        case([11, 40, 7, 7], 33, 3, 1, 1, 1),
        // One tiny image: output channels are split.
        case([1, 96, 4, 4], 64, 3, 1, 1, 1),
        // Strides, odd sizes, many columns.
        case([3, 6, 45, 37], 10, 3, 1, 2, 1),
        case([2, 3, 30, 29], 8, 7, 3, 2, 1),
        // Pointwise: several tiles, and tiles over images.
        case([2, 34, 23, 25], 18, 1, 0, 1, 1),
        case([9, 34, 5, 7], 18, 1, 0, 1, 1),
        case([2, 20, 28, 27], 12, 1, 0, 2, 1),
        // Groups with few and many channels.
        case([2, 24, 23, 23], 12, 3, 1, 1, 4),
        case([2, 160, 6, 6], 160, 3, 1, 1, 2),
        case([2, 12, 25, 22], 18, 3, 1, 2, 6),
        // Depthwise, all strides, a multiplier, a large kernel.
        case([2, 5, 35, 33], 5, 3, 1, 1, 5),
        case([2, 5, 35, 33], 10, 3, 1, 2, 5),
        case([2, 4, 20, 21], 4, 5, 2, 3, 4),
        case([1, 3, 19, 18], 3, 4, 0, 1, 3),
        case([1, 3, 17, 18], 3, 1, 0, 3, 3),
        // Depthwise with channels as lanes: several of sixteen and a rest, strides, large kernels, one pixel.
        case([3, 37, 9, 7], 37, 3, 1, 1, 37),
        case([2, 20, 13, 14], 20, 3, 1, 2, 20),
        case([2, 16, 7, 7], 16, 7, 0, 1, 16),
        case([2, 9, 11, 30], 9, 5, 1, 3, 9),
        case([2, 18, 5, 6], 18, 2, 3, 1, 18),
        // Pixels that no window sees: between the windows, and behind the last.
        case([2, 16, 9, 10], 16, 1, 0, 3, 16),
        case([2, 17, 9, 10], 17, 2, 0, 3, 17),
        // One window of the size of the plane.
        case([2, 3, 5, 5], 3, 5, 0, 1, 3),
        // Weights as products of rows: stems, groups of two, small and large 1 x 1 over several images.
        case([5, 1, 28, 28], 19, 5, 2, 2, 1),
        case([2, 3, 61, 33], 16, 3, 1, 1, 1),
        case([3, 10, 31, 17], 10, 3, 1, 1, 5),
        case([9, 37, 8, 8], 13, 1, 0, 1, 1),
        case([3, 130, 11, 9], 140, 1, 0, 1, 1),
        case([3, 130, 21, 19], 140, 1, 0, 2, 1),
        // Few output channels.
        case([3, 16, 30, 31], 3, 3, 1, 1, 1),
        case([3, 12, 26, 27], 1, 3, 1, 1, 1),
    ];
    let dilated = Conv2dConfig {
        padding: 2,
        stride: 2,
        dilation: 3,
        groups: 2,
    };
    cases.push(Case {
        input: [2, 6, 33, 31],
        out: 4,
        kernel: (3, 2),
        cfg: dilated,
    });
    for dtype in [DType::F32, DType::F64] {
        let tolerance = if dtype == DType::F32 { 2e-5 } else { 1e-12 };
        for c in &cases {
            let what = format!(
                "{:?} -> {} {:?} {:?} {dtype:?}",
                c.input, c.out, c.kernel, c.cfg
            );
            let (kh, kw) = c.kernel;
            let w_shape = (c.out, c.input[1] / c.cfg.groups, kh, kw);
            let x = draw(1, c.input.iter().product());
            let w = draw(2, w_shape.0 * w_shape.1 * kh * kw);
            let xv = Var::from_tensor(
                &Tensor::from_vec(x.clone(), &c.input[..], &Device::Cpu)?.to_dtype(dtype)?,
            )?;
            let wv = Var::from_tensor(
                &Tensor::from_vec(w.clone(), w_shape, &Device::Cpu)?.to_dtype(dtype)?,
            )?;
            let y = conv2d(&xv, &wv, None, c.cfg)?;
            let dy = draw(3, y.elem_count());
            let cotangent =
                Tensor::from_vec(dy.clone(), y.shape(), &Device::Cpu)?.to_dtype(dtype)?;
            let grads = y.mul(&cotangent)?.sum_all()?.backward()?;
            let [ey, ex, ew] = reference(c, &x, &w, Some(&dy));
            compare(&format!("{what} output"), &y, &ey, tolerance)?;
            compare(
                &format!("{what} input gradient"),
                grads.get(&xv).unwrap(),
                &ex,
                tolerance,
            )?;
            compare(
                &format!("{what} weight gradient"),
                grads.get(&wv).unwrap(),
                &ew,
                tolerance,
            )?;
        }
    }
    Ok(())
}

#[test]
fn untracked_arguments_get_no_gradient() -> Result<()> {
    if ops::chosen()? == ops::Ops::Candle {
        // candle's own convolution has gradients for all that it was given.
        return Ok(());
    }
    let x = Tensor::randn(0f32, 1.0, (2, 3, 8, 8), &Device::Cpu)?;
    let w = Var::randn(0f32, 1.0, (4, 3, 3, 3), &Device::Cpu)?;
    let grads = conv2d(&x, &w, None, Conv2dConfig::default())?
        .sum_all()?
        .backward()?;
    assert!(grads.get(&x).is_none() && grads.get(&w).is_some());
    let (x, w) = (Var::from_tensor(&x)?, w.as_detached_tensor());
    let grads = conv2d(&x, &w, None, Conv2dConfig::default())?
        .sum_all()?
        .backward()?;
    assert!(grads.get(&x).is_some() && grads.get(&w).is_none());
    Ok(())
}

#[test]
fn same_bits_every_time() -> Result<()> {
    let x = Var::randn(0f32, 1.0, (5, 24, 29, 29), &Device::Cpu)?;
    let w = Var::randn(0f32, 1.0, (32, 24, 3, 3), &Device::Cpu)?;
    let run = || -> Result<(Vec<f32>, Vec<f32>, Vec<f32>)> {
        let y = conv2d(
            &x,
            &w,
            None,
            Conv2dConfig {
                padding: 1,
                ..Default::default()
            },
        )?;
        let grads = y.sqr()?.sum_all()?.backward()?;
        let flat = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
        Ok((
            flat(&y)?,
            flat(grads.get(&x).unwrap())?,
            flat(grads.get(&w).unwrap())?,
        ))
    };
    let first = run()?;
    for _ in 0..5 {
        assert!(run()? == first);
    }
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
