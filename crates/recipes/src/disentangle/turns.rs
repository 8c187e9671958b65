//! What one step computes: a turn of the adversaries or of the main players, a function of the step and the parameters alone.

use candle::{Device, Tensor};
use phiz_data::Dataset;
use phiz_disentangle::{
    Alarm, Batch, Disentangler, FactorValues, Schedule, Step, Turn, UaiNoise, UaiObjective,
};
use phiz_losses::{TupletClustersConfig, tuplet_clusters_report};
use phiz_mining::{NegativeSource, TupletConfig, in_batch_tuplets};
use phiz_train::{StepOutput, Streams};
use rand::RngExt;

use super::config::{DisentangleConfig, Task};
use super::factors::FactorColumn;
use super::model::Splitter;
use crate::{Error, Result};

/// Dropout on d before the decoder of the unsupervised baseline, as its authors set it.
const UAI_DROPOUT: f32 = 0.5;

/// The game of a run.
pub(crate) struct Game {
    config: DisentangleConfig,
    schedule: Schedule,
    streams: Streams,
}

impl Game {
    pub fn new(config: &DisentangleConfig) -> Game {
        Game {
            config: config.clone(),
            schedule: config.schedule(),
            streams: Streams::new(config.seed),
        }
    }

    /// Steps of the whole run.
    pub fn steps(&self) -> u64 {
        self.schedule.steps(self.config.train.turns)
    }

    /// Loss and log line of a step.
    ///
    /// # Errors
    /// When the batch does not fit, or an adversary diverges: the message names the remedy.
    pub fn step(&self, splitter: &Splitter, step: u64, batch: &Batch) -> Result<StepOutput> {
        let (turn, ramp) = self.schedule.turn(step);
        let found = match (splitter, turn) {
            (Splitter::Game(game), Turn::Adversaries) => game.adversary_step(batch)?,
            (Splitter::Game(game), Turn::Main) => self.main(game, step, batch, ramp)?,
            (Splitter::Uai(uai), Turn::Adversaries) => uai.adversary_step(&batch.images)?,
            (Splitter::Uai(uai), Turn::Main) => {
                let rows = batch.images.dim(0)?;
                let noise = self.noise(step, rows, batch.images.device())?;
                let objective = UaiObjective::default();
                uai.main_step(&batch.images, &batch.labels, &objective, &noise)?
            }
        };
        let Step {
            loss,
            mut metrics,
            alarms,
        } = found;
        if let Some(alarm) = alarms
            .iter()
            .find(|alarm| matches!(alarm, Alarm::Diverging { .. }))
        {
            return Err(Error::config(format!(
                "step {step}: {alarm} (`train.adversary_lr` is {}, `game.adversary_turns` {}, `game.mode` the objective)",
                self.config.train.adversary_lr, self.config.game.adversary_turns
            )));
        }
        let who = match turn {
            Turn::Adversaries => "adversary_loss",
            Turn::Main => "main_loss",
        };
        let value = loss.to_dtype(candle::DType::F64)?.to_scalar::<f64>()?;
        metrics.push((who.to_string(), value));
        if turn == Turn::Main {
            for name in ["stale", "flipped", "collapsed"] {
                let share = alarms.iter().any(|alarm| alarm.name() == name);
                metrics.push((format!("alarm_{name}"), f64::from(u8::from(share))));
            }
        }
        Ok(StepOutput {
            loss,
            metrics,
            samples: batch.images.dim(0)?,
        })
    }

    fn main(&self, game: &Disentangler, step: u64, batch: &Batch, ramp: f64) -> Result<Step> {
        let objective = self.config.objective();
        if self.config.game.task == Task::Softmax {
            return Ok(game.main_step(batch, &objective, ramp)?);
        }
        let labels = batch.labels.to_vec1::<u32>()?;
        // Positives come from other states of the factor, negatives from the query's own.
        let (states, negative_source) = match batch.factors.first() {
            Some(FactorValues::Categorical(codes)) => {
                (codes.to_vec1::<u32>()?, NegativeSource::SameIdentity)
            }
            _ => ((0..labels.len() as u32).collect(), NegativeSource::Random),
        };
        let wanted = TupletConfig {
            tuplets_per_batch: (labels.len() / 4).max(1),
            negative_source,
            ..TupletConfig::default()
        };
        let mut rng = self.streams.rng("tuplets", step);
        let drawn = in_batch_tuplets(&labels, &states, &wanted, &mut rng)?;
        if drawn.tuplets.is_empty() {
            return Err(Error::config(format!(
                "step {step}: no tuplet in a batch of {}; expected a larger `train.batch`",
                labels.len()
            )));
        }
        let task = |d: &Tensor| {
            let d = phiz_kernels::safe::normalize_last_dim(d)?;
            let settings = TupletClustersConfig::default();
            tuplet_clusters_report(&d, &drawn.tuplets, settings).map(|(loss, _)| loss)
        };
        Ok(game.main_step_with(batch, &objective, ramp, Some(&task))?)
    }

    fn noise(&self, step: u64, rows: usize, device: &Device) -> Result<UaiNoise> {
        let (d_dim, l_dim) = (self.config.model.d_dim, self.config.model.l_dim);
        let uniform = |name: &str, dim: usize| -> Result<Vec<f32>> {
            let mut rng = self.streams.rng(name, step);
            Ok((0..rows * dim).map(|_| rng.random::<f32>()).collect())
        };
        let centred = |name: &str, dim: usize| -> Result<Tensor> {
            let values = uniform(name, dim)?.into_iter().map(|v| 2. * v - 1.);
            Ok(Tensor::from_vec(
                values.collect::<Vec<f32>>(),
                (rows, dim),
                device,
            )?)
        };
        let dropout = uniform("uai-dropout", d_dim)?
            .into_iter()
            .map(|v| {
                if v < UAI_DROPOUT {
                    0.
                } else {
                    1. / (1. - UAI_DROPOUT)
                }
            })
            .collect::<Vec<f32>>();
        Ok(UaiNoise {
            dropout: Tensor::from_vec(dropout, (rows, d_dim), device)?,
            d: centred("uai-d", d_dim)?,
            l: centred("uai-l", l_dim)?,
        })
    }
}

/// A batch with its labels from the data set's columns.
pub(crate) fn labelled(
    images: Tensor,
    indices: &[usize],
    targets: &[Option<u32>],
    factors: &[FactorColumn],
    dataset: &dyn Dataset,
) -> Result<Batch> {
    let labels = indices
        .iter()
        .map(|&i| targets[i].ok_or_else(|| Error::config("an image has no label of a class")))
        .collect::<Result<Vec<u32>>>()?;
    let device = images.device().clone();
    Ok(Batch {
        labels: Tensor::from_vec(labels, indices.len(), &device)?,
        factors: factors
            .iter()
            .map(|factor| factor.values(dataset, indices, &device))
            .collect::<Result<_>>()?,
        images,
    })
}
