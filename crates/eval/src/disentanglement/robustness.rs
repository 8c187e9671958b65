//! IRS: the interventional robustness score (Suter et al., ICML 2019).

use serde::Serialize;

use super::{Coded, argmax};
use crate::disentanglement::information::binned;
use crate::error::{Error, Result};

/// The score and what it is made of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Robustness {
    /// Mean over active columns, weighted by their largest deviation.
    pub score: f64,
    /// Columns that are not constant.
    pub active: usize,
    /// For each active column: its place in the code, the factor it follows most, and its own score.
    pub columns: Vec<(usize, usize, f64)>,
}

/// For each factor and value: the `quantile` (0.99; the paper: 1) of |z - mean of z in the group|, averaged over values,
/// divided by the largest |z - mean of z|; a column's score is 1 minus the least of these over factors.
///
/// Factors with more than `bins` (20) values are put into as many bins of equal width first. A code whose columns are
/// all constant scores 0.
///
/// # Errors
/// When the quantile is outside [0, 1] or there is no bin.
pub fn interventional_robustness(
    coded: Coded<'_>,
    quantile: f64,
    bins: usize,
) -> Result<Robustness> {
    if !(0.0..=1.0).contains(&quantile) || bins == 0 {
        return Err(Error::usage(format!(
            "IRS needs a quantile between 0 and 1 and at least one bin, got {quantile} and {bins}"
        )));
    }
    let groups: Vec<Vec<Vec<usize>>> = (0..coded.factors.count())
        .map(|j| {
            let values: Vec<f64> = coded
                .factors
                .column(j)
                .iter()
                .map(|&v| f64::from(v))
                .collect();
            let mut groups = vec![Vec::new(); bins];
            for (row, bin) in binned(&values, bins).into_iter().enumerate() {
                if let Some(group) = groups.get_mut(bin as usize) {
                    group.push(row);
                }
            }
            groups.retain(|g: &Vec<usize>| !g.is_empty());
            groups
        })
        .collect();
    let mut columns = Vec::new();
    let (mut above, mut weight) = (0.0, 0.0);
    for i in 0..coded.codes.dim() {
        let z = coded.codes.column(i);
        let mean = z.iter().sum::<f64>() / z.len() as f64;
        let widest = z.iter().fold(0.0, |m: f64, v| m.max((v - mean).abs()));
        let constant = z.iter().all(|v| Some(v) == z.first());
        if constant || widest <= 0.0 {
            continue;
        }
        let scores: Vec<f64> = groups
            .iter()
            .map(|groups| {
                let spread: f64 = groups.iter().map(|g| group_spread(&z, g, quantile)).sum();
                1.0 - spread / groups.len() as f64 / widest
            })
            .collect();
        let parent = argmax(&scores);
        let best = scores.get(parent).copied().unwrap_or(0.0);
        above += widest * best;
        weight += widest;
        columns.push((i, parent, best));
    }
    Ok(Robustness {
        score: if weight > 0.0 { above / weight } else { 0.0 },
        active: columns.len(),
        columns,
    })
}

/// The quantile (linear between order statistics) of the distances to the group's mean.
fn group_spread(z: &[f64], group: &[usize], quantile: f64) -> f64 {
    let values: Vec<f64> = group.iter().filter_map(|&r| z.get(r).copied()).collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let mut distances: Vec<f64> = values.iter().map(|v| (v - mean).abs()).collect();
    distances.sort_unstable_by(f64::total_cmp);
    let at = quantile * (distances.len() - 1) as f64;
    let low = distances.get(at.floor() as usize).copied().unwrap_or(0.0);
    let high = distances.get(at.ceil() as usize).copied().unwrap_or(0.0);
    low + (at - at.floor()) * (high - low)
}
