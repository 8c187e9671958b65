//! Protocols as TOML files, so that a private data set needs no code.
//!
//! ```toml
//! name = "door-cross-pose"          # what the result is called
//! kind = "verification"             # verification, folds, templates, identification, retrieval, clustering, classification,
//!                                   # regression, landmarks, probes, disentanglement
//! label = "identity"                # column of identities; default `labels`
//! score = "cosine"                  # or euclid
//! fars = [1e-1, 1e-3]
//! resamples = 500                   # of the bootstrap; 0 leaves intervals out
//! pairs = "pairs.csv"               # a,b,same[,fold]; without it all pairs. Paths are relative to this file
//!
//! [[condition]]                     # verification: only such pairs
//! column = "pose"
//! relation = "different"            # same, different, or values = ["frontal", "profile"]
//! pairs = "genuine"                 # all (default), genuine, impostor
//!
//! [threshold]                       # verification: apply thresholds chosen elsewhere
//! values = [0.31]                   # fixed ones, and/or
//! from = "dev.safetensors"          # chosen on another table (with `pairs` of its own, else all pairs)
//! rule = "eer"                      # best-accuracy, eer, far=1e-3
//! ```
//!
//! Further keys: `rule` (strict, insightface, facex-zoo) for folds; `ks`, `queries` (rows drawn evenly) or
//! `query = { column, value }` for retrieval; `clusters`, `seed` for clustering; a `[templates]` table with `index`,
//! `pairs`, `detector`, `keep_norm`, `flip`, `galleries`, `probes`, `fpirs`, `ranks` for templates and identification;
//! `truth`, `normaliser`, `failure` for landmarks; `train`, `shots`, `seed` for probes; `factors`, `seeds` for
//! disentanglement; `cluster` and `group` for all that draw identities or have groups.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::conditions::PairKind;
use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::files::read_bounded;
use crate::folds::FoldRule;
use crate::landmarks::Normaliser;
use crate::score::Score;
use crate::templates::Flip;

/// Which way of judging a file describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProtocolKind {
    /// One against one over pairs, listed or all.
    Verification,
    /// Cross-validated accuracy over folds.
    Folds,
    /// One against one over templates.
    Templates,
    /// One against many over templates.
    Identification,
    /// The nearest other samples.
    Retrieval,
    /// Agreement of k-means clusters with labels.
    Clustering,
    /// Predicted against true classes.
    Classification,
    /// Predicted against true numbers.
    Regression,
    /// Predicted against true points.
    Landmarks,
    /// Classifiers fitted to frozen features.
    Probes,
    /// Codes against factors.
    Disentanglement,
}

/// A protocol read from TOML; see the text above for the keys.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtocolFile {
    /// What the result is called.
    pub name: String,
    /// The way of judging.
    pub kind: ProtocolKind,
    /// Column of identities.
    pub label: Option<String>,
    /// Column whose values the bootstrap draws.
    pub cluster: Option<String>,
    /// Column whose values are groups.
    pub group: Option<String>,
    /// The similarity.
    pub score: Option<Score>,
    /// False accept rates.
    pub fars: Option<Vec<f64>>,
    /// The k of `recall@k`.
    pub ks: Option<Vec<usize>>,
    /// Resamples of the bootstrap; 0 leaves intervals out.
    pub resamples: Option<usize>,
    /// Pair list.
    pub pairs: Option<PathBuf>,
    /// Whose rules judge the folds.
    pub rule: Option<FoldRule>,
    /// Conditions on pairs.
    #[serde(default)]
    pub condition: Vec<ConditionEntry>,
    /// Thresholds from elsewhere.
    pub threshold: Option<ThresholdEntry>,
    /// Number of queries, drawn evenly from the table.
    pub queries: Option<usize>,
    /// The queries, by the value of a column.
    pub query: Option<QueryEntry>,
    /// Number of clusters; default as many as labels.
    pub clusters: Option<usize>,
    /// Seed of the clustering or the probes.
    #[serde(default)]
    pub seed: u64,
    /// True points.
    pub truth: Option<PathBuf>,
    /// What their errors are divided by.
    pub normaliser: Option<Normaliser>,
    /// Errors above this are failures; default 0.1.
    pub failure: Option<f64>,
    /// Table that probes are fitted to.
    pub train: Option<PathBuf>,
    /// Rows of each class for few-shot probes.
    #[serde(default)]
    pub shots: Vec<usize>,
    /// Label columns that are factors.
    pub factors: Option<Vec<String>>,
    /// Seeds of the disentanglement figures; default 5.
    pub seeds: Option<u64>,
    /// Templates.
    pub templates: Option<TemplatesEntry>,
    #[serde(skip)]
    folder: PathBuf,
}

