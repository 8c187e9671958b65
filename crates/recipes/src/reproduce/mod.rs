//! Whole tables: several recipes, several seeds, mean and spread.
//!
//! Every run has a folder below the table's, so that a table that was interrupted goes on where it
//! stopped, and a row can be looked at. The figures a table asked of a run are kept in its `judged.json`. `table.md` and `table.json` are written anew after every seed at least.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use phiz_data::{Dataset, to_chw_f32};
use phiz_eval::{Embeddings, Protocol};
use phiz_train::Observer;
use serde_json::json;

use crate::baselines::{Fisherfaces, centred_pixels};
use crate::config::Config;
use crate::folder::create_folder;
use crate::judge::{Subject, Verdict, judge, verdict};
use crate::named;
use crate::run::{Run, resume, train};
use crate::source::{Source, open_source};
use crate::task::{FEW_SHOT, few_shot};
use crate::{Error, Result};

mod difficulty;
mod settle;
mod table;
mod tables;

pub(crate) use settle::{Figures, Start, chosen, judged, meant, settled, trunks};
pub use table::{Row, Table};
use tables::{LOSS_BUDGET, Make, ORL, TABLES};

/// What to reproduce.
#[derive(Debug, Clone)]
pub struct Reproduction {
    /// Name of the table, `fer-ablation` for one; an unknown name is answered with those there are.
    pub name: String,
    /// Number of seeds for each row, from 0.
    pub seeds: u64,
    /// `key=value` words applied to every recipe of the table.
    pub set: Vec<String>,
    /// Only these rows; empty: all. In tables of tasks and studies a word that is no row's name means those that hold it.
    pub rows: Vec<String>,
    /// `NAME=RUN` or `NAME=FILE`: further trunks to start tasks from, in tables that compare trunks.
    pub trunks: Vec<String>,
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
    if let Some(word) = seed_in(&wanted.set) {
        return Err(Error::config(format!(
            "`{word}`: a table goes through seeds itself; expected --seeds with their number"
        )));
    }
    let with_trunks =
        wanted.name == "orl-transfer" || FEW_SHOT.iter().any(|p| p.name == wanted.name);
    if let (false, Some(trunk)) = (with_trunks, wanted.trunks.first()) {
        return Err(Error::config(format!(
            "--trunk {trunk}: `{}` compares no trunks; few-shot and orl-transfer do",
            wanted.name
        )));
    }
    if crate::disentangle::table_names().any(|name| name == wanted.name) {
        return crate::disentangle::reproduce(wanted, stop, watch);
    }
    if let Some(plan) = FEW_SHOT.iter().find(|plan| plan.name == wanted.name) {
        return few_shot(plan, wanted, stop, watch);
    }
    if crate::study::TABLE_NAMES.contains(&wanted.name.as_str()) {
        return crate::study::reproduce(wanted, stop, watch);
    }
    if wanted.name == difficulty::NAME {
        return difficulty::difficulty(wanted, stop, watch);
    }
    let plan = TABLES
        .iter()
        .find(|table| table.name == wanted.name)
        .ok_or_else(|| {
            let others =
                crate::disentangle::table_names().chain(crate::study::TABLE_NAMES.iter().copied());
            let names: Vec<&str> = TABLES
                .iter()
                .map(|table| table.name)
                .chain(others)
                .chain(FEW_SHOT.iter().map(|plan| plan.name))
                .chain([difficulty::NAME])
                .collect();
            Error::config(format!(
                "unknown table `{}`; there are: {}",
                wanted.name,
                names.join(", ")
            ))
        })?;
    let chosen = chosen(plan.rows, wanted)?;
    create_folder(&wanted.out)?;
    let names = chosen.iter().map(|(name, _)| (*name).to_string());
    let mut table = Table::empty(plan.name, plan.caption, plan.metrics, names);
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
            row.add(found);
        }
        table.write(&wanted.out)?;
    }
    Ok(Progressed::Finished(table))
}

/// The word that sets the seed, which a table does itself.
fn seed_in(words: &[String]) -> Option<&String> {
    let key = |word: &&String| {
        word.split('=')
            .next()
            .is_some_and(|key| key.trim() == "seed")
    };
    words.iter().find(key)
}

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
        Make::Fold(recipe, changes) => {
            let mut config = config(recipe, changes, None)?;
            config.data.fold = (seed % config.data.folds as u64) as usize;
            config
        }
        Make::Recipe(recipe, changes) => config(recipe, changes, None)?,
        Make::Loss(changes) => config("metric", &[LOSS_BUDGET, changes].concat(), None)?,
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
    let found = judged(folder, json!({ "data": "held out" }), || {
        let verdict = judge(&run, None, &[], &wanted.device)?;
        verdict.write(folder)?;
        Ok(verdict.metrics)
    })?;
    Ok(Some(found))
}

/// The run in `folder`, trained, resumed or found complete; `None` when interrupted.
pub(crate) fn finished(
    config: &Config,
    folder: &Path,
    label: &str,
    wanted: &Reproduction,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&str) -> Box<dyn Observer>,
) -> Result<Option<Run>> {
    let same = |known: &Path| {
        let before = Config::from_file(known, config)?;
        Ok(before.fingerprint() == config.fingerprint())
    };
    settled(folder, same, Run::open, |start| {
        let mut observer = watch(label);
        match start {
            Start::Begin => train(config, folder, &wanted.device, stop, observer.as_mut()),
            Start::GoOn => resume(folder, &wanted.device, stop, observer.as_mut()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_table_would_ignore_it_refuses() {
        let refused = |name: &str, set: &[&str], trunks: &[&str]| -> String {
            let texts = |words: &[&str]| words.iter().map(ToString::to_string).collect();
            let wanted = Reproduction {
                name: name.to_string(),
                seeds: 1,
                set: texts(set),
                rows: Vec::new(),
                trunks: texts(trunks),
                out: "nowhere".into(),
                device: "cpu".to_string(),
            };
            let stop = AtomicBool::new(false);
            let found = reproduce(&wanted, &stop, &mut |_| panic!("nothing is to be trained"));
            found
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        for name in ["fer-ablation", "mnist-rot", "few-shot", "data-size"] {
            let error = refused(name, &["seed =4"], &[]);
            assert!(error.contains("--seeds"), "{name}: {error}");
        }
        let error = refused("mnist-rot", &[], &["swav=runs/x"]);
        assert!(error.contains("compares no trunks"), "{error}");
    }
}
