//! Landmarks as heat maps: a head of transposed convolutions, targets, losses and sub-pixel decoding.
//!
//! The head takes a trunk's last map through stages of transposed convolution (4 x 4, stride 2), batch norm and ReLU,
//! each of which doubles the side, and a 1 x 1 convolution to one map a point. Names are those of the published
//! program: `deconv_layers.0`, `.1`, `.3`, `.4`, ..., `final_layer`.
//!
//! A point (x, y) becomes exp(-d^2 / (2 sigma^2)) with d the distance from each pixel's centre to the point itself,
//! not to its pixel, so that no sub-pixel part is lost. Decoding takes the largest pixel and, along each axis, the top
//! of the parabola through its logarithm and its neighbours': exact for a Gaussian.
//!
//! ```text
//! Squared        mean over images and points of sum_pixels (h - t)^2
//! CrossEntropy   mean over images and points of - sum_pixels q log softmax(h),  q = t / sum t
//! ```
//!
//! Source: Xiao, Wu and Wei, "Simple baselines for human pose estimation and tracking" (ECCV 2018); unbiased targets
//! and decoding: Zhang et al., "Distribution-aware coordinate representation" (CVPR 2020).

use candle::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use phiz_kernels::layers::{
    BatchNorm, Conv2d, ConvTranspose2d, batch_norm, conv_transpose2d_no_bias, conv2d,
};
use phiz_kernels::safe::softmax_last_dim;
use phiz_kernels::{Activation, Conv2dConfig, ConvTranspose2dConfig, log_softmax};

/// What a heat map is compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeatmapLoss {
    /// Squared difference from the Gaussian; maps are values about 0 to 1.
    #[default]
    Squared,
    /// Cross-entropy with the Gaussian as a distribution over pixels; maps are its logits. Learns from the first step
    /// on, where the squared form has to leave the all-zero map behind first.
    CrossEntropy,
}

/// Shape and loss of a [`HeatmapHead`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeatmapConfig {
    /// Maps. Default 68.
    pub points: usize,
    /// Stages of transposed convolution. Default 3.
    pub stages: usize,
    /// Channels of every stage. Default 256.
    pub channels: usize,
    /// Standard deviation of the targets in pixels of the heat map. Default 1.5.
    pub sigma: f64,
    /// What maps are compared by. Default squared.
    pub loss: HeatmapLoss,
}

impl Default for HeatmapConfig {
    fn default() -> Self {
        Self {
            points: 68,
            stages: 3,
            channels: 256,
            sigma: 1.5,
            loss: HeatmapLoss::Squared,
        }
    }
}

/// Maps (B, C, h, w) to heat maps (B, N, 2^stages h, 2^stages w). See the [module text](self).
#[derive(Debug, Clone)]
pub struct HeatmapHead {
    config: HeatmapConfig,
    stages: Vec<(ConvTranspose2d, BatchNorm)>,
    last: Conv2d,
}

impl HeatmapHead {
    /// A head on maps of `channels` channels.
    ///
    /// # Errors
    /// When a size is 0, `sigma` is not above 0, or the builder cannot give the tensors.
    pub fn new(channels: usize, config: HeatmapConfig, vb: VarBuilder) -> Result<Self> {
        if channels == 0 || config.points == 0 || config.channels == 0 || config.stages > 6 {
            candle::bail!(
                "HeatmapHead: {channels} channels to {} points through {} stages of {}: sizes must be positive, \
                 stages at most 6",
                config.points,
                config.stages,
                config.channels
            )
        }
        check_sigma(config.sigma)?;
        let up = ConvTranspose2dConfig {
            padding: 1,
            stride: 2,
            ..Default::default()
        };
        let below = vb.pp("deconv_layers");
        let mut from = channels;
        let mut stages = Vec::new();
        for i in 0..config.stages {
            let deconv = conv_transpose2d_no_bias(from, config.channels, 4, up, below.pp(3 * i))?;
            stages.push((
                deconv,
                batch_norm(config.channels, 1e-5, below.pp(3 * i + 1))?,
            ));
            from = config.channels;
        }
        Ok(Self {
            config,
            stages,
            last: conv2d(
                from,
                config.points,
                1,
                Conv2dConfig::default(),
                vb.pp("final_layer"),
            )?,
        })
    }

    /// The configuration the head was made with.
    pub fn config(&self) -> &HeatmapConfig {
        &self.config
    }

