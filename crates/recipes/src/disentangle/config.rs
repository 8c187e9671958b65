//! The schema of a disentangling recipe: one TOML file, every key with a value.

use phiz_disentangle as core;
use phiz_disentangle::{Halving as CoreHalving, Objective, Reconstruction, Schedule};
use serde::{Deserialize, Serialize};

/// Everything that makes a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisentangleConfig {
    /// Name of the recipe this started from.
    pub recipe: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// Which images, what is learned from them and what is removed.
    pub data: DisentangleData,
    /// What the networks see.
    pub image: DisentangleImage,
    /// The networks.
    pub model: DisentangleModel,
    /// Who plays against whom.
    pub game: GameConfig,
    /// How it is minimised.
    pub train: GameTrain,
    /// How it is judged.
    pub eval: DisentangleEval,
}

/// Which images, what is learned from them and what is removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisentangleData {
    /// Data spec of the training images.
    pub source: String,
    /// The label that is learned.
    pub target: String,
    /// Labels to remove from d, by name: categorical ones, numbers (`factor.yaw`), or several yes-or-no labels as one
    /// factor (`glasses+hat`). `all`: every label with classes that varies in training, but the target and `identity`.
    pub remove: Vec<String>,
    /// Labels that stay, whatever `remove` says; their trace in d is reported and not fought.
    pub keep: Vec<String>,
    /// Share of the identities that is trained on; the rest is held out. 0: all images are trained on, and `eval.parts`
    /// are judged.
    pub train_fraction: f64,
    /// Trained on are only images in these states: `light=front|left`. Empty: any.
    pub train_states: Vec<String>,
    /// Held-out images that are compared are only those in these states. Empty: any.
    pub test_states: Vec<String>,
    /// Threads that decode beside the training itself; 0 decodes within it.
    pub workers: usize,
}

/// What the networks see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisentangleImage {
    /// Side, pixels: 28, 32, 64 or 112.
    pub size: usize,
    /// 1 for grey, 3 for RGB.
    pub channels: usize,
}

/// The networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisentangleModel {
    /// The trunk of the encoders.
    pub trunk: TrunkKind,
    /// Whether l has a trunk of its own.
    pub separate_trunk: bool,
    /// How the plain trunk halves a map.
    pub halving: Halving,
    /// Channels of the plain trunk after each halving.
    pub widths: Vec<usize>,
    /// Features of the trunk.
    pub features: usize,
    /// Factor on the channels of a backbone.
    pub width: f64,
    /// Size of d.
    pub d_dim: usize,
    /// Size of l.
    pub l_dim: usize,
    /// Hidden layers of the classifier on d.
    pub classifier_hidden: Vec<usize>,
    /// Hidden layers of each adversary.
    pub adversary_hidden: Vec<usize>,
    /// Channels of the decoder's smallest map and after each doubling.
    pub decoder_widths: Vec<usize>,
    /// How the decoder doubles a map.
    pub doubling: Doubling,
}

/// A trunk by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrunkKind {
    /// Plain convolutions and a linear layer.
    Conv,
    /// IResNet with 18 layers.
    Iresnet18,
    /// MobileFaceNet.
    Mobilefacenet,
}

/// How the plain trunk halves a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Halving {
    /// Convolution 5 x 5 of stride 2.
    Stride,
    /// Convolution 3 x 3, then the greatest of 2 x 2.
    Pool,
}

/// How the decoder doubles a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doubling {
    /// Repeat pixels, then convolve 3 x 3.
    Upsample,
    /// Transposed convolution 4 x 4 of stride 2.
    Transposed,
}

/// Who plays against whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GameConfig {
    /// Which players there are.
    pub mode: Mode,
    /// What d learns the task by.
    pub task: Task,
    /// How mutual information is estimated, in the modes that have it.
    pub information: InformationKind,
    /// What an ignorant adversary answers, unless the game is played given the class.
    pub ignorant: IgnorantKind,
    /// Whether the game is played given the class: d may say of the factors what the class says. For data where they go with
    /// the class. (`eta` then counts for l alone.)
    pub given_class: bool,
    /// Weight of the task's loss.
    pub classification: f64,
    /// Weight of the factors' removal from d.
    pub alpha: f64,
    /// Weight of the class's removal from l.
    pub beta: f64,
    /// Weight of the adversaries' uncertainty.
    pub eta: f64,
    /// Weight of each mutual information.
    pub mu: f64,
    /// Weight of the reconstruction.
    pub lambda: f64,
    /// Whether the reconstruction teaches the encoder of d.
    pub rebuild_d: bool,
    /// Share of the mean squared error in the reconstruction error.
    pub l2: f64,
    /// Share of the mean absolute error in it.
    pub l1: f64,
    /// Share of `1 - SSIM` in it.
    pub ssim: f64,
    /// Turns of the adversaries before each of the main players.
    pub adversary_turns: u64,
    /// Whether the adversaries learn in the main turns too.
    pub teach: bool,
    /// Main turns at the start without any term against adversaries.
    pub warmup: u64,
    /// Main turns after that over which those terms rise.
    pub ramp: u64,
}

