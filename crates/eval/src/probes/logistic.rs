//! Logistic regression, fitted to convergence.
//!
//! ```text
//! minimise  (1/n) sum_i -ln p(y_i given x_i) + ||W||^2 / (2 n C)        p = softmax(W x + b), or a sigmoid for two classes
//! ```
//!
//! The bias is not penalised. Two classes have one weight vector, more have one each: both as scikit-learn's
//! `LogisticRegression`, whose C this is, so that the fitted probabilities are equal to its own.

use nalgebra::{DMatrix, DMatrixView};
use rayon::prelude::*;

use super::lbfgs::minimise;
use crate::bootstrap::dense_codes;
use crate::error::{Error, Result};
use crate::rows::{Rows, check_labels};

/// Rows that are multiplied at once; also the unit in which sums are taken, so that they do not depend on the threads.
const BLOCK: usize = 512;

/// How to fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogisticConfig {
    /// Inverse strength of the penalty. Default 1.
    pub c: f64,
    /// Largest entry of the gradient at which it stops. Default 1e-6.
    pub tolerance: f64,
    /// Most iterations. Default 1,000.
    pub iterations: usize,
}

impl Default for LogisticConfig {
    fn default() -> Self {
        Self {
            c: 1.0,
            tolerance: 1e-6,
            iterations: 1_000,
        }
    }
}

/// A fitted classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct Logistic {
    classes: Vec<u32>,
    dim: usize,
    /// Outputs x dim, column by column; one output for two classes.
    weights: Vec<f64>,
    bias: Vec<f64>,
    iterations: usize,
}

/// Rows ready for products: blocks and their transposes.
pub(crate) struct Blocks {
    /// dim x rows.
    columns: Vec<DMatrix<f64>>,
    /// rows x dim.
    rows: Vec<DMatrix<f64>>,
    n: usize,
    dim: usize,
}

impl Blocks {
    pub(crate) fn new(rows: &Rows) -> Self {
        let dim = rows.dim();
        let columns: Vec<DMatrix<f64>> = rows
            .values()
            .chunks(BLOCK * dim)
            .map(|part| DMatrix::from_column_slice(dim, part.len() / dim, part))
            .collect();
        Self {
            rows: columns.iter().map(DMatrix::transpose).collect(),
            columns,
            n: rows.len(),
            dim,
        }
    }
}

impl Logistic {
    /// Fits to `labels`.
    ///
    /// # Errors
    /// When there is not one label a row, or there are fewer than two classes, or C is not above 0.
    pub fn fit(rows: &Rows, labels: &[u32], config: &LogisticConfig) -> Result<Self> {
        Self::fit_blocks(&Blocks::new(rows), labels, config, None)
    }

    /// The same with the products' input made once, from where another fit ended.
    pub(crate) fn fit_blocks(
        blocks: &Blocks,
        labels: &[u32],
        config: &LogisticConfig,
        start: Option<&Self>,
    ) -> Result<Self> {
        if labels.len() != blocks.n {
            return Err(Error::shape(format!(
                "{} labels for {} rows",
                labels.len(),
                blocks.n
            )));
        }
        if !(config.c > 0.0 && config.c.is_finite()) {
            return Err(Error::usage(format!("C must be above 0, got {}", config.c)));
        }
        let (codes, count) = dense_codes(labels);
        if count < 2 {
            return Err(Error::degenerate(format!(
                "one class only (all {} labels are {}): a classifier needs two",
                labels.len(),
                labels.first().copied().unwrap_or(0)
            )));
        }
        let mut classes = labels.to_vec();
        classes.sort_unstable();
        classes.dedup();
        let outputs = if count == 2 { 1 } else { count };
        let dim = blocks.dim;
        let mut x = match start {
            Some(start) if start.classes == classes && start.dim == dim => {
                [start.weights.as_slice(), &start.bias].concat()
            }
            _ => vec![0.0; outputs * (dim + 1)],
        };
        let decay = 1.0 / (config.c * blocks.n as f64);
        let iterations = minimise(&mut x, config.tolerance, config.iterations, |x, g| {
            objective(blocks, &codes, outputs, decay, x, g)
        });
        let bias = x.split_off(outputs * dim);
        Ok(Self {
            classes,
            dim,
            weights: x,
            bias,
            iterations,
        })
    }

