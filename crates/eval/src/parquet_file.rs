//! Embedding tables as parquet: a column of lists of floats, or one column a number; labels beside it.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};

use crate::columns::{Cell, attach, embedding_columns, is_prediction};
use crate::embeddings::Embeddings;
use crate::error::{Error, Result};

/// Most numbers that a file may hold: 16 GiB of f32.
const MAX_VALUES: u64 = 4 << 30;

impl Embeddings {
    /// Reads a parquet file. The embedding is the column of lists of floats (`embeddings` or `embedding` where there are
    /// several), else the columns `e0, e1, ...` as in a CSV file; the other columns are read as there.
    ///
    /// # Errors
    /// One line that names the file and the row: not parquet, no embedding, lists of different lengths, a null.
    pub fn read_parquet(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // The parquet crate checks most of a file, but not all: what it trips over must not end the program.
        let read = catch_unwind(AssertUnwindSafe(|| read(path)));
        read.unwrap_or_else(|_| Err(Error::format("damaged parquet file")))
            .map_err(|e| e.at(path))
    }
}

fn read(path: &Path) -> Result<Embeddings> {
    let bad = |e: parquet::errors::ParquetError| {
        let text = e.to_string();
        let words: Vec<&str> = text.split_whitespace().collect();
        Error::format(format!(
            "not a parquet file that can be read: {:.200}",
            words.join(" ")
        ))
    };
    let file = File::open(path)?;
    let reader = SerializedFileReader::new(file).map_err(bad)?;
    let mut table: Option<Columns> = None;
    for (number, row) in reader.get_row_iter(None).map_err(bad)?.enumerate() {
        let row = row.map_err(bad)?;
        let columns = match &mut table {
            Some(columns) => columns,
            None => table.insert(Columns::new(&row)?),
        };
        columns
            .push(&row)
            .map_err(|e| Error::format(e.to_string()).record(format!("row {number}")))?;
    }
    let Some(columns) = table else {
        return Err(Error::format("no rows"));
    };
    let dim = columns.dim;
    let table = Embeddings::new(columns.values, dim)?;
    attach(
        table,
        columns.others.into_iter().map(|(_, n, c)| (n, c)).collect(),
    )
}

struct Columns {
    /// Where the embedding is: one column of lists, or one column a number.
    embedding: Vec<usize>,
    listed: bool,
    dim: usize,
    values: Vec<f32>,
    others: Vec<(usize, String, Vec<Cell>)>,
}

impl Columns {
    fn new(row: &Row) -> Result<Self> {
        let names: Vec<String> = row.get_column_iter().map(|(n, _)| n.clone()).collect();
        let lists: Vec<usize> = row
            .get_column_iter()
            .enumerate()
            .filter(|(_, (_, field))| matches!(field, Field::ListInternal(_)))
            .map(|(i, _)| i)
            .collect();
        let called = |wanted: &str| {
            let name = |i: &&usize| names.get(**i).is_some_and(|n| n == wanted);
            lists.iter().find(name).copied()
        };
        let list = match lists.as_slice() {
            [] => None,
            [only] => Some(*only),
            _ => Some(
                called("embeddings")
                    .or_else(|| called("embedding"))
                    .ok_or_else(|| {
                        Error::missing("several columns of lists, and none is called `embeddings`")
                    })?,
            ),
        };
        let (embedding, dim) = match list {
            Some(list) => (vec![list], 0),
            None => {
                let columns = embedding_columns(&names)?;
                let dim = columns.len();
                (columns, dim)
            }
        };
        let others = names
            .into_iter()
            .enumerate()
            .filter(|(i, name)| {
                !lists.contains(i) && (!embedding.contains(i) || is_prediction(name))
            })
            .map(|(i, name)| (i, name, Vec::new()))
            .collect();
        Ok(Self {
            listed: list.is_some(),
            embedding,
            dim,
            values: Vec::new(),
            others,
        })
    }

    fn push(&mut self, row: &Row) -> Result<()> {
        let fields: Vec<&Field> = row.get_column_iter().map(|(_, f)| f).collect();
        let before = self.values.len();
        for &column in &self.embedding {
            match fields.get(column) {
                Some(Field::ListInternal(list)) if self.listed => {
                    for field in list.elements() {
                        self.values.push(real(field)?);
                    }
                }
                Some(field) if !self.listed => self.values.push(real(field)?),
                _ => return Err(Error::format("no embedding")),
            }
        }
        let found = self.values.len() - before;
        if self.dim == 0 {
            self.dim = found;
        }
        if found != self.dim {
            return Err(Error::shape(format!(
                "an embedding of {found} numbers; those before have {}",
                self.dim
            )));
        }
        if self.values.len() as u64 > MAX_VALUES {
            return Err(Error::too_large(format!("more than {MAX_VALUES} numbers")));
        }
        for (column, name, cells) in &mut self.others {
            let cell = fields.get(*column).and_then(|field| cell(field));
            cells.push(cell.ok_or_else(|| {
                Error::format(format!("column `{name}` is null or not a number or text"))
            })?);
        }
        Ok(())
    }
}

fn real(field: &Field) -> Result<f32> {
    Ok(match field {
        Field::Float(v) => *v,
        Field::Double(v) => *v as f32,
        Field::Float16(v) => v.to_f32(),
        Field::Int(v) => *v as f32,
        Field::Long(v) => *v as f32,
        Field::UInt(v) => *v as f32,
        _ => return Err(Error::format("the embedding must be numbers")),
    })
}

fn cell(field: &Field) -> Option<Cell> {
    Some(match field {
        Field::Bool(v) => Cell::Whole(i64::from(*v)),
        Field::Byte(v) => Cell::Whole(i64::from(*v)),
        Field::Short(v) => Cell::Whole(i64::from(*v)),
        Field::Int(v) => Cell::Whole(i64::from(*v)),
        Field::Long(v) => Cell::Whole(*v),
        Field::UByte(v) => Cell::Whole(i64::from(*v)),
        Field::UShort(v) => Cell::Whole(i64::from(*v)),
        Field::UInt(v) => Cell::Whole(i64::from(*v)),
        Field::ULong(v) => Cell::Whole(i64::try_from(*v).ok()?),
        Field::Float(v) => Cell::Real(f64::from(*v)),
        Field::Double(v) => Cell::Real(*v),
        Field::Str(v) => Cell::Text(v.clone()),
        _ => return None,
    })
}
