//! Parquet files of images: one column of encoded images, labels beside it.
//!
//! The image column is a struct with a binary field `bytes` (and mostly `path`), as the Hugging Face hub writes it,
//! or binary itself; of several the one called `image` or `img`, else the first. Columns `identity`, `expression`
//! and `label` are classes; a column that the hub's metadata calls a ClassLabel is one as well and has its names
//! from there; every other column of numbers or text is a factor. Nested columns are passed over.

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;

use crate::decode::decode_image;
use crate::error::one_line;
use crate::index::{CLASS_COLUMNS, factor_name, labels_from_text};
use crate::labels::{check_indices, natural_cmp};
use crate::{Column, Dataset, Error, ErrorKind, Image, Labels, Result};

/// Most bytes of encoded images that are kept in memory.
pub const MAX_ENCODED_BYTES: usize = 8 << 30;

/// A data set out of parquet files. The encoded images are kept in memory and decoded when asked for.
pub struct ParquetImages {
    name: String,
    files: Vec<PathBuf>,
    /// File of each row, and its number there.
    rows: Vec<(usize, usize)>,
    images: Vec<Vec<u8>>,
    labels: Labels,
}

impl ParquetImages {
    /// Opens a parquet file, or all those of a folder and its subfolders, in natural order.
    ///
    /// # Errors
    /// Names the file: not parquet, no column of images, columns that differ between files, a label number without
    /// a class name, a row without an image; or there is no file at all.
    pub fn open(path: &Path) -> Result<Self> {
        let meta = std::fs::metadata(path).map_err(|e| Error::io("cannot open", path, e))?;
        let files = if meta.is_dir() {
            parquet_files(path)?
        } else {
            vec![path.to_path_buf()]
        };
        if files.is_empty() {
            let message = "no parquet file in this folder".to_string();
            return Err(Error::new(ErrorKind::Empty(message)).at(path));
        }
        Self::from_files(&format!("parquet:{}", path.display()), files)
    }

    /// Opens these files as one data set.
    ///
    /// # Errors
    /// As [`ParquetImages::open`].
    pub fn from_files(name: &str, files: Vec<PathBuf>) -> Result<Self> {
        let mut table = Table::default();
        for (number, path) in files.iter().enumerate() {
            // The parquet crate checks most of a file, but not all: what it trips over must not end the program.
            let read = catch_unwind(AssertUnwindSafe(|| table.read(number, path)));
            read.unwrap_or_else(|_| Err(Error::format("damaged parquet file")))
                .map_err(|error| error.at(path))?;
        }
        let Table {
            rows,
            images,
            columns,
            classes,
            ..
        } = table;
        if rows.is_empty() {
            return Err(Error::new(ErrorKind::Empty(format!("{name}: no rows"))));
        }
        let in_file = |error: Error, at: usize| {
            let (file, row) = rows[at];
            error.record(format!("row {row}")).at(&files[file])
        };
        let (named, plain): (BTreeMap<_, _>, BTreeMap<_, _>) = columns
            .into_iter()
            .partition(|(column, _)| classes.contains_key(column));
        let mut labels = labels_from_text(rows.len(), plain, |at| row_name(&files, rows[at]))?;
        for (column, texts) in named {
            let names = classes.get(&column).cloned().unwrap_or_default();
            let mut codes = Vec::with_capacity(texts.len());
            for (at, text) in texts.iter().enumerate() {
                let code = text
                    .parse::<u32>()
                    .ok()
                    .filter(|&code| (code as usize) < names.len());
                codes.push(code.ok_or_else(|| {
                    let message = format!(
                        "{column} {text:?}, expected 0 to {}",
                        names.len().saturating_sub(1)
                    );
                    in_file(Error::format(message), at)
                })?);
            }
            let label = if CLASS_COLUMNS.contains(&column.as_str()) {
                column
            } else {
                factor_name(&column)
            };
            labels.insert(label, Column::Categorical { codes, names })?;
        }
        Ok(Self {
            name: name.to_string(),
            files,
            rows,
            images,
            labels,
        })
    }
}

