//! From terms to a scalar: the reductions, with hinges whose subgradient at the corner is 0.

use candle::{Result, Tensor};

use crate::ops::{constant, host};

/// How the terms of a triplet or pair loss become a scalar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reduction {
    /// Mean over the terms that are above 0; 0 if none is. The default (pytorch-metric-learning's `AvgNonZeroReducer`).
    #[default]
    MeanActive,
    /// Mean over all terms.
    Mean,
    /// Sum over all terms.
    Sum,
}

/// How the hinges of a tuplet are weighted. Over the tuplets of a batch the mean is taken in every case.
///
/// With `N` positives (the query among them), `M` negatives, `P` and `Q` those with an active hinge:
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TupletReduction {
    /// `w_p = 1/N`, `w_n = 1/M`. The default.
    #[default]
    Mean,
    /// `w_p = 1/|P|`, `w_n = 1/|Q|`.
    MeanActive,
    /// `w_p = w_n = 1/2`.
    HalfSum,
    /// `w_p = w_n = 1`.
    Sum,
}

impl TupletReduction {
    /// The weight of one hinge out of `count`, of which `active` are above 0.
    pub(crate) fn weight(self, count: usize, active: usize) -> f64 {
        match self {
            Self::Mean => 1.0 / count.max(1) as f64,
            Self::MeanActive => 1.0 / active.max(1) as f64,
            Self::HalfSum => 0.5,
            Self::Sum => 1.0,
        }
    }
}

impl Reduction {
    pub(crate) fn weight(self, count: usize, active: usize) -> f64 {
        match self {
            Self::MeanActive => 1.0 / active.max(1) as f64,
            Self::Mean => 1.0 / count.max(1) as f64,
            Self::Sum => 1.0,
        }
    }
}

/// `sum_i weight_i * [z_i]_+` for constant weights, given which hinges are active.
///
/// Writing the hinge as a product with a constant 0 or 1 fixes the gradient at the corner (0; candle's relu has 1 there) and
/// lets a NaN through to the loss, where training notices it.
pub(crate) fn hinge_sum(z: &Tensor, weights: Vec<f64>) -> Result<Tensor> {
    let weights = constant(weights, z.shape(), z)?;
    // The affine step turns a sum of negative zeros into 0.
    (z * weights)?.sum_all()?.affine(1.0, 0.0)
}

/// Reduces the hinges of `z` (P); also says how many are active.
pub(crate) fn hinge(z: &Tensor, reduction: Reduction) -> Result<(Tensor, usize)> {
    let values = host(z)?;
    let active = values.iter().filter(|&&v| v > 0.0).count();
    let w = reduction.weight(values.len(), active);
    let weights = values
        .iter()
        .map(|&v| if v > 0.0 { w } else { 0.0 })
        .collect();
    Ok((hinge_sum(z, weights)?, active))
}

/// Reduces terms that are above 0 by construction.
pub(crate) fn smooth(terms: &Tensor, reduction: Reduction) -> Result<Tensor> {
    let sum = terms.sum_all()?;
    match reduction {
        Reduction::Sum => Ok(sum),
        Reduction::Mean | Reduction::MeanActive => sum / terms.elem_count().max(1) as f64,
    }
}
