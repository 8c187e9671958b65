//! Central differences in f64 for every op, and the bad points: ties, zero rows, missing elements.

#![allow(clippy::unwrap_used)]

mod common;

use candle::{Device, Result, Tensor, Var};
use phiz_kernels::gradcheck::{check, every_variable_has_gradient};
use phiz_kernels::{self as k, Activation, Conv2dConfig, Pool2dConfig, pairwise, safe};

/// Fixed values in [-1, 1) without repetition or structure.
fn values(seed: u64, shape: &[usize]) -> Result<Tensor> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let data: Vec<f64> = (0..shape.iter().product())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect();
    Tensor::from_vec(data, shape, &Device::Cpu)
}

/// A scalar that weights every element differently.
fn score(y: &Tensor) -> Result<Tensor> {
    y.mul(&values(99, y.dims())?)?.sum_all()
}

const TOLERANCE: f64 = 1e-7;

#[test]
fn convolutions() -> Result<()> {
    let cases = [
        // padding, stride, dilation, groups, input channels, output channels, kernel, size
        (1, 1, 1, 1, 2, 3, 3, (5, 4)),
        (1, 2, 1, 1, 2, 3, 3, (6, 5)),
        (2, 1, 2, 2, 4, 2, 3, (5, 5)),
        (1, 2, 1, 3, 3, 6, 3, (5, 6)),
        (1, 1, 1, 3, 3, 3, 3, (4, 5)),
        (0, 1, 1, 1, 3, 2, 1, (3, 4)),
        (0, 2, 1, 1, 2, 2, 1, (5, 4)),
        (3, 1, 1, 1, 1, 2, 2, (3, 3)),
        (3, 1, 1, 2, 2, 2, 2, (3, 3)),
    ];
    for (padding, stride, dilation, groups, cin, cout, kernel, (h, w)) in cases {
        let cfg = Conv2dConfig {
            padding,
            stride,
            dilation,
            groups,
        };
        let inputs = [
            values(1, &[2, cin, h, w])?,
            values(2, &[cout, cin / groups, kernel, kernel])?,
            values(3, &[cout])?,
        ];
        let f = |v: &[Tensor]| score(&k::conv2d(&v[0], &v[1], Some(&v[2]), cfg)?);
        check(f, &inputs, TOLERANCE)?;
    }
    Ok(())
}

fn activation(kind: usize, slope: &Tensor) -> Activation<'_> {
    match kind {
        0 => Activation::None,
        1 => Activation::Relu,
        _ => Activation::PRelu(slope),
    }
}

#[test]
fn batch_norms() -> Result<()> {
    for shape in [&[3, 2, 3, 4][..], &[5, 3], &[2, 2, 5, 5]] {
        let c = &shape[1..2];
        let inputs = [
            values(1, shape)?,
            values(2, c)?,
            values(13, c)?,
            values(4, c)?,
        ];
        let (mean, var) = (values(5, c)?, values(6, c)?.sqr()?);
        for kind in 0..3 {
            let train = |v: &[Tensor]| {
                score(&k::batch_norm_train(&v[0], &v[1], &v[2], 1e-3, activation(kind, &v[3]))?.0)
            };
            check(train, &inputs, 1e-6)?;
            let eval = |v: &[Tensor]| {
                score(&k::batch_norm_eval(
                    &v[0],
                    &mean,
                    &var,
                    &v[1],
                    &v[2],
                    1e-3,
                    activation(kind, &v[3]),
                )?)
            };
            check(eval, &inputs, TOLERANCE)?;
        }
    }
    Ok(())
}

