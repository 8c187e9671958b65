//! How two embeddings are compared: distances, where small means alike, and similarities, where large does.

use crate::triplets::Distance;

/// The formula of a [`Measure`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MeasureKind {
    /// `||a - b||`. The default.
    #[default]
    Euclidean,
    /// `||a - b||^2`.
    Squared,
    /// `a.b / (||a|| ||b||)`, a similarity.
    Cosine,
    /// `a.b`, a similarity.
    Dot,
    /// `var(a - b) / var(a)`, variances over the dimensions with divisor D - 1: not symmetric, the anchor is `a` (Yuan et al.,
    /// CVPR 2019).
    SignalToNoise,
}

/// How two embeddings are compared.
///
/// The constants carry pytorch-metric-learning's defaults: its distances scale embeddings to unit length first, except that
/// the dot product does not (as in its version 3). [`raw`](Self::raw) takes embeddings as they are.
///
/// ```
/// use phiz_mining::Measure;
/// assert!(Measure::COSINE.is_similarity());
/// assert!(!Measure::EUCLIDEAN.raw().normalize);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// The formula.
    pub kind: MeasureKind,
    /// Scale embeddings to unit length first; zero embeddings stay zero. [`MeasureKind::Cosine`] always does.
    pub normalize: bool,
}

impl Measure {
    /// Distance of unit vectors, 0 to 2 (`LpDistance`). The default.
    pub const EUCLIDEAN: Self = Self {
        kind: MeasureKind::Euclidean,
        normalize: true,
    };
    /// Squared distance of unit vectors, 0 to 4 (`LpDistance(power=2)`).
    pub const SQUARED: Self = Self {
        kind: MeasureKind::Squared,
        normalize: true,
    };
    /// Cosine, -1 to 1 (`CosineSimilarity`).
    pub const COSINE: Self = Self {
        kind: MeasureKind::Cosine,
        normalize: true,
    };
    /// Inner product of the embeddings as they are (`DotProductSimilarity` of version 3).
    pub const DOT: Self = Self {
        kind: MeasureKind::Dot,
        normalize: false,
    };
    /// Inverse signal-to-noise ratio of unit vectors (`SNRDistance`).
    pub const SIGNAL_TO_NOISE: Self = Self {
        kind: MeasureKind::SignalToNoise,
        normalize: true,
    };

    /// The same formula on embeddings as they are.
    pub const fn raw(self) -> Self {
        Self {
            normalize: false,
            ..self
        }
    }

    /// Whether large values mean alike.
    pub const fn is_similarity(self) -> bool {
        matches!(self.kind, MeasureKind::Cosine | MeasureKind::Dot)
    }

    /// Whether embeddings are scaled to unit length before the formula.
    pub(crate) const fn unit(self) -> bool {
        self.normalize || matches!(self.kind, MeasureKind::Cosine)
    }
}

impl Default for Measure {
    fn default() -> Self {
        Self::EUCLIDEAN
    }
}

/// The distance on embeddings as they are.
impl From<Distance> for Measure {
    fn from(distance: Distance) -> Self {
        match distance {
            Distance::Squared => Self::SQUARED.raw(),
            Distance::Euclidean => Self::EUCLIDEAN.raw(),
        }
    }
}
