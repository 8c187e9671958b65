//! Layer normalisation with its affine map in one pass each way.

use crate::cpu::{self, Real, View, for_float};
use crate::reduce;
use candle::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

const OP: &str = "layer_norm";

/// Rows whose parameter gradients are added up by one task: a constant, so that sums do not depend on
/// threads.
const BLOCK: usize = 32;

/// Normalises over the trailing dimensions, those of `weight` (Ba, Kiros and Hinton, 2016):
/// `(x - mean) / sqrt(var + eps) * weight + bias`, the variance over all values (not unbiased).
///
/// # Shapes
/// `x` (..., D...), `weight` and `bias` (D...); the result is shaped as `x`.
///
/// # Errors
/// When shapes, dtypes or devices disagree, an operand is empty, or `eps` is negative.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    cpu::float(OP, x)?;
    cpu::same_kind(OP, &[("x", x), ("weight", weight), ("bias", bias)])?;
    let fits = weight.rank() > 0 && x.dims().ends_with(weight.dims());
    if !fits || bias.dims() != weight.dims() {
        candle::bail!(
            "{OP}: weight {:?} and bias {:?} do not match the last dimensions of the input {:?}",
            weight.shape(),
            bias.shape(),
            x.shape()
        );
    }
    cpu::not_empty(OP, "input", x)?;
    if eps.is_nan() || eps < 0.0 {
        candle::bail!("{OP}: eps must not be negative, got {eps}");
    }
    if !cpu::native(x) {
        return composed(x, weight, bias, eps);
    }
    let op = LayerNorm {
        width: weight.elem_count(),
        eps,
    };
    x.contiguous()?
        .apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)
}

/// By candle's own operations; statistics of half-precision inputs in f32.
fn composed(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let width = weight.elem_count();
    let rows = x.reshape(((), width))?;
    let wide = match x.dtype() {
        DType::F16 | DType::BF16 => rows.to_dtype(DType::F32)?,
        _ => rows,
    };
    let centered = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
    let var = centered.sqr()?.mean_keepdim(D::Minus1)?;
    centered
        .broadcast_div(&(var + eps)?.sqrt()?)?
        .to_dtype(x.dtype())?
        .broadcast_mul(&weight.flatten_all()?)?
        .broadcast_add(&bias.flatten_all()?)?
        .reshape(x.shape())
}

struct LayerNorm {
    width: usize,
    eps: f64,
}

/// Rows for one task of the forward pass, so that it handles a few thousand elements.
fn rows_per_task(width: usize) -> usize {
    (1 << 12) / width + 1
}

