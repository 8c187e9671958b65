//! Online positive mining: which candidates of a tuplet to train on, decided from the embeddings of this very step.

use candle::{Result, Tensor};
use rand::Rng;
use rand::seq::SliceRandom;

use crate::matrix::{rows, squared};
use crate::samplers::TupletConfig;
use crate::tuples::{Tuplet, Tuplets};

/// What online mining did to a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MiningStats {
    /// Tuplets mined.
    pub tuplets: usize,
    /// Candidates before mining, queries not counted.
    pub candidates: usize,
    /// Candidates dropped because they lie farther from the centre than every negative.
    pub dropped: usize,
    /// Candidates left, queries not counted.
    pub kept: usize,
    /// Tuplets whose drops were undone because too few positives remained.
    pub undone: usize,
}

impl MiningStats {
    /// The dropped share of the candidates; 0 without candidates.
    pub fn drop_rate(&self) -> f64 {
        if self.candidates == 0 {
            0.0
        } else {
            self.dropped as f64 / self.candidates as f64
        }
    }
}

/// Keeps the informative positives of each tuplet, without gradient.
///
/// With `c0` the mean of the query and its candidates, and `r = max_j ||f_j - c0||^2` over the negatives:
/// 1. drop candidates with `||f - c0||^2 > r`: farther out than every negative, most likely a wrong label;
/// 2. if then fewer than `min_positives` positives remain, the query among them, undo the drop;
/// 3. keep the `positives - 1` candidates farthest from `c0`, of equals the one listed first.
///
/// The query always stays, the kept candidates keep their order, and so do the negatives. A tuplet without negatives is
/// mined by rule 3 alone. Pass the embeddings the loss will measure (normalised ones if the loss normalises).
///
/// Early in training same-person negatives are nearer than the positives and rule 1 would drop nearly everything: use
/// [`random_positives`] for the first epochs (2 in our recipes). The rules are ours; the published abstract only says that
/// positives are mined online.
///
/// # Shapes
/// `embeddings` (B, D), any float type.
///
/// # Errors
/// When an index is outside of the batch, or an embedding is not finite (its row is named).
pub fn mine_positives(
    tuplets: &Tuplets,
    embeddings: &Tensor,
    config: &TupletConfig,
) -> Result<(Tuplets, MiningStats)> {
    config.check()?;
    let rows = rows(embeddings)?;
    tuplets.check(rows.len())?;
    let mut stats = MiningStats {
        tuplets: tuplets.len(),
        ..MiningStats::default()
    };
    let mined = tuplets
        .iter()
        .map(|t| mine(t, &rows, config, &mut stats))
        .collect();
    Ok((mined, stats))
}

fn mine(
    tuplet: &Tuplet,
    rows: &[Vec<f64>],
    config: &TupletConfig,
    stats: &mut MiningStats,
) -> Tuplet {
    let row = |i: u32| rows[i as usize].as_slice();
    let mut centre = row(tuplet.query).to_vec();
    for &p in &tuplet.positives {
        for (c, v) in centre.iter_mut().zip(row(p)) {
            *c += v;
        }
    }
    let members = (tuplet.positives.len() + 1) as f64;
    centre.iter_mut().for_each(|c| *c /= members);

    let distance = |i: &u32| squared(row(*i), &centre);
    let reach = tuplet
        .negatives
        .iter()
        .map(distance)
        .reduce(f64::max)
        .unwrap_or(f64::INFINITY);
    let all: Vec<(usize, f64)> = tuplet.positives.iter().map(distance).enumerate().collect();
    let mut kept: Vec<(usize, f64)> = all.iter().copied().filter(|&(_, d)| d <= reach).collect();
    stats.candidates += all.len();
    if kept.len() < all.len() && kept.len() + 1 < config.min_positives {
        kept = all;
        stats.undone += 1;
    } else {
        stats.dropped += all.len() - kept.len();
    }
    // A stable sort, so that of equally distant candidates the first listed wins.
    kept.sort_by(|a, b| b.1.total_cmp(&a.1));
    kept.truncate(config.positives.saturating_sub(1));
    kept.sort_by_key(|&(i, _)| i);
    stats.kept += kept.len();
    Tuplet {
        query: tuplet.query,
        positives: kept.into_iter().map(|(i, _)| tuplet.positives[i]).collect(),
        negatives: tuplet.negatives.clone(),
    }
}

/// Keeps `positives - 1` random candidates of each tuplet, in their order: the stand-in for [`mine_positives`] during warm-up,
/// and its ablation.
pub fn random_positives<R: Rng + ?Sized>(
    tuplets: &Tuplets,
    config: &TupletConfig,
    rng: &mut R,
) -> Tuplets {
    tuplets
        .iter()
        .map(|t| {
            let mut order: Vec<usize> = (0..t.positives.len()).collect();
            order.shuffle(rng);
            order.truncate(config.positives.saturating_sub(1));
            order.sort_unstable();
            Tuplet {
                query: t.query,
                positives: order.into_iter().map(|i| t.positives[i]).collect(),
                negatives: t.negatives.clone(),
            }
        })
        .collect()
}
