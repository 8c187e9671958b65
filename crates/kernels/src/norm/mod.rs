//! Batch normalisation with an activation fused into the same passes.
//!
//! `y = act(weight * (x - mean) / sqrt(var + eps) + bias)` for every channel (Ioffe and Szegedy,
//! 2015). A channel of the whole batch is handled by one task, so that its second pass finds it in
//! the cache; sums run in a fixed order.

mod backward;
mod composed;

use crate::activation::Activation;
use crate::cpu::{self, Real, View, for_float};
use crate::gemm::Shared;
use crate::rows::ALONE;
use crate::{reduce, scratch};
use backward::{backward_tensors, turn, turned_back};
use candle::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::{Arc, OnceLock};

const OP: &str = "batch_norm";

/// Mean and variance of a batch, one value a channel, detached from the graph.
#[derive(Debug, Clone)]
pub struct BatchStats {
    /// Mean over images and pixels, (C).
    pub mean: Tensor,
    /// Unbiased variance over images and pixels, (C): what running statistics are updated with.
    pub var: Tensor,
}

/// Sizes of a batch of channels.
#[derive(Clone, Copy)]
pub(crate) struct Dims {
    batch: usize,
    channels: usize,
    pixels: usize,
}

impl Dims {
    fn of(shape: &[usize]) -> Result<Self> {
        let (&batch, &channels, rest) = match shape {
            [b, c] => (b, c, &[][..]),
            [b, c, rest @ ..] => (b, c, rest),
            other => candle::bail!("{OP}: expected input (B, C) or (B, C, H, W), got {other:?}"),
        };
        Ok(Self {
            batch,
            channels,
            pixels: rest.iter().product(),
        })
    }

    fn count(&self) -> usize {
        self.batch * self.pixels
    }

    fn len(&self) -> usize {
        self.batch * self.channels * self.pixels
    }

    /// Feature vectors seen as one image whose pixels are the batch, where they come as (C, B).
    fn turned(&self) -> Option<Self> {
        (self.pixels == 1 && self.batch > 1 && self.channels > 1).then_some(Self {
            batch: 1,
            channels: self.channels,
            pixels: self.batch,
        })
    }

    /// Where the pixels of a channel of an image start.
    fn at(&self, image: usize, channel: usize) -> usize {
        (image * self.channels + channel) * self.pixels
    }
}

/// What the activation asks of the inner loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Relu,
    PRelu,
}

/// Checks the operands of a norm of maps of `shape`, which come from `x`.
fn check(
    x: &Tensor,
    shape: &[usize],
    per_channel: &[(&str, &Tensor)],
    eps: f64,
    act: &Activation<'_>,
) -> Result<(Dims, Kind)> {
    cpu::float(OP, x)?;
    cpu::not_empty(OP, "input", x)?;
    let dims = Dims::of(shape)?;
    if eps.is_nan() || eps < 0.0 {
        candle::bail!("{OP}: eps must not be negative, got {eps}");
    }
    let check = |name: &str, t: &Tensor| -> Result<()> {
        cpu::same_kind(OP, &[("x", x), (name, t)])?;
        if t.dims() != [dims.channels] {
            candle::bail!(
                "{OP}: {name} {:?} does not match the {} channels of {shape:?}",
                t.shape(),
                dims.channels
            );
        }
        Ok(())
    };
    for (name, t) in per_channel {
        check(name, t)?;
    }
    let kind = match act {
        Activation::None => Kind::None,
        Activation::Relu => Kind::Relu,
        Activation::PRelu(slope) => {
            check("slope", slope)?;
            Kind::PRelu
        }
    };
    Ok((dims, kind))
}

/// Stacks the parameters of a channel into one operand (R, C), since an op takes three at most.
pub(crate) fn stacked(weight: &Tensor, bias: &Tensor, act: &Activation<'_>) -> Result<Tensor> {
    match act {
        Activation::PRelu(slope) => Tensor::stack(&[weight, bias, *slope], 0),
        _ => Tensor::stack(&[weight, bias], 0),
    }
}

