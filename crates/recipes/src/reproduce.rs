//! Whole tables: several recipes, several seeds, mean and spread.
//!
//! Every run has a folder below the table's, so that a table that was interrupted goes on where it
//! stopped, and a row can be looked at. `table.md` and `table.json` are written anew after every run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use phiz_data::{Dataset, to_chw_f32};
use phiz_eval::{Embeddings, Protocol, Summary, mean_sd_ci95};
use phiz_train::Observer;
use serde_json::{Map, Value, json};

use crate::baselines::{Fisherfaces, centred_pixels};
use crate::config::Config;
use crate::judge::{Subject, Verdict, judge, verdict};
use crate::named;
use crate::run::{Outcome, Run, create_folder, resume, train, write};
use crate::source::{Source, open_source};
use crate::{Error, Result};

/// What to reproduce.
#[derive(Debug, Clone)]
pub struct Reproduction {
    /// Name of the table: `fer-ablation`, `orl-open-set` or `losses-orl`.
    pub name: String,
    /// Number of seeds for each row, from 0.
    pub seeds: u64,
    /// `key=value` words applied to every recipe of the table.
    pub set: Vec<String>,
    /// Only these rows; empty: all.
    pub rows: Vec<String>,
    /// Folder for the runs and the table.
    pub out: PathBuf,
    /// Where to compute.
    pub device: String,
}

/// How far a table came.
pub enum Progressed {
    /// Every row is there.
    Finished(Table),
    /// It was asked to stop; the same call goes on.
    Interrupted,
}

/// The figures of a table.
#[derive(Debug, Clone)]
pub struct Table {
    /// Name of the table.
    pub name: String,
    /// What was done, for the caption.
    pub caption: String,
    /// Metrics shown, in this order; the first is the one rows are compared by.
    pub metrics: Vec<&'static str>,
    /// Rows in the order of the table.
    pub rows: Vec<Row>,
}

/// One row of a table.
#[derive(Debug, Clone)]
pub struct Row {
    /// Name of the recipe or baseline.
    pub name: String,
    /// Values by metric and seed.
    pub values: BTreeMap<String, Vec<f64>>,
}

struct Plan {
    name: &'static str,
    caption: &'static str,
    metrics: &'static [&'static str],
    rows: &'static [(&'static str, Make)],
}

#[derive(Clone, Copy)]
enum Make {
    /// Train a recipe; each seed holds out the next fold.
    Fold(&'static str),
    /// Train a recipe with one changed setting list.
    Recipe(&'static str, &'static [&'static str]),
    /// Train a recipe on rendered faces first, then on the data from those weights.
    Pretrained {
        recipe: &'static str,
        before: &'static [&'static str],
        then: &'static [&'static str],
    },
    /// Train the metric recipe on ORL with these settings.
    Loss(&'static [&'static str]),
    /// Raw pixels, each image's own mean removed.
    CentredPixels,
    /// Fisherfaces fitted on the training part.
    Fisherfaces,
}

const ORL: &[&str] = &["data.source=orl"];

