//! Squared distances and cosines between all rows of two matrices.

use crate::cpu::{self, Real, View, for_float};
use crate::gemm::{Mat, MatMut, Threads, product};
use crate::linear::linear;
use crate::{reduce, safe};
use candle::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

const OP: &str = "pairwise::sq_distances";

/// Checks two matrices of rows of one length.
fn check(op: &'static str, a: &Tensor, b: &Tensor) -> Result<(usize, usize, usize)> {
    cpu::float(op, a)?;
    cpu::same_kind(op, &[("a", a), ("b", b)])?;
    cpu::not_empty(op, "a", a)?;
    cpu::not_empty(op, "b", b)?;
    match (a.dims(), b.dims()) {
        (&[n, d], &[m, e]) if d == e => Ok((n, m, d)),
        (a, b) => candle::bail!("{op}: expected a (N, D) and b (M, D), got {a:?} and {b:?}"),
    }
}

/// Squared Euclidean distances between the rows of `a` and of `b`. Never negative; exactly 0 between
/// equal rows, in particular on the diagonal when `a` is `b`. Where the expansion
/// `|a|^2 + |b|^2 - 2 a b` cancels, the distance is summed directly.
///
/// # Shapes
/// `a` (N, D), `b` (M, D); result (N, M).
///
/// # Errors
/// When shapes, dtypes or devices disagree, or an operand is empty.
pub fn sq_distances(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (n, m, d) = check(OP, a, b)?;
    if !cpu::native(a) {
        return composed(a, b);
    }
    a.contiguous()?
        .apply_op2(&b.contiguous()?, SquaredDistances { n, m, d })
}

fn composed(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let same = a.id() == b.id();
    // About their mean, where rows that lie close together are short: the expansion then keeps digits.
    let center = a.detach().mean_keepdim(0)?;
    let a = &a.broadcast_sub(&center)?;
    let b = &b.broadcast_sub(&center)?;
    let a2 = a.sqr()?.sum_keepdim(D::Minus1)?;
    let b2 = b.sqr()?.sum(D::Minus1)?.unsqueeze(0)?;
    let raw = (a.matmul(&b.t()?)? * -2.0)?
        .broadcast_add(&a2)?
        .broadcast_add(&b2)?;
    // Value clamped, gradient untouched: below zero is rounding. The diagonal of one tensor with
    // itself is set to what it is.
    let mut clamped = raw.detach().maximum(0.0)?;
    if same {
        let eye = Tensor::eye(a.dim(0)?, candle::DType::U8, a.device())?;
        clamped = eye.where_cond(&clamped.zeros_like()?, &clamped)?;
    }
    &raw + (clamped - raw.detach())?
}

struct SquaredDistances {
    n: usize,
    m: usize,
    d: usize,
}

/// Below this share of `|a|^2 + |b|^2` the expansion has lost too many digits.
const CANCELLED: f64 = 0.05;

impl SquaredDistances {
    fn forward<T: Real>(&self, a: &[T], b: &[T]) -> Vec<T> {
        let (n, m, d) = (self.n, self.m, self.d);
        let norms = |x: &[T]| -> Vec<T> { x.chunks_exact(d).map(|r| reduce::dot(r, r)).collect() };
        let (a2, b2) = (norms(a), norms(b));
        let mut out = cpu::unwritten(n * m);
        let target = MatMut::rows(&mut out, n, m, m);
        product(
            target,
            Mat::rows(a, n, d, d),
            Mat::rows(b, m, d, d).t(),
            false,
            Threads::All,
        );
        let (two, limit) = (T::from_f64(2.0), T::from_f64(CANCELLED));
        out.par_chunks_mut(m).enumerate().for_each(|(i, row)| {
            crate::simd::run(
                #[inline(always)]
                || {
                    let x = &a[i * d..(i + 1) * d];
                    for (j, value) in row.iter_mut().enumerate() {
                        let total = a2[i] + b2[j];
                        let expanded = total - two * *value;
                        *value = if expanded < limit * total || expanded.is_nan() {
                            reduce::distance(x, &b[j * d..(j + 1) * d])
                        } else {
                            expanded
                        };
                    }
                },
            );
        });
        out
    }
}

