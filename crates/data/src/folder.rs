//! Images in folders: `identity/file`, `identity/expression/file`, or as an index says.

use std::path::{Path, PathBuf};

use crate::decode::{EXTENSIONS, read_image};
use crate::index::{is_index, read_index};
use crate::labels::{check_indices, natural_cmp};
use crate::{Column, Dataset, Error, ErrorKind, Image, Labels, Result};

/// A data set of image files.
#[derive(Debug)]
pub struct Folder {
    name: String,
    paths: Vec<PathBuf>,
    ids: Vec<String>,
    labels: Labels,
    /// Where records come from an index: the index, and the line of each.
    index: Option<(PathBuf, Vec<u64>)>,
}

impl Folder {
    /// Opens a folder, or an index file (`.csv`, `.jsonl`). A folder that holds `index.csv` or `index.jsonl`
    /// is read by it; any other is scanned:
    ///
    /// * `identity/file`: label `identity`, the folder's name;
    /// * `identity/expression/file`: labels `identity` and `expression`;
    /// * files in the folder itself: no labels.
    ///
    /// All images lie equally deep. Files of other kinds and hidden ones are passed over; samples are in
    /// natural order of their paths (`s2` before `s10`). Every image must exist and not be empty; it is
    /// decoded when it is asked for ([`check`](crate::check) decodes all).
    ///
    /// # Errors
    /// Names the file, and the line of an index: nothing there, no image, images at different depths, an
    /// empty or missing image, an index that cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let found = std::fs::metadata(path).map_err(|e| Error::io("cannot open", path, e))?;
        if found.is_file() {
            if !is_index(path) {
                return Err(Error::format(
                    "expected a folder of images, or an index that ends in .csv or .jsonl",
                )
                .at(path));
            }
            return Self::from_index(path);
        }
        for name in ["index.csv", "index.jsonl"] {
            let index = path.join(name);
            if index.is_file() {
                return Self::from_index(&index);
            }
        }
        Self::scan(path)
    }

    fn from_index(index_path: &Path) -> Result<Self> {
        let index = read_index(index_path)?;
        let root = index_path.parent().unwrap_or(Path::new(""));
        let name = format!("folder:{}", index_path.display());
        Self::listed(
            &name,
            index_path,
            root,
            index.paths,
            index.lines,
            index.labels,
        )
    }

    /// The images `ids` below `root`, each from its line of `list`.
    ///
    /// # Errors
    /// Names list and line of an image that is not there or empty.
    pub(crate) fn listed(
        name: &str,
        list: &Path,
        root: &Path,
        ids: Vec<String>,
        lines: Vec<u64>,
        labels: Labels,
    ) -> Result<Self> {
        let paths: Vec<PathBuf> = ids.iter().map(|id| root.join(id)).collect();
        for ((path, id), line) in paths.iter().zip(&ids).zip(&lines) {
            let here = |error: Error| Err(error.at(list).record(format!("line {line}")));
            match std::fs::metadata(path) {
                Ok(meta) if meta.is_file() && meta.len() > 0 => {}
                Ok(meta) if meta.is_file() => {
                    return here(Error::new(ErrorKind::Empty(format!(
                        "image {id:?} is an empty file"
                    ))));
                }
                Ok(_) => return here(Error::missing(format!("image {id:?} is not a file"))),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    return here(Error::missing(format!("image {id:?} does not exist")));
                }
                Err(e) => {
                    return here(Error::missing(format!("image {id:?} cannot be read: {e}")));
                }
            }
        }
        Ok(Self {
            name: name.to_string(),
            paths,
            ids,
            labels,
            index: Some((list.to_path_buf(), lines)),
        })
    }

    /// The images `ids` that were found below `root`.
    ///
    /// # Errors
    /// Names the first empty file.
    pub(crate) fn scanned(
        name: &str,
        root: &Path,
        ids: Vec<String>,
        labels: Labels,
    ) -> Result<Self> {
        let paths: Vec<PathBuf> = ids.iter().map(|id| root.join(id)).collect();
        for path in &paths {
            let meta = std::fs::metadata(path).map_err(|e| Error::io("cannot read", path, e))?;
            if meta.len() == 0 {
                return Err(
                    Error::new(ErrorKind::Empty("empty file, expected an image".into())).at(path),
                );
            }
        }
        Ok(Self {
            name: name.to_string(),
            paths,
            ids,
            labels,
            index: None,
        })
    }

    fn scan(root: &Path) -> Result<Self> {
        // Each image with the names that lead to it.
        let mut images: Vec<Vec<String>> = Vec::new();
        collect(root, &mut Vec::new(), &mut images)?;
        let Some(first) = images.first().cloned() else {
            return Err(Error::new(ErrorKind::Empty(format!(
                "no images, expected identity/*.{{{}}} or an index.csv",
                EXTENSIONS.join(",")
            )))
            .at(root));
        };
        if let Some(odd) = images.iter().find(|image| image.len() != first.len()) {
            return Err(Error::format(format!(
                "images at different depths: expected all as {:?}, or an index.csv that says what is what",
                first.join("/")
            ))
            .at(&root.join(odd.join("/"))));
        }
        let mut labels = Labels::new(images.len());
        for (depth, name) in ["identity", "expression"]
            .iter()
            .enumerate()
            .take(first.len() - 1)
        {
            let values: Vec<&str> = images.iter().map(|image| image[depth].as_str()).collect();
            labels.insert(*name, Column::from_names(&values))?;
        }
        let ids = images.iter().map(|image| image.join("/")).collect();
        Self::scanned(&format!("folder:{}", root.display()), root, ids, labels)
    }

    /// Path of sample `index`, if there is one.
    #[must_use]
    pub fn path(&self, index: usize) -> Option<&Path> {
        self.paths.get(index).map(PathBuf::as_path)
    }
}

