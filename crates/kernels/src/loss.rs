//! Log-softmax and cross entropy with label smoothing.

use crate::cpu::{self, Real, View, for_float};
use crate::rows::{self, ALONE, Kind, RowFn, log_sum_exp};
use candle::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

#[derive(Clone, Copy)]
struct LogSoftmax;

impl RowFn for LogSoftmax {
    const NAME: &'static str = "log_softmax";
    const KIND: Kind = Kind::Row;

    #[inline(always)]
    fn forward<T: Real>(x: &[T], out: &mut [T]) {
        let total = log_sum_exp(x);
        for (o, &x) in out.iter_mut().zip(x) {
            *o = x - total;
        }
    }

    #[inline(always)]
    fn backward<T: Real>(_x: &[T], y: &[T], dy: &[T], dx: &mut [T]) {
        let sum = crate::reduce::sum(dy);
        for ((d, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
            *d = dy - y.fast_exp() * sum;
        }
    }
}

/// `x - log(sum(exp(x)))` over the last dimension.
///
/// # Shapes
/// `x` (..., C); the result has the same.
///
/// # Errors
/// When the input is empty, a scalar, or not of a float type.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    rows::check(LogSoftmax::NAME, x)?;
    if cpu::native(x) {
        rows::apply::<LogSoftmax>(x)
    } else {
        candle_nn::ops::log_softmax(x, D::Minus1)
    }
}

const OP: &str = "cross_entropy";

/// Cross entropy of logits against class indices, mean over the batch. With smoothing `e` the target
/// distribution is `1 - e` on the class plus `e / C` on every class (Szegedy et al., 2016; PyTorch's
/// `label_smoothing`).
///
/// # Shapes
/// `logits` (B, C), `target` (B) u32 (or another integer type); result: scalar.
///
/// # Errors
/// When shapes disagree, the batch is empty, a target is not below C, or `label_smoothing` lies outside
/// [0, 1].
pub fn cross_entropy(logits: &Tensor, target: &Tensor, label_smoothing: f64) -> Result<Tensor> {
    cpu::float(OP, logits)?;
    let (&[batch, classes], &[targets]) = (logits.dims(), target.dims()) else {
        candle::bail!(
            "{OP}: expected logits (B, C) and target (B), got {:?} and {:?}",
            logits.shape(),
            target.shape()
        )
    };
    if batch != targets {
        candle::bail!("{OP}: batch mismatch between logits ({batch}) and target ({targets})");
    }
    cpu::not_empty(OP, "logits", logits)?;
    if !(0.0..=1.0).contains(&label_smoothing) {
        candle::bail!("{OP}: label smoothing must lie in [0, 1], got {label_smoothing}");
    }
    if !target.dtype().is_int() {
        candle::bail!("{OP}: expected integer targets, got {:?}", target.dtype());
    }
    let indices = target.to_dtype(DType::I64)?.to_vec1::<i64>()?;
    let mut labels = Vec::with_capacity(batch);
    for (row, &label) in indices.iter().enumerate() {
        match usize::try_from(label) {
            Ok(label) if label < classes => labels.push(label),
            _ => candle::bail!("{OP}: target {label} of row {row} is not below {classes} classes"),
        }
    }
    if !cpu::native(logits) {
        return composed(logits, target, label_smoothing);
    }
    logits.contiguous()?.apply_op1(CrossEntropy {
        classes,
        labels,
        smoothing: label_smoothing,
    })
}

fn composed(logits: &Tensor, target: &Tensor, smoothing: f64) -> Result<Tensor> {
    let log_p = candle_nn::ops::log_softmax(logits, D::Minus1)?;
    let picked = log_p
        .gather(&target.to_dtype(DType::U32)?.unsqueeze(1)?, 1)?
        .mean_all()?;
    if smoothing == 0.0 {
        // Not even zero times the others: they may be infinite.
        return picked.neg();
    }
    (picked * (smoothing - 1.0))? - (log_p.mean_all()? * smoothing)?
}

struct CrossEntropy {
    classes: usize,
    labels: Vec<usize>,
    smoothing: f64,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        let share = self.smoothing / self.classes as f64;
        for_float!(x.dtype(), OP, T => {
            let loss = |(row, &label): (&[T], &usize)| {
                let total = crate::simd::run(
                    #[inline(always)]
                    || log_sum_exp(row),
                );
                // Differences before sums: large logits cancel exactly.
                let nll = (total - row[label]).to_f64();
                if share == 0.0 {
                    return nll;
                }
                let all: f64 = row.iter().map(|&v| (total - v).to_f64()).sum();
                (1.0 - self.smoothing) * nll + share * all
            };
            let x = cpu::operand::<T>(OP, x, l)?;
            let losses: Vec<f64> = if x.len() < ALONE {
                x.chunks(self.classes).zip(&self.labels).map(loss).collect()
            } else {
                x.par_chunks(self.classes).zip(&self.labels).map(loss).collect()
            };
            let mean = losses.iter().sum::<f64>() / losses.len() as f64;
            Ok((T::to_cpu_storage_owned(vec![T::from_f64(mean)]), Shape::from(())))
        })
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let share = self.smoothing / self.classes as f64;
        for_float!(x.dtype(), OP, T => {
            let (xs, dy) = (View::of(x), View::of(grad));
            let (xs, dy) = (xs.slice::<T>(OP)?, dy.slice::<T>(OP)?);
            let scale = T::from_f64(1.0 / self.labels.len() as f64)
                * dy.first().copied().unwrap_or(T::ZERO);
            let (share, own) = (T::from_f64(share), T::from_f64(1.0 - self.smoothing));
            let mut dx = vec![T::ZERO; xs.len()];
            let gradient = |((dx, row), &label): ((&mut [T], &[T]), &usize)| {
                crate::simd::run(
                    #[inline(always)]
                    || {
                        let total = log_sum_exp(row);
                        for (d, &v) in dx.iter_mut().zip(row) {
                            *d = ((v - total).fast_exp() - share) * scale;
                        }
                    },
                );
                dx[label] -= own * scale;
            };
            let classes = self.classes;
            if xs.len() < ALONE {
                let rows = dx.chunks_mut(classes).zip(xs.chunks(classes));
                rows.zip(&self.labels).for_each(gradient);
            } else {
                let rows = dx.par_chunks_mut(classes).zip(xs.par_chunks(classes));
                rows.zip(&self.labels).for_each(gradient);
            }
            Ok(Some(cpu::tensor(dx, x.shape())?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::Device;

    #[test]
    fn composed_form_agrees() -> Result<()> {
        let x = Tensor::rand(-3f64, 3.0, (5, 7), &Device::Cpu)?;
        let target = Tensor::new(&[0u32, 6, 3, 3, 1], &Device::Cpu)?;
        for smoothing in [0.0, 0.1, 1.0] {
            let ours = cross_entropy(&x, &target, smoothing)?.to_scalar::<f64>()?;
            let theirs = composed(&x, &target, smoothing)?.to_scalar::<f64>()?;
            assert!((ours - theirs).abs() < 1e-12, "{ours} {theirs}");
        }
        Ok(())
    }
}
