//! Which instructions the kernels use.
//!
//! The widest set that the CPU has is found at run time. The environment variable `PHIZ_ISA`, read once,
//! forces a lower one: `avx512`, `avx2` (with FMA), `neon` or `scalar`, which is what the compiler
//! makes of plain loops for the target's baseline (SSE2 on x86-64, NEON on aarch64). It covers the loops
//! and the matrix products of this crate; products that candle makes itself (`Tensor::matmul`) still
//! take the widest set.
//!
//! Loops, except those of depthwise convolution, give the same bits on every set: they are compiled from one source, and no multiplication is
//! fused with an addition behind its back. Matrix products fuse them where the set can, and so differ
//! between sets by rounding.

use candle::Result;
use std::sync::OnceLock;

/// A set of vector instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum InstructionSet {
    /// The target's baseline.
    Scalar,
    /// NEON, 128 bits.
    Neon,
    /// AVX2 with FMA, 256 bits.
    Avx2,
    /// AVX-512 (F, BW, CD, DQ, VL), 512 bits.
    Avx512,
}

impl InstructionSet {
    /// Its name in `PHIZ_ISA`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

/// The sets of this machine, narrowest first.
pub fn available() -> Vec<InstructionSet> {
    let mut sets = vec![InstructionSet::Scalar];
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        if pulp::x86::V3::try_new().is_some() {
            sets.push(InstructionSet::Avx2);
        }
        if pulp::x86::V4::try_new().is_some() {
            sets.push(InstructionSet::Avx512);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if pulp::aarch64::Neon::try_new().is_some() {
        sets.push(InstructionSet::Neon);
    }
    sets
}

/// The set in use: the widest of this machine, or the one that `PHIZ_ISA` names.
///
/// # Errors
/// When `PHIZ_ISA` names no set, or one that this machine lacks. Every operation of this crate then
/// fails in the same way.
pub fn instruction_set() -> Result<InstructionSet> {
    match chosen() {
        Ok(set) => Ok(*set),
        Err(message) => candle::bail!("{message}"),
    }
}

fn chosen() -> &'static std::result::Result<InstructionSet, String> {
    static CHOSEN: OnceLock<std::result::Result<InstructionSet, String>> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let wanted = std::env::var_os("PHIZ_ISA").unwrap_or_default();
        choose(&wanted.to_string_lossy(), &available())
    })
}

fn choose(
    wanted: &str,
    available: &[InstructionSet],
) -> std::result::Result<InstructionSet, String> {
    let names = || {
        let names: Vec<_> = available.iter().map(|set| set.name()).collect();
        names.join(", ")
    };
    if wanted.is_empty() {
        return Ok(widest(available));
    }
    match available.iter().find(|set| set.name() == wanted) {
        Some(set) => Ok(*set),
        None => Err(format!(
            "PHIZ_ISA: {wanted:?} is not an instruction set of this machine, expected one of: {}",
            names()
        )),
    }
}

fn widest(available: &[InstructionSet]) -> InstructionSet {
    available.last().copied().unwrap_or(InstructionSet::Scalar)
}

/// The set that loops are compiled for; the baseline where `PHIZ_ISA` is wrong, which
/// [`instruction_set`] reports.
#[inline]
pub(crate) fn current() -> InstructionSet {
    match chosen() {
        Ok(set) => *set,
        Err(_) => InstructionSet::Scalar,
    }
}

/// Whether the set in use is the one that programs without a say in it take.
pub(crate) fn is_widest(set: InstructionSet) -> bool {
    static WIDEST: OnceLock<InstructionSet> = OnceLock::new();
    *WIDEST.get_or_init(|| widest(&available())) == set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_set_may_be_forced_and_a_missing_one_is_named() {
        let sets = [InstructionSet::Scalar, InstructionSet::Avx2];
        assert_eq!(choose("", &sets), Ok(InstructionSet::Avx2));
        assert_eq!(choose("scalar", &sets), Ok(InstructionSet::Scalar));
        assert_eq!(choose("avx2", &sets), Ok(InstructionSet::Avx2));
        for wrong in ["avx512", "AVX2", "sse"] {
            let message = choose(wrong, &sets).unwrap_err();
            assert!(
                message.contains(wrong) && message.ends_with("scalar, avx2"),
                "{message}"
            );
        }
    }
}
