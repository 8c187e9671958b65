//! The typed schema of a task's recipe, and the recipes by name.

use std::path::Path;

use phiz_data::{Augment, Fit};
use serde::{Deserialize, Serialize};

use super::subset::Rule;
use crate::config::{ImageConfig, OptimizerKind, ScheduleKind, TrainConfig, fingerprint_of};
use crate::overlay::{self, Schema, nearest};
use crate::{Error, Result};

/// Everything that makes a run of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskConfig {
    /// Name of the recipe this started from.
    pub recipe: String,
    /// Seed of every random choice but the subset's: initial weights, order, augmentation.
    pub seed: u64,
    /// Which images.
    pub data: TaskData,
    /// What is done to an image before the network sees it.
    pub image: ImageConfig,
    /// The trunk.
    pub model: TaskModel,
    /// The head and its loss.
    pub task: TaskSettings,
    /// How the loss is minimised. Epochs are passes over the chosen part of the training images.
    pub train: TrainConfig,
}

/// Which images a task is trained and judged on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskData {
    /// Data spec, as `cargo xtask data list` shows them.
    pub source: String,
    /// Data spec of what is judged; empty: people of `source` that are held out.
    pub judged: String,
    /// Share of the identities of `source` that is trained on, the first ones in their natural order, where `judged` is
    /// empty.
    pub train_fraction: f64,
    /// Share of the training images that is used, 0.01 for one per cent.
    pub fraction: f64,
    /// How that share is drawn.
    pub rule: Rule,
    /// Seed of that draw; subsets of one seed are nested.
    pub subset_seed: u64,
    /// Images a batch.
    pub batch: usize,
    /// Threads that decode and augment images beside the training itself.
    pub workers: usize,
}

/// The trunk of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskModel {
    /// Which network.
    pub backbone: TaskBackbone,
    /// Factor on the channels of a ResNet; 1 is the network as published.
    pub width: f64,
    /// Side of a patch of a vision transformer, pixels.
    pub patch: usize,
    /// Blocks of a vision transformer.
    pub depth: usize,
    /// Run folder or weight file the trunk starts from. Empty: random.
    pub init: String,
    /// Whether the trunk learns.
    pub mode: Mode,
    /// Factor on the learning rate of the trunk.
    pub trunk_lr: f64,
}

/// Trunks whose last map can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskBackbone {
    /// ResNet-18 with the stem that suits the size of the image.
    Resnet18,
    /// ResNet-50 (version 1.5) with the stem that suits the size of the image.
    Resnet50,
    /// Vision transformer with tokens of 192.
    VitTiny,
    /// Vision transformer with tokens of 384.
    VitSmall,
}

/// Whether the trunk learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Everything learns.
    FineTune,
    /// The head alone, on a trunk in evaluation mode.
    Frozen,
}

/// The tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// 68 landmarks; label `landmarks`.
    Landmarks,
    /// Expression, valence and arousal; labels `expression` and `valence_arousal`, either or both.
    Affect,
    /// Intensities of action units; label `action_units`.
    ActionUnits,
    /// Vertices or 68 points in space; label `vertices` or `points3d`.
    Face3d,
    /// Who it is; label `identity`.
    Recognition,
}

/// The heads; which a task takes is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskHead {
    /// Heat maps by transposed convolution, compared by squared difference (landmarks).
    Heatmap,
    /// Heat maps as distributions, compared by cross-entropy (landmarks).
    HeatmapDistribution,
    /// One linear layer to the points (landmarks, face3d).
    Points,
    /// A linear basis of vertices (face3d).
    Dense,
    /// One linear layer (affect, action-units).
    Linear,
    /// Ordered decisions (action-units).
    Ordinal,
    /// ArcFace's margin (recognition).
    Arcface,
    /// CosFace's margin (recognition).
    Cosface,
}

/// The head and its loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSettings {
    /// Which task.
    pub kind: TaskKind,
    /// Which head.
    pub head: TaskHead,
    /// Stages of transposed convolution (heat maps).
    pub stages: usize,
    /// Channels of each (heat maps).
    pub channels: usize,
    /// Standard deviation of a target in pixels of the heat map.
    pub sigma: f64,
    /// Directions of the basis (dense).
    pub components: usize,
    /// Whether the basis goes on learning (dense).
    pub learned_basis: bool,
    /// Weight of the cross-entropy over expressions (affect).
    pub class_weight: f64,
    /// Weight of 1 - CCC (affect).
    pub ccc_weight: f64,
    /// Weight of the squared error (affect).
    pub squared_weight: f64,
    /// Length of the embedding (recognition).
    pub embedding: usize,
    /// Margin (recognition).
    pub margin: f64,
    /// Scale of the logits (recognition).
    pub scale: f64,
    /// Fewest updates: a small part is gone through more often than `train.epochs`.
    pub min_steps: u64,
    /// How often the held-out images are judged, evenly spaced, the last time at the end.
    pub checks: u64,
}

