//! Templates: many images of one person pooled into one feature, as IJB-B and IJB-C have it, and 1:1 between them.
//!
//! An image feature is made from its row, in this order: the mirrored half is added (or dropped), the norm is kept or
//! set to 1, the detector's score is multiplied. Images of one medium (frames of one video) are averaged, media are
//! summed, the sum is set to length 1. That is the order of insightface's evaluation; its flags N, D and F are
//! [`PoolConfig::keep_norm`], the detector scores and [`Flip::Sum`] here. Everything is f64.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::roc::{EqualError, Roc, TarAtFar};
use crate::simd;
use crate::template_files::{TemplateIndex, TemplatePairs};

/// What the numbers of a row are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flip {
    /// One feature.
    #[default]
    Single,
    /// The feature of the image and that of its mirror image, one after the other; the first alone is used.
    First,
    /// The same, and the two are added.
    Sum,
}

/// How images become templates.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolConfig {
    /// Keep the norm of an image feature as a sign of its quality; otherwise each is set to length 1 first. Default true.
    pub keep_norm: bool,
    /// What a row holds. Default one feature.
    pub flip: Flip,
    /// The detector's score of each image, by which its feature is multiplied. Default none.
    pub detector: Option<Vec<f32>>,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            keep_norm: true,
            flip: Flip::default(),
            detector: None,
        }
    }
}

/// Pooled features of length 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Templates {
    ids: Vec<u32>,
    dim: usize,
    features: Vec<f64>,
}

impl Templates {
    /// Template ids, ascending.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Numbers a feature.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The feature at a place in [`Templates::ids`].
    pub fn feature(&self, place: usize) -> Option<&[f64]> {
        self.features
            .get(place * self.dim..)
            .and_then(|f| f.get(..self.dim))
    }

    /// The place of a template.
    ///
    /// # Errors
    /// When there is no image of it.
    pub fn place(&self, id: u32) -> Result<usize> {
        self.ids
            .binary_search(&id)
            .map_err(|_| Error::missing(format!("template {id} has no image in the index")))
    }
}

/// Pools the images of `embeddings` into templates; row i belongs to entry i of `index`.
///
/// Rows are read where they lie, so that a mapped file of any size is pooled in the memory of the result: 8 bytes a
/// number of each template.
///
/// # Errors
/// When there is not one entry and one detector score for each row, a row cannot be halved, or a template's features
/// sum to zero.
pub fn pool_templates(
    embeddings: &Embeddings,
    index: &TemplateIndex,
    config: &PoolConfig,
) -> Result<Templates> {
    let n = embeddings.len();
    if index.len() != n {
        return Err(Error::shape(format!(
            "the template index has {} images, but there are {n} embeddings",
            index.len()
        )));
    }
    if let Some(scores) = &config.detector {
        if scores.len() != n {
            return Err(Error::shape(format!(
                "{} detector scores, but there are {n} embeddings",
                scores.len()
            )));
        }
        if let Some(at) = scores.iter().position(|s| !s.is_finite()) {
            return Err(
                Error::value("the detector score is NaN or infinite").record(format!("row {at}"))
            );
        }
    }
    let width = embeddings.dim();
    if config.flip != Flip::Single && !width.is_multiple_of(2) {
        return Err(Error::shape(format!(
            "rows of {width} numbers are not a feature and its mirrored one"
        )));
    }
    let dim = if config.flip == Flip::Single {
        width
    } else {
        width / 2
    };
    let mut order: Vec<u32> = (0..n as u32).collect();
    order.par_sort_unstable_by_key(|&i| {
        let i = i as usize;
        (index.templates()[i], index.media()[i], i)
    });
    let groups: Vec<&[u32]> = order
        .chunk_by(|&x, &y| index.templates()[x as usize] == index.templates()[y as usize])
        .collect();
    let pool = Pool {
        embeddings,
        index,
        config,
        dim,
    };
    let mut features = vec![0.0; groups.len() * dim];
    features
        .par_chunks_mut(dim)
        .zip(&groups)
        .try_for_each(|(out, rows)| pool.template(rows, out))?;
    let ids = groups
        .iter()
        .filter_map(|rows| rows.first())
        .map(|&row| index.templates()[row as usize])
        .collect();
    Ok(Templates { ids, dim, features })
}

struct Pool<'a> {
    embeddings: &'a Embeddings,
    index: &'a TemplateIndex,
    config: &'a PoolConfig,
    dim: usize,
}

