//! Convolution for inference: bias, a map to add and the activation in the place of the result.

use crate::activation::{Activation, prelu, relu};
use crate::conv::geometry::Geometry;
use crate::conv::{Conv2dConfig, Convolution, Prepared, conv2d};
use crate::cpu::{self, Real, View, for_float};
use candle::{Result, Shape, Tensor};
use rayon::prelude::*;

const OP: &str = "conv2d_act";

/// `act(conv2d(x, weight) + bias + add)`: the same values as one after the other, without a map of
/// its own for every step. `add` is a residual, or a bias that differs from pixel to pixel (with a batch
/// of 1, the same for every image). Made for inference: where an operand tracks gradients, the
/// operations run one after the other.
///
/// # Shapes
/// `x` (B, C, H, W), `weight` (O, C / groups, kh, kw), `bias` and the slope (O), `add` (B, O, H', W')
/// or (1, O, H', W'); result (B, O, H', W') as of [`conv2d`].
///
/// # Errors
/// As [`conv2d`], and when `add` or the slope does not match the result.
pub fn conv2d_act(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    add: Option<&Tensor>,
    cfg: Conv2dConfig,
    act: Activation<'_>,
) -> Result<Tensor> {
    with_prepared((x, weight), bias, add, cfg, act, None)
}

/// [`conv2d_act`] by a layer that keeps what it made of its weight, which must be the same every time.
pub(crate) fn with_prepared(
    (x, weight): (&Tensor, &Tensor),
    bias: Option<&Tensor>,
    add: Option<&Tensor>,
    cfg: Conv2dConfig,
    act: Activation<'_>,
    prepared: Option<&Prepared>,
) -> Result<Tensor> {
    cpu::float(OP, x)?;
    cpu::same_kind(OP, &[("x", x), ("weight", weight)])?;
    let geometry = Geometry::new(x.dims(), weight.dims(), &cfg)?;
    let g = &geometry;
    let shape = [g.batch, g.out_channels, g.out_height, g.out_width];
    if let Some(add) = add {
        cpu::same_kind(OP, &[("x", x), ("add", add)])?;
        let fits = matches!(add.dims(), [b, rest @ ..] if (*b == 1 || *b == g.batch) && *rest == shape[1..]);
        if !fits {
            candle::bail!(
                "{OP}: add {:?} does not match the result {shape:?}",
                add.shape()
            );
        }
    }
    if let Activation::PRelu(slope) = act {
        cpu::same_kind(OP, &[("x", x), ("slope", slope)])?;
        if slope.dims() != [g.out_channels] {
            candle::bail!(
                "{OP}: slope {:?} does not match the result {shape:?}",
                slope.shape()
            );
        }
    }
    if let Some(bias) = bias {
        cpu::same_kind(OP, &[("x", x), ("bias", bias)])?;
        if bias.dims() != [g.out_channels] {
            candle::bail!(
                "{OP}: bias {:?} does not match weight {:?}",
                bias.shape(),
                weight.shape()
            );
        }
    }
    let slope = match act {
        Activation::PRelu(slope) => Some(slope),
        _ => None,
    };
    let tracks = [Some(x), Some(weight), bias, add, slope]
        .into_iter()
        .flatten()
        .any(Tensor::track_op);
    if tracks || !cpu::native(x) {
        return composed(x, weight, bias, add, cfg, act);
    }
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let add = add.map(Tensor::contiguous).transpose()?;
    let slope = slope.map(Tensor::contiguous).transpose()?;
    let bias = bias.map(Tensor::contiguous).transpose()?;
    for_float!(x.dtype(), OP, T => {
        let (xs, ws) = (View::of(&x), View::of(&weight));
        let (add, slope, bias) = (
            add.as_ref().map(View::of),
            slope.as_ref().map(View::of),
            bias.as_ref().map(View::of),
        );
        let rest = Rest {
            channels: g.out_channels,
            pixels: g.out_pixels(),
            bias: read(&bias)?,
            add: read(&add)?,
            slope: read(&slope)?,
            rectifies: matches!(act, Activation::Relu),
        };
        let plain = rest.add.is_none() && rest.slope.is_none() && !rest.rectifies;
        let convolution = Convolution { geometry };
        // Without anything else the convolution adds the bias itself.
        let early = if plain { rest.bias } else { None };
        let (xs, ws) = (xs.slice::<T>(OP)?, ws.slice::<T>(OP)?);
        let mut out = convolution.forward_with::<T>(xs, ws, early, prepared);
        if !plain {
            rest.finish(&mut out);
        }
        cpu::tensor(out, Shape::from(&shape[..]))
    })
}

fn read<'a, T: Real>(view: &'a Option<View<'_>>) -> Result<Option<&'a [T]>> {
    view.as_ref().map(|v| v.slice::<T>(OP)).transpose()
}

/// What follows the products.
struct Rest<'a, T> {
    channels: usize,
    pixels: usize,
    bias: Option<&'a [T]>,
    add: Option<&'a [T]>,
    slope: Option<&'a [T]>,
    rectifies: bool,
}

