//! What a pair or triplet loss is computed on: embeddings, what they are compared with, and which pairs are alike.

use candle::{Result, Tensor, bail};
use phiz_mining::{Pairs, Triplets};

use crate::label::{Label, keys};

/// Embeddings and their relation.
///
/// | you have | constructor |
/// | --- | --- |
/// | a batch with labels | [`Batch::new`] |
/// | a reference set (a memory, a second view) with labels | [`Batch::against`] |
/// | pairs or triplets from a miner | [`Batch::with_pairs`], [`Batch::with_triplets`] |
/// | a matrix of distances or similarities | [`Batch::from_matrix`], [`Batch::from_matrix_against`] |
///
/// With labels, all ordered pairs `(a, b)` and `(b, a)` take part, without `(a, a)`; triplet losses take every `(a, p, n)`. Against a
/// reference set an anchor is compared with every reference, of which equal labels are positives; say with
/// [`Batch::without_self`] which references are the anchors themselves.
#[derive(Debug, Clone)]
pub struct Batch {
    pub(crate) input: Input,
    pub(crate) relation: Relation,
    labels: Option<Vec<i64>>,
}

#[derive(Debug, Clone)]
pub(crate) enum Input {
    Embeddings {
        own: Tensor,
        reference: Option<Tensor>,
    },
    Matrix(Tensor),
}

#[derive(Debug, Clone)]
pub(crate) enum Relation {
    Labels {
        rows: Vec<i64>,
        /// `None`: columns are the rows.
        cols: Option<Vec<i64>>,
        /// For each row the column that is the same item.
        own: Option<Vec<Option<usize>>>,
    },
    Pairs(Pairs),
    Triplets(Triplets),
}

fn check_embeddings(what: &str, embeddings: &Tensor) -> Result<(usize, usize)> {
    let Ok((n, d)) = embeddings.dims2() else {
        bail!("{what} must be (B, D), got {:?}", embeddings.dims());
    };
    if !embeddings.dtype().is_float() {
        bail!("{what} must be floats, got {:?}", embeddings.dtype());
    }
    if d == 0 {
        bail!(
            "{what} must have at least one dimension, got {:?}",
            embeddings.dims()
        );
    }
    if u32::try_from(n).is_err() {
        bail!("{what} have {n} rows, more than a batch can hold");
    }
    Ok((n, d))
}

fn check_labels(what: &str, rows: usize, labels: usize) -> Result<()> {
    if rows != labels {
        bail!("{rows} {what} but {labels} labels");
    }
    Ok(())
}

impl Batch {
    /// A batch compared with itself.
    ///
    /// # Shapes
    /// `embeddings` (B, D) in any float type, `labels` B.
    ///
    /// # Errors
    /// When the shapes disagree or the type is not a float.
    pub fn new<L: Label>(embeddings: &Tensor, labels: &[L]) -> Result<Self> {
        let (n, _) = check_embeddings("embeddings", embeddings)?;
        check_labels("embeddings", n, labels.len())?;
        let rows = keys(labels);
        Ok(Self {
            input: Input::Embeddings {
                own: embeddings.clone(),
                reference: None,
            },
            labels: Some(rows.clone()),
            relation: Relation::Labels {
                rows,
                cols: None,
                own: None,
            },
        })
    }

    /// A batch compared with a reference set. Gradients go to both.
    ///
    /// # Shapes
    /// `embeddings` (B, D), `labels` B, `reference` (R, D), `reference_labels` R.
    ///
    /// # Errors
    /// When the shapes or types disagree.
    pub fn against<L: Label, R: Label>(
        embeddings: &Tensor,
        labels: &[L],
        reference: &Tensor,
        reference_labels: &[R],
    ) -> Result<Self> {
        let mut batch = Self::new(embeddings, labels)?.reference(reference)?;
        check_labels(
            "reference embeddings",
            reference.dim(0)?,
            reference_labels.len(),
        )?;
        batch.relation = Relation::Labels {
            rows: keys(labels),
            cols: Some(keys(reference_labels)),
            own: None,
        };
        Ok(batch)
    }

