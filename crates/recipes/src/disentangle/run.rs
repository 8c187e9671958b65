//! A disentangling run: one folder, trained, resumed, read back.
//!
//! As every run's: `config.toml`, `classes.json`, `model.safetensors`, `checkpoint/`, `metrics.jsonl`; besides `factors.json`,
//! what training knew of the factors.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle::{DType, Device};
use phiz_data::{Transform, epoch_batches, load_batches};
use phiz_train::{
    Checkpoint, ErrorKind as TrainErrorKind, FitConfig, GroupRules, Observer, OptimizerConfig,
    Parameters, PrefixRule, Schedule, StepOutput, Streams, fit,
};

use super::config::DisentangleConfig;
use super::factors::FactorColumn;
use super::material::Material;
use super::model::Splitter;
use super::turns::{Game, labelled};
use crate::folder::{
    Outcome, config_file, create_folder, last_checkpoint, model_file, read_json, refuse_occupied,
    rendered_mark, write, write_json,
};
use crate::recipe::Recipe as _;
use crate::{Error, Result, open_device};

/// A trained disentangling run, read back from its folder.
pub struct DisentangleRun {
    /// The folder.
    pub folder: PathBuf,
    /// What the run was asked for.
    pub config: DisentangleConfig,
    /// Names of the classes in the order of the logits.
    pub classes: Vec<String>,
    /// What was removed.
    pub factors: Vec<FactorColumn>,
}

/// Trains `config` into the new folder `out`.
///
/// # Errors
/// When the folder is not empty or cannot be written, the data cannot be read, a factor cannot be removed, the device is not
/// there, or training fails; where an adversary diverges, the message names the remedy.
pub fn train(
    config: &DisentangleConfig,
    out: &Path,
    device: &str,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome<DisentangleRun>> {
    config.validate()?;
    let device = open_device(device)?;
    refuse_occupied(out)?;
    let prepared = Prepared::new(config, &device, observer)?;
    create_folder(out)?;
    write_json(&out.join("classes.json"), &prepared.material.classes)?;
    write_json(&out.join("factors.json"), &prepared.material.factors)?;
    write(&out.join("config.toml"), &config.to_toml()?)?;
    prepared.fit(config, out, None, stop, observer)
}

/// Goes on with the run in `folder` from its last checkpoint; ends bit-equal to a run that was never interrupted.
///
/// # Errors
/// When the folder is not a disentangling run, its checkpoint is damaged, or as [`train`].
pub fn resume(
    folder: &Path,
    device: &str,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome<DisentangleRun>> {
    let config = DisentangleRun::config_of(folder)?;
    let device = open_device(device)?;
    let start = last_checkpoint(folder, observer)?;
    let prepared = Prepared::new(&config, &device, observer)?;
    prepared.fit(&config, folder, start, stop, observer)
}

impl DisentangleRun {
    /// Reads a finished run.
    ///
    /// # Errors
    /// When the folder is not a disentangling run, or the run is not finished.
    pub fn open(folder: &Path) -> Result<Self> {
        let config = Self::config_of(folder)?;
        let classes = read_json(&folder.join("classes.json"))?;
        let factors = read_json(&folder.join("factors.json"))?;
        model_file(folder)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            config,
            classes,
            factors,
        })
    }

    /// The trained networks, ready for test time.
    ///
    /// # Errors
    /// When the weights do not fit the networks of `config.toml`.
    pub fn splitter(&self, device: &Device) -> Result<Splitter> {
        let parameters = Parameters::new(Streams::new(self.config.seed), DType::F32, device);
        let factors = self
            .factors
            .iter()
            .map(FactorColumn::factor)
            .collect::<Result<_>>()?;
        let vb = parameters.var_builder();
        let splitter = Splitter::new(&self.config, self.classes.len(), factors, &vb)?;
        parameters.load_file(&self.folder.join("model.safetensors"))?;
        Ok(splitter)
    }

    fn config_of(folder: &Path) -> Result<DisentangleConfig> {
        let path = config_file(folder)?;
        match DisentangleConfig::named_in(&path)? {
            Some(name) => DisentangleConfig::from_file(&path, &DisentangleConfig::named(&name)?),
            None => Err(Error::run(folder, "not a run of a disentangling recipe")),
        }
    }
}

/// Data, parameters and networks of a run about to train.
struct Prepared {
    material: Material,
    device: Device,
    parameters: Parameters,
    splitter: Splitter,
}

impl Prepared {
    fn new(
        config: &DisentangleConfig,
        device: &Device,
        observer: &mut dyn Observer,
    ) -> Result<Prepared> {
        observer.message(&format!("reading {}", config.data.source));
        let material = Material::open(config)?;
        let names: Vec<&str> = material.factors.iter().map(|f| f.name.as_str()).collect();
        observer.message(&format!(
            "{} images to train on, {} classes of `{}`; to be removed: {}{}",
            material.train.len(),
            material.classes.len(),
            config.data.target,
            names.join(", "),
            rendered_mark(material.dataset.as_ref()),
        ));
        if config.train.batch > material.train.len() {
            return Err(Error::config(format!(
                "`train.batch` is {}; there are {} images to train on",
                config.train.batch,
                material.train.len()
            )));
        }
        let parameters = Parameters::new(Streams::new(config.seed), DType::F32, device);
        let factors = material
            .factors
            .iter()
            .map(FactorColumn::factor)
            .collect::<Result<_>>()?;
        let vb = parameters.var_builder();
        let splitter = Splitter::new(config, material.classes.len(), factors, &vb)?;
        Ok(Prepared {
            material,
            device: device.clone(),
            parameters,
            splitter,
        })
    }

