//! The typed schema of a pre-training recipe.

use std::path::Path;

use phiz_data::{Distortion, MultiCrop, RandomResizedCrop, ViewGroup, ViewTransform};
use serde::{Deserialize, Serialize};

use crate::config::{OptimizerKind, fingerprint_of};
use crate::overlay::{self, Schema, within};
use crate::{Error, Result};

/// Everything that makes a pre-training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// Name of the recipe this started from.
    pub recipe: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// Which images, and which of them to learn from.
    pub data: PretrainData,
    /// The views that are learned from.
    pub views: ViewsConfig,
    /// The trunk.
    pub model: PretrainModel,
    /// What is minimised.
    pub method: MethodConfig,
    /// How it is minimised.
    pub train: PretrainTrain,
    /// How the trunk is judged.
    pub probe: ProbeSettings,
}

/// Which images, and which of them to learn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainData {
    /// Data spec, as `cargo xtask data list` shows them.
    pub source: String,
    /// Share of the identities that is learned from, the first ones in their natural order; the others are judged. At 1
    /// nobody is held out, and the trunk can be judged on other data alone.
    pub train_fraction: f64,
    /// Share of the training labels that are redrawn among all identities (supervised pre-training alone).
    pub label_noise: f64,
    /// Images of the first identity over those of the last: 1 keeps all, above it the identities between lose images
    /// geometrically.
    pub imbalance: f64,
    /// Share of the images learned from that are cut off-centre: a window of 60 % of the side at a place of its own.
    pub off_centre: f64,
    /// Share of the images learned from that show no face but patterns and things; their labels stay.
    pub non_faces: f64,
    /// Threads that make views beside the training itself.
    pub workers: usize,
}

/// The views that are learned from. Small views have the distortions of the large ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewsConfig {
    /// Large views of an image.
    pub large: usize,
    /// Their side in pixels; the trunk is judged at this size.
    pub large_size: usize,
    /// Smallest and largest share of the image's area in a large view.
    pub large_scale: [f32; 2],
    /// Small views of an image; 0 for none.
    pub small: usize,
    /// Their side in pixels.
    pub small_size: usize,
    /// Smallest and largest share of the image's area in a small view.
    pub small_scale: [f32; 2],
    /// Narrowest and widest window a view is cut from, as width over height: it is stretched to a square.
    pub aspect: [f32; 2],
    /// Probability of changing colours.
    pub jitter_probability: f32,
    /// Strength of brightness, contrast and saturation changes.
    pub jitter: f32,
    /// Strength of the change of hue.
    pub hue: f32,
    /// Probability of making a view grey.
    pub grey: f32,
    /// Probability of a blur.
    pub blur: f32,
    /// Smallest and largest standard deviation of the blur, in pixels of a large view; in smaller ones it is smaller likewise.
    pub blur_sigma: [f32; 2],
    /// Probability of inverting bright values.
    pub solarise: f32,
    /// Probability of mirroring.
    pub flip: f32,
}

impl ViewsConfig {
    /// The views as the loader takes them, scaled as every network here reads images: `(p / 255 - 0.5) / 0.5`.
    pub fn multi_crop(&self) -> MultiCrop {
        let transform = |size: usize, scale: [f32; 2]| {
            let blur_sigma = self
                .blur_sigma
                .map(|s| s * size as f32 / self.large_size as f32);
            let kernel = 2 * (blur_sigma[1] * 4.0).ceil().clamp(1.0, 60.0) as usize + 1;
            ViewTransform {
                crop: RandomResizedCrop {
                    size,
                    scale,
                    aspect: self.aspect,
                },
                distortions: vec![
                    Distortion::ColourJitter {
                        probability: self.jitter_probability,
                        brightness: self.jitter,
                        contrast: self.jitter,
                        saturation: self.jitter,
                        hue: self.hue,
                    },
                    Distortion::Grey {
                        probability: self.grey,
                    },
                    Distortion::Blur {
                        probability: self.blur,
                        kernel,
                        sigma: blur_sigma,
                    },
                    Distortion::Solarise {
                        probability: self.solarise,
                        threshold: 0.5,
                    },
                    Distortion::Flip {
                        probability: self.flip,
                    },
                ],
                channels: 3,
                mean: [0.5; 3],
                deviation: [0.5; 3],
            }
        };
        let groups = [
            (self.large, self.large_size, self.large_scale),
            (self.small, self.small_size, self.small_scale),
        ];
        MultiCrop {
            groups: groups
                .into_iter()
                .filter(|(views, ..)| *views > 0)
                .map(|(views, size, scale)| ViewGroup {
                    views,
                    transform: transform(size, scale),
                })
                .collect(),
        }
    }

