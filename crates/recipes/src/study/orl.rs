//! `reproduce orl-transfer`: what trunks learned on rendered faces are worth on photographs.
//!
//! The people s1..s20 of ORL are trained on, s21..s40 judged: all pairs of their images. `scratch` begins with nothing, the
//! others with the two reference models; `fine-tuned` trains everything, `head` a head on the frozen trunk, and
//! `features` nothing: the frozen trunk's features as they are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use phiz_eval::Protocol;
use phiz_train::Observer;
use serde_json::json;

use crate::folder::{create_folder, weights_of};
use crate::judge::{Subject, verdict};
use crate::pretrain::{self, PretrainRun};
use crate::reproduce::{self, Figures, Progressed, Reproduction, Table, judged, meant};
use crate::source::open;
use crate::task::{self, Mode, Shelf, TaskConfig, TaskData};
use crate::{Error, Result};

/// Where the reference models lie, from the root of the repository.
const MODELS: [(&str, &str); 2] = [
    ("supervised", "fixtures/models/supervised"),
    ("swav", "fixtures/models/swav"),
];

const WORDS: &[&str] = &[
    "data.source=orl",
    "data.train_fraction=0.5",
    "train.epochs=60",
    "train.lr=0.001",
    "task.checks=1",
];

/// Makes the table, training what is not there yet.
pub(super) fn transfer(
    wanted: &Reproduction,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&str) -> Box<dyn Observer>,
) -> Result<Progressed> {
    if wanted.seeds == 0 {
        return Err(Error::config("0 seeds; expected at least 1"));
    }
    let trunks = trunks(wanted)?;
    let mut rows: Vec<(String, Option<&Path>, Option<Mode>)> =
        vec![("scratch".to_string(), None, Some(Mode::FineTune))];
    for (trunk, path) in &trunks {
        for (how, mode) in [
            ("fine-tuned", Some(Mode::FineTune)),
            ("head", Some(Mode::Frozen)),
            ("features", None),
        ] {
            rows.push((format!("{trunk} {how}"), Some(path), mode));
        }
    }
    let names: Vec<String> = rows.iter().map(|(name, ..)| name.clone()).collect();
    let asked = meant(&names, &wanted.rows)?;
    rows.retain(|(name, ..)| asked.contains(name));
    create_folder(&wanted.out)?;
    let source = config(wanted, 0, None, Mode::Frozen)?.data.source;
    let faces = match open(&source)?.rendered() {
        true => "rendered faces",
        false => "photographs",
    };
    let caption = format!(
        "{source} ({faces}): trained on the first of its people (of ORL s1..s20), all pairs of images of the others judged; from nothing, and \
         from trunks (the reference models have seen rendered faces alone)."
    );
    let names = rows.iter().map(|(name, ..)| name.clone());
    let mut table = Table::empty("orl-transfer", &caption, &["auc", "eer"], names);
    let mut shelf = Shelf::default();
    for seed in 0..wanted.seeds {
        for (name, trunk, mode) in &rows {
            let folder = wanted
                .out
                .join(format!("{}-{seed}", name.replace(' ', "-")));
            let label = format!("{name} seed {seed}");
            let found = match (mode, trunk) {
                (Some(mode), trunk) => {
                    let config = config(wanted, seed, *trunk, *mode)?;
                    task::figures(&config, &folder, &label, wanted, stop, watch, &mut shelf)?
                }
                // Nothing in it is random.
                (None, Some(path)) if seed == 0 => Some(features(path, &folder, wanted)?),
                (None, _) => continue,
            };
            let Some(found) = found else {
                return Ok(Progressed::Interrupted);
            };
            if let Some(row) = table.rows.iter_mut().find(|row| row.name == *name) {
                row.add(found);
            }
        }
        table.write(&wanted.out)?;
    }
    Ok(Progressed::Finished(table))
}

/// The reference models, or those that the caller names in their place or beside them.
fn trunks(wanted: &Reproduction) -> Result<Vec<(String, PathBuf)>> {
    let mut trunks = reproduce::trunks(&wanted.trunks)?;
    for (name, path) in MODELS {
        if !trunks.iter().any(|(known, _)| known == name) {
            trunks.push((name.to_string(), PathBuf::from(path)));
        }
    }
    for (name, path) in &trunks {
        if !path.join("config.toml").is_file() {
            return Err(Error::run(
                path,
                format!(
                    "no such trunk: expected a pre-training run (for the reference models start from the root of the \
                     repository, or name one by --trunk {name}=RUN)"
                ),
            ));
        }
    }
    Ok(trunks)
}

fn config(wanted: &Reproduction, seed: u64, init: Option<&Path>, mode: Mode) -> Result<TaskConfig> {
    let words = WORDS.iter().copied();
    let mut config = task::task_recipe("recognition")?
        .set_all(words.chain(wanted.set.iter().map(String::as_str)))?;
    config.seed = seed;
    config.model.mode = mode;
    if let Some(init) = init {
        config.model.init = init.display().to_string();
    }
    Ok(config)
}

/// Verification by the features of a frozen trunk.
fn features(trunk: &Path, folder: &Path, wanted: &Reproduction) -> Result<Figures> {
    let TaskData {
        source,
        train_fraction,
        ..
    } = config(wanted, 0, None, Mode::Frozen)?.data;
    let file = weights_of(trunk);
    let weights = std::fs::read(&file).map_err(|error| Error::io(&file, error))?;
    let weights = crate::config::fingerprint_of(&weights);
    let asked = json!({ "data": source, "train_fraction": train_fraction, "weights": weights });
    judged(folder, asked, || {
        compared(trunk, &source, train_fraction, &wanted.device)
    })
}

/// All pairs of the people whom the division of the runs leaves for the test.
fn compared(trunk: &Path, source: &str, train_fraction: f64, device: &str) -> Result<Figures> {
    let run = PretrainRun::open(trunk)?;
    let all = pretrain::embed(&run, source, device)?;
    let people = all.labels("labels")?.to_vec();
    let count = people.iter().collect::<BTreeSet<_>>().len();
    let learned = (count as f64 * train_fraction).round() as u32;
    let chosen: Vec<usize> = (0..people.len())
        .filter(|&row| people.get(row).is_some_and(|person| *person >= learned))
        .collect();
    let mut values = Vec::with_capacity(chosen.len() * all.dim());
    for &row in &chosen {
        values.extend_from_slice(all.row(row).unwrap_or(&[]));
    }
    let labels = chosen
        .iter()
        .filter_map(|&row| people.get(row).copied())
        .collect();
    let judged = phiz_eval::Embeddings::new(values, all.dim())?.with_labels("labels", labels)?;
    let subject = Subject {
        title: format!("features of {} on {source}", run.config.recipe),
        rendered: open(source)?.rendered(),
        images: None,
        run: None,
    };
    let protocols = [Protocol::VerificationAllPairs];
    Ok(verdict(judged, &protocols, json!({}), subject)?.metrics)
}
