//! Random numbers as a function of (seed, stream name, step), never of what was drawn before.
//!
//! A run that is interrupted and resumed must draw the same numbers as one that was not, and one more
//! random choice in one place must not shift all others. So there is no generator that lives through a
//! run: every place that needs numbers names its stream and its step and gets a fresh generator.
//!
//! The key of a stream is SHA-256("phiz stream 1" ‖ seed as 8 little-endian bytes ‖ name); it keys ChaCha
//! with 8 rounds, whose 64-bit stream number is the step. ChaCha with distinct keys or stream numbers gives
//! independent sequences for all practical purposes, and the same ones on every platform.
//!
//! ```
//! use phiz_train::Streams;
//! use rand::RngExt;
//!
//! let streams = Streams::new(7);
//! let a: u64 = streams.rng("augment", 41).random();
//! let b: u64 = streams.rng("augment", 41).random();
//! let c: u64 = streams.rng("augment", 42).random();
//! assert_eq!(a, b);
//! assert_ne!(a, c);
//! ```

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// Named random streams grown from one seed. Two values with the same seed are the same streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    root: u64,
}

impl Streams {
    /// The streams of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { root: seed }
    }

    /// The seed given to [`Streams::new`].
    pub fn root(&self) -> u64 {
        self.root
    }

    /// The generator of stream `name` at `step` (or at an item's index, or any other counter).
    pub fn rng(&self, name: &str, step: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::from_seed(self.key(b"phiz stream 1", name));
        rng.set_stream(step);
        rng
    }

    /// A seed for code that takes a `u64` and makes its own streams of it.
    pub fn seed(&self, name: &str) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.key(b"phiz seed 1", name);
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    fn key(&self, domain: &[u8], name: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(domain);
        hash.update(self.root.to_le_bytes());
        hash.update(name.as_bytes());
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn streams_differ_by_seed_name_and_step() {
        let draw = |seed, name, step| Streams::new(seed).rng(name, step).next_u64();
        let all = [
            draw(1, "a", 0),
            draw(2, "a", 0),
            draw(1, "b", 0),
            draw(1, "a", 1),
            draw(1, "a", u64::MAX),
        ];
        for (i, x) in all.iter().enumerate() {
            for y in all.iter().skip(i + 1) {
                assert_ne!(x, y);
            }
        }
        assert_ne!(Streams::new(1).seed("a"), Streams::new(1).seed("b"));
        assert_ne!(Streams::new(1).seed("a"), Streams::new(2).seed("a"));
    }

    /// Frozen: a change here changes every run that anyone has recorded. The numbers were computed apart, from
    /// the definitions of SHA-256 and of ChaCha with 8 rounds.
    #[test]
    fn values_are_frozen() {
        let streams = Streams::new(42);
        assert_eq!(
            [streams.rng("init", 3).next_u64(), streams.seed("loader")],
            FROZEN,
            "the streams no longer give the numbers of version 1"
        );
    }

    const FROZEN: [u64; 2] = [6_393_786_691_599_755_025, 5_055_383_626_446_041_204];
}
