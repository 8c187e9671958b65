//! BetaVAE and FactorVAE scores: batches that share one factor, and a simple reader that must say which.

use serde::Serialize;

use super::{Coded, Factors};
use crate::error::{Error, Result};
use crate::probes::{Logistic, LogisticConfig};
use crate::rows::Rows;
use crate::streams::{below, stream};

/// Sizes of the two.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct VoteConfig {
    /// Rows of a batch. Default 64.
    pub batch: usize,
    /// Batches to learn from. Default 10,000.
    pub train: usize,
    /// Batches to judge on. Default 5,000.
    pub test: usize,
    /// FactorVAE leaves out columns with a smaller standard deviation. Default 0.05 (the study's setting).
    pub least_sd: f64,
}

impl Default for VoteConfig {
    fn default() -> Self {
        Self {
            batch: 64,
            train: 10_000,
            test: 5_000,
            least_sd: 0.05,
        }
    }
}

/// FactorVAE's result.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FactorVae {
    /// Accuracy on the batches to judge on; 0 without an active column.
    pub accuracy: f64,
    /// Columns that are not left out.
    pub active: usize,
}

/// Rows by factor and value.
struct ByValue(Vec<Vec<Vec<usize>>>);

impl ByValue {
    fn new(factors: &Factors) -> Self {
        let of = |j: usize| {
            let mut rows = vec![Vec::new(); factors.values(j)];
            for (row, &value) in factors.column(j).iter().enumerate() {
                if let Some(list) = rows.get_mut(value as usize) {
                    list.push(row);
                }
            }
            rows
        };
        Self((0..factors.count()).map(of).collect())
    }

    /// The rows that have row `row`'s value of factor `j`.
    fn alike(&self, factors: &Factors, j: usize, row: usize) -> &[usize] {
        let value = factors.column(j).get(row).copied().unwrap_or(0) as usize;
        self.0
            .get(j)
            .and_then(|v| v.get(value))
            .map_or(&[], Vec::as_slice)
    }
}

fn check(config: &VoteConfig) -> Result<()> {
    if config.batch < 2 || config.train == 0 || config.test == 0 {
        return Err(Error::usage(
            "votes need batches of at least two rows, at least one to learn from and one to judge on",
        ));
    }
    Ok(())
}

/// BetaVAE score (Higgins et al., ICLR 2017): a factor j is drawn, then `batch` pairs of rows that share v_j pairwise; the
/// mean of |z - z'| over the pairs is the feature from which logistic regression must tell j. The result is its accuracy;
/// chance is 1 / F.
///
/// # Errors
/// When there is one factor only, or the configuration is empty.
pub fn beta_vae(coded: Coded<'_>, config: &VoteConfig, seed: u64) -> Result<f64> {
    coded.need_factors("the BetaVAE score")?;
    check(config)?;
    let index = ByValue::new(coded.factors);
    let (n, d) = (coded.codes.len(), coded.codes.dim());
    let draw = |name: &str, count: usize| -> Result<(Rows, Vec<u32>)> {
        let (mut features, mut labels) = (Vec::with_capacity(count * d), Vec::with_capacity(count));
        for k in 0..count {
            let mut rng = stream(seed, name, k as u64);
            let j = below(&mut rng, coded.factors.count());
            let mut mean = vec![0.0; d];
            for _ in 0..config.batch {
                let a = below(&mut rng, n);
                let alike = index.alike(coded.factors, j, a);
                let b = alike
                    .get(below(&mut rng, alike.len()))
                    .copied()
                    .unwrap_or(a);
                for ((m, x), y) in mean
                    .iter_mut()
                    .zip(coded.codes.row(a))
                    .zip(coded.codes.row(b))
                {
                    *m += (x - y).abs() / config.batch as f64;
                }
            }
            features.extend(mean);
            labels.push(j as u32);
        }
        Ok((Rows::new(features, d)?, labels))
    };
    let (x, y) = draw("beta-vae-train", config.train)?;
    let (seen, truth) = draw("beta-vae-test", config.test)?;
    Logistic::fit(&x, &y, &LogisticConfig::default())?.accuracy(&seen, &truth)
}

/// FactorVAE score (Kim and Mnih, ICML 2018): a factor j is drawn and a batch of rows that share v_j; the column with the
/// least variance relative to its variance over all rows is the batch's vote. Each column stands for the factor that most
/// of its training votes had; the result is the share of test votes that this gets right.
///
/// # Errors
/// When there is one factor only, or the configuration is empty.
pub fn factor_vae(coded: Coded<'_>, config: &VoteConfig, seed: u64) -> Result<FactorVae> {
    coded.need_factors("the FactorVAE score")?;
    check(config)?;
    let n = coded.codes.len();
    let (_, sd) = coded.codes.moments();
    // With n - 1, as the batches' own.
    let unbiased = n as f64 / (n as f64 - 1.0).max(1.0);
    let active: Vec<(usize, f64)> = sd
        .iter()
        .map(|s| s * s * unbiased)
        .enumerate()
        .filter(|(_, v)| *v > 0.0 && v.sqrt() >= config.least_sd)
        .collect();
    if active.is_empty() {
        return Ok(FactorVae {
            accuracy: 0.0,
            active: 0,
        });
    }
    let index = ByValue::new(coded.factors);
    let votes = |name: &str, count: usize| -> Vec<(usize, usize)> {
        let one = |k: usize| {
            let mut rng = stream(seed, name, k as u64);
            let j = below(&mut rng, coded.factors.count());
            let first = below(&mut rng, n);
            let alike = index.alike(coded.factors, j, first);
            let batch: Vec<usize> = (0..config.batch)
                .map(|_| {
                    alike
                        .get(below(&mut rng, alike.len()))
                        .copied()
                        .unwrap_or(first)
                })
                .collect();
            let mut least = (f64::INFINITY, 0);
            for (place, &(column, global)) in active.iter().enumerate() {
                let values = || {
                    batch
                        .iter()
                        .map(|&r| coded.codes.row(r).get(column).copied().unwrap_or(0.0))
                };
                let mean = values().sum::<f64>() / batch.len() as f64;
                let squares: f64 = values().map(|v| (v - mean).powi(2)).sum();
                let ratio = squares / (batch.len() - 1) as f64 / global;
                if ratio < least.0 {
                    least = (ratio, place);
                }
            }
            (j, least.1)
        };
        use rayon::prelude::*;
        (0..count).into_par_iter().map(one).collect()
    };
    let mut counts = vec![vec![0u64; coded.factors.count()]; active.len()];
    for (j, place) in votes("factor-vae-train", config.train) {
        if let Some(count) = counts.get_mut(place).and_then(|c| c.get_mut(j)) {
            *count += 1;
        }
    }
    let stands_for: Vec<usize> = counts
        .iter()
        .map(|c| {
            let counts: Vec<f64> = c.iter().map(|&v| v as f64).collect();
            super::argmax(&counts)
        })
        .collect();
    let test = votes("factor-vae-test", config.test);
    let right = test
        .iter()
        .filter(|(j, place)| stands_for.get(*place) == Some(j))
        .count();
    Ok(FactorVae {
        accuracy: right as f64 / test.len() as f64,
        active: active.len(),
    })
}