/// Parquet files below a folder, in natural order of their paths; five levels at most, as links may lead back up.
pub(crate) fn parquet_files(folder: &Path) -> Result<Vec<PathBuf>> {
    fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
        let refused = |e| Error::io("cannot list", folder, e);
        for entry in std::fs::read_dir(folder).map_err(refused)? {
            let path = entry.map_err(refused)?.path();
            if path.is_dir() {
                if depth < 5 {
                    collect(&path, depth + 1, files)?;
                }
            } else if path
                .extension()
                .is_some_and(|extension| extension == "parquet")
            {
                files.push(path);
            }
        }
        Ok(())
    }
    let mut files = Vec::new();
    collect(folder, 0, &mut files)?;
    files.sort_by(|a, b| natural_cmp(&a.to_string_lossy(), &b.to_string_lossy()));
    Ok(files)
}

/// As in `0000.parquet#17`.
fn row_name(files: &[PathBuf], (file, row): (usize, usize)) -> String {
    let name = files[file].file_name().unwrap_or_default();
    format!("{}#{row}", name.to_string_lossy())
}

#[derive(Default)]
struct Table {
    rows: Vec<(usize, usize)>,
    images: Vec<Vec<u8>>,
    bytes: usize,
    /// Scalar columns as text; equally long after each row.
    columns: BTreeMap<String, Vec<String>>,
    /// Names of the classes of those that have them.
    classes: BTreeMap<String, Vec<String>>,
}

fn damaged(error: &ParquetError) -> Error {
    Error::format(format!(
        "not a readable parquet file: {}",
        one_line(&error.to_string())
    ))
}

impl Table {
    fn read(&mut self, number: usize, path: &Path) -> Result<()> {
        let file = File::open(path).map_err(|e| Error::io("cannot read", path, e))?;
        let reader = SerializedFileReader::new(file).map_err(|e| damaged(&e))?;
        let metadata = reader.metadata().file_metadata();
        let schema = metadata.schema();
        let image = image_column(schema)?;
        let scalars: Vec<&str> = schema
            .get_fields()
            .iter()
            .filter(|field| field.is_primitive() && field.name() != image)
            .filter(|field| {
                field.get_basic_info().repetition() != parquet::basic::Repetition::REPEATED
            })
            .map(|field| field.name())
            .collect();
        let classes = class_names(metadata.key_value_metadata(), &scalars);
        if number == 0 {
            self.columns = scalars
                .iter()
                .map(|name| ((*name).to_string(), Vec::new()))
                .collect();
            self.classes = classes;
        } else if classes != self.classes
            || self.columns.len() != scalars.len()
            || !scalars.iter().all(|name| self.columns.contains_key(*name))
        {
            let first: Vec<&str> = self.columns.keys().map(String::as_str).collect();
            return Err(Error::format(format!(
                "expected the columns and classes of the first file ({}), found {}",
                first.join(", "),
                scalars.join(", ")
            )));
        }
        let wanted = schema
            .get_fields()
            .iter()
            .filter(|field| field.name() == image || scalars.contains(&field.name()));
        let projection = Type::group_type_builder(schema.name())
            .with_fields(wanted.cloned().collect())
            .build()
            .map_err(|e| damaged(&e))?;
        let rows = reader
            .get_row_iter(Some(projection))
            .map_err(|e| damaged(&e))?;
        for (row_number, row) in rows.enumerate() {
            let record = |error: Error| error.record(format!("row {row_number}"));
            let row = row.map_err(|e| record(damaged(&e)))?;
            let mut encoded = None;
            for (name, field) in row.get_column_iter() {
                if name == image {
                    encoded = image_bytes(field);
                } else if let Some(column) = self.columns.get_mut(name) {
                    column.push(scalar_text(field));
                }
            }
            let encoded = encoded
                .filter(|bytes| !bytes.is_empty())
                .ok_or_else(|| record(Error::missing(format!("no image in column {image:?}"))))?;
            self.bytes += encoded.len();
            if self.bytes > MAX_ENCODED_BYTES {
                let message = format!("more than {} GiB of images", MAX_ENCODED_BYTES >> 30);
                return Err(record(Error::new(ErrorKind::TooLarge(message))));
            }
            self.images.push(encoded);
            self.rows.push((number, row_number));
        }
        Ok(())
    }
}

