//! Sums into places given by an index, and the largest elements of rows.

use crate::cpu::{self, Real, View, for_float};
use candle::shape::Dim;
use candle::{CpuStorage, CustomOp2, D, DType, Device, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

const SCATTER: &str = "safe::scatter_add";

/// `init` plus every element of `src` at the place that `index` gives along `dim`, as PyTorch's
/// `scatter_add`: for `dim` 0, `out[index[i, j], j] += src[i, j]`. The gradient of `init` is that of the
/// result, the gradient of `src` is gathered from it. (candle's own hands `init` no gradient where
/// something was added, and fails where `src` is smaller than `init`.) Sums are in the order of `src`.
///
/// # Shapes
/// `init` (..., N, ...), `index` and `src` (..., M, ...) with the same other dimensions, `index` of an
/// integer type and below N; result as `init`.
///
/// # Errors
/// When shapes, dtypes or devices disagree, an operand is empty, or an index is not below N.
pub fn scatter_add<I: Dim>(init: &Tensor, index: &Tensor, src: &Tensor, dim: I) -> Result<Tensor> {
    cpu::float(SCATTER, init)?;
    cpu::same_kind(SCATTER, &[("init", init), ("src", src)])?;
    let dim = dim.to_index(init.shape(), SCATTER)?;
    let others = |t: &Tensor| -> Vec<usize> {
        let dims = t.dims().iter().enumerate();
        dims.filter(|(d, _)| *d != dim).map(|(_, n)| *n).collect()
    };
    if src.rank() != init.rank() || others(src) != others(init) || index.dims() != src.dims() {
        candle::bail!(
            "{SCATTER}: init {:?}, index {:?} and src {:?} do not match along dimension {dim}",
            init.shape(),
            index.shape(),
            src.shape()
        );
    }
    cpu::not_empty(SCATTER, "init", init)?;
    cpu::not_empty(SCATTER, "src", src)?;
    if !index.dtype().is_int() {
        candle::bail!(
            "{SCATTER}: expected an integer index, got {:?}",
            index.dtype()
        );
    }
    if !index.device().same_device(init.device()) {
        candle::bail!(
            "{SCATTER}: device mismatch, init is on {:?} and index is on {:?}",
            init.device().location(),
            index.device().location()
        );
    }
    let places = init.dim(dim)?;
    let indices = index
        .to_dtype(DType::I64)?
        .flatten_all()?
        .to_vec1::<i64>()?;
    let mut checked = Vec::with_capacity(indices.len());
    for (at, &i) in indices.iter().enumerate() {
        match usize::try_from(i) {
            Ok(i) if i < places => checked.push(i),
            _ => candle::bail!("{SCATTER}: index {i} at element {at} is not below {places}"),
        }
    }
    if !cpu::native(init) {
        return composed(init, index, src, dim);
    }
    let inner = init.dims()[dim + 1..].iter().product();
    let op = ScatterAdd {
        places,
        rows: src.dim(dim)?,
        inner,
        indices: checked,
    };
    init.contiguous()?.apply_op2(&src.contiguous()?, op)
}

/// By candle's own operation onto zeros of as many places as elements, whose wrong gradient nobody
/// sees; `src` in pieces no longer than `init`.
fn composed(init: &Tensor, index: &Tensor, src: &Tensor, dim: usize) -> Result<Tensor> {
    let (places, rows) = (init.dim(dim)?, src.dim(dim)?);
    let index = index.to_dtype(DType::U32)?;
    let mut out = init.clone();
    for start in (0..rows).step_by(places) {
        let len = places.min(rows - start);
        let piece = |t: &Tensor| -> Result<Tensor> {
            t.narrow(dim, start, len)?
                .pad_with_zeros(dim, 0, places - len)?
                .contiguous()
        };
        let added = init
            .zeros_like()?
            .scatter_add(&piece(&index)?, &piece(src)?, dim)?;
        out = (out + added)?;
    }
    Ok(out)
}

struct ScatterAdd {
    places: usize,
    /// Elements of `src` along the dimension.
    rows: usize,
    /// Elements behind one place.
    inner: usize,
    indices: Vec<usize>,
}

impl CustomOp2 for ScatterAdd {
    fn name(&self) -> &'static str {
        SCATTER
    }

    fn cpu_fwd(
        &self,
        init: &CpuStorage,
        il: &Layout,
        src: &CpuStorage,
        sl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        let inner = self.inner;
        for_float!(init.dtype(), SCATTER, T => {
            let mut out = cpu::operand::<T>(SCATTER, init, il)?.to_vec();
            let src = cpu::operand::<T>(SCATTER, src, sl)?;
            out.par_chunks_mut(self.places * inner)
                .zip(src.par_chunks(self.rows * inner))
                .zip(self.indices.par_chunks(self.rows * inner))
                .with_min_len((1 << 12) / (self.rows * inner) + 1)
                .for_each(|((out, src), indices)| {
                    for (at, (&i, &v)) in indices.iter().zip(src).enumerate() {
                        out[i * inner + at % inner] += v;
                    }
                });
            Ok((T::to_cpu_storage_owned(out), il.shape().clone()))
        })
    }

    fn bwd(
        &self,
        _init: &Tensor,
        src: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let inner = self.inner;
        for_float!(grad.dtype(), SCATTER, T => {
            let view = View::of(&grad);
            let dy = view.slice::<T>(SCATTER)?;
            let mut out = cpu::unwritten(src.elem_count());
            out.par_chunks_mut(self.rows * inner)
                .zip(dy.par_chunks(self.places * inner))
                .zip(self.indices.par_chunks(self.rows * inner))
                .with_min_len((1 << 12) / (self.rows * inner) + 1)
                .for_each(|((out, dy), indices)| {
                    for (at, (o, &i)) in out.iter_mut().zip(indices).enumerate() {
                        *o = dy[i * inner + at % inner];
                    }
                });
            let dsrc = cpu::tensor(out, src.shape())?;
            Ok((Some(grad.clone()), Some(dsrc)))
        })
    }
}

