//! Bad input is an error with the numbers in it, never a panic.

#![allow(clippy::unwrap_used)]

use candle::{DType, Device, Result, Tensor};
use phiz_kernels::layers::{self, BatchNormConfig};
use phiz_kernels::{self as k, Activation, Conv2dConfig, Pool2dConfig, pairwise, safe};

fn ones(shape: &[usize]) -> Tensor {
    Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap()
}

/// The call fails and its message names `part`.
fn fails<T>(result: Result<T>, part: &str) {
    match result {
        Ok(_) => panic!("expected an error about {part:?}"),
        Err(error) => assert!(error.to_string().contains(part), "{part:?} not in {error}"),
    }
}

#[test]
fn convolution() {
    let x = ones(&[1, 4, 5, 5]);
    let conv = |x: &Tensor, w: &[usize], f: &dyn Fn(&mut Conv2dConfig)| {
        let mut cfg = Conv2dConfig::default();
        f(&mut cfg);
        k::conv2d(x, &ones(w), None, cfg)
    };
    fails(conv(&x, &[2, 3, 3, 3], &|_| ()), "channel mismatch");
    fails(conv(&x, &[2, 4, 3, 3], &|c| c.groups = 3), "do not divide");
    fails(conv(&x, &[3, 2, 3, 3], &|c| c.groups = 2), "do not divide");
    fails(
        conv(&x, &[2, 4, 3, 3], &|c| c.stride = 0),
        "must be positive",
    );
    fails(
        conv(&x, &[2, 4, 3, 3], &|c| c.dilation = 0),
        "must be positive",
    );
    fails(
        conv(&x, &[2, 4, 3, 3], &|c| c.groups = 0),
        "must be positive",
    );
    fails(conv(&x, &[2, 4, 7, 3], &|_| ()), "does not fit height 5");
    fails(
        conv(&x, &[2, 4, 3, 3], &|c| c.dilation = usize::MAX),
        "does not fit",
    );
    fails(
        conv(&x, &[2, 4, 3, 3], &|c| c.padding = usize::MAX),
        "does not fit",
    );
    fails(conv(&x, &[2, 4, 0, 3], &|_| ()), "empty");
    fails(conv(&ones(&[0, 4, 5, 5]), &[2, 4, 3, 3], &|_| ()), "empty");
    fails(
        conv(&ones(&[4, 5, 5]), &[2, 4, 3, 3], &|_| ()),
        "expected input",
    );
    fails(
        k::conv2d(
            &x,
            &ones(&[2, 4, 3, 3]),
            Some(&ones(&[3])),
            Default::default(),
        ),
        "bias",
    );
    let integers = x.to_dtype(DType::U32).unwrap();
    fails(
        k::conv2d(&integers, &integers, None, Default::default()),
        "unsupported dtype",
    );
    let half = x.to_dtype(DType::F16).unwrap();
    fails(
        k::conv2d(&half, &half, None, Default::default()),
        "unsupported dtype",
    );
    let double = ones(&[2, 4, 3, 3]).to_dtype(DType::F64).unwrap();
    fails(
        k::conv2d(&x, &double, None, Default::default()),
        "dtype mismatch",
    );
}

#[test]
fn normalisation() {
    let (x, c) = (ones(&[2, 3, 4, 4]), ones(&[3]));
    let train = |x: &Tensor, w: &Tensor, b: &Tensor, eps| {
        k::batch_norm_train(x, w, b, eps, Activation::None)
    };
    fails(train(&x, &ones(&[4]), &c, 1e-5), "weight");
    fails(train(&x, &c, &ones(&[3, 1]), 1e-5), "bias");
    fails(train(&x, &c, &c, -1.0), "eps");
    fails(train(&x, &c, &c, f64::NAN), "eps");
    fails(train(&ones(&[1, 3]), &c, &c, 1e-5), "more than one value");
    fails(train(&ones(&[0, 3]), &c, &c, 1e-5), "empty");
    fails(train(&ones(&[3]), &c, &c, 1e-5), "expected input");
    let slope = ones(&[2]);
    fails(
        k::batch_norm_train(&x, &c, &c, 1e-5, Activation::PRelu(&slope)),
        "slope",
    );
    fails(
        k::batch_norm_eval(&x, &slope, &c, &c, &c, 1e-5, Activation::None),
        "mean",
    );
    let layer = |config| layers::BatchNorm::new(c.clone(), c.clone(), &c, &c, config);
    fails(
        layer(BatchNormConfig {
            momentum: 1.5,
            ..Default::default()
        }),
        "momentum",
    );
    fails(
        layer(BatchNormConfig {
            eps: -1.0,
            ..Default::default()
        }),
        "eps",
    );
}

