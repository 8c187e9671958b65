//! Signs that the game goes wrong, each with what helps.

/// A sign that the game goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Alarm {
    /// CLUB's estimate is below 0, so its estimator is stale; the term was left out. More adversary turns help.
    StaleEstimate {
        /// Which information: `I(d; light)`.
        of: String,
        /// The estimate, nats.
        value: f64,
    },
    /// A discriminator is right less often than a guess would be: it is confidently wrong, which tells as much as
    /// being right. A bounded objective (uniform target) or a smaller alpha helps.
    Flipped {
        /// Which factor.
        factor: String,
        /// Its accuracy from d.
        accuracy: f64,
    },
    /// l hardly varies over the batch: it holds nothing. A larger lambda or a smaller beta helps.
    CollapsedLatent {
        /// Mean over dimensions of the standard deviation over the batch.
        deviation: f64,
    },
    /// An adversary's loss is more than ten times that of a guess, or not finite: what it says no longer means anything,
    /// and a run should not go on. A smaller learning rate of the adversaries, more of their turns, or a bounded objective
    /// helps.
    Diverging {
        /// Which adversary: `angle from d`.
        player: String,
        /// Its loss, nats.
        loss: f64,
        /// The loss of a guess, nats.
        guess: f64,
    },
}

impl Alarm {
    /// One word for logs: `stale`, `flipped`, `collapsed` or `diverging`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::StaleEstimate { .. } => "stale",
            Self::Flipped { .. } => "flipped",
            Self::CollapsedLatent { .. } => "collapsed",
            Self::Diverging { .. } => "diverging",
        }
    }
}

impl std::fmt::Display for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::StaleEstimate { of, value } => write!(
                f,
                "the estimate of {of} is {value:.3}, below 0: its estimator is stale and the term was left out; more adversary turns help"
            ),
            Self::Flipped { factor, accuracy } => write!(
                f,
                "the discriminator of `{factor}` is right in {:.1} % only, less than a guess: a bounded objective or a smaller alpha helps",
                100. * accuracy
            ),
            Self::CollapsedLatent { deviation } => write!(
                f,
                "l has collapsed (standard deviation {deviation:.4}): a larger lambda or a smaller beta helps"
            ),
            Self::Diverging {
                player,
                loss,
                guess,
            } => write!(
                f,
                "the adversary of {player} diverges: its loss is {loss:.3}, that of a guess {guess:.3}; a smaller learning rate of the adversaries, more of their turns or a bounded objective helps"
            ),
        }
    }
}
