//! Heads whose margin differs from item to item: by the embedding's norm (AdaFace, MagFace) or by chance (ElasticFace).

use candle::{DType, Result, Tensor, Var, bail};
use candle_nn::{Init, VarBuilder};
use phiz_kernels::Real;
use phiz_kernels::row_loss::RowValue;
use phiz_kernels::safe::norm_last_dim;

use super::{
    AdditiveRule, Angular, AngularRule, Batch, HeadConfig, Rule, State, Target, check_angle,
    check_positive, cosine_scores, head,
};
use crate::ops::{check_finite, host};
use crate::random;

/// Configuration of [`AdaFace`]; the defaults are those of the authors' program.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaFaceConfig {
    /// s. Default 64.
    pub scale: f64,
    /// m. Default 0.4.
    pub margin: f64,
    /// h, how far the normalised norm moves the margin. Default 0.333.
    pub concentration: f64,
    /// Weight of the newest batch in the running mean and deviation of the norms. Default 1 (the batch alone); the authors' training
    /// uses 0.01.
    pub momentum: f64,
}

impl Default for AdaFaceConfig {
    fn default() -> Self {
        Self {
            scale: 64.0,
            margin: 0.4,
            concentration: 0.333,
            momentum: 1.0,
        }
    }
}

impl HeadConfig for AdaFaceConfig {
    const OP: &'static str = "adaface";

    fn check(&self) -> Result<()> {
        check_positive("the scale of AdaFace", self.scale)?;
        check_angle("the margin of AdaFace", self.margin)?;
        check_finite("the concentration of AdaFace", self.concentration)?;
        if !(0.0..=1.0).contains(&self.momentum) {
            bail!(
                "the momentum of AdaFace must lie in [0, 1], got {}",
                self.momentum
            );
        }
        Ok(())
    }
}

/// Running mean and deviation of the norms.
#[derive(Debug, Clone)]
struct NormStatistics {
    mean: Var,
    deviation: Var,
}

impl State<AdaFaceConfig> for NormStatistics {
    fn create(_: usize, _: &AdaFaceConfig, vb: &VarBuilder) -> Result<Self> {
        let mean = vb.get_with_hints(1, "running_mean", Init::Const(20.0))?;
        let deviation = vb.get_with_hints(1, "running_std", Init::Const(100.0))?;
        Ok(Self {
            mean: Var::from_tensor(&mean)?,
            deviation: Var::from_tensor(&deviation)?,
        })
    }
}

/// Moves a running number of one element towards `value` and gives the result.
fn moved(var: &Var, value: f64, momentum: f64) -> Result<f64> {
    let old = host(var)?.first().copied().unwrap_or(0.0);
    let new = momentum * value + (1.0 - momentum) * old;
    var.set(
        &Tensor::full(new, 1, &candle::Device::Cpu)?
            .to_dtype(var.dtype())?
            .to_device(var.device())?,
    )?;
    Ok(new)
}

head! {
    /// AdaFace (Kim, Jain, Liu, CVPR 2022): a margin on the angle and on the cosine by the image's quality, for which the
    /// embedding's norm stands.
    ///
    /// With `z` the norm clipped to [0.001, 100] and detached, its running mean `mu` and deviation `sd` (brought up to date with the
    /// batch first), `q = clip(h (z - mu) / (sd + 0.001), -1, 1)`: the target is
    /// `cos(clip(theta_y - m q, 0.001, pi - 0.001)) - (m + m q)`. Cosines are clamped to `1 - 0.001`, beyond which they have no gradient.
    ///
    /// Parameters `weight` (classes, dim), drawn from N(0, 0.01), and the buffers `running_mean` (20) and `running_std` (100) of shape
    /// (1). A batch of one has no deviation: the running one stays. Each call of [`Head::loss`](crate::Head::loss) moves the statistics. Time O(B C D).
    AdaFace, AdaFaceConfig, NormStatistics
}
cosine_scores!(AdaFace);

