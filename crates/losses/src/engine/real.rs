//! The two element types of the host engine, with the functions the row kernels need.

use std::cell::Cell;
use std::ops::Neg;
use std::thread::LocalKey;

use candle::WithDType;

/// f32 or f64, with elementary functions that the compiler can vectorise where they are hot.
pub(crate) trait Real: WithDType + Default + Neg<Output = Self> {
    const ZERO: Self;
    const ONE: Self;
    const NEG_INFINITY: Self;
    const INFINITY: Self;
    /// A buffer of this thread's last matrix, for the next one.
    fn spare() -> &'static LocalKey<Cell<Vec<Self>>>;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
    fn ln(self) -> Self;
    fn powf(self, p: Self) -> Self;
    fn larger(self, other: Self) -> Self;
    fn smaller(self, other: Self) -> Self;
    fn is_finite(self) -> bool;
    fn order(&self, other: &Self) -> std::cmp::Ordering;
    /// e^x.
    fn exp(self) -> Self;
    /// e^x for x up to 1.
    fn exp_below(self) -> Self;
    /// log(1 + y) for y in [0, 1].
    fn ln_1p_unit(self) -> Self;
}

macro_rules! common {
    ($t:ty) => {
        const ZERO: Self = 0.0;
        const ONE: Self = 1.0;
        const NEG_INFINITY: Self = <$t>::NEG_INFINITY;
        const INFINITY: Self = <$t>::INFINITY;
        fn spare() -> &'static LocalKey<Cell<Vec<Self>>> {
            thread_local! {
                static SPARE: Cell<Vec<$t>> = const { Cell::new(Vec::new()) };
            }
            &SPARE
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            <$t>::sqrt(self)
        }
        #[inline(always)]
        fn abs(self) -> Self {
            <$t>::abs(self)
        }
        #[inline(always)]
        fn ln(self) -> Self {
            <$t>::ln(self)
        }
        #[inline(always)]
        fn powf(self, p: Self) -> Self {
            <$t>::powf(self, p)
        }
        #[inline(always)]
        fn larger(self, other: Self) -> Self {
            if self > other { self } else { other }
        }
        #[inline(always)]
        fn smaller(self, other: Self) -> Self {
            if self < other { self } else { other }
        }
        #[inline(always)]
        fn is_finite(self) -> bool {
            <$t>::is_finite(self)
        }
        #[inline(always)]
        fn order(&self, other: &Self) -> std::cmp::Ordering {
            <$t>::total_cmp(self, other)
        }
    };
}

impl Real for f64 {
    common!(f64);
    #[inline(always)]
    fn exp(self) -> Self {
        f64::exp(self)
    }
    #[inline(always)]
    fn exp_below(self) -> Self {
        f64::exp(self)
    }
    #[inline(always)]
    fn ln_1p_unit(self) -> Self {
        f64::ln_1p(self)
    }
}

impl Real for f32 {
    common!(f32);

    /// Two units in the last place; results below the smallest normal number become 0.
    #[inline(always)]
    fn exp(self) -> Self {
        let x = if self < 88.722 { self } else { 88.722 };
        let x = if x > -88.0 { x } else { -88.0 };
        let (p, whole) = power_of_two(x);
        // 2^n by its exponent bits, in two halves so that n = 128 does not overflow them.
        let half = whole >> 1;
        let power = |k: i32| f32::from_bits(((k + 127) << 23) as u32);
        let y = p * power(half) * power(whole - half);
        let y = if self > -87.3 { y } else { 0.0 };
        let y = if self > 88.722 { f32::INFINITY } else { y };
        if self.is_nan() { self } else { y }
    }

    /// As [`Real::exp`], without what only positive exponents need.
    #[inline(always)]
    fn exp_below(self) -> Self {
        let x = if self > -86.0 { self } else { -86.0 };
        let (p, whole) = power_of_two(x);
        let y = f32::from_bits((p.to_bits() as i32).wrapping_add(whole << 23) as u32);
        let y = if self > -86.0 { y } else { 0.0 };
        if self.is_nan() { self } else { y }
    }

    /// `2 artanh(y / (2 + y))` by its series, whose argument is at most 1/3.
    #[inline(always)]
    fn ln_1p_unit(self) -> Self {
        let s = self / (2.0 + self);
        let q = s * s;
        let mut p = 1.0 / 15.0;
        p = p * q + 1.0 / 13.0;
        p = p * q + 1.0 / 11.0;
        p = p * q + 1.0 / 9.0;
        p = p * q + 1.0 / 7.0;
        p = p * q + 1.0 / 5.0;
        p = p * q + 1.0 / 3.0;
        2.0 * (s + s * q * p)
    }
}

/// `e^x = p 2^n`, p within a factor of the root of two about 1: (p, n).
#[inline(always)]
fn power_of_two(x: f32) -> (f32, i32) {
    // x = n ln 2 + r with |r| <= ln 2 / 2; n is rounded by adding 1.5 * 2^23, whose last bit is worth 1.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    (p * r * r + r + 1.0, n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_precision_functions_are_good_to_the_last_digits() {
        for i in -8700..8870 {
            let x = i as f32 * 0.01 + 0.001_3;
            let (ours, theirs) = (Real::exp(x), f64::from(x).exp());
            assert!(
                (f64::from(ours) - theirs).abs() <= 3e-7 * theirs,
                "exp({x}): {ours} {theirs}"
            );
        }
        for i in -8600..=100 {
            let x = i as f32 * 0.01 + 0.000_3;
            let (ours, theirs) = (x.exp_below(), f64::from(x).exp());
            assert!(
                (f64::from(ours) - theirs).abs() <= 3e-7 * theirs,
                "exp({x}): {ours} {theirs}"
            );
        }
        assert_eq!(
            (f32::NEG_INFINITY.exp_below(), (-90f32).exp_below()),
            (0.0, 0.0)
        );
        assert!(f32::NAN.exp_below().is_nan());
        assert_eq!(Real::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(Real::exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(Real::exp(0f32), 1.0);
        assert!(Real::exp(f32::NAN).is_nan());
        for i in 0..=1000 {
            let y = i as f32 / 1000.0;
            let theirs = f64::from(y).ln_1p();
            assert!((f64::from(y.ln_1p_unit()) - theirs).abs() <= 2e-7 * theirs.max(1e-3));
        }
    }
}
