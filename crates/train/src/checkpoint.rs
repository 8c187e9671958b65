//! Checkpoints: all state of a run in one file, and at every moment one that is whole.
//!
//! ```text
//! <run>/checkpoint/latest.json                 which files are whole, newest first, with length and SHA-256
//! <run>/checkpoint/step-0000000200.safetensors model.<name>, optimizer.<name>; metadata: version, step, seed, ...
//! <run>/checkpoint/step-0000000100.safetensors the one before, kept in case the newest goes bad on the disk
//! ```
//!
//! A folder cannot replace a folder that is not empty in one operation on every system; a file can replace a
//! file. So a checkpoint is one file under a new name, written beside, synced and renamed; then the small
//! `latest.json` is replaced the same way; only then are files that it does not list removed. A process that
//! dies at any point, or a full disk, leaves `latest.json` pointing at a whole file, and at most litter that
//! the next save removes.
//!
//! The reader checks length and digest and falls back to the one before with a warning.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};

use candle::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::files::{self, Sum};
use crate::metrics::Means;
use crate::optimizer::Optimizer;
use crate::parameters::Parameters;
use crate::weights;

/// Version of the layout; readers refuse others.
pub const CHECKPOINT_VERSION: u64 = 1;

const FOLDER: &str = "checkpoint";
const INDEX: &str = "latest.json";
/// How many checkpoints stay: the newest, and one to fall back on.
const KEEP: usize = 2;

/// The state of a run after some number of steps, read from disk.
///
/// ```text
/// <run>/checkpoint/latest.json                 which files are whole, newest first, with length and SHA-256
/// <run>/checkpoint/step-0000000200.safetensors model.<name>, optimizer.<name>; metadata: version, step, seed, ...
/// <run>/checkpoint/step-0000000100.safetensors the one before, kept in case the newest goes bad on the disk
/// ```
///
/// At every moment of a run that has saved once, one of these files is whole and listed: a kill or a full disk
/// while saving loses the steps since, never the run. Saving needs free space for one more file.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    note: Note,
    model: BTreeMap<String, Tensor>,
    optimizer: BTreeMap<String, Tensor>,
    warnings: Vec<String>,
}

/// The metadata of a checkpoint file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    version: u64,
    pub step: u64,
    pub seed: u64,
    pub config_hash: String,
    pub means: Means,
}

#[derive(Debug, Serialize, Deserialize)]
struct Index {
    version: u64,
    checkpoints: Vec<Listed>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Listed {
    file: String,
    step: u64,
    bytes: u64,
    sha256: String,
}

impl Checkpoint {
    /// The newest whole checkpoint of the run in `run_dir`; `None` when it has none.
    ///
    /// # Errors
    /// When there are checkpoints but none is whole, naming the newest and what is wrong with it.
    pub fn latest(run_dir: &Path) -> Result<Option<Self>> {
        let folder = run_dir.join(FOLDER);
        let mut first_error = None;
        let mut warnings = Vec::new();
        let listed = match read_index(&folder) {
            Ok(None) => Vec::new(),
            Ok(Some(index)) => index.checkpoints,
            Err(error) => {
                warnings.push(error.to_string());
                first_error = Some(error);
                Vec::new()
            }
        };
        // A file under its final name was whole when it got that name: without a usable index, trust its structure.
        let unlisted = files_on_disk(&folder)?
            .into_iter()
            .rev()
            .filter(|name| !listed.iter().any(|l| l.file == *name));
        let unlisted: Vec<(String, Option<Sum>)> = unlisted.map(|name| (name, None)).collect();
        let candidates = listed
            .into_iter()
            .map(|entry| {
                (
                    entry.file,
                    Some(Sum {
                        bytes: entry.bytes,
                        sha256: entry.sha256,
                    }),
                )
            })
            .chain(unlisted);
        for (file, sum) in candidates {
            // The index is a file like any other: it must not lead out of the folder.
            if Path::new(&file).file_name() != Some(OsStr::new(&file)) {
                warnings.push(format!(
                    "{}: {file:?} is not a file name",
                    folder.join(INDEX).display()
                ));
                continue;
            }
            match read_checkpoint(&folder.join(&file), sum.as_ref()) {
                Ok(mut checkpoint) => {
                    checkpoint.warnings = warnings;
                    return Ok(Some(checkpoint));
                }
                Err(error) => {
                    warnings.push(error.to_string());
                    first_error = first_error.or(Some(error));
                }
            }
        }
        first_error.map_or(Ok(None), Err)
    }

