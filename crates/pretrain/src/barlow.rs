//! Barlow Twins: the cross-correlation of two views should be the identity.

use candle::{Result, Tensor};
use candle_nn::VarBuilder;
use phiz_kernels::safe::sqrt;

use crate::check::{not_negative, two_views};
use crate::clr::agreement;
use crate::head::{Mlp, MlpConfig};
use crate::method::{Method, Moment, StepReport};
use crate::monitor::spread;
use crate::views::{Trunk, Views, exactly_two};

/// Added to the variance of a dimension, as PyTorch's batch norm has it.
const EPS: f64 = 1e-5;

/// Redundancy reduction (Zbontar et al., ICML 2021): with both views standardised over the batch (biased variance plus
/// 1e-5) and `C = a^T b / B`,
///
/// ```text
/// sum_i (1 - C_ii)^2  +  lambda sum_{i != j} C_ij^2
/// ```
///
/// # Shapes
/// `a`, `b` (B, D); result: scalar.
///
/// # Errors
/// When the shapes differ, there are fewer than two images, or `lambda` is negative.
pub fn barlow_twins(a: &Tensor, b: &Tensor, lambda: f64) -> Result<Tensor> {
    let (batch, dim) = two_views("Barlow Twins", a, b, 2)?;
    not_negative("lambda of Barlow Twins", lambda)?;
    let standard = |x: &Tensor| -> Result<Tensor> {
        let x = x.broadcast_sub(&x.mean_keepdim(0)?)?;
        let deviation = sqrt(&(x.sqr()?.mean_keepdim(0)? + EPS)?)?;
        x.broadcast_div(&deviation)
    };
    let (a, b) = (standard(a)?, standard(b)?);
    let correlation = phiz_kernels::linear(&a.t()?.contiguous()?, &b.t()?.contiguous()?, None)?;
    let correlation = (correlation / batch as f64)?;
    let identity = Tensor::eye(dim, correlation.dtype(), correlation.device())?;
    // 1 on the diagonal, lambda elsewhere.
    let weights = identity.affine(1.0 - lambda, lambda)?;
    ((correlation - identity)?.sqr()? * weights)?.sum_all()
}

/// Settings of [`BarlowTwins`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BarlowTwinsConfig {
    /// Width of the projector's two hidden layers. Default 8192.
    pub hidden: usize,
    /// Length of the embedding. Default 8192.
    pub dim: usize,
    /// Weight of what is off the diagonal. Default 0.0051.
    pub lambda: f64,
}

impl Default for BarlowTwinsConfig {
    fn default() -> Self {
        Self {
            hidden: 8192,
            dim: 8192,
            lambda: 0.0051,
        }
    }
}

/// [`barlow_twins`] of what a projector of three layers makes of two views.
#[derive(Debug, Clone)]
pub struct BarlowTwins {
    config: BarlowTwinsConfig,
    head: Mlp,
}

impl BarlowTwins {
    /// A projector on features of length `features`; its layers have no biases.
    ///
    /// # Errors
    /// When a width is 0.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "candle's constructors take the builder by value"
    )]
    pub fn new(config: &BarlowTwinsConfig, features: usize, vb: VarBuilder) -> Result<Self> {
        let head = MlpConfig {
            hidden: vec![config.hidden; 2],
            hidden_bias: false,
            out_bias: false,
            ..MlpConfig::new(config.hidden, config.dim)
        };
        Ok(Self {
            config: *config,
            head: Mlp::new(&head, features, vb.pp("projection_head"))?,
        })
    }
}

impl Method for BarlowTwins {
    fn step(&self, trunk: &dyn Trunk, views: &Views, _: Moment) -> Result<StepReport> {
        exactly_two("Barlow Twins", views)?;
        let z = self.head.forward(&views.features(trunk, true)?, true)?;
        let (a, b) = (views.rows_of(&z, 0)?, views.rows_of(&z, 1)?);
        let metrics = vec![
            ("spread".to_string(), spread(&a)?),
            ("agreement".to_string(), agreement(&a, &b)?),
        ];
        Ok(StepReport {
            loss: barlow_twins(&a, &b, self.config.lambda)?,
            metrics,
        })
    }
}
