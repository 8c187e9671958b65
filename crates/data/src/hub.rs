//! Parquet image sets of the Hugging Face hub, by way of the hub client's own cache.
//!
//! The hub keeps a parquet copy of a data set at the revision `refs/convert/parquet`; [`open_hub`] has it fetched by
//! candle-datasets and reads the files out of the cache (`$HF_HUB_CACHE`, else `$HF_HOME/hub`, else
//! `~/.cache/huggingface/hub`), so that it is shared with other programs. A copy that is in the cache already is used
//! when the hub cannot be reached or `HF_HUB_OFFLINE=1` says not to try; it may then be older than the hub's.

use std::path::{Path, PathBuf};

use crate::error::one_line;
use crate::parquet_images::{ParquetImages, parquet_files};
use crate::{Error, ErrorKind, Result};

/// The revisions that are looked for in the cache, the first that holds parquet files wins.
const REVISIONS: [&str; 2] = ["refs/convert/parquet", "main"];

/// Opens the data set `OWNER/NAME` of the hub, all its files or those of one split (`train`).
///
/// # Errors
/// When the hub cannot be reached (or must not be) and the cache holds no parquet file of it, there is none of this
/// split, or a file cannot be read as images.
pub fn open_hub(repo: &str, split: Option<&str>) -> Result<ParquetImages> {
    let cache = hf_hub::resolve_cache_dir();
    let offline =
        std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
    if offline {
        return open_cached(&cache, repo, split);
    }
    let fetched = hf_hub::HFClient::builder()
        // Without a network the answer should be quick.
        .retry_max_attempts(2)
        .build_sync()
        .map_err(candle_datasets::hub::Error::from)
        .and_then(|client| candle_datasets::hub::from_hub(&client, repo.to_string()));
    match fetched {
        Ok(_) => open_cached(&cache, repo, split),
        Err(error) if cached_files(&cache, repo).is_err() => {
            Err(Error::new(ErrorKind::Fetch(format!(
                "cannot fetch {repo} from the hub ({}), and it is not in {}",
                one_line(&error.to_string()),
                cache.display()
            ))))
        }
        Err(_) => open_cached(&cache, repo, split),
    }
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
