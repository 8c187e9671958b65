//! Whose operations run on the CPU.
//!
//! The environment variable `PHIZ_OPS`, read once, is for comparison: `PHIZ_OPS=candle` makes the
//! functions of this crate compose candle's own operations, as they do on other devices. Where candle's
//! gradients are right (UPSTREAM.md of this crate lists those that are not), values and gradients agree to
//! rounding, and a training run shows the same curve, several times more slowly.
//! [`crate::inference`] is not concerned.

use candle::Result;
use std::sync::OnceLock;

/// Whose operations are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ops {
    /// Those written here.
    Phiz,
    /// Compositions of candle's.
    Candle,
}

/// Whose operations run on the CPU: `PHIZ_OPS` is `phiz` (or not set) or `candle`.
///
/// # Errors
/// When `PHIZ_OPS` is neither. Every operation of this crate then fails in the same way.
pub fn chosen() -> Result<Ops> {
    match read() {
        Ok(ops) => Ok(*ops),
        Err(message) => candle::bail!("{message}"),
    }
}

fn read() -> &'static std::result::Result<Ops, String> {
    static CHOSEN: OnceLock<std::result::Result<Ops, String>> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let wanted = std::env::var_os("PHIZ_OPS").unwrap_or_default();
        parse(&wanted.to_string_lossy())
    })
}

fn parse(wanted: &str) -> std::result::Result<Ops, String> {
    match wanted {
        "" | "phiz" => Ok(Ops::Phiz),
        "candle" => Ok(Ops::Candle),
        other => Err(format!(
            "PHIZ_OPS: {other:?} are nobody's operations, expected phiz or candle"
        )),
    }
}

/// Whether candle's are to be used.
pub(crate) fn are_candles() -> bool {
    matches!(read(), Ok(Ops::Candle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_are_known() {
        assert_eq!(parse(""), Ok(Ops::Phiz));
        assert_eq!(parse("phiz"), Ok(Ops::Phiz));
        assert_eq!(parse("candle"), Ok(Ops::Candle));
        assert!(parse("torch").unwrap_err().contains("torch"));
    }
}
