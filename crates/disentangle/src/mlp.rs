//! Multilayer perceptrons that can be frozen: players of a game pass each other gradients without learning from it.

use candle::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use phiz_kernels::layers::{Linear, linear};
use phiz_kernels::relu;

/// Whether a player's own weights learn from a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// Gradients reach the weights.
    Learning,
    /// Gradients pass through to the input and leave the weights alone.
    Frozen,
}

/// Linear layers with ReLU between them: `0`, `1`, ... below the builder's prefix.
#[derive(Debug, Clone)]
pub struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    /// From `from` numbers over hidden layers to `to` numbers.
    ///
    /// # Errors
    /// When the builder cannot give the tensors.
    pub fn new(from: usize, hidden: &[usize], to: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let widths: Vec<usize> = std::iter::once(from)
            .chain(hidden.iter().copied())
            .chain(std::iter::once(to))
            .collect();
        let layers = widths
            .windows(2)
            .enumerate()
            .filter_map(|(i, pair)| match pair {
                &[from, to] => Some(linear(from, to, vb.pp(i))),
                _ => None,
            })
            .collect::<Result<_>>()?;
        Ok(Self { layers })
    }

    /// The last layer's output; `weights` decides whether this pass teaches the layers.
    ///
    /// # Shapes
    /// `x` (B, from); result (B, to).
    ///
    /// # Errors
    /// When `x` has another width.
    pub fn forward(&self, x: &Tensor, weights: Weights) -> Result<Tensor> {
        let mut x = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            if i > 0 {
                x = relu(&x)?;
            }
            x = match weights {
                Weights::Learning => layer.forward(&x)?,
                Weights::Frozen => phiz_kernels::linear(
                    &x,
                    &layer.weight().detach(),
                    layer.bias().map(Tensor::detach).as_ref(),
                )?,
            };
        }
        Ok(x)
    }
}