    /// One checkpoint file; only its structure can be checked.
    ///
    /// # Errors
    /// When it is not a whole checkpoint of this version.
    pub fn open(path: &Path) -> Result<Self> {
        read_checkpoint(path, None)
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.note.step
    }

    /// Seed of the run.
    pub fn seed(&self) -> u64 {
        self.note.seed
    }

    /// What the run gave as the hash of its configuration.
    pub fn config_hash(&self) -> &str {
        &self.note.config_hash
    }

    /// The file it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Weights and buffers by name.
    pub fn model(&self) -> &BTreeMap<String, Tensor> {
        &self.model
    }

    /// What was found bad before this checkpoint was found good; one line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(crate) fn means(&self) -> &Means {
        &self.note.means
    }

    /// Puts weights, buffers and optimiser state back, bit for bit.
    ///
    /// # Errors
    /// Names the first tensor that is missing, unexpected, or of another shape or type.
    pub fn restore(&self, parameters: &Parameters, optimizer: &mut Optimizer) -> Result<()> {
        for (name, var) in parameters.variables() {
            if let Some(tensor) = self
                .model
                .get(&name)
                .filter(|tensor| tensor.dtype() != var.dtype())
            {
                let kind = ErrorKind::DTypeMismatch {
                    expected: var.dtype(),
                    found: tensor.dtype(),
                };
                return Err(Error::new(kind).of(name).at(&self.path));
            }
        }
        parameters
            .load(&self.model)
            .map_err(|error| error.at(&self.path))?;
        optimizer
            .load_state(&self.optimizer)
            .map_err(|error| error.at(&self.path))
    }
}

/// What the checkpoint of this moment says beside the tensors.
pub(crate) fn note(step: u64, seed: u64, config_hash: &str, means: &Means) -> Note {
    Note {
        version: CHECKPOINT_VERSION,
        step,
        seed,
        config_hash: config_hash.to_string(),
        means: means.clone(),
    }
}

/// Writes a checkpoint and makes it the latest; returns its file.
pub(crate) fn save(
    run_dir: &Path,
    parameters: &Parameters,
    optimizer: &Optimizer,
    note: &Note,
) -> Result<PathBuf> {
    let folder = run_dir.join(FOLDER);
    if !folder.is_dir() {
        files::create_folder(&folder)?;
        files::sync_folder(run_dir)?;
    }
    let mut tensors: BTreeMap<String, Tensor> = parameters
        .tensors()
        .into_iter()
        .map(|(name, tensor)| (format!("model.{name}"), tensor))
        .collect();
    tensors.extend(
        optimizer
            .state()?
            .into_iter()
            .map(|(name, tensor)| (format!("optimizer.{name}"), tensor)),
    );
    let text = serde_json::to_string(note).map_err(|error| Error::bad_file(&folder, error))?;

    // What the index lists must be whole, so the old list is read before the disk changes.
    let old = read_index(&folder)
        .ok()
        .flatten()
        .map(|index| index.checkpoints)
        .unwrap_or_default();
    let file = format!("step-{:010}.safetensors", note.step);
    let path = folder.join(&file);
    let sum = weights::write_tensors(&path, &tensors, Some(&text))?;

    let newest = Listed {
        file: file.clone(),
        step: note.step,
        bytes: sum.bytes,
        sha256: sum.sha256,
    };
    let kept = old
        .into_iter()
        .filter(|entry| entry.file != file && entry.step < note.step)
        .take(KEEP - 1);
    let index = Index {
        version: CHECKPOINT_VERSION,
        checkpoints: std::iter::once(newest).chain(kept).collect(),
    };
    let index_path = folder.join(INDEX);
    let text = serde_json::to_string_pretty(&index)
        .map_err(|error| Error::bad_file(&index_path, error))?;
    files::write_atomically(&index_path, |out| {
        out.write_all(text.as_bytes())
            .map_err(|error| Error::io("writing", &index_path, error))
    })?;
    remove_unlisted(&folder, &index);
    Ok(path)
}