/// Adds the images below `root/prefix`, in natural order. Two levels of folders at most, so that a link
/// that leads back up ends too.
fn collect(root: &Path, prefix: &mut Vec<String>, images: &mut Vec<Vec<String>>) -> Result<()> {
    let folder = root.join(prefix.iter().collect::<PathBuf>());
    let refused = |e| Error::io("cannot list", &folder, e);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(refused)? {
        let entry = entry.map_err(refused)?;
        match entry.file_name().into_string() {
            Ok(name) if name.starts_with('.') => {}
            Ok(name) => names.push(name),
            Err(_) => return Err(Error::format("expected file names in UTF-8").at(&entry.path())),
        }
    }
    names.sort_by(|a, b| natural_cmp(a, b));
    for name in names {
        let path = folder.join(&name);
        let meta = std::fs::metadata(&path).map_err(|e| Error::io("cannot read", &path, e))?;
        prefix.push(name);
        if meta.is_dir() {
            if prefix.len() > 2 {
                return Err(Error::format(
                    "folders nested too deep, expected identity/expression/file",
                )
                .at(&path));
            }
            collect(root, prefix, images)?;
        } else if is_image(&path) {
            images.push(prefix.clone());
        }
        prefix.pop();
    }
    Ok(())
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()))
}

impl Dataset for Folder {
    fn name(&self) -> &str {
        &self.name
    }
    fn len(&self) -> usize {
        self.paths.len()
    }
    fn labels(&self) -> &Labels {
        &self.labels
    }
    fn sample_id(&self, index: usize) -> String {
        self.ids.get(index).cloned().unwrap_or_default()
    }
    fn image(&self, index: usize) -> Result<Image> {
        check_indices(&[index], self.paths.len())?;
        read_image(&self.paths[index]).map_err(|error| match &self.index {
            Some((file, lines)) => {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                error.record(format!("{name} line {}", lines[index]))
            }
            None => error,
        })
    }
}
