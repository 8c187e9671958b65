//! One binary decision for each class: SphereFace2 and UniFace.

use candle::{Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};
use phiz_kernels::Real;
use phiz_kernels::row_loss::{RowLoss, RowValue, cosine_row_loss, sum};

use super::{Batch, HeadConfig, State, check_positive, cosine_scores, head};
use crate::margin::ArcGradient;
use crate::ops::check_finite;

/// The learned threshold of all classes.
#[derive(Debug, Clone)]
struct Bias(Tensor);

/// What the heads with a threshold have in common.
macro_rules! biased {
    ($head:ident) => {
        impl $head {
            /// b, (1).
            pub fn bias(&self) -> &Tensor {
                &self.state.0
            }

            /// The same head with the bias `bias` (1).
            ///
            /// # Errors
            /// When the bias is not of shape (1).
            pub fn with_bias(self, bias: Tensor) -> Result<Self> {
                if bias.dims() != [1] {
                    bail!("a bias is (1), got {:?}", bias.dims());
                }
                Ok(Self {
                    state: Bias(bias),
                    ..self
                })
            }
        }
    };
}

/// `a softplus(-(r (g(c_y) - m) + b)) + z sum_{j != y} softplus(r (g(c_j) + n) + b)` with `g(c) = 2 ((c + 1) / 2)^t - 1`.
struct BinaryRows {
    labels: Vec<u32>,
    /// a and z.
    shares: (f64, f64),
    /// r.
    scale: f64,
    /// m and n.
    margins: (f64, f64),
    /// t.
    power: u32,
    gradient: ArcGradient,
}

/// `ln(1 + e^u)` without overflow.
fn softplus(u: f64) -> f64 {
    u.max(0.0) + (-u.abs()).exp().ln_1p()
}

/// The sum of `softplus(u)`; replaces each `u` by its derivative, the logistic function. Logarithms are taken of products of up to
/// 256 factors between 1 and 2, in f64.
#[inline(always)]
fn softplus_sum<T: Real>(u: &mut [T]) -> f64 {
    let mut total = 0.0;
    for block in u.chunks_mut(4096) {
        let mut lanes = [1.0f64; 16];
        let mut positive = T::ZERO;
        for part in block.chunks_mut(16) {
            for (u, lane) in part.iter_mut().zip(&mut lanes) {
                let x = *u;
                let magnitude = if x > T::ZERO { x } else { -x };
                let e = (-magnitude).fast_exp();
                positive += if x > T::ZERO { x } else { T::ZERO };
                *lane *= 1.0 + e.to_f64();
                *u = (if x > T::ZERO { T::ONE } else { e }) / (T::ONE + e);
            }
        }
        total += positive.to_f64() + lanes.iter().map(|l| l.ln()).sum::<f64>();
    }
    total
}

impl RowLoss for BinaryRows {
    #[inline(always)]
    fn row<T: Real>(&self, i: usize, bias: f64, c: &mut [T], slopes: &mut [T]) -> RowValue {
        let label = self.labels[i] as usize;
        let (r, exact) = (self.scale, self.gradient == ArcGradient::Exact);
        let cosine = c[label].to_f64();
        let half = (cosine + 1.0) / 2.0;
        let g = 2.0 * half.powi(self.power as i32) - 1.0;
        let slope = f64::from(self.power) * half.powi(self.power as i32 - 1);
        let u = r * (g - self.margins.0) + bias;
        // Negatives: slopes hold ((c + 1) / 2)^(t - 1) first.
        let point5 = T::from_f64(0.5);
        slopes.fill(T::ONE);
        for _ in 1..self.power {
            for (s, &c) in slopes.iter_mut().zip(&*c) {
                *s *= (c + T::ONE) * point5;
            }
        }
        let (scale, shift) = (T::from_f64(r), T::from_f64(r * self.margins.1 + bias));
        for (c, &s) in c.iter_mut().zip(&*slopes) {
            *c = scale * (s * (*c + T::ONE) - T::ONE) + shift;
        }
        let (before, after) = c.split_at_mut(label);
        let after = &mut after[1..];
        let others = softplus_sum(before) + softplus_sum(after);
        let (own, all) = self.shares;
        let by_bias = all * (sum(before) + sum(after)).to_f64();
        let by_own = -own / (1.0 + u.exp());
        let factor = T::from_f64(all * r);
        let power = T::from_f64(f64::from(self.power));
        for (g, &s) in c.iter_mut().zip(&*slopes) {
            *g *= factor * if exact { power * s } else { T::ONE };
        }
        c[label] = T::from_f64(by_own * r * if exact { slope } else { 1.0 });
        RowValue {
            loss: own * softplus(-u) + all * others,
            parameter: by_bias + by_own,
        }
    }
}

