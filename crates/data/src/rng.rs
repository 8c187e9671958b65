//! Counter-based randomness: every draw is a function of (seed, stream name, step, position).
//!
//! The draws below are written out rather than taken from a distribution library, so that a seed gives
//! the same order and the same augmentation after an update of that library.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The generator of one position of one step of a named stream. `stream` counts by its first 16 bytes.
///
/// Seed, step and name are the ChaCha key, the position is its stream number: no two positions share
/// output, and any of them is reached without making the ones before.
#[must_use]
pub fn stream_rng(seed: u64, stream: &str, step: u64, position: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&step.to_le_bytes());
    for (slot, byte) in key[16..].iter_mut().zip(stream.bytes()) {
        *slot = byte;
    }
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(position);
    rng
}

/// Uniform in [0, 1), 24 bits.
pub(crate) fn uniform<R: Rng + ?Sized>(rng: &mut R) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1u32 << 24) as f32
}

/// Uniform in [-strength, strength).
pub(crate) fn symmetric<R: Rng + ?Sized>(rng: &mut R, strength: f32) -> f32 {
    (2.0 * uniform(rng) - 1.0) * strength
}

/// Near-normal, mean 0, standard deviation 1, within ±3.47: the sum of four uniforms. Addition alone is
/// the same on every machine, which the logarithm and cosine of exact methods are not; as pixel noise
/// the missing tails do not matter.
pub(crate) fn near_normal<R: Rng + ?Sized>(rng: &mut R) -> f32 {
    let bits = rng.next_u64();
    let sum: u64 = (0..4).map(|i| (bits >> (16 * i)) & 0xFFFF).sum();
    // The sum of four uniforms has mean 2 and variance 1/3.
    (sum as f32 / 65_535.0 - 2.0) * 3.0f32.sqrt()
}

/// Uniform below `n` (0 for `n = 0`): the high half of a 128-bit product. Its bias is below n / 2^64.
pub(crate) fn below<R: Rng + ?Sized>(rng: &mut R, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// Fisher-Yates.
pub(crate) fn shuffle<R: Rng + ?Sized, T>(rng: &mut R, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(rng, i + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_repeat() {
        let draw = |seed, name, step, position| stream_rng(seed, name, step, position).next_u64();
        let first = draw(1, "augment", 2, 3);
        assert_eq!(first, draw(1, "augment", 2, 3));
        for other in [
            draw(2, "augment", 2, 3),
            draw(1, "order", 2, 3),
            draw(1, "augment", 3, 3),
            draw(1, "augment", 2, 4),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn draws_have_the_moments_they_claim() {
        let mut rng = stream_rng(7, "test", 0, 0);
        let n = 40_000;
        let normal: Vec<f32> = (0..n).map(|_| near_normal(&mut rng)).collect();
        let mean = normal.iter().sum::<f32>() / n as f32;
        let var = normal.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n as f32;
        assert!(
            mean.abs() < 0.02 && (var - 1.0).abs() < 0.03,
            "{mean} {var}"
        );
        let mut counts = [0usize; 7];
        for _ in 0..70_000 {
            counts[below(&mut rng, 7)] += 1;
        }
        assert!(
            counts.iter().all(|&count| (9_600..10_400).contains(&count)),
            "{counts:?}"
        );
        let u: Vec<f32> = (0..n).map(|_| symmetric(&mut rng, 0.5)).collect();
        assert!(u.iter().all(|v| (-0.5..0.5).contains(v)));
    }
}
