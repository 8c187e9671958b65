//! Batches of a few super-classes, with several classes of each.

use std::collections::BTreeMap;

use candle::{Result, bail};
use rand::seq::SliceRandom;

use crate::random::{Draw, mix, permuted};

/// Configuration of a [`HierarchicalSampler`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HierarchicalConfig {
    /// Items a batch; a multiple of `super_classes`. Default 32.
    pub batch: usize,
    /// Items of each class, which must divide a super-class's share of the batch; `None`: all of them. Default 4.
    pub per_class: Option<usize>,
    /// Super-classes in a batch. Default 2.
    pub super_classes: usize,
    /// Batches for each combination of super-classes in a pass. Default 4.
    pub batches_per_combination: usize,
}

impl Default for HierarchicalConfig {
    fn default() -> Self {
        Self {
            batch: 32,
            per_class: Some(4),
            super_classes: 2,
            batches_per_combination: 4,
        }
    }
}

/// Batches whose negatives are close: classes of few super-classes ("terriers and spaniels") at a time (`HierarchicalSampler`;
/// after Cakir et al., FastAP, CVPR 2019).
///
/// A pass takes every combination of `super_classes` super-classes `batches_per_combination` times, in shuffled order; the
/// combinations are numbered, never listed. In a batch each super-class has an equal share, filled with classes in random order
/// and `per_class` items of each. A class with fewer items repeats them, as
/// [`ShortClass::Repeat`](crate::ShortClass::Repeat) does; a super-class with fewer classes than its share has room for
/// leaves it partly empty, so such batches are smaller ([`short_super_classes`](Self::short_super_classes) counts them).
#[derive(Debug)]
pub struct HierarchicalSampler {
    config: HierarchicalConfig,
    /// For each super-class the items of its classes.
    classes: Vec<Vec<Vec<usize>>>,
    steps: u64,
}

const PASS: u64 = 33;
const FILL: u64 = 34;

impl HierarchicalSampler {
    /// Prepares sampling over a data set with a class and a super-class for each item. The same class label under two
    /// super-classes is two classes.
    ///
    /// # Errors
    /// When labels are of different length, a number is 0 or does not divide as it must, there are too few super-classes, or
    /// a pass would have more than 2^62 steps.
    pub fn new(classes: &[u32], super_classes: &[u32], config: HierarchicalConfig) -> Result<Self> {
        if classes.len() != super_classes.len() {
            bail!(
                "{} class labels but {} super-class labels",
                classes.len(),
                super_classes.len()
            );
        }
        let k = config.super_classes;
        if k == 0 || config.batch == 0 || config.batches_per_combination == 0 {
            bail!(
                "a hierarchical batch needs at least one item, super-class and batch for each combination"
            );
        }
        if !config.batch.is_multiple_of(k) {
            bail!(
                "a batch of {} cannot be shared by {k} super-classes",
                config.batch
            );
        }
        let share = config.batch / k;
        if let Some(m) = config.per_class
            && (m == 0 || !share.is_multiple_of(m))
        {
            bail!("a super-class's share of {share} items cannot hold whole classes of {m}");
        }
        let mut found = BTreeMap::<u32, BTreeMap<u32, Vec<usize>>>::new();
        for (i, (&class, &above)) in classes.iter().zip(super_classes).enumerate() {
            let class = found.entry(above).or_default().entry(class).or_default();
            class.push(i);
        }
        if found.len() < k {
            bail!(
                "a batch of {k} super-classes cannot be drawn from {} of them",
                found.len()
            );
        }
        let steps = choose(found.len() as u64, k as u64)
            .and_then(|count| count.checked_mul(config.batches_per_combination as u64))
            .filter(|&steps| steps <= 1 << 62);
        let Some(steps) = steps else {
            bail!(
                "a pass over the combinations of {k} out of {} super-classes has too many steps",
                found.len()
            );
        };
        let classes: Vec<Vec<Vec<usize>>> = found
            .into_values()
            .map(|classes| classes.into_values().collect())
            .collect();
        Ok(Self {
            config,
            classes,
            steps,
        })
    }

    /// Steps in which every combination of super-classes had its batches.
    pub fn steps_per_pass(&self) -> u64 {
        self.steps
    }

    /// Super-classes that cannot fill their share of a batch.
    pub fn short_super_classes(&self) -> usize {
        let share = self.config.batch / self.config.super_classes;
        let holds = |classes: &Vec<Vec<usize>>| match self.config.per_class {
            Some(m) => classes.len() * m,
            None => classes.iter().map(Vec::len).sum(),
        };
        self.classes.iter().filter(|c| holds(c) < share).count()
    }

    /// The data-set indices of a step, super-class by super-class and class by class.
    pub fn batch(&self, seed: u64, step: u64) -> Vec<usize> {
        let (pass, within) = (step / self.steps, step % self.steps);
        let key = mix(seed ^ mix(PASS ^ mix(pass)));
        let number = permuted(within, self.steps, key) / self.config.batches_per_combination as u64;
        let share = self.config.batch / self.config.super_classes;
        let mut rng = Draw::new(seed, step).rng(FILL, 0);
        let mut batch = Vec::with_capacity(self.config.batch);
        for above in combination(
            number,
            self.classes.len() as u64,
            self.config.super_classes as u64,
        ) {
            let classes = &self.classes[above];
            let mut order: Vec<usize> = (0..classes.len()).collect();
            order.shuffle(&mut rng);
            let mut left = share;
            for class in order {
                let items = &classes[class];
                let count = self.config.per_class.unwrap_or(items.len());
                if count > left {
                    continue;
                }
                let mut shuffled = items.clone();
                shuffled.shuffle(&mut rng);
                batch.extend((0..count).map(|i| shuffled[i % items.len()]));
                left -= count;
                if left == 0 {
                    break;
                }
            }
        }
        batch
    }
}

/// n over k, or nothing where it does not fit.
fn choose(n: u64, k: u64) -> Option<u64> {
    if k > n {
        return Some(0);
    }
    let mut value = 1u128;
    for i in 0..u128::from(k.min(n - k)) {
        value = value.checked_mul(u128::from(n) - i)? / (i + 1);
    }
    u64::try_from(value).ok()
}

/// The combination of a number, in lexicographic order.
fn combination(mut number: u64, n: u64, k: u64) -> Vec<usize> {
    let mut chosen = Vec::with_capacity(k as usize);
    let mut next = 0;
    for left in (1..=k).rev() {
        // How many combinations begin with `next`.
        while let Some(count) = choose(n - next - 1, left - 1)
            && number >= count
            && next + left < n
        {
            number -= count;
            next += 1;
        }
        chosen.push(next as usize);
        next += 1;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::{choose, combination};

    #[test]
    fn combinations_are_numbered_in_order() {
        assert_eq!(choose(5, 2), Some(10));
        assert_eq!(choose(3, 4), Some(0));
        assert_eq!(choose(200, 100), None);
        let all: Vec<Vec<usize>> = (0..10).map(|i| combination(i, 5, 3)).collect();
        assert_eq!(all[0], [0, 1, 2]);
        assert_eq!(all[9], [2, 3, 4]);
        assert!(all.windows(2).all(|w| w[0] < w[1]));
        assert_eq!(combination(0, 3, 3), [0, 1, 2]);
        assert_eq!(combination(2, 3, 1), [2]);
    }
}
