//! Transposed convolution and resizing: gradients by central differences, sizes large enough for every
//! way of splitting the work, and errors.

#![allow(clippy::unwrap_used)]

mod common;

use candle::{DType, Device, Result, Tensor, Var};
use phiz_kernels::gradcheck::check;
use phiz_kernels::{self as k, ConvTranspose2dConfig, layers};

/// Small integers, whose products and sums are exact in f64 and nearly so in f32.
fn draw(seed: usize, shape: &[usize]) -> Tensor {
    let n = shape.iter().product::<usize>();
    let data: Vec<f64> = (0..n)
        .map(|i| ((i * 7919 + seed * 104_729) % 1009 % 15) as f64 - 7.0)
        .collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

fn score(y: &Tensor) -> Result<Tensor> {
    y.mul(&(draw(5, y.dims()) / 8.0)?)?.sum_all()
}

fn config(
    stride: usize,
    padding: usize,
    output_padding: usize,
    dilation: usize,
    groups: usize,
) -> ConvTranspose2dConfig {
    ConvTranspose2dConfig {
        padding,
        output_padding,
        stride,
        dilation,
        groups,
    }
}

#[test]
fn gradients_by_central_differences() -> Result<()> {
    for (cfg, (kh, kw)) in [
        (config(1, 0, 0, 1, 1), (3, 3)),
        (config(2, 1, 1, 1, 1), (3, 3)),
        (config(2, 0, 0, 1, 2), (2, 3)),
        (config(2, 2, 1, 2, 4), (3, 3)),
        (config(1, 1, 2, 3, 1), (2, 3)),
    ] {
        let inputs = [
            (draw(1, &[2, 4, 3, 4]) / 8.0)?,
            (draw(2, &[4, 2, kh, kw]) / 8.0)?,
            (draw(3, &[2 * cfg.groups]) / 8.0)?,
        ];
        let f = |v: &[Tensor]| score(&k::conv_transpose2d(&v[0], &v[1], Some(&v[2]), cfg)?);
        check(f, &inputs, 1e-7)?;
    }
    let maps = [(draw(4, &[2, 2, 4, 3]) / 8.0)?];
    for size in [(8, 6), (3, 7), (1, 2)] {
        check(|v| score(&k::upsample_nearest2d(&v[0], size)?), &maps, 1e-7)?;
        for align in [false, true] {
            let f = |v: &[Tensor]| score(&k::upsample_bilinear2d(&v[0], size, align)?);
            check(f, &maps, 1e-7)?;
        }
    }
    Ok(())
}

/// Output and the three gradients by definition.
fn reference(
    cfg: ConvTranspose2dConfig,
    (x, w, b): (&Tensor, &Tensor, &Tensor),
    dims: &[usize],
    dy: &[f64],
) -> Result<[Vec<f64>; 4]> {
    let flat = |t: &Tensor| t.flatten_all()?.to_vec1::<f64>();
    let ((batch, cin, h, width), (_, per_group, kh, kw)) = (x.dims4()?, w.dims4()?);
    let (x, w, b) = (flat(x)?, flat(w)?, flat(b)?);
    let (cout, oh, ow) = (dims[1], dims[2], dims[3]);
    let per_input = cin / cfg.groups;
    let mut y: Vec<f64> = (0..batch * cout * oh * ow)
        .map(|i| b[i / (oh * ow) % cout])
        .collect();
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    let mut db = vec![0.0; cout];
    for (i, dy) in dy.iter().enumerate() {
        db[i / (oh * ow) % cout] += dy;
    }
    for (xi, _) in x.iter().enumerate() {
        let (iy, ix) = (xi / width % h, xi % width);
        let (n, c) = (xi / (h * width) / cin, xi / (h * width) % cin);
        for t in 0..per_group * kh * kw {
            let (o, ky, kx) = (t / (kh * kw), t / kw % kh, t % kw);
            let place = |i: usize, tap: usize, size: usize| {
                (i * cfg.stride + tap * cfg.dilation)
                    .checked_sub(cfg.padding)
                    .filter(|&at| at < size)
            };
            let (Some(oy), Some(ox)) = (place(iy, ky, oh), place(ix, kx, ow)) else {
                continue;
            };
            let channel = c / per_input * per_group + o;
            let yi = ((n * cout + channel) * oh + oy) * ow + ox;
            let wi = c * per_group * kh * kw + t;
            y[yi] += w[wi] * x[xi];
            dx[xi] += w[wi] * dy[yi];
            dw[wi] += x[xi] * dy[yi];
        }
    }
    Ok([y, dx, dw, db])
}

fn compare(what: &str, ours: &Tensor, expected: &[f64]) -> Result<()> {
    let ours = ours.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    assert_eq!(ours.len(), expected.len(), "{what}");
    // Minimal filtering in f32 rounds in proportion to the sums around a value, not to the value itself.
    let size = (expected.iter().map(|v| v * v).sum::<f64>() / expected.len() as f64).sqrt();
    for (i, (a, b)) in ours.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= 2e-5 * b.abs().max(size).max(1.0),
            "{what} {i}: {a}, expected {b}"
        );
    }
    Ok(())
}

