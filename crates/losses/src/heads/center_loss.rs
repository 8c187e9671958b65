//! Center loss: embeddings are pulled to the centre of their class.

use candle::{Result, Tensor, Var, bail};
use candle_nn::{Init, VarBuilder};

use super::{Batch, check_positive, nothing, read_labels};
use crate::ops::{check_embeddings, constant, host, indices};

/// Configuration of [`CenterLoss`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CenterLossConfig {
    /// alpha, the step of the centres in [`CenterLoss::update`]. Default 0.5.
    pub rate: f64,
    /// Whether the centres are learned by gradient like any weight, in place of the paper's update. Default false.
    pub learned: bool,
}

impl Default for CenterLossConfig {
    fn default() -> Self {
        Self {
            rate: 0.5,
            learned: false,
        }
    }
}

/// Center loss (Wen, Zhang, Li, Qiao, ECCV 2016), used beside a classification loss with a small factor (0.003 in the paper).
///
/// `1/2 mean_i |x_i - c_(y_i)|^2` (the paper takes the sum over the batch). The centres do not follow the gradient but [`CenterLoss::update`]:
/// `c_j <- c_j - alpha (sum_(i: y_i = j) (c_j - x_i)) / (1 + n_j)`, once a step; with `learned` they are a weight like any other.
///
/// The centres (classes, dim) start at 0, as the buffer `running_centers`, or as the parameter `centers` if they are learned, then
/// drawn from N(0, 1). Time and memory O(B D): no B x C matrix.
#[derive(Debug, Clone)]
pub struct CenterLoss {
    centers: Tensor,
    /// The same centres where they are a buffer.
    buffer: Option<Var>,
    config: CenterLossConfig,
}

const OP: &str = "center-loss";

impl CenterLoss {
    /// Takes the centres out of `vb`, or creates them there.
    ///
    /// # Errors
    /// When the configuration makes no sense, or `vb` holds centres of another shape.
    pub fn new(
        dim: usize,
        classes: usize,
        config: CenterLossConfig,
        vb: VarBuilder,
    ) -> Result<Self> {
        let (name, init) = if config.learned {
            (
                "centers",
                Init::Randn {
                    mean: 0.0,
                    stdev: 1.0,
                },
            )
        } else {
            ("running_centers", Init::Const(0.0))
        };
        Self::from_centers(vb.get_with_hints((classes, dim), name, init)?, config)
    }

    /// Builds the loss from given centres (classes, dim).
    ///
    /// # Errors
    /// When the configuration makes no sense, or the centres are no matrix.
    pub fn from_centers(centers: Tensor, config: CenterLossConfig) -> Result<Self> {
        check_positive("the rate of the center loss", config.rate)?;
        check_embeddings(&centers)?;
        if config.learned {
            return Ok(Self {
                centers,
                buffer: None,
                config,
            });
        }
        let buffer = Var::from_tensor(&centers)?;
        let centers = buffer.as_detached_tensor();
        Ok(Self {
            centers,
            buffer: Some(buffer),
            config,
        })
    }

    /// The centres (classes, dim).
    pub fn centers(&self) -> &Tensor {
        &self.centers
    }

    /// The loss; the gradient reaches the embeddings, and the centres if they are learned.
    ///
    /// # Shapes
    /// `embeddings` (B, D), `labels` (B) of an integer type; result: scalar. An empty batch gives 0.
    ///
    /// # Errors
    /// When shapes or types disagree, or a label is not below the number of classes.
    pub fn loss(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let classes = self.centers.dim(0)?;
        let Some(batch) = Batch::new(OP, embeddings, &self.centers, classes, labels, None)? else {
            return nothing(embeddings, &self.centers);
        };
        let n = batch.labels.len() as f64;
        let own = batch
            .weight
            .index_select(&indices(batch.labels, &batch.embeddings)?, 0)?;
        let loss = ((batch.embeddings - own)?.sqr()?.sum_all()? * (0.5 / n))?;
        Ok(loss)
    }

    /// Moves the centres of the classes in the batch towards their items. Call it once a step, after the loss.
    ///
    /// # Errors
    /// As [`CenterLoss::loss`]; when the centres are learned by gradient; when an embedding holds NaN or infinity.
    pub fn update(&self, embeddings: &Tensor, labels: &Tensor) -> Result<()> {
        let Some(buffer) = &self.buffer else {
            bail!("{OP}: these centres are learned by gradient and have no update");
        };
        let (n, d) = check_embeddings(embeddings)?;
        let (classes, dim) = self.centers.dims2()?;
        if d != dim {
            bail!("{OP}: embeddings are (B, {d}) but the centres are ({classes}, {dim})");
        }
        let labels = read_labels(OP, labels, n, classes)?;
        let x = host(embeddings)?;
        if let Some(i) = x.iter().position(|v| !v.is_finite()) {
            bail!("{OP}: row {} of embeddings holds NaN or infinity", i / d);
        }
        let mut centers = host(buffer)?;
        let mut counts = vec![0usize; classes];
        let mut sums = vec![0.0; centers.len()];
        for (x, &l) in x.chunks_exact(d).zip(&labels) {
            let l = l as usize;
            counts[l] += 1;
            for (k, x) in x.iter().enumerate() {
                sums[l * d + k] += centers[l * d + k] - x;
            }
        }
        for (i, c) in centers.iter_mut().enumerate() {
            *c -= self.config.rate * sums[i] / (1.0 + counts[i / d] as f64);
        }
        buffer.set(&constant(centers, (classes, dim), buffer)?)
    }
}
