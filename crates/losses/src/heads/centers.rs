//! Several vectors for each class: SubCenterArcFace takes the nearest, SoftTriple a soft maximum.

use candle::{Result, Tensor, bail};
use candle_nn::Init;
use phiz_kernels::Real;
use phiz_kernels::row_loss::{RowLoss, RowValue, cosine_row_loss};

use super::softmax::{CrossEntropy, cross_entropy_row, noise};
use super::{Angular, Batch, Head, HeadConfig, check_angle, check_positive, head, read_labels};
use crate::margin::ArcGradient;
use crate::ops::{check_finite, host};

/// Configuration of [`SubCenterArcFace`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubCenterArcFaceConfig {
    /// s. Default 64.
    pub scale: f64,
    /// m in radians. Default 28.6 degrees, 0.4992.
    pub margin: f64,
    /// K, vectors for each class. Default 3.
    pub centers: usize,
    /// Default [`ArcGradient::Exact`].
    pub gradient: ArcGradient,
}

impl Default for SubCenterArcFaceConfig {
    fn default() -> Self {
        Self {
            scale: 64.0,
            margin: 28.6f64.to_radians(),
            centers: 3,
            gradient: ArcGradient::Exact,
        }
    }
}

impl HeadConfig for SubCenterArcFaceConfig {
    const OP: &'static str = "subcenter-arcface";

    fn centers(&self) -> usize {
        self.centers.max(1)
    }

    fn check(&self) -> Result<()> {
        check_positive("the scale of SubCenterArcFace", self.scale)?;
        check_angle("the margin of SubCenterArcFace", self.margin)?;
        if self.centers == 0 {
            bail!("SubCenterArcFace needs at least one vector for each class");
        }
        Ok(())
    }
}

head! {
    /// Sub-center ArcFace (Deng, Guo, Liu, Gong, Zafeiriou, ECCV 2020): ArcFace over the nearest of K vectors of each class; mislabelled
    /// items gather at the others.
    ///
    /// `c_j = max_k c_jk`, then as ArcFace; the gradient goes to the nearest vector, the first of equal ones.
    ///
    /// Parameter `weight` (classes K, dim), class by class, drawn from N(0, 0.01). Time O(B C K D).
    SubCenterArcFace, SubCenterArcFaceConfig, ()
}

struct SubCenterRows {
    labels: Vec<u32>,
    config: SubCenterArcFaceConfig,
    /// If given, the margin of each row.
    margins: Option<Vec<f64>>,
}

/// The first largest of a few values.
#[inline(always)]
fn nearest<T: Real>(x: &[T]) -> (usize, T) {
    let mut best = (0, T::NEG_INFINITY);
    for (k, &v) in x.iter().enumerate() {
        if v > best.1 {
            best = (k, v);
        }
    }
    best
}

impl RowLoss for SubCenterRows {
    #[inline(always)]
    fn row<T: Real>(&self, i: usize, _: f64, x: &mut [T], scratch: &mut [T]) -> RowValue {
        let SubCenterArcFaceConfig {
            scale,
            margin,
            centers,
            gradient,
        } = self.config;
        let label = self.labels[i] as usize;
        let best = &mut scratch[..x.len() / centers];
        for (b, group) in best.iter_mut().zip(x.chunks_exact(centers)) {
            *b = nearest(group).1;
        }
        let margin = self.margins.as_ref().map_or(margin, |m| m[i]);
        let angular = Angular {
            gradient,
            ..Angular::exact(margin)
        };
        let (own, cosine) = nearest(&x[label * centers..(label + 1) * centers]);
        let target = angular.target(cosine.to_f64(), noise::<T>());
        let CrossEntropy { loss, miss } = cross_entropy_row(best, label, scale, target.value);
        let s = T::from_f64(scale);
        for (&p, group) in best.iter().zip(x.chunks_exact_mut(centers)) {
            let (k, _) = nearest(group);
            group.fill(T::ZERO);
            group[k] = s * p;
        }
        x[label * centers + own] = T::from_f64(-scale * miss * target.slope);
        RowValue {
            loss,
            parameter: 0.0,
        }
    }
}

