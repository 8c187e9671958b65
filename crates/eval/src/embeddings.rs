//! A table of embeddings with its labels: what every protocol takes.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::mapped::{Values, is_large};

/// N embeddings of D numbers each, with labels, continuous factors and names beside them.
///
/// The fields are private so that every `Embeddings` is sound: all values finite, all columns of length N.
///
/// ```
/// use phiz_eval::Embeddings;
/// let embeddings = Embeddings::new(vec![1.0, 0.0, 0.9, 0.1, 0.0, 1.0], 2)?
///     .with_labels("labels", vec![7, 7, 8])?;
/// assert_eq!((embeddings.len(), embeddings.dim()), (3, 2));
/// assert_eq!(embeddings.labels("labels")?, &[7, 7, 8]);
/// # Ok::<(), phiz_eval::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    len: usize,
    dim: usize,
    values: Values,
    labels: BTreeMap<String, Vec<u32>>,
    factors: BTreeMap<String, Vec<f32>>,
    names: BTreeMap<String, Vec<String>>,
    ids: Vec<String>,
    logits: Option<Logits>,
}

/// Scores of a classifier before the softmax, (N, classes) in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    /// Number of columns.
    pub classes: usize,
    /// N x `classes` values, row by row.
    pub values: Vec<f32>,
}

impl Embeddings {
    /// A table of `values.len() / dim` embeddings, row by row.
    ///
    /// # Errors
    /// When `dim` is 0, `values` is empty or not a whole number of rows, or a value is NaN or infinite
    /// (the message names the row).
    pub fn new(values: Vec<f32>, dim: usize) -> Result<Self> {
        Self::from_values(Values::Owned(values), dim)
    }

    pub(crate) fn from_values(values: Values, dim: usize) -> Result<Self> {
        let count = values.as_slice().len();
        if dim == 0 || count == 0 {
            return Err(Error::shape(format!(
                "embeddings must be (N, D) with N and D at least 1, got {count} values of dimension {dim}"
            )));
        }
        if !count.is_multiple_of(dim) {
            return Err(Error::shape(format!(
                "{count} values are not a whole number of rows of dimension {dim}"
            )));
        }
        if count / dim > u32::MAX as usize {
            return Err(Error::too_large(format!(
                "{} embeddings; at most {}",
                count / dim,
                u32::MAX
            )));
        }
        check_finite(values.as_slice(), dim, "embeddings")?;
        Ok(Self {
            len: count / dim,
            dim,
            values,
            labels: BTreeMap::new(),
            factors: BTreeMap::new(),
            names: BTreeMap::new(),
            ids: Vec::new(),
            logits: None,
        })
    }

    /// Adds (or replaces) a label column.
    ///
    /// # Errors
    /// When its length is not N.
    pub fn with_labels(mut self, name: &str, labels: Vec<u32>) -> Result<Self> {
        self.check_len(name, labels.len())?;
        self.labels.insert(name.to_string(), labels);
        Ok(self)
    }

    /// Adds (or replaces) a continuous factor.
    ///
    /// # Errors
    /// When its length is not N or a value is not finite.
    pub fn with_factor(mut self, name: &str, factor: Vec<f32>) -> Result<Self> {
        self.check_len(name, factor.len())?;
        check_finite(&factor, 1, name)?;
        self.factors.insert(name.to_string(), factor);
        Ok(self)
    }

    /// Names the codes of a label column: code `c` is called `names[c]`.
    #[must_use]
    pub fn with_names(mut self, label: &str, names: Vec<String>) -> Self {
        self.names.insert(label.to_string(), names);
        self
    }

    /// Gives each sample an id, for example its path; pair lists refer to these.
    ///
    /// # Errors
    /// When there are not N of them.
    pub fn with_ids(mut self, ids: Vec<String>) -> Result<Self> {
        self.check_len("ids", ids.len())?;
        self.ids = ids;
        Ok(self)
    }

    /// Adds classifier scores, (N, `classes`) row by row.
    ///
    /// # Errors
    /// When the size is not N x `classes`, or a value is not finite.
    pub fn with_logits(mut self, values: Vec<f32>, classes: usize) -> Result<Self> {
        if classes == 0 || Some(values.len()) != self.len.checked_mul(classes) {
            return Err(Error::shape(format!(
                "logits must be ({}, classes), got {} values for {classes} classes",
                self.len,
                values.len()
            )));
        }
        check_finite(&values, classes, "logits")?;
        self.logits = Some(Logits { classes, values });
        Ok(self)
    }

