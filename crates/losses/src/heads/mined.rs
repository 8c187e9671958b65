//! Softmax heads that weigh their negatives: CurricularFace, MV-Softmax, ArcNegFace, the circle loss over classes.

use candle::{Result, Tensor, Var, bail};
use candle_nn::{Init, VarBuilder};
use phiz_kernels::Real;

use super::{
    Angular, Batch, HeadConfig, Rule, State, Target, check_angle, check_positive, cosine_scores,
    head,
};
use crate::ops::{check_finite, host};

/// `cos(theta + m)` for every angle.
#[inline(always)]
fn shifted(cosine: f64, margin: f64) -> f64 {
    cosine * margin.cos() - (1.0 - cosine * cosine).max(0.0).sqrt() * margin.sin()
}

/// Configuration of [`CurricularFace`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurricularFaceConfig {
    /// s. Default 64.
    pub scale: f64,
    /// m in radians. Default 0.5.
    pub margin: f64,
    /// Weight of the newest batch in the running mean of the target's cosine. Default 0.01.
    pub momentum: f64,
}

impl Default for CurricularFaceConfig {
    fn default() -> Self {
        Self {
            scale: 64.0,
            margin: 0.5,
            momentum: 0.01,
        }
    }
}

impl HeadConfig for CurricularFaceConfig {
    const OP: &'static str = "curricularface";

    fn check(&self) -> Result<()> {
        check_positive("the scale of CurricularFace", self.scale)?;
        check_angle("the margin of CurricularFace", self.margin)?;
        if !(0.0..=1.0).contains(&self.momentum) {
            bail!(
                "the momentum of CurricularFace must lie in [0, 1], got {}",
                self.momentum
            );
        }
        Ok(())
    }
}

/// The running mean of the target's cosine.
#[derive(Debug, Clone)]
struct Progress(Var);

impl State<CurricularFaceConfig> for Progress {
    fn create(_: usize, _: &CurricularFaceConfig, vb: &VarBuilder) -> Result<Self> {
        let mean = vb.get_with_hints(1, "running_target", Init::Const(0.0))?;
        Ok(Self(Var::from_tensor(&mean)?))
    }
}

head! {
    /// CurricularFace (Huang et al., CVPR 2020): easy negatives first, hard ones more and more.
    ///
    /// The target is that of ArcFace. A negative is hard if `c_j > cos(theta_y + m)`; it becomes `c_j (r + c_j)`, where `r` is the running mean
    /// of the target's cosine, brought up to date with the batch first, without gradient.
    ///
    /// Parameters `weight` (classes, dim), drawn from N(0, 0.01), and the buffer `running_target` (1), 0 at the start. Each call of
    /// [`Head::loss`](crate::Head::loss) moves it. Time O(B C D).
    CurricularFace, CurricularFaceConfig, Progress
}
cosine_scores!(CurricularFace);

struct CurricularRule {
    config: CurricularFaceConfig,
    progress: f64,
}

impl Rule for CurricularRule {
    #[inline(always)]
    fn scale(&self) -> f64 {
        self.config.scale
    }

    #[inline(always)]
    fn target(&self, _: usize, cosine: f64, noise: f64, _: f64) -> Target {
        Angular::exact(self.config.margin).target(cosine, noise)
    }

    #[inline(always)]
    fn negatives<T: Real>(
        &self,
        cosine: f64,
        _: &Target,
        cosines: &mut [T],
        slopes: &mut [T],
    ) -> bool {
        let limit = T::from_f64(shifted(cosine, self.config.margin));
        let r = T::from_f64(self.progress);
        for (c, slope) in cosines.iter_mut().zip(slopes) {
            let x = *c;
            let hard = x > limit;
            *slope = if hard { r + x + x } else { T::ONE };
            *c = if hard { x * (r + x) } else { x };
        }
        true
    }
}

impl CurricularFace {
    /// The running mean of the target's cosine, (1).
    pub fn progress(&self) -> &Tensor {
        self.state.0.as_tensor()
    }

    fn run(&self, batch: Batch) -> Result<Tensor> {
        let cosines = batch.target_cosines()?;
        let mean = cosines.iter().map(|c| c.clamp(-1.0, 1.0)).sum::<f64>() / cosines.len() as f64;
        let Progress(var) = &self.state;
        let old = host(var)?.first().copied().unwrap_or(0.0);
        let momentum = self.config.momentum;
        let progress = momentum * mean + (1.0 - momentum) * old;
        let rule = CurricularRule {
            config: self.config,
            progress,
        };
        // A NaN fails in the fused pass, before the running mean is touched.
        let loss = batch.softmax(CurricularFaceConfig::OP, rule, None)?;
        let new = Tensor::full(progress, 1, &candle::Device::Cpu)?;
        var.set(&new.to_dtype(var.dtype())?.to_device(var.device())?)?;
        Ok(loss)
    }
}

