//! The batch normalisation layer with its running statistics.

use crate::Activation;
use crate::conv_norm::{conv_transpose2d_batch_norm_train, conv2d_batch_norm_train};
use crate::layers::{Conv2d, ConvTranspose2d};
use crate::norm::{BatchStats, batch_norm_eval, batch_norm_train};
use candle::{Result, Tensor, Var};
use candle_nn::{Init, Module, ModuleT, VarBuilder};

/// Options of [`batch_norm`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormConfig {
    /// Added to the variance. Default 1e-5.
    pub eps: f64,
    /// Share of the batch in the running statistics: `new = (1 - momentum) * old + momentum * batch`.
    /// Default 0.1.
    pub momentum: f64,
    /// Whether the scale is learnt. Without, it is 1 and `weight` is not asked of the builder; the
    /// bias is learnt in either case. Default true.
    pub learn_scale: bool,
}

impl Default for BatchNormConfig {
    fn default() -> Self {
        Self {
            eps: 1e-5,
            momentum: 0.1,
            learn_scale: true,
        }
    }
}

impl From<f64> for BatchNormConfig {
    fn from(eps: f64) -> Self {
        Self {
            eps,
            ..Self::default()
        }
    }
}

/// Batch normalisation; see [`batch_norm_train`] and [`batch_norm_eval`].
#[derive(Debug, Clone)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Var,
    running_var: Var,
    config: BatchNormConfig,
}

impl BatchNorm {
    /// A layer from its tensors, each (C). Running statistics that are variables already are shared,
    /// not copied: training updates them in place.
    ///
    /// # Errors
    /// When the shapes differ, `eps` is negative, or `momentum` lies outside [0, 1].
    pub fn new(
        weight: Tensor,
        bias: Tensor,
        running_mean: &Tensor,
        running_var: &Tensor,
        config: BatchNormConfig,
    ) -> Result<Self> {
        let channels = weight.dims1()?;
        let others = [
            ("bias", &bias),
            ("running_mean", running_mean),
            ("running_var", running_var),
        ];
        for (name, t) in others {
            if t.dims() != [channels] {
                candle::bail!(
                    "batch_norm: {name} {:?} does not match weight ({channels})",
                    t.shape()
                );
            }
        }
        if config.eps.is_nan() || config.eps < 0.0 {
            candle::bail!("batch_norm: eps must not be negative, got {}", config.eps);
        }
        if !(0.0..=1.0).contains(&config.momentum) {
            candle::bail!(
                "batch_norm: momentum must lie in [0, 1], got {}",
                config.momentum
            );
        }
        Ok(Self {
            weight,
            bias,
            running_mean: Var::from_tensor(running_mean)?,
            running_var: Var::from_tensor(running_var)?,
            config,
        })
    }

    /// The scale, (C).
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The shift, (C).
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// The running mean, (C).
    pub fn running_mean(&self) -> &Tensor {
        self.running_mean.as_tensor()
    }

    /// The running variance (unbiased), (C).
    pub fn running_var(&self) -> &Tensor {
        self.running_var.as_tensor()
    }

    /// The options.
    pub fn config(&self) -> &BatchNormConfig {
        &self.config
    }

    /// Normalises, then applies `act` in the same pass. With `train` the statistics are the batch's and
    /// the running ones are updated; without, the running ones are used.
    ///
    /// # Shapes
    /// `x` (B, C) or (B, C, H, W); the result has the same.
    ///
    /// # Errors
    /// As [`batch_norm_train`] and [`batch_norm_eval`].
    pub fn forward_act(&self, x: &Tensor, act: Activation<'_>, train: bool) -> Result<Tensor> {
        let eps = self.config.eps;
        if !train {
            let (mean, var) = (self.running_mean(), self.running_var());
            return batch_norm_eval(x, mean, var, &self.weight, &self.bias, eps, act);
        }
        let (y, stats) = batch_norm_train(x, &self.weight, &self.bias, eps, act)?;
        self.update(&stats)?;
        Ok(y)
    }

    /// [`forward_act`](Self::forward_act) of a convolution's output; while training, convolution and norm
    /// are one op (see [`conv2d_batch_norm_train`]).
    ///
    /// # Shapes
    /// `x` (B, C, H, W) as the convolution takes it; the result is what the convolution gives.
    ///
    /// # Errors
    /// As the convolution and [`forward_act`](Self::forward_act).
    pub fn forward_conv(
        &self,
        conv: &Conv2d,
        x: &Tensor,
        act: Activation<'_>,
        train: bool,
    ) -> Result<Tensor> {
        if !train || conv.bias().is_some() {
            return self.forward_act(&conv.forward(x)?, act, train);
        }
        let (kernel, cfg) = (conv.weight(), *conv.config());
        let affine = (&self.weight, &self.bias);
        let (y, stats) = conv2d_batch_norm_train(x, kernel, cfg, affine, self.config.eps, act)?;
        self.update(&stats)?;
        Ok(y)
    }

    /// [`forward_conv`](Self::forward_conv) for a transposed convolution.
    ///
    /// # Errors
    /// As the transposed convolution and [`forward_act`](Self::forward_act).
    pub fn forward_conv_transpose(
        &self,
        conv: &ConvTranspose2d,
        x: &Tensor,
        act: Activation<'_>,
        train: bool,
    ) -> Result<Tensor> {
        if !train || conv.bias().is_some() {
            return self.forward_act(&conv.forward(x)?, act, train);
        }
        let (kernel, cfg) = (conv.weight(), *conv.config());
        let affine = (&self.weight, &self.bias);
        let eps = self.config.eps;
        let (y, stats) = conv_transpose2d_batch_norm_train(x, kernel, cfg, affine, eps, act)?;
        self.update(&stats)?;
        Ok(y)
    }

    fn update(&self, stats: &BatchStats) -> Result<()> {
        let m = self.config.momentum;
        for (running, batch) in [
            (&self.running_mean, &stats.mean),
            (&self.running_var, &stats.var),
        ] {
            let old = running.as_detached_tensor();
            running.set(&((old * (1.0 - m))? + (batch * m)?)?)?;
        }
        Ok(())
    }
}

impl ModuleT for BatchNorm {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward_act(x, Activation::None, train)
    }
}

/// A batch normalisation over `channels`: `weight` (1), `bias` (0), `running_mean` (0) and
/// `running_var` (1).
///
/// # Errors
/// When the builder cannot give the tensors, or the options are out of range.
pub fn batch_norm(
    channels: usize,
    config: impl Into<BatchNormConfig>,
    vb: VarBuilder<'_>,
) -> Result<BatchNorm> {
    let config = config.into();
    let weight = if config.learn_scale {
        vb.get_with_hints(channels, "weight", Init::Const(1.0))?
    } else {
        Tensor::ones(channels, vb.dtype(), vb.device())?
    };
    let bias = vb.get_with_hints(channels, "bias", Init::Const(0.0))?;
    let mean = vb.get_with_hints(channels, "running_mean", Init::Const(0.0))?;
    let var = vb.get_with_hints(channels, "running_var", Init::Const(1.0))?;
    BatchNorm::new(weight, bias, &mean, &var, config)
}
