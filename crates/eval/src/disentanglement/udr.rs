//! UDR: unsupervised disentanglement ranking (Duan et al., ICLR 2020): do models that differ in their seed alone agree on
//! their columns, up to order and sign?

use serde::Serialize;

use crate::error::{Error, Result};
use crate::rows::Rows;

/// How the columns of two models are related.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UdrRelation {
    /// |coefficients| of Lasso with alpha 0.1 from one model's columns to the other's.
    Lasso,
    /// |Spearman's rank correlation|.
    Spearman,
}

/// How to rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct UdrConfig {
    /// The relation. Default Lasso.
    pub relation: UdrRelation,
    /// Penalty of the Lasso. Default 0.1.
    pub alpha: f64,
    /// Columns with a mean KL divergence to the prior at or below this are left out. Default 0.01.
    pub least_kl: f64,
}

impl Default for UdrConfig {
    fn default() -> Self {
        Self {
            relation: UdrRelation::Lasso,
            alpha: 0.1,
            least_kl: 0.01,
        }
    }
}

/// One score a model: the median over the other models of
/// 1/2 [mean over columns of max^2 / sum + mean over rows of max^2 / sum] of the relation's matrix R.
///
/// `models` are codes of the same rows; `kl` has the mean KL divergence of each column of each model. Without it every
/// column that is not constant takes part.
///
/// # Errors
/// When there are fewer than two models, lengths differ, or a model has no column left.
pub fn unsupervised_disentanglement_ranking(
    models: &[Rows],
    kl: Option<&[Vec<f64>]>,
    config: &UdrConfig,
) -> Result<Vec<f64>> {
    if models.len() < 2 {
        return Err(Error::degenerate(format!(
            "UDR compares models, and there are {}",
            models.len()
        )));
    }
    let n = models.first().map_or(0, Rows::len);
    if let Some(other) = models.iter().find(|m| m.len() != n) {
        return Err(Error::shape(format!(
            "models are coded on {n} and on {} rows; UDR needs the same rows",
            other.len()
        )));
    }
    if kl.is_some_and(|kl| {
        kl.len() != models.len() || kl.iter().zip(models).any(|(k, m)| k.len() != m.dim())
    }) {
        return Err(Error::shape(
            "the KL divergences are not one for each column of each model",
        ));
    }
    let mut active: Vec<Vec<Vec<f64>>> = Vec::new();
    for (m, model) in models.iter().enumerate() {
        let (mean, sd) = model.moments();
        let kept: Vec<Vec<f64>> = (0..model.dim())
            .filter(|&i| {
                let varies = sd.get(i).is_some_and(|s| *s > 0.0);
                let speaks = kl
                    .and_then(|kl| kl.get(m)?.get(i).copied())
                    .is_none_or(|k| k > config.least_kl);
                varies && speaks
            })
            .map(|i| {
                let (m, s) = (
                    mean.get(i).copied().unwrap_or(0.0),
                    sd.get(i).copied().unwrap_or(1.0),
                );
                let column: Vec<f64> = model.column(i).iter().map(|v| (v - m) / s).collect();
                match config.relation {
                    UdrRelation::Lasso => column,
                    // Spearman's correlation is Pearson's of the ranks.
                    UdrRelation::Spearman => standardised_ranks(&column),
                }
            })
            .collect();
        if kept.is_empty() {
            return Err(Error::degenerate(format!(
                "model {m} has no active column: every one is constant or below the KL bound"
            )));
        }
        active.push(kept);
    }
    let mut scores = Vec::with_capacity(models.len());
    for (i, from) in active.iter().enumerate() {
        let mut found: Vec<f64> = active
            .iter()
            .enumerate()
            .filter(|(j, _)| *j != i)
            .map(|(_, to)| {
                let matrix: Vec<Vec<f64>> = match config.relation {
                    UdrRelation::Lasso => to.iter().map(|y| lasso(from, y, config.alpha)).collect(),
                    UdrRelation::Spearman => to
                        .iter()
                        .map(|y| from.iter().map(|x| mean_product(x, y).abs()).collect())
                        .collect(),
                };
                relative_strength(&matrix)
            })
            .collect();
        found.sort_unstable_by(f64::total_cmp);
        let middle = |k: usize| found.get(k).copied().unwrap_or(0.0);
        let half = found.len() / 2;
        scores.push(if found.len() % 2 == 1 {
            middle(half)
        } else {
            0.5 * (middle(half - 1) + middle(half))
        });
    }
    Ok(scores)
}

