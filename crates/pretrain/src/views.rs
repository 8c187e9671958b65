//! Several views of the same images, and the trunk that turns them into features.

use candle::{Result, Tensor, bail};

/// A network from images (N, C, S, S) to features (N, F). Where the views have several sizes it has to take them all.
///
/// Closures are trunks.
pub trait Trunk {
    /// The features; with `train`, norms use the batch's statistics and update their running ones.
    ///
    /// # Errors
    /// When the images have a shape that the network does not take.
    fn features(&self, images: &Tensor, train: bool) -> Result<Tensor>;

    /// The same network in two halves, where it is one of tokens; without, methods that hide tokens refuse it.
    fn tokens(&self) -> Option<&dyn Tokens> {
        None
    }
}

/// A network of tokens in two halves, between which tokens may be left out: a vision transformer.
pub trait Tokens {
    /// Tokens of all patches with their positions, row by row of the image.
    ///
    /// # Shapes
    /// `images` (B, C, S, S); result (B, T, D).
    ///
    /// # Errors
    /// When the images have a shape that the network does not take.
    fn patches(&self, images: &Tensor) -> Result<Tensor>;

    /// What the blocks make of some of the tokens.
    ///
    /// # Shapes
    /// `tokens` (B, t, D); result (B, 1 + t, D), the class token first.
    ///
    /// # Errors
    /// When the tokens have another length.
    fn encode(&self, tokens: &Tensor) -> Result<Tensor>;
}

impl<F: Fn(&Tensor, bool) -> Result<Tensor>> Trunk for F {
    fn features(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        self(images, train)
    }
}

/// Views of one batch of images, grouped by resolution, view by view within a group: the rows of a group are all images
/// of its first view, then all images of its second. Views are numbered through all groups.
#[derive(Debug, Clone)]
pub struct Views {
    groups: Vec<Tensor>,
    batch: usize,
}

impl Views {
    /// Views of `batch` images.
    ///
    /// # Shapes
    /// Each group (n B, C, S, S).
    ///
    /// # Errors
    /// When there is no group, or one is not a whole number of views.
    pub fn new(groups: Vec<Tensor>, batch: usize) -> Result<Self> {
        if groups.is_empty() || batch == 0 {
            bail!("views: there is none");
        }
        for group in &groups {
            match group.dims() {
                &[rows, _, _, _] if rows > 0 && rows.is_multiple_of(batch) => {}
                other => bail!("views: expected (n x {batch}, C, S, S), got {other:?}"),
            }
        }
        Ok(Self { groups, batch })
    }

    /// Images B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Number of views V.
    pub fn count(&self) -> usize {
        let rows = self.groups.iter().filter_map(|group| group.dims().first());
        rows.sum::<usize>() / self.batch
    }

    /// The groups.
    pub fn groups(&self) -> &[Tensor] {
        &self.groups
    }

    /// Features of all views, one pass of the trunk a resolution.
    ///
    /// # Shapes
    /// Result (V B, F), view by view.
    ///
    /// # Errors
    /// When the trunk does not take a group.
    pub fn features(&self, trunk: &dyn Trunk, train: bool) -> Result<Tensor> {
        let features = self
            .groups
            .iter()
            .map(|group| trunk.features(group, train))
            .collect::<Result<Vec<_>>>()?;
        match features.as_slice() {
            [one] => Ok(one.clone()),
            all => Tensor::cat(all, 0),
        }
    }

    /// The rows of view `view` in what came from all views.
    ///
    /// # Errors
    /// When there are fewer rows.
    pub fn rows_of(&self, all: &Tensor, view: usize) -> Result<Tensor> {
        all.narrow(0, view * self.batch, self.batch)
    }
}

/// The two views of the methods that know no more.
pub(crate) fn exactly_two(name: &str, views: &Views) -> Result<()> {
    if views.count() != 2 {
        bail!(
            "{name} compares two views of an image, got {}",
            views.count()
        );
    }
    Ok(())
}
