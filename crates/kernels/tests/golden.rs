//! Values and gradients against PyTorch in f64, on contiguous and strided inputs, and in f32.

#![allow(clippy::unwrap_used)]

mod common;

use candle::{DType, Device, Result, Tensor, Var};
use phiz_kernels::{
    self as k, Activation, Conv2dConfig, ConvTranspose2dConfig, Pool2dConfig, pairwise, safe,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// The files that the scripts in the fixtures' folder wrote.
const FILES: [&str; 3] = ["golden.json", "maps.json", "ops.json"];

fn cases() -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/kernels/");
    FILES
        .into_iter()
        .flat_map(|file| {
            let text = std::fs::read_to_string(format!("{folder}{file}")).unwrap();
            serde_json::from_str::<Vec<Value>>(&text).unwrap()
        })
        .collect()
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect()
}

fn tensor(v: &Value) -> Result<Tensor> {
    let shape: Vec<usize> = numbers(&v["shape"])
        .into_iter()
        .map(|d| d as usize)
        .collect();
    Tensor::from_vec(numbers(&v["data"]), shape, &Device::Cpu)
}

fn size(options: &Value, name: &str) -> usize {
    options[name].as_u64().unwrap() as usize
}

fn call(case: &Value, inputs: &BTreeMap<String, Tensor>, dtype: DType) -> Result<Tensor> {
    let options = &case["options"];
    let get = |name: &str| &inputs[name];
    let x = inputs.get("x").or_else(|| inputs.get("a")).unwrap();
    let act = || match options["act"].as_str().unwrap() {
        "none" => Activation::None,
        "relu" => Activation::Relu,
        _ => Activation::PRelu(get("slope")),
    };
    let eps = options["eps"].as_f64().unwrap_or(0.0);
    let stat = |name: &str| tensor(&case["statistics"][name])?.to_dtype(dtype);
    match case["function"].as_str().unwrap() {
        "conv2d" => {
            let cfg = Conv2dConfig {
                padding: size(options, "padding"),
                stride: size(options, "stride"),
                dilation: size(options, "dilation"),
                groups: size(options, "groups"),
            };
            k::conv2d(x, get("weight"), inputs.get("bias"), cfg)
        }
        "batch_norm_train" => {
            let (y, stats) = k::batch_norm_train(x, get("weight"), get("bias"), eps, act())?;
            let tolerance = if dtype == DType::F64 { 1e-11 } else { 1e-5 };
            close("mean", &stats.mean, &stat("mean")?, tolerance)?;
            close("var", &stats.var, &stat("var")?, tolerance)?;
            Ok(y)
        }
        "batch_norm_eval" => {
            let (mean, var) = (stat("mean")?, stat("var")?);
            k::batch_norm_eval(x, &mean, &var, get("weight"), get("bias"), eps, act())
        }
        "relu" => k::relu(x),
        "prelu" => k::prelu(x, get("slope")),
        "softplus" => k::softplus(x),
        "linear" => k::linear(x, get("weight"), inputs.get("bias")),
        name @ ("max_pool2d" | "avg_pool2d") => {
            let pool = if name == "max_pool2d" {
                k::max_pool2d
            } else {
                k::avg_pool2d
            };
            pool(
                x,
                size(options, "kernel"),
                size(options, "stride"),
                size(options, "padding"),
            )
        }
        "conv_transpose2d" => {
            let cfg = ConvTranspose2dConfig {
                padding: size(options, "padding"),
                output_padding: size(options, "output_padding"),
                stride: size(options, "stride"),
                dilation: size(options, "dilation"),
                groups: size(options, "groups"),
            };
            k::conv_transpose2d(x, get("weight"), inputs.get("bias"), cfg)
        }
        "resize" => resize(x, options),
        "layer_norm" => k::layer_norm(x, get("weight"), get("bias"), eps),
        "max_pool2d_with" => k::max_pool2d_with(x, windows(options)),
        "avg_pool2d_with" => k::avg_pool2d_with(x, windows(options)),
        "adaptive_avg_pool2d" => k::adaptive_avg_pool2d(x, pair(&options["size"])),
        "softmax" => safe::softmax(x, size(options, "dim")),
        "log_sum_exp" => safe::log_sum_exp(x, size(options, "dim")),
        "norm" => safe::norm(x, size(options, "dim")),
        "normalize" => safe::normalize(x, size(options, "dim")),
        "max" => safe::max(x, size(options, "dim")),
        "min" => safe::min(x, size(options, "dim")),
        "asin" => safe::asin(x),
        "atan" => safe::atan(x),
        "abs" => safe::abs(x),
        "top_k_last_dim" => Ok(safe::top_k_last_dim(x, size(options, "k"))?.0),
        "scatter_add" => {
            let index: Vec<u32> = numbers(&options["index"])
                .iter()
                .map(|&v| v as u32)
                .collect();
            let src = get("src");
            let index = Tensor::from_vec(index, src.shape(), &Device::Cpu)?;
            safe::scatter_add(x, &index, src, size(options, "dim"))
        }
        "global_avg_pool" => k::global_avg_pool(x),
        "log_softmax" => k::log_softmax(x),
        "softmax_last_dim" => safe::softmax_last_dim(x),
        "cross_entropy" => {
            let target: Vec<u32> = numbers(&options["target"])
                .iter()
                .map(|&v| v as u32)
                .collect();
            let target = Tensor::new(target, &Device::Cpu)?;
            k::cross_entropy(x, &target, options["smoothing"].as_f64().unwrap())
        }
        "sqrt" => safe::sqrt(x),
        "acos" => safe::acos(x),
        "norm_last_dim" => safe::norm_last_dim(x),
        "normalize_last_dim" => safe::normalize_last_dim(x),
        "log_sum_exp_last_dim" => safe::log_sum_exp_last_dim(x),
        "max_last_dim" => safe::max_last_dim(x),
        "sq_distances" => pairwise::sq_distances(x, get("b")),
        "cosine" => pairwise::cosine(x, get("b")),
        other => panic!("unknown function {other}"),
    }
}

