//! Random shapes, strides, paddings, dilations and groups: f32 against f64, strided and broadcast
//! inputs, and the same bits on any number of threads.

#![allow(clippy::unwrap_used)]

mod common;

use candle::{DType, Device, Result, Tensor, Var};
use phiz_kernels::{
    self as k, Activation, Conv2dConfig, ConvTranspose2dConfig, Pool2dConfig, layers, safe,
};
use proptest::prelude::*;

fn values(seed: u64, shape: &[usize]) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let data: Vec<f64> = (0..shape.iter().product())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

/// The output, and the gradient of every input under a fixed cotangent.
fn run(
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
    dtype: DType,
) -> Result<Vec<Tensor>> {
    let vars: Vec<Var> = inputs
        .iter()
        .map(|t| Var::from_tensor(&t.to_dtype(dtype)?))
        .collect::<Result<_>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tensors)?;
    let weight = values(9, y.dims()).to_dtype(dtype)?;
    let grads = y.mul(&weight)?.sum_all()?.backward()?;
    let mut out = vec![y];
    for var in &vars {
        out.push(grads.get(var).unwrap().clone());
    }
    Ok(out)
}

fn flat(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    t.to_vec1().unwrap()
}

/// f32 agrees with f64 within `bound` of the largest value.
fn agrees(
    what: &str,
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
    bound: f64,
) -> std::result::Result<(), TestCaseError> {
    let (wide, narrow) = (
        run(&f, inputs, DType::F64).unwrap(),
        run(&f, inputs, DType::F32).unwrap(),
    );
    for (i, (a, b)) in wide.iter().zip(&narrow).enumerate() {
        prop_assert_eq!(a.dims(), b.dims());
        let (a, b) = (flat(a), flat(b));
        let scale = a.iter().fold(1.0f64, |m, v| m.max(v.abs()));
        for (x, y) in a.iter().zip(&b) {
            prop_assert!(
                (x - y).abs() <= bound * scale,
                "{} {}: {} {}",
                what,
                i,
                x,
                y
            );
        }
    }
    Ok(())
}

