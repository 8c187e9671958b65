//! Losses on the ranking of a row: average precision, histograms, ranked lists.

mod fast_ap;
mod histogram;
mod pnp;
mod ranked_list;
mod smooth_ap;

pub use fast_ap::FastAp;
pub use histogram::Histogram;
pub use pnp::{Pnp, PnpVariant};
pub use ranked_list::RankedList;
pub use smooth_ap::SmoothAp;

use crate::engine::{Real, simd};

/// `sum_k sigma((x_k - at)/t)`, and the sigmas in `out`.
pub(crate) fn soft_rank<T: Real>(x: &[T], at: T, inverse: T, out: &mut [T]) -> f64 {
    simd::run(
        #[inline(always)]
        || {
            for (o, &v) in out.iter_mut().zip(x) {
                let z = (v - at) * inverse;
                let e = (-z.abs()).exp();
                let s = T::ONE / (T::ONE + e);
                *o = if z > T::ZERO { s } else { e * s };
            }
        },
    );
    simd::sum(out).to_f64()
}

/// `g_k += c sigma_k (1 - sigma_k)`; gives the sum of what was added.
pub(crate) fn soft_rank_slope<T: Real>(g: &mut [T], sigma: &[T], c: T) -> T {
    simd::run(
        #[inline(always)]
        || {
            let mut total = T::ZERO;
            for (g, &s) in g.iter_mut().zip(sigma) {
                *g += c * (s * (T::ONE - s));
            }
            total += c * simd::fold_sum(
                sigma,
                #[inline(always)]
                |s| s * (T::ONE - s),
            );
            total
        },
    )
}
