//! k-means with a seed: k-means++ starts, Lloyd's steps, exact nearest centres.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::nearest::nearest;
use crate::score::{Score, Side};
use crate::simd;

/// How to cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KMeansConfig {
    /// Seed of the starting centres. Default 0.
    pub seed: u64,
    /// Most steps; fewer when no sample changes its cluster. Default 100.
    pub steps: usize,
    /// Under the cosine samples are set to length 1 first, so that squared distances are 2 - 2 cosine. Default cosine.
    pub score: Score,
}

impl Default for KMeansConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            steps: 100,
            score: Score::Cosine,
        }
    }
}

/// Puts each sample into one of `k` clusters of small squared distances.
///
/// The first centres are drawn by k-means++ (Arthur and Vassilvitskii 2007), draw i from the ChaCha8 stream (seed, i). A
/// cluster that loses all samples takes the one farthest from its centre. The same seed gives the same clusters on any
/// number of threads; programs with other starts give others, and figures that differ by about their spread over seeds.
///
/// # Errors
/// When `k` is 0 or above the number of samples, or a sample is zero under the cosine.
pub fn kmeans(embeddings: &Embeddings, k: usize, config: &KMeansConfig) -> Result<Vec<u32>> {
    let (n, dim) = (embeddings.len(), embeddings.dim());
    if k == 0 || k > n {
        return Err(Error::usage(format!(
            "{k} clusters of {n} samples; expected 1 to {n}"
        )));
    }
    let unit;
    let points = match config.score {
        Score::Cosine => {
            let side = Side::whole(embeddings, Score::Cosine)?;
            let values = (0..n)
                .flat_map(|i| {
                    let norm = side.norm(i);
                    side.row(i)
                        .iter()
                        .map(move |&v| (f64::from(v) / norm) as f32)
                })
                .collect();
            unit = Embeddings::new(values, dim)?;
            &unit
        }
        Score::Euclid => embeddings,
    };
    let mut centres = first_centres(points, k, config.seed);
    let mut assigned: Vec<u32> = Vec::new();
    for _ in 0..config.steps.max(1) {
        let table = Embeddings::new(centres.iter().map(|&v| v as f32).collect(), dim)?;
        let found = nearest(points, &table, 1, Score::Euclid, false)?;
        if found.rows == assigned {
            break;
        }
        assigned = found.rows;
        move_centres(points, &mut assigned, &found.scores, &mut centres, k);
    }
    Ok(assigned)
}

fn first_centres(points: &Embeddings, k: usize, seed: u64) -> Vec<f64> {
    let (n, dim) = (points.len(), points.dim());
    let row = |i: usize| points.values().get(i * dim..(i + 1) * dim).unwrap_or(&[]);
    let draw = |step: usize| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(step as u64);
        rng.random::<f64>()
    };
    let norms: Vec<f64> = (0..n)
        .into_par_iter()
        .map(|i| simd::dot(row(i), row(i)))
        .collect();
    let mut squares = vec![f64::INFINITY; n];
    let mut chosen = ((draw(0) * n as f64) as usize).min(n - 1);
    let mut centres = Vec::with_capacity(k * dim);
    for step in 1..=k {
        centres.extend(row(chosen).iter().map(|&v| f64::from(v)));
        if step == k {
            break;
        }
        let (centre, norm) = (row(chosen), norms.get(chosen).copied().unwrap_or(0.0));
        squares
            .par_iter_mut()
            .zip(&norms)
            .enumerate()
            .with_min_len(256)
            .for_each(|(i, (square, own))| {
                let distance = (own + norm - 2.0 * simd::dot(row(i), centre)).max(0.0);
                *square = square.min(distance);
            });
        if let Some(square) = squares.get_mut(chosen) {
            *square = 0.0;
        }
        let total: f64 = squares.iter().sum();
        if total > 0.0 {
            let mut left = draw(step) * total;
            let hit = squares.iter().position(|&s| {
                left -= s;
                left < 0.0 && s > 0.0
            });
            // Rounding may leave a little at the end.
            chosen = hit
                .or_else(|| squares.iter().rposition(|&s| s > 0.0))
                .unwrap_or(0);
        } else {
            // Only duplicates are left.
            chosen = ((draw(step) * n as f64) as usize).min(n - 1);
        }
    }
    centres
}

/// Centres become the means of their samples; summed in the order of the rows.
fn move_centres(
    points: &Embeddings,
    assigned: &mut [u32],
    scores: &[f64],
    centres: &mut [f64],
    k: usize,
) {
    let dim = points.dim();
    let mut sizes = vec![0usize; k];
    for &c in assigned.iter() {
        if let Some(size) = sizes.get_mut(c as usize) {
            *size += 1;
        }
    }
    // Farthest first; taken from clusters that keep a sample.
    let mut far: Vec<usize> = Vec::new();
    if sizes.contains(&0) {
        far = (0..assigned.len()).collect();
        far.sort_by(|&x, &y| scores[x].total_cmp(&scores[y]).then(x.cmp(&y)));
    }
    let mut far = far.into_iter();
    for empty in 0..k {
        if sizes.get(empty) != Some(&0) {
            continue;
        }
        for i in far.by_ref() {
            let old = assigned.get(i).copied().unwrap_or(0) as usize;
            if sizes.get(old).is_some_and(|&s| s > 1) {
                if let (Some(size), Some(to)) = (sizes.get_mut(old), assigned.get_mut(i)) {
                    *size -= 1;
                    *to = empty as u32;
                }
                if let Some(size) = sizes.get_mut(empty) {
                    *size = 1;
                }
                break;
            }
        }
    }
    centres.fill(0.0);
    for (row, &c) in points.values().chunks_exact(dim).zip(assigned.iter()) {
        let start = c as usize * dim;
        if let Some(centre) = centres.get_mut(start..start + dim) {
            for (sum, &v) in centre.iter_mut().zip(row) {
                *sum += f64::from(v);
            }
        }
    }
    for (centre, &size) in centres.chunks_exact_mut(dim).zip(&sizes) {
        for value in centre {
            *value /= size.max(1) as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clustering::compare_clusters;

    #[test]
    fn finds_separate_groups_and_repeats_itself() {
        let values: Vec<f32> = (0..120u32)
            .flat_map(|i| {
                let angle =
                    (i % 6) as f32 + 0.05 * ((i.wrapping_mul(2_654_435_761) >> 24) as f32 / 256.0);
                [
                    angle.cos() * (1.0 + i as f32),
                    angle.sin() * (1.0 + i as f32),
                ]
            })
            .collect();
        let labels: Vec<u32> = (0..120).map(|i| i % 6).collect();
        let table = Embeddings::new(values, 2).unwrap();
        let found = kmeans(&table, 6, &KMeansConfig::default()).unwrap();
        assert_eq!(compare_clusters(&labels, &found).unwrap().ami, 1.0);
        assert_eq!(found, kmeans(&table, 6, &KMeansConfig::default()).unwrap());
    }

    #[test]
    fn as_many_clusters_as_samples_and_duplicates() {
        let table = Embeddings::new(vec![1.0, 2.0, 4.0, 8.0], 1).unwrap();
        let config = KMeansConfig {
            score: Score::Euclid,
            ..Default::default()
        };
        let mut all = kmeans(&table, 4, &config).unwrap();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
        let same = Embeddings::new(vec![1.0; 10], 1).unwrap();
        assert_eq!(kmeans(&same, 3, &config).unwrap().len(), 10);
        assert!(kmeans(&table, 5, &config).is_err());
        assert!(kmeans(&table, 0, &config).is_err());
    }
}
