//! VICReg: two views of the same items, without pairs.

use candle::{Result, Tensor, bail};
use phiz_kernels::safe::sqrt;

use crate::ops::{check_embeddings, check_finite};

/// Variance-invariance-covariance regularisation of two views of the same items (Bardes, Ponce, LeCun, ICLR 2022):
///
/// ```text
/// lambda mean (z - z')^2  +  mu/2 mean_d [1 - sqrt(var_d + eps)]_+  (of both views)  +  nu (1/D) sum_{i != j} cov_ij^2  (of both views)
/// ```
///
/// Variances and covariances are unbiased. O(B D^2) time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VicReg {
    /// Default 25.
    pub invariance_lambda: f64,
    /// Default 25.
    pub variance_mu: f64,
    /// Default 1.
    pub covariance_v: f64,
    /// Default 1e-4.
    pub eps: f64,
}

impl Default for VicReg {
    fn default() -> Self {
        Self {
            invariance_lambda: 25.0,
            variance_mu: 25.0,
            covariance_v: 1.0,
            eps: 1e-4,
        }
    }
}

impl VicReg {
    /// The loss; row `i` of both views is the same item.
    ///
    /// # Shapes
    /// `a` and `b` (B, D) in f32 or f64; result: scalar.
    ///
    /// # Errors
    /// When the shapes or types disagree, a parameter is not finite, or there are fewer than two items (no variance).
    pub fn forward(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let (n, _) = check_embeddings(a)?;
        check_embeddings(b)?;
        if a.dims() != b.dims() || a.dtype() != b.dtype() {
            bail!(
                "two views need one shape and type, got {:?} {:?} and {:?} {:?}",
                a.dims(),
                a.dtype(),
                b.dims(),
                b.dtype()
            );
        }
        for value in [
            self.invariance_lambda,
            self.variance_mu,
            self.covariance_v,
            self.eps,
        ] {
            check_finite("a parameter of VICReg", value)?;
        }
        if n < 2 {
            bail!("VICReg needs at least two items to have a variance, got {n}");
        }
        let near = ((a - b)?.sqr()?.mean_all()? * self.invariance_lambda)?;
        (near + self.spread(a)?)? + self.spread(b)?
    }

    /// The variance and covariance terms of one view.
    fn spread(&self, x: &Tensor) -> Result<Tensor> {
        let (n, d) = x.dims2()?;
        let x = x.broadcast_sub(&x.mean_keepdim(0)?)?;
        let free = 1.0 / (n - 1) as f64;
        let variance = (x.sqr()?.sum(0)? * free)?;
        let short = sqrt(&(&variance + self.eps)?)?
            .affine(-1.0, 1.0)?
            .relu()?
            .mean_all()?;
        let covariance = (x.t()?.contiguous()?.matmul(&x)? * free)?;
        let off = (covariance.sqr()?.sum_all()? - variance.sqr()?.sum_all()?)?;
        (short * (self.variance_mu / 2.0))? + (off * (self.covariance_v / d as f64))?
    }
}
