//! Exponentials without branches, for loops that should become vector code.
//!
//! `x = k ln 2 + r` with `|r| <= ln(2) / 2`; a polynomial for `exp(r)`; `2^k` put together from its bits.

/// `1.5 * 2^23`: adding it rounds to the nearest integer, which then stands in the low bits.
const ROUND_F32: f32 = 12_582_912.0;
/// `1.5 * 2^52`.
const ROUND_F64: f64 = 6_755_399_441_055_744.0;

/// The coefficients are those of Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp_f32(x: f32) -> f32 {
    let low = x < -87.0;
    let x = x.clamp(-87.0, 88.0);
    let t = x * std::f32::consts::LOG2_E + ROUND_F32;
    let k = t - ROUND_F32;
    let r = x - k * 0.693_359_4 + k * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 0.166_666_65;
    p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    let y = y * f32::from_bits((t.to_bits() << 23).wrapping_add(0x3f80_0000));
    if low { 0.0 } else { y }
}

/// Taylor's polynomial to the 13th power: its remainder is below 1e-17.
#[inline(always)]
pub(crate) fn exp_f64(x: f64) -> f64 {
    let low = x < -708.0;
    let x = x.clamp(-708.0, 709.0);
    let t = x * std::f64::consts::LOG2_E + ROUND_F64;
    let k = t - ROUND_F64;
    let r = x - k * 6.931_471_803_691_238e-1 - k * 1.908_214_929_270_587_7e-10;
    let mut p = 1.0 / 6_227_020_800.0;
    p = p * r + 1.0 / 479_001_600.0;
    p = p * r + 1.0 / 39_916_800.0;
    p = p * r + 1.0 / 3_628_800.0;
    p = p * r + 1.0 / 362_880.0;
    p = p * r + 1.0 / 40_320.0;
    p = p * r + 1.0 / 5_040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    let y = y * f64::from_bits((t.to_bits() << 52).wrapping_add(0x3ff0_0000_0000_0000));
    if low { 0.0 } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_exact_exponential() {
        for i in -8_600..8_700 {
            let x = f64::from(i) / 100.0 + 0.001_7;
            let (ours, exact) = (exp_f64(x), x.exp());
            assert!((ours - exact).abs() <= 4e-16 * exact, "{x}: {ours} {exact}");
            let y = x as f32;
            let (ours, exact) = (f64::from(exp_f32(y)), f64::from(y).exp());
            assert!((ours - exact).abs() <= 2e-7 * exact, "{y}: {ours} {exact}");
        }
        assert_eq!((exp_f32(0.0), exp_f64(0.0)), (1.0, 1.0));
        assert_eq!(
            (exp_f32(f32::NEG_INFINITY), exp_f64(f64::NEG_INFINITY)),
            (0.0, 0.0)
        );
        assert!(exp_f32(f32::INFINITY).is_finite() && exp_f64(f64::INFINITY).is_finite());
        assert!(exp_f32(f32::NAN).is_nan() && exp_f64(f64::NAN).is_nan());
    }
}
