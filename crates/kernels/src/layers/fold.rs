//! Batch normalisation folded into what stands beside it, for inference.
//!
//! With running statistics a norm is an affine map of each channel, `s x + t`. Behind a convolution or
//! linear layer it goes into that layer's weight and bias. In front of a linear layer likewise; in front
//! of a convolution the weight takes `s`, but where the window reaches over the border its zeros are not
//! shifted by `t`, so that what the bias becomes differs from pixel to pixel: a map.
//!
//! Products are formed in f64. The folded layer differs from the pair by rounding alone: in f32 a few
//! units in the last place of the largest term of a sum.

use super::{BatchNorm, Conv2d, Linear};
use crate::conv2d;
use candle::{DType, Result, Tensor};

/// Scale and shift of every channel of a norm with its running statistics, in f64.
fn affine(norm: &BatchNorm) -> Result<(Tensor, Tensor)> {
    let wide = |t: &Tensor| t.detach().to_dtype(DType::F64);
    let spread = (wide(norm.running_var())? + norm.config().eps)?.sqrt()?;
    let scale = wide(norm.weight())?.div(&spread)?;
    let shift = wide(norm.bias())?.sub(&wide(norm.running_mean())?.mul(&scale)?)?;
    Ok((scale, shift))
}

fn channels_match(layer: &str, channels: usize, norm: &BatchNorm) -> Result<()> {
    if norm.weight().dims() == [channels] {
        return Ok(());
    }
    candle::bail!(
        "folding: a norm of {:?} does not match the {channels} channels of the {layer}",
        norm.weight().shape()
    )
}

/// The weight with its first dimension scaled, and the bias that follows.
fn behind(weight: &Tensor, bias: Option<&Tensor>, norm: &BatchNorm) -> Result<(Tensor, Tensor)> {
    let (scale, shift) = affine(norm)?;
    let mut shape = vec![1; weight.rank()];
    if let Some(first) = shape.first_mut() {
        *first = scale.elem_count();
    }
    let dtype = weight.dtype();
    let weight = weight
        .detach()
        .to_dtype(DType::F64)?
        .broadcast_mul(&scale.reshape(shape)?)?;
    let bias = match bias {
        Some(bias) => (bias.detach().to_dtype(DType::F64)?.mul(&scale)? + shift)?,
        None => shift,
    };
    Ok((weight.to_dtype(dtype)?, bias.to_dtype(dtype)?))
}

/// One convolution that computes `norm(conv(x))` with the norm's running statistics.
///
/// # Errors
/// When the channels do not match.
pub fn fold_batch_norm(conv: &Conv2d, norm: &BatchNorm) -> Result<Conv2d> {
    channels_match("convolution", conv.weight().dim(0)?, norm)?;
    let (weight, bias) = behind(conv.weight(), conv.bias(), norm)?;
    Ok(Conv2d::new(weight, Some(bias), *conv.config()))
}

/// One linear layer that computes `norm(linear(x))` with the norm's running statistics.
///
/// # Errors
/// When the channels do not match.
pub fn fold_batch_norm_linear(linear: &Linear, norm: &BatchNorm) -> Result<Linear> {
    channels_match("linear layer", linear.weight().dim(0)?, norm)?;
    let (weight, bias) = behind(linear.weight(), linear.bias(), norm)?;
    Ok(Linear::new(weight, Some(bias)))
}

/// One linear layer that computes `linear(flatten(norm(x)))` with the norm's running statistics; every
/// channel of the norm stands for the same number of consecutive inputs.
///
/// # Errors
/// When the inputs are not a multiple of the channels.
pub fn fold_batch_norm_before_linear(norm: &BatchNorm, linear: &Linear) -> Result<Linear> {
    let (outputs, inputs) = linear.weight().dims2()?;
    let channels = norm.weight().dim(0)?;
    if channels == 0 || inputs % channels != 0 {
        candle::bail!(
            "folding: {inputs} inputs of a linear layer are not whole planes of {channels} channels"
        );
    }
    let (scale, shift) = affine(norm)?;
    let dtype = linear.weight().dtype();
    let weight = linear.weight().detach().to_dtype(DType::F64)?;
    let planes = weight.reshape((outputs, channels, inputs / channels))?;
    let mut bias = planes.sum(2)?.broadcast_mul(&shift.unsqueeze(0)?)?.sum(1)?;
    if let Some(own) = linear.bias() {
        bias = (bias + own.detach().to_dtype(DType::F64)?)?;
    }
    let weight = planes
        .broadcast_mul(&scale.reshape((1, channels, 1))?)?
        .reshape((outputs, inputs))?;
    Ok(Linear::new(
        weight.to_dtype(dtype)?,
        Some(bias.to_dtype(dtype)?),
    ))
}

/// A convolution and a map that together compute `conv(norm(x))` for images of `height` x `width`:
/// `conv'(x) + map`. The convolution returned has no bias; the map holds it.
///
/// # Shapes
/// The map is (1, O, H', W'), as [`crate::conv2d_act`] adds it.
///
/// # Errors
/// When the channels do not match, or the convolution does not fit the size.
pub fn fold_batch_norm_before(
    norm: &BatchNorm,
    conv: &Conv2d,
    (height, width): (usize, usize),
) -> Result<(Conv2d, Tensor)> {
    let (outputs, per_group, kh, kw) = conv.weight().dims4()?;
    let groups = conv.config().groups;
    channels_match("convolution's input", per_group * groups, norm)?;
    if groups == 0 || outputs % groups != 0 {
        candle::bail!("folding: {groups} groups do not divide {outputs} channels");
    }
    let (scale, shift) = affine(norm)?;
    let dtype = conv.weight().dtype();
    let weight = conv.weight().detach().to_dtype(DType::F64)?;
    // What the shift of every channel adds, zeros beyond the border included.
    let shifted = shift
        .reshape((1, per_group * groups, 1, 1))?
        .broadcast_as((1, per_group * groups, height, width))?
        .contiguous()?;
    let bias = conv
        .bias()
        .map(|b| b.detach().to_dtype(DType::F64))
        .transpose()?;
    let map = conv2d(&shifted, &weight, bias.as_ref(), *conv.config())?;
    let scales = scale.reshape((groups, 1, per_group, 1, 1))?;
    let weight = weight
        .reshape((groups, outputs / groups, per_group, kh, kw))?
        .broadcast_mul(&scales)?
        .reshape((outputs, per_group, kh, kw))?;
    Ok((
        Conv2d::new(weight.to_dtype(dtype)?, None, *conv.config()),
        map.to_dtype(dtype)?,
    ))
}
