//! Multilayer perceptrons that can be frozen: players of a game pass each other gradients without learning from it.

use candle::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use phiz_kernels::layers::{Linear, linear, linear_zero_bias};
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
        Self::ending(from, hidden, to, vb, linear)
    }

    /// The same, but its first answers are next to a guess: a random conviction about standardised codes would cost many times
    /// what a guess does, and look like a player that diverges.
    ///
    /// # Errors
    /// When the builder cannot give the tensors.
    pub fn undecided(
        from: usize,
        hidden: &[usize],
        to: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let small = Init::Randn {
            mean: 0.,
            stdev: 0.01,
        };
        Self::ending(from, hidden, to, vb, |from, to, vb| {
            linear_zero_bias(from, to, small, vb)
        })
    }

    fn ending<'a>(
        from: usize,
        hidden: &[usize],
        to: usize,
        vb: &VarBuilder<'a>,
        last: impl FnOnce(usize, usize, VarBuilder<'a>) -> Result<Linear>,
    ) -> Result<Self> {
        let widths = std::iter::once(from).chain(hidden.iter().copied());
        let mut layers = widths
            .clone()
            .zip(hidden)
            .enumerate()
            .map(|(i, (from, &to))| linear(from, to, vb.pp(i)))
            .collect::<Result<Vec<_>>>()?;
        let before = widths.last().unwrap_or(from);
        layers.push(last(before, to, vb.pp(hidden.len()))?);
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
