//! The game: whose turn it is, what each player minimises, and signs that it goes wrong.
//!
//! The adversaries learn to read a factor from d, and the class and the factors from l, on codes without gradient.
//! Then encoders, classifier and decoder take one step against adversaries that are frozen:
//!
//! ```text
//! L = c L_class + lambda L_rec + ramp * ( alpha A(s | d) + beta A(y | l) + eta E + mu I(d; s) + mu I(d; l) + mu I(l; s) )
//! ```
//!
//! where A asks for ignorance (uniform target, or the prior), E for uncertainty and I is CLUB. All are bounded below but
//! I, which is left out of a step in which its estimate is below 0: then the estimator, not the code, is at fault.

use candle::{DType, Result, Tensor};

use crate::factor::{Factor, FactorKind, FactorValues};
use crate::information::{club, club_gaussian, gaussian_nll, negative_log_likelihood};
use crate::mlp::Weights;
use crate::model::{Codes, Disentangler};
use crate::reconstruct::Reconstruction;
use crate::reversal::reverse_gradient;
use crate::targets::{certainty, ignorance, negative_entropy, target_cross_entropy};

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

impl Against {
    fn targets(self) -> bool {
        matches!(self, Self::Uniform | Self::UniformEntropy | Self::All)
    }
    fn entropy(self) -> bool {
        matches!(self, Self::UniformEntropy | Self::All)
    }
    fn information(self) -> bool {
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

/// Weights of the terms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// How the encoders work against the adversaries.
    pub against: Against,
    /// What an ignorant adversary answers.
    pub ignorant: Ignorant,
    /// Of the classification loss (default 1).
    pub classification: f64,
    /// alpha, of the ignorance of the factors given d (default 1).
    pub alpha: f64,
    /// beta, of the ignorance of the class given l (default 1).
    pub beta: f64,
    /// eta, of the uncertainty of both (default 0.1).
    pub eta: f64,
    /// mu, of each mutual information (default 0.1).
    pub mu: f64,
    /// lambda, of the reconstruction (default 0.1; 0 leaves the decoder out).
    pub lambda: f64,
    /// Of what the reconstruction error consists.
    pub reconstruction: Reconstruction,
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

/// A batch with all its labels.
#[derive(Debug, Clone)]
pub struct Batch {
    /// (B, C, H, W) in [-1, 1].
    pub images: Tensor,
    /// Class of each image, (B) u32.
    pub labels: Tensor,
    /// Labels of each factor, in the order of [`Disentangler::factors`].
    pub factors: Vec<FactorValues>,
}

/// A loss with what to log beside it.
#[derive(Debug, Clone)]
pub struct Step {
    /// The scalar to minimise.
    pub loss: Tensor,
    /// Loss and accuracy of each player by name.
    pub metrics: Vec<(String, f64)>,
    /// Signs that the game goes wrong, each with its remedy.
    pub alarms: Vec<Alarm>,
}

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
        }
    }
}

impl Disentangler {
    /// The adversaries' turn: the sum of their negative log-likelihoods, on codes without gradient.
    ///
    /// The trunk runs as in training, so adversaries see the codes that the encoders are judged by.
    ///
    /// # Errors
    /// When the batch does not fit.
    pub fn adversary_step(&self, batch: &Batch) -> Result<Step> {
        self.check(batch)?;
        let codes = self.encode(&batch.images, true)?;
        let codes = Codes {
            d: codes.d.detach(),
            l: codes.l.detach(),
        };
        let mut sum = Sum::default();
        let players = &self.adversaries;
        let each = self.factors().iter().zip(&batch.factors);
        for ((factor, values), (from_d, from_l)) in each
            .clone()
            .zip(players.factors_from_d.iter().zip(&players.factors_from_l))
        {
            let answer = from_d.forward(&codes.d, Weights::Learning)?;
            let nll = negative_log_likelihood(factor, &answer, values)?;
            sum.note(&format!("{}_from_d", factor.name), &nll)?;
            if let Some(accuracy) = accuracy_about(factor, &answer, values)? {
                sum.value(&format!("{}_from_d_accuracy", factor.name), accuracy);
            }
            sum.add(&nll, 1.)?;
            let answer = from_l.forward(&codes.l, Weights::Learning)?;
            let nll = negative_log_likelihood(factor, &answer, values)?;
            sum.note(&format!("{}_from_l", factor.name), &nll)?;
            sum.add(&nll, 1.)?;
        }
        let answer = players.class_from_l.forward(&codes.l, Weights::Learning)?;
        let nll = phiz_kernels::cross_entropy(&answer, &batch.labels, 0.)?;
        sum.note("class_from_l", &nll)?;
        sum.value("class_from_l_accuracy", accuracy(&answer, &batch.labels)?);
        sum.add(&nll, 1.)?;
        let nll = gaussian_nll(
            &players.l_from_d.forward(&codes.d, Weights::Learning)?,
            &codes.l,
        )?;
        sum.note("l_from_d", &nll)?;
        sum.add(&nll, 1.)?;
        sum.finish(Vec::new())
    }

