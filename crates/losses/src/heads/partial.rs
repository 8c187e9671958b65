//! Partial FC on one device: a softmax over the classes of the batch and a sample of the others.

use candle::{Device, Result, Tensor, bail};

use super::{Head, read_labels};
use crate::random;

/// Classes chosen for one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassSample {
    /// The chosen classes, ascending.
    pub classes: Vec<u32>,
    /// The label of each item as a position in `classes`.
    pub labels: Vec<u32>,
}

/// The purpose of the random numbers here.
const CLASSES: u64 = 0x9a27_1a1f;

/// All classes of the batch, and as many of the others, drawn without replacement, as make `floor(rate * classes)` together (An et al.,
/// "Partial FC", CVPR 2022). If the batch alone has more classes than that, exactly these. A function of its arguments; at rate 1 all
/// classes in order. O(classes) time.
///
/// # Errors
/// When the rate is not in (0, 1], or a label is not below `classes`.
pub fn sample_classes(
    labels: &[u32],
    classes: usize,
    rate: f64,
    seed: u64,
    step: u64,
) -> Result<ClassSample> {
    if !(rate > 0.0 && rate <= 1.0) {
        bail!("partial-fc: the sampling rate must lie in (0, 1], got {rate}");
    }
    let mut positive = vec![false; classes];
    for (i, &l) in labels.iter().enumerate() {
        match positive.get_mut(l as usize) {
            Some(p) => *p = true,
            None => bail!("partial-fc: label {l} of item {i} is not below the {classes} classes"),
        }
    }
    let count = positive.iter().filter(|&&p| p).count();
    let wanted = ((rate * classes as f64) as usize).saturating_sub(count);
    let others = || (0..classes as u32).filter(|&c| !positive[c as usize]);
    let mut chosen: Vec<u32> = if wanted >= classes - count {
        others().collect()
    } else {
        // The classes with the smallest random keys; equal keys are told apart by the class.
        let mut keys: Vec<(u64, u32)> = others()
            .map(|c| (random::bits(seed, CLASSES, step, u64::from(c)), c))
            .collect();
        if wanted > 0 {
            keys.select_nth_unstable(wanted - 1);
        }
        keys.truncate(wanted);
        keys.into_iter().map(|(_, c)| c).collect()
    };
    chosen.extend((0..classes as u32).filter(|&c| positive[c as usize]));
    chosen.sort_unstable();
    let position = |l: &u32| chosen.binary_search(l).unwrap_or(0) as u32;
    let labels = labels.iter().map(position).collect();
    Ok(ClassSample {
        classes: chosen,
        labels,
    })
}

/// A head that sees a sample of its classes in each step: time and memory fall with the rate, and the gradient of the classes left out is 0.
///
/// ```
/// use candle::{DType, Device, Tensor};
/// use candle_nn::{VarBuilder, VarMap};
/// use phiz_losses::{CosFace, CosFaceConfig, PartialFc};
/// # fn main() -> candle::Result<()> {
/// let vars = VarMap::new();
/// let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
/// let head = PartialFc { head: CosFace::new(8, 1000, CosFaceConfig::default(), vb)?, rate: 0.1, seed: 0 };
/// let embeddings = Tensor::randn(0f32, 1., (4, 8), &Device::Cpu)?;
/// let labels = Tensor::new(&[7u32, 999, 7, 0], &Device::Cpu)?;
/// let step = 0;
/// assert!(head.loss(&embeddings, &labels, step)?.to_scalar::<f32>()? > 0.0);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct PartialFc<H> {
    /// The head over all classes.
    pub head: H,
    /// The share of the classes that takes part in a step, in (0, 1]; 1 is the head itself.
    pub rate: f64,
    /// The seed of the samples.
    pub seed: u64,
}

impl<H: Head> PartialFc<H> {
    /// The loss of step number `step` over the classes [`sample_classes`] draws.
    ///
    /// # Shapes
    /// `embeddings` (B, D), `labels` (B) of an integer type; result: scalar.
    ///
    /// # Errors
    /// As [`Head::loss`] and [`sample_classes`].
    pub fn loss(&self, embeddings: &Tensor, labels: &Tensor, step: u64) -> Result<Tensor> {
        if self.rate == 1.0 || labels.elem_count() == 0 {
            return self.head.loss(embeddings, labels);
        }
        let host = read_labels(
            "partial-fc",
            labels,
            labels.elem_count(),
            self.head.classes(),
        )?;
        let sample = sample_classes(&host, self.head.classes(), self.rate, self.seed, step)?;
        let labels =
            Tensor::new(sample.labels.as_slice(), &Device::Cpu)?.to_device(embeddings.device())?;
        self.head.select(&sample.classes)?.loss(embeddings, &labels)
    }
}