/// The target's margin in [`MvSoftmax`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MvMargin {
    /// `c_y - m` where `c_y > m`, else `c_y`. The default.
    #[default]
    Additive,
    /// `cos(theta_y + m)` where `c_y > 0`, else `c_y`.
    Angular,
}

/// Configuration of [`MvSoftmax`]; the defaults are those of FaceX-Zoo.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MvSoftmaxConfig {
    /// s. Default 32.
    pub scale: f64,
    /// m. Default 0.35.
    pub margin: f64,
    /// w, how much a hard negative is emphasised: 1 is not at all. Default 1.12.
    pub emphasis: f64,
    /// Default [`MvMargin::Additive`].
    pub kind: MvMargin,
}

impl Default for MvSoftmaxConfig {
    fn default() -> Self {
        Self {
            scale: 32.0,
            margin: 0.35,
            emphasis: 1.12,
            kind: MvMargin::Additive,
        }
    }
}

impl HeadConfig for MvSoftmaxConfig {
    const OP: &'static str = "mv-softmax";

    fn check(&self) -> Result<()> {
        check_positive("the scale of MV-Softmax", self.scale)?;
        check_finite("the emphasis of MV-Softmax", self.emphasis)?;
        match self.kind {
            MvMargin::Additive => check_finite("the margin of MV-Softmax", self.margin),
            MvMargin::Angular => check_angle("the margin of MV-Softmax", self.margin),
        }
    }
}

head! {
    /// MV-Softmax (Wang et al., AAAI 2020): negatives that are misclassified count for more.
    ///
    /// A negative is hard if it exceeds the target after its margin, `c_j > c_y - m` or `c_j > cos(theta_y + m)`; it becomes `w c_j + w - 1`.
    ///
    /// Parameter `weight` (classes, dim), drawn from N(0, 0.01). Time O(B C D).
    MvSoftmax, MvSoftmaxConfig, ()
}
cosine_scores!(MvSoftmax);

struct MvRule(MvSoftmaxConfig);

impl Rule for MvRule {
    #[inline(always)]
    fn scale(&self) -> f64 {
        self.0.scale
    }

    #[inline(always)]
    fn target(&self, _: usize, cosine: f64, noise: f64, _: f64) -> Target {
        let m = self.0.margin;
        match self.0.kind {
            MvMargin::Additive if cosine > m => Target::new(cosine - m, 1.0),
            MvMargin::Angular if cosine > 0.0 => {
                // Below a right angle the sum of angle and margin may still pass pi only for margins beyond pi / 2, where the
                // formula is followed as it stands.
                let square = 1.0 - cosine * cosine;
                let bent = if square > noise {
                    cosine * m.sin() / square.sqrt()
                } else {
                    0.0
                };
                Target::new(shifted(cosine, m), m.cos() + bent)
            }
            _ => Target::new(cosine, 1.0),
        }
    }

    #[inline(always)]
    fn negatives<T: Real>(
        &self,
        cosine: f64,
        _: &Target,
        cosines: &mut [T],
        slopes: &mut [T],
    ) -> bool {
        let limit = T::from_f64(match self.0.kind {
            MvMargin::Additive => cosine - self.0.margin,
            MvMargin::Angular => shifted(cosine, self.0.margin),
        });
        let w = T::from_f64(self.0.emphasis);
        for (c, slope) in cosines.iter_mut().zip(slopes) {
            let hard = *c > limit;
            *slope = if hard { w } else { T::ONE };
            *c = if hard { w * *c + (w - T::ONE) } else { *c };
        }
        true
    }
}

impl MvSoftmax {
    fn run(&self, batch: Batch) -> Result<Tensor> {
        batch.softmax(MvSoftmaxConfig::OP, MvRule(self.config), None)
    }
}

/// Configuration of [`ArcNegativeFace`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArcNegativeFaceConfig {
    /// s. Default 64.
    pub scale: f64,
    /// m in radians. Default 0.5.
    pub margin: f64,
    /// alpha, the weight of a negative at the target's place. Default 1.2.
    pub height: f64,
    /// sigma, the width of the weight in squared cosine. Default 2.
    pub width: f64,
}

