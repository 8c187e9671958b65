//! The typed schema of a recipe: every choice that makes a run, as one TOML file.
//!
//! The schema is flat within each section and every key always has a value, so that
//! `config.toml` of a run shows every choice that was made and a mistyped key can be told from
//! a rarely used one.

use std::collections::BTreeMap;

use phiz_data::{Augment, Fit, Transform};
use serde::{Deserialize, Serialize};

use crate::Result;

/// Everything that makes a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the recipe this started from.
    pub recipe: String,
    /// Seed of every random choice: initial weights, sampling, augmentation.
    pub seed: u64,
    /// Which images, and which of them to train on.
    pub data: DataConfig,
    /// What is done to an image before the network sees it.
    pub image: ImageConfig,
    /// The network.
    pub model: ModelConfig,
    /// Which images make a batch.
    pub sampling: SamplingConfig,
    /// What is minimised.
    pub objective: ObjectiveConfig,
    /// A loss chosen by name, minimised beside the objective.
    pub loss: LossConfig,
    /// How it is minimised.
    pub train: TrainConfig,
}

/// Which images, and which of them to train on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Data spec, as `cargo xtask data list` shows them.
    pub source: String,
    /// The label that is learned: `expression`, `identity` or any categorical label of the data.
    pub target: String,
    /// How identities are divided into those trained on and those held out.
    pub split: Split,
    /// Share of the identities that is trained on, with `split = "first"`.
    pub train_fraction: f64,
    /// Number of folds, with `split = "folds"`.
    pub folds: usize,
    /// Which fold is held out, from 0, with `split = "folds"`.
    pub fold: usize,
    /// Mirror images of the training part are further identities (for `target = "identity"`).
    pub mirrored_identities: bool,
    /// Threads that decode and augment images beside the training itself.
    pub workers: usize,
}

/// How identities are divided into those trained on and those held out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// The first `train_fraction` of the identities in their natural order are trained on.
    First,
    /// Identities are dealt into `folds` shuffled folds (the same for every seed of a run); `fold` is held out.
    Folds,
    /// Everything is trained on and everything is judged: for looking at a fit, never for a result.
    None,
}

/// What is done to an image before the network sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// Side of the square the network sees, pixels.
    pub size: usize,
    /// 1 for grey, 3 for RGB.
    pub channels: usize,
    /// How another shape is brought to a square: `stretch`, `pad` or `crop`.
    pub fit: Fit,
    /// Radius in pixels of local contrast normalisation; 0 switches it off.
    pub local_contrast: usize,
    /// At test time, average the embeddings of the image and its mirror image.
    pub test_flip: bool,
    /// Random changes of training images.
    pub augment: Augment,
}

impl ImageConfig {
    /// The transform of training images.
    pub fn transform(&self) -> Transform {
        Transform {
            size: (self.size, self.size),
            channels: self.channels,
            fit: self.fit,
            local_contrast: self.local_contrast,
            augment: self.augment,
        }
    }
}

/// The network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Which network.
    pub backbone: Backbone,
    /// Size of the embedding.
    pub embedding_dim: usize,
    /// Factor on the channels of the network; 1 is the network as published.
    pub width: f64,
    /// Two fully connected branches, or both losses on one (`expression-net` only).
    pub branches: Branches,
    /// Cut the gradient from the metric branch into the classification branch.
    pub stop_gradient: bool,
    /// Share of the features dropped before the embedding layer while training (IResNet only).
    pub dropout: f64,
    /// Run folder or weight file to start from: tensors with the same name and shape are taken. Empty: none.
    pub init: String,
}

/// Networks a recipe can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backbone {
    /// Small Inception-style network for 48 to 64 pixel faces.
    ExpressionNet,
    /// IResNet with 18 layers.
    Iresnet18,
    /// IResNet with 34 layers.
    Iresnet34,
    /// IResNet with 50 layers.
    Iresnet50,
    /// IResNet with 100 layers.
    Iresnet100,
    /// MobileFaceNet.
    Mobilefacenet,
    /// ResNet-18 with the stem that suits the size of the image.
    Resnet18,
    /// ResNet-50 (version 1.5) with the stem that suits the size of the image.
    Resnet50,
}

/// Fully connected branches on top of the trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Branches {
    /// A classification branch and a metric branch joined by a connecting layer.
    Two,
    /// One stack that carries both losses.
    One,
}

/// Which images make a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingConfig {
    /// How batches are drawn.
    pub kind: Sampling,
    /// Images a batch, for `shuffle` and `balanced`.
    pub images: usize,
    /// Images of each class drawn, for `balanced`.
    pub per_class: usize,
    /// Tuplets a batch, for `tuplet`.
    pub tuplets: usize,
    /// N: positives kept in a tuplet, the query among them.
    pub positives: usize,
    /// M: negatives in a tuplet.
    pub negatives: usize,
    /// K: candidate positives drawn for a tuplet.
    pub candidates: usize,
    /// Fewest positives mining may leave; below it the drop is undone.
    pub min_positives: usize,
    /// Negatives are images of the query's own subject with another expression; otherwise of anybody.
    pub same_subject_negatives: bool,
    /// Online positive mining; without it a random choice of the candidates is kept.
    pub mining: bool,
    /// Epochs before mining begins.
    pub mining_after: f64,
}

/// How batches are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Every image once an epoch, in a new order each time.
    Shuffle,
    /// The same number of images of each of some classes.
    Balanced,
    /// Identity-aware tuplets.
    Tuplet,
}

