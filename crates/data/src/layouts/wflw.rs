//! WFLW: faces in the wild with 98 landmarks, a box and six attributes a line.
//!
//! Follows Wu, Qian, Yang, Wang, Cai and Zhou, "Look at Boundary", CVPR 2018. A line of the lists is 196 coordinates (x then y of
//! each point), the box as left, top, right, bottom, six flags and the image's path below `WFLW_images`. A photograph with
//! several faces stands on several lines, and is as many samples. Coordinates are taken as they are.

use std::path::Path;

use super::crops::{Face, FaceCrops};
use super::{find, read_list};
use crate::folder::Folder;
use crate::{Column, Error, ErrorKind, Labels, Result};

/// The two lists.
pub const PARTS: [&str; 2] = ["train", "test"];

/// The flags of a line, in order; a label `factor.<name>` with the classes `no` and `yes` each.
pub const ATTRIBUTES: [&str; 6] = [
    "pose",
    "expression",
    "illumination",
    "makeup",
    "occlusion",
    "blur",
];

/// Landmarks of a face.
const POINTS: usize = 98;

/// Opens a part of WFLW, `train` where none is named. Labels: `landmarks` (98, 2) and the [`ATTRIBUTES`].
///
/// # Errors
/// Names list and line: another number of fields, a coordinate that is not a finite number, a flag other than 0 and 1, an empty
/// box, an image that is not there.
pub fn open(root: &Path, part: Option<&str>) -> Result<FaceCrops> {
    let part = part.unwrap_or(PARTS[0]);
    let name = format!("list_98pt_rect_attr_train_test/list_98pt_rect_attr_{part}.txt");
    let list = find(
        root,
        &[
            &format!("WFLW_annotations/{name}"),
            &name,
            &format!("list_98pt_rect_attr_{part}.txt"),
        ],
    )?;
    let images = find(root, &["WFLW_images"])?;
    let text = read_list(&list)?;
    let (mut ids, mut lines, mut faces) = (Vec::new(), Vec::new(), Vec::new());
    let mut flags = vec![Vec::new(); ATTRIBUTES.len()];
    for (line, number) in text
        .lines()
        .zip(1u64..)
        .filter(|(line, _)| !line.trim().is_empty())
    {
        let wrong = |message: String| {
            Error::format(message)
                .at(&list)
                .record(format!("line {number}"))
        };
        let fields: Vec<&str> = line.split_whitespace().collect();
        let expected = 2 * POINTS + 4 + ATTRIBUTES.len() + 1;
        if fields.len() != expected {
            return Err(wrong(format!(
                "expected {expected} fields, found {}",
                fields.len()
            )));
        }
        let (numbers, rest) = fields.split_at(2 * POINTS + 4);
        let numbers = numbers
            .iter()
            .map(|field| {
                let value = field.parse::<f32>().ok().filter(|value| value.is_finite());
                value.ok_or_else(|| wrong(format!("expected a finite number, found {field:?}")))
            })
            .collect::<Result<Vec<f32>>>()?;
        for (column, field) in flags.iter_mut().zip(rest) {
            column.push(match *field {
                "0" => 0,
                "1" => 1,
                _ => return Err(wrong(format!("expected a flag of 0 or 1, found {field:?}"))),
            });
        }
        let id = rest[ATTRIBUTES.len()];
        if id.starts_with(['/', '\\']) || id.split(['/', '\\']).any(|part| part == "..") {
            return Err(wrong(format!(
                "expected a path below WFLW_images, found {id:?}"
            )));
        }
        let (points, bounds) = numbers.split_at(2 * POINTS);
        faces.push(Face {
            bounds: std::array::from_fn(|i| bounds[i]),
            points: points.chunks(2).map(<[f32]>::to_vec).collect(),
        });
        ids.push(id.to_string());
        lines.push(number);
    }
    if ids.is_empty() {
        return Err(Error::new(ErrorKind::Empty("no record".into())).at(&list));
    }
    let mut labels = Labels::new(ids.len());
    for (name, codes) in ATTRIBUTES.iter().zip(flags) {
        let names = vec!["no".to_string(), "yes".to_string()];
        labels.insert(
            format!("factor.{name}"),
            Column::Categorical { codes, names },
        )?;
    }
    FaceCrops::new(
        Folder::listed("wflw", &list, &images, ids, lines, labels)?,
        &faces,
    )
}
