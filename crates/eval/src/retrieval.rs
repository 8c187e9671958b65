//! One against all others: is the nearest other image of the same identity?

use std::cmp::Ordering;
use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::bootstrap::{BootstrapConfig, cluster_mean_interval, dense_codes};
use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::score::{Score, Scorer};

/// Queries scored at once: 64 rows of 20,000 scores are 10 MB a thread.
const BLOCK: usize = 64;

/// How to retrieve.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrievalConfig {
    /// The similarity. Default cosine.
    pub score: Score,
    /// The k of `recall@k`. Default 1, 5, 10.
    pub ks: Vec<usize>,
    /// Length of the cumulative match curve. Default 20.
    pub cmc: usize,
    /// Intervals over the identities of the queries (the gallery stays); `None` leaves them out.
    pub bootstrap: Option<BootstrapConfig>,
}

impl Default for RetrievalConfig {
    fn default() -> Self {
        Self {
            score: Score::default(),
            ks: vec![1, 5, 10],
            cmc: 20,
            bootstrap: Some(BootstrapConfig::default()),
        }
    }
}

/// The result of the retrieval protocol; every sample queries all others.
#[derive(Debug, Clone)]
pub struct Retrieval {
    /// Queries that count: those with at least one other image of their identity.
    pub queries: usize,
    /// Samples that are alone in their identity: they stay in the gallery but are not queries.
    pub lone: usize,
    /// Share of queries whose nearest other image is of their identity.
    pub rank1: f64,
    /// Mean of hits in the first R over R, R the number of other images of the query's identity.
    pub r_precision: f64,
    /// Mean of (1/R) sum over i <= R of hit_i x precision@i (Musgrave et al. 2020).
    pub map_at_r: f64,
    /// Mean of 1 / rank of the first hit.
    pub mean_reciprocal_rank: f64,
    /// Share of queries with a hit in the first k, for each wanted k.
    pub recall: Vec<(usize, f64)>,
    /// Cumulative match curve: element k-1 is the share of queries with a hit in the first k.
    pub cmc: Vec<f64>,
    /// Bootstrap intervals by metric name.
    pub intervals: BTreeMap<String, [f64; 2]>,
}

/// What one query gives.
#[derive(Clone, Copy)]
struct Query {
    first_hit: usize,
    r_precision: f64,
    ap_at_r: f64,
}

/// Ranks all other samples for each sample, nearest first; equal scores in the order of their rows.
///
/// Names and definitions follow pytorch-metric-learning's `AccuracyCalculator` (`precision_at_1` = `rank1`,
/// `r_precision`, `mean_average_precision_at_r`, `mean_reciprocal_rank`; lone queries dropped, mean over queries).
/// `recall@k` is the share of queries with a hit, as in the metric-learning literature and as CMC, not the share of
/// relevant images found.
///
/// # Errors
/// When the number of labels is not N, or every sample is alone in its identity.
pub fn retrieve(
    embeddings: &Embeddings,
    labels: &[u32],
    config: &RetrievalConfig,
) -> Result<Retrieval> {
    let n = embeddings.len();
    if labels.len() != n {
        return Err(Error::shape(format!(
            "{} labels for {n} embeddings",
            labels.len()
        )));
    }
    let (codes, identities) = dense_codes(labels);
    let mut sizes = vec![0usize; identities];
    for &code in &codes {
        sizes[code as usize] += 1;
    }
    if sizes.iter().all(|&s| s < 2) {
        return Err(Error::degenerate(format!(
            "no identity has two images ({n} images of {identities} identities): nothing to retrieve"
        )));
    }
    let order: Vec<usize> = (0..n).collect();
    let scorer = Scorer::new(embeddings, config.score, &order);
    let blocks: Vec<usize> = (0..n).step_by(BLOCK).collect();
    let found: Vec<Vec<(u32, Query)>> = blocks
        .par_iter()
        .map(|&start| {
            let rows = start..(start + BLOCK).min(n);
            // Transposed: the scores of one query are one column.
            let scores = scorer.tile(0..n, rows.clone());
            let mut others: Vec<(f64, u32)> = Vec::with_capacity(n);
            rows.zip(scores.column_iter())
                .filter(|&(i, _)| sizes[codes[i] as usize] > 1)
                .map(|(i, column)| {
                    others.clear();
                    others.extend(
                        column
                            .iter()
                            .enumerate()
                            .filter(|&(j, _)| j != i)
                            .map(|(j, &s)| (s, j as u32)),
                    );
                    let relevant = sizes[codes[i] as usize] - 1;
                    (codes[i], rank(&mut others, relevant, &codes, codes[i]))
                })
                .collect()
        })
        .collect();
    let (clusters, queries): (Vec<u32>, Vec<Query>) = found.into_iter().flatten().unzip();

    let count = queries.len() as f64;
    let columns: Vec<(String, Vec<f64>)> = {
        let column = |f: &dyn Fn(&Query) -> f64| queries.iter().map(f).collect::<Vec<f64>>();
        let mut columns = vec![
            (
                "rank1".to_string(),
                column(&|q| f64::from(q.first_hit == 1)),
            ),
            ("r_precision".to_string(), column(&|q| q.r_precision)),
            ("map@r".to_string(), column(&|q| q.ap_at_r)),
            ("mrr".to_string(), column(&|q| 1.0 / q.first_hit as f64)),
        ];
        for &k in &config.ks {
            columns.push((
                format!("recall@{k}"),
                column(&|q| f64::from(q.first_hit <= k)),
            ));
        }
        columns
    };
    let mean = |name: &str| {
        columns
            .iter()
            .find(|c| c.0 == name)
            .map_or(f64::NAN, |c| c.1.iter().sum::<f64>() / count)
    };
    let mut intervals = BTreeMap::new();
    if let Some(bootstrap) = &config.bootstrap {
        for (name, values) in &columns {
            if let Some(interval) = cluster_mean_interval(values, &clusters, bootstrap) {
                intervals.insert(name.clone(), interval);
            }
        }
    }
    Ok(Retrieval {
        queries: queries.len(),
        lone: n - queries.len(),
        rank1: mean("rank1"),
        r_precision: mean("r_precision"),
        map_at_r: mean("map@r"),
        mean_reciprocal_rank: mean("mrr"),
        recall: config
            .ks
            .iter()
            .map(|&k| (k, mean(&format!("recall@{k}"))))
            .collect(),
        cmc: (1..=config.cmc.min(n - 1))
            .map(|k| queries.iter().filter(|q| q.first_hit <= k).count() as f64 / count)
            .collect(),
        intervals,
    })
}

