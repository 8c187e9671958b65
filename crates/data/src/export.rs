//! A data set as a folder of PNG files and an index, for looking at and for other programs.

use std::path::Path;

use rayon::prelude::*;

use crate::decode::encode_png;
use crate::fetch::{Staging, write_file};
use crate::index::CLASS_COLUMNS;
use crate::{Column, Dataset, Error, ErrorKind, Result};

/// Writes every image as `<identity>/<number>.png` (`images/<number>.png` without identities) and all labels
/// to `index.csv`, so that `folder:` reads it back: the same pixels and class names. Class numbers may change
/// (they follow the natural order of the names), and classes of a factor that are all numbers come back as
/// numbers. Gives the number of images.
///
/// Everything is written beside `out` and renamed at the end: on failure nothing stays.
///
/// # Errors
/// When `out` is a file or a folder that is not empty, it cannot be written, or an image cannot be read.
pub fn write_folder(dataset: &dyn Dataset, out: &Path) -> Result<usize> {
    refuse_occupied(out)?;
    if dataset.is_empty() {
        return Err(Error::new(ErrorKind::Empty(
            "a data set without images: nothing to write".into(),
        )));
    }
    let labels = dataset.labels();
    let staging = Staging::new(out)?;
    let people: Vec<String> = match labels.get("identity") {
        Some(Column::Categorical { codes, names }) => codes
            .iter()
            .map(|&code| safe_name(&names[code as usize]))
            .collect(),
        _ => vec!["images".into(); dataset.len()],
    };
    for person in people.iter().collect::<std::collections::BTreeSet<_>>() {
        let folder = staging.path().join(person);
        std::fs::create_dir_all(&folder).map_err(|e| Error::io("cannot create", &folder, e))?;
    }
    let paths: Vec<String> = people
        .iter()
        .enumerate()
        .map(|(i, person)| format!("{person}/{i:06}.png"))
        .collect();
    let failed = paths.par_iter().enumerate().find_map_first(|(i, path)| {
        let write = || {
            let bytes =
                encode_png(&dataset.image(i)?).map_err(|e| e.record(dataset.sample_id(i)))?;
            write_file(&staging.path().join(path), &bytes)
        };
        write().err()
    });
    if let Some(error) = failed {
        return Err(error);
    }
    write_file(
        &staging.path().join("index.csv"),
        &index_csv(dataset, &paths)?,
    )?;
    staging.commit()?;
    Ok(paths.len())
}

pub(crate) fn refuse_occupied(out: &Path) -> Result<()> {
    let occupied = |message: &str| Err(Error::new(ErrorKind::Exists(message.into())).at(out));
    match std::fs::read_dir(out) {
        Ok(mut entries) => match entries.next() {
            Some(_) => occupied("the folder is not empty, expected a new or empty one"),
            None => Ok(()),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(_) if out.is_file() => occupied("is a file, expected a new or empty folder"),
        Err(e) => Err(Error::io("cannot open", out, e)),
    }
}

pub(crate) fn index_csv(dataset: &dyn Dataset, paths: &[String]) -> Result<Vec<u8>> {
    let columns = dataset.labels().columns();
    // The well-known ones first, then by name.
    let known = CLASS_COLUMNS
        .iter()
        .filter_map(|name| columns.get_key_value(*name));
    let others = columns
        .iter()
        .filter(|(name, _)| !CLASS_COLUMNS.contains(&name.as_str()));
    let columns: Vec<(&String, &Column)> = known.chain(others).collect();
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |e: csv::Error| Error::format(e.to_string());
    writer
        .write_record(std::iter::once("path").chain(columns.iter().map(|(name, _)| name.as_str())))
        .map_err(failed)?;
    for (i, path) in paths.iter().enumerate() {
        let fields = columns.iter().map(|(_, column)| match column {
            Column::Categorical { codes, names } => names[codes[i] as usize].clone(),
            Column::Continuous(values) if values[i].is_nan() => String::new(),
            Column::Continuous(values) => values[i].to_string(),
        });
        writer
            .write_record(std::iter::once(path.clone()).chain(fields))
            .map_err(failed)?;
    }
    writer
        .into_inner()
        .map_err(|e| Error::format(e.to_string()))
}

/// A class name as the name of a folder on any system.
fn safe_name(name: &str) -> String {
    let safe: String = name
        .chars()
        .take(64)
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '_'
            }
        })
        .collect();
    // Hidden folders and `..` are none; an index beside them must stay unique.
    if safe.is_empty() || safe.starts_with('.') {
        format!("_{safe}")
    } else {
        safe
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::tests::{Broken, ramp};
    use crate::{Folder, InMemory};

    #[test]
    fn a_written_folder_reads_back() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("faces");
        let images: Vec<_> = (0..4).map(|i| ramp(9).image(2 * i).unwrap()).collect();
        let columns = vec![
            (
                "identity",
                Column::from_names(&["../x", "a b", "s10", "s2"]),
            ),
            (
                "expression",
                Column::from_names(&["joy, mild", "fear", "fear", "joy, mild"]),
            ),
            (
                "factor.pose",
                Column::Continuous(vec![0.1, f32::NAN, -3.0e-9, 7.0]),
            ),
        ];
        let set = InMemory::from_images("x", images, columns).unwrap();
        assert_eq!(write_folder(&set, &out).unwrap(), 4);
        let back = Folder::open(&out).unwrap();
        assert_eq!(back.len(), 4);
        for i in 0..4 {
            assert_eq!(back.image(i).unwrap(), set.image(i).unwrap());
        }
        for column in ["identity", "expression"] {
            assert_eq!(back.labels().get(column), set.labels().get(column));
        }
        let (a, b) = (
            back.labels().values("factor.pose").unwrap(),
            set.labels().values("factor.pose").unwrap(),
        );
        assert!(
            a.iter()
                .zip(b)
                .all(|(a, b)| a == b || (a.is_nan() && b.is_nan()))
        );
        let error = write_folder(&set, &out).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Exists(_)), "{error}");
        std::fs::create_dir(root.path().join("empty")).unwrap();
        write_folder(&set, &root.path().join("empty")).unwrap();
    }

    #[test]
    fn nothing_stays_of_a_failure() {
        let root = tempfile::tempdir().unwrap();
        let broken = Broken(ramp(30), vec![25, 17]);
        let error = write_folder(&broken, &root.path().join("faces")).unwrap_err();
        assert_eq!(error.to_string(), "sample 17: broken");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
        let file = root.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(write_folder(&ramp(2), &file).is_err());
        assert!(write_folder(&ramp(2), &file.join("below")).is_err());
        assert!(write_folder(&ramp(0), &root.path().join("none")).is_err());
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
