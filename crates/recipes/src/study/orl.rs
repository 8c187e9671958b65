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

use crate::folder::{create_folder, write_json};
use crate::judge::{Subject, verdict};
use crate::pretrain::{self, PretrainRun};
use crate::reproduce::{Figures, Progressed, Reproduction, Table, judged_before, meant};
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
    let caption = "ORL: trained on s1..s20, all pairs of the images of s21..s40 judged; from nothing, and from trunks that have seen \
                   rendered faces alone. Photographs.";
    let names = rows.iter().map(|(name, ..)| name.clone());
    let mut table = Table::empty("orl-transfer", caption, &["auc", "eer"], names);
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
    let mut trunks: Vec<(String, PathBuf)> = Vec::new();
    for word in &wanted.trunks {
        match word.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => {
                trunks.push((name.to_string(), PathBuf::from(path)));
            }
            _ => {
                return Err(Error::config(format!("trunk `{word}`: expected NAME=RUN")));
            }
        }
    }
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
    if let Some(found) = judged_before(folder) {
        return Ok(found);
    }
    let run = PretrainRun::open(trunk)?;
    let TaskData {
        source,
        train_fraction,
        ..
    } = config(wanted, 0, None, Mode::Frozen)?.data;
    let all = pretrain::embed(&run, &source, &wanted.device)?;
    let people = all.labels("labels")?.to_vec();
    let count = people.iter().collect::<BTreeSet<_>>().len();
    // The same division as that of the runs.
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
        rendered: false,
        images: None,
        run: None,
    };
    let about = json!({ "source": source, "part": format!("people after the first {learned}"), "trunk": trunk });
    let found = verdict(judged, &[Protocol::VerificationAllPairs], about, subject)?;
    create_folder(folder)?;
    write_json(
        &folder.join("eval.json"),
        &json!({ "metrics": found.metrics, "protocol": found.protocol }),
    )?;
    Ok(found.metrics)
}