impl CustomOp2 for SquaredDistances {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        al: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle::backend::BackendStorage;
        for_float!(a.dtype(), OP, T => {
            let out = self.forward::<T>(cpu::operand(OP, a, al)?, cpu::operand(OP, b, bl)?);
            Ok((T::to_cpu_storage_owned(out), Shape::from((self.n, self.m))))
        })
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        for_float!(a.dtype(), OP, T => {
            let (av, bv, gv) = (View::of(a), View::of(b), View::of(&grad));
            let (xa, xb, g) = (av.slice::<T>(OP)?, bv.slice::<T>(OP)?, gv.slice::<T>(OP)?);
            let g = Mat::rows(g, self.n, self.m, self.m);
            let da = match a.track_op() {
                false => None,
                true => Some(cpu::tensor(pull(xa, xb, g, (self.n, self.m, self.d)), a.shape())?),
            };
            let db = match b.track_op() {
                false => None,
                true => Some(cpu::tensor(pull(xb, xa, g.t(), (self.m, self.n, self.d)), b.shape())?),
            };
            Ok((da, db))
        })
    }
}

/// `2 (rowsum(g) * x - g y)`: the gradient of `x` (n, d) from that of the distances to `y` (m, d).
fn pull<T: Real>(x: &[T], y: &[T], g: Mat<'_, T>, (n, m, d): (usize, usize, usize)) -> Vec<T> {
    let ones = vec![T::ONE; m];
    let mut sums = vec![T::ZERO; n];
    product(
        MatMut::rows(&mut sums, n, 1, 1),
        g,
        Mat::rows(&ones, m, 1, 1),
        false,
        Threads::One,
    );
    let mut out = cpu::unwritten(n * d);
    product(
        MatMut::rows(&mut out, n, d, d),
        g,
        Mat::rows(y, m, d, d),
        false,
        Threads::All,
    );
    let two = T::from_f64(2.0);
    for ((row, x), &sum) in out.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(&sums) {
        for (o, &x) in row.iter_mut().zip(x) {
            *o = two * (sum * x - *o);
        }
    }
    out
}

/// Cosines of the angles between the rows of `a` and of `b`, clamped to [-1, 1] (the clamp passes
/// gradients through: only rounding leaves the interval). A zero row has cosine 0 with everything and
/// zero gradient.
///
/// # Shapes
/// `a` (N, D), `b` (M, D); result (N, M).
///
/// # Errors
/// When shapes, dtypes or devices disagree, or an operand is empty.
pub fn cosine(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    check("pairwise::cosine", a, b)?;
    let x = safe::normalize_last_dim(a)?;
    let y = if a.id() == b.id() {
        x.clone()
    } else {
        safe::normalize_last_dim(b)?
    };
    safe::clamp_unit(&linear(&x, &y, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::{Device, Var};

    #[test]
    fn composed_form_agrees() -> Result<()> {
        let a = Var::rand(-1f64, 1.0, (5, 4), &Device::Cpu)?;
        let b = Var::rand(-1f64, 1.0, (3, 4), &Device::Cpu)?;
        let weight = Tensor::rand(-1f64, 1.0, (5, 3), &Device::Cpu)?;
        let (ours, theirs) = (sq_distances(&a, &b)?, composed(&a, &b)?);
        let close = |x: &Tensor, y: &Tensor| -> Result<()> {
            assert!((x - y)?.abs()?.max_all()?.to_scalar::<f64>()? < 1e-12);
            Ok(())
        };
        close(&ours, &theirs)?;
        let (p, q) = (
            ours.mul(&weight)?.sum_all()?.backward()?,
            theirs.mul(&weight)?.sum_all()?.backward()?,
        );
        close(p.get(&a).unwrap(), q.get(&a).unwrap())?;
        close(p.get(&b).unwrap(), q.get(&b).unwrap())?;
        let own = composed(&a, &a)?;
        for i in 0..5 {
            assert_eq!(own.to_vec2::<f64>()?[i][i], 0.0);
        }
        Ok(())
    }
}
