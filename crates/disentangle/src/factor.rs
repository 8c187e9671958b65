//! Semantic factors: what is to be removed from d, as labels, and as the code the decoder is given.

use candle::{DType, Device, Result, Tensor};

/// One labelled factor of variation: light, make-up, pose, a set of attributes.
#[derive(Debug, Clone, PartialEq)]
pub struct Factor {
    /// Its name, for logs and errors.
    pub name: String,
    /// What its labels are.
    pub kind: FactorKind,
    /// What each class says of it ([`Factor::given_class`]); empty in the unconditional game.
    pub(crate) by_class: Vec<Vec<f64>>,
}

/// What the labels of a factor are.
#[derive(Debug, Clone, PartialEq)]
pub enum FactorKind {
    /// One of K values. `prior` (K shares that sum to 1) is what an ignorant discriminator should answer.
    Categorical {
        /// Share of each value in the training set.
        prior: Vec<f64>,
    },
    /// Several yes-or-no attributes. `prior` (A) is the share of yes of each.
    MultiLabel {
        /// Share of yes of each attribute in the training set.
        prior: Vec<f64>,
    },
    /// Real numbers, standardised by the training set's mean and standard deviation.
    Continuous {
        /// How many.
        dims: usize,
    },
}

/// Labels of a batch for one factor.
#[derive(Debug, Clone)]
pub enum FactorValues {
    /// Of a categorical factor: (B) u32.
    Categorical(Tensor),
    /// Of a multi-label factor: (B, A) of 0 and 1.
    MultiLabel(Tensor),
    /// Of a continuous factor: (B, dims).
    Continuous(Tensor),
}

impl Factor {
    /// A factor of that kind.
    pub fn new(name: &str, kind: FactorKind) -> Self {
        Self {
            name: name.to_string(),
            kind,
            by_class: Vec::new(),
        }
    }

    /// A categorical factor from the codes of the training set.
    ///
    /// # Errors
    /// When there are no codes, or only one value occurs: a factor that never varies cannot be removed.
    pub fn categorical(name: &str, codes: &[u32]) -> Result<Self> {
        let Some(&largest) = codes.iter().max() else {
            candle::bail!("factor `{name}`: no training labels")
        };
        if codes.iter().all(|&code| code == largest) {
            candle::bail!(
                "factor `{name}` has one value ({largest}) in all {} training labels; expected at least 2",
                codes.len()
            )
        }
        let mut prior = vec![0.; largest as usize + 1];
        for &code in codes {
            if let Some(share) = prior.get_mut(code as usize) {
                *share += 1. / codes.len() as f64;
            }
        }
        Ok(Self::new(name, FactorKind::Categorical { prior }))
    }

    /// A multi-label factor from rows of attributes, `labels[i * attributes + j]` of sample i.
    ///
    /// # Errors
    /// When the rows are not whole, there are none, or an attribute never varies.
    pub fn multi_label(name: &str, labels: &[bool], attributes: usize) -> Result<Self> {
        if attributes == 0 || labels.is_empty() || !labels.len().is_multiple_of(attributes) {
            candle::bail!(
                "factor `{name}`: {} labels are no rows of {attributes} attributes",
                labels.len()
            )
        }
        let rows = (labels.len() / attributes) as f64;
        let mut prior = vec![0.; attributes];
        for row in labels.chunks_exact(attributes) {
            for (share, &yes) in prior.iter_mut().zip(row) {
                *share += f64::from(yes) / rows;
            }
        }
        if let Some(at) = prior.iter().position(|&share| share <= 0. || share >= 1.) {
            candle::bail!("factor `{name}`: attribute {at} never varies in the training labels")
        }
        Ok(Self::new(name, FactorKind::MultiLabel { prior }))
    }

    /// A continuous factor of `dims` standardised numbers.
    pub fn continuous(name: &str, dims: usize) -> Self {
        Self::new(name, FactorKind::Continuous { dims })
    }

    /// Width of the code the decoder is given: K, A or dims.
    pub fn code_dim(&self) -> usize {
        match &self.kind {
            FactorKind::Categorical { prior } | FactorKind::MultiLabel { prior } => prior.len(),
            FactorKind::Continuous { dims } => *dims,
        }
    }

    /// Numbers a discriminator puts out: K or A logits, or mean and log-variance of each dimension.
    pub fn output_dim(&self) -> usize {
        match &self.kind {
            FactorKind::Continuous { dims } => 2 * dims,
            _ => self.code_dim(),
        }
    }

    /// Whether labels are so unevenly spread that ignorance means the prior and not the uniform distribution:
    /// the largest share is above 1.5 / K (for an attribute: above 0.75).
    pub fn unbalanced(&self) -> bool {
        match &self.kind {
            FactorKind::Categorical { prior } => {
                let most = prior.iter().copied().fold(0., f64::max);
                most > 1.5 / prior.len() as f64
            }
            FactorKind::MultiLabel { prior } => prior.iter().any(|&yes| yes.max(1. - yes) > 0.75),
            FactorKind::Continuous { .. } => false,
        }
    }

    /// The semantic code s of a batch: one-hot, +-1 for each attribute, or the numbers themselves.
    ///
    /// # Shapes
    /// Result (B, [`Factor::code_dim`]).
    ///
    /// # Errors
    /// When the values are of another kind or shape, or a category is out of range.
    pub fn code(&self, values: &FactorValues, dtype: DType) -> Result<Tensor> {
        match (&self.kind, values) {
            (FactorKind::Categorical { prior }, FactorValues::Categorical(codes)) => {
                one_hot(&self.name, codes, prior.len(), dtype)
            }
            (FactorKind::MultiLabel { prior }, FactorValues::MultiLabel(labels)) => {
                self.check_width(labels, prior.len())?;
                labels.to_dtype(dtype)?.affine(2., -1.)
            }
            (FactorKind::Continuous { dims }, FactorValues::Continuous(values)) => {
                self.check_width(values, *dims)?;
                values.to_dtype(dtype)
            }
            _ => candle::bail!(
                "factor `{}`: its labels are of another kind than the factor",
                self.name
            ),
        }
    }

    fn check_width(&self, values: &Tensor, width: usize) -> Result<()> {
        match values.dims() {
            [_, found] if *found == width => Ok(()),
            dims => candle::bail!(
                "factor `{}`: expected labels (B, {width}), got {dims:?}",
                self.name
            ),
        }
    }
}

/// Rows of 0 with a 1 at each code, (B, K).
pub(crate) fn one_hot(name: &str, codes: &Tensor, classes: usize, dtype: DType) -> Result<Tensor> {
    let codes = codes.to_dtype(DType::U32)?.to_vec1::<u32>()?;
    let mut rows = vec![0f32; codes.len() * classes];
    for (i, &code) in codes.iter().enumerate() {
        match rows.get_mut(i * classes + code as usize) {
            Some(place) if (code as usize) < classes => *place = 1.,
            _ => candle::bail!("{name}: label {code} of sample {i}; expected below {classes}"),
        }
    }
    Tensor::from_vec(rows, (codes.len(), classes), &Device::Cpu)?.to_dtype(dtype)
}
