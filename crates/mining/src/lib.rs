//! Which pairs, triplets and tuplets of a batch to train on.
//!
//! A metric loss needs to know which embeddings belong together and which do not. This crate answers that, and nothing
//! else: it sees labels and (detached) embeddings, and returns plain indices into the batch.
//!
//! | before the forward pass | what it gives |
//! | --- | --- |
//! | [`TupletSampler`] | identity-aware tuples: the same expression by other people, other expressions by the same person |
//! | [`PkSampler`] | batches of P classes with K items each |
//!
//! | after the forward pass | what it gives |
//! | --- | --- |
//! | [`mine_positives`], [`random_positives`] | the positives of a tuplet worth training on |
//! | [`in_batch_tuplets`] | identity-aware tuplets of any labelled batch |
//! | [`batch_hard`], [`semi_hard`], [`margin_triplets`], [`all_triplets`] | triplets |
//! | [`n_pair_tuplets`] | one pair a class, the other classes' positives as negatives |
//! | [`class_tuplets`] | each class a cluster, everything else its negatives |
//! | [`all_pairs`] | every positive and negative pair |
//!
//! All randomness is counter based: it comes from the generator handed in, or from a seed and a step, never from what was
//! drawn before. A run that resumes at step `n` therefore sees the tuples it would have seen.
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

mod in_batch;
mod matrix;
mod n_pair;
mod online;
mod pk;
mod random;
mod sampler;
mod triplets;
mod tuples;

pub use in_batch::in_batch_tuplets;
pub use n_pair::n_pair_tuplets;
pub use online::{MiningStats, mine_positives, random_positives};
pub use pk::{PkConfig, PkSampler, ShortClass};
pub use sampler::{NegativeSource, TupletBatch, TupletConfig, TupletSampler};
pub use triplets::{
    Distance, MarginMinerConfig, TripletKind, all_triplets, batch_hard, margin_triplets, semi_hard,
};
pub use tuples::{Pairs, Triplets, Tuplet, Tuplets, all_pairs, class_tuplets};