    /// Views of an image.
    pub fn count(&self) -> usize {
        self.large + self.small
    }
}

/// The trunk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainModel {
    /// Which network.
    pub trunk: TrunkName,
    /// What stands before its first block.
    pub stem: TrunkStem,
    /// Factor on the channels of a ResNet; 1 is the network as published.
    pub width: f64,
    /// Side of a patch of a vision transformer, pixels.
    pub patch: usize,
    /// Blocks of a vision transformer.
    pub depth: usize,
    /// Run folder or weight file to start from; empty: none.
    pub init: String,
}

/// Trunks a pre-training recipe can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrunkName {
    /// ResNet with 18 layers.
    Resnet18,
    /// ResNet with 50 layers, version 1.5.
    Resnet50,
    /// Vision transformer with tokens of 192; all views need one size.
    VitTiny,
    /// Vision transformer with tokens of 384; all views need one size.
    VitSmall,
}

impl TrunkName {
    /// Whether it is a vision transformer.
    pub fn is_transformer(self) -> bool {
        matches!(self, Self::VitTiny | Self::VitSmall)
    }
}

/// What stands before the first block of the trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrunkStem {
    /// 7 x 7, stride 2, and a max pool: 112 pixels and more.
    Imagenet,
    /// 3 x 3, stride 2: 48 to 96 pixels.
    Half,
    /// 3 x 3, stride 1: 32 pixels and less.
    Full,
}

/// What is minimised. A key that a method does not know has no effect on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodConfig {
    /// Which method.
    pub name: MethodName,
    /// Width of the hidden layers of its head.
    pub hidden: usize,
    /// Length of the embedding.
    pub dim: usize,
    /// Batch norm in the projection head (SwAV).
    pub head_norm: bool,
    /// Temperature (SwAV, SimCLR).
    pub temperature: f64,
    /// Prototypes (SwAV).
    pub prototypes: usize,
    /// Smoothness of the assignments (SwAV).
    pub epsilon: f64,
    /// Iterations of Sinkhorn (SwAV).
    pub iterations: usize,
    /// Hard assignments (SwAV).
    pub hard: bool,
    /// Embeddings of earlier batches that take part in the assignments, a multiple of the batch (SwAV).
    pub queue: usize,
    /// Epoch from which the queue is filled (SwAV).
    pub queue_from: f64,
    /// Steps during which the prototypes stand still (SwAV).
    pub freeze_steps: u64,
    /// Momentum of the slow copy at the start (BYOL).
    pub momentum: f64,
    /// Weight of what is off the diagonal (Barlow Twins).
    pub lambda: f64,
    /// Weights of invariance, variance and covariance (VICReg).
    pub vic: [f64; 3],
    /// Share of the patches that are hidden (masked auto-encoder).
    pub masked: f64,
    /// Blocks of the decoder, whose tokens have length `dim` (masked auto-encoder).
    pub decoder_depth: usize,
    /// Heads of the decoder's attention (masked auto-encoder).
    pub decoder_heads: usize,
    /// How logits are made (supervised).
    pub head: SupervisedHead,
    /// Scale of a margin head (supervised).
    pub scale: f64,
    /// Margin of a margin head (supervised).
    pub margin: f64,
}

/// Methods a pre-training recipe can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MethodName {
    /// Swapped assignments between views.
    Swav,
    /// Contrast with the other images of the batch.
    Simclr,
    /// Prediction of a slow copy.
    Byol,
    /// Variance, invariance, covariance.
    Vicreg,
    /// Cross-correlations that should be the identity.
    BarlowTwins,
    /// Hidden patches told from seen ones, on a vision transformer.
    Mae,
    /// Identity with labels, for comparison.
    Supervised,
}

/// How the logits of supervised pre-training are made from the embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SupervisedHead {
    /// A linear layer.
    Softmax,
    /// Additive angular margin.
    Arcface,
    /// Additive cosine margin.
    Cosface,
}

/// How the method is minimised: rates rise linearly, then fall along half a cosine, step by step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainTrain {
    /// Images a step.
    pub batch: usize,
    /// Passes over the images.
    pub epochs: f64,
    /// Learning rate after warm-up.
    pub lr: f64,
    /// Learning rate at the end.
    pub final_lr: f64,
    /// Epochs of linear warm-up.
    pub warmup_epochs: f64,
    /// The optimiser.
    pub optimizer: OptimizerKind,
    /// Layer-wise adaptive rates in front of SGD (LARC).
    pub larc: bool,
    /// Trust coefficient of LARC.
    pub trust: f64,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Weight decay: of all parameters, but that vision transformers spare biases and the parameters of norms.
    pub weight_decay: f64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Steps between lines of `metrics.jsonl`.
    pub log_every: u64,
}

