//! Training a task: one folder, as for other recipes, with `subset.json` and `checks.jsonl` beside.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle::{DType, Device, Tensor};
use phiz_data::{PointMap, augment_rng, epoch_batches, load_batches, load_images};
use phiz_train::{
    Checkpoint, FitConfig, GroupRules, Observer, Parameters, PrefixRule, StepOutput, Streams, fit,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::config::{Mode, TaskConfig, task_recipe};
use super::judge::judge_part;
use super::network::{TaskNetwork, start_trunk};
use super::source::{Shelf, TaskSource, open_task};
use crate::folder::{
    Outcome, config_file, create_folder, last_checkpoint, model_file, read_json, refuse_occupied,
    rendered_mark, write, write_json,
};
use crate::run::course;
use crate::{Error, Result, open_device};

/// A trained run of a task, read back from its folder.
pub struct TaskRun {
    /// The folder.
    pub folder: PathBuf,
    /// What the run was asked for.
    pub config: TaskConfig,
    /// What the data gave the network.
    shape: Shape,
}

/// What the network's shape depends on beside the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Shape {
    classes: Vec<String>,
    columns: Vec<String>,
    count: usize,
}

/// One line of `checks.jsonl`.
#[derive(Serialize, Deserialize)]
struct Check {
    step: u64,
    metrics: BTreeMap<String, f64>,
}

/// Trains `config` into the new folder `out`.
///
/// # Errors
/// When the folder is not empty or cannot be written, the data cannot be read or breaks the task's contract, the trunk
/// does not fit, or training fails.
pub fn train_task(
    config: &TaskConfig,
    out: &Path,
    device: &str,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome<TaskRun>> {
    train_on_shelf(config, out, device, stop, observer, &mut Shelf::default())
}

/// Goes on with the run in `folder` from its last checkpoint; ends bit-equal to a run that was never interrupted.
///
/// # Errors
/// When the folder is not a task's run, its checkpoint is damaged, or as [`train_task`].
pub fn resume_task(
    folder: &Path,
    device: &str,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome<TaskRun>> {
    resume_on_shelf(folder, device, stop, observer, &mut Shelf::default())
}

pub(crate) fn train_on_shelf(
    config: &TaskConfig,
    out: &Path,
    device: &str,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
    shelf: &mut Shelf,
) -> Result<Outcome<TaskRun>> {
    config.validate()?;
    let device = open_device(device)?;
    refuse_occupied(out)?;
    // Everything that can be wrong with the input comes before the first byte is written.
    let prepared = Prepared::new(config, &device, shelf, observer)?;
    if !config.model.init.is_empty() {
        let count = start_trunk(&prepared.parameters, Path::new(&config.model.init))?;
        observer.message(&format!(
            "{count} tensors of the trunk from {}",
            config.model.init
        ));
    }
    prepared.network.begin(config, &prepared.source)?;
    create_folder(out)?;
    let source = &prepared.source;
    let ids: Vec<String> = source
        .train
        .indices
        .iter()
        .map(|&index| source.train.dataset.sample_id(index))
        .collect();
    let list = json!({
        "rule": config.data.rule,
        "rule_in_words": config.data.rule.describe(),
        "fraction": config.data.fraction,
        "seed": config.data.subset_seed,
        "of": source.whole,
        "samples": ids,
    });
    write_json(&out.join("subset.json"), &list)?;
    write_json(&out.join("shape.json"), &prepared.shape())?;
    write(&out.join("config.toml"), &config.to_toml()?)?;
    prepared.fit(config, out, None, stop, observer)
}

pub(crate) fn resume_on_shelf(
    folder: &Path,
    device: &str,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
    shelf: &mut Shelf,
) -> Result<Outcome<TaskRun>> {
    let config = TaskRun::config_of(folder)?;
    let device = open_device(device)?;
    let start = last_checkpoint(folder, observer)?;
    let prepared = Prepared::new(&config, &device, shelf, observer)?;
    if start.is_none() {
        if !config.model.init.is_empty() {
            start_trunk(&prepared.parameters, Path::new(&config.model.init))?;
        }
        prepared.network.begin(&config, &prepared.source)?;
    }
    prepared.fit(&config, folder, start, stop, observer)
}

impl TaskRun {
    /// Reads a finished run.
    ///
    /// # Errors
    /// When the folder is not a task's run, or the run is not finished.
    pub fn open(folder: &Path) -> Result<TaskRun> {
        let config = Self::config_of(folder)?;
        let shape = read_json(&folder.join("shape.json"))?;
        model_file(folder)?;
        Ok(TaskRun {
            folder: folder.to_path_buf(),
            config,
            shape,
        })
    }

    /// The trained network, ready for test time.
    ///
    /// # Errors
    /// When the weights do not fit the network of `config.toml`.
    pub fn network(&self, device: &Device) -> Result<TaskNetwork> {
        let parameters = Parameters::new(Streams::new(self.config.seed), DType::F32, device);
        let network = self.shape.network(&self.config, &parameters)?;
        parameters.load_file(&self.folder.join("model.safetensors"))?;
        Ok(network)
    }

    /// Step and metrics of every check made on the way.
    ///
    /// # Errors
    /// When `checks.jsonl` is not what a run writes.
    pub fn checks(&self) -> Result<Vec<(u64, BTreeMap<String, f64>)>> {
        let checks = read_checks(&self.folder.join("checks.jsonl"))?;
        Ok(checks.into_iter().map(|c| (c.step, c.metrics)).collect())
    }

    fn config_of(folder: &Path) -> Result<TaskConfig> {
        let path = config_file(folder)?;
        TaskConfig::from_file(&path, &task_recipe("landmarks")?)
    }
}

fn read_checks(path: &Path) -> Result<Vec<Check>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(path, error)),
    };
    let line = |(at, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            Error::run(
                path,
                format!("line {}: not what a run writes: {error}", at + 1),
            )
        })
    };
    text.lines().enumerate().map(line).collect()
}

