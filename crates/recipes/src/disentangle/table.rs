//! Tables of disentangling runs: the modes beside each other, under one trunk and budget.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use phiz_data::to_chw_f32;
use phiz_eval::Embeddings;
use phiz_eval::mean_sd_ci95;
use phiz_eval::report::{Report, Series};
use phiz_train::Observer;
use serde_json::Value;

use super::config::DisentangleConfig;
use super::judge::{figures, judge, verified};
use super::material::{Judged, Material};
use super::run::{DisentangleOutcome, DisentangleRun, resume, train};
use crate::baselines::centred_pixels;
use crate::reproduce::{Progressed, Reproduction, Row, Table};
use crate::run::{create_folder, write};
use crate::{Error, Result};

struct Plan {
    name: &'static str,
    caption: &'static str,
    recipe: &'static str,
    metrics: &'static [&'static str],
    /// Words for every row.
    common: &'static [&'static str],
    rows: &'static [(&'static str, Make)],
    /// Where rows are points of a curve: the metric along it, and the metric it is drawn over.
    curve: Option<(&'static str, &'static str)>,
}

#[derive(Clone, Copy)]
enum Make {
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

const PLANS: &[Plan] = &[
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
];

/// Names of the tables.
pub(crate) const TABLE_NAMES: &[&str] = &[
    "mnist-rot",
    "mnist-rot-small",
    "mnist-rot-minute",
    "mnist-rot-alpha",
    "tolerance-light",
    "tolerance-makeup",
    "tolerance-disguise",
];

/// Makes a table, training what is not there yet.
pub(crate) fn reproduce(
    wanted: &Reproduction,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&str) -> Box<dyn Observer>,
) -> Result<Progressed> {
    let Some(plan) = PLANS.iter().find(|plan| plan.name == wanted.name) else {
        return Err(Error::config(format!("unknown table `{}`", wanted.name)));
    };
    let names: Vec<&str> = plan.rows.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = wanted
        .rows
        .iter()
        .find(|row| !names.contains(&row.as_str()))
    {
        return Err(Error::config(format!(
            "unknown row `{unknown}`; there are: {}",
            names.join(", ")
        )));
    }
    if wanted.seeds == 0 {
        return Err(Error::config("0 seeds; expected at least 1"));
    }
    create_folder(&wanted.out)?;
    let chosen: Vec<_> = plan
        .rows
        .iter()
        .filter(|(name, _)| wanted.rows.is_empty() || wanted.rows.iter().any(|row| row == name))
        .collect();
    let mut table = Table {
        name: plan.name.to_string(),
        caption: plan.caption.to_string(),
        metrics: plan.metrics.to_vec(),
        rows: chosen
            .iter()
            .map(|(name, _)| Row {
                name: (*name).to_string(),
                values: BTreeMap::new(),
            })
            .collect(),
        parts: Vec::new(),
    };
    for seed in 0..wanted.seeds {
        for (at, (name, make)) in chosen.iter().enumerate() {
            let folder = wanted.out.join(format!("{name}-{seed}"));
            let label = format!("{name} seed {seed}");
            let found = match make {
                Make::Run(words) => {
                    let config = configured(plan, words, seed, wanted)?;
                    match trained(&config, &folder, &label, wanted, stop, watch)? {
                        Some(found) => found,
                        None => return Ok(Progressed::Interrupted),
                    }
                }
                // Nothing in it is random.
                Make::Pixels(_) if seed > 0 => continue,
                Make::Pixels(words) => pixels(&configured(plan, words, seed, wanted)?)?,
            };
            if let Some(row) = table.rows.get_mut(at) {
                for (metric, value) in found {
                    row.values.entry(metric).or_default().push(value);
                }
            }
            write(&wanted.out.join("table.md"), &table.to_markdown())?;
            write(
                &wanted.out.join("table.json"),
                &format!("{:#}\n", table.to_json()),
            )?;
        }
    }
    if let Some((y, x)) = plan.curve {
        write(&wanted.out.join("report.html"), &curve(&table, x, y))?;
    }
    Ok(Progressed::Finished(table))
}

fn configured(
    plan: &Plan,
    words: &[&str],
    seed: u64,
    wanted: &Reproduction,
) -> Result<DisentangleConfig> {
    let mut config = DisentangleConfig::named(plan.recipe)?;
    config.seed = seed;
    let own = plan.common.iter().chain(words).copied();
    config.set_all(own.chain(wanted.set.iter().map(String::as_str)))
}

type Figures = BTreeMap<String, f64>;

