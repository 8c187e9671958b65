//! The matrix of a measure: distances (small between like ones) or similarities (large) of every row with every row.

use candle::{CpuStorage, CustomOp2, DType, Device, Layout, Result, Shape, Tensor, bail};
use phiz_mining::Measure;

use crate::engine::{Side, Source, for_real};

/// The measure of every row of `a` with every row of `b`, differentiable in both.
///
/// Squared Euclidean distances are expanded into a matrix product; where that cancels, they are summed directly, so that equal
/// rows are at distance exactly 0. The gradient of a Euclidean distance is 0 there. Cosines are clamped to [-1, 1]. A zero
/// embedding stays zero when it is normalised, with zero gradient.
///
/// # Shapes
/// `a` (N, D), `b` (M, D) of one type and device; result (N, M).
///
/// # Errors
/// When shapes or types disagree, an element is not finite (its row is named), or a parameter makes no sense.
pub fn measure_matrix(measure: Measure, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    measure.check()?;
    let ((_, d), (_, e)) = (a.dims2()?, b.dims2()?);
    if d != e || a.dtype() != b.dtype() {
        bail!(
            "a measure needs (N, D) and (M, D) of one type, got {:?} {:?} and {:?} {:?}",
            a.dims(),
            a.dtype(),
            b.dims(),
            b.dtype()
        );
    }
    let (device, dtype) = (a.device().clone(), a.dtype());
    let own = if dtype == DType::F64 {
        DType::F64
    } else {
        DType::F32
    };
    let host = |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(own)?.contiguous();
    host(a)?
        .apply_op2(&host(b)?, MatrixOp(measure))?
        .to_dtype(dtype)?
        .to_device(&device)
}

struct MatrixOp(Measure);

impl CustomOp2 for MatrixOp {
    fn name(&self) -> &'static str {
        "measure"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        al: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        let ((n, d), (m, _)) = (al.shape().dims2()?, bl.shape().dims2()?);
        for_real!(a.dtype(), T => {
            let (Some((a0, a1)), Some((b0, b1))) = (al.contiguous_offsets(), bl.contiguous_offsets()) else {
                bail!("measure: operands must be contiguous");
            };
            let x = Side::<T>::new(&a.as_slice::<T>()?[a0..a1], d, &(0..n as u32).collect::<Vec<_>>(), &self.0)?;
            let y = Side::<T>::new(&b.as_slice::<T>()?[b0..b1], d, &(0..m as u32).collect::<Vec<_>>(), &self.0)?;
            let mut out = vec![T::default(); n * m];
            Source::two(x, y, self.0).values(0..n, &mut out);
            Ok((T::to_cpu_storage_owned(out), Shape::from((n, m))))
        })
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((n, d), (m, _)) = (a.dims2()?, b.dims2()?);
        for_real!(a.dtype(), T => {
            let list = |t: &Tensor| t.flatten_all()?.to_vec1::<T>();
            let x = Side::<T>::new(&list(a)?, d, &(0..n as u32).collect::<Vec<_>>(), &self.0)?;
            let y = Side::<T>::new(&list(b)?, d, &(0..m as u32).collect::<Vec<_>>(), &self.0)?;
            let source = Source::two(x, y, self.0);
            let (da, db) = source.pull(&list(res)?, list(grad)?);
            let back = |v: Vec<T>, t: &Tensor| Tensor::from_vec(v, t.shape(), &Device::Cpu);
            Ok((Some(back(da, a)?), Some(back(db, b)?)))
        })
    }
}
