//! The generalised adaptive (N+M)-tuplet clusters loss: the reference distance and the metric are learned.

use candle::{D, Result, Tensor, Var, bail};
use candle_nn::{Init, VarBuilder};
use phiz_mining::Tuplets;

use crate::members::Members;
use crate::ops::{check_embeddings, host, zero};
use crate::reduction::TupletReduction;
use crate::report::TupletReport;
use crate::tuplet::check_margin;

/// Configuration of [`AdaptiveTupletClusters`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveConfig {
    /// T0: the reference distance to start from, in squared units; `b` starts at `-T0`. Default 1.
    pub reference_distance: f64,
    /// tau, the whole width of the margin. Default 1; the learned parameters absorb scale, so there is little to tune.
    pub tau: f64,
    /// Default [`TupletReduction::Mean`].
    pub reduction: TupletReduction,
    /// Treat the centre as a constant. Default false.
    pub stop_gradient: bool,
}

impl Default for AdaptiveConfig {
    fn default() -> Self {
        Self {
            reference_distance: 1.0,
            tau: 1.0,
            reduction: TupletReduction::Mean,
            stop_gradient: false,
        }
    }
}

/// A learned comparison `g(f, c)` in place of `||f - c||^2 - T`:
///
/// ```text
/// g(u, v) = 1/2 |L_A u|^2 + 1/2 |L_A v|^2 - (L_B u).(L_B v) + w.(u + v) + b
/// loss    = w_p sum_i [tau/2 + g(f_i, c)]_+  +  w_n sum_j [tau/2 - g(f_j, c)]_+
/// ```
///
/// the mean over tuplets. It starts at `L_A = L_B = sqrt(2) I`, `w = 0`, `b = -T0`, where `g(u, v) = ||u - v||^2 - T0`: exactly the
/// fixed loss. `g` is a decision, not a metric: after training `g(c, c)` need not be the least.
///
/// Parameters: `l_a` (D, D), `l_b` (D, D), `w` (D), `b` (1). Decay the two matrices and not the vectors (the usual rule for
/// matrices and vectors does that).
#[derive(Debug, Clone)]
pub struct AdaptiveTupletClusters {
    l_a: Tensor,
    l_b: Tensor,
    w: Tensor,
    b: Tensor,
    config: AdaptiveConfig,
}

impl AdaptiveTupletClusters {
    /// Takes the parameters for embeddings of length `dim` out of `vb`, creating them at the starting point above.
    ///
    /// # Errors
    /// Unless `T0 > tau/2 > 0`, or when `vb` holds a parameter of another shape.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "candle-nn passes builders by value"
    )]
    pub fn new(dim: usize, config: AdaptiveConfig, vb: VarBuilder) -> Result<Self> {
        let zeros = Init::Const(0.0);
        let l_a = start_at_identity(vb.get_with_hints((dim, dim), "l_a", zeros)?)?;
        let l_b = start_at_identity(vb.get_with_hints((dim, dim), "l_b", zeros)?)?;
        let w = vb.get_with_hints(dim, "w", zeros)?;
        let b = vb.get_with_hints(1, "b", Init::Const(-config.reference_distance))?;
        Self::from_tensors(l_a, l_b, w, b, config)
    }

    /// Builds the loss from given parameters.
    ///
    /// # Errors
    /// Unless `T0 > tau/2 > 0` and the shapes are (D, D), (D, D), (D) and (1).
    pub fn from_tensors(
        l_a: Tensor,
        l_b: Tensor,
        w: Tensor,
        b: Tensor,
        config: AdaptiveConfig,
    ) -> Result<Self> {
        check_margin(config.reference_distance, config.tau)?;
        let dim = w.elem_count();
        if l_a.dims() != [dim, dim] || l_b.dims() != [dim, dim] || w.rank() != 1 || b.dims() != [1]
        {
            bail!(
                "adaptive tuplet clusters need l_a (D, D), l_b (D, D), w (D), b (1); got {:?}, {:?}, {:?}, {:?}",
                l_a.dims(),
                l_b.dims(),
                w.dims(),
                b.dims()
            );
        }
        Ok(Self {
            l_a,
            l_b,
            w,
            b,
            config,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &AdaptiveConfig {
        &self.config
    }

    /// The loss of the tuplets; without any exactly 0, with zero gradients.
    ///
    /// # Shapes
    /// `embeddings` (B, D) in f32 or f64; result: scalar.
    ///
    /// # Errors
    /// When an index is outside of the batch, or D or the type is not that of the parameters.
    pub fn forward(&self, embeddings: &Tensor, tuplets: &Tuplets) -> Result<Tensor> {
        Ok(self.forward_report(embeddings, tuplets)?.0)
    }

    /// [`forward`](Self::forward) with what to log.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_report(
        &self,
        embeddings: &Tensor,
        tuplets: &Tuplets,
    ) -> Result<(Tensor, TupletReport)> {
        let (batch, dim) = check_embeddings(embeddings)?;
        let own = self.w.elem_count();
        if dim != own {
            bail!(
                "embeddings are (B, {dim}) but the adaptive tuplet clusters loss was made for (B, {own})"
            );
        }
        let members = Members::new(tuplets, batch)?;
        if tuplets.is_empty() {
            let loss = zero(&[embeddings, &self.l_a, &self.l_b, &self.w, &self.b])?;
            return Ok((loss, TupletReport::default()));
        }
        let rows = members.rows(embeddings)?;
        let centres = members.centres(&rows, self.config.stop_gradient)?;
        let g = self.compare(&rows, &centres, |x| members.spread(x))?;
        members.two_sided_hinge(&g, self.config.tau / 2.0, self.config.reduction)
    }

    /// `g` of each row of `u` (R, D) and the same row of `v` (R, D): (R), negative where they are judged to belong together.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn decide(&self, u: &Tensor, v: &Tensor) -> Result<Tensor> {
        self.compare(u, v, |x| Ok(x.clone()))
    }

    /// `g(u, v)` where `v` has a line for each tuplet and `spread` brings lines to rows, after the products, which are fewer so.
    fn compare(
        &self,
        u: &Tensor,
        v: &Tensor,
        spread: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (a, b, w) = (self.l_a.t()?, self.l_b.t()?, self.w.unsqueeze(1)?);
        // 1/2 |L_A x|^2 + w.x, the part of g that depends on one side alone.
        let alone = |x: &Tensor| {
            let square = (x.matmul(&a)?.sqr()?.sum(D::Minus1)? * 0.5)?;
            square + x.matmul(&w)?.squeeze(1)?
        };
        let cross = (u.matmul(&b)? * spread(&v.matmul(&b)?)?)?.sum(D::Minus1)?;
        ((alone(u)? + spread(&alone(v)?)?)? - cross)?.broadcast_add(&self.b)
    }
}

/// Fills a parameter that has just been created with sqrt(2) I.
///
/// No initialiser of candle makes an identity, so a new parameter arrives as zeros; one that was loaded does not (all zeros is
/// nothing training arrives at) and is left alone.
fn start_at_identity(parameter: Tensor) -> Result<Tensor> {
    if parameter.is_variable() && host(&parameter)?.iter().all(|&v| v == 0.0) {
        let identity = Tensor::eye(parameter.dim(0)?, parameter.dtype(), parameter.device())?;
        Var::from_tensor(&parameter)?.set(&(identity * std::f64::consts::SQRT_2)?)?;
    }
    Ok(parameter)
}