    fn fit(
        self,
        config: &DisentangleConfig,
        out: &Path,
        start: Option<Checkpoint>,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome<DisentangleRun>> {
        let Prepared {
            material,
            device,
            parameters,
            splitter,
        } = self;
        let game = Game::new(config);
        let settings = fit_config(config, game.steps(), material.train.len(), out);
        let first = start.as_ref().map_or(0, Checkpoint::step);
        let streams = Streams::new(config.seed);
        let dataset = Arc::clone(&material.dataset);
        let targets =
            crate::source::class_targets(dataset.as_ref(), &config.data.target, &material.classes)?;
        let (count, batch, seed) = (
            material.train.len(),
            config.train.batch,
            streams.seed("sampling"),
        );
        let train = Arc::new(material.train);
        let rows = {
            let train = Arc::clone(&train);
            move |positions: Vec<usize>| -> Vec<usize> {
                positions.into_iter().map(|at| train[at]).collect()
            }
        };
        let of_step = rows.clone();
        let total = settings.total_steps;
        let plan = epoch_batches(count, batch, seed, first)
            .take_while(move |(step, _)| *step < total)
            .map(move |(step, positions)| (step, rows(positions)));
        let transform = Transform::new(config.image.size, config.image.size, config.image.channels);
        let workers = config.data.workers;
        let mut loader = load_batches(
            Arc::clone(&dataset),
            plan,
            transform,
            streams.seed("augment"),
            &device,
            workers,
            workers + 1,
        );
        let mut step = |step: u64| -> Result<StepOutput> {
            let loaded = loader
                .next()
                .ok_or_else(|| Error::config("the loader ended before the run"))??;
            let batch = labelled(
                loaded.images,
                &loaded.indices,
                &targets,
                &material.factors,
                dataset.as_ref(),
            )?;
            game.step(&splitter, step, &batch)
        };
        let sample_ids = |step: u64| -> Vec<String> {
            let drawn = epoch_batches(count, batch, seed, step).next();
            let indices = drawn.map_or_else(Vec::new, |(_, positions)| of_step(positions));
            indices.iter().map(|&i| dataset.sample_id(i)).collect()
        };
        let outcome = fit(
            &settings,
            &parameters,
            start,
            &mut step,
            &sample_ids,
            stop,
            observer,
        )
        .map_err(|error| remedied(config, error))?;
        match outcome {
            phiz_train::Outcome::Interrupted { step } => Ok(Outcome::Interrupted { step }),
            phiz_train::Outcome::Finished => {
                parameters.save(&out.join("model.safetensors"))?;
                // Best effort: without the log the run is as good.
                let log = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
                for warning in super::alarms::warnings(&log) {
                    observer.message(&warning);
                }
                Ok(Outcome::Finished(Box::new(DisentangleRun {
                    folder: out.to_path_buf(),
                    config: config.clone(),
                    classes: material.classes,
                    factors: material.factors,
                })))
            }
        }
    }
}

/// A loss that is not finite is the end of a game that diverges: say what helps.
fn remedied(config: &DisentangleConfig, error: phiz_train::Error) -> Error {
    if let TrainErrorKind::NonFinite { .. } = error.kind()
        && config.game.mode.plays()
    {
        return Error::config(format!(
            "{error}; the game diverges: a smaller `train.adversary_lr` ({}), more `game.adversary_turns` ({}) or a smaller `game.alpha` ({}) helps",
            config.train.adversary_lr, config.game.adversary_turns, config.game.alpha
        ));
    }
    error.into()
}

fn fit_config(
    config: &DisentangleConfig,
    total_steps: u64,
    images: usize,
    out: &Path,
) -> FitConfig {
    let train = &config.train;
    let warmup_steps = (train.warmup_share * total_steps as f64).round() as u64;
    let optimizer = OptimizerConfig::adamw().with_weight_decay(train.weight_decay);
    let rule = |prefix: &str, lr_multiplier: f64| PrefixRule {
        prefix: prefix.to_string(),
        lr_multiplier,
        decay_multiplier: 1.0,
    };
    // A rule for each player, so that the norm of its gradient is logged.
    let faster = if train.lr > 0.0 {
        train.adversary_lr / train.lr
    } else {
        0.0
    };
    let mut prefixes = vec![rule("adversary", faster)];
    prefixes
        .extend(["trunk", "head_d", "head_l", "classifier", "decoder"].map(|name| rule(name, 1.0)));
    if config.model.separate_trunk {
        prefixes.push(rule("trunk_l", 1.0));
    }
    FitConfig {
        total_steps,
        steps_per_epoch: Some((images / train.batch).max(1) as u64),
        base_lr: train.lr,
        schedule: Schedule::Cosine {
            warmup_steps: warmup_steps.min(total_steps),
            final_fraction: 0.0,
        },
        optimizer,
        groups: GroupRules {
            prefixes,
            // Each turn has its own players, and some modes leave players out.
            allow_unused: true,
            ..GroupRules::default()
        },
        clip_norm: (train.clip_norm > 0.0).then_some(train.clip_norm),
        checkpoint_every: train.checkpoint_every,
        log_every: train.log_every,
        run_dir: Some(out.to_path_buf()),
        config_hash: config.fingerprint(),
    }
}
