//! SwAV: clusters assigned to one view are predicted from another.

use candle::{Result, Tensor, bail};
use candle_nn::VarBuilder;

use crate::check::positive;
use crate::head::{Mlp, MlpConfig, unit};
use crate::method::{Method, Moment, StepReport, scalar};
use crate::monitor::{choice_entropy, prediction_entropy, spread};
use crate::prototypes::Prototypes;
use crate::queue::Queue;
use crate::sinkhorn::{SinkhornConfig, sinkhorn};
use crate::swap::swapped_prediction;
use crate::views::{Trunk, Views};

/// Settings of [`Swav`]; the defaults are those of the published training at a batch of 256 and more.
#[derive(Debug, Clone, PartialEq)]
pub struct SwavConfig {
    /// Width of the projection head's hidden layer. Default 2048.
    pub hidden: usize,
    /// Length of the embedding. Default 128.
    pub dim: usize,
    /// Batch norm in the projection head. Default true.
    pub head_norm: bool,
    /// Prototypes K. Default 3000.
    pub prototypes: usize,
    /// Views that codes are made of, by number. Default 0 and 1.
    pub assign: Vec<usize>,
    /// Temperature of the predictions. Default 0.1.
    pub temperature: f64,
    /// How codes are made. Default epsilon 0.05, 3 iterations.
    pub sinkhorn: SinkhornConfig,
    /// Codes are made hard: 1 for the largest share of a row, 0 for the others. Default false.
    pub hard: bool,
    /// Embeddings of earlier batches that take part in making codes, a multiple of the batch; 0 for none. Default 0.
    pub queue: usize,
    /// Step from which the queue is filled; it takes part once it is full. Default 0.
    pub queue_from: u64,
    /// Steps during which the prototypes stand still. Default 313.
    pub freeze_steps: u64,
}

impl Default for SwavConfig {
    fn default() -> Self {
        Self {
            hidden: 2048,
            dim: 128,
            head_norm: true,
            prototypes: 3000,
            assign: vec![0, 1],
            temperature: 0.1,
            sinkhorn: SinkhornConfig::default(),
            hard: false,
            queue: 0,
            queue_from: 0,
            freeze_steps: 313,
        }
    }
}

/// Swapping assignments between views (Caron et al., NeurIPS 2020).
///
/// Features go through `projection_head` to unit embeddings z and through `prototypes` (unit rows, no bias) to scores.
/// Scores of the views `assign`, behind those of the queue, become codes by [`sinkhorn`]; all other views predict
/// them ([`swapped_prediction`]). Embeddings of this batch enter the queue after the codes are made.
///
/// While the prototypes are frozen they have no gradient: an optimiser has to allow that (`allow_unused` in
/// `phiz-train`).
#[derive(Debug, Clone)]
pub struct Swav {
    config: SwavConfig,
    batch: usize,
    head: Mlp,
    prototypes: Prototypes,
    queue: Option<Queue>,
}

