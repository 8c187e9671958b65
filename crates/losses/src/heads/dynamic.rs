//! ArcFace with a margin for each class by how many items the class has.

use candle::{Result, Tensor, bail};
use candle_nn::VarBuilder;

use super::{Head, SubCenterArcFace, SubCenterArcFaceConfig, check_positive, class_rows, nothing};
use crate::margin::ArcGradient;
use crate::ops::check_finite;

/// Configuration of [`DynamicArcFace`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DynamicArcFaceConfig {
    /// s. Default 64.
    pub scale: f64,
    /// a. Default 0.5.
    pub height: f64,
    /// b. Default 0.05.
    pub floor: f64,
    /// lambda. Default 0.25.
    pub power: f64,
    /// K, vectors for each class. Default 3.
    pub centers: usize,
}

impl Default for DynamicArcFaceConfig {
    fn default() -> Self {
        Self {
            scale: 64.0,
            height: 0.5,
            floor: 0.05,
            power: 0.25,
            centers: 3,
        }
    }
}

/// ArcFace with dynamic margins (Ha, Liu, Liu, Guo, "Google Landmark Recognition 2020 third place", 2020): rare classes get larger
/// margins, `m_y = a n_y^(-lambda) + b` radians for a class of `n_y` items; else [`SubCenterArcFace`].
///
/// Parameter `weight` (classes K, dim), class by class, drawn from N(0, 0.01). Time O(B C K D).
#[derive(Debug, Clone)]
pub struct DynamicArcFace {
    inner: SubCenterArcFace,
    margins: Vec<f64>,
}

impl DynamicArcFace {
    /// A head over `counts.len()` classes; `counts` are their numbers of items in the training set.
    ///
    /// # Errors
    /// When a count is 0, a margin leaves [0, pi), the configuration makes no sense otherwise, or `vb` holds a weight of another shape.
    pub fn new(
        dim: usize,
        counts: &[u64],
        config: DynamicArcFaceConfig,
        vb: VarBuilder,
    ) -> Result<Self> {
        let margins = margins(counts, config)?;
        Ok(Self {
            inner: SubCenterArcFace::new(dim, counts.len(), inner(config), vb)?,
            margins,
        })
    }

    /// Builds the head from given vectors, class by class.
    ///
    /// # Errors
    /// As [`DynamicArcFace::new`], and when the weight has not K rows for each count.
    pub fn from_weight(
        weight: Tensor,
        counts: &[u64],
        config: DynamicArcFaceConfig,
    ) -> Result<Self> {
        let margins = margins(counts, config)?;
        let inner = SubCenterArcFace::from_weight(weight, inner(config))?;
        if inner.classes() != counts.len() {
            bail!(
                "dynamic-arcface: weights of {} classes for {} counts",
                inner.classes(),
                counts.len()
            );
        }
        Ok(Self { inner, margins })
    }

    /// The margin of each class in radians.
    pub fn margins(&self) -> &[f64] {
        &self.margins
    }
}

fn inner(config: DynamicArcFaceConfig) -> SubCenterArcFaceConfig {
    SubCenterArcFaceConfig {
        scale: config.scale,
        margin: 0.0,
        centers: config.centers,
        gradient: ArcGradient::Exact,
    }
}

fn margins(counts: &[u64], config: DynamicArcFaceConfig) -> Result<Vec<f64>> {
    let DynamicArcFaceConfig {
        scale,
        height,
        floor,
        power,
        ..
    } = config;
    check_positive("the scale of DynamicArcFace", scale)?;
    for (name, value) in [("height", height), ("floor", floor), ("power", power)] {
        check_finite(&format!("the {name} of DynamicArcFace"), value)?;
    }
    let mut margins = Vec::with_capacity(counts.len());
    for (class, &n) in counts.iter().enumerate() {
        if n == 0 {
            bail!("dynamic-arcface: class {class} has no items, its margin would be infinite");
        }
        let m = height * (n as f64).powf(-power) + floor;
        super::check_angle(&format!("the margin of class {class} of DynamicArcFace"), m)?;
        margins.push(m);
    }
    Ok(margins)
}

impl Head for DynamicArcFace {
    fn weight(&self) -> &Tensor {
        self.inner.weight()
    }

    fn classes(&self) -> usize {
        self.inner.classes()
    }

    fn weighted_loss(
        &self,
        embeddings: &Tensor,
        labels: &Tensor,
        weights: Option<&[f64]>,
    ) -> Result<Tensor> {
        let Some(batch) = self.inner.batch(embeddings, labels, weights)? else {
            return nothing(embeddings, self.weight());
        };
        let margins = batch
            .labels
            .iter()
            .map(|&l| self.margins[l as usize])
            .collect();
        self.inner.with_margins(batch, Some(margins))
    }

    fn scores(&self, embeddings: &Tensor) -> Result<Tensor> {
        self.inner.scores(embeddings)
    }

    fn select(&self, classes: &[u32]) -> Result<Box<dyn Head>> {
        let config = *self.inner.config();
        let weight = class_rows(self.weight(), self.classes(), config.centers, classes)?;
        Ok(Box::new(Self {
            inner: SubCenterArcFace::from_weight(weight, config)?,
            margins: classes.iter().map(|&c| self.margins[c as usize]).collect(),
        }))
    }
}
