//! BYOL: predict what a slow copy of the network sees in the other view.

use candle::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::check::two_views;
use crate::clr::agreement;
use crate::ema::Ema;
use crate::head::{Mlp, MlpConfig, unit};
use crate::method::{Method, Moment, StepReport};
use crate::monitor::spread;
use crate::views::{Trunk, Views, exactly_two};

/// Squared distance of unit vectors, `mean over b of 2 - 2 cos(prediction, target)`; the target has no gradient.
///
/// # Shapes
/// Both (B, D); result: scalar.
///
/// # Errors
/// When the shapes differ.
pub fn regression(prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    two_views("BYOL", prediction, target, 1)?;
    let cosines = (unit(prediction)? * unit(&target.detach())?)?.sum(1)?;
    cosines.mean_all()?.affine(-2.0, 2.0)
}

/// Settings of [`Byol`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ByolConfig {
    /// Width of the hidden layers of projection and prediction. Default 4096.
    pub hidden: usize,
    /// Length of projection and prediction. Default 256.
    pub dim: usize,
    /// Momentum of the slow copy at the start; it rises to 1 along half a cosine. Default 0.996.
    pub momentum: f64,
}

impl Default for ByolConfig {
    fn default() -> Self {
        Self {
            hidden: 4096,
            dim: 256,
            momentum: 0.996,
        }
    }
}

impl ByolConfig {
    /// `1 - (1 - m) (cos(pi t / T) + 1) / 2`.
    pub fn momentum_at(&self, moment: Moment) -> f64 {
        let t = moment.step as f64 / moment.total.max(1) as f64;
        1.0 - (1.0 - self.momentum) * ((std::f64::consts::PI * t).cos() + 1.0) / 2.0
    }
}

/// The parts of BYOL that stand on a trunk; made twice, once for the slow copy.
#[derive(Debug, Clone)]
pub(crate) struct Projector(Mlp);

/// Bootstrap your own latent (Grill et al., NeurIPS 2020): [`regression`] of each view's prediction to the slow copy's
/// projection of the other, both ways added.
///
/// The slow copy moves at the start of each step but the first, by the weights that the step before has left: the same
/// as moving after the optimiser, without a second call. Its norms use the statistics of the batch.
pub struct Byol {
    config: ByolConfig,
    projector: Projector,
    predictor: Mlp,
    target_trunk: Box<dyn Trunk>,
    target_projector: Projector,
    ema: Ema,
}

impl Byol {
    /// Heads on features of length `features` from the builder `vb`, and for the slow copy from `target`, a
    /// [`target_builder`](crate::target_builder) of the same root, from which `target_trunk` was made too.
    ///
    /// `pairs` is asked for the variables and their copies once both are made, and the copies are made equal.
    ///
    /// # Errors
    /// When a setting makes no sense, or there are no pairs.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "candle's constructors take the builder by value"
    )]
    pub fn new(
        config: &ByolConfig,
        features: usize,
        vb: VarBuilder,
        target: VarBuilder,
        target_trunk: Box<dyn Trunk>,
        pairs: impl FnOnce() -> Result<Ema>,
    ) -> Result<Self> {
        if !(0. ..=1.).contains(&config.momentum) {
            candle::bail!("momentum {} of BYOL is not in [0, 1]", config.momentum);
        }
        let head = MlpConfig::new(config.hidden, config.dim);
        let projector = Projector(Mlp::new(&head, features, vb.pp("projection_head"))?);
        let predictor = Mlp::new(&head, config.dim, vb.pp("prediction_head"))?;
        let target_projector = Projector(Mlp::new(&head, features, target.pp("projection_head"))?);
        let ema = pairs()?;
        ema.start()?;
        Ok(Self {
            config: *config,
            projector,
            predictor,
            target_trunk,
            target_projector,
            ema,
        })
    }
}

impl Method for Byol {
    fn step(&self, trunk: &dyn Trunk, views: &Views, moment: Moment) -> Result<StepReport> {
        exactly_two("BYOL", views)?;
        if let Some(before) = moment.step.checked_sub(1) {
            self.ema.update(self.config.momentum_at(Moment {
                step: before,
                ..moment
            }))?;
        }
        let z = self
            .projector
            .0
            .forward(&views.features(trunk, true)?, true)?;
        let p = self.predictor.forward(&z, true)?;
        let slow = views.features(self.target_trunk.as_ref(), true)?.detach();
        let slow = self.target_projector.0.forward(&slow, true)?.detach();
        let forth = regression(&views.rows_of(&p, 0)?, &views.rows_of(&slow, 1)?)?;
        let back = regression(&views.rows_of(&p, 1)?, &views.rows_of(&slow, 0)?)?;
        let (a, b) = (views.rows_of(&z, 0)?, views.rows_of(&z, 1)?);
        let metrics = vec![
            ("spread".to_string(), spread(&a)?),
            ("agreement".to_string(), agreement(&a, &b)?),
        ];
        Ok(StepReport {
            loss: (forth + back)?,
            metrics,
        })
    }
}