#[test]
fn the_rest() {
    let x = ones(&[2, 3]);
    fails(k::linear(&x, &ones(&[4, 2]), None), "does not match");
    fails(k::linear(&x, &ones(&[4]), None), "expected input");
    fails(k::linear(&x, &ones(&[4, 3]), Some(&ones(&[3]))), "bias");
    fails(k::linear(&ones(&[0, 3]), &ones(&[4, 3]), None), "empty");
    fails(k::prelu(&x, &ones(&[2])), "slope");
    fails(
        k::relu(&x.to_dtype(DType::U8).unwrap()),
        "unsupported dtype",
    );
    fails(k::dropout(&x, 1.5, 0), "probability");
    fails(k::dropout(&x, f64::NAN, 0), "probability");
    let maps = ones(&[1, 1, 4, 4]);
    fails(k::max_pool2d(&maps, 0, 1, 0), "must be positive");
    fails(k::max_pool2d(&maps, 2, 0, 0), "must be positive");
    fails(k::max_pool2d(&maps, 2, 2, 2), "padding");
    fails(k::avg_pool2d(&maps, 5, 1, 0), "does not fit");
    fails(k::avg_pool2d(&x, 1, 1, 0), "expected input");
    fails(k::global_avg_pool(&x), "expected input");
    fails(k::global_avg_pool(&ones(&[1, 2, 0, 3])), "empty");
    fails(k::log_softmax(&ones(&[])), "scalar");
    fails(safe::max_last_dim(&ones(&[2, 0])), "empty");
    fails(pairwise::sq_distances(&x, &ones(&[2, 4])), "expected a");
    fails(pairwise::cosine(&ones(&[0, 3]), &x), "empty");
    fails(
        k::avg_pool2d(&maps, usize::MAX, 1, usize::MAX / 2),
        "does not fit",
    );
    let wide = |kernel, stride, padding| Pool2dConfig {
        stride,
        padding,
        ..Pool2dConfig::from(kernel)
    };
    fails(
        k::max_pool2d_with(&maps, wide((2, 0), (1, 1), (0, 0))),
        "must be positive",
    );
    fails(
        k::max_pool2d_with(&maps, wide((2, 2), (0, 1), (0, 0))),
        "must be positive",
    );
    fails(
        k::avg_pool2d_with(&maps, wide((2, 3), (1, 1), (0, 2))),
        "padding 2",
    );
    fails(
        k::avg_pool2d_with(&maps, wide((2, 9), (1, 1), (0, 0))),
        "does not fit",
    );
    fails(k::adaptive_avg_pool2d(&maps, (0, 2)), "cannot divide");
    fails(
        k::adaptive_avg_pool2d(&maps, (usize::MAX, 2)),
        "cannot divide",
    );
    fails(k::adaptive_avg_pool2d(&x, (1, 1)), "expected input");
    fails(
        k::layer_norm(&x, &ones(&[2]), &ones(&[2]), 1e-5),
        "do not match",
    );
    fails(
        k::layer_norm(&x, &ones(&[3]), &ones(&[2]), 1e-5),
        "do not match",
    );
    fails(
        k::layer_norm(&x, &ones(&[]), &ones(&[]), 1e-5),
        "do not match",
    );
    fails(k::layer_norm(&x, &ones(&[3]), &ones(&[3]), -1.0), "eps");
    fails(
        k::layer_norm(&ones(&[0, 3]), &ones(&[3]), &ones(&[3]), 0.1),
        "empty",
    );
    fails(safe::softmax(&x, 2), "dim");
    fails(safe::norm(&ones(&[2, 0]), 0), "empty");
    fails(
        safe::asin(&x.to_dtype(DType::U8).unwrap()),
        "unsupported dtype",
    );
    fails(safe::top_k_last_dim(&x, 0), "k 0");
    fails(safe::top_k_last_dim(&x, 4), "k 4");
    fn at<const N: usize>(v: &[[u32; 3]; N]) -> Tensor {
        Tensor::new(v, &Device::Cpu).unwrap()
    }
    let add = |index: &Tensor, src: &[usize]| safe::scatter_add(&x, index, &ones(src), 0);
    fails(add(&at(&[[0, 1, 2]]), &[1, 3]), "index 2 at element 2");
    fails(add(&at(&[[0, 1, 1]]), &[2, 3]), "do not match");
    fails(add(&at(&[[0, 1, 1]]), &[1, 2]), "do not match");
    fails(add(&ones(&[1, 3]), &[1, 3]), "integer index");
    let target = |v: &[u32]| Tensor::new(v, &Device::Cpu).unwrap();
    fails(k::cross_entropy(&x, &target(&[0]), 0.0), "batch mismatch");
    fails(
        k::cross_entropy(&x, &target(&[0, 3]), 0.0),
        "target 3 of row 1",
    );
    fails(
        k::cross_entropy(&x, &target(&[0, 1]), 1.5),
        "label smoothing",
    );
    fails(k::cross_entropy(&x, &ones(&[2]), 0.0), "integer");
    let negative = Tensor::new(&[0i64, -1], &Device::Cpu).unwrap();
    fails(k::cross_entropy(&x, &negative, 0.0), "target -1");
}

#[test]
fn an_unknown_instruction_set_is_named() {
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program)
        .env("PHIZ_ISA", "sse9")
        .args(["--exact", "convolution"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        !output.status.success() && text.contains("PHIZ_ISA: \"sse9\" is not an instruction set"),
        "{text}"
    );
}
