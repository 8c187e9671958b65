//! Index files: which images belong to a data set, and what is known of each. CSV or JSON lines.
//!
//! CSV has a header line; JSON lines hold one flat object a line. The column `path` is the image, relative
//! to the folder of the index. `identity`, `expression` and `label` are classes; every other column is a
//! factor, a number where all its values are numbers, a class otherwise (`makeup`, `disguise`, `light` and
//! `occlusion` keep these names as classes). An empty field or `null` is a
//! value that is not known: NaN in a number, the class `""` in a text; `path`, `identity`, `expression` and
//! `label` must be known in all records or in none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::error::one_line;
use crate::{Column, Error, ErrorKind, Labels, Result};

/// Longest line of a JSON-lines index, in bytes.
const MAX_LINE: u64 = 1 << 20;

/// Most columns of an index.
const MAX_COLUMNS: usize = 1024;

/// Columns that are classes even where they look like numbers.
pub(crate) const CLASS_COLUMNS: [&str; 3] = ["identity", "expression", "label"];

/// Columns that keep their bare names where they are classes: what rendered faces wear and how they are lit.
const STATE_COLUMNS: [&str; 4] = ["makeup", "disguise", "light", "occlusion"];

/// A read index: one path a record, and the labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    /// Image paths as written.
    pub paths: Vec<String>,
    /// Line of the file that each record stands on, from 1.
    pub lines: Vec<u64>,
    /// Labels, under the names that [`Labels`] uses (`factor.<column>` for free columns).
    pub labels: Labels,
}

/// Whether a file name ends as an index does: `.csv` or `.jsonl`.
#[must_use]
pub fn is_index(path: &Path) -> bool {
    format_of(path).is_some()
}

#[derive(Clone, Copy)]
enum Format {
    Csv,
    JsonLines,
}

fn format_of(path: &Path) -> Option<Format> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "csv" => Some(Format::Csv),
        "jsonl" => Some(Format::JsonLines),
        _ => None,
    }
}

/// Reads an index file, CSV or JSON lines by its ending.
///
/// # Errors
/// Names file and line: no header, no `path` column, a record of another length, text that is not UTF-8 or
/// not JSON, an unknown value where one must be known; or the file has no records.
pub fn read_index(path: &Path) -> Result<Index> {
    let file = File::open(path).map_err(|e| Error::io("cannot read", path, e))?;
    let parsed = match format_of(path) {
        Some(Format::Csv) => parse_csv(file),
        Some(Format::JsonLines) => parse_json_lines(file),
        None => Err(Error::format(
            "expected an index that ends in .csv or .jsonl",
        )),
    };
    parsed.map_err(|error| error.at(path))
}

/// Parses a CSV index; see [`read_index`].
///
/// # Errors
/// As [`read_index`], without the file's name.
pub fn parse_csv(reader: impl Read) -> Result<Index> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(reader);
    let header = reader.headers().map_err(|e| csv_error(&e))?;
    let names: Vec<String> = header
        .iter()
        .map(|name| name.trim_start_matches('\u{feff}').to_string())
        .collect();
    if names.len() > MAX_COLUMNS {
        return Err(Error::new(ErrorKind::TooLarge(format!(
            "{} columns, the limit is {MAX_COLUMNS}",
            names.len()
        ))));
    }
    let distinct: BTreeSet<&String> = names.iter().collect();
    if distinct.len() != names.len() || names.iter().any(String::is_empty) {
        return Err(Error::format(format!(
            "expected distinct column names, found {}",
            names.join(",")
        ))
        .record("line 1"));
    }
    let mut table = Table::default();
    for record in reader.records() {
        let record = record.map_err(|e| csv_error(&e))?;
        let line = record.position().map_or(0, csv::Position::line);
        table.push(
            line,
            names
                .iter()
                .zip(&record)
                .map(|(name, field)| (name.as_str(), field.to_string())),
        )?;
    }
    table.finish()
}

fn csv_error(error: &csv::Error) -> Error {
    let line = error.position().map(csv::Position::line);
    let message = match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => {
            format!("expected {expected_len} fields as in the header, found {len}")
        }
        csv::ErrorKind::Utf8 { .. } => "expected UTF-8 text".into(),
        _ => one_line(&error.to_string()),
    };
    let error = Error::format(message);
    match line {
        Some(line) => error.record(format!("line {line}")),
        None => error,
    }
}