/// A condition on pairs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionEntry {
    /// Column of the table.
    pub column: String,
    /// `same` or `different`.
    pub relation: Option<String>,
    /// Instead: one sample has the first value and one the second; names or whole numbers.
    pub values: Option<[ValueEntry; 2]>,
    /// Which pairs it is put on.
    #[serde(default)]
    pub pairs: PairKind,
}

/// A value of a column: its code, or its name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum ValueEntry {
    /// The code itself.
    Code(u32),
    /// The name of a code.
    Name(String),
}

/// Thresholds from elsewhere.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThresholdEntry {
    /// Fixed thresholds.
    #[serde(default)]
    pub values: Vec<f64>,
    /// Table that a threshold is chosen on.
    pub from: Option<PathBuf>,
    /// Its pair list.
    pub pairs: Option<PathBuf>,
    /// `best-accuracy`, `eer` or `far=RATE`.
    pub rule: Option<String>,
}

/// Queries by the value of a column.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryEntry {
    /// Column of the table.
    pub column: String,
    /// Its value for queries.
    pub value: ValueEntry,
}

/// Templates: the official files and how images are pooled.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplatesEntry {
    /// `image template medium` for each row of the embeddings.
    pub index: PathBuf,
    /// `template template same` lines, for 1:1.
    pub pairs: Option<PathBuf>,
    /// Lines that end with the detector's score, for each row.
    pub detector: Option<PathBuf>,
    /// Keep the norm of image features (N).
    #[serde(default = "yes")]
    pub keep_norm: bool,
    /// What a row holds (F).
    #[serde(default)]
    pub flip: Flip,
    /// `TEMPLATE_ID,SUBJECT_ID` lists, for 1:N; figures are means over them.
    #[serde(default)]
    pub galleries: Vec<PathBuf>,
    /// The probe list.
    pub probes: Option<PathBuf>,
    /// False positive identification rates.
    pub fpirs: Option<Vec<f64>>,
    /// The k of `rank-k`.
    pub ranks: Option<Vec<usize>>,
}

fn yes() -> bool {
    true
}

impl ProtocolFile {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// Names the file and the key: not TOML, an unknown key or kind.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let run = || -> Result<Self> {
            let bytes = read_bounded(path)?;
            let text = std::str::from_utf8(&bytes).map_err(|_| Error::format("not UTF-8 text"))?;
            Self::from_toml(text)
        };
        let mut file = run().map_err(|e| e.at(path))?;
        file.folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        Ok(file)
    }

    /// [`ProtocolFile::read`] on text; paths in it are relative to the working folder.
    ///
    /// # Errors
    /// Names the key.
    pub fn from_toml(text: &str) -> Result<Self> {
        let file: Self = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(0, |s| {
                text.get(..s.start).unwrap_or(text).matches('\n').count() + 1
            });
            let words: Vec<&str> = e.message().split_whitespace().collect();
            Error::format(words.join(" ")).record(format!("line {line}"))
        })?;
        for far in file.fars.iter().flatten() {
            if !(*far > 0.0 && *far <= 1.0) {
                return Err(Error::value(format!(
                    "`fars` must lie in (0, 1], found {far}"
                )));
            }
        }
        Ok(file)
    }

    /// A path of the file, relative to its folder.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}

impl ValueEntry {
    /// The code of the value in a column.
    pub(crate) fn code(&self, table: &Embeddings, column: &str) -> Result<u32> {
        match self {
            Self::Code(code) => Ok(*code),
            Self::Name(name) => table
                .names(column)
                .iter()
                .position(|n| n == name)
                .map(|at| at as u32)
                .ok_or_else(|| {
                    Error::missing(format!(
                        "column `{column}` has no value called `{name}`; known: {:.200}",
                        table.names(column).join(", ")
                    ))
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_one_line() {
        let message = |text: &str| ProtocolFile::from_toml(text).unwrap_err().to_string();
        let head = "name = 'x'\nkind = 'retrieval'\n";
        assert!(ProtocolFile::from_toml(head).is_ok());
        let error = message(&format!("{head}qeries = 3\n"));
        assert!(
            error.starts_with("line 3: unknown field `qeries`"),
            "{error}"
        );
        assert!(message("name = 'x'\nkind = 'magic'").contains("unknown variant `magic`"));
        assert!(message("name = 'x'").contains("missing field `kind`"));
        assert!(message("= = =").starts_with("line 1: "));
        assert_eq!(
            message(&format!("{head}fars = [0.1, 0.0]")),
            "`fars` must lie in (0, 1], found 0"
        );
    }
}
