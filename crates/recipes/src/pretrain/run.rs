//! A pre-training run: from a configuration to a folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle::{DType, Device};
use phiz_data::{epoch_batches, load_views};
use phiz_pretrain::{CollapseWatch, Moment, WatchConfig};
use phiz_train::{
    Checkpoint, FitConfig, GroupRules, Observer, OptimizerConfig, Parameters, Schedule, StepOutput,
    Streams, fit, read_tensors,
};

use super::config::{MethodName, PretrainConfig};
use super::learner::{Backbone, Learner};
use super::observer::Alarming;
use super::part::{Part, part};
use super::probe::{self, Plan};
use crate::config::OptimizerKind;
use crate::folder::{
    Outcome, config_file, create_folder, last_checkpoint, model_file, refuse_occupied,
    rendered_mark, under_backbone, weights_of, write,
};
use crate::run::initialise;
use crate::{Error, Result, open_device};

/// A trained run, read back from its folder.
pub struct PretrainRun {
    /// The folder.
    pub folder: PathBuf,
    /// What the run was asked for.
    pub config: PretrainConfig,
}

/// Pre-trains `config` into the new folder `out`.
///
/// # Errors
/// When the folder is not empty or cannot be written, the data cannot be read, or training fails.
pub fn train(
    config: &PretrainConfig,
    out: &Path,
    device: &str,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome<PretrainRun>> {
    config.validate()?;
    let device = open_device(device)?;
    refuse_occupied(out)?;
    let prepared = Prepared::new(config, &device, observer)?;
    create_folder(out)?;
    write(&out.join("config.toml"), &config.to_toml()?)?;
    prepared.fit(config, out, None, stop, observer)
}

/// Goes on with the run in `folder` from its last checkpoint; ends bit-equal to a run that was never interrupted, in the
/// middle of filling a queue too.
///
/// # Errors
/// When the folder is not a run, its checkpoint is damaged, or as [`train`].
pub fn resume(
    folder: &Path,
    device: &str,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome<PretrainRun>> {
    let config = PretrainRun::open_config(folder)?;
    let device = open_device(device)?;
    let start = last_checkpoint(folder, observer)?;
    let prepared = Prepared::new(&config, &device, observer)?;
    prepared.fit(&config, folder, start, stop, observer)
}

impl PretrainRun {
    /// Reads a finished run.
    ///
    /// # Errors
    /// When the folder is not a pre-training run, or the run is not finished.
    pub fn open(folder: &Path) -> Result<Self> {
        let config = Self::open_config(folder)?;
        model_file(folder)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            config,
        })
    }

    /// The trained trunk.
    pub(super) fn trunk(&self, device: &Device) -> Result<Backbone> {
        trained(&self.config, &self.folder, device)
    }

    fn open_config(folder: &Path) -> Result<PretrainConfig> {
        let path = config_file(folder)?;
        PretrainConfig::from_file(&path, &super::named("swav")?)
    }
}

/// The trunk of a configuration with the weights of a run or of a file, where it stands under `backbone.` or alone. Every
/// tensor of it has to be there.
pub(super) fn trained(config: &PretrainConfig, from: &Path, device: &Device) -> Result<Backbone> {
    let file = weights_of(from);
    let mut tensors = under_backbone(read_tensors(&file)?);
    tensors.retain(|name, _| name.starts_with("backbone."));
    let parameters = Parameters::new(Streams::new(config.seed), DType::F32, device);
    let trunk = Backbone::new(config, &parameters.var_builder())?;
    parameters
        .load(&tensors)
        .map_err(|error| Error::from(error).at(&file))?;
    Ok(trunk)
}

/// Everything of a run about to train.
struct Prepared {
    part: Part,
    device: Device,
    parameters: Parameters,
    learner: Learner,
    per_epoch: u64,
}

impl Prepared {
    fn new(
        config: &PretrainConfig,
        device: &Device,
        observer: &mut dyn Observer,
    ) -> Result<Prepared> {
        observer.message(&format!("reading {}", config.data.source));
        let part = part(config)?;
        observer.message(&format!(
            "{} images: {} learned from, {} held out; {}{}",
            part.dataset.len(),
            part.train.len(),
            part.held_out.len(),
            part.description,
            rendered_mark(part.dataset.as_ref()),
        ));
        let batch = config.train.batch;
        if part.train.len() < batch {
            return Err(Error::config(format!(
                "`train.batch` is {batch}, but there are {} images to learn from",
                part.train.len()
            )));
        }
        let per_epoch = (part.train.len() / batch) as u64;
        let parameters = Parameters::new(Streams::new(config.seed), DType::F32, device);
        let learner = Learner::new(config, part.classes, per_epoch, &parameters)?;
        if !config.model.init.is_empty() {
            initialise(&parameters, Path::new(&config.model.init), observer)?;
        }
        Ok(Prepared {
            part,
            device: device.clone(),
            parameters,
            learner,
            per_epoch,
        })
    }