const TABLES: &[Plan] = &[
    Plan {
        name: "fer-ablation",
        caption: "Expression recognition on subjects never seen in training (rendered faces); seed k holds out fold k.",
        metrics: &["accuracy", "mean_class_accuracy"],
        rows: &[
            ("tuplet", Make::Fold("tuplet")),
            ("tuplet-one-branch", Make::Fold("tuplet-one-branch")),
            ("tuplet-fixed", Make::Fold("tuplet-fixed")),
            ("coupled", Make::Fold("coupled")),
            ("npair", Make::Fold("npair")),
            ("triplet", Make::Fold("triplet")),
            ("softmax", Make::Fold("softmax")),
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
        caption: "ORL, open set, by loss: one network, one budget (240 steps of 25 people or mirrored people with 4 images each, AdamW), \
                  every loss at its published defaults unless the row says otherwise; fitted on s1..s20, judged on all pairs of \
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

/// Makes a table, training what is not there yet.
///
/// `watch` gives the observer of a run, by the run's name.
///
/// # Errors
/// When the table or a row is unknown, or a run fails.
pub fn reproduce(
    wanted: &Reproduction,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&str) -> Box<dyn Observer>,
) -> Result<Progressed> {
    let plan = TABLES
        .iter()
        .find(|table| table.name == wanted.name)
        .ok_or_else(|| {
            let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
            Error::config(format!(
                "unknown table `{}`; there are: {}",
                wanted.name,
                names.join(", ")
            ))
        })?;
    if let Some(unknown) = wanted
        .rows
        .iter()
        .find(|row| !plan.rows.iter().any(|(name, _)| name == row))
    {
        let names: Vec<&str> = plan.rows.iter().map(|(name, _)| *name).collect();
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
    };
    for seed in 0..wanted.seeds {
        for (row, (name, make)) in table.rows.iter_mut().zip(&chosen) {
            let seeded = !matches!(make, Make::CentredPixels | Make::Fisherfaces);
            if !seeded && seed > 0 {
                continue;
            }
            let folder = wanted.out.join(format!("{name}-{seed}"));
            let label = format!("{name} seed {seed}");
            let found = match make {
                Make::CentredPixels => {
                    baseline(wanted, seed, |_, rows| Ok(centred_pixels(&rows.held_out)))?
                }
                Make::Fisherfaces => baseline(wanted, seed, |_, rows| {
                    let fitted = Fisherfaces::fit(&rows.train, &rows.train_labels)
                        .map_err(|error| Error::config(error.to_string()))?;
                    fitted
                        .project(&rows.held_out)
                        .map_err(|error| Error::config(error.to_string()))
                })?,
                make => {
                    let Some(found) = trained(wanted, *make, seed, &folder, &label, stop, watch)?
                    else {
                        return Ok(Progressed::Interrupted);
                    };
                    found
                }
            };
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
    Ok(Progressed::Finished(table))
}

type Figures = BTreeMap<String, f64>;

/// Figures of a trained row; `None` when interrupted.
fn trained(
    wanted: &Reproduction,
    make: Make,
    seed: u64,
    folder: &Path,
    label: &str,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&str) -> Box<dyn Observer>,
) -> Result<Option<Figures>> {
    let config = |recipe: &str, changes: &[&str], init: Option<&Path>| -> Result<Config> {
        let mut config = named(recipe)?;
        config.seed = seed;
        let words = changes.iter().copied();
        config = config.set_all(words.chain(wanted.set.iter().map(String::as_str)))?;
        if let Some(init) = init {
            config.model.init = init.display().to_string();
        }
        Ok(config)
    };
    let config = match make {
        Make::Fold(recipe) => {
            let mut config = config(recipe, &[], None)?;
            config.data.fold = (seed % config.data.folds as u64) as usize;
            config
        }
        Make::Recipe(recipe, changes) => config(recipe, changes, None)?,
        Make::Loss(changes) => config("metric", &[ORL, changes].concat(), None)?,
        Make::Pretrained {
            recipe,
            before,
            then,
        } => {
            let first = wanted.out.join(format!(
                "{}-before",
                folder.file_name().unwrap_or_default().to_string_lossy()
            ));
            let pretrain = config(recipe, before, None)?;
            let name = format!("{label}, before");
            if finished(&pretrain, &first, &name, wanted, stop, watch)?.is_none() {
                return Ok(None);
            }
            config(recipe, then, Some(&first))?
        }
        Make::CentredPixels | Make::Fisherfaces => {
            return Err(Error::config("a baseline is not trained"));
        }
    };
    let Some(run) = finished(&config, folder, label, wanted, stop, watch)? else {
        return Ok(None);
    };
    let judged = folder.join("eval.json");
    if let Ok(text) = std::fs::read_to_string(&judged)
        && let Ok(value) = serde_json::from_str::<Value>(&text)
    {
        return Ok(Some(figures(&value)));
    }
    let verdict = judge(&run, None, &[], &wanted.device)?;
    verdict.write(folder)?;
    Ok(Some(verdict.metrics))
}

fn figures(value: &Value) -> Figures {
    let metrics = value["metrics"].as_object();
    metrics
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)))
        .collect()
}

/// The run in `folder`, trained, resumed or found complete; `None` when interrupted.
fn finished(
    config: &Config,
    folder: &Path,
    label: &str,
    wanted: &Reproduction,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&str) -> Box<dyn Observer>,
) -> Result<Option<Run>> {
    let known = folder.join("config.toml");
    if known.is_file() {
        let before = Config::from_file(&known, config)?;
        if before.fingerprint() != config.fingerprint() {
            return Err(Error::run(
                folder,
                "holds a run with another configuration; expected the same one, or give another --out",
            ));
        }
        if folder.join("model.safetensors").is_file() {
            return Run::open(folder).map(Some);
        }
    }
    let mut observer = watch(label);
    let outcome = if known.is_file() {
        resume(folder, &wanted.device, stop, observer.as_mut())?
    } else {
        train(config, folder, &wanted.device, stop, observer.as_mut())?
    };
    Ok(match outcome {
        Outcome::Finished(run) => Some(*run),
        Outcome::Interrupted { .. } => None,
    })
}

