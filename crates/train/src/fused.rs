//! The arithmetic of the optimisers: in place and in one pass on the CPU, composed of candle's operations elsewhere.

use std::cell::RefCell;
use std::marker::PhantomData;

use candle::{CpuStorage, InplaceOp2, Layout, Result, Tensor, Var, WithDType};
use rayon::prelude::*;

/// Elements per parallel task: below this a thread switch costs more than the work.
const CHUNK: usize = 1 << 16;

/// Constants of one SGD update of one variable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SgdStep {
    pub lr: f64,
    pub momentum: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
    pub scale: f64,
}

/// Constants of one AdamW update of one variable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamWStep {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub correction1: f64,
    pub correction2: f64,
    pub scale: f64,
}

/// The element types that are updated in place.
pub(crate) trait Real: WithDType {
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
    fn root(self) -> Self;
}

impl Real for f32 {
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F32(values) = storage {
            Some(values)
        } else {
            None
        }
    }

    fn root(self) -> Self {
        self.sqrt()
    }
}

impl Real for f64 {
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F64(values) = storage {
            Some(values)
        } else {
            None
        }
    }

    fn root(self) -> Self {
        self.sqrt()
    }
}

/// Hands the values of a variable and of its gradient to a closure.
struct InPlace<T, F> {
    update: RefCell<F>,
    element: PhantomData<T>,
}

impl<T: Real, F: FnMut(&mut [T], &[T])> InplaceOp2 for InPlace<T, F> {
    fn name(&self) -> &'static str {
        "optimizer-update"
    }

    fn cpu_fwd(
        &self,
        s1: &mut CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<()> {
        let ranges = l1.contiguous_offsets().zip(l2.contiguous_offsets());
        let Some(((start1, end1), (start2, end2))) = ranges else {
            candle::bail!("optimizer update of a variable or gradient that is not contiguous");
        };
        let gradient = s2.as_slice::<T>()?.get(start2..end2);
        let values = T::slice_mut(s1).and_then(|all| all.get_mut(start1..end1));
        match (values, gradient) {
            (Some(values), Some(gradient)) if values.len() == gradient.len() => {
                (self.update.borrow_mut())(values, gradient);
                Ok(())
            }
            _ => candle::bail!(
                "optimizer update: variable {:?} and gradient {:?} differ",
                l1.shape(),
                l2.shape()
            ),
        }
    }
}

fn in_place<T: Real>(
    var: &Var,
    gradient: &Tensor,
    update: impl FnMut(&mut [T], &[T]),
) -> Result<()> {
    let op = InPlace {
        update: RefCell::new(update),
        element: PhantomData,
    };
    var.inplace_op2(&gradient.contiguous()?, &op)
}

/// One SGD update; `buffer` is the momentum, absent when that is 0.
pub(crate) fn sgd<T: Real>(
    var: &Var,
    gradient: &Tensor,
    buffer: Option<&mut Vec<T>>,
    step: SgdStep,
) -> Result<()> {
    let [lr, momentum, decay, scale] =
        [step.lr, step.momentum, step.weight_decay, step.scale].map(T::from_f64);
    match buffer {
        None => in_place(var, gradient, |p: &mut [T], g| {
            p.par_chunks_mut(CHUNK)
                .zip(g.par_chunks(CHUNK))
                .for_each(|(p, g)| {
                    for (p, &g) in p.iter_mut().zip(g) {
                        *p -= lr * (g * scale + decay * *p);
                    }
                });
        }),
        Some(buffer) => in_place(var, gradient, |p: &mut [T], g| {
            let chunks = p
                .par_chunks_mut(CHUNK)
                .zip(g.par_chunks(CHUNK))
                .zip(buffer.par_chunks_mut(CHUNK));
            chunks.for_each(|((p, g), b)| {
                for ((p, &g), b) in p.iter_mut().zip(g).zip(b) {
                    let g = g * scale + decay * *p;
                    *b = momentum * *b + g;
                    *p -= lr * if step.nesterov { g + momentum * *b } else { *b };
                }
            });
        }),
    }
}