    /// Says which reference each anchor itself is (`None`: it is not among them), so that it is not compared with itself.
    ///
    /// # Errors
    /// Unless the batch was made by [`Batch::against`] or [`Batch::from_matrix_against`], there is one entry for each anchor, and
    /// each names a reference with the anchor's label.
    pub fn without_self(mut self, own_reference: &[Option<usize>]) -> Result<Self> {
        let Relation::Labels {
            rows,
            cols: Some(cols),
            own,
        } = &mut self.relation
        else {
            bail!("only a batch with labels and a reference set can name its own references");
        };
        check_labels("anchors", rows.len(), own_reference.len())?;
        for (row, column) in own_reference.iter().enumerate() {
            match column.map(|c| cols.get(c)) {
                None => {}
                Some(Some(label)) if *label == rows[row] => {}
                Some(_) => bail!(
                    "anchor {row} is said to be reference {column:?}, which has another label or is outside of the {} references",
                    cols.len()
                ),
            }
        }
        *own = Some(own_reference.to_vec());
        Ok(self)
    }

    /// Exactly these pairs. A triplet loss joins them on the anchor.
    ///
    /// # Errors
    /// When an index is outside of the batch.
    pub fn with_pairs(embeddings: &Tensor, pairs: &Pairs) -> Result<Self> {
        check_embeddings("embeddings", embeddings)?;
        let batch = Self {
            input: Input::Embeddings {
                own: embeddings.clone(),
                reference: None,
            },
            relation: Relation::Pairs(pairs.clone()),
            labels: None,
        };
        batch.check_tuples()?;
        Ok(batch)
    }

    /// Exactly these triplets. A pair loss takes each `(a, p)` and each `(a, n)` of them.
    ///
    /// # Errors
    /// When an index is outside of the batch.
    pub fn with_triplets(embeddings: &Tensor, triplets: &Triplets) -> Result<Self> {
        check_embeddings("embeddings", embeddings)?;
        let batch = Self {
            input: Input::Embeddings {
                own: embeddings.clone(),
                reference: None,
            },
            relation: Relation::Triplets(triplets.clone()),
            labels: None,
        };
        batch.check_tuples()?;
        Ok(batch)
    }

    /// Lets the second index of explicit tuples point into a reference set.
    ///
    /// # Errors
    /// When its shape or type is another, or an index is outside of it.
    pub fn reference(mut self, reference: &Tensor) -> Result<Self> {
        let (_, e) = check_embeddings("reference embeddings", reference)?;
        let Input::Embeddings { own, .. } = &self.input else {
            bail!("a given matrix has no reference set beside it");
        };
        if own.dim(1)? != e || own.dtype() != reference.dtype() {
            bail!(
                "embeddings {:?} {:?} and reference {:?} {:?} do not agree",
                own.dims(),
                own.dtype(),
                reference.dims(),
                reference.dtype()
            );
        }
        self.input = Input::Embeddings {
            own: own.clone(),
            reference: Some(reference.clone()),
        };
        if !matches!(self.relation, Relation::Labels { .. }) {
            self.check_tuples()?;
        }
        Ok(self)
    }

    /// Adds the labels of the anchors to explicit tuples, for the losses and reducers that ask for a class.
    ///
    /// # Errors
    /// When there is not one for each anchor.
    pub fn label<L: Label>(mut self, labels: &[L]) -> Result<Self> {
        check_labels("anchors", self.dims().0, labels.len())?;
        self.labels = Some(keys(labels));
        Ok(self)
    }