/// Name of the column that holds images.
fn image_column(schema: &Type) -> Result<&str> {
    let binary = |field: &Type| {
        let info = field.get_basic_info();
        let text = matches!(
            info.logical_type_ref(),
            Some(LogicalType::String | LogicalType::Json | LogicalType::Enum)
        ) || matches!(
            info.converted_type(),
            ConvertedType::UTF8 | ConvertedType::JSON
        );
        field.is_primitive() && field.get_physical_type() == Physical::BYTE_ARRAY && !text
    };
    let images: Vec<&str> = schema
        .get_fields()
        .iter()
        .filter(|field| {
            binary(field)
                || (field.is_group()
                    && field
                        .get_fields()
                        .iter()
                        .any(|inner| inner.name() == "bytes" && binary(inner)))
        })
        .map(|field| field.name())
        .collect();
    let usual = images.iter().find(|name| matches!(**name, "image" | "img"));
    usual.or(images.first()).copied().ok_or_else(|| {
        let names: Vec<&str> = schema
            .get_fields()
            .iter()
            .map(|field| field.name())
            .collect();
        Error::missing(format!(
            "expected a column of images (binary, or a struct with binary \"bytes\"), found {}",
            names.join(", ")
        ))
    })
}

fn image_bytes(field: &Field) -> Option<Vec<u8>> {
    match field {
        Field::Bytes(bytes) => Some(bytes.data().to_vec()),
        Field::Group(row) => row.get_column_iter().find_map(|(name, inner)| match inner {
            Field::Bytes(bytes) if name == "bytes" => Some(bytes.data().to_vec()),
            _ => None,
        }),
        _ => None,
    }
}

fn scalar_text(field: &Field) -> String {
    match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into_owned(),
        // The crate's own text rounds floats for display.
        Field::Float(value) if value.is_nan() => String::new(),
        Field::Double(value) if value.is_nan() => String::new(),
        Field::Float(value) => value.to_string(),
        Field::Double(value) => (*value as f32).to_string(),
        other => other.to_string(),
    }
}

/// Names of the classes of each ClassLabel column, from the metadata that the hub's `datasets` writes:
/// `{"info": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}`.
fn class_names(
    metadata: Option<&Vec<parquet::file::metadata::KeyValue>>,
    columns: &[&str],
) -> BTreeMap<String, Vec<String>> {
    let text = metadata
        .and_then(|pairs| pairs.iter().find(|pair| pair.key == "huggingface"))
        .and_then(|pair| pair.value.as_deref())
        .unwrap_or("null");
    let json: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    columns
        .iter()
        .filter_map(|column| {
            let names = json
                .get("info")?
                .get("features")?
                .get(column)?
                .get("names")?
                .as_array()?;
            let names: Option<Vec<String>> = names
                .iter()
                .map(|name| name.as_str().map(str::to_string))
                .collect();
            Some((
                (*column).to_string(),
                names.filter(|names| !names.is_empty())?,
            ))
        })
        .collect()
}

impl Dataset for ParquetImages {
    fn name(&self) -> &str {
        &self.name
    }
    fn len(&self) -> usize {
        self.rows.len()
    }
    fn labels(&self) -> &Labels {
        &self.labels
    }
    fn sample_id(&self, index: usize) -> String {
        self.rows
            .get(index)
            .map_or_else(String::new, |&(file, row)| {
                let name = self.files[file]
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy();
                format!("{name}#{row}")
            })
    }
    fn image(&self, index: usize) -> Result<Image> {
        check_indices(&[index], self.rows.len())?;
        let (file, row) = self.rows[index];
        decode_image(&self.images[index])
            .map_err(|error| error.at(&self.files[file]).record(format!("row {row}")))
    }
}
