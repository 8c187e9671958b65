//! Swapped prediction: every view predicts the assignment of another.

use candle::{Result, Tensor, bail};
use phiz_kernels::log_softmax;

use crate::check::positive;

/// SwAV's loss. With `V` views, codes `q_c` of the views `c` in `codes`, and scores `s_v`,
///
/// ```text
/// L_c = -1 / (V - 1)  sum over v != c  mean over b  sum over k  q_c[b, k] log softmax(s_v / temperature)[b, k]
/// L   = mean of L_c over the codes
/// ```
///
/// The codes have no gradient.
///
/// # Shapes
/// `scores` (V B, K), view by view; each code (B, K) with the number of its view; result: scalar.
///
/// # Errors
/// When shapes disagree, there is no code, fewer than two views, or a code's view does not exist.
pub fn swapped_prediction(
    scores: &Tensor,
    views: usize,
    codes: &[(usize, Tensor)],
    temperature: f64,
) -> Result<Tensor> {
    positive("temperature of swapped prediction", temperature)?;
    let &[rows, prototypes] = scores.dims() else {
        bail!(
            "swapped prediction: expected scores (V B, K), got {:?}",
            scores.shape()
        )
    };
    if views < 2 || rows == 0 || !rows.is_multiple_of(views) {
        bail!(
            "swapped prediction: {rows} rows of scores are not at least two views of a batch (views: {views})"
        );
    }
    if codes.is_empty() {
        bail!("swapped prediction: needs the codes of at least one view");
    }
    let batch = rows / views;
    for (view, code) in codes {
        if *view >= views {
            bail!("swapped prediction: a code of view {view}, but there are {views}");
        }
        if code.dims() != [batch, prototypes] {
            bail!(
                "swapped prediction: codes {:?} for scores of {batch} x {prototypes} a view",
                code.shape()
            );
        }
    }
    // The codes that a view predicts do not depend on it otherwise, so they are added up first.
    let zeros = Tensor::zeros((batch, prototypes), scores.dtype(), scores.device())?;
    let targets = (0..views)
        .map(|view| {
            codes
                .iter()
                .filter(|(from, _)| *from != view)
                .try_fold(zeros.clone(), |sum, (_, code)| {
                    sum + code.detach().to_dtype(scores.dtype())?
                })
        })
        .collect::<Result<Vec<_>>>()?;
    let targets = Tensor::cat(&targets, 0)?;
    let predicted = log_softmax(&(scores / temperature)?)?;
    let terms = (batch * (views - 1) * codes.len()) as f64;
    (predicted * targets)?.sum_all()? * (-1.0 / terms)
}
