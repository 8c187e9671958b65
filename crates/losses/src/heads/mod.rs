//! Losses with class weights, proxies or centres: one trait, one fused pass.
//!
//! A head compares each embedding with one or more learned vectors for each class. [`Head::loss`] gives the mean loss of a batch.
//! On the CPU the cosines, the margin, the softmax and all gradients are one custom operation over blocks of rows
//! ([`phiz_kernels::row_loss`]): time O(B C D), no more than 32 MiB of the B x C matrix alive, whatever B and C.
//!
//! ```
//! use candle::{DType, Device, Tensor};
//! use candle_nn::{VarBuilder, VarMap};
//! use phiz_losses::{AdaFace, AdaFaceConfig, Head};
//! # fn main() -> candle::Result<()> {
//! let vars = VarMap::new();
//! let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
//! let head = AdaFace::new(16, 10, AdaFaceConfig::default(), vb)?;
//! let embeddings = Tensor::randn(0f32, 1., (4, 16), &Device::Cpu)?;
//! let labels = Tensor::new(&[0u32, 3, 9, 3], &Device::Cpu)?;
//! let loss = head.loss(&embeddings, &labels)?;
//! let gradients = loss.backward()?;
//! assert!(gradients.get(head.weight()).is_some());
//! # Ok(()) }
//! ```
//!
//! In the formulas `c_j` is the cosine between an embedding `x` and the weight of class `j`, `theta_j` its angle, `y` the label and
//! `s` the scale. A softmax head has the loss `-log(e^(s t) / (e^(s t) + sum_(j != y) e^(s n_j)))` with a target `t` and negatives `n_j`:
//!
//! | head | target `t` | negatives `n_j` | s | from |
//! | --- | --- | --- | --- | --- |
//! | [`NormalizedSoftmax`] | `c_y` | `c_j` | 20 | Zhai and Wu, BMVC 2019 |
//! | [`ProxyNca`] | `c_y` | `c_j` | 2 | Movshovitz-Attias et al., ICCV 2017 |
//! | [`CosFace`] | `c_y - m` | `c_j` | 64 | Wang et al., CVPR 2018 |
//! | [`ArcFace`] | `cos(theta_y + m)` | `c_j` | 64 | Deng et al., CVPR 2019 |
//! | [`CombinedMargin`] | `cos(theta_y + m2) - m3` | `c_j`, or 0 above a threshold | 64 | insightface |
//! | [`SubCenterArcFace`] | as ArcFace, `c_j = max_k c_jk` | `c_j` | 64 | Deng et al., ECCV 2020 |
//! | [`DynamicArcFace`] | as above, `m_y = a n_y^(-lambda) + b` | `c_j` | 64 | Ha et al., 2020 |
//! | [`ElasticFace`] | as ArcFace or CosFace, `m ~ N(m, sd)` | `c_j` | 64 | Boutros et al., CVPRW 2022 |
//! | [`AdaFace`] | `cos(theta_y - m q) - m - m q`, `q` from the norm | `c_j` | 64 | Kim et al., CVPR 2022 |
//! | [`MagFace`] | `cos(theta_y + m(norm))` | `c_j` | 32 | Meng et al., CVPR 2021 |
//! | [`CurricularFace`] | `cos(theta_y + m)` | `c_j (r + c_j)` if hard | 64 | Huang et al., CVPR 2020 |
//! | [`MvSoftmax`] | AM or Arc | `w c_j + w - 1` if hard | 32 | Wang et al., AAAI 2020 |
//! | [`ArcNegativeFace`] | `cos(theta_y + m)` | `t_j c_j + t_j - 1` | 64 | Liu et al., 2019 |
//! | [`CircleHead`] | `[1 + m - c_y]_+ (c_y - 1 + m)` | `[c_j + m]_+ (c_j - m)` | 256 | Sun et al., CVPR 2020 |
//! | [`SphereFace`] | `psi(theta_y)` | `c_j` | norm | Liu et al., CVPR 2017 |
//! | [`LargeMarginSoftmax`] | `psi(theta_y)` | `c_j` | norms | Liu et al., ICML 2016 |
//! | [`SoftTriple`] | `S_y - delta`, `S_j = sum_k softmax_k(c_jk / gamma) c_jk` | `S_j` | 20 | Qian et al., ICCV 2019 |
//!
//! Others: [`SphereFace2`] and [`UniFace`] (one binary decision for each class), [`P2sGrad`] (squared error), [`ProxyAnchor`] (sums over
//! the batch for each proxy), [`CenterLoss`], [`ManifoldLoss`],
//! [`instance_loss`].
//!
//! # Edges
//!
//! An empty batch gives exactly 0 with zero gradients. A zero embedding has cosine 0 to everything, and no gradient
//! ([`LargeMarginSoftmax`], over inner products, has one). A NaN or infinity
//! in an embedding or weight is an error that names the row; a label that is not below the number of classes one that names the
//! item. Cosines are clamped to [-1, 1] with the gradient passed. At `|c| = 1` the derivative of an angular margin is unbounded; where
//! `1 - c^2` is rounding (1e-14 in f64, 1e-6 in f32) the sine's share of it is 0. Beyond `theta > pi - m` every angular head goes on as
//! `c - m sin(m)`, which keeps falling with the angle ([`PastPi::Monotone`]). With one class every softmax head is exactly 0.

