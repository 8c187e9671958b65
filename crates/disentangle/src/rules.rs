//! The rules of the game: how the players work against each other, with what weights, and whose turn it is.

use crate::factor::Factor;
use crate::reconstruct::Reconstruction;

/// How the encoders work against the adversaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Against {
    /// Not at all: classifier and reconstruction alone.
    Nothing,
    /// Gradient reversal: the adversaries learn in the same step (Ganin and Lempitsky, 2015).
    Reversal,
    /// Uniform (or prior) target.
    #[default]
    Uniform,
    /// Uniform target and entropy.
    UniformEntropy,
    /// Mutual information alone.
    Information,
    /// Uniform target, entropy and mutual information.
    All,
}

impl Objective {
    /// Whether an ignorant answer about `factor` is its prior and not the uniform distribution.
    pub(crate) fn prior_for(&self, factor: &Factor) -> bool {
        match self.ignorant {
            Ignorant::PriorIfUnbalanced => factor.unbalanced(),
            Ignorant::Uniform => false,
            Ignorant::Prior => true,
        }
    }
}

impl Against {
    pub(crate) fn targets(self) -> bool {
        matches!(self, Self::Uniform | Self::UniformEntropy | Self::All)
    }
    pub(crate) fn entropy(self) -> bool {
        matches!(self, Self::UniformEntropy | Self::All)
    }
    pub(crate) fn information(self) -> bool {
        matches!(self, Self::Information | Self::All)
    }
}

/// What an ignorant adversary answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ignorant {
    /// The prior where a factor's labels are unbalanced ([`Factor::unbalanced`]), the uniform distribution elsewhere.
    #[default]
    PriorIfUnbalanced,
    /// Always the uniform distribution.
    Uniform,
    /// Always the training set's prior.
    Prior,
}

/// How mutual information is estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Information {
    /// CLUB, an upper bound: estimator and encoder both minimise.
    #[default]
    Club,
    /// MINE, a lower bound: a statistics network maximises what the encoder minimises.
    Mine,
}

/// Weights of the terms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// How the encoders work against the adversaries.
    pub against: Against,
    /// What an ignorant adversary answers; of a factor that is given by class, what the class says.
    pub ignorant: Ignorant,
    /// Of the classification loss (default 1).
    pub classification: f64,
    /// alpha, of the ignorance of the factors given d (default 1).
    pub alpha: f64,
    /// beta, of the ignorance of the class given l (default 1).
    pub beta: f64,
    /// eta, of the uncertainty of both (default 0.1); not of factors that are given by class.
    pub eta: f64,
    /// mu, of each mutual information (default 0.1).
    pub mu: f64,
    /// lambda, of the reconstruction (default 0.1; 0 leaves the decoder out).
    pub lambda: f64,
    /// Of what the reconstruction error consists.
    pub reconstruction: Reconstruction,
    /// Whether the reconstruction teaches the encoder of d (default true, as published). Without it the decoder takes d as
    /// it is, and what an image needs beyond the class has to stand in l.
    pub rebuild_d: bool,
    /// Whether the adversaries learn in the main turns too, on the codes that are there anyway (default false).
    pub teach: bool,
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            against: Against::default(),
            ignorant: Ignorant::default(),
            classification: 1.,
            alpha: 1.,
            beta: 1.,
            eta: 0.1,
            mu: 0.1,
            lambda: 0.1,
            reconstruction: Reconstruction::default(),
            rebuild_d: true,
            teach: false,
        }
    }
}

/// Whose turn a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The adversaries learn; everybody else is left alone.
    Adversaries,
    /// Encoders, classifier and decoder learn against frozen adversaries; `ramp` scales all terms against them.
    Main,
}

/// The order of turns, a function of the step alone, so that a resumed run goes on in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// k, turns of the adversaries before each of the main players (default 5).
    pub adversary_turns: u64,
    /// Main turns at the start without any term against adversaries (default 0).
    pub warmup: u64,
    /// Main turns after that over which those terms rise in a straight line (default 0: at once).
    pub ramp: u64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            adversary_turns: 5,
            warmup: 0,
            ramp: 0,
        }
    }
}

impl Schedule {
    /// Whose turn `step` is, and the factor on all terms against adversaries in it.
    pub fn turn(&self, step: u64) -> (Turn, f64) {
        let round = self.adversary_turns + 1;
        let main = step / round;
        let turn = if step % round == self.adversary_turns {
            Turn::Main
        } else {
            Turn::Adversaries
        };
        let ramp = if main < self.warmup {
            0.
        } else if self.ramp == 0 {
            1.
        } else {
            ((main - self.warmup + 1) as f64 / self.ramp as f64).min(1.)
        };
        (turn, ramp)
    }

    /// Steps that hold `main` turns of the main players.
    pub fn steps(&self, main: u64) -> u64 {
        main.saturating_mul(self.adversary_turns + 1)
    }
}