fn remove_unlisted(folder: &Path, index: &Index) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        // Only what this module makes: a person's own file in the folder is not ours to remove.
        let ours = name.starts_with("step-") || name.starts_with(INDEX);
        let old = name.ends_with(".safetensors")
            && !index.checkpoints.iter().any(|listed| listed.file == name);
        if ours && (old || name.ends_with(".tmp")) {
            files::remove(&entry.path());
        }
    }
}

/// Names of the checkpoint files in a folder, oldest first; none when there is no folder.
fn files_on_disk(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == IoKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("listing", folder, error)),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("step-") && name.ends_with(".safetensors"))
        .collect();
    names.sort();
    Ok(names)
}

fn read_index(folder: &Path) -> Result<Option<Index>> {
    let path = folder.join(INDEX);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == IoKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("reading", &path, error)),
    };
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|error| Error::bad_file(&path, format!("not a list of checkpoints: {error}")))?;
    check_version(index.version).map_err(|error| error.at(&path))?;
    Ok(Some(index))
}

fn check_version(found: u64) -> Result<()> {
    if found == CHECKPOINT_VERSION {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Version {
        expected: CHECKPOINT_VERSION,
        found,
    }))
}

fn read_checkpoint(path: &Path, sum: Option<&Sum>) -> Result<Checkpoint> {
    let bytes = files::read(path)?;
    if let Some(sum) = sum {
        if sum.bytes != bytes.len() as u64 {
            let reason = format!("has {} bytes, {} were written", bytes.len(), sum.bytes);
            return Err(Error::bad_file(path, reason));
        }
        if *sum != files::sum(&bytes) {
            return Err(Error::bad_file(
                path,
                "its SHA-256 is not that of what was written",
            ));
        }
    }
    parse(&bytes, path).map_err(|error| error.at(path))
}

