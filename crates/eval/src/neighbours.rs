//! A map that keeps neighbours together: exact t-SNE (van der Maaten and Hinton, JMLR 9, 2008).
//!
//! Our own, and small. What the published crates start from is drawn at random without a seed, and the same table must
//! give the same picture; with at most some hundreds of points the exact gradient is quick, so that Barnes and Hut's
//! approximation is not needed. The start is the plane of the principal components, which also keeps the large structure
//! that a random start loses (Kobak and Linderman, 2021). Sums are taken in a fixed order.

use rayon::prelude::*;
use serde::Serialize;

use crate::embeddings::Embeddings;
use crate::projection::principal_plane;

/// Steps with attraction exaggerated, which forms the clusters.
const EARLY: usize = 100;
/// Steps in all.
const STEPS: usize = 400;
/// By how much attraction is exaggerated at first.
const EXAGGERATION: f64 = 12.0;
/// Neighbours that are counted in `kept`.
const NEAR: usize = 10;

/// Points whose near neighbours are near.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NeighbourMap {
    /// Which rows of the table the points are.
    pub rows: Vec<usize>,
    /// Coordinates; distances between far points mean little.
    pub points: Vec<[f64; 2]>,
    /// The effective number of neighbours that was aimed at.
    pub perplexity: f64,
    /// Share of each point's 10 nearest neighbours in the table that are among its 10 nearest in the map.
    pub kept: f64,
}

/// Maps (at most `limit`, evenly spaced) rows; `unit` divides each by its norm first. `perplexity` (30) is cut to a third
/// of the points.
///
/// Time grows with the square of the points: 700 take about a second on two cores.
pub fn neighbour_map(
    table: &Embeddings,
    unit: bool,
    limit: usize,
    perplexity: f64,
) -> NeighbourMap {
    let plane = principal_plane(table, unit, limit);
    let n = plane.rows.len();
    let perplexity = perplexity.min((n as f64 - 1.0) / 3.0).max(1.0);
    let squares = square_distances(table, unit, &plane.rows);
    let mut points = start(&plane.points);
    if n > 3 {
        let attraction = attraction(&squares, n, perplexity);
        descend(&mut points, &attraction, n);
    }
    let kept = neighbours_kept(&squares, &points);
    NeighbourMap {
        rows: plane.rows,
        points,
        perplexity,
        kept,
    }
}

/// The plane scaled to a standard deviation of 1e-4 along its first axis.
fn start(plane: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let n = plane.len().max(1) as f64;
    let sd = (plane.iter().map(|p| p[0] * p[0]).sum::<f64>() / n).sqrt();
    let scale = if sd > 0.0 { 1e-4 / sd } else { 0.0 };
    plane.iter().map(|p| p.map(|v| v * scale)).collect()
}

fn square_distances(table: &Embeddings, unit: bool, rows: &[usize]) -> Vec<f64> {
    let vectors: Vec<Vec<f64>> = rows
        .iter()
        .map(|&r| {
            let row: Vec<f64> = table
                .row(r)
                .unwrap_or(&[])
                .iter()
                .map(|&v| f64::from(v))
                .collect();
            let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            let scale = if unit && norm > 0.0 { 1.0 / norm } else { 1.0 };
            row.into_iter().map(|v| v * scale).collect()
        })
        .collect();
    vectors
        .par_iter()
        .flat_map_iter(|a| {
            let to = |b: &Vec<f64>| a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>();
            vectors.iter().map(to).collect::<Vec<f64>>()
        })
        .collect()
}

/// Symmetric probabilities p_ij, (n, n) row by row, each row's width found so that its entropy is ln(perplexity).
fn attraction(squares: &[f64], n: usize, perplexity: f64) -> Vec<f64> {
    let wanted = perplexity.ln();
    let conditional: Vec<f64> = squares
        .par_chunks(n)
        .enumerate()
        .flat_map_iter(|(i, row)| {
            let nearest = row
                .iter()
                .enumerate()
                .filter(|(j, _)| *j != i)
                .fold(f64::INFINITY, |m, (_, d)| m.min(*d));
            let (mut beta, mut low, mut high) = (1.0, 0.0, f64::INFINITY);
            let mut weights = vec![0.0; n];
            for _ in 0..100 {
                let (mut sum, mut moment) = (0.0, 0.0);
                for (j, (w, d)) in weights.iter_mut().zip(row).enumerate() {
                    *w = if j == i {
                        0.0
                    } else {
                        (-beta * (d - nearest)).exp()
                    };
                    sum += *w;
                    moment += *w * (d - nearest);
                }
                let entropy = sum.ln() + beta * moment / sum;
                if (entropy - wanted).abs() < 1e-5 {
                    break;
                }
                if entropy > wanted {
                    low = beta;
                    beta = if high.is_finite() {
                        0.5 * (beta + high)
                    } else {
                        2.0 * beta
                    };
                } else {
                    high = beta;
                    beta = 0.5 * (beta + low);
                }
            }
            let sum: f64 = weights.iter().sum();
            weights.into_iter().map(move |w| w / sum)
        })
        .collect();
    let mut out = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..n {
            let both = conditional.get(i * n + j).zip(conditional.get(j * n + i));
            if let (Some((a, b)), Some(p)) = (both, out.get_mut(i * n + j)) {
                *p = (a + b) / (2.0 * n as f64);
            }
        }
    }
    out
}

