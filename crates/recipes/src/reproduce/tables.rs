//! The tables there are: rows and how each is made.

/// What a table holds.
pub(super) struct Plan {
    pub name: &'static str,
    pub caption: &'static str,
    /// Metrics shown, in this order; rows are compared by the first.
    pub metrics: &'static [&'static str],
    pub rows: &'static [(&'static str, Make)],
}

/// How a row is made.
#[derive(Clone, Copy)]
pub(super) enum Make {
    /// Train a recipe with these settings; each seed holds out the next fold.
    Fold(&'static str, &'static [&'static str]),
    /// Train a recipe with one changed setting list.
    Recipe(&'static str, &'static [&'static str]),
    /// Train a recipe on rendered faces first, then on the data from those weights.
    Pretrained {
        recipe: &'static str,
        before: &'static [&'static str],
        then: &'static [&'static str],
    },
    /// Train the metric recipe on ORL, at the budget of the table of losses, with these settings.
    Loss(&'static [&'static str]),
    /// Raw pixels, each image's own mean removed.
    CentredPixels,
    /// Fisherfaces fitted on the training part.
    Fisherfaces,
}

pub(super) const ORL: &[&str] = &["data.source=orl"];

/// A person shows three of the seven expressions, as in posed databases: knowing the person helps to guess the
/// expression, which is what the tuplet loss is to undo.
const POSED: &[&str] = &[
    "data.source=synth:identities=160,per_expression=4,expressions_per_identity=3,expression_strength=1.3",
    "data.folds=2",
    "model.width=0.5",
    "objective.metric_weight=1",
    "objective.metric_ramp=15",
    "train.epochs=30",
];

/// Every table.
pub(super) const TABLES: &[Plan] = &[
    Plan {
        name: "fer-ablation",
        caption: "Expression recognition on people never seen in training, each of whom shows three of the seven expressions \
                  (rendered faces: 80 people trained on, 80 others judged); seed k holds out fold k mod 2.",
        metrics: &["accuracy", "mean_class_accuracy"],
        rows: &[
            ("tuplet", Make::Fold("tuplet", POSED)),
            ("tuplet-one-branch", Make::Fold("tuplet-one-branch", POSED)),
            ("tuplet-fixed", Make::Fold("tuplet-fixed", POSED)),
            ("coupled", Make::Fold("coupled", POSED)),
            ("npair", Make::Fold("npair", POSED)),
            ("triplet", Make::Fold("triplet", POSED)),
            ("softmax", Make::Fold("softmax", POSED)),
        ],
    },
    Plan {
        name: "fer-ablation-complete",
        caption: "Expression recognition on people never seen in training, each of whom shows all seven expressions \
                  (rendered faces: 40 people trained on, 20 others judged); seed k holds out fold k mod 3.",
        metrics: &["accuracy", "mean_class_accuracy"],
        rows: &[
            ("tuplet", Make::Fold("tuplet", &[])),
            ("tuplet-one-branch", Make::Fold("tuplet-one-branch", &[])),
            ("tuplet-fixed", Make::Fold("tuplet-fixed", &[])),
            ("coupled", Make::Fold("coupled", &[])),
            ("npair", Make::Fold("npair", &[])),
            ("triplet", Make::Fold("triplet", &[])),
            ("softmax", Make::Fold("softmax", &[])),
        ],
    },
    Plan {
        name: "orl-open-set",
        caption: "ORL, open set: fitted on s1..s20, judged on all pairs of the 200 images of s21..s40.",
        metrics: &["auc", "eer", "tar@far=1e-2", "rank1"],
        rows: &[
            ("centred-pixels", Make::CentredPixels),
            ("fisherfaces", Make::Fisherfaces),
            ("identity", Make::Recipe("identity", ORL)),
            (
                "identity-pretrained",
                Make::Pretrained {
                    recipe: "identity",
                    before: PRETRAIN,
                    then: FINE_TUNE,
                },
            ),
        ],
    },
    Plan {
        name: "losses-orl",
        caption: "ORL, open set, by loss: one narrow network on images of 32 x 32, one budget (160 steps of 25 people or mirrored people \
                  with 4 images each, AdamW at 0.006, a rate chosen on s1..s20 alone), every loss at its published defaults unless the row says otherwise; fitted on s1..s20, judged on all pairs of \
                  the 200 images of s21..s40.",
        metrics: &["auc", "eer", "tar@far=1e-2", "rank1"],
        rows: &[
            ("multi-similarity", Make::Loss(&[])),
            (
                "multi-similarity-mined",
                Make::Loss(&["loss.miner=multi-similarity"]),
            ),
            ("contrastive", Make::Loss(&["loss.name=contrastive"])),
            ("nt-xent", Make::Loss(&["loss.name=nt-xent"])),
            ("dcl", Make::Loss(&["loss.name=dcl"])),
            ("sup-con", Make::Loss(&["loss.name=sup-con"])),
            ("triplet-batch-hard", Make::Loss(BATCH_HARD)),
            (
                "softmax",
                Make::Loss(&["loss.name=none", "objective.softmax_weight=1"]),
            ),
            (
                "normalized-softmax",
                Make::Loss(&["loss.name=normalized-softmax"]),
            ),
            ("cosface", Make::Loss(&["loss.name=cosface"])),
            ("arcface", Make::Loss(&["loss.name=arcface"])),
            (
                "arcface-s16",
                Make::Loss(&["loss.name=arcface", "loss.settings.scale=16"]),
            ),
            ("adaface", Make::Loss(&["loss.name=adaface"])),
            ("magface", Make::Loss(&["loss.name=magface"])),
            ("curricularface", Make::Loss(&["loss.name=curricularface"])),
            ("elasticface", Make::Loss(&["loss.name=elasticface"])),
            ("sphereface2", Make::Loss(&["loss.name=sphereface2"])),
            (
                "subcenter-arcface",
                Make::Loss(&["loss.name=subcenter-arcface"]),
            ),
            ("proxy-anchor", Make::Loss(&["loss.name=proxy-anchor"])),
            ("proxy-nca", Make::Loss(&["loss.name=proxy-nca"])),
            ("soft-triple", Make::Loss(&["loss.name=soft-triple"])),
            ("centred-pixels", Make::CentredPixels),
        ],
    },
];

/// What makes a run of the table of losses take a quarter of a minute, and its learning rate: of 0.002, 0.006 and 0.015 the best mean
/// AUC of multi-similarity, contrastive and ArcFace, trained on s1..s10 and judged on s11..s20.
pub(super) const LOSS_BUDGET: &[&str] = &[
    "data.source=orl",
    "image.size=32",
    "model.width=0.125",
    "train.epochs=40",
    "train.lr=0.006",
];

/// The hinge over the hardest triplet of each anchor, in squared distance.
const BATCH_HARD: &[&str] = &[
    "loss.name=none",
    "objective.metric=triplet",
    "objective.metric_weight=1",
    "objective.metric_ramp=0",
    "objective.tau=0.2",
];

/// Pre-training on rendered faces: many people, few epochs.
const PRETRAIN: &[&str] = &[
    "data.source=synth:identities=300,per_expression=2",
    "data.train_fraction=0.9",
    "train.epochs=6",
    "train.warmup_epochs=1",
];

/// Fine-tuning on real ones, at a smaller rate.
const FINE_TUNE: &[&str] = &["data.source=orl", "train.lr=0.02"];
