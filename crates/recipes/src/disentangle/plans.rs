//! The tables there are: the modes beside each other, under one trunk and budget.

/// What a table holds.
pub(super) struct Plan {
    pub name: &'static str,
    pub caption: &'static str,
    pub recipe: &'static str,
    pub metrics: &'static [&'static str],
    /// Words for every row.
    pub common: &'static [&'static str],
    pub rows: &'static [(&'static str, Make)],
    /// Where rows are points of a curve: the metric along it, and the metric it is drawn over.
    pub curve: Option<(&'static str, &'static str)>,
}

/// How a row is made.
#[derive(Clone, Copy)]
pub(super) enum Make {
    /// Train the recipe with these words.
    Run(&'static [&'static str]),
    /// Pixels of the test images under the recipe with these words.
    Pixels(&'static [&'static str]),
}

const DIGITS: &[&str] = &[
    "accuracy_seen",
    "accuracy_55",
    "accuracy_65",
    "angle_from_d",
    "label_from_l",
    "accuracy_validation",
    "accuracy_erode2",
    "accuracy_dilate2",
    "accuracy_dilate3",
    "accuracy_dilate4",
];

const FULL: Make = Make::Run(&[]);
const UNIFORM: Make = Make::Run(&["game.mode=uniform"]);
const INFORMATION: Make = Make::Run(&["game.mode=information", "game.mu=1"]);
const MINE: Make = Make::Run(&["game.information=mine"]);
const TUPLET: Make = Make::Run(&["game.task=tuplet"]);
const REVERSAL: Make = Make::Run(&["game.mode=reversal"]);
const RECONSTRUCTION: Make = Make::Run(&["game.mode=reconstruction"]);
const CLASSIFIER: Make = Make::Run(&["game.mode=classifier"]);
const UAI: Make = Make::Run(&["game.mode=uai"]);

const LIGHT: &[&str] = &[
    "data.source=synth:identities=240,per_expression=2,size=32,expression_strength=0.5,glasses=0,lighting=0.88",
    "data.remove=[\"light\"]",
    "data.train_states=[\"light=usual|frontal|left|dim\"]",
    "data.test_states=[\"light=right|top|below|coloured\"]",
];
const MAKEUP: &[&str] = &[
    "data.source=synth:identities=240,per_expression=2,size=32,expression_strength=0.5,glasses=0,makeup=0.67",
    "data.remove=[\"makeup\"]",
    "data.train_states=[\"makeup=none|day\"]",
    "data.test_states=[\"makeup=none|evening\"]",
];
const DISGUISE: &[&str] = &[
    "data.source=synth:identities=240,per_expression=2,size=32,expression_strength=0.5,glasses=0,disguise=0.86",
    "data.remove=[\"disguise\"]",
    "data.train_states=[\"disguise=none|glasses|beard|scarf\"]",
    "data.test_states=[\"disguise=none|sunglasses|mask|hat\"]",
];

const ROTATED: &str = "MNIST-ROT: trained on five angles, judged on the test digits at those angles (seen), at 55 and 65 degrees \
     to either side, and eroded or dilated (MNIST-DIL); angle_from_d is the accuracy of a fresh reader of d about the angle, chance 0.2, \
     label_from_l that of one of l about the digit, chance 0.1.";

