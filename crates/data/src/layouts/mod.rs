//! Published face sets as their authors lay them out on disk. None is fetched: each is under its own licence.
//!
//! | specification | what has to lie under PATH |
//! |---|---|
//! | `celeba:PATH[,train\|validation\|test]` | `img_align_celeba/*.jpg`, `list_attr_celeba.txt`, `list_eval_partition.txt`, `identity_CelebA.txt` |
//! | `yale-b:PATH` | `yaleB01/yaleB01_P00A+000E+00.pgm` and so on (Extended Yale B, cropped) |
//!
//! Sets with one folder a person (LFW, VGGFace2's `train` and `test`) are `folder:PATH` as they are.

pub mod celeba;
pub mod yale_b;

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The first of `names` that is there below `root`, as a file or a folder.
///
/// # Errors
/// When none is: the error lists all.
fn find(root: &Path, names: &[&str]) -> Result<PathBuf> {
    if !root.is_dir() {
        return Err(Error::missing("no such folder").at(root));
    }
    names
        .iter()
        .map(|name| root.join(name))
        .find(|path| path.exists())
        .ok_or_else(|| Error::missing(format!("expected {}", names.join(" or "))).at(root))
}

/// The text of a list, whole: the lists of these sets are a few megabytes.
///
/// # Errors
/// When it cannot be read, is larger than 256 MiB or is not UTF-8.
fn read_list(path: &Path) -> Result<String> {
    const MAX: u64 = 1 << 28;
    let size = std::fs::metadata(path)
        .map_err(|e| Error::io("cannot read", path, e))?
        .len();
    if size > MAX {
        return Err(
            Error::format(format!("{size} bytes, expected a list of at most {MAX}")).at(path),
        );
    }
    std::fs::read_to_string(path).map_err(|e| Error::io("cannot read", path, e))
}
