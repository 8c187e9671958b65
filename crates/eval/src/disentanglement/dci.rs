//! DCI: disentanglement, completeness and informativeness (Eastwood and Williams, ICLR 2018).

use serde::Serialize;

use super::Coded;
use super::trees::{BoostedTrees, BoostedTreesConfig};
use crate::error::{Error, Result};

/// The three figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dci {
    /// sum_i rho_i (1 - H_F(R_i)): does each column serve one factor?
    pub disentanglement: f64,
    /// sum_j rho_j (1 - H_D(R_j)): is each factor served by one column?
    pub completeness: f64,
    /// Mean accuracy on test rows (the paper states 1 - this).
    pub informativeness: f64,
    /// Importance R, D rows of F values.
    pub importance: Vec<Vec<f64>>,
}

/// Fits boosted trees for each factor on `train`, reads their importances, and predicts `test`.
///
/// The fit has no random choice: the drawing of the rows is all that a seed changes.
///
/// # Errors
/// When the code has one column, there is one factor only, or a factor is constant on the training rows.
pub fn dci(train: Coded<'_>, test: Coded<'_>) -> Result<Dci> {
    train.need_columns("DCI")?;
    train.need_factors("DCI")?;
    let (columns, factors) = (train.codes.dim(), train.factors.count());
    let mut importance = vec![vec![0.0; factors]; columns];
    let mut accuracy = 0.0;
    for j in 0..factors {
        let fit = BoostedTrees::fit(
            train.codes,
            train.factors.column(j),
            &BoostedTreesConfig::default(),
        )?;
        for (row, &v) in importance.iter_mut().zip(fit.importance()) {
            if let Some(cell) = row.get_mut(j) {
                *cell = v;
            }
        }
        let truth = test.factors.column(j);
        let predicted = fit.predict(test.codes)?;
        let right = predicted.iter().zip(truth).filter(|(p, t)| p == t).count();
        accuracy += right as f64 / truth.len() as f64 / factors as f64;
    }
    let (disentanglement, completeness) = dci_of_importance(&importance)?;
    Ok(Dci {
        disentanglement,
        completeness,
        informativeness: accuracy,
        importance,
    })
}

/// Disentanglement and completeness of an importance matrix, D rows of F values at or above 0.
///
/// 1e-11 is added inside the entropies; a matrix of zeros weighs all rows alike.
///
/// # Errors
/// When there are fewer than two rows or columns, rows differ in length, or a value is negative or not finite.
pub fn dci_of_importance(importance: &[Vec<f64>]) -> Result<(f64, f64)> {
    let (d, f) = (importance.len(), importance.first().map_or(0, Vec::len));
    if d < 2 || f < 2 || importance.iter().any(|r| r.len() != f) {
        return Err(Error::degenerate(format!(
            "DCI needs at least two columns and two factors, got {d} x {f}"
        )));
    }
    if importance
        .iter()
        .flatten()
        .any(|v| !(*v >= 0.0 && v.is_finite()))
    {
        return Err(Error::value("an importance is negative or not finite"));
    }
    let turned: Vec<Vec<f64>> = (0..f)
        .map(|j| {
            importance
                .iter()
                .filter_map(|r| r.get(j).copied())
                .collect()
        })
        .collect();
    Ok((weighted_purity(importance), weighted_purity(&turned)))
}

/// sum_i rho_i (1 - H(R_i)), entropy to the base of the row's length.
fn weighted_purity(rows: &[Vec<f64>]) -> f64 {
    let total: f64 = rows.iter().flatten().sum();
    let purity = |row: &Vec<f64>| {
        let sum: f64 = row.iter().map(|v| v + 1e-11).sum();
        let entropy: f64 = row
            .iter()
            .map(|v| (v + 1e-11) / sum)
            .map(|p| -p * p.ln())
            .sum();
        1.0 - entropy / (row.len() as f64).ln()
    };
    let weight = |row: &Vec<f64>| {
        if total > 0.0 {
            row.iter().sum::<f64>() / total
        } else {
            1.0 / rows.len() as f64
        }
    };
    rows.iter().map(|row| weight(row) * purity(row)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_forms() {
        let identity = vec![vec![1.0, 0.0], vec![0.0, 1.0]];
        let (d, c) = dci_of_importance(&identity).unwrap();
        assert!((d - 1.0).abs() < 1e-8 && (c - 1.0).abs() < 1e-8);
        let flat = vec![vec![0.5, 0.5]; 2];
        let (d, c) = dci_of_importance(&flat).unwrap();
        assert!(d.abs() < 1e-8 && c.abs() < 1e-8);
        // Two columns for one factor, one for the other: columns pure, the first factor spread.
        let split = vec![vec![0.5, 0.0], vec![0.5, 0.0], vec![0.0, 1.0]];
        let (d, c) = dci_of_importance(&split).unwrap();
        assert!((d - 1.0).abs() < 1e-8);
        assert!((c - (1.0 - 0.5 * 2f64.ln() / 3f64.ln())).abs() < 1e-8);
        assert!(dci_of_importance(&[vec![1.0, 0.0]]).is_err());
        assert!(dci_of_importance(&[vec![1.0, f64::NAN], vec![0.0, 1.0]]).is_err());
    }
}
