//! Faults of candle that this crate works around, pinned as they are: a test that fails here after an
//! update of candle means that a workaround may go. `UPSTREAM.md` beside the sources tells them one
//! by one.

#![allow(clippy::unwrap_used)]

use candle::{CpuStorage, CustomOp1, D, DType, Device, Layout, Module, Result, Shape, Tensor, Var};
use phiz_kernels as k;

fn gradient(x: &Var, y: &Tensor) -> Result<Option<Vec<f32>>> {
    let grads = y.sum_all()?.backward()?;
    grads.get(x).map(|g| g.flatten_all()?.to_vec1()).transpose()
}

/// The call fails and its message names `part`.
fn fails<T>(result: Result<T>, part: &str) {
    match result {
        Ok(_) => panic!("candle can do it now: {part}"),
        Err(error) => assert!(error.to_string().contains(part), "{part:?} not in {error}"),
    }
}

fn image(h: usize, w: usize) -> Result<Var> {
    Var::from_tensor(
        &Tensor::arange(1f32, (h * w + 1) as f32, &Device::Cpu)?.reshape((1, 1, h, w))?,
    )
}

#[test]
fn max_pool_gradient_is_a_quarter() -> Result<()> {
    let x = image(2, 2)?;
    assert_eq!(
        gradient(&x, &x.max_pool2d(2)?)?,
        Some(vec![0.0, 0.0, 0.0, 0.25])
    );
    assert_eq!(
        gradient(&x, &k::max_pool2d(&x, 2, 2, 0)?)?,
        Some(vec![0.0, 0.0, 0.0, 1.0])
    );
    Ok(())
}

