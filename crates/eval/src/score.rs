//! How alike two embeddings are, computed in tiles.
//!
//! Scores are f64 and rounded to a grid of 2^-40 of their range. The grid is far finer than f32, and coarse enough that
//! two pairs whose scores are equal in exact arithmetic stay equal whatever the order in which a product was summed:
//! ties are then real ties, on every machine and for every tile size.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use nalgebra::DMatrix;
use serde::Serialize;

use crate::embeddings::Embeddings;
use crate::error::{Error, Result};

/// A similarity: larger is more alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// a.b / (|a| |b|), in [-1, 1]; 0 when either is the zero vector.
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

/// Rows of a table in some order, ready for products.
pub(crate) struct Scorer {
    score: Score,
    /// (D, N), so that one embedding is contiguous.
    columns: DMatrix<f64>,
    /// (N, D), the left factor of a tile.
    rows: DMatrix<f64>,
    square_norms: Vec<f64>,
    /// Adding and subtracting this rounds to the grid: its last bit is worth one step.
    rounder: f64,
    range: (f64, f64),
}

impl Scorer {
    /// Takes the rows `order` of the table.
    pub(crate) fn new(table: &Embeddings, score: Score, order: &[usize]) -> Self {
        let dim = table.dim();
        let mut columns = DMatrix::<f64>::zeros(dim, order.len());
        for (mut column, &i) in columns.column_iter_mut().zip(order) {
            let row = table.values().get(i * dim..(i + 1) * dim).unwrap_or(&[]);
            for (to, &from) in column.iter_mut().zip(row) {
                *to = f64::from(from);
            }
            if score == Score::Cosine {
                let norm = column.norm();
                if norm > 0.0 {
                    column.unscale_mut(norm);
                }
            }
        }
        let square_norms: Vec<f64> = columns.column_iter().map(|c| c.norm_squared()).collect();
        let largest = square_norms.iter().copied().fold(0.0, f64::max).sqrt();
        let range = match score {
            Score::Cosine => (-1.0, 1.0),
            Score::Euclid => (-2.0 * largest, 0.0),
        };
        let step = match score {
            Score::Cosine => 2f64.powi(-40),
            Score::Euclid if largest > 0.0 => 2f64.powi((2.0 * largest).log2().ceil() as i32 - 40),
            Score::Euclid => 2f64.powi(-40),
        };
        Self {
            score,
            rows: columns.transpose(),
            columns,
            square_norms,
            rounder: 1.5 * 2f64.powi(52) * step,
            range,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.columns.ncols()
    }

    /// Least and greatest possible score.
    pub(crate) fn range(&self) -> (f64, f64) {
        self.range
    }

    /// Scores of `rows` against `columns`; element (r, c) of the result.
    pub(crate) fn tile(&self, rows: Range<usize>, columns: Range<usize>) -> DMatrix<f64> {
        let left = self.rows.rows(rows.start, rows.len());
        let right = self.columns.columns(columns.start, columns.len());
        let mut out = left * right;
        for (c, mut column) in out.column_iter_mut().enumerate() {
            for (r, value) in column.iter_mut().enumerate() {
                *value = self.finish(*value, rows.start + r, columns.start + c);
            }
        }
        out
    }

    /// The score of one pair.
    pub(crate) fn pair(&self, a: usize, b: usize) -> f64 {
        let dot = self.columns.column(a).dot(&self.columns.column(b));
        self.finish(dot, a, b)
    }

    fn finish(&self, dot: f64, a: usize, b: usize) -> f64 {
        let raw = match self.score {
            Score::Cosine => dot.clamp(-1.0, 1.0),
            Score::Euclid => {
                let both = self.square_norms[a] + self.square_norms[b];
                let mut square = both - 2.0 * dot;
                // The subtraction cancels for near pairs; the direct form keeps duplicates at exactly 0.
                if square < 1e-5 * both {
                    let (a, b) = (self.columns.column(a), self.columns.column(b));
                    square = a.iter().zip(b.iter()).map(|(x, y)| (x - y) * (x - y)).sum();
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

    fn scorer(values: Vec<f32>, dim: usize, score: Score) -> Scorer {
        let table = Embeddings::new(values, dim).unwrap();
        let order: Vec<usize> = (0..table.len()).collect();
        Scorer::new(&table, score, &order)
    }

    #[test]
    fn known_scores() {
        let cosine = scorer(
            vec![3.0, 4.0, 6.0, 8.0, -4.0, 3.0, 0.0, 0.0],
            2,
            Score::Cosine,
        );
        assert_eq!(cosine.pair(0, 1), 1.0);
        assert_eq!(cosine.pair(0, 2), 0.0);
        assert_eq!(cosine.pair(0, 3), 0.0);
        let euclid = scorer(vec![0.0, 0.0, 3.0, 4.0, 3.0, 4.0], 2, Score::Euclid);
        assert_eq!(euclid.pair(0, 1), -5.0);
        assert_eq!(euclid.pair(1, 2), 0.0);
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
        for score in [Score::Cosine, Score::Euclid] {
            let scorer = scorer(values.clone(), 37, score);
            let whole = scorer.tile(0..40, 0..40);
            let part = scorer.tile(3..10, 20..33);
            for r in 0..7 {
                for c in 0..13 {
                    assert_eq!(part[(r, c)], whole[(r + 3, c + 20)]);
                    assert_eq!(part[(r, c)], scorer.pair(r + 3, c + 20));
                }
            }
        }
    }
}