fn binary(op: &'static str, batch: Batch, bias: &Tensor, rows: BinaryRows) -> Result<Tensor> {
    let n = batch.weights.len();
    let bias = bias
        .to_dtype(batch.embeddings.dtype())?
        .broadcast_as(n)?
        .contiguous()?;
    cosine_row_loss(
        op,
        ("embeddings", &batch.embeddings),
        ("the weight", &batch.weight),
        Some(&bias),
        batch.weights,
        rows,
    )
}

/// Configuration of [`SphereFace2`]; the defaults are those of the authors' program.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SphereFace2Config {
    /// r. Default 40.
    pub scale: f64,
    /// m, taken off the target and added to the negatives, after `g`. Default 0.4.
    pub margin: f64,
    /// lambda, the share of the target; negatives have `1 - lambda`. Default 0.7.
    pub balance: f64,
    /// t, which spreads the similarity: a whole number from 1. Default 3.
    pub power: u32,
    /// Whether the gradient passes through `g` and the margin, or around them ("characteristic gradient detachment", which the authors'
    /// program trains with). Default [`ArcGradient::StraightThrough`].
    pub gradient: ArcGradient,
}

impl Default for SphereFace2Config {
    fn default() -> Self {
        Self {
            scale: 40.0,
            margin: 0.4,
            balance: 0.7,
            power: 3,
            gradient: ArcGradient::StraightThrough,
        }
    }
}

impl HeadConfig for SphereFace2Config {
    const OP: &'static str = "sphereface2";

    fn check(&self) -> Result<()> {
        check_positive("the scale of SphereFace2", self.scale)?;
        check_finite("the margin of SphereFace2", self.margin)?;
        if !(0.0..=1.0).contains(&self.balance) {
            bail!(
                "the balance of SphereFace2 must lie in [0, 1], got {}",
                self.balance
            );
        }
        if !(1..=64).contains(&self.power) {
            bail!(
                "the power of SphereFace2 is a whole number from 1 to 64, got {}",
                self.power
            );
        }
        Ok(())
    }
}

impl State<SphereFace2Config> for Bias {
    fn create(classes: usize, config: &SphereFace2Config, vb: &VarBuilder) -> Result<Self> {
        let start = config.first_bias(classes);
        Ok(Self(vb.get_with_hints(1, "bias", Init::Const(start))?))
    }
}

impl SphereFace2Config {
    /// Where the bias starts: there the derivatives of the loss by it from the target and from the negatives cancel while every cosine is 0.
    fn first_bias(&self, classes: usize) -> f64 {
        let SphereFace2Config {
            scale,
            margin,
            balance,
            power,
            ..
        } = *self;
        let others = (1.0 - balance) * (classes as f64 - 1.0);
        if others <= 0.0 || balance <= 0.0 {
            return 0.0;
        }
        // With y and o the exponents of target and negatives, z / (1 + e^(y + b)) = 1 / (1 + e^(-o - b)) is quadratic in e^b.
        let g = 2.0 * 0.5f64.powi(power as i32) - 1.0;
        let (own, other) = (scale * (g - margin), scale * (g + margin));
        let z = balance / others;
        let root = ((1.0 - z).powi(2) + 4.0 * z * (own - other).exp()).sqrt();
        (2.0 * z).ln() - other - (1.0 - z + root).ln()
    }
}

