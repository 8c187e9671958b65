//! Regularisers of class weights, proxies and centres. Add one, times a factor, to a head's loss.

use candle::{Result, Tensor, bail};
use phiz_kernels::Real;
use phiz_kernels::row_loss::{RowLoss, RowValue, cosine_row_loss};
use phiz_kernels::safe;

use crate::heads::wide;
use crate::ops::check_embeddings;

fn checked(weight: &Tensor) -> Result<(Tensor, usize)> {
    let weight = wide(weight)?;
    let (n, _) = check_embeddings(&weight)?;
    if n == 0 {
        bail!("a regulariser of weights needs at least one weight");
    }
    Ok((weight, n))
}

/// `mean_j (|w_j|^2 - mean_k |w_k|^2)^2 / 4`: weights of equal length (Wu et al., "Deep face recognition with center invariant loss",
/// 2017). Minimum 0. O(C D).
///
/// # Shapes
/// `weight` (C, D) in f32 or f64; result: scalar.
///
/// # Errors
/// When the weight is no matrix, or empty.
pub fn center_invariant(weight: &Tensor) -> Result<Tensor> {
    let (weight, _) = checked(weight)?;
    let squares = weight.sqr()?.sum(1)?;
    let deviation = squares.broadcast_sub(&squares.mean_all()?)?;
    deviation.sqr()?.mean_all()? / 4.0
}

/// The mean over the weights of the cosine to the nearest other one: weights far apart (Zhao, Xu, Cheng, "RegularFace", CVPR 2019).
/// The first of equally near ones counts. One weight alone gives 0. Time O(C^2 D), memory one block of rows.
///
/// # Shapes
/// `weight` (C, D) in f32 or f64; result: scalar.
///
/// # Errors
/// When the weight is no matrix or empty, or a row holds NaN or infinity.
pub fn regular_face(weight: &Tensor) -> Result<Tensor> {
    let (weight, n) = checked(weight)?;
    let weights = vec![1.0 / n as f64; n];
    let op = "regular-face";
    cosine_row_loss(
        op,
        ("the weight", &weight),
        ("the weight", &weight),
        None,
        weights,
        Nearest,
    )
}

/// The largest entry of a row beside the diagonal.
struct Nearest;

impl RowLoss for Nearest {
    #[inline(always)]
    fn row<T: Real>(&self, i: usize, _: f64, c: &mut [T], _: &mut [T]) -> RowValue {
        let mut best = None;
        for (j, &v) in c.iter().enumerate() {
            if j != i && best.is_none_or(|(_, b)| v > b) {
                best = Some((j, v));
            }
        }
        c.fill(T::ZERO);
        let Some((j, v)) = best else {
            return RowValue::default();
        };
        c[j] = T::ONE;
        RowValue {
            loss: v.to_f64(),
            parameter: 0.0,
        }
    }
}

/// `sum sqrt(2 - 2 cos) / (2 pairs)` over the pairs of vectors of one class: vectors a class does not need fall together (Qian et al.,
/// SoftTriple, ICCV 2019). Equal vectors have gradient 0. O(C K^2 D).
///
/// # Shapes
/// `weight` (classes K, D), class by class, K = `centers` at least 2; result: scalar.
///
/// # Errors
/// When the weight has not whole classes of `centers` rows, or `centers` is below 2.
pub fn sparse_centers(weight: &Tensor, centers: usize) -> Result<Tensor> {
    let (weight, n) = checked(weight)?;
    if centers < 2 || n % centers != 0 {
        bail!("sparse-centers: {n} weights are not whole classes of {centers}, at least 2");
    }
    let classes = n / centers;
    let unit = safe::normalize_last_dim(&weight.contiguous()?)?.reshape((classes, centers, ()))?;
    let mut total = Tensor::zeros((), weight.dtype(), weight.device())?;
    for k in 1..centers {
        // Pairs of vectors k apart.
        let (a, b) = (
            unit.narrow(1, 0, centers - k)?,
            unit.narrow(1, k, centers - k)?,
        );
        total = (total + safe::sqrt(&(a - b)?.sqr()?.sum(2)?)?.sum_all()?)?;
    }
    let pairs = classes * centers * (centers - 1) / 2;
    total / (2 * pairs) as f64
}
