//! The game: what each player minimises in its turn, and signs that it goes wrong.
//!
//! The adversaries learn to read a factor from d, and the class and the factors from l, on codes without gradient.
//! Then encoders, classifier and decoder take one step against adversaries that are frozen:
//!
//! ```text
//! L = c L_class + lambda L_rec + ramp * ( alpha A(s | d) + beta A(y | l) + eta E + mu I(d; s) + mu I(d; l) + mu I(l; s) )
//! ```
//!
//! where A asks for ignorance (uniform target, or the prior), E for uncertainty and I is CLUB or MINE. All are bounded
//! below but I; CLUB is left out of a step in which its estimate is below 0: then the estimator, not the code, is at fault.
//!
//! A factor that is [given by class](Factor::given_class) is played for under that condition: its adversary is told the class,
//! A is [`ignorance_given_class`], I(d; s) becomes I(d; s | y) by [`club_given_class`], and E, which asks for more uncertainty
//! than the class leaves, is left out. Alarms still measure that adversary by one who knows neither d nor the class.
//!
//! Adversaries read codes standardised over the batch, so that nothing is hidden by being small, down to a deviation of about
//! a thousandth.

use candle::{Result, Tensor};

use crate::alarm::Alarm;
use crate::factor::{Factor, FactorValues};
use crate::given::{club_given_class, ignorance_given_class, told};
use crate::information::{club, club_gaussian, gaussian_nll, mine, negative_log_likelihood};
use crate::mlp::{Mlp, Weights};
use crate::model::{Codes, Disentangler, Statistics};
use crate::reversal::reverse_gradient;
use crate::rules::{Against, Objective};
use crate::tally::{
    GAUSSIAN_GUESS, Tally, accuracy, accuracy_about, flipped_below, guess, mean_deviation,
};
use crate::targets::{certainty, ignorance, negative_entropy, target_cross_entropy};

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

/// A loss of d in the place of the classifier's: from d (B, `d_dim`) to a scalar.
pub type TaskLoss<'a> = dyn Fn(&Tensor) -> Result<Tensor> + 'a;

impl Disentangler {
    /// The adversaries' turn: the sum of their negative log-likelihoods, on codes without gradient.
    ///
    /// The trunk runs as in training, so adversaries see the codes that the encoders are judged by.
    ///
    /// # Errors
    /// When the batch does not fit.
    pub fn adversary_step(&self, batch: &Batch) -> Result<Step> {
        self.check(batch)?;
        let read = standardised(&self.encode(&batch.images, true)?)?;
        let mut tally = Tally::default();
        self.teach(batch, &read, &mut tally)?;
        tally.finish()
    }

    /// The main players' turn; `ramp` scales every term against the adversaries.
    ///
    /// With [`Against::Reversal`] the adversaries of the factors given d and of the class given l learn in this step
    /// too, with [`Objective::teach`] all of them do; otherwise no adversary gets a gradient.
    ///
    /// # Errors
    /// When the batch does not fit.
    pub fn main_step(&self, batch: &Batch, objective: &Objective, ramp: f64) -> Result<Step> {
        self.main_step_with(batch, objective, ramp, None)
    }

