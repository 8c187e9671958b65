//! Which pairs belong together and which do not: by one label, by several, by sets of labels, or by any rule of yours.
//!
//! Miners ask a [`Relation`] and never look at labels themselves, so that every miner works with every kind of supervision:
//!
//! | supervision | relation |
//! | --- | --- |
//! | one label an item | `&labels`, a slice of anything comparable |
//! | one label, a separate reference set | [`LabelsBetween`] |
//! | two or more labels ("the same expression, another person") | [`PairRules`] |
//! | a set of labels an item | [`LabelSets`] |
//! | anything else | implement [`Relation`] |

use candle::{Result, bail};

/// What two items are to each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Link {
    /// They should lie together.
    Positive,
    /// They should lie apart.
    Negative,
    /// The pair says nothing and is never mined.
    #[default]
    Neither,
}

/// Says of every (anchor, reference) pair what it is.
///
/// An item compared with itself is never mined, whatever [`link`](Self::link) says of it.
///
/// ```
/// use candle::{Device, Tensor};
/// use phiz_mining::{BatchHardMiner, Comparison, Link, Relation};
/// /// Ages within two years belong together, ages ten years apart do not.
/// struct Ages(Vec<f64>);
/// impl Relation for Ages {
///     fn anchors(&self) -> usize { self.0.len() }
///     fn link(&self, a: usize, b: usize) -> Link {
///         match (self.0[a] - self.0[b]).abs() {
///             d if d <= 2.0 => Link::Positive,
///             d if d >= 10.0 => Link::Negative,
///             _ => Link::Neither,
///         }
///     }
/// }
/// # fn main() -> candle::Result<()> {
/// let embeddings = Tensor::new(&[[0f32, 1.], [1., 0.], [1., 1.]], &Device::Cpu)?;
/// let triplets = BatchHardMiner.mine(&Comparison::new(&embeddings, Ages(vec![20., 21., 40.]))?)?;
/// assert_eq!(triplets.iter().collect::<Vec<_>>(), [(0, 1, 2), (1, 0, 2)]);
/// # Ok(()) }
/// ```
pub trait Relation: Sync {
    /// Number of anchors.
    fn anchors(&self) -> usize;

    /// Number of items of a separate reference set; `None` (the default) when the anchors are compared among themselves.
    fn references(&self) -> Option<usize> {
        None
    }

    /// What a pair is. Asked only for an `anchor` and a `reference` below the two counts.
    fn link(&self, anchor: usize, reference: usize) -> Link;

    /// All links of one anchor; `out` has one place for each reference.
    fn fill(&self, anchor: usize, out: &mut [Link]) {
        for (reference, link) in out.iter_mut().enumerate() {
            *link = self.link(anchor, reference);
        }
    }
}

fn equal<T: PartialEq>(a: &T, b: &T) -> Link {
    if a == b {
        Link::Positive
    } else {
        Link::Negative
    }
}

/// Equal labels are positive, different ones negative.
impl<T: PartialEq + Sync> Relation for &[T] {
    fn anchors(&self) -> usize {
        self.len()
    }
    fn link(&self, anchor: usize, reference: usize) -> Link {
        equal(&self[anchor], &self[reference])
    }
}

/// Equal labels are positive, different ones negative.
impl<T: PartialEq + Sync, const N: usize> Relation for &[T; N] {
    fn anchors(&self) -> usize {
        N
    }
    fn link(&self, anchor: usize, reference: usize) -> Link {
        equal(&self[anchor], &self[reference])
    }
}

/// Equal labels are positive, different ones negative.
impl<T: PartialEq + Sync> Relation for &Vec<T> {
    fn anchors(&self) -> usize {
        self.len()
    }
    fn link(&self, anchor: usize, reference: usize) -> Link {
        equal(&self[anchor], &self[reference])
    }
}

/// Labels of the anchors and of a separate reference set: equal is positive, different negative.
///
/// Nothing is known of items that stand in both sets, so an item there is compared with itself.
#[derive(Debug, Clone, Copy)]
pub struct LabelsBetween<'a, T> {
    /// One label for each anchor.
    pub anchors: &'a [T],
    /// One label for each reference.
    pub references: &'a [T],
}

impl<T: PartialEq + Sync> Relation for LabelsBetween<'_, T> {
    fn anchors(&self) -> usize {
        self.anchors.len()
    }
    fn references(&self) -> Option<usize> {
        Some(self.references.len())
    }
    fn link(&self, anchor: usize, reference: usize) -> Link {
        equal(&self.anchors[anchor], &self.references[reference])
    }
}

