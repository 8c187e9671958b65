//! The backward pass: sums of a channel, then gradients, both fused with the activation.

use super::{Channel, Dims, Kind, OP, Saved, channels};
use crate::cpu::{self, Real, View, for_float};
use crate::gemm::{Shared, transpose};
use crate::rows::ALONE;
use crate::scratch;
use candle::{Result, Tensor};
use rayon::prelude::*;

/// Sums of one channel over the batch: of the inner gradient, of its product with the normalised
/// input, and of the slope's gradient.
#[derive(Default)]
struct Sums {
    bias: f64,
    weight: f64,
    slope: f64,
}

/// Independent partial sums of [`sums`].
const LANES: usize = 16;
/// Pixels after which they are added up in f64: small planes share their sums.
const FOLD: usize = 1024;

/// Adds one vector of pixels to the partial sums.
#[inline(always)]
fn add<T: Real, const ACT: bool>(
    channel: &Channel<T>,
    center: T,
    acc: &mut [[T; LANES]; 3],
    x: &[T; LANES],
    dy: &[T; LANES],
) {
    let [mut bias, mut weight, mut slope] = *acc;
    for l in 0..LANES {
        let (inner, along) = channel.inner::<ACT>(x[l], dy[l]);
        bias[l] += inner;
        weight[l] += inner * (x[l] - center);
        slope[l] += along;
    }
    *acc = [bias, weight, slope];
}

#[inline(always)]
fn sums<T: Real, const ACT: bool>(
    dims: Dims,
    channel: &Channel<T>,
    center: T,
    inverse: f64,
    (x, dy): (&[T], &[T]),
    c: usize,
) -> Sums {
    let mut total = Sums::default();
    let mut acc = [[T::ZERO; LANES]; 3];
    let mut pending = 0;
    for b in 0..dims.batch {
        let at = dims.at(b, c);
        let (x, dy) = (&x[at..at + dims.pixels], &dy[at..at + dims.pixels]);
        let (xs, x_rest) = x.as_chunks::<LANES>();
        let (dys, dy_rest) = dy.as_chunks::<LANES>();
        for (x, dy) in xs.iter().zip(dys) {
            add::<T, ACT>(channel, center, &mut acc, x, dy);
        }
        if !x_rest.is_empty() {
            // A gradient of zero adds nothing, whatever the input.
            let (mut x, mut dy) = ([center; LANES], [T::ZERO; LANES]);
            x[..x_rest.len()].copy_from_slice(x_rest);
            dy[..dy_rest.len()].copy_from_slice(dy_rest);
            add::<T, ACT>(channel, center, &mut acc, &x, &dy);
        }
        pending += dims.pixels;
        if pending >= FOLD || b + 1 == dims.batch {
            let sum = |a: &[T; LANES]| a.iter().map(|v| v.to_f64()).sum::<f64>();
            total.bias += sum(&acc[0]);
            total.weight += sum(&acc[1]);
            total.slope += sum(&acc[2]);
            acc = [[T::ZERO; LANES]; 3];
            pending = 0;
        }
    }
    total.weight *= inverse;
    total
}

/// [`by_planes`], feature vectors turned so that a channel's values lie side by side.
fn backward<T: Real, const ACT: bool>(
    dims: Dims,
    kind: Kind,
    eps: f64,
    saved: &Saved,
    train: bool,
    wants: bool,
    (x, params, dy): (&[T], &[T], &[T]),
) -> (Option<Vec<T>>, Vec<T>) {
    let Some(planes) = dims.turned() else {
        return by_planes::<T, ACT>(dims, kind, eps, saved, train, wants, (x, params, dy));
    };
    scratch::with(2 * x.len(), |buffer: &mut [T]| {
        let (xs, dys) = buffer.split_at_mut(x.len());
        turn(x, dims.channels, xs);
        turn(dy, dims.channels, dys);
        let slices = (&*xs, params, &*dys);
        let (dx, dp) = by_planes::<T, ACT>(planes, kind, eps, saved, train, wants, slices);
        (dx.map(|dx| turned_back(&dx, dims)), dp)
    })
}

