//! The tuples themselves: plain indices into a batch, checked once before a loss uses them.

use candle::{Result, bail};

/// Pairs of a batch, as (anchor, other) indices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pairs {
    /// Pairs with equal labels.
    pub positive: Vec<(u32, u32)>,
    /// Pairs with different labels.
    pub negative: Vec<(u32, u32)>,
}

/// Every ordered pair of a batch, `(a, b)` and `(b, a)`, without `(a, a)`, in ascending order (the convention of
/// pytorch-metric-learning).
pub fn all_pairs(labels: &[u32]) -> Pairs {
    let mut pairs = Pairs::default();
    for (a, la) in (0u32..).zip(labels) {
        for (b, lb) in (0u32..).zip(labels) {
            if a != b {
                let list = if la == lb {
                    &mut pairs.positive
                } else {
                    &mut pairs.negative
                };
                list.push((a, b));
            }
        }
    }
    pairs
}

/// Triplets of a batch as three lists of equal length: triplet `i` is `(anchors[i], positives[i], negatives[i])`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Triplets {
    /// Index of each anchor.
    pub anchors: Vec<u32>,
    /// Index of an item with the anchor's label.
    pub positives: Vec<u32>,
    /// Index of an item with another label.
    pub negatives: Vec<u32>,
}

impl Triplets {
    /// Number of triplets.
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Whether there is no triplet.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// Appends one triplet.
    pub fn push(&mut self, anchor: u32, positive: u32, negative: u32) {
        self.anchors.push(anchor);
        self.positives.push(positive);
        self.negatives.push(negative);
    }

    /// The triplets as `(anchor, positive, negative)`.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, u32)> + '_ {
        self.anchors
            .iter()
            .zip(&self.positives)
            .zip(&self.negatives)
            .map(|((&a, &p), &n)| (a, p, n))
    }

    /// Checks that the lists are of one length and every index is below `batch`.
    ///
    /// # Errors
    /// Names the first index that is not.
    pub fn check(&self, batch: usize) -> Result<()> {
        let (a, p, n) = (
            self.anchors.len(),
            self.positives.len(),
            self.negatives.len(),
        );
        if a != p || a != n {
            bail!(
                "triplets need lists of one length, got {a} anchors, {p} positives, {n} negatives"
            );
        }
        for (i, (a, p, n)) in self.iter().enumerate() {
            for (what, index) in [("anchor", a), ("positive", p), ("negative", n)] {
                if index as usize >= batch {
                    bail!("triplet {i}: {what} {index} is outside of the batch of {batch}");
                }
            }
        }
        Ok(())
    }
}

impl FromIterator<(u32, u32, u32)> for Triplets {
    fn from_iter<I: IntoIterator<Item = (u32, u32, u32)>>(iter: I) -> Self {
        let mut triplets = Self::default();
        for (a, p, n) in iter {
            triplets.push(a, p, n);
        }
        triplets
    }
}

/// One query with the items that should lie near it and those that should not; indices into the batch.
///
/// The cluster of a tuplet is the query together with its positives: `N = 1 + positives.len()`, `M = negatives.len()`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tuplet {
    /// The item the tuple is built around.
    pub query: u32,
    /// Items of the query's class, without the query itself.
    pub positives: Vec<u32>,
    /// Items to keep away.
    pub negatives: Vec<u32>,
}

/// The tuplets of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tuplets(pub Vec<Tuplet>);

impl Tuplets {
    /// Number of tuplets.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no tuplet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tuplets in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Tuplet> {
        self.0.iter()
    }

    /// Every (query, positive, negative) of every tuplet, so that a triplet loss can train on the same tuples.
    pub fn to_triplets(&self) -> Triplets {
        let mut triplets = Triplets::default();
        for t in &self.0 {
            for &p in &t.positives {
                for &n in &t.negatives {
                    triplets.push(t.query, p, n);
                }
            }
        }
        triplets
    }

    /// Checks that every index is below `batch`, that no query is its own positive, and that no negative belongs to the
    /// cluster.
    ///
    /// # Errors
    /// Names the first tuplet and index for which this does not hold.
    pub fn check(&self, batch: usize) -> Result<()> {
        for (i, t) in self.0.iter().enumerate() {
            for &index in std::iter::once(&t.query)
                .chain(&t.positives)
                .chain(&t.negatives)
            {
                if index as usize >= batch {
                    bail!("tuplet {i}: index {index} is outside of the batch of {batch}");
                }
            }
            if t.positives.contains(&t.query) {
                bail!(
                    "tuplet {i}: the query {} is listed among its positives, where it would count twice",
                    t.query
                );
            }
            if let Some(n) = t
                .negatives
                .iter()
                .find(|&n| *n == t.query || t.positives.contains(n))
            {
                bail!("tuplet {i}: item {n} is both positive and negative");
            }
        }
        Ok(())
    }
}

