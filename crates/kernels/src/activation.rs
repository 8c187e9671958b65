//! ReLU, PReLU, softplus and dropout.

use crate::cpu::{self, Real, View, for_float};
use candle::{CpuStorage, CustomOp1, CustomOp2, Device, Layout, Result, Shape, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// What follows a normalisation, in the same pass.
#[derive(Debug, Clone, Copy)]
pub enum Activation<'a> {
    /// Nothing.
    None,
    /// `max(z, 0)`, gradient 0 at 0.
    Relu,
    /// `z` where positive, else `slope * z`, with one slope a channel, (C).
    PRelu(&'a Tensor),
}

/// Elements handled by one task of an elementwise loop.
const BLOCK: usize = 1 << 14;

/// `out = f(x)` over blocks in parallel.
fn map1<T: Real>(x: &[T], f: impl Fn(T) -> T + Sync) -> Vec<T> {
    // The loop below writes every element.
    let mut out: Vec<T> = cpu::unwritten(x.len());
    out.par_chunks_mut(BLOCK)
        .zip(x.par_chunks(BLOCK))
        .for_each(|(out, x)| {
            crate::simd::run(
                #[inline(always)]
                || {
                    for (o, &x) in out.iter_mut().zip(x) {
                        *o = f(x);
                    }
                },
            );
        });
    out
}

/// `out = f(x, y)` over blocks in parallel.
pub(crate) fn map2<T: Real>(x: &[T], y: &[T], f: impl Fn(T, T) -> T + Sync) -> Vec<T> {
    // The loop below writes every element.
    let mut out: Vec<T> = cpu::unwritten(x.len());
    out.par_chunks_mut(BLOCK)
        .zip(x.par_chunks(BLOCK))
        .zip(y.par_chunks(BLOCK))
        .for_each(|((out, x), y)| {
            crate::simd::run(
                #[inline(always)]
                || {
                    for ((o, &x), &y) in out.iter_mut().zip(x).zip(y) {
                        *o = f(x, y);
                    }
                },
            );
        });
    out
}

/// An elementwise function with its derivative.
pub(crate) trait Elementwise: Copy + Send + Sync + 'static {
    const NAME: &'static str;
    fn value<T: Real>(self, x: T) -> T;
    /// The gradient of `x` from that of the result.
    fn gradient<T: Real>(self, x: T, grad: T) -> T;
}

struct Op<F>(F);

impl<F: Elementwise> CustomOp1 for Op<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        for_float!(x.dtype(), F::NAME, T => {
            let out = map1(cpu::operand::<T>(F::NAME, x, l)?, |x| self.0.value(x));
            Ok((T::to_cpu_storage_owned(out), l.shape().clone()))
        })
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        for_float!(x.dtype(), F::NAME, T => {
            let (xs, dy) = (View::of(x), View::of(&grad));
            let (xs, dy) = (xs.slice::<T>(F::NAME)?, dy.slice::<T>(F::NAME)?);
            let dx = map2(xs, dy, |x, dy| self.0.gradient(x, dy));
            Ok(Some(cpu::tensor(dx, x.shape())?))
        })
    }
}

/// Applies an elementwise function to a CPU tensor.
pub(crate) fn elementwise<F: Elementwise>(x: &Tensor, f: F) -> Result<Tensor> {
    cpu::float(F::NAME, x)?;
    x.contiguous()?.apply_op1(Op(f))
}

#[derive(Clone, Copy)]
struct Relu;

impl Elementwise for Relu {
    const NAME: &'static str = "relu";

    #[inline(always)]
    fn value<T: Real>(self, x: T) -> T {
        if x <= T::ZERO { T::ZERO } else { x }
    }

    #[inline(always)]
    fn gradient<T: Real>(self, x: T, grad: T) -> T {
        if x <= T::ZERO { T::ZERO } else { grad }
    }
}

/// `max(x, 0)` with gradient 0 at 0, as PyTorch; candle's own passes 1 there.
///
/// # Shapes
/// Any; the result has the same.
///
/// # Errors
/// When the dtype is not a float.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    cpu::float("relu", x)?;
    if cpu::native(x) {
        elementwise(x, Relu)
    } else {
        composed_relu(x)
    }
}