#[test]
fn every_split_of_the_work_agrees_with_the_definition() -> Result<()> {
    let cases = [
        // input, output channels, kernel, options
        ([2, 40, 17, 19], 24, 2, config(2, 0, 0, 1, 1)),
        ([3, 24, 9, 11], 20, 4, config(2, 1, 0, 1, 1)),
        ([2, 33, 23, 25], 18, 3, config(1, 1, 0, 1, 1)),
        ([5, 16, 7, 7], 12, 3, config(2, 1, 1, 1, 4)),
        ([1, 12, 13, 14], 12, 3, config(2, 1, 1, 1, 12)),
        ([1, 64, 4, 4], 48, 5, config(3, 2, 1, 1, 1)),
        ([2, 10, 21, 20], 6, 1, config(1, 0, 0, 1, 2)),
        ([1, 6, 12, 13], 4, 3, config(2, 3, 3, 4, 2)),
    ];
    for dtype in [DType::F32, DType::F64] {
        for (input, out, kernel, cfg) in cases {
            let what = format!("{input:?} -> {out}, kernel {kernel}, {cfg:?}, {dtype:?}");
            let x = draw(1, &input);
            let w = draw(2, &[input[1], out / cfg.groups, kernel, kernel]);
            let b = draw(3, &[out]);
            let vars = [&x, &w, &b].map(|t| Var::from_tensor(&t.to_dtype(dtype).unwrap()).unwrap());
            let y = k::conv_transpose2d(&vars[0], &vars[1], Some(&vars[2]), cfg)?;
            let dy = draw(4, y.dims());
            let grads = y.mul(&dy.to_dtype(dtype)?)?.sum_all()?.backward()?;
            let dy = dy.flatten_all()?.to_vec1::<f64>()?;
            let [ey, ex, ew, eb] = reference(cfg, (&x, &w, &b), y.dims(), &dy)?;
            compare(&format!("{what}: output"), &y, &ey)?;
            for (name, var, expected) in [
                ("input", &vars[0], ex),
                ("weight", &vars[1], ew),
                ("bias", &vars[2], eb),
            ] {
                let what = format!("{what}: gradient of {name}");
                compare(&what, grads.get(var).unwrap(), &expected)?;
            }
        }
    }
    Ok(())
}

/// The call fails and its message names `part`.
fn fails<T>(result: Result<T>, part: &str) {
    match result {
        Ok(_) => panic!("expected an error about {part:?}"),
        Err(error) => assert!(error.to_string().contains(part), "{part:?} not in {error}"),
    }
}