impl FromIterator<Tuplet> for Tuplets {
    fn from_iter<I: IntoIterator<Item = Tuplet>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Tuplets {
    type Item = &'a Tuplet;
    type IntoIter = std::slice::Iter<'a, Tuplet>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// One tuplet for each class of a batch that has two items: the class is the cluster, every other item a negative.
///
/// The query is the class's first item and the rest its positives; classes come in ascending order of their label. This is
/// the tuple rule of cluster losses that know one label only. One class alone gives a tuplet without negatives.
pub fn class_tuplets(labels: &[u32]) -> Tuplets {
    let mut classes = std::collections::BTreeMap::<u32, Vec<u32>>::new();
    for (i, &label) in (0u32..).zip(labels) {
        classes.entry(label).or_default().push(i);
    }
    let tuplet = |(label, items): (u32, Vec<u32>)| {
        let (&query, positives) = items.split_first()?;
        let negatives = (0u32..)
            .zip(labels)
            .filter(|&(_, &l)| l != label)
            .map(|(i, _)| i)
            .collect();
        (!positives.is_empty()).then(|| Tuplet {
            query,
            positives: positives.to_vec(),
            negatives,
        })
    };
    classes.into_iter().filter_map(tuplet).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_ordered_and_complete() {
        let pairs = all_pairs(&[4, 9, 4]);
        assert_eq!(pairs.positive, [(0, 2), (2, 0)]);
        assert_eq!(pairs.negative, [(0, 1), (1, 0), (1, 2), (2, 1)]);
        assert_eq!(all_pairs(&[]), Pairs::default());
    }

    #[test]
    fn check_names_what_is_wrong() {
        let bad = Tuplets(vec![Tuplet {
            query: 0,
            positives: vec![5],
            negatives: vec![],
        }]);
        assert!(bad.check(5).unwrap_err().to_string().contains("index 5"));
        let twice = Tuplets(vec![Tuplet {
            query: 1,
            positives: vec![1],
            negatives: vec![],
        }]);
        assert!(
            twice
                .check(5)
                .unwrap_err()
                .to_string()
                .contains("count twice")
        );
        let both = Tuplets(vec![Tuplet {
            query: 1,
            positives: vec![2],
            negatives: vec![2],
        }]);
        assert!(
            both.check(5)
                .unwrap_err()
                .to_string()
                .contains("both positive and negative")
        );
        let uneven = Triplets {
            anchors: vec![0],
            positives: vec![1],
            negatives: vec![],
        };
        assert!(
            uneven
                .check(5)
                .unwrap_err()
                .to_string()
                .contains("0 negatives")
        );
        assert!(
            Triplets::from_iter([(0, 1, 7)])
                .check(5)
                .unwrap_err()
                .to_string()
                .contains("negative 7")
        );
    }

    #[test]
    fn classes_become_clusters() {
        let t = class_tuplets(&[7, 3, 7, 5, 3]);
        let three = Tuplet {
            query: 1,
            positives: vec![4],
            negatives: vec![0, 2, 3],
        };
        let seven = Tuplet {
            query: 0,
            positives: vec![2],
            negatives: vec![1, 3, 4],
        };
        assert_eq!(t.0, [three, seven], "class 5 has no second item");
        assert!(class_tuplets(&[1, 1]).0[0].negatives.is_empty());
    }

    #[test]
    fn tuplets_unfold_into_triplets() {
        let t = Tuplets(vec![Tuplet {
            query: 0,
            positives: vec![1, 2],
            negatives: vec![3, 4],
        }]);
        let unfolded: Vec<_> = t.to_triplets().iter().collect();
        assert_eq!(unfolded, [(0, 1, 3), (0, 1, 4), (0, 2, 3), (0, 2, 4)]);
    }
}
