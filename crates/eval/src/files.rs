//! Reading whole files within a bound, and writing them so that no half-written file is left under the final name.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Largest file that is read whole: far above any embedding table, and below what would exhaust a machine by a typo
/// or a sparse file.
const MAX_BYTES: u64 = 16 << 30;

pub(crate) fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let run = || -> Result<Vec<u8>> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(Error::format("expected a file, found a folder or a device"));
        }
        if metadata.len() > MAX_BYTES {
            return Err(Error::too_large(format!(
                "{} bytes; files above {MAX_BYTES} bytes are refused",
                metadata.len()
            )));
        }
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    run().map_err(|e| e.at(path))
}

pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = Path::new(&name);
    let run = || -> std::io::Result<()> {
        let mut file = File::create(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(temporary, path)
    };
    run().map_err(|e| {
        // The first error is the one to report; a leftover temporary file is only untidy.
        let _ = fs::remove_file(temporary);
        Error::from(e).at(path)
    })
}
