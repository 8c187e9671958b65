//! Unfairness of predictions made from a code (Locatello et al., NeurIPS 2019, where it is called fairness): how far the
//! prediction of one factor moves when another one is set by hand. 0 is fair.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Coded;
use super::trees::{BoostedTrees, BoostedTreesConfig};
use crate::error::{Error, Result};
use crate::streams::{below, stream};

/// Total variation distances.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unfairness {
    /// The headline: mean over sensitive factors, then over targets, of the mean over values.
    pub mean: f64,
    /// The largest over targets, sensitive factors and values.
    pub largest: f64,
    /// For each target (row) and sensitive factor (column): the mean over values; 0 on the diagonal.
    pub matrix: Vec<Vec<f64>>,
}

/// For target i, boosted trees are fitted on the rows `train`; for sensitive factor j, `draws` rows are drawn, v_j is set
/// to each of its values by taking the row that agrees on all other factors, and the distribution of predictions per value
/// is compared with the mean one: TV_c = 1/2 sum_k |p(k given c) - mean p(k)|.
///
/// Where several rows have one combination of factors, one is drawn.
///
/// # Errors
/// When there is one factor only, there are no draws, `train` leaves a factor constant, or the table has no row for a
/// combination that is needed (it is named).
pub fn unfairness(
    coded: Coded<'_>,
    train: &[usize],
    draws: usize,
    seed: u64,
) -> Result<Unfairness> {
    coded.need_factors("the fairness figure")?;
    if draws == 0 {
        return Err(Error::usage("the fairness figure needs at least one draw"));
    }
    let f = coded.factors.count();
    let key = |row: usize| -> Vec<u32> {
        (0..f)
            .map(|j| coded.factors.column(j).get(row).copied().unwrap_or(0))
            .collect()
    };
    let mut rows: BTreeMap<Vec<u32>, Vec<usize>> = BTreeMap::new();
    for row in 0..coded.codes.len() {
        rows.entry(key(row)).or_default().push(row);
    }
    let codes = coded.codes.select(train)?;
    let factors = coded.factors.select(train);
    let mut matrix = vec![vec![0.0; f]; f];
    let (mut sum, mut largest) = (0.0, 0.0f64);
    for (i, line) in matrix.iter_mut().enumerate() {
        let fit = BoostedTrees::fit(&codes, factors.column(i), &BoostedTreesConfig::default())?;
        for (j, cell) in line.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            let mut rng = stream(seed, "unfairness", (i * f + j) as u64);
            let drawn: Vec<Vec<u32>> = (0..draws)
                .map(|_| key(below(&mut rng, coded.codes.len())))
                .collect();
            let values = coded.factors.values(j);
            let mut shares = Vec::with_capacity(values);
            for value in 0..values as u32 {
                let mut chosen = Vec::with_capacity(draws);
                for key in &drawn {
                    let mut key = key.clone();
                    if let Some(v) = key.get_mut(j) {
                        *v = value;
                    }
                    let Some(list) = rows.get(&key) else {
                        return Err(Error::degenerate(format!(
                            "no row has the factors {key:?}: the fairness figure needs every combination"
                        )));
                    };
                    chosen.extend(list.get(below(&mut rng, list.len())));
                }
                let predicted = fit.predict(&coded.codes.select(&chosen)?)?;
                let mut share = vec![0.0; coded.factors.values(i)];
                for p in predicted {
                    if let Some(s) = share.get_mut(p as usize) {
                        *s += 1.0 / draws as f64;
                    }
                }
                shares.push(share);
            }
            let mean: Vec<f64> = (0..coded.factors.values(i))
                .map(|k| {
                    let of = shares.iter().filter_map(|s| s.get(k));
                    of.sum::<f64>() / values as f64
                })
                .collect();
            for share in &shares {
                let distances = share.iter().zip(&mean).map(|(a, b)| (a - b).abs());
                let distance = 0.5 * distances.sum::<f64>();
                *cell += distance / values as f64;
                largest = largest.max(distance);
            }
            sum += *cell / (f - 1) as f64 / f as f64;
        }
    }
    Ok(Unfairness {
        mean: sum,
        largest,
        matrix,
    })
}
