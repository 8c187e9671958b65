//! Counter-based randomness: a number is a function of (seed, purpose, step, index) and of nothing else.

/// The SplitMix64 finaliser: spreads small consecutive numbers over 64 bits.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// 64 random bits.
pub(crate) fn bits(seed: u64, purpose: u64, step: u64, index: u64) -> u64 {
    mix(mix(mix(mix(seed) ^ purpose) ^ step) ^ index)
}

/// Uniform in (0, 1).
pub(crate) fn uniform(seed: u64, purpose: u64, step: u64, index: u64) -> f64 {
    ((bits(seed, purpose, step, index) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// Standard normal (Box and Muller).
pub(crate) fn normal(seed: u64, purpose: u64, step: u64, index: u64) -> f64 {
    let radius = (-2.0 * uniform(seed, purpose, step, 2 * index).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(seed, purpose, step, 2 * index + 1)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_right_and_steps_differ() {
        let n = 20_000u64;
        let values: Vec<f64> = (0..n).map(|i| normal(1, 2, 3, i)).collect();
        let mean = values.iter().sum::<f64>() / n as f64;
        let variance = values.iter().map(|v| v * v).sum::<f64>() / n as f64;
        assert!(
            mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05,
            "{mean} {variance}"
        );
        assert_ne!(bits(1, 2, 3, 4), bits(1, 2, 4, 4));
        assert_eq!(bits(1, 2, 3, 4), bits(1, 2, 3, 4));
    }
}
