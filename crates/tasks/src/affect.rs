//! Expression as a class, valence and arousal as numbers.
//!
//! ```text
//! CCC = 2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2)          moments over the known rows of the batch, divisor n
//! L   = ccc_weight (1 - mean over columns of CCC) + squared_weight mean (x - y)^2
//! ```
//!
//! Lin's concordance is what valence and arousal are judged by, but over a batch it is a noisy estimate of the whole
//! set's; the squared term steadies it, and alone it is the L2 loss.
//!
//! Source: Lin, "A concordance correlation coefficient to evaluate reproducibility" (Biometrics 1989); its use as a
//! loss: Toisoul et al., "Estimation of continuous valence and arousal levels from faces in naturalistic conditions"
//! (Nature Machine Intelligence 2021).

use candle::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use phiz_kernels::cross_entropy;
use phiz_kernels::layers::{Linear, linear};
use phiz_kernels::safe::softmax_last_dim;

use crate::known::{known, masked_squared_error, same_shape};

/// Shape and loss of an [`AffectHead`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AffectConfig {
    /// Expressions to tell apart; 0 for none. Default 8.
    pub classes: usize,
    /// Whether valence and arousal are predicted. Default true.
    pub dimensional: bool,
    /// Weight of the cross-entropy. Default 1.
    pub class_weight: f64,
    /// Label smoothing of the cross-entropy. Default 0.
    pub label_smoothing: f64,
    /// Weight of 1 - CCC. Default 1.
    pub ccc_weight: f64,
    /// Weight of the squared error. Default 1.
    pub squared_weight: f64,
}

impl Default for AffectConfig {
    fn default() -> Self {
        Self {
            classes: 8,
            dimensional: true,
            class_weight: 1.,
            label_smoothing: 0.,
            ccc_weight: 1.,
            squared_weight: 1.,
        }
    }
}

/// What an [`AffectHead`] computes.
#[derive(Debug, Clone)]
pub struct AffectOutput {
    /// Class scores (B, classes).
    pub logits: Option<Tensor>,
    /// Valence and arousal (B, 2), not cut to -1..1.
    pub dimensional: Option<Tensor>,
}

/// A linear layer to expressions (`expression`) and one to valence and arousal (`dimensional`), on features (B, F).
#[derive(Debug, Clone)]
pub struct AffectHead {
    config: AffectConfig,
    expression: Option<Linear>,
    dimensional: Option<Linear>,
}

impl AffectHead {
    /// A head on `features` numbers an image.
    ///
    /// # Errors
    /// When it would predict nothing, a single class, or from nothing, or the builder cannot give the tensors.
    pub fn new(features: usize, config: AffectConfig, vb: VarBuilder) -> Result<Self> {
        if features == 0 || config.classes == 1 || (config.classes == 0 && !config.dimensional) {
            candle::bail!(
                "AffectHead: {features} features to {} classes and {} numbers: expected at least one feature and \
                 two classes or the numbers",
                config.classes,
                2 * usize::from(config.dimensional)
            )
        }
        Ok(Self {
            config,
            expression: match config.classes {
                0 => None,
                classes => Some(linear(features, classes, vb.pp("expression"))?),
            },
            dimensional: match config.dimensional {
                true => Some(linear(features, 2, vb.pp("dimensional"))?),
                false => None,
            },
        })
    }

    /// Scores and numbers.
    ///
    /// # Shapes
    /// `features` (B, F).
    ///
    /// # Errors
    /// When the features have another length.
    pub fn forward(&self, features: &Tensor) -> Result<AffectOutput> {
        let through = |layer: &Option<Linear>| match layer {
            Some(layer) => Ok::<_, candle::Error>(Some(layer.forward(features)?)),
            None => Ok(None),
        };
        Ok(AffectOutput {
            logits: through(&self.expression)?,
            dimensional: through(&self.dimensional)?,
        })
    }

