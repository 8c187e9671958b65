//! Weighted k nearest neighbours on unit features.
//!
//! Each of the k training rows with the largest cosine votes for its class with weight exp(cosine / temperature) (Wu et
//! al., CVPR 2018; the protocol of most self-supervised work, with k = 200 and temperature 0.07 on large sets). Equal
//! cosines go by row, equal votes by the lower class.

use std::collections::BTreeMap;

use nalgebra::{DMatrix, DMatrixView};
use rayon::prelude::*;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::rows::{Rows, check_labels};

/// Queries compared at once.
const BLOCK: usize = 64;

/// How to vote.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NeighbourConfig {
    /// Neighbours that vote; fewer when there are fewer rows. Default 20.
    pub k: usize,
    /// Divisor of the cosine in the vote's weight. Default 0.07.
    pub temperature: f64,
}

impl Default for NeighbourConfig {
    fn default() -> Self {
        Self {
            k: 20,
            temperature: 0.07,
        }
    }
}

/// The class that the neighbours of each query vote for.
///
/// # Errors
/// When sizes disagree, k is 0, the temperature is not above 0, or a row is zero (it has no direction).
pub fn nearest_neighbours(
    train: &Rows,
    labels: &[u32],
    queries: &Rows,
    config: &NeighbourConfig,
) -> Result<Vec<u32>> {
    check_labels(train, labels.len(), "labels")?;
    if train.dim() != queries.dim() {
        return Err(Error::shape(format!(
            "training rows of {}, queries of {}",
            train.dim(),
            queries.dim()
        )));
    }
    if config.k == 0 || config.temperature.is_nan() || config.temperature <= 0.0 {
        return Err(Error::usage(format!(
            "k and temperature must be above 0, got {} and {}",
            config.k, config.temperature
        )));
    }
    let (dim, k) = (train.dim(), config.k.min(train.len()));
    let unit_train = unit(train, "training row")?;
    let base = DMatrix::from_column_slice(dim, train.len(), &unit_train).transpose();
    let unit_queries = unit(queries, "query")?;
    let parts: Vec<Vec<u32>> = unit_queries
        .par_chunks(BLOCK * dim)
        .map(|part| {
            let scores = &base * DMatrixView::from_slice(part, dim, part.len() / dim);
            let vote = |column: &[f64]| {
                let mut order: Vec<usize> = (0..column.len()).collect();
                let score = |i: usize| column.get(i).copied().unwrap_or(-1.0);
                let nearer = |a: &usize, b: &usize| score(*b).total_cmp(&score(*a)).then(a.cmp(b));
                if k < order.len() {
                    order.select_nth_unstable_by(k - 1, nearer);
                    order.truncate(k);
                }
                order.sort_unstable_by(nearer);
                let mut votes: BTreeMap<u32, f64> = BTreeMap::new();
                for i in order {
                    if let Some(&label) = labels.get(i) {
                        // Relative to the nearest possible, so that a small temperature does not overflow.
                        *votes.entry(label).or_insert(0.0) +=
                            ((score(i) - 1.0) / config.temperature).exp();
                    }
                }
                let best =
                    votes
                        .iter()
                        .fold(None, |best: Option<(u32, f64)>, (&l, &v)| match best {
                            Some((_, top)) if v <= top => best,
                            _ => Some((l, v)),
                        });
                best.map_or(0, |b| b.0)
            };
            let rows = scores.nrows().max(1);
            scores.as_slice().chunks(rows).map(vote).collect()
        })
        .collect();
    Ok(parts.concat())
}

fn unit(rows: &Rows, what: &str) -> Result<Vec<f64>> {
    let mut out = Vec::with_capacity(rows.values().len());
    for (i, row) in rows.values().chunks_exact(rows.dim()).enumerate() {
        let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        if norm <= 0.0 {
            return Err(
                Error::value("a zero vector has no direction").record(format!("{what} {i}"))
            );
        }
        out.extend(row.iter().map(|v| v / norm));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_votes_weigh_more_and_ties_go_low() {
        let train = Rows::new(vec![1.0, 0.0, 0.0, 1.0, 0.1, 1.0], 2).unwrap();
        let query = Rows::new(vec![2.0, 0.1], 2).unwrap();
        let config = NeighbourConfig {
            k: 3,
            temperature: 0.07,
        };
        let found = nearest_neighbours(&train, &[9, 4, 4], &query, &config).unwrap();
        assert_eq!(found, [9], "one near vote outweighs two far ones");
        let flat = NeighbourConfig {
            k: 3,
            temperature: 1e6,
        };
        let found = nearest_neighbours(&train, &[9, 4, 4], &query, &flat).unwrap();
        assert_eq!(found, [4]);
        let two = Rows::new(vec![1.0, 0.0, 1.0, 0.0], 2).unwrap();
        let found = nearest_neighbours(&two, &[9, 4], &query, &flat).unwrap();
        assert_eq!(found, [4], "equal votes go to the lower class");
        let zero = Rows::new(vec![0.0, 0.0], 2).unwrap();
        let line = nearest_neighbours(&train, &[0, 1, 2], &zero, &flat).unwrap_err();
        assert_eq!(line.to_string(), "query 0: a zero vector has no direction");
        assert!(nearest_neighbours(&train, &[0, 1], &query, &flat).is_err());
    }
}