/// Gradient descent with momentum and gains, as in the authors' program.
fn descend(points: &mut [[f64; 2]], attraction: &[f64], n: usize) {
    let rate = (n as f64 / EXAGGERATION / 4.0).max(50.0);
    let mut speed = vec![[0.0f64; 2]; n];
    let mut gains = vec![[1.0f64; 2]; n];
    for step in 0..STEPS {
        let exaggeration = if step < EARLY { EXAGGERATION } else { 1.0 };
        let momentum = if step < EARLY { 0.5 } else { 0.8 };
        // For each point: attraction, repulsion before normalisation, and its part of the normaliser.
        let forces: Vec<[f64; 5]> = (0..n)
            .into_par_iter()
            .map(|i| {
                let [x, y] = points.get(i).copied().unwrap_or_default();
                let row = attraction.get(i * n..(i + 1) * n).unwrap_or(&[]);
                let mut f = [0.0; 5];
                for (p, q) in row.iter().zip(points.iter()) {
                    let (dx, dy) = (x - q[0], y - q[1]);
                    let near = 1.0 / (1.0 + dx * dx + dy * dy);
                    let (pull, push) = (p * near, near * near);
                    f[0] += pull * dx;
                    f[1] += pull * dy;
                    f[2] += push * dx;
                    f[3] += push * dy;
                    f[4] += near;
                }
                f
            })
            .collect();
        // Each point counted itself once, with nearness 1.
        let normaliser = forces.iter().map(|f| f[4]).sum::<f64>() - n as f64;
        for (((point, v), gain), f) in points
            .iter_mut()
            .zip(&mut speed)
            .zip(&mut gains)
            .zip(&forces)
        {
            for axis in 0..2 {
                let slope = 4.0 * (exaggeration * f[axis] - f[axis + 2] / normaliser);
                gain[axis] = if (slope > 0.0) == (v[axis] > 0.0) {
                    (gain[axis] * 0.8).max(0.01)
                } else {
                    gain[axis] + 0.2
                };
                v[axis] = momentum * v[axis] - rate * gain[axis] * slope;
                point[axis] += v[axis];
            }
        }
        let mean = points
            .iter()
            .fold([0.0; 2], |m, p| [m[0] + p[0], m[1] + p[1]]);
        for point in points.iter_mut() {
            *point = [point[0] - mean[0] / n as f64, point[1] - mean[1] / n as f64];
        }
    }
}

fn neighbours_kept(squares: &[f64], points: &[[f64; 2]]) -> f64 {
    let n = points.len();
    let near = NEAR.min(n.saturating_sub(1));
    if near == 0 {
        return 1.0;
    }
    let nearest = |distances: Vec<f64>, i: usize| -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).filter(|j| *j != i).collect();
        let at = |j: &usize| distances.get(*j).copied().unwrap_or(f64::INFINITY);
        order.sort_unstable_by(|a, b| at(a).total_cmp(&at(b)).then(a.cmp(b)));
        order.truncate(near);
        order
    };
    let counts: Vec<usize> = (0..n)
        .into_par_iter()
        .map(|i| {
            let there = nearest(squares.get(i * n..(i + 1) * n).unwrap_or(&[]).to_vec(), i);
            let [x, y] = points.get(i).copied().unwrap_or_default();
            let flat = points
                .iter()
                .map(|q| (x - q[0]).powi(2) + (y - q[1]).powi(2));
            let here = nearest(flat.collect(), i);
            there.iter().filter(|j| here.contains(j)).count()
        })
        .collect();
    counts.iter().sum::<usize>() as f64 / (n * near) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clusters(n: u32, dim: u32) -> Embeddings {
        let noise = |i: u32| f64::from(i.wrapping_mul(2_654_435_761) >> 8) / f64::from(1u32 << 24);
        let values = (0..n * dim).map(|k| {
            let (i, d) = (k / dim, k % dim);
            let centre = if i % 5 == d % 5 { 3.0 } else { 0.0 };
            (centre + noise(k + 7)) as f32
        });
        Embeddings::new(values.collect(), dim as usize).unwrap()
    }

    #[test]
    fn clusters_stay_together_and_the_picture_repeats() {
        let table = clusters(150, 12);
        let map = neighbour_map(&table, false, 150, 20.0);
        assert_eq!(map, neighbour_map(&table, false, 150, 20.0));
        let mut right = 0;
        for (i, p) in map.points.iter().enumerate() {
            let near = map
                .points
                .iter()
                .enumerate()
                .filter(|(j, _)| *j != i)
                .min_by(|a, b| {
                    let d = |q: &[f64; 2]| (p[0] - q[0]).powi(2) + (p[1] - q[1]).powi(2);
                    d(a.1).total_cmp(&d(b.1))
                });
            right += usize::from(near.unwrap().0 % 5 == i % 5);
        }
        assert!(right >= 148, "{right} of 150");
        assert!(map.kept > 0.4, "{}", map.kept);
    }

    #[test]
    fn few_and_equal_points() {
        let one = Embeddings::new(vec![1.0, 2.0], 2).unwrap();
        assert_eq!(neighbour_map(&one, true, 10, 30.0).points.len(), 1);
        let same = Embeddings::new(vec![1.0; 40], 2).unwrap();
        let map = neighbour_map(&same, true, 10, 30.0);
        assert!(map.points.iter().flatten().all(|v| v.is_finite()));
    }
}
