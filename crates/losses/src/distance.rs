//! What a loss compares embeddings by: distances (small between like ones) and similarities (large).

use candle::{CpuStorage, CustomOp2, DType, Device, Layout, Result, Shape, Tensor, bail};

use crate::engine::{Side, Source, for_real};
use crate::ops::check_finite;

/// The function behind a [`Measure`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum MeasureKind {
    /// `||x - y||_p`, `p >= 1` or infinity.
    Lp(f64),
    /// `x . y`; of unit-length embeddings, the cosine.
    Dot,
    /// `var(x - y) / var(x)`, variances over the dimensions (Yuan et al., CVPR 2019). Not symmetric.
    Snr,
}

/// A distance or similarity between embeddings.
///
/// | constant | value | pytorch-metric-learning |
/// | --- | --- | --- |
/// | [`Measure::L2`] | `\|\|x - y\|\|` of unit-length embeddings | `LpDistance()` |
/// | [`Measure::SQUARED_L2`] | its square | `LpDistance(power=2)` |
/// | [`Measure::COSINE`] | `x . y` of unit-length embeddings, clamped to [-1, 1] | `CosineSimilarity()` |
/// | [`Measure::DOT`] | `x . y` of the embeddings as given | `DotProductSimilarity(normalize_embeddings=False)` (the default from v3 on) |
/// | [`Measure::SNR`] | `var(x - y) / var(x)` of unit-length embeddings | `SNRDistance()` |
///
/// Squared Euclidean distances are expanded into a matrix product; where that cancels, they are summed directly, so that equal
/// rows are at distance exactly 0. The gradient of a Euclidean distance is 0 there. A zero embedding stays zero when it is
/// normalised, with zero gradient (PyTorch divides by 1e-12, a gradient without use).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    /// The function.
    pub kind: MeasureKind,
    /// Scale embeddings to unit length first (in the p-norm for [`MeasureKind::Lp`], else in the 2-norm).
    pub normalize: bool,
    /// Raise a distance to this power before the loss sees it. Not 0; 1, the only one for a similarity, is none.
    pub power: f64,
}

impl Measure {
    /// Euclidean distance of unit-length embeddings.
    pub const L2: Self = Self {
        kind: MeasureKind::Lp(2.0),
        normalize: true,
        power: 1.0,
    };
    /// Squared Euclidean distance of unit-length embeddings.
    pub const SQUARED_L2: Self = Self {
        kind: MeasureKind::Lp(2.0),
        normalize: true,
        power: 2.0,
    };
    /// Cosine similarity.
    pub const COSINE: Self = Self {
        kind: MeasureKind::Dot,
        normalize: true,
        power: 1.0,
    };
    /// Inner product of the embeddings as given.
    pub const DOT: Self = Self {
        kind: MeasureKind::Dot,
        normalize: false,
        power: 1.0,
    };
    /// Signal-to-noise ratio distance of unit-length embeddings.
    pub const SNR: Self = Self {
        kind: MeasureKind::Snr,
        normalize: true,
        power: 1.0,
    };

    /// The same on embeddings as given.
    #[must_use]
    pub fn unnormalized(self) -> Self {
        Self {
            normalize: false,
            ..self
        }
    }

    /// Whether larger means more alike.
    pub fn is_similarity(&self) -> bool {
        matches!(self.kind, MeasureKind::Dot)
    }

    /// Whether this is the cosine.
    pub fn is_cosine(&self) -> bool {
        self.kind == MeasureKind::Dot && self.normalize && self.power == 1.0
    }

    /// Fails unless the parameters make sense.
    pub(crate) fn check(&self) -> Result<()> {
        check_finite("the power of a measure", self.power)?;
        if self.power == 0.0 {
            bail!("the power of a measure must not be 0: every pair would be alike");
        }
        if self.is_similarity() && self.power != 1.0 {
            bail!(
                "the power of a similarity must be 1, got {}: an even power would lose its sign",
                self.power
            );
        }
        if let MeasureKind::Lp(p) = self.kind
            && (p.is_nan() || p < 1.0)
        {
            bail!("an Lp distance needs p >= 1, got {p}");
        }
        Ok(())
    }

    /// The measure of every row of `a` with every row of `b`, differentiable in both.
    ///
    /// # Shapes
    /// `a` (N, D), `b` (M, D) of one type and device; result (N, M).
    ///
    /// # Errors
    /// When shapes or types disagree, an element is not finite (its row is named), or a parameter makes no sense.
    pub fn matrix(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.check()?;
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
            .apply_op2(&host(b)?, MatrixOp(*self))?
            .to_dtype(dtype)?
            .to_device(&device)
    }
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
