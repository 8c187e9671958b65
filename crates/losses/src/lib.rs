//! Metric losses and margin heads for candle.
//!
//! A loss takes embeddings (B, D) in f32 or f64 and plain index tuples from [`phiz_mining`], and gives a scalar. Each has a
//! `*_report` twin that also says what to log (how many hinges were active, mean distances). Heads hold class weights and give
//! logits for [`cross_entropy`].
//!
//! Every loss is a handful of candle operations over the whole batch, no custom kernels, so it runs where candle does (the tests
//! run on the CPU; the choice of active hinges is made on the host). A batch without a valid tuple gives
//! exactly 0 with zero gradients; a hinge at its corner has gradient 0; equal embeddings, zero embeddings and cosines of 1 have
//! finite gradients; a NaN in an embedding that takes part comes out as a NaN loss.
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
//! | [`ArcFace`] | target logit `s cos(theta + m)` | Deng et al., CVPR 2019 |
//! | [`CosFace`] | target logit `s (cos(theta) - m)` | Wang et al., CVPR 2018 |
//!
//! # Which loss when
//!
//! | you have | take |
//! | --- | --- |
//! | class labels, every class at test known | [`cross_entropy`] |
//! | many identities, new ones at test | [`ArcFace`] or [`CosFace`]; [`CosFace`] is the calmer one |
//! | class labels, small data, new classes at test | [`triplet`] on [`phiz_mining::batch_hard`] or [`phiz_mining::semi_hard`] |
//! | many classes with two items each | [`n_pair`] |
//! | two kinds of labels, one to keep and one to forget (expression and identity) | [`AdaptiveTupletClusters`] with [`phiz_mining::TupletSampler`], beside [`cross_entropy`] |
//! | the same, and a scale of distances known beforehand | [`tuplet_clusters`] |
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
mod chunked;
mod combine;
mod coupled;
pub mod deviations;
pub mod distance;
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
pub mod reducer;
mod reduction;
mod report;
mod triplet;
mod tuplet;
mod weight_regularizer;

pub use adaptive::{AdaptiveConfig, AdaptiveTupletClusters};
pub use batch::{Batch, MetricLoss};
pub use chunked::{TwoPass, in_anchor_chunks, two_pass};
pub use combine::{ViewPairing, WeightedSum, views};
pub use coupled::{CoupledClustersConfig, coupled_clusters, coupled_clusters_report};
pub use distance::{Measure, MeasureKind};
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
    head_by_name, instance_loss, random_meta_classes, sample_classes, tuple_weights,
};
pub use label::Label;
pub use margin::{
    ArcFace, ArcFaceConfig, ArcGradient, CosFace, CosFaceConfig, arc_face_logits, cos_face_logits,
    mean_target_angle,
};
pub use memory::CrossBatchMemory;
pub use n_pair::{NPairConfig, NPairForm, n_pair, n_pair_report};
pub use pair::{Contrastive, Dcl, MultiSimilarity, NtXent, SupCon};
pub use phiz_kernels::cross_entropy;
pub use reducer::Reducer;
pub use reduction::{Reduction, TupletReduction};
pub use report::{NPairReport, TripletReport, TupletReport, embedding_std};
pub use triplet::{Distance, TripletConfig, triplet, triplet_report};
pub use tuplet::{ClusterDistance, TupletClustersConfig, tuplet_clusters, tuplet_clusters_report};
pub use weight_regularizer::{center_invariant, regular_face, sparse_centers};
