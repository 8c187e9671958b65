//! The loss over cosines, whose matrix is not kept.

use candle::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Cached, RowLoss, RowValue, Rows, keep, scaled, total};
use crate::cpu::{self, Real, for_float};
use crate::gemm::{Mat, MatMut, Threads, product};
use crate::reduce;

pub(super) struct CosineOp<F> {
    pub(super) op: &'static str,
    pub(super) names: (&'static str, &'static str),
    pub(super) dims: (usize, usize, usize),
    pub(super) rows: Rows<F>,
    pub(super) cached: Cached<3>,
}

/// Bytes of the block of the cosine matrix that is alive at once.
const BLOCK: usize = 32 << 20;

/// One over the norm of each row, 0 for a zero row.
fn inverse_norms<T: Real>(op: &'static str, name: &str, x: &[T], d: usize) -> Result<Vec<T>> {
    let inverse: Vec<f64> = x
        .par_chunks(d)
        .with_min_len(16)
        .map(|row| {
            crate::simd::run(
                #[inline(always)]
                || {
                    let plain = reduce::dot(row, row).to_f64();
                    if plain.is_nan() {
                        return f64::NAN;
                    }
                    let sound = if T::DTYPE == DType::F64 {
                        1e-290..1e290
                    } else {
                        1e-30..1e30
                    };
                    if sound.contains(&plain) {
                        return 1.0 / plain.sqrt();
                    }
                    // The square of the norm leaves the range of the type: scale the row first.
                    let top = row.iter().fold(0.0f64, |m, v| m.max(v.abs().to_f64()));
                    if top == 0.0 {
                        return 0.0;
                    }
                    let rest: f64 = row.iter().map(|v| (v.to_f64() / top).powi(2)).sum();
                    1.0 / rest.sqrt() / top
                },
            )
        })
        .collect();
    match inverse.iter().position(|v| !v.is_finite()) {
        Some(row) => candle::bail!("{op}: row {row} of {name} holds NaN or infinity"),
        None => {
            // A norm so small that its inverse leaves the type counts as zero.
            let fit = |v| Some(T::from_f64(v)).filter(|v| !v.is_infinite());
            Ok(inverse
                .into_iter()
                .map(|v| fit(v).unwrap_or(T::ZERO))
                .collect())
        }
    }
}

/// `g - x (x . g) / |x|^2` in place: what of the gradient turns the vector; `inverse` holds `1 / |x|`.
fn project<T: Real>(g: &mut [T], x: &[T], inverse: &[T], d: usize) {
    g.par_chunks_mut(d)
        .zip(x.par_chunks(d))
        .zip(inverse)
        .with_min_len(16)
        .for_each(|((g, x), &inverse)| {
            crate::simd::run(
                #[inline(always)]
                || {
                    // The square of the norm may leave the range of the type: each factor meets one inverse.
                    let along = reduce::dot(g, x) * inverse;
                    for (g, &x) in g.iter_mut().zip(x) {
                        *g -= along * (x * inverse);
                    }
                },
            );
        });
}

impl<F: RowLoss> CosineOp<F> {
    fn run<T: Real>(&self, a: &[T], b: &[T], p: &[T]) -> Result<(T, Option<[Tensor; 3]>)> {
        let (n, m, d) = self.dims;
        let ia = inverse_norms(self.op, self.names.0, a, d)?;
        let ib = inverse_norms(self.op, self.names.1, b, d)?;
        let wants = self.rows.wants;
        let height = (BLOCK / (m * size_of::<T>())).clamp(1, n);
        // Products write all of these before anything reads them.
        let mut z = cpu::unwritten(height * m);
        let mut values = vec![RowValue::default(); n];
        let grads = |len: usize| cpu::unwritten(if wants { len } else { 0 });
        let (mut da, mut db) = (grads(n * d), grads(m * d));
        for start in (0..n).step_by(height) {
            let rows = height.min(n - start);
            let z = &mut z[..rows * m];
            let left = || Mat::rows(&a[start * d..(start + rows) * d], rows, d, d);
            let right = || Mat::rows(b, m, d, d);
            product(
                MatMut::rows(z, rows, m, m),
                left(),
                right().t(),
                false,
                Threads::All,
            );
            let values = &mut values[start..start + rows];
            self.rows.run(start, z, Some((&ia, &ib)), p, values);
            if wants {
                let g = || Mat::rows(z, rows, m, m);
                let part = &mut da[start * d..(start + rows) * d];
                product(
                    MatMut::rows(part, rows, d, d),
                    g(),
                    right(),
                    false,
                    Threads::All,
                );
                let whole = MatMut::rows(&mut db, m, d, d);
                product(whole, g().t(), left(), start > 0, Threads::All);
            }
        }
        let (loss, dp) = total::<T>(&values);
        if !wants {
            return Ok((loss, None));
        }
        project(&mut da, a, &ia, d);
        project(&mut db, b, &ib, d);
        let gradients = [
            cpu::tensor(da, (n, d))?,
            cpu::tensor(db, (m, d))?,
            cpu::tensor(dp, n)?,
        ];
        Ok((loss, Some(gradients)))
    }
}

impl<F: RowLoss> CustomOp3 for CosineOp<F> {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        al: &Layout,
        b: &CpuStorage,
        bl: &Layout,
        p: &CpuStorage,
        pl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        let op = self.op;
        for_float!(a.dtype(), op, T => {
            let (a, b) = (cpu::operand::<T>(op, a, al)?, cpu::operand::<T>(op, b, bl)?);
            let (loss, gradients) = self.run(a, b, cpu::operand::<T>(op, p, pl)?)?;
            if let Some(gradients) = gradients {
                keep(&self.cached, gradients);
            }
            Ok((T::to_cpu_storage_owned(vec![loss]), Shape::from(())))
        })
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        p: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [da, db, dp] = scaled(self.op, &self.cached, [a, b, p], grad)?;
        Ok((da, db, dp))
    }
}
