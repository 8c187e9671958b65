//! The embeddings of the last batches, so that a small batch can fill many prototypes.

use candle::{Result, Tensor, Var, bail};
use candle_nn::{Init, VarBuilder};

/// For each view that codes are made of, the embeddings of the last batches, newest first.
///
/// They are one tensor `memory_embeddings` (A, L, D) of the builder: a buffer that is saved with the parameters and
/// that no optimiser sees, so that a run resumed in the middle goes on with the same queue.
#[derive(Debug, Clone)]
pub struct Queue {
    memory: Var,
    batch: usize,
}

impl Queue {
    /// A queue of `length` embeddings for each of `views` views, filled by batches of `batch`.
    ///
    /// # Errors
    /// When `length` is not a whole number of batches, or the builder cannot give the tensor.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "candle's constructors take the builder by value"
    )]
    pub fn new(
        views: usize,
        length: usize,
        dim: usize,
        batch: usize,
        vb: VarBuilder,
    ) -> Result<Self> {
        if batch == 0 || length == 0 || !length.is_multiple_of(batch) {
            bail!("queue: a length of {length} is not a whole number of batches of {batch}");
        }
        let memory =
            vb.get_with_hints((views, length, dim), "memory_embeddings", Init::Const(0.))?;
        Ok(Self {
            memory: Var::from_tensor(&memory)?,
            batch,
        })
    }

    /// Batches that fill it.
    pub fn batches(&self) -> u64 {
        (self.memory.dims().get(1).copied().unwrap_or(0) / self.batch) as u64
    }

    /// The embeddings of one view, (L, D), newest first; zeros where nothing has been put yet.
    ///
    /// # Errors
    /// When there is no such view.
    pub fn embeddings(&self, view: usize) -> Result<Tensor> {
        self.memory.as_detached_tensor().get(view)
    }

    /// Puts the batch of each view, (B, D), in front; the oldest fall out.
    ///
    /// # Errors
    /// When there is not one batch of the right shape for each view.
    pub fn push(&self, batches: &[Tensor]) -> Result<()> {
        let &[views, length, dim] = self.memory.dims() else {
            bail!("queue: unexpected shape {:?}", self.memory.shape())
        };
        if batches.len() != views {
            bail!("queue: batches of {} views for {views}", batches.len());
        }
        let old = self.memory.as_detached_tensor();
        let moved = batches
            .iter()
            .enumerate()
            .map(|(view, new)| {
                if new.dims() != [self.batch, dim] {
                    bail!(
                        "queue: expected a batch of {} x {dim}, got {:?}",
                        self.batch,
                        new.shape()
                    );
                }
                let kept = old.get(view)?.narrow(0, 0, length - self.batch)?;
                Tensor::cat(&[&new.detach(), &kept], 0)
            })
            .collect::<Result<Vec<_>>>()?;
        self.memory.set(&Tensor::stack(&moved, 0)?)
    }
}
