//! Functions whose gradient stays finite at the points where the formula has none (roots at zero,
//! norms of zero rows, rows of minus infinity, ties of a maximum, cosines of exactly one), and whose
//! gradient candle gets wrong (`scatter_add`).

mod elementwise;
mod index;
mod rows;

pub(crate) use elementwise::clamp_unit;
pub use elementwise::{abs, acos, asin, atan, sqrt};
pub use index::{scatter_add, top_k_last_dim};
pub use rows::{
    log_sum_exp, log_sum_exp_last_dim, max, max_last_dim, min, min_last_dim, norm, norm_last_dim,
    normalize, normalize_last_dim, softmax, softmax_last_dim,
};

#[cfg(test)]
mod tests {
    use super::elementwise::{composed_abs, composed_sqrt};
    use super::rows::{
        composed_log_sum_exp, composed_max, composed_norm, composed_normalize, composed_softmax,
    };
    use super::*;
    use candle::{Device, Result, Tensor, Var};

    type Unary = fn(&Tensor) -> Result<Tensor>;

    /// The composed forms, which other devices use, agree with the CPU's own in value and gradient,
    /// at the bad points too.
    #[test]
    fn composed_forms_agree() -> Result<()> {
        let low = f64::NEG_INFINITY;
        let x = Tensor::new(
            &[
                [0.0, 0.0, 0.0],
                [1.0, -2.0, 1.0],
                [3.0, 3.0, 0.5],
                [1e3, -1e3, 1e3],
            ],
            &Device::Cpu,
        )?;
        let masked = Tensor::new(&[[low, low, low], [low, 1.0, 2.0]], &Device::Cpu)?;
        let cases: [(&str, &Tensor, Unary, Unary); 11] = [
            ("sqrt", &x, sqrt, composed_sqrt),
            ("abs", &x, abs, composed_abs),
            ("norm", &x, norm_last_dim, composed_norm),
            ("normalize", &x, normalize_last_dim, composed_normalize),
            (
                "log_sum_exp",
                &x,
                log_sum_exp_last_dim,
                composed_log_sum_exp,
            ),
            (
                "log_sum_exp masked",
                &masked,
                log_sum_exp_last_dim,
                composed_log_sum_exp,
            ),
            ("max", &x, max_last_dim, composed_max),
            ("softmax", &x, softmax_last_dim, composed_softmax),
            (
                "softmax masked",
                &masked,
                softmax_last_dim,
                composed_softmax,
            ),
            ("relu", &x, crate::relu, crate::activation::composed_relu),
            (
                "softplus",
                &x,
                crate::softplus,
                crate::activation::composed_softplus,
            ),
        ];
        for (name, x, ours, theirs) in cases {
            let var = Var::from_tensor(x)?;
            let (a, b) = (ours(&var)?, theirs(&var)?);
            let weight = Tensor::arange(1f64, a.elem_count() as f64 + 1.0, &Device::Cpu)?;
            let weight = weight.reshape(a.shape())?;
            let grad = |y: &Tensor| -> Result<Vec<f64>> {
                let grads = y.mul(&weight)?.sum_all()?.backward()?;
                grads.get(&var).unwrap().flatten_all()?.to_vec1()
            };
            let pairs = [
                (
                    a.flatten_all()?.to_vec1::<f64>()?,
                    b.flatten_all()?.to_vec1::<f64>()?,
                ),
                (grad(&a)?, grad(&b)?),
            ];
            for (ours, theirs) in pairs {
                for (a, b) in ours.iter().zip(&theirs) {
                    assert!(
                        a == b || (a - b).abs() < 1e-12 * a.abs().max(1.0),
                        "{name}: {ours:?} {theirs:?}"
                    );
                }
            }
        }
        Ok(())
    }
}