/// Pixel rows for the baselines.
struct Pixels {
    train: Vec<Vec<f32>>,
    train_labels: Vec<u32>,
    held_out: Vec<Vec<f32>>,
}

fn baseline(
    wanted: &Reproduction,
    seed: u64,
    embed: impl FnOnce(&Config, &Pixels) -> Result<Vec<Vec<f32>>>,
) -> Result<Figures> {
    let mut config = named("identity")?;
    config.seed = seed;
    let words = ORL.iter().copied();
    config = config.set_all(words.chain(wanted.set.iter().map(String::as_str)))?;
    let Source {
        dataset,
        train,
        held_out,
        ..
    } = open_source(&config)?;
    let codes = dataset.labels().codes(&config.data.target)?;
    let label = |indices: &[usize]| {
        indices
            .iter()
            .map(|&index| codes[index])
            .collect::<Vec<u32>>()
    };
    let pixels = Pixels {
        train: pixel_rows(dataset.as_ref(), &train)?,
        train_labels: label(&train),
        held_out: pixel_rows(dataset.as_ref(), &held_out)?,
    };
    let rows = embed(&config, &pixels)?;
    let dim = rows.first().map_or(0, Vec::len);
    let values = rows.into_iter().flatten().collect();
    let embeddings = Embeddings::new(values, dim)?.with_labels("labels", label(&held_out))?;
    let subject = Subject {
        title: wanted.name.clone(),
        rendered: dataset.rendered(),
        images: None,
        run: None,
    };
    let protocols = [Protocol::VerificationAllPairs, Protocol::Retrieval];
    let found: Verdict = verdict(embeddings, &protocols, json!({}), subject)?;
    Ok(found.metrics)
}

/// Grey pixels at full resolution.
fn pixel_rows(dataset: &dyn Dataset, indices: &[usize]) -> Result<Vec<Vec<f32>>> {
    indices
        .iter()
        .map(|&index| {
            let image = dataset.image(index)?;
            let transform = phiz_data::Transform::new(image.height, image.width, 1);
            let row = to_chw_f32(&image, &transform, None::<&mut rand_chacha::ChaCha8Rng>)?;
            Ok(row)
        })
        .collect()
}

impl Table {
    /// `{"rows": [{"name", "metrics": {"auc": {"mean", "sd", "ci95", "seeds"}}}]}`.
    pub fn to_json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let metrics: Map<String, Value> = row
                    .values
                    .iter()
                    .map(|(name, values)| {
                        let summary = mean_sd_ci95(values);
                        let object = json!({
                            "mean": summary.as_ref().map(|s| s.mean),
                            "sd": summary.as_ref().and_then(|s| s.sd),
                            "ci95": summary.as_ref().and_then(|s| s.ci95),
                            "seeds": values,
                        });
                        (name.clone(), object)
                    })
                    .collect();
                json!({ "name": row.name, "metrics": metrics })
            })
            .collect();
        json!({ "name": self.name, "caption": self.caption, "rows": rows })
    }

    /// The table as Markdown: mean, standard deviation and 95 % interval over seeds, and the paired
    /// difference to the first row in the first metric.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("{}\n\n| row |", self.caption);
        for metric in &self.metrics {
            let _ = write!(text, " {metric} |");
        }
        let compared = self.metrics.first().copied().unwrap_or_default();
        let _ = write!(text, " {compared}: first row minus this |\n|---|");
        text.push_str(&"---|".repeat(self.metrics.len() + 1));
        text.push('\n');
        let first = self.rows.first().and_then(|row| row.values.get(compared));
        for (at, row) in self.rows.iter().enumerate() {
            let _ = write!(text, "| {} |", row.name);
            for metric in &self.metrics {
                let values = row.values.get(*metric).map_or(&[][..], Vec::as_slice);
                let _ = write!(text, " {} |", cell(mean_sd_ci95(values).as_ref()));
            }
            let differences: Vec<f64> = match (first, row.values.get(compared)) {
                (Some(a), Some(b)) if at > 0 && a.len() == b.len() => {
                    a.iter().zip(b).map(|(a, b)| a - b).collect()
                }
                _ => Vec::new(),
            };
            let _ = writeln!(text, " {} |", cell(mean_sd_ci95(&differences).as_ref()));
        }
        text
    }
}

fn cell(summary: Option<&Summary>) -> String {
    let Some(summary) = summary else {
        return "-".to_string();
    };
    match (summary.sd, summary.ci95) {
        (Some(sd), Some([low, high])) => {
            format!("{:.4} ± {sd:.4} [{low:.4}, {high:.4}]", summary.mean)
        }
        _ => format!("{:.4}", summary.mean),
    }
}