impl Swav {
    /// A head on features of length `features`, for batches of `batch` images.
    ///
    /// # Errors
    /// When a setting makes no sense; when batch and queue together have fewer rows than there are prototypes, so that
    /// equal shares leave each less than one.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "candle's constructors take the builder by value"
    )]
    pub fn new(config: &SwavConfig, features: usize, batch: usize, vb: VarBuilder) -> Result<Self> {
        positive("temperature of SwAV", config.temperature)?;
        positive("epsilon of SwAV", config.sinkhorn.epsilon)?;
        let rows = batch + config.queue;
        if config.prototypes > rows && batch > 0 {
            let needed = (config.prototypes - batch).div_ceil(batch) * batch;
            bail!(
                "{} prototypes, but a batch of {batch} and a queue of {} give only {rows} rows to share them: \
                 take at most {rows} prototypes, a larger batch, or a queue of {needed}",
                config.prototypes,
                config.queue
            );
        }
        if config.assign.is_empty() {
            bail!("SwAV: needs at least one view to make codes of");
        }
        let queue = match config.queue {
            0 => None,
            length => Some(Queue::new(
                config.assign.len(),
                length,
                config.dim,
                batch,
                vb.pp("queue"),
            )?),
        };
        let head = MlpConfig {
            norm: config.head_norm,
            ..MlpConfig::new(config.hidden, config.dim)
        };
        Ok(Self {
            config: config.clone(),
            batch,
            head: Mlp::new(&head, features, vb.pp("projection_head"))?,
            prototypes: Prototypes::new(config.prototypes, config.dim, vb.pp("prototypes"))?,
            queue,
        })
    }

    /// The prototypes.
    pub fn prototypes(&self) -> &Prototypes {
        &self.prototypes
    }

    /// The queue, where there is one.
    pub fn queue(&self) -> Option<&Queue> {
        self.queue.as_ref()
    }

    /// Whether the queue takes part in the codes of `step`: it is full by then.
    pub fn uses_queue(&self, step: u64) -> bool {
        let filled_at = |queue: &Queue| self.config.queue_from.saturating_add(queue.batches());
        self.queue
            .as_ref()
            .is_some_and(|queue| step >= filled_at(queue))
    }

    /// Unit embeddings of features.
    ///
    /// # Errors
    /// When the length of the features is another.
    pub fn embed(&self, features: &Tensor, train: bool) -> Result<Tensor> {
        unit(&self.head.forward(features, train)?)
    }

    /// Codes of one view of the batch, and the errors of the marginals (largest, mean).
    fn code(&self, place: usize, scores: &Tensor, with_queue: bool) -> Result<(Tensor, [f64; 2])> {
        let assigned = match &self.queue {
            Some(queue) if with_queue => {
                let old = self.prototypes.scores(&queue.embeddings(place)?, true)?;
                sinkhorn(&Tensor::cat(&[&old, scores], 0)?, self.config.sinkhorn)?
            }
            _ => sinkhorn(scores, self.config.sinkhorn)?,
        };
        let mut q = assigned.last(self.batch)?;
        if self.config.hard {
            let largest = q.max_keepdim(1)?;
            let hits = q.broadcast_ge(&largest)?.to_dtype(q.dtype())?;
            // Of equal shares each gets its part.
            q = hits.broadcast_div(&hits.sum_keepdim(1)?)?;
        }
        Ok((q, [assigned.marginal_error, assigned.mean_marginal_error]))
    }
}

impl Method for Swav {
    fn step(&self, trunk: &dyn Trunk, views: &Views, moment: Moment) -> Result<StepReport> {
        let config = &self.config;
        let count = views.count();
        if views.batch() != self.batch {
            bail!(
                "SwAV was made for batches of {}, got {}",
                self.batch,
                views.batch()
            );
        }
        if let Some(view) = config.assign.iter().find(|&&view| view >= count) {
            bail!("SwAV: codes are made of view {view}, but there are {count} views");
        }
        self.prototypes.normalize()?;
        let embeddings = self.embed(&views.features(trunk, true)?, true)?;
        let frozen = moment.step < config.freeze_steps;
        let scores = self.prototypes.scores(&embeddings, frozen)?;

        let with_queue = self.uses_queue(moment.step);
        let seen = scores.detach();
        let mut codes = Vec::with_capacity(config.assign.len());
        let mut errors = [0.0f64; 2];
        for (place, &view) in config.assign.iter().enumerate() {
            let (code, [largest, mean]) = self.code(
                place,
                &views.rows_of(&seen, view)?.contiguous()?,
                with_queue,
            )?;
            errors[0] = errors[0].max(largest);
            errors[1] += mean / config.assign.len() as f64;
            codes.push((view, code));
        }
        if let Some(queue) = &self.queue
            && moment.step >= config.queue_from
        {
            let new = config
                .assign
                .iter()
                .map(|&view| views.rows_of(&embeddings.detach(), view))
                .collect::<Result<Vec<_>>>()?;
            queue.push(&new)?;
        }
        let loss = swapped_prediction(&scores, count, &codes, config.temperature)?;

        let assigned = |all: &Tensor| -> Result<Tensor> {
            let parts = config
                .assign
                .iter()
                .map(|&view| views.rows_of(all, view))
                .collect::<Result<Vec<_>>>()?;
            Tensor::cat(&parts, 0)
        };
        let logits = (assigned(&seen)? / config.temperature)?;
        let (choices, used) = choice_entropy(&logits)?;
        let first = views.rows_of(
            &embeddings.detach(),
            config.assign.first().copied().unwrap_or(0),
        )?;
        let metrics = [
            ("spread", spread(&first)?),
            ("prediction_entropy", prediction_entropy(&logits)?),
            ("choice_entropy", choices),
            ("prototypes_used", used as f64),
            (
                "loss_over_chance",
                scalar(&loss)? - (config.prototypes as f64).ln(),
            ),
            ("marginal_error", errors[0]),
            ("marginal_error_mean", errors[1]),
            ("queue_in_use", f64::from(u8::from(with_queue))),
        ];
        Ok(StepReport {
            loss,
            metrics: metrics
                .map(|(name, value)| (name.to_string(), value))
                .into(),
        })
    }
}