/// Guards the arc cosine and the division, as in the authors' program.
const EPS: f64 = 1e-3;

struct AdaRule {
    config: AdaFaceConfig,
    /// q of each row.
    quality: Vec<f64>,
}

impl Rule for AdaRule {
    #[inline(always)]
    fn scale(&self) -> f64 {
        self.config.scale
    }

    #[inline(always)]
    fn target(&self, row: usize, cosine: f64, _: f64, _: f64) -> Target {
        let (m, q) = (self.config.margin, self.quality[row]);
        let inside = cosine.abs() <= 1.0 - EPS;
        let c = cosine.clamp(EPS - 1.0, 1.0 - EPS);
        let theta = c.acos() - m * q;
        let clipped = theta.clamp(EPS, std::f64::consts::PI - EPS);
        let slope = if inside && clipped == theta {
            theta.sin() / (1.0 - c * c).sqrt()
        } else {
            0.0
        };
        Target::new(clipped.cos() - (m + m * q), slope)
    }

    #[inline(always)]
    fn negatives<T: Real>(&self, _: f64, _: &Target, cosines: &mut [T], slopes: &mut [T]) -> bool {
        let limit = T::from_f64(1.0 - EPS);
        for (c, slope) in cosines.iter_mut().zip(slopes) {
            let out = *c > limit || *c < -limit;
            *slope = if out { T::ZERO } else { T::ONE };
            let low = if *c < -limit { -limit } else { *c };
            *c = if low > limit { limit } else { low };
        }
        true
    }
}

impl AdaFace {
    /// The running mean and deviation of the norms, each (1).
    pub fn norm_statistics(&self) -> (&Tensor, &Tensor) {
        (
            self.state.mean.as_tensor(),
            self.state.deviation.as_tensor(),
        )
    }

    fn run(&self, batch: Batch) -> Result<Tensor> {
        let norms = host(&norm_last_dim(&batch.embeddings.detach().contiguous()?)?)?;
        let norms: Vec<f64> = norms.into_iter().map(|z| z.clamp(0.001, 100.0)).collect();
        let n = norms.len() as f64;
        let mean = norms.iter().sum::<f64>() / n;
        if !mean.is_finite() {
            // The fused pass names the row; the statistics stay clean.
            return batch.softmax(
                AdaFaceConfig::OP,
                AdaRule {
                    config: self.config,
                    quality: norms,
                },
                None,
            );
        }
        let NormStatistics {
            mean: running_mean,
            deviation: running_deviation,
        } = &self.state;
        let momentum = self.config.momentum;
        let deviation = if norms.len() > 1 {
            let squares: f64 = norms.iter().map(|z| (z - mean).powi(2)).sum();
            moved(running_deviation, (squares / (n - 1.0)).sqrt(), momentum)?
        } else {
            moved(running_deviation, 0.0, 0.0)?
        };
        let mean = moved(running_mean, mean, momentum)?;
        let h = self.config.concentration;
        let quality = norms
            .iter()
            .map(|z| (h * (z - mean) / (deviation + EPS)).clamp(-1.0, 1.0))
            .collect();
        batch.softmax(
            AdaFaceConfig::OP,
            AdaRule {
                config: self.config,
                quality,
            },
            None,
        )
    }
}

/// Configuration of [`MagFace`]; the defaults are those of FaceX-Zoo.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MagFaceConfig {
    /// s. Default 32.
    pub scale: f64,
    /// l_a, u_a: the norms between which the margin grows; norms outside count as these, without gradient. Default (10, 110).
    pub norms: (f64, f64),
    /// l_m, u_m: the margins at these norms, in radians. Default (0.45, 0.8).
    pub margins: (f64, f64),
    /// lambda, the weight of the pull towards large norms. Default 20.
    pub pull: f64,
}

impl Default for MagFaceConfig {
    fn default() -> Self {
        Self {
            scale: 32.0,
            norms: (10.0, 110.0),
            margins: (0.45, 0.8),
            pull: 20.0,
        }
    }
}

