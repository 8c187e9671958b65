//! Intensities of facial action units, 0 to 5.
//!
//! *Squared*: one number a unit, mean squared error over what was coded. *Ordinal*: intensities are steps A to E, and
//! that 4 lies beyond 3 is known while how far is not. For each unit one score and five biases give the
//! probabilities that the intensity reaches 1, 2, ..., 5:
//!
//! ```text
//! P(y >= k) = sigmoid(z + b_k)      L = mean over coded units of sum_k BCE(P(y >= k), [y >= k - 0.5])
//! ```
//!
//! Decoded is the expected intensity, sum_k P(y >= k). Sharing z between the steps keeps the probabilities in order
//! once the biases are.
//!
//! Source of the ordinal form: Cao, Mirjalili and Raschka, "Rank consistent ordinal regression for neural networks"
//! (Pattern Recognition Letters 2020).

use candle::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use phiz_kernels::layers::{Linear, linear};
use phiz_kernels::softplus;

use crate::known::{known, masked_squared_error, mean_of_known};

/// Steps above 0.
const STEPS: usize = 5;

/// How intensities are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ActionUnitLoss {
    /// Mean squared error of one number a unit.
    #[default]
    Squared,
    /// Five ordered decisions a unit.
    Ordinal,
}

/// Options of an [`ActionUnitHead`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ActionUnitConfig {
    /// How intensities are learned. Default squared.
    pub loss: ActionUnitLoss,
}

/// One linear layer `intensity` from features (B, F) to units; the ordinal form adds `thresholds` (units, 5).
#[derive(Debug, Clone)]
pub struct ActionUnitHead {
    intensity: Linear,
    thresholds: Option<Tensor>,
}

impl ActionUnitHead {
    /// A head on `features` numbers an image, for `units` action units.
    ///
    /// # Errors
    /// When either is 0, or the builder cannot give the tensors.
    pub fn new(
        features: usize,
        units: usize,
        config: ActionUnitConfig,
        vb: VarBuilder,
    ) -> Result<Self> {
        if features == 0 || units == 0 {
            candle::bail!("ActionUnitHead: {features} features and {units} units must be positive")
        }
        Ok(Self {
            intensity: linear(features, units, vb.pp("intensity"))?,
            thresholds: match config.loss {
                ActionUnitLoss::Squared => None,
                ActionUnitLoss::Ordinal => {
                    Some(vb.get_with_hints((units, STEPS), "thresholds", Init::Const(0.))?)
                }
            },
        })
    }

    /// What [`loss`](Self::loss) and [`decode`](Self::decode) take.
    ///
    /// # Shapes
    /// `features` (B, F); result (B, units), or (B, units, 5) logits of the steps.
    ///
    /// # Errors
    /// When the features have another length.
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let score = self.intensity.forward(features)?;
        match &self.thresholds {
            Some(thresholds) => score.unsqueeze(2)?.broadcast_add(&thresholds.unsqueeze(0)?),
            None => Ok(score),
        }
    }

    /// The loss the head was made for.
    ///
    /// # Shapes
    /// `target` (B, units), 0 to 5, NaN where a unit was not coded; result: scalar.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn loss(&self, output: &Tensor, target: &Tensor) -> Result<Tensor> {
        match self.thresholds {
            Some(_) => ordinal_loss(output, target),
            None => masked_squared_error(output, target),
        }
    }

    /// Intensities (B, units) within 0..5.
    ///
    /// # Errors
    /// When the output is not of this head.
    pub fn decode(&self, output: &Tensor) -> Result<Tensor> {
        match self.thresholds {
            Some(_) => candle_nn::ops::sigmoid(output)?.sum(2),
            None => output.clamp(0., STEPS as f64),
        }
    }
}

/// Sum over steps of the binary cross-entropy, mean over the coded units. See the [module text](self).
///
/// # Shapes
/// `logits` (B, units, K) of "reaches step 1 to K"; `target` (B, units), 0 to K, NaN where unknown; result: scalar.
///
/// # Errors
/// When the shapes disagree.
pub fn ordinal_loss(logits: &Tensor, target: &Tensor) -> Result<Tensor> {
    let (batch, units, steps) = logits.dims3()?;
    if target.dims() != [batch, units] {
        candle::bail!(
            "ordinal loss: logits {:?} want targets ({batch}, {units}), got {:?}",
            logits.dims(),
            target.dims()
        )
    }
    let (values, mask) = known(target, logits)?;
    let edges: Vec<f64> = (0..steps).map(|k| k as f64 + 0.5).collect();
    let edges =
        Tensor::from_vec(edges, (1, 1, steps), logits.device())?.to_dtype(logits.dtype())?;
    let reached = values
        .unsqueeze(2)?
        .broadcast_ge(&edges)?
        .to_dtype(logits.dtype())?;
    // BCE with logits: softplus(z) - z t.
    let each = (softplus(logits)? - (logits * reached)?)?.sum(2)?;
    mean_of_known(&(each * &mask)?, &mask)
}