fn pair(v: &Value) -> (usize, usize) {
    let v = numbers(v);
    (v[0] as usize, v[1] as usize)
}

fn windows(options: &Value) -> Pool2dConfig {
    Pool2dConfig {
        kernel: pair(&options["kernel"]),
        stride: pair(&options["stride"]),
        padding: pair(&options["padding"]),
        ceil_mode: options["ceil"].as_bool().unwrap(),
        count_include_pad: options["include"].as_bool().unwrap_or(true),
    }
}

fn resize(x: &Tensor, options: &Value) -> Result<Tensor> {
    let align = options["align_corners"].as_bool().unwrap();
    let nearest = options["mode"] == "nearest";
    if options["size"].is_array() {
        let size = pair(&options["size"]);
        return match nearest {
            true => k::upsample_nearest2d(x, size),
            false => k::upsample_bilinear2d(x, size, align),
        };
    }
    let scale = numbers(&options["scale"]);
    let scale = (scale[0], scale[1]);
    match nearest {
        true => k::upsample_nearest2d_scale(x, scale),
        false => k::upsample_bilinear2d_scale(x, scale, align),
    }
}

/// Largest difference, relative to the largest expected magnitude (at least 1).
fn close(what: &str, ours: &Tensor, expected: &Tensor, tolerance: f64) -> Result<()> {
    assert_eq!(ours.dims(), expected.dims(), "{what}: shape");
    let ours = ours.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let expected = expected
        .to_dtype(DType::F64)?
        .flatten_all()?
        .to_vec1::<f64>()?;
    let scale = expected.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (a, b)) in ours.iter().zip(&expected).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * scale,
            "{what}: element {i}: {a}, expected {b}"
        );
    }
    Ok(())
}

/// The same values behind other strides: the first and last dimension exchanged in memory, with an
/// offset into a larger buffer.
fn strided(t: &Tensor) -> Result<Tensor> {
    if t.rank() < 2 {
        let doubled = Tensor::stack(&[t, t], 0)?;
        return doubled.narrow(0, 1, 1)?.squeeze(0);
    }
    let last = t.rank() - 1;
    let moved = t.transpose(0, last)?.contiguous()?;
    Tensor::cat(&[&moved, &moved], 0)?
        .narrow(0, moved.dim(0)?, moved.dim(0)?)?
        .transpose(0, last)
}

fn run(dtype: DType, tolerance: f64, stride_inputs: bool) -> Result<()> {
    for (index, case) in cases().iter().enumerate() {
        let name = format!("case {index} {} {}", case["function"], case["options"]);
        let mut vars = BTreeMap::new();
        let mut inputs = BTreeMap::new();
        for (key, value) in case["inputs"].as_object().unwrap() {
            let var = Var::from_tensor(&tensor(value)?.to_dtype(dtype)?)?;
            let seen = if stride_inputs {
                strided(&var)?
            } else {
                var.as_tensor().clone()
            };
            inputs.insert(key.clone(), seen);
            vars.insert(key.clone(), var);
        }
        let y = call(case, &inputs, dtype)?;
        assert_eq!(y.dtype(), dtype, "{name}");
        close(&name, &y, &tensor(&case["output"])?, tolerance)?;
        let mut cotangent = tensor(&case["cotangent"])?.to_dtype(dtype)?;
        if stride_inputs && y.rank() > 0 {
            cotangent = strided(&cotangent)?;
        }
        let grads = y.mul(&cotangent)?.sum_all()?.backward()?;
        for (key, expected) in case["gradients"].as_object().unwrap() {
            let Some(grad) = grads.get(&vars[key]) else {
                panic!("{name}: no gradient of {key}")
            };
            close(
                &format!("{name}, gradient of {key}"),
                grad,
                &tensor(expected)?,
                tolerance,
            )?;
        }
    }
    Ok(())
}

#[test]
fn f64_matches_pytorch() -> Result<()> {
    run(DType::F64, 1e-10, false)
}

#[test]
fn f64_matches_pytorch_on_strided_inputs() -> Result<()> {
    run(DType::F64, 1e-10, true)
}

#[test]
fn f32_stays_close_to_pytorch_in_f64() -> Result<()> {
    run(DType::F32, 2e-5, false)
}

#[test]
fn passes_on_every_instruction_set() {
    common::pass_on_every_instruction_set();
}

#[test]
fn passes_by_candles_operations() {
    common::pass_by_candles_operations();
}