impl HeadConfig for MagFaceConfig {
    const OP: &'static str = "magface";

    fn check(&self) -> Result<()> {
        check_positive("the scale of MagFace", self.scale)?;
        check_positive("the lower norm of MagFace", self.norms.0)?;
        check_finite("the upper norm of MagFace", self.norms.1)?;
        if self.norms.1 <= self.norms.0 {
            bail!("the norms of MagFace must rise, got {:?}", self.norms);
        }
        check_angle("the lower margin of MagFace", self.margins.0)?;
        check_angle("the upper margin of MagFace", self.margins.1)?;
        check_finite("the pull of MagFace", self.pull)
    }
}

head! {
    /// MagFace (Meng, Zhao, Huang, Zhou, CVPR 2021): an angular margin that grows with the norm of the embedding, so that the norm
    /// becomes a measure of quality.
    ///
    /// With `a` the norm clipped to `[l_a, u_a]`: the target is that of ArcFace with the margin
    /// `m(a) = (u_m - l_m) / (u_a - l_a) (a - l_a) + l_m`, and `lambda (a / u_a^2 + 1 / a)` is added for each item. The gradient passes through the norm.
    ///
    /// Parameter `weight` (classes, dim), drawn from N(0, 0.01). Time O(B C D).
    MagFace, MagFaceConfig, ()
}
cosine_scores!(MagFace);

struct MagRule(MagFaceConfig);

impl Rule for MagRule {
    #[inline(always)]
    fn scale(&self) -> f64 {
        self.0.scale
    }

    #[inline(always)]
    fn target(&self, _: usize, cosine: f64, noise: f64, norm: f64) -> Target {
        let MagFaceConfig {
            norms: (la, ua),
            margins: (lm, um),
            pull,
            ..
        } = self.0;
        let a = norm.clamp(la, ua);
        let inside = if a == norm { 1.0 } else { 0.0 };
        let steepness = (um - lm) / (ua - la);
        let target = Angular::exact(steepness * (a - la) + lm).target(cosine, noise);
        Target {
            by_parameter: target.by_parameter * steepness * inside,
            extra: RowValue {
                loss: pull * (a / (ua * ua) + 1.0 / a),
                parameter: pull * (1.0 / (ua * ua) - 1.0 / (a * a)) * inside,
            },
            ..target
        }
    }
}

impl MagFace {
    fn run(&self, batch: Batch) -> Result<Tensor> {
        let norms = norm_last_dim(&batch.embeddings)?;
        batch.softmax(MagFaceConfig::OP, MagRule(self.config), Some(&norms))
    }
}

/// What the drawn margin of [`ElasticFace`] is added to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ElasticMargin {
    /// The target's angle, as in ArcFace. The default.
    #[default]
    Angle,
    /// Taken off the target's cosine, as in CosFace.
    Cosine,
}

/// Configuration of [`ElasticFace`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ElasticFaceConfig {
    /// s. Default 64.
    pub scale: f64,
    /// Default [`ElasticMargin::Angle`].
    pub kind: ElasticMargin,
    /// The mean of the margins. Default 0.5 (the paper's for the angle; 0.35 for the cosine).
    pub margin: f64,
    /// Their standard deviation. Default 0.0125 (the paper's for both kinds; with `sorted`, 0.0175 for the angle and 0.025 for the cosine).
    pub deviation: f64,
    /// The paper's "+" form: the drawn margins are sorted so that the item closest to its class gets the smallest. Default off.
    pub sorted: bool,
    /// The seed of the margins. Default 0.
    pub seed: u64,
}

impl Default for ElasticFaceConfig {
    fn default() -> Self {
        Self {
            scale: 64.0,
            kind: ElasticMargin::Angle,
            margin: 0.5,
            deviation: 0.0125,
            sorted: false,
            seed: 0,
        }
    }
}

impl HeadConfig for ElasticFaceConfig {
    const OP: &'static str = "elasticface";

