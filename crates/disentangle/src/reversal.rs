//! Gradient reversal: the identity forwards, the gradient times `-strength` backwards.

use candle::{Result, Tensor};

/// `y = x`, with `dL/dx = -strength dL/dy` (Ganin and Lempitsky, "Unsupervised Domain Adaptation by
/// Backpropagation", ICML 2015).
///
/// Between a code and its discriminator, one backward pass lets the discriminator descend and the encoder ascend.
///
/// # Shapes
/// Any.
///
/// # Errors
/// Those of candle's arithmetic.
///
/// ```
/// use candle::{Device, Var};
/// # fn main() -> candle::Result<()> {
/// let x = Var::new(&[1f32, -2.], &Device::Cpu)?;
/// let y = phiz_disentangle::reverse_gradient(&x, 0.5)?;
/// assert_eq!(y.to_vec1::<f32>()?, [1., -2.]);
/// let grads = y.sum_all()?.backward()?;
/// assert_eq!(grads.get(&x).unwrap().to_vec1::<f32>()?, [-0.5, -0.5]);
/// # Ok(()) }
/// ```
pub fn reverse_gradient(x: &Tensor, strength: f64) -> Result<Tensor> {
    // r - r is exactly 0 for finite r, so the value is x to the bit; its gradient is that of r alone.
    let reversed = x.affine(-strength, 0.)?;
    x.detach() + (&reversed - reversed.detach())?
}
