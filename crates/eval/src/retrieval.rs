//! One against all others: is the nearest other image of the same identity?

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use crate::bootstrap::{BootstrapConfig, cluster_mean_interval, dense_codes};
use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::ranks::{Grouped, Ranking};
use crate::score::{Measure, Score, Side};

/// How to retrieve.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrievalConfig {
    /// The similarity. Default cosine.
    pub score: Score,
    /// The k of `recall@k`. Default 1, 5, 10.
    pub ks: Vec<usize>,
    /// Length of the cumulative match curve. Default 20.
    pub cmc: usize,
    /// Intervals over the identities of the queries (the gallery stays), see `clusters`; `None` leaves them out.
    pub bootstrap: Option<BootstrapConfig>,
    /// What the bootstrap draws, one value for each row of the table. Default `None`: the labels.
    pub clusters: Option<Vec<u32>>,
    /// Rows that are queries; the gallery is the whole table all the same. Default `None`: all of them.
    pub queries: Option<Vec<usize>>,
}

impl Default for RetrievalConfig {
    fn default() -> Self {
        Self {
            score: Score::default(),
            ks: vec![1, 5, 10],
            cmc: 20,
            bootstrap: Some(BootstrapConfig::default()),
            clusters: None,
            queries: None,
        }
    }
}

/// Figures of the queries of one identity, each a mean over them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassRetrieval {
    /// The label.
    pub label: u32,
    /// Its queries.
    pub queries: usize,
    /// As in [`Retrieval`].
    pub rank1: f64,
    /// As in [`Retrieval`].
    pub r_precision: f64,
    /// As in [`Retrieval`].
    pub map: f64,
    /// As in [`Retrieval`].
    pub map_at_r: f64,
    /// As in [`Retrieval`].
    pub mean_reciprocal_rank: f64,
}

/// The result of the retrieval protocol. Figures are micro averages, over queries, unless they say macro.
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
    /// Mean over queries of the average precision: (1/R) sum over all ranks i of hit_i x precision@i.
    pub map: f64,
    /// Mean of (1/R) sum over i <= R of hit_i x precision@i (Musgrave et al. 2020).
    pub map_at_r: f64,
    /// Mean of 1 / rank of the first hit.
    pub mean_reciprocal_rank: f64,
    /// Share of queries with a hit in the first k, for each wanted k.
    pub recall: Vec<(usize, f64)>,
    /// Cumulative match curve: element k-1 is the share of queries with a hit in the first k.
    pub cmc: Vec<f64>,
    /// What each query gave, in the order of the labels; for comparisons between runs.
    pub per_query: Vec<QueryFigures>,
    /// The same means for each identity, in ascending order of the label.
    pub per_class: Vec<ClassRetrieval>,
    /// Bootstrap intervals by metric name.
    pub intervals: BTreeMap<String, [f64; 2]>,
}

/// What one query gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueryFigures {
    /// Row of the query.
    pub row: u32,
    /// Its label.
    pub label: u32,
    /// Rank of the first hit, from 1.
    pub first_hit: u32,
    /// Hits in the first R over R.
    pub r_precision: f64,
    /// Average precision over all ranks.
    pub ap: f64,
    /// Average precision over the first R ranks.
    pub ap_at_r: f64,
}

impl QueryFigures {
    /// From the ranks of all relevant samples, ascending.
    fn new(row: u32, label: u32, ranks: &[u32]) -> Self {
        let relevant = ranks.len() as f64;
        let (mut hits, mut ap, mut ap_at_r) = (0.0, 0.0, 0.0);
        for (i, &rank) in ranks.iter().enumerate() {
            let precision = (i + 1) as f64 / f64::from(rank);
            ap += precision;
            if rank as usize <= ranks.len() {
                hits += 1.0;
                ap_at_r += precision;
            }
        }
        Self {
            row,
            label,
            first_hit: ranks.first().copied().unwrap_or(u32::MAX),
            r_precision: hits / relevant,
            ap: ap / relevant,
            ap_at_r: ap_at_r / relevant,
        }
    }
}

