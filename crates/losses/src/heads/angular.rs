//! Additive margins on the angle and on the cosine, and insightface's head that has both.

use candle::{Result, bail};
use phiz_kernels::Real;

use super::{Batch, HeadConfig, Rule, Target, check_angle, check_positive, cosine_scores, head};
use crate::margin::ArcGradient;
use crate::ops::check_finite;

/// What an angular margin does where `theta + m` would pass pi, and the target would rise again with the angle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PastPi {
    /// Beyond `theta > pi - m` the target is `cos(theta) - m sin(m)`. At that angle it drops from -1 to `-cos(m) - m sin(m)`, and goes on
    /// falling with slope 1 in the cosine. The default, and that of the paper's program.
    #[default]
    Monotone,
    /// "Easy margin": the margin acts only below a right angle; beyond it the target is `cos(theta)`.
    Easy,
}

/// An additive angular margin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Angular {
    pub margin: f64,
    pub gradient: ArcGradient,
    pub past_pi: PastPi,
}

impl Angular {
    pub(crate) fn exact(margin: f64) -> Self {
        Self {
            margin,
            gradient: ArcGradient::Exact,
            past_pi: PastPi::Monotone,
        }
    }

    /// The target, with `by_parameter` its derivative by the margin.
    #[inline(always)]
    pub(crate) fn target(&self, c: f64, noise: f64) -> Target {
        let m = self.margin;
        let (sin_m, cos_m) = m.sin_cos();
        let square = 1.0 - c * c;
        let sine = square.max(0.0).sqrt();
        let shifted = c * cos_m - sine * sin_m;
        let by_margin = -c * sin_m - sine * cos_m;
        if self.gradient == ArcGradient::StraightThrough {
            return Target {
                by_parameter: by_margin,
                ..Target::new(shifted, 1.0)
            };
        }
        match self.past_pi {
            PastPi::Monotone if c <= (std::f64::consts::PI - m).cos() => Target {
                by_parameter: -sin_m - m * cos_m,
                ..Target::new(c - m * sin_m, 1.0)
            },
            PastPi::Easy if c <= 0.0 => Target::new(c, 1.0),
            _ => {
                let bent = if square > noise {
                    c * sin_m / sine
                } else {
                    0.0
                };
                Target {
                    by_parameter: by_margin,
                    ..Target::new(shifted, cos_m + bent)
                }
            }
        }
    }
}

/// `s cos(theta_y + m_i)`, one margin for all rows or one for each.
pub(crate) struct AngularRule {
    pub scale: f64,
    pub angular: Angular,
    /// If given, the margin of each row in place of the one above.
    pub margins: Option<Vec<f64>>,
}

impl Rule for AngularRule {
    #[inline(always)]
    fn scale(&self) -> f64 {
        self.scale
    }

    #[inline(always)]
    fn target(&self, row: usize, cosine: f64, noise: f64, _: f64) -> Target {
        let margin = self
            .margins
            .as_ref()
            .map_or(self.angular.margin, |m| m[row]);
        Angular {
            margin,
            ..self.angular
        }
        .target(cosine, noise)
    }
}

/// `s (cos(theta_y) - m_i)`.
pub(crate) struct AdditiveRule {
    pub scale: f64,
    pub margin: f64,
    /// If given, the margin of each row in place of the one above.
    pub margins: Option<Vec<f64>>,
}

impl Rule for AdditiveRule {
    #[inline(always)]
    fn scale(&self) -> f64 {
        self.scale
    }

    #[inline(always)]
    fn target(&self, row: usize, cosine: f64, _: f64, _: f64) -> Target {
        Target::new(
            cosine - self.margins.as_ref().map_or(self.margin, |m| m[row]),
            1.0,
        )
    }
}

/// Configuration of [`CombinedMargin`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CombinedMarginConfig {
    /// s. Default 64.
    pub scale: f64,
    /// m2 in radians, added to the target's angle. Default 0.5.
    pub angular: f64,
    /// m3, taken off the target's cosine. Default 0.
    pub additive: f64,
    /// Default [`ArcGradient::StraightThrough`], the form of insightface.
    pub gradient: ArcGradient,
    /// If given, negatives whose cosine exceeds it count as 0 and get no gradient: they are taken for wrong labels
    /// (insightface's `interclass_filtering_threshold`; 0.4 for label noise). Default none.
    pub filter: Option<f64>,
}

impl Default for CombinedMarginConfig {
    fn default() -> Self {
        Self {
            scale: 64.0,
            angular: 0.5,
            additive: 0.0,
            gradient: ArcGradient::StraightThrough,
            filter: None,
        }
    }
}

impl HeadConfig for CombinedMarginConfig {
    const OP: &'static str = "combined-margin";

    fn check(&self) -> Result<()> {
        check_positive("the scale of the combined margin", self.scale)?;
        check_angle("the angular margin of the combined margin", self.angular)?;
        check_finite("the additive margin of the combined margin", self.additive)?;
        if self.filter.is_some_and(|t| !(t > 0.0 && t.is_finite())) {
            bail!(
                "the filter of the combined margin is a cosine above 0, got {:?}",
                self.filter
            );
        }
        Ok(())
    }
}

head! {
    /// insightface's combined margin: target `s (cos(theta_y + m2) - m3)`, negatives `s c_j`, those above a threshold filtered out.
    ///
    /// With the default gradient and `(m2, m3)` of (0.5, 0) it is the ArcFace of insightface's published recipes, with (0, 0.4) their CosFace.
    /// Their `m1`, a factor on the angle, is rejected by their program unless it is 1, and left out here.
    ///
    /// Parameter `weight` (classes, dim), drawn from N(0, 0.01). Time O(B C D).
    CombinedMargin, CombinedMarginConfig, ()
}
cosine_scores!(CombinedMargin);

struct CombinedRule(CombinedMarginConfig);

impl Rule for CombinedRule {
    #[inline(always)]
    fn scale(&self) -> f64 {
        self.0.scale
    }

    #[inline(always)]
    fn target(&self, _: usize, cosine: f64, noise: f64, _: f64) -> Target {
        let angular = Angular {
            gradient: self.0.gradient,
            ..Angular::exact(self.0.angular)
        };
        // Without an angular margin both forms are the cosine itself.
        let t = match self.0.angular {
            0.0 => Target::new(cosine, 1.0),
            _ => angular.target(cosine, noise),
        };
        Target {
            value: t.value - self.0.additive,
            ..t
        }
    }

    #[inline(always)]
    fn negatives<T: Real>(&self, _: f64, _: &Target, cosines: &mut [T], slopes: &mut [T]) -> bool {
        let Some(limit) = self.0.filter else {
            return false;
        };
        let limit = T::from_f64(limit);
        for (c, slope) in cosines.iter_mut().zip(slopes) {
            let out = *c > limit;
            *slope = if out { T::ZERO } else { T::ONE };
            *c = if out { T::ZERO } else { *c };
        }
        true
    }
}

impl CombinedMargin {
    fn run(&self, batch: Batch) -> Result<candle::Tensor> {
        batch.softmax(CombinedMarginConfig::OP, CombinedRule(self.config), None)
    }
}