impl LayerNorm {
    /// Mean and reciprocal standard deviation of a row.
    #[inline(always)]
    fn statistics<T: Real>(&self, x: &[T]) -> (T, T) {
        let share = T::from_f64(1.0 / self.width as f64);
        let mean = reduce::sum(x) * share;
        let var = reduce::squares(x, mean) * share;
        (mean, T::ONE / (var + T::from_f64(self.eps)).sqrt())
    }

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], weight: &[T], bias: &[T], out: &mut [T]) {
        let (mean, inverse) = self.statistics(x);
        for (((o, &x), &w), &b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
            *o = (x - mean) * inverse * w + b;
        }
    }

    /// Writes `dx` and adds to the gradients of the parameters.
    #[inline(always)]
    fn row_backward<T: Real>(
        &self,
        (x, weight, dy): (&[T], &[T], &[T]),
        dx: &mut [T],
        (dw, db): (&mut [T], &mut [T]),
    ) {
        let (mean, inverse) = self.statistics(x);
        let share = T::from_f64(1.0 / self.width as f64);
        let n = x.len();
        // Bounds known to the compiler.
        let (weight, dy, dx) = (&weight[..n], &dy[..n], &mut dx[..n]);
        let (dw, db) = (&mut dw[..n], &mut db[..n]);
        let sum = reduce::lanes(
            n,
            #[inline(always)]
            |i| dy[i] * weight[i],
        );
        let along = reduce::lanes(
            n,
            #[inline(always)]
            |i| dy[i] * weight[i] * ((x[i] - mean) * inverse),
        );
        let (sum, along) = (sum * share, along * share);
        for i in 0..n {
            let normal = (x[i] - mean) * inverse;
            dw[i] += dy[i] * normal;
            db[i] += dy[i];
            dx[i] = (dy[i] * weight[i] - sum - normal * along) * inverse;
        }
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        OP
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
        for_float!(x.dtype(), OP, T => {
            let x = cpu::operand::<T>(OP, x, xl)?;
            let (w, b) = (cpu::operand::<T>(OP, w, wl)?, cpu::operand::<T>(OP, b, bl)?);
            let mut out = cpu::unwritten(x.len());
            out.par_chunks_mut(self.width)
                .zip(x.par_chunks(self.width))
                .with_min_len(rows_per_task(self.width))
                .for_each(|(out, x)| {
                    crate::simd::run(#[inline(always)] || self.row(x, w, b, out));
                });
            Ok((T::to_cpu_storage_owned(out), xl.shape().clone()))
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
        let width = self.width;
        for_float!(x.dtype(), OP, T => {
            let (xs, ws, dys) = (View::of(x), View::of(weight), View::of(&grad));
            let (xs, dys) = (xs.slice::<T>(OP)?, dys.slice::<T>(OP)?);
            let w = ws.slice::<T>(OP)?;
            let mut dx = cpu::unwritten(xs.len());
            let blocks = (xs.len() / width).div_ceil(BLOCK);
            // Of every block: the weight's gradient, then the bias's.
            let mut partial = vec![T::ZERO; blocks * 2 * width];
            partial
                .par_chunks_mut(2 * width)
                .zip(dx.par_chunks_mut(BLOCK * width))
                .zip(xs.par_chunks(BLOCK * width))
                .zip(dys.par_chunks(BLOCK * width))
                .for_each(|(((partial, dx), x), dy)| {
                    let (dw, db) = partial.split_at_mut(width);
                    crate::simd::run(#[inline(always)] || {
                        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
                        for ((x, dy), dx) in rows.zip(dx.chunks_exact_mut(width)) {
                            self.row_backward((x, w, dy), dx, (&mut *dw, &mut *db));
                        }
                    });
                });
            let mut total = vec![T::ZERO; 2 * width];
            for block in partial.chunks_exact(2 * width) {
                for (t, &v) in total.iter_mut().zip(block) {
                    *t += v;
                }
            }
            let db = total.split_off(width);
            Ok((
                Some(cpu::tensor(dx, x.shape())?),
                Some(cpu::tensor(total, weight.shape())?),
                Some(cpu::tensor(db, bias.shape())?),
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::{Device, Var};

    /// The composed form, which other devices use, agrees with the CPU's own in value and gradients.
    #[test]
    fn composed_form_agrees() -> Result<()> {
        for (shape, trailing) in [
            (&[70, 5][..], 1),
            (&[2, 3, 4], 1),
            (&[3, 2, 4], 2),
            (&[7], 1),
        ] {
            let rand = |shape: &[usize]| Var::rand(-1f64, 1.0, shape, &Device::Cpu);
            let normal = &shape[shape.len() - trailing..];
            let (x, w, b) = (rand(shape)?, rand(normal)?, rand(normal)?);
            let ours = layer_norm(&x, &w, &b, 1e-3)?;
            let theirs = composed(&x, &w, &b, 1e-3)?;
            let weight = Tensor::rand(-1f64, 1.0, shape, &Device::Cpu)?;
            let (p, q) = (
                ours.mul(&weight)?.sum_all()?.backward()?,
                theirs.mul(&weight)?.sum_all()?.backward()?,
            );
            let mut pairs = vec![(&ours, &theirs)];
            for v in [&x, &w, &b] {
                pairs.push((p.get(v).unwrap(), q.get(v).unwrap()));
            }
            for (a, b) in pairs {
                let worst = (a - b)?.abs()?.max_all()?.to_scalar::<f64>()?;
                assert!(worst < 1e-10, "{shape:?}: {worst}");
            }
        }
        Ok(())
    }
}
