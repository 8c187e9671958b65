//! Named random streams: a number is a function of (seed, stream name, index) and of nothing else.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::math::hash;

/// One random stream.
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream `name` of `seed`, item `index`.
    pub(crate) fn new(seed: u64, name: &str, index: u64) -> Self {
        let key = name
            .bytes()
            .fold(hash(seed), |key, byte| hash(key ^ u64::from(byte)));
        let mut rng = ChaCha8Rng::seed_from_u64(key);
        rng.set_stream(index);
        Self(rng)
    }

    /// Uniform on [0, 1), 24 bits.
    pub(crate) fn uniform(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform on [a, b).
    pub(crate) fn between(&mut self, a: f32, b: f32) -> f32 {
        a + (b - a) * self.uniform()
    }

    /// Mean 0, variance 1, nearly normal: twelve uniforms less six. Needs no logarithm, so the bits are the same
    /// everywhere; never beyond 6.
    pub(crate) fn normal(&mut self) -> f32 {
        let mut sum = 0.0;
        for _ in 0..12 {
            sum += self.uniform();
        }
        sum - 6.0
    }

    /// [`Stream::normal`] cut to [-`limit`, `limit`].
    pub(crate) fn normal_within(&mut self, limit: f32) -> f32 {
        self.normal().clamp(-limit, limit)
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f32) -> bool {
        self.uniform() < p
    }

    /// A 64-bit word.
    pub(crate) fn word(&mut self) -> u64 {
        self.0.next_u64()
    }
}
