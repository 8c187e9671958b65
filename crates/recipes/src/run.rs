//! A run: one folder that holds what was asked for, what was learned and how it went.
//!
//! `config.toml` (complete, re-runnable), `classes.json` (names of the classes in the order of the
//! logits), `model.safetensors`, `checkpoint/`, `metrics.jsonl`, a TensorBoard event file; after
//! judging also `eval.json` and `report.html`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle::{DType, Device};
use phiz_data::load_batches;
use phiz_train::{
    Checkpoint, FitConfig, GroupRules, Observer, OptimizerConfig, Parameters, PrefixRule, Schedule,
    StepOutput, Streams, fit, read_tensors,
};

use crate::config::{Config, Metric, OptimizerKind, ScheduleKind, TrainConfig};
use crate::folder::{
    Outcome, config_file, create_folder, last_checkpoint, model_file, read_json, refuse_occupied,
    rendered_mark, under_backbone, weights_of, write, write_json,
};
use crate::network::Network;
use crate::objective::Objective;
use crate::plan::Plan;
use crate::source::{Source, class_targets, open_source};
use crate::{Error, Result, open_device};

/// A trained run, read back from its folder.
pub struct Run {
    /// The folder.
    pub folder: PathBuf,
    /// What the run was asked for.
    pub config: Config,
    /// Names of the classes in the order of the logits.
    pub classes: Vec<String>,
}

/// Trains `config` into the new folder `out`.
///
/// # Errors
/// When the folder is not empty or cannot be written, the data cannot be read, the device is not
/// there, or training fails (a non-finite loss names the batch's samples).
pub fn train(
    config: &Config,
    out: &Path,
    device: &str,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    config.validate()?;
    let device = open_device(device)?;
    // Everything that can be wrong with the input comes before the first byte is written.
    refuse_occupied(out)?;
    let prepared = Prepared::new(config, &device, observer)?;
    create_folder(out)?;
    write_json(&out.join("classes.json"), &prepared.source.classes)?;
    write(&out.join("config.toml"), &config.to_toml()?)?;
    prepared.fit(config, out, None, stop, observer)
}

/// Goes on with the run in `folder` from its last checkpoint; ends bit-equal to a run that was
/// never interrupted.
///
/// # Errors
/// When the folder is not a run, its checkpoint is damaged, or as [`train`].
pub fn resume(
    folder: &Path,
    device: &str,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let run = Run::open_config(folder)?;
    let device = open_device(device)?;
    let start = last_checkpoint(folder, observer)?;
    let prepared = Prepared::new(&run, &device, observer)?;
    prepared.fit(&run, folder, start, stop, observer)
}

impl Run {
    /// Reads a finished run.
    ///
    /// # Errors
    /// When the folder is not a run, or the run is not finished.
    pub fn open(folder: &Path) -> Result<Run> {
        let config = Run::open_config(folder)?;
        let classes = read_json(&folder.join("classes.json"))?;
        model_file(folder)?;
        Ok(Run {
            folder: folder.to_path_buf(),
            config,
            classes,
        })
    }

    /// The trained network, ready for test time.
    ///
    /// # Errors
    /// When the weights do not fit the network of `config.toml`; the message names the first tensor
    /// that differs.
    pub fn network(&self, device: &Device) -> Result<Network> {
        let parameters = Parameters::new(Streams::new(self.config.seed), DType::F32, device);
        let vb = parameters.var_builder();
        let network = Network::new(&self.config, self.classes.len(), &vb)?;
        // Parameters of the loss belong to the file as well.
        let _loss = Objective::new(&self.config, self.classes.len(), 1.0, &vb)?;
        parameters.load_file(&self.folder.join("model.safetensors"))?;
        Ok(network)
    }

    fn open_config(folder: &Path) -> Result<Config> {
        let path = config_file(folder)?;
        Config::from_file(&path, &crate::named("tuplet")?)
    }
}

/// Data, parameters, network and objective of a run about to train.
struct Prepared {
    source: Source,
    device: Device,
    parameters: Parameters,
    network: Network,
    objective: Objective,
    plan: Arc<Plan>,
}

impl Prepared {
    fn new(config: &Config, device: &Device, observer: &mut dyn Observer) -> Result<Prepared> {
        observer.message(&format!("reading {}", config.data.source));
        let source = open_source(config)?;
        observer.message(&format!(
            "{} images: {}, {} held out; {}{}",
            source.dataset.len(),
            source.train.len(),
            source.held_out.len(),
            source.description,
            rendered_mark(source.dataset.as_ref()),
        ));
        let plan = Plan::new(config, &source)?;
        let parameters = Parameters::new(Streams::new(config.seed), DType::F32, device);
        let vb = parameters.var_builder();
        let network = Network::new(config, source.classes.len(), &vb)?;
        let objective = Objective::new(config, source.classes.len(), plan.steps_per_epoch(), &vb)?;
        if !config.model.init.is_empty() {
            initialise(&parameters, Path::new(&config.model.init), observer)?;
        }
        Ok(Prepared {
            source,
            device: device.clone(),
            parameters,
            network,
            objective,
            plan: Arc::new(plan),
        })
    }