impl Default for ArcNegativeFaceConfig {
    fn default() -> Self {
        Self {
            scale: 64.0,
            margin: 0.5,
            height: 1.2,
            width: 2.0,
        }
    }
}

impl HeadConfig for ArcNegativeFaceConfig {
    const OP: &'static str = "arc-negative-face";

    fn check(&self) -> Result<()> {
        check_positive("the scale of ArcNegFace", self.scale)?;
        check_angle("the margin of ArcNegFace", self.margin)?;
        check_finite("the height of ArcNegFace", self.height)?;
        check_positive("the width of ArcNegFace", self.width)
    }
}

head! {
    /// ArcNegFace (Liu et al., "Towards flops-constrained face recognition", ICCVW 2019): negatives near the target count for more.
    ///
    /// The target `a` is that of ArcFace. A negative becomes `t_j c_j + t_j - 1` with `t_j = alpha exp(-(c_j - a)^2 / sigma)`, a constant for the gradient.
    ///
    /// Parameter `weight` (classes, dim), drawn from N(0, 0.01). Time O(B C D).
    ArcNegativeFace, ArcNegativeFaceConfig, ()
}
cosine_scores!(ArcNegativeFace);

struct ArcNegativeRule(ArcNegativeFaceConfig);

impl Rule for ArcNegativeRule {
    #[inline(always)]
    fn scale(&self) -> f64 {
        self.0.scale
    }

    #[inline(always)]
    fn target(&self, _: usize, cosine: f64, noise: f64, _: f64) -> Target {
        Angular::exact(self.0.margin).target(cosine, noise)
    }

    #[inline(always)]
    fn negatives<T: Real>(
        &self,
        _: f64,
        target: &Target,
        cosines: &mut [T],
        slopes: &mut [T],
    ) -> bool {
        let (a, height) = (T::from_f64(target.value), T::from_f64(self.0.height));
        let factor = T::from_f64(-1.0 / self.0.width);
        for (c, slope) in cosines.iter_mut().zip(slopes) {
            let gap = *c - a;
            let t = height * (gap * gap * factor).fast_exp();
            *slope = t;
            *c = t * *c + (t - T::ONE);
        }
        true
    }
}

impl ArcNegativeFace {
    fn run(&self, batch: Batch) -> Result<Tensor> {
        batch.softmax(
            ArcNegativeFaceConfig::OP,
            ArcNegativeRule(self.config),
            None,
        )
    }
}

/// Configuration of [`CircleHead`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CircleHeadConfig {
    /// gamma. Default 256.
    pub scale: f64,
    /// m. Default 0.25.
    pub margin: f64,
}

impl Default for CircleHeadConfig {
    fn default() -> Self {
        Self {
            scale: 256.0,
            margin: 0.25,
        }
    }
}

impl HeadConfig for CircleHeadConfig {
    const OP: &'static str = "circle-head";

    fn check(&self) -> Result<()> {
        check_positive("the scale of the circle head", self.scale)?;
        check_finite("the margin of the circle head", self.margin)
    }
}

head! {
    /// The circle loss with class labels (Sun et al., CVPR 2020): a softmax whose logits pull the harder the farther they are from
    /// where they should be.
    ///
    /// Target `[1 + m - c_y]_+ (c_y - (1 - m))`, negatives `[c_j + m]_+ (c_j - m)`, the brackets constants for the gradient.
    ///
    /// Parameter `weight` (classes, dim), drawn from N(0, 0.01). Time O(B C D).
    CircleHead, CircleHeadConfig, ()
}
cosine_scores!(CircleHead);

struct CircleRule(CircleHeadConfig);

impl Rule for CircleRule {
    #[inline(always)]
    fn scale(&self) -> f64 {
        self.0.scale
    }

    #[inline(always)]
    fn target(&self, _: usize, cosine: f64, _: f64, _: f64) -> Target {
        let m = self.0.margin;
        let pull = (1.0 + m - cosine).max(0.0);
        Target::new(pull * (cosine - (1.0 - m)), pull)
    }

    #[inline(always)]
    fn negatives<T: Real>(&self, _: f64, _: &Target, cosines: &mut [T], slopes: &mut [T]) -> bool {
        let m = T::from_f64(self.0.margin);
        for (c, slope) in cosines.iter_mut().zip(slopes) {
            let push = *c + m;
            let push = if push > T::ZERO { push } else { T::ZERO };
            *slope = push;
            *c = push * (*c - m);
        }
        true
    }
}

impl CircleHead {
    fn run(&self, batch: Batch) -> Result<Tensor> {
        batch.softmax(CircleHeadConfig::OP, CircleRule(self.config), None)
    }
}
