//! What any miner gives, the conversions between pairs and triplets, and how often items take part.

use std::collections::BTreeMap;

use candle::{Result, bail};

use crate::comparison::Comparison;
use crate::random::Draw;
use crate::tuples::{Pairs, Triplets};

/// What a miner gave: pairs or triplets. Anchors are rows, the others columns of the [`Comparison`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mined {
    /// Positive and negative pairs, each on its own.
    Pairs(Pairs),
    /// Triplets.
    Triplets(Triplets),
}

/// A rule that chooses tuples of a batch. All miners of this crate follow it, so that one can be held by name or in a box.
pub trait Miner: Send + Sync {
    /// The chosen tuples. Miners without random choices do not look at `draw`.
    ///
    /// # Errors
    /// When the miner's settings, or the comparison it is given, make no sense for it.
    fn tuples(&self, comparison: &Comparison<'_>, draw: Draw) -> Result<Mined>;
}

impl Mined {
    /// As pairs: each triplet gives (a, p) and (a, n), repeated as often as triplets repeat them.
    pub fn into_pairs(self) -> Pairs {
        match self {
            Self::Pairs(pairs) => pairs,
            Self::Triplets(triplets) => triplets.to_pairs(),
        }
    }

    /// As triplets: each positive pair joined with each negative pair of the same anchor.
    pub fn into_triplets(self) -> Triplets {
        match self {
            Self::Pairs(pairs) => pairs.to_triplets(),
            Self::Triplets(triplets) => triplets,
        }
    }

    /// Whether nothing was chosen.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Pairs(pairs) => pairs.is_empty(),
            Self::Triplets(triplets) => triplets.is_empty(),
        }
    }

    /// How often each item of a batch of `items` takes part, divided by the most any does: sample weights for a classification
    /// loss, or for [`weighted_draws`](crate::weighted_draws) (`TuplesToWeightsSampler` with `convert_to_weights`).
    ///
    /// All are 1 when nothing was chosen. An anchor of a pair counts once for each pair, of a triplet once for the triplet.
    /// With `anchors_only` just the anchors count, as they must where the others index a separate reference set.
    ///
    /// # Errors
    /// When an index is not below `items`.
    pub fn weights(&self, items: usize, anchors_only: bool) -> Result<Vec<f64>> {
        let mut counts = vec![0u64; items];
        let mut count = |list: &mut dyn Iterator<Item = u32>| -> Result<()> {
            for index in list {
                match counts.get_mut(index as usize) {
                    Some(count) => *count += 1,
                    None => bail!("item {index} is outside of the batch of {items}"),
                }
            }
            Ok(())
        };
        match self {
            Self::Pairs(pairs) => {
                for (a, b) in pairs.positive.iter().chain(&pairs.negative) {
                    count(&mut std::iter::once(*a))?;
                    if !anchors_only {
                        count(&mut std::iter::once(*b))?;
                    }
                }
            }
            Self::Triplets(triplets) => {
                count(&mut triplets.anchors.iter().copied())?;
                if !anchors_only {
                    count(&mut triplets.positives.iter().copied())?;
                    count(&mut triplets.negatives.iter().copied())?;
                }
            }
        }
        Ok(match counts.iter().copied().max() {
            None | Some(0) => vec![1.0; items],
            Some(most) => counts.iter().map(|&c| c as f64 / most as f64).collect(),
        })
    }
}

impl Pairs {
    /// Number of positive and negative pairs together.
    pub fn len(&self) -> usize {
        self.positive.len() + self.negative.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.positive.is_empty() && self.negative.is_empty()
    }

    /// Each positive pair joined with each negative pair of the same anchor, in the order of the lists.
    pub fn to_triplets(&self) -> Triplets {
        let mut negatives = BTreeMap::<u32, Vec<u32>>::new();
        for &(a, n) in &self.negative {
            negatives.entry(a).or_default().push(n);
        }
        let mut triplets = Triplets::default();
        for &(a, p) in &self.positive {
            for &n in negatives.get(&a).into_iter().flatten() {
                triplets.push(a, p, n);
            }
        }
        triplets
    }

    /// Checks that anchors are below `anchors` and the others below `references` (the batch size for both without a separate
    /// reference set).
    ///
    /// # Errors
    /// Names the first pair that is not.
    pub fn check(&self, anchors: usize, references: usize) -> Result<()> {
        for (what, list) in [("positive", &self.positive), ("negative", &self.negative)] {
            for (i, &(a, b)) in list.iter().enumerate() {
                if a as usize >= anchors || b as usize >= references {
                    bail!(
                        "{what} pair {i} ({a}, {b}) is outside of {anchors} anchors and {references} references"
                    );
                }
            }
        }
        Ok(())
    }
}

impl Triplets {
    /// (a, p) and (a, n) of each triplet, repeated as often as triplets repeat them.
    pub fn to_pairs(&self) -> Pairs {
        let join = |others: &[u32]| {
            let anchors = self.anchors.iter().copied();
            anchors.zip(others.iter().copied()).collect()
        };
        Pairs {
            positive: join(&self.positives),
            negative: join(&self.negatives),
        }
    }
}

impl From<Pairs> for Mined {
    fn from(pairs: Pairs) -> Self {
        Self::Pairs(pairs)
    }
}

impl From<Triplets> for Mined {
    fn from(triplets: Triplets) -> Self {
        Self::Triplets(triplets)
    }
}

/// Fails unless a setting of a miner is finite.
pub(crate) fn finite(what: &str, value: f64) -> Result<()> {
    if !value.is_finite() {
        bail!("{what} must be finite, got {value}");
    }
    Ok(())
}