/// Ranks all other samples for each sample, nearest first; equal scores in the order of their rows.
///
/// The other samples are not sorted: those of the query's identity are, and the rest is counted against them, in f32
/// products with a proven margin and f64 inside it. So the figures are exactly those of f64 scores. Memory beside the
/// table: a megabyte a thread, 24 bytes (for a moment 40) and 4 a thread for each genuine pair (in batches of 128 MB),
/// and an f32 copy of the table where that is below 256 MB. A table on disk ([`Embeddings::map`]) is never held whole; a
/// thread then takes 3.5 MB and 8 kB for each dimension.
///
/// Names and definitions follow pytorch-metric-learning's `AccuracyCalculator` (`precision_at_1` = `rank1`,
/// `r_precision`, `mean_average_precision` with all neighbours, `mean_average_precision_at_r`, `mean_reciprocal_rank`;
/// lone queries dropped, mean over queries; `macro_` figures as its `avg_of_avgs`).
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
    if let Some(clusters) = config.clusters.as_ref().filter(|c| c.len() != n) {
        return Err(Error::shape(format!(
            "{} clusters for {n} embeddings",
            clusters.len()
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
    if let Some(&bad) = config.queries.iter().flatten().find(|&&q| q >= n) {
        return Err(Error::shape(format!(
            "query {bad} is past the end of {n} embeddings"
        )));
    }
    let mut order: Vec<u32> = (0..n as u32).collect();
    order.sort_by_key(|&i| codes[i as usize]);
    let mut places: Vec<Range<usize>> = Vec::with_capacity(identities);
    for &size in &sizes {
        let start = places.last().map_or(0, |r| r.end);
        places.push(start..start + size);
    }
    let grouped = |order: Vec<u32>| -> Result<Grouped<'_>> {
        Ok(Grouped {
            codes: order.iter().map(|&i| codes[i as usize]).collect(),
            side: Side::new(embeddings, order, config.score)?,
        })
    };
    let gallery = grouped(order.clone())?;
    let chosen = match &config.queries {
        None => None,
        Some(rows) => {
            let mut rows: Vec<u32> = rows.iter().map(|&r| r as u32).collect();
            rows.sort_by_key(|&i| (codes[i as usize], i));
            rows.dedup();
            Some(grouped(rows)?)
        }
    };
    let asked = chosen.as_ref().map_or(n, |c| c.side.len());
    let ranking = Ranking {
        queries: chosen.as_ref().unwrap_or(&gallery),
        gallery: &gallery,
        places,
        measure: Measure::new(config.score, gallery.side.largest_norm()),
        same_table: true,
        symmetric: chosen.is_none(),
    };
    let found: Vec<QueryFigures> = ranking.map(|place, ranks| {
        let row = ranking.queries.side.origin(place);
        QueryFigures::new(row, labels[row as usize], ranks)
    });
    if found.is_empty() {
        return Err(Error::degenerate(format!(
            "none of the {asked} queries has another image of its identity: nothing to retrieve"
        )));
    }
    let per_class = by_class(&found);
    let queries = found;
    let drawn = config.clusters.as_deref().unwrap_or(labels);
    let clusters: Vec<u32> = queries
        .iter()
        .filter_map(|q| drawn.get(q.row as usize).copied())
        .collect();

    let count = queries.len() as f64;
    let columns: Vec<(String, Vec<f64>)> = {
        let column = |f: &dyn Fn(&QueryFigures) -> f64| queries.iter().map(f).collect::<Vec<f64>>();
        let mut columns = vec![
            (
                "rank1".to_string(),
                column(&|q| f64::from(q.first_hit == 1)),
            ),
            ("r_precision".to_string(), column(&|q| q.r_precision)),
            ("map".to_string(), column(&|q| q.ap)),
            ("map@r".to_string(), column(&|q| q.ap_at_r)),
            ("mrr".to_string(), column(&|q| 1.0 / f64::from(q.first_hit))),
        ];
        for &k in &config.ks {
            columns.push((
                format!("recall@{k}"),
                column(&|q| f64::from(q.first_hit as usize <= k)),
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
        lone: asked - queries.len(),
        rank1: mean("rank1"),
        r_precision: mean("r_precision"),
        map: mean("map"),
        map_at_r: mean("map@r"),
        mean_reciprocal_rank: mean("mrr"),
        recall: config
            .ks
            .iter()
            .map(|&k| (k, mean(&format!("recall@{k}"))))
            .collect(),
        cmc: (1..=config.cmc.min(n - 1))
            .map(|k| {
                let hits = queries.iter().filter(|q| q.first_hit as usize <= k);
                hits.count() as f64 / count
            })
            .collect(),
        per_class,
        per_query: queries,
        intervals,
    })
}

/// Means over the queries of each identity; queries are grouped by label.
fn by_class(queries: &[QueryFigures]) -> Vec<ClassRetrieval> {
    queries
        .chunk_by(|x, y| x.label == y.label)
        .filter_map(|group| {
            let first = group.first()?;
            let mean = |f: &dyn Fn(&QueryFigures) -> f64| {
                group.iter().map(f).sum::<f64>() / group.len() as f64
            };
            Some(ClassRetrieval {
                label: first.label,
                queries: group.len(),
                rank1: mean(&|q| f64::from(q.first_hit == 1)),
                r_precision: mean(&|q| q.r_precision),
                map: mean(&|q| q.ap),
                map_at_r: mean(&|q| q.ap_at_r),
                mean_reciprocal_rank: mean(&|q| 1.0 / f64::from(q.first_hit)),
            })
        })
        .collect()
}

impl Retrieval {
    /// Metric names to values: `rank1`, `precision@1` (the same figure), `r_precision`, `map`, `map@r`, `mrr`,
    /// `recall@k`, and `macro_precision@1`, `macro_r_precision`, `macro_map`, `macro_map@r`, `macro_mrr`, the means over
    /// identities of each identity's mean.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let mut out = BTreeMap::from([
            ("rank1".to_string(), self.rank1),
            ("precision@1".to_string(), self.rank1),
            ("r_precision".to_string(), self.r_precision),
            ("map".to_string(), self.map),
            ("map@r".to_string(), self.map_at_r),
            ("mrr".to_string(), self.mean_reciprocal_rank),
        ]);
        let classes = self.per_class.len() as f64;
        let mean = |f: &dyn Fn(&ClassRetrieval) -> f64| {
            self.per_class.iter().map(f).sum::<f64>() / classes
        };
        for (name, value) in [
            ("precision@1", mean(&|c| c.rank1)),
            ("r_precision", mean(&|c| c.r_precision)),
            ("map", mean(&|c| c.map)),
            ("map@r", mean(&|c| c.map_at_r)),
            ("mrr", mean(&|c| c.mean_reciprocal_rank)),
        ] {
            out.insert(format!("macro_{name}"), value);
        }
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
            clusters: None,
            queries: None,
        };
        let r = retrieve(&table, &labels, &config).unwrap();
        // Rankings: 0: 1a 2b 3a 4b -> hits 1,0; 1: 0a 2b 3a 4b -> 1,0; 2: 3a 1a 0a 4b (2.1 < 2.9) -> first hit 4;
        // 3: 2b 1a(2.0) 4b(2.0) 0a, tie of rows 1 and 4 in row order -> 0,1; 4: 3a 2b 1a 0a -> R = 1: 0, first hit 2.
        assert_eq!(r.queries, 5);
        assert!((r.rank1 - 2.0 / 5.0).abs() < 1e-15);
        assert!((r.r_precision - (0.5 + 0.5 + 0.0 + 0.5 + 0.0) / 5.0).abs() < 1e-15);
        assert!((r.map_at_r - (0.5 + 0.5 + 0.0 + 0.25 + 0.0) / 5.0).abs() < 1e-15);
        assert!((r.mean_reciprocal_rank - (1.0 + 1.0 + 0.25 + 0.5 + 0.5) / 5.0).abs() < 1e-15);
        // Ranks of the hits: 1,3; 1,3; 4; 2,4; 2.
        let map = (0.5 * (1.0 + 2.0 / 3.0) * 2.0 + 0.25 + 0.5 * (0.5 + 0.5) + 0.5) / 5.0;
        assert!((r.map - map).abs() < 1e-15);
        assert_eq!(r.per_class.len(), 2);
        assert!((r.per_class[1].rank1 - 0.0).abs() < 1e-15);
        assert!((r.metrics()["macro_precision@1"] - (2.0 / 3.0 + 0.0) / 2.0).abs() < 1e-15);
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