/// How the trunk is judged, during training and at its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeSettings {
    /// Epochs between probes during training; 0 for none.
    pub every: f64,
    /// Neighbours that vote on an identity.
    pub identity_neighbours: usize,
    /// Neighbours that vote on an expression.
    pub expression_neighbours: usize,
    /// Divisor of the cosine in a vote.
    pub temperature: f64,
    /// Most labelled training images that the expression probes are fitted to.
    pub images: usize,
}

impl Schema for PretrainConfig {
    fn recipe(&self) -> &str {
        &self.recipe
    }

    fn named(name: &str) -> Result<Self> {
        super::named(name)
    }

    fn check(&self) -> Result<()> {
        self.validate()
    }
}

impl PretrainConfig {
    /// The configuration as TOML, every key present.
    ///
    /// # Errors
    /// When a value has no TOML form.
    pub fn to_toml(&self) -> Result<String> {
        overlay::to_toml(self)
    }

    /// Reads a complete or partial configuration; what the file leaves out comes from the recipe it names, or from `base`.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, holds an unknown key or a value of the wrong type.
    pub fn from_file(path: &Path, base: &PretrainConfig) -> Result<PretrainConfig> {
        overlay::from_file(path, base)
    }

    /// Applies `section.key=value` words, later ones last; only the result has to make sense.
    ///
    /// # Errors
    /// When there is no `=`, a key is unknown, or a value has the wrong type or makes no sense.
    pub fn set_all<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<PretrainConfig> {
        overlay::set_all(self, words)
    }

