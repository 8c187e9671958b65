//! Which pairs, triplets and tuplets of a batch to train on.
//!
//! A metric loss needs to know which embeddings belong together and which do not. This crate answers that, and nothing
//! else: it sees labels and (detached) embeddings, and returns plain indices into the batch.
//!
//! | before the forward pass | what it gives |
//! | --- | --- |
//! | [`PkSampler`] | batches of P classes with K items each |
//! | [`ClassBalancedSampler`] | batches of any size, all classes equally often, every item in turn |
//! | [`HierarchicalSampler`] | batches of a few super-classes, with several classes of each |
//! | [`TupletSampler`] | identity-aware tuples: the same expression by other people, other expressions by the same person |
//! | [`FixedTriplets`] | a set of triplets drawn once |
//! | [`Mined::weights`] and [`weighted_draws`] | items in proportion to how hard they were |
//!
//! After the forward pass a miner looks at a [`Comparison`]: embeddings (or a matrix of scores), a [`Measure`], and a [`Relation`]
//! that says which pairs belong together: one label, several, sets of labels, or a rule of yours; within the batch or against a
//! separate reference set. [`Miner`] is what all of them have in common.
//!
//! | after the forward pass | what it gives | time beside O(B M D) |
//! | --- | --- | --- |
//! | [`BatchHardMiner`], [`batch_hard`] | the farthest positive and nearest negative of each anchor | - |
//! | [`BatchEasyHardMiner`] | one positive and one negative of each anchor, hard, semi-hard or easy | - |
//! | [`RankedMiner`] | partners of given ranks, so that the hardest can be passed over | B M log M |
//! | [`TripletMarginMiner`], [`semi_hard`] | triplets that violate a margin, all or a bounded number | B M log M + triplets |
//! | [`AngularMiner`] | triplets with a wide angle at the negative | B K M |
//! | [`PairMarginMiner`] | pairs on the wrong side of two thresholds | - |
//! | [`MultiSimilarityMiner`] | pairs hard relative to the anchor's hardest of the other kind | - |
//! | [`HdcMiner`] | the hardest share of all pairs, in stages | B M |
//! | [`DistanceWeightedMiner`] | negatives drawn evenly over all distances | - |
//! | [`UniformHistogramMiner`] | pairs drawn evenly over the range of distances | - |
//! | [`maximum_loss_subset`] | the part of a batch with the largest loss | - |
//! | [`packaged_triplets`] | the triplets of a batch that was put together as such | - |
//! | [`mine_positives`], [`random_positives`] | the positives of a tuplet worth training on | - |
//! | [`in_batch_tuplets`] | identity-aware tuplets of any labelled batch | - |
//! | [`n_pair_tuplets`] | one pair a class, the other classes' positives as negatives | - |
//! | [`class_tuplets`] | each class a cluster, everything else its negatives | - |
//! | [`all_pairs`], [`all_triplets`] | everything | - |
//!
//! [`choosing`] helps to choose, [`deviations`] says where results differ from pytorch-metric-learning's and why, with its names.
//!
//! All randomness is counter based: it comes from the generator handed in, or from a seed and a step ([`Draw`]), never from what
//! was drawn before, and does not depend on the number of threads. A run that resumes at step `n` therefore sees the tuples it
//! would have seen.
//!
//! ```
//! use phiz_mining::{TupletConfig, TupletSampler, mine_positives};
//! use candle::{Device, Tensor};
//! # fn main() -> candle::Result<()> {
//! // 4 people, 3 expressions, one image each.
//! let identity: Vec<u32> = (0..12).map(|i| i / 3).collect();
//! let expression: Vec<u32> = (0..12).map(|i| i % 3).collect();
//! let config = TupletConfig { tuplets_per_batch: 2, ..TupletConfig::default() };
//! let sampler = TupletSampler::new(&expression, &identity, config)?;
//! let batch = sampler.batch(7, 0); // seed 7, step 0
//! // ... load the images `batch.indices`, run the network once ...
//! let embeddings = Tensor::randn(0f32, 1., (batch.indices.len(), 8), &Device::Cpu)?;
//! let (tuplets, stats) = mine_positives(&batch.tuplets, &embeddings, &config)?;
//! assert_eq!(tuplets.len(), 2);
//! assert!(stats.drop_rate() <= 1.0);
//! # Ok(()) }
//! ```

pub mod choosing;
mod comparison;
pub mod deviations;
mod in_batch;
mod matrix;
mod measure;
mod mined;
mod miners;
mod n_pair;
mod online;
mod random;
mod relation;
mod samplers;
mod triplets;
mod tuples;

pub use comparison::{Comparison, Order};
pub use in_batch::in_batch_tuplets;
pub use measure::{Measure, MeasureKind};
pub use mined::{Mined, Miner};
pub use miners::{
    AngularMiner, BatchEasyHardMiner, BatchHardMiner, DistanceWeightedMiner, Fallback, HdcMiner,
    MultiSimilarityMiner, PackagedTriplets, PairMarginMiner, Pick, RankedMiner, TripletMarginMiner,
    UniformHistogramMiner, WeightedStats, maximum_loss_subset, packaged_triplets,
};
pub use n_pair::n_pair_tuplets;
pub use online::{MiningStats, mine_positives, random_positives};
pub use random::Draw;
pub use relation::{LabelSets, LabelsBetween, Link, PairRules, Relation, Rule};
pub use samplers::{
    ClassBalancedSampler, FixedTriplets, HierarchicalConfig, HierarchicalSampler, NegativeSource,
    PkConfig, PkSampler, ShortClass, TupletBatch, TupletConfig, TupletSampler, weighted_draws,
};
pub use triplets::{
    Distance, MarginMinerConfig, TripletKind, all_triplets, batch_hard, margin_triplets, semi_hard,
};
pub use tuples::{Pairs, Triplets, Tuplet, Tuplets, all_pairs, class_tuplets};
