//! Labels of several numbers a sample: landmarks, points in space, intensities of action units.

use std::fmt;
use std::sync::Arc;

use rayon::prelude::*;

use crate::labels::check_indices;
use crate::{Error, Result};

type Rule = dyn Fn(usize) -> Result<Vec<f32>> + Send + Sync;

/// Several numbers of one shape for every sample; NaN where one is unknown.
///
/// The numbers are held, or made by a rule when they are asked for: the vertices of a million rendered faces take no
/// memory before somebody wants them. A copy shares both.
///
/// ```
/// use phiz_data::Vectors;
/// # fn main() -> phiz_data::Result<()> {
/// let corners = Vectors::new(vec![2, 2], vec![0., 0., 4., 3., 1., 1., 5., 4.])?;
/// assert_eq!((corners.len(), corners.width()), (2, 4));
/// assert_eq!(corners.row(1)?, [1., 1., 5., 4.]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Vectors {
    shape: Vec<usize>,
    names: Vec<String>,
    len: usize,
    source: Source,
    /// Where the samples stand in the source, where that is another order.
    places: Option<Arc<[usize]>>,
}

#[derive(Clone)]
enum Source {
    Held(Arc<[f32]>),
    Made(Arc<Rule>),
}

impl Vectors {
    /// Held numbers, sample by sample, each of `shape` (`[68, 2]` for 68 points).
    ///
    /// # Errors
    /// When the numbers are no whole samples, or a sample would be empty.
    pub fn new(shape: Vec<usize>, values: Vec<f32>) -> Result<Self> {
        let width: usize = shape.iter().product();
        if width == 0 || !values.len().is_multiple_of(width) {
            return Err(Error::config(format!(
                "{} numbers are no whole samples of shape {shape:?}",
                values.len()
            )));
        }
        Ok(Self {
            len: values.len() / width,
            shape,
            names: Vec::new(),
            source: Source::Held(values.into()),
            places: None,
        })
    }

    /// Numbers of `len` samples, made by `rule` from the number of a sample. It must always make the same ones.
    #[must_use]
    pub fn made(
        shape: Vec<usize>,
        len: usize,
        rule: impl Fn(usize) -> Result<Vec<f32>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            shape,
            names: Vec::new(),
            len,
            source: Source::Made(Arc::new(rule)),
            places: None,
        }
    }

    /// Names the rows of a sample: `AU1`, `AU2`, ... for `[12]`.
    ///
    /// # Errors
    /// When there is not one name for each.
    pub fn with_names(mut self, names: Vec<String>) -> Result<Self> {
        if self.shape.first() != Some(&names.len()) {
            return Err(Error::config(format!(
                "{} names for samples of shape {:?}",
                names.len(),
                self.shape
            )));
        }
        self.names = names;
        Ok(self)
    }

    /// Shape of one sample.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Names of the rows of a sample; empty where they have none.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Numbers of one sample.
    #[must_use]
    pub fn width(&self) -> usize {
        self.shape.iter().product()
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

    /// The numbers of sample `index`.
    ///
    /// # Errors
    /// When the index is out of range, or the numbers cannot be made.
    pub fn row(&self, index: usize) -> Result<Vec<f32>> {
        check_indices(&[index], self.len)?;
        let at = match &self.places {
            Some(places) => places[index],
            None => index,
        };
        let width = self.width();
        let row = match &self.source {
            Source::Held(values) => values[at * width..(at + 1) * width].to_vec(),
            Source::Made(rule) => rule(at)?,
        };
        if row.len() != width {
            return Err(Error::config(format!(
                "{} numbers were made for a sample of shape {:?}",
                row.len(),
                self.shape
            )));
        }
        Ok(row)
    }

    /// The numbers of the samples at `indices`, one after the other; made on all cores.
    ///
    /// # Errors
    /// As [`row`](Self::row), for the first that cannot be had.
    pub fn rows(&self, indices: &[usize]) -> Result<Vec<f32>> {
        let rows: Vec<Result<Vec<f32>>> = indices.par_iter().map(|&i| self.row(i)).collect();
        Ok(rows.into_iter().collect::<Result<Vec<_>>>()?.concat())
    }

    /// The samples at `indices`, which must be in range.
    pub(crate) fn select(&self, indices: &[usize]) -> Self {
        let places = match &self.places {
            Some(places) => indices.iter().map(|&i| places[i]).collect(),
            None => indices.into(),
        };
        Self {
            len: indices.len(),
            places: Some(places),
            ..self.clone()
        }
    }
}

impl fmt::Debug for Vectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = matches!(self.source, Source::Held(_));
        f.debug_struct("Vectors")
            .field("shape", &self.shape)
            .field("len", &self.len)
            .field("held", &held)
            .finish_non_exhaustive()
    }
}

/// Equal are held numbers by their bits, made ones by being made by the same rule, for the same samples.
impl PartialEq for Vectors {
    fn eq(&self, other: &Self) -> bool {
        let alike = self.shape == other.shape && self.names == other.names && self.len == other.len;
        alike
            && match (&self.source, &other.source) {
                (Source::Held(_), Source::Held(_)) => (0..self.len).all(|i| {
                    matches!((self.row(i), other.row(i)), (Ok(a), Ok(b))
                        if a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits())))
                }),
                (Source::Made(a), Source::Made(b)) => {
                    Arc::ptr_eq(a, b) && self.places == other.places
                }
                _ => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_and_made_are_selected_alike() {
        let held = Vectors::new(vec![2], vec![0., 0.5, 1., 1.5, 2., 2.5]).unwrap();
        let made = Vectors::made(vec![2], 3, |i| Ok(vec![i as f32, i as f32 + 0.5]));
        for column in [held, made] {
            assert_eq!(column.rows(&[2, 0]).unwrap(), [2., 2.5, 0., 0.5]);
            let part = column.select(&[2, 1, 2]).select(&[1, 0]);
            assert_eq!(part.len(), 2);
            assert_eq!(part.rows(&[0, 1]).unwrap(), [1., 1.5, 2., 2.5]);
            assert!(part.row(2).is_err());
            assert_eq!(part, part.clone());
            assert_ne!(part, column);
        }
    }

    #[test]
    fn broken_columns_are_refused() {
        assert!(Vectors::new(vec![2], vec![0.; 3]).is_err());
        assert!(Vectors::new(vec![0], vec![]).is_err());
        let wrong = Vectors::made(vec![2], 1, |_| Ok(vec![1.]));
        let line = wrong.row(0).unwrap_err().to_string();
        assert!(line.contains("1 numbers were made"), "{line}");
        assert!(wrong.with_names(vec!["a".into()]).is_err());
    }
}
