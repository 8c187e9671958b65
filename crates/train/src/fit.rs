//! The loop: compute a loss, update, log, save, and stop cleanly.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candle::{DType, Tensor};

use crate::checkpoint::{self, Checkpoint};
use crate::clip::{clip_coefficient, grad_norm, group_norm};
use crate::error::{Error, ErrorKind, Result};
use crate::events::EventWriter;
use crate::files;
use crate::metrics::{Entry, Means, MetricsLog};
use crate::observer::{Observer, Progress};
use crate::optimizer::Optimizer;
use crate::optimizer_config::{GroupRules, OptimizerConfig};
use crate::parameters::Parameters;
use crate::schedule::Schedule;

/// What a run is, apart from the objective.
#[derive(Debug, Clone, PartialEq)]
pub struct FitConfig {
    /// Updates in the whole run (default 1000).
    pub total_steps: u64,
    /// Steps that make an epoch, for the log alone (default none: no epochs).
    pub steps_per_epoch: Option<u64>,
    /// Learning rate that the schedule scales (default 0.1).
    pub base_lr: f64,
    /// The schedule (default cosine without warm-up).
    pub schedule: Schedule,
    /// The optimiser (default SGD with momentum 0.9 and weight decay 5e-4).
    pub optimizer: OptimizerConfig,
    /// Which variables are treated differently (default: no decay on vectors). The norm of the gradient of each prefix that
    /// has a rule is logged as `grad_norm.PREFIX`.
    pub groups: GroupRules,
    /// Largest global norm of the gradients (default none: no clipping).
    pub clip_norm: Option<f64>,
    /// Steps between checkpoints; 0 for one at the end only (default 200).
    pub checkpoint_every: u64,
    /// Steps between entries of the log (default 10). The last step is always logged.
    pub log_every: u64,
    /// Folder for `metrics.jsonl`, the event file and `checkpoint/`; none writes nothing (default none).
    pub run_dir: Option<PathBuf>,
    /// Hash of whatever else decides the run; a checkpoint with another one is refused (default empty).
    pub config_hash: String,
}

impl Default for FitConfig {
    fn default() -> Self {
        Self {
            total_steps: 1000,
            steps_per_epoch: None,
            base_lr: 0.1,
            schedule: Schedule::default(),
            optimizer: OptimizerConfig::default(),
            groups: GroupRules::default(),
            clip_norm: None,
            checkpoint_every: 200,
            log_every: 10,
            run_dir: None,
            config_hash: String::new(),
        }
    }
}

impl FitConfig {
    /// Checks what can be checked without a model; [`fit`] does this first.
    ///
    /// # Errors
    /// Names the setting that makes no sense.
    pub fn validate(&self) -> Result<()> {
        if !(self.base_lr.is_finite() && self.base_lr >= 0.) {
            return Err(
                Error::config(format!("{} is not a number from 0 up", self.base_lr)).of("base_lr"),
            );
        }
        if let Some(norm) = self
            .clip_norm
            .filter(|norm| !(norm.is_finite() && *norm > 0.))
        {
            return Err(Error::config(format!("{norm} is not a positive number")).of("clip_norm"));
        }
        for (name, value) in [
            ("log_every", Some(self.log_every)),
            ("steps_per_epoch", self.steps_per_epoch),
        ] {
            if value == Some(0) {
                return Err(Error::config("must be at least 1").of(name));
            }
        }
        self.schedule.validate(self.total_steps)
    }
}

/// What the objective computes for one step.
#[derive(Debug, Clone)]
pub struct StepOutput {
    /// The scalar to minimise, with its graph.
    pub loss: Tensor,
    /// Further numbers for the log. `metrics.jsonl` holds their means since the last entry.
    pub metrics: Vec<(String, f64)>,
    /// Samples in the batch, for the pace.
    pub samples: usize,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// `stop` was set; everything after `step` steps is in the checkpoint.
    Interrupted {
        /// Steps done.
        step: u64,
    },
}

