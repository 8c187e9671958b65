//! Batches in which every class is as frequent as any other, whatever its size.

use std::collections::BTreeMap;

use candle::{Result, bail};
use rand::seq::SliceRandom;

use crate::random::{mix, stream};

/// Draws items so that all classes come equally often and no item is forgotten, as a function of (seed, step).
///
/// Draws go in rounds: a round takes one item of every class, in an order shuffled anew for each round, and batches are cut from
/// the rounds one after the other. Two promises follow:
///
/// - **Balance**: over any number of whole rounds every class is drawn equally often; in any stretch of draws the counts of two
///   classes differ by at most 2.
/// - **Coverage**: a class takes its items in shuffled order and repeats none before all were drawn, so that after
///   [`steps_to_cover`](Self::steps_to_cover) steps every item of the data set was in a batch.
///
/// [`PkSampler`](crate::PkSampler) is the one to take where each class of a batch must have several items.
#[derive(Debug)]
pub struct ClassBalancedSampler {
    classes: Vec<Vec<usize>>,
    batch: usize,
    largest: usize,
}

const ROUND_ORDER: u64 = 31;
const TURN_ORDER: u64 = 32;

impl ClassBalancedSampler {
    /// Prepares batches of `batch` items over a data set with one label for each item.
    ///
    /// # Errors
    /// When there is no item, or `batch` is 0.
    pub fn new(labels: &[u32], batch: usize) -> Result<Self> {
        if labels.is_empty() || batch == 0 {
            bail!(
                "cannot draw batches of {batch} out of {} items",
                labels.len()
            );
        }
        let mut classes = BTreeMap::<u32, Vec<usize>>::new();
        for (i, &label) in labels.iter().enumerate() {
            classes.entry(label).or_default().push(i);
        }
        let classes: Vec<Vec<usize>> = classes.into_values().collect();
        let largest = classes.iter().map(Vec::len).max().unwrap_or(1);
        Ok(Self {
            classes,
            batch,
            largest,
        })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    /// Steps after which every item was drawn: the largest class decides.
    pub fn steps_to_cover(&self) -> usize {
        (self.classes.len() * self.largest).div_ceil(self.batch)
    }

    /// The data-set indices of a step.
    pub fn batch(&self, seed: u64, step: u64) -> Vec<usize> {
        let count = self.classes.len() as u64;
        let first = step.wrapping_mul(self.batch as u64);
        let mut orders = BTreeMap::<u64, Vec<usize>>::new();
        let mut turns = BTreeMap::<(usize, u64), Vec<usize>>::new();
        (0..self.batch as u64)
            .map(|i| {
                let at = first.wrapping_add(i);
                let (round, slot) = (at / count, (at % count) as usize);
                let order = orders.entry(round).or_insert_with(|| {
                    let mut order: Vec<usize> = (0..self.classes.len()).collect();
                    order.shuffle(&mut stream(seed, ROUND_ORDER, round));
                    order
                });
                let class = order[slot];
                let items = &self.classes[class];
                // In the r-th round the class is drawn for the r-th time.
                let (cycle, turn) = (
                    round / items.len() as u64,
                    (round % items.len() as u64) as usize,
                );
                let shuffled = turns.entry((class, cycle)).or_insert_with(|| {
                    let mut items = items.clone();
                    let domain = TURN_ORDER ^ mix(class as u64);
                    items.shuffle(&mut stream(seed, domain, cycle));
                    items
                });
                shuffled[turn]
            })
            .collect()
    }
}
