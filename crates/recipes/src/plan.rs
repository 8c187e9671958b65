//! Which images make which batch: a pure function of (seed, step), so that a resumed run needs
//! nothing but the number of its step.

use phiz_data::epoch_order;
use phiz_mining::{
    NegativeSource, PkConfig, PkSampler, TupletBatch, TupletConfig, TupletSampler, Tuplets,
};
use phiz_train::Streams;

use crate::config::{Config, Sampling};
use crate::source::{Source, class_targets};
use crate::{Error, Result};

/// Draws the batches of a run.
pub struct Plan {
    streams: Streams,
    train: Vec<usize>,
    images: usize,
    draw: Draw,
}

enum Draw {
    Shuffle,
    Balanced(PkSampler),
    Tuplets(TupletSampler),
}

/// One batch, before its images are loaded.
#[derive(Debug, Clone)]
pub struct PlannedBatch {
    /// Indices into the data set.
    pub indices: Vec<usize>,
    /// Tuplets over positions in the batch, where batches are drawn as tuplets.
    pub tuplets: Option<Tuplets>,
    /// Queries drawn that have no negative of their own subject.
    pub without_negatives: usize,
}

impl Plan {
    /// Prepares the sampler `config.sampling` names over the training part of `source`.
    ///
    /// # Errors
    /// When the training part cannot fill a batch: too few images, classes or subjects.
    pub fn new(config: &Config, source: &Source) -> Result<Plan> {
        let sampling = &config.sampling;
        let targets = class_targets(
            source.dataset.as_ref(),
            &config.data.target,
            &source.classes,
        )?;
        let labels: Vec<u32> = source
            .train
            .iter()
            .filter_map(|&index| targets[index])
            .collect();
        let (draw, images) = match sampling.kind {
            Sampling::Shuffle => (Draw::Shuffle, sampling.images.min(source.train.len())),
            Sampling::Balanced => {
                let classes = (sampling.images / sampling.per_class).clamp(2, source.classes.len());
                let sampler = PkSampler::new(
                    &labels,
                    PkConfig {
                        classes,
                        per_class: sampling.per_class,
                        ..PkConfig::default()
                    },
                )?;
                (Draw::Balanced(sampler), classes * sampling.per_class)
            }
            Sampling::Tuplet => {
                let identity =
                    source.dataset.labels().codes("identity").map_err(|error| {
                        Error::config(format!("{error}; tuplets need subjects"))
                    })?;
                let identity: Vec<u32> =
                    source.train.iter().map(|&index| identity[index]).collect();
                let tuplet = tuplet_config(config);
                let size = sampling.tuplets * (1 + sampling.candidates + sampling.negatives);
                (
                    Draw::Tuplets(TupletSampler::new(&labels, &identity, tuplet)?),
                    size,
                )
            }
        };
        Ok(Plan {
            streams: Streams::new(config.seed),
            train: source.train.clone(),
            images,
            draw,
        })
    }

    /// Steps that make one epoch; at least 1.
    pub fn steps_per_epoch(&self) -> f64 {
        match self.draw {
            // Whole batches only, so that every image is seen at most once an epoch.
            Draw::Shuffle => (self.train.len() / self.images).max(1) as f64,
            _ => (self.train.len() as f64 / self.images as f64).max(1.0),
        }
    }

    /// The batch of a step.
    ///
    /// # Errors
    /// When the sampler cannot draw.
    pub fn batch(&self, step: u64) -> Result<PlannedBatch> {
        let seed = self.streams.seed("sampling");
        let (positions, tuplets, without_negatives) = match &self.draw {
            Draw::Shuffle => {
                let per_epoch = self.steps_per_epoch() as u64;
                let order = epoch_order(self.train.len(), seed, step / per_epoch);
                let start = (step % per_epoch) as usize * self.images;
                (order[start..start + self.images].to_vec(), None, 0)
            }
            Draw::Balanced(sampler) => (sampler.batch(seed, step), None, 0),
            Draw::Tuplets(sampler) => {
                let TupletBatch {
                    indices,
                    tuplets,
                    without_negatives,
                    ..
                } = sampler.batch(seed, step);
                (indices, Some(tuplets), without_negatives)
            }
        };
        let indices = positions
            .into_iter()
            .map(|position| self.train[position])
            .collect();
        Ok(PlannedBatch {
            indices,
            tuplets,
            without_negatives,
        })
    }
}

/// The part of the configuration that the mining crate needs.
pub(crate) fn tuplet_config(config: &Config) -> TupletConfig {
    let sampling = &config.sampling;
    TupletConfig {
        positives: sampling.positives,
        negatives: sampling.negatives,
        candidates: sampling.candidates,
        tuplets_per_batch: sampling.tuplets,
        min_positives: sampling.min_positives,
        negative_source: if sampling.same_subject_negatives {
            NegativeSource::SameIdentity
        } else {
            NegativeSource::Random
        },
    }
}