#[test]
fn pools_have_a_gradient_only_where_windows_do_not_overlap() -> Result<()> {
    let x = image(4, 4)?;
    fails(
        gradient(&x, &x.max_pool2d_with_stride(3, 1)?),
        "backward not supported for maxpool2d",
    );
    fails(
        gradient(&x, &x.avg_pool2d_with_stride(3, 1)?),
        "backward not supported for avgpool2d",
    );
    assert_eq!(
        gradient(&x, &k::max_pool2d(&x, 3, 1, 0)?)?.unwrap()[10..],
        [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    );
    assert!(gradient(&x, &k::avg_pool2d(&x, 3, 1, 0)?)?.is_some());
    Ok(())
}

#[test]
fn convolution_with_a_stride_has_a_gradient_only_for_square_images() -> Result<()> {
    // 5 rows are used up by the windows, of 6 columns one is left over: the transposed convolution of
    // the backward pass takes the rows' remainder for both.
    let x = image(5, 6)?;
    let w = Tensor::ones((1, 1, 3, 3), DType::F32, &Device::Cpu)?;
    fails(
        gradient(&x, &x.conv2d(&w, 0, 2, 1, 1)?),
        "shape mismatch in add",
    );
    let cfg = k::Conv2dConfig {
        stride: 2,
        ..Default::default()
    };
    let ours = gradient(&x, &k::conv2d(&x, &w, None, cfg)?)?.unwrap();
    assert_eq!(ours[..6], [1.0, 1.0, 2.0, 1.0, 1.0, 0.0]);
    Ok(())
}

#[test]
fn resizing_overwrites_gradients_that_came_before() -> Result<()> {
    let x = image(1, 1)?;
    let lost = |y: Tensor| -> Result<bool> {
        // Four pixels and ten times the input: 14 in all.
        let both = (y.sum_all()? + (x.as_tensor() * 10.0)?.sum_all()?)?;
        Ok(gradient(&x, &both)? != Some(vec![14.0]))
    };
    let other = |y: Tensor| -> Result<bool> {
        let both = ((x.as_tensor() * 10.0)?.sum_all()? + y.sum_all()?)?;
        Ok(gradient(&x, &both)? != Some(vec![14.0]))
    };
    // Which of the two orders loses depends on the walk through the graph.
    assert!(lost(x.upsample_nearest2d(2, 2)?)? || other(x.upsample_nearest2d(2, 2)?)?);
    assert!(
        !lost(k::upsample_nearest2d(&x, (2, 2))?)? && !other(k::upsample_nearest2d(&x, (2, 2))?)?
    );
    Ok(())
}

#[test]
fn resizing_has_a_gradient_for_whole_equal_factors_alone() -> Result<()> {
    let x = image(2, 2)?;
    fails(
        gradient(&x, &x.upsample_nearest2d(3, 3)?),
        "non integer upscaling",
    );
    fails(
        gradient(&x, &x.upsample_nearest2d(2, 4)?),
        "non uniform upscaling",
    );
    fails(
        gradient(&x, &x.upsample_bilinear2d(4, 4, false)?),
        "backward not supported for upsample_bilinear2d",
    );
    assert_eq!(
        gradient(&x, &k::upsample_nearest2d(&x, (2, 4))?)?,
        Some(vec![2.0; 4])
    );
    assert!(gradient(&x, &k::upsample_bilinear2d(&x, (4, 4), false)?)?.is_some());
    Ok(())
}

#[test]
fn conv_transpose1d_has_no_gradient() -> Result<()> {
    let x = Var::ones((1, 1, 3), DType::F32, &Device::Cpu)?;
    let w = Tensor::ones((1, 1, 2), DType::F32, &Device::Cpu)?;
    fails(
        gradient(&x, &x.conv_transpose1d(&w, 0, 0, 1, 1, 1)?),
        "conv-transpose1d",
    );
    Ok(())
}

#[test]
fn sqrt_and_powf_have_infinite_gradients_at_zero() -> Result<()> {
    let x = Var::new(&[0f32], &Device::Cpu)?;
    assert_eq!(gradient(&x, &x.sqrt()?)?, Some(vec![f32::INFINITY]));
    assert_eq!(gradient(&x, &x.powf(0.5)?)?, Some(vec![f32::INFINITY]));
    assert_eq!(gradient(&x, &k::safe::sqrt(&x)?)?, Some(vec![0.0]));
    // The norm of a zero row: 0 * inf.
    let norm = x.sqr()?.sum_all()?.sqrt()?;
    assert!(gradient(&x, &norm)?.unwrap()[0].is_nan());
    assert_eq!(gradient(&x, &k::safe::norm_last_dim(&x)?)?, Some(vec![0.0]));
    Ok(())
}

#[test]
fn fused_forms_have_no_gradient() -> Result<()> {
    let x = Var::new(&[[0f32, 1.0]], &Device::Cpu)?;
    let (w, b) = (
        Tensor::new(&[1f32, 1.0], &Device::Cpu)?,
        Tensor::new(&[0f32, 0.0], &Device::Cpu)?,
    );
    assert_eq!(gradient(&x, &candle_nn::ops::softmax_last_dim(&x)?)?, None);
    assert_eq!(
        gradient(&x, &candle_nn::ops::layer_norm(&x, &w, &b, 1e-5)?)?,
        None
    );
    assert_eq!(
        gradient(&x, &candle_nn::ops::rms_norm(&x, &w, 1e-5)?)?,
        None
    );
    let layer = candle_nn::LayerNorm::new(w.clone(), b.clone(), 1e-5);
    assert_eq!(gradient(&x, &layer.forward(&x)?)?, None);
    assert!(gradient(&x, &k::layer_norm(&x, &w, &b, 1e-5)?)?.is_some());
    Ok(())
}

#[test]
fn ties_of_a_maximum_each_get_the_whole_gradient() -> Result<()> {
    let x = Var::new(&[2f32, 2.0, 1.0, 1.0], &Device::Cpu)?;
    assert_eq!(
        gradient(&x, &x.max(D::Minus1)?)?,
        Some(vec![1.0, 1.0, 0.0, 0.0])
    );
    assert_eq!(
        gradient(&x, &x.min(D::Minus1)?)?,
        Some(vec![0.0, 0.0, 1.0, 1.0])
    );
    assert_eq!(
        gradient(&x, &k::safe::max_last_dim(&x)?)?,
        Some(vec![0.5, 0.5, 0.0, 0.0])
    );
    Ok(())
}

#[test]
fn relu_and_abs_pass_gradients_at_zero() -> Result<()> {
    let x = Var::new(&[0f32], &Device::Cpu)?;
    assert_eq!(gradient(&x, &x.relu()?)?, Some(vec![1.0]));
    assert_eq!(gradient(&x, &x.abs()?)?, Some(vec![1.0]));
    assert_eq!(gradient(&x, &k::relu(&x)?)?, Some(vec![0.0]));
    assert_eq!(gradient(&x, &k::safe::abs(&x)?)?, Some(vec![0.0]));
    Ok(())
}

#[test]
fn clamp_halves_the_gradient_at_its_bounds() -> Result<()> {
    let x = Var::new(&[0f32, 0.5, 1.0], &Device::Cpu)?;
    assert_eq!(
        gradient(&x, &x.clamp(0f32, 1f32)?)?,
        Some(vec![0.5, 1.0, 0.5])
    );
    Ok(())
}

#[test]
fn scatter_add_has_a_wrong_gradient_or_none() -> Result<()> {
    let init = Var::new(&[1f32, 2.0, 3.0], &Device::Cpu)?;
    let at = Tensor::new(&[0u32, 0, 1], &Device::Cpu)?;
    let src = Var::new(&[1f32, 1.0, 1.0], &Device::Cpu)?;
    // Every element of `init` stands in the sum.
    assert_eq!(
        gradient(&init, &init.scatter_add(&at, &src, 0)?)?,
        Some(vec![0.0, 0.0, 1.0])
    );
    let ours = k::safe::scatter_add(&init, &at, &src, 0)?;
    assert_eq!(gradient(&init, &ours)?, Some(vec![1.0; 3]));
    let (at, src) = (at.narrow(0, 0, 2)?, src.narrow(0, 0, 2)?);
    fails(
        gradient(
            &init,
            &init.scatter_add(&at.contiguous()?, &src.contiguous()?, 0)?,
        ),
        "mismatch",
    );
    let ours = k::safe::scatter_add(&init, &at, &src, 0)?;
    assert_eq!(gradient(&init, &ours)?, Some(vec![1.0; 3]));
    Ok(())
}

#[test]
fn scatter_hands_a_gradient_to_what_it_overwrote() -> Result<()> {
    let init = Var::new(&[1f32, 2.0, 3.0], &Device::Cpu)?;
    let at = Tensor::new(&[0u32, 1, 1], &Device::Cpu)?;
    let src = Tensor::new(&[5f32, 5.0, 5.0], &Device::Cpu)?;
    // Elements 0 and 1 are gone from the result.
    assert_eq!(
        gradient(&init, &init.scatter(&at, &src, 0)?)?,
        Some(vec![1.0; 3])
    );
    Ok(())
}

#[test]
fn binary_cross_entropy_is_not_finite_for_large_logits() -> Result<()> {
    let x = Tensor::new(&[-200f32], &Device::Cpu)?;
    let target = Tensor::new(&[1f32], &Device::Cpu)?;
    let loss = candle_nn::loss::binary_cross_entropy_with_logit(&x, &target)?;
    assert!(!loss.to_scalar::<f32>()?.is_finite());
    assert_eq!(k::softplus(&x.neg()?)?.to_vec1::<f32>()?, [200.0]);
    Ok(())
}

#[test]
fn log_sum_exp_of_missing_elements_is_not_a_number() -> Result<()> {
    let x = Tensor::new(&[[f32::NEG_INFINITY, f32::NEG_INFINITY]], &Device::Cpu)?;
    assert!(x.log_sum_exp(1)?.to_vec1::<f32>()?[0].is_nan());
    assert_eq!(
        k::safe::log_sum_exp_last_dim(&x)?.to_vec1::<f32>()?,
        [f32::NEG_INFINITY]
    );
    Ok(())
}

#[test]
fn gelu_gradient_has_six_digits_in_f64() -> Result<()> {
    let x = Tensor::new(&[1.5f64], &Device::Cpu)?;
    let check = |tol| {
        k::gradcheck::check(
            |v| v[0].gelu_erf()?.sum_all(),
            std::slice::from_ref(&x),
            tol,
        )
    };
    assert!(check(1e-8).is_err());
    check(1e-5)
}

/// Its result depends on `x`, but it says that it has no gradient.
struct Cut;

impl CustomOp1 for Cut {
    fn name(&self) -> &'static str {
        "cut"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        Ok((x.try_clone(l)?, l.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

#[test]
fn an_op_without_gradient_behind_another_is_a_panic() {
    let result = std::panic::catch_unwind(|| {
        let x = Var::new(&[1f32], &Device::Cpu).unwrap();
        let y = x.exp().unwrap().apply_op1(Cut).unwrap();
        y.sum_all().unwrap().backward().map(|_| ())
    });
    assert!(result.is_err(), "candle returns now");
}

#[test]
fn the_cpu_has_no_seed() {
    fails(Device::Cpu.set_seed(1), "cannot seed");
}