const TOP_K: &str = "safe::top_k_last_dim";

/// The `k` largest elements of the rows, in falling order, and their positions. Among equal elements the
/// first comes first; NaN is larger than everything, as in PyTorch. The values have a gradient.
///
/// # Shapes
/// `x` (..., D); values and positions (u32) (..., k).
///
/// # Errors
/// When the input is empty, a scalar, or not of a float type, or `k` is 0 or larger than D.
pub fn top_k_last_dim(x: &Tensor, k: usize) -> Result<(Tensor, Tensor)> {
    crate::rows::check(TOP_K, x)?;
    let width = x.dim(D::Minus1)?;
    if k == 0 || k > width {
        candle::bail!(
            "{TOP_K}: k {k} is not within 1 and {width}, the length of {:?}",
            x.shape()
        );
    }
    let values = match x.dtype() {
        DType::F64 => x.detach(),
        _ => x.detach().to_dtype(DType::F32)?,
    };
    let values = values.to_device(&Device::Cpu)?.contiguous()?;
    let positions = for_float!(values.dtype(), TOP_K, T => {
        let view = View::of(&values);
        let rows = view.slice::<T>(TOP_K)?;
        let mut out = vec![0u32; rows.len() / width * k];
        out.par_chunks_mut(k)
            .zip(rows.par_chunks(width))
            .with_min_len((1 << 12) / width + 1)
            .for_each(|(out, row)| largest_positions(row, out));
        out
    });
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = k;
    }
    let positions = Tensor::from_vec(positions, shape, x.device())?;
    Ok((x.contiguous()?.gather(&positions, D::Minus1)?, positions))
}

/// Writes the positions of the largest elements, in falling order.
fn largest_positions<T: Real>(row: &[T], out: &mut [u32]) {
    let order = |&a: &u32, &b: &u32| {
        let (x, y) = (row[a as usize], row[b as usize]);
        let falling = match (x.is_nan(), y.is_nan()) {
            (false, false) => y.partial_cmp(&x).unwrap_or(std::cmp::Ordering::Equal),
            (x, y) => y.cmp(&x),
        };
        falling.then(a.cmp(&b))
    };
    let mut positions: Vec<u32> = (0..row.len() as u32).collect();
    let k = out.len();
    if k < row.len() {
        positions.select_nth_unstable_by(k - 1, order);
    }
    let top = &mut positions[..k];
    top.sort_unstable_by(order);
    out.copy_from_slice(top);
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::Var;

    /// The composed form, which other devices use, agrees with the CPU's own in value and gradients.
    #[test]
    fn composed_form_agrees() -> Result<()> {
        for (dim, rows) in [(0, 2), (0, 3), (0, 8), (1, 1), (1, 7), (2, 2), (2, 9)] {
            let mut shape = [3, 4, 5];
            let init = Var::rand(-1f64, 1.0, &shape, &Device::Cpu)?;
            let places = shape[dim];
            shape[dim] = rows;
            let src = Var::rand(-1f64, 1.0, &shape, &Device::Cpu)?;
            let index: Vec<u32> = (0..src.elem_count())
                .map(|i| (i * 7 % 5 % places) as u32)
                .collect();
            let index = Tensor::from_vec(index, &shape, &Device::Cpu)?;
            let ours = scatter_add(&init, &index, &src, dim)?;
            let theirs = composed(&init, &index, &src, dim)?;
            let weight = Tensor::rand(-1f64, 1.0, ours.shape(), &Device::Cpu)?;
            let (a, b) = (
                ours.mul(&weight)?.sum_all()?.backward()?,
                theirs.mul(&weight)?.sum_all()?.backward()?,
            );
            let mut pairs = vec![(&ours, &theirs)];
            for v in [&init, &src] {
                pairs.push((a.get(v).unwrap(), b.get(v).unwrap()));
            }
            for (a, b) in pairs {
                let worst = (a - b)?.abs()?.max_all()?.to_scalar::<f64>()?;
                assert!(worst < 1e-12, "dimension {dim}, {rows} rows: {worst}");
            }
        }
        Ok(())
    }
}
