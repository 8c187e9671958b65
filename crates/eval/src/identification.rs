//! One against many: which enrolled subject is this, and is it enrolled at all?

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::products::row_products;
use crate::templates::Templates;

/// Probes compared at once.
const BLOCK: usize = 64;

/// How to identify.
#[derive(Debug, Clone, PartialEq)]
pub struct IdentificationConfig {
    /// False positive identification rates at which the true one is read. Default 0.01, 0.1.
    pub fpirs: Vec<f64>,
    /// The k of `rank-k`. Default 1, 5, 10.
    pub ranks: Vec<usize>,
    /// Length of the cumulative match curve. Default 50.
    pub cmc: usize,
}

impl Default for IdentificationConfig {
    fn default() -> Self {
        Self {
            fpirs: vec![0.01, 0.1],
            ranks: vec![1, 5, 10],
            cmc: 50,
        }
    }
}

/// The true positive identification rate at a bound on the false positive one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TpirAtFpir {
    /// The bound asked for.
    pub target: f64,
    /// Share of mated probes whose subject comes first with a score above the threshold.
    pub tpir: f64,
    /// Share of non-mated probes with a score above the threshold.
    pub fpir: f64,
    /// Non-mated probes above the threshold.
    pub false_positives: u64,
    /// Scores above this count.
    pub threshold: f64,
}

/// The result of 1:N against one gallery.
#[derive(Debug, Clone, PartialEq)]
pub struct Identification {
    /// Probes whose subject is enrolled.
    pub mated: usize,
    /// Probes whose subject is not.
    pub non_mated: usize,
    /// Share of mated probes found in the first k, for each wanted k (closed set).
    pub ranks: Vec<(usize, f64)>,
    /// Cumulative match curve: element k-1 is the share of mated probes found in the first k.
    pub cmc: Vec<f64>,
    /// Open set by the exact rule: the most false positives that keep FPIR at or below the target; `None` with fewer than
    /// 1/FPIR non-mated probes.
    pub exact: Vec<(f64, Option<TpirAtFpir>)>,
    /// Open set by insightface's rule: the threshold is element max(int(n FPIR) - 1, 0) of the non-mated probes' highest
    /// scores in descending order; empty without non-mated probes. One false positive stricter than the exact rule, and
    /// given even where it rests on none.
    pub insightface: Vec<(f64, TpirAtFpir)>,
}

/// Finds each probe in the gallery; both are lists of (template, subject).
///
/// A probe's score for a subject is its highest cosine with a template of theirs, its rank is 1 + the number of gallery
/// templates of other subjects that score as high or higher: a tie is never a hit. Scores are rounded to 2^-40.
///
/// # Errors
/// When a template has no images, a list is empty, or no probe is mated.
pub fn identify(
    templates: &Templates,
    gallery: &[(u32, u32)],
    probes: &[(u32, u32)],
    config: &IdentificationConfig,
) -> Result<Identification> {
    if gallery.is_empty() || probes.is_empty() {
        return Err(Error::degenerate("an empty gallery or no probes"));
    }
    let dim = templates.dim();
    let gather = |list: &[(u32, u32)]| -> Result<Vec<f64>> {
        let mut out = Vec::with_capacity(list.len() * dim);
        for &(template, _) in list {
            let place = templates.place(template)?;
            out.extend_from_slice(templates.feature(place).unwrap_or(&[]));
        }
        Ok(out)
    };
    let mut enrolled: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (i, &(_, subject)) in gallery.iter().enumerate() {
        enrolled.entry(subject).or_default().push(i);
    }
    let (left, right) = (gather(gallery)?, gather(probes)?);
    let blocks: Vec<Vec<Found>> = right
        .par_chunks(BLOCK * dim)
        .zip(probes.par_chunks(BLOCK))
        .map(|(features, probes)| {
            let mut scores = vec![0.0; gallery.len() * probes.len()];
            row_products(&left, features, dim, &mut scores);
            scores
                .chunks_exact_mut(gallery.len())
                .zip(probes)
                .map(|(row, &(_, subject))| find(row, enrolled.get(&subject)))
                .collect()
        })
        .collect();
    let (mut mated, mut open) = (Vec::new(), Vec::new());
    for found in blocks.into_iter().flatten() {
        match found.rank {
            Some(rank) => mated.push((rank, found.best)),
            None => open.push(found.best),
        }
    }
    if mated.is_empty() {
        return Err(Error::degenerate("no probe is of a subject in the gallery"));
    }
    open.sort_unstable_by(|x, y| y.total_cmp(x));
    let within = |k: usize| mated.iter().filter(|m| m.0 <= k).count() as f64 / mated.len() as f64;
    let at = |target: f64, threshold: f64| {
        let hits = mated.iter().filter(|m| m.0 == 1 && m.1 > threshold).count();
        let false_positives = open.partition_point(|&s| s > threshold);
        TpirAtFpir {
            target,
            tpir: hits as f64 / mated.len() as f64,
            fpir: false_positives as f64 / open.len() as f64,
            false_positives: false_positives as u64,
            threshold,
        }
    };
    let exact = config.fpirs.iter().map(|&target| {
        let n = open.len() as f64;
        if target.is_nan() || open.is_empty() || 1.0 / n > target {
            return (target, None);
        }
        // The most false positives within the target, and the score they must beat.
        let allowed = (0..=open.len())
            .rev()
            .find(|&k| k as f64 / n <= target)
            .unwrap_or(0);
        let threshold = open.get(allowed).copied().unwrap_or(f64::NEG_INFINITY);
        (target, Some(at(target, threshold)))
    });
    let insightface = config.fpirs.iter().filter_map(|&target| {
        let place = ((open.len() as f64 * target) as usize).saturating_sub(1);
        let threshold = *open.get(place)?;
        Some((target, at(target, threshold)))
    });
    Ok(Identification {
        mated: mated.len(),
        non_mated: open.len(),
        ranks: config.ranks.iter().map(|&k| (k, within(k))).collect(),
        cmc: (1..=config.cmc.min(gallery.len())).map(within).collect(),
        exact: exact.collect(),
        insightface: insightface.collect(),
    })
}

struct Found {
    /// Rank of the subject; `None` when not enrolled.
    rank: Option<usize>,
    /// Score of the subject, or the highest of all when not enrolled.
    best: f64,
}

fn find(row: &mut [f64], own: Option<&Vec<usize>>) -> Found {
    const ROUNDER: f64 = 1.5 * 4096.0;
    for score in row.iter_mut() {
        *score = (score.clamp(-1.0, 1.0) + ROUNDER) - ROUNDER;
    }
    let highest = |scores: &mut dyn Iterator<Item = f64>| scores.fold(f64::NEG_INFINITY, f64::max);
    let Some(own) = own else {
        return Found {
            rank: None,
            best: highest(&mut row.iter().copied()),
        };
    };
    let best = highest(&mut own.iter().filter_map(|&i| row.get(i).copied()));
    let reaching = row.iter().filter(|&&s| s >= best).count();
    let of_own = own
        .iter()
        .filter(|&&i| row.get(i).is_some_and(|&s| s >= best))
        .count();
    Found {
        rank: Some(1 + reaching - of_own),
        best,
    }
}
