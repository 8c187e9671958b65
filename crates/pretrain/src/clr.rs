//! SimCLR: the other view of an image among all views of the batch.

use candle::{DType, Result, Tensor};
use candle_nn::VarBuilder;
use phiz_kernels::cross_entropy;

use crate::check::{positive, two_views};
use crate::head::{Mlp, MlpConfig, unit};
use crate::method::{Method, Moment, StepReport, scalar};
use crate::monitor::spread;
use crate::views::{Trunk, Views, exactly_two};

/// Normalised temperature-scaled cross entropy over two views: for each of the 2 B unit embeddings, `-log` of the
/// softmax of its cosine with the other view of its image over its cosines with all 2 B - 1 others, divided by the
/// temperature; the mean over all.
///
/// # Shapes
/// `a`, `b` (B, D), of any length; row `i` of both is the same image. Result: scalar.
///
/// # Errors
/// When the shapes differ, there are fewer than two images, or the temperature is not positive.
pub fn nt_xent(a: &Tensor, b: &Tensor, temperature: f64) -> Result<Tensor> {
    let (batch, _) = two_views("NT-Xent", a, b, 2)?;
    positive("temperature of NT-Xent", temperature)?;
    let z = unit(&Tensor::cat(&[a, b], 0)?)?;
    let rows = 2 * batch;
    // Far below any cosine, and finite: an embedding is not its own negative.
    let mut own = vec![0f64; rows * rows];
    for place in own.iter_mut().step_by(rows + 1) {
        *place = -1e30;
    }
    let own = Tensor::from_vec(own, (rows, rows), z.device())?.to_dtype(z.dtype())?;
    let logits = ((phiz_kernels::linear(&z, &z, None)? / temperature)? + own)?;
    let other: Vec<u32> = (0..rows).map(|row| ((row + batch) % rows) as u32).collect();
    let other = Tensor::from_vec(other, rows, z.device())?;
    cross_entropy(&logits, &other, 0.0)
}

/// Settings of [`SimClr`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimClrConfig {
    /// Width of the projection head's hidden layer. Default 2048.
    pub hidden: usize,
    /// Length of the embedding. Default 128.
    pub dim: usize,
    /// Temperature. Default 0.1.
    pub temperature: f64,
}

impl Default for SimClrConfig {
    fn default() -> Self {
        Self {
            hidden: 2048,
            dim: 128,
            temperature: 0.1,
        }
    }
}

/// A simple framework for contrastive learning (Chen et al., ICML 2020): [`nt_xent`] of the projections of two views.
#[derive(Debug, Clone)]
pub struct SimClr {
    config: SimClrConfig,
    head: Mlp,
}

impl SimClr {
    /// A head on features of length `features`.
    ///
    /// # Errors
    /// When a setting makes no sense.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "candle's constructors take the builder by value"
    )]
    pub fn new(config: &SimClrConfig, features: usize, vb: VarBuilder) -> Result<Self> {
        positive("temperature of SimCLR", config.temperature)?;
        let head = MlpConfig::new(config.hidden, config.dim);
        Ok(Self {
            config: *config,
            head: Mlp::new(&head, features, vb.pp("projection_head"))?,
        })
    }
}

impl Method for SimClr {
    fn step(&self, trunk: &dyn Trunk, views: &Views, _: Moment) -> Result<StepReport> {
        exactly_two("SimCLR", views)?;
        let z = self.head.forward(&views.features(trunk, true)?, true)?;
        let (a, b) = (views.rows_of(&z, 0)?, views.rows_of(&z, 1)?);
        let loss = nt_xent(&a, &b, self.config.temperature)?;
        let chance = ((2 * views.batch()).saturating_sub(1).max(1) as f64).ln();
        let metrics = vec![
            ("spread".to_string(), spread(&a)?),
            ("loss_over_chance".to_string(), scalar(&loss)? - chance),
            ("agreement".to_string(), agreement(&a, &b)?),
        ];
        Ok(StepReport { loss, metrics })
    }
}

/// Mean cosine of the two views of an image.
pub(crate) fn agreement(a: &Tensor, b: &Tensor) -> Result<f64> {
    let cosines = (unit(&a.detach())? * unit(&b.detach())?)?.sum(1)?;
    cosines.mean_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()
}