#[test]
fn elementwise_rows_pools_and_losses() -> Result<()> {
    let x = values(1, &[3, 5])?;
    let maps = values(2, &[2, 2, 5, 6])?;
    type Op = Box<dyn Fn(&Tensor) -> Result<Tensor>>;
    let target = Tensor::new(&[4u32, 0, 4], &Device::Cpu)?;
    let on_rows: Vec<Op> = vec![
        Box::new(k::relu),
        Box::new(k::softplus),
        Box::new(k::log_softmax),
        Box::new(safe::acos),
        Box::new(safe::asin),
        Box::new(safe::atan),
        Box::new(safe::abs),
        Box::new(|x| safe::softmax(x, 0)),
        Box::new(|x| safe::log_sum_exp(x, 0)),
        Box::new(|x| safe::norm(x, 0)),
        Box::new(|x| safe::max(x, 0)),
        Box::new(|x| Ok(safe::top_k_last_dim(x, 3)?.0)),
        Box::new(|x| safe::sqrt(&x.sqr()?)),
        Box::new(safe::norm_last_dim),
        Box::new(safe::normalize_last_dim),
        Box::new(safe::log_sum_exp_last_dim),
        Box::new(safe::max_last_dim),
        Box::new(safe::min_last_dim),
        Box::new(safe::softmax_last_dim),
        Box::new(|x| k::dropout(x, 0.4, 3)),
        Box::new(move |x| k::cross_entropy(x, &target, 0.2)),
        Box::new(|x| pairwise::sq_distances(x, x)),
        Box::new(|x| pairwise::cosine(x, x)),
    ];
    for (index, op) in on_rows.iter().enumerate() {
        check(|v| score(&op(&v[0])?), std::slice::from_ref(&x), TOLERANCE)
            .map_err(|error| error.context(format!("operation {index} on rows")))?;
    }
    let wide = Pool2dConfig {
        kernel: (2, 4),
        stride: (3, 2),
        padding: (1, 2),
        ceil_mode: true,
        count_include_pad: false,
    };
    let on_maps: Vec<Op> = vec![
        Box::new(|x| k::max_pool2d(x, 3, 2, 1)),
        Box::new(|x| k::max_pool2d(x, 2, 2, 0)),
        Box::new(|x| k::avg_pool2d(x, 3, 2, 1)),
        Box::new(k::global_avg_pool),
        Box::new(move |x| k::max_pool2d_with(x, wide)),
        Box::new(move |x| k::avg_pool2d_with(x, wide)),
        Box::new(|x| k::adaptive_avg_pool2d(x, (3, 4))),
        Box::new(|x| k::adaptive_avg_pool2d(x, (1, 7))),
        Box::new(|x| safe::softmax(x, 1)),
    ];
    for op in on_maps {
        check(
            |v| score(&op(&v[0])?),
            std::slice::from_ref(&maps),
            TOLERANCE,
        )?;
    }
    let pair = [values(3, &[4, 3])?, values(4, &[5, 3])?];
    check(
        |v| score(&pairwise::sq_distances(&v[0], &v[1])?),
        &pair,
        TOLERANCE,
    )?;
    check(
        |v| score(&pairwise::cosine(&v[0], &v[1])?),
        &pair,
        TOLERANCE,
    )?;
    let affine = [
        values(5, &[2, 3, 4])?,
        values(6, &[5, 4])?,
        values(7, &[5])?,
    ];
    check(
        |v| score(&k::linear(&v[0], &v[1], Some(&v[2]))?),
        &affine,
        TOLERANCE,
    )?;
    let normal = [
        values(10, &[3, 2, 4])?,
        values(11, &[2, 4])?,
        values(12, &[2, 4])?,
    ];
    check(
        |v| score(&k::layer_norm(&v[0], &v[1], &v[2], 1e-3)?),
        &normal,
        TOLERANCE,
    )?;
    let (index, sums) = (
        Tensor::new(&[[1u32, 0], [1, 2], [0, 0], [1, 1], [2, 0]], &Device::Cpu)?,
        [values(13, &[3, 2])?, values(14, &[5, 2])?],
    );
    check(
        |v| score(&safe::scatter_add(&v[0], &index, &v[1], 0)?),
        &sums,
        TOLERANCE,
    )?;
    let slopes = [values(8, &[2, 3, 4])?, values(9, &[3])?];
    check(|v| score(&k::prelu(&v[0], &v[1])?), &slopes, TOLERANCE)
}

