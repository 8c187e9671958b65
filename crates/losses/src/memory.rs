//! Cross-batch memory: the embeddings of past batches as a reference set.

use candle::{DType, Device, Result, Tensor, Var, bail};
use candle_nn::{Init, VarBuilder};

use crate::batch::{Batch, MetricLoss};
use crate::label::{Label, keys};

/// A queue of detached embeddings and their labels, the oldest overwritten first (Wang, Zhang, Huang, Scott, "Cross-batch memory for
/// embedding learning", CVPR 2020). Any [`MetricLoss`] can be computed against it.
///
/// The queue lives in buffers of the builder, so that a checkpoint holds all of it, its position included: `memory_embeddings`
/// (size, dim), `memory_labels` (size) i64 and `memory_count` (1) u32. Memory size x dim, time of a step O(B dim) beside the loss.
///
/// ```
/// use candle::{DType, Device, Tensor};
/// use candle_nn::{VarBuilder, VarMap};
/// use phiz_losses::{CrossBatchMemory, NtXent};
/// # fn main() -> candle::Result<()> {
/// let vars = VarMap::new();
/// let memory = CrossBatchMemory::new(64, 8, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
/// for _ in 0..3 {
///     let embeddings = Tensor::randn(0f32, 1., (4, 8), &Device::Cpu)?;
///     let loss = memory.loss(&NtXent::default(), &embeddings, &[0u32, 0, 1, 1])?;
///     loss.backward()?;
/// }
/// assert_eq!(memory.len()?, 12);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct CrossBatchMemory {
    embeddings: Var,
    labels: Var,
    /// How many were ever remembered, less whole rounds after the first.
    count: Var,
    size: usize,
}

const OP: &str = "cross-batch memory";

impl CrossBatchMemory {
    /// A memory of `size` embeddings of `dim` numbers, empty unless `vb` holds one.
    ///
    /// # Errors
    /// When the size is 0, or `vb` holds a memory of another shape.
    pub fn new(size: usize, dim: usize, vb: VarBuilder) -> Result<Self> {
        if size == 0 || u32::try_from(2 * size).is_err() {
            bail!(
                "{OP}: the size must lie between 1 and {}, got {size}",
                u32::MAX / 2
            );
        }
        let zero = Init::Const(0.0);
        let embeddings = vb.get_with_hints((size, dim), "memory_embeddings", zero)?;
        let labels = vb.get_with_hints_dtype(size, "memory_labels", zero, DType::I64)?;
        let count = vb.get_with_hints_dtype(1, "memory_count", zero, DType::U32)?;
        Ok(Self {
            embeddings: Var::from_tensor(&embeddings)?,
            labels: Var::from_tensor(&labels)?,
            count: Var::from_tensor(&count)?,
            size,
        })
    }

    /// The most it holds.
    pub fn size(&self) -> usize {
        self.size
    }

    fn count(&self) -> Result<usize> {
        let count = self.count.to_device(&Device::Cpu)?.to_vec1::<u32>()?;
        Ok(count.first().map_or(0, |&c| c as usize))
    }

    /// How many embeddings it holds.
    ///
    /// # Errors
    /// When the counter cannot be read.
    pub fn len(&self) -> Result<usize> {
        Ok(self.count()?.min(self.size))
    }

    /// Whether it holds none.
    ///
    /// # Errors
    /// When the counter cannot be read.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Forgets everything.
    ///
    /// # Errors
    /// When the counter cannot be written.
    pub fn clear(&self) -> Result<()> {
        self.count.set(&self.count.zeros_like()?)
    }

