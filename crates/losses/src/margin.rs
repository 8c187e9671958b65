//! Softmax heads with a margin: ArcFace and CosFace.

use candle::{DType, Device, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};
use phiz_kernels::safe::normalize_last_dim;

use crate::heads::{
    AdditiveRule, Angular, AngularRule, Batch, Head, PastPi, class_rows, nothing, wide,
};
use crate::ops::{check_embeddings, check_finite, host};

/// How the gradient passes the angular margin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ArcGradient {
    /// The derivative of `cos(theta + m)`, as in the paper. Beyond `theta > pi - m`, where it would no longer fall, the target is
    /// `cos(theta) - m sin(m)`. The default.
    #[default]
    Exact,
    /// The value `cos(theta + m)` for every angle, with the derivative of `cos(theta)`: insightface's form, which its published
    /// recipes need.
    StraightThrough,
}

/// Configuration of [`ArcFace`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArcFaceConfig {
    /// s, multiplies every logit. Default 64.
    pub scale: f64,
    /// m in radians, from 0 to below pi. Default 0.5.
    pub margin: f64,
    /// Default [`ArcGradient::Exact`].
    pub gradient: ArcGradient,
    /// What the exact form does beyond `theta > pi - m`; the straight-through form has no such branch. Default [`PastPi::Monotone`].
    pub past_pi: PastPi,
}

impl Default for ArcFaceConfig {
    fn default() -> Self {
        Self {
            scale: 64.0,
            margin: 0.5,
            gradient: ArcGradient::Exact,
            past_pi: PastPi::Monotone,
        }
    }
}

/// Configuration of [`CosFace`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CosFaceConfig {
    /// s, multiplies every logit. Default 64.
    pub scale: f64,
    /// m, taken off the target's cosine. Default 0.35.
    pub margin: f64,
}

impl Default for CosFaceConfig {
    fn default() -> Self {
        Self {
            scale: 64.0,
            margin: 0.35,
        }
    }
}

/// `s cos(theta_y + m)` for the target class, `s cos(theta_j)` for the others (Deng, Guo, Xue, Zafeiriou, CVPR 2019).
///
/// The exact form takes its sine from the cosine, which below an angle of about 1e-3 (f32; 1e-7 in f64) leaves nothing but
/// rounding: there the sine's share of the gradient is 0. The straight-through form has no such region.
///
/// # Shapes
/// `cosine` (B, C) in f32 or f64, `labels` (B) u32; result: logits (B, C) for a softmax cross-entropy.
///
/// # Errors
/// When the shapes disagree, a label is not below C, the scale is not above 0, or the margin is not in `[0, pi)`.
pub fn arc_face_logits(cosine: &Tensor, labels: &Tensor, config: ArcFaceConfig) -> Result<Tensor> {
    let ArcFaceConfig {
        scale,
        margin,
        gradient,
        past_pi,
    } = config;
    check_scale(scale)?;
    crate::heads::check_angle("the margin of ArcFace", margin)?;
    with_target(cosine, labels, scale, |c| {
        // Rounding can bring a cosine past 1. The value is clamped; the gradient passes, as it does through PyTorch's clamp.
        let c = (c + (c.detach().clamp(-1.0, 1.0)? - c.detach())?.detach())?;
        match gradient {
            ArcGradient::Exact => exact(&c, margin, past_pi),
            ArcGradient::StraightThrough => {
                let d = c.detach();
                let sine = d.sqr()?.affine(-1.0, 1.0)?.relu()?.sqrt()?;
                let shifted = ((&d * margin.cos())? - (sine * margin.sin())?)?;
                c + (shifted - d)?.detach()
            }
        }
    })
}

/// `cos(theta + m)` as `c cos m - sqrt(1 - c^2) sin m`, and its continuation beyond `pi - m`.
fn exact(c: &Tensor, margin: f64, past_pi: PastPi) -> Result<Tensor> {
    // The derivative of the root is -c / sqrt(1 - c^2), unbounded towards |c| = 1. There the chain to the embedding brings the
    // factor sqrt(1 - c^2) back, so it is only where 1 - c^2 is rounding noise that the derivative must be cut (to 0).
    let noise = if c.dtype() == DType::F64 { 1e-14 } else { 1e-6 };
    let square = c.sqr()?.affine(-1.0, 1.0)?;
    let safe = square.gt(noise)?;
    let root = safe.where_cond(&square, &square.ones_like()?)?.sqrt()?;
    let sine = safe.where_cond(&root, &square.detach().relu()?.sqrt()?.detach())?;
    let shifted = ((c * margin.cos())? - (sine * margin.sin())?)?;
    match past_pi {
        PastPi::Monotone => {
            let beyond = (c - margin * margin.sin())?;
            c.gt((std::f64::consts::PI - margin).cos())?
                .where_cond(&shifted, &beyond)
        }
        PastPi::Easy => c.gt(0.0)?.where_cond(&shifted, c),
    }
}

