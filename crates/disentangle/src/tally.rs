//! A weighted sum of terms, with what is logged and what alarms.

use candle::{DType, Result, Tensor};

use crate::alarm::Alarm;
use crate::factor::{Factor, FactorKind, FactorValues};
use crate::game::Step;

/// Times the loss of a guess above which an adversary diverges.
const DIVERGING: f64 = 10.;

#[derive(Default)]
pub(crate) struct Tally {
    total: Option<Tensor>,
    metrics: Vec<(String, f64)>,
    alarms: Vec<Alarm>,
}

impl Tally {
    pub fn add(&mut self, term: &Tensor, weight: f64) -> Result<()> {
        let term = term.affine(weight, 0.)?;
        self.total = Some(match self.total.take() {
            Some(total) => (total + term)?,
            None => term,
        });
        Ok(())
    }

    pub fn value(&mut self, name: &str, value: f64) {
        self.metrics.push((name.to_string(), value));
    }

    pub fn note(&mut self, name: &str, term: &Tensor) -> Result<()> {
        let value = scalar(term)?;
        self.value(name, value);
        Ok(())
    }

    pub fn alarm(&mut self, alarm: Alarm) {
        self.alarms.push(alarm);
    }

    /// Adds the loss of an adversary called `name` in logs (`angle_from_d`), whose loss by guessing is `guess`.
    pub fn adversary(&mut self, name: &str, nll: &Tensor, guess: f64) -> Result<()> {
        let loss = scalar(nll)?;
        self.value(name, loss);
        if loss.is_nan() || loss > DIVERGING * guess {
            self.alarm(Alarm::Diverging {
                player: name.replace('_', " "),
                loss,
                guess,
            });
        }
        self.add(nll, 1.)
    }

    /// Adds an estimate of information by CLUB, unless it is below 0.
    pub fn club(&mut self, of: String, estimate: &Tensor, weight: f64) -> Result<()> {
        let value = scalar(estimate)?;
        self.value(&of, value);
        if value < 0. {
            self.alarm(Alarm::StaleEstimate { of, value });
            return Ok(());
        }
        self.add(estimate, weight)
    }

    pub fn finish(self) -> Result<Step> {
        match self.total {
            Some(loss) => Ok(Step {
                loss,
                metrics: self.metrics,
                alarms: self.alarms,
            }),
            None => candle::bail!("nothing to minimise"),
        }
    }
}

pub(crate) fn scalar(tensor: &Tensor) -> Result<f64> {
    tensor.to_dtype(DType::F64)?.to_scalar::<f64>()
}

pub(crate) fn accuracy(logits: &Tensor, labels: &Tensor) -> Result<f64> {
    let best = logits.detach().argmax(1)?.to_vec1::<u32>()?;
    let labels = labels.to_dtype(DType::U32)?.to_vec1::<u32>()?;
    let right = best.iter().zip(&labels).filter(|(a, b)| a == b).count();
    Ok(right as f64 / labels.len().max(1) as f64)
}

/// Accuracy about a categorical factor, or over all attributes; none for numbers.
pub(crate) fn accuracy_about(
    factor: &Factor,
    answer: &Tensor,
    values: &FactorValues,
) -> Result<Option<f64>> {
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

/// Loss of one who knows nothing about a factor, nats: that of the uniform distribution, and for numbers 1, twice the loss
/// of the best constant Gaussian, so that a moving target is no alarm at once.
pub(crate) fn guess(factor: &Factor) -> f64 {
    match &factor.kind {
        FactorKind::Categorical { prior } => (prior.len() as f64).ln(),
        FactorKind::MultiLabel { .. } => std::f64::consts::LN_2,
        FactorKind::Continuous { .. } => GAUSSIAN_GUESS,
    }
}

/// For a Gaussian head about standardised numbers.
pub(crate) const GAUSSIAN_GUESS: f64 = 1.;

/// Accuracy that a guess keeps with near certainty: three standard errors below that of guessing uniformly.
pub(crate) fn flipped_below(factor: &Factor, rows: usize) -> Option<f64> {
    let (chance, answers) = match &factor.kind {
        FactorKind::Categorical { prior } => (1. / prior.len() as f64, 1),
        FactorKind::MultiLabel { prior } => (0.5, prior.len()),
        FactorKind::Continuous { .. } => return None,
    };
    let count = (rows * answers) as f64;
    Some(chance - 3. * (chance * (1. - chance) / count).sqrt())
}

pub(crate) fn mean_deviation(codes: &Tensor) -> Result<f64> {
    let codes = codes.detach();
    let centred = codes.broadcast_sub(&codes.mean_keepdim(0)?)?;
    scalar(&centred.sqr()?.mean(0)?.sqrt()?.mean_all()?)
}
