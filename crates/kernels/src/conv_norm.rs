//! Convolution, batch normalisation and activation as one op of the graph.
//!
//! candle starts every gradient as a tensor of zeros to which it adds what an op returns. In one op the
//! gradient between convolution and norm is never such a tensor: a fill and an addition over the
//! whole map are saved, on maps where memory is what training waits for.

use crate::activation::Activation;
use crate::conv::geometry::Geometry;
use crate::conv::{Conv2dConfig, Convolution, conv2d};
use crate::conv_transpose::{self, ConvTranspose2dConfig, conv_transpose2d};
use crate::cpu::{self, for_float};
use crate::norm::{self, BatchStats, Train, batch_norm_train};
use crate::weighted::{self, Weighted};
use candle::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use std::sync::OnceLock;

const OP: &str = "conv2d_batch_norm_train";
const OP_TRANSPOSED: &str = "conv_transpose2d_batch_norm_train";

/// [`batch_norm_train`] of a [`conv2d`] without bias: the same values and gradients, with fewer passes
/// over memory.
///
/// # Shapes
/// `x` (B, C, H, W), `kernel` (O, C / groups, kh, kw); `weight`, `bias` and the slope (O); result
/// (B, O, H', W') as of the convolution.
///
/// # Errors
/// As [`conv2d`] and [`batch_norm_train`].
pub fn conv2d_batch_norm_train(
    x: &Tensor,
    kernel: &Tensor,
    cfg: Conv2dConfig,
    (weight, bias): (&Tensor, &Tensor),
    eps: f64,
    act: Activation<'_>,
) -> Result<(Tensor, BatchStats)> {
    cpu::float(OP, x)?;
    if !cpu::native(x) {
        return batch_norm_train(&conv2d(x, kernel, None, cfg)?, weight, bias, eps, act);
    }
    cpu::same_kind(OP, &[("x", x), ("kernel", kernel)])?;
    let geometry = Geometry::new(x.dims(), kernel.dims(), &cfg)?;
    fused(
        Convolution { geometry },
        (x, kernel),
        (weight, bias),
        eps,
        &act,
    )
}

/// [`batch_norm_train`] of a [`conv_transpose2d`] without bias, in the same way.
///
/// # Shapes
/// `x` (B, C, H, W), `kernel` (C, O / groups, kh, kw); `weight`, `bias` and the slope (O); result
/// (B, O, H', W') as of the transposed convolution.
///
/// # Errors
/// As [`conv_transpose2d`] and [`batch_norm_train`].
pub fn conv_transpose2d_batch_norm_train(
    x: &Tensor,
    kernel: &Tensor,
    cfg: ConvTranspose2dConfig,
    (weight, bias): (&Tensor, &Tensor),
    eps: f64,
    act: Activation<'_>,
) -> Result<(Tensor, BatchStats)> {
    cpu::float(OP_TRANSPOSED, x)?;
    if !cpu::native(x) {
        let y = conv_transpose2d(x, kernel, None, cfg)?;
        return batch_norm_train(&y, weight, bias, eps, act);
    }
    cpu::same_kind(OP_TRANSPOSED, &[("x", x), ("kernel", kernel)])?;
    let (x, op) = conv_transpose::transposed(x, kernel, &cfg)?;
    fused(op, (&x, kernel), (weight, bias), eps, &act)
}

/// A checked op, norm and activation as one.
fn fused<W: Weighted>(
    product: W,
    (x, kernel): (&Tensor, &Tensor),
    (weight, bias): (&Tensor, &Tensor),
    eps: f64,
    act: &Activation<'_>,
) -> Result<(Tensor, BatchStats)> {
    let shape = product.shape();
    let norm = Train::new(x, shape.dims(), weight, bias, eps, act)?;
    let (saved, dims) = (norm.saved.clone(), norm.dims);
    let params = norm::stacked(weight, bias, act)?.contiguous()?;
    let (x, kernel) = (x.contiguous()?, kernel.contiguous()?);
    let op = Fused {
        product,
        norm,
        shape,
        keep: x.track_op() || kernel.track_op() || params.track_op(),
        maps: OnceLock::new(),
    };
    let y = x.apply_op3(&kernel, &params, op)?;
    Ok((y, norm::batch_stats(&saved, dims, &x)?))
}

struct Fused<W> {
    product: W,
    norm: Train,
    shape: Shape,
    /// Whether a gradient may be asked for.
    keep: bool,
    /// What the convolution gave.
    maps: OnceLock<Tensor>,
}

impl<W: Weighted> CustomOp3 for Fused<W> {
    fn name(&self) -> &'static str {
        if W::NAME == Convolution::NAME {
            OP
        } else {
            OP_TRANSPOSED
        }
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        k: &CpuStorage,
        kl: &Layout,
        p: &CpuStorage,
        pl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        for_float!(x.dtype(), OP, T => {
            let (x, k) = (cpu::operand::<T>(OP, x, xl)?, cpu::operand::<T>(OP, k, kl)?);
            let maps = self.product.forward(x, k, None);
            let out = self.norm.forward::<T>(&maps, cpu::operand(OP, p, pl)?);
            if self.keep {
                // An op runs forward once; a second run would compute the same.
                let _ = self.maps.set(cpu::tensor(maps, self.shape.clone())?);
            }
            Ok((T::to_cpu_storage_owned(out), self.shape.clone()))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        kernel: &Tensor,
        params: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(maps) = self.maps.get() else {
            candle::bail!("{OP}: backward before forward");
        };
        let wants = x.track_op() || kernel.track_op();
        let (grad, params) = self.norm.backward(maps, params, grad, wants)?;
        let (dx, dk) = match grad {
            Some(grad) => weighted::gradients(&self.product, x, kernel, &grad)?,
            None => (None, None),
        };
        Ok((dx, dk, params))
    }
}
