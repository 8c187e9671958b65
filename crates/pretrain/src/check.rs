//! Checks that several losses share.

use candle::{Result, Tensor, bail};

/// Two views of the same items: same shape (B, D), same type, at least `least` items.
pub(crate) fn two_views(
    name: &str,
    a: &Tensor,
    b: &Tensor,
    least: usize,
) -> Result<(usize, usize)> {
    let (rows, dim) = match a.dims() {
        &[rows, dim] if rows > 0 && dim > 0 => (rows, dim),
        other => bail!("{name}: expected embeddings (B, D), got {other:?}"),
    };
    if a.dims() != b.dims() || a.dtype() != b.dtype() {
        bail!(
            "{name}: two views need one shape and type, got {:?} {:?} and {:?} {:?}",
            a.dims(),
            a.dtype(),
            b.dims(),
            b.dtype()
        );
    }
    if rows < least {
        bail!("{name}: needs a batch of at least {least}, got {rows}");
    }
    Ok((rows, dim))
}

pub(crate) fn positive(what: &str, value: f64) -> Result<()> {
    if !(value.is_finite() && value > 0.0) {
        bail!("{what} must be a positive number, got {value}");
    }
    Ok(())
}

pub(crate) fn not_negative(what: &str, value: f64) -> Result<()> {
    if !(value.is_finite() && value >= 0.0) {
        bail!("{what} must be a number from 0 up, got {value}");
    }
    Ok(())
}