    /// Reads a `.safetensors`, `.npy`, `.csv` or (feature `parquet`) `.parquet` file; the extension decides.
    ///
    /// Labels of `X.npy` are looked for in `X.labels.npy`, further columns in `X.NAME.npy`. Files of 64 MiB and more are
    /// used where they lie, as by [`Embeddings::map`]. See [`Embeddings::read_safetensors`], [`Embeddings::read_npy`],
    /// [`Embeddings::read_csv`].
    ///
    /// # Errors
    /// When the file cannot be read or is not what its extension says; one line names file and record.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if is_large(path) && extension(path).is_some_and(|e| e == "safetensors" || e == "npy") {
            return Self::map(path);
        }
        match extension(path) {
            Some("safetensors") => Self::read_safetensors(path),
            Some("npy") => Self::read_npy(path, None),
            Some("csv") => Self::read_csv(path),
            #[cfg(feature = "parquet")]
            Some("parquet") => Self::read_parquet(path),
            #[cfg(not(feature = "parquet"))]
            Some("parquet") => Err(Error::usage(
                "this build cannot read parquet files; build with the feature `parquet`",
            )
            .at(path)),
            _ => Err(unknown_extension(path)),
        }
    }

    /// Maps a `.safetensors` or `.npy` file of little-endian f32 (rows in C order) and uses it where it lies: the
    /// operating system brings in the pages that are read and drops them again, so that a table larger than the memory
    /// can be judged. All protocols work on it; what they hold beside it is said with each. Columns of labels and ids
    /// are read into memory. Other element types are converted, which takes 4 bytes a number.
    ///
    /// The file must not be changed while the table lives: figures would change, and a file that is cut off ends the
    /// program.
    ///
    /// # Errors
    /// As [`Embeddings::read`]. The whole file is read once, to find values that are not finite.
    pub fn map(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        match extension(path) {
            Some("safetensors") => Self::map_safetensors(path),
            Some("npy") => Self::map_npy(path),
            _ => Err(Error::usage("only .safetensors and .npy files can be mapped").at(path)),
        }
    }

    /// Number of embeddings, N.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Always false: an `Embeddings` has at least one row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Numbers per embedding, D.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        self.values.as_slice()
    }

    /// Row `i`, or `None` past the end.
    pub fn row(&self, i: usize) -> Option<&[f32]> {
        let start = i.checked_mul(self.dim)?;
        self.values().get(start..)?.get(..self.dim)
    }

    /// The label column `name`.
    ///
    /// # Errors
    /// When there is none; the message lists those there are.
    pub fn labels(&self, name: &str) -> Result<&[u32]> {
        if let Some(labels) = self.labels.get(name) {
            return Ok(labels);
        }
        if self.factors.contains_key(name) {
            return Err(Error::missing(format!(
                "`{name}` holds floats; labels are integers"
            )));
        }
        let known: Vec<&str> = self.labels.keys().map(String::as_str).collect();
        Err(Error::missing(if known.is_empty() {
            format!("no labels `{name}`: there are no label tensors at all")
        } else {
            format!("no labels `{name}`; there are: {}", known.join(", "))
        }))
    }

    /// All label columns by name.
    pub fn all_labels(&self) -> &BTreeMap<String, Vec<u32>> {
        &self.labels
    }

    /// All continuous factors by name.
    pub fn factors(&self) -> &BTreeMap<String, Vec<f32>> {
        &self.factors
    }

    /// The names of the codes of a label column; empty where none were given.
    pub fn names(&self, label: &str) -> &[String] {
        self.names.get(label).map_or(&[], Vec::as_slice)
    }

    /// All code names by label column.
    pub fn all_names(&self) -> &BTreeMap<String, Vec<String>> {
        &self.names
    }

    /// Sample ids; empty where none were given.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// What to call sample `i`: its id, or `#i`.
    pub fn id(&self, i: usize) -> String {
        self.ids.get(i).cloned().unwrap_or_else(|| format!("#{i}"))
    }

    /// Classifier scores, where given.
    pub fn logits(&self) -> Option<&Logits> {
        self.logits.as_ref()
    }

    /// The rows at `indices`, with all their labels, factors, ids and logits.
    ///
    /// # Errors
    /// When an index is past the end, or `indices` is empty.
    pub fn select(&self, indices: &[usize]) -> Result<Self> {
        if let Some(&bad) = indices.iter().find(|&&i| i >= self.len) {
            return Err(Error::shape(format!(
                "index {bad} is past the end of {} embeddings",
                self.len
            )));
        }
        let mut out = Self::new(gather_rows(self.values(), self.dim, indices), self.dim)?;
        for (name, column) in &self.labels {
            out = out.with_labels(name, gather_rows(column, 1, indices))?;
        }
        for (name, column) in &self.factors {
            out = out.with_factor(name, gather_rows(column, 1, indices))?;
        }
        if !self.ids.is_empty() {
            out = out.with_ids(gather_rows(&self.ids, 1, indices))?;
        }
        if let Some(logits) = &self.logits {
            let values = gather_rows(&logits.values, logits.classes, indices);
            out = out.with_logits(values, logits.classes)?;
        }
        out.names = self.names.clone();
        Ok(out)
    }

    fn check_len(&self, name: &str, len: usize) -> Result<()> {
        if len == self.len {
            return Ok(());
        }
        Err(Error::shape(format!(
            "`{name}` has {len} entries, but there are {} embeddings",
            self.len
        )))
    }
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|e| e.to_str())
}