/// Normalises by the statistics of the batch, then applies the activation. Gradients reach `x`,
/// `weight`, `bias` and the slope.
///
/// # Shapes
/// `x` (B, C) or (B, C, H, W); `weight`, `bias` and the slope (C); result as `x`.
///
/// # Errors
/// When shapes, dtypes or devices disagree, `eps` is negative, or a channel has fewer than two values.
pub fn batch_norm_train(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
    act: Activation<'_>,
) -> Result<(Tensor, BatchStats)> {
    let op = Train::new(x, x.dims(), weight, bias, eps, &act)?;
    if !cpu::native(x) {
        return composed::train(x, weight, bias, eps, &act);
    }
    let (saved, dims) = (op.saved.clone(), op.dims);
    let y = x
        .contiguous()?
        .apply_op2(&stacked(weight, bias, &act)?.contiguous()?, op)?;
    Ok((y, batch_stats(&saved, dims, x)?))
}

/// The statistics of a forward pass as tensors of the kind of `x`.
pub(crate) fn batch_stats(saved: &OnceLock<Saved>, dims: Dims, x: &Tensor) -> Result<BatchStats> {
    let Some(Saved { mean, var }) = saved.get() else {
        candle::bail!("{OP}: statistics are missing after the forward pass");
    };
    let unbiased = dims.count() as f64 / (dims.count() - 1) as f64;
    let var: Vec<f64> = var.iter().map(|v| v * unbiased).collect();
    let stat = |v: &[f64]| Tensor::new(v, x.device())?.to_dtype(x.dtype());
    Ok(BatchStats {
        mean: stat(mean)?,
        var: stat(&var)?,
    })
}

/// Normalises by given statistics, then applies the activation. Gradients reach `x`, `weight`, `bias`
/// and the slope; `mean` and `var` are constants.
///
/// # Shapes
/// `x` (B, C) or (B, C, H, W); `mean`, `var`, `weight`, `bias` and the slope (C); result as `x`.
///
/// # Errors
/// When shapes, dtypes or devices disagree, or `eps` is negative.
pub fn batch_norm_eval(
    x: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
    act: Activation<'_>,
) -> Result<Tensor> {
    let given = [
        ("mean", mean),
        ("var", var),
        ("weight", weight),
        ("bias", bias),
    ];
    let (dims, kind) = check(x, x.dims(), &given, eps, &act)?;
    if !cpu::native(x) {
        return composed::eval(x, mean, var, weight, bias, eps, &act);
    }
    let stats = Tensor::stack(&[mean.detach(), var.detach()], 0)?.contiguous()?;
    let params = stacked(weight, bias, &act)?.contiguous()?;
    x.contiguous()?
        .apply_op3(&params, &stats, Eval { dims, kind, eps })
}

/// Statistics kept from the forward pass, in f64 (there are few of them).
#[derive(Debug)]
pub(crate) struct Saved {
    mean: Vec<f64>,
    /// Biased variance.
    var: Vec<f64>,
}

/// The affine map and slope of one channel.
#[derive(Clone, Copy)]
struct Channel<T> {
    scale: T,
    shift: T,
    slope: T,
}

impl<T: Real> Channel<T> {
    fn new(dims: Dims, kind: Kind, params: &[T], c: usize, mean: f64, var: f64, eps: f64) -> Self {
        let inverse = 1.0 / (var + eps).sqrt();
        let scale = params[c].to_f64() * inverse;
        let shift = params[dims.channels + c].to_f64() - mean * scale;
        let slope = if kind == Kind::PRelu {
            params[2 * dims.channels + c]
        } else {
            T::ZERO
        };
        Self {
            scale: T::from_f64(scale),
            shift: T::from_f64(shift),
            slope,
        }
    }

    /// The value before the activation; forward and backward must agree on it to the bit.
    #[inline(always)]
    fn affine(&self, x: T) -> T {
        self.scale * x + self.shift
    }