    /// Heat maps.
    ///
    /// # Shapes
    /// `maps` (B, C, h, w); result (B, N, 2^stages h, 2^stages w).
    ///
    /// # Errors
    /// When the maps have another number of channels.
    pub fn forward(&self, maps: &Tensor, train: bool) -> Result<Tensor> {
        let mut x = maps.clone();
        for (deconv, norm) in &self.stages {
            x = norm.forward_conv_transpose(deconv, &x, Activation::Relu, train)?;
        }
        self.last.forward(&x)
    }

    /// The loss of the head's configuration.
    ///
    /// # Shapes
    /// `heatmaps` (B, N, h, w), `points` (B, N, 2) in parts of the image; result: scalar.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn loss(&self, heatmaps: &Tensor, points: &Tensor) -> Result<Tensor> {
        heatmap_loss(heatmaps, points, self.config.sigma, self.config.loss)
    }

    /// Points (B, N, 2) in parts of the image.
    ///
    /// # Errors
    /// When the heat maps are not (B, N, h, w).
    pub fn decode(&self, heatmaps: &Tensor) -> Result<Tensor> {
        decode_heatmaps(heatmaps, self.config.loss)
    }
}

fn check_sigma(sigma: f64) -> Result<()> {
    if !(sigma > 0. && sigma.is_finite()) {
        candle::bail!("heat maps: sigma must be above 0, got {sigma}")
    }
    Ok(())
}

/// -d^2 / (2 sigma^2) for every pixel of every map.
fn log_targets(points: &Tensor, size: (usize, usize), sigma: f64) -> Result<Tensor> {
    check_sigma(sigma)?;
    let (batch, count, two) = points.dims3()?;
    let (height, width) = size;
    if two != 2 || height == 0 || width == 0 {
        candle::bail!(
            "heat maps: points (B, N, 2) on a grid that is not empty, got {:?} on {height} x {width}",
            points.dims()
        )
    }
    let along = |axis: usize, side: usize| -> Result<Tensor> {
        // Pixel i is at (i + 0.5) / side - 0.5.
        let centre = ((points.narrow(2, axis, 1)? + 0.5)? * side as f64)?;
        let grid: Vec<f64> = (0..side).map(|i| i as f64 + 0.5).collect();
        let grid = Tensor::from_vec(grid, (1, 1, side), points.device())?;
        centre.broadcast_sub(&grid.to_dtype(points.dtype())?)?.sqr()
    };
    let x = along(0, width)?.reshape((batch, count, 1, width))?;
    let y = along(1, height)?.reshape((batch, count, height, 1))?;
    x.broadcast_add(&y)? * (-0.5 / (sigma * sigma))
}

/// Gaussians of height 1 about the points.
///
/// # Shapes
/// `points` (B, N, 2) in parts of the image; result (B, N, height, width) for `size` = (height, width).
///
/// # Errors
/// When the shape is another, the grid is empty, or `sigma` (in pixels of the grid) is not above 0.
pub fn heatmap_targets(points: &Tensor, size: (usize, usize), sigma: f64) -> Result<Tensor> {
    log_targets(points, size, sigma)?.exp()
}

/// The loss of heat maps against points. See the [module text](self).
///
/// # Shapes
/// `heatmaps` (B, N, h, w), `points` (B, N, 2) in parts of the image; result: scalar.
///
/// # Errors
/// When the shapes disagree, or `sigma` is not above 0.
pub fn heatmap_loss(
    heatmaps: &Tensor,
    points: &Tensor,
    sigma: f64,
    loss: HeatmapLoss,
) -> Result<Tensor> {
    let (batch, count, height, width) = heatmaps.dims4()?;
    if points.dims() != [batch, count, 2] || batch * count == 0 {
        candle::bail!(
            "heat maps {:?} want points ({batch}, {count}, 2), got {:?}",
            heatmaps.dims(),
            points.dims()
        )
    }
    let points = points.detach().to_dtype(heatmaps.dtype())?;
    let target = log_targets(&points, (height, width), sigma)?;
    match loss {
        HeatmapLoss::Squared => {
            let each = (heatmaps - target.exp()?)?.sqr()?;
            each.sum_all()? / (batch * count) as f64
        }
        HeatmapLoss::CrossEntropy => {
            let rows = |t: &Tensor| t.contiguous()?.reshape((batch * count, height * width));
            // A softmax of the exponents: defined for points far outside the image too.
            let q = softmax_last_dim(&rows(&target)?)?;
            let log_p = log_softmax(&rows(heatmaps)?)?;
            (q * log_p)?.sum_all()? * (-1. / (batch * count) as f64)
        }
    }
}

