//! Learning rate as a function of the step.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How the learning rate changes over a run of `total` steps.
///
/// Every form starts with a linear warm-up of `w = warmup_steps` steps, `base · (step + 1) / w`; with
/// `t = (step - w) / (total - w)` the rate then is
///
/// | form | rate | PyTorch, after the warm-up |
/// | --- | --- | --- |
/// | `constant` | `base` | `ConstantLR(factor=1)` |
/// | `cosine` | `base · (f + (1 - f) (1 + cos πt) / 2)`, f = `final_fraction` | `CosineAnnealingLR(T_max=total-w, eta_min=f·base)` |
/// | `poly` | `base · (1 - t)^power` | `PolynomialLR(total_iters=total-w, power)` |
/// | `step` | `base · gamma^(number of milestones ≤ step)` | `MultiStepLR` |
///
/// The warm-up is PyTorch's `LinearLR(start_factor=1/w, total_iters=w-1)`. Steps count from 0; the rate is a
/// function of the step alone, so nothing of it needs saving.
///
/// In TOML: `schedule = { kind = "cosine", warmup_steps = 100 }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// The same rate from the end of the warm-up on.
    Constant {
        /// Steps of linear warm-up; 0 for none (default).
        #[serde(default)]
        warmup_steps: u64,
    },
    /// Half a period of a cosine.
    Cosine {
        /// Steps of linear warm-up; 0 for none (default).
        #[serde(default)]
        warmup_steps: u64,
        /// The rate at the end as a fraction of the base rate (default 0).
        #[serde(default)]
        final_fraction: f64,
    },
    /// Polynomial decay to zero.
    Poly {
        /// Steps of linear warm-up; 0 for none (default).
        #[serde(default)]
        warmup_steps: u64,
        /// Exponent (default 2, as InsightFace trains).
        #[serde(default = "default_power")]
        power: f64,
    },
    /// A factor at each milestone.
    Step {
        /// Steps of linear warm-up; 0 for none (default).
        #[serde(default)]
        warmup_steps: u64,
        /// Steps, counted from the start of the run, at which the rate is multiplied by `gamma`; ascending.
        milestones: Vec<u64>,
        /// Factor (default 0.1).
        #[serde(default = "default_gamma")]
        gamma: f64,
    },
}

fn default_power() -> f64 {
    2.
}

fn default_gamma() -> f64 {
    0.1
}

impl Default for Schedule {
    /// Cosine to zero, no warm-up.
    fn default() -> Self {
        Self::Cosine {
            warmup_steps: 0,
            final_fraction: 0.,
        }
    }
}

impl Schedule {
    /// Steps of linear warm-up.
    pub fn warmup_steps(&self) -> u64 {
        match self {
            Self::Constant { warmup_steps }
            | Self::Cosine { warmup_steps, .. }
            | Self::Poly { warmup_steps, .. }
            | Self::Step { warmup_steps, .. } => *warmup_steps,
        }
    }

    /// The learning rate of `step` (from 0) in a run of `total` steps. Steps beyond the last keep its end value.
    pub fn lr(&self, base: f64, step: u64, total: u64) -> f64 {
        let warmup = self.warmup_steps();
        if step < warmup {
            return base * (step + 1) as f64 / warmup as f64;
        }
        let span = total.saturating_sub(warmup).max(1);
        let t = ((step - warmup) as f64 / span as f64).min(1.);
        match self {
            Self::Constant { .. } => base,
            Self::Cosine { final_fraction, .. } => {
                let wave = (1. + (std::f64::consts::PI * t).cos()) / 2.;
                base * (final_fraction + (1. - final_fraction) * wave)
            }
            Self::Poly { power, .. } => base * (1. - t).powf(*power),
            Self::Step {
                milestones, gamma, ..
            } => {
                let passed = milestones
                    .iter()
                    .filter(|&&milestone| milestone <= step)
                    .count();
                base * gamma.powf(passed as f64)
            }
        }
    }

    /// Checks that the schedule fits a run of `total` steps.
    ///
    /// # Errors
    /// When the warm-up is longer than the run, a number is not finite or has the wrong sign, or milestones
    /// do not ascend or fall into the warm-up.
    pub fn validate(&self, total: u64) -> Result<()> {
        let warmup = self.warmup_steps();
        if warmup > total {
            return Err(Error::config(format!(
                "warm-up of {warmup} steps in a run of {total} steps"
            ))
            .of("schedule"));
        }
        let complaint = match self {
            Self::Constant { .. } => None,
            Self::Cosine { final_fraction, .. } => (!(0. ..=1.).contains(final_fraction))
                .then(|| format!("final_fraction {final_fraction} is not between 0 and 1")),
            Self::Poly { power, .. } => (!(power.is_finite() && *power >= 0.))
                .then(|| format!("power {power} is not a number from 0 up")),
            Self::Step {
                milestones, gamma, ..
            } => {
                if !(gamma.is_finite() && *gamma > 0.) {
                    Some(format!("gamma {gamma} is not a positive number"))
                } else if milestones
                    .windows(2)
                    .any(|pair| matches!(pair, [a, b] if a >= b))
                {
                    Some(format!("milestones {milestones:?} do not ascend"))
                } else {
                    milestones
                        .first()
                        .filter(|&&first| first < warmup)
                        .map(|first| {
                            format!("milestone {first} falls into the warm-up of {warmup} steps")
                        })
                }
            }
        };
        complaint.map_or(Ok(()), |what| Err(Error::config(what).of("schedule")))
    }
}
