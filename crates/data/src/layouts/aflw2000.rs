//! AFLW2000-3D and 300W-LP: 68 points in space and the pose, a MATLAB file beside each image.
//!
//! Follows Zhu, Lei, Liu, Shi and Li, "Face Alignment Across Large Poses", CVPR 2016. `pt3d_68` (3 x 68) is x and y in pixels of
//! the image, taken as they are, and depth in the same unit; where it is missing, as in 300W-LP, `pt2d` (2 x 68) gives the
//! landmarks alone. `Pose_Para` starts with pitch, yaw and roll in radians. The box is the tightest around the 68 points.

use std::path::Path;

use rayon::prelude::*;

use super::crops::{Face, FaceCrops};
use super::{image_beside, mat, names_in};
use crate::folder::Folder;
use crate::{Column, Error, ErrorKind, Labels, Result};

/// The three ranges of |yaw|, in degrees, by which results are reported; the last takes what lies beyond 90 as well.
pub const YAW_BINS: [&str; 3] = ["0-30", "30-60", "60-90"];

/// Name of the array with the pose.
pub(crate) const POSE: &str = "Pose_Para";

/// Landmarks of a face.
const POINTS: usize = 68;

/// Opens the images of `root` and, for 300W-LP, of its folders. Labels: `landmarks` (68, 2), `points3d` (68, 3) where all files have
/// them, `factor.pitch`, `factor.yaw` and `factor.roll` in degrees, `yaw_bin` (one of [`YAW_BINS`]).
///
/// # Errors
/// Names the file: a MATLAB file that cannot be read, without points or pose, with another number of points than 68 or a number that
/// is not finite, or without an image of its name; nothing there; only some files with points in space.
pub fn open(root: &Path, name: &str) -> Result<FaceCrops> {
    let mut files = Vec::new();
    for entry in names_in(root)? {
        let folder = root.join(&entry);
        if entry.ends_with(".mat") {
            files.push(entry);
        } else if folder.is_dir() && !["landmarks", "Code"].contains(&entry.as_str()) {
            let inner = names_in(&folder)?
                .into_iter()
                .filter(|file| file.ends_with(".mat"));
            files.extend(inner.map(|file| format!("{entry}/{file}")));
        }
    }
    if files.is_empty() {
        return Err(Error::new(ErrorKind::Empty(
            "no .mat file with an image beside it".into(),
        ))
        .at(root));
    }
    let read: Vec<Result<(String, Face, [f32; 3])>> =
        files.par_iter().map(|file| read(root, file)).collect();
    let (mut ids, mut faces, mut poses) = (Vec::new(), Vec::new(), [const { Vec::new() }; 3]);
    for (sample, file) in read.into_iter().zip(&files) {
        let (id, face, pose) = sample?;
        let depth = |face: &Face| face.points.first().map(Vec::len);
        if faces
            .first()
            .is_some_and(|first| depth(first) != depth(&face))
        {
            return Err(
                Error::format("expected pt3d_68 in all files or in none").at(&root.join(file))
            );
        }
        ids.push(id);
        faces.push(face);
        for (column, angle) in poses.iter_mut().zip(pose) {
            column.push(angle);
        }
    }
    let mut labels = Labels::new(ids.len());
    let bin = |yaw: &f32| match yaw.abs() {
        yaw if yaw <= 30.0 => 0,
        yaw if yaw <= 60.0 => 1,
        _ => 2,
    };
    labels.insert(
        "yaw_bin",
        Column::Categorical {
            codes: poses[1].iter().map(bin).collect(),
            names: YAW_BINS.iter().map(ToString::to_string).collect(),
        },
    )?;
    for (angle, column) in ["pitch", "yaw", "roll"].iter().zip(poses) {
        labels.insert(format!("factor.{angle}"), Column::Continuous(column))?;
    }
    FaceCrops::new(Folder::scanned(name, root, ids, labels)?, &faces)
}

fn read(root: &Path, file: &str) -> Result<(String, Face, [f32; 3])> {
    let path = root.join(file);
    let bytes = std::fs::read(&path).map_err(|e| Error::io("cannot read", &path, e))?;
    let (face, pose) = face(&bytes).map_err(|e| e.at(&path))?;
    let image = image_beside(&path)?;
    let id = match file.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{image}"),
        None => image,
    };
    Ok((id, face, pose))
}

/// Points and pose (pitch, yaw, roll in degrees) of one file.
fn face(bytes: &[u8]) -> Result<(Face, [f32; 3])> {
    let arrays = mat::parse_mat(bytes)?;
    let rows = match (arrays.get("pt3d_68"), arrays.get("pt2d")) {
        (Some(points), _) => points.rows(3).map_err(|e| e.record("pt3d_68"))?,
        (None, Some(points)) => points.rows(2).map_err(|e| e.record("pt2d"))?,
        (None, None) => return Err(Error::missing("expected an array pt3d_68 or pt2d")),
    };
    let count = rows.first().map_or(0, Vec::len);
    if count != POINTS {
        return Err(Error::format(format!(
            "expected {POINTS} points, found {count}"
        )));
    }
    let finite = |value: f64| {
        let value = value as f32;
        let told = || Error::format(format!("expected finite numbers, found {value}"));
        value.is_finite().then_some(value).ok_or_else(told)
    };
    let points = (0..POINTS)
        .map(|i| rows.iter().map(|row| finite(row[i])).collect())
        .collect::<Result<Vec<Vec<f32>>>>()?;
    let pose = arrays.get(POSE).map_or(&[][..], |array| &array.values);
    let [pitch, yaw, roll, ..] = pose else {
        return Err(Error::missing(
            "expected an array Pose_Para of at least three numbers",
        ));
    };
    let angles = [finite(*pitch)?, finite(*yaw)?, finite(*roll)?];
    Ok((Face::around(points), angles.map(f32::to_degrees)))
}
