//! SAP: separated attribute predictability (Kumar et al., ICLR 2018).

use nalgebra::{Matrix2, Vector2};
use rayon::prelude::*;

use super::{Coded, argmax, top_gap};
use crate::error::{Error, Result};
use crate::rows::{Rows, check_labels};

/// C of the support vector machine, from the reference implementation.
const C: f64 = 0.01;

/// SAP of categorical factors: accuracy on `test` of a linear support vector machine on one column at a time (squared
/// hinge, C = 0.01, classes balanced, one against the rest), mean over factors of best minus second best column.
///
/// The machine has two parameters a class and is solved exactly; liblinear, which others use, stops at a tolerance of
/// 1e-4, which moves few predictions.
///
/// # Errors
/// When the code has one column, or a factor is constant on the training rows.
pub fn separated_attribute_predictability(train: Coded<'_>, test: Coded<'_>) -> Result<f64> {
    train.need_columns("SAP")?;
    let factors = train.factors.count();
    let mut sum = 0.0;
    for j in 0..factors {
        let values = train.factors.values(j);
        let y = train.factors.column(j);
        if y.iter().all(|v| Some(v) == y.first()) {
            return Err(Error::degenerate(format!(
                "factor {j} is constant on the rows that were drawn"
            )));
        }
        let accuracies: Vec<f64> = (0..train.codes.dim())
            .into_par_iter()
            .map(|i| {
                let machines = fit(&train.codes.column(i), y, values);
                let x = test.codes.column(i);
                let truth = test.factors.column(j);
                let right = x
                    .iter()
                    .zip(truth)
                    .filter(|(x, t)| predict(&machines, **x) == **t);
                right.count() as f64 / truth.len() as f64
            })
            .collect();
        sum += top_gap(&accuracies);
    }
    Ok(sum / factors as f64)
}

/// SAP of continuous factors: squared correlation of each column with each factor, 0 for a column with a variance of at
/// most 1e-12; mean over factors of best minus second best.
///
/// # Errors
/// When the code has one column, there is no factor, a factor has another length, or it is constant.
pub fn separated_attribute_predictability_of_numbers(
    codes: &Rows,
    factors: &[Vec<f64>],
) -> Result<f64> {
    if codes.dim() < 2 || factors.is_empty() {
        return Err(Error::degenerate(
            "SAP needs at least two columns of the code and one factor",
        ));
    }
    let n = codes.len() as f64;
    let moments = |a: &[f64], b: &[f64]| {
        let (ma, mb) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
        let products = a.iter().zip(b).map(|(x, y)| (x - ma) * (y - mb));
        products.sum::<f64>() / (n - 1.0)
    };
    let mut sum = 0.0;
    for (j, factor) in factors.iter().enumerate() {
        check_labels(codes, factor.len(), "factor values")?;
        let variance = moments(factor, factor);
        if !(variance > 0.0 && variance.is_finite()) {
            return Err(Error::degenerate(format!(
                "factor {j} is constant or not finite"
            )));
        }
        let scores: Vec<f64> = (0..codes.dim())
            .map(|i| {
                let column = codes.column(i);
                let own = moments(&column, &column);
                if own > 1e-12 {
                    moments(&column, factor).powi(2) / (own * variance)
                } else {
                    0.0
                }
            })
            .collect();
        sum += top_gap(&scores);
    }
    Ok(sum / factors.len() as f64)
}

/// Weight and bias for each class (one machine for two classes), and the classes that they stand for.
struct Machines {
    parameters: Vec<Vector2<f64>>,
    classes: Vec<u32>,
}

fn fit(x: &[f64], y: &[u32], values: usize) -> Machines {
    let mut counts = vec![0usize; values];
    for &v in y {
        if let Some(count) = counts.get_mut(v as usize) {
            *count += 1;
        }
    }
    let classes: Vec<u32> = (0..values as u32)
        .filter(|&c| counts.get(c as usize).is_some_and(|n| *n > 0))
        .collect();
    // "Balanced": n / (K n_k) for the class's own rows; liblinear gives the others weight 1 unless there are two classes.
    let weight = |class: u32| {
        let count = counts.get(class as usize).copied().unwrap_or(1).max(1);
        y.len() as f64 / (classes.len() * count) as f64
    };
    let machine = |positive: u32, rest: f64| {
        let own = weight(positive);
        let rows = x.iter().zip(y).map(|(&x, &v)| {
            if v == positive {
                (x, 1.0, own)
            } else {
                (x, -1.0, rest)
            }
        });
        solve(&rows.collect::<Vec<_>>())
    };
    let parameters = match classes.as_slice() {
        [first, second] => vec![machine(*second, weight(*first))],
        all => all.iter().map(|&class| machine(class, 1.0)).collect(),
    };
    Machines {
        parameters,
        classes,
    }
}

fn predict(machines: &Machines, x: f64) -> u32 {
    let scores: Vec<f64> = machines
        .parameters
        .iter()
        .map(|p| p[0] * x + p[1])
        .collect();
    let best = match scores.as_slice() {
        [score] => usize::from(*score > 0.0),
        all => argmax(all),
    };
    machines.classes.get(best).copied().unwrap_or(0)
}

/// Minimises (w^2 + b^2) / 2 + C sum_i c_i max(0, 1 - y_i (w x_i + b))^2 by Newton's method with halving; `rows` holds
/// (x, y, c). The function is piecewise quadratic, so it ends after a few steps at the exact minimum.
fn solve(rows: &[(f64, f64, f64)]) -> Vector2<f64> {
    let value = |p: Vector2<f64>| {
        let hinge: f64 = rows
            .iter()
            .map(|(x, y, c)| c * (1.0 - y * (p[0] * x + p[1])).max(0.0).powi(2))
            .sum();
        0.5 * p.norm_squared() + C * hinge
    };
    let mut p = Vector2::zeros();
    let mut now = value(p);
    for _ in 0..200 {
        let mut gradient = p;
        let mut hessian = Matrix2::identity();
        for &(x, y, c) in rows {
            let slack = 1.0 - y * (p[0] * x + p[1]);
            if slack > 0.0 {
                let z = Vector2::new(x, 1.0);
                gradient -= 2.0 * C * c * slack * y * z;
                hessian += 2.0 * C * c * z * z.transpose();
            }
        }
        let Some(inverse) = hessian.try_inverse() else {
            break;
        };
        let step = inverse * gradient;
        let mut scale = 1.0;
        let mut next = (p - step, value(p - step));
        while next.1 > now && scale > 1e-12 {
            scale *= 0.5;
            next = (p - scale * step, value(p - scale * step));
        }
        if next.1 >= now {
            break;
        }
        let gained = now - next.1;
        (p, now) = next;
        if gained <= 1e-15 * now.abs() {
            break;
        }
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_has_no_slope() {
        let rows: Vec<(f64, f64, f64)> = (0..50)
            .map(|i| {
                let x = (f64::from(i) * 1.7).sin() * 3.0;
                (x, if x > 0.4 { 1.0 } else { -1.0 }, 1.0 + f64::from(i % 3))
            })
            .collect();
        let p = solve(&rows);
        let mut gradient = p;
        for (x, y, c) in rows {
            let slack = (1.0 - y * (p[0] * x + p[1])).max(0.0);
            gradient -= 2.0 * C * c * slack * y * Vector2::new(x, 1.0);
        }
        assert!(gradient.norm() < 1e-9, "{gradient}");
    }
}