    fn check(&self) -> Result<()> {
        check_positive("the scale of ElasticFace", self.scale)?;
        check_finite("the margin of ElasticFace", self.margin)?;
        check_finite("the deviation of ElasticFace", self.deviation)?;
        if self.deviation < 0.0 {
            bail!(
                "the deviation of ElasticFace must not be negative, got {}",
                self.deviation
            );
        }
        match self.kind {
            ElasticMargin::Angle => check_angle("the mean margin of ElasticFace", self.margin),
            ElasticMargin::Cosine => Ok(()),
        }
    }
}

/// How many batches have drawn margins.
#[derive(Debug, Clone)]
struct Drawn(Var);

impl State<ElasticFaceConfig> for Drawn {
    fn create(_: usize, _: &ElasticFaceConfig, vb: &VarBuilder) -> Result<Self> {
        let drawn =
            vb.get_with_hints_dtype(1, "num_batches_tracked", Init::Const(0.0), DType::U32)?;
        Ok(Self(Var::from_tensor(&drawn)?))
    }
}

head! {
    /// ElasticFace (Boutros, Damer, Kirchbuchner, Kuijper, CVPRW 2022): ArcFace or CosFace with a margin drawn from a normal
    /// distribution for each item.
    ///
    /// Margins on the angle are clamped to [0, pi), and go past pi as [`PastPi::Monotone`](crate::PastPi). The draw is a function of the seed, of
    /// how many batches came before (the buffer `num_batches_tracked`, u32 (1), so that a resumed run draws what an unbroken one
    /// would have), and of the item's place in the batch.
    ///
    /// Parameter `weight` (classes, dim), drawn from N(0, 0.01). Time O(B C D).
    ElasticFace, ElasticFaceConfig, Drawn
}
cosine_scores!(ElasticFace);

/// The purpose of the random numbers here.
const MARGINS: u64 = 0x0e1a_571c;

impl ElasticFace {
    /// The margins of batch number `batch` (from 0), in the order drawn, before any sorting.
    pub fn margins(&self, batch: u32, len: usize) -> Vec<f64> {
        let ElasticFaceConfig {
            margin,
            deviation,
            seed,
            kind,
            ..
        } = self.config;
        (0..len as u64)
            .map(|i| {
                let m = margin + deviation * random::normal(seed, MARGINS, u64::from(batch), i);
                match kind {
                    ElasticMargin::Angle => m.clamp(0.0, std::f64::consts::PI - 1e-6),
                    ElasticMargin::Cosine => m,
                }
            })
            .collect()
    }

    fn run(&self, batch: Batch) -> Result<Tensor> {
        let Drawn(counter) = &self.state;
        let step = counter
            .to_device(&candle::Device::Cpu)?
            .to_vec1::<u32>()?
            .first()
            .copied()
            .unwrap_or(0);
        let mut margins = self.margins(step, batch.labels.len());
        if self.config.sorted {
            let cosines = batch.target_cosines()?;
            let mut nearest_first: Vec<usize> = (0..cosines.len()).collect();
            nearest_first.sort_by(|&i, &j| cosines[j].total_cmp(&cosines[i]));
            let mut drawn = margins.clone();
            drawn.sort_by(f64::total_cmp);
            for (i, m) in nearest_first.into_iter().zip(drawn) {
                margins[i] = m;
            }
        }
        let next = Tensor::new(&[step.wrapping_add(1)], counter.device())?;
        let ElasticFaceConfig {
            scale,
            margin,
            kind,
            ..
        } = self.config;
        let margins = Some(margins);
        let loss = match kind {
            ElasticMargin::Angle => {
                let angular = Angular::exact(margin);
                batch.softmax(
                    ElasticFaceConfig::OP,
                    AngularRule {
                        scale,
                        angular,
                        margins,
                    },
                    None,
                )
            }
            ElasticMargin::Cosine => batch.softmax(
                ElasticFaceConfig::OP,
                AdditiveRule {
                    scale,
                    margin,
                    margins,
                },
                None,
            ),
        }?;
        counter.set(&next)?;
        Ok(loss)
    }
}
