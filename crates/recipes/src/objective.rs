//! What one training step computes: softmax and metric loss of a batch, and the numbers worth
//! logging.

use candle::Tensor;
use candle_nn::VarBuilder;
use phiz_kernels::cross_entropy;
use phiz_losses::{
    AdaptiveConfig, AdaptiveTupletClusters, CoupledClustersConfig, NPairConfig, TripletConfig,
    TupletClustersConfig, coupled_clusters_report, embedding_std, n_pair, triplet_report,
    tuplet_clusters_report,
};
use phiz_mining::{
    Draw, TupletConfig, Tuplets, batch_hard, mine_positives, n_pair_tuplets, random_positives,
};
use phiz_train::{StepOutput, Streams};

use crate::config::{Config, Metric, ObjectiveConfig};
use crate::losses::Chosen;
use crate::network::Network;
use crate::plan::{PlannedBatch, tuplet_config};
use crate::{Error, Result};

/// The objective of a recipe: its weights, miner and metric loss.
pub(crate) struct Objective {
    config: ObjectiveConfig,
    tuplets: TupletConfig,
    mining: bool,
    mining_from_step: u64,
    ramp_steps: f64,
    adaptive: Option<AdaptiveTupletClusters>,
    chosen: Option<Chosen>,
    chosen_weight: f64,
    streams: Streams,
}

impl Objective {
    pub fn new(
        config: &Config,
        classes: usize,
        steps_per_epoch: f64,
        vb: &VarBuilder,
    ) -> Result<Objective> {
        let objective = &config.objective;
        let adaptive = (objective.metric == Metric::TupletAdaptive)
            .then(|| {
                let settings = AdaptiveConfig {
                    reference_distance: objective.reference_distance,
                    tau: objective.tau,
                    ..AdaptiveConfig::default()
                };
                AdaptiveTupletClusters::new(
                    config.model.embedding_dim,
                    settings,
                    vb.pp("metric_loss"),
                )
            })
            .transpose()?;
        Ok(Objective {
            config: objective.clone(),
            tuplets: tuplet_config(config),
            mining: config.sampling.mining,
            mining_from_step: (config.sampling.mining_after * steps_per_epoch).round() as u64,
            ramp_steps: objective.metric_ramp * steps_per_epoch,
            adaptive,
            chosen: Chosen::new(
                &config.loss,
                config.model.embedding_dim,
                classes,
                &vb.pp("loss"),
            )?,
            chosen_weight: config.loss.weight,
            streams: Streams::new(config.seed),
        })
    }

    /// Loss and log line of one batch.
    pub fn step(
        &self,
        network: &Network,
        step: u64,
        images: &Tensor,
        labels: &[u32],
        planned: &PlannedBatch,
    ) -> Result<StepOutput> {
        let targets = Tensor::new(labels, images.device())?;
        let dropout_seed = self.streams.seed("dropout").wrapping_add(step);
        let out = network.forward(images, &targets, dropout_seed)?;
        let mut metrics = Vec::new();
        let mut note = |name: &str, value: f64| metrics.push((name.to_string(), value));

        let mut loss = match &out.logits {
            Some(logits) => {
                let softmax = cross_entropy(logits, &targets, self.config.label_smoothing)?;
                note("softmax", scalar(&softmax)?);
                note("batch_accuracy", accuracy(logits, labels)?);
                (softmax * self.config.softmax_weight)?
            }
            None => Tensor::zeros((), out.metric_embedding.dtype(), images.device())?,
        };

        if self.config.metric != Metric::None || self.chosen.is_some() {
            let embedding = self.measured(&out.metric_embedding)?;
            let spread = embedding_std(&embedding.detach())?;
            note("embedding_std", spread);
            if !spread.is_finite() {
                // Miners refuse such rows; the engine, given a loss that is not finite, stops with the
                // ids of the batch.
                return Ok(StepOutput {
                    loss: embedding.sum_all()?,
                    metrics,
                    samples: labels.len(),
                });
            }
            if self.config.metric != Metric::None {
                let metric = self.metric(step, &embedding, labels, planned, &mut note)?;
                note("metric", scalar(&metric)?);
                loss = (loss + (metric * self.metric_weight(step))?)?;
            }
            if let Some(chosen) = &self.chosen {
                // As the network gives it: each loss knows what it measures.
                let draw = Draw::new(self.streams.seed("miner"), step);
                let (value, tuples) = chosen.loss(&out.metric_embedding, labels, &targets, draw)?;
                note("named_loss", scalar(&value)?);
                if let Some(tuples) = tuples {
                    note("tuples", tuples as f64);
                }
                loss = (loss + (value * self.chosen_weight)?)?;
            }
        }
        Ok(StepOutput {
            loss,
            metrics,
            samples: labels.len(),
        })
    }