/// Turns (B, C) to (C, B).
pub(super) fn turn<T: Real>(x: &[T], channels: usize, out: &mut [T]) {
    const BLOCK: usize = 64;
    let batch = x.len() / channels;
    let block = |(index, out): (usize, &mut [T])| {
        let count = out.len() / batch;
        transpose(&x[index * BLOCK..], batch, count, channels, out, batch);
    };
    if x.len() < ALONE {
        out.chunks_mut(BLOCK * batch).enumerate().for_each(block);
    } else {
        out.par_chunks_mut(BLOCK * batch)
            .enumerate()
            .for_each(block);
    }
}

/// Turns (C, B) to (B, C).
pub(super) fn turned_back<T: Real>(x: &[T], dims: Dims) -> Vec<T> {
    // A transpose writes every element.
    let mut out: Vec<T> = cpu::unwritten(x.len());
    turn(x, dims.batch, &mut out);
    out
}

/// Gradients of input and stacked parameters.
///
/// With `train`, the statistics depend on the input:
/// `dx = weight * inverse / n * (n dz - sum(dz) - xhat * sum(dz xhat))`.
fn by_planes<T: Real, const ACT: bool>(
    dims: Dims,
    kind: Kind,
    eps: f64,
    saved: &Saved,
    train: bool,
    wants: bool,
    (x, params, dy): (&[T], &[T], &[T]),
) -> (Option<Vec<T>>, Vec<T>) {
    // The tasks below write every channel.
    let mut out: Option<Vec<T>> = wants.then(|| cpu::unwritten(dims.len()));
    let shared = out.as_mut().map(|v| Shared::new(v));
    let per_channel: Vec<Sums> = channels(dims, |c| {
        let (mean, var) = (saved.mean[c], saved.var[c]);
        let inverse = 1.0 / (var + eps).sqrt();
        let channel = Channel::new(dims, kind, params, c, mean, var, eps);
        let center = T::from_f64(mean);
        crate::simd::run(
            #[inline(always)]
            || {
                let sums = sums::<T, ACT>(dims, &channel, center, inverse, (x, dy), c);
                let Some(shared) = &shared else { return sums };
                let count = dims.count() as f64;
                let gain = params[c].to_f64() * inverse;
                let (slant, offset) = if train {
                    (
                        -gain * inverse * sums.weight / count,
                        -gain * sums.bias / count,
                    )
                } else {
                    (0.0, 0.0)
                };
                let (gain, slant, offset) =
                    (T::from_f64(gain), T::from_f64(slant), T::from_f64(offset));
                for b in 0..dims.batch {
                    let at = dims.at(b, c);
                    // SAFETY: each task writes the pixels of its own channel.
                    let out = unsafe { shared.part(at, dims.pixels) };
                    let (x, dy) = (&x[at..at + dims.pixels], &dy[at..at + dims.pixels]);
                    for ((d, &x), &dy) in out.iter_mut().zip(x).zip(dy) {
                        let (inner, _) = channel.inner::<ACT>(x, dy);
                        *d = gain * inner + (slant * (x - center) + offset);
                    }
                }
                sums
            },
        )
    });
    let mut grads: Vec<T> = Vec::with_capacity(params.len());
    grads.extend(per_channel.iter().map(|s| T::from_f64(s.weight)));
    grads.extend(per_channel.iter().map(|s| T::from_f64(s.bias)));
    if kind == Kind::PRelu {
        grads.extend(per_channel.iter().map(|s| T::from_f64(s.slope)));
    }
    (out, grads)
}

/// [`backward`] on tensors.
pub(super) fn backward_tensors(
    (dims, kind, eps): (Dims, Kind, f64),
    saved: &Saved,
    (train, wants): (bool, bool),
    x: &Tensor,
    params: &Tensor,
    grad: &Tensor,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let grad = grad.contiguous()?;
    for_float!(x.dtype(), OP, T => {
        let (xs, ps, dy) = (View::of(x), View::of(params), View::of(&grad));
        let slices = (xs.slice::<T>(OP)?, ps.slice::<T>(OP)?, dy.slice::<T>(OP)?);
        let run = match kind {
            Kind::None => backward::<T, false>,
            Kind::Relu | Kind::PRelu => backward::<T, true>,
        };
        let (dx, dp) = run(dims, kind, eps, saved, train, wants, slices);
        let dx = dx.map(|dx| cpu::tensor(dx, x.shape())).transpose()?;
        Ok((dx, Some(cpu::tensor(dp, params.shape())?)))
    })
}
