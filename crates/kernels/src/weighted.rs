//! Ops of an input, a weight and an optional bias: the bridge to candle, written once.

use crate::cpu::{self, Real, View, for_float};
use candle::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

/// What such an op computes, on contiguous slices whose sizes were checked before.
pub(crate) trait Weighted: Send + Sync + 'static {
    const NAME: &'static str;
    /// The shape of the result.
    fn shape(&self) -> Shape;
    fn forward<T: Real>(&self, x: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T>;
    fn input_gradient<T: Real>(&self, weight: &[T], grad: &[T]) -> Vec<T>;
    fn weight_gradient<T: Real>(&self, x: &[T], grad: &[T]) -> Vec<T>;
    fn bias_gradient<T: Real>(&self, grad: &[T]) -> Vec<T>;
}

/// Applies `op` to CPU tensors.
pub(crate) fn apply<W: Weighted>(
    op: W,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        None => x.apply_op2(&weight, Op(op)),
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, Op(op)),
    }
}

/// The gradients of input and weight, each only where it is tracked.
pub(crate) fn gradients<W: Weighted>(
    op: &W,
    x: &Tensor,
    weight: &Tensor,
    grad: &Tensor,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let grad = grad.contiguous()?;
    for_float!(x.dtype(), W::NAME, T => {
        let (xs, ws, dy) = (View::of(x), View::of(weight), View::of(&grad));
        let dy = dy.slice::<T>(W::NAME)?;
        let dx = match x.track_op() {
            false => None,
            true => {
                let dx = op.input_gradient(ws.slice::<T>(W::NAME)?, dy);
                Some(cpu::tensor(dx, x.shape())?)
            }
        };
        let dw = match weight.track_op() {
            false => None,
            true => {
                let dw = op.weight_gradient(xs.slice::<T>(W::NAME)?, dy);
                Some(cpu::tensor(dw, weight.shape())?)
            }
        };
        Ok((dx, dw))
    })
}

struct Op<W>(W);

impl<W: Weighted> CustomOp2 for Op<W> {
    fn name(&self) -> &'static str {
        W::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        for_float!(x.dtype(), W::NAME, T => {
            let (x, w) = (cpu::operand::<T>(W::NAME, x, xl)?, cpu::operand(W::NAME, w, wl)?);
            let out = self.0.forward(x, w, None);
            Ok((T::to_cpu_storage_owned(out), self.0.shape()))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        gradients(&self.0, x, weight, grad)
    }
}

impl<W: Weighted> CustomOp3 for Op<W> {
    fn name(&self) -> &'static str {
        W::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        for_float!(x.dtype(), W::NAME, T => {
            let (x, w) = (cpu::operand::<T>(W::NAME, x, xl)?, cpu::operand(W::NAME, w, wl)?);
            let out = self.0.forward(x, w, Some(cpu::operand(W::NAME, b, bl)?));
            Ok((T::to_cpu_storage_owned(out), self.0.shape()))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (dx, dw) = gradients(&self.0, x, weight, &grad)?;
        let db = match bias.track_op() {
            false => None,
            true => for_float!(grad.dtype(), W::NAME, T => {
                let db = self.0.bias_gradient(View::of(&grad).slice::<T>(W::NAME)?);
                Some(cpu::tensor(db, bias.shape())?)
            }),
        };
        Ok((dx, dw, db))
    }
}
