//! Ridge regression in closed form.
//!
//! ```text
//! minimise  ||y - X w - b||^2 + alpha ||w||^2        w = (Xc' Xc + alpha I)^-1 Xc' yc,   Xc, yc centred
//! ```
//!
//! The bias is not penalised: scikit-learn's `Ridge(alpha)`.

use nalgebra::{DMatrix, DVector};

use crate::error::{Error, Result};
use crate::rows::{Rows, check_labels};

/// A fitted linear map to one number.
#[derive(Debug, Clone, PartialEq)]
pub struct Ridge {
    /// One weight a column.
    pub weights: Vec<f64>,
    /// The constant.
    pub bias: f64,
}

/// What the solution for any penalty needs, made once.
pub(crate) struct Normal {
    gram: DMatrix<f64>,
    target: DVector<f64>,
    mean: Vec<f64>,
    mean_target: f64,
}

impl Normal {
    pub(crate) fn new(rows: &Rows, targets: &[f64]) -> Result<Self> {
        check_labels(rows, targets.len(), "target values")?;
        if let Some(row) = targets.iter().position(|v| !v.is_finite()) {
            return Err(
                Error::value("a target value is NaN or infinite").record(format!("row {row}"))
            );
        }
        let (mean, _) = rows.moments();
        let mean_target = targets.iter().sum::<f64>() / targets.len() as f64;
        let dim = rows.dim();
        let centred = rows.values().iter().enumerate();
        let columns = DMatrix::from_iterator(
            dim,
            rows.len(),
            centred.map(|(i, v)| v - mean.get(i % dim).copied().unwrap_or(0.0)),
        );
        let y = DVector::from_iterator(targets.len(), targets.iter().map(|t| t - mean_target));
        Ok(Self {
            gram: &columns * columns.transpose(),
            target: &columns * y,
            mean,
            mean_target,
        })
    }

    pub(crate) fn solve(&self, alpha: f64) -> Result<Ridge> {
        if !(alpha > 0.0 && alpha.is_finite()) {
            return Err(Error::usage(format!("alpha must be above 0, got {alpha}")));
        }
        let mut gram = self.gram.clone();
        for i in 0..gram.nrows() {
            if let Some(cell) = gram.get_mut((i, i)) {
                *cell += alpha;
            }
        }
        let Some(factor) = gram.cholesky() else {
            return Err(Error::degenerate(format!(
                "the features are too nearly dependent for alpha = {alpha}: give a larger one"
            )));
        };
        let weights: Vec<f64> = factor.solve(&self.target).iter().copied().collect();
        let shift: f64 = weights.iter().zip(&self.mean).map(|(w, m)| w * m).sum();
        Ok(Ridge {
            weights,
            bias: self.mean_target - shift,
        })
    }
}

impl Ridge {
    /// Fits to `targets` with penalty `alpha`.
    ///
    /// # Errors
    /// When there is not one finite target a row, or `alpha` is not above 0.
    pub fn fit(rows: &Rows, targets: &[f64], alpha: f64) -> Result<Self> {
        Normal::new(rows, targets)?.solve(alpha)
    }

    /// The predicted numbers.
    ///
    /// # Errors
    /// When the rows have another dimension than those fitted to.
    pub fn predict(&self, rows: &Rows) -> Result<Vec<f64>> {
        if rows.dim() != self.weights.len() {
            return Err(Error::shape(format!(
                "fitted to rows of {}, asked about rows of {}",
                self.weights.len(),
                rows.dim()
            )));
        }
        let rows = rows.values().chunks_exact(self.weights.len());
        let product =
            |row: &[f64]| -> f64 { row.iter().zip(&self.weights).map(|(v, w)| v * w).sum() };
        Ok(rows.map(|row| self.bias + product(row)).collect())
    }
}

/// Share of the variance that the predictions explain: 1 - sum (y - x)^2 / sum (y - mean y)^2. Below 0 is worse than the
/// mean; `None` for constant `truth`.
pub fn r_squared(predicted: &[f64], truth: &[f64]) -> Option<f64> {
    let mean = truth.iter().sum::<f64>() / truth.len() as f64;
    let rest: f64 = truth
        .iter()
        .zip(predicted)
        .map(|(y, x)| (y - x).powi(2))
        .sum();
    let all: f64 = truth.iter().map(|y| (y - mean).powi(2)).sum();
    (all > 0.0).then(|| 1.0 - rest / all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_map_is_found() {
        let values: Vec<f64> = (0..60u32).map(|i| f64::from(i * i * 37 % 101)).collect();
        let rows = Rows::new(values, 3).unwrap();
        let y: Vec<f64> = (0..20)
            .map(|i| 2.0 * rows.row(i)[0] - rows.row(i)[2] + 7.0)
            .collect();
        let fit = Ridge::fit(&rows, &y, 1e-6).unwrap();
        assert!((fit.weights[0] - 2.0).abs() < 1e-6 && fit.weights[1].abs() < 1e-6);
        assert!((fit.bias - 7.0).abs() < 1e-6);
        let predicted = fit.predict(&rows).unwrap();
        assert!((r_squared(&predicted, &y).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(r_squared(&[1.0, 2.0], &[3.0, 3.0]), None);
        assert!(Ridge::fit(&rows, &y, 0.0).is_err() && Ridge::fit(&rows, &y[1..], 1.0).is_err());
    }
}
