//! Counter-based random streams: a stream is a function of (seed, purpose, index) and of nothing else.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The generator of one purpose (`domain`) and one index under a seed.
pub(crate) fn stream(seed: u64, domain: u64, index: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ mix(domain));
    rng.set_stream(index);
    rng
}

/// The SplitMix64 finaliser: spreads small consecutive numbers over 64 bits.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
