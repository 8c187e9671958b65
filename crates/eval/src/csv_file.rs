//! Embedding tables as CSV: a header, one sample a line.

use std::path::Path;

use crate::columns::{Cell, attach, embedding_columns, is_prediction};
use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::files::read_bounded;

impl Embeddings {
    /// Reads a CSV file with a header. The embedding is the longest run of columns with one prefix and the numbers from 0
    /// or 1 (`e0,e1,...`); `id`, `path`, `file` or `image` holds sample ids; other columns of whole numbers are labels,
    /// of other numbers factors, of text labels with names. A column `label` becomes `labels`. A table of predictions
    /// alone (`predicted.NAME` or `predictions`, no embedding) has those as its rows too.
    ///
    /// ```
    /// use phiz_eval::Embeddings;
    /// let table = Embeddings::from_csv(b"id,e0,e1,label,pose\na.png,1,0,7,0.5\nb.png,0,1,8,-0.5\n")?;
    /// assert_eq!((table.len(), table.dim()), (2, 2));
    /// assert_eq!(table.labels("labels")?, &[7, 8]);
    /// # Ok::<(), phiz_eval::Error>(())
    /// ```
    ///
    /// # Errors
    /// One line that names the file and the line: no embedding columns, a missing or surplus entry, not a number.
    pub fn read_csv(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_csv(&read_bounded(path)?).map_err(|e| e.at(path))
    }

    /// [`Embeddings::read_csv`] on bytes in memory.
    ///
    /// # Errors
    /// As there.
    pub fn from_csv(bytes: &[u8]) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
        let mut header: Option<(Vec<String>, Vec<usize>)> = None;
        let mut values = Vec::new();
        let mut others: Vec<(usize, String, Vec<Cell>)> = Vec::new();
        for (i, record) in reader.records().enumerate() {
            let record = record.map_err(|e| {
                let line = e.position().map_or(i as u64 + 1, csv::Position::line);
                Error::format("not UTF-8 text").record(format!("line {line}"))
            })?;
            let line = record.position().map_or(i as u64 + 1, csv::Position::line);
            let at = |message: String| Error::format(message).record(format!("line {line}"));
            let Some((names, embedding)) = &header else {
                let names: Vec<String> = record.iter().map(String::from).collect();
                let embedding = embedding_columns(&names).map_err(|e| e.record("line 1"))?;
                others = (0..names.len())
                    .filter_map(|c| Some((c, names.get(c)?.clone(), Vec::new())))
                    .filter(|(c, name, _)| !embedding.contains(c) || is_prediction(name))
                    .collect();
                header = Some((names, embedding));
                continue;
            };
            if record.len() != names.len() {
                return Err(at(format!(
                    "{} entries, but there are {} columns",
                    record.len(),
                    names.len()
                )));
            }
            for &column in embedding {
                let text = record.get(column).unwrap_or("");
                let value: f32 = text.parse().map_err(|_| {
                    let name = names.get(column).map_or("", String::as_str);
                    at(format!("column `{name}` is not a number: `{text:.40}`"))
                })?;
                values.push(value);
            }
            for (column, name, cells) in &mut others {
                let text = record.get(*column).unwrap_or("");
                if text.is_empty() {
                    return Err(at(format!("column `{name}` is empty")));
                }
                cells.push(Cell::from_text(text));
            }
        }
        let Some((_, embedding)) = header else {
            return Err(Error::format(
                "an empty file; expected a header and one sample a line",
            ));
        };
        let table = Self::new(values, embedding.len())?;
        attach(table, others.into_iter().map(|(_, n, c)| (n, c)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_by_their_contents() {
        let text = "image,person,1,2,light,age\n\
                    \"a, b.png\",ann,0.5,-1e-2,3,20\n\
                    c.png,bob,1,2,3,20.5\n";
        let table = Embeddings::from_csv(text.as_bytes()).unwrap();
        assert_eq!(table.values(), [0.5, -0.01, 1.0, 2.0]);
        assert_eq!(table.id(0), "a, b.png");
        assert_eq!(table.labels("person").unwrap(), [0, 1]);
        assert_eq!(table.names("person"), ["ann", "bob"]);
        assert_eq!(table.labels("light").unwrap(), [3, 3]);
        assert_eq!(table.factors()["age"], [20.0, 20.5]);
    }

    #[test]
    fn each_fault_names_its_line() {
        let message = |text: &str| {
            Embeddings::from_csv(text.as_bytes())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            message("e0,e1\n1\n"),
            "line 2: 1 entries, but there are 2 columns"
        );
        assert_eq!(
            message("e0,e1\n1,2\n1,x\n"),
            "line 3: column `e1` is not a number: `x`"
        );
        assert_eq!(message("e0,label\n1,\n"), "line 2: column `label` is empty");
        assert_eq!(
            message("e0,label\n1,2\nNaN,2\n"),
            "embeddings, row 1: column 0 is NaN"
        );
        assert!(message("").contains("an empty file"));
        assert!(message("e0\n").contains("at least 1"));
        assert!(message("a,b\n1,2\n").starts_with("line 1: no columns of an embedding"));
    }

    proptest! {
        #[test]
        fn hostile_text(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Embeddings::from_csv(&bytes);
            let mut text = b"id,e0,e1,label\n".to_vec();
            text.extend(&bytes);
            let _ = Embeddings::from_csv(&text);
        }
    }
}