/// `s (cos(theta_y) - m)` for the target class, `s cos(theta_j)` for the others (Wang et al., CVPR 2018).
///
/// # Shapes
/// `cosine` (B, C) in f32 or f64, `labels` (B) u32; result: logits (B, C) for a softmax cross-entropy.
///
/// # Errors
/// When the shapes disagree, a label is not below C, the scale is not above 0, or the margin is not finite.
pub fn cos_face_logits(cosine: &Tensor, labels: &Tensor, config: CosFaceConfig) -> Result<Tensor> {
    check_scale(config.scale)?;
    check_finite("the margin of CosFace", config.margin)?;
    with_target(cosine, labels, config.scale, |c| c - config.margin)
}

fn check_scale(scale: f64) -> Result<()> {
    check_finite("the scale of a margin head", scale)?;
    if scale <= 0.0 {
        bail!("the scale of a margin head must be above 0, got {scale}");
    }
    Ok(())
}

/// Replaces the target's cosine of each row by `margin` of it and scales everything.
fn with_target(
    cosine: &Tensor,
    labels: &Tensor,
    scale: f64,
    margin: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let (batch, classes) = check_embeddings(cosine)?;
    if labels.dims() != [batch] || labels.dtype() != DType::U32 {
        bail!(
            "labels must be ({batch}) u32, got {:?} {:?}",
            labels.dims(),
            labels.dtype()
        );
    }
    let labels = labels.to_device(&Device::Cpu)?.to_vec1::<u32>()?;
    let mut positions = Vec::with_capacity(batch);
    for (i, &label) in labels.iter().enumerate() {
        if label as usize >= classes {
            bail!("label {label} of item {i} is not below the {classes} classes of the head");
        }
        positions.push((i * classes + label as usize) as i64);
    }
    if batch == 0 {
        return cosine * scale;
    }
    let positions = Tensor::from_vec(positions, batch, &Device::Cpu)?.to_device(cosine.device())?;
    let flat = cosine.contiguous()?.flatten_all()?;
    let target = flat.index_select(&positions, 0)?;
    let change = (margin(&target)? - &target)?;
    flat.index_add(&positions, &change, 0)?
        .reshape((batch, classes))?
        * scale
}

/// The class weights of a margin head, compared by cosine.
#[derive(Debug, Clone)]
struct Prototypes(Tensor);

impl Prototypes {
    fn new(dim: usize, classes: usize, vb: &VarBuilder) -> Result<Self> {
        let init = Init::Randn {
            mean: 0.0,
            stdev: 0.01,
        };
        Ok(Self(vb.get_with_hints((classes, dim), "weight", init)?))
    }

    fn cosine(&self, embeddings: &Tensor) -> Result<Tensor> {
        let (_, dim) = check_embeddings(embeddings)?;
        let (classes, own) = self.0.dims2()?;
        if dim != own {
            bail!("embeddings are (B, {dim}) but the head's weight is ({classes}, {own})");
        }
        normalize_last_dim(embeddings)?.matmul(&normalize_last_dim(&self.0)?.t()?)
    }
}

/// ArcFace head: cosine to one weight for each class, with an additive angular margin on the target.
///
/// Parameter `weight` (classes, dim), drawn from N(0, 0.01).
#[derive(Debug, Clone)]
pub struct ArcFace {
    weight: Prototypes,
    config: ArcFaceConfig,
}

/// CosFace head: cosine to one weight for each class, less a margin on the target.
///
/// Parameter `weight` (classes, dim), drawn from N(0, 0.01).
#[derive(Debug, Clone)]
pub struct CosFace {
    weight: Prototypes,
    config: CosFaceConfig,
}