/// Parses a JSON-lines index; see [`read_index`]. Blank lines are skipped.
///
/// # Errors
/// As [`read_index`], without the file's name.
pub fn parse_json_lines(reader: impl Read) -> Result<Index> {
    let mut reader = BufReader::new(reader);
    let mut table = Table::default();
    let mut buffer = Vec::new();
    for line in 1u64.. {
        let here = |error: Error| error.record(format!("line {line}"));
        buffer.clear();
        let read = reader
            .by_ref()
            .take(MAX_LINE + 1)
            .read_until(b'\n', &mut buffer)
            .map_err(|e| here(Error::format(one_line(&e.to_string()))))?;
        if read == 0 {
            break;
        }
        if read as u64 > MAX_LINE {
            return Err(here(Error::new(ErrorKind::TooLarge(format!(
                "line longer than {MAX_LINE} bytes"
            )))));
        }
        if buffer.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let object: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(&buffer).map_err(|e| {
                here(Error::format(format!(
                    "expected one JSON object: {}",
                    one_line(&e.to_string())
                )))
            })?;
        let mut fields = Vec::with_capacity(object.len());
        for (name, value) in object {
            let text = match value {
                serde_json::Value::Null => String::new(),
                serde_json::Value::Bool(value) => value.to_string(),
                serde_json::Value::Number(value) => value.to_string(),
                serde_json::Value::String(value) => value,
                _ => {
                    return Err(here(Error::format(format!(
                        "field {name:?}: expected text or a number"
                    ))));
                }
            };
            fields.push((name, text));
        }
        table.push(
            line,
            fields
                .iter()
                .map(|(name, text)| (name.as_str(), text.clone())),
        )?;
    }
    table.finish()
}

/// Columns of text, filled record by record; a value that a record lacks is empty.
#[derive(Default)]
struct Table {
    paths: Vec<String>,
    lines: Vec<u64>,
    columns: BTreeMap<String, Vec<String>>,
}

impl Table {
    fn push<'a>(
        &mut self,
        line: u64,
        fields: impl Iterator<Item = (&'a str, String)>,
    ) -> Result<()> {
        let at = self.paths.len();
        let mut path = None;
        for (name, text) in fields {
            if name == "path" {
                path = Some(text);
                continue;
            }
            if !self.columns.contains_key(name) {
                if self.columns.len() == MAX_COLUMNS {
                    let message = format!("more than {MAX_COLUMNS} different fields");
                    return Err(
                        Error::new(ErrorKind::TooLarge(message)).record(format!("line {line}"))
                    );
                }
                self.columns.insert(name.to_string(), Vec::new());
            }
            if let Some(column) = self.columns.get_mut(name) {
                // Filled up only where it has values: a thousand rare fields cost what they hold.
                column.resize(at, String::new());
                column.push(text);
            }
        }
        match path {
            Some(path) if !path.is_empty() => self.paths.push(path),
            _ => {
                return Err(Error::missing("expected a \"path\" to the image")
                    .record(format!("line {line}")));
            }
        }
        self.lines.push(line);
        Ok(())
    }

    fn finish(self) -> Result<Index> {
        let n = self.paths.len();
        if n == 0 {
            return Err(Error::new(ErrorKind::Empty(
                "no records, expected a header and at least one image".into(),
            )));
        }
        let labels = labels_from_text(n, self.columns, |at| format!("line {}", self.lines[at]))?;
        Ok(Index {
            paths: self.paths,
            lines: self.lines,
            labels,
        })
    }
}

/// Labels of `n` samples from columns of text, under the rules of the module; `record` names a sample. A column
/// may be shorter: the rest is unknown.
pub(crate) fn labels_from_text(
    n: usize,
    columns: BTreeMap<String, Vec<String>>,
    record: impl Fn(usize) -> String,
) -> Result<Labels> {
    let mut labels = Labels::new(n);
    for (name, mut texts) in columns {
        texts.resize(n, String::new());
        if texts.iter().all(String::is_empty) {
            continue;
        }
        if CLASS_COLUMNS.contains(&name.as_str()) {
            if let Some(at) = texts.iter().position(String::is_empty) {
                let message = format!("no {name}, though other records have one");
                return Err(Error::missing(message).record(record(at)));
            }
            labels.insert(name, Column::from_names(&texts))?;
        } else {
            let column = factor(&texts);
            let bare = STATE_COLUMNS.contains(&name.as_str())
                && matches!(column, Column::Categorical { .. });
            let name = if bare { name } else { factor_name(&name) };
            labels.insert(name, column)?;
        }
    }
    Ok(labels)
}

