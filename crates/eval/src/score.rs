//! How alike two embeddings are, computed in tiles.
//!
//! Scores are f64 and rounded to a grid of 2^-40 of their range. The grid is far finer than f32, and coarse enough that
//! two pairs whose scores are equal in exact arithmetic stay equal whatever the order in which a product was summed:
//! ties are then real ties, on every machine and for every tile size.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::products::row_products;
use crate::simd;

/// A similarity: larger is more alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// a.b / (|a| |b|), in [-1, 1]; undefined, and refused, for a zero vector.
    #[default]
    Cosine,
    /// The negative Euclidean distance, -|a - b|, in (-inf, 0].
    Euclid,
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cosine => "cosine",
            Self::Euclid => "euclid",
        })
    }
}

impl FromStr for Score {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "cosine" => Ok(Self::Cosine),
            "euclid" => Ok(Self::Euclid),
            other => Err(Error::usage(format!(
                "unknown score `{other}`; known: cosine, euclid"
            ))),
        }
    }
}

/// Rows of a table in some order, one factor of a product. Holds two numbers a row beside the table itself.
pub(crate) struct Side<'a> {
    values: &'a [f32],
    dim: usize,
    rows: Vec<u32>,
    /// |x| by place.
    norms: Vec<f64>,
}

impl<'a> Side<'a> {
    /// The rows `rows` of the table; they must exist.
    ///
    /// # Errors
    /// For the cosine, when a row is the zero vector.
    pub(crate) fn new(table: &'a Embeddings, rows: Vec<u32>, score: Score) -> Result<Self> {
        let (values, dim) = (table.values(), table.dim());
        let norms: Vec<f64> = rows
            .par_iter()
            .map(|&r| {
                let row = &values[r as usize * dim..(r as usize + 1) * dim];
                simd::dot(row, row).sqrt()
            })
            .collect();
        if score == Score::Cosine
            && let Some(at) = norms.iter().position(|&n| n == 0.0)
        {
            return Err(
                Error::value("all zeros: the cosine of a zero vector is undefined").record(
                    format!("embeddings, row {}", rows.get(at).copied().unwrap_or(0)),
                ),
            );
        }
        Ok(Self {
            values,
            dim,
            rows,
            norms,
        })
    }

    /// Every row in its own place.
    pub(crate) fn whole(table: &'a Embeddings, score: Score) -> Result<Self> {
        Self::new(table, (0..table.len() as u32).collect(), score)
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// The table's row at `place`.
    pub(crate) fn origin(&self, place: usize) -> u32 {
        self.rows[place]
    }

    pub(crate) fn norm(&self, place: usize) -> f64 {
        self.norms[place]
    }

    pub(crate) fn largest_norm(&self) -> f64 {
        self.norms.iter().copied().fold(0.0, f64::max)
    }

    /// The embedding at `place`.
    pub(crate) fn row(&self, place: usize) -> &'a [f32] {
        let start = self.rows[place] as usize * self.dim;
        &self.values[start..start + self.dim]
    }

    fn wide(&self, places: Range<usize>) -> Vec<f64> {
        let mut out = Vec::with_capacity(places.len() * self.dim);
        for place in places {
            out.extend(self.row(place).iter().map(|&v| f64::from(v)));
        }
        out
    }
}

/// A similarity with its grid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure {
    score: Score,
    /// Adding and subtracting this rounds to the grid: its last bit is worth one step.
    rounder: f64,
    range: (f64, f64),
}

/// Scores of some rows against some columns.
pub(crate) struct Tile {
    scores: Vec<f64>,
    rows: usize,
}

impl Tile {
    /// For each column in turn, its scores against all rows.
    pub(crate) fn columns(&self) -> std::slice::ChunksExact<'_, f64> {
        self.scores.chunks_exact(self.rows.max(1))
    }
}

impl Measure {
    /// The grid depends on the longest embedding, which `longest` is.
    pub(crate) fn new(score: Score, longest: f64) -> Self {
        let range = match score {
            Score::Cosine => (-1.0, 1.0),
            Score::Euclid => (-2.0 * longest, 0.0),
        };
        let step = match score {
            Score::Cosine => 2f64.powi(-40),
            Score::Euclid if longest > 0.0 => 2f64.powi((2.0 * longest).log2().ceil() as i32 - 40),
            Score::Euclid => 2f64.powi(-40),
        };
        Self {
            score,
            rounder: 1.5 * 2f64.powi(52) * step,
            range,
        }
    }

    /// Least and greatest possible score.
    pub(crate) fn range(&self) -> (f64, f64) {
        self.range
    }

    pub(crate) fn score(&self) -> Score {
        self.score
    }

