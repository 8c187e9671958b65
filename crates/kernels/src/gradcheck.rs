//! Checks of gradients: central differences, and that every variable of a model receives one.

use candle::backprop::GradStore;
use candle::{DType, Device, Result, Tensor, Var};

/// Compares candle's backward pass of a scalar function with central differences in f64, element by
/// element: `|backward - difference| <= tol * max(1, |difference|)`.
///
/// The inputs are copied as f64 variables on the CPU. The step is `1e-5 * max(1, |x|)`, so the
/// differences are good to about nine digits where the function is smooth; keep inputs away from kinks.
/// An input without gradient counts as having gradient zero.
///
/// ```
/// use candle::{Device, Tensor};
/// # fn main() -> candle::Result<()> {
/// let x = Tensor::new(&[0.5f64, -1.5], &Device::Cpu)?;
/// phiz_kernels::gradcheck::check(|v| v[0].sqr()?.sum_all(), &[x], 1e-7)?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// When `f` fails or does not return a scalar, and at the first element that differs: the message
/// names the input, the element's index and both values.
pub fn check(f: impl Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor], tol: f64) -> Result<()> {
    let values = inputs
        .iter()
        .map(|t| {
            t.to_device(&Device::Cpu)?
                .to_dtype(DType::F64)?
                .flatten_all()?
                .to_vec1::<f64>()
        })
        .collect::<Result<Vec<_>>>()?;
    let vars = values
        .iter()
        .zip(inputs)
        .map(|(v, t)| Var::from_vec(v.clone(), t.shape(), &Device::Cpu))
        .collect::<Result<Vec<_>>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tensors)?;
    if y.rank() != 0 {
        candle::bail!(
            "gradcheck: expected a scalar function, got shape {:?}",
            y.shape()
        );
    }
    let grads = y.backward()?;
    for (index, (value, var)) in values.iter().zip(&vars).enumerate() {
        let analytic = match grads.get(var) {
            Some(grad) if grad.dims() == var.dims() => grad.flatten_all()?.to_vec1::<f64>()?,
            Some(grad) => candle::bail!(
                "gradcheck: input {index} has shape {:?} but its gradient {:?}",
                var.shape(),
                grad.shape()
            ),
            None => vec![0.0; value.len()],
        };
        for (element, (&x, &backward)) in value.iter().zip(&analytic).enumerate() {
            let step = 1e-5 * x.abs().max(1.0);
            let at = |x: f64| -> Result<f64> {
                let mut moved = value.clone();
                if let Some(slot) = moved.get_mut(element) {
                    *slot = x;
                }
                let mut arguments: Vec<Tensor> = tensors.iter().map(Tensor::detach).collect();
                if let Some(slot) = arguments.get_mut(index) {
                    *slot = Tensor::from_vec(moved, var.shape(), &Device::Cpu)?;
                }
                f(&arguments)?.to_scalar::<f64>()
            };
            let difference = (at(x + step)? - at(x - step)?) / (2.0 * step);
            let close = (backward - difference).abs() <= tol * difference.abs().max(1.0);
            if !close {
                let missing = if grads.get(var).is_none() {
                    " (none was given)"
                } else {
                    ""
                };
                candle::bail!(
                    "gradcheck: input {index}, element {element} of {:?}: backward gives {backward}{missing}, central difference {difference}",
                    var.shape()
                );
            }
        }
    }
    Ok(())
}

/// Checks that every variable has a finite gradient: what a silently cut graph breaks.
///
/// # Errors
/// Names all variables without gradient, or the first whose gradient is not finite or of another shape.
pub fn every_variable_has_gradient(grads: &GradStore, vars: &[(String, Var)]) -> Result<()> {
    let missing: Vec<&str> = vars
        .iter()
        .filter(|(_, v)| grads.get(v).is_none())
        .map(|(n, _)| n.as_str())
        .collect();
    if !missing.is_empty() {
        candle::bail!(
            "no gradient for {} of {} variables: {}",
            missing.len(),
            vars.len(),
            missing.join(", ")
        );
    }
    for (name, var) in vars {
        let Some(grad) = grads.get(var) else { continue };
        if grad.dims() != var.dims() {
            candle::bail!(
                "gradient of {name} has shape {:?}, the variable {:?}",
                grad.shape(),
                var.shape()
            );
        }
        // A sum of magnitudes is finite exactly when every element is (f32 sums taken in f64).
        let total = grad
            .to_dtype(DType::F64)?
            .abs()?
            .sum_all()?
            .to_scalar::<f64>()?;
        if !total.is_finite() {
            candle::bail!("gradient of {name} is not finite");
        }
    }
    Ok(())
}
