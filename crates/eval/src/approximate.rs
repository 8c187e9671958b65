//! Nearest neighbours by a graph: not always all of them, after a small share of the comparisons.
//!
//! Exact search ([`nearest`](crate::nearest)) compares every query with every row. A hierarchical navigable small-world
//! graph (Malkov and Yashunin, TPAMI 2020; here the crate hnsw_rs) walks from row to nearer row instead. Figures of a
//! protocol never come from it. The rows it finds are scored and ordered exactly, so that only their choice is
//! approximate.

use hnsw_rs::prelude::{Distance, Hnsw};
use rayon::prelude::*;

use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::nearest::{Neighbours, nearest};
use crate::score::{Measure, Score, Side};
use crate::simd;

/// Most layers of the graph.
const LAYERS: usize = 16;

/// How the graph is built and searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApproximateConfig {
    /// Links of a row on each layer, at most 256. Default 16.
    pub links: usize,
    /// Rows looked at for each row that is added. Default 200.
    pub build: usize,
    /// Rows looked at for each query; never less than its neighbours. More find more. Default 100.
    pub search: usize,
}

impl Default for ApproximateConfig {
    fn default() -> Self {
        Self {
            links: 16,
            build: 200,
            search: 100,
        }
    }
}

/// 1 - a.b of unit rows, or the distance.
#[derive(Clone, Copy)]
struct Far(Score);

impl Distance<f32> for Far {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        let far = match self.0 {
            Score::Cosine => 1.0 - simd::dot(a, b),
            Score::Euclid => {
                let square = simd::dot(a, a) + simd::dot(b, b) - 2.0 * simd::dot(a, b);
                square.max(0.0).sqrt()
            }
        };
        far.max(0.0) as f32
    }
}

/// A gallery with its graph.
pub struct Approximate<'a> {
    gallery: &'a Embeddings,
    score: Score,
    config: ApproximateConfig,
    graph: Hnsw<'static, f32, Far>,
}

/// The row as the graph holds it.
fn placed(side: &Side<'_>, place: usize, score: Score) -> Vec<f32> {
    let row = side.row(place);
    match score {
        Score::Euclid => row.to_vec(),
        Score::Cosine => {
            let norm = side.norm(place);
            row.iter().map(|&v| (f64::from(v) / norm) as f32).collect()
        }
    }
}

impl<'a> Approximate<'a> {
    /// Builds the graph, row by row on one core so that the same table gives the same graph. It holds a copy of the
    /// gallery and 4 x `links` numbers a row.
    ///
    /// # Errors
    /// When `links` is not 1 to 256, `build` is 0, or a row is zero under the cosine.
    pub fn new(gallery: &'a Embeddings, score: Score, config: ApproximateConfig) -> Result<Self> {
        if !(1..=256).contains(&config.links) || config.build == 0 {
            return Err(Error::usage(format!(
                "a graph has 1 to 256 links a row and looks at 1 row or more, got {} and {}",
                config.links, config.build
            )));
        }
        let side = Side::whole(gallery, score)?;
        let graph = Hnsw::new(
            config.links,
            gallery.len(),
            LAYERS,
            config.build,
            Far(score),
        );
        for place in 0..gallery.len() {
            graph.insert((&placed(&side, place, score), place));
        }
        Ok(Self {
            gallery,
            score,
            config,
            graph,
        })
    }

