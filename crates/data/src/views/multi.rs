//! Several views of each image at once, in groups of one size.

use super::ViewTransform;
use crate::{Error, Image, Result, stream_rng};

/// Views that are drawn alike.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewGroup {
    /// How many of each image.
    pub views: usize,
    /// How each is drawn.
    pub transform: ViewTransform,
}

/// Groups of views: as a rule two large ones and several small ones (multi-crop).
#[derive(Debug, Clone, PartialEq)]
pub struct MultiCrop {
    /// The groups, in the order of the batch's tensors.
    pub groups: Vec<ViewGroup>,
}

impl MultiCrop {
    /// SwAV's views: `large` of `size.0` pixels from 14 to 100 % of the area and `small` of `size.1` from 5 to 14 %.
    #[must_use]
    pub fn swav(large: usize, small: usize, size: (usize, usize)) -> Self {
        let group = |views, size, scale| ViewGroup {
            views,
            transform: ViewTransform::swav(size, scale),
        };
        let groups = [
            group(large, size.0, [0.14, 1.0]),
            group(small, size.1, [0.05, 0.14]),
        ];
        Self {
            groups: groups.into_iter().filter(|group| group.views > 0).collect(),
        }
    }

    /// Views of an image, all groups together.
    #[must_use]
    pub fn views(&self) -> usize {
        self.groups.iter().map(|group| group.views).sum()
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// When there is no view, or a transform makes no sense.
    pub fn validate(&self) -> Result<()> {
        if self.groups.is_empty() || self.groups.iter().any(|group| group.views == 0) {
            return Err(Error::config(
                "multi-crop: every group needs at least one view",
            ));
        }
        self.groups
            .iter()
            .try_for_each(|group| group.transform.validate())
    }

    /// All views of the image at `position` of the batch of `step`: for each group, its views one after the other,
    /// (V, C, S, S). Views are numbered through all groups, and each has a random stream of its own.
    ///
    /// # Errors
    /// When a transform or the image is invalid.
    pub fn apply(
        &self,
        image: &Image,
        seed: u64,
        step: u64,
        position: u64,
    ) -> Result<Vec<Vec<f32>>> {
        self.validate()?;
        crate::decode::check_image(image)?;
        let mut number = 0;
        Ok(self
            .groups
            .iter()
            .map(|group| {
                let mut values = Vec::with_capacity(group.views * group.transform.values());
                for _ in 0..group.views {
                    // Up to 2^24 views of an image before two share a stream.
                    let mut rng = stream_rng(seed, "view", step, (position << 24) | number);
                    values.extend(group.transform.view(image, &mut rng));
                    number += 1;
                }
                values
            })
            .collect())
    }
}