fn nearer(x: &(f64, u32), y: &(f64, u32)) -> Ordering {
    y.0.total_cmp(&x.0).then(x.1.cmp(&y.1))
}

/// Ranks one query's candidates; `relevant` of them are of its identity.
fn rank(others: &mut [(f64, u32)], relevant: usize, codes: &[u32], own: u32) -> Query {
    let is_hit = |o: &(f64, u32)| codes[o.1 as usize] == own;
    let best = others
        .iter()
        .filter(|o| is_hit(o))
        .min_by(|x, y| nearer(x, y))
        .copied();
    let first_hit = best.map_or(usize::MAX, |best| {
        1 + others.iter().filter(|o| nearer(o, &best).is_lt()).count()
    });
    if relevant < others.len() {
        others.select_nth_unstable_by(relevant, nearer);
    }
    let top = others.get_mut(..relevant).unwrap_or(&mut []);
    top.sort_unstable_by(nearer);
    let (mut hits, mut sum) = (0.0, 0.0);
    for (i, other) in top.iter().enumerate() {
        if is_hit(other) {
            hits += 1.0;
            sum += hits / (i + 1) as f64;
        }
    }
    Query {
        first_hit,
        r_precision: hits / relevant as f64,
        ap_at_r: sum / relevant as f64,
    }
}

impl Retrieval {
    /// Metric names to values: `rank1`, `precision@1` (the same figure), `r_precision`, `map@r`, `mrr`, `recall@k`.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let mut out = BTreeMap::from([
            ("rank1".to_string(), self.rank1),
            ("precision@1".to_string(), self.rank1),
            ("r_precision".to_string(), self.r_precision),
            ("map@r".to_string(), self.map_at_r),
            ("mrr".to_string(), self.mean_reciprocal_rank),
        ]);
        for (k, value) in &self.recall {
            out.insert(format!("recall@{k}"), *value);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_case() {
        // On a line; nearest by distance. Labels: a a b a b.
        let table = Embeddings::new(vec![0.0, 1.0, 2.1, 3.0, 5.0], 1).unwrap();
        let labels = [0, 0, 1, 0, 1];
        let config = RetrievalConfig {
            score: Score::Euclid,
            ks: vec![1, 2],
            cmc: 4,
            bootstrap: None,
        };
        let r = retrieve(&table, &labels, &config).unwrap();
        // Rankings: 0: 1a 2b 3a 4b -> hits 1,0; 1: 0a 2b 3a 4b -> 1,0; 2: 3a 1a 0a 4b (2.1 < 2.9) -> first hit 4;
        // 3: 2b 1a(2.0) 4b(2.0) 0a, tie of rows 1 and 4 in row order -> 0,1; 4: 3a 2b 1a 0a -> R = 1: 0, first hit 2.
        assert_eq!(r.queries, 5);
        assert!((r.rank1 - 2.0 / 5.0).abs() < 1e-15);
        assert!((r.r_precision - (0.5 + 0.5 + 0.0 + 0.5 + 0.0) / 5.0).abs() < 1e-15);
        assert!((r.map_at_r - (0.5 + 0.5 + 0.0 + 0.25 + 0.0) / 5.0).abs() < 1e-15);
        assert!((r.mean_reciprocal_rank - (1.0 + 1.0 + 0.25 + 0.5 + 0.5) / 5.0).abs() < 1e-15);
        assert_eq!(r.cmc, vec![0.4, 0.8, 0.8, 1.0]);
        assert_eq!(r.recall, vec![(1, 0.4), (2, 0.8)]);
    }

    #[test]
    fn lone_samples_are_no_queries_and_all_lone_is_an_error() {
        let table = Embeddings::new(vec![1.0, 0.0, 1.0, 0.1, 0.0, 1.0], 2).unwrap();
        let r = retrieve(&table, &[3, 3, 4], &RetrievalConfig::default()).unwrap();
        assert_eq!((r.queries, r.lone, r.rank1), (2, 1, 1.0));
        let error = retrieve(&table, &[1, 2, 3], &RetrievalConfig::default()).unwrap_err();
        assert!(
            error.to_string().contains("no identity has two images"),
            "{error}"
        );
    }
}