fn sizes() -> impl Strategy<Value = (usize, usize, usize)> {
    (1usize..4, 1usize..13, 1usize..13)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// <A x, y> = <x, A' y>: the transposed convolution is the adjoint of the convolution, which our
    /// backward pass of one must make equal to the forward pass of the other.
    #[test]
    fn transposed_convolution_is_the_adjoint(
        (batch, h, w) in sizes(), groups in 1usize..4, cin in 1usize..3, cout in 1usize..3,
        (kh, kw) in (1usize..4, 1usize..4), stride in 1usize..4, dilation in 1usize..3, padding in 0usize..3,
        extra in 0usize..3,
    ) {
        let cfg = ConvTranspose2dConfig {
            padding, stride, dilation, groups,
            output_padding: extra.min(stride.max(dilation) - 1),
        };
        let x = values(1, &[batch, cin * groups, h, w]);
        let weight = values(2, &[cin * groups, cout, kh, kw]);
        // The padding may leave nothing: an error that says so.
        let Ok(y) = k::conv_transpose2d(&x, &weight, None, cfg) else {
            return Ok(());
        };
        let down = Conv2dConfig { padding, stride, dilation, groups };
        let probe = values(3, y.dims());
        let back = k::conv2d(&probe, &weight, None, down).unwrap();
        // Output padding of a stride or more lets the convolution see windows beyond `x`.
        let back = back.narrow(2, 0, h).unwrap().narrow(3, 0, w).unwrap();
        let dot = |a: &Tensor, b: &Tensor| flat(a).iter().zip(flat(b)).map(|(a, b)| a * b).sum::<f64>();
        let (left, right) = (dot(&y, &probe), dot(&x, &back));
        prop_assert!((left - right).abs() < 1e-9 * left.abs().max(1.0), "{} {}", left, right);
        let f = |v: &[Tensor]| k::conv_transpose2d(&v[0], &v[1], None, cfg);
        agrees("conv_transpose2d", f, &[x, weight], 1e-5)?;
    }

    #[test]
    fn convolution(
        (batch, h, w) in sizes(), groups in 1usize..4, cin in 1usize..3, cout in 1usize..3,
        (kh, kw) in (1usize..4, 1usize..4), stride in 1usize..4, dilation in 1usize..3, padding in 0usize..4,
    ) {
        let cfg = Conv2dConfig { padding, stride, dilation, groups };
        let inputs = [
            values(1, &[batch, cin * groups, h, w]),
            values(2, &[cout * groups, cin, kh, kw]),
            values(3, &[cout * groups]),
        ];
        let f = |v: &[Tensor]| k::conv2d(&v[0], &v[1], Some(&v[2]), cfg);
        if f(&inputs).is_err() {
            return Ok(());
        }
        agrees("conv2d", f, &inputs, 1e-5)?;
    }

    /// Sums: an average keeps the mass of the gradient, resizing the mass of a constant.
    #[test]
    fn pools_and_resizing(
        (batch, h, w) in sizes(), (kh, kw) in (1usize..5, 1usize..5), (sh, sw) in (1usize..4, 1usize..4),
        (ph, pw) in (0usize..3, 0usize..3), ceil_mode: bool, count_include_pad: bool,
        (oh, ow) in (1usize..16, 1usize..16), align: bool,
    ) {
        let maps = values(1, &[batch, 2, h, w]);
        let cfg = Pool2dConfig {
            kernel: (kh, kw), stride: (sh, sw), padding: (ph.min(kh / 2), pw.min(kw / 2)),
            ceil_mode, count_include_pad,
        };
        let inputs = [maps];
        if k::max_pool2d_with(&inputs[0], cfg).is_ok() {
            agrees("max", |v| k::max_pool2d_with(&v[0], cfg), &inputs, 1e-6)?;
            agrees("average", |v| k::avg_pool2d_with(&v[0], cfg), &inputs, 1e-6)?;
        }
        agrees("adaptive", |v| k::adaptive_avg_pool2d(&v[0], (oh, ow)), &inputs, 1e-6)?;
        agrees("nearest", |v| k::upsample_nearest2d(&v[0], (oh, ow)), &inputs, 1e-6)?;
        agrees("bilinear", |v| k::upsample_bilinear2d(&v[0], (oh, ow), align), &inputs, 1e-6)?;
        let ones = inputs[0].ones_like().unwrap();
        for y in [
            k::adaptive_avg_pool2d(&ones, (oh, ow)).unwrap(),
            k::upsample_nearest2d(&ones, (oh, ow)).unwrap(),
            k::upsample_bilinear2d(&ones, (oh, ow), align).unwrap(),
        ] {
            prop_assert!(flat(&y).iter().all(|v| (v - 1.0).abs() < 1e-12));
        }
    }

    #[test]
    fn rows(dims in proptest::collection::vec(1usize..7, 1..4), trailing in 1usize..3, dim in 0usize..3, seed: u64) {
        let x = (values(seed, &dims) * 4.0).unwrap();
        let trailing = trailing.min(dims.len());
        let normal = dims[dims.len() - trailing..].to_vec();
        // Few values have next to no variance, which the norm blows up: a large eps.
        let inputs = [x, values(2, &normal), values(3, &normal)];
        agrees("layer_norm", |v| k::layer_norm(&v[0], &v[1], &v[2], 0.1), &inputs, 1e-5)?;
        let dim = dim % dims.len();
        let x = &inputs[..1];
        agrees("softmax", |v| safe::softmax(&v[0], dim), x, 1e-6)?;
        agrees("log_sum_exp", |v| safe::log_sum_exp(&v[0], dim), x, 1e-6)?;
        agrees("norm", |v| safe::norm(&v[0], dim), x, 1e-6)?;
        agrees("atan", |v| safe::atan(&v[0]), x, 1e-6)?;
        let sums = safe::softmax(&x[0], dim).unwrap().sum(dim).unwrap();
        prop_assert!(flat(&sums).iter().all(|v| (v - 1.0).abs() < 1e-12));
    }

    /// The first k of a full sort, ties in order; and the gradient lands where the values came from.
    #[test]
    fn top_k(rows in 1usize..4, data in proptest::collection::vec(0u8..5, 1..12), k in 1usize..12) {
        let width = data.len();
        let k = k.min(width);
        let row: Vec<f64> = data.iter().map(|&v| f64::from(v)).collect();
        let x = Var::from_tensor(&Tensor::from_vec(row.repeat(rows), (rows, width), &Device::Cpu).unwrap()).unwrap();
        let (top, at) = safe::top_k_last_dim(&x, k).unwrap();
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
        for (top, at) in top.to_vec2::<f64>().unwrap().iter().zip(at.to_vec2::<u32>().unwrap()) {
            let expected: Vec<u32> = order[..k].iter().map(|&i| i as u32).collect();
            prop_assert_eq!(&at, &expected);
            let values: Vec<f64> = expected.iter().map(|&i| row[i as usize]).collect();
            prop_assert_eq!(top, &values);
        }
        let grads = top.sum_all().unwrap().backward().unwrap();
        prop_assert_eq!(flat(grads.get(&x).unwrap()).iter().sum::<f64>(), (rows * k) as f64);
    }
}

