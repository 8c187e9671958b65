//! What to load: batches drawn before the forward pass, each a function of (seed, step).

mod class_balanced;
mod fixed_triplets;
mod hierarchical;
mod pk;
mod tuplet;
mod weighted;

pub use class_balanced::ClassBalancedSampler;
pub use fixed_triplets::FixedTriplets;
pub use hierarchical::{HierarchicalConfig, HierarchicalSampler};
pub use pk::{PkConfig, PkSampler, ShortClass};
pub(crate) use tuplet::spread;
pub use tuplet::{NegativeSource, TupletBatch, TupletConfig, TupletSampler};
pub use weighted::weighted_draws;
