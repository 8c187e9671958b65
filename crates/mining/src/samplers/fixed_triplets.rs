//! A set of triplets drawn once, as if they were all that is known.

use std::collections::BTreeMap;

use candle::{Result, bail};
use rand::RngExt;
use rand::seq::SliceRandom;

use crate::random::stream;

/// Triplets of a data set drawn once and trained on in every epoch, to see what a loss makes of triplets without labels
/// (`FixedSetOfTriplets`).
///
/// Each comes from a class drawn uniformly among those with two items, another class drawn uniformly, an anchor and a different
/// positive of the first and a negative of the second. The same triplet may be drawn twice. (pytorch-metric-learning also draws
/// classes of one item, whose anchor is then its own positive.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedTriplets {
    triplets: Vec<[usize; 3]>,
}

const DRAWN: u64 = 35;
const EPOCH: u64 = 36;

impl FixedTriplets {
    /// Draws `count` triplets as a function of the seed.
    ///
    /// # Errors
    /// When no class has two items, or there is one class only.
    pub fn new(labels: &[u32], count: usize, seed: u64) -> Result<Self> {
        let mut classes = BTreeMap::<u32, Vec<usize>>::new();
        for (i, &label) in labels.iter().enumerate() {
            classes.entry(label).or_default().push(i);
        }
        let classes: Vec<Vec<usize>> = classes.into_values().collect();
        let paired: Vec<usize> = (0..classes.len())
            .filter(|&c| classes[c].len() > 1)
            .collect();
        if paired.is_empty() || classes.len() < 2 {
            bail!(
                "triplets need a class of two items and another class, found {} classes, {} of them with two items",
                classes.len(),
                paired.len()
            );
        }
        let triplets = (0..count as u64)
            .map(|i| {
                let mut rng = stream(seed, DRAWN, i);
                let class = paired[rng.random_range(0..paired.len())];
                let other = rng.random_range(0..classes.len() - 1);
                let other = &classes[other + usize::from(other >= class)];
                let own = &classes[class];
                let a = rng.random_range(0..own.len());
                let p = rng.random_range(0..own.len() - 1);
                let n = other[rng.random_range(0..other.len())];
                [own[a], own[p + usize::from(p >= a)], n]
            })
            .collect();
        Ok(Self { triplets })
    }

    /// The triplets as data-set indices (anchor, positive, negative), in the order they were drawn.
    pub fn triplets(&self) -> &[[usize; 3]] {
        &self.triplets
    }

    /// All triplets one after the other in the shuffled order of an epoch. Batches of a multiple of three are mined by
    /// [`packaged_triplets`](crate::packaged_triplets).
    pub fn epoch(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let mut order = self.triplets.clone();
        order.shuffle(&mut stream(seed, EPOCH, epoch));
        order.into_iter().flatten().collect()
    }
}