    /// Nearly the `k` nearest rows of the gallery for each query, with exact scores, nearest first. A query for which the
    /// graph shows fewer than `k` rows is searched exactly.
    ///
    /// # Errors
    /// As [`nearest`].
    pub fn nearest(&self, queries: &Embeddings, k: usize) -> Result<Neighbours> {
        if queries.dim() != self.gallery.dim() || k == 0 || k > self.gallery.len() {
            // The exact search says what is wrong.
            return nearest(queries, self.gallery, k, self.score, false);
        }
        let (a, b) = (
            Side::whole(queries, self.score)?,
            Side::whole(self.gallery, self.score)?,
        );
        let measure = Measure::new(self.score, a.largest_norm().max(b.largest_norm()));
        let search = self.config.search.max(k);
        let found: Vec<Vec<(f64, u32)>> = (0..queries.len())
            .into_par_iter()
            .map(|query| {
                let near = self.graph.search(&placed(&a, query, self.score), k, search);
                let mut exact: Vec<(f64, u32)> = near
                    .iter()
                    .map(|n| (measure.pair(&a, query, &b, n.d_id), n.d_id as u32))
                    .collect();
                exact.sort_unstable_by(|x, y| y.0.total_cmp(&x.0).then(x.1.cmp(&y.1)));
                exact
            })
            .collect();
        let short: Vec<usize> = (0..found.len())
            .filter(|&q| found.get(q).is_none_or(|f| f.len() < k))
            .collect();
        let whole = if short.is_empty() {
            None
        } else {
            let part = queries.select(&short)?;
            Some(nearest(&part, self.gallery, k, self.score, false)?)
        };
        let mut out = Neighbours {
            k,
            rows: Vec::with_capacity(k * found.len()),
            scores: Vec::with_capacity(k * found.len()),
        };
        for (query, found) in found.iter().enumerate() {
            match (&whole, short.binary_search(&query)) {
                (Some(whole), Ok(at)) => {
                    out.rows.extend(whole.of(at));
                    let scores = whole.scores.get(at * k..(at + 1) * k);
                    out.scores.extend(scores.unwrap_or(&[]));
                }
                _ => {
                    out.rows.extend(found.iter().take(k).map(|f| f.1));
                    out.scores.extend(found.iter().take(k).map(|f| f.0));
                }
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows around 100 centres.
    fn table(n: usize, dim: usize, seed: u64) -> Embeddings {
        let number = |i: u64| {
            let mut z = (i ^ (seed << 40)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z ^= z >> 27;
            ((z >> 40) as f32) / (1u64 << 24) as f32 - 0.5
        };
        let values = (0..(n * dim) as u64)
            .map(|i| {
                let (row, d) = (i / dim as u64, i % dim as u64);
                let centre = (row % 100 * dim as u64 + d) ^ (7 << 50);
                number(i) + 2.0 * number(centre ^ (seed << 40))
            })
            .collect();
        Embeddings::new(values, dim).unwrap()
    }

    #[test]
    fn finds_nearly_all_with_exact_scores_and_again() {
        let (gallery, queries) = (table(3000, 24, 1), table(200, 24, 1));
        for score in [Score::Cosine, Score::Euclid] {
            let exact = nearest(&queries, &gallery, 10, score, false).unwrap();
            let graph = Approximate::new(&gallery, score, ApproximateConfig::default()).unwrap();
            let found = graph.nearest(&queries, 10).unwrap();
            assert_eq!(found.rows.len(), exact.rows.len());
            let mut hits = 0;
            for q in 0..queries.len() {
                let rows = exact.of(q);
                hits += found.of(q).iter().filter(|r| rows.contains(r)).count();
                for (row, score) in found.of(q).iter().zip(&found.scores[q * 10..]) {
                    if let Some(at) = rows.iter().position(|r| r == row) {
                        assert_eq!(*score, exact.scores[q * 10 + at]);
                    }
                }
            }
            let recall = hits as f64 / exact.rows.len() as f64;
            assert!(recall > 0.95, "{score}: recall {recall}");
            let again = Approximate::new(&gallery, score, ApproximateConfig::default()).unwrap();
            assert_eq!(again.nearest(&queries, 10).unwrap(), found);
        }
    }

    #[test]
    fn all_rows_may_be_asked_for() {
        let gallery = table(40, 3, 2);
        let graph =
            Approximate::new(&gallery, Score::Euclid, ApproximateConfig::default()).unwrap();
        let found = graph.nearest(&gallery, 40).unwrap();
        assert_eq!(found.rows.len(), 1600);
        let error = graph.nearest(&gallery, 41).unwrap_err().to_string();
        assert!(error.contains("number of candidates"), "{error}");
        let config = ApproximateConfig {
            links: 300,
            ..Default::default()
        };
        assert!(Approximate::new(&gallery, Score::Euclid, config).is_err());
    }
}