    fn fit(
        self,
        config: &Config,
        out: &Path,
        start: Option<Checkpoint>,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        let Prepared {
            source,
            device,
            parameters,
            network,
            objective,
            plan,
        } = self;
        let settings = fit_config(config, &plan, out);
        let first = start.as_ref().map_or(0, Checkpoint::step);
        let streams = Streams::new(config.seed);
        let targets = class_targets(
            source.dataset.as_ref(),
            &config.data.target,
            &source.classes,
        )?;

        let ahead = Arc::clone(&plan);
        // An error of the plan comes out again, with its message, when the step draws its batch.
        let indices = (first..settings.total_steps)
            .map_while(move |step| ahead.batch(step).ok().map(|batch| (step, batch.indices)));
        let mut loader = load_batches(
            Arc::clone(&source.dataset),
            indices,
            config.image.transform(),
            streams.seed("augment"),
            &device,
            config.data.workers,
            config.data.workers + 1,
        );
        let mut step = |step: u64| -> Result<StepOutput> {
            let planned = plan.batch(step)?;
            let batch = loader
                .next()
                .ok_or_else(|| Error::config("the loader ended before the run"))??;
            let labels: Vec<u32> = planned
                .indices
                .iter()
                .map(|&index| {
                    targets[index].ok_or_else(|| Error::config("an image has no label of a class"))
                })
                .collect::<Result<_>>()?;
            objective.step(&network, step, &batch.images, &labels, &planned)
        };
        let sample_ids = |step: u64| -> Vec<String> {
            let indices = plan
                .batch(step)
                .map(|batch| batch.indices)
                .unwrap_or_default();
            indices
                .iter()
                .map(|&index| source.dataset.sample_id(index))
                .collect()
        };
        let outcome = fit(
            &settings,
            &parameters,
            start,
            &mut step,
            &sample_ids,
            stop,
            observer,
        )?;
        match outcome {
            phiz_train::Outcome::Interrupted { step } => Ok(Outcome::Interrupted { step }),
            phiz_train::Outcome::Finished => {
                parameters.save(&out.join("model.safetensors"))?;
                Ok(Outcome::Finished(Box::new(Run {
                    folder: out.to_path_buf(),
                    config: config.clone(),
                    classes: source.classes,
                })))
            }
        }
    }
}

/// Schedule and optimiser of a run, whose epochs have `per_epoch` steps.
pub(crate) fn course(
    train: &TrainConfig,
    per_epoch: f64,
    total_steps: u64,
) -> (Schedule, OptimizerConfig) {
    let steps = |epochs: f64| (epochs * per_epoch).round() as u64;
    let warmup_steps = steps(train.warmup_epochs).min(total_steps);
    let schedule = match train.schedule {
        ScheduleKind::Constant => Schedule::Constant { warmup_steps },
        ScheduleKind::Cosine => Schedule::Cosine {
            warmup_steps,
            final_fraction: 0.0,
        },
        ScheduleKind::Poly => Schedule::Poly {
            warmup_steps,
            power: train.power,
        },
        ScheduleKind::Step => Schedule::Step {
            warmup_steps,
            milestones: train
                .milestones
                .iter()
                .map(|&epochs| steps(epochs))
                .collect(),
            gamma: train.gamma,
        },
    };
    let optimizer = match train.optimizer {
        OptimizerKind::Sgd => OptimizerConfig::Sgd {
            momentum: train.momentum,
            nesterov: train.nesterov,
            weight_decay: train.weight_decay,
        },
        OptimizerKind::Adamw => OptimizerConfig::adamw().with_weight_decay(train.weight_decay),
    };
    (schedule, optimizer)
}

fn fit_config(config: &Config, plan: &Plan, out: &Path) -> FitConfig {
    let train = &config.train;
    let per_epoch = plan.steps_per_epoch();
    let total_steps = ((train.epochs * per_epoch).round() as u64).max(1);
    let (schedule, optimizer) = course(train, per_epoch, total_steps);
    // A rule that fits no parameter is an error, and only the adaptive loss has any.
    let loss_rule = (config.objective.metric == Metric::TupletAdaptive).then(|| PrefixRule {
        prefix: "metric_loss".to_string(),
        lr_multiplier: config.objective.metric_lr,
        decay_multiplier: 1.0,
    });
    FitConfig {
        total_steps,
        steps_per_epoch: Some((per_epoch.round() as u64).max(1)),
        base_lr: train.lr,
        schedule,
        optimizer,
        groups: GroupRules {
            prefixes: loss_rule.into_iter().collect(),
            ..GroupRules::default()
        },
        clip_norm: (train.clip_norm > 0.0).then_some(train.clip_norm),
        checkpoint_every: train.checkpoint_every,
        log_every: train.log_every,
        run_dir: Some(out.to_path_buf()),
        config_hash: config.fingerprint(),
    }
}

/// Takes every tensor of a run or weight file that fits the network.
pub(crate) fn initialise(
    parameters: &Parameters,
    from: &Path,
    observer: &mut dyn Observer,
) -> Result<()> {
    let file = weights_of(from);
    let tensors = under_backbone(read_tensors(&file)?);
    let matching = parameters.load_matching(&tensors, &["backbone."])?;
    observer.message(&format!(
        "{} tensors from {}, {} left as initialised",
        matching.loaded.len(),
        file.display(),
        matching.skipped.len()
    ));
    Ok(())
}
