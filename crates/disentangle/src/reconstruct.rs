//! How far a reconstruction is from its image.

use candle::{D, Device, Result, Tensor};
use phiz_kernels::{Conv2dConfig, conv2d};

/// Weights of a sum of reconstruction errors; a weight of 0 leaves a term out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reconstruction {
    /// Of the mean squared error (default 1).
    pub l2: f64,
    /// Of the mean absolute error (default 0).
    pub l1: f64,
    /// Of `1 - SSIM` (default 0).
    pub ssim: f64,
}

impl Default for Reconstruction {
    fn default() -> Self {
        Self {
            l2: 1.,
            l1: 0.,
            ssim: 0.,
        }
    }
}

impl Reconstruction {
    /// The weighted sum of errors, means over all pixels of all images.
    ///
    /// # Shapes
    /// Both (B, C, H, W), values in [-1, 1]; scalar result.
    ///
    /// # Errors
    /// When the shapes differ, no term has weight, or for SSIM an image is smaller than 11 x 11.
    pub fn error(&self, reconstruction: &Tensor, image: &Tensor) -> Result<Tensor> {
        let difference = (reconstruction - image)?;
        let mut terms = Vec::new();
        if self.l2 != 0. {
            terms.push(difference.sqr()?.mean_all()?.affine(self.l2, 0.)?);
        }
        if self.l1 != 0. {
            terms.push(difference.abs()?.mean_all()?.affine(self.l1, 0.)?);
        }
        if self.ssim != 0. {
            terms.push(ssim(reconstruction, image)?.affine(-self.ssim, self.ssim)?);
        }
        let mut terms = terms.into_iter();
        let Some(first) = terms.next() else {
            candle::bail!("reconstruction: l2, l1 and ssim all have weight 0")
        };
        terms.try_fold(first, |sum, term| sum + term)
    }
}

/// Side of the window and its standard deviation, pixels.
const WINDOW: usize = 11;
const SIGMA: f64 = 1.5;

/// Mean structural similarity (Wang et al., IEEE TIP 2004): Gaussian window 11 x 11 with standard deviation 1.5,
/// `K1 = 0.01`, `K2 = 0.03`, dynamic range 2 for pixels in [-1, 1], windows wholly inside the image only,
/// mean over windows, channels and images. 1 for equal images.
///
/// # Shapes
/// Both (B, C, H, W) with H and W at least 11; scalar result.
///
/// # Errors
/// When the shapes differ or an image is smaller than the window.
pub fn ssim(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (_, channels, h, w) = a.dims4()?;
    if a.dims() != b.dims() || h < WINDOW || w < WINDOW {
        candle::bail!(
            "SSIM: expected two equal shapes of at least {WINDOW} x {WINDOW} pixels, got {:?} and {:?}",
            a.dims(),
            b.dims()
        )
    }
    let window = window(channels, a)?;
    let config = Conv2dConfig {
        groups: channels,
        ..Conv2dConfig::default()
    };
    let blur = |x: &Tensor| conv2d(x, &window, None, config);
    let (c1, c2) = ((0.01f64 * 2.).powi(2), (0.03f64 * 2.).powi(2));
    let (mean_a, mean_b) = (blur(a)?, blur(b)?);
    let (aa, bb, ab) = (mean_a.sqr()?, mean_b.sqr()?, (&mean_a * &mean_b)?);
    let var_a = (blur(&a.sqr()?)? - &aa)?;
    let var_b = (blur(&b.sqr()?)? - &bb)?;
    let covariance = (blur(&(a * b)?)? - &ab)?;
    let above = (ab.affine(2., c1)? * covariance.affine(2., c2)?)?;
    let below = ((aa + bb)?.affine(1., c1)? * (var_a + var_b)?.affine(1., c2)?)?;
    (above / below)?.mean_all()
}

fn window(channels: usize, like: &Tensor) -> Result<Tensor> {
    let centre = (WINDOW / 2) as f64;
    let line: Vec<f64> = (0..WINDOW)
        .map(|i| (-(i as f64 - centre).powi(2) / (2. * SIGMA * SIGMA)).exp())
        .collect();
    let line = Tensor::from_vec(line, WINDOW, &Device::Cpu)?;
    let line = line.broadcast_div(&line.sum_all()?)?;
    let square = line
        .unsqueeze(D::Minus1)?
        .broadcast_mul(&line.unsqueeze(0)?)?;
    square
        .expand((channels, 1, WINDOW, WINDOW))?
        .contiguous()?
        .to_dtype(like.dtype())?
        .to_device(like.device())
}
