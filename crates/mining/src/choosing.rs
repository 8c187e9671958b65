//! Which sampler and which miner to take.
//!
//! A miner can only choose among what the sampler brought: settle the batch first.
//!
//! # The batch
//!
//! | your data | take | because |
//! | --- | --- | --- |
//! | many classes, several items each | [`PkSampler`](crate::PkSampler), P as large as memory allows, K = 4 | every anchor has K - 1 positives and K (P - 1) negatives |
//! | a class is one or two items | [`PkSampler`](crate::PkSampler), K = 2, classes repeated, with augmentation | copies become different views |
//! | few classes of very different size | [`ClassBalancedSampler`](crate::ClassBalancedSampler) | the large class does not drown the others, and none of its items is forgotten |
//! | classes under super-classes | [`HierarchicalSampler`](crate::HierarchicalSampler) | negatives of the same super-class are the ones that matter |
//! | two labels, one to keep and one to forget | [`TupletSampler`](crate::TupletSampler) | negatives share what should be forgotten |
//! | triplets are all you have | [`FixedTriplets`](crate::FixedTriplets), [`packaged_triplets`](crate::packaged_triplets) | - |
//!
//! # The tuples
//!
//! | your situation | take |
//! | --- | --- |
//! | a loss that weighs all pairs itself (multi-similarity, circle, InfoNCE, supervised contrastive) | no miner, or [`MultiSimilarityMiner`](crate::MultiSimilarityMiner) to save what no longer matters |
//! | triplet loss, training from scratch | [`TripletMarginMiner`](crate::TripletMarginMiner), semi-hard: the hardest negatives of an untrained network make it collapse onto one point |
//! | triplet loss, from a pre-trained network | [`BatchHardMiner`](crate::BatchHardMiner) |
//! | the same with wrong labels | [`RankedMiner`](crate::RankedMiner) from rank 1 or 2 on |
//! | classes of several looks (a person with and without glasses) | [`BatchEasyHardMiner`](crate::BatchEasyHardMiner), easy positives: looks need not become one |
//! | margin loss | [`DistanceWeightedMiner`](crate::DistanceWeightedMiner) |
//! | contrastive loss | [`PairMarginMiner`](crate::PairMarginMiner) with the loss's own margins, which only saves time, or [`HdcMiner`](crate::HdcMiner) |
//! | two kinds of labels | any of them on [`PairRules`](crate::PairRules) |
//! | batches too large for all triplets | [`TripletMarginMiner::mine_some`](crate::TripletMarginMiner::mine_some), or a loss that needs no list |
//!
//! # When training is stuck
//!
//! - The loss stays at its margin (or at `ln` of the number of negatives): all embeddings have become one point. Take semi-hard
//!   triplets for the first epochs, a smaller learning rate, or normalise embeddings.
//! - The miner finds nothing: [`TripletMarginMiner::count`](crate::TripletMarginMiner::count) of each kind says whether
//!   everything has become easy (then the batch is too small) or everything is hard (then the margin is too large).
//! - [`WeightedStats::fallbacks`](crate::WeightedStats) near the number of anchors: nothing lies within `loss_cutoff`, classes are
//!   apart already.
//!
//! # What a miner costs
//!
//! Scores are one product of matrices, B x M x D, in f64 on the host; nothing is as large as B x M but the block at hand, unless a
//! miner's own page says so. What is found can be large: a batch of 512 with four of a class has 780,288 triplets.
