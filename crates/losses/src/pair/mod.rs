//! Losses over pairs: each anchor with its positives and its negatives.

mod circle;
mod contrastive;
mod intra_pair;
mod lifted;
mod multi_similarity;
mod nca;
mod nt_xent;
mod sup_con;
mod tuplet_margin;

pub use circle::Circle;
pub use contrastive::Contrastive;
pub use intra_pair::{IntraPairVariance, ThresholdConsistentMargin};
pub use lifted::{GeneralizedLiftedStructure, LiftedStructure};
pub use multi_similarity::MultiSimilarity;
pub use nca::Nca;
pub use nt_xent::{Dcl, NtXent};
pub use sup_con::{MultiSupCon, SupCon};
pub use tuplet_margin::TupletMargin;

use candle::{Result, bail};

use crate::engine::Real;

/// 1 for distances, -1 for similarities: what grows as two items become less alike.
pub(crate) fn sign<T: Real>(similarity: bool) -> T {
    if similarity { -T::ONE } else { T::ONE }
}

/// Fails unless `value` is finite and above 0.
pub(crate) fn check_positive(name: &str, value: f64) -> Result<()> {
    if !(value.is_finite() && value > 0.0) {
        bail!("{name} must be above 0, got {value}");
    }
    Ok(())
}