mod adaptive_margin;
mod angular;
mod binary;
mod center_loss;
mod centers;
mod dynamic;
mod instance;
mod manifold;
mod mined;
mod named;
mod partial;
mod proxy;
mod softmax;
mod sphere;
mod squared;

use candle::{DType, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};

use crate::ops::zero;

pub use crate::margin::{ArcFace, ArcFaceConfig, CosFace, CosFaceConfig};

pub use adaptive_margin::{
    AdaFace, AdaFaceConfig, ElasticFace, ElasticFaceConfig, ElasticMargin, MagFace, MagFaceConfig,
};
pub(crate) use angular::{AdditiveRule, Angular, AngularRule};
pub use angular::{CombinedMargin, CombinedMarginConfig, PastPi};
pub use binary::{SphereFace2, SphereFace2Config, UniFace, UniFaceConfig};
pub use center_loss::{CenterLoss, CenterLossConfig};
pub use centers::{
    SoftTriple, SoftTripleConfig, SubCenterArcFace, SubCenterArcFaceConfig, SubCenterOutliers,
};
pub use dynamic::{DynamicArcFace, DynamicArcFaceConfig};
pub use instance::{InstanceTarget, instance_loss};
pub use manifold::{ManifoldLoss, ManifoldLossConfig, random_meta_classes};
pub use mined::{
    ArcNegativeFace, ArcNegativeFaceConfig, CircleHead, CircleHeadConfig, CurricularFace,
    CurricularFaceConfig, MvMargin, MvSoftmax, MvSoftmaxConfig,
};
pub use named::{HEAD_NAMES, head_by_name};
pub use partial::{ClassSample, PartialFc, sample_classes};
pub use proxy::{
    NormalizedSoftmax, NormalizedSoftmaxConfig, ProxyAnchor, ProxyAnchorConfig, ProxyNca,
    ProxyNcaConfig,
};
pub(crate) use softmax::{Rule, Softmax, Target, cross_entropy_row};
pub use sphere::{LargeMarginSoftmax, LargeMarginSoftmaxConfig, SphereFace, SphereFaceConfig};
pub use squared::{P2sGrad, P2sGradConfig};

/// A loss that compares embeddings with learned vectors of known classes.
pub trait Head {
    /// The learned vectors, (classes x vectors per class, dim), class by class.
    fn weight(&self) -> &Tensor;

    /// How many classes there are.
    fn classes(&self) -> usize;

