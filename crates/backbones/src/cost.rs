//! Counting multiply-accumulates while a network is built.
//!
//! A counter walks beside the constructor with the side of the (square) feature map, so the
//! figure always belongs to the layers that were really made.

use candle::Result;
use phiz_kernels::layers::{Conv2d, Linear};

/// Side of the current feature map and the multiply-accumulates so far, for one image.
///
/// Convolutions and linear layers count; norms, activations, pooling and biases do not, which is
/// how the published figures of these networks are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) side: usize,
    pub(crate) macs: u64,
}

impl Cost {
    pub(crate) fn new(side: usize) -> Self {
        Self { side, macs: 0 }
    }

    /// Side of the map after a window of `kernel` moved by `stride` over the padded map.
    ///
    /// # Errors
    /// When the window does not fit.
    fn window(&self, kernel: usize, stride: usize, padding: usize) -> Result<usize> {
        let padded = self.side + 2 * padding;
        if kernel > padded || stride == 0 {
            candle::bail!(
                "a {kernel} x {kernel} window with stride {stride} does not fit a {padded} x {padded} map"
            )
        }
        Ok((padded - kernel) / stride + 1)
    }

    pub(crate) fn conv(&mut self, conv: &Conv2d) -> Result<()> {
        let (out, inner, kernel, _) = conv.weight().dims4()?;
        let config = conv.config();
        self.side = self.window(kernel, config.stride, config.padding)?;
        self.macs += (out * inner * kernel * kernel * self.side * self.side) as u64;
        Ok(())
    }

    pub(crate) fn pool(&mut self, kernel: usize, stride: usize, padding: usize) -> Result<()> {
        self.side = self.window(kernel, stride, padding)?;
        Ok(())
    }

    pub(crate) fn linear(&mut self, linear: &Linear) {
        self.macs += linear.weight().elem_count() as u64;
    }
}