#[test]
fn bad_input_is_an_error() {
    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
    let x = ones(&[1, 4, 5, 5]);
    let run = |x: &Tensor, w: &[usize], cfg| k::conv_transpose2d(x, &ones(w), None, cfg);
    let plain = ConvTranspose2dConfig::default();
    fails(run(&x, &[3, 2, 3, 3], plain), "channel mismatch");
    fails(
        run(&x, &[4, 2, 3, 3], config(1, 0, 0, 1, 3)),
        "do not divide",
    );
    for zero in [
        config(0, 0, 0, 1, 1),
        config(1, 0, 0, 0, 1),
        config(1, 0, 0, 1, 0),
    ] {
        fails(run(&x, &[4, 2, 3, 3], zero), "must be positive");
    }
    fails(
        run(&x, &[4, 2, 3, 3], config(2, 0, 2, 1, 1)),
        "output padding 2",
    );
    fails(
        run(&x, &[4, 2, 3, 3], config(1, 4, 0, 1, 1)),
        "nothing is left of height 5",
    );
    let huge = usize::MAX / 2;
    for cfg in [
        config(huge, 0, 0, 1, 1),
        config(1, 0, 0, huge, 1),
        config(1, huge, 0, 1, 1),
    ] {
        fails(run(&x, &[4, 2, 3, 3], cfg), "nothing is left");
    }
    fails(
        run(&x, &[4, 2, 3, 3], config(1 << 40, 0, 0, 1, 1)),
        "too large",
    );
    fails(run(&x, &[4, 2, 0, 3], plain), "empty");
    fails(run(&ones(&[0, 4, 5, 5]), &[4, 2, 3, 3], plain), "empty");
    fails(
        run(&ones(&[4, 5, 5]), &[4, 2, 3, 3], plain),
        "expected input",
    );
    let w = ones(&[4, 2, 3, 3]);
    fails(
        k::conv_transpose2d(&x, &w, Some(&ones(&[3])), plain),
        "bias",
    );
    let integers = x.to_dtype(DType::U32).unwrap();
    fails(
        k::conv_transpose2d(&integers, &w, None, plain),
        "unsupported dtype",
    );
    let double = w.to_dtype(DType::F64).unwrap();
    fails(
        k::conv_transpose2d(&x, &double, None, plain),
        "dtype mismatch",
    );

    fails(k::upsample_nearest2d(&x, (0, 3)), "cannot resize");
    fails(k::upsample_nearest2d(&x, (usize::MAX, 3)), "cannot resize");
    fails(k::upsample_bilinear2d(&x, (3, 0), true), "cannot resize");
    fails(
        k::upsample_bilinear2d(&ones(&[5, 5]), (3, 3), true),
        "expected input",
    );
    fails(
        k::upsample_bilinear2d(&ones(&[1, 2, 0, 5]), (3, 3), true),
        "empty",
    );
    fails(
        k::upsample_nearest2d(&integers, (3, 3)),
        "unsupported dtype",
    );
    for bad in [0.0, -1.0, 0.1, f64::NAN, f64::INFINITY] {
        fails(k::upsample_nearest2d_scale(&x, (bad, 1.0)), "cannot scale");
        fails(
            k::upsample_bilinear2d_scale(&x, (1.0, bad), false),
            "cannot scale",
        );
    }
}

#[test]
fn the_layer_has_pytorch_names_and_every_parameter_a_gradient() -> Result<()> {
    use candle_nn::{Module, VarBuilder, VarMap};
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let layer = layers::conv_transpose2d(4, 6, 2, config(2, 0, 0, 1, 2), vb.pp("up"))?;
    assert_eq!(layer.weight().dims(), [4, 3, 2, 2]);
    let bound = 1.0 / 12f32.sqrt();
    let largest = layer.weight().abs()?.max_all()?.to_scalar::<f32>()?;
    assert!(largest <= bound && largest > 0.5 * bound, "{largest}");
    let y = layer.forward(&draw(1, &[2, 4, 3, 3]).to_dtype(DType::F32)?)?;
    assert_eq!(y.dims(), [2, 6, 6, 6]);
    let grads = y.sqr()?.sum_all()?.backward()?;
    let data = vars.data().lock().unwrap();
    let mut names: Vec<_> = data.keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["up.bias", "up.weight"]);
    assert!(data.values().all(|v| grads.get(v).is_some()));
    let fails = layers::conv_transpose2d_no_bias(4, 5, 2, config(2, 0, 0, 1, 2), vb.pp("no"));
    assert!(fails.unwrap_err().to_string().contains("do not divide"));
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
