//! VICReg: variance, invariance, covariance.

use candle::{Result, Tensor};
use candle_nn::VarBuilder;
use phiz_kernels::relu;
use phiz_kernels::safe::sqrt;

use crate::check::{not_negative, two_views};
use crate::clr::agreement;
use crate::head::{Mlp, MlpConfig};
use crate::method::{Method, Moment, StepReport};
use crate::monitor::spread;
use crate::views::{Trunk, Views, exactly_two};

/// Settings of [`VicReg`] and [`vic_reg`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VicRegConfig {
    /// Width of the expander's two hidden layers. Default 8192.
    pub hidden: usize,
    /// Length of the embedding. Default 8192.
    pub dim: usize,
    /// Weight of the distance of the two views. Default 25.
    pub invariance: f64,
    /// Weight of the hinge on the deviations. Default 25.
    pub variance: f64,
    /// Weight of the covariances. Default 1.
    pub covariance: f64,
    /// Added to the variances under the root. Default 1e-4.
    pub eps: f64,
}

impl Default for VicRegConfig {
    fn default() -> Self {
        Self {
            hidden: 8192,
            dim: 8192,
            invariance: 25.0,
            variance: 25.0,
            covariance: 1.0,
            eps: 1e-4,
        }
    }
}

/// Variance-invariance-covariance regularisation (Bardes, Ponce and LeCun, ICLR 2022):
///
/// ```text
/// lambda mean (a - b)^2  +  mu / 2 mean_d [1 - sqrt(var_d + eps)]_+  (of both)  +  nu / D sum_{i != j} cov_ij^2  (of both)
/// ```
///
/// with unbiased variances and covariances.
///
/// # Shapes
/// `a`, `b` (B, D), not normalised; result: scalar.
///
/// # Errors
/// When the shapes differ, there are fewer than two images, or a weight is negative.
pub fn vic_reg(a: &Tensor, b: &Tensor, config: &VicRegConfig) -> Result<Tensor> {
    let (batch, dim) = two_views("VICReg", a, b, 2)?;
    for (name, value) in [
        ("invariance", config.invariance),
        ("variance", config.variance),
        ("covariance", config.covariance),
        ("eps", config.eps),
    ] {
        not_negative(&format!("{name} of VICReg"), value)?;
    }
    let free = 1.0 / (batch - 1) as f64;
    let regular = |x: &Tensor| -> Result<Tensor> {
        let x = x.broadcast_sub(&x.mean_keepdim(0)?)?;
        let variances = (x.sqr()?.sum(0)? * free)?;
        let short = relu(&sqrt(&(&variances + config.eps)?)?.affine(-1.0, 1.0)?)?.mean_all()?;
        let transposed = x.t()?.contiguous()?;
        let covariances = (phiz_kernels::linear(&transposed, &transposed, None)? * free)?;
        let apart = (covariances.sqr()?.sum_all()? - variances.sqr()?.sum_all()?)?;
        (short * (config.variance / 2.0))? + (apart * (config.covariance / dim as f64))?
    };
    let distance = ((a - b)?.sqr()?.mean_all()? * config.invariance)?;
    (distance + regular(a)?)? + regular(b)?
}

/// [`vic_reg`] of what an expander of three layers makes of two views.
#[derive(Debug, Clone)]
pub struct VicReg {
    config: VicRegConfig,
    head: Mlp,
}

impl VicReg {
    /// An expander on features of length `features`.
    ///
    /// # Errors
    /// When a width is 0.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "candle's constructors take the builder by value"
    )]
    pub fn new(config: &VicRegConfig, features: usize, vb: VarBuilder) -> Result<Self> {
        let head = MlpConfig {
            hidden: vec![config.hidden; 2],
            out_bias: false,
            ..MlpConfig::new(config.hidden, config.dim)
        };
        Ok(Self {
            config: *config,
            head: Mlp::new(&head, features, vb.pp("projection_head"))?,
        })
    }
}

impl Method for VicReg {
    fn step(&self, trunk: &dyn Trunk, views: &Views, _: Moment) -> Result<StepReport> {
        exactly_two("VICReg", views)?;
        let z = self.head.forward(&views.features(trunk, true)?, true)?;
        let (a, b) = (views.rows_of(&z, 0)?, views.rows_of(&z, 1)?);
        let metrics = vec![
            ("spread".to_string(), spread(&a)?),
            ("agreement".to_string(), agreement(&a, &b)?),
        ];
        Ok(StepReport {
            loss: vic_reg(&a, &b, &self.config)?,
            metrics,
        })
    }
}