impl Pool<'_> {
    /// Pools rows that are sorted by medium.
    fn template(&self, rows: &[u32], out: &mut [f64]) -> Result<()> {
        let media = self.index.media();
        let mut feature = vec![0.0; self.dim];
        let mut mean = vec![0.0; self.dim];
        for medium in rows.chunk_by(|&x, &y| media[x as usize] == media[y as usize]) {
            mean.fill(0.0);
            for &row in medium {
                self.image(row as usize, &mut feature)?;
                for (sum, value) in mean.iter_mut().zip(&feature) {
                    *sum += value;
                }
            }
            for (sum, value) in out.iter_mut().zip(&mean) {
                *sum += value / medium.len() as f64;
            }
        }
        let norm = simd::dot64(out, out).sqrt();
        if norm == 0.0 {
            let id = rows
                .first()
                .map_or(0, |&r| self.index.templates()[r as usize]);
            return Err(
                Error::value("its image features sum to zero").record(format!("template {id}"))
            );
        }
        for value in out.iter_mut() {
            *value /= norm;
        }
        Ok(())
    }

    fn image(&self, row: usize, out: &mut [f64]) -> Result<()> {
        let values = self.embeddings.row(row).unwrap_or(&[]);
        for (to, &v) in out.iter_mut().zip(values) {
            *to = f64::from(v);
        }
        if self.config.flip == Flip::Sum {
            for (to, &v) in out.iter_mut().zip(values.get(self.dim..).unwrap_or(&[])) {
                *to += f64::from(v);
            }
        }
        if !self.config.keep_norm {
            let norm = simd::dot64(out, out).sqrt();
            if norm == 0.0 {
                return Err(Error::value("all zeros: it cannot be set to length 1")
                    .record(format!("embeddings, row {row}")));
            }
            for value in out.iter_mut() {
                *value /= norm;
            }
        }
        if let Some(&score) = self.config.detector.as_ref().and_then(|d| d.get(row)) {
            for value in out.iter_mut() {
                *value *= f64::from(score);
            }
        }
        Ok(())
    }
}

/// The result of 1:1 over templates.
#[derive(Debug, Clone)]
pub struct TemplateVerification {
    /// The exact curve.
    pub roc: Roc,
    /// Area under it.
    pub auc: f64,
    /// Equal error rate.
    pub eer: EqualError,
    /// By the exact rule: the largest acceptance whose FAR does not exceed the target; `None` with too few impostors.
    pub exact: Vec<(f64, Option<TarAtFar>)>,
    /// By insightface's rule: the point of the curve with the nearest FAR, which may exceed the target.
    pub nearest: Vec<(f64, TarAtFar)>,
}

/// Compares the listed templates by the cosine.
///
/// 15.7 million pairs of 512 numbers take some seconds on two cores and 40 bytes a pair.
///
/// # Errors
/// When a pair names a template without images, or there are no genuine or no impostor pairs.
pub fn verify_templates(
    templates: &Templates,
    pairs: &TemplatePairs,
    fars: &[f64],
) -> Result<TemplateVerification> {
    let scores = score_templates(templates, pairs)?;
    let roc = Roc::from_labelled(&scores, pairs.same())?;
    drop(scores);
    Ok(TemplateVerification {
        auc: roc.auc(),
        eer: roc.equal_error(),
        exact: fars.iter().map(|&f| (f, roc.tar_at_far(f))).collect(),
        nearest: fars
            .iter()
            .filter_map(|&f| Some((f, roc.tar_at_nearest_far(f)?)))
            .collect(),
        roc,
    })
}

/// The cosine of each listed pair of templates, rounded to 2^-40 as all scores are.
///
/// # Errors
/// When a pair names a template without images.
pub fn score_templates(templates: &Templates, pairs: &TemplatePairs) -> Result<Vec<f64>> {
    const ROUNDER: f64 = 1.5 * 4096.0;
    // Ids are small numbers as a rule, and then a table finds one in a step.
    let largest = templates.ids.last().copied().unwrap_or(0) as usize;
    let mut places = vec![u32::MAX; if largest < 1 << 24 { largest + 1 } else { 0 }];
    for (&id, place) in templates.ids.iter().zip(0u32..) {
        if let Some(entry) = places.get_mut(id as usize) {
            *entry = place;
        }
    }
    let find = |id: u32, pair: usize| match places.get(id as usize) {
        Some(&place) if place != u32::MAX => Ok(place as usize),
        _ => templates
            .place(id)
            .map_err(|e| e.record(format!("pair {pair}"))),
    };
    pairs
        .a()
        .par_iter()
        .zip(pairs.b())
        .enumerate()
        .map(|(i, (&a, &b))| {
            let (a, b) = (find(a, i)?, find(b, i)?);
            let (a, b) = (templates.feature(a), templates.feature(b));
            let cosine = simd::dot64(a.unwrap_or(&[]), b.unwrap_or(&[])).clamp(-1.0, 1.0);
            Ok((cosine + ROUNDER) - ROUNDER)
        })
        .collect()
}
