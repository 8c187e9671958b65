//! The sizes of one convolution, checked once.

use super::Conv2dConfig;
use candle::Result;

/// Sizes of a two-dimensional convolution. Rows and columns keep their own kernel size and padding,
/// so that the input gradient can be written as a convolution too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub batch: usize,
    pub in_channels: usize,
    pub height: usize,
    pub width: usize,
    pub out_channels: usize,
    pub kernel: (usize, usize),
    pub padding: (usize, usize),
    pub stride: usize,
    pub dilation: usize,
    pub groups: usize,
    pub out_height: usize,
    pub out_width: usize,
}

/// Positions of a window of `kernel` taps along an axis, or an error that names the axis.
fn out_size(
    axis: &str,
    size: usize,
    kernel: usize,
    padding: usize,
    cfg: &Conv2dConfig,
) -> Result<usize> {
    let reach = (kernel - 1)
        .checked_mul(cfg.dilation)
        .and_then(|r| r.checked_add(1));
    let padded = padding.checked_mul(2).and_then(|p| p.checked_add(size));
    match (reach, padded) {
        (Some(reach), Some(padded)) if reach <= padded => Ok((padded - reach) / cfg.stride + 1),
        _ => candle::bail!(
            "conv2d: kernel {kernel} with dilation {} does not fit {axis} {size} with padding {padding}",
            cfg.dilation
        ),
    }
}

impl Geometry {
    pub(crate) fn new(x: &[usize], weight: &[usize], cfg: &Conv2dConfig) -> Result<Self> {
        let (&[batch, in_channels, height, width], &[out_channels, per_group, kh, kw]) =
            (x, weight)
        else {
            candle::bail!(
                "conv2d: expected input (B, C, H, W) and weight (O, C/groups, kh, kw), got {x:?} and {weight:?}"
            )
        };
        if cfg.stride == 0 || cfg.dilation == 0 || cfg.groups == 0 {
            candle::bail!("conv2d: stride, dilation and groups must be positive, got {cfg:?}");
        }
        if x.contains(&0) || weight.contains(&0) {
            candle::bail!("conv2d: empty input {x:?} or weight {weight:?}");
        }
        if in_channels % cfg.groups != 0 || out_channels % cfg.groups != 0 {
            candle::bail!(
                "conv2d: groups {} do not divide the channels, {in_channels} in and {out_channels} out",
                cfg.groups
            );
        }
        if in_channels / cfg.groups != per_group {
            candle::bail!(
                "conv2d: channel mismatch, input {x:?} in {} groups and weight {weight:?}",
                cfg.groups
            );
        }
        Ok(Self {
            batch,
            in_channels,
            height,
            width,
            out_channels,
            kernel: (kh, kw),
            padding: (cfg.padding, cfg.padding),
            stride: cfg.stride,
            dilation: cfg.dilation,
            groups: cfg.groups,
            out_height: out_size("height", height, kh, cfg.padding, cfg)?,
            out_width: out_size("width", width, kw, cfg.padding, cfg)?,
        })
    }

    pub(crate) fn in_per_group(&self) -> usize {
        self.in_channels / self.groups
    }

    pub(crate) fn out_per_group(&self) -> usize {
        self.out_channels / self.groups
    }

    /// Elements of one kernel plane.
    pub(crate) fn taps(&self) -> usize {
        self.kernel.0 * self.kernel.1
    }

    /// Length of the sum behind one output element.
    pub(crate) fn depth(&self) -> usize {
        self.in_per_group() * self.taps()
    }

    pub(crate) fn in_pixels(&self) -> usize {
        self.height * self.width
    }

    pub(crate) fn out_pixels(&self) -> usize {
        self.out_height * self.out_width
    }

    pub(crate) fn in_len(&self) -> usize {
        self.batch * self.in_channels * self.in_pixels()
    }

    pub(crate) fn out_len(&self) -> usize {
        self.batch * self.out_channels * self.out_pixels()
    }

    pub(crate) fn weight_len(&self) -> usize {
        self.out_channels * self.depth()
    }

    /// True when the columns of the convolution are the input itself.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.kernel == (1, 1) && self.stride == 1 && self.padding == (0, 0)
    }

    /// True when every group has a single input channel.
    pub(crate) fn is_depthwise(&self) -> bool {
        self.in_per_group() == 1 && self.groups > 1
    }

    /// The convolution of the output gradient with the flipped kernel that gives the input gradient;
    /// exists when the stride is one and the padding does not exceed the kernel's reach.
    pub(crate) fn adjoint(&self) -> Option<Self> {
        let reach = |k: usize| (k - 1) * self.dilation;
        if self.stride != 1 {
            return None;
        }
        let padding = (
            reach(self.kernel.0).checked_sub(self.padding.0)?,
            reach(self.kernel.1).checked_sub(self.padding.1)?,
        );
        Some(Self {
            in_channels: self.out_channels,
            height: self.out_height,
            width: self.out_width,
            out_channels: self.in_channels,
            padding,
            out_height: self.height,
            out_width: self.width,
            ..*self
        })
    }
}