pub(crate) fn composed_relu(x: &Tensor) -> Result<Tensor> {
    x.le(0.0)?.where_cond(&x.zeros_like()?, x)
}

#[derive(Clone, Copy)]
struct Softplus;

impl Elementwise for Softplus {
    const NAME: &'static str = "softplus";

    #[inline(always)]
    fn value<T: Real>(self, x: T) -> T {
        let positive = if x > T::ZERO { x } else { T::ZERO };
        if x.is_nan() {
            x
        } else {
            positive + (-x.abs()).exp().ln_1p()
        }
    }

    #[inline(always)]
    fn gradient<T: Real>(self, x: T, grad: T) -> T {
        let e = (-x.abs()).exp();
        let s = T::ONE / (T::ONE + e);
        grad * if x >= T::ZERO { s } else { e * s }
    }
}

/// `log(1 + exp(x))` without overflow; its gradient is the logistic function.
///
/// # Shapes
/// Any; the result has the same.
///
/// # Errors
/// When the dtype is not a float.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    cpu::float("softplus", x)?;
    if cpu::native(x) {
        elementwise(x, Softplus)
    } else {
        composed_softplus(x)
    }
}

pub(crate) fn composed_softplus(x: &Tensor) -> Result<Tensor> {
    // |x| by selection: candle's derivative of abs is 1 at 0, which would give the wrong slope there
    // were relu's not 0; the two branches of one selection agree at 0.
    let negative = x.le(0.0)?;
    let e = |t: &Tensor| (t.exp()? + 1.0)?.log();
    let below = negative.where_cond(x, &x.zeros_like()?)?;
    let above = negative.where_cond(&x.zeros_like()?, x)?;
    negative.where_cond(&e(&below)?, &(&above + e(&above.neg()?)?)?)
}

/// `x` where positive, else `slope * x`; both gradients.
///
/// # Shapes
/// `x` (B, C, ...) with `slope` (C), or any `x` with `slope` (1); the result is shaped as `x`.
///
/// # Errors
/// When shapes, dtypes or devices disagree.
pub fn prelu(x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    const OP: &str = "prelu";
    cpu::float(OP, x)?;
    cpu::same_kind(OP, &[("x", x), ("slope", slope)])?;
    let fits = match (slope.dims(), x.dims()) {
        ([1], _) => true,
        ([c], [_, channels, ..]) => c == channels,
        _ => false,
    };
    if !fits {
        candle::bail!(
            "{OP}: slope {:?} does not match the input {:?}",
            slope.shape(),
            x.shape()
        );
    }
    cpu::not_empty(OP, "input", x)?;
    if !cpu::native(x) {
        return composed_prelu(x, slope);
    }
    let op = match (slope.dims(), x.dims()) {
        ([channels], [_, _, rest @ ..]) if *channels > 1 => PRelu {
            channels: *channels,
            pixels: rest.iter().product(),
        },
        _ => PRelu {
            channels: 1,
            pixels: x.elem_count(),
        },
    };
    x.contiguous()?.apply_op2(&slope.contiguous()?, op)
}

pub(crate) fn composed_prelu(x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    let mut shape = vec![1; x.rank()];
    if let (Some(c), true) = (shape.get_mut(1), slope.elem_count() > 1) {
        *c = slope.elem_count();
    }
    let scaled = x.broadcast_mul(&slope.reshape(shape)?)?;
    x.le(0.0)?.where_cond(&scaled, x)
}

struct PRelu {
    channels: usize,
    pixels: usize,
}

