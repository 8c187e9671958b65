//! Dense vertices through a linear basis: v = mean + sum_k c_k B_k.
//!
//! The basis begins as the principal components of training shapes, each scaled by its standard deviation, so that
//! coefficients of a known face are about N(0, 1); it then learns on, or stays. Faces of one mesh in the image's
//! frame vary by shape, expression and moderate pose, which a few dozen components span well.

use candle::{Module, Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};
use nalgebra::{DMatrix, SymmetricEigen};
use phiz_kernels::layers::{Linear, linear};

use crate::known::same_shape;

/// A mean shape and the directions in which shapes vary most.
#[derive(Debug, Clone)]
pub struct ShapeBasis {
    /// (V, D).
    pub mean: Tensor,
    /// Orthonormal directions (K, V D), the largest variance first.
    pub directions: Tensor,
    /// Standard deviation along each (K), divisor N - 1.
    pub deviations: Vec<f64>,
    /// Share of the variance that the directions hold together.
    pub explained: f64,
}

/// Principal components of `shapes`. Cost grows with the square of N: a few hundred shapes are enough.
///
/// Each direction's sign is such that its entry of largest size is positive.
///
/// # Shapes
/// `shapes` (N, V, D); results as in [`ShapeBasis`], in the dtype of `shapes`.
///
/// # Errors
/// When there are fewer shapes than `components` + 1, more than 4,096, a number is not finite, or the shapes do not vary
/// in that many directions.
pub fn pca_basis(shapes: &Tensor, components: usize) -> Result<ShapeBasis> {
    let (n, count, dim) = shapes.dims3()?;
    if components == 0 || n <= components || n > 4096 || count * dim == 0 {
        candle::bail!(
            "a basis of {components} directions needs {} to 4096 shapes that are not empty, got {:?}",
            components + 1,
            shapes.dims()
        )
    }
    let rows = shapes
        .detach()
        .reshape((n, count * dim))?
        .to_dtype(candle::DType::F64)?;
    let mean = rows.mean_keepdim(0)?;
    let centred = rows.broadcast_sub(&mean)?;
    // Of N shapes with many more coordinates, the N x N matrix of inner products has the same variances.
    let gram = centred.matmul(&centred.t()?.contiguous()?)?;
    let gram = gram.flatten_all()?.to_vec1::<f64>()?;
    if gram.iter().any(|v| !v.is_finite()) {
        candle::bail!("a shape has a coordinate that is not finite")
    }
    let eigen = SymmetricEigen::new(DMatrix::from_row_slice(n, n, &gram));
    let mut order: Vec<usize> = (0..n).collect();
    let value = |i: usize| eigen.eigenvalues.get(i).copied().unwrap_or(0.);
    order.sort_by(|&a, &b| value(b).total_cmp(&value(a)));
    let total: f64 = (0..n).map(|i| value(i).max(0.)).sum();
    let mut weights = Vec::with_capacity(components * n);
    let mut deviations = Vec::with_capacity(components);
    let mut held = 0.;
    for &i in order.iter().take(components) {
        let variance = value(i);
        if variance.is_nan() || variance <= 1e-12 * total || total <= 0. {
            candle::bail!(
                "the shapes vary in {} directions, not in {components}",
                deviations.len()
            )
        }
        held += variance;
        deviations.push((variance / (n - 1) as f64).sqrt());
        let unit = 1. / variance.sqrt();
        weights.extend(eigen.eigenvectors.column(i).iter().map(|v| v * unit));
    }
    let weights = Tensor::from_vec(weights, (components, n), rows.device())?;
    let directions = weights.matmul(&centred)?.to_vec2::<f64>()?;
    let signed = directions.into_iter().flat_map(|row| {
        let largest = row
            .iter()
            .fold(0f64, |m, v| if v.abs() > m.abs() { *v } else { m });
        let sign = if largest < 0. { -1. } else { 1. };
        row.into_iter().map(move |v| v * sign)
    });
    let directions = Tensor::from_vec(
        signed.collect::<Vec<f64>>(),
        (components, count * dim),
        rows.device(),
    )?;
    Ok(ShapeBasis {
        mean: mean.reshape((count, dim))?.to_dtype(shapes.dtype())?,
        directions: directions.to_dtype(shapes.dtype())?,
        deviations,
        explained: held / total,
    })
}