head! {
    /// SphereFace2 (Wen, Liu, Weller, Raj, Singh, ICLR 2022): a binary logistic regression for each class in place of a softmax, so that all
    /// pairs share one threshold.
    ///
    /// `lambda/r softplus(-(r (g(c_y) - m) + b)) + (1 - lambda)/r sum_{j != y} softplus(r (g(c_j) + m) + b)`, `g(c) = 2 ((c + 1)/2)^t - 1`. The authors' program
    /// multiplies this by 10.
    ///
    /// Parameters `weight` (classes, dim), drawn from N(0, 0.01), and `bias` (1), which starts where it is in balance if every cosine is 0.
    /// Time O(B C D).
    SphereFace2, SphereFace2Config, Bias
}
cosine_scores!(SphereFace2);
biased!(SphereFace2);

impl SphereFace2 {
    fn run(&self, batch: Batch) -> Result<Tensor> {
        let SphereFace2Config {
            scale,
            margin,
            balance,
            power,
            gradient,
        } = self.config;
        let rows = BinaryRows {
            labels: batch.labels.clone(),
            shares: (balance / scale, (1.0 - balance) / scale),
            scale,
            margins: (margin, margin),
            power,
            gradient,
        };
        binary(SphereFace2Config::OP, batch, &self.state.0, rows)
    }
}

/// Configuration of [`UniFace`]; the defaults are those of the authors' program.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UniFaceConfig {
    /// s. Default 64.
    pub scale: f64,
    /// m, taken off the target's cosine. Default 0.4.
    pub margin: f64,
    /// lambda, the share of the negatives. Default 1.
    pub negatives: f64,
    /// r, which lifts the first bias `ln(10 r classes)`. Default 1.
    pub lift: f64,
}

impl Default for UniFaceConfig {
    fn default() -> Self {
        Self {
            scale: 64.0,
            margin: 0.4,
            negatives: 1.0,
            lift: 1.0,
        }
    }
}

impl HeadConfig for UniFaceConfig {
    const OP: &'static str = "uniface";

    fn check(&self) -> Result<()> {
        check_positive("the scale of UniFace", self.scale)?;
        check_finite("the margin of UniFace", self.margin)?;
        check_positive("the share of the negatives of UniFace", self.negatives)?;
        check_positive("the lift of UniFace", self.lift)
    }
}

impl State<UniFaceConfig> for Bias {
    fn create(classes: usize, config: &UniFaceConfig, vb: &VarBuilder) -> Result<Self> {
        let start = (10.0 * config.lift * classes.max(1) as f64).ln();
        Ok(Self(vb.get_with_hints(1, "bias", Init::Const(start))?))
    }
}

head! {
    /// UniFace (Zhou et al., ICCV 2023): unified cross-entropy, whose learned threshold `b` separates all positive from all negative pairs.
    ///
    /// `softplus(-(s (c_y - m) - b)) + lambda sum_{j != y} softplus(s c_j - b)`.
    ///
    /// Parameters `weight` (classes, dim), drawn from N(0, 0.01), and `bias` (1), at first `ln(10 r classes)`. Time O(B C D).
    UniFace, UniFaceConfig, Bias
}
cosine_scores!(UniFace);
biased!(UniFace);

impl UniFace {
    fn run(&self, batch: Batch) -> Result<Tensor> {
        let UniFaceConfig {
            scale,
            margin,
            negatives,
            ..
        } = self.config;
        let rows = BinaryRows {
            labels: batch.labels.clone(),
            shares: (1.0, negatives),
            scale,
            margins: (margin, 0.0),
            power: 1,
            gradient: ArcGradient::Exact,
        };
        binary(UniFaceConfig::OP, batch, &self.state.0.neg()?, rows)
    }
}
