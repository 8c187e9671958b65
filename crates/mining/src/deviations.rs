//! Where tuples differ from those of pytorch-metric-learning 2.9, why, and what its names are here.
//!
//! On embeddings in general position (no equal distances, no values that are not finite) every miner gives the same set of
//! indices as pytorch-metric-learning in f64; `fixtures/mining/miners.py` makes the lists that the tests compare with. The
//! differences:
//!
//! | where | there | here |
//! | --- | --- | --- |
//! | precision | that of the embeddings | f64, whatever the embeddings are |
//! | order of tuples | by sorted score for some miners | ascending, for all |
//! | equal distances | the first `max` or `topk` happens to give | the lowest index |
//! | NaN or infinity in an embedding | passes through comparisons, so that some tuples go missing | an error that names the row |
//! | random choices | global generators | a function of seed and step ([`Draw`](crate::Draw)) |
//! | `BatchEasyHardMiner` with "all" on a side | ignores `allowed_pos_range`, `allowed_neg_range` of that side | the range holds |
//! | `AngularMiner` | demands a normalised distance and then measures the embeddings as they are; adds 1e-6 to each coordinate of a difference | measures what the comparison says; no addend; 90 degrees where the negative is at the centre |
//! | `DistanceWeightedMiner` | weights relative to the largest of the matrix, same-class entries counted as weight 1 before masking: in high dimensions all weights of an anchor can vanish | logarithms relative to the anchor's own largest: none vanishes |
//! | the same, an anchor without a negative in reach | dropped without a word | [`Fallback`](crate::Fallback), counted |
//! | `HDCMiner.set_idx_externally` | stays in force for all later batches until reset | [`mine_from`](crate::HdcMiner::mine_from) takes the pairs with each call |
//! | `EmbeddingsAlreadyPackagedAsTriplets` | an assertion without text if the batch is no multiple of 3 | an error that says so |
//! | all triplets | a B x M x M byte mask, above 2^31 entries a Python loop | ranges of a sorted row |
//! | labels | integers in tensors | anything comparable, never rounded: any [`Relation`](crate::Relation) |
//! | `MPerClassSampler` | no promise that a class or an item is ever drawn; repeats items at random where a class is short | each pass has every class, items take turns, short classes repeat in turn |
//! | `HierarchicalSampler` | lists all combinations of super-classes | numbers them |
//! | `FixedSetOfTriplets` | an anchor may be its own positive where its class has one item | such classes give no anchor |
//! | `TuplesToWeightsSampler` | draws a subset, runs the model, mines and draws again, in one object | [`Mined::weights`](crate::Mined::weights), then [`weighted_draws`](crate::weighted_draws): the model is yours to run |
//!
//! # Names
//!
//! | pytorch-metric-learning | phiz-mining |
//! | --- | --- |
//! | `miner(embeddings, labels)` | `miner.mine(&Comparison::new(&embeddings, &labels)?)` |
//! | `miner(embeddings, labels, ref_emb, ref_labels)` | [`Comparison::with_references`](crate::Comparison::with_references) with [`LabelsBetween`](crate::LabelsBetween) |
//! | `distance=CosineSimilarity()` | `.measure(Measure::COSINE)` |
//! | `LpDistance(normalize_embeddings=False)` | `.measure(Measure::L2.unnormalized())` |
//! | `LpDistance(power=2)` | [`Measure::SQUARED_L2`](crate::Measure::SQUARED_L2) |
//! | `DotProductSimilarity(normalize_embeddings=False)` | [`Measure::DOT`](crate::Measure::DOT) |
//! | `SNRDistance()` | [`Measure::SNR`](crate::Measure::SNR) |
//! | `mat=` (version 3) | [`Comparison::from_matrix`](crate::Comparison::from_matrix) |
//! | `tuples_per_anchor=` (version 3) | [`TripletMarginMiner::mine_some`](crate::TripletMarginMiner::mine_some), `per_anchor` of [`DistanceWeightedMiner`](crate::DistanceWeightedMiner) |
//! | `AngularMiner` | [`AngularMiner`](crate::AngularMiner) |
//! | `BatchEasyHardMiner(pos_strategy, neg_strategy)` | [`BatchEasyHardMiner`](crate::BatchEasyHardMiner) with [`Pick`](crate::Pick) |
//! | `BatchHardMiner` | [`BatchHardMiner`](crate::BatchHardMiner) |
//! | `DistanceWeightedMiner` | [`DistanceWeightedMiner`](crate::DistanceWeightedMiner) |
//! | `EmbeddingsAlreadyPackagedAsTriplets` | [`packaged_triplets`](crate::packaged_triplets), [`PackagedTriplets`](crate::PackagedTriplets) |
//! | `HDCMiner(filter_percentage)` | [`HdcMiner`](crate::HdcMiner), `share` |
//! | `MultiSimilarityMiner` | [`MultiSimilarityMiner`](crate::MultiSimilarityMiner) |
//! | `PairMarginMiner` | [`PairMarginMiner`](crate::PairMarginMiner) |
//! | `TripletMarginMiner(type_of_triplets)` | [`TripletMarginMiner`](crate::TripletMarginMiner) with [`TripletKind`](crate::TripletKind) |
//! | `UniformHistogramMiner` | [`UniformHistogramMiner`](crate::UniformHistogramMiner) |
//! | `MPerClassSampler(labels, m, batch_size)` | [`PkSampler`](crate::PkSampler) with [`PkConfig::m_per_class`](crate::PkConfig::m_per_class) |
//! | `HierarchicalSampler` | [`HierarchicalSampler`](crate::HierarchicalSampler) |
//! | `FixedSetOfTriplets` | [`FixedTriplets`](crate::FixedTriplets) |
//! | `lmu.get_all_triplets_indices`, `get_all_pairs_indices` | [`all_triplets`](crate::all_triplets), [`all_pairs`](crate::all_pairs) |
//! | `lmu.convert_to_triplets`, `convert_to_pairs` | [`Mined::into_triplets`](crate::Mined::into_triplets), [`Mined::into_pairs`](crate::Mined::into_pairs) |
//! | `lmu.convert_to_weights` | [`Mined::weights`](crate::Mined::weights) |
