//! Pair lists: which samples to compare, and whether they are of one identity.

use std::collections::BTreeMap;
use std::path::Path;

use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::files::read_bounded;

/// One comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Index of the first sample.
    pub a: usize,
    /// Index of the second sample.
    pub b: usize,
    /// Whether both show one identity.
    pub same: bool,
    /// Fold of a cross-validated protocol.
    pub fold: Option<u32>,
}

/// A list of comparisons over one table of embeddings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairList {
    pairs: Vec<Pair>,
}

impl PairList {
    /// A list of pairs over `len` samples.
    ///
    /// # Errors
    /// When the list is empty, an index is past the end, or only some pairs have a fold.
    pub fn new(pairs: Vec<Pair>, len: usize) -> Result<Self> {
        if pairs.is_empty() {
            return Err(Error::degenerate("the pair list is empty"));
        }
        for (i, pair) in pairs.iter().enumerate() {
            if pair.a >= len || pair.b >= len {
                return Err(Error::shape(format!(
                    "sample {} is past the end of {len} embeddings",
                    pair.a.max(pair.b)
                ))
                .record(format!("pair {i}")));
            }
        }
        let folded = pairs.iter().filter(|p| p.fold.is_some()).count();
        if folded != 0 && folded != pairs.len() {
            return Err(Error::format(format!(
                "{folded} of {} pairs have a fold; all or none must",
                pairs.len()
            )));
        }
        Ok(Self { pairs })
    }

    /// Reads a CSV file with the columns `a,b,same` and, if wanted, `fold`.
    ///
    /// A first line that names the columns (in any order) may be left out. `a` and `b` are sample ids when `embeddings`
    /// has ids, row numbers from 0 otherwise; `same` is `1`, `0`, `true` or `false`; `fold` is a whole number.
    ///
    /// # Errors
    /// One line that names the file and the line.
    pub fn read_csv(path: impl AsRef<Path>, embeddings: &Embeddings) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read_bounded(path)?;
        Self::from_csv(&bytes, embeddings).map_err(|e| e.at(path))
    }

    /// [`PairList::read_csv`] on bytes in memory.
    ///
    /// # Errors
    /// As there.
    pub fn from_csv(bytes: &[u8], embeddings: &Embeddings) -> Result<Self> {
        let by_id: BTreeMap<&str, usize> = embeddings
            .ids()
            .iter()
            .enumerate()
            .map(|(i, id)| (id.as_str(), i))
            .collect();
        if by_id.len() != embeddings.ids().len() {
            let first_of = |i: usize, id: &String| by_id.get(id.as_str()) == Some(&i);
            let twice = embeddings.ids().iter().enumerate();
            let twice = twice.filter(|&(i, id)| !first_of(i, id)).map(|(_, id)| id);
            return Err(Error::format(format!(
                "the embeddings have two samples with one id, `{}`: pairs cannot be told apart",
                twice.min().map_or("", String::as_str)
            )));
        }
        let find = |text: &str| -> Result<usize> {
            if !by_id.is_empty() {
                return by_id
                    .get(text)
                    .copied()
                    .ok_or_else(|| Error::missing(format!("no sample has the id `{text}`")));
            }
            text.parse()
                .ok()
                .filter(|&i: &usize| i < embeddings.len())
                .ok_or_else(|| {
                    Error::missing(format!(
                        "`{text}` is not a row number below {} (the embeddings have no sample ids)",
                        embeddings.len()
                    ))
                })
        };
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(bytes);
        let mut columns = Columns::default();
        let mut pairs = Vec::new();
        for (i, record) in reader.records().enumerate() {
            let record = record.map_err(|e| {
                let line = e.position().map_or(i as u64 + 1, csv::Position::line);
                Error::format("not UTF-8 text").record(format!("line {line}"))
            })?;
            let line = record.position().map_or(i as u64 + 1, csv::Position::line);
            let at = |e: Error| e.record(format!("line {line}"));
            if i == 0
                && let Some(named) = Columns::from_header(&record)
            {
                columns = named;
                continue;
            }
            let field = |name: &str, column: usize| {
                record.get(column).filter(|f| !f.is_empty()).ok_or_else(|| {
                    at(Error::format(format!(
                        "no value for `{name}`; expected a,b,same[,fold]"
                    )))
                })
            };
            let same = match field("same", columns.same)? {
                "1" | "true" | "True" => true,
                "0" | "false" | "False" => false,
                other => {
                    return Err(at(Error::format(format!(
                        "`same` must be 1, 0, true or false, found `{other}`"
                    ))));
                }
            };
            let fold = match columns
                .fold
                .and_then(|c| record.get(c))
                .filter(|f| !f.is_empty())
            {
                None => None,
                Some(text) => Some(text.parse().map_err(|_| {
                    at(Error::format(format!(
                        "`fold` must be a whole number, found `{text}`"
                    )))
                })?),
            };
            pairs.push(Pair {
                a: find(field("a", columns.a)?).map_err(at)?,
                b: find(field("b", columns.b)?).map_err(at)?,
                same,
                fold,
            });
        }
        Self::new(pairs, embeddings.len())
    }

    /// The pairs, in file order.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// Whether the pairs have folds.
    pub fn has_folds(&self) -> bool {
        self.pairs.first().is_some_and(|p| p.fold.is_some())
    }
}

