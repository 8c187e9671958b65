//! The recipes that have a name, each a complete [`Config`].
//!
//! The expression recipes share trunk, images a step, number of images seen, learning rate and
//! schedule, so that a table of them compares losses and nothing else. What differs:
//!
//! | recipe | batches | loss | branches |
//! |---|---|---|---|
//! | `tuplet` | identity-aware tuplets, positives mined online | softmax + adaptive (N+M)-tuplet clusters | two |
//! | `tuplet-fixed` | the same | softmax + (N+M)-tuplet clusters with fixed reference distance | two |
//! | `tuplet-one-branch` | the same | as `tuplet` | one |
//! | `coupled` | tuplets with negatives of anybody | softmax + coupled clusters | two |
//! | `npair` | balanced by class | softmax + N-pair | two |
//! | `triplet` | balanced by class | softmax + batch-hard triplets | two |
//! | `softmax` | shuffled | softmax alone | one |
//! | `identity` | shuffled | ArcFace on an IResNet-18 for small images | one |
//! | `metric` | balanced by class | the loss of the `[loss]` section on the same network | one |

use phiz_data::{Augment, Fit};

use crate::config::{
    Backbone, Branches, Config, DataConfig, Head, ImageConfig, LossConfig, Metric, ModelConfig,
    ObjectiveConfig, OptimizerKind, Sampling, SamplingConfig, ScheduleKind, Split, TrainConfig,
};
use crate::{Error, Result};

/// A recipe that has a name.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    change: fn(&mut Config),
}

/// Every named recipe, the default first.
pub const NAMED: &[Named] = &[
    Named {
        name: "tuplet",
        summary: "expression, two branches, adaptive (N+M)-tuplet clusters with identity-aware mining",
        change: |_| (),
    },
    Named {
        name: "softmax",
        summary: "expression, softmax cross-entropy alone",
        change: |c| {
            c.objective.metric = Metric::None;
            c.model.branches = Branches::One;
            c.sampling.kind = Sampling::Shuffle;
        },
    },
    Named {
        name: "triplet",
        summary: "expression, softmax and batch-hard triplets",
        change: |c| {
            c.objective.metric = Metric::Triplet;
            c.objective.tau = 0.2;
            c.sampling.kind = Sampling::Balanced;
        },
    },
    Named {
        name: "npair",
        summary: "expression, softmax and N-pair",
        change: |c| {
            c.objective.metric = Metric::NPair;
            // At unit length an inner product alone could never tell classes apart by much.
            c.objective.scale = 16.0;
            c.sampling.kind = Sampling::Balanced;
        },
    },
    Named {
        name: "coupled",
        summary: "expression, softmax and coupled clusters",
        change: |c| {
            c.objective.metric = Metric::CoupledClusters;
            c.objective.tau = 0.5;
            c.sampling.same_subject_negatives = false;
            c.sampling.mining = false;
        },
    },
    Named {
        name: "tuplet-fixed",
        summary: "expression, two branches, (N+M)-tuplet clusters with a fixed reference distance",
        change: |c| c.objective.metric = Metric::TupletFixed,
    },
    Named {
        name: "tuplet-one-branch",
        summary: "expression, adaptive (N+M)-tuplet clusters and softmax on one branch",
        change: |c| c.model.branches = Branches::One,
    },
    Named {
        name: "identity",
        summary: "identity embedding with an ArcFace head",
        change: identity,
    },
    Named {
        name: "metric",
        summary: "identity embedding with any loss and miner by name (`loss.name`, `loss.miner`)",
        change: metric,
    },
];

/// The complete configuration of a named recipe.
///
/// # Errors
/// When there is no recipe of that name; the message lists those there are and the nearest.
pub fn named(name: &str) -> Result<Config> {
    let recipe = NAMED
        .iter()
        .find(|recipe| recipe.name == name)
        .ok_or_else(|| {
            let names: Vec<&str> = crate::recipe_names().iter().map(|(name, _)| *name).collect();
            if names.contains(&name) {
                return Error::config(format!(
                    "`{name}` is a recipe of another kind, with a configuration of its own; expected one of NAMED"
                ));
            }
            let hint = crate::overlay::nearest(name, names.iter().copied())
                .map(|near| format!(" (did you mean `{near}`?)"))
                .unwrap_or_default();
            Error::config(format!(
                "unknown recipe `{name}`{hint}; there are: {}",
                names.join(", ")
            ))
        })?;
    let mut config = expression_base();
    (recipe.change)(&mut config);
    config.recipe = name.to_string();
    Ok(config)
}

