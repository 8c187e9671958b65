//! Prototypes: unit vectors that embeddings are scored against.

use candle::{Result, Tensor, Var, bail};
use candle_nn::{Init, VarBuilder};
use phiz_kernels::safe::normalize_last_dim;

/// A linear layer without bias whose rows are brought to unit length before every use.
///
/// The normalisation changes the parameter itself and has no gradient, as in the released SwAV.
#[derive(Debug, Clone)]
pub struct Prototypes {
    weight: Var,
}

impl Prototypes {
    /// `weight` (K, D), uniform within `1 / sqrt(D)` as PyTorch's linear layers begin.
    ///
    /// # Errors
    /// When a size is 0 or the builder cannot give the tensor.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "candle's constructors take the builder by value"
    )]
    pub fn new(prototypes: usize, dim: usize, vb: VarBuilder) -> Result<Self> {
        if prototypes < 2 || dim == 0 {
            bail!("prototypes: expected at least 2 of length 1 or more, got {prototypes} of {dim}");
        }
        let bound = 1.0 / (dim as f64).sqrt();
        let init = Init::Uniform {
            lo: -bound,
            up: bound,
        };
        let weight = vb.get_with_hints((prototypes, dim), "weight", init)?;
        // A variable is shared, not copied.
        Ok(Self {
            weight: Var::from_tensor(&weight)?,
        })
    }

    /// The prototypes, (K, D).
    pub fn weight(&self) -> &Tensor {
        self.weight.as_tensor()
    }

    /// Brings every prototype to unit length, in place.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn normalize(&self) -> Result<()> {
        let unit = normalize_last_dim(&self.weight.as_detached_tensor())?;
        self.weight.set(&unit)
    }

    /// Cosines of unit embeddings with the prototypes; `frozen` gives the prototypes no gradient, so that an optimiser
    /// passes them over.
    ///
    /// # Shapes
    /// `embeddings` (N, D); result (N, K).
    ///
    /// # Errors
    /// When the length of the embeddings is another.
    pub fn scores(&self, embeddings: &Tensor, frozen: bool) -> Result<Tensor> {
        if frozen {
            phiz_kernels::linear(embeddings, &self.weight.as_detached_tensor(), None)
        } else {
            phiz_kernels::linear(embeddings, self.weight.as_tensor(), None)
        }
    }
}