impl Shape {
    fn network(&self, config: &TaskConfig, parameters: &Parameters) -> Result<TaskNetwork> {
        TaskNetwork::new(
            config,
            self.count,
            self.classes.len(),
            &parameters.var_builder(),
        )
    }
}

/// Data, parameters and network of a run about to train.
struct Prepared {
    source: TaskSource,
    device: Device,
    parameters: Parameters,
    network: TaskNetwork,
}

impl Prepared {
    fn new(
        config: &TaskConfig,
        device: &Device,
        shelf: &mut Shelf,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        observer.message(&format!("reading {}", config.data.source));
        let source = open_task(config, shelf)?;
        observer.message(&format!(
            "{} of {} images to train on, {} judged; {}{}",
            source.train.indices.len(),
            source.whole,
            source.judged.indices.len(),
            source.description,
            rendered_mark(source.judged.dataset.as_ref()),
        ));
        let parameters = Parameters::new(Streams::new(config.seed), DType::F32, device);
        let shape = shape_of(&source);
        let network = shape.network(config, &parameters)?;
        Ok(Self {
            source,
            device: device.clone(),
            parameters,
            network,
        })
    }

    fn shape(&self) -> Shape {
        shape_of(&self.source)
    }

    fn fit(
        self,
        config: &TaskConfig,
        out: &Path,
        start: Option<Checkpoint>,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome<TaskRun>> {
        let Self {
            source,
            device,
            parameters,
            network,
        } = self;
        let shape = shape_of(&source);
        let train = &config.train;
        let pool: Arc<[usize]> = source.train.indices.as_slice().into();
        let batch = config.data.batch.min(pool.len());
        let per_epoch = (pool.len() / batch).max(1) as f64;
        let total_steps = ((train.epochs * per_epoch).round() as u64).max(config.task.min_steps);
        // Where the fewest steps are more than the epochs, warm-up keeps its share of the run.
        let stretch = total_steps as f64 / (train.epochs * per_epoch).max(1.);
        let (schedule, optimizer) = course(train, per_epoch * stretch, total_steps);
        let frozen = config.model.mode == Mode::Frozen;
        let trunk = PrefixRule {
            prefix: "backbone".to_string(),
            lr_multiplier: config.model.trunk_lr,
            decay_multiplier: 1.,
        };
        let settings = FitConfig {
            total_steps,
            steps_per_epoch: Some(per_epoch as u64),
            base_lr: train.lr,
            schedule,
            optimizer,
            groups: GroupRules {
                prefixes: if frozen { Vec::new() } else { vec![trunk] },
                // A frozen trunk gets no gradient, nor does the last linear layer of a trunk that heat maps are read of.
                allow_unused: true,
                ..GroupRules::default()
            },
            clip_norm: (train.clip_norm > 0.).then_some(train.clip_norm),
            checkpoint_every: train.checkpoint_every,
            log_every: train.log_every,
            run_dir: Some(out.to_path_buf()),
            config_hash: config.fingerprint(),
        };
        let first = start.as_ref().map_or(0, Checkpoint::step);
        let mut checks = Checks::open(out, first)?;
        // A checkpoint holds trunk and mean shapes too: they have to be there before a frozen trunk reads.
        if let Some(start) = &start {
            parameters.load(start.model())?;
        }
        let streams = Streams::new(config.seed);
        let (order, augment) = (streams.seed("sampling"), streams.seed("augment"));
        let plain = config.image.transform().without_augment();
        let read: Option<Tensor> = if frozen {
            let chunks = pool.chunks(64).map(|chunk| {
                let images = load_images(source.train.dataset.as_ref(), chunk, &plain, &device)?;
                network.read(&images, false)
            });
            Some(Tensor::cat(&chunks.collect::<Result<Vec<_>>>()?, 0)?)
        } else {
            None
        };
        let positions = |step: u64| -> Vec<usize> {
            let mut plan = epoch_batches(pool.len(), batch, order, step);
            plan.next()
                .map(|(_, positions)| positions)
                .unwrap_or_default()
        };
        let ahead = Arc::clone(&pool);
        let plan = epoch_batches(pool.len(), batch, order, first)
            .take(total_steps.saturating_sub(first) as usize)
            .map(move |(step, at)| (step, at.into_iter().map(|i| ahead[i]).collect()));
        let mut loader = (!frozen).then(|| {
            load_batches(
                Arc::clone(&source.train.dataset),
                plan,
                config.image.transform(),
                augment,
                &device,
                config.data.workers,
                config.data.workers + 1,
            )
        });
        let judge = |step: u64, checks: &mut Checks| -> Result<()> {
            let found = judge_part(config, &source, &source.judged, &network, &device, None)?;
            checks.add(step, found.metrics)
        };
        let mut objective = |step: u64| -> Result<StepOutput> {
            if due(step, total_steps, config.task.checks) && !checks.has(step) {
                judge(step, &mut checks)?;
            }
            let at = positions(step);
            let indices: Vec<usize> = at.iter().map(|&i| pool[i]).collect();
            let (seen, maps) = match (&read, &mut loader) {
                (Some(read), _) => {
                    let at: Vec<u32> = at.iter().map(|&i| i as u32).collect();
                    let seen = read.index_select(&Tensor::new(at, &device)?, 0)?;
                    (seen, source.maps(&source.train, config, &indices)?)
                }
                (None, Some(loader)) => {
                    let batch = loader
                        .next()
                        .ok_or_else(|| Error::config("the loader ended before the run"))??;
                    let transform = config.image.transform();
                    let maps = (0u64..).zip(&indices).map(|(position, &index)| {
                        let mut rng = augment_rng(augment, step, position);
                        let size = source.train.size(index);
                        Ok(PointMap::new(&transform, size, Some(&mut rng))?)
                    });
                    let maps = maps.collect::<Result<Vec<_>>>()?;
                    (network.read(&batch.images, true)?, maps)
                }
                (None, None) => return Err(Error::config("nothing gives the batches")),
            };
            let targets = source.targets(&source.train, config, &indices, &maps, &device)?;
            Ok(StepOutput {
                loss: network.loss(&seen, &targets)?,
                metrics: Vec::new(),
                samples: indices.len(),
            })
        };
        let sample_ids = |step: u64| -> Vec<String> {
            let id = |at: usize| source.train.dataset.sample_id(pool[at]);
            positions(step).into_iter().map(id).collect()
        };
        let outcome = fit(
            &settings,
            &parameters,
            start,
            &mut objective,
            &sample_ids,
            stop,
            observer,
        )?;
        match outcome {
            phiz_train::Outcome::Interrupted { step } => Ok(Outcome::Interrupted { step }),
            phiz_train::Outcome::Finished => {
                if !checks.has(total_steps) {
                    judge(total_steps, &mut checks)?;
                }
                parameters.save(&out.join("model.safetensors"))?;
                Ok(Outcome::Finished(Box::new(TaskRun {
                    folder: out.to_path_buf(),
                    config: config.clone(),
                    shape,
                })))
            }
        }
    }
}

fn shape_of(source: &TaskSource) -> Shape {
    Shape {
        classes: source.classes.clone(),
        columns: source.columns.clone(),
        count: source.count,
    }
}

/// Whether a check is made before `step`: at even parts of the run, the last of them after it.
fn due(step: u64, total: u64, checks: u64) -> bool {
    (1..checks).any(|k| k * total / checks == step && step > 0)
}

/// `checks.jsonl`, cut back to the step a resumed run begins at.
struct Checks {
    path: PathBuf,
    seen: Vec<u64>,
}

impl Checks {
    fn open(out: &Path, first: u64) -> Result<Self> {
        let path = out.join("checks.jsonl");
        let seen: Vec<u64> = read_checks(&path)?
            .iter()
            .map(|check| check.step)
            .filter(|step| *step <= first && first > 0)
            .collect();
        // The lines as they are: a number read and written again might differ in its last digit.
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let kept = text.lines().take(seen.len());
        write(
            &path,
            &kept.map(|line| format!("{line}\n")).collect::<String>(),
        )?;
        Ok(Self { path, seen })
    }

    fn has(&self, step: u64) -> bool {
        self.seen.contains(&step)
    }

    fn add(&mut self, step: u64, metrics: BTreeMap<String, f64>) -> Result<()> {
        let line = json!(Check { step, metrics }).to_string() + "\n";
        std::fs::OpenOptions::new()
            .append(true)
            .open(&self.path)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .map_err(|error| Error::io(&self.path, error))?;
        self.seen.push(step);
        Ok(())
    }
}
