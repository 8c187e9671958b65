//! The conditional game: d is to say no more of a factor than the class does.
//!
//! Where the factor follows the class in training (a bias of the data), full independence asks d to give up the class itself.
//! Independence given the class does not: adversaries are told the class beside d, and an ignorant one answers what the
//! class alone says. (Zhang, Lemoine & Mitchell, "Mitigating unwanted biases with adversarial learning", AIES 2018, give an
//! adversary the class for the sake of equal odds; targets and information under that condition are ours.)

use candle::{Result, Tensor};
use phiz_kernels::{log_softmax, softplus};

use crate::factor::{Factor, FactorKind, FactorValues, one_hot};
use crate::targets::{LOG_VARIANCE_LIMIT, gaussian};

impl Factor {
    /// This factor with what each class says of it, one row a class: the K shares (which sum to 1) or A shares among the
    /// class's training images, or of a continuous factor mean and log-variance (-6 to 6) of each dimension, means first.
    ///
    /// # Errors
    /// When there is no row, or one is not of that form.
    pub fn given_class(mut self, rows: Vec<Vec<f64>>) -> Result<Self> {
        let share = |value: &f64| (0. ..=1.).contains(value);
        let fits = |row: &Vec<f64>| {
            row.len() == self.output_dim()
                && match self.kind {
                    FactorKind::Categorical { .. } => {
                        row.iter().all(share) && (row.iter().sum::<f64>() - 1.).abs() < 1e-6
                    }
                    FactorKind::MultiLabel { .. } => row.iter().all(share),
                    FactorKind::Continuous { dims } => {
                        row.iter().all(|value| value.is_finite())
                            && row.iter().skip(dims).all(|w| w.abs() <= LOG_VARIANCE_LIMIT)
                    }
                }
        };
        if rows.is_empty() || !rows.iter().all(fits) {
            candle::bail!(
                "factor `{}`: expected for each class {} {}",
                self.name,
                self.output_dim(),
                match self.kind {
                    FactorKind::Categorical { .. } => "shares that sum to 1",
                    FactorKind::MultiLabel { .. } => "shares from 0 to 1",
                    FactorKind::Continuous { .. } => "numbers, log-variances from -6 to 6",
                }
            )
        }
        self.by_class = rows;
        Ok(self)
    }
}

/// What answers cost on average if a factor's labels are drawn from what the class alone says: to be minimised by the
/// encoder, and smallest where an answer is just that.
///
/// With t the class's row: `-(1/B) sum_i sum_k t_k log p_ik` of a categorical factor, the binary form averaged over attributes,
/// or `(1/2) mean( v + (exp(w) + (m - mean)^2) exp(-v) )` with the class's mean m and log-variance w (without the constant
/// `log(2 pi) / 2`).
///
/// # Shapes
/// `output` (B, [`Factor::output_dim`]), `labels` (B) u32; scalar result.
///
/// # Errors
/// When the factor does not know what classes say, a label is none of them, or the shapes do not fit.
pub fn ignorance_given_class(factor: &Factor, output: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (classes, width) = (factor.by_class.len(), factor.output_dim());
    let rows = check(factor, output, labels)?;
    let all: Vec<f64> = factor.by_class.iter().flatten().copied().collect();
    let all = Tensor::from_vec(all, (classes, width), output.device())?.to_dtype(output.dtype())?;
    let known = classes_of(factor, output, labels)?.matmul(&all)?;
    match factor.kind {
        FactorKind::Categorical { .. } => (log_softmax(output)? * known)?
            .sum_all()?
            .affine(-1. / rows as f64, 0.),
        FactorKind::MultiLabel { .. } => (softplus(output)? - (output * known)?)?.mean_all(),
        FactorKind::Continuous { dims } => {
            let (mean, log_var) = gaussian(output)?;
            let (m, w) = (known.narrow(1, 0, dims)?, known.narrow(1, dims, dims)?);
            let spread = (w.exp()? + (mean - m)?.sqr()?)?;
            ((spread * log_var.neg()?.exp()?)? + log_var)?
                .mean_all()?
                .affine(0.5, 0.)
        }
    }
}

/// CLUB given the class, an upper bound of I(u; s | y) while q is close to p(s | u, y): how much better q predicts a row's own
/// label than those of the batch's rows of the same class. As [`club`](crate::club) it is 0 where answers depend on the class
/// alone; of attributes it is averaged over them.
///
/// # Shapes
/// `output` (B, [`Factor::output_dim`]), `labels` (B) u32; scalar result.
///
/// # Errors
/// As [`ignorance_given_class`], and when the values are of another kind.
pub fn club_given_class(
    factor: &Factor,
    output: &Tensor,
    values: &FactorValues,
    labels: &Tensor,
) -> Result<Tensor> {
    let rows = check(factor, output, labels)?;
    let of_class = classes_of(factor, output, labels)?;
    let counts = of_class.sum_keepdim(0)?.clamp(1., f64::INFINITY)?;
    // (B, B): from each row to the mean over its class.
    let average = of_class.broadcast_div(&counts)?.matmul(&of_class.t()?)?;
    match (&factor.kind, values) {
        (FactorKind::Categorical { prior }, FactorValues::Categorical(codes)) => {
            let own = one_hot(&factor.name, codes, prior.len(), output.dtype())?
                .to_device(output.device())?;
            let excess = (&own - average.matmul(&own)?)?;
            (log_softmax(output)? * excess)?
                .sum_all()?
                .affine(1. / rows as f64, 0.)
        }
        (FactorKind::MultiLabel { .. }, FactorValues::MultiLabel(own)) => {
            let own = own.to_dtype(output.dtype())?;
            (output * (&own - average.matmul(&own)?)?)?.mean_all()
        }
        (FactorKind::Continuous { .. }, FactorValues::Continuous(own)) => {
            let own = own.to_dtype(output.dtype())?;
            let (mean, log_var) = gaussian(output)?;
            let centre = average.matmul(&own)?;
            let variance = average.matmul(&(&own - &centre)?.sqr()?)?;
            let others = ((&mean - centre)?.sqr()? + variance)?;
            ((others - (own - mean)?.sqr()?)? * log_var.neg()?.exp()?)?
                .sum_all()?
                .affine(0.5 / rows as f64, 0.)
        }
        _ => candle::bail!(
            "factor `{}`: its labels are of another kind than the factor",
            factor.name
        ),
    }
}

/// Rows of a batch whose answers and labels fit the factor.
fn check(factor: &Factor, output: &Tensor, labels: &Tensor) -> Result<usize> {
    let (classes, width) = (factor.by_class.len(), factor.output_dim());
    let rows = output.dim(0)?;
    if classes == 0 || output.dims() != [rows, width] || labels.dims() != [rows] || rows == 0 {
        candle::bail!(
            "factor `{}`: answers {:?} for labels {:?} of {classes} classes; expected (B, {width}) and (B)",
            factor.name,
            output.dims(),
            labels.dims()
        )
    }
    Ok(rows)
}

/// One-hot rows of the classes, (B, C).
fn classes_of(factor: &Factor, like: &Tensor, labels: &Tensor) -> Result<Tensor> {
    one_hot("class", labels, factor.by_class.len(), like.dtype())?.to_device(like.device())
}

/// What an adversary of a factor is shown: a code, and beside it the class where the game is played given it.
pub(crate) fn told(factor: &Factor, code: &Tensor, labels: &Tensor) -> Result<Tensor> {
    if factor.by_class.is_empty() {
        return Ok(code.clone());
    }
    Tensor::cat(&[code, &classes_of(factor, code, labels)?], 1)
}