/// One AdamW update; `mean` and `square` are the running averages of the gradient and of its square.
pub(crate) fn adamw<T: Real>(
    var: &Var,
    gradient: &Tensor,
    mean: &mut [T],
    square: &mut [T],
    step: AdamWStep,
) -> Result<()> {
    let [beta1, beta2, eps, scale] =
        [step.beta1, step.beta2, step.eps, step.scale].map(T::from_f64);
    let [rest1, rest2] = [1. - step.beta1, 1. - step.beta2].map(T::from_f64);
    let keep = T::from_f64(1. - step.lr * step.weight_decay);
    let size = T::from_f64(step.lr / step.correction1);
    let root2 = T::from_f64(step.correction2.sqrt());
    in_place(var, gradient, |p: &mut [T], g| {
        let chunks = p
            .par_chunks_mut(CHUNK)
            .zip(g.par_chunks(CHUNK))
            .zip(mean.par_chunks_mut(CHUNK))
            .zip(square.par_chunks_mut(CHUNK));
        chunks.for_each(|(((p, g), m), v)| {
            for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
                let g = g * scale;
                *m = beta1 * *m + rest1 * g;
                *v = beta2 * *v + rest2 * g * g;
                *p = *p * keep - size * *m / ((*v).root() / root2 + eps);
            }
        });
    })
}

/// [`sgd`] in candle's operations, for any device and type.
pub(crate) fn sgd_composed(
    var: &Var,
    gradient: &Tensor,
    buffer: Option<&mut Tensor>,
    step: SgdStep,
) -> Result<()> {
    let value = var.as_detached_tensor();
    let gradient = (gradient.detach() * step.scale)?;
    let gradient = if step.weight_decay == 0. {
        gradient
    } else {
        (gradient + (&value * step.weight_decay)?)?
    };
    let direction = match buffer {
        None => gradient,
        Some(buffer) => {
            *buffer = ((&*buffer * step.momentum)? + &gradient)?;
            if step.nesterov {
                (gradient + (&*buffer * step.momentum)?)?
            } else {
                buffer.clone()
            }
        }
    };
    var.set(&(value - (direction * step.lr)?)?)
}

/// [`adamw`] in candle's operations, for any device and type.
pub(crate) fn adamw_composed(
    var: &Var,
    gradient: &Tensor,
    mean: &mut Tensor,
    square: &mut Tensor,
    step: AdamWStep,
) -> Result<()> {
    let gradient = (gradient.detach() * step.scale)?;
    *mean = ((&*mean * step.beta1)? + (&gradient * (1. - step.beta1))?)?;
    *square = ((&*square * step.beta2)? + (gradient.sqr()? * (1. - step.beta2))?)?;
    let root = ((square.sqrt()? / step.correction2.sqrt())? + step.eps)?;
    let kept = (var.as_detached_tensor() * (1. - step.lr * step.weight_decay))?;
    var.set(&(kept - ((&*mean * (step.lr / step.correction1))? / root)?)?)
}

/// Sum of squares of all elements, in f64, in an order that does not depend on the number of threads.
pub(crate) fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    fn sum<T: WithDType>(values: &[T]) -> f64 {
        let parts: Vec<f64> = values
            .par_chunks(CHUNK)
            .map(|chunk| {
                // Eight sums side by side, so that the compiler may use wide registers.
                let mut sums = [0f64; 8];
                let mut groups = chunk.chunks_exact(8);
                for group in &mut groups {
                    for (sum, &x) in sums.iter_mut().zip(group) {
                        let x = x.to_f64();
                        *sum += x * x;
                    }
                }
                let rest: f64 = groups
                    .remainder()
                    .iter()
                    .map(|&x| x.to_f64() * x.to_f64())
                    .sum();
                sums.iter().sum::<f64>() + rest
            })
            .collect();
        parts.iter().sum()
    }
    let tensor = tensor.contiguous()?;
    {
        let (storage, layout) = tensor.storage_and_layout();
        if let (candle::Storage::Cpu(storage), Some((start, end))) =
            (&*storage, layout.contiguous_offsets())
        {
            match storage {
                CpuStorage::F32(values) => return Ok(values.get(start..end).map_or(0., sum)),
                CpuStorage::F64(values) => return Ok(values.get(start..end).map_or(0., sum)),
                _ => {}
            }
        }
    }
    tensor
        .to_dtype(candle::DType::F32)?
        .sqr()?
        .sum_all()?
        .to_dtype(candle::DType::F64)?
        .to_scalar()
}