/// A condition on several labels at once.
#[derive(Debug, Clone, Default)]
pub struct Rule<'a> {
    /// Labels that must agree, each with one value for every item.
    pub same: Vec<&'a [u32]>,
    /// Labels that must differ.
    pub different: Vec<&'a [u32]>,
}

impl Rule<'_> {
    fn holds(&self, a: usize, b: usize) -> bool {
        self.same.iter().all(|l| l[a] == l[b]) && self.different.iter().all(|l| l[a] != l[b])
    }
}

/// Positive and negative pairs by conditions on any number of labels; pairs that meet neither are left out.
///
/// Identity-aware mining for expressions, for example: a positive shows the anchor's expression on another person, a negative
/// another expression on the anchor's own.
///
/// ```
/// use phiz_mining::{Link, PairRules, Relation, Rule};
/// # fn main() -> candle::Result<()> {
/// let expression = [0, 0, 1, 1];
/// let identity = [7, 8, 7, 8];
/// let rules = PairRules::new(
///     Rule { same: vec![&expression], different: vec![&identity] },
///     Rule { same: vec![&identity], different: vec![&expression] },
/// )?;
/// assert_eq!(rules.link(0, 1), Link::Positive);
/// assert_eq!(rules.link(0, 2), Link::Negative);
/// assert_eq!(rules.link(0, 3), Link::Neither);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct PairRules<'a> {
    positive: Rule<'a>,
    negative: Rule<'a>,
    items: usize,
}

impl<'a> PairRules<'a> {
    /// Relation of the two conditions. A pair that meets both is positive.
    ///
    /// # Errors
    /// When a condition names no label, or labels are of different length.
    pub fn new(positive: Rule<'a>, negative: Rule<'a>) -> Result<Self> {
        let mut items = None;
        for (name, rule) in [("positive", &positive), ("negative", &negative)] {
            if rule.same.is_empty() && rule.different.is_empty() {
                bail!("the rule of {name} pairs names no label: every pair would meet it");
            }
            for labels in rule.same.iter().chain(&rule.different) {
                let first = *items.get_or_insert(labels.len());
                if labels.len() != first {
                    bail!(
                        "the labels of a relation must be of one length, got {first} and {}",
                        labels.len()
                    );
                }
            }
        }
        Ok(Self {
            positive,
            negative,
            items: items.unwrap_or(0),
        })
    }
}

impl Relation for PairRules<'_> {
    fn anchors(&self) -> usize {
        self.items
    }
    fn link(&self, anchor: usize, reference: usize) -> Link {
        if self.positive.holds(anchor, reference) {
            Link::Positive
        } else if self.negative.holds(anchor, reference) {
            Link::Negative
        } else {
            Link::Neither
        }
    }
}

/// Items with any number of labels each, compared by the share of labels they have in common, the Jaccard index
/// `|A and B| / |A or B|` (0 when both are empty).
#[derive(Debug, Clone)]
pub struct LabelSets {
    sets: Vec<Vec<u32>>,
    positive: f64,
    negative: f64,
}

impl LabelSets {
    /// Pairs with an index of at least `positive` are positive, those of at most `negative` negative, the rest neither.
    /// `positive = 1, negative = 0` asks for equal sets and disjoint sets; any shared label is `positive = f64::MIN_POSITIVE`.
    ///
    /// Labels of an item may come in any order; repeated ones count once.
    ///
    /// # Errors
    /// Unless `0 <= negative < positive <= 1`.
    pub fn new(sets: &[Vec<u32>], positive: f64, negative: f64) -> Result<Self> {
        if !(0.0 <= negative && negative < positive && positive <= 1.0) {
            bail!("label sets need 0 <= negative < positive <= 1, got {negative} and {positive}");
        }
        let sorted = |set: &Vec<u32>| {
            let mut set = set.clone();
            set.sort_unstable();
            set.dedup();
            set
        };
        Ok(Self {
            sets: sets.iter().map(sorted).collect(),
            positive,
            negative,
        })
    }

    /// The Jaccard index of two items.
    fn overlap(&self, a: usize, b: usize) -> f64 {
        let (a, b) = (&self.sets[a], &self.sets[b]);
        let (mut i, mut j, mut both) = (0, 0, 0usize);
        while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
            both += usize::from(x == y);
            i += usize::from(x <= y);
            j += usize::from(y <= x);
        }
        match a.len() + b.len() - both {
            0 => 0.0,
            either => both as f64 / either as f64,
        }
    }
}

impl Relation for LabelSets {
    fn anchors(&self) -> usize {
        self.sets.len()
    }
    fn link(&self, anchor: usize, reference: usize) -> Link {
        match self.overlap(anchor, reference) {
            j if j >= self.positive => Link::Positive,
            j if j <= self.negative => Link::Negative,
            _ => Link::Neither,
        }
    }
}
