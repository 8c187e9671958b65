//! Losses of items against class centroids: GE2E and the centroid triplet loss.
//!
//! An item is never part of the centroid of its own class that it is compared with. Both are products of (B, D) with (classes, D).

use candle::{D, Result, Tensor, bail};
use phiz_kernels::safe::{log_sum_exp_last_dim, normalize_last_dim, sqrt};
use phiz_kernels::softplus;

use phiz_mining::Measure;

use crate::distance::measure_matrix;
use crate::label::{Label, keys};
use crate::ops::{check_embeddings, check_finite, constant, host, indices, squared_distance, zero};
use crate::reduction::{Reduction, hinge};

/// The classes of a batch: for each item the number of its class, and the size of each class.
struct Classes {
    of: Vec<usize>,
    sizes: Vec<usize>,
}

impl Classes {
    fn new<L: Label>(labels: &[L]) -> Self {
        let keys = keys(labels);
        let mut names = keys.clone();
        names.sort_unstable();
        names.dedup();
        let of: Vec<usize> = keys
            .iter()
            .map(|k| names.partition_point(|n| n < k))
            .collect();
        let mut sizes = vec![0; names.len()];
        for &c in &of {
            sizes[c] += 1;
        }
        Self { of, sizes }
    }

    /// Sums of the rows of `x` by class, (classes, D).
    fn sums(&self, x: &Tensor) -> Result<Tensor> {
        let (n, k) = (self.of.len(), self.sizes.len());
        let mut members = vec![0.0; k * n];
        for (i, &c) in self.of.iter().enumerate() {
            members[c * n + i] = 1.0;
        }
        constant(members, (k, n), x)?.matmul(x)
    }

    fn class_index(&self, x: &Tensor) -> Result<Tensor> {
        indices(self.of.iter().map(|&c| c as u32).collect(), x)
    }
}

/// The two forms of [`Ge2e`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ge2eForm {
    /// `-log softmax` over the classes. The default.
    #[default]
    Softmax,
    /// `1 - sigmoid(own) + max sigmoid(other)`.
    Contrast,
}

/// Generalised end-to-end loss (Wan, Wang, Papir, Lopez Moreno, ICASSP 2018), made for speakers: with `S_ik = w cos(x_i, c_k) + b`,
/// `c_k` the mean of the unit-length embeddings of class `k` (without `x_i` for its own class),
///
/// ```text
/// softmax:   log sum_k e^S_ik - S_i,own          contrast:   1 - sigmoid(S_i,own) + max_{k != own} sigmoid(S_ik)
/// ```
///
/// the mean over items. Classes of one item are left out. `w` and `b` are learned; the paper starts at 10 and -5 and keeps `w > 0`.
/// O(B K D) time for K classes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ge2e {
    /// Default [`Ge2eForm::Softmax`].
    pub form: Ge2eForm,
}

impl Ge2e {
    /// The loss; without a class of two items exactly 0 with zero gradients.
    ///
    /// # Shapes
    /// `embeddings` (B, D) in f32 or f64, `labels` B, `w` (1), `b` (1); result: scalar.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward<L: Label>(
        &self,
        embeddings: &Tensor,
        labels: &[L],
        w: &Tensor,
        b: &Tensor,
    ) -> Result<Tensor> {
        let (n, _) = check_embeddings(embeddings)?;
        if labels.len() != n || w.dims() != [1] || b.dims() != [1] {
            bail!(
                "GE2E needs (B, D), B labels, w (1) and b (1); got {:?}, {}, {:?}, {:?}",
                embeddings.dims(),
                labels.len(),
                w.dims(),
                b.dims()
            );
        }
        let keys = keys(labels);
        let all = Classes::new(&keys);
        let items: Vec<u32> = (0..n as u32)
            .filter(|&i| all.sizes[all.of[i as usize]] > 1)
            .collect();
        if items.is_empty() {
            return zero(&[embeddings, w, b]);
        }
        let kept: Vec<i64> = items.iter().map(|&i| keys[i as usize]).collect();
        let classes = Classes::new(&kept);
        let x = normalize_last_dim(embeddings)?.index_select(&indices(items, embeddings)?, 0)?;
        let (rows, k) = (kept.len(), classes.sizes.len());
        let sums = classes.sums(&x)?;
        // A direction does not need the division by the number of members.
        let centres = normalize_last_dim(&sums)?;
        let own_index = classes.class_index(&x)?;
        let rest = normalize_last_dim(&(sums.index_select(&own_index, 0)? - &x)?)?;
        let own = (&x * rest)?.sum(D::Minus1)?;
        let others = x.matmul(&centres.t()?.contiguous()?)?;
        let scale = |s: &Tensor| s.broadcast_mul(w)?.broadcast_add(b);
        let (own, others) = (
            scale(&own)?,
            scale(&others.flatten_all()?)?.reshape((rows, k))?,
        );
        let mut mask = vec![0u8; rows * k];
        for (i, &c) in classes.of.iter().enumerate() {
            mask[i * k + c] = 1;
        }
        let mask = Tensor::from_vec(mask, (rows, k), x.device())?;
        match self.form {
            Ge2eForm::Softmax => {
                let own_wide = own.unsqueeze(1)?.broadcast_as((rows, k))?.contiguous()?;
                let all = mask.where_cond(&own_wide, &others)?;
                (log_sum_exp_last_dim(&all)? - own)?.mean_all()
            }
            Ge2eForm::Contrast => {
                // sigmoid(z) = e^(-softplus(-z)).
                let sigmoid = |z: &Tensor| softplus(&z.neg()?)?.neg()?.exp();
                let pull = sigmoid(&own)?.affine(-1.0, 1.0)?.mean_all()?;
                if k == 1 {
                    return Ok(pull);
                }
                // The first largest, chosen on the host: candle gives every tie the whole gradient.
                let values = host(&others)?;
                let nearest: Vec<u32> = classes
                    .of
                    .iter()
                    .enumerate()
                    .map(|(i, &c)| {
                        let line = &values[i * k..(i + 1) * k];
                        let best = (0..k)
                            .filter(|&j| j != c)
                            .reduce(|best, j| if line[j] > line[best] { j } else { best });
                        (i * k + best.unwrap_or(0)) as u32
                    })
                    .collect();
                let nearest = others
                    .flatten_all()?
                    .index_select(&indices(nearest, &x)?, 0)?;
                pull + sigmoid(&nearest)?.mean_all()?
            }
        }
    }
}

