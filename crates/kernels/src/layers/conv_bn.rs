//! A convolution with its batch normalisation.

use super::{BatchNorm, BatchNormConfig, Conv2d, batch_norm, conv2d_no_bias, fold_batch_norm};
use crate::conv::Prepared;
use crate::conv_act::with_prepared;
use crate::{Activation, Conv2dConfig};
use candle::{Result, Tensor};
use candle_nn::{ModuleT, VarBuilder};
use std::sync::Arc;

/// A convolution without bias and the batch normalisation behind it: one op while training, one
/// convolution with a bias after [`ConvBn::fold`].
#[derive(Debug, Clone)]
pub struct ConvBn {
    conv: Conv2d,
    /// None once folded.
    norm: Option<BatchNorm>,
    /// The weight as products read it; used once folded, when nothing changes it any more.
    prepared: Arc<Prepared>,
}

impl ConvBn {
    /// The pair of two layers.
    pub fn new(conv: Conv2d, norm: BatchNorm) -> Self {
        Self {
            conv,
            norm: Some(norm),
            prepared: Arc::default(),
        }
    }

    /// A pair that is folded already: a convolution that does the norm's work.
    pub fn folded(conv: Conv2d) -> Self {
        Self {
            conv,
            norm: None,
            prepared: Arc::default(),
        }
    }

    /// The convolution; once folded, the one that does the norm's work too.
    pub fn conv(&self) -> &Conv2d {
        &self.conv
    }

    /// The norm, unless folded.
    pub fn norm(&self) -> Option<&BatchNorm> {
        self.norm.as_ref()
    }

    /// The same for inference, with the norm's running statistics as they are now in the weight and bias
    /// of the convolution.
    ///
    /// # Errors
    /// When the channels do not match.
    pub fn fold(&self) -> Result<Self> {
        let conv = match &self.norm {
            Some(norm) => fold_batch_norm(&self.conv, norm)?,
            None => self.conv.clone(),
        };
        Ok(Self::folded(conv))
    }

    /// Convolution, norm, `add` (a residual) and activation.
    ///
    /// # Shapes
    /// As [`crate::conv2d_act`].
    ///
    /// # Errors
    /// As [`crate::conv2d_act`] and [`BatchNorm::forward_conv`], and when a folded pair is asked to train.
    pub fn forward_act(
        &self,
        x: &Tensor,
        add: Option<&Tensor>,
        act: Activation<'_>,
        train: bool,
    ) -> Result<Tensor> {
        match (&self.norm, add) {
            (None, _) if train => candle::bail!("conv_bn: a folded pair cannot be trained"),
            (None, add) => {
                let conv = &self.conv;
                let (weight, bias) = (conv.weight(), conv.bias());
                let prepared = Some(&*self.prepared);
                with_prepared((x, weight), bias, add, *conv.config(), act, prepared)
            }
            (Some(norm), None) => norm.forward_conv(&self.conv, x, act, train),
            (Some(norm), Some(add)) => {
                let y = norm.forward_conv(&self.conv, x, Activation::None, train)?;
                let y = y.broadcast_add(add)?;
                match act {
                    Activation::None => Ok(y),
                    Activation::Relu => crate::relu(&y),
                    Activation::PRelu(slope) => crate::prelu(&y, slope),
                }
            }
        }
    }
}

impl ModuleT for ConvBn {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward_act(x, None, Activation::None, train)
    }
}

/// A convolution without bias under `conv` and its norm under `bn`.
///
/// # Errors
/// As [`conv2d_no_bias`] and [`batch_norm`].
pub fn conv_bn(
    in_channels: usize,
    out_channels: usize,
    kernel_size: usize,
    cfg: Conv2dConfig,
    norm: impl Into<BatchNormConfig>,
    vb: VarBuilder<'_>,
) -> Result<ConvBn> {
    let conv = conv2d_no_bias(in_channels, out_channels, kernel_size, cfg, vb.pp("conv"))?;
    Ok(ConvBn::new(
        conv,
        batch_norm(out_channels, norm, vb.pp("bn"))?,
    ))
}
