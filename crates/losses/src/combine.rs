//! Several losses as one, and several views as one batch.

use candle::{Result, Tensor, bail};

use crate::batch::{Batch, MetricLoss};

/// Chooses the tuples of one loss.
type MineFn = Box<dyn Fn(&Batch) -> Result<Batch>>;

/// A weighted sum of losses over the same batch, each with a miner of its own if it wants one.
///
/// ```
/// use candle::{Device, Tensor};
/// use phiz_losses::{Contrastive, MetricLoss, NtXent, WeightedSum};
/// # fn main() -> candle::Result<()> {
/// let loss = WeightedSum::new().with("ntxent", 1.0, NtXent::default()).with("contrastive", 0.5, Contrastive::default());
/// let embeddings = Tensor::randn(0f32, 1., (4, 8), &Device::Cpu)?;
/// assert_eq!(loss.loss(&embeddings, &[0u32, 0, 1, 1])?.rank(), 0);
/// # Ok(()) }
/// ```
#[derive(Default)]
pub struct WeightedSum {
    terms: Vec<Term>,
}

struct Term {
    name: String,
    weight: f64,
    loss: Box<dyn MetricLoss>,
    mine: Option<MineFn>,
}

impl std::fmt::Debug for WeightedSum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map()
            .entries(self.terms.iter().map(|t| (&t.name, t.weight)))
            .finish()
    }
}

impl WeightedSum {
    /// The sum of nothing, which is an error to compute.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `weight * loss`; the name is for logs.
    #[must_use]
    pub fn with(self, name: &str, weight: f64, loss: impl MetricLoss + 'static) -> Self {
        self.push(name, weight, loss, None)
    }

    /// Adds `weight * loss` over what `mine` makes of the batch.
    #[must_use]
    pub fn with_miner(
        self,
        name: &str,
        weight: f64,
        loss: impl MetricLoss + 'static,
        mine: impl Fn(&Batch) -> Result<Batch> + 'static,
    ) -> Self {
        self.push(name, weight, loss, Some(Box::new(mine)))
    }

    fn push(
        mut self,
        name: &str,
        weight: f64,
        loss: impl MetricLoss + 'static,
        mine: Option<MineFn>,
    ) -> Self {
        self.terms.push(Term {
            name: name.to_string(),
            weight,
            loss: Box::new(loss),
            mine,
        });
        self
    }

    /// Each loss by its name, before its weight.
    ///
    /// # Errors
    /// What a loss or a miner refuses.
    pub fn each(&self, batch: &Batch) -> Result<Vec<(&str, Tensor)>> {
        let one = |t: &Term| match &t.mine {
            None => t.loss.forward(batch),
            Some(mine) => t.loss.forward(&mine(batch)?),
        };
        self.terms
            .iter()
            .map(|t| Ok((t.name.as_str(), one(t)?)))
            .collect()
    }
}

impl MetricLoss for WeightedSum {
    fn forward(&self, batch: &Batch) -> Result<Tensor> {
        let mut total: Option<Tensor> = None;
        for ((name, loss), term) in self.each(batch)?.into_iter().zip(&self.terms) {
            if !term.weight.is_finite() {
                bail!(
                    "the weight of the loss {name} must be finite, got {}",
                    term.weight
                );
            }
            let loss = (loss * term.weight)?;
            total = Some(match total {
                Some(total) => (total + loss)?,
                None => loss,
            });
        }
        match total {
            Some(total) => Ok(total),
            None => bail!("a weighted sum of losses needs at least one"),
        }
    }
}

/// How views of the same items are compared in [`views`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ViewPairing {
    /// Every view of every item is an anchor, against all views. The default.
    #[default]
    Symmetric,
    /// The first view is the anchor, against the others only.
    FirstAgainstOthers,
}

/// Self-supervision: views of the same items as a batch whose labels are the items. Any [`MetricLoss`] can be computed on it.
///
/// ```
/// use candle::{Device, Tensor};
/// use phiz_losses::{MetricLoss, NtXent, ViewPairing, views};
/// # fn main() -> candle::Result<()> {
/// let a = Tensor::randn(0f32, 1., (4, 8), &Device::Cpu)?;
/// let b = Tensor::randn(0f32, 1., (4, 8), &Device::Cpu)?;
/// let simclr = NtXent::default().forward(&views(&[a, b], ViewPairing::Symmetric)?)?;
/// assert_eq!(simclr.rank(), 0);
/// # Ok(()) }
/// ```
///
/// # Shapes
/// `views`: two or more of (B, D); row `i` of each is item `i`.
///
/// # Errors
/// When there are fewer than two views, or their shapes or types disagree.
pub fn views(views: &[Tensor], pairing: ViewPairing) -> Result<Batch> {
    let [first, others @ ..] = views else {
        bail!("self-supervision needs at least two views, got none");
    };
    let (n, d) = first.dims2()?;
    if others.is_empty() {
        bail!("self-supervision needs at least two views, got one");
    }
    if let Some(i) = others.iter().position(|v| v.dims() != [n, d]) {
        bail!(
            "view {} is {:?}, the first is ({n}, {d})",
            i + 1,
            others[i].dims()
        );
    }
    let items = |views: usize| -> Vec<u64> { (0..views).flat_map(|_| 0..n as u64).collect() };
    match pairing {
        ViewPairing::Symmetric => Batch::new(&Tensor::cat(views, 0)?, &items(views.len())),
        ViewPairing::FirstAgainstOthers => Batch::against(
            first,
            &items(1),
            &Tensor::cat(others, 0)?,
            &items(others.len()),
        ),
    }
}
