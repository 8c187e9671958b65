//! Gradients of batches larger than memory: losses in chunks of anchors, networks in chunks of images.

use std::ops::Range;

use candle::backprop::GradStore;
use candle::{DType, Result, Tensor, Var, bail};

/// A scalar of a given value whose gradient by `x` is `gradient`.
fn with_gradient(x: &Tensor, gradient: &Tensor, value: f64) -> Result<Tensor> {
    let linear = (x * gradient)?.sum_all()?;
    (&linear - linear.detach())?.affine(1.0, value)
}

/// A loss that is a sum over anchors, computed a few anchors at a time: what it builds for one chunk is gone before the next.
///
/// `loss(range, anchors, all)` gives the share of the anchors `range` (rows of `anchors`) against the whole batch `all`; gradients to both
/// sides count. The result is the sum of the shares, and its gradient equals that of the undivided loss. Divide by what the
/// undivided loss divides by (a number known beforehand, such as the count of anchors) inside or outside. The gradients
/// are taken here; calling backward on the result only passes them on.
///
/// ```
/// use candle::{Device, Tensor};
/// use phiz_losses::{Batch, MetricLoss, NtXent, Reducer, in_anchor_chunks};
/// # fn main() -> candle::Result<()> {
/// let embeddings = Tensor::randn(0f32, 1., (6, 8), &Device::Cpu)?;
/// let labels = [0u32, 0, 1, 1, 2, 2];
/// let loss = NtXent { reducer: Reducer::Sum, ..NtXent::default() };
/// let sum = in_anchor_chunks(&embeddings, 2, |range, anchors, all| {
///     let own: Vec<_> = range.clone().map(Some).collect();
///     loss.forward(&Batch::against(anchors, &labels[range], all, &labels)?.without_self(&own)?)
/// })?;
/// assert!(sum.to_scalar::<f32>()? > 0.0);
/// # Ok(()) }
/// ```
///
/// # Shapes
/// `embeddings` (B, D); result: scalar. An empty batch gives 0.
///
/// # Errors
/// When the chunk is 0, and what `loss` refuses.
pub fn in_anchor_chunks(
    embeddings: &Tensor,
    chunk: usize,
    mut loss: impl FnMut(Range<usize>, &Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    if chunk == 0 {
        bail!("a chunk needs at least one anchor");
    }
    let n = embeddings.dim(0)?;
    let all = Var::from_tensor(&embeddings.detach())?;
    let mut total = 0.0;
    let mut gradient = all.zeros_like()?;
    for start in (0..n).step_by(chunk) {
        let range = start..(start + chunk).min(n);
        let anchors = all.narrow(0, start, range.len())?;
        let share = loss(range, &anchors, &all)?;
        total += share.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        if let Some(g) = share.backward()?.get(&all) {
            gradient = (gradient + g)?;
        }
    }
    with_gradient(embeddings, &gradient.detach(), total)
}

/// What [`two_pass`] gives.
#[derive(Debug)]
pub struct TwoPass {
    /// The loss of the whole batch.
    pub loss: f64,
    /// Its gradients by the given variables, for an optimiser. Variables the loss does not depend on have none.
    pub gradients: GradStore,
}

/// The gradient of a loss over a batch whose activations do not fit into memory at once (Gao et al., "Scaling deep contrastive learning
/// batch size under memory limited setup", 2021): every chunk is embedded without a graph, the loss is taken over all embeddings, and
/// every chunk is embedded once more to pass its share of the gradient to the network.
///
/// `embed(i)` gives the embeddings of chunk `i` and is called twice for each, so it must be a function of `i` (dropout by a counter;
/// batch norm sees chunks, and should not move its statistics twice). `loss` gets the embeddings of all chunks, one under the
/// other. Gradients equal those of the whole batch, in memory of one chunk plus the loss; the price is a second forward pass.
///
/// # Errors
/// When there are no chunks, and what `embed` and `loss` refuse.
pub fn two_pass(
    chunks: usize,
    variables: &[Var],
    mut embed: impl FnMut(usize) -> Result<Tensor>,
    loss: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<TwoPass> {
    if chunks == 0 {
        bail!("a batch needs at least one chunk");
    }
    let parts = (0..chunks)
        .map(|i| Ok(embed(i)?.detach()))
        .collect::<Result<Vec<_>>>()?;
    let rows: Vec<usize> = parts.iter().map(|p| p.dim(0)).collect::<Result<_>>()?;
    let all = Var::from_tensor(&Tensor::cat(&parts, 0)?)?;
    let value = loss(&all)?;
    // The loss's own variables (class weights) have their whole gradient here.
    let mut gradients = value.backward()?;
    let by_embedding = gradients.remove(&all);
    let loss = value.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    let Some(by_embedding) = by_embedding else {
        return Ok(TwoPass { loss, gradients });
    };
    let mut start = 0;
    for (i, &rows) in rows.iter().enumerate() {
        let part = embed(i)?;
        if part.dim(0)? != rows {
            bail!(
                "chunk {i} had {rows} rows in the first pass and {} in the second",
                part.dim(0)?
            );
        }
        let share = by_embedding.narrow(0, start, rows)?.detach();
        let store = (part * share)?.sum_all()?.backward()?;
        for v in variables {
            let Some(g) = store.get(v) else { continue };
            let sum = match gradients.get(v) {
                Some(before) => (before + g)?,
                None => g.clone(),
            };
            gradients.insert(v, sum);
        }
        start += rows;
    }
    Ok(TwoPass { loss, gradients })
}