impl<T: Real> Rest<'_, T> {
    fn finish(&self, out: &mut [T]) {
        out.par_chunks_mut(self.pixels)
            .with_min_len((1 << 13) / self.pixels + 1)
            .enumerate()
            .for_each(|(plane, out)| {
                let channel = plane % self.channels;
                let bias = self.bias.map_or(T::ZERO, |b| b[channel]);
                // ReLU is a slope of zero, except that it gives no negative zero.
                let slope = self.slope.map(|s| s[channel]);
                let add = self.add.map(|add| {
                    let at = plane * self.pixels % add.len();
                    &add[at..at + self.pixels]
                });
                crate::simd::run(
                    #[inline(always)]
                    || match (add, slope) {
                        (None, None) => pass(out, |z| rectified(self.rectifies, z + bias)),
                        (None, Some(slope)) => pass(out, |z| leaky(slope, z + bias)),
                        (Some(add), None) => {
                            pass2(out, add, |z, r| rectified(self.rectifies, z + bias + r));
                        }
                        (Some(add), Some(slope)) => {
                            pass2(out, add, |z, r| leaky(slope, z + bias + r));
                        }
                    },
                );
            });
    }
}

#[inline(always)]
fn pass<T: Real>(out: &mut [T], f: impl Fn(T) -> T) {
    for value in out {
        *value = f(*value);
    }
}

#[inline(always)]
fn pass2<T: Real>(out: &mut [T], add: &[T], f: impl Fn(T, T) -> T) {
    for (value, &add) in out.iter_mut().zip(add) {
        *value = f(*value, add);
    }
}

#[inline(always)]
fn rectified<T: Real>(rectifies: bool, z: T) -> T {
    if rectifies && z <= T::ZERO {
        T::ZERO
    } else {
        z
    }
}

#[inline(always)]
fn leaky<T: Real>(slope: T, z: T) -> T {
    if z <= T::ZERO { slope * z } else { z }
}

fn composed(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    add: Option<&Tensor>,
    cfg: Conv2dConfig,
    act: Activation<'_>,
) -> Result<Tensor> {
    let mut y = conv2d(x, weight, bias, cfg)?;
    if let Some(add) = add {
        y = y.broadcast_add(add)?;
    }
    match act {
        Activation::None => Ok(y),
        Activation::Relu => relu(&y),
        Activation::PRelu(slope) => prelu(&y, slope),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::{DType, Device, Var};

    /// One pass and one operation after the other give the same, with every combination of parts.
    #[test]
    fn parts_agree_with_operations() -> Result<()> {
        let rand = |shape: &[usize]| Tensor::rand(-1f64, 1.0, shape, &Device::Cpu);
        for (groups, stride) in [(1, 1), (4, 2), (2, 1)] {
            let cfg = Conv2dConfig {
                padding: 1,
                stride,
                groups,
                ..Default::default()
            };
            let (x, w) = (rand(&[3, 4, 7, 6])?, rand(&[8, 4 / groups, 3, 3])?);
            let (bias, slope) = (rand(&[8])?, rand(&[8])?);
            let dims = conv2d(&x, &w, None, cfg)?.dims().to_vec();
            let whole = rand(&dims)?;
            let shared = rand(&[1, 8, dims[2], dims[3]])?;
            for act in [
                Activation::None,
                Activation::Relu,
                Activation::PRelu(&slope),
            ] {
                for bias in [None, Some(&bias)] {
                    for add in [None, Some(&whole), Some(&shared)] {
                        for dtype in [DType::F64, DType::F32] {
                            let cast = |t: &Tensor| t.to_dtype(dtype);
                            let (x, w) = (cast(&x)?, cast(&w)?);
                            let (bias, add) =
                                (bias.map(cast).transpose()?, add.map(cast).transpose()?);
                            let slope = cast(&slope)?;
                            let act = match act {
                                Activation::PRelu(_) => Activation::PRelu(&slope),
                                other => other,
                            };
                            let (bias, add) = (bias.as_ref(), add.as_ref());
                            let ours = conv2d_act(&x, &w, bias, add, cfg, act)?;
                            let theirs = composed(&x, &w, bias, add, cfg, act)?;
                            let worst = (ours - theirs)?.abs()?.max_all()?;
                            let worst = worst.to_dtype(DType::F64)?.to_scalar::<f64>()?;
                            let bound = if dtype == DType::F64 { 1e-13 } else { 1e-5 };
                            assert!(worst <= bound, "{cfg:?} {act:?} {dtype:?}: {worst}");
                        }
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn tracked_operands_get_gradients_and_bad_ones_an_error() -> Result<()> {
        let x = Var::rand(-1f32, 1.0, (2, 3, 5, 5), &Device::Cpu)?;
        let w = Tensor::rand(-1f32, 1.0, (4, 3, 3, 3), &Device::Cpu)?;
        let run =
            |add: Option<&Tensor>, act| conv2d_act(&x, &w, None, add, Conv2dConfig::default(), act);
        let grads = run(None, Activation::Relu)?.sum_all()?.backward()?;
        assert!(grads.get(&x).is_some());
        let wrong = Tensor::zeros((2, 4, 3, 2), DType::F32, &Device::Cpu)?;
        let message = run(Some(&wrong), Activation::None).unwrap_err().to_string();
        assert!(message.contains("add [2, 4, 3, 2]"), "{message}");
        let slope = Tensor::zeros(3, DType::F32, &Device::Cpu)?;
        let message = run(None, Activation::PRelu(&slope))
            .unwrap_err()
            .to_string();
        assert!(message.contains("slope [3]"), "{message}");
        Ok(())
    }
}