    /// The weight of the metric loss at a step.
    fn metric_weight(&self, step: u64) -> f64 {
        let risen = if self.ramp_steps > 0.0 {
            ((step + 1) as f64 / self.ramp_steps).min(1.0)
        } else {
            1.0
        };
        self.config.metric_weight * risen
    }

    /// The embedding as miner and metric loss see it.
    fn measured(&self, embedding: &Tensor) -> Result<Tensor> {
        if self.config.normalize {
            return Ok(phiz_kernels::safe::normalize_last_dim(embedding)?);
        }
        Ok(embedding.clone())
    }

    fn metric(
        &self,
        step: u64,
        embedding: &Tensor,
        labels: &[u32],
        planned: &PlannedBatch,
        note: &mut dyn FnMut(&str, f64),
    ) -> Result<Tensor> {
        let config = &self.config;
        let loss = match config.metric {
            Metric::None => return Err(Error::config("there is no metric loss")),
            Metric::Triplet => {
                let triplets = batch_hard(&embedding.detach(), labels)?;
                let settings = TripletConfig {
                    margin: config.tau,
                    ..TripletConfig::default()
                };
                let (loss, report) = triplet_report(embedding, &triplets, settings)?;
                note("active", report.active);
                loss
            }
            Metric::NPair => {
                let mut rng = self.streams.rng("n-pair", step);
                let tuplets = n_pair_tuplets(labels, &mut rng);
                n_pair(
                    embedding,
                    &tuplets,
                    NPairConfig {
                        scale: config.scale,
                        ..NPairConfig::default()
                    },
                )?
            }
            Metric::CoupledClusters | Metric::TupletFixed | Metric::TupletAdaptive => {
                let drawn = planned
                    .tuplets
                    .as_ref()
                    .ok_or_else(|| Error::config("this metric loss needs batches of tuplets"))?;
                let tuplets = self.mined(step, embedding, drawn, note)?;
                note("without_negatives", planned.without_negatives as f64);
                let (loss, report) = match (&self.adaptive, config.metric) {
                    (Some(adaptive), _) => adaptive.forward_report(embedding, &tuplets)?,
                    (None, Metric::CoupledClusters) => {
                        let settings = CoupledClustersConfig {
                            margin: config.tau,
                            ..CoupledClustersConfig::default()
                        };
                        coupled_clusters_report(embedding, &tuplets, settings)?
                    }
                    (None, _) => {
                        let settings = TupletClustersConfig {
                            reference_distance: config.reference_distance,
                            tau: config.tau,
                            ..TupletClustersConfig::default()
                        };
                        tuplet_clusters_report(embedding, &tuplets, settings)?
                    }
                };
                note("active_positives", report.active_positives);
                note("active_negatives", report.active_negatives);
                loss
            }
        };
        Ok(loss)
    }

    /// Tuplets with their positives chosen: at random before mining begins, online afterwards.
    fn mined(
        &self,
        step: u64,
        embedding: &Tensor,
        drawn: &Tuplets,
        note: &mut dyn FnMut(&str, f64),
    ) -> Result<Tuplets> {
        if !self.mining || step < self.mining_from_step {
            let mut rng = self.streams.rng("random-positives", step);
            return Ok(random_positives(drawn, &self.tuplets, &mut rng));
        }
        let (tuplets, stats) = mine_positives(drawn, &embedding.detach(), &self.tuplets)?;
        note("drop_rate", stats.drop_rate());
        Ok(tuplets)
    }
}

fn scalar(value: &Tensor) -> Result<f64> {
    Ok(f64::from(
        value.to_dtype(candle::DType::F32)?.to_scalar::<f32>()?,
    ))
}

fn accuracy(logits: &Tensor, labels: &[u32]) -> Result<f64> {
    let best = logits
        .detach()
        .argmax(candle::D::Minus1)?
        .to_vec1::<u32>()?;
    let right = best.iter().zip(labels).filter(|(a, b)| a == b).count();
    Ok(right as f64 / labels.len().max(1) as f64)
}