    fn fit(
        self,
        config: &PretrainConfig,
        out: &Path,
        start: Option<Checkpoint>,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome<PretrainRun>> {
        let Prepared {
            part,
            device,
            parameters,
            learner,
            per_epoch,
        } = self;
        let settings = fit_config(config, per_epoch, out);
        let total = settings.total_steps;
        let first = start.as_ref().map_or(0, Checkpoint::step);
        let streams = Streams::new(config.seed);
        let order = streams.seed("sampling");
        let batches = |first| epoch_batches(part.train.len(), config.train.batch, order, first);
        let train: Arc<[usize]> = part.train.as_slice().into();
        let labels: BTreeMap<usize, u32> = (train.iter().copied())
            .zip(part.labels.iter().copied())
            .collect();
        let mut loader = load_views(
            Arc::clone(&part.dataset),
            batches(first)
                .take_while(move |(step, _)| *step < total)
                .map(move |(step, places)| (step, places.iter().map(|&at| train[at]).collect())),
            config.views.multi_crop(),
            streams.seed("augment"),
            &device,
            config.data.workers,
            config.data.workers + 1,
        );
        let plan = Plan::new(&part, &config.probe)?;
        let every = (config.probe.every * per_epoch as f64).round() as u64;
        let mut step = |step: u64| -> Result<StepOutput> {
            let batch = loader
                .next()
                .ok_or_else(|| Error::config("the loader ended before the run"))??;
            let labels: Vec<u32> = (batch.indices.iter())
                .filter_map(|index| labels.get(index).copied())
                .collect();
            let report = learner.step(batch.groups, &labels, Moment { step, total })?;
            let mut metrics = report.metrics;
            if every > 0 && (step + 1).is_multiple_of(every) && step + 1 < total {
                // Looks at the trunk as the steps before have left it, and changes nothing.
                let transform = probe::transform(config);
                let trunk = &learner.backbone;
                let features = probe::features(trunk, &part, &plan.indices, &transform, &device)?;
                let found = plan.judge(&features, trunk.features(), &config.probe)?;
                let found = found.named().into_iter();
                metrics.extend(found.map(|(name, value)| (name.to_string(), value)));
            }
            Ok(StepOutput {
                loss: report.loss,
                metrics,
                samples: batch.indices.len(),
            })
        };
        let sample_ids = |step: u64| -> Vec<String> {
            let drawn = batches(step).next();
            let places = drawn.map_or_else(Vec::new, |(_, places)| places);
            let id = |&at: &usize| part.dataset.sample_id(part.train[at]);
            places.iter().map(id).collect()
        };
        let mut alarming = Alarming::new(observer, watch(config));
        let outcome = fit(
            &settings,
            &parameters,
            start,
            &mut step,
            &sample_ids,
            stop,
            &mut alarming,
        )?;
        match outcome {
            phiz_train::Outcome::Interrupted { step } => Ok(Outcome::Interrupted { step }),
            phiz_train::Outcome::Finished => {
                probe::settle(&learner.backbone, config, &part, &device)?;
                parameters.save(&out.join("model.safetensors"))?;
                Ok(Outcome::Finished(Box::new(PretrainRun {
                    folder: out.to_path_buf(),
                    config: config.clone(),
                })))
            }
        }
    }
}

fn watch(config: &PretrainConfig) -> CollapseWatch {
    let choices = (config.method.name == MethodName::Swav)
        .then_some((2 * config.train.batch, config.method.prototypes));
    CollapseWatch::new(WatchConfig::default(), choices)
}

fn fit_config(config: &PretrainConfig, per_epoch: u64, out: &Path) -> FitConfig {
    let train = &config.train;
    let steps = |epochs: f64| (epochs * per_epoch as f64).round() as u64;
    let total_steps = steps(train.epochs).max(1);
    let optimizer = match train.optimizer {
        OptimizerKind::Sgd if train.larc => OptimizerConfig::Larc {
            momentum: train.momentum,
            weight_decay: train.weight_decay,
            trust: train.trust,
        },
        OptimizerKind::Sgd => OptimizerConfig::Sgd {
            momentum: train.momentum,
            nesterov: false,
            weight_decay: train.weight_decay,
        },
        OptimizerKind::Adamw => OptimizerConfig::adamw().with_weight_decay(train.weight_decay),
    };
    FitConfig {
        total_steps,
        steps_per_epoch: Some(per_epoch.max(1)),
        base_lr: train.lr,
        schedule: Schedule::Cosine {
            warmup_steps: steps(train.warmup_epochs).min(total_steps),
            final_fraction: if train.lr > 0.0 {
                train.final_lr / train.lr
            } else {
                0.0
            },
        },
        optimizer,
        groups: GroupRules {
            // SwAV's published training decays everything, as layer-wise adaptation does; the masked auto-encoder's spares
            // biases and norms.
            decay_vectors: !config.model.trunk.is_transformer(),
            // Frozen prototypes have no gradient at first.
            allow_unused: config.method.name == MethodName::Swav && config.method.freeze_steps > 0,
            ..GroupRules::default()
        },
        clip_norm: None,
        checkpoint_every: train.checkpoint_every,
        log_every: train.log_every,
        run_dir: Some(out.to_path_buf()),
        config_hash: config.fingerprint(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrain::named;

    /// Norms decay in convolutional trunks: without it SwAV's expressions on rendered faces fell in each of three
    /// seeds (STUDIES.md).
    #[test]
    fn norms_decay_in_all_trunks_but_transformers() -> Result<()> {
        for (name, decays) in [("swav", true), ("simclr", true), ("mae", false)] {
            let fit = fit_config(&named(name)?, 10, Path::new("runs"));
            assert_eq!(fit.groups.decay_vectors, decays, "{name}");
        }
        Ok(())
    }
}
