//! A pre-training run: from a configuration to a folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle::{DType, Device};
use phiz_data::{epoch_order, load_views};
use phiz_pretrain::{CollapseWatch, Moment, WatchConfig};
use phiz_train::{
    Checkpoint, FitConfig, GroupRules, Observer, OptimizerConfig, Parameters, Schedule, StepOutput,
    Streams, fit, read_tensors,
};

use super::config::{MethodName, PretrainConfig};
use super::learner::{Backbone, Learner, TRUNK};
use super::observer::Alarming;
use super::part::{Part, part};
use super::probe::{self, Plan};
use crate::config::OptimizerKind;
use crate::run::{create_folder, initialise, write};
use crate::{Error, Result, open_device};

/// A trained run, read back from its folder.
pub struct PretrainRun {
    /// The folder.
    pub folder: PathBuf,
    /// What the run was asked for.
    pub config: PretrainConfig,
}

/// How training ended.
pub enum PretrainOutcome {
    /// The run is complete.
    Finished(Box<PretrainRun>),
    /// It was asked to stop and saved itself.
    Interrupted {
        /// Steps done so far.
        step: u64,
    },
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
) -> Result<PretrainOutcome> {
    config.validate()?;
    let device = open_device(device)?;
    let occupied = out
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(Error::run(
            out,
            "not empty; expected a new folder, or --resume to go on with a run",
        ));
    }
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
) -> Result<PretrainOutcome> {
    let config = PretrainRun::open_config(folder)?;
    let device = open_device(device)?;
    let start = Checkpoint::latest(folder)?;
    match &start {
        Some(start) => observer.message(&format!("going on after step {}", start.step())),
        None => observer.message("no checkpoint yet; starting from the beginning"),
    }
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
        if !folder.join("model.safetensors").is_file() {
            return Err(Error::run(
                folder,
                format!(
                    "no model.safetensors: the run is not finished; go on with `cargo xtask train --resume {}`",
                    folder.display()
                ),
            ));
        }
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
        let path = folder.join("config.toml");
        if !path.is_file() {
            return Err(Error::run(
                folder,
                "not a run folder: expected a config.toml in it",
            ));
        }
        PretrainConfig::from_file(&path, &super::named("swav")?)
    }
}

/// The trunk of a configuration with the weights of a run or of a file, where it stands under `backbone.` or alone. Every
/// tensor of it has to be there.
pub(super) fn trained(config: &PretrainConfig, from: &Path, device: &Device) -> Result<Backbone> {
    let file = if from.is_dir() {
        from.join("model.safetensors")
    } else {
        from.to_path_buf()
    };
    let mut tensors = read_tensors(&file)?;
    let prefix = format!("{TRUNK}.");
    if tensors.keys().any(|name| name.starts_with(&prefix)) {
        tensors.retain(|name, _| name.starts_with(&prefix));
    } else {
        tensors = tensors
            .into_iter()
            .map(|(name, tensor)| (format!("{prefix}{name}"), tensor))
            .collect();
    }
    let parameters = Parameters::new(Streams::new(config.seed), DType::F32, device);
    let trunk = Backbone::new(&config.model, &parameters.var_builder())?;
    parameters
        .load(&tensors)
        .map_err(|error| Error::from(error).at(&file))?;
    Ok(trunk)
}

/// Which images make which batch: every image once an epoch, whole batches only.
#[derive(Clone)]
struct Batches {
    train: Arc<Vec<usize>>,
    batch: usize,
    seed: u64,
}

impl Batches {
    fn per_epoch(&self) -> u64 {
        (self.train.len() / self.batch) as u64
    }

    /// Places within the training part.
    fn places(&self, step: u64) -> Vec<usize> {
        let per_epoch = self.per_epoch();
        let order = epoch_order(self.train.len(), self.seed, step / per_epoch);
        let start = (step % per_epoch) as usize * self.batch;
        order.into_iter().skip(start).take(self.batch).collect()
    }

    /// Indices into the data set.
    fn indices(&self, step: u64) -> Vec<usize> {
        let places = self.places(step);
        places
            .iter()
            .filter_map(|&place| self.train.get(place).copied())
            .collect()
    }
}

/// Everything of a run about to train.
struct Prepared {
    part: Part,
    device: Device,
    parameters: Parameters,
    learner: Learner,
    batches: Batches,
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
            if part.dataset.rendered() {
                " (rendered faces)"
            } else {
                ""
            },
        ));
        let batch = config.train.batch;
        if part.train.len() < batch {
            return Err(Error::config(format!(
                "`train.batch` is {batch}, but there are {} images to learn from",
                part.train.len()
            )));
        }
        let streams = Streams::new(config.seed);
        let batches = Batches {
            train: Arc::new(part.train.clone()),
            batch,
            seed: streams.seed("sampling"),
        };
        let parameters = Parameters::new(streams, DType::F32, device);
        let learner = Learner::new(config, part.classes, batches.per_epoch(), &parameters)?;
        if !config.model.init.is_empty() {
            initialise(&parameters, Path::new(&config.model.init), observer)?;
        }
        Ok(Prepared {
            part,
            device: device.clone(),
            parameters,
            learner,
            batches,
        })
    }

    fn fit(
        self,
        config: &PretrainConfig,
        out: &Path,
        start: Option<Checkpoint>,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<PretrainOutcome> {
        let Prepared {
            part,
            device,
            parameters,
            learner,
            batches,
        } = self;
        let settings = fit_config(config, batches.per_epoch(), out);
        let total = settings.total_steps;
        let first = start.as_ref().map_or(0, Checkpoint::step);
        let ahead = batches.clone();
        let mut loader = load_views(
            Arc::clone(&part.dataset),
            (first..total).map(move |step| (step, ahead.indices(step))),
            config.views.multi_crop(),
            Streams::new(config.seed).seed("augment"),
            &device,
            config.data.workers,
            config.data.workers + 1,
        );
        let plan = Plan::new(&part, &config.probe)?;
        let every = (config.probe.every * batches.per_epoch() as f64).round() as u64;
        let mut step = |step: u64| -> Result<StepOutput> {
            let batch = loader
                .next()
                .ok_or_else(|| Error::config("the loader ended before the run"))??;
            let labels: Vec<u32> = batches
                .places(step)
                .iter()
                .filter_map(|&place| part.labels.get(place).copied())
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
                samples: labels.len(),
            })
        };
        let sample_ids = |step: u64| -> Vec<String> {
            let indices = batches.indices(step);
            indices
                .iter()
                .map(|&index| part.dataset.sample_id(index))
                .collect()
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
            phiz_train::Outcome::Interrupted { step } => Ok(PretrainOutcome::Interrupted { step }),
            phiz_train::Outcome::Finished => {
                parameters.save(&out.join("model.safetensors"))?;
                Ok(PretrainOutcome::Finished(Box::new(PretrainRun {
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
        OptimizerKind::Adamw => match OptimizerConfig::adamw() {
            OptimizerConfig::AdamW {
                beta1, beta2, eps, ..
            } => OptimizerConfig::AdamW {
                beta1,
                beta2,
                eps,
                weight_decay: train.weight_decay,
            },
            other => other,
        },
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
            // The published training decays everything; so does layer-wise adaptation.
            decay_vectors: true,
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