/// What [`SubCenterArcFace::outliers`] finds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubCenterOutliers {
    /// Items farther than the threshold from the dominant vector of their class, ascending.
    pub items: Vec<u32>,
    /// For each class the vector most of its items are nearest to (the first of equal ones); none for a class without items.
    pub dominant: Vec<Option<usize>>,
}

impl SubCenterArcFace {
    /// Items that are probably mislabelled: farther than `threshold` (an angle in radians; the paper takes 75 degrees) from the
    /// dominant vector of their class.
    ///
    /// # Shapes
    /// `embeddings` (N, D), `labels` (N).
    ///
    /// # Errors
    /// When the shapes disagree or a label is not below the number of classes.
    pub fn outliers(
        &self,
        embeddings: &Tensor,
        labels: &Tensor,
        threshold: f64,
    ) -> Result<SubCenterOutliers> {
        let (n, _) = embeddings.dims2()?;
        let labels = read_labels(SubCenterArcFaceConfig::OP, labels, n, self.classes)?;
        let mut found = SubCenterOutliers {
            items: vec![],
            dominant: vec![None; self.classes],
        };
        if n == 0 {
            return Ok(found);
        }
        let k = self.config.centers();
        let cosines = host(&phiz_kernels::pairwise::cosine(
            &embeddings.detach(),
            &self.weight.detach(),
        )?)?;
        let own = |i: usize| {
            let at = (i * self.classes + labels[i] as usize) * k;
            &cosines[at..at + k]
        };
        let mut votes = vec![0usize; self.classes * k];
        for (i, &label) in labels.iter().enumerate() {
            votes[label as usize * k + nearest(own(i)).0] += 1;
        }
        for (dominant, votes) in found.dominant.iter_mut().zip(votes.chunks_exact(k)) {
            let most = votes.iter().copied().max().unwrap_or(0);
            if most > 0 {
                *dominant = votes.iter().position(|&v| v == most);
            }
        }
        let limit = threshold.cos();
        for (i, &label) in labels.iter().enumerate() {
            if let Some(k) = found.dominant[label as usize]
                && own(i)[k] < limit
            {
                found.items.push(i as u32);
            }
        }
        Ok(found)
    }

    /// The loss with a margin of its own for each item.
    pub(crate) fn with_margins(&self, batch: Batch, margins: Option<Vec<f64>>) -> Result<Tensor> {
        let rows = SubCenterRows {
            labels: batch.labels,
            config: self.config,
            margins,
        };
        cosine_row_loss(
            SubCenterArcFaceConfig::OP,
            ("embeddings", &batch.embeddings),
            ("the weight", &batch.weight),
            None,
            batch.weights,
            rows,
        )
    }

    fn run(&self, batch: Batch) -> Result<Tensor> {
        self.with_margins(batch, None)
    }

    fn scores_of(&self, embeddings: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let n = embeddings.dim(0)?;
        let cosines = phiz_kernels::pairwise::cosine(embeddings, weight)?;
        let groups = cosines.reshape((n * self.classes, self.config.centers()))?;
        phiz_kernels::safe::max_last_dim(&groups)?.reshape((n, self.classes))
    }
}

/// Configuration of [`SoftTriple`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoftTripleConfig {
    /// lambda, multiplies every logit. Default 20.
    pub scale: f64,
    /// gamma, the softness of the maximum. Default 0.1.
    pub softness: f64,
    /// delta, taken off the target. Default 0.01.
    pub margin: f64,
    /// K, vectors for each class. Default 10.
    pub centers: usize,
}

impl Default for SoftTripleConfig {
    fn default() -> Self {
        Self {
            scale: 20.0,
            softness: 0.1,
            margin: 0.01,
            centers: 10,
        }
    }
}

impl HeadConfig for SoftTripleConfig {
    const OP: &'static str = "soft-triple";

    fn init(&self, rows: usize) -> Init {
        let bound = 1.0 / (rows.max(1) as f64).sqrt();
        Init::Uniform {
            lo: -bound,
            up: bound,
        }
    }

    fn centers(&self) -> usize {
        self.centers.max(1)
    }