    /// A square matrix of distances or similarities (whichever the loss is configured for), computed elsewhere. The gradient is
    /// that of the matrix. The diagonal is not looked at, except by losses that compare an item with itself.
    ///
    /// # Shapes
    /// `matrix` (B, B), `labels` B.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn from_matrix<L: Label>(matrix: &Tensor, labels: &[L]) -> Result<Self> {
        let (n, m) = check_embeddings("a matrix", matrix)?;
        if n != m {
            bail!("a matrix of a batch with itself must be square, got ({n}, {m})");
        }
        check_labels("rows", n, labels.len())?;
        Ok(Self {
            input: Input::Matrix(matrix.clone()),
            labels: Some(keys(labels)),
            relation: Relation::Labels {
                rows: keys(labels),
                cols: None,
                own: None,
            },
        })
    }

    /// A matrix of anchors (rows) against references (columns).
    ///
    /// # Shapes
    /// `matrix` (B, R), `labels` B, `reference_labels` R.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn from_matrix_against<L: Label, R: Label>(
        matrix: &Tensor,
        labels: &[L],
        reference_labels: &[R],
    ) -> Result<Self> {
        let (n, m) = check_embeddings("a matrix", matrix)?;
        check_labels("rows", n, labels.len())?;
        check_labels("columns", m, reference_labels.len())?;
        Ok(Self {
            input: Input::Matrix(matrix.clone()),
            labels: Some(keys(labels)),
            relation: Relation::Labels {
                rows: keys(labels),
                cols: Some(keys(reference_labels)),
                own: None,
            },
        })
    }

    /// The references compared with the anchors, by the same pairs.
    pub(crate) fn transposed(&self) -> Result<Self> {
        let flip = |list: &[(u32, u32)]| list.iter().map(|&(a, b)| (b, a)).collect();
        Ok(Self {
            input: match &self.input {
                Input::Embeddings { own, reference } => Input::Embeddings {
                    own: reference.as_ref().unwrap_or(own).clone(),
                    reference: reference.as_ref().map(|_| own.clone()),
                },
                Input::Matrix(matrix) => Input::Matrix(matrix.t()?),
            },
            relation: match &self.relation {
                Relation::Labels { rows, cols, .. } => Relation::Labels {
                    rows: cols.as_ref().unwrap_or(rows).clone(),
                    cols: cols.as_ref().map(|_| rows.clone()),
                    own: None,
                },
                Relation::Pairs(pairs) => Relation::Pairs(Pairs {
                    positive: flip(&pairs.positive),
                    negative: flip(&pairs.negative),
                }),
                Relation::Triplets(triplets) => {
                    let pairs = triplets.to_pairs();
                    Relation::Pairs(Pairs {
                        positive: flip(&pairs.positive),
                        negative: flip(&pairs.negative),
                    })
                }
            },
            labels: None,
        })
    }

    /// Numbers of anchors and of what they are compared with.
    pub fn dims(&self) -> (usize, usize) {
        let rows = |t: &Tensor| t.dims().first().copied().unwrap_or(0);
        match &self.input {
            Input::Embeddings { own, reference } => {
                (rows(own), reference.as_ref().map_or(rows(own), rows))
            }
            Input::Matrix(matrix) => (rows(matrix), matrix.dims().get(1).copied().unwrap_or(0)),
        }
    }

    /// Labels of the anchors, where they are known.
    pub fn labels(&self) -> Option<&[i64]> {
        self.labels.as_deref()
    }

    /// The embeddings of the anchors; `None` for a given matrix.
    pub fn embeddings(&self) -> Option<&Tensor> {
        match &self.input {
            Input::Embeddings { own, .. } => Some(own),
            Input::Matrix(_) => None,
        }
    }

    /// Whether anchors are compared with one another.
    pub(crate) fn is_own(&self) -> bool {
        match (&self.input, &self.relation) {
            (Input::Embeddings { reference, .. }, _) => reference.is_none(),
            (_, Relation::Labels { cols, .. }) => cols.is_none(),
            _ => true,
        }
    }

    fn check_tuples(&self) -> Result<()> {
        let (n, m) = self.dims();
        let check = |what: &str, at: usize, a: u32, b: u32| {
            if a as usize >= n || b as usize >= m {
                bail!("{what} {at} is ({a}, {b}), outside of {n} anchors and {m} others");
            }
            Ok(())
        };
        match &self.relation {
            Relation::Labels { .. } => {}
            Relation::Pairs(pairs) => {
                for (i, &(a, b)) in pairs.positive.iter().enumerate() {
                    check("positive pair", i, a, b)?;
                }
                for (i, &(a, b)) in pairs.negative.iter().enumerate() {
                    check("negative pair", i, a, b)?;
                }
            }
            Relation::Triplets(t) => {
                if t.anchors.len() != t.positives.len() || t.anchors.len() != t.negatives.len() {
                    bail!(
                        "triplets need lists of one length, got {} anchors, {} positives, {} negatives",
                        t.anchors.len(),
                        t.positives.len(),
                        t.negatives.len()
                    );
                }
                for (i, (a, p, q)) in t.iter().enumerate() {
                    check("triplet", i, a, p)?;
                    check("triplet", i, a, q)?;
                }
            }
        }
        Ok(())
    }
}

/// A loss over the pairs or triplets of a batch.
pub trait MetricLoss {
    /// The loss; a batch without a valid tuple gives exactly 0 with zero gradients.
    ///
    /// The result is a scalar of the type of the embeddings (f32 for f16 and bf16).
    ///
    /// # Errors
    /// When an embedding is not finite (its row is named), the configuration makes no sense, or the loss does not take this kind
    /// of batch.
    fn forward(&self, batch: &Batch) -> Result<Tensor>;

    /// [`forward`](Self::forward) on a batch with labels.
    ///
    /// # Shapes
    /// `embeddings` (B, D), `labels` B; result: scalar.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    fn loss<L: Label>(&self, embeddings: &Tensor, labels: &[L]) -> Result<Tensor>
    where
        Self: Sized,
    {
        self.forward(&Batch::new(embeddings, labels)?)
    }
}