    /// [`Disentangler::main_step`] with a loss of d in the place of the classifier's, which then learns beside it on a d
    /// without gradient.
    ///
    /// # Errors
    /// When the batch does not fit, or the loss fails.
    pub fn main_step_with(
        &self,
        batch: &Batch,
        objective: &Objective,
        ramp: f64,
        task: Option<&TaskLoss<'_>>,
    ) -> Result<Step> {
        self.check(batch)?;
        let codes = self.encode(&batch.images, true)?;
        let mut tally = Tally::default();
        let logits = match task {
            None => self.classify(&codes.d)?,
            Some(_) => self.classify(&codes.d.detach())?,
        };
        let loss = phiz_kernels::cross_entropy(&logits, &batch.labels, 0.)?;
        tally.note("classification", &loss)?;
        tally.value("accuracy", accuracy(&logits, &batch.labels)?);
        match task {
            None => tally.add(&loss, objective.classification)?,
            Some(task) => {
                let of_d = task(&codes.d)?;
                tally.note("task", &of_d)?;
                tally.add(&of_d, objective.classification)?;
                tally.add(&loss, 1.)?;
            }
        }
        if objective.lambda != 0. {
            let s = self.semantic(batch, &codes.d)?;
            let d = if objective.rebuild_d {
                codes.d.clone()
            } else {
                codes.d.detach()
            };
            let image = self.decode(&d, &s, &codes.l, true)?;
            let error = objective.reconstruction.error(&image, &batch.images)?;
            tally.note("reconstruction", &error)?;
            tally.add(&error, objective.lambda)?;
            let deviation = mean_deviation(&codes.l)?;
            tally.value("l_deviation", deviation);
            if deviation < 0.01 {
                tally.alarm(Alarm::CollapsedLatent { deviation });
            }
        }
        if objective.against != Against::Nothing {
            let read = standardised(&codes)?;
            let bounded = objective.against != Against::Reversal;
            if bounded && objective.teach {
                self.teach(batch, &read, &mut tally)?;
            }
            if ramp > 0. && bounded {
                self.bounded(batch, &read, objective, ramp, &mut tally)?;
            } else if ramp > 0. {
                self.reversed(batch, &read, objective, ramp, &mut tally)?;
            }
        }
        tally.finish()
    }

    /// The factors' codes side by side, as the decoder takes them, on the device of `like`.
    ///
    /// # Shapes
    /// Result (B, sum of [`Factor::code_dim`]).
    ///
    /// # Errors
    /// When the factors' values do not fit.
    pub fn semantic(&self, batch: &Batch, like: &Tensor) -> Result<Tensor> {
        let each = self.factors().iter().zip(&batch.factors);
        let parts = each
            .map(|(factor, values)| factor.code(values, like.dtype())?.to_device(like.device()))
            .collect::<Result<Vec<_>>>()?;
        Tensor::cat(&parts, 1)
    }

    /// What the adversaries learn from codes, which get no gradient of it.
    fn teach(&self, batch: &Batch, codes: &Codes, tally: &mut Tally) -> Result<()> {
        let codes = Codes {
            d: codes.d.detach(),
            l: codes.l.detach(),
        };
        let players = &self.adversaries;
        let each = self.factors().iter().zip(&batch.factors);
        for ((factor, values), (from_d, from_l)) in
            each.zip(players.factors_from_d.iter().zip(&players.factors_from_l))
        {
            let name = format!("{}_from_d", factor.name);
            let seen = told(factor, &codes.d, &batch.labels)?;
            let answer = from_d.forward(&seen, Weights::Learning)?;
            let nll = negative_log_likelihood(factor, &answer, values)?;
            tally.adversary(&name, &nll, guess(factor))?;
            if let Some(accuracy) = accuracy_about(factor, &answer, values)? {
                tally.value(&format!("{name}_accuracy"), accuracy);
            }
            let answer = from_l.forward(&codes.l, Weights::Learning)?;
            let nll = negative_log_likelihood(factor, &answer, values)?;
            tally.adversary(&format!("{}_from_l", factor.name), &nll, guess(factor))?;
        }
        let answer = players.class_from_l.forward(&codes.l, Weights::Learning)?;
        let nll = phiz_kernels::cross_entropy(&answer, &batch.labels, 0.)?;
        tally.adversary("class_from_l", &nll, (self.classes() as f64).ln())?;
        tally.value("class_from_l_accuracy", accuracy(&answer, &batch.labels)?);
        let answer = players.l_from_d.forward(&codes.d, Weights::Learning)?;
        let nll = gaussian_nll(&answer, &codes.l)?;
        tally.adversary("l_from_d", &nll, GAUSSIAN_GUESS)?;
        if let Some(statistics) = &players.statistics {
            let s = self.parts(batch, &codes.d)?;
            for (of, estimate) in self.mined(statistics, &codes, &s, Weights::Learning, true)? {
                tally.note(&format!("mine {of}"), &estimate)?;
                tally.add(&estimate, -1.)?;
            }
        }
        Ok(())
    }