    /// The classes, ascending: the columns of [`Logistic::probabilities`].
    pub fn classes(&self) -> &[u32] {
        &self.classes
    }

    /// Iterations taken.
    pub fn iterations(&self) -> usize {
        self.iterations
    }

    /// The weights, (outputs, D) row by row, with one output for two classes; and the biases.
    pub fn parameters(&self) -> (Vec<f64>, &[f64]) {
        let outputs = self.bias.len();
        let by_row = (0..outputs).flat_map(|o| {
            let cells = self.weights.iter().skip(o).step_by(outputs);
            cells.copied()
        });
        (by_row.collect(), &self.bias)
    }

    /// Probabilities (N, classes), row by row.
    ///
    /// # Errors
    /// When the rows have another dimension than those fitted to.
    pub fn probabilities(&self, rows: &Rows) -> Result<Vec<f64>> {
        if rows.dim() != self.dim {
            return Err(Error::shape(format!(
                "fitted to rows of {}, asked about rows of {}",
                self.dim,
                rows.dim()
            )));
        }
        let outputs = self.bias.len();
        let weights = DMatrixView::from_slice(&self.weights, outputs, self.dim);
        let parts: Vec<Vec<f64>> = rows
            .values()
            .par_chunks(BLOCK * self.dim)
            .map(|part| {
                let x = DMatrixView::from_slice(part, self.dim, part.len() / self.dim);
                let mut scores = weights * x;
                let mut out = Vec::with_capacity(scores.len());
                for mut column in scores.column_iter_mut() {
                    for (s, b) in column.iter_mut().zip(&self.bias) {
                        *s += b;
                    }
                    if outputs == 1 {
                        let p = sigmoid(column.iter().copied().next().unwrap_or(0.0));
                        out.extend([1.0 - p, p]);
                    } else {
                        let top = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                        let sum: f64 = column.iter().map(|s| (s - top).exp()).sum();
                        out.extend(column.iter().map(|s| (s - top).exp() / sum));
                    }
                }
                out
            })
            .collect();
        Ok(parts.concat())
    }

    /// The most probable class of each row, the lowest of equal ones.
    ///
    /// # Errors
    /// As [`Logistic::probabilities`].
    pub fn predict(&self, rows: &Rows) -> Result<Vec<u32>> {
        let probabilities = self.probabilities(rows)?;
        Ok(most_probable(&probabilities, &self.classes))
    }

    /// Share of right predictions.
    ///
    /// # Errors
    /// As [`Logistic::probabilities`]; also when there is not one label a row.
    pub fn accuracy(&self, rows: &Rows, labels: &[u32]) -> Result<f64> {
        check_labels(rows, labels.len(), "labels")?;
        let predicted = self.predict(rows)?;
        let right = predicted.iter().zip(labels).filter(|(p, l)| p == l).count();
        Ok(right as f64 / labels.len() as f64)
    }
}

/// The class of the largest entry of each row.
pub(crate) fn most_probable(probabilities: &[f64], classes: &[u32]) -> Vec<u32> {
    probabilities
        .chunks(classes.len().max(1))
        .map(|row| {
            let (mut best, mut top) = (0, f64::NEG_INFINITY);
            for (class, &p) in row.iter().enumerate() {
                if p > top {
                    (best, top) = (class, p);
                }
            }
            classes.get(best).copied().unwrap_or(0)
        })
        .collect()
}

fn sigmoid(z: f64) -> f64 {
    if z >= 0.0 {
        1.0 / (1.0 + (-z).exp())
    } else {
        let e = z.exp();
        e / (1.0 + e)
    }
}

