//! Named random streams: every draw is a function of (seed, name, index), never of what was drawn before.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The generator of stream `name`, position `index`.
pub(crate) fn stream(seed: u64, name: &str, index: u64) -> ChaCha8Rng {
    // FNV-1a: names differ, so their keys do.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut key = [0u8; 32];
    let words = seed.to_le_bytes().into_iter().chain(hash.to_le_bytes());
    for (place, byte) in key.iter_mut().zip(words) {
        *place = byte;
    }
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(index);
    rng
}

/// A whole number below `below`, which must not be 0.
pub(crate) fn below(rng: &mut ChaCha8Rng, below: usize) -> usize {
    rng.random_range(0..below.max(1) as u64) as usize
}

/// Fisher and Yates.
pub(crate) fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(rng, i + 1));
    }
}

/// A standard normal number (Box and Muller).
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    // 1 - u lies in (0, 1], so the logarithm is finite.
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_its_seed_name_and_index() {
        let draw = |seed, name, index| below(&mut stream(seed, name, index), 1 << 30);
        assert_eq!(draw(1, "a", 2), draw(1, "a", 2));
        for other in [draw(2, "a", 2), draw(1, "b", 2), draw(1, "a", 3)] {
            assert_ne!(draw(1, "a", 2), other);
        }
        let mut order: Vec<usize> = (0..50).collect();
        shuffle(&mut order, &mut stream(0, "x", 0));
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(order != sorted && sorted == (0..50).collect::<Vec<_>>());
        let mut rng = stream(0, "n", 0);
        let values: Vec<f64> = (0..20_000).map(|_| normal(&mut rng)).collect();
        let mean = values.iter().sum::<f64>() / 2e4;
        let square = values.iter().map(|v| v * v).sum::<f64>() / 2e4;
        assert!(mean.abs() < 0.03 && (square - 1.0).abs() < 0.05);
    }
}
