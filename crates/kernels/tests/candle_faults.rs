//! Faults of candle that this crate works around, pinned as they are: a test that fails here after an
//! update of candle means that a workaround may go.

use candle::{D, Device, Result, Tensor, Var};

fn gradient(x: &Var, y: &Tensor) -> Result<Option<Vec<f32>>> {
    let grads = y.sum_all()?.backward()?;
    grads.get(x).map(|g| g.flatten_all()?.to_vec1()).transpose()
}

#[test]
fn max_pool_gradient_is_a_quarter() -> Result<()> {
    let x = Var::new(&[[[[1f32, 2.0], [3.0, 4.0]]]], &Device::Cpu)?;
    assert_eq!(
        gradient(&x, &x.max_pool2d(2)?)?,
        Some(vec![0.0, 0.0, 0.0, 0.25])
    );
    assert_eq!(
        gradient(&x, &phiz_kernels::max_pool2d(&x, 2, 2, 0)?)?,
        Some(vec![0.0, 0.0, 0.0, 1.0])
    );
    Ok(())
}

#[test]
fn sqrt_gradient_at_zero_is_infinite() -> Result<()> {
    let x = Var::new(&[0f32], &Device::Cpu)?;
    assert_eq!(gradient(&x, &x.sqrt()?)?, Some(vec![f32::INFINITY]));
    Ok(())
}

#[test]
fn fused_softmax_has_no_gradient() -> Result<()> {
    let x = Var::new(&[[0f32, 1.0]], &Device::Cpu)?;
    assert_eq!(gradient(&x, &candle_nn::ops::softmax_last_dim(&x)?)?, None);
    Ok(())
}

#[test]
fn ties_of_a_maximum_each_get_the_whole_gradient() -> Result<()> {
    let x = Var::new(&[2f32, 2.0, 1.0], &Device::Cpu)?;
    assert_eq!(gradient(&x, &x.max(D::Minus1)?)?, Some(vec![1.0, 1.0, 0.0]));
    Ok(())
}

#[test]
fn relu_passes_gradients_at_zero() -> Result<()> {
    let x = Var::new(&[0f32], &Device::Cpu)?;
    assert_eq!(gradient(&x, &x.relu()?)?, Some(vec![1.0]));
    Ok(())
}
