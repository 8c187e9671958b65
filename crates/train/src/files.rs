//! Files that are either whole or not there: write to a neighbour, sync, rename.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Length and SHA-256 of what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sum {
    pub bytes: u64,
    pub sha256: String,
}

/// Writes `path` so that a reader finds the old file or the whole new one, whatever happens in between.
///
/// The bytes go to `<path>.tmp` in the same folder, which is synced, renamed over `path`, and its folder
/// synced. On failure the temporary file is removed. A process killed in between leaves at most the
/// temporary file, which the next write of the same path replaces.
pub(crate) fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<Sum> {
    let temporary = temporary_name(path);
    let result = write_and_sync(&temporary, write).and_then(|sum| {
        step("renaming", path)?;
        fs::rename(&temporary, path).map_err(|error| Error::io("renaming", path, error))?;
        sync_folder(parent(path))?;
        Ok(sum)
    });
    if result.is_err() && step("removing", &temporary).is_ok() {
        // The first error is the one to report; a leftover is replaced by the next write.
        let _ = fs::remove_file(&temporary);
    }
    // The reader wants the name it asked for, not the temporary one.
    result
}

fn write_and_sync(
    temporary: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<Sum> {
    step("creating", temporary)?;
    let file = File::create(temporary).map_err(|error| Error::io("creating", temporary, error))?;
    let mut out = BufWriter::with_capacity(
        1 << 16,
        Summed {
            file,
            path: temporary,
            hash: Sha256::new(),
            bytes: 0,
        },
    );
    write(&mut out).map_err(|error| error.at(temporary))?;
    let summed = out
        .into_inner()
        .map_err(|error| Error::io("writing", temporary, error.into_error()))?;
    step("syncing", temporary)?;
    summed
        .file
        .sync_all()
        .map_err(|error| Error::io("syncing", temporary, error))?;
    Ok(Sum {
        bytes: summed.bytes,
        sha256: hex(&summed.hash.finalize()),
    })
}

/// A writer that counts and hashes what passes.
struct Summed<'a> {
    file: File,
    path: &'a Path,
    hash: Sha256,
    bytes: u64,
}

impl Write for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        fault::step("writing", self.path)?;
        let count = self.file.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or(bytes));
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Creates a folder with its parents.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    step("creating", path)?;
    fs::create_dir_all(path).map_err(|error| Error::io("creating the folder", path, error))
}

/// Removes a file; a failure is ignored, because a leftover does no harm.
pub(crate) fn remove(path: &Path) {
    if step("removing", path).is_ok() {
        let _ = fs::remove_file(path);
    }
}

/// Makes a rename in `folder` durable. Only Unix lets a folder be synced; elsewhere the file system decides.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    step("syncing", folder)?;
    #[cfg(unix)]
    File::open(folder)
        .and_then(|file| file.sync_all())
        .map_err(|error| Error::io("syncing", folder, error))?;
    Ok(())
}

/// Length and SHA-256 of bytes in memory.
pub(crate) fn sum(bytes: &[u8]) -> Sum {
    Sum {
        bytes: bytes.len() as u64,
        sha256: hex(&Sha256::digest(bytes)),
    }
}

/// The whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| Error::io("reading", path, error))
}

pub(crate) fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn step(doing: &'static str, path: &Path) -> Result<()> {
    fault::step(doing, path).map_err(|error| Error::io(doing, path, error))
}

/// A place where tests make file operations fail; outside tests it is empty and compiles to nothing.
pub(crate) mod fault {
    #[cfg(not(test))]
    use std::path::Path;

    #[cfg(not(test))]
    pub(crate) fn step(_doing: &'static str, _path: &Path) -> std::io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    pub(crate) use active::*;

    #[cfg(test)]
    mod active {
        use std::cell::Cell;
        use std::path::Path;

        /// What happens when the countdown of operations ends.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Fault {
            /// That operation fails as on a full disk; later ones work.
            DiskFull,
            /// That operation and all later ones fail: the process is dead.
            Killed,
        }

        #[derive(Clone, Copy)]
        enum Plan {
            None,
            In(Fault, u64),
            Dead,
        }

        thread_local! {
            static PLAN: Cell<Plan> = const { Cell::new(Plan::None) };
        }

        /// Runs `body` with a fault at operation number `after`; says whether the fault was reached.
        pub(crate) fn with<T>(fault: Fault, after: u64, body: impl FnOnce() -> T) -> (T, bool) {
            PLAN.set(Plan::In(fault, after));
            let value = body();
            (value, !matches!(PLAN.replace(Plan::None), Plan::In(..)))
        }

        pub(crate) fn step(_doing: &'static str, _path: &Path) -> std::io::Result<()> {
            let (next, result) = match PLAN.get() {
                Plan::None => (Plan::None, Ok(())),
                Plan::In(Fault::DiskFull, 0) => {
                    (Plan::None, Err(std::io::ErrorKind::StorageFull.into()))
                }
                Plan::In(Fault::Killed, 0) | Plan::Dead => {
                    (Plan::Dead, Err(std::io::Error::other("killed")))
                }
                Plan::In(fault, left) => (Plan::In(fault, left - 1), Ok(())),
            };
            PLAN.set(next);
            result
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fault::{self, Fault};
    use super::*;

    fn write(path: &Path, text: &str) -> Result<Sum> {
        write_atomically(path, |out| {
            out.write_all(text.as_bytes())
                .map_err(|e| Error::io("writing", path, e))
        })
    }

    #[test]
    fn a_fault_at_any_operation_leaves_old_or_new_and_no_litter() {
        for kind in [Fault::DiskFull, Fault::Killed] {
            let mut after = 0;
            loop {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("file");
                write(&path, "old").unwrap();
                let (result, reached) = fault::with(kind, after, || write(&path, "newer"));
                let text = fs::read_to_string(&path).unwrap();
                if !reached {
                    assert!(result.is_ok());
                    assert_eq!(text, "newer");
                    break;
                }
                assert!(text == "old" || text == "newer", "{text}");
                if kind == Fault::DiskFull {
                    assert_eq!(
                        fs::read_dir(folder.path()).unwrap().count(),
                        1,
                        "litter after operation {after}"
                    );
                }
                assert!(result.unwrap_err().path().is_some());
                after += 1;
            }
            assert!(after >= 4, "only {after} operations seen");
        }
    }

    #[test]
    fn sum_is_that_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let written = write(&path, "abc").unwrap();
        assert_eq!(written, sum(&fs::read(&path).unwrap()));
        assert_eq!(
            written.sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_really_full_device_is_a_clear_error() {
        // /dev/full accepts an open and refuses every byte, as a full disk does.
        let error = write_and_sync(Path::new("/dev/full"), |out| {
            out.write_all(&[0; 1 << 20])
                .map_err(|e| Error::io("writing", Path::new("/dev/full"), e))
        })
        .unwrap_err();
        assert!(
            error.to_string().contains("No space left on device"),
            "{error}"
        );
        assert!(error.to_string().contains("/dev/full"), "{error}");
    }
}