impl CustomOp2 for PRelu {
    fn name(&self) -> &'static str {
        "prelu"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        a: &CpuStorage,
        al: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        for_float!(x.dtype(), "prelu", T => {
            let (x, a) = (cpu::operand::<T>("prelu", x, xl)?, cpu::operand::<T>("prelu", a, al)?);
            // The loop below writes every element.
            let mut out: Vec<T> = cpu::unwritten(x.len());
            out.par_chunks_mut(self.pixels)
                .zip(x.par_chunks(self.pixels))
                .with_min_len(BLOCK / self.pixels + 1)
                .enumerate()
                .for_each(|(plane, (out, x))| {
                    let a = a[plane % self.channels];
                    crate::simd::run(#[inline(always)] || {
                        for (o, &x) in out.iter_mut().zip(x) {
                            let scaled = a * x;
                            *o = if x <= T::ZERO { scaled } else { x };
                        }
                    });
                });
            Ok((T::to_cpu_storage_owned(out), xl.shape().clone()))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        slope: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        for_float!(x.dtype(), "prelu", T => {
            let (xs, a, dy) = (View::of(x), View::of(slope), View::of(&grad));
            let (xs, dy) = (xs.slice::<T>("prelu")?, dy.slice::<T>("prelu")?);
            let a = a.slice::<T>("prelu")?;
            // The loop below writes every element.
            let mut dx: Vec<T> = cpu::unwritten(xs.len());
            let planes: Vec<T> = dx
                .par_chunks_mut(self.pixels)
                .zip(xs.par_chunks(self.pixels))
                .zip(dy.par_chunks(self.pixels))
                .with_min_len(BLOCK / self.pixels + 1)
                .enumerate()
                .map(|(plane, ((dx, x), dy))| {
                    let a = a[plane % self.channels];
                    crate::simd::run(#[inline(always)] || {
                        for ((d, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                            let scaled = a * dy;
                            *d = if x <= T::ZERO { scaled } else { dy };
                        }
                        crate::reduce::pairs(x, dy, #[inline(always)] |x, dy| {
                            let scaled = x * dy;
                            if x <= T::ZERO { scaled } else { T::ZERO }
                        })
                    })
                })
                .collect();
            let mut da = vec![T::ZERO; self.channels];
            for (plane, value) in planes.into_iter().enumerate() {
                da[plane % self.channels] += value;
            }
            Ok((Some(cpu::tensor(dx, x.shape())?), Some(cpu::tensor(da, slope.shape())?)))
        })
    }
}

/// Elements drawn from one stream of the dropout mask.
const STREAM: usize = 1 << 12;

/// Sets each element to zero with probability `p` and divides the others by `1 - p`. Which ones
/// depends on `seed` and the element's index alone: not on threads, device or earlier calls.
///
/// # Shapes
/// Any; the result has the same.
///
/// # Errors
/// When `p` lies outside [0, 1] or the dtype is not a float.
pub fn dropout(x: &Tensor, p: f64, seed: u64) -> Result<Tensor> {
    const OP: &str = "dropout";
    cpu::float(OP, x)?;
    if !(0.0..=1.0).contains(&p) {
        candle::bail!("{OP}: probability must lie in [0, 1], got {p}");
    }
    if p == 0.0 {
        return Ok(x.clone());
    }
    let op = Dropout { p, seed };
    if cpu::native(x) {
        return x.contiguous()?.apply_op1(op);
    }
    let ones = vec![1f32; x.elem_count()];
    let mask = Tensor::from_vec(op.masked(&ones), x.shape(), &Device::Cpu)?;
    x.mul(&mask.to_device(x.device())?.to_dtype(x.dtype())?)
}

struct Dropout {
    p: f64,
    seed: u64,
}

impl Dropout {
    fn masked<T: Real>(&self, x: &[T]) -> Vec<T> {
        // An element is dropped when its 32 bits fall below this.
        let threshold = (self.p * 4_294_967_296.0) as u64;
        let scale = T::from_f64(if self.p < 1.0 {
            1.0 / (1.0 - self.p)
        } else {
            0.0
        });
        // The loop below writes every element.
        let mut out: Vec<T> = cpu::unwritten(x.len());
        out.par_chunks_mut(STREAM)
            .zip(x.par_chunks(STREAM))
            .enumerate()
            .for_each(|(stream, (out, x))| {
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                rng.set_stream(stream as u64);
                for (o, &x) in out.iter_mut().zip(x) {
                    let kept = u64::from(rng.random::<u32>()) >= threshold;
                    *o = if kept { x * scale } else { T::ZERO };
                }
            });
        out
    }
}

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        for_float!(x.dtype(), "dropout", T => {
            let out = self.masked(cpu::operand::<T>("dropout", x, l)?);
            Ok((T::to_cpu_storage_owned(out), l.shape().clone()))
        })
    }

    fn bwd(&self, _x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        for_float!(grad.dtype(), "dropout", T => {
            let dx = self.masked(View::of(&grad).slice::<T>("dropout")?);
            Ok(Some(cpu::tensor(dx, grad.shape())?))
        })
    }
}
