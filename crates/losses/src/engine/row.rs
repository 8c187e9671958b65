//! What a loss sees of one anchor.

use std::ops::Range;

/// Which columns a row shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    /// Positives and negatives, without the anchor itself.
    Others,
    /// The anchor itself is one of the positives.
    WithSelf,
}

/// The values of one anchor with its positives and its negatives; in a pass that writes, the loss replaces all of them by
/// gradients.
pub(crate) struct Row<'a, T> {
    /// Position in the order of the pass.
    pub sorted: usize,
    /// Row of the caller.
    pub anchor: usize,
    pub pos: &'a mut [T],
    pub neg: &'a mut [T],
    pub cols: Cols<'a>,
}

/// Columns behind the slices of a row.
pub(crate) enum Cols<'a> {
    Sorted {
        same: Range<usize>,
        own: Option<usize>,
        skip: bool,
        perm: &'a [u32],
    },
    Listed {
        pos: &'a [u32],
        neg: &'a [u32],
    },
}

impl Cols<'_> {
    /// Column of the caller of positive `k`.
    pub(crate) fn positive(&self, k: usize) -> usize {
        match self {
            Cols::Sorted { perm, .. } => perm[self.sorted_positive(k)] as usize,
            Cols::Listed { pos, .. } => pos[k] as usize,
        }
    }

    /// Column of the caller of negative `k`.
    pub(crate) fn negative(&self, k: usize) -> usize {
        match self {
            Cols::Sorted { perm, .. } => perm[self.sorted_negative(k)] as usize,
            Cols::Listed { neg, .. } => neg[k] as usize,
        }
    }

    /// Column in the order of the pass.
    pub(crate) fn sorted_positive(&self, k: usize) -> usize {
        match self {
            Cols::Sorted {
                same, own, skip, ..
            } => {
                let at = same.start + k;
                match own {
                    Some(own) if *skip && at >= *own => at + 1,
                    _ => at,
                }
            }
            Cols::Listed { pos, .. } => pos[k] as usize,
        }
    }

    /// Column in the order of the pass.
    pub(crate) fn sorted_negative(&self, k: usize) -> usize {
        match self {
            Cols::Sorted { same, .. } => {
                if k < same.start {
                    k
                } else {
                    k + same.len()
                }
            }
            Cols::Listed { neg, .. } => neg[k] as usize,
        }
    }
}

/// What a pass does with each row.
pub(crate) type RowFn<'a, T> = &'a (dyn Fn(&mut Row<'_, T>) + Sync);