    /// The loss of a batch: the mean over its items of `weights[i] * loss_i`, all weights 1 if none are given.
    ///
    /// # Shapes
    /// `embeddings` (B, D) in f32 or f64 (f16 and bf16 are computed in f32), `labels` (B) of an integer type, `weights` B; result:
    /// scalar.
    ///
    /// # Errors
    /// When shapes, dtypes or devices disagree, a label is not below the number of classes (the message names the item), or a row
    /// of the embeddings holds NaN or infinity (the message names the row).
    fn weighted_loss(
        &self,
        embeddings: &Tensor,
        labels: &Tensor,
        weights: Option<&[f64]>,
    ) -> Result<Tensor>;

    /// [`Head::weighted_loss`] with equal weights.
    ///
    /// # Errors
    /// As there.
    fn loss(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        self.weighted_loss(embeddings, labels, None)
    }

    /// What to classify with: one score a class, without margin or scale (cosines, if the head's name does not say otherwise).
    ///
    /// # Shapes
    /// `embeddings` (B, D); result: (B, classes).
    ///
    /// # Errors
    /// When the shapes disagree.
    fn scores(&self, embeddings: &Tensor) -> Result<Tensor>;

    /// The same head over some of its classes, in the given order; their weights are gathered with their gradient, other
    /// parameters and running statistics are shared.
    ///
    /// # Errors
    /// When a class is not below [`Head::classes`].
    fn select(&self, classes: &[u32]) -> Result<Box<dyn Head>>;
}

/// What a configuration tells the common code.
pub(crate) trait HeadConfig {
    /// The head's name in messages.
    const OP: &'static str;
    /// How new weights are drawn, of `rows` vectors.
    fn init(&self, _rows: usize) -> Init {
        Init::Randn {
            mean: 0.0,
            stdev: 0.01,
        }
    }
    /// Vectors for each class.
    fn centers(&self) -> usize {
        1
    }
    /// Fails on values without sense.
    fn check(&self) -> Result<()>;
}

/// What a head keeps beside its weights: running statistics, or further parameters.
pub(crate) trait State<C>: Sized {
    fn create(classes: usize, config: &C, vb: &VarBuilder) -> Result<Self>;
}

impl<C> State<C> for () {
    fn create(_: usize, _: &C, _: &VarBuilder) -> Result<Self> {
        Ok(())
    }
}

/// A checked batch: everything of one float type, labels on the host.
pub(crate) struct Batch {
    pub embeddings: Tensor,
    pub weight: Tensor,
    pub labels: Vec<u32>,
    /// Weight of each item, the mean's 1 / B included.
    pub weights: Vec<f64>,
}

impl Batch {
    /// `None` for an empty batch, whose loss is [`nothing`].
    pub(crate) fn new(
        op: &str,
        embeddings: &Tensor,
        weight: &Tensor,
        classes: usize,
        labels: &Tensor,
        weights: Option<&[f64]>,
    ) -> Result<Option<Self>> {
        let (embeddings, weight) = (wide(embeddings)?, wide(weight)?);
        let (batch, dim) = embeddings.dims2().map_err(|_| {
            candle::Error::Msg(format!(
                "{op}: embeddings must be (B, D), got {:?}",
                embeddings.dims()
            ))
        })?;
        let own = weight.dim(1)?;
        if dim != own {
            bail!(
                "{op}: embeddings are (B, {dim}) but the weight is {:?}",
                weight.dims()
            );
        }
        let labels = read_labels(op, labels, batch, classes)?;
        if let Some(w) = weights
            && (w.len() != batch || w.iter().any(|w| !w.is_finite()))
        {
            bail!(
                "{op}: {} weights for {batch} items, or one that is not finite",
                w.len()
            );
        }
        if batch == 0 {
            return Ok(None);
        }
        let share = 1.0 / batch as f64;
        let weights = match weights {
            None => vec![share; batch],
            Some(w) => w.iter().map(|w| w * share).collect(),
        };
        Ok(Some(Self {
            embeddings,
            weight,
            labels,
            weights,
        }))
    }

