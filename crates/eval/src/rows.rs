//! A table of numbers, row by row: what probes and disentanglement metrics take.

use crate::embeddings::Embeddings;
use crate::error::{Error, Result};

/// N rows of D finite f64 values.
///
/// ```
/// let rows = phiz_eval::Rows::new(vec![1.0, 2.0, 3.0, 4.0], 2)?;
/// assert_eq!((rows.len(), rows.dim(), rows.row(1)), (2, 2, &[3.0, 4.0][..]));
/// # Ok::<(), phiz_eval::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    values: Vec<f64>,
    dim: usize,
}

impl Rows {
    /// Takes `values.len() / dim` rows.
    ///
    /// # Errors
    /// When `dim` is 0, there is no row, the values are no whole rows, or one is NaN or infinite (the row is named).
    pub fn new(values: Vec<f64>, dim: usize) -> Result<Self> {
        if dim == 0 || values.is_empty() || !values.len().is_multiple_of(dim) {
            return Err(Error::shape(format!(
                "a table must be (N, D) with N and D at least 1, got {} values in rows of {dim}",
                values.len()
            )));
        }
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::value("a value is NaN or infinite").record(format!(
                "row {}, column {}",
                at / dim,
                at % dim
            )));
        }
        Ok(Self { values, dim })
    }

    /// The same from f32.
    ///
    /// # Errors
    /// As [`Rows::new`].
    pub fn from_f32(values: &[f32], dim: usize) -> Result<Self> {
        Self::new(values.iter().map(|&v| f64::from(v)).collect(), dim)
    }

    /// The embeddings of a table.
    pub fn of(embeddings: &Embeddings) -> Self {
        let rows = (0..embeddings.len()).filter_map(|i| embeddings.row(i));
        Self {
            values: rows.flatten().map(|&v| f64::from(v)).collect(),
            dim: embeddings.dim(),
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    /// Always false: there is at least one row.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Number of columns.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Row `index`; empty past the end.
    pub fn row(&self, index: usize) -> &[f64] {
        let start = index.saturating_mul(self.dim);
        self.values
            .get(start..start.saturating_add(self.dim))
            .unwrap_or(&[])
    }

    /// Column `index`.
    pub fn column(&self, index: usize) -> Vec<f64> {
        if index >= self.dim {
            return Vec::new();
        }
        let cells = self.values.iter().skip(index).step_by(self.dim);
        cells.copied().collect()
    }

    /// Some rows, in the order given.
    ///
    /// # Errors
    /// When `rows` is empty or refers past the end.
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        if let Some(bad) = rows.iter().find(|r| **r >= self.len()) {
            return Err(Error::shape(format!(
                "row {bad} is past the end of {} rows",
                self.len()
            )));
        }
        if rows.is_empty() {
            return Err(Error::degenerate("no row was chosen"));
        }
        Ok(Self {
            values: rows.iter().flat_map(|&r| self.row(r)).copied().collect(),
            dim: self.dim,
        })
    }

    /// Mean and standard deviation (divisor N) of each column.
    pub fn moments(&self) -> (Vec<f64>, Vec<f64>) {
        let n = self.len() as f64;
        let mut mean = vec![0.0; self.dim];
        for row in self.values.chunks_exact(self.dim) {
            for (m, v) in mean.iter_mut().zip(row) {
                *m += v / n;
            }
        }
        let mut variance = vec![0.0; self.dim];
        for row in self.values.chunks_exact(self.dim) {
            for ((s, v), m) in variance.iter_mut().zip(row).zip(&mean) {
                *s += (v - m) * (v - m) / n;
            }
        }
        (mean, variance.into_iter().map(f64::sqrt).collect())
    }

    /// (value - mean) / sd by column; a column with an sd of (nearly) 0 is only centred.
    pub(crate) fn standardised(&self, mean: &[f64], sd: &[f64]) -> Self {
        let scale = |m: f64, s: f64| {
            if s > 10.0 * f64::EPSILON * m.abs().max(f64::MIN_POSITIVE) {
                1.0 / s
            } else {
                1.0
            }
        };
        let scales: Vec<f64> = mean.iter().zip(sd).map(|(&m, &s)| scale(m, s)).collect();
        let values = self.values.chunks_exact(self.dim).flat_map(|row| {
            row.iter()
                .zip(mean.iter().zip(&scales))
                .map(|(v, (m, s))| (v - m) * s)
        });
        Self {
            values: values.collect(),
            dim: self.dim,
        }
    }
}

/// That there is one label a row.
pub(crate) fn check_labels(rows: &Rows, labels: usize, what: &str) -> Result<()> {
    if labels == rows.len() {
        Ok(())
    } else {
        Err(Error::shape(format!(
            "{labels} {what} for {} rows",
            rows.len()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selection_moments_and_faults() {
        let rows = Rows::new(vec![1.0, 5.0, 3.0, 5.0, 5.0, 5.0], 2).unwrap();
        let (mean, sd) = rows.moments();
        assert_eq!(mean, [3.0, 5.0]);
        assert!((sd[0] - (8.0f64 / 3.0).sqrt()).abs() < 1e-15 && sd[1] == 0.0);
        let unit = rows.standardised(&mean, &sd);
        assert_eq!(unit.column(1), [0.0; 3]);
        assert!((unit.column(0)[0] + 1.5f64.sqrt()).abs() < 1e-15);
        assert_eq!(rows.select(&[2, 0]).unwrap().values(), [5.0, 5.0, 1.0, 5.0]);
        assert!(rows.select(&[3]).is_err() && rows.select(&[]).is_err());
        assert!(Rows::new(vec![], 2).is_err() && Rows::new(vec![1.0], 0).is_err());
        let line = Rows::new(vec![0.0, 1.0, f64::NAN, 1.0], 2).unwrap_err();
        assert_eq!(
            line.to_string(),
            "row 1, column 0: a value is NaN or infinite"
        );
    }
}