    #[inline(always)]
    fn apply(&self, kind: Kind, x: &[T], out: &mut [T]) {
        match kind {
            Kind::None => out
                .iter_mut()
                .zip(x)
                .for_each(|(o, &x)| *o = self.affine(x)),
            // One negative slope serves both: it is zero for ReLU, except that 0 * inf is NaN.
            Kind::Relu => out.iter_mut().zip(x).for_each(|(o, &x)| {
                let z = self.affine(x);
                *o = if z <= T::ZERO { T::ZERO } else { z };
            }),
            Kind::PRelu => out.iter_mut().zip(x).for_each(|(o, &x)| {
                let z = self.affine(x);
                *o = if z <= T::ZERO { self.slope * z } else { z };
            }),
        }
    }

    /// The gradient before the activation, and the slope's. ReLU is a slope of zero; without `ACT`
    /// there is no activation.
    #[inline(always)]
    fn inner<const ACT: bool>(&self, x: T, dy: T) -> (T, T) {
        if !ACT {
            return (dy, T::ZERO);
        }
        // Both sides of the selections are computed, so that lanes need no branch.
        let z = self.affine(x);
        let (below, along) = (self.slope * dy, z * dy);
        if z <= T::ZERO {
            (below, along)
        } else {
            (dy, T::ZERO)
        }
    }
}

/// Mean and biased variance of a channel, in two passes over cached data.
#[inline(always)]
fn statistics<T: Real>(dims: Dims, x: &[T], c: usize) -> (f64, f64) {
    let count = dims.count() as f64;
    let image = |b: usize| &x[dims.at(b, c)..dims.at(b, c) + dims.pixels];
    if dims.pixels < 8 {
        // Feature vectors and tiny maps: lanes would be mostly idle, and f64 costs nothing here.
        let values = || (0..dims.batch).flat_map(|b| image(b).iter().map(|v| v.to_f64()));
        let mean = values().sum::<f64>() / count;
        let var = values().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count;
        return (mean, var);
    }
    let mut total = 0.0;
    for b in 0..dims.batch {
        total += reduce::sum(image(b)).to_f64();
    }
    let mean = total / count;
    let center = T::from_f64(mean);
    let mut squares = 0.0;
    for b in 0..dims.batch {
        squares += reduce::squares(image(b), center).to_f64();
    }
    // The centre was rounded to T; take the difference out again.
    let rounding = mean - center.to_f64();
    (mean, (squares / count - rounding * rounding).max(0.0))
}

/// `task` of every channel, in order.
fn channels<R: Send>(dims: Dims, task: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    if dims.len() < ALONE {
        return (0..dims.channels).map(task).collect();
    }
    // Small channels are not worth a thread switch each.
    let least = (1 << 13) / dims.count().max(1) + 1;
    let all = (0..dims.channels).into_par_iter().with_min_len(least);
    all.map(task).collect()
}

/// Training op: statistics and output in one task per channel.
pub(crate) struct Train {
    pub(crate) dims: Dims,
    kind: Kind,
    eps: f64,
    pub(crate) saved: Arc<OnceLock<Saved>>,
}

impl Train {
    /// Checks the operands. The maps, of `shape`, are `x` or made from it.
    pub(crate) fn new(
        x: &Tensor,
        shape: &[usize],
        weight: &Tensor,
        bias: &Tensor,
        eps: f64,
        act: &Activation<'_>,
    ) -> Result<Self> {
        let given = [("weight", weight), ("bias", bias)];
        let (dims, kind) = check(x, shape, &given, eps, act)?;
        if dims.count() < 2 {
            candle::bail!(
                "{OP}: expected more than one value per channel when training, got input {shape:?}"
            );
        }
        Ok(Self {
            dims,
            kind,
            eps,
            saved: Arc::new(OnceLock::new()),
        })
    }

    /// Gradients of the maps, where wanted, and of the stacked parameters.
    pub(crate) fn backward(
        &self,
        maps: &Tensor,
        params: &Tensor,
        grad: &Tensor,
        wants: bool,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(saved) = self.saved.get() else {
            candle::bail!("{OP}: backward before forward");
        };
        let spec = (self.dims, self.kind, self.eps);
        backward_tensors(spec, saved, (true, wants), maps, params, grad)
    }