/// 1/2 [mean over rows + mean over columns] of max^2 / sum; a row or column of zeros counts 0.
fn relative_strength(matrix: &[Vec<f64>]) -> f64 {
    let strength = |values: &mut dyn Iterator<Item = f64>| {
        let (sum, top) = values.fold((0.0, 0.0), |(s, t): (f64, f64), v| (s + v, t.max(v)));
        if sum > 0.0 { top * top / sum } else { 0.0 }
    };
    let width = matrix.first().map_or(0, Vec::len);
    let rows: f64 = matrix
        .iter()
        .map(|r| strength(&mut r.iter().copied()))
        .sum();
    let columns: f64 = (0..width)
        .map(|c| strength(&mut matrix.iter().filter_map(|r| r.get(c).copied())))
        .sum();
    0.5 * (rows / matrix.len() as f64 + columns / width as f64)
}

fn mean_product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>() / a.len() as f64
}

/// |coefficients| that minimise ||y - X w||^2 / (2 n) + alpha ||w||_1 for standardised columns, by coordinate descent.
fn lasso(columns: &[Vec<f64>], y: &[f64], alpha: f64) -> Vec<f64> {
    let d = columns.len();
    let gram: Vec<Vec<f64>> = columns
        .iter()
        .map(|a| columns.iter().map(|b| mean_product(a, b)).collect())
        .collect();
    let target: Vec<f64> = columns.iter().map(|a| mean_product(a, y)).collect();
    let mut w = vec![0.0; d];
    for _ in 0..10_000 {
        let mut moved = 0.0f64;
        for (k, (row, t)) in gram.iter().zip(&target).enumerate() {
            let own = row.get(k).copied().unwrap_or(1.0);
            let here = w.get(k).copied().unwrap_or(0.0);
            let others: f64 = row.iter().zip(&w).map(|(g, w)| g * w).sum::<f64>() - own * here;
            let rest = t - others;
            let next = rest.signum() * (rest.abs() - alpha).max(0.0) / own;
            moved = moved.max((next - here).abs());
            if let Some(place) = w.get_mut(k) {
                *place = next;
            }
        }
        if moved < 1e-12 {
            break;
        }
    }
    w.into_iter().map(f64::abs).collect()
}

/// Ranks (equal values share their mean rank) with mean 0 and standard deviation 1.
fn standardised_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let at = |i: &usize| values.get(*i).copied().unwrap_or(0.0);
    order.sort_by(|a, b| at(a).total_cmp(&at(b)));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let value = order.get(start).map(at);
        let end = start
            + order
                .iter()
                .skip(start)
                .take_while(|i| Some(at(i)) == value)
                .count();
        for i in order.iter().take(end).skip(start) {
            if let Some(r) = ranks.get_mut(*i) {
                *r = (start + end - 1) as f64 / 2.0;
            }
        }
        start = end;
    }
    let n = ranks.len() as f64;
    let mean = ranks.iter().sum::<f64>() / n;
    let sd = (ranks.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / n).sqrt();
    ranks.iter().map(|r| (r - mean) / sd.max(1e-300)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::{normal, stream};

    fn model(seed: u64) -> Rows {
        let mut rng = stream(seed, "udr", 0);
        Rows::new((0..600).map(|_| normal(&mut rng)).collect(), 3).unwrap()
    }

    #[test]
    fn permuted_and_mirrored_models_agree_unrelated_ones_do_not() {
        let one = model(1);
        let turned: Vec<f64> = (0..one.len())
            .flat_map(|i| {
                let r = one.row(i);
                [-2.0 * r[2], r[0] + 5.0, 0.1 * r[1]]
            })
            .collect();
        let two = Rows::new(turned, 3).unwrap();
        for relation in [UdrRelation::Lasso, UdrRelation::Spearman] {
            let config = UdrConfig {
                relation,
                ..Default::default()
            };
            let models = [one.clone(), two.clone(), one.clone()];
            let scores = unsupervised_disentanglement_ranking(&models, None, &config).unwrap();
            assert!(scores.iter().all(|s| *s > 0.75), "{relation:?} {scores:?}");
            let apart = [model(2), model(3)];
            let scores = unsupervised_disentanglement_ranking(&apart, None, &config).unwrap();
            assert!(scores.iter().all(|s| *s < 0.2), "{relation:?} {scores:?}");
        }
    }

    #[test]
    fn the_bound_obeys_its_parameter() {
        let models = [model(1), model(1)];
        let kl = vec![vec![0.5, 0.5, 0.02]; 2];
        let with = |least_kl| {
            let config = UdrConfig {
                least_kl,
                ..Default::default()
            };
            unsupervised_disentanglement_ranking(&models, Some(&kl), &config)
        };
        assert!(with(0.01).is_ok() && with(0.1).is_ok());
        let line = with(0.9).unwrap_err().to_string();
        assert!(line.contains("model 0 has no active column"), "{line}");
        let config = UdrConfig::default();
        assert!(unsupervised_disentanglement_ranking(&models[..1], None, &config).is_err());
    }
}
