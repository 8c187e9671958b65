//! Whose operations run on the CPU.
//!
//! The environment variable `PHIZ_OPS`, read once, is for comparison: `PHIZ_OPS=candle` makes the
//! functions of this crate compose candle's own operations, as they do on other devices. Where candle's
//! gradients are right (UPSTREAM.md of this crate lists those that are not), values and gradients agree to
//! rounding, and a training run shows the same curve, several times more slowly. [`with`] does the same
//! for a part of a program. [`crate::inference`] is not concerned.

use candle::Result;
use std::cell::Cell;
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

thread_local! {
    /// What [`with`] asks for on this thread.
    static HERE: Cell<Option<Ops>> = const { Cell::new(None) };
}

/// Calls `f` with the operations `ops` in use, whatever `PHIZ_OPS` says, for what this thread calls. The
/// backward pass of what was computed is that of the operations it was computed by, wherever it runs.
pub fn with<R>(ops: Ops, f: impl FnOnce() -> R) -> R {
    /// Restores what was in use, after a panic too.
    struct Before(Option<Ops>);
    impl Drop for Before {
        fn drop(&mut self) {
            HERE.set(self.0);
        }
    }
    let _before = Before(HERE.replace(Some(ops)));
    f()
}

/// Whose operations run on the CPU: what [`with`] says, else `PHIZ_OPS`: `phiz` (or not set) or `candle`.
///
/// # Errors
/// When `PHIZ_OPS` is neither. Every operation of this crate then fails in the same way.
pub fn chosen() -> Result<Ops> {
    if let Some(ops) = HERE.get() {
        return Ok(ops);
    }
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
    matches!(chosen(), Ok(Ops::Candle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_program_may_choose() {
        let before = chosen().unwrap();
        with(Ops::Candle, || {
            assert!(are_candles());
            with(Ops::Phiz, || assert!(!are_candles()));
            assert!(are_candles());
        });
        let panicked = std::panic::catch_unwind(|| with(Ops::Candle, || panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(chosen().unwrap(), before);
    }

    #[test]
    fn two_names_are_known() {
        assert_eq!(parse(""), Ok(Ops::Phiz));
        assert_eq!(parse("phiz"), Ok(Ops::Phiz));
        assert_eq!(parse("candle"), Ok(Ops::Candle));
        assert!(parse("torch").unwrap_err().contains("torch"));
    }
}