/// Names of the tasks' recipes, with a line each.
pub const TASK_RECIPES: &[(&str, &str)] = &[
    (
        "landmarks",
        "68 landmarks by heat maps on a ResNet-18, from a trunk or from scratch",
    ),
    (
        "affect",
        "expression, valence and arousal on a ResNet-18, from a trunk or from scratch",
    ),
    (
        "action-units",
        "intensities of action units on a ResNet-18, from a trunk or from scratch",
    ),
    (
        "face3d",
        "dense vertices through a linear basis on a ResNet-18, from a trunk or from scratch",
    ),
    (
        "recognition",
        "identity with ArcFace on a ResNet-18, from a trunk or from scratch",
    ),
];

/// The complete configuration of a task's recipe.
///
/// # Errors
/// When there is no task of that name; the message lists those there are.
pub fn task_recipe(name: &str) -> Result<TaskConfig> {
    let mut c = base();
    c.recipe = name.to_string();
    match name {
        "landmarks" => {}
        "affect" => {
            c.task.kind = TaskKind::Affect;
            c.task.head = TaskHead::Linear;
            c.data.rule = Rule::Stratified;
        }
        "action-units" => {
            c.task.kind = TaskKind::ActionUnits;
            c.task.head = TaskHead::Linear;
            c.data.rule = Rule::WithinSubject;
        }
        "face3d" => {
            c.task.kind = TaskKind::Face3d;
            c.task.head = TaskHead::Dense;
            // A mirrored mesh has no vertex of the same number.
            c.image.augment.flip = 0.;
        }
        "recognition" => {
            c.task.kind = TaskKind::Recognition;
            c.task.head = TaskHead::Arcface;
            c.data.rule = Rule::WithinSubject;
        }
        _ => {
            let names = TASK_RECIPES.iter().map(|(name, _)| *name);
            let hint = nearest(name, names.clone())
                .map(|near| format!(" (did you mean `{near}`?)"))
                .unwrap_or_default();
            let names: Vec<&str> = names.collect();
            return Err(Error::config(format!(
                "unknown task `{name}`{hint}; there are: {}",
                names.join(", ")
            )));
        }
    }
    Ok(c)
}

fn base() -> TaskConfig {
    TaskConfig {
        recipe: String::new(),
        seed: 0,
        data: TaskData {
            source: "synth:identities=90,per_expression=3".to_string(),
            judged: String::new(),
            train_fraction: 0.7,
            fraction: 1.,
            rule: Rule::Uniform,
            subset_seed: 0,
            batch: 32,
            workers: 1,
        },
        image: ImageConfig {
            size: 64,
            channels: 3,
            fit: Fit::Pad,
            local_contrast: 0,
            test_flip: false,
            augment: Augment {
                flip: 0.5,
                rotate: 10.,
                zoom: 0.1,
                crop_pad: 0.04,
                contrast: 0.2,
                brightness: 0.1,
                ..Augment::default()
            },
        },
        model: TaskModel {
            backbone: TaskBackbone::Resnet18,
            width: 0.25,
            patch: 8,
            depth: 12,
            init: String::new(),
            mode: Mode::FineTune,
            trunk_lr: 1.,
        },
        task: TaskSettings {
            kind: TaskKind::Landmarks,
            head: TaskHead::HeatmapDistribution,
            stages: 2,
            channels: 32,
            sigma: 1.,
            components: 40,
            learned_basis: true,
            class_weight: 1.,
            ccc_weight: 1.,
            squared_weight: 1.,
            embedding: 128,
            margin: 0.4,
            scale: 16.,
            min_steps: 200,
            checks: 5,
        },
        train: TrainConfig {
            epochs: 10.,
            lr: 0.002,
            schedule: ScheduleKind::Cosine,
            warmup_epochs: 0.5,
            power: 1.,
            milestones: Vec::new(),
            gamma: 0.1,
            optimizer: OptimizerKind::Adamw,
            momentum: 0.9,
            nesterov: true,
            weight_decay: 0.05,
            clip_norm: 5.,
            checkpoint_every: 200,
            log_every: 10,
        },
    }
}

impl Schema for TaskConfig {
    fn recipe(&self) -> &str {
        &self.recipe
    }

    fn named(name: &str) -> Result<Self> {
        task_recipe(name)
    }

    fn check(&self) -> Result<()> {
        self.validate()
    }
}

impl TaskConfig {
    /// The configuration as TOML, every key present.
    ///
    /// # Errors
    /// When a value has no TOML form.
    pub fn to_toml(&self) -> Result<String> {
        overlay::to_toml(self)
    }