fn parse(bytes: &[u8], path: &Path) -> Result<Checkpoint> {
    let (tensors, note) = weights::parse_tensors(bytes)?;
    let note = note.ok_or_else(|| {
        Error::new(ErrorKind::BadFile(
            "not a checkpoint: no metadata \"phiz\"".into(),
        ))
    })?;
    // The version alone first: another version's metadata may have other fields.
    #[derive(Deserialize)]
    struct VersionOnly {
        version: u64,
    }
    let bad = |error: serde_json::Error| {
        Error::new(ErrorKind::BadFile(format!(
            "not a checkpoint's metadata: {error}"
        )))
    };
    check_version(
        serde_json::from_str::<VersionOnly>(&note)
            .map_err(bad)?
            .version,
    )?;
    let note: Note = serde_json::from_str(&note).map_err(bad)?;
    let (mut model, mut optimizer) = (BTreeMap::new(), BTreeMap::new());
    for (name, tensor) in tensors {
        if let Some(name) = name.strip_prefix("model.") {
            model.insert(name.to_string(), tensor);
        } else if let Some(name) = name.strip_prefix("optimizer.") {
            optimizer.insert(name.to_string(), tensor);
        } else {
            return Err(Error::new(ErrorKind::Unexpected).of(name));
        }
    }
    Ok(Checkpoint {
        path: path.to_path_buf(),
        note,
        model,
        optimizer,
        warnings: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fault::{self, Fault};
    use crate::{GroupRules, OptimizerConfig, Streams};
    use candle::{DType, Device};
    use candle_nn::Init;

    fn state(value: f64) -> (Parameters, Optimizer) {
        let parameters = Parameters::new(Streams::new(1), DType::F32, &Device::Cpu);
        // Larger than the writer's buffer, so that a file is written in several operations.
        parameters
            .var_builder()
            .get_with_hints((60, 300), "w", Init::Const(value))
            .unwrap();
        let optimizer = Optimizer::new(
            &parameters,
            OptimizerConfig::adamw(),
            &GroupRules::default(),
        )
        .unwrap();
        (parameters, optimizer)
    }

    fn save_step(run: &Path, step: u64) -> Result<PathBuf> {
        let (parameters, optimizer) = state(step as f64);
        save(
            run,
            &parameters,
            &optimizer,
            &note(step, 1, "h", &Means::default()),
        )
    }

    /// The newest checkpoint's step, after checking that it holds that step's weights.
    fn newest(run: &Path) -> Option<u64> {
        let checkpoint = Checkpoint::latest(run).unwrap()?;
        assert!(
            checkpoint.warnings().is_empty(),
            "{:?}",
            checkpoint.warnings()
        );
        let (parameters, mut optimizer) = state(-1.);
        checkpoint.restore(&parameters, &mut optimizer).unwrap();
        let values = parameters
            .get("w")
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        assert!(values.iter().all(|&x| x == checkpoint.step() as f32));
        Some(checkpoint.step())
    }

    fn files(run: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(run.join(FOLDER))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn at_every_moment_one_checkpoint_is_whole() {
        for before in [vec![], vec![10, 20]] {
            for kind in [Fault::DiskFull, Fault::Killed] {
                let mut after = 0;
                loop {
                    let folder = tempfile::tempdir().unwrap();
                    for &step in &before {
                        save_step(folder.path(), step).unwrap();
                    }
                    let (result, reached) =
                        fault::with(kind, after, || save_step(folder.path(), 30));
                    let found = newest(folder.path());
                    match result {
                        // The only faults a save survives are in removing what is no longer listed.
                        Ok(_) => assert_eq!(found, Some(30)),
                        Err(error) => {
                            let old = before.last().copied();
                            assert!(
                                found == old || found == Some(30),
                                "{found:?} after {before:?}, {after}"
                            );
                            assert!(
                                error.to_string().contains(FOLDER)
                                    || error.path() == Some(folder.path())
                            );
                        }
                    }
                    // The next save works and leaves no litter.
                    save_step(folder.path(), 40).unwrap();
                    assert_eq!(newest(folder.path()), Some(40));
                    let names = files(folder.path());
                    assert!(
                        names.len() <= 3 && names.iter().all(|name| !name.ends_with(".tmp")),
                        "{names:?}"
                    );
                    if !reached {
                        break;
                    }
                    after += 1;
                }
                assert!(after > 8, "only {after} operations seen");
            }
        }
    }

    #[test]
    fn a_full_disk_says_so_and_leaves_the_old_files_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        save_step(folder.path(), 10).unwrap();
        let before = files(folder.path());
        // Creating is operation 0, the first block of the file is 1.
        let (result, _) = fault::with(Fault::DiskFull, 2, || save_step(folder.path(), 20));
        let text = result.unwrap_err().to_string();
        assert!(
            text.starts_with("writing failed: no storage space"),
            "{text}"
        );
        assert!(text.contains("step-0000000020.safetensors"), "{text}");
        assert_eq!(files(folder.path()), before);
    }

    #[test]
    fn only_our_own_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        save_step(folder.path(), 10).unwrap();
        let mine = folder.path().join(FOLDER).join("notes.txt");
        fs::write(&mine, "keep").unwrap();
        for step in [20, 30] {
            save_step(folder.path(), step).unwrap();
        }
        assert!(mine.is_file());
        assert_eq!(files(folder.path()).len(), 4);
    }
}
