//! Negatives drawn so that all distances occur alike.

use candle::{Result, bail};
use rand::{Rng, RngExt};

use crate::comparison::{Comparison, Row};
use crate::mined::{Mined, Miner};
use crate::random::Draw;
use crate::tuples::Triplets;

/// What happens to an anchor all of whose negatives have weight 0, that is, lie at `loss_cutoff` or beyond.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fallback {
    /// Its negatives are drawn uniformly, as in the authors' program. The default.
    #[default]
    Uniform,
    /// Its nearest negative is taken.
    Nearest,
    /// It is left out, as in pytorch-metric-learning.
    Skip,
}

/// Draws negatives with a probability inverse to how common their distance is (`DistanceWeightedMiner`; Wu, Manmatha, Smola,
/// Krahenbuhl, ICCV 2017).
///
/// Points spread uniformly over the unit sphere in D dimensions have distances of density `q(d) ~ d^(D-2) (1 - d^2/4)^((D-3)/2)`,
/// nearly all of them close to `sqrt(2)`. A negative at `d` is drawn with weight `1 / q(max(d, cutoff))`, and 0 from `loss_cutoff`
/// on, where a margin loss is 0 anyway. Each anchor gets `per_anchor` triplets: a uniformly drawn positive, a negative so drawn,
/// both with repetition.
///
/// Weights are handled as logarithms relative to the largest of the anchor, so that none vanishes for want of range, however
/// large D is. What anchors without any weight get is [`Fallback`]'s, and they are counted.
///
/// Needs distances of unit vectors ([`Measure::L2`](crate::Measure::L2), or a matrix of them with
/// [`Comparison::dimension`]). Time O(B M D), memory linear.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DistanceWeightedMiner {
    /// Smaller distances count as this one, which bounds the weights. Default 0.5.
    pub cutoff: f64,
    /// Negatives from this distance on are not drawn. Default 1.4.
    pub loss_cutoff: f64,
    /// Triplets of each anchor. Default `None`: as many as its class has references (the anchor included where references are
    /// the anchors), as in pytorch-metric-learning.
    pub per_anchor: Option<usize>,
    /// Default [`Fallback::Uniform`].
    pub fallback: Fallback,
}

impl Default for DistanceWeightedMiner {
    fn default() -> Self {
        Self {
            cutoff: 0.5,
            loss_cutoff: 1.4,
            per_anchor: None,
            fallback: Fallback::Uniform,
        }
    }
}

/// What a distance-weighted draw met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WeightedStats {
    /// Anchors with a positive and a negative.
    pub anchors: usize,
    /// Those of them for which no negative had a weight, so that [`Fallback`] decided.
    pub fallbacks: usize,
}

const WEIGHTED: u64 = 23;

impl DistanceWeightedMiner {
    /// The drawn triplets, and how many anchors fell back.
    ///
    /// # Errors
    /// When the comparison is not one of unit vectors, its dimension is unknown, or a cutoff is not finite and positive.
    pub fn mine(
        &self,
        comparison: &Comparison<'_>,
        draw: Draw,
    ) -> Result<(Triplets, WeightedStats)> {
        let squared = comparison.unit_distances("distance-weighted sampling")?;
        let Some(dim) = comparison.dim() else {
            bail!(
                "distance-weighted sampling depends on the dimension of the embeddings: tell it by Comparison::dimension"
            );
        };
        for (what, value) in [("cutoff", self.cutoff), ("loss_cutoff", self.loss_cutoff)] {
            if !value.is_finite() || value <= 0.0 {
                bail!(
                    "{what} of distance-weighted sampling must be finite and positive, got {value}"
                );
            }
        }
        let rows = comparison.map_rows(|row| {
            let mut rng = draw.rng(WEIGHTED, row.anchor as u64);
            self.row(&row, squared, dim, comparison.is_own(), &mut rng)
        })?;
        let mut stats = WeightedStats::default();
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            stats.anchors += usize::from(row.is_some());
            let (triplets, fell_back) = row.unwrap_or_default();
            stats.fallbacks += usize::from(fell_back);
            found.push(triplets);
        }
        Ok((super::gathered(found), stats))
    }

    /// `log 1/q(max(d, cutoff))` up to a constant, or minus infinity where the weight is 0.
    ///
    /// `log w = (2 - D) log d - (D - 3)/2 log(1 - d^2/4)`.
    pub fn log_weight(&self, distance: f64, dim: usize) -> f64 {
        let d = distance.max(self.cutoff);
        if d >= self.loss_cutoff {
            return f64::NEG_INFINITY;
        }
        let dim = dim as f64;
        let log = (2.0 - dim) * d.ln() - (dim - 3.0) / 2.0 * (1.0 - 0.25 * d * d).ln();
        if log.is_finite() {
            log
        } else {
            f64::NEG_INFINITY
        }
    }

    /// The (positive, negative) pairs of an anchor and whether it fell back; nothing without a positive or a negative.
    fn row(
        &self,
        row: &Row<'_>,
        squared: bool,
        dim: usize,
        own: bool,
        rng: &mut impl Rng,
    ) -> Option<(Vec<(u32, u32)>, bool)> {
        let positives: Vec<u32> = row.positives().map(|(p, _)| p as u32).collect();
        let negatives: Vec<(u32, f64)> = row
            .negatives()
            .map(|(n, d)| (n as u32, if squared { d.sqrt() } else { d }))
            .collect();
        if positives.is_empty() || negatives.is_empty() {
            return None;
        }
        let count = self
            .per_anchor
            .unwrap_or(positives.len() + usize::from(own));
        let logs: Vec<f64> = negatives
            .iter()
            .map(|&(_, d)| self.log_weight(d, dim))
            .collect();
        let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let fell_back = top == f64::NEG_INFINITY;
        let weight = |log: &f64| match (fell_back, self.fallback) {
            (false, _) => (log - top).exp(),
            (true, Fallback::Uniform) => 1.0,
            (true, _) => 0.0,
        };
        let mut total = 0.0;
        let cumulative: Vec<f64> = logs
            .iter()
            .map(|log| {
                total += weight(log);
                total
            })
            .collect();
        let nearest = || {
            let near = negatives
                .iter()
                .reduce(|best, next| if next.1 < best.1 { next } else { best });
            near.map(|&(n, _)| n)
        };
        let mut found = Vec::with_capacity(count);
        for _ in 0..count {
            let p = positives[rng.random_range(0..positives.len())];
            let n = match (fell_back, self.fallback) {
                (true, Fallback::Skip) => break,
                (true, Fallback::Nearest) => nearest()?,
                _ => {
                    // In (0, total], so that an entry of weight 0 is never hit.
                    let at = total * (1.0 - rng.random::<f64>());
                    let found = cumulative.partition_point(|&c| c < at);
                    negatives[found.min(negatives.len() - 1)].0
                }
            };
            found.push((p, n));
        }
        Some((found, fell_back))
    }
}

impl Miner for DistanceWeightedMiner {
    fn tuples(&self, comparison: &Comparison<'_>, draw: Draw) -> Result<Mined> {
        Ok(self.mine(comparison, draw)?.0.into())
    }
}