    /// The fused loss of a softmax rule.
    pub(crate) fn softmax<R: Rule>(
        self,
        op: &'static str,
        rule: R,
        parameters: Option<&Tensor>,
    ) -> Result<Tensor> {
        let rows = Softmax {
            labels: self.labels,
            rule,
        };
        phiz_kernels::row_loss::cosine_row_loss(
            op,
            ("embeddings", &self.embeddings),
            ("the weight", &self.weight),
            parameters,
            self.weights,
            rows,
        )
    }

    /// The cosine of each item to its own class, on the host, without gradient.
    pub(crate) fn target_cosines(&self) -> Result<Vec<f64>> {
        use phiz_kernels::safe::normalize_last_dim;
        let own = crate::ops::indices(self.labels.clone(), &self.embeddings)?;
        let own = self.weight.detach().index_select(&own, 0)?;
        let x = normalize_last_dim(&self.embeddings.detach().contiguous()?)?;
        crate::ops::host(&(x * normalize_last_dim(&own)?)?.sum(1)?)
    }
}

/// Half precision is computed in f32.
pub(crate) fn wide(x: &Tensor) -> Result<Tensor> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.to_dtype(DType::F32),
        _ => Ok(x.clone()),
    }
}

/// The loss of an empty batch.
pub(crate) fn nothing(embeddings: &Tensor, weight: &Tensor) -> Result<Tensor> {
    zero(&[&wide(embeddings)?, &wide(weight)?])
}

/// Labels on the host, each below `classes`.
pub(crate) fn read_labels(
    op: &str,
    labels: &Tensor,
    batch: usize,
    classes: usize,
) -> Result<Vec<u32>> {
    if labels.dims() != [batch] || !labels.dtype().is_int() {
        bail!(
            "{op}: labels must be ({batch}) of an integer type, got {:?} {:?}",
            labels.dims(),
            labels.dtype()
        );
    }
    let labels = labels
        .to_device(&candle::Device::Cpu)?
        .to_dtype(DType::I64)?
        .to_vec1::<i64>()?;
    let mut checked = Vec::with_capacity(batch);
    for (i, label) in labels.into_iter().enumerate() {
        match u32::try_from(label) {
            Ok(l) if (l as usize) < classes => checked.push(l),
            _ => bail!(
                "{op}: label {label} of item {i} is not below the {classes} classes of the head"
            ),
        }
    }
    Ok(checked)
}

/// Fails unless a configuration value is finite and above 0.
pub(crate) fn check_positive(name: &str, value: f64) -> Result<()> {
    if !(value.is_finite() && value > 0.0) {
        bail!("{name} must be above 0, got {value}");
    }
    Ok(())
}

/// Fails unless an angular margin lies in `[0, pi)`.
pub(crate) fn check_angle(name: &str, value: f64) -> Result<()> {
    if !(0.0..std::f64::consts::PI).contains(&value) {
        bail!("{name} is an angle in radians from 0 to below pi, got {value}");
    }
    Ok(())
}

/// The rows of `weight` that belong to `chosen` classes of `centers` vectors each.
pub(crate) fn class_rows(
    weight: &Tensor,
    classes: usize,
    centers: usize,
    chosen: &[u32],
) -> Result<Tensor> {
    let mut rows = Vec::with_capacity(chosen.len() * centers);
    for &c in chosen {
        if c as usize >= classes {
            bail!("class {c} is not below the {classes} classes of the head");
        }
        rows.extend((0..centers as u32).map(|k| c * centers as u32 + k));
    }
    weight.index_select(&crate::ops::indices(rows, weight)?, 0)
}

