//! `metrics.jsonl`: one JSON object per logged step, cut back to the checkpoint when a run is resumed.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind as IoKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::files;

/// Name of the file in the run's folder.
pub(crate) const METRICS_FILE: &str = "metrics.jsonl";

/// Names that the engine writes itself.
const RESERVED: [&str; 6] = ["step", "epoch", "loss", "lr", "images_per_s", "grad_norm"];

/// The open log.
pub(crate) struct MetricsLog {
    file: File,
    path: PathBuf,
}

impl MetricsLog {
    /// Opens the log of a run that has `done` steps behind it: keeps the entries up to there, drops the rest
    /// (steps that were lost in a crash and will be done again) and anything that is not an entry.
    pub(crate) fn open(run_dir: &Path, done: u64) -> Result<Self> {
        let path = run_dir.join(METRICS_FILE);
        let old = match files::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), crate::ErrorKind::Io { source, .. } if source.kind() == IoKind::NotFound) => {
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let kept: Vec<u8> = old
            .split_inclusive(|&byte| byte == b'\n')
            .filter(|line| line.ends_with(b"\n") && step_of(line).is_some_and(|step| step <= done))
            .flatten()
            .copied()
            .collect();
        if kept != old {
            files::write_atomically(&path, |out| {
                out.write_all(&kept)
                    .map_err(|error| Error::io("writing", &path, error))
            })?;
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|error| Error::io("creating", &path, error))?;
        Ok(Self { file, path })
    }

    pub(crate) fn write(&mut self, entry: &Entry) -> Result<()> {
        let mut line = Value::Object(entry.json()).to_string();
        line.push('\n');
        self.file
            .write_all(line.as_bytes())
            .map_err(|error| Error::io("writing", &self.path, error))
    }

    /// Makes what is written durable; called before a checkpoint, so that a checkpoint never outruns its log.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(|error| Error::io("syncing", &self.path, error))
    }
}

fn step_of(line: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(line)
        .ok()?
        .get("step")?
        .as_u64()
}

/// One entry of the log.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub step: u64,
    pub epoch: Option<u64>,
    pub lr: f64,
    pub images_per_s: f64,
    pub means: Means,
}

impl Entry {
    /// Numbers that JSON has no word for (NaN, infinity) become null.
    fn json(&self) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("step".into(), self.step.into());
        if let Some(epoch) = self.epoch {
            map.insert("epoch".into(), epoch.into());
        }
        map.insert("lr".into(), self.lr.into());
        map.insert("images_per_s".into(), self.images_per_s.into());
        for (name, value) in self.means.iter() {
            map.insert(name.to_string(), value.into());
        }
        map
    }

    /// All scalars, for the event file.
    pub(crate) fn scalars(&self) -> impl Iterator<Item = (&str, f64)> {
        [("lr", self.lr), ("images_per_s", self.images_per_s)]
            .into_iter()
            .chain(self.means.iter())
    }
}

/// Means of the loss, the gradient norm and the step's own metrics since the last entry.
///
/// They are part of the checkpoint, so that an entry whose steps lie on both sides of an interruption comes out
/// the same. Sums are kept as bits: decimal text would round them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Means(BTreeMap<String, (u64, u64)>);

impl Means {
    pub(crate) fn add(&mut self, name: &str, value: f64) {
        let (sum, count) = self.0.entry(name.to_string()).or_insert((0, 0));
        *sum = (f64::from_bits(*sum) + value).to_bits();
        *count += 1;
    }

    /// Adds a metric of the user's.
    pub(crate) fn add_metric(&mut self, name: &str, value: f64) -> Result<()> {
        if RESERVED.contains(&name) {
            return Err(Error::config("a metric has a name that the log uses itself").of(name));
        }
        self.add(name, value);
        Ok(())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0
            .iter()
            .map(|(name, &(sum, count))| (name.as_str(), f64::from_bits(sum) / count as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(step: u64) -> Entry {
        let mut means = Means::default();
        means.add("loss", 1.);
        means.add("loss", 2.);
        means.add_metric("active", f64::NAN).unwrap();
        Entry {
            step,
            epoch: Some(1),
            lr: 0.1,
            images_per_s: 10.,
            means,
        }
    }

    #[test]
    fn resuming_drops_later_and_broken_lines_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = MetricsLog::open(folder.path(), 0).unwrap();
        for step in [10, 20, 30] {
            log.write(&entry(step)).unwrap();
        }
        drop(log);
        let path = folder.path().join(METRICS_FILE);
        let mut text = std::fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap();
        assert_eq!(
            first,
            r#"{"active":null,"epoch":1,"images_per_s":10.0,"loss":1.5,"lr":0.1,"step":10}"#
        );
        text.push_str("{\"step\":");
        std::fs::write(&path, &text).unwrap();
        let mut log = MetricsLog::open(folder.path(), 20).unwrap();
        log.write(&entry(25)).unwrap();
        log.sync().unwrap();
        let steps: Vec<u64> = std::fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(|line| step_of(line.as_bytes()).unwrap())
            .collect();
        assert_eq!(steps, [10, 20, 25]);
    }

    #[test]
    fn reserved_names_are_refused() {
        let error = Means::default().add_metric("loss", 1.).unwrap_err();
        assert_eq!(error.record(), Some("loss"));
    }
}
