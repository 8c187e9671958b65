//! What the kinds of recipes have in common, for programs that treat them alike.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use phiz_train::Observer;
use serde_json::Value;
use toml::Table;

use crate::config::Config;
use crate::disentangle::{self, DisentangleConfig, DisentangleRun, DisentangleVerdict};
use crate::folder::Outcome;
use crate::judge::{Verdict, judge};
use crate::overlay::{self, Schema, read_table};
use crate::pretrain::{self, PretrainConfig, PretrainRun, PretrainVerdict};
use crate::run::{self, Run};
use crate::task::{
    TASK_RECIPES, TaskConfig, TaskRun, TaskVerdict, judge_task, resume_task, train_task,
};
use crate::{Error, NAMED, Result};

/// A kind of recipe: its configuration, and what is done with it.
///
/// There are four: [`Config`], [`PretrainConfig`], [`DisentangleConfig`] and [`TaskConfig`].
pub trait Recipe: Schema {
    /// A finished run.
    type Run;
    /// What is found about one.
    type Verdict: Judgement;

    /// Names of the recipes of this kind with a line each, first the one that is meant where none is named.
    fn names() -> Vec<(&'static str, &'static str)>;

    /// Trains into a new folder.
    ///
    /// # Errors
    /// When the configuration makes no sense, the folder holds something, or training fails.
    fn train(
        &self,
        out: &Path,
        device: &str,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome<Self::Run>>;

    /// Goes on with the interrupted run in a folder.
    ///
    /// # Errors
    /// When the folder is not that of such a run, or training fails.
    fn resume(
        folder: &Path,
        device: &str,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome<Self::Run>>;

    /// Judges a run on what its own configuration holds out.
    ///
    /// # Errors
    /// When the weights do not fit or the data cannot be read.
    fn judge(run: &Self::Run, device: &str) -> Result<Self::Verdict>;

    /// Whether a recipe of that name is of this kind.
    fn is_named(name: &str) -> bool {
        Self::names().iter().any(|(known, _)| *known == name)
    }

    /// The recipe of this kind that a configuration file is, or is based on.
    ///
    /// # Errors
    /// When the file cannot be read or is not TOML.
    fn named_in(file: &Path) -> Result<Option<String>> {
        let table = read_table(file)?;
        let name = table.get("recipe").and_then(toml::Value::as_str);
        Ok(name.filter(|name| Self::is_named(name)).map(str::to_string))
    }

    /// Whether a folder is that of a run of this kind, finished or not.
    fn has_run(folder: &Path) -> bool {
        matches!(Self::named_in(&folder.join("config.toml")), Ok(Some(_)))
    }

    /// The configuration that all these ask for, the later ones last.
    ///
    /// # Errors
    /// When there is no recipe of that name, the file cannot be read, or a value makes no sense.
    fn configured(asked: &Asked<'_>) -> Result<Self> {
        let default = || Self::names().first().map_or("", |(name, _)| *name);
        let mut config = <Self as Schema>::named(asked.name.unwrap_or_else(default))?;
        if let Some(file) = asked.file {
            config = overlay::from_file(file, &config)?;
        }
        let mut own = Table::new();
        if let Some(source) = asked.source {
            let data = Table::from_iter([("source".to_string(), source.into())]);
            own.insert("data".into(), data.into());
        }
        if let Some(seed) = asked.seed {
            let seed = i64::try_from(seed)
                .map_err(|_| Error::config(format!("`seed` is {seed}; expected below 2^63")))?;
            own.insert("seed".into(), seed.into());
        }
        let words = asked.words.iter().map(String::as_str);
        overlay::set_all(&config.overlaid(&own)?, words)
    }

    /// The configuration as TOML, every key present.
    ///
    /// # Errors
    /// When a value has no TOML form.
    fn written(&self) -> Result<String> {
        overlay::to_toml(self)
    }
}

/// Names of the recipes of all kinds, with a line each.
pub fn recipe_names() -> Vec<(&'static str, &'static str)> {
    let mut all = Config::names();
    all.extend(PretrainConfig::names());
    all.extend(DisentangleConfig::names());
    all.extend(TaskConfig::names());
    all
}

/// How a configuration is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// Name of a recipe; none: the first of its kind.
    pub name: Option<&'a str>,
    /// A file over it.
    pub file: Option<&'a Path>,
    /// `data.source`.
    pub source: Option<&'a str>,
    /// `seed`.
    pub seed: Option<u64>,
    /// `section.key=value` words.
    pub words: &'a [String],
}

/// What is found about a run, whatever its kind.
pub trait Judgement {
    /// `{"protocol": {...}, "metrics": {...}}` and more.
    fn to_json(&self) -> Value;

    /// The figures as text.
    fn table(&self) -> String;

    /// Writes `eval.json` and `report.html` into a folder.
    ///
    /// # Errors
    /// When the folder cannot be written.
    fn write(&self, folder: &Path) -> Result<()>;
}

/// Each kind in one line: its configuration, run and verdict; names, training, going on, judging.
macro_rules! kinds {
    ($($config:ty, $run:ty, $verdict:ty: $names:expr, $train:path, $resume:path, $judge:expr;)*) => {$(
        impl Recipe for $config {
            type Run = $run;
            type Verdict = $verdict;

            fn names() -> Vec<(&'static str, &'static str)> {
                $names
            }

            fn train(
                &self,
                out: &Path,
                device: &str,
                stop: &AtomicBool,
                observer: &mut dyn Observer,
            ) -> Result<Outcome<$run>> {
                $train(self, out, device, stop, observer)
            }

            fn resume(
                folder: &Path,
                device: &str,
                stop: &AtomicBool,
                observer: &mut dyn Observer,
            ) -> Result<Outcome<$run>> {
                $resume(folder, device, stop, observer)
            }

            fn judge(run: &$run, device: &str) -> Result<$verdict> {
                $judge(run, device)
            }
        }

        impl Judgement for $verdict {
            fn to_json(&self) -> Value {
                <$verdict>::to_json(self)
            }

            fn table(&self) -> String {
                <$verdict>::table(self)
            }

            fn write(&self, folder: &Path) -> Result<()> {
                <$verdict>::write(self, folder)
            }
        }
    )*};
}

kinds! {
    Config, Run, Verdict: NAMED.iter().map(|named| (named.name, named.summary)).collect(),
        run::train, run::resume, |run, device| judge(run, None, &[], device);
    PretrainConfig, PretrainRun, PretrainVerdict: pretrain::NAMED.iter().map(|named| (named.name, named.summary)).collect(),
        pretrain::train, pretrain::resume, |run, device| pretrain::judge(run, None, device);
    DisentangleConfig, DisentangleRun, DisentangleVerdict: disentangle::NAMED.to_vec(),
        disentangle::train, disentangle::resume, disentangle::judge;
    TaskConfig, TaskRun, TaskVerdict: TASK_RECIPES.to_vec(),
        train_task, resume_task, |run, device| judge_task(run, None, device);
}