/// Every op under pools of one, two, three and five threads.
#[test]
fn the_number_of_threads_changes_no_bit() -> Result<()> {
    let cfg = Conv2dConfig {
        padding: 1,
        ..Default::default()
    };
    let down = Conv2dConfig {
        stride: 2,
        groups: 4,
        ..cfg
    };
    let depthwise = Conv2dConfig { groups: 16, ..cfg };
    let up = ConvTranspose2dConfig {
        stride: 2,
        ..Default::default()
    };
    let maps = values(1, &[3, 16, 19, 21]);
    let rows = values(2, &[150, 33]);
    type Op = Box<dyn Fn(&[Tensor]) -> Result<Tensor> + Sync>;
    let cases: Vec<(&str, Vec<Tensor>, Op)> = vec![
        (
            "conv2d 3 x 3",
            vec![maps.clone(), values(3, &[24, 16, 3, 3]), values(4, &[24])],
            Box::new(move |v| k::conv2d(&v[0], &v[1], Some(&v[2]), cfg)),
        ),
        (
            "conv2d 1 x 1",
            vec![maps.clone(), values(3, &[24, 16, 1, 1])],
            Box::new(|v| k::conv2d(&v[0], &v[1], None, Conv2dConfig::default())),
        ),
        (
            "conv2d, one small image",
            vec![values(5, &[1, 64, 5, 5]), values(3, &[48, 64, 3, 3])],
            Box::new(move |v| k::conv2d(&v[0], &v[1], None, cfg)),
        ),
        (
            "conv2d, groups, stride 2",
            vec![maps.clone(), values(3, &[8, 4, 3, 3])],
            Box::new(move |v| k::conv2d(&v[0], &v[1], None, down)),
        ),
        (
            "conv2d, depthwise",
            vec![maps.clone(), values(3, &[16, 1, 3, 3])],
            Box::new(move |v| k::conv2d(&v[0], &v[1], None, depthwise)),
        ),
        (
            "conv2d, depthwise, wide",
            vec![values(1, &[3, 16, 5, 43]), values(3, &[16, 1, 3, 3])],
            Box::new(move |v| k::conv2d(&v[0], &v[1], None, depthwise)),
        ),
        (
            "conv_transpose2d",
            vec![maps.clone(), values(3, &[16, 12, 2, 2]), values(4, &[12])],
            Box::new(move |v| k::conv_transpose2d(&v[0], &v[1], Some(&v[2]), up)),
        ),
        (
            "batch_norm_train",
            vec![maps.clone(), values(3, &[16]), values(4, &[16])],
            Box::new(|v| Ok(k::batch_norm_train(&v[0], &v[1], &v[2], 1e-5, Activation::Relu)?.0)),
        ),
        (
            "layer_norm",
            vec![rows.clone(), values(3, &[33]), values(4, &[33])],
            Box::new(|v| k::layer_norm(&v[0], &v[1], &v[2], 1e-5)),
        ),
        (
            "linear",
            vec![rows.clone(), values(3, &[40, 33]), values(4, &[40])],
            Box::new(|v| k::linear(&v[0], &v[1], Some(&v[2]))),
        ),
        (
            "prelu",
            vec![maps.clone(), values(3, &[16])],
            Box::new(|v| k::prelu(&v[0], &v[1])),
        ),
        (
            "pools and resizing",
            vec![maps.clone()],
            Box::new(|v| {
                let x = k::max_pool2d(&v[0], 3, 2, 1)?;
                let x = k::upsample_bilinear2d(&x, (17, 23), false)?;
                let x = k::avg_pool2d(&x, 3, 1, 1)?;
                k::adaptive_avg_pool2d(&k::upsample_nearest2d(&x, (31, 29))?, (7, 5))
            }),
        ),
        (
            "rows",
            vec![rows.clone()],
            Box::new(|v| safe::softmax_last_dim(&safe::normalize_last_dim(&v[0])?)),
        ),
        (
            "distances",
            vec![rows.clone()],
            Box::new(|v| k::pairwise::sq_distances(&v[0], &v[0])),
        ),
        (
            "dropout",
            vec![maps],
            Box::new(|v| k::dropout(&v[0], 0.3, 5)),
        ),
    ];
    for (name, inputs, f) in &cases {
        for dtype in [DType::F32, DType::F64] {
            let on = |threads: usize| -> Vec<Vec<u64>> {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let all = pool.install(|| run(f, inputs, dtype)).unwrap();
                all.iter()
                    .map(|t| flat(t).into_iter().map(f64::to_bits).collect())
                    .collect()
            };
            let one = on(1);
            for threads in [2, 3, 5, 6, 8] {
                assert!(one == on(threads), "{name}, {dtype:?}, {threads} threads");
            }
        }
    }
    Ok(())
}

