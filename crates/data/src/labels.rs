//! Typed labels: named columns, one value a sample.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::{Error, Result, Vectors};

/// One label of every sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// A class a sample: `names[codes[i]]` is the class of sample `i`.
    Categorical {
        /// Index into `names`, one a sample.
        codes: Vec<u32>,
        /// Name of every class, also of classes that no sample has (as in a [`Subset`](crate::Subset)).
        names: Vec<String>,
    },
    /// A number a sample; NaN where it is unknown.
    Continuous(Vec<f32>),
}

impl Column {
    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Categorical { codes, .. } => codes.len(),
            Self::Continuous(values) => values.len(),
        }
    }

    /// Whether there is no sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A categorical column from one class name a sample. Classes are numbered in natural order
    /// (`s2` before `s10`), so that the numbers depend on the set of names alone.
    #[must_use]
    pub fn from_names<S: AsRef<str>>(values: &[S]) -> Self {
        let distinct: BTreeSet<&str> = values.iter().map(AsRef::as_ref).collect();
        let mut names: Vec<&str> = distinct.into_iter().collect();
        names.sort_by(|a, b| natural_cmp(a, b));
        let index: BTreeMap<&str, u32> = names
            .iter()
            .zip(0u32..)
            .map(|(name, code)| (*name, code))
            .collect();
        Self::Categorical {
            codes: values.iter().map(|value| index[value.as_ref()]).collect(),
            names: names.into_iter().map(str::to_string).collect(),
        }
    }

    /// The same column for the samples at `indices`, which must be in range; class numbers and names stay.
    fn select(&self, indices: &[usize]) -> Self {
        match self {
            Self::Categorical { codes, names } => Self::Categorical {
                codes: indices.iter().map(|&i| codes[i]).collect(),
                names: names.clone(),
            },
            Self::Continuous(values) => {
                Self::Continuous(indices.iter().map(|&i| values[i]).collect())
            }
        }
    }
}

/// Label columns of a data set, by name. All columns are equally long.
///
/// Well-known names: `identity`, `expression`, `label`; everything else that is known of a sample is
/// `factor.<name>` (`factor.pose`).
///
/// Beside the columns of one value a sample there are [`Vectors`] of several, with names of their own: `landmarks`
/// (68, 2), `points3d` (68, 3) and `vertices` (V, 3) in pixels, `action_units` (0 to 5), `valence_arousal` (2).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Labels {
    columns: BTreeMap<String, Column>,
    vectors: BTreeMap<String, Vectors>,
    len: usize,
}