    /// Checks that every value lies where it makes sense.
    ///
    /// # Errors
    /// When one does not; the message names the key, its value and what is expected.
    pub fn validate(&self) -> Result<()> {
        let (data, views, method, train) = (&self.data, &self.views, &self.method, &self.train);
        within("seed", self.seed as f64, 0.0, i64::MAX as f64)?;
        within("data.train_fraction", data.train_fraction, 0.01, 1.0)?;
        within("data.off_centre", data.off_centre, 0.0, 1.0)?;
        within("data.non_faces", data.non_faces, 0.0, 1.0)?;
        within("data.label_noise", data.label_noise, 0.0, 1.0)?;
        within("data.imbalance", data.imbalance, 1.0, 1e6)?;
        within("data.workers", data.workers as f64, 1.0, 64.0)?;
        within("views.large", views.large as f64, 1.0, 64.0)?;
        within("views.small", views.small as f64, 0.0, 64.0)?;
        within("views.large_size", views.large_size as f64, 8.0, 1024.0)?;
        within("views.small_size", views.small_size as f64, 8.0, 1024.0)?;
        views
            .multi_crop()
            .validate()
            .map_err(|error| Error::config(format!("section `views`: {error}")))?;
        within("model.width", self.model.width, 0.01, 16.0)?;
        within("model.patch", self.model.patch as f64, 1.0, 1024.0)?;
        within("model.depth", self.model.depth as f64, 1.0, 100.0)?;
        within("method.masked", method.masked, 0.01, 0.99)?;
        within(
            "method.decoder_depth",
            method.decoder_depth as f64,
            0.0,
            100.0,
        )?;
        within(
            "method.decoder_heads",
            method.decoder_heads as f64,
            1.0,
            100.0,
        )?;
        within("method.hidden", method.hidden as f64, 1.0, 1e6)?;
        within("method.dim", method.dim as f64, 2.0, 1e6)?;
        within("method.temperature", method.temperature, 1e-3, 1e3)?;
        within("method.prototypes", method.prototypes as f64, 2.0, 1e7)?;
        within("method.epsilon", method.epsilon, 1e-3, 1e3)?;
        within("method.iterations", method.iterations as f64, 1.0, 1e3)?;
        within("method.queue", method.queue as f64, 0.0, 1e8)?;
        within("method.queue_from", method.queue_from, 0.0, 1e9)?;
        within("method.momentum", method.momentum, 0.0, 1.0)?;
        within("method.lambda", method.lambda, 0.0, 1e6)?;
        within("method.scale", method.scale, 1e-3, 1e4)?;
        within("method.margin", method.margin, 0.0, std::f64::consts::PI)?;
        for (at, weight) in method.vic.iter().enumerate() {
            within(&format!("method.vic[{at}]"), *weight, 0.0, 1e6)?;
        }
        within("train.batch", train.batch as f64, 2.0, 1e6)?;
        within("train.epochs", train.epochs, 1e-6, 1e9)?;
        within("train.lr", train.lr, 0.0, 1e6)?;
        within("train.final_lr", train.final_lr, 0.0, train.lr)?;
        within(
            "train.warmup_epochs",
            train.warmup_epochs,
            0.0,
            train.epochs,
        )?;
        within("train.trust", train.trust, 0.0, 1e3)?;
        within("train.momentum", train.momentum, 0.0, 0.9999)?;
        within("train.weight_decay", train.weight_decay, 0.0, 1e3)?;
        within(
            "train.checkpoint_every",
            train.checkpoint_every as f64,
            1.0,
            1e15,
        )?;
        within("train.log_every", train.log_every as f64, 1.0, 1e15)?;
        within("probe.every", self.probe.every, 0.0, 1e9)?;
        within(
            "probe.identity_neighbours",
            self.probe.identity_neighbours as f64,
            1.0,
            1e6,
        )?;
        within(
            "probe.expression_neighbours",
            self.probe.expression_neighbours as f64,
            1.0,
            1e6,
        )?;
        within("probe.temperature", self.probe.temperature, 1e-6, 1e6)?;
        within("probe.images", self.probe.images as f64, 2.0, 1e9)?;
        if train.larc && train.optimizer != OptimizerKind::Sgd {
            return Err(Error::config(
                "`train.larc` stands in front of SGD; expected `train.optimizer = \"sgd\"`",
            ));
        }
        if data.train_fraction >= 1.0 && self.probe.every > 0.0 {
            return Err(Error::config(
                "`data.train_fraction` 1 holds nobody out to probe during training; expected `probe.every = 0`",
            ));
        }
        let transformer = self.model.trunk.is_transformer();
        if transformer && views.small > 0 && views.small_size != views.large_size {
            return Err(Error::config(format!(
                "a vision transformer takes images of one size; expected `views.small = 0` or `views.small_size = {}`",
                views.large_size
            )));
        }
        if transformer && !views.large_size.is_multiple_of(self.model.patch) {
            return Err(Error::config(format!(
                "`model.patch` {} does not divide `views.large_size` {}",
                self.model.patch, views.large_size
            )));
        }
        if method.name == MethodName::Mae && !transformer {
            return Err(Error::config(
                "the masked auto-encoder hides patches; expected `model.trunk = \"vit-tiny\"` or `\"vit-small\"`",
            ));
        }
        let views_of = match method.name {
            MethodName::Swav => (views.large + views.small < 2 || views.large < 2)
                .then_some("SwAV makes its codes of two large views; expected `views.large` of at least 2"),
            MethodName::Mae => (views.count() != 1)
                .then_some("the masked auto-encoder sees one view; expected `views.large = 1` and `views.small = 0`"),
            MethodName::Supervised => (views.count() != 1)
                .then_some("supervised pre-training sees one view; expected `views.large = 1` and `views.small = 0`"),
            _ => (views.large != 2 || views.small != 0)
                .then_some("this method compares two views; expected `views.large = 2` and `views.small = 0`"),
        };
        if let Some(text) = views_of {
            return Err(Error::config(text));
        }
        if method.name == MethodName::Swav {
            let rows = train.batch + method.queue;
            if !method.queue.is_multiple_of(train.batch) {
                return Err(Error::config(format!(
                    "`method.queue` is {}; expected a multiple of `train.batch`, {}, such as `method.queue = {}`",
                    method.queue,
                    train.batch,
                    method.queue.next_multiple_of(train.batch)
                )));
            }
            if method.prototypes > rows {
                let needed = (method.prototypes - train.batch).div_ceil(train.batch) * train.batch;
                return Err(Error::config(format!(
                    "`method.prototypes` is {}, but a batch of {} and a queue of {} can fill only {rows}; expected at \
                     most {rows} prototypes, or `method.queue = {needed}`",
                    method.prototypes, train.batch, method.queue
                )));
            }
        }
        Ok(())
    }

    /// What decides the numbers of a run, as one word; a checkpoint of another configuration is refused.
    pub fn fingerprint(&self) -> String {
        // How often a run logs and saves, and how many threads make views, change nothing it computes.
        let mut same = self.clone();
        same.data.workers = 1;
        same.train.checkpoint_every = 1;
        same.train.log_every = 1;
        same.probe.every = 0.0;
        fingerprint_of(&same)
    }
}
