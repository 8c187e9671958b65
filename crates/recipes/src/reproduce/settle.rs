//! Runs of a table that are kept: found complete they are not made again, begun they go on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Reproduction, Row, Table};
use crate::folder::{Outcome, create_folder, read_json, write, write_json};
use crate::{Error, Result};

/// Metrics of a run by name.
pub(crate) type Figures = BTreeMap<String, f64>;

/// The run in `folder`, found complete, or trained or resumed by `go` (which is told whether it begins or goes on);
/// `None` when interrupted.
///
/// # Errors
/// When the folder holds a run that `same` says is another one.
pub(crate) fn settled<R>(
    folder: &Path,
    same: impl FnOnce(&Path) -> Result<bool>,
    open: impl FnOnce(&Path) -> Result<R>,
    go: impl FnOnce(Start) -> Result<Outcome<R>>,
) -> Result<Option<R>> {
    let known = folder.join("config.toml");
    if !known.is_file() {
        return Ok(go(Start::Begin)?.finished());
    }
    if !same(&known)? {
        return Err(Error::run(
            folder,
            "holds a run with another configuration; expected the same one, or give another --out",
        ));
    }
    if folder.join("model.safetensors").is_file() {
        return open(folder).map(Some);
    }
    // What was found of a model that is gone.
    let _ = std::fs::remove_file(folder.join(JUDGED));
    Ok(go(Start::GoOn)?.finished())
}

/// The file that [`judged`] keeps figures in.
const JUDGED: &str = "judged.json";

/// To be raised when judging a kept run anew would give other figures, or more of them.
const JUDGING: u32 = 1;

/// Whether a run is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// There is nothing yet.
    Begin,
    /// It was interrupted.
    GoOn,
}

/// The figures of the run in `folder` as a table asks for them: those in its `judged.json` where the same was asked, else
/// what `judge` finds, which is kept there. (The run's `eval.json` belongs to whoever evaluated it last, on whatever data.)
///
/// # Errors
/// When judging fails, or the folder cannot be written.
pub(crate) fn judged(
    folder: &Path,
    asked: Value,
    judge: impl FnOnce() -> Result<Figures>,
) -> Result<Figures> {
    let path = folder.join(JUDGED);
    // What cannot be read is found again.
    if let Ok(known) = read_json::<Kept>(&path)
        && known.asked == asked
        && known.version == JUDGING
    {
        return Ok(known.figures());
    }
    let metrics = judge()?.into_iter();
    let found = Kept {
        version: JUDGING,
        asked,
        metrics: metrics.map(|(name, value)| (name, Some(value))).collect(),
    };
    create_folder(folder)?;
    write_json(&path, &found)?;
    // As it will be read the next time, to the last digit.
    Ok(read_json::<Kept>(&path)?.figures())
}

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    asked: Value,
    /// What is not a number is written as `null`.
    metrics: BTreeMap<String, Option<f64>>,
}

impl Kept {
    fn figures(self) -> Figures {
        let metrics = self.metrics.into_iter();
        metrics
            .map(|(name, value)| (name, value.unwrap_or(f64::NAN)))
            .collect()
    }
}

/// The trunks that `NAME=PATH` words name.
///
/// # Errors
/// When a word is not of that form, or there is nothing at its path.
pub(crate) fn trunks(words: &[String]) -> Result<Vec<(String, PathBuf)>> {
    let one = |word: &String| match word.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            let path = PathBuf::from(path);
            if !path.exists() {
                return Err(Error::run(
                    &path,
                    format!("no such trunk; expected a run or a file for --trunk {name}=..."),
                ));
            }
            Ok((name.to_string(), path))
        }
        _ => Err(Error::config(format!(
            "trunk `{word}`: expected NAME=RUN or NAME=FILE"
        ))),
    };
    words.iter().map(one).collect()
}