/// Trains: calls `objective` with step numbers from 0 (or from `start`'s) to `total_steps - 1` and updates
/// `parameters` by the gradients of the losses it returns.
///
/// For a resumed run to be bit-equal to an unbroken one, the objective must be a function of the step and the
/// parameters alone: batches and random numbers by counter (see [`Streams`](crate::Streams)), no state of its
/// own. Running statistics live in the parameters and are saved with them.
///
/// Each step: `stop` is looked at; loss and gradients are computed and checked to be finite, before the update,
/// so that the weights stay good (running statistics in memory have then seen the bad batch, those of the last
/// checkpoint have not); the update; the log; a checkpoint when one is due. When `stop` is set, a
/// checkpoint is written and [`Outcome::Interrupted`] returned. After the last step there is always a checkpoint.
///
/// `sample_ids` gives the ids of a step's batch, asked for only when something is not finite. `start` is what
/// [`Checkpoint::latest`] found, or `None` for a new run.
///
/// # Errors
/// * [`ErrorKind::Config`]: a setting makes no sense.
/// * [`ErrorKind::RunExists`]: no `start`, but `run_dir` has a checkpoint.
/// * [`ErrorKind::OtherRun`]: `start` has another seed or configuration hash.
/// * [`ErrorKind::NonFinite`]: loss or gradient is not finite; names step and samples.
/// * [`ErrorKind::NoGradient`]: the loss does not depend on some variable.
/// * [`ErrorKind::Step`]: the objective failed.
/// * [`ErrorKind::Io`]: the folder cannot be written, the disk is full. The last checkpoint is still good.
pub fn fit<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    config: &FitConfig,
    parameters: &Parameters,
    start: Option<Checkpoint>,
    objective: &mut dyn FnMut(u64) -> std::result::Result<StepOutput, E>,
    sample_ids: &dyn Fn(u64) -> Vec<String>,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    config.validate()?;
    if let Some(run_dir) = &config.run_dir {
        // First of all: a folder that cannot be made should cost no work.
        files::create_folder(run_dir)?;
    }
    let mut optimizer = Optimizer::new(parameters, config.optimizer, &config.groups)?;
    let mut means = Means::default();
    let mut done = 0;
    if let Some(start) = start {
        check_same_run(config, parameters, &start)?;
        start.restore(parameters, &mut optimizer)?;
        for warning in start.warnings() {
            observer.message(&format!(
                "using {} because: {warning}",
                start.path().display()
            ));
        }
        done = start.step();
        means = start.means().clone();
    } else if let Some(run_dir) = &config.run_dir
        && let Some(old) = Checkpoint::latest(run_dir)?
    {
        return Err(Error::new(ErrorKind::RunExists { step: old.step() }).at(run_dir));
    }
    let mut files = Files::open(config, done)?;
    let mut pace = Pace::new();

    while done < config.total_steps {
        if stop.load(Ordering::Relaxed) {
            files.save(parameters, &optimizer, done, &means, observer)?;
            return Ok(Outcome::Interrupted { step: done });
        }
        let step = done;
        let output = objective(step).map_err(|error| {
            Error::new(ErrorKind::Step {
                step,
                source: error.into(),
            })
        })?;
        let loss = scalar(&output.loss)
            .map_err(|error| Error::from(error).of(format!("loss of step {step}")))?;
        let finite = |what, value: f64| {
            if value.is_finite() {
                return Ok(());
            }
            Err(Error::new(ErrorKind::NonFinite {
                what,
                value,
                step,
                samples: sample_ids(step),
            }))
        };
        finite("loss", loss)?;
        let gradients = output.loss.backward()?;
        let norm = grad_norm(parameters, &gradients)?;
        finite("gradient norm", norm)?;
        let scale = config
            .clip_norm
            .map_or(1., |max| clip_coefficient(norm, max));
        for rule in &config.groups.prefixes {
            if let Some(norm) = group_norm(parameters, &gradients, |name| rule.fits(name))? {
                means.add(&format!("grad_norm.{}", rule.prefix), norm);
            }
        }
        let lr = config.schedule.lr(config.base_lr, step, config.total_steps);
        optimizer.step_scaled(&gradients, lr, scale)?;
        drop(gradients);
        done += 1;

        means.add("loss", loss);
        means.add("grad_norm", norm);
        for (name, value) in &output.metrics {
            means.add_metric(name, *value)?;
        }
        pace.add(output.samples);
        let epoch = config.steps_per_epoch.map(|steps| step / steps);
        observer.step(&Progress {
            step: done,
            total: config.total_steps,
            epoch,
            loss,
            lr,
            grad_norm: norm,
            images_per_s: pace.recent(),
            eta: pace.left(config.total_steps - done),
            metrics: &output.metrics,
        });
        let last = done == config.total_steps;
        if last || done % config.log_every == 0 {
            let entry = Entry {
                step: done,
                epoch,
                lr,
                images_per_s: pace.since_entry(),
                means: std::mem::take(&mut means),
            };
            files.log(&entry)?;
        }
        if last || (config.checkpoint_every > 0 && done % config.checkpoint_every == 0) {
            files.save(parameters, &optimizer, done, &means, observer)?;
        }
    }
    Ok(Outcome::Finished)
}