    /// Remembers a batch, without its gradient, in place of the oldest; gives the row of the memory each item went to.
    ///
    /// # Shapes
    /// `embeddings` (B, dim), `labels` B.
    ///
    /// # Errors
    /// When the shapes disagree, or the batch is larger than the memory.
    pub fn remember<L: Label>(&self, embeddings: &Tensor, labels: &[L]) -> Result<Vec<usize>> {
        let (n, d) = embeddings.dims2()?;
        let dim = self.embeddings.dim(1)?;
        if d != dim || labels.len() != n {
            bail!(
                "{OP}: embeddings ({n}, {d}) and {} labels for a memory of dimension {dim}",
                labels.len()
            );
        }
        if n > self.size {
            bail!(
                "{OP}: a batch of {n} does not fit into a memory of {}",
                self.size
            );
        }
        if n == 0 {
            return Ok(vec![]);
        }
        let count = self.count()?;
        let start = count % self.size;
        let rows = embeddings
            .detach()
            .to_dtype(self.embeddings.dtype())?
            .to_device(self.embeddings.device())?;
        let keys =
            Tensor::from_vec(keys(labels), n, &Device::Cpu)?.to_device(self.labels.device())?;
        // Up to the end of the ring, and on from its beginning.
        let first = n.min(self.size - start);
        for (from, len, to) in [(0, first, start), (first, n - first, 0)] {
            if len > 0 {
                self.embeddings
                    .slice_set(&rows.narrow(0, from, len)?.contiguous()?, 0, to)?;
                self.labels
                    .slice_set(&keys.narrow(0, from, len)?.contiguous()?, 0, to)?;
            }
        }
        let next = count + n;
        // Past the first round only the place in the ring and "it is full" matter.
        let next = if next >= 2 * self.size {
            next - self.size
        } else {
            next
        };
        self.count
            .set(&Tensor::new(&[next as u32], self.count.device())?)?;
        Ok((start..start + n).map(|i| i % self.size).collect())
    }

    /// What is remembered: embeddings (len, dim), a copy without gradient, and their labels, in the order of the ring.
    ///
    /// # Errors
    /// When the memory cannot be read.
    pub fn reference(&self) -> Result<(Tensor, Vec<i64>)> {
        let len = self.len()?;
        let embeddings = self
            .embeddings
            .as_detached_tensor()
            .narrow(0, 0, len)?
            .copy()?;
        let labels = self
            .labels
            .to_device(&Device::Cpu)?
            .narrow(0, 0, len)?
            .to_vec1::<i64>()?;
        Ok((embeddings, labels))
    }

    /// Remembers a batch and gives it beside the memory, no item compared with its own copy there: what a loss takes.
    ///
    /// # Shapes
    /// `embeddings` (B, dim), `labels` B.
    ///
    /// # Errors
    /// As [`CrossBatchMemory::remember`].
    pub fn batch<L: Label>(&self, embeddings: &Tensor, labels: &[L]) -> Result<Batch> {
        let own: Vec<Option<usize>> = self
            .remember(embeddings, labels)?
            .into_iter()
            .map(Some)
            .collect();
        let (reference, reference_labels) = self.reference()?;
        let reference = reference.to_dtype(embeddings.dtype())?;
        Batch::against(embeddings, labels, &reference, &reference_labels)?.without_self(&own)
    }

    /// A batch beside the memory, without remembering it: for queries whose keys come from another network (MoCo), which call
    /// [`CrossBatchMemory::remember`] with the keys.
    ///
    /// # Shapes
    /// `embeddings` (B, dim), `labels` B.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn against<L: Label>(&self, embeddings: &Tensor, labels: &[L]) -> Result<Batch> {
        let (reference, reference_labels) = self.reference()?;
        let reference = reference.to_dtype(embeddings.dtype())?;
        Batch::against(embeddings, labels, &reference, &reference_labels)
    }

    /// Remembers a batch and gives its loss against the memory.
    ///
    /// # Errors
    /// As [`CrossBatchMemory::remember`], and what the loss refuses.
    pub fn loss<M: MetricLoss, L: Label>(
        &self,
        loss: &M,
        embeddings: &Tensor,
        labels: &[L],
    ) -> Result<Tensor> {
        loss.forward(&self.batch(embeddings, labels)?)
    }
}