/// Features (B, F) to vertices (B, V, D): `coefficients` (a linear layer), `basis` (K, V D) and `memory_mean` (V, D).
#[derive(Debug, Clone)]
pub struct ShapeHead {
    coefficients: Linear,
    basis: Var,
    mean: Var,
    learned: bool,
}

impl ShapeHead {
    /// A head for `count` vertices of `dim` coordinates through `components` directions. With `learned` the basis is a
    /// trained parameter `basis`, else the buffer `memory_basis`. Give it its start by [`set_basis`](Self::set_basis).
    ///
    /// # Errors
    /// When a size is 0, or the builder cannot give the tensors.
    pub fn new(
        features: usize,
        (count, dim): (usize, usize),
        components: usize,
        learned: bool,
        vb: VarBuilder,
    ) -> Result<Self> {
        if [features, count, dim, components].contains(&0) {
            candle::bail!(
                "ShapeHead: {features} features to {count} vertices of {dim} through {components} directions"
            )
        }
        let name = if learned { "basis" } else { "memory_basis" };
        let init = Init::Randn {
            mean: 0.,
            stdev: 0.01,
        };
        let basis = vb.get_with_hints((components, count * dim), name, init)?;
        let mean = vb.get_with_hints((count, dim), "memory_mean", Init::Const(0.))?;
        Ok(Self {
            coefficients: linear(features, components, vb.pp("coefficients"))?,
            basis: Var::from_tensor(&basis)?,
            mean: Var::from_tensor(&mean)?,
            learned,
        })
    }

    /// Starts mean and basis from `basis`, each direction times its deviation.
    ///
    /// # Errors
    /// When the shapes are not the head's.
    pub fn set_basis(&self, basis: &ShapeBasis) -> Result<()> {
        let scale = Tensor::from_slice(
            &basis.deviations,
            (basis.deviations.len(), 1),
            basis.directions.device(),
        )?;
        let scaled = basis
            .directions
            .broadcast_mul(&scale.to_dtype(basis.directions.dtype())?)?;
        self.mean.set(&basis.mean.to_dtype(self.mean.dtype())?)?;
        self.basis.set(&scaled.to_dtype(self.basis.dtype())?)
    }

    /// Vertices.
    ///
    /// # Shapes
    /// `features` (B, F); result (B, V, D).
    ///
    /// # Errors
    /// When the features have another length.
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let (count, dim) = self.mean.dims2()?;
        let c = self.coefficients.forward(features)?;
        let offset = if self.learned {
            c.matmul(self.basis.as_tensor())?
        } else {
            c.matmul(&self.basis.as_detached_tensor())?
        };
        let batch = offset.dim(0)?;
        offset
            .reshape((batch, count, dim))?
            .broadcast_add(&self.mean.as_detached_tensor())
    }
}

/// Mean over images and vertices of the squared distance, in per cent of the side of the image.
///
/// # Shapes
/// `predicted` and `target` (B, V, D) in parts of the image; result: scalar.
///
/// # Errors
/// When the shapes differ.
pub fn shape_loss(predicted: &Tensor, target: &Tensor) -> Result<Tensor> {
    same_shape("vertices", predicted, target)?;
    let (batch, count, _) = predicted.dims3()?;
    let target = target.detach().to_dtype(predicted.dtype())?;
    let squares = (predicted - target)?.sqr()?.sum_all()?;
    squares * (1e4 / (batch * count) as f64)
}