    fn reversed(
        &self,
        batch: &Batch,
        codes: &Codes,
        objective: &Objective,
        ramp: f64,
        tally: &mut Tally,
    ) -> Result<()> {
        let players = &self.adversaries;
        let d = reverse_gradient(&codes.d, objective.alpha * ramp)?;
        for ((factor, values), player) in self
            .factors()
            .iter()
            .zip(&batch.factors)
            .zip(&players.factors_from_d)
        {
            let name = format!("{}_from_d", factor.name);
            let seen = told(factor, &d, &batch.labels)?;
            let answer = player.forward(&seen, Weights::Learning)?;
            let nll = negative_log_likelihood(factor, &answer, values)?;
            tally.adversary(&name, &nll, guess(factor))?;
            if let Some(accuracy) = accuracy_about(factor, &answer, values)? {
                tally.value(&format!("{name}_accuracy"), accuracy);
            }
        }
        if objective.lambda != 0. {
            let l = reverse_gradient(&codes.l, objective.beta * ramp)?;
            let answer = players.class_from_l.forward(&l, Weights::Learning)?;
            let nll = phiz_kernels::cross_entropy(&answer, &batch.labels, 0.)?;
            tally.adversary("class_from_l", &nll, (self.classes() as f64).ln())?;
        }
        Ok(())
    }

    fn bounded(
        &self,
        batch: &Batch,
        codes: &Codes,
        objective: &Objective,
        ramp: f64,
        tally: &mut Tally,
    ) -> Result<()> {
        let against = objective.against;
        let players = &self.adversaries;
        // l is worth nothing to anybody without a decoder.
        let with_l = objective.lambda != 0.;
        let rows = batch.images.dim(0)?;
        let mu = objective.mu * ramp;
        let by_club = against.information() && players.statistics.is_none();
        let each = self.factors().iter().zip(&batch.factors);
        for ((factor, values), (from_d, from_l)) in
            each.zip(players.factors_from_d.iter().zip(&players.factors_from_l))
        {
            let seen = told(factor, &codes.d, &batch.labels)?;
            let answer = from_d.forward(&seen, Weights::Frozen)?;
            let given_class = !factor.by_class.is_empty();
            if let Some(accuracy) = accuracy_about(factor, &answer, values)? {
                if !objective.teach {
                    tally.value(&format!("{}_from_d_accuracy", factor.name), accuracy);
                }
                if flipped_below(factor, rows).is_some_and(|least| accuracy < least) {
                    tally.alarm(Alarm::Flipped {
                        factor: factor.name.clone(),
                        accuracy,
                    });
                }
            }
            if against.targets() {
                let target = match given_class {
                    true => ignorance_given_class(factor, &answer, &batch.labels)?,
                    false => ignorance(factor, &answer, objective.prior_for(factor))?,
                };
                tally.note(&format!("{}_ignorance", factor.name), &target)?;
                tally.add(&target, objective.alpha * ramp)?;
            }
            // Uncertain beyond what the class leaves open is not ignorant.
            if against.entropy() && !given_class {
                tally.add(&certainty(factor, &answer)?, objective.eta * ramp)?;
            }
            if by_club {
                let estimate = match given_class {
                    true => club_given_class(factor, &answer, values, &batch.labels)?,
                    false => club(factor, &answer, values)?,
                };
                tally.club(format!("I(d; {})", factor.name), &estimate, mu)?;
                if with_l {
                    let answer = from_l.forward(&codes.l, Weights::Frozen)?;
                    let estimate = club(factor, &answer, values)?;
                    tally.club(format!("I(l; {})", factor.name), &estimate, mu)?;
                }
            }
        }
        if let (true, Some(statistics)) = (against.information(), &players.statistics) {
            let s = self.parts(batch, &codes.d)?;
            for (of, estimate) in self.mined(statistics, codes, &s, Weights::Frozen, with_l)? {
                tally.note(&of, &estimate)?;
                tally.add(&estimate, mu)?;
            }
        }
        if !with_l {
            return Ok(());
        }
        let answer = players.class_from_l.forward(&codes.l, Weights::Frozen)?;
        if !objective.teach {
            tally.value("class_from_l_accuracy", accuracy(&answer, &batch.labels)?);
        }
        if against.targets() {
            let uniform = vec![1. / self.classes() as f64; self.classes()];
            let target = target_cross_entropy(&answer, &uniform)?;
            tally.note("class_ignorance", &target)?;
            tally.add(&target, objective.beta * ramp)?;
        }
        if against.entropy() {
            tally.add(&negative_entropy(&answer)?, objective.eta * ramp)?;
        }
        if by_club {
            let answer = players.l_from_d.forward(&codes.d, Weights::Frozen)?;
            let estimate = club_gaussian(&answer, &codes.l)?;
            tally.club("I(d; l)".to_string(), &estimate, mu)?;
        }
        Ok(())
    }

