//! Clipping of gradients by their global norm.

use candle::backprop::GradStore;

use crate::error::Result;
use crate::fused::sum_of_squares;
use crate::parameters::Parameters;

/// The Euclidean norm of all gradients of the trainable variables taken as one vector, summed in f64.
///
/// Variables without a gradient count as zero. NaN or infinite when a gradient is.
///
/// # Errors
/// When a tensor operation fails.
pub fn grad_norm(parameters: &Parameters, gradients: &GradStore) -> Result<f64> {
    let mut sum = 0.;
    for (name, var) in parameters.trainable() {
        if let Some(gradient) = gradients.get(var.as_tensor()) {
            sum += sum_of_squares(gradient).map_err(|error| crate::Error::from(error).of(name))?;
        }
    }
    Ok(sum.sqrt())
}

/// The same norm over the variables whose name `wanted` admits; `None` where none of these has a gradient.
///
/// # Errors
/// When a tensor operation fails.
pub(crate) fn group_norm(
    parameters: &Parameters,
    gradients: &GradStore,
    wanted: impl Fn(&str) -> bool,
) -> Result<Option<f64>> {
    let mut sum = None;
    for (name, var) in parameters.trainable() {
        if wanted(&name)
            && let Some(gradient) = gradients.get(var.as_tensor())
        {
            let squares =
                sum_of_squares(gradient).map_err(|error| crate::Error::from(error).of(name))?;
            sum = Some(sum.unwrap_or(0.) + squares);
        }
    }
    Ok(sum.map(f64::sqrt))
}

/// The factor on all gradients that brings their norm down to `max_norm`: `min(1, max_norm / (norm + 1e-6))`,
/// as PyTorch's `clip_grad_norm_` has it.
pub fn clip_coefficient(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.)
}

/// Scales all gradients in place so that their global norm is at most `max_norm`; returns the norm before.
///
/// The semantics are those of `torch.nn.utils.clip_grad_norm_`. [`fit`](crate::fit) does not call this: it
/// hands the factor to [`Optimizer::step_scaled`](crate::Optimizer::step_scaled), which saves a pass.
///
/// # Errors
/// When a tensor operation fails.
pub fn clip_grad_norm(
    parameters: &Parameters,
    gradients: &mut GradStore,
    max_norm: f64,
) -> Result<f64> {
    let norm = grad_norm(parameters, gradients)?;
    let coefficient = clip_coefficient(norm, max_norm);
    if coefficient < 1. {
        for (_, var) in parameters.trainable() {
            if let Some(gradient) = gradients.remove(var.as_tensor()) {
                gradients.insert(var.as_tensor(), (gradient * coefficient)?);
            }
        }
    }
    Ok(norm)
}
