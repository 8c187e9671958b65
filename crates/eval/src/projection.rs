//! Principal components in two dimensions, for the embedding map.

use nalgebra::{DMatrix, SymmetricEigen};
use serde::Serialize;

use crate::embeddings::Embeddings;

/// Directions that are iterated; two are used, the others speed convergence.
const WIDTH: usize = 6;
/// Rounds of orthogonal iteration: the plane is for looking at, and settles to well below a pixel.
const ROUNDS: usize = 60;

/// Points in the plane of the two leading principal components.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Projection {
    /// Which rows of the table the points are.
    pub rows: Vec<usize>,
    /// Coordinates.
    pub points: Vec<[f64; 2]>,
    /// Share of the variance that each axis carries.
    pub explained: [f64; 2],
}

/// Projects (at most `limit`, evenly spaced) rows on their two leading principal components.
///
/// Rows are centred, not scaled; `unit` divides each by its norm first, which shows what cosine scores see. Orthogonal
/// iteration from a fixed start, then Rayleigh-Ritz; each axis points so that its largest loading is positive. The same
/// table gives the same picture.
pub fn principal_plane(table: &Embeddings, unit: bool, limit: usize) -> Projection {
    let (n, dim) = (table.len(), table.dim());
    let count = n.min(limit.max(1));
    let rows: Vec<usize> = (0..count).map(|k| k * n / count).collect();
    let mut data = DMatrix::<f64>::zeros(count, dim);
    for (r, &i) in rows.iter().enumerate() {
        let row = table.row(i).unwrap_or(&[]);
        let norm = row
            .iter()
            .map(|&v| f64::from(v).powi(2))
            .sum::<f64>()
            .sqrt();
        let scale = if unit && norm > 0.0 { 1.0 / norm } else { 1.0 };
        for (c, &value) in row.iter().enumerate() {
            data[(r, c)] = f64::from(value) * scale;
        }
    }
    let mean = data.row_mean();
    for mut row in data.row_iter_mut() {
        row -= &mean;
    }
    let total = data.norm_squared();
    let flat = Projection {
        points: vec![[0.0; 2]; count],
        rows: rows.clone(),
        explained: [0.0; 2],
    };
    if total <= 0.0 {
        return flat;
    }

    let width = WIDTH.min(dim);
    // Any start that is not orthogonal to the leading directions will do; this one is fixed.
    let mut basis = DMatrix::from_fn(dim, width, |r, c| {
        (((r * width + c) as f64 * 0.618_033_988_749_895).fract() - 0.5) + f64::from(r % width == c)
    });
    for _ in 0..ROUNDS {
        basis = basis.qr().q();
        basis = data.tr_mul(&(&data * &basis));
    }
    let basis = basis.qr().q();
    let inside = &data * &basis;
    let eigen = SymmetricEigen::new(inside.tr_mul(&inside));
    let mut axes: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    axes.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));

    let mut out = flat;
    for (axis, &k) in axes.iter().take(2).enumerate() {
        let direction = eigen.eigenvectors.column(k);
        let loadings = &basis * direction;
        let largest = loadings
            .iter()
            .copied()
            .fold(0.0, |m: f64, v| if v.abs() > m.abs() { v } else { m });
        let sign = if largest < 0.0 { -1.0 } else { 1.0 };
        for (point, value) in out.points.iter_mut().zip((&inside * direction).iter()) {
            point[axis] = sign * value;
        }
        out.explained[axis] = eigen.eigenvalues[k].max(0.0) / total;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_plane() {
        // Variance 9 along (0, 1, 0, 0, 0), 1 along (1, 0, 0, 0, 0), little elsewhere.
        let values: Vec<f32> = (0..200u32)
            .flat_map(|i| {
                let t = i as f32;
                [
                    t.sin(),
                    3.0 * (1.7 * t).cos(),
                    0.01 * (2.3 * t).sin(),
                    0.0,
                    5.0,
                ]
            })
            .collect();
        let table = Embeddings::new(values, 5).unwrap();
        let plane = principal_plane(&table, false, 1000);
        assert_eq!(plane.points.len(), 200);
        assert!(
            (plane.explained[0] - 0.9).abs() < 0.02,
            "{:?}",
            plane.explained
        );
        assert!((plane.explained[1] - 0.1).abs() < 0.02);
        for (i, p) in plane.points.iter().enumerate() {
            let t = i as f32;
            assert!((p[0] - f64::from(3.0 * (1.7 * t).cos())).abs() < 0.1);
        }
    }

    #[test]
    fn few_dimensions_and_constant_tables() {
        let one = Embeddings::new(vec![1.0, 2.0, 4.0], 1).unwrap();
        let plane = principal_plane(&one, false, 2);
        assert_eq!(plane.rows, [0, 1]);
        assert!((plane.explained[0] - 1.0).abs() < 1e-12 && plane.explained[1] == 0.0);
        let constant = Embeddings::new(vec![2.0; 12], 3).unwrap();
        assert_eq!(principal_plane(&constant, true, 10).explained, [0.0, 0.0]);
    }
}