/// What is minimised: `softmax_weight` * cross-entropy + `metric_weight` * metric loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// How logits are made from the embedding.
    pub head: Head,
    /// Scale s of a margin head, and of the inner products of the N-pair loss.
    pub scale: f64,
    /// Margin m of a margin head (radians for ArcFace, cosine for CosFace).
    pub margin: f64,
    /// Weight of the softmax cross-entropy.
    pub softmax_weight: f64,
    /// Label smoothing of the cross-entropy.
    pub label_smoothing: f64,
    /// The metric loss.
    pub metric: Metric,
    /// Weight of the metric loss (lambda).
    pub metric_weight: f64,
    /// Margin tau of the metric loss, in squared distance.
    pub tau: f64,
    /// Squared reference distance T of the tuplet-clusters losses (the start value of the adaptive one).
    pub reference_distance: f64,
    /// Epochs over which the weight of the metric loss rises from 0 in a straight line.
    pub metric_ramp: f64,
    /// Factor on the learning rate of the metric loss's own parameters (the adaptive form has some).
    pub metric_lr: f64,
    /// Scale embeddings to unit length before miner and metric loss.
    pub normalize: bool,
}

/// How logits are made from the embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// A linear layer.
    Linear,
    /// ArcFace: additive angular margin.
    Arcface,
    /// CosFace: additive cosine margin.
    Cosface,
}

/// The metric loss of an objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// None: softmax alone.
    None,
    /// Batch-hard triplets.
    Triplet,
    /// N-pair: one positive and one negative of every other class, inner products.
    NPair,
    /// Coupled clusters.
    CoupledClusters,
    /// (N+M)-tuplet clusters with a fixed reference distance.
    TupletFixed,
    /// Generalised adaptive (N+M)-tuplet clusters.
    TupletAdaptive,
}

/// A loss chosen by name: `weight` times the loss `name` with its `settings`, over the tuples that `miner` finds.
///
/// Naming another loss or miner gives its settings their defaults; a setting that it does not have is an error.
///
/// ```
/// # fn main() -> phiz_recipes::Result<()> {
/// let config = phiz_recipes::named("metric")?
///     .set("loss.name=contrastive")?
///     .set("loss.settings.neg_margin=0.8")?;
/// assert_eq!(config.loss.settings["pos_margin"], 0.0);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Which loss; `none` for none. [`loss_and_miner_names`](crate::loss_and_miner_names) lists them.
    pub name: String,
    /// Weight of the loss.
    pub weight: f64,
    /// Which miner chooses the loss's tuples; `none`: it takes all.
    pub miner: String,
    /// Hyper-parameters of the loss, under the names of its configuration in `phiz-losses`.
    pub settings: BTreeMap<String, f64>,
    /// Hyper-parameters of the miner, under the names of its configuration in `phiz-mining`.
    pub mining: BTreeMap<String, f64>,
}

impl Default for LossConfig {
    /// No loss beside the objective.
    fn default() -> Self {
        Self {
            name: crate::losses::NONE.to_string(),
            weight: 1.0,
            miner: crate::losses::NONE.to_string(),
            settings: BTreeMap::new(),
            mining: BTreeMap::new(),
        }
    }
}

impl LossConfig {
    /// A loss and a miner with their defaults; `none` for no miner.
    ///
    /// # Errors
    /// When there is no loss or miner of that name; the message lists those there are.
    pub fn of(name: &str, miner: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_string(),
            miner: miner.to_string(),
            settings: crate::losses::loss_settings(name)?,
            mining: crate::losses::miner_settings(miner)?,
            ..Self::default()
        })
    }
}

/// How the objective is minimised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the training images (tuplet batches are counted by their images).
    pub epochs: f64,
    /// Learning rate after warm-up.
    pub lr: f64,
    /// The course of the learning rate.
    pub schedule: ScheduleKind,
    /// Epochs of linear warm-up.
    pub warmup_epochs: f64,
    /// Exponent of the `poly` schedule.
    pub power: f64,
    /// Epochs after which the `step` schedule multiplies the rate by `gamma`.
    pub milestones: Vec<f64>,
    /// Factor of the `step` schedule.
    pub gamma: f64,
    /// The optimiser.
    pub optimizer: OptimizerKind,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Nesterov's form of momentum.
    pub nesterov: bool,
    /// Weight decay; never on normalisation layers and biases.
    pub weight_decay: f64,
    /// Largest norm of the whole gradient; 0 switches clipping off.
    pub clip_norm: f64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Steps between lines of `metrics.jsonl`.
    pub log_every: u64,
}

/// The course of the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// The same rate throughout.
    Constant,
    /// Half a cosine down to 0.
    Cosine,
    /// (1 - progress)^power.
    Poly,
    /// Multiplied by `gamma` at each milestone.
    Step,
}

/// The optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam with decoupled weight decay.
    Adamw,
}

impl Config {
    /// What decides the numbers of a run, as one word; a checkpoint of another configuration is refused.
    pub fn fingerprint(&self) -> String {
        // How often a run logs and saves, and how many threads decode, change nothing it computes.
        let mut same = self.clone();
        same.data.workers = 1;
        same.train.checkpoint_every = 1;
        same.train.log_every = 1;
        fingerprint_of(&same)
    }
}

/// A configuration as one word.
pub(crate) fn fingerprint_of(config: &impl Serialize) -> String {
    let text = serde_json::to_string(config).unwrap_or_default();
    // FNV-1a, 64 bits: a check against mistakes, not against attacks.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}
