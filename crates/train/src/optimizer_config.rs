//! What an optimiser is asked to be: its kind and constants, and rules for groups of variables.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Which optimiser, and its constants. In TOML: `optimizer = { kind = "sgd", momentum = 0.9 }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent as `torch.optim.SGD` (dampening 0):
    ///
    /// `g ← g + λ p`, `b ← μ b + g`, then `p ← p - η b`, or with Nesterov `p ← p - η (g + μ b)`.
    Sgd {
        /// Momentum μ (default 0.9).
        #[serde(default = "default_momentum")]
        momentum: f64,
        /// Nesterov's form (default false).
        #[serde(default)]
        nesterov: bool,
        /// Weight decay λ, added to the gradient (default 5e-4).
        #[serde(default = "default_sgd_decay")]
        weight_decay: f64,
    },
    /// AdamW as `torch.optim.AdamW` (Loshchilov and Hutter, 2019):
    ///
    /// `p ← p (1 - η λ)`, `m ← β₁ m + (1 - β₁) g`, `v ← β₂ v + (1 - β₂) g²`,
    /// `p ← p - η / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε)`.
    AdamW {
        /// β₁ (default 0.9).
        #[serde(default = "default_beta1")]
        beta1: f64,
        /// β₂ (default 0.999).
        #[serde(default = "default_beta2")]
        beta2: f64,
        /// ε (default 1e-8).
        #[serde(default = "default_eps")]
        eps: f64,
        /// Weight decay λ, apart from the gradient (default 0.01).
        #[serde(default = "default_adamw_decay")]
        weight_decay: f64,
    },
    /// Layer-wise adaptive rates in front of SGD with momentum (You, Gitman and Ginsburg, 2017), as apex's LARC without
    /// clipping has it: for each variable, where both norms are above 0,
    ///
    /// `g ← η ‖p‖ / (‖g‖ + λ ‖p‖ + 10⁻⁸) · (g + λ p)`, then `b ← μ b + g`, `p ← p - lr b`;
    ///
    /// where one is 0, `g` stays as it is, without decay.
    Larc {
        /// Momentum μ (default 0.9).
        #[serde(default = "default_momentum")]
        momentum: f64,
        /// Weight decay λ (default 1e-6).
        #[serde(default = "default_larc_decay")]
        weight_decay: f64,
        /// Trust coefficient η (default 0.001).
        #[serde(default = "default_trust")]
        trust: f64,
    },
}

/// Added to the norms in LARC's rate.
pub(crate) const LARC_EPS: f64 = 1e-8;

fn default_larc_decay() -> f64 {
    1e-6
}
fn default_trust() -> f64 {
    1e-3
}

fn default_momentum() -> f64 {
    0.9
}
fn default_sgd_decay() -> f64 {
    5e-4
}
fn default_beta1() -> f64 {
    0.9
}
fn default_beta2() -> f64 {
    0.999
}
fn default_eps() -> f64 {
    1e-8
}
fn default_adamw_decay() -> f64 {
    0.01
}

impl OptimizerConfig {
    /// SGD with the default constants.
    pub fn sgd() -> Self {
        Self::Sgd {
            momentum: default_momentum(),
            nesterov: false,
            weight_decay: default_sgd_decay(),
        }
    }

    /// AdamW with the default constants.
    pub fn adamw() -> Self {
        Self::AdamW {
            beta1: default_beta1(),
            beta2: default_beta2(),
            eps: default_eps(),
            weight_decay: default_adamw_decay(),
        }
    }

    /// The same with another weight decay.
    #[must_use]
    pub fn with_weight_decay(mut self, decay: f64) -> Self {
        match &mut self {
            Self::Sgd { weight_decay, .. }
            | Self::AdamW { weight_decay, .. }
            | Self::Larc { weight_decay, .. } => *weight_decay = decay,
        }
        self
    }

    /// LARC with the default constants.
    pub fn larc() -> Self {
        Self::Larc {
            momentum: default_momentum(),
            weight_decay: default_larc_decay(),
            trust: default_trust(),
        }
    }

    pub(crate) fn weight_decay(&self) -> f64 {
        match self {
            Self::Sgd { weight_decay, .. }
            | Self::AdamW { weight_decay, .. }
            | Self::Larc { weight_decay, .. } => *weight_decay,
        }
    }

    /// The names of the tensors kept per variable.
    pub(crate) fn slots(&self) -> &'static [&'static str] {
        match self {
            Self::Sgd { momentum, .. } | Self::Larc { momentum, .. } if *momentum == 0. => &[],
            Self::Sgd { .. } | Self::Larc { .. } => &["momentum_buffer"],
            Self::AdamW { .. } => &["exp_avg", "exp_avg_sq"],
        }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let fraction = |name: &str, x: f64| {
            let ok = (0. ..1.).contains(&x);
            if ok {
                Ok(())
            } else {
                Err(Error::config(format!("{name} {x} is not in [0, 1)")).of("optimizer"))
            }
        };
        let positive = |name: &str, x: f64| {
            let ok = x.is_finite() && x >= 0.;
            if ok {
                Ok(())
            } else {
                Err(Error::config(format!("{name} {x} is not a number from 0 up")).of("optimizer"))
            }
        };
        positive("weight_decay", self.weight_decay())?;
        match *self {
            Self::Sgd {
                momentum, nesterov, ..
            } => {
                if nesterov && momentum == 0. {
                    return Err(Error::config("nesterov needs a momentum above 0").of("optimizer"));
                }
                fraction("momentum", momentum)
            }
            Self::AdamW {
                beta1, beta2, eps, ..
            } => {
                fraction("beta1", beta1)?;
                fraction("beta2", beta2)?;
                positive("eps", eps)
            }
            Self::Larc {
                momentum, trust, ..
            } => {
                positive("trust", trust)?;
                fraction("momentum", momentum)
            }
        }
    }
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::sgd()
    }
}

/// Which variables are treated differently, by rule and not by list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupRules {
    /// Decay one-dimensional variables too: biases, norm layers' weights, PReLU slopes (default false).
    pub decay_vectors: bool,
    /// Rules by name; the longest prefix that fits a variable decides, alone.
    pub prefixes: Vec<PrefixRule>,
    /// Accept variables without a gradient at the first step and leave them as they are (default false).
    pub allow_unused: bool,
}

/// A rule for all variables under a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrefixRule {
    /// `trunk` means `trunk` itself and every `trunk.…`, but not `trunk2`.
    pub prefix: String,
    /// Factor on the learning rate (default 1); 0 freezes the variables.
    #[serde(default = "one")]
    pub lr_multiplier: f64,
    /// Factor on the weight decay (default 1).
    #[serde(default = "one")]
    pub decay_multiplier: f64,
}

fn one() -> f64 {
    1.
}

impl PrefixRule {
    /// Whether the rule is about the variable `name`, unless a longer prefix decides.
    pub(crate) fn fits(&self, name: &str) -> bool {
        name.strip_prefix(self.prefix.trim_end_matches('.'))
            .is_some_and(|rest| self.prefix.is_empty() || rest.is_empty() || rest.starts_with('.'))
    }
}