/// A depthwise weight's gradient is a sum over all pixels of the batch: in f32 it keeps its digits.
#[test]
fn long_sums_of_a_depthwise_gradient_keep_their_digits() -> Result<()> {
    let config = Conv2dConfig {
        padding: 1,
        groups: 16,
        ..Conv2dConfig::default()
    };
    let x = ((values(1, &[96, 16, 14, 14]) + 1.5)? * 0.4)?;
    let weight = values(2, &[16, 1, 3, 3]);
    let gradient = |dtype: DType| -> Result<Vec<f64>> {
        let w = Var::from_tensor(&weight.to_dtype(dtype)?)?;
        let y = k::conv2d(&x.to_dtype(dtype)?, &w, None, config)?;
        Ok(flat(y.sum_all()?.backward()?.get(&w).unwrap()))
    };
    // candle adds the pixels up in one chain.
    let by_candle = k::ops::chosen()? == k::ops::Ops::Candle;
    let limit = if by_candle { 1e-4 } else { 1e-6 };
    for (a, b) in gradient(DType::F32)?.iter().zip(gradient(DType::F64)?) {
        assert!((a - b).abs() < limit * b, "{a}, in f64 {b}");
    }
    Ok(())
}

/// Broadcast inputs, whose elements share memory, and cut-out ones give what their copies give.
#[test]
fn broadcast_and_cut_inputs() -> Result<()> {
    let wide = values(1, &[1, 4, 1, 1]).broadcast_as((2, 4, 6, 5))?;
    let cut = values(2, &[2, 4, 9, 8]).narrow(2, 1, 6)?.narrow(3, 2, 5)?;
    let (w, up) = (values(3, &[4, 4, 3, 3]), ConvTranspose2dConfig::default());
    let per_channel = values(4, &[4]);
    for x in [wide, cut] {
        assert!(!x.is_contiguous());
        let copy = x.force_contiguous()?;
        type Op<'a> = Box<dyn Fn(&Tensor) -> Result<Tensor> + 'a>;
        let ops: Vec<Op<'_>> = vec![
            Box::new(|x| k::conv2d(x, &w, None, Conv2dConfig::default())),
            Box::new(|x| k::conv_transpose2d(x, &w, None, up)),
            Box::new(|x| {
                k::conv2d_act(
                    x,
                    &w,
                    Some(&per_channel),
                    None,
                    Conv2dConfig::default(),
                    Activation::Relu,
                )
            }),
            Box::new(|x| k::upsample_bilinear2d(x, (7, 3), false)),
            Box::new(|x| k::upsample_nearest2d(x, (7, 3))),
            Box::new(|x| k::max_pool2d(x, 2, 1, 0)),
            Box::new(|x| k::avg_pool2d(x, 2, 1, 1)),
            Box::new(|x| k::adaptive_avg_pool2d(x, (2, 3))),
            Box::new(|x| {
                k::layer_norm(
                    x,
                    &per_channel.narrow(0, 0, 1)?.broadcast_as(5)?,
                    &values(5, &[5]),
                    1e-5,
                )
            }),
            Box::new(|x| safe::softmax(x, 1)),
            Box::new(|x| safe::norm(x, 2)),
            Box::new(|x| Ok(safe::top_k_last_dim(x, 2)?.0)),
        ];
        for (i, op) in ops.iter().enumerate() {
            assert_eq!(flat(&op(&x)?), flat(&op(&copy)?), "op {i}");
        }
    }
    Ok(())
}

