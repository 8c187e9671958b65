//! 300-W: photographs from the web with 68 landmarks, a `.pts` file beside each image.
//!
//! Follows Sagonas, Tzimiropoulos, Zafeiriou and Pantic, "300 Faces in-the-Wild Challenge", 2013, and the parts in use since:
//!
//! | part | folders below PATH |
//! |---|---|
//! | `train` | `afw`, `helen/trainset`, `lfpw/trainset` |
//! | `common` | `helen/testset`, `lfpw/testset` |
//! | `challenging` | `ibug` |
//! | `full` | common and challenging |
//! | `test` | `300W/01_Indoor`, `300W/02_Outdoor` |
//!
//! A folder with none of these but `.pts` files of its own, as `cargo xtask data render --layout 300w` writes it, is read as
//! it is.
//!
//! The usual box of a face is the tightest around its landmarks; images are [cut](super::FaceCrops) by it.

use std::path::Path;

use super::crops::{Face, FaceCrops};
use super::{image_beside, names_in, pts, read_list};
use crate::folder::Folder;
use crate::{Column, Error, ErrorKind, Labels, Result};

/// The parts; without one, all but `test`.
pub const PARTS: [&str; 5] = ["train", "common", "challenging", "full", "test"];

/// Landmarks of a face.
const POINTS: usize = 68;

const TRAIN: [&str; 3] = ["afw", "helen/trainset", "lfpw/trainset"];
const COMMON: [&str; 2] = ["helen/testset", "lfpw/testset"];
const CHALLENGING: [&str; 1] = ["ibug"];
const TEST: [&str; 2] = ["300W/01_Indoor", "300W/02_Outdoor"];

/// Opens 300-W or one of its [`PARTS`]. Labels: `landmarks` (68, 2), and `subset`, the folder, where those of 300-W
/// are read.
///
/// # Errors
/// Names the file: a missing folder, a `.pts` that cannot be read or has another number of points than 68, one without an image
/// of its name, a folder without any.
pub fn open(root: &Path, part: Option<&str>) -> Result<FaceCrops> {
    let folders: Vec<&str> = match part {
        None => [&TRAIN[..], &COMMON, &CHALLENGING].concat(),
        Some("train") => TRAIN.to_vec(),
        Some("common") => COMMON.to_vec(),
        Some("challenging") => CHALLENGING.to_vec(),
        Some("full") => [&COMMON[..], &CHALLENGING].concat(),
        Some("test") => TEST.to_vec(),
        Some(other) => {
            return Err(Error::config(format!(
                "unknown part {other:?}: expected one of {}",
                PARTS.join(", ")
            )));
        }
    };
    let usual = part.is_some() || folders.iter().any(|name| root.join(name).is_dir());
    if !usual {
        let (ids, faces): (Vec<String>, Vec<Face>) = marked_up(root)?.into_iter().unzip();
        let labels = Labels::new(ids.len());
        return FaceCrops::new(Folder::scanned("300w", root, ids, labels)?, &faces);
    }
    let (mut ids, mut faces, mut subsets) = (Vec::new(), Vec::new(), Vec::new());
    for name in folders {
        for (image, face) in marked_up(&root.join(name))? {
            ids.push(format!("{name}/{image}"));
            faces.push(face);
            subsets.push(name);
        }
    }
    let mut labels = Labels::new(ids.len());
    labels.insert("subset", Column::from_names(&subsets))?;
    FaceCrops::new(Folder::scanned("300w", root, ids, labels)?, &faces)
}

/// Names and landmarks of the images in a folder that have a `.pts` file beside them.
fn marked_up(folder: &Path) -> Result<Vec<(String, Face)>> {
    if !folder.is_dir() {
        return Err(Error::missing("no such folder of 300-W").at(folder));
    }
    let mut found = Vec::new();
    for file in names_in(folder)?
        .iter()
        .filter(|file| file.ends_with(".pts"))
    {
        let path = folder.join(file);
        let points = pts::parse_pts(&read_list(&path)?).map_err(|e| e.at(&path))?;
        if points.len() != POINTS {
            return Err(
                Error::format(format!("expected {POINTS} points, found {}", points.len()))
                    .at(&path),
            );
        }
        let face = Face::around(points.into_iter().map(Vec::from).collect());
        found.push((image_beside(&path)?, face));
    }
    if found.is_empty() {
        return Err(Error::new(ErrorKind::Empty("no .pts file".into())).at(folder));
    }
    Ok(found)
}
