//! Targets of which some are unknown (NaN).

use candle::{DType, Result, Tensor};

/// Targets with 0 for what is unknown, and 1 where they are known, 0 where not; neither carries a gradient.
pub(crate) fn known(target: &Tensor, like: &Tensor) -> Result<(Tensor, Tensor)> {
    let target = target.detach().to_dtype(like.dtype())?;
    let mask = target.eq(&target)?;
    let values = mask.where_cond(&target, &target.zeros_like()?)?;
    Ok((values, mask.to_dtype(like.dtype())?))
}

/// The sum over everything of `weighted` divided by the sum of `mask`; 0 where nothing is known.
pub(crate) fn mean_of_known(weighted: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let count = mask.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    weighted.sum_all()? / count.max(1.)
}

pub(crate) fn same_shape(what: &str, predicted: &Tensor, target: &Tensor) -> Result<()> {
    if predicted.dims() != target.dims() || predicted.elem_count() == 0 {
        candle::bail!(
            "{what}: predictions {:?} and targets {:?} must have one shape, not empty",
            predicted.dims(),
            target.dims()
        )
    }
    Ok(())
}

/// Mean of (predicted - target)^2 over the targets that are known (not NaN); 0 where none is.
///
/// # Shapes
/// Both the same; result: scalar.
///
/// # Errors
/// When the shapes differ or are empty.
pub fn masked_squared_error(predicted: &Tensor, target: &Tensor) -> Result<Tensor> {
    same_shape("squared error", predicted, target)?;
    let (values, mask) = known(target, predicted)?;
    let weighted = ((predicted - values)?.sqr()? * &mask)?;
    mean_of_known(&weighted, &mask)
}
