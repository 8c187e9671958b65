//! AffectNet, manually annotated: expressions, valence and arousal of photographs from the web.
//!
//! Follows the layout of Mollahosseini, Hasani and Mahoor, "AffectNet", 2017: `training.csv` and `validation.csv` with the columns
//! `subDirectory_filePath`, `expression`, `valence`, `arousal` (and the face's box and points, which are not read), images in
//! `Manually_Annotated_Images` or beside the lists. Records 8 to 10 of `expression` (none, uncertain, no face) are left out, as
//! is the custom; -2, the mark for a valence or arousal that is not known, becomes NaN.

use std::path::Path;

use super::find;
use crate::folder::Folder;
use crate::{Column, Error, ErrorKind, Labels, Result, Vectors};

/// The eight expressions, by their number in the lists.
pub const EXPRESSIONS: [&str; 8] = [
    "neutral",
    "happiness",
    "sadness",
    "surprise",
    "fear",
    "disgust",
    "anger",
    "contempt",
];

/// The two lists.
pub const PARTS: [&str; 2] = ["training", "validation"];

/// Opens one part of AffectNet, `training` where none is named. Labels: `expression`, and `valence_arousal` (2) in [-1, 1].
///
/// # Errors
/// Names list and line: a missing column, an expression outside of 0 to 10, a valence or arousal outside of [-1, 1] other than
/// -2, an image that is not there; or no record has a face.
pub fn open(root: &Path, part: Option<&str>) -> Result<Folder> {
    let part = part.unwrap_or(PARTS[0]);
    let list = find(
        root,
        &[
            &format!("{part}.csv"),
            &format!("Manually_Annotated_file_lists/{part}.csv"),
        ],
    )?;
    let images = find(root, &["Manually_Annotated_Images", "."])?;
    read(&list, &images).map_err(|error| error.at(&list))
}

fn read(list: &Path, images: &Path) -> Result<Folder> {
    let wrong = |error: &csv::Error| Error::format(crate::error::one_line(&error.to_string()));
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(list)
        .map_err(|e| wrong(&e))?;
    let header = reader.headers().map_err(|e| wrong(&e))?.clone();
    let column = |name: &str| {
        let at = header
            .iter()
            .position(|found| found.trim_start_matches('\u{feff}') == name);
        at.ok_or_else(|| Error::missing(format!("expected a column {name}")).record("line 1"))
    };
    let columns = [
        column("subDirectory_filePath")?,
        column("expression")?,
        column("valence")?,
        column("arousal")?,
    ];
    let (mut ids, mut lines, mut codes) = (Vec::new(), Vec::new(), Vec::new());
    let mut affect = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| wrong(&e))?;
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |message: String| Error::format(message).record(format!("line {line}"));
        let [id, expression, valence, arousal] =
            columns.map(|at| record.get(at).unwrap_or_default());
        let code: u32 = match expression.parse() {
            Ok(code @ 0..=10) => code,
            _ => {
                return Err(wrong(format!(
                    "expected an expression from 0 to 10, found {expression:?}"
                )));
            }
        };
        if code as usize >= EXPRESSIONS.len() {
            continue;
        }
        if id.is_empty()
            || id.starts_with(['/', '\\'])
            || id.split(['/', '\\']).any(|part| part == "..")
        {
            return Err(wrong(format!(
                "expected a path below the images, found {id:?}"
            )));
        }
        for (name, text) in [("valence", valence), ("arousal", arousal)] {
            affect.push(match text.parse::<f32>() {
                Ok(-2.0) => f32::NAN,
                Ok(value) if (-1.0..=1.0).contains(&value) => value,
                _ => {
                    return Err(wrong(format!(
                        "expected {name} in [-1, 1] or -2, found {text:?}"
                    )));
                }
            });
        }
        ids.push(id.to_string());
        lines.push(line);
        codes.push(code);
    }
    if ids.is_empty() {
        return Err(Error::new(ErrorKind::Empty("no record with a face".into())));
    }
    let mut labels = Labels::new(ids.len());
    let names = EXPRESSIONS.iter().map(ToString::to_string).collect();
    labels.insert("expression", Column::Categorical { codes, names })?;
    let named = vec!["valence".to_string(), "arousal".to_string()];
    labels.insert_vectors(
        "valence_arousal",
        Vectors::new(vec![2], affect)?.with_names(named)?,
    )?;
    Folder::listed("affectnet", list, images, ids, lines, labels)
}
