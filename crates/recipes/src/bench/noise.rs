//! Numbers that our side and the Python peers make alike, bit for bit.
//!
//! Number `i` of a stream is a function of (stream, i): splitmix64 of `stream + (i + 1) * 2^64/phi`.
//! `fixtures/peers/noise.py` states the same in NumPy.

/// 64 mixed bits.
fn bits(stream: u64, index: usize) -> u64 {
    let step = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut z = stream.wrapping_add(step);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `count` numbers of mean 0 and variance 1, nearly normal: the sum of four 16-bit uniforms.
pub(crate) fn normal(stream: u64, count: usize) -> Vec<f32> {
    let lane = |bits: u64, k: u32| f64::from(((bits >> (16 * k)) & 0xFFFF) as u16);
    // Variance of one lane: (65536^2 - 1) / 12.
    let scale = 1. / (4. * (65536f64 * 65536. - 1.) / 12.).sqrt();
    (0..count)
        .map(|i| {
            let bits = bits(stream, i);
            let sum = lane(bits, 0) + lane(bits, 1) + lane(bits, 2) + lane(bits, 3);
            ((sum - 2. * 65535.) * scale) as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_variance() {
        let sample = normal(3, 100_000);
        let n = sample.len() as f64;
        let mean = sample.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let variance = sample.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n;
        assert!(
            mean.abs() < 0.02 && (variance - 1.).abs() < 0.02,
            "{mean} {variance}"
        );
    }

    /// As `fixtures/peers/noise.py` prints them when it is run.
    #[test]
    fn the_same_numbers_as_in_python() {
        assert_eq!(normal(1, 3), PYTHON);
    }

    const PYTHON: [f32; 3] = [-0.617_513_54, 1.072_462_3, 1.597_236_5];
}