#[test]
fn folding_agrees_with_the_pair() -> Result<()> {
    let wild = |seed, n: usize| (values(seed, &[n]) * 2.0).unwrap();
    let norm = |n: usize| {
        let var = wild(7, n).sqr().unwrap();
        layers::BatchNorm::new(wild(5, n), wild(6, n), &wild(8, n), &var, 1e-5.into()).unwrap()
    };
    let eval = |norm: &layers::BatchNorm, x: &Tensor| norm.forward_act(x, Activation::None, false);
    let close = |a: &Tensor, b: &Tensor| {
        let scale = flat(a).iter().fold(1.0f64, |m, v| m.max(v.abs()));
        for (a, b) in flat(a).iter().zip(flat(b)) {
            assert!((a - b).abs() < 1e-11 * scale, "{a} {b}");
        }
    };
    use candle_nn::Module;
    for (groups, stride, dilation, padding) in
        [(1, 1, 1, 1), (2, 2, 1, 1), (4, 1, 2, 2), (1, 3, 1, 0)]
    {
        let cfg = Conv2dConfig {
            padding,
            stride,
            dilation,
            groups,
        };
        let x = values(1, &[2, 4, 8, 7]);
        for bias in [None, Some(wild(3, 8))] {
            let conv = layers::Conv2d::new(values(2, &[8, 4 / groups, 3, 3]), bias, cfg);
            let (front, behind) = (norm(4), norm(8));
            let folded = layers::fold_batch_norm(&conv, &behind)?;
            close(&eval(&behind, &conv.forward(&x)?)?, &folded.forward(&x)?);
            let (folded, map) = layers::fold_batch_norm_before(&front, &conv, (8, 7))?;
            let both = folded.forward(&x)?.broadcast_add(&map)?;
            close(&conv.forward(&eval(&front, &x)?)?, &both);
            assert!(layers::fold_batch_norm(&conv, &front).is_err());
            assert!(layers::fold_batch_norm_before(&behind, &conv, (8, 7)).is_err());
        }
    }
    let maps = values(1, &[3, 4, 2, 3]);
    for bias in [None, Some(wild(3, 5))] {
        let linear = layers::Linear::new(values(2, &[5, 24]), bias);
        let folded = layers::fold_batch_norm_before_linear(&norm(4), &linear)?;
        let expected = linear.forward(&eval(&norm(4), &maps)?.flatten_from(1)?)?;
        close(&expected, &folded.forward(&maps.flatten_from(1)?)?);
        let after = layers::fold_batch_norm_linear(&linear, &norm(5))?;
        let x = maps.flatten_from(1)?;
        close(&eval(&norm(5), &linear.forward(&x)?)?, &after.forward(&x)?);
        assert!(layers::fold_batch_norm_before_linear(&norm(5), &linear).is_err());
        assert!(layers::fold_batch_norm_linear(&linear, &norm(4)).is_err());
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