macro_rules! head {
    ($name:ident, $config:ident, $logits:ident, $op:literal, $check:ident, $rule:expr) => {
        impl $name {
            /// Takes the class weights out of `vb`, or creates them there.
            ///
            /// # Errors
            /// When `vb` holds a weight of another shape.
            pub fn new(
                dim: usize,
                classes: usize,
                config: $config,
                vb: VarBuilder,
            ) -> Result<Self> {
                Ok(Self {
                    weight: Prototypes::new(dim, classes, &vb)?,
                    config,
                })
            }

            /// Builds the head from given class weights (classes, dim).
            ///
            /// # Errors
            /// When the weight is no matrix.
            pub fn from_weight(weight: Tensor, config: $config) -> Result<Self> {
                check_embeddings(&weight)?;
                Ok(Self {
                    weight: Prototypes(weight),
                    config,
                })
            }

            /// The class weights (classes, dim), of any length.
            pub fn weight(&self) -> &Tensor {
                &self.weight.0
            }

            /// Logits with the margin on each item's own class, for a softmax cross-entropy in training.
            ///
            /// # Shapes
            /// `embeddings` (B, D) in f32 or f64, `labels` (B) u32; result: (B, classes).
            ///
            /// # Errors
            /// When the shapes disagree, a label is not below the number of classes, or the configuration makes no sense.
            pub fn forward(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
                $logits(&self.cosine(embeddings)?, labels, self.config)
            }

            /// Cosine to each class (B, classes), without margin or scale: what to classify with.
            ///
            /// # Errors
            /// When the shapes disagree.
            pub fn cosine(&self, embeddings: &Tensor) -> Result<Tensor> {
                self.weight.cosine(embeddings)
            }
        }

        impl Head for $name {
            fn weight(&self) -> &Tensor {
                &self.weight.0
            }

            fn classes(&self) -> usize {
                self.weight.0.dims().first().copied().unwrap_or(0)
            }

            fn weighted_loss(
                &self,
                embeddings: &Tensor,
                labels: &Tensor,
                weights: Option<&[f64]>,
            ) -> Result<Tensor> {
                $check(&self.config)?;
                let weight = &self.weight.0;
                match Batch::new($op, embeddings, weight, self.classes(), labels, weights)? {
                    Some(batch) => batch.softmax($op, $rule(self.config), None),
                    None => nothing(embeddings, weight),
                }
            }

            fn scores(&self, embeddings: &Tensor) -> Result<Tensor> {
                phiz_kernels::pairwise::cosine(&wide(embeddings)?, &wide(&self.weight.0)?)
            }

            fn select(&self, classes: &[u32]) -> Result<Box<dyn Head>> {
                let weight = class_rows(&self.weight.0, self.classes(), 1, classes)?;
                Ok(Box::new(Self::from_weight(weight, self.config)?))
            }
        }
    };
}

fn check_arc(config: &ArcFaceConfig) -> Result<()> {
    check_scale(config.scale)?;
    crate::heads::check_angle("the margin of ArcFace", config.margin)
}

fn check_cos(config: &CosFaceConfig) -> Result<()> {
    check_scale(config.scale)?;
    check_finite("the margin of CosFace", config.margin)
}

head!(
    ArcFace,
    ArcFaceConfig,
    arc_face_logits,
    "arcface",
    check_arc,
    |c: ArcFaceConfig| {
        let angular = Angular {
            margin: c.margin,
            gradient: c.gradient,
            past_pi: c.past_pi,
        };
        AngularRule {
            scale: c.scale,
            angular,
            margins: None,
        }
    }
);
head!(
    CosFace,
    CosFaceConfig,
    cos_face_logits,
    "cosface",
    check_cos,
    |c: CosFaceConfig| AdditiveRule {
        scale: c.scale,
        margin: c.margin,
        margins: None,
    }
);

/// The mean angle in radians of each embedding to its own class: the figure to log beside a margin head's loss.
///
/// # Shapes
/// `cosine` (B, C), `labels` B.
///
/// # Errors
/// When the counts disagree or a label is not below C.
pub fn mean_target_angle(cosine: &Tensor, labels: &[u32]) -> Result<f64> {
    let (batch, classes) = check_embeddings(cosine)?;
    if labels.len() != batch || labels.iter().any(|&l| l as usize >= classes) {
        bail!(
            "{} labels for cosines of {batch} items to {classes} classes, or one out of range",
            labels.len()
        );
    }
    let values = host(cosine)?;
    let angle = |(i, &l): (usize, &u32)| values[i * classes + l as usize].clamp(-1.0, 1.0).acos();
    Ok(crate::report::mean(labels.iter().enumerate().map(angle)))
}
