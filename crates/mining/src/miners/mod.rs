//! The miners: one file each.

mod angular;
mod batch_easy_hard;
mod distance_weighted;
mod hdc;
mod histogram;
mod maximum_loss;
mod multi_similarity;
mod packaged;
mod pair_margin;
mod ranked;
mod triplet_margin;

pub use angular::AngularMiner;
pub use batch_easy_hard::{BatchEasyHardMiner, BatchHardMiner, Pick};
pub use distance_weighted::{DistanceWeightedMiner, Fallback, WeightedStats};
pub use hdc::HdcMiner;
pub use histogram::UniformHistogramMiner;
pub use maximum_loss::maximum_loss_subset;
pub use multi_similarity::MultiSimilarityMiner;
pub use packaged::{PackagedTriplets, packaged_triplets};
pub use pair_margin::PairMarginMiner;
pub use ranked::RankedMiner;
pub use triplet_margin::TripletMarginMiner;

use crate::tuples::{Pairs, Triplets};

/// The pairs of all anchors, in order.
fn joined(rows: Vec<Pairs>) -> Pairs {
    let mut all = Pairs {
        positive: Vec::with_capacity(rows.iter().map(|r| r.positive.len()).sum()),
        negative: Vec::with_capacity(rows.iter().map(|r| r.negative.len()).sum()),
    };
    for row in rows {
        all.positive.extend(row.positive);
        all.negative.extend(row.negative);
    }
    all
}

/// The triplets of all anchors, in order; (positive, negative) for each anchor.
fn gathered(rows: Vec<Vec<(u32, u32)>>) -> Triplets {
    let count = rows.iter().map(Vec::len).sum();
    let mut all = Triplets {
        anchors: Vec::with_capacity(count),
        positives: Vec::with_capacity(count),
        negatives: Vec::with_capacity(count),
    };
    for (anchor, row) in (0u32..).zip(rows) {
        for (p, n) in row {
            all.push(anchor, p, n);
        }
    }
    all
}

/// `mine` is the typed form of `Miner::tuples` for a miner without random choices.
macro_rules! deterministic {
    ($miner:ty) => {
        impl $crate::mined::Miner for $miner {
            fn tuples(
                &self,
                comparison: &$crate::Comparison<'_>,
                _draw: $crate::Draw,
            ) -> candle::Result<$crate::Mined> {
                Ok(self.mine(comparison)?.into())
            }
        }
    };
}
use deterministic;