/// Which players there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// d, s and l with uniform targets, entropy, mutual information and reconstruction.
    Full,
    /// The same with uniform targets alone.
    Uniform,
    /// The same with mutual information alone.
    Information,
    /// Classifier alone.
    Classifier,
    /// Classifier and reconstruction, no adversary.
    Reconstruction,
    /// Classifier and gradient reversal on d, no decoder (as DANN).
    Reversal,
    /// Unsupervised adversarial invariance: no label of any factor is used.
    Uai,
}

impl Mode {
    /// Whether the mode has adversaries with turns of their own.
    pub(crate) fn has_turns(self) -> bool {
        matches!(
            self,
            Self::Full | Self::Uniform | Self::Information | Self::Uai
        )
    }

    /// Whether the mode has a decoder.
    pub(crate) fn decodes(self) -> bool {
        !matches!(self, Self::Classifier | Self::Reversal)
    }

    /// Whether anybody plays against the encoders.
    pub(crate) fn plays(self) -> bool {
        self.has_turns() || self == Self::Reversal
    }
}

/// What d learns the task by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// The classifier's cross-entropy.
    Softmax,
    /// (N+M)-tuplet clusters within the batch; the classifier learns beside them and leaves d alone.
    Tuplet,
}

/// How mutual information is estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InformationKind {
    /// CLUB, an upper bound.
    Club,
    /// MINE, a lower bound.
    Mine,
}

/// What an ignorant adversary answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IgnorantKind {
    /// The prior where a factor's labels are unbalanced, the uniform distribution elsewhere.
    PriorIfUnbalanced,
    /// Always the uniform distribution.
    Uniform,
    /// Always the training set's prior.
    Prior,
}

/// How it is minimised: AdamW, the rate falling along half a cosine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GameTrain {
    /// Turns of the main players.
    pub turns: u64,
    /// Images a turn.
    pub batch: usize,
    /// Learning rate of the main players.
    pub lr: f64,
    /// Learning rate of the adversaries.
    pub adversary_lr: f64,
    /// Share of the run in which the rates rise in a straight line.
    pub warmup_share: f64,
    /// Weight decay; never on normalisation layers and biases.
    pub weight_decay: f64,
    /// Largest norm of the whole gradient; 0 switches clipping off.
    pub clip_norm: f64,
    /// Steps (turns of anybody) between checkpoints.
    pub checkpoint_every: u64,
    /// Steps between lines of `metrics.jsonl`.
    pub log_every: u64,
}

/// How it is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisentangleEval {
    /// Parts to judge where nothing is held out, each `name=SPEC`; probes are fitted on the first and judged on the
    /// second, those of removed classes once more between the halves of the first.
    pub parts: Vec<String>,
    /// Images of each part, drawn once for all; 0: all.
    pub images: usize,
    /// Rows a probe is fitted on, and judged on, at most.
    pub probe_rows: usize,
    /// Seeds of each probe.
    pub probe_seeds: u64,
}

impl DisentangleConfig {
    /// The weights of the game in this mode.
    pub(crate) fn objective(&self) -> Objective {
        let game = &self.game;
        let against = match game.mode {
            Mode::Full => core::Against::All,
            Mode::Uniform => core::Against::Uniform,
            Mode::Information => core::Against::Information,
            Mode::Reversal => core::Against::Reversal,
            Mode::Classifier | Mode::Reconstruction | Mode::Uai => core::Against::Nothing,
        };
        Objective {
            against,
            ignorant: match game.ignorant {
                IgnorantKind::PriorIfUnbalanced => core::Ignorant::PriorIfUnbalanced,
                IgnorantKind::Uniform => core::Ignorant::Uniform,
                IgnorantKind::Prior => core::Ignorant::Prior,
            },
            classification: game.classification,
            alpha: game.alpha,
            beta: game.beta,
            eta: game.eta,
            mu: game.mu,
            lambda: if game.mode.decodes() { game.lambda } else { 0. },
            reconstruction: Reconstruction {
                l2: game.l2,
                l1: game.l1,
                ssim: game.ssim,
            },
            rebuild_d: game.rebuild_d,
            teach: game.teach,
        }
    }

    /// The order of turns in this mode.
    pub(crate) fn schedule(&self) -> Schedule {
        Schedule {
            adversary_turns: if self.game.mode.has_turns() {
                self.game.adversary_turns
            } else {
                0
            },
            warmup: self.game.warmup,
            ramp: self.game.ramp,
        }
    }

    /// The sizes of the networks.
    pub(crate) fn sizes(&self, classes: usize) -> core::DisentanglerConfig {
        core::DisentanglerConfig {
            classes,
            d_dim: self.model.d_dim,
            l_dim: self.model.l_dim,
            classifier_hidden: self.model.classifier_hidden.clone(),
            adversary_hidden: self.model.adversary_hidden.clone(),
            decoder: core::DecoderConfig {
                image_size: self.image.size,
                channels: self.image.channels,
                widths: self.model.decoder_widths.clone(),
                doubling: match self.model.doubling {
                    Doubling::Upsample => core::Doubling::Upsample,
                    Doubling::Transposed => core::Doubling::Transposed,
                },
            },
            information: match self.game.information {
                InformationKind::Club => core::Information::Club,
                InformationKind::Mine => core::Information::Mine,
            },
        }
    }

    pub(crate) fn halving(&self) -> CoreHalving {
        match self.model.halving {
            Halving::Stride => CoreHalving::Stride,
            Halving::Pool => CoreHalving::Pool,
        }
    }
}