    /// Scores of places `rows` of `a` against places `columns` of `b`.
    pub(crate) fn tile(
        &self,
        a: &Side<'_>,
        rows: Range<usize>,
        b: &Side<'_>,
        columns: Range<usize>,
    ) -> Tile {
        let (left, right) = (a.wide(rows.clone()), b.wide(columns.clone()));
        let mut scores = vec![0.0; rows.len() * columns.len()];
        row_products(&left, &right, a.dim, &mut scores);
        for (column, c) in scores.chunks_exact_mut(rows.len().max(1)).zip(columns) {
            if self.score == Score::Cosine {
                // The same operations as in `finish`, in a loop that vectorises.
                let norm = b.norms[c];
                for (value, &other) in column.iter_mut().zip(&a.norms[rows.clone()]) {
                    let raw = (*value / (other * norm)).clamp(-1.0, 1.0);
                    *value = (raw + self.rounder) - self.rounder;
                }
                continue;
            }
            for (value, r) in column.iter_mut().zip(rows.clone()) {
                *value = self.finish(*value, a, r, b, c);
            }
        }
        Tile {
            scores,
            rows: rows.len(),
        }
    }

    /// The score of one pair.
    pub(crate) fn pair(&self, a: &Side<'_>, i: usize, b: &Side<'_>, j: usize) -> f64 {
        self.finish(simd::dot(a.row(i), b.row(j)), a, i, b, j)
    }

    #[inline]
    fn finish(&self, dot: f64, a: &Side<'_>, i: usize, b: &Side<'_>, j: usize) -> f64 {
        let (norm_a, norm_b) = (a.norms[i], b.norms[j]);
        let raw = match self.score {
            Score::Cosine => (dot / (norm_a * norm_b)).clamp(-1.0, 1.0),
            Score::Euclid => {
                let both = norm_a * norm_a + norm_b * norm_b;
                let mut square = both - 2.0 * dot;
                // The subtraction cancels for near pairs; the direct form keeps duplicates at exactly 0.
                if square < 1e-5 * both {
                    let differences = a.row(i).iter().zip(b.row(j));
                    square = differences
                        .map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2))
                        .sum();
                }
                -square.max(0.0).sqrt()
            }
        };
        (raw + self.rounder) - self.rounder
    }
}

/// Equal-width counts of genuine and impostor scores.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoreHistogram {
    /// Left edge of the first bin.
    pub low: f64,
    /// Right edge of the last bin.
    pub high: f64,
    /// Genuine pairs per bin.
    pub genuine: Vec<u64>,
    /// Impostor pairs per bin.
    pub impostor: Vec<u64>,
}

impl ScoreHistogram {
    pub(crate) fn new((low, high): (f64, f64), bins: usize) -> Self {
        Self {
            low,
            high,
            genuine: vec![0; bins],
            impostor: vec![0; bins],
        }
    }

    pub(crate) fn add(&mut self, score: f64, same: bool) {
        let counts = if same {
            &mut self.genuine
        } else {
            &mut self.impostor
        };
        let width = self.high - self.low;
        let last = counts.len().saturating_sub(1);
        let at = if width > 0.0 {
            (((score - self.low) / width * counts.len() as f64) as usize).min(last)
        } else {
            last
        };
        if let Some(count) = counts.get_mut(at) {
            *count += 1;
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (a, b) in self.genuine.iter_mut().zip(&other.genuine) {
            *a += b;
        }
        for (a, b) in self.impostor.iter_mut().zip(&other.impostor) {
            *a += b;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_scores() {
        let table = Embeddings::new(vec![3.0, 4.0, 6.0, 8.0, -4.0, 3.0], 2).unwrap();
        let side = Side::whole(&table, Score::Cosine).unwrap();
        let cosine = Measure::new(Score::Cosine, side.largest_norm());
        assert_eq!(cosine.pair(&side, 0, &side, 1), 1.0);
        assert_eq!(cosine.pair(&side, 0, &side, 2), 0.0);
        let table = Embeddings::new(vec![0.0, 0.0, 3.0, 4.0, 3.0, 4.0], 2).unwrap();
        let side = Side::whole(&table, Score::Euclid).unwrap();
        let euclid = Measure::new(Score::Euclid, side.largest_norm());
        assert_eq!(euclid.pair(&side, 0, &side, 1), -5.0);
        assert_eq!(euclid.pair(&side, 1, &side, 2), 0.0);
        let error = Side::whole(&table, Score::Cosine)
            .err()
            .unwrap()
            .to_string();
        assert_eq!(
            error,
            "embeddings, row 0: all zeros: the cosine of a zero vector is undefined"
        );
    }

    #[test]
    fn tiles_equal_pairs_and_duplicates_tie() {
        // Binary vectors of different norms: many scores that are equal in exact arithmetic.
        let values: Vec<f32> = (0..40u32 * 37)
            .map(|i| {
                if (i.wrapping_mul(2_654_435_761) >> 13).is_multiple_of(3) {
                    1.0
                } else {
                    0.0
                }
            })
            .collect();
        let table = Embeddings::new(values, 37).unwrap();
        for score in [Score::Cosine, Score::Euclid] {
            let side = Side::whole(&table, score).unwrap();
            let measure = Measure::new(score, side.largest_norm());
            let whole = measure.tile(&side, 0..40, &side, 0..40);
            let whole: Vec<&[f64]> = whole.columns().collect();
            let part = measure.tile(&side, 3..10, &side, 20..33);
            for (c, column) in part.columns().enumerate() {
                for (r, &score) in column.iter().enumerate() {
                    assert_eq!(score, whole[c + 20][r + 3]);
                    assert_eq!(score, measure.pair(&side, r + 3, &side, c + 20));
                }
            }
        }
    }
}
