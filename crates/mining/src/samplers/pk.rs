//! Batches of P classes with K items each.

use std::collections::BTreeMap;

use candle::{Result, bail};
use rand::seq::SliceRandom;

use crate::random::stream;

/// What to do with a class of fewer than K items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ShortClass {
    /// Repeat its items until there are K: with augmentation the copies are different views. The default.
    #[default]
    Repeat,
    /// Leave the class out.
    Skip,
}

/// Configuration of a [`PkSampler`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PkConfig {
    /// P, classes a batch. Default 8.
    pub classes: usize,
    /// K, items of each class. Default 4.
    pub per_class: usize,
    /// Default [`ShortClass::Repeat`].
    pub short: ShortClass,
}

impl Default for PkConfig {
    fn default() -> Self {
        Self {
            classes: 8,
            per_class: 4,
            short: ShortClass::Repeat,
        }
    }
}

impl PkConfig {
    /// `m` items of each class in batches of `batch`: the arguments of pytorch-metric-learning's `MPerClassSampler`.
    ///
    /// # Errors
    /// When `m` is 0 or does not divide the batch.
    pub fn m_per_class(m: usize, batch: usize) -> Result<Self> {
        if m == 0 || batch == 0 || !batch.is_multiple_of(m) {
            bail!("a batch of {batch} cannot hold whole classes of {m} items");
        }
        Ok(Self {
            classes: batch / m,
            per_class: m,
            short: ShortClass::Repeat,
        })
    }
}

/// Draws P classes and K items of each, as a function of (seed, step).
///
/// A pass visits every class: its list is shuffled anew for each pass and cut into groups of P, the last of which is filled from
/// the list's end, so that a class comes at most twice a pass and never twice a batch. Likewise the items of a class take turns:
/// all of them are used before any is used again, but for the filling of the last group. (pytorch-metric-learning's
/// `MPerClassSampler` promises neither.)
#[derive(Debug)]
pub struct PkSampler {
    config: PkConfig,
    classes: Vec<Vec<usize>>,
    short: usize,
}

const CLASS_ORDER: u64 = 11;
const ITEM_ORDER: u64 = 12;

impl PkSampler {
    /// Prepares sampling over a data set with one label for each item.
    ///
    /// # Errors
    /// When P or K is 0, or when there are fewer than P classes to draw from.
    pub fn new(labels: &[u32], config: PkConfig) -> Result<Self> {
        if config.classes == 0 || config.per_class == 0 {
            bail!(
                "a P x K batch needs P and K of at least 1, got {} x {}",
                config.classes,
                config.per_class
            );
        }
        let mut classes = BTreeMap::<u32, Vec<usize>>::new();
        for (i, &label) in labels.iter().enumerate() {
            classes.entry(label).or_default().push(i);
        }
        let mut classes: Vec<_> = classes.into_values().collect();
        let short = classes
            .iter()
            .filter(|items| items.len() < config.per_class)
            .count();
        if config.short == ShortClass::Skip {
            classes.retain(|items| items.len() >= config.per_class);
        }
        if classes.len() < config.classes {
            bail!(
                "a batch of {} classes with {} items each cannot be drawn from {} classes ({short} have fewer items)",
                config.classes,
                config.per_class,
                classes.len()
            );
        }
        Ok(Self {
            config,
            classes,
            short,
        })
    }

    /// Classes with fewer than K items.
    pub fn short_classes(&self) -> usize {
        self.short
    }

    /// Steps in which every class is visited.
    pub fn steps_per_pass(&self) -> usize {
        self.classes.len().div_ceil(self.config.classes)
    }

    /// The P·K data-set indices of a step, class by class.
    pub fn batch(&self, seed: u64, step: u64) -> Vec<usize> {
        let (p, k) = (self.config.classes, self.config.per_class);
        let passes = self.steps_per_pass() as u64;
        let (pass, within) = (step / passes, (step % passes) as usize);
        let mut order: Vec<usize> = (0..self.classes.len()).collect();
        order.shuffle(&mut stream(seed, CLASS_ORDER, pass));
        let start = (within * p).min(self.classes.len() - p);
        let mut batch = Vec::with_capacity(p * k);
        for &class in &order[start..start + p] {
            let items = &self.classes[class];
            let windows = items.len().div_ceil(k) as u64;
            let (round, window) = (pass / windows, (pass % windows) as usize);
            let mut items = items.clone();
            // A stream of its own for each class; the low byte keeps it apart from the other purposes.
            items.shuffle(&mut stream(
                seed,
                (class as u64 + 1) << 8 | ITEM_ORDER,
                round,
            ));
            let first = (window * k).min(items.len().saturating_sub(k));
            batch.extend((first..first + k).map(|i| items[i % items.len()]));
        }
        batch
    }
}
