//! Counter-based random streams: a stream is a function of (seed, purpose, index) and of nothing else.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What the random choices of one training step depend on.
///
/// Equal (seed, step) give equal choices, on any number of threads, whatever was drawn before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Draw {
    /// Seed of the run.
    pub seed: u64,
    /// Number of the step.
    pub step: u64,
}

impl Draw {
    /// The choices of `step` under `seed`.
    pub fn new(seed: u64, step: u64) -> Self {
        Self { seed, step }
    }

    /// The generator of one purpose and one item of the step.
    pub(crate) fn rng(self, domain: u64, item: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(mix(self.seed ^ mix(domain ^ mix(self.step))));
        rng.set_stream(item);
        rng
    }
}

/// The generator of one purpose (`domain`) and one index under a seed.
pub(crate) fn stream(seed: u64, domain: u64, index: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ mix(domain));
    rng.set_stream(index);
    rng
}

/// The SplitMix64 finaliser: spreads small consecutive numbers over 64 bits.
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Where `index` goes in a pseudo-random permutation of `0..len`, without storing it.
///
/// A Feistel network over the next even power of two, walked until it lands below `len`.
pub(crate) fn permuted(index: u64, len: u64, key: u64) -> u64 {
    let bits = 64 - len.saturating_sub(1).leading_zeros();
    let half = bits.div_ceil(2).max(1);
    let mask = (1u64 << half) - 1;
    let mut x = index;
    loop {
        let (mut left, mut right) = (x >> half, x & mask);
        for round in 0..8u64 {
            let next = left ^ (mix(key ^ mix(right ^ (round << 56))) & mask);
            (left, right) = (right, next);
        }
        x = (left << half) | right;
        if x < len {
            return x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::permuted;

    #[test]
    fn a_permutation_hits_everything_once() {
        for len in [1u64, 2, 3, 5, 16, 17, 100, 1000] {
            for key in 0..5 {
                let mut seen: Vec<u64> = (0..len).map(|i| permuted(i, len, key)).collect();
                if len >= 100 {
                    assert_ne!(seen, (0..len).collect::<Vec<_>>());
                }
                seen.sort_unstable();
                assert_eq!(seen, (0..len).collect::<Vec<_>>());
            }
        }
        let top = permuted(u64::from(u32::MAX), 1 << 40, 3);
        assert!(top < 1 << 40);
    }
}
