//! Tables on disk used where they lie: the operating system brings in the pages that are read and drops them again.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use crate::error::{Error, Result};

/// Files of at least this size are mapped by [`Embeddings::read`](crate::Embeddings::read).
pub(crate) const MAP_FROM: u64 = 64 << 20;

/// Numbers in memory, or in a mapped file.
#[derive(Debug, Clone)]
pub(crate) enum Values {
    Owned(Vec<f32>),
    Mapped(MappedFloats),
}

impl Values {
    pub(crate) fn as_slice(&self) -> &[f32] {
        match self {
            Self::Owned(values) => values,
            Self::Mapped(values) => values.as_slice(),
        }
    }
}

impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

/// A run of little-endian f32 in a mapped file, checked to be aligned.
#[derive(Debug, Clone)]
pub(crate) struct MappedFloats {
    map: Arc<Mmap>,
    offset: usize,
    bytes: usize,
}

impl MappedFloats {
    /// `part` must lie inside `map`. `None` where the machine is big-endian or the part is not aligned: it has to be
    /// copied then.
    pub(crate) fn new(map: &Arc<Mmap>, part: &[u8]) -> Option<Self> {
        let offset = (part.as_ptr() as usize).checked_sub(map.as_ptr() as usize)?;
        let out = Self {
            map: map.clone(),
            offset,
            bytes: part.len(),
        };
        let inside = map.get(offset..offset.checked_add(part.len())?)?;
        let aligned = inside.as_ptr().cast::<f32>().is_aligned() && part.len().is_multiple_of(4);
        (cfg!(target_endian = "little") && aligned).then_some(out)
    }

    fn as_slice(&self) -> &[f32] {
        let bytes = &self.map[self.offset..self.offset + self.bytes];
        // SAFETY: every bit pattern is an f32, so any four bytes may be read as one; `align_to` itself puts what is not
        // aligned into the outer parts, which are empty as `new` has checked.
        let (before, floats, after) = unsafe { bytes.align_to::<f32>() };
        debug_assert!(before.is_empty() && after.is_empty());
        floats
    }
}

/// Maps a file for reading.
///
/// Somebody who overwrites the file while it is judged changes the figures, and one who shortens it ends the program
/// (SIGBUS); that is the nature of a mapping.
pub(crate) fn map_file(path: &Path) -> Result<Arc<Mmap>> {
    let run = || -> Result<Arc<Mmap>> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(Error::format("expected a file, found a folder or a device"));
        }
        // SAFETY: the map is read-only and private to this process; it is read as bytes and as f32, for which every bit
        // pattern is a value, so a change of the file by others cannot break an invariant of this program's memory.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Arc::new(map))
    };
    run().map_err(|e| e.at(path))
}

/// Whether a file is large enough to be mapped without being asked.
pub(crate) fn is_large(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.len() >= MAP_FROM)
}