/// The gradient of `sum(f(x))` for f32 and f64 alike.
fn gradient(x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Vec<f64>> {
    let var = Var::from_tensor(x)?;
    let grads = f(&var)?.sum_all()?.backward()?;
    grads
        .get(&var)
        .unwrap()
        .to_dtype(candle::DType::F64)?
        .flatten_all()?
        .to_vec1()
}

#[test]
fn bad_points_have_finite_gradients() -> Result<()> {
    let low = f64::NEG_INFINITY;
    let row = |v: &[f64]| Tensor::new(v, &Device::Cpu)?.unsqueeze(0);
    assert_eq!(
        gradient(&row(&[0.0, -0.0, 4.0])?, safe::sqrt)?,
        [0.0, 0.0, 0.25]
    );
    assert_eq!(
        gradient(&row(&[0.0, 0.0])?, safe::norm_last_dim)?,
        [0.0, 0.0]
    );
    assert_eq!(
        gradient(&row(&[0.0, 0.0])?, safe::normalize_last_dim)?,
        [0.0, 0.0]
    );
    assert_eq!(
        gradient(&row(&[2.0, 2.0, 1.0])?, safe::max_last_dim)?,
        [0.5, 0.5, 0.0]
    );
    assert_eq!(
        gradient(&row(&[low, low])?, safe::log_sum_exp_last_dim)?,
        [0.0, 0.0]
    );
    assert_eq!(
        gradient(&row(&[low, 1.0])?, safe::log_sum_exp_last_dim)?,
        [0.0, 1.0]
    );
    assert_eq!(
        gradient(&row(&[low, low])?, safe::softmax_last_dim)?,
        [0.0, 0.0]
    );
    assert_eq!(
        gradient(&row(&[1.0, -1.0, 1.5])?, safe::acos)?,
        [0.0, 0.0, 0.0]
    );
    assert_eq!(
        gradient(&row(&[0.0, -1.0, 1.0])?, k::relu)?,
        [0.0, 0.0, 1.0]
    );
    for f in [safe::asin, safe::acos] {
        assert_eq!(gradient(&row(&[1.0, -1.0, 1.5])?, f)?, [0.0; 3]);
    }
    assert_eq!(
        gradient(&row(&[0.0, -2.0, 3.0])?, safe::abs)?,
        [0.0, -1.0, 1.0]
    );
    let far = gradient(&row(&[1e200, -1e160, 0.0])?, safe::atan)?;
    assert!(far[0] == 0.0 && far[1] >= 0.0 && far[2] == 1.0, "{far:?}");
    // Every tie of a maximum over columns shares; the first of equal elements is on top.
    let tied = Tensor::new(&[[1.0, 3.0], [1.0, 2.0], [0.0, 3.0]], &Device::Cpu)?;
    assert_eq!(
        gradient(&tied, |x| safe::max(x, 0))?,
        [0.5, 0.5, 0.5, 0.0, 0.0, 0.5]
    );
    let (top, at) = safe::top_k_last_dim(&row(&[2.0, f64::NAN, 2.0, 5.0, low])?, 4)?;
    assert_eq!(at.to_vec2::<u32>()?, [[1, 3, 0, 2]]);
    assert!(top.to_vec2::<f64>()?[0][0].is_nan());
    let near = gradient(&row(&[1.0 - 1e-12])?, safe::acos)?;
    assert!(near[0].is_finite() && near[0] < -3e3, "{near:?}");
    // Squares of these would overflow and vanish in f32.
    let extreme = Tensor::new(&[[3e30f32, 4e30], [3e-30, 4e-30]], &Device::Cpu)?;
    let norms = safe::norm_last_dim(&extreme)?.to_vec1::<f32>()?;
    assert!((norms[0] / 5e30 - 1.0).abs() < 1e-6 && (norms[1] / 5e-30 - 1.0).abs() < 1e-6);
    let unit = safe::normalize_last_dim(&extreme)?.to_vec2::<f32>()?;
    assert!((unit[1][0] - 0.6).abs() < 1e-6 && (unit[0][1] - 0.8).abs() < 1e-6);
    Ok(())
}

#[test]
fn cross_entropy_survives_large_logits() -> Result<()> {
    let x = Tensor::new(&[[1e4f32, -1e4, 0.0], [3e38, 0.0, -3e38]], &Device::Cpu)?;
    let target = Tensor::new(&[1u32, 0], &Device::Cpu)?;
    let loss = k::cross_entropy(&x, &target, 0.0)?.to_scalar::<f32>()?;
    assert_eq!(loss, 1e4);
    let grad = gradient(&x, |x| k::cross_entropy(x, &target, 0.0))?;
    assert_eq!(grad, [0.5, -0.5, 0.0, 0.0, 0.0, 0.0]);
    Ok(())
}

#[test]
fn distances_are_exact_between_equal_rows() -> Result<()> {
    // Far from the origin the expansion loses every digit of small differences.
    let mut data = vec![1000.0f32; 4 * 8];
    data[8] += 0.5;
    data[17] += 0.25;
    let x = Tensor::from_vec(data, (4, 8), &Device::Cpu)?;
    let d = pairwise::sq_distances(&x, &x)?.to_vec2::<f32>()?;
    for (i, row) in d.iter().enumerate() {
        assert_eq!(row[i], 0.0);
        assert_eq!(row[3], d[3][i]);
    }
    assert_eq!(
        (d[0][1], d[0][2], d[1][2], d[0][3]),
        (0.25, 0.0625, 0.3125, 0.0)
    );
    let cosines = pairwise::cosine(&x, &x)?.flatten_all()?.to_vec1::<f32>()?;
    assert!(cosines.iter().all(|c| (0.999..=1.0).contains(c)));
    Ok(())
}

#[test]
fn check_reports_wrong_and_missing_gradients() -> Result<()> {
    let x = values(1, &[2, 3])?;
    // candle's fused softmax has no gradient.
    let cut = |v: &[Tensor]| score(&candle_nn::ops::softmax_last_dim(&v[0])?);
    let message = check(cut, std::slice::from_ref(&x), 1e-6)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("input 0") && message.contains("none was given"),
        "{message}"
    );
    let vector = check(|v| Ok(v[0].clone()), std::slice::from_ref(&x), 1e-6);
    assert!(vector.unwrap_err().to_string().contains("scalar"));

    let (a, b) = (Var::from_tensor(&x)?, Var::from_tensor(&x)?);
    let vars = [("a".to_string(), a.clone()), ("b".to_string(), b.clone())];
    let grads = a.sqr()?.sum_all()?.backward()?;
    let message = every_variable_has_gradient(&grads, &vars)
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("no gradient for 1 of 2 variables: b"),
        "{message}"
    );
    every_variable_has_gradient(&(a.mul(&b))?.sum_all()?.backward()?, &vars)?;
    let infinite = a.zeros_like()?.mul(&a)?.sqrt()?.sum_all()?.backward()?;
    let message = every_variable_has_gradient(&infinite, &vars[..1])
        .unwrap_err()
        .to_string();
    assert!(message.contains("a is not finite"), "{message}");
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