fn unknown_extension(path: &Path) -> Error {
    Error::usage(
        "embeddings are read from .safetensors, .npy, .csv or .parquet files; this extension is none of them",
    )
    .at(path)
}

fn gather_rows<T: Clone>(values: &[T], width: usize, indices: &[usize]) -> Vec<T> {
    let mut out = Vec::with_capacity(indices.len() * width);
    for &i in indices {
        out.extend_from_slice(values.get(i * width..(i + 1) * width).unwrap_or(&[]));
    }
    out
}

/// Finds the first id that is there twice.
pub(crate) fn check_unique(ids: &[String]) -> Result<()> {
    let mut seen = BTreeMap::new();
    for (row, id) in ids.iter().enumerate() {
        if let Some(first) = seen.insert(id, row) {
            return Err(
                Error::value(format!("the id `{id:.100}` stands in row {first} already"))
                    .record(format!("ids, row {row}")),
            );
        }
    }
    Ok(())
}

/// Finds the first row that holds a NaN or an infinity.
pub(crate) fn check_finite(values: &[f32], width: usize, name: &str) -> Result<()> {
    let bad = values
        .par_chunks(1 << 16)
        .enumerate()
        .find_map_first(|(i, part)| {
            let at = part.iter().position(|v| !v.is_finite())?;
            Some((i << 16) + at)
        });
    match bad {
        None => Ok(()),
        Some(at) => {
            let what = if values.get(at).is_some_and(|v| v.is_nan()) {
                "NaN"
            } else {
                "an infinity (in f32)"
            };
            Err(
                Error::value(format!("column {} is {what}", at % width.max(1)))
                    .record(format!("{name}, row {}", at / width.max(1))),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nan_is_reported_with_its_row() {
        let error = Embeddings::new(vec![0.0, 1.0, 2.0, f32::NAN], 2).unwrap_err();
        assert_eq!(error.to_string(), "embeddings, row 1: column 1 is NaN");
        let error = Embeddings::new(vec![f32::INFINITY, 1.0], 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "embeddings, row 0: column 0 is an infinity (in f32)"
        );
    }

    #[test]
    fn sizes_that_disagree_are_one_line() {
        let table = Embeddings::new(vec![0.0; 6], 2).unwrap();
        let error = table.clone().with_labels("labels", vec![1]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`labels` has 1 entries, but there are 3 embeddings"
        );
        assert!(Embeddings::new(vec![0.0; 5], 2).is_err());
        assert!(Embeddings::new(vec![], 2).is_err());
        assert!(Embeddings::new(vec![0.0], 0).is_err());
        assert!(table.clone().with_logits(vec![0.0; 5], 2).is_err());
        let error = table.labels("identity").unwrap_err().to_string();
        assert!(error.contains("no label tensors"), "{error}");
    }

    #[test]
    fn select_takes_everything_along() {
        let table = Embeddings::new((0..6u8).map(f32::from).collect(), 2)
            .unwrap()
            .with_labels("labels", vec![5, 6, 7])
            .unwrap()
            .with_factor("factor.pose", vec![0.1, 0.2, 0.3])
            .unwrap()
            .with_ids(vec!["a".into(), "b".into(), "c".into()])
            .unwrap()
            .with_logits(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 2)
            .unwrap();
        let part = table.select(&[2, 0]).unwrap();
        assert_eq!(part.values(), &[4.0, 5.0, 0.0, 1.0]);
        assert_eq!(part.labels("labels").unwrap(), &[7, 5]);
        assert_eq!(part.id(0), "c");
        assert_eq!(part.logits().unwrap().values, &[4.0, 5.0, 0.0, 1.0]);
        assert!(table.select(&[3]).is_err());
        assert!(table.select(&[]).is_err());
    }
}