    pub(crate) fn forward<T: Real>(&self, x: &[T], params: &[T]) -> Vec<T> {
        let Some(dims) = self.dims.turned() else {
            return self.by_planes(self.dims, x, params);
        };
        scratch::with(x.len(), |planes: &mut [T]| {
            turn(x, self.dims.channels, planes);
            let out = self.by_planes(dims, planes, params);
            turned_back(&out, self.dims)
        })
    }

    fn by_planes<T: Real>(&self, dims: Dims, x: &[T], params: &[T]) -> Vec<T> {
        // The tasks below write every channel.
        let mut out: Vec<T> = cpu::unwritten(dims.len());
        let shared = Shared::new(&mut out);
        let (mean, var) = channels(dims, |c| {
            crate::simd::run(
                #[inline(always)]
                || {
                    let (mean, var) = statistics(dims, x, c);
                    let channel = Channel::new(dims, self.kind, params, c, mean, var, self.eps);
                    for b in 0..dims.batch {
                        let at = dims.at(b, c);
                        // SAFETY: each task writes the pixels of its own channel.
                        let out = unsafe { shared.part(at, dims.pixels) };
                        channel.apply(self.kind, &x[at..at + dims.pixels], out);
                    }
                    (mean, var)
                },
            )
        })
        .into_iter()
        .unzip();
        // An op runs forward once; a second run would compute the same.
        let _ = self.saved.set(Saved { mean, var });
        out
    }
}

impl CustomOp2 for Train {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        p: &CpuStorage,
        pl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        for_float!(x.dtype(), OP, T => {
            let out = self.forward::<T>(cpu::operand(OP, x, xl)?, cpu::operand(OP, p, pl)?);
            Ok((T::to_cpu_storage_owned(out), xl.shape().clone()))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        params: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.backward(x, params, grad, x.track_op())
    }
}

/// Inference op: statistics are an operand without gradient.
struct Eval {
    dims: Dims,
    kind: Kind,
    eps: f64,
}

impl Eval {
    fn saved<T: Real>(&self, stats: &[T]) -> Saved {
        let values: Vec<f64> = stats.iter().map(|v| v.to_f64()).collect();
        let (mean, var) = values.split_at(self.dims.channels);
        Saved {
            mean: mean.to_vec(),
            var: var.to_vec(),
        }
    }
}

impl CustomOp3 for Eval {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        p: &CpuStorage,
        pl: &Layout,
        s: &CpuStorage,
        sl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        for_float!(x.dtype(), OP, T => {
            let params = cpu::operand::<T>(OP, p, pl)?;
            let saved = self.saved(cpu::operand::<T>(OP, s, sl)?);
            let dims = self.dims;
            let channels: Vec<_> = (0..dims.channels)
                .map(|c| {
                    let (mean, var) = (saved.mean[c], saved.var[c]);
                    Channel::new(dims, self.kind, params, c, mean, var, self.eps)
                })
                .collect();
            let data = cpu::operand::<T>(OP, x, xl)?;
            // The tasks below write every plane.
            let mut out: Vec<T> = cpu::unwritten(dims.len());
            out.par_chunks_mut(dims.pixels)
                .zip(data.par_chunks(dims.pixels))
                .with_min_len((1 << 13) / dims.pixels + 1)
                .enumerate()
                .for_each(|(plane, (out, x))| {
                    let channel = channels[plane % dims.channels];
                    crate::simd::run(#[inline(always)] || channel.apply(self.kind, x, out));
                });
            Ok((T::to_cpu_storage_owned(out), xl.shape().clone()))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        params: &Tensor,
        stats: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let saved = for_float!(x.dtype(), OP, T => {
            self.saved(View::of(stats).slice::<T>(OP)?)
        });
        let spec = (self.dims, self.kind, self.eps);
        let (dx, dp) = backward_tensors(spec, &saved, (false, x.track_op()), x, params, grad)?;
        Ok((dx, dp, None))
    }
}