/// A free column under the name that labels give it.
pub(crate) fn factor_name(column: &str) -> String {
    if column.starts_with("factor.") {
        column.to_string()
    } else {
        format!("factor.{column}")
    }
}

/// Numbers where all known values are finite numbers, classes otherwise.
fn factor(texts: &[String]) -> Column {
    let number = |text: &String| {
        if text.is_empty() {
            Some(f32::NAN)
        } else {
            text.parse::<f32>().ok().filter(|value| value.is_finite())
        }
    };
    match texts.iter().map(number).collect::<Option<Vec<f32>>>() {
        Some(values) => Column::Continuous(values),
        None => Column::from_names(texts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_and_json_lines_say_the_same() {
        let csv = "path,identity,age,glasses,expression\na.png,10,31.5,yes,joy\nb.png,9,,no,\"fear, mild\"\n";
        let json = concat!(
            "{\"path\":\"a.png\",\"identity\":10,\"age\":31.5,\"glasses\":\"yes\",\"expression\":\"joy\"}\n\n",
            "{\"path\":\"b.png\",\"identity\":\"9\",\"age\":null,\"glasses\":\"no\",\"expression\":\"fear, mild\"}"
        );
        let (a, b) = (
            parse_csv(csv.as_bytes()).unwrap(),
            parse_json_lines(json.as_bytes()).unwrap(),
        );
        assert_eq!(a.paths, ["a.png", "b.png"]);
        assert_eq!(a.lines, [2, 3]);
        assert_eq!(b.lines, [1, 3]);
        for index in [&a, &b] {
            assert_eq!(index.labels.names("identity").unwrap(), ["9", "10"]);
            assert_eq!(index.labels.codes("identity").unwrap(), [1, 0]);
            assert_eq!(
                index.labels.names("expression").unwrap(),
                ["fear, mild", "joy"]
            );
            let age = index.labels.values("factor.age").unwrap();
            assert!(age[0] == 31.5 && age[1].is_nan());
            assert_eq!(index.labels.names("factor.glasses").unwrap(), ["no", "yes"]);
        }
    }

    #[test]
    fn a_field_that_only_some_records_have_is_unknown_in_the_others() {
        let json = "{\"path\":\"a\"}\n{\"path\":\"b\",\"x\":1}\n{\"path\":\"c\"}\n{\"path\":\"d\",\"x\":2}\n";
        let index = parse_json_lines(json.as_bytes()).unwrap();
        let x = index.labels.values("factor.x").unwrap();
        assert!(x[0].is_nan() && x[1] == 1.0 && x[2].is_nan() && x[3] == 2.0);
    }

    #[test]
    fn wrong_records_are_named_by_their_line() {
        let csv = |text: &str| parse_csv(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            csv("path,identity\na,1\nb\n"),
            "line 3: expected 2 fields as in the header, found 1"
        );
        assert_eq!(
            csv("path,identity\na,1\nb,\n"),
            "line 3: no identity, though other records have one"
        );
        assert_eq!(
            csv("file,identity\na,1\n"),
            "line 2: expected a \"path\" to the image"
        );
        assert_eq!(
            csv("path,a,a\nx,1,2\n"),
            "line 1: expected distinct column names, found path,a,a"
        );
        assert_eq!(
            csv("path\n"),
            "no records, expected a header and at least one image"
        );
        assert_eq!(
            csv(""),
            "no records, expected a header and at least one image"
        );
        let bytes = parse_csv(&b"path\na\n\xff\xfe\n"[..])
            .unwrap_err()
            .to_string();
        assert_eq!(bytes, "line 3: expected UTF-8 text");
        let json = |text: &str| parse_json_lines(text.as_bytes()).unwrap_err().to_string();
        assert!(json("{\"path\":\"a\"}\n[1]\n").starts_with("line 2: expected one JSON object: "));
        assert_eq!(
            json("{\"path\":\"a\",\"x\":[1]}"),
            "line 1: field \"x\": expected text or a number"
        );
        assert_eq!(
            json("{\"x\":1}"),
            "line 1: expected a \"path\" to the image"
        );
    }

    #[test]
    fn a_byte_order_mark_is_not_part_of_a_name() {
        assert_eq!(
            parse_csv("\u{feff}path\na\n".as_bytes()).unwrap().paths,
            ["a"]
        );
    }
}