/// Mean loss with its penalty; fills the gradient.
fn objective(
    blocks: &Blocks,
    codes: &[u32],
    outputs: usize,
    decay: f64,
    x: &[f64],
    gradient: &mut [f64],
) -> f64 {
    let dim = blocks.dim;
    let (weights, bias) = x.split_at(outputs * dim);
    let matrix = DMatrixView::from_slice(weights, outputs, dim);
    let parts: Vec<(f64, DMatrix<f64>, Vec<f64>)> = blocks
        .columns
        .par_iter()
        .zip(&blocks.rows)
        .zip(codes.par_chunks(BLOCK))
        .map(|((columns, rows), codes)| {
            let mut scores = matrix * columns;
            let mut loss = 0.0;
            let mut bias_gradient = vec![0.0; outputs];
            for (mut column, &code) in scores.column_iter_mut().zip(codes) {
                for (s, b) in column.iter_mut().zip(bias) {
                    *s += b;
                }
                if outputs == 1 {
                    for s in column.iter_mut() {
                        let z = *s;
                        let target = f64::from(code);
                        loss += z.max(0.0) - target * z + (-z.abs()).exp().ln_1p();
                        *s = sigmoid(z) - target;
                    }
                } else {
                    let top = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let wanted = column.iter().nth(code as usize).copied().unwrap_or(top);
                    let mut sum = 0.0;
                    for s in column.iter_mut() {
                        *s = (*s - top).exp();
                        sum += *s;
                    }
                    loss += top + sum.ln() - wanted;
                    for (k, s) in column.iter_mut().enumerate() {
                        *s = *s / sum - f64::from(u8::from(k == code as usize));
                    }
                }
                for (total, s) in bias_gradient.iter_mut().zip(column.iter()) {
                    *total += s;
                }
            }
            (loss, &scores * rows, bias_gradient)
        })
        .collect();
    gradient.fill(0.0);
    let n = blocks.n as f64;
    let mut loss = 0.0;
    for (part, weight_gradient, bias_gradient) in &parts {
        loss += part;
        let all = weight_gradient.as_slice().iter().chain(bias_gradient);
        for (g, v) in gradient.iter_mut().zip(all) {
            *g += v / n;
        }
    }
    let mut squares = 0.0;
    for (g, w) in gradient.iter_mut().zip(weights) {
        *g += decay * w;
        squares += w * w;
    }
    loss / n + 0.5 * decay * squares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs(classes: u32) -> (Rows, Vec<u32>) {
        let labels: Vec<u32> = (0..90).map(|i| i % classes).collect();
        let values = labels.iter().enumerate().flat_map(|(i, &l)| {
            let t = i as f64;
            [
                f64::from(l) + 0.6 * (1.7 * t).sin(),
                f64::from(l * l) + 0.6 * (2.9 * t).cos(),
            ]
        });
        (Rows::new(values.collect(), 2).unwrap(), labels)
    }

    #[test]
    fn gradient_equals_differences() {
        for classes in [2, 4] {
            let (rows, labels) = blobs(classes);
            let (codes, _) = dense_codes(&labels);
            let outputs = if classes == 2 { 1 } else { 4 };
            let blocks = Blocks::new(&rows);
            let x: Vec<f64> = (0..outputs * 3).map(|i| (i as f64).sin()).collect();
            let mut gradient = vec![0.0; x.len()];
            objective(&blocks, &codes, outputs, 0.1, &x, &mut gradient);
            for i in 0..x.len() {
                let at = |shift: f64| {
                    let mut y = x.clone();
                    y[i] += shift;
                    objective(&blocks, &codes, outputs, 0.1, &y, &mut vec![0.0; x.len()])
                };
                let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((numeric - gradient[i]).abs() < 1e-8, "{i}");
            }
        }
    }

    #[test]
    fn learns_and_names_its_faults() {
        let (rows, labels) = blobs(3);
        let named: Vec<u32> = labels.iter().map(|l| 10 * l + 5).collect();
        let fit = Logistic::fit(&rows, &named, &LogisticConfig::default()).unwrap();
        assert_eq!(fit.classes(), [5, 15, 25]);
        assert!(fit.accuracy(&rows, &named).unwrap() > 0.85);
        let config = LogisticConfig::default();
        assert!(Logistic::fit(&rows, &named[1..], &config).is_err());
        let line = Logistic::fit(&rows, &[4; 90], &config)
            .unwrap_err()
            .to_string();
        assert!(line.contains("all 90 labels are 4"), "{line}");
        assert!(fit.predict(&Rows::new(vec![1.0], 1).unwrap()).is_err());
        let bad = LogisticConfig { c: 0.0, ..config };
        assert!(Logistic::fit(&rows, &named, &bad).is_err());
    }
}
