//! Parquet image sets of the Hugging Face hub, by way of the hub client's own cache.
//!
//! The hub keeps a parquet copy of a data set at the revision `refs/convert/parquet`; [`open_hub`] has it fetched by
//! hf-hub and candle-datasets (cargo feature `hub`) and reads the files out of the cache, which is shared with other
//! programs. A copy that is in the cache already is used when the hub cannot be reached, `HF_HUB_OFFLINE=1` says not to
//! try, or the build lacks the feature; it may then be older than the hub's, or what another program fetched of it.

use std::path::{Path, PathBuf};

use crate::parquet_images::{ParquetImages, parquet_files};
use crate::{Error, ErrorKind, Result};

/// The revisions that are looked for in the cache, the first that holds parquet files wins.
const REVISIONS: [&str; 2] = ["refs/convert/parquet", "main"];

/// Folder of the hub client's cache: `$HF_HUB_CACHE`, `$HUGGINGFACE_HUB_CACHE`, `$HF_HOME/hub`,
/// `$XDG_CACHE_HOME/huggingface/hub`, else `~/.cache/huggingface/hub`.
///
/// # Errors
/// When none is set and the user has no home folder.
pub fn hub_cache_dir() -> Result<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("HF_HUB_CACHE")
        .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| set("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .or_else(|| dirs::home_dir().map(|home| home.join(".cache/huggingface/hub")))
        .ok_or_else(|| Error::missing("this user has no home folder: set HF_HUB_CACHE"))
}

/// Opens the data set `OWNER/NAME` of the hub, all its files or those of one split (`train`).
///
/// # Errors
/// When the hub cannot be reached (or must not be) and the cache holds no parquet file of it, there is none of this
/// split, or a file cannot be read as images.
pub fn open_hub(repo: &str, split: Option<&str>) -> Result<ParquetImages> {
    let cache = hub_cache_dir()?;
    let offline =
        std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
    let not_fetched = if offline {
        Some("HF_HUB_OFFLINE is set".to_string())
    } else {
        fetch(&cache, repo).err()
    };
    match not_fetched {
        Some(reason) if cached_files(&cache, repo).is_err() => {
            Err(Error::new(ErrorKind::Fetch(format!(
                "{repo} is not in the cache {} and could not be fetched from the hub: {reason}",
                cache.display()
            ))))
        }
        _ => open_cached(&cache, repo, split),
    }
}

/// Brings all parquet files of a data set into the cache; the error says why not.
#[cfg(feature = "hub")]
fn fetch(cache: &Path, repo: &str) -> std::result::Result<(), String> {
    hf_hub::HFClient::builder()
        .cache_dir(cache)
        // Without a network the answer should be quick.
        .retry_max_attempts(2)
        .build_sync()
        .map_err(candle_datasets::hub::Error::from)
        .and_then(|client| candle_datasets::hub::from_hub(&client, repo.to_string()))
        .map(|_| ())
        .map_err(|error| crate::error::one_line(&error.to_string()))
}

#[cfg(not(feature = "hub"))]
fn fetch(_cache: &Path, _repo: &str) -> std::result::Result<(), String> {
    Err("this build lacks the cargo feature `hub`".to_string())
}

/// Opens a data set from a cache folder laid out as the hub client does
/// (`datasets--OWNER--NAME/{refs,snapshots,blobs}`); touches no network.
///
/// # Errors
/// As [`open_hub`].
pub fn open_cached(cache: &Path, repo: &str, split: Option<&str>) -> Result<ParquetImages> {
    let (snapshot, files) = cached_files(cache, repo)?;
    let chosen: Vec<PathBuf> = match split {
        None => files,
        Some(split) => files
            .into_iter()
            .filter(|file| belongs(file.strip_prefix(&snapshot).unwrap_or(file), split))
            .collect(),
    };
    if chosen.is_empty() {
        let message = format!("no parquet file of split {:?}", split.unwrap_or(""));
        return Err(Error::missing(message).at(&snapshot));
    }
    let name = split.map_or_else(
        || format!("hub:{repo}"),
        |split| format!("hub:{repo},{split}"),
    );
    ParquetImages::from_files(&name, chosen)
}

/// Whether a file lies in a folder called as the split (`default/train/0000.parquet`) or its own name starts so
/// (`data/train-00000-of-00002.parquet`).
fn belongs(file: &Path, split: &str) -> bool {
    let in_folder = file
        .parent()
        .is_some_and(|folder| folder.components().any(|part| part.as_os_str() == split));
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let named = name
        .strip_prefix(split)
        .is_some_and(|rest| rest.starts_with(['-', '.', '_']));
    in_folder || named
}

/// Snapshot folder and parquet files of the first revision in the cache that has any.
fn cached_files(cache: &Path, repo: &str) -> Result<(PathBuf, Vec<PathBuf>)> {
    let folder = cache.join(format!("datasets--{}", repo.replace('/', "--")));
    for revision in REVISIONS {
        let Ok(commit) = std::fs::read_to_string(folder.join("refs").join(revision)) else {
            continue;
        };
        let commit = commit.trim();
        // Becomes part of a path.
        if commit.is_empty() || !commit.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(Error::format("expected the hash of a commit")
                .at(&folder.join("refs").join(revision)));
        }
        let snapshot = folder.join("snapshots").join(commit);
        if snapshot.is_dir() {
            let files = parquet_files(&snapshot)?;
            if !files.is_empty() {
                return Ok((snapshot, files));
            }
        }
    }
    Err(Error::missing(format!("the hub's cache holds no parquet files of {repo}")).at(cache))
}
