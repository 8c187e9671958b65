//! The conditional game: d is to say no more of a factor than the class does.
//!
//! Where the factor follows the class in training (a bias of the data), full independence asks d to give up the class itself.
//! Independence given the class does not: adversaries are told the class beside d, and an ignorant one answers what the
//! class alone says. (Zhang, Lemoine & Mitchell, "Mitigating unwanted biases with adversarial learning", AIES 2018, give an
//! adversary the class for the sake of equal odds; targets and information under that condition are ours.)

use candle::{Result, Tensor};
use phiz_kernels::{log_softmax, softplus};

use crate::factor::{Factor, FactorKind};
use crate::targets::gaussian;

impl Factor {
    /// This factor with what each class says of it, one row a class: the K or A shares among the class's training images, or
    /// of a continuous factor mean and log-variance of each dimension, means first.
    ///
    /// # Errors
    /// When there is no row, or one is not of that form.
    pub fn given_class(mut self, rows: Vec<Vec<f64>>) -> Result<Self> {
        let shares = !matches!(self.kind, FactorKind::Continuous { .. });
        let fits = |row: &Vec<f64>| {
            row.len() == self.output_dim()
                && row
                    .iter()
                    .all(|&value| value.is_finite() && (!shares || (0. ..=1.).contains(&value)))
        };
        if rows.is_empty() || !rows.iter().all(fits) {
            candle::bail!(
                "factor `{}`: expected for each class {} {}",
                self.name,
                self.output_dim(),
                if shares {
                    "shares from 0 to 1"
                } else {
                    "finite numbers"
                }
            )
        }
        self.by_class = rows;
        Ok(self)
    }
}

/// What answers cost on average if a factor's labels are drawn from what the class alone says: to be minimised by the
/// encoder, and smallest (the entropy of that) where an answer is just that.
///
/// With t the class's row: `-(1/B) sum_i sum_k t_k log p_ik` of a categorical factor, the binary form averaged over attributes,
/// or `(1/2) mean( v + (exp(w) + (m - mean)^2) exp(-v) )` with the class's mean m and log-variance w. Less the
/// [`negative_log_likelihood`](crate::negative_log_likelihood) of the labels themselves it is CLUB given the class: an upper
/// bound of I(d; s | y) while the adversary is fitted.
///
/// # Shapes
/// `output` (B, [`Factor::output_dim`]), `labels` (B) u32; scalar result.
///
/// # Errors
/// When the factor does not know what classes say, or the shapes do not fit.
pub fn ignorance_given_class(factor: &Factor, output: &Tensor, labels: &Tensor) -> Result<Tensor> {
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
    let all: Vec<f64> = factor.by_class.iter().flatten().copied().collect();
    let all = Tensor::from_vec(all, (classes, width), output.device())?.to_dtype(output.dtype())?;
    let known = all.index_select(labels, 0)?;
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
