//! N-pair batches (Sohn, NIPS 2016).

use std::collections::BTreeMap;

use rand::{Rng, RngExt};

use crate::tuples::{Tuplet, Tuplets};

/// One (query, positive) pair of every class that has two items; the positives of the other classes are the negatives.
///
/// The pair is drawn at random; classes come in ascending order of their label. With fewer than two such classes there is
/// nothing to contrast and the result is empty.
pub fn n_pair_tuplets<R: Rng + ?Sized>(labels: &[u32], rng: &mut R) -> Tuplets {
    let mut classes = BTreeMap::<u32, Vec<u32>>::new();
    for (i, &label) in (0u32..).zip(labels) {
        classes.entry(label).or_default().push(i);
    }
    let pairs: Vec<(u32, u32)> = classes
        .into_values()
        .filter(|items| items.len() > 1)
        .map(|mut items| {
            let query = items.swap_remove(rng.random_range(0..items.len()));
            (query, items[rng.random_range(0..items.len())])
        })
        .collect();
    if pairs.len() < 2 {
        return Tuplets::default();
    }
    pairs
        .iter()
        .map(|&(query, positive)| Tuplet {
            query,
            positives: vec![positive],
            negatives: pairs
                .iter()
                .map(|&(_, p)| p)
                .filter(|&p| p != positive)
                .collect(),
        })
        .collect()
}