/// Every table.
pub(super) const PLANS: &[Plan] = &[
    Plan {
        name: "mnist-rot",
        caption: ROTATED,
        recipe: "disentangle",
        metrics: DIGITS,
        common: &[],
        rows: &[
            ("full", FULL),
            ("uniform", UNIFORM),
            ("information", INFORMATION),
            ("full-mine", MINE),
            ("full-tuplet", TUPLET),
            ("reversal", REVERSAL),
            ("reconstruction", RECONSTRUCTION),
            ("classifier", CLASSIFIER),
            ("uai", UAI),
        ],
        curve: None,
    },
    Plan {
        name: "mnist-rot-small",
        caption: ROTATED,
        recipe: "disentangle",
        metrics: DIGITS,
        common: &[
            "train.turns=600",
            "game.ramp=150",
            "eval.images=5000",
            "eval.probe_rows=3000",
        ],
        rows: &[
            ("full", FULL),
            ("classifier", CLASSIFIER),
            ("reversal", REVERSAL),
        ],
        curve: None,
    },
    Plan {
        name: "mnist-rot-minute",
        caption: ROTATED,
        recipe: "disentangle",
        metrics: DIGITS,
        common: &[
            "train.turns=100",
            "game.warmup=20",
            "game.ramp=30",
            "eval.images=500",
            "eval.probe_rows=500",
        ],
        rows: &[("full", FULL), ("classifier", CLASSIFIER), ("uai", UAI)],
        curve: None,
    },
    Plan {
        name: "mnist-rot-choice",
        caption: "MNIST-ROT: how strong the adversaries are (turns for one of the encoder, width of their two layers) and how heavy the game \
                  is (alpha, with eta and mu a tenth of it), judged on validation images alone: half of the digits are asked about the other \
                  half.",
        recipe: "disentangle",
        metrics: &["accuracy_validation", "angle_from_d_validation"],
        common: &["eval.parts=[\"validation=mnist-rot:validation\"]"],
        rows: &[
            (
                "turns-1-width-128-alpha-1",
                Make::Run(&[
                    "game.adversary_turns=1",
                    "model.adversary_hidden=[128, 128]",
                    "game.alpha=1",
                    "game.eta=0.1",
                    "game.mu=0.1",
                ]),
            ),
            (
                "turns-3-width-128-alpha-1",
                Make::Run(&[
                    "game.adversary_turns=3",
                    "model.adversary_hidden=[128, 128]",
                    "game.alpha=1",
                    "game.eta=0.1",
                    "game.mu=0.1",
                ]),
            ),
            (
                "turns-1-width-256-alpha-1",
                Make::Run(&[
                    "game.adversary_turns=1",
                    "model.adversary_hidden=[256, 256]",
                    "game.alpha=1",
                    "game.eta=0.1",
                    "game.mu=0.1",
                ]),
            ),
            (
                "turns-3-width-256-alpha-1",
                Make::Run(&[
                    "game.adversary_turns=3",
                    "model.adversary_hidden=[256, 256]",
                    "game.alpha=1",
                    "game.eta=0.1",
                    "game.mu=0.1",
                ]),
            ),
            (
                "turns-3-width-256-alpha-0.3",
                Make::Run(&[
                    "game.adversary_turns=3",
                    "model.adversary_hidden=[256, 256]",
                    "game.alpha=0.3",
                    "game.eta=0.03",
                    "game.mu=0.03",
                ]),
            ),
            (
                "turns-3-width-256-alpha-3",
                Make::Run(&[
                    "game.adversary_turns=3",
                    "model.adversary_hidden=[256, 256]",
                    "game.alpha=3",
                    "game.eta=0.3",
                    "game.mu=0.3",
                ]),
            ),
        ],
        curve: None,
    },
    Plan {
        name: "mnist-rot-alpha",
        caption: "MNIST-ROT: accuracy on seen angles and what d says of the angle, by the weight of the game (alpha, with eta and mu a tenth of it).",
        recipe: "disentangle",
        metrics: &[
            "accuracy_seen",
            "angle_from_d",
            "accuracy_55",
            "accuracy_65",
        ],
        common: &[],
        rows: &[
            (
                "alpha-0",
                Make::Run(&["game.alpha=0", "game.eta=0", "game.mu=0"]),
            ),
            (
                "alpha-0.1",
                Make::Run(&["game.alpha=0.1", "game.eta=0.01", "game.mu=0.01"]),
            ),
            (
                "alpha-1",
                Make::Run(&["game.alpha=1", "game.eta=0.1", "game.mu=0.1"]),
            ),
            (
                "alpha-10",
                Make::Run(&["game.alpha=10", "game.eta=1", "game.mu=1"]),
            ),
        ],
        curve: Some(("accuracy_seen", "angle_from_d")),
    },
    Plan {
        name: "tolerance-light",
        caption: "Recognition of people never seen in training (rendered faces), who are compared across states of light that training did not show: \
                  trained in usual, frontal, left and dim light, tested in light from the right, top, below and coloured.",
        recipe: "disentangle-faces",
        metrics: &[
            "auc across light",
            "eer across light",
            "tar@far=1e-2 across light",
            "auc",
            "light_from_d",
            "light_from_d_leakage",
            "light_from_d_shown_leakage",
            "identity_from_l",
        ],
        common: LIGHT,
        rows: &[
            ("full", FULL),
            ("reversal", REVERSAL),
            ("classifier", CLASSIFIER),
            ("pixels", Make::Pixels(&[])),
        ],
        curve: None,
    },
    Plan {
        name: "tolerance-makeup",
        caption: "Recognition of people never seen in training (rendered faces), who are compared across states of make-up that training did not show: \
                  trained without and by day, tested without and for an evening.",
        recipe: "disentangle-faces",
        metrics: &[
            "auc across makeup",
            "eer across makeup",
            "tar@far=1e-2 across makeup",
            "auc",
            "makeup_from_d",
            "makeup_from_d_leakage",
            "makeup_from_d_shown_leakage",
            "identity_from_l",
        ],
        common: MAKEUP,
        rows: &[
            ("full", FULL),
            ("reversal", REVERSAL),
            ("classifier", CLASSIFIER),
            ("pixels", Make::Pixels(&[])),
        ],
        curve: None,
    },
    Plan {
        name: "tolerance-disguise",
        caption: "Recognition of people never seen in training (rendered faces), who are compared across states of disguise that training did not show: \
                  trained without, with glasses, beard and scarf, tested without, with sunglasses, mask and hat.",
        recipe: "disentangle-faces",
        metrics: &[
            "auc across disguise",
            "eer across disguise",
            "tar@far=1e-2 across disguise",
            "auc",
            "disguise_from_d",
            "disguise_from_d_leakage",
            "disguise_from_d_shown_leakage",
            "identity_from_l",
        ],
        common: DISGUISE,
        rows: &[
            ("full", FULL),
            ("reversal", REVERSAL),
            ("classifier", CLASSIFIER),
            ("pixels", Make::Pixels(&[])),
        ],
        curve: None,
    },
    Plan {
        name: "attributes",
        caption: "Expression under a bias (rendered faces): in training the brightness of the background follows the expression, at test it is \
                  independent of it, or opposed to it; other people are judged than were trained on. Removed is the background's brightness: \
                  given the class (d may say of it what the expression says), or wholly, which is at odds with the expression itself.",
        recipe: "disentangle-faces",
        metrics: &[
            "balanced_accuracy_reversed",
            "balanced_accuracy_independent",
            "balanced_accuracy_biased",
            "factor.background_light_from_d_r2",
        ],
        common: &[
            "data.target=expression",
            "data.remove=[\"factor.background_light\"]",
            "data.train_fraction=0",
            "data.source=synth:identities=400,per_expression=3,size=32,expression_strength=1.6,correlation=0.9,cause=expression,effect=background_light",
            "eval.parts=[\
             \"independent=synth:first_identity=1000,identities=60,per_expression=3,size=32,expression_strength=1.6\",\
             \"reversed=synth:first_identity=2000,identities=60,per_expression=3,size=32,expression_strength=1.6,correlation=-0.9,cause=expression,effect=background_light\",\
             \"biased=synth:first_identity=3000,identities=60,per_expression=3,size=32,expression_strength=1.6,correlation=0.9,cause=expression,effect=background_light\"]",
        ],
        rows: &[
            (
                "full-weak",
                Make::Run(&["game.alpha=0.2", "game.eta=0.02", "game.mu=0.02"]),
            ),
            ("full", FULL),
            ("given-class", Make::Run(&["game.given_class=true"])),
            (
                "reversal-given-class",
                Make::Run(&["game.mode=reversal", "game.given_class=true"]),
            ),
            ("reversal", REVERSAL),
            ("classifier", CLASSIFIER),
        ],
        curve: None,
    },
    Plan {
        name: "orl-tolerance",
        caption: "ORL, all pairs of the 200 images of s21..s40, by networks that saw rendered faces alone: with light and yaw removed, and without.",
        recipe: "disentangle-faces",
        metrics: &["auc orl", "eer orl", "tar@far=1e-2 orl"],
        common: &[
            "data.source=synth:identities=240,per_expression=2,size=32,expression_strength=0.7,glasses=0.3,lighting=0.88",
            "data.remove=[\"light\", \"factor.yaw\"]",
            "data.train_fraction=0",
            "image.channels=1",
            "eval.parts=[\"orl=orl\"]",
            "data.test_states=[\"identity=s21|s22|s23|s24|s25|s26|s27|s28|s29|s30|s31|s32|s33|s34|s35|s36|s37|s38|s39|s40\"]",
        ],
        rows: &[
            ("full", FULL),
            ("reversal", REVERSAL),
            ("classifier", CLASSIFIER),
            ("pixels", Make::Pixels(&[])),
        ],
        curve: None,
    },
];

/// A table that consists of others, each in a folder of its own.
pub(super) struct Group {
    pub name: &'static str,
    pub caption: &'static str,
    pub members: &'static [&'static str],
}

/// Every one of them.
pub(super) const GROUPS: &[Group] = &[Group {
    name: "tolerance",
    caption: "Recognition that is to bear light, make-up and disguise (rendered faces; identities and states of the test are not those of training).",
    members: &["tolerance-light", "tolerance-makeup", "tolerance-disguise"],
}];

/// Names of the tables.
pub(crate) fn table_names() -> impl Iterator<Item = &'static str> {
    let groups = GROUPS.iter().map(|group| group.name);
    PLANS.iter().map(|plan| plan.name).chain(groups)
}
