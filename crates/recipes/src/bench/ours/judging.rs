//! Evaluation: curves, retrieval, neighbours.

use std::time::Instant;

use phiz_eval::{Embeddings, RetrievalConfig, Roc, Score, nearest, retrieve};

use super::{Ready, clusters};
use crate::bench::noise;
use crate::{Error, Result};

/// One pair in eight is genuine; genuine scores lie 1.5 standard deviations higher.
const GENUINE: usize = 8;

/// The whole curve of `pairs` scores, and the area under it.
pub(super) fn roc(pairs: usize) -> Result<Ready> {
    let same: Vec<bool> = (0..pairs).map(|i| i % GENUINE == 0).collect();
    let scores: Vec<f64> = noise::normal(1, pairs)
        .into_iter()
        .zip(&same)
        .map(|(score, same)| f64::from(score) + if *same { 1.5 } else { 0. })
        .collect();
    let run = move || -> Result<_> {
        let start = Instant::now();
        let curve = Roc::from_labelled(&scores, &same)?;
        let auc = curve.auc();
        Ok((start.elapsed(), auc))
    };
    let (_, auc) = run()?;
    Ok(Ready::new(move || Ok(run()?.0)).value("auc", auc))
}

fn unit(mut values: Vec<f32>, dim: usize) -> Result<Embeddings> {
    for row in values.chunks_mut(dim.max(1)) {
        let square: f64 = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        let norm = square.sqrt();
        for x in row {
            *x = (f64::from(*x) / norm) as f32;
        }
    }
    Ok(Embeddings::new(values, dim)?)
}

/// Every retrieval metric of the table against itself.
pub(super) fn retrieval(rows: usize, dim: usize, per_class: usize) -> Result<Ready> {
    if dim == 0 || per_class == 0 {
        return Err(Error::config(
            "retrieval: no dimension or nobody in a class",
        ));
    }
    let (values, labels) = clusters(rows, dim, per_class);
    let embeddings = unit(values, dim)?;
    let config = RetrievalConfig {
        score: Score::Cosine,
        bootstrap: None,
        ..RetrievalConfig::default()
    };
    let run = move || -> Result<_> {
        let start = Instant::now();
        let figures = retrieve(&embeddings, &labels, &config)?;
        Ok((start.elapsed(), figures))
    };
    let (_, figures) = run()?;
    Ok(Ready::new(move || Ok(run()?.0))
        .value("precision_at_1", figures.rank1)
        .value("r_precision", figures.r_precision)
        .value("mean_average_precision_at_r", figures.map_at_r))
}

/// The `k` nearest of `gallery` rows for each of `queries` rows, by cosine.
pub(super) fn neighbours(queries: usize, gallery: usize, dim: usize, k: usize) -> Result<Ready> {
    let asked = unit(noise::normal(1, queries * dim), dim)?;
    let known = unit(noise::normal(2, gallery * dim), dim)?;
    let run = move || -> Result<_> {
        let start = Instant::now();
        let found = nearest(&asked, &known, k, Score::Cosine, false)?;
        Ok((start.elapsed(), found))
    };
    let (_, found) = run()?;
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
    Ok(Ready::new(move || Ok(run()?.0))
        .value("mean_score", mean(found.scores))
        .value(
            "mean_row",
            mean(found.rows.iter().map(|row| f64::from(*row)).collect()),
        ))
}
