//! Published face sets as their authors lay them out on disk. None is fetched: each is under its own licence.
//!
//! [`LAYOUTS`] lists them; `NAME:PATH[,PART]` opens one. Sets with one folder a person (LFW, VGGFace2's `train` and `test`) are
//! `folder:PATH` as they are.

pub mod action_units;
pub mod affectnet;
pub mod aflw2000;
pub mod celeba;
pub mod cofw;
mod crops;
pub mod mat;
pub mod pts;
pub mod w300;
pub mod wflw;
pub mod yale_b;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use crops::{FaceCrops, MARGIN};

use crate::decode::EXTENSIONS;
use crate::labels::natural_cmp;
use crate::{Dataset, Error, Result};

/// A published set.
#[derive(Debug)]
pub struct Layout {
    /// Its name in a specification.
    pub name: &'static str,
    /// How to write it.
    pub spec: &'static str,
    /// Its parts; empty where it has none.
    pub parts: &'static [&'static str],
    /// What it is.
    pub about: &'static str,
    /// What has to lie under PATH.
    pub needs: &'static str,
    open: Open,
}

type Open = fn(&Path, Option<&str>) -> Result<Arc<dyn Dataset>>;

impl PartialEq for Layout {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Layout {
    /// Opens the set under `root`, or one of its parts.
    ///
    /// # Errors
    /// Names file and record of what is missing or malformed.
    pub fn open(&self, root: &Path, part: Option<&str>) -> Result<Arc<dyn Dataset>> {
        (self.open)(root, part)
    }
}

/// Every layout that is read.
pub static LAYOUTS: [Layout; 10] = [
    Layout {
        name: "celeba",
        spec: "celeba:PATH[,train|validation|test]",
        parts: &celeba::PARTS,
        about: "CelebA: photographs with forty attributes, identities and parts",
        needs: "list_attr_celeba.txt, list_eval_partition.txt, img_align_celeba; identity_CelebA.txt if at hand",
        open: |root, part| Ok(Arc::new(celeba::open(root, part)?)),
    },
    Layout {
        name: "yale-b",
        spec: "yale-b:PATH",
        parts: &[],
        about: "Extended Yale B, cropped: 38 people under 64 lights",
        needs: "yaleB01/yaleB01_P00A+000E+00.pgm and so on",
        open: |root, _| Ok(Arc::new(yale_b::open(root)?)),
    },
    Layout {
        name: "300w",
        spec: "300w:PATH[,train|common|challenging|full|test]",
        parts: &w300::PARTS,
        about: "300-W: 68 landmarks on photographs",
        needs: "afw, helen, lfpw, ibug (or 300W for test), with .pts files",
        open: |root, part| Ok(Arc::new(w300::open(root, part)?)),
    },
    Layout {
        name: "wflw",
        spec: "wflw:PATH[,train|test]",
        parts: &wflw::PARTS,
        about: "WFLW: 98 landmarks and six attributes on photographs",
        needs: "WFLW_annotations and WFLW_images",
        open: |root, part| Ok(Arc::new(wflw::open(root, part)?)),
    },
    Layout {
        name: "cofw",
        spec: "cofw:PATH[,train|test]",
        parts: &cofw::PARTS,
        about: "COFW: 29 landmarks on photographs of faces behind things, each seen or hidden; cargo feature `cofw`",
        needs: "COFW_train_color.mat or COFW_test_color.mat",
        open: |root, part| Ok(Arc::new(cofw::open(root, part)?)),
    },
    Layout {
        name: "aflw2000",
        spec: "aflw2000:PATH",
        parts: &[],
        about: "AFLW2000-3D: 68 points in space and the pose",
        needs: "image00002.jpg, image00002.mat and so on",
        open: |root, _| Ok(Arc::new(aflw2000::open(root, "aflw2000")?)),
    },
    Layout {
        name: "300w-lp",
        spec: "300w-lp:PATH",
        parts: &[],
        about: "300W-LP: 300-W turned to large poses, 68 points and the pose",
        needs: "AFW, HELEN, IBUG, LFPW and their flipped copies, images with .mat files",
        open: |root, _| Ok(Arc::new(aflw2000::open(root, "300w-lp")?)),
    },
    Layout {
        name: "affectnet",
        spec: "affectnet:PATH[,training|validation]",
        parts: &affectnet::PARTS,
        about: "AffectNet: eight expressions, valence and arousal of photographs",
        needs: "training.csv or validation.csv, Manually_Annotated_Images",
        open: |root, part| Ok(Arc::new(affectnet::open(root, part)?)),
    },
    Layout {
        name: "disfa",
        spec: "disfa:PATH",
        parts: &[],
        about: "DISFA: intensities of twelve action units, frame by frame",
        needs: "ActionUnit_Labels/SN001/SN001_au1.txt, Images/SN001/1.jpg and so on",
        open: |root, _| Ok(Arc::new(action_units::open_disfa(root)?)),
    },
    Layout {
        name: "bp4d",
        spec: "bp4d:PATH[,train|development]",
        parts: &action_units::FERA_2015,
        about: "BP4D: intensities of five action units, frame by frame; FERA 2015's parts",
        needs: "AU-Intensity-Codes3.0/AU06/F001_T1_AU06.csv, Images/F001/T1/2440.jpg and so on",
        open: |root, part| Ok(Arc::new(action_units::open_bp4d(root, part)?)),
    },
];

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

/// Names in a folder in natural order, hidden ones left out.
///
/// # Errors
/// When it cannot be listed, or a name is not UTF-8.
fn names_in(folder: &Path) -> Result<Vec<String>> {
    let refused = |e| Error::io("cannot list", folder, e);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(refused)? {
        let entry = entry.map_err(refused)?;
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| Error::format("expected file names in UTF-8").at(&entry.path()))?;
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort_by(|a, b| natural_cmp(a, b));
    Ok(names)
}

/// The name of the image that lies beside an annotation and is called like it.
///
/// # Errors
/// When there is none.
fn image_beside(annotation: &Path) -> Result<String> {
    let named = |extension: &&str| annotation.with_extension(extension);
    let found = EXTENSIONS.iter().map(named).find(|path| path.is_file());
    found
        .as_deref()
        .and_then(Path::file_name)
        .map(|name| name.to_string_lossy().into_owned())
        .ok_or_else(|| Error::missing("no image of this name beside it").at(annotation))
}
