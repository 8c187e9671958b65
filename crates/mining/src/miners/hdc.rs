//! The hardest share of all pairs.

use candle::{Result, bail};

use super::deterministic;
use crate::comparison::Comparison;
use crate::tuples::Pairs;

/// The hardest share of all positive pairs and of all negative pairs, over the whole batch and not by anchor (`HDCMiner`;
/// hard-aware deeply cascaded embedding, Yuan, Yang, Zhang, ICCV 2017).
///
/// Of `k` pairs the `ceil(share k)` farthest positives and nearest negatives stay; of equally hard pairs the first in order.
/// [`mine_from`](Self::mine_from) goes on from the pairs of an earlier stage, as a cascade does: each stage looks at its own
/// embeddings, and only at what the stage before found hard. Time O(B M D), memory 16 bytes a pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HdcMiner {
    /// Share that stays, above 0 and at most 1. Default 0.5.
    pub share: f64,
}

impl Default for HdcMiner {
    fn default() -> Self {
        Self { share: 0.5 }
    }
}

/// Hardness (small first), then the pair.
type Ranked = (f64, u32, u32);

impl HdcMiner {
    /// The hardest pairs of the batch, in ascending order.
    ///
    /// # Errors
    /// When the share is not above 0 and at most 1.
    pub fn mine(&self, comparison: &Comparison<'_>) -> Result<Pairs> {
        self.check()?;
        let rows = comparison.map_rows(|row| {
            let a = row.anchor as u32;
            let positive: Vec<Ranked> = row.positives().map(|(p, d)| (-d, a, p as u32)).collect();
            let negative: Vec<Ranked> = row.negatives().map(|(n, d)| (d, a, n as u32)).collect();
            (positive, negative)
        })?;
        let (positive, negative): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        Ok(Pairs {
            positive: self.hardest(positive.concat()),
            negative: self.hardest(negative.concat()),
        })
    }

    /// The hardest of the given pairs. What the relation says of them does not matter.
    ///
    /// # Errors
    /// As [`mine`](Self::mine), and when a pair is outside of the comparison.
    pub fn mine_from(&self, comparison: &Comparison<'_>, pairs: &Pairs) -> Result<Pairs> {
        self.check()?;
        pairs.check(comparison.anchors(), comparison.references())?;
        let by_anchor = |list: &[(u32, u32)]| {
            let mut of = vec![Vec::new(); comparison.anchors()];
            for &(a, b) in list {
                of[a as usize].push(b);
            }
            of
        };
        let (positive, negative) = (by_anchor(&pairs.positive), by_anchor(&pairs.negative));
        let rows = comparison.map_rows(|row| {
            let ranked = |of: &[Vec<u32>], sign: f64| -> Vec<Ranked> {
                of[row.anchor]
                    .iter()
                    .map(|&b| (sign * row.distances[b as usize], row.anchor as u32, b))
                    .collect()
            };
            (ranked(&positive, -1.0), ranked(&negative, 1.0))
        })?;
        let (positive, negative): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        Ok(Pairs {
            positive: self.hardest(positive.concat()),
            negative: self.hardest(negative.concat()),
        })
    }

    fn check(&self) -> Result<()> {
        if !(self.share > 0.0 && self.share <= 1.0) {
            bail!(
                "the share of hard pairs must be above 0 and at most 1, got {}",
                self.share
            );
        }
        Ok(())
    }

    fn hardest(&self, mut ranked: Vec<Ranked>) -> Vec<(u32, u32)> {
        let keep = (self.share * ranked.len() as f64).ceil() as usize;
        if keep < ranked.len() {
            ranked.select_nth_unstable_by(keep, |x, y| {
                x.0.total_cmp(&y.0).then((x.1, x.2).cmp(&(y.1, y.2)))
            });
            ranked.truncate(keep);
        }
        let mut pairs: Vec<(u32, u32)> = ranked.into_iter().map(|(_, a, b)| (a, b)).collect();
        pairs.sort_unstable();
        pairs
    }
}

deterministic!(HdcMiner);