    /// The main players' turn; `ramp` scales every term against the adversaries.
    ///
    /// With [`Against::Reversal`] the adversaries of the factors given d and of the class given l learn in this step
    /// too; otherwise no adversary gets a gradient.
    ///
    /// # Errors
    /// When the batch does not fit.
    pub fn main_step(&self, batch: &Batch, objective: &Objective, ramp: f64) -> Result<Step> {
        self.check(batch)?;
        let codes = self.encode(&batch.images, true)?;
        let mut sum = Sum::default();
        let mut alarms = Vec::new();
        let logits = self.classify(&codes.d)?;
        let loss = phiz_kernels::cross_entropy(&logits, &batch.labels, 0.)?;
        sum.note("classification", &loss)?;
        sum.value("accuracy", accuracy(&logits, &batch.labels)?);
        sum.add(&loss, objective.classification)?;
        if objective.lambda != 0. {
            let parts = self
                .factors()
                .iter()
                .zip(&batch.factors)
                .map(|(factor, values)| {
                    factor
                        .code(values, codes.d.dtype())?
                        .to_device(codes.d.device())
                })
                .collect::<Result<Vec<_>>>()?;
            let s = Tensor::cat(&parts, 1)?;
            let image = self.decode(&codes.d, &s, &codes.l, true)?;
            let error = objective.reconstruction.error(&image, &batch.images)?;
            sum.note("reconstruction", &error)?;
            sum.add(&error, objective.lambda)?;
            let deviation = mean_deviation(&codes.l)?;
            sum.value("l_deviation", deviation);
            if deviation < 0.01 {
                alarms.push(Alarm::CollapsedLatent { deviation });
            }
        }
        if ramp > 0. {
            match objective.against {
                Against::Nothing => {}
                Against::Reversal => self.reversed(batch, &codes, objective, ramp, &mut sum)?,
                _ => self.bounded(batch, &codes, objective, ramp, &mut sum, &mut alarms)?,
            }
        }
        sum.finish(alarms)
    }

    fn reversed(
        &self,
        batch: &Batch,
        codes: &Codes,
        objective: &Objective,
        ramp: f64,
        sum: &mut Sum,
    ) -> Result<()> {
        let players = &self.adversaries;
        let d = reverse_gradient(&codes.d, objective.alpha * ramp)?;
        for ((factor, values), player) in self
            .factors()
            .iter()
            .zip(&batch.factors)
            .zip(&players.factors_from_d)
        {
            let answer = player.forward(&d, Weights::Learning)?;
            let nll = negative_log_likelihood(factor, &answer, values)?;
            sum.note(&format!("{}_from_d", factor.name), &nll)?;
            sum.add(&nll, 1.)?;
        }
        if objective.lambda != 0. {
            let l = reverse_gradient(&codes.l, objective.beta * ramp)?;
            let answer = players.class_from_l.forward(&l, Weights::Learning)?;
            let nll = phiz_kernels::cross_entropy(&answer, &batch.labels, 0.)?;
            sum.note("class_from_l", &nll)?;
            sum.add(&nll, 1.)?;
        }
        Ok(())
    }

    fn bounded(
        &self,
        batch: &Batch,
        codes: &Codes,
        objective: &Objective,
        ramp: f64,
        sum: &mut Sum,
        alarms: &mut Vec<Alarm>,
    ) -> Result<()> {
        let against = objective.against;
        let players = &self.adversaries;
        // l is worth nothing to anybody without a decoder.
        let with_l = objective.lambda != 0.;
        for (i, (factor, values)) in self.factors().iter().zip(&batch.factors).enumerate() {
            let Some((from_d, from_l)) = players
                .factors_from_d
                .get(i)
                .zip(players.factors_from_l.get(i))
            else {
                continue;
            };
            let answer = from_d.forward(&codes.d, Weights::Frozen)?;
            if let Some(accuracy) = accuracy_about(factor, &answer, values)? {
                sum.value(&format!("{}_from_d_accuracy", factor.name), accuracy);
                if let Some(least) = flipped_below(factor, batch)
                    && accuracy < least
                {
                    alarms.push(Alarm::Flipped {
                        factor: factor.name.clone(),
                        accuracy,
                    });
                }
            }
            if against.targets() {
                let prior = match objective.ignorant {
                    Ignorant::PriorIfUnbalanced => factor.unbalanced(),
                    Ignorant::Uniform => false,
                    Ignorant::Prior => true,
                };
                let target = ignorance(factor, &answer, prior)?;
                sum.note(&format!("{}_ignorance", factor.name), &target)?;
                sum.add(&target, objective.alpha * ramp)?;
            }
            if against.entropy() {
                sum.add(&certainty(factor, &answer)?, objective.eta * ramp)?;
            }
            if against.information() {
                let estimate = club(factor, &answer, values)?;
                let of = format!("I(d; {})", factor.name);
                sum.information(of, &estimate, objective.mu * ramp, alarms)?;
                if with_l {
                    let answer = from_l.forward(&codes.l, Weights::Frozen)?;
                    let estimate = club(factor, &answer, values)?;
                    let of = format!("I(l; {})", factor.name);
                    sum.information(of, &estimate, objective.mu * ramp, alarms)?;
                }
            }
        }
        if !with_l {
            return Ok(());
        }
        let answer = players.class_from_l.forward(&codes.l, Weights::Frozen)?;
        sum.value("class_from_l_accuracy", accuracy(&answer, &batch.labels)?);
        if against.targets() {
            let uniform = vec![1. / self.classes() as f64; self.classes()];
            let target = target_cross_entropy(&answer, &uniform)?;
            sum.note("class_ignorance", &target)?;
            sum.add(&target, objective.beta * ramp)?;
        }
        if against.entropy() {
            sum.add(&negative_entropy(&answer)?, objective.eta * ramp)?;
        }
        if against.information() {
            let answer = players.l_from_d.forward(&codes.d, Weights::Frozen)?;
            let estimate = club_gaussian(&answer, &codes.l)?;
            let of = "I(d; l)".to_string();
            sum.information(of, &estimate, objective.mu * ramp, alarms)?;
        }
        Ok(())
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        let rows = batch.images.dim(0)?;
        if batch.factors.len() != self.factors().len() || batch.labels.dims() != [rows] {
            candle::bail!(
                "batch of {rows} images with labels {:?} and {} factors; expected ({rows}) labels and {} factors",
                batch.labels.dims(),
                batch.factors.len(),
                self.factors().len()
            )
        }
        Ok(())
    }
}