fn scalar(loss: &Tensor) -> candle::Result<f64> {
    if loss.elem_count() != 1 {
        candle::bail!("the loss must be a scalar, it has shape {:?}", loss.shape());
    }
    loss.flatten_all()?
        .get(0)?
        .to_dtype(DType::F64)?
        .to_scalar::<f64>()
}

fn check_same_run(config: &FitConfig, parameters: &Parameters, start: &Checkpoint) -> Result<()> {
    let other = |what, expected: String, found: String| {
        Err(Error::new(ErrorKind::OtherRun {
            what,
            expected,
            found,
        })
        .at(start.path()))
    };
    if start.config_hash() != config.config_hash {
        return other(
            "configuration hash",
            config.config_hash.clone(),
            start.config_hash().to_string(),
        );
    }
    let seed = parameters.streams().root();
    if start.seed() != seed {
        return other("seed", seed.to_string(), start.seed().to_string());
    }
    Ok(())
}

/// What a run writes; nothing without a folder.
struct Files<'a> {
    config: &'a FitConfig,
    open: Option<(PathBuf, MetricsLog, EventWriter)>,
    /// Steps of the checkpoint on the disk.
    saved: Option<u64>,
}

impl<'a> Files<'a> {
    fn open(config: &'a FitConfig, done: u64) -> Result<Self> {
        let open = match &config.run_dir {
            None => None,
            Some(run_dir) => {
                let metrics = MetricsLog::open(run_dir, done)?;
                Some((
                    run_dir.clone(),
                    metrics,
                    EventWriter::create(run_dir, done)?,
                ))
            }
        };
        Ok(Self {
            config,
            open,
            saved: (done > 0).then_some(done),
        })
    }

    fn log(&mut self, entry: &Entry) -> Result<()> {
        if let Some((_, metrics, events)) = &mut self.open {
            metrics.write(entry)?;
            events.scalars(entry.step, entry.scalars())?;
        }
        Ok(())
    }

    fn save(
        &mut self,
        parameters: &Parameters,
        optimizer: &Optimizer,
        done: u64,
        means: &Means,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let Some((run_dir, metrics, _)) = &mut self.open else {
            return Ok(());
        };
        if self.saved == Some(done) {
            return Ok(());
        }
        metrics.sync()?;
        let note = checkpoint::note(
            done,
            parameters.streams().root(),
            &self.config.config_hash,
            means,
        );
        let path = checkpoint::save(run_dir, parameters, optimizer, &note)?;
        self.saved = Some(done);
        observer.checkpoint(done, &path);
        Ok(())
    }
}

/// Samples a second and time left.
struct Pace {
    last: Instant,
    entry: Instant,
    entry_samples: usize,
    /// Smoothed seconds and samples of a step.
    smooth: Option<(f64, f64)>,
}

impl Pace {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            last: now,
            entry: now,
            entry_samples: 0,
            smooth: None,
        }
    }

    fn add(&mut self, samples: usize) {
        let now = Instant::now();
        let seconds = now.duration_since(self.last).as_secs_f64();
        let samples_now = samples as f64;
        self.smooth = Some(match self.smooth {
            None => (seconds, samples_now),
            // About the last twenty steps.
            Some((s, n)) => (s + 0.05 * (seconds - s), n + 0.05 * (samples_now - n)),
        });
        self.last = now;
        self.entry_samples += samples;
    }

    fn recent(&self) -> f64 {
        self.smooth
            .map_or(0., |(seconds, samples)| samples / seconds.max(1e-9))
    }

    fn left(&self, steps: u64) -> Duration {
        let seconds = self.smooth.map_or(0., |(seconds, _)| seconds) * steps as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// The pace since the last call.
    fn since_entry(&mut self) -> f64 {
        let seconds = self.last.duration_since(self.entry).as_secs_f64();
        let pace = self.entry_samples as f64 / seconds.max(1e-9);
        (self.entry, self.entry_samples) = (self.last, 0);
        pace
    }
}