/// The rows of a plan that are wanted, all where none is named.
///
/// # Errors
/// When one is unknown, or no seed is asked for.
pub(crate) fn chosen<'a, M>(
    rows: &'a [(&'static str, M)],
    wanted: &Reproduction,
) -> Result<Vec<&'a (&'static str, M)>> {
    if let Some(unknown) = wanted
        .rows
        .iter()
        .find(|row| !rows.iter().any(|(name, _)| name == row))
    {
        let names: Vec<&str> = rows.iter().map(|(name, _)| *name).collect();
        return Err(Error::config(format!(
            "unknown row `{unknown}`; there are: {}",
            names.join(", ")
        )));
    }
    if wanted.seeds == 0 {
        return Err(Error::config("0 seeds; expected at least 1"));
    }
    Ok(rows
        .iter()
        .filter(|(name, _)| wanted.rows.is_empty() || wanted.rows.iter().any(|row| row == name))
        .collect())
}

/// Which of the rows `words` mean, all where there is no word: a word that is a row's name means that row, any other word
/// the rows that hold it.
///
/// # Errors
/// When a word means none.
pub(crate) fn meant(names: &[String], words: &[String]) -> Result<BTreeSet<String>> {
    if words.is_empty() {
        return Ok(names.iter().cloned().collect());
    }
    let mut all = BTreeSet::new();
    for word in words {
        let whole = names.contains(word);
        let fits = |name: &&String| {
            if whole {
                *name == word
            } else {
                name.contains(word)
            }
        };
        let mut rows = names.iter().filter(fits).cloned().peekable();
        if rows.peek().is_none() {
            return Err(Error::config(format!(
                "no row is called `{word}` or has it in its name; there are: {}",
                names.join(", ")
            )));
        }
        all.extend(rows);
    }
    Ok(all)
}

impl Table {
    /// A table without figures yet.
    pub(crate) fn empty(
        name: &str,
        caption: &str,
        metrics: &[&'static str],
        rows: impl IntoIterator<Item = String>,
    ) -> Self {
        let row = |name| Row {
            name,
            values: BTreeMap::new(),
        };
        Self {
            name: name.to_string(),
            caption: caption.to_string(),
            metrics: metrics.to_vec(),
            rows: rows.into_iter().map(row).collect(),
            parts: Vec::new(),
        }
    }

    /// Writes `table.md` and `table.json` into the folder of the runs.
    pub(crate) fn write(&self, out: &Path) -> Result<()> {
        create_folder(out)?;
        write(&out.join("table.md"), &self.to_markdown())?;
        write(&out.join("table.json"), &format!("{:#}\n", self.to_json()))
    }
}

impl Row {
    /// Adds the figures of one more seed.
    pub(crate) fn add(&mut self, figures: Figures) {
        for (metric, value) in figures {
            self.values.entry(metric).or_default().push(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_kept_for_the_question_they_answer() {
        let folder = tempfile::tempdir().unwrap();
        let ask = |asked: &str, accuracy: f64| {
            let found = Figures::from([
                ("accuracy".to_string(), accuracy),
                ("undefined".to_string(), f64::NAN),
            ]);
            judged(folder.path(), Value::from(asked), || Ok(found)).unwrap()
        };
        for _ in 0..2 {
            let found = ask("test", 1.0 / 3.0);
            assert!(found["accuracy"] == 1.0 / 3.0 && found["undefined"].is_nan());
        }
        assert_eq!(ask("test", 0.5)["accuracy"], 1.0 / 3.0);
        assert_eq!(ask("validation", 0.5)["accuracy"], 0.5);
        std::fs::write(folder.path().join("judged.json"), "{\"asked\": \"val").unwrap();
        assert_eq!(ask("validation", 0.75)["accuracy"], 0.75);
    }

    #[test]
    fn a_whole_name_means_one_row_and_a_part_of_it_several() {
        let names = ["swav 1000", "swav 10000", "supervised 1000"].map(String::from);
        let of = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            meant(&names, &words).map(|rows| rows.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(of(&["swav 1000"]).unwrap(), ["swav 1000"]);
        assert_eq!(of(&["swav 1000", "swav 1000"]).unwrap(), ["swav 1000"]);
        assert_eq!(of(&["swav"]).unwrap(), ["swav 1000", "swav 10000"]);
        assert_eq!(of(&[]).unwrap().len(), 3);
        let error = of(&["swav", "byol"]).unwrap_err().to_string();
        assert!(
            error.contains("`byol`") && error.contains("supervised 1000"),
            "{error}"
        );
    }
}