    fn check(&self) -> Result<()> {
        check_positive("the scale of SoftTriple", self.scale)?;
        check_positive("the softness of SoftTriple", self.softness)?;
        check_finite("the margin of SoftTriple", self.margin)?;
        if self.centers == 0 {
            bail!("SoftTriple needs at least one vector for each class");
        }
        Ok(())
    }
}

head! {
    /// SoftTriple (Qian et al., ICCV 2019): a softmax over classes of several vectors each.
    ///
    /// `S_j = sum_k softmax_k(c_jk / gamma) c_jk`; cross-entropy over `lambda (S_j - delta [j = y])`. The paper adds
    /// [`sparse_centers`](crate::sparse_centers) of the weight with factor 0.2.
    ///
    /// Parameter `weight` (classes K, dim), class by class, uniform within `1 / sqrt(classes K)`. Scores are the `S_j`. Time O(B C K D).
    SoftTriple, SoftTripleConfig, ()
}

struct SoftTripleRows {
    labels: Vec<u32>,
    config: SoftTripleConfig,
}

/// `sum_k softmax_k(c_k / gamma) c_k`, and the sum and shift of its exponentials.
#[inline(always)]
fn soft_maximum<T: Real>(c: &[T], inverse: T) -> (T, T, T) {
    let (_, top) = nearest(c);
    let (mut mass, mut total) = (T::ZERO, T::ZERO);
    for &v in c {
        let e = ((v - top) * inverse).fast_exp();
        mass += e;
        total += e * v;
    }
    (total / mass, mass, top)
}

impl RowLoss for SoftTripleRows {
    #[inline(always)]
    fn row<T: Real>(&self, i: usize, _: f64, x: &mut [T], scratch: &mut [T]) -> RowValue {
        let SoftTripleConfig {
            scale,
            softness,
            margin,
            centers,
        } = self.config;
        let label = self.labels[i] as usize;
        let inverse = T::from_f64(1.0 / softness);
        let soft = &mut scratch[..x.len() / centers];
        for (s, group) in soft.iter_mut().zip(x.chunks_exact(centers)) {
            *s = soft_maximum(group, inverse).0;
        }
        let target = soft[label].to_f64() - margin;
        let CrossEntropy { loss, miss } = cross_entropy_row(soft, label, scale, target);
        soft[label] = T::from_f64(-miss);
        let scale = T::from_f64(scale);
        for (&g, group) in soft.iter().zip(x.chunks_exact_mut(centers)) {
            let (s, mass, top) = soft_maximum(group, inverse);
            for c in group {
                let p = ((*c - top) * inverse).fast_exp() / mass;
                *c = scale * g * p * (T::ONE + (*c - s) * inverse);
            }
        }
        RowValue {
            loss,
            parameter: 0.0,
        }
    }
}

impl SoftTriple {
    fn run(&self, batch: Batch) -> Result<Tensor> {
        let rows = SoftTripleRows {
            labels: batch.labels,
            config: self.config,
        };
        cosine_row_loss(
            SoftTripleConfig::OP,
            ("embeddings", &batch.embeddings),
            ("the weight", &batch.weight),
            None,
            batch.weights,
            rows,
        )
    }

    fn scores_of(&self, embeddings: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let n = embeddings.dim(0)?;
        let cosines = phiz_kernels::pairwise::cosine(embeddings, weight)?;
        let groups = cosines.reshape((n * self.classes, self.config.centers()))?;
        let p = phiz_kernels::safe::softmax_last_dim(&(&groups / self.config.softness)?)?;
        (p * groups)?.sum(1)?.reshape((n, self.classes))
    }
}

impl SubCenterArcFace {
    /// The batch as [`Head::weighted_loss`] makes it, for heads built on this one.
    pub(crate) fn batch(
        &self,
        embeddings: &Tensor,
        labels: &Tensor,
        weights: Option<&[f64]>,
    ) -> Result<Option<Batch>> {
        Batch::new(
            SubCenterArcFaceConfig::OP,
            embeddings,
            self.weight(),
            self.classes,
            labels,
            weights,
        )
    }
}
