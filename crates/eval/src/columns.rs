//! Columns of a table with mixed contents: which numbers are the embedding, what is a label, what a factor.

use std::collections::{BTreeMap, BTreeSet};

use crate::embeddings::{Embeddings, check_unique};
use crate::error::{Error, Result};

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Whole(i64),
    Real(f64),
    Text(String),
}

impl Cell {
    /// What a piece of text stands for.
    pub(crate) fn from_text(text: &str) -> Self {
        if let Ok(whole) = text.parse() {
            return Self::Whole(whole);
        }
        match text.parse() {
            Ok(real) => Self::Real(real),
            Err(_) => Self::Text(text.to_string()),
        }
    }

    fn into_text(self) -> String {
        match self {
            Self::Whole(v) => v.to_string(),
            Self::Real(v) => v.to_string(),
            Self::Text(v) => v,
        }
    }
}

/// Columns that are sample ids, in order of preference.
const ID_COLUMNS: [&str; 6] = ["id", "path", "file", "filename", "image", "image_id"];

/// Whether a column holds predictions of another.
pub(crate) fn is_prediction(name: &str) -> bool {
    name == "predictions" || name.starts_with("predicted.")
}

/// The columns `PREFIX0, PREFIX1, ...` (or from 1) of the longest run with one prefix, in order: the embedding.
pub(crate) fn embedding_columns(names: &[String]) -> Result<Vec<usize>> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = names.iter().find(|n| !seen.insert(n.as_str())) {
        return Err(Error::format(format!("two columns are called `{twice}`")));
    }
    let mut runs: BTreeMap<&str, BTreeMap<u64, usize>> = BTreeMap::new();
    for (at, name) in names.iter().enumerate() {
        let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
        if let Some(Ok(number)) = name
            .get(prefix.len()..)
            .filter(|d| !d.is_empty())
            .map(str::parse)
        {
            runs.entry(prefix).or_default().insert(number, at);
        }
    }
    let best = runs
        .values()
        .filter(|run| {
            let first = run.keys().next().copied().unwrap_or(2);
            first <= 1 && run.keys().enumerate().all(|(i, &k)| k == first + i as u64)
        })
        .max_by_key(|run| run.len());
    // A table of predictions alone is judged by them: they stand as its rows too.
    let predicted: Vec<usize> = (0..names.len())
        .filter(|&at| names.get(at).is_some_and(|name| is_prediction(name)))
        .collect();
    best.map(|run| run.values().copied().collect())
        .or((!predicted.is_empty()).then_some(predicted))
        .ok_or_else(|| {
            Error::missing(format!(
                "no columns of an embedding (such as e0, e1, ...); the columns are: {:.200}",
                names.join(", ")
            ))
        })
}

/// Puts the other columns beside the embeddings: `id` (or `path`, `file`, `image`) as sample ids, whole numbers as labels,
/// other numbers as factors, text as labels with names. A column `label` becomes `labels`.
pub(crate) fn attach(
    mut table: Embeddings,
    columns: Vec<(String, Vec<Cell>)>,
) -> Result<Embeddings> {
    let id = ID_COLUMNS
        .iter()
        .find(|id| columns.iter().any(|c| c.0.eq_ignore_ascii_case(id)));
    let has_labels = columns.iter().any(|c| c.0 == "labels");
    for (name, cells) in columns {
        if id.is_some_and(|id| name.eq_ignore_ascii_case(id)) {
            let ids: Vec<String> = cells.into_iter().map(Cell::into_text).collect();
            check_unique(&ids)?;
            table = table.with_ids(ids)?;
            continue;
        }
        let name = if name == "label" && !has_labels {
            "labels".to_string()
        } else {
            name
        };
        let codes: Option<Vec<u32>> = cells
            .iter()
            .map(|c| match c {
                Cell::Whole(v) => u32::try_from(*v).ok(),
                _ => None,
            })
            .collect();
        if let Some(codes) = codes {
            table = table.with_labels(&name, codes)?;
            continue;
        }
        let reals: Option<Vec<f32>> = cells
            .iter()
            .map(|c| match c {
                Cell::Whole(v) => Some(*v as f32),
                Cell::Real(v) => Some(*v as f32),
                Cell::Text(_) => None,
            })
            .collect();
        if let Some(reals) = reals {
            table = table.with_factor(&name, reals)?;
            continue;
        }
        let texts: Vec<String> = cells.into_iter().map(Cell::into_text).collect();
        let names: BTreeSet<&String> = texts.iter().collect();
        let places: BTreeMap<&String, u32> = names.iter().copied().zip(0..).collect();
        let codes = texts
            .iter()
            .filter_map(|t| places.get(t).copied())
            .collect();
        let names = names.into_iter().cloned().collect();
        table = table.with_labels(&name, codes)?.with_names(&name, names);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_run_is_the_embedding() {
        let names = |s: &str| s.split(',').map(String::from).collect::<Vec<String>>();
        assert_eq!(
            embedding_columns(&names("id,e0,e1,e2,age")).unwrap(),
            [1, 2, 3]
        );
        assert_eq!(embedding_columns(&names("2,1,0,label")).unwrap(), [2, 1, 0]);
        assert_eq!(
            embedding_columns(&names("x1,x2,q0,label7")).unwrap(),
            [0, 1]
        );
        let error = embedding_columns(&names("id,age,e0,e2")).unwrap_err();
        assert!(
            error.to_string().starts_with("no columns of an embedding"),
            "{error}"
        );
        let error = embedding_columns(&names("e0,e0")).unwrap_err();
        assert_eq!(error.to_string(), "two columns are called `e0`");
    }
}
