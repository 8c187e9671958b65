//! The folder of a run: what all recipes do with theirs, whatever they train.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle::Tensor;
use phiz_data::Dataset;
use phiz_train::{Checkpoint, Observer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::run::Run;
use crate::{Error, Result};

/// How training ended.
pub enum Outcome<R = Run> {
    /// The run is complete.
    Finished(Box<R>),
    /// It was asked to stop and saved itself.
    Interrupted {
        /// Steps done so far.
        step: u64,
    },
}

impl<R> Outcome<R> {
    /// The run, if it is complete.
    pub fn finished(self) -> Option<R> {
        match self {
            Self::Finished(run) => Some(*run),
            Self::Interrupted { .. } => None,
        }
    }
}

/// Refuses a folder that holds something: a new run needs a new one.
pub(crate) fn refuse_occupied(out: &Path) -> Result<()> {
    let occupied = out
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(Error::run(
            out,
            "not empty; expected a new folder, or --resume to go on with a run",
        ));
    }
    Ok(())
}

/// The configuration that a run's folder holds.
pub(crate) fn config_file(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("config.toml");
    if !path.is_file() {
        return Err(Error::run(
            folder,
            "not a run folder: expected a config.toml in it",
        ));
    }
    Ok(path)
}

/// The weights that a finished run's folder holds.
pub(crate) fn model_file(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("model.safetensors");
    if !path.is_file() {
        return Err(Error::run(
            folder,
            format!(
                "no model.safetensors: the run is not finished; go on with `cargo xtask train --resume {}`",
                folder.display()
            ),
        ));
    }
    Ok(path)
}

/// Where a run that is resumed goes on; nothing where it has to begin again.
pub(crate) fn last_checkpoint(
    folder: &Path,
    observer: &mut dyn Observer,
) -> Result<Option<Checkpoint>> {
    let start = Checkpoint::latest(folder)?;
    match &start {
        Some(start) => observer.message(&format!("going on after step {}", start.step())),
        None => observer.message("no checkpoint yet; starting from the beginning"),
    }
    Ok(start)
}

/// The file of weights that a run's folder or a path to a file stands for.
pub(crate) fn weights_of(from: &Path) -> PathBuf {
    if from.is_dir() {
        from.join("model.safetensors")
    } else {
        from.to_path_buf()
    }
}

/// The same tensors under `backbone.`, where a bare backbone, as PyTorch programs save it, has none there.
pub(crate) fn under_backbone(tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    if tensors.keys().any(|name| name.starts_with("backbone.")) {
        return tensors;
    }
    let named = tensors
        .into_iter()
        .map(|(name, tensor)| (format!("backbone.{name}"), tensor));
    named.collect()
}

/// What a line about a data set ends with, so that rendered faces are never taken for real ones.
pub(crate) fn rendered_mark(dataset: &dyn Dataset) -> &'static str {
    if dataset.rendered() {
        " (rendered faces)"
    } else {
        ""
    }
}

pub(crate) fn create_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))
}

/// Writes a small file whole or not at all.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    // Two processes may fill one table, so each has a temporary file of its own.
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    std::fs::write(&temporary, text)
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|error| {
            // Best effort: the error that matters is the first one.
            let _ = std::fs::remove_file(&temporary);
            Error::io(path, error)
        })
}

/// [`write`] of a value as JSON.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Error::config(error.to_string()))?;
    write(path, &(text + "\n"))
}

/// What [`write_json`] wrote.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
    serde_json::from_str(&text)
        .map_err(|error| Error::run(path, format!("not what a run writes: {error}")))
}
