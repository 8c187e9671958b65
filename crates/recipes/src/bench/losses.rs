//! The cases of the losses: which, how large, and up to which batch the peer can follow.

use serde::{Deserialize, Serialize};

use super::cases::{Case, Work};

/// A loss, in the configuration that is pytorch-metric-learning 2.9's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Contrastive over all pairs.
    Contrastive,
    /// Multi-similarity with its miner.
    MultiSimilarity,
    /// NT-Xent over all positive pairs.
    NtXent,
    /// Supervised contrastive.
    SupCon,
    /// Triplet margin over all triplets.
    TripletAll,
    /// Triplet margin over the hardest triplet of each anchor, mining included.
    BatchHardTriplet,
    /// Circle.
    Circle,
    /// Lifted structure.
    LiftedStructure,
    /// Generalised lifted structure.
    GeneralizedLiftedStructure,
    /// FastAP.
    FastAp,
    /// NCA.
    Nca,
    /// Margin loss with a fixed boundary.
    Margin,
    /// Contrastive on the signal-to-noise ratio.
    SnrContrastive,
    /// Triplet margin over all triplets, softplus in place of the hinge.
    TripletSmooth,
    /// Triplet margin over all triplets with anchor swap.
    TripletSwap,
    /// Angular, on embeddings of unit length.
    Angular,
    /// Tuplet margin.
    TupletMargin,
    /// Intra-pair variance.
    IntraPairVariance,
    /// Threshold-consistent margin.
    ThresholdConsistentMargin,
    /// Ranked list with margin 0.4 and temperature 10.
    RankedList,
    /// Histogram.
    Histogram,
    /// Smooth-AP.
    SmoothAp,
    /// Penalising negatives before positives.
    Pnp,
    /// Decoupled contrastive with weights.
    Dclw,
    /// Selectively contrastive triplet.
    SelectivelyContrastive,
    /// Dynamic soft margin.
    DynamicSoftMargin,
    /// Centroid triplet.
    CentroidTriplet,
    /// Cross-entropy over the items of the batch.
    Instance,
    /// ArcFace with a margin of 28.6 degrees.
    ArcFace,
    /// CosFace.
    CosFace,
    /// Proxy-anchor.
    ProxyAnchor,
    /// Normalised softmax.
    NormalizedSoftmax,
    /// Large-margin softmax.
    LargeMarginSoftmax,
}

impl Loss {
    /// Losses over the batch alone, with the largest batch that the peer can do in the memory of a common machine, 0 where it does
    /// not know the loss or needs a number for every triplet at the smallest batch: some of its losses hold one.
    const PAIRS: [(Loss, usize); 28] = [
        (Loss::Contrastive, 4096),
        (Loss::MultiSimilarity, 4096),
        (Loss::NtXent, 512),
        (Loss::SupCon, 4096),
        (Loss::TripletAll, 1024),
        (Loss::BatchHardTriplet, 4096),
        (Loss::Circle, 4096),
        (Loss::LiftedStructure, 512),
        (Loss::GeneralizedLiftedStructure, 4096),
        (Loss::FastAp, 2048),
        (Loss::Nca, 4096),
        (Loss::Margin, 1024),
        (Loss::SnrContrastive, 512),
        (Loss::TripletSmooth, 512),
        (Loss::TripletSwap, 512),
        (Loss::Angular, 1024),
        (Loss::TupletMargin, 512),
        (Loss::IntraPairVariance, 2048),
        (Loss::ThresholdConsistentMargin, 2048),
        (Loss::RankedList, 1024),
        (Loss::Histogram, 512),
        (Loss::Instance, 4096),
        (Loss::SmoothAp, 0),
        (Loss::Pnp, 0),
        (Loss::Dclw, 0),
        (Loss::SelectivelyContrastive, 0),
        (Loss::DynamicSoftMargin, 0),
        (Loss::CentroidTriplet, 0),
    ];

    /// Losses against learned vectors of classes.
    const HEADS: [Loss; 5] = [
        Loss::ArcFace,
        Loss::CosFace,
        Loss::NormalizedSoftmax,
        Loss::ProxyAnchor,
        Loss::LargeMarginSoftmax,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Loss::Contrastive => "contrastive",
            Loss::MultiSimilarity => "multi-similarity with its miner",
            Loss::NtXent => "NT-Xent",
            Loss::SupCon => "SupCon",
            Loss::TripletAll => "triplet over all",
            Loss::BatchHardTriplet => "batch-hard triplet with its miner",
            Loss::Circle => "circle",
            Loss::LiftedStructure => "lifted structure",
            Loss::GeneralizedLiftedStructure => "generalised lifted structure",
            Loss::FastAp => "FastAP",
            Loss::Nca => "NCA",
            Loss::Margin => "margin",
            Loss::SnrContrastive => "SNR contrastive",
            Loss::TripletSmooth => "smooth triplet over all",
            Loss::TripletSwap => "triplet over all with swap",
            Loss::Angular => "angular",
            Loss::TupletMargin => "tuplet margin",
            Loss::IntraPairVariance => "intra-pair variance",
            Loss::ThresholdConsistentMargin => "threshold-consistent margin",
            Loss::RankedList => "ranked list",
            Loss::Histogram => "histogram",
            Loss::SmoothAp => "Smooth-AP",
            Loss::Pnp => "PNP",
            Loss::Dclw => "DCLW",
            Loss::SelectivelyContrastive => "selectively contrastive triplet",
            Loss::DynamicSoftMargin => "dynamic soft margin",
            Loss::CentroidTriplet => "centroid triplet",
            Loss::Instance => "instance",
            Loss::ArcFace => "ArcFace",
            Loss::CosFace => "CosFace",
            Loss::ProxyAnchor => "proxy-anchor",
            Loss::NormalizedSoftmax => "normalised softmax",
            Loss::LargeMarginSoftmax => "large-margin softmax",
        }
    }
}

/// Sizes of a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossSizes {
    /// Embeddings.
    pub batch: usize,
    /// Their length.
    pub dim: usize,
    /// Embeddings of one class.
    pub per_class: usize,
    /// Classes of the head; 0 for a loss without one.
    pub classes: usize,
}

/// Every loss at every size.
pub(super) fn losses() -> Vec<Case> {
    let row = |(loss, largest): (Loss, usize), batch: usize| Case {
        name: format!("{} B {batch}", loss.name()),
        work: Work::Loss {
            loss,
            sizes: LossSizes {
                batch,
                dim: 128,
                per_class: 4,
                classes: 0,
            },
        },
        peers: if batch <= largest {
            vec!["pml"]
        } else {
            Vec::new()
        },
        // Both sides sum millions of f32, in different orders.
        tolerance: 1e-3,
    };
    let sizes = [512, 1024, 2048, 4096];
    let rows = |loss| sizes.map(|batch| row(loss, batch));
    let head = |loss: Loss| Case {
        name: format!("{}, 10000 classes, B 512 D 512", loss.name()),
        work: Work::Loss {
            loss,
            sizes: LossSizes {
                batch: 512,
                dim: 512,
                per_class: 4,
                classes: 10_000,
            },
        },
        peers: vec!["pml"],
        tolerance: 1e-3,
    };
    let heads = Loss::HEADS.into_iter().map(head);
    let pairs = Loss::PAIRS.into_iter().flat_map(rows);
    pairs.chain(heads).collect()
}
