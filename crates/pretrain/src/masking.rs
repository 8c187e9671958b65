//! Which patches of an image are seen and which are hidden, drawn by counters; and patches as rows.

use candle::{Result, Tensor, bail};

/// The patches of one image: seen ones, then hidden ones, each part ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Patches that are seen.
    pub seen: Vec<usize>,
    /// Patches that are to be told.
    pub hidden: Vec<usize>,
}

impl Mask {
    /// Hides a share of `patches`, at least one and not all: `hidden = round(share patches)` of them, every choice equally
    /// likely. A function of (`seed`, `step`, `image`) alone.
    ///
    /// # Errors
    /// When there are fewer than two patches, or the share is not between 0 and 1.
    pub fn draw(patches: usize, share: f64, seed: u64, step: u64, image: u64) -> Result<Self> {
        if patches < 2 {
            bail!("masking: an image of {patches} patches, expected at least 2");
        }
        if !(share > 0. && share < 1.) {
            bail!("masking: a share of {share} hidden, expected one between 0 and 1");
        }
        let hidden = ((share * patches as f64).round() as usize).clamp(1, patches - 1);
        let stream = mixed(mixed(mixed(seed ^ 0x6d61_736b) ^ step) ^ image);
        // The patches with the smallest numbers are seen; ties, which do not happen, by place.
        let mut order: Vec<(u64, usize)> = (0..patches)
            .map(|patch| (mixed(stream.wrapping_add(patch as u64 + 1)), patch))
            .collect();
        order.sort_unstable();
        let mut order: Vec<usize> = order.into_iter().map(|(_, patch)| patch).collect();
        let mut hidden = order.split_off(patches - hidden);
        hidden.sort_unstable();
        order.sort_unstable();
        Ok(Self {
            seen: order,
            hidden,
        })
    }
}

/// The SplitMix64 step and finaliser: spreads neighbouring numbers over 64 bits.
fn mixed(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Images as rows of patches: row by row of the image, within a patch row, column, channel.
///
/// # Shapes
/// `images` (B, C, S, S); result (B, (S / patch)^2, patch^2 C).
///
/// # Errors
/// When the patch does not divide the image.
pub fn patch_rows(images: &Tensor, patch: usize) -> Result<Tensor> {
    let (batch, channels, height, width) = images.dims4()?;
    if patch == 0 || !height.is_multiple_of(patch) || !width.is_multiple_of(patch) {
        bail!("masking: patches of {patch} do not divide images of {height} x {width}");
    }
    let (rows, columns) = (height / patch, width / patch);
    images
        .reshape(vec![batch, channels, rows, patch, columns, patch])?
        .permute(vec![0, 2, 4, 3, 5, 1])?
        .contiguous()?
        .reshape((batch, rows * columns, patch * patch * channels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::Device;

    #[test]
    fn masks_divide_the_patches_and_depend_on_their_counters_alone() {
        let draw = |seed, step, image| Mask::draw(64, 0.75, seed, step, image).unwrap();
        let mask = draw(1, 2, 3);
        assert_eq!((mask.seen.len(), mask.hidden.len()), (16, 48));
        let mut all = [mask.seen.clone(), mask.hidden.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..64).collect::<Vec<_>>());
        assert_eq!(mask, draw(1, 2, 3));
        assert!(mask != draw(2, 2, 3) && mask != draw(1, 3, 3) && mask != draw(1, 2, 4));
        // Each patch is hidden in about three quarters of the draws: 600 +- 12.2, six deviations.
        let mut counts = [0i32; 64];
        for image in 0..800 {
            for patch in draw(5, 0, image).hidden {
                counts[patch] += 1;
            }
        }
        assert!(counts.iter().all(|n| (n - 600).abs() < 74), "{counts:?}");
        assert!(Mask::draw(1, 0.5, 0, 0, 0).is_err() && Mask::draw(9, 1.0, 0, 0, 0).is_err());
        assert_eq!(Mask::draw(4, 0.99, 0, 0, 0).unwrap().seen.len(), 1);
    }

    #[test]
    fn patches_stand_row_by_row() {
        let images = Tensor::arange(0f32, 2. * 4. * 4., &Device::Cpu).unwrap();
        let images = images.reshape((1, 2, 4, 4)).unwrap();
        let rows = patch_rows(&images, 2).unwrap();
        assert_eq!(rows.dims(), [1, 4, 8]);
        let second: Vec<f32> = rows.get(0).unwrap().get(1).unwrap().to_vec1().unwrap();
        assert_eq!(second, [2., 18., 3., 19., 6., 22., 7., 23.]);
        assert!(patch_rows(&images, 3).is_err());
    }
}