    /// Reads a complete or partial configuration; what the file leaves out comes from the recipe it names, or from
    /// `base` when it names none.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, or holds an unknown key or a value that makes no sense.
    pub fn from_file(path: &Path, base: &TaskConfig) -> Result<TaskConfig> {
        overlay::from_file(path, base)
    }

    /// Applies `section.key=value` words, later ones last; only the result has to make sense.
    ///
    /// # Errors
    /// When a word is not of that form, a key is unknown, or a value has the wrong type or makes no sense.
    pub fn set_all<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<TaskConfig> {
        overlay::set_all(self, words)
    }

    /// Checks that every value lies where it makes sense.
    ///
    /// # Errors
    /// When one does not; the message names the key, its value and what is expected.
    pub fn validate(&self) -> Result<()> {
        let (data, model, task, train) = (&self.data, &self.model, &self.task, &self.train);
        let checks = [
            ("seed", self.seed as f64, 0., i64::MAX as f64),
            ("data.train_fraction", data.train_fraction, 0.01, 0.99),
            ("data.fraction", data.fraction, 1e-6, 1.),
            (
                "data.subset_seed",
                data.subset_seed as f64,
                0.,
                i64::MAX as f64,
            ),
            ("data.batch", data.batch as f64, 2., 1e5),
            ("data.workers", data.workers as f64, 1., 64.),
            ("image.size", self.image.size as f64, 16., 1024.),
            ("model.width", model.width, 0.05, 16.),
            ("model.trunk_lr", model.trunk_lr, 0., 100.),
            ("model.depth", model.depth as f64, 1., 100.),
            ("task.stages", task.stages as f64, 0., 6.),
            ("task.channels", task.channels as f64, 1., 4096.),
            ("task.sigma", task.sigma, 0.1, 100.),
            ("task.components", task.components as f64, 1., 1000.),
            ("task.class_weight", task.class_weight, 0., 1e3),
            ("task.ccc_weight", task.ccc_weight, 0., 1e3),
            ("task.squared_weight", task.squared_weight, 0., 1e3),
            ("task.embedding", task.embedding as f64, 2., 65536.),
            ("task.margin", task.margin, 0., 3.),
            ("task.scale", task.scale, 1., 1e3),
            ("task.min_steps", task.min_steps as f64, 1., 1e12),
            ("task.checks", task.checks as f64, 1., 1e4),
            ("train.epochs", train.epochs, 0.001, 1e6),
            ("train.lr", train.lr, 0., 1e3),
            ("train.warmup_epochs", train.warmup_epochs, 0., train.epochs),
            ("train.weight_decay", train.weight_decay, 0., 1e3),
            ("train.clip_norm", train.clip_norm, 0., 1e12),
            ("train.log_every", train.log_every as f64, 1., 1e15),
            (
                "train.checkpoint_every",
                train.checkpoint_every as f64,
                1.,
                1e15,
            ),
        ];
        if let Some((key, value, low, high)) = checks
            .into_iter()
            .find(|(_, value, low, high)| !(low..=high).contains(&value))
        {
            return Err(Error::config(format!(
                "`{key}` is {value}; expected {low} to {high}"
            )));
        }
        self.image
            .transform()
            .validate()
            .map_err(|error| Error::config(format!("section `image`: {error}")))?;
        if self.image.test_flip {
            return Err(Error::config(
                "`image.test_flip` averages embeddings of mirror images, which tasks do not; expected false",
            ));
        }
        use TaskHead as H;
        let heads: &[H] = match task.kind {
            TaskKind::Landmarks => &[H::Heatmap, H::HeatmapDistribution, H::Points],
            TaskKind::Affect => &[H::Linear],
            TaskKind::ActionUnits => &[H::Linear, H::Ordinal],
            TaskKind::Face3d => &[H::Dense, H::Points],
            TaskKind::Recognition => &[H::Arcface, H::Cosface],
        };
        if !heads.contains(&task.head) {
            return Err(Error::config(format!(
                "`task.head` {:?} is none of {:?}, expected one of {heads:?}",
                task.head, task.kind
            )));
        }
        if task.head == H::Dense && self.image.augment.flip > 0. {
            return Err(Error::config(
                "`image.augment.flip` mirrors faces, and a mirrored mesh has other vertices; expected 0 for \
                 `task.head = \"dense\"`",
            ));
        }
        Ok(())
    }

    /// What decides the numbers of a run, as one word; a checkpoint of another configuration is refused.
    pub fn fingerprint(&self) -> String {
        let mut same = self.clone();
        same.data.workers = 1;
        same.train.checkpoint_every = 1;
        same.train.log_every = 1;
        fingerprint_of(&same)
    }
}
