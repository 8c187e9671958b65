//! The pre-training recipes that have a name.

use super::config::{
    MethodConfig, MethodName, PretrainConfig, PretrainData, PretrainModel, PretrainTrain,
    ProbeSettings, SupervisedHead, TrunkName, TrunkStem, ViewsConfig,
};
use crate::config::OptimizerKind;
use crate::{Error, Result};

/// A pre-training recipe that has a name.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    method: MethodName,
}

/// Every named pre-training recipe. They share data, number of steps and judging, and all but `mae`, which has a vision
/// transformer, the trunk.
pub const NAMED: &[Named] = &[
    Named {
        name: "swav",
        summary: "pre-training without labels: assignments to prototypes, swapped between two crops",
        method: MethodName::Swav,
    },
    Named {
        name: "simclr",
        summary: "pre-training without labels: the other view of an image among all of the batch",
        method: MethodName::Simclr,
    },
    Named {
        name: "byol",
        summary: "pre-training without labels: prediction of a slow copy of the network",
        method: MethodName::Byol,
    },
    Named {
        name: "vicreg",
        summary: "pre-training without labels: variance, invariance, covariance",
        method: MethodName::Vicreg,
    },
    Named {
        name: "barlow-twins",
        summary: "pre-training without labels: cross-correlations that should be the identity",
        method: MethodName::BarlowTwins,
    },
    Named {
        name: "mae",
        summary: "pre-training without labels: hidden patches told from seen ones, on a vision transformer",
        method: MethodName::Mae,
    },
    Named {
        name: "pretrain-identity",
        summary: "pre-training on identity labels, which may be noisy or unevenly spread (softmax or margin head)",
        method: MethodName::Supervised,
    },
];

/// What rendered faces are like that trunks are learned from and judged on: a data spec's keys without who is in it, for
/// images and for sequences. Plain expressions, and a place in the image as loose as the renderer has it.
pub(crate) const FACES: &str = "expression_strength=2,jitter=3,background=0";

/// What trunks are told that others start from, the reference models among them: they learn from people whom the data of no
/// other recipe shows, and half as long.
pub(crate) const TO_START_FROM: [&str; 2] = [
    "data.source=synth:identities=300,expression_strength=2,jitter=3,background=0,first_identity=5000",
    "train.epochs=20",
];

/// The complete configuration of a named pre-training recipe.
///
/// # Errors
/// When there is none of that name; the message lists those there are.
pub fn named(name: &str) -> Result<PretrainConfig> {
    let Some(recipe) = NAMED.iter().find(|recipe| recipe.name == name) else {
        let names: Vec<&str> = NAMED.iter().map(|recipe| recipe.name).collect();
        return Err(Error::config(format!(
            "`{name}` is no pre-training recipe; there are: {}",
            names.join(", ")
        )));
    };
    let mut config = base();
    config.recipe = name.to_string();
    config.method.name = recipe.method;
    match recipe.method {
        MethodName::Swav => {}
        MethodName::Supervised => {
            config.views.large = 1;
            // Labels say what stays the same, so that milder changes do.
            config.views.large_scale = [0.7, 1.0];
        }
        MethodName::Mae => {
            // Crops alone: what is hidden is what is to be learned.
            config.views.large = 1;
            config.views.jitter_probability = 0.0;
            config.views.grey = 0.0;
            config.views.blur = 0.0;
            config.model.trunk = TrunkName::VitTiny;
            config.train.lr = 0.001;
            config.train.weight_decay = 0.05;
        }
        method => {
            if method == MethodName::Simclr {
                config.method.temperature = 0.2;
            }
            config.method.dim = if method == MethodName::Simclr {
                128
            } else {
                256
            };
        }
    }
    Ok(config)
}

/// SwAV on rendered faces: a narrow ResNet-18 that two cores train in half an hour.
///
/// What differs from the published settings, and why. At an epsilon of 0.05 and 64 images a step, assignments are so even that
/// predictions become so too; at 0.03 they teach less in a thousand steps than at 0.01 in half of them. 256 prototypes, since
/// a few dozen tell groups of people apart and no expressions, and a queue of three batches to fill them: embeddings of many
/// batches ago are those of another network. Six iterations of Sinkhorn, because three leave the shares of so many prototypes
/// unequal. No small crops: at 32 pixels an expression is not to be seen in part of a face, and what a small crop cannot tell
/// is unlearned. AdamW in place of LARC, which in a few thousand steps does not get far. Crops keep half of the face and more,
/// and its proportions nearly: a face has less in it than a photograph, and its proportions are who it is. Colours are changed
/// less, because the colour of skin and hair is much of who it is too. The ground behind the heads is plain: a pattern that
/// each image has for itself is the easiest thing to know two of its crops by, and that is then what is learned. And the faces
/// stand anywhere in the image, as uncurated ones do: what crops teach is to see a face wherever it stands, and where all stand
/// in the middle, pixels need no teaching.
fn base() -> PretrainConfig {
    PretrainConfig {
        recipe: String::new(),
        seed: 0,
        data: PretrainData {
            source: format!("synth:identities=300,{FACES}"),
            train_fraction: 0.8,
            label_noise: 0.0,
            imbalance: 1.0,
            off_centre: 0.0,
            non_faces: 0.0,
            workers: 1,
        },
        views: ViewsConfig {
            large: 2,
            large_size: 64,
            large_scale: [0.5, 1.0],
            small: 0,
            small_size: 32,
            small_scale: [0.3, 0.6],
            aspect: [0.85, 1.18],
            jitter_probability: 0.8,
            jitter: 0.4,
            hue: 0.03,
            grey: 0.1,
            blur: 0.5,
            blur_sigma: [0.1, 1.0],
            solarise: 0.0,
            flip: 0.5,
        },
        model: PretrainModel {
            trunk: TrunkName::Resnet18,
            stem: TrunkStem::Half,
            width: 0.25,
            patch: 8,
            depth: 6,
            init: String::new(),
        },
        method: MethodConfig {
            name: MethodName::Swav,
            hidden: 512,
            dim: 128,
            head_norm: true,
            temperature: 0.1,
            prototypes: 256,
            epsilon: 0.01,
            iterations: 6,
            hard: false,
            queue: 192,
            queue_from: 0.0,
            freeze_steps: 50,
            momentum: 0.99,
            lambda: 0.0051,
            vic: [25.0, 25.0, 1.0],
            masked: 0.75,
            decoder_depth: 1,
            decoder_heads: 4,
            head: SupervisedHead::Softmax,
            scale: 16.0,
            margin: 0.4,
        },
        train: PretrainTrain {
            batch: 64,
            epochs: 40.0,
            lr: 0.002,
            final_lr: 1e-5,
            warmup_epochs: 1.0,
            optimizer: OptimizerKind::Adamw,
            larc: false,
            trust: 0.001,
            momentum: 0.9,
            weight_decay: 0.01,
            checkpoint_every: 100,
            log_every: 10,
        },
        probe: ProbeSettings {
            every: 5.0,
            identity_neighbours: 5,
            expression_neighbours: 20,
            temperature: 0.07,
            images: 2000,
        },
    }
}