/// Declares a head: a weight, a configuration, a state; what differs is `run` and `scores_of`.
macro_rules! head {
    ($(#[$doc:meta])* $name:ident, $config:ident, $state:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name {
            weight: candle::Tensor,
            classes: usize,
            config: $config,
            #[allow(dead_code, reason = "most heads keep nothing")]
            state: $state,
        }

        impl $name {
            /// Takes the parameters out of `vb`, or creates them there.
            ///
            /// # Errors
            /// When the configuration makes no sense, or `vb` holds a parameter of another shape.
            pub fn new(
                dim: usize,
                classes: usize,
                config: $config,
                vb: candle_nn::VarBuilder,
            ) -> candle::Result<Self> {
                use $crate::heads::{HeadConfig, State};
                config.check()?;
                let rows = classes * config.centers();
                let weight = vb.get_with_hints((rows, dim), "weight", config.init(rows))?;
                let state = <$state>::create(classes, &config, &vb)?;
                Ok(Self { weight, classes, config, state })
            }

            /// Builds the head from given vectors, class by class; everything else starts anew.
            ///
            /// # Errors
            /// When the configuration makes no sense, or the weight is no matrix of whole classes.
            pub fn from_weight(weight: candle::Tensor, config: $config) -> candle::Result<Self> {
                use $crate::heads::{HeadConfig, State};
                config.check()?;
                let (rows, _) = weight.dims2()?;
                if rows == 0 || rows % config.centers() != 0 {
                    candle::bail!(
                        "{}: {rows} weights are not whole classes of {}",
                        $config::OP,
                        config.centers()
                    );
                }
                let classes = rows / config.centers();
                let vars = candle_nn::VarMap::new();
                let dtype = $crate::heads::wide(&weight.narrow(0, 0, 1)?)?.dtype();
                let vb = candle_nn::VarBuilder::from_varmap(&vars, dtype, weight.device());
                let state = <$state>::create(classes, &config, &vb)?;
                Ok(Self { weight, classes, config, state })
            }

            /// The configuration.
            pub fn config(&self) -> &$config {
                &self.config
            }
        }

        impl $crate::heads::Head for $name {
            fn weight(&self) -> &candle::Tensor {
                &self.weight
            }

            fn classes(&self) -> usize {
                self.classes
            }

            fn weighted_loss(
                &self,
                embeddings: &candle::Tensor,
                labels: &candle::Tensor,
                weights: Option<&[f64]>,
            ) -> candle::Result<candle::Tensor> {
                use $crate::heads::HeadConfig;
                let batch = $crate::heads::Batch::new(
                    $config::OP,
                    embeddings,
                    &self.weight,
                    self.classes,
                    labels,
                    weights,
                )?;
                match batch {
                    Some(batch) => self.run(batch),
                    None => $crate::heads::nothing(embeddings, &self.weight),
                }
            }

            fn scores(&self, embeddings: &candle::Tensor) -> candle::Result<candle::Tensor> {
                let (x, w) = ($crate::heads::wide(embeddings)?, $crate::heads::wide(&self.weight)?);
                self.scores_of(&x, &w)
            }

            fn select(&self, classes: &[u32]) -> candle::Result<Box<dyn $crate::heads::Head>> {
                use $crate::heads::{HeadConfig, class_rows};
                Ok(Box::new(Self {
                    weight: class_rows(&self.weight, self.classes, self.config.centers(), classes)?,
                    classes: classes.len(),
                    ..self.clone()
                }))
            }
        }
    };
}
pub(crate) use head;

/// Declares `scores_of` as the cosines.
macro_rules! cosine_scores {
    ($name:ident) => {
        impl $name {
            fn scores_of(
                &self,
                embeddings: &candle::Tensor,
                weight: &candle::Tensor,
            ) -> candle::Result<candle::Tensor> {
                phiz_kernels::pairwise::cosine(embeddings, weight)
            }
        }
    };
}
pub(crate) use cosine_scores;