/// The place of the largest value of each map, to parts of a pixel. A value that is not finite counts as the least.
///
/// # Shapes
/// `heatmaps` (B, N, h, w), values or logits as `loss` says; result (B, N, 2) in parts of the image, f32 or f64 as the
/// maps.
///
/// # Errors
/// When the maps are not (B, N, h, w), or empty.
pub fn decode_heatmaps(heatmaps: &Tensor, loss: HeatmapLoss) -> Result<Tensor> {
    let (batch, count, height, width) = heatmaps.dims4()?;
    if heatmaps.elem_count() == 0 {
        candle::bail!("heat maps {:?} are empty", heatmaps.dims())
    }
    let values = heatmaps
        .detach()
        .flatten_all()?
        .to_dtype(candle::DType::F64)?
        .to_vec1::<f64>()?;
    let mut points = Vec::with_capacity(batch * count * 2);
    for map in values.chunks_exact(height * width) {
        let (mut at, mut top) = (0, f64::NEG_INFINITY);
        for (i, &v) in map.iter().enumerate() {
            if v > top && v.is_finite() {
                (at, top) = (i, v);
            }
        }
        let log = |i: usize| {
            let v = map.get(i).copied().unwrap_or(top);
            match loss {
                HeatmapLoss::CrossEntropy => v,
                // What is not above 0 is as far below the top as f32 can tell.
                HeatmapLoss::Squared => v.max(1e-7 * top.max(f64::MIN_POSITIVE)).ln(),
            }
        };
        let (row, column) = (at / width, at % width);
        let offset = |place: usize, side: usize, step: usize| {
            if place == 0 || place + 1 >= side {
                return 0.;
            }
            let (before, peak, behind) = (log(at - step), log(at), log(at + step));
            let bend = before - 2. * peak + behind;
            if bend < 0. {
                (0.5 * (before - behind) / bend).clamp(-0.5, 0.5)
            } else {
                0.
            }
        };
        for (place, side, step) in [(column, width, 1), (row, height, width)] {
            let p = place as f64 + offset(place, side, step);
            points.push((p + 0.5) / side as f64 - 0.5);
        }
    }
    Tensor::from_vec(points, (batch, count, 2), heatmaps.device())?.to_dtype(heatmaps.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::Device;

    #[test]
    fn decoding_inverts_the_targets() -> Result<()> {
        // Sub-pixel places away from the border come back exactly, in both forms.
        let points: Vec<f64> = (0..40)
            .map(|i| -0.4 + 0.8 * f64::from(i * 37 % 41) / 41.)
            .collect();
        let points = Tensor::from_vec(points, (2, 10, 2), &Device::Cpu)?;
        for sigma in [1., 2.5] {
            for (loss, maps) in [
                (
                    HeatmapLoss::Squared,
                    heatmap_targets(&points, (16, 24), sigma)?,
                ),
                (
                    HeatmapLoss::CrossEntropy,
                    (log_targets(&points, (16, 24), sigma)? + 3.)?,
                ),
            ] {
                let found = decode_heatmaps(&maps, loss)?;
                let apart = (found - &points)?.abs()?.max_all()?.to_scalar::<f64>()?;
                assert!(apart < 1e-12, "{loss:?} {sigma}: {apart}");
            }
        }
        Ok(())
    }

    #[test]
    fn flat_broken_and_bordering_maps_have_a_place() -> Result<()> {
        let mut map = vec![0f32; 3 * 16];
        map[16 + 5] = f32::NAN;
        map[32 + 3] = 1.; // top right corner
        let maps = Tensor::from_vec(map, (1, 3, 4, 4), &Device::Cpu)?;
        for loss in [HeatmapLoss::Squared, HeatmapLoss::CrossEntropy] {
            let found = decode_heatmaps(&maps, loss)?
                .flatten_all()?
                .to_vec1::<f32>()?;
            assert!(found.iter().all(|v| (-0.5..0.5).contains(v)), "{found:?}");
            assert_eq!(found[4..], [0.375, -0.375]);
        }
        assert!(decode_heatmaps(&maps.narrow(1, 0, 0)?, HeatmapLoss::Squared).is_err());
        Ok(())
    }
}
