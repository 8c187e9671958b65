//! Metric losses and margin heads for candle.
//!
//! There are three kinds:
//!
//! - **Pair and triplet losses** ([`MetricLoss`]) compare the embeddings (B, D) of a [`Batch`] with one another, or with a reference
//!   set, by their labels. Value and gradient are one operation on the B x B matrix in blocks of rows: no list of pairs, no B^3,
//!   the same bytes for any number of threads. f32 and f64; f16 and bf16 are computed in f32. A [`Measure`] says what is
//!   compared, a [`Reducer`] how terms become a scalar; explicit tuples from [`phiz_mining`] are taken as well.
//! - **Tuplet losses** take index tuples from [`phiz_mining`]. Each has a `*_report` twin that also says what to log (how many hinges
//!   were active, mean distances).
//! - **Heads** hold class weights and give logits for [`cross_entropy`].
//!
//! A batch without a valid tuple gives exactly 0 with zero gradients; a hinge at its corner has gradient 0; equal embeddings, zero
//! embeddings and cosines of 1 have finite gradients. An embedding that is not finite is an error of a pair loss, which
//! names its row, and comes out of the others as a NaN.
//!
//! ```
//! use candle::{Device, Tensor, Var};
//! use phiz_losses::{Batch, MetricLoss, NtXent, TripletMargin};
//! # fn main() -> candle::Result<()> {
//! let embeddings = Var::from_tensor(&Tensor::randn(0f32, 1., (6, 8), &Device::Cpu)?)?;
//! let labels = [7u32, 7, 3, 3, 3, 90_000_000];
//! // Every triplet of the batch.
//! let loss = TripletMargin::default().loss(&embeddings, &labels)?;
//! let gradient = loss.backward()?;
//! assert_eq!(gradient.get(&embeddings).map(|g| g.dims().to_vec()), Some(vec![6, 8]));
//! // Against a memory of older embeddings.
//! let memory = Tensor::randn(0f32, 1., (32, 8), &Device::Cpu)?;
//! let ids: Vec<i64> = (0..32).map(|i| i % 8).collect();
//! let loss = NtXent::from(0.1).forward(&Batch::against(&embeddings, &labels, &memory, &ids)?)?;
//! assert_eq!(loss.rank(), 0);
//! # Ok(()) }
//! ```
//!
//! ```
//! use candle::{Device, Tensor};
//! use phiz_losses::{TupletClustersConfig, tuplet_clusters_report};
//! use phiz_mining::{Tuplet, Tuplets};
//! # fn main() -> candle::Result<()> {
//! let embeddings = Tensor::randn(0f32, 1., (4, 8), &Device::Cpu)?;
//! // Item 0 and its positive 1 form a cluster; 2 and 3 should stay away.
//! let tuplets = Tuplets(vec![Tuplet { query: 0, positives: vec![1], negatives: vec![2, 3] }]);
//! let (loss, report) = tuplet_clusters_report(&embeddings, &tuplets, TupletClustersConfig::default())?;
//! assert_eq!(loss.rank(), 0);
//! assert_eq!((report.positives, report.negatives), (2, 2));
//! # Ok(()) }
//! ```
//!
//! # The losses
//!
//! `D(u, v) = ||u - v||^2`, `[x]_+ = max(0, x)`; a tuplet has a query `f`, `N` positives `f_i` (the query among them), `M` negatives
//! `f_j`, and the centre `c = (1/N) sum_i f_i`.
//!
//! | loss | formula | from |
//! | --- | --- | --- |
//! | [`cross_entropy`] | `-log softmax(z)_y`, label smoothing | - |
//! | [`triplet`] | `[d(a,p) - d(a,n) + m]_+`, or softplus | Schroff et al., CVPR 2015; Hermans et al., 2017 |
//! | [`n_pair`] | `log(1 + sum_j exp(f.f_j - f.f+))`, or with distances and a margin | Sohn, NIPS 2016 |
//! | [`coupled_clusters`] | `w sum_i [D(f_i,c) + m - min_j D(f_j,c)]_+` | H. Liu et al., CVPR 2016 |
//! | [`tuplet_clusters`] | `w_p sum_i [D(f_i,c) - T + tau/2]_+ + w_n sum_j [T + tau/2 - D(f_j,c)]_+` | X. Liu et al., CVPRW 2017 |
//! | [`AdaptiveTupletClusters`] | the same with a learned `g(f,c)` in place of `D(f,c) - T` | X. Liu et al., CVPRW 2017 |
//! | [`Contrastive`] | `[d_ap - m]_+ + [m' - d_an]_+` | Hadsell et al., CVPR 2006; SNR: Yuan et al., CVPR 2019 |
//! | [`TripletMargin`] | [`triplet`] over all, hard, semi-hard or hardest triplets of labels | as above |
//! | [`Margin`] | `[d_ap - b + m]_+ + [b - d_an + m]_+`, `b` fixed or learned | Wu et al., ICCV 2017 |
//! | [`NtXent`], [`Dcl`] | `softplus(LSE_n(s_an/t) - s_ap/t)`, without the positive in the denominator | Chen et al., ICML 2020; Yeh et al., ECCV 2022 |
//! | [`SupCon`], [`MultiSupCon`] | `-mean_p log softmax(s_ap/t)`; label sets | Khosla et al., NeurIPS 2020 |
//! | [`MultiSimilarity`] | `LSE`s of positives and of negatives about a base, with its miner | Wang et al., CVPR 2019 |
//! | [`Circle`] | self-paced `LSE_p + LSE_n` | Sun et al., CVPR 2020 |
//! | [`LiftedStructure`], [`GeneralizedLiftedStructure`] | `[LSE_n(m - d) + d_ap]_+` | Oh Song et al., CVPR 2016; Hermans et al., 2017 |
//! | [`TupletMargin`], [`IntraPairVariance`] | `log(1 + sum_n e^(s(cos an - cos(ap - m))))`; spread of pairs | Yu, Tao, ICCV 2019 |
//! | [`Angular`] | angle at the negative | Wang et al., ICCV 2017 |
//! | [`Nca`] | `-log sum_p softmax(-d)` | Goldberger et al., NIPS 2004 |
//! | [`FastAp`], [`SmoothAp`], [`Pnp`] | average precision from soft bins or sigmoids; negatives before positives | CVPR 2019, ECCV 2020, AAAI 2022 |
//! | [`Histogram`] | overlap of the two similarity histograms | Ustinova, Lempitsky, NIPS 2016 |
//! | [`RankedList`] | weighted hinges at two boundaries | Wang et al., CVPR 2019 |
//! | [`SelectivelyContrastive`] | pushes hard negatives alone | Xuan et al., ECCV 2020 |
//! | [`DynamicSoftMargin`] | triplets weighted by a running histogram | Zhang, Rusinkiewicz, ICCV 2019 |
//! | [`ThresholdConsistentMargin`] | one threshold for all classes | Zhang et al., ICLR 2024 |
//! | [`CentroidTriplet`], [`Ge2e`] | items against class means | Wieczorek et al., 2021; Wan et al., ICASSP 2018 |
//! | [`instance_loss`] | cross entropy over the batch | Zheng et al., TOMM 2020 |
//! | [`VicReg`] | variance, invariance, covariance of two views | Bardes et al., ICLR 2022 |
//! | [`lp_regularizer`], [`zero_mean_regularizer`], [`spherical_regularizer`] | terms to add to a loss | - |
//! | [`ArcFace`] | target logit `s cos(theta + m)` | Deng et al., CVPR 2019 |
//! | [`CosFace`] | target logit `s (cos(theta) - m)` | Wang et al., CVPR 2018 |
//!
//! # Which loss when
//!
//! | you have | take |
//! | --- | --- |
//! | class labels, every class at test known | [`cross_entropy`] |
//! | many identities, new ones at test | [`ArcFace`] or [`CosFace`]; [`CosFace`] is the calmer one |
//! | class labels, small data, new classes at test | [`MultiSimilarity::mined`], or [`TripletMargin`] with [`Select::SemiHard`], then [`Select::BatchHard`] |
//! | two augmented views of unlabelled images | [`NtXent`] with the row as label, or [`VicReg`] |
//! | labels and large batches | [`SupCon`] |
//! | several labels an item | [`MultiSupCon`] |
//! | retrieval judged by average precision, P x K batches | [`SmoothAp`] or [`FastAp`] |
//! | small batches | any [`MetricLoss`] against a memory ([`Batch::against`]) |
//! | one threshold for every class at test | add [`ThresholdConsistentMargin`] |
//! | embeddings that collapse under hard negatives | [`SelectivelyContrastive`], or semi-hard before hard |
//! | many classes with two items each | [`n_pair`] |
//! | two kinds of labels, one to keep and one to forget (expression and identity) | [`AdaptiveTupletClusters`] with [`phiz_mining::TupletSampler`], beside [`cross_entropy`] |
//! | the same, and a scale of distances known beforehand | [`tuplet_clusters`] |
//!
//! Losses of the table take O(B^2 D) time and O(B^2) memory at most, in blocks from 192 MiB on, unless their page says more;
//! `examples/pair_losses.rs` prints times. [`deviations`] lists every difference from pytorch-metric-learning and insightface, [`migration`] their
//! names beside ours.
//!
//! # Readings and choices in the tuplet clusters losses
//!
//! The papers leave questions open; what is implemented here:
//!
//! - `D` is the squared distance and `T`, `tau` are in squared units, as in coupled clusters.
//! - The query is one of the `N` positives and so part of `c`; the gradient runs through `c` (switch: `stop_gradient`).
//! - Weights are `w_p = 1/N`, `w_n = 1/M`, the sizes after online mining; [`TupletReduction`] has the sums (plain, and with the factor
//!   1/2) and the mean over active hinges. Over the tuplets of a batch the mean is taken.
//! - `T` is learned through `g`; `tau` is not: its gradient is never negative, so descent would shrink it to nothing.
//! - `g` is written in the `D - T` direction, `g(u,v) = 1/2|L_A u|^2 + 1/2|L_A v|^2 - (L_B u).(L_B v) + w.(u+v) + b`, so that both quadratic forms are
//!   positive semidefinite by construction, and starts exactly at the fixed loss (`L_A = L_B = sqrt(2) I`, `w = 0`, `b = -T0`).
//! - Embeddings are not normalised in the adaptive form, and on request in the fixed one.
//! - A query without negatives has no negative term; samplers leave it to the classification loss.