/// Figures of the run in `folder`, trained, resumed or found complete; `None` when interrupted.
fn trained(
    config: &DisentangleConfig,
    folder: &Path,
    label: &str,
    wanted: &Reproduction,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&str) -> Box<dyn Observer>,
) -> Result<Option<Figures>> {
    let known = folder.join("config.toml");
    if known.is_file() {
        let before = DisentangleConfig::from_file(&known, config)?;
        if before.fingerprint() != config.fingerprint() || before.eval != config.eval {
            return Err(Error::run(
                folder,
                "holds a run with another configuration; expected the same one, or give another --out",
            ));
        }
    }
    let run = if known.is_file() && folder.join("model.safetensors").is_file() {
        DisentangleRun::open(folder)?
    } else {
        let mut observer = watch(label);
        let outcome = if known.is_file() {
            resume(folder, &wanted.device, stop, observer.as_mut())?
        } else {
            train(config, folder, &wanted.device, stop, observer.as_mut())?
        };
        match outcome {
            DisentangleOutcome::Finished(run) => *run,
            DisentangleOutcome::Interrupted { .. } => return Ok(None),
        }
    };
    if let Ok(text) = std::fs::read_to_string(folder.join("eval.json"))
        && let Ok(value) = serde_json::from_str::<Value>(&text)
        && let Some(metrics) = value["metrics"].as_object()
    {
        let figures = metrics.iter();
        return Ok(Some(
            figures
                .filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)))
                .collect(),
        ));
    }
    let verdict = judge(&run, &wanted.device)?;
    verdict.write(folder)?;
    Ok(Some(verdict.metrics))
}

/// Verification by the pixels of the test images, each image's own mean removed.
fn pixels(config: &DisentangleConfig) -> Result<Figures> {
    let material = Material::open(config)?;
    let judged = Judged::open(config, &material.classes)?;
    let mut found = Figures::new();
    for part in &judged.parts {
        let rows = part
            .indices
            .iter()
            .map(|&i| {
                let image = part.dataset.image(i)?;
                let transform = phiz_data::Transform::new(image.height, image.width, 1);
                Ok(to_chw_f32(
                    &image,
                    &transform,
                    None::<&mut rand_chacha::ChaCha8Rng>,
                )?)
            })
            .collect::<Result<Vec<Vec<f32>>>>()?;
        let rows = centred_pixels(&rows);
        let dim = rows.first().map_or(0, Vec::len);
        let codes = part.dataset.labels().codes(&config.data.target)?;
        let labels = part.indices.iter().map(|&i| codes[i]).collect();
        let embeddings = Embeddings::new(rows.into_iter().flatten().collect(), dim)?
            .with_labels("labels", labels)?;
        for (name, verification) in verified(&embeddings, part, &material.factors)? {
            for (metric, value) in figures(&verification) {
                found.insert(format!("{metric}{name}"), value);
            }
        }
    }
    Ok(found)
}

/// The page of a table whose rows are points of a curve.
fn curve(table: &Table, x: &str, y: &str) -> String {
    let mean = |row: &Row, metric: &str| -> Option<f64> {
        row.values
            .get(metric)
            .and_then(|values| mean_sd_ci95(values))
            .map(|summary| summary.mean)
    };
    let mut points: Vec<(f64, f64)> = table
        .rows
        .iter()
        .filter_map(|row| Some((mean(row, x)?, mean(row, y)?)))
        .collect();
    points.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut report = Report::new(table.name.clone());
    report.subtitle(table.caption.clone());
    report.training(
        &format!("{y} over {x}"),
        x,
        y,
        false,
        &[Series {
            name: y.to_string(),
            points,
        }],
    );
    let header: Vec<String> = ["row", x, y].map(str::to_string).to_vec();
    let rows: Vec<Vec<String>> = table
        .rows
        .iter()
        .map(|row| {
            let cell = |metric| mean(row, metric).map_or("-".to_string(), |v| format!("{v:.4}"));
            vec![row.name.clone(), cell(x), cell(y)]
        })
        .collect();
    report.table("Points of the curve", "Means over seeds.", &header, &rows);
    report.to_html()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_every_table_is_a_valid_configuration() {
        let wanted = Reproduction {
            name: String::new(),
            seeds: 1,
            set: Vec::new(),
            rows: Vec::new(),
            trunks: Vec::new(),
            out: "out".into(),
            device: "cpu".to_string(),
        };
        assert_eq!(PLANS.len(), TABLE_NAMES.len());
        for plan in PLANS {
            assert!(TABLE_NAMES.contains(&plan.name), "{}", plan.name);
            for (name, make) in plan.rows {
                let (Make::Run(words) | Make::Pixels(words)) = make;
                let config = configured(plan, words, 0, &wanted)
                    .unwrap_or_else(|error| panic!("{} {name}: {error}", plan.name));
                config.validate().unwrap();
                assert!(config.to_toml().unwrap().contains("[game]"));
            }
        }
    }
}
