//! How two embeddings are compared: distances, where small means alike, and similarities, where large does.

use candle::{Result, bail};

use crate::triplets::Distance;

/// The function behind a [`Measure`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MeasureKind {
    /// `||x - y||_p`, `p >= 1` or infinity.
    Lp(f64),
    /// `x . y`; of unit-length embeddings, the cosine.
    Dot,
    /// `var(x - y) / var(x)`, variances over the dimensions (Yuan et al., CVPR 2019). Not symmetric: the anchor is `x`.
    Snr,
}

/// A distance or similarity between embeddings: what losses and miners compare by.
///
/// | constant | value | pytorch-metric-learning |
/// | --- | --- | --- |
/// | [`Measure::L2`] | `\|\|x - y\|\|` of unit-length embeddings | `LpDistance()` |
/// | [`Measure::SQUARED_L2`] | its square | `LpDistance(power=2)` |
/// | [`Measure::COSINE`] | `x . y` of unit-length embeddings | `CosineSimilarity()` |
/// | [`Measure::DOT`] | `x . y` of the embeddings as given | `DotProductSimilarity(normalize_embeddings=False)` (the default from v3 on) |
/// | [`Measure::SNR`] | `var(x - y) / var(x)` of unit-length embeddings | `SNRDistance()` |
///
/// A zero embedding stays zero when it is normalised (PyTorch divides by 1e-12).
///
/// ```
/// use phiz_mining::Measure;
/// assert!(Measure::COSINE.is_similarity());
/// assert!(!Measure::L2.unnormalized().normalize);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    /// The function.
    pub kind: MeasureKind,
    /// Scale embeddings to unit length first (in the p-norm for [`MeasureKind::Lp`], else in the 2-norm).
    pub normalize: bool,
    /// Raise a distance to this power. Not 0; 1, the only one for a similarity, is none.
    pub power: f64,
}

impl Measure {
    /// Euclidean distance of unit-length embeddings, 0 to 2. The default.
    pub const L2: Self = Self {
        kind: MeasureKind::Lp(2.0),
        normalize: true,
        power: 1.0,
    };
    /// Squared Euclidean distance of unit-length embeddings, 0 to 4.
    pub const SQUARED_L2: Self = Self {
        kind: MeasureKind::Lp(2.0),
        normalize: true,
        power: 2.0,
    };
    /// Cosine similarity, -1 to 1.
    pub const COSINE: Self = Self {
        kind: MeasureKind::Dot,
        normalize: true,
        power: 1.0,
    };
    /// Inner product of the embeddings as given.
    pub const DOT: Self = Self {
        kind: MeasureKind::Dot,
        normalize: false,
        power: 1.0,
    };
    /// Signal-to-noise ratio distance of unit-length embeddings.
    pub const SNR: Self = Self {
        kind: MeasureKind::Snr,
        normalize: true,
        power: 1.0,
    };

    /// The same on embeddings as given.
    #[must_use]
    pub const fn unnormalized(self) -> Self {
        Self {
            normalize: false,
            ..self
        }
    }

    /// Whether larger means more alike.
    pub const fn is_similarity(&self) -> bool {
        matches!(self.kind, MeasureKind::Dot)
    }

    /// Whether this is the cosine.
    pub fn is_cosine(&self) -> bool {
        self.kind == MeasureKind::Dot && self.normalize && self.power == 1.0
    }

    /// Fails unless the parameters make sense.
    ///
    /// # Errors
    /// When the power is 0, not finite, or not 1 for a similarity, or `p` is below 1.
    pub fn check(&self) -> Result<()> {
        if !self.power.is_finite() || self.power == 0.0 {
            bail!(
                "the power of a measure must be finite and not 0, got {}",
                self.power
            );
        }
        if self.is_similarity() && self.power != 1.0 {
            bail!(
                "the power of a similarity must be 1, got {}: an even power would lose its sign",
                self.power
            );
        }
        if let MeasureKind::Lp(p) = self.kind
            && (p.is_nan() || p < 1.0)
        {
            bail!("an Lp distance needs p >= 1, got {p}");
        }
        Ok(())
    }
}

impl Default for Measure {
    fn default() -> Self {
        Self::L2
    }
}

/// The distance on embeddings as they are.
impl From<Distance> for Measure {
    fn from(distance: Distance) -> Self {
        match distance {
            Distance::Squared => Self::SQUARED_L2.unnormalized(),
            Distance::Euclidean => Self::L2.unnormalized(),
        }
    }
}