struct Columns {
    a: usize,
    b: usize,
    same: usize,
    fold: Option<usize>,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            a: 0,
            b: 1,
            same: 2,
            fold: Some(3),
        }
    }
}

impl Columns {
    /// `None` when the line is not a header, that is when it lacks one of the three names.
    fn from_header(record: &csv::StringRecord) -> Option<Self> {
        let find = |name: &str| record.iter().position(|f| f.eq_ignore_ascii_case(name));
        Some(Self {
            a: find("a")?,
            b: find("b")?,
            same: find("same")?,
            fold: find("fold"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(ids: bool) -> Embeddings {
        let table = Embeddings::new(vec![0.0, 1.0, 2.0], 1).unwrap();
        if ids {
            table
                .with_ids(vec!["s1/1.pgm".into(), "s1/2.pgm".into(), "s2, x".into()])
                .unwrap()
        } else {
            table
        }
    }

    #[test]
    fn ids_indices_headers_and_folds() {
        let list = PairList::from_csv(b"0,1,1\n0,2,0\n", &table(false)).unwrap();
        assert_eq!(
            list.pairs()[1],
            Pair {
                a: 0,
                b: 2,
                same: false,
                fold: None
            }
        );
        let text = b"same,fold,b,a\ntrue,3,s1/2.pgm,s1/1.pgm\nfalse,4,\"s2, x\",s1/1.pgm\n";
        let list = PairList::from_csv(text, &table(true)).unwrap();
        assert_eq!(
            list.pairs()[0],
            Pair {
                a: 0,
                b: 1,
                same: true,
                fold: Some(3)
            }
        );
        assert_eq!(list.pairs()[1].b, 2);
    }

    #[test]
    fn each_fault_names_its_line() {
        let message = |text: &str, ids| {
            PairList::from_csv(text.as_bytes(), &table(ids))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            message("0,1,1\n0,3,0\n", false),
            "line 2: `3` is not a row number below 3 (the embeddings have no sample ids)"
        );
        assert_eq!(
            message("a,b,same\ns1/1.pgm,nobody,0\n", true),
            "line 2: no sample has the id `nobody`"
        );
        assert_eq!(
            message("0,1,maybe\n", false),
            "line 1: `same` must be 1, 0, true or false, found `maybe`"
        );
        assert_eq!(
            message("0,1\n", false),
            "line 1: no value for `same`; expected a,b,same[,fold]"
        );
        assert_eq!(
            message("0,1,1,2\n0,2,0\n", false),
            "1 of 2 pairs have a fold; all or none must"
        );
        assert_eq!(message("", false), "the pair list is empty");
        let twins = Embeddings::new(vec![0.0, 1.0], 1)
            .and_then(|t| t.with_ids(vec!["x".into(), "x".into()]))
            .unwrap();
        let error = PairList::from_csv(b"x,x,1\n", &twins).unwrap_err();
        assert!(error.to_string().contains("one id"), "{error}");
    }

    proptest! {
        #[test]
        fn hostile_text(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = PairList::from_csv(&bytes, &table(false));
            let _ = PairList::from_csv(&bytes, &table(true));
        }
    }
}