    /// The weighted sum of the losses of what there are targets for.
    ///
    /// # Shapes
    /// `expression` (B) u32, `dimensional` (B, 2) with NaN for unknown; result: scalar.
    ///
    /// # Errors
    /// When a target is given that the head does not predict, or none is given.
    pub fn loss(
        &self,
        output: &AffectOutput,
        expression: Option<&Tensor>,
        dimensional: Option<&Tensor>,
    ) -> Result<Tensor> {
        let c = &self.config;
        let mut total: Option<Tensor> = None;
        let mut add = |part: Tensor| -> Result<()> {
            total = Some(match total.take() {
                Some(sum) => (sum + part)?,
                None => part,
            });
            Ok(())
        };
        if let Some(target) = expression {
            let Some(logits) = &output.logits else {
                candle::bail!("AffectHead: expressions as target, but the head has no classes")
            };
            add((cross_entropy(logits, target, c.label_smoothing)? * c.class_weight)?)?;
        }
        if let Some(target) = dimensional {
            let Some(predicted) = &output.dimensional else {
                candle::bail!(
                    "AffectHead: valence and arousal as target, but the head predicts neither"
                )
            };
            add(affect_loss(
                predicted,
                target,
                c.ccc_weight,
                c.squared_weight,
            )?)?;
        }
        match total {
            Some(total) => Ok(total),
            None => candle::bail!("AffectHead: no target given"),
        }
    }

    /// Probabilities of the expressions (B, classes), and valence and arousal cut to -1..1 (B, 2).
    ///
    /// # Errors
    /// When the output is not of this head.
    pub fn decode(&self, output: &AffectOutput) -> Result<AffectOutput> {
        Ok(AffectOutput {
            logits: match &output.logits {
                Some(logits) => Some(softmax_last_dim(&logits.contiguous()?)?),
                None => None,
            },
            dimensional: match &output.dimensional {
                Some(numbers) => Some(numbers.clamp(-1., 1.)?),
                None => None,
            },
        })
    }
}

/// 1 - mean over columns of the concordance correlation, over the rows whose target is known.
///
/// The denominator has 1e-8 added, so that constant predictions of a constant target give 1 and no NaN. A column
/// without a known row counts as 1, without gradient.
///
/// # Shapes
/// `predicted` and `target` (B, C); result: scalar within 0 to 2.
///
/// # Errors
/// When the shapes differ, or are not of two dimensions.
pub fn ccc_loss(predicted: &Tensor, target: &Tensor) -> Result<Tensor> {
    same_shape("CCC", predicted, target)?;
    predicted.dims2()?;
    let (y, mask) = known(target, predicted)?;
    // No known row: one that counts 0 in every sum.
    let count = mask.sum_keepdim(0)?.maximum(1.)?;
    let mean =
        |v: &Tensor| -> Result<Tensor> { (v * &mask)?.sum_keepdim(0)?.broadcast_div(&count) };
    let (mx, my) = (mean(predicted)?, mean(&y)?);
    let (dx, dy) = (predicted.broadcast_sub(&mx)?, y.broadcast_sub(&my)?);
    let (sxx, syy, sxy) = (mean(&dx.sqr()?)?, mean(&dy.sqr()?)?, mean(&(dx * dy)?)?);
    let below = ((sxx + syy)? + (mx - my)?.sqr()?)?;
    let ccc = ((sxy * 2.)? / (below + 1e-8)?)?;
    1. - ccc.mean_all()?
}

/// `ccc_weight` times [`ccc_loss`] plus `squared_weight` times [`masked_squared_error`].
///
/// # Shapes
/// `predicted` and `target` (B, 2): valence and arousal, NaN where unknown; result: scalar.
///
/// # Errors
/// When the shapes differ, a weight is negative or not finite, or both are 0.
pub fn affect_loss(
    predicted: &Tensor,
    target: &Tensor,
    ccc_weight: f64,
    squared_weight: f64,
) -> Result<Tensor> {
    let fine = |w: f64| w.is_finite() && w >= 0.;
    if !fine(ccc_weight) || !fine(squared_weight) || ccc_weight + squared_weight == 0. {
        candle::bail!(
            "affect loss: weights {ccc_weight} and {squared_weight} must not be negative, nor both 0"
        )
    }
    match (ccc_weight > 0., squared_weight > 0.) {
        (true, false) => ccc_loss(predicted, target)? * ccc_weight,
        (false, _) => masked_squared_error(predicted, target)? * squared_weight,
        (true, true) => {
            (ccc_loss(predicted, target)? * ccc_weight)?
                + (masked_squared_error(predicted, target)? * squared_weight)?
        }
    }
}
