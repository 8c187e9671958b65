//! Figures from the mutual information of binned columns and factors.

use super::{Coded, top_gap};
use crate::error::{Error, Result};

/// m_ij = I(z_i; v_j) in nats, D rows of F values, columns in `bins` bins of equal width between least and largest value.
///
/// # Errors
/// When there is no bin.
pub fn mutual_information_matrix(coded: Coded<'_>, bins: usize) -> Result<Vec<Vec<f64>>> {
    if bins == 0 {
        return Err(Error::usage("mutual information needs at least one bin"));
    }
    let rows = (0..coded.codes.dim()).map(|i| {
        let z = binned(&coded.codes.column(i), bins);
        let one =
            |j| mutual_information(&z, bins, coded.factors.column(j), coded.factors.values(j));
        (0..coded.factors.count()).map(one).collect()
    });
    Ok(rows.collect())
}

/// MIG (Chen et al., NeurIPS 2018): mean over factors of (largest - second largest m_ij) / H(v_j).
///
/// # Errors
/// When the code has one column, a factor is constant on these rows, or there is no bin.
pub fn mutual_information_gap(coded: Coded<'_>, bins: usize) -> Result<f64> {
    coded.need_columns("MIG")?;
    let matrix = mutual_information_matrix(coded, bins)?;
    let factors = coded.factors.count();
    let mut sum = 0.0;
    for j in 0..factors {
        let (v, values) = (coded.factors.column(j), coded.factors.values(j));
        let entropy = mutual_information(v, values, v, values);
        if entropy <= 0.0 {
            return Err(Error::degenerate(format!(
                "factor {j} is constant on the rows that were drawn"
            )));
        }
        let column: Vec<f64> = matrix.iter().filter_map(|r| r.get(j).copied()).collect();
        sum += top_gap(&column) / entropy;
    }
    Ok(sum / factors as f64)
}

/// Modularity (Ridgeway and Mozer, NeurIPS 2018): mean over columns of
/// 1 - (sum_j m_ij^2 - max_j m_ij^2) / (max_j m_ij^2 (F - 1)); a column that says nothing counts 0.
///
/// # Errors
/// When there is one factor only, or no bin.
pub fn modularity(coded: Coded<'_>, bins: usize) -> Result<f64> {
    coded.need_factors("modularity")?;
    let matrix = mutual_information_matrix(coded, bins)?;
    let others = (coded.factors.count() - 1) as f64;
    let scores = matrix.iter().map(|row| {
        let squares = row.iter().map(|m| m * m);
        let (sum, top) = squares.fold((0.0, 0.0), |(s, t): (f64, f64), v| (s + v, t.max(v)));
        if top > 0.0 {
            1.0 - (sum - top) / (top * others)
        } else {
            0.0
        }
    });
    Ok(scores.sum::<f64>() / matrix.len() as f64)
}

/// The bin of each value, from 0: the number of lower edges at or below it, less one. A constant column is one bin.
pub(crate) fn binned(values: &[f64], bins: usize) -> Vec<u32> {
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |r, &v| {
            (r.0.min(v), r.1.max(v))
        });
    if high <= low {
        return vec![0; values.len()];
    }
    let step = (high - low) / bins as f64;
    let edges: Vec<f64> = (0..bins).map(|b| b as f64 * step + low).collect();
    let bin = |v: &f64| edges.partition_point(|e| e <= v).saturating_sub(1) as u32;
    values.iter().map(bin).collect()
}

/// I(a; b) in nats from counts; never below 0.
pub(crate) fn mutual_information(a: &[u32], sizes_a: usize, b: &[u32], sizes_b: usize) -> f64 {
    let mut joint = vec![0u64; sizes_a * sizes_b];
    let (mut of_a, mut of_b) = (vec![0u64; sizes_a], vec![0u64; sizes_b]);
    for (&x, &y) in a.iter().zip(b) {
        let (x, y) = (x as usize, y as usize);
        if let (Some(p), Some(q), Some(r)) = (
            of_a.get_mut(x),
            of_b.get_mut(y),
            joint.get_mut(x * sizes_b + y),
        ) {
            *p += 1;
            *q += 1;
            *r += 1;
        }
    }
    let n = a.len() as f64;
    let mut sum = 0.0;
    for (at, &count) in joint.iter().enumerate().filter(|(_, c)| **c > 0) {
        let (x, y) = (at / sizes_b, at % sizes_b);
        let (p, q) = (of_a.get(x).copied(), of_b.get(y).copied());
        if let (Some(p), Some(q)) = (p, q) {
            sum += count as f64 / n * (count as f64 * n / (p as f64 * q as f64)).ln();
        }
    }
    sum.max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn information_of_equal_and_of_independent_columns() {
        let a: Vec<u32> = (0..60).map(|i| i % 3).collect();
        let b: Vec<u32> = (0..60).map(|i| i / 3 % 4).collect();
        assert!((mutual_information(&a, 3, &a, 3) - 3f64.ln()).abs() < 1e-12);
        assert!(mutual_information(&a, 3, &b, 4) < 1e-12);
    }

    #[test]
    fn bins_hold_their_lower_edge() {
        let values: Vec<f64> = (0..=20).map(f64::from).collect();
        let bins = binned(&values, 20);
        assert_eq!((bins[0], bins[1], bins[19], bins[20]), (0, 1, 19, 19));
        assert_eq!(binned(&[2.0, 2.0], 20), [0, 0]);
    }
}