/// The default recipe in full; the other expression recipes change parts of it.
///
/// Tuplets are small (N = 4, M = 3) and there is one for each expression, so that an epoch of a small data
/// set still has many steps; embeddings are measured at unit length, where T and tau keep their meaning
/// while the network's scale settles; the metric loss rises over the first half of the run, since at the
/// start an expression is nearer to other expressions of the same person than to itself in others.
fn expression_base() -> Config {
    Config {
        recipe: String::new(),
        seed: 0,
        data: DataConfig {
            source: "synth:identities=60,per_expression=4,expression_strength=1.3".to_string(),
            target: "expression".to_string(),
            split: Split::Folds,
            train_fraction: 0.5,
            folds: 3,
            fold: 0,
            mirrored_identities: false,
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
                crop_pad: 0.03,
                contrast: 0.1,
                ..Augment::default()
            },
        },
        model: ModelConfig {
            backbone: Backbone::ExpressionNet,
            embedding_dim: 128,
            width: 1.0,
            branches: Branches::Two,
            stop_gradient: false,
            dropout: 0.0,
            init: String::new(),
        },
        sampling: SamplingConfig {
            kind: Sampling::Tuplet,
            images: 63,
            per_class: 9,
            tuplets: 7,
            positives: 4,
            negatives: 3,
            candidates: 5,
            min_positives: 2,
            same_subject_negatives: true,
            mining: true,
            mining_after: 2.0,
        },
        objective: ObjectiveConfig {
            head: Head::Linear,
            scale: 64.0,
            margin: 0.5,
            softmax_weight: 1.0,
            label_smoothing: 0.0,
            metric: Metric::TupletAdaptive,
            metric_weight: 0.5,
            metric_ramp: 10.0,
            metric_lr: 0.1,
            tau: 1.0,
            reference_distance: 1.0,
            normalize: true,
        },
        loss: LossConfig::default(),
        train: TrainConfig {
            epochs: 20.0,
            lr: 0.003,
            schedule: ScheduleKind::Cosine,
            warmup_epochs: 1.0,
            power: 1.0,
            milestones: Vec::new(),
            gamma: 0.1,
            optimizer: OptimizerKind::Adamw,
            momentum: 0.9,
            nesterov: true,
            weight_decay: 0.05,
            clip_norm: 5.0,
            checkpoint_every: 50,
            log_every: 5,
        },
    }
}

/// Identity from few images of few people: local contrast instead of raw grey, mirror images as
/// further people, strong augmentation, a narrow network.
fn identity(c: &mut Config) {
    c.data.source = "synth:identities=200,per_expression=1".to_string();
    c.data.target = "identity".to_string();
    c.data.split = Split::First;
    c.data.train_fraction = 0.5;
    c.data.mirrored_identities = true;
    c.image.size = 64;
    c.image.channels = 1;
    c.image.local_contrast = 5;
    c.image.test_flip = true;
    c.image.augment = Augment {
        flip: 0.0,
        rotate: 12.0,
        zoom: 0.15,
        crop_pad: 0.08,
        contrast: 0.3,
        brightness: 0.1,
        erase: 0.5,
        ..Augment::default()
    };
    c.model.backbone = Backbone::Iresnet18;
    c.model.branches = Branches::One;
    c.model.width = 0.25;
    c.model.embedding_dim = 128;
    c.sampling.kind = Sampling::Shuffle;
    c.sampling.images = 100;
    c.objective.head = Head::Arcface;
    c.objective.scale = 16.0;
    c.objective.margin = 0.3;
    c.objective.metric = Metric::None;
    c.train.epochs = 100.0;
    c.train.lr = 0.05;
    c.train.warmup_epochs = 5.0;
    c.train.optimizer = OptimizerKind::Sgd;
    c.train.weight_decay = 5e-4;
}

/// The data and network of `identity`, batches of 25 classes with four images each, and one metric loss alone.
///
/// The optimiser is AdamW, whose steps do not depend on how large a loss's gradients happen to be: losses are compared, not
/// the luck of their scale.
///
/// Images are smaller and epochs fewer than in `identity`: a table has many rows.
fn metric(c: &mut Config) {
    identity(c);
    c.image.size = 48;
    c.train.epochs = 60.0;
    c.sampling.kind = Sampling::Balanced;
    c.sampling.per_class = 4;
    c.objective.head = Head::Linear;
    c.objective.softmax_weight = 0.0;
    c.train.optimizer = OptimizerKind::Adamw;
    c.train.lr = 0.002;
    c.train.weight_decay = 0.05;
    // The defaults of the multi-similarity loss; `of` fails on unknown names only.
    c.loss = LossConfig::of("multi-similarity", "none").unwrap_or_default();
}
