//! Cross-condition pairs: only those whose samples agree or differ in a further column (light, make-up, age, pose).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How the two samples of a pair must stand to each other in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Equal values.
    Same,
    /// Different values.
    Different,
    /// One sample has the first value and the other the second, in either order; twice the same value for "both have
    /// this one".
    Between(u32, u32),
}

/// Which pairs a condition is put on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PairKind {
    /// Genuine and impostor pairs.
    #[default]
    All,
    /// Pairs of one identity; impostor pairs are left as they are.
    Genuine,
    /// Pairs of two identities; genuine pairs are left as they are.
    Impostor,
}

impl FromStr for PairKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "all" => Ok(Self::All),
            "genuine" => Ok(Self::Genuine),
            "impostor" => Ok(Self::Impostor),
            other => Err(Error::usage(format!(
                "unknown kind of pairs `{other}`; known: all, genuine, impostor"
            ))),
        }
    }
}

/// One condition on pairs; several hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Name of the column, for messages and results.
    pub column: String,
    /// Its value for each sample.
    pub codes: Vec<u32>,
    /// What is asked of a pair.
    pub relation: Relation,
    /// Of which pairs it is asked.
    pub pairs: PairKind,
}

impl Condition {
    /// Whether a pair takes part.
    #[inline]
    pub fn admits(&self, a: usize, b: usize, same: bool) -> bool {
        match self.pairs {
            PairKind::Genuine if !same => return true,
            PairKind::Impostor if same => return true,
            _ => {}
        }
        let (Some(&x), Some(&y)) = (self.codes.get(a), self.codes.get(b)) else {
            return false;
        };
        match self.relation {
            Relation::Same => x == y,
            Relation::Different => x != y,
            Relation::Between(p, q) => (x == p && y == q) || (x == q && y == p),
        }
    }

    pub(crate) fn check(&self, len: usize) -> Result<()> {
        if self.codes.len() == len {
            return Ok(());
        }
        Err(Error::shape(format!(
            "column `{}` of a condition has {} entries, but there are {len} embeddings",
            self.column,
            self.codes.len()
        )))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = match self.pairs {
            PairKind::All => "pairs",
            PairKind::Genuine => "genuine pairs",
            PairKind::Impostor => "impostor pairs",
        };
        let column = &self.column;
        match self.relation {
            Relation::Same => write!(f, "{of} with the same `{column}`"),
            Relation::Different => write!(f, "{of} with different `{column}`"),
            Relation::Between(p, q) => write!(f, "{of} with `{column}` {p} and {q}"),
        }
    }
}

/// Whether all conditions admit a pair.
#[inline]
pub(crate) fn admitted(conditions: &[Condition], a: usize, b: usize, same: bool) -> bool {
    conditions.iter().all(|c| c.admits(a, b, same))
}