mod adaptive;
mod batch;
mod centroid;
mod chunked;
mod combine;
mod coupled;
pub mod deviations;
mod distance;
mod engine;
mod focal;
pub mod heads;
mod label;
mod margin;
mod members;
mod memory;
pub mod migration;
mod n_pair;
mod ops;
mod pair;
mod random;
mod rank;
pub mod reducer;
mod reduction;
mod regularize;
mod report;
mod tri;
mod triplet;
mod tuplet;
mod vic_reg;
mod weight_regularizer;

pub use adaptive::{AdaptiveConfig, AdaptiveTupletClusters};
pub use batch::{Batch, MetricLoss};
pub use centroid::{CentroidTriplet, Ge2e, Ge2eForm};
pub use chunked::{TwoPass, in_anchor_chunks, two_pass};
pub use combine::{ViewPairing, WeightedSum, views};
pub use coupled::{CoupledClustersConfig, coupled_clusters, coupled_clusters_report};
pub use distance::measure_matrix;
pub use focal::{FocalConfig, focal_loss};
pub use heads::{
    AdaFace, AdaFaceConfig, ArcNegativeFace, ArcNegativeFaceConfig, CenterLoss, CenterLossConfig,
    CircleHead, CircleHeadConfig, ClassSample, CombinedMargin, CombinedMarginConfig,
    CurricularFace, CurricularFaceConfig, DynamicArcFace, DynamicArcFaceConfig, ElasticFace,
    ElasticFaceConfig, ElasticMargin, HEAD_NAMES, Head, InstanceTarget, LargeMarginSoftmax,
    LargeMarginSoftmaxConfig, MagFace, MagFaceConfig, ManifoldLoss, ManifoldLossConfig, MvMargin,
    MvSoftmax, MvSoftmaxConfig, NormalizedSoftmax, NormalizedSoftmaxConfig, P2sGrad, P2sGradConfig,
    PartialFc, PastPi, ProxyAnchor, ProxyAnchorConfig, ProxyNca, ProxyNcaConfig, SoftTriple,
    SoftTripleConfig, SphereFace, SphereFace2, SphereFace2Config, SphereFaceConfig,
    SubCenterArcFace, SubCenterArcFaceConfig, SubCenterOutliers, UniFace, UniFaceConfig,
    head_by_name, instance_loss, random_meta_classes, sample_classes,
};
pub use label::Label;
pub use margin::{
    ArcFace, ArcFaceConfig, ArcGradient, CosFace, CosFaceConfig, arc_face_logits, cos_face_logits,
    mean_target_angle,
};
pub use memory::CrossBatchMemory;
pub use n_pair::{NPairConfig, NPairForm, n_pair, n_pair_report};
pub use pair::{
    Circle, Contrastive, Dcl, GeneralizedLiftedStructure, IntraPairVariance, LiftedStructure,
    MultiSimilarity, MultiSupCon, Nca, NtXent, SupCon, ThresholdConsistentMargin, TupletMargin,
};
pub use phiz_kernels::cross_entropy;
pub use phiz_mining::{Measure, MeasureKind};
pub use rank::{FastAp, Histogram, Pnp, PnpVariant, RankedList, SmoothAp};
pub use reducer::Reducer;
pub use reduction::{Reduction, TupletReduction};
pub use regularize::{lp_regularizer, spherical_regularizer, zero_mean_regularizer};
pub use report::{NPairReport, TripletReport, TupletReport, embedding_std};
pub use tri::{Angular, DynamicSoftMargin, Margin, Select, SelectivelyContrastive, TripletMargin};
pub use triplet::{Distance, TripletConfig, triplet, triplet_report};
pub use tuplet::{ClusterDistance, TupletClustersConfig, tuplet_clusters, tuplet_clusters_report};
pub use vic_reg::VicReg;
pub use weight_regularizer::{center_invariant, regular_face, sparse_centers};
