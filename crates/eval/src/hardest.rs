//! The few pairs that a system gets most wrong.

use serde::Serialize;

/// A pair of samples with its score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScoredPair {
    /// Row of the first sample.
    pub a: usize,
    /// Row of the second sample.
    pub b: usize,
    /// Their similarity.
    pub score: f64,
}

/// The few pairs with the smallest sign x score; ties by index.
pub(crate) struct Hardest {
    pub(crate) pairs: Vec<ScoredPair>,
    capacity: usize,
    sign: f64,
}

impl Hardest {
    pub(crate) fn new(capacity: usize, sign: f64) -> Self {
        Self {
            pairs: Vec::new(),
            capacity,
            sign,
        }
    }

    #[inline]
    pub(crate) fn wants(&self, score: f64) -> bool {
        self.pairs.len() < self.capacity
            || self
                .pairs
                .last()
                .is_some_and(|p| self.sign * score <= self.sign * p.score)
    }

    pub(crate) fn offer(&mut self, pair: ScoredPair) {
        if !self.wants(pair.score) {
            return;
        }
        let sign = self.sign;
        let before = |p: &ScoredPair| {
            (sign * p.score)
                .total_cmp(&(sign * pair.score))
                .then((p.a, p.b).cmp(&(pair.a, pair.b)))
                .is_lt()
        };
        let at = self.pairs.partition_point(before);
        self.pairs.insert(at, pair);
        self.pairs.truncate(self.capacity);
    }
}