impl Labels {
    /// No columns yet, for `len` samples.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self {
            columns: BTreeMap::new(),
            vectors: BTreeMap::new(),
            len,
        }
    }

    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds or replaces a column.
    ///
    /// # Errors
    /// When the column is not [`len`](Self::len) long, or a code has no name.
    pub fn insert(&mut self, name: impl Into<String>, column: Column) -> Result<()> {
        let name = name.into();
        if column.len() != self.len {
            return Err(Error::config(format!(
                "label column {name:?} has {} values for {} samples",
                column.len(),
                self.len
            )));
        }
        if let Column::Categorical { codes, names } = &column
            && let Some(code) = codes.iter().find(|&&code| code as usize >= names.len())
        {
            return Err(Error::config(format!(
                "label column {name:?} has code {code}, but only {} class names",
                names.len()
            )));
        }
        self.columns.insert(name, column);
        Ok(())
    }

    /// Adds or replaces a column of several numbers a sample.
    ///
    /// # Errors
    /// When the column is not [`len`](Self::len) long.
    pub fn insert_vectors(&mut self, name: impl Into<String>, column: Vectors) -> Result<()> {
        let name = name.into();
        if column.len() != self.len {
            return Err(Error::config(format!(
                "label column {name:?} has {} rows for {} samples",
                column.len(),
                self.len
            )));
        }
        self.vectors.insert(name, column);
        Ok(())
    }

    /// All columns of several numbers a sample, by name.
    #[must_use]
    pub fn all_vectors(&self) -> &BTreeMap<String, Vectors> {
        &self.vectors
    }

    /// A column of several numbers a sample.
    ///
    /// # Errors
    /// When there is none of this name; the message names those there are.
    pub fn vectors(&self, name: &str) -> Result<&Vectors> {
        self.vectors.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.vectors.keys().map(String::as_str).collect();
            Error::missing(if known.is_empty() {
                format!("no label {name:?}: this data set has none of several numbers a sample")
            } else {
                format!("no label {name:?}: this data set has {}", known.join(", "))
            })
        })
    }

    /// All columns by name.
    #[must_use]
    pub fn columns(&self) -> &BTreeMap<String, Column> {
        &self.columns
    }

    /// One column, if there is one of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Column> {
        self.columns.get(name)
    }

    fn categorical(&self, name: &str) -> Result<(&[u32], &[String])> {
        match self.columns.get(name) {
            Some(Column::Categorical { codes, names }) => Ok((codes, names)),
            Some(Column::Continuous(_)) => Err(Error::config(format!(
                "label {name:?} is a number a sample, not a class"
            ))),
            None => Err(self.no_column(name)),
        }
    }

    fn no_column(&self, name: &str) -> Error {
        let known: Vec<&str> = self.columns.keys().map(String::as_str).collect();
        Error::missing(if known.is_empty() {
            format!("no label {name:?}: this data set has no labels")
        } else {
            format!("no label {name:?}: this data set has {}", known.join(", "))
        })
    }

    /// Class numbers of a categorical column, one a sample.
    ///
    /// # Errors
    /// When there is no such column (the message names those there are) or it is continuous.
    pub fn codes(&self, name: &str) -> Result<&[u32]> {
        Ok(self.categorical(name)?.0)
    }

    /// Class names of a categorical column, in the order of their numbers.
    ///
    /// # Errors
    /// When there is no such column or it is continuous.
    pub fn names(&self, name: &str) -> Result<&[String]> {
        Ok(self.categorical(name)?.1)
    }

    /// Values of a continuous column, one a sample.
    ///
    /// # Errors
    /// When there is no such column or it is categorical.
    pub fn values(&self, name: &str) -> Result<&[f32]> {
        match self.columns.get(name) {
            Some(Column::Continuous(values)) => Ok(values),
            Some(Column::Categorical { .. }) => Err(Error::config(format!(
                "label {name:?} is a class a sample, not a number"
            ))),
            None => Err(self.no_column(name)),
        }
    }

    /// Number of classes of a categorical column, whether or not a sample has them; 0 where there is
    /// no such column.
    #[must_use]
    pub fn classes(&self, name: &str) -> usize {
        self.categorical(name).map_or(0, |(_, names)| names.len())
    }

    /// Codes renumbered without gaps, and the names of the classes that do occur: what a
    /// classification head on a subset needs. The order of the classes stays.
    ///
    /// # Errors
    /// When there is no such column or it is continuous.
    pub fn compact(&self, name: &str) -> Result<(Vec<u32>, Vec<String>)> {
        let (codes, names) = self.categorical(name)?;
        let present: BTreeSet<u32> = codes.iter().copied().collect();
        let renumbered: BTreeMap<u32, u32> = present.iter().copied().zip(0..).collect();
        Ok((
            codes.iter().map(|code| renumbered[code]).collect(),
            present
                .iter()
                .map(|&code| names[code as usize].clone())
                .collect(),
        ))
    }

    /// The labels of the samples at `indices`, in that order; class numbers and names stay as they are.
    ///
    /// # Errors
    /// When an index is out of range.
    pub fn select(&self, indices: &[usize]) -> Result<Self> {
        check_indices(indices, self.len)?;
        let columns = self
            .columns
            .iter()
            .map(|(name, column)| (name.clone(), column.select(indices)))
            .collect();
        let vectors = self.vectors.iter();
        Ok(Self {
            columns,
            vectors: vectors
                .map(|(name, column)| (name.clone(), column.select(indices)))
                .collect(),
            len: indices.len(),
        })
    }
}

