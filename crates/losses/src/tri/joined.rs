//! A batch and its reference set as one set, for losses that compare positives with negatives.

use candle::{Result, Tensor};

use crate::batch::{Batch, Input, Relation};
use crate::engine::{Class, Real};

/// Who is who in a batch that is compared with itself, or joined with the reference set it was to be compared with: then anchors
/// are its first items, positives and negatives the others.
pub(super) struct Roles {
    /// Anchors, where there is a reference set.
    anchors: Option<usize>,
    /// The reference that each anchor itself is.
    own: Option<Vec<Option<usize>>>,
}

impl Roles {
    /// The batch to compute on, with the roles of its items.
    pub(super) fn of(batch: &Batch) -> Result<(Batch, Self)> {
        let (
            Input::Embeddings {
                own: x,
                reference: Some(y),
            },
            Relation::Labels {
                rows,
                cols: Some(cols),
                own,
            },
        ) = (&batch.input, &batch.relation)
        else {
            let roles = Self {
                anchors: None,
                own: None,
            };
            return Ok((batch.clone(), roles));
        };
        let joined = Batch::new(&Tensor::cat(&[x, y], 0)?, &[&rows[..], cols].concat())?;
        let roles = Self {
            anchors: Some(rows.len()),
            own: own.clone(),
        };
        Ok((joined, roles))
    }

    /// Whether the members `a` and `p` of a class are an anchor and a positive of it.
    pub(super) fn pair<T: Real>(&self, class: &Class<'_, T>, a: usize, p: usize) -> bool {
        let item = |i: usize| class.perm[class.members.start + i] as usize;
        let Some(n) = self.anchors else {
            return a != p;
        };
        let (a, p) = (item(a), item(p));
        let own = self
            .own
            .as_ref()
            .and_then(|own| own.get(a).copied())
            .flatten();
        a < n && p >= n && own != Some(p - n)
    }

    /// Whether a column can be a negative.
    pub(super) fn other<T: Real>(&self, class: &Class<'_, T>, column: usize) -> bool {
        self.anchors
            .is_none_or(|n| class.perm[column] as usize >= n)
    }
}