    /// Codes of each factor for itself.
    fn parts(&self, batch: &Batch, like: &Tensor) -> Result<Vec<Tensor>> {
        let each = self.factors().iter().zip(&batch.factors);
        each.map(|(factor, values)| factor.code(values, like.dtype())?.to_device(like.device()))
            .collect()
    }

    /// MINE's estimate of each pair of parts.
    fn mined(
        &self,
        statistics: &Statistics,
        codes: &Codes,
        s: &[Tensor],
        weights: Weights,
        with_l: bool,
    ) -> Result<Vec<(String, Tensor)>> {
        let mut found = Vec::new();
        let names = self.factors().iter().map(|factor: &Factor| &factor.name);
        let nets = statistics.factors_d.iter().zip(&statistics.factors_l);
        for ((name, s), (d_net, l_net)) in names.zip(s).zip(nets) {
            let estimate = mine_between(d_net, &codes.d, s, weights)?;
            found.push((format!("I(d; {name})"), estimate));
            if with_l {
                let estimate = mine_between(l_net, &codes.l, s, weights)?;
                found.push((format!("I(l; {name})"), estimate));
            }
        }
        if with_l {
            let estimate = mine_between(&statistics.l_d, &codes.d, &codes.l, weights)?;
            found.push(("I(d; l)".to_string(), estimate));
        }
        Ok(found)
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

/// Each number of the codes less its mean over the batch, by its standard deviation there: all that the adversaries see.
///
/// Codes as they are would let the encoders win by making small what they should not hold; a fresh reader, who looks
/// at every number on its own scale, would still find it.
fn standardised(codes: &Codes) -> Result<Codes> {
    let each = |code: &Tensor| {
        let centred = code.broadcast_sub(&code.mean_keepdim(0)?)?;
        let variance = centred.sqr()?.mean_keepdim(0)?;
        centred.broadcast_div(&(variance + 1e-6)?.sqrt()?)
    };
    Ok(Codes {
        d: each(&codes.d)?,
        l: each(&codes.l)?,
    })
}

/// MINE with the batch's next row as the stranger of each: rows are drawn at random, so that is any other row.
fn mine_between(net: &Mlp, u: &Tensor, v: &Tensor, weights: Weights) -> Result<Tensor> {
    let rows = v.dim(0)?;
    if rows < 2 {
        candle::bail!("MINE needs a batch of at least 2, got {rows}")
    }
    let strange = Tensor::cat(&[v.narrow(0, 1, rows - 1)?, v.narrow(0, 0, 1)?], 0)?;
    let joint = net.forward(&Tensor::cat(&[u, v], 1)?, weights)?;
    let marginal = net.forward(&Tensor::cat(&[u, &strange], 1)?, weights)?;
    mine(&joint, &marginal)
}