pub(crate) fn check_indices(indices: &[usize], len: usize) -> Result<()> {
    match indices.iter().find(|&&index| index >= len) {
        Some(index) => Err(Error::config(format!(
            "sample {index} asked for, but there are only {len}"
        ))),
        None => Ok(()),
    }
}

/// Compares names as people do: runs of digits by their value, so `s2` comes before `s10`. Total and
/// consistent with equality: names that differ only in leading zeros compare by their bytes.
#[must_use]
pub fn natural_cmp(a: &str, b: &str) -> Ordering {
    fn digits(s: &[u8]) -> usize {
        s.iter().take_while(|byte| byte.is_ascii_digit()).count()
    }
    fn significant(s: &[u8]) -> &[u8] {
        &s[s.iter().take_while(|&&byte| byte == b'0').count()..]
    }
    let (mut x, mut y) = (a.as_bytes(), b.as_bytes());
    loop {
        match (digits(x), digits(y)) {
            (m, n) if m > 0 && n > 0 => {
                let (p, q) = (significant(&x[..m]), significant(&y[..n]));
                let order = p.len().cmp(&q.len()).then_with(|| p.cmp(q));
                if order != Ordering::Equal {
                    return order;
                }
                (x, y) = (&x[m..], &y[n..]);
            }
            _ => match (x.split_first(), y.split_first()) {
                (Some((p, x_rest)), Some((q, y_rest))) if p == q => (x, y) = (x_rest, y_rest),
                (None, None) => return a.cmp(b),
                _ => return x.cmp(y),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_order_is_numeric_within_names() {
        let mut names = vec![
            "s10", "s2", "s1", "t", "s02", "s", "", "10", "9", "s2b10", "s2b9",
        ];
        names.sort_by(|a, b| natural_cmp(a, b));
        assert_eq!(
            names,
            [
                "", "9", "10", "s", "s1", "s02", "s2", "s2b9", "s2b10", "s10", "t"
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn natural_order_is_total(a in "[a0-2]{0,5}", b in "[a0-2]{0,5}", c in "[a0-2]{0,5}") {
            proptest::prop_assert_eq!(natural_cmp(&a, &b), natural_cmp(&b, &a).reverse());
            proptest::prop_assert_eq!(natural_cmp(&a, &b) == Ordering::Equal, a == b);
            if natural_cmp(&a, &b).is_le() && natural_cmp(&b, &c).is_le() {
                proptest::prop_assert!(natural_cmp(&a, &c).is_le());
            }
        }
    }

    #[test]
    fn columns_are_checked_selected_and_compacted() {
        let mut labels = Labels::new(3);
        let column = Column::from_names(&["s10", "s2", "s10"]);
        assert_eq!(
            column,
            Column::Categorical {
                codes: vec![1, 0, 1],
                names: vec!["s2".into(), "s10".into()]
            }
        );
        labels.insert("identity", column).unwrap();
        labels
            .insert("factor.pose", Column::Continuous(vec![0.0, 0.5, 1.0]))
            .unwrap();
        assert!(labels.insert("x", Column::Continuous(vec![0.0])).is_err());
        let nameless = Column::Categorical {
            codes: vec![0, 1, 2],
            names: vec!["a".into(), "b".into()],
        };
        assert!(labels.insert("x", nameless).is_err());
        assert_eq!(labels.classes("identity"), 2);
        assert_eq!(labels.classes("factor.pose"), 0);
        assert_eq!(
            labels.codes("expression").unwrap_err().to_string(),
            "no label \"expression\": this data set has factor.pose, identity"
        );
        let part = labels.select(&[2, 0]).unwrap();
        assert_eq!(part.codes("identity").unwrap(), [1, 1]);
        assert_eq!(part.values("factor.pose").unwrap(), [1.0, 0.0]);
        assert_eq!(
            part.compact("identity").unwrap(),
            (vec![0, 0], vec!["s10".to_string()])
        );
        assert!(labels.select(&[3]).is_err());
    }
}