/// Centroid triplet loss (Wieczorek, Rychalska, Dabrowski, ICONIP 2021): each item against class means,
///
/// ```text
/// [ d(x_i, c_own) - d(x_i, c_k) + margin ]_+     for every other class k
/// ```
///
/// with Euclidean distances and `c_own` the mean of the other items of the class. An item alone in its class is no anchor, but its
/// class is a negative. O(B K D) time for K classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CentroidTriplet {
    /// Default 0.2.
    pub margin: f64,
    /// Scale the embeddings to unit length first. Default true.
    pub normalize: bool,
    /// Default [`Reduction::MeanActive`].
    pub reduction: Reduction,
}

impl Default for CentroidTriplet {
    fn default() -> Self {
        Self {
            margin: 0.2,
            normalize: true,
            reduction: Reduction::MeanActive,
        }
    }
}

impl CentroidTriplet {
    /// The loss; without an anchor and another class exactly 0 with zero gradients.
    ///
    /// # Shapes
    /// `embeddings` (B, D) in f32 or f64, `labels` B; result: scalar.
    ///
    /// # Errors
    /// When the shapes disagree, the margin is not finite, or an embedding is not finite.
    pub fn forward<L: Label>(&self, embeddings: &Tensor, labels: &[L]) -> Result<Tensor> {
        let (n, _) = check_embeddings(embeddings)?;
        check_finite("the margin of the centroid triplet loss", self.margin)?;
        if labels.len() != n {
            bail!("{n} embeddings but {} labels", labels.len());
        }
        let classes = Classes::new(labels);
        let k = classes.sizes.len();
        let (mut own, mut other) = (vec![], vec![]);
        let mut inverse = vec![0.0; n];
        for (i, &c) in classes.of.iter().enumerate() {
            if classes.sizes[c] < 2 {
                continue;
            }
            inverse[i] = 1.0 / (classes.sizes[c] - 1) as f64;
            for j in (0..k).filter(|&j| j != c) {
                own.push(i as u32);
                other.push((i * k + j) as u32);
            }
        }
        if own.is_empty() {
            return zero(&[embeddings]);
        }
        let x = if self.normalize {
            normalize_last_dim(embeddings)?
        } else {
            embeddings.clone()
        };
        let sums = classes.sums(&x)?;
        let sizes: Vec<f64> = classes.sizes.iter().map(|&s| 1.0 / s as f64).collect();
        let centres = sums.broadcast_mul(&constant(sizes, (k, 1), &x)?)?;
        let far = measure_matrix(Measure::L2.unnormalized(), &x, &centres)?;
        let rest = (sums.index_select(&classes.class_index(&x)?, 0)? - &x)?
            .broadcast_mul(&constant(inverse, (n, 1), &x)?)?;
        let near = sqrt(&squared_distance(&x, &rest)?)?;
        let near = near.index_select(&indices(own, &x)?, 0)?;
        let far = far.flatten_all()?.index_select(&indices(other, &x)?, 0)?;
        let z = ((near - far)? + self.margin)?;
        Ok(hinge(&z, self.reduction)?.0)
    }
}