/// A weighted sum of terms, with what is logged.
#[derive(Default)]
struct Sum {
    total: Option<Tensor>,
    metrics: Vec<(String, f64)>,
}

impl Sum {
    fn add(&mut self, term: &Tensor, weight: f64) -> Result<()> {
        let term = term.affine(weight, 0.)?;
        self.total = Some(match self.total.take() {
            Some(total) => (total + term)?,
            None => term,
        });
        Ok(())
    }

    fn value(&mut self, name: &str, value: f64) {
        self.metrics.push((name.to_string(), value));
    }

    fn note(&mut self, name: &str, term: &Tensor) -> Result<()> {
        let value = scalar(term)?;
        self.value(name, value);
        Ok(())
    }

    fn information(
        &mut self,
        of: String,
        estimate: &Tensor,
        weight: f64,
        alarms: &mut Vec<Alarm>,
    ) -> Result<()> {
        let value = scalar(estimate)?;
        self.value(&of, value);
        if value < 0. {
            alarms.push(Alarm::StaleEstimate { of, value });
            return Ok(());
        }
        self.add(estimate, weight)
    }

    fn finish(self, alarms: Vec<Alarm>) -> Result<Step> {
        match self.total {
            Some(loss) => Ok(Step {
                loss,
                metrics: self.metrics,
                alarms,
            }),
            None => candle::bail!("nothing to minimise"),
        }
    }
}

fn scalar(tensor: &Tensor) -> Result<f64> {
    tensor.to_dtype(DType::F64)?.to_scalar::<f64>()
}

fn accuracy(logits: &Tensor, labels: &Tensor) -> Result<f64> {
    let best = logits.detach().argmax(1)?.to_vec1::<u32>()?;
    let labels = labels.to_dtype(DType::U32)?.to_vec1::<u32>()?;
    let right = best.iter().zip(&labels).filter(|(a, b)| a == b).count();
    Ok(right as f64 / labels.len().max(1) as f64)
}

/// Accuracy about a categorical factor, or over all attributes; none for numbers.
fn accuracy_about(factor: &Factor, answer: &Tensor, values: &FactorValues) -> Result<Option<f64>> {
    match (&factor.kind, values) {
        (FactorKind::Categorical { .. }, FactorValues::Categorical(codes)) => {
            accuracy(answer, codes).map(Some)
        }
        (FactorKind::MultiLabel { .. }, FactorValues::MultiLabel(labels)) => {
            let yes = answer.detach().gt(0.)?.to_dtype(DType::F64)?;
            let labels = labels.to_dtype(DType::F64)?;
            scalar(&yes.eq(&labels)?.to_dtype(DType::F64)?.mean_all()?).map(Some)
        }
        _ => Ok(None),
    }
}

/// Accuracy that a guess keeps with near certainty: three standard errors below that of guessing uniformly.
fn flipped_below(factor: &Factor, batch: &Batch) -> Option<f64> {
    let (chance, answers) = match &factor.kind {
        FactorKind::Categorical { prior } => (1. / prior.len() as f64, 1),
        FactorKind::MultiLabel { prior } => (0.5, prior.len()),
        FactorKind::Continuous { .. } => return None,
    };
    let count = (batch.images.dim(0).ok()? * answers) as f64;
    Some(chance - 3. * (chance * (1. - chance) / count).sqrt())
}

fn mean_deviation(codes: &Tensor) -> Result<f64> {
    let codes = codes.detach();
    let centred = codes.broadcast_sub(&codes.mean_keepdim(0)?)?;
    scalar(&centred.sqr()?.mean(0)?.sqrt()?.mean_all()?)
}
