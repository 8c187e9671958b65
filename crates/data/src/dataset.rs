//! The [`Dataset`] trait, and the two that are made from another: [`Subset`] and [`InMemory`].

use std::sync::Arc;

use rayon::prelude::*;

use crate::labels::check_indices;
use crate::{Column, Image, Labels, Result};

/// Indexed images with labels.
///
/// `image(i)` must be a function of `i` alone: every call gives the same bytes, on any thread.
pub trait Dataset: Send + Sync {
    /// What to call it in a report, as in `orl`.
    fn name(&self) -> &str;

    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Labels of all samples; known without decoding an image.
    fn labels(&self) -> &Labels;

    /// A name that finds sample `index` again, as in `s1/1.pgm`. Empty when out of range.
    fn sample_id(&self, index: usize) -> String;

    /// Decodes sample `index`.
    ///
    /// # Errors
    /// When the index is out of range, or the image cannot be read: the error names file and record.
    fn image(&self, index: usize) -> Result<Image>;

    /// Whether the images are rendered: figures taken on them must say so.
    fn rendered(&self) -> bool {
        false
    }
}

impl<D: Dataset + ?Sized> Dataset for Arc<D> {
    fn name(&self) -> &str {
        (**self).name()
    }
    fn len(&self) -> usize {
        (**self).len()
    }
    fn labels(&self) -> &Labels {
        (**self).labels()
    }
    fn sample_id(&self, index: usize) -> String {
        (**self).sample_id(index)
    }
    fn image(&self, index: usize) -> Result<Image> {
        (**self).image(index)
    }
    fn rendered(&self) -> bool {
        (**self).rendered()
    }
}

/// Some samples of a data set, in a chosen order. Class numbers and names are those of the whole.
#[derive(Clone)]
pub struct Subset {
    whole: Arc<dyn Dataset>,
    indices: Vec<usize>,
    labels: Labels,
}

impl Subset {
    /// The samples of `whole` at `indices`; an index may come more than once.
    ///
    /// # Errors
    /// When an index is out of range.
    pub fn new(whole: Arc<dyn Dataset>, indices: Vec<usize>) -> Result<Self> {
        let labels = whole.labels().select(&indices)?;
        Ok(Self {
            whole,
            indices,
            labels,
        })
    }

    /// The samples whose class in `column` is kept by `keep(code, name)`, in their own order.
    ///
    /// # Errors
    /// When there is no such categorical column.
    pub fn filter(
        whole: Arc<dyn Dataset>,
        column: &str,
        mut keep: impl FnMut(u32, &str) -> bool,
    ) -> Result<Self> {
        let labels = whole.labels();
        let (codes, names) = (labels.codes(column)?, labels.names(column)?);
        let kept: Vec<bool> = names
            .iter()
            .zip(0..)
            .map(|(name, code)| keep(code, name))
            .collect();
        let indices = (0..codes.len())
            .filter(|&i| kept[codes[i] as usize])
            .collect();
        Self::new(whole, indices)
    }

    /// Where each sample of the subset stands in the whole.
    #[must_use]
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }
}

impl Dataset for Subset {
    fn name(&self) -> &str {
        self.whole.name()
    }
    fn len(&self) -> usize {
        self.indices.len()
    }
    fn labels(&self) -> &Labels {
        &self.labels
    }
    fn sample_id(&self, index: usize) -> String {
        self.indices
            .get(index)
            .map_or_else(String::new, |&i| self.whole.sample_id(i))
    }
    fn image(&self, index: usize) -> Result<Image> {
        check_indices(&[index], self.indices.len())?;
        self.whole.image(self.indices[index])
    }
    fn rendered(&self) -> bool {
        self.whole.rendered()
    }
}

/// A data set whose images are all decoded once and kept.
pub struct InMemory {
    name: String,
    labels: Labels,
    ids: Vec<String>,
    images: Vec<Image>,
    rendered: bool,
}

impl InMemory {
    /// Decodes every image of `dataset` on all cores.
    ///
    /// # Errors
    /// The error of the first image, by index, that cannot be read.
    pub fn new(dataset: &dyn Dataset) -> Result<Self> {
        // Collected before the first error is looked for, so that it is always the same one.
        let images: Vec<Result<Image>> = (0..dataset.len())
            .into_par_iter()
            .map(|i| dataset.image(i))
            .collect();
        Ok(Self {
            name: dataset.name().to_string(),
            labels: dataset.labels().clone(),
            ids: (0..dataset.len()).map(|i| dataset.sample_id(i)).collect(),
            images: images.into_iter().collect::<Result<_>>()?,
            rendered: dataset.rendered(),
        })
    }

    /// Made from images and columns; sample `i` is called by its number.
    ///
    /// # Errors
    /// When a column is not as long as `images`.
    pub fn from_images(
        name: &str,
        images: Vec<Image>,
        columns: Vec<(&str, Column)>,
    ) -> Result<Self> {
        let mut labels = Labels::new(images.len());
        for (column_name, column) in columns {
            labels.insert(column_name, column)?;
        }
        Ok(Self {
            name: name.to_string(),
            labels,
            ids: (0..images.len()).map(|i| i.to_string()).collect(),
            images,
            rendered: false,
        })
    }

    /// Borrowed image, without the copy that [`Dataset::image`] makes.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Image> {
        self.images.get(index)
    }
}

impl Dataset for InMemory {
    fn name(&self) -> &str {
        &self.name
    }
    fn len(&self) -> usize {
        self.images.len()
    }
    fn labels(&self) -> &Labels {
        &self.labels
    }
    fn sample_id(&self, index: usize) -> String {
        self.ids.get(index).cloned().unwrap_or_default()
    }
    fn image(&self, index: usize) -> Result<Image> {
        check_indices(&[index], self.images.len())?;
        Ok(self.images[index].clone())
    }
    fn rendered(&self) -> bool {
        self.rendered
    }
}

/// Decodes every image once and keeps none: the way to find what is broken before a long run.
///
/// # Errors
/// The error of the first image, by index, that cannot be read.
pub fn check(dataset: &dyn Dataset) -> Result<()> {
    let errors: Vec<Option<crate::Error>> = (0..dataset.len())
        .into_par_iter()
        .map(|i| dataset.image(i).err())
        .collect();
    errors.into_iter().flatten().next().map_or(Ok(()), Err)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Error;

    /// A tiny data set: sample i is a 3 x 2 grey image of value i, class i % 3.
    pub(crate) fn ramp(n: usize) -> InMemory {
        let images = (0..n)
            .map(|i| Image {
                width: 3,
                height: 2,
                channels: 1,
                pixels: vec![i as u8; 6],
            })
            .collect();
        let names: Vec<String> = (0..n).map(|i| format!("c{}", i % 3)).collect();
        InMemory::from_images(
            "ramp",
            images,
            vec![("identity", Column::from_names(&names))],
        )
        .unwrap()
    }

    /// `ramp`, but samples of the given numbers cannot be read.
    pub(crate) struct Broken(pub InMemory, pub Vec<usize>);

    impl Dataset for Broken {
        fn name(&self) -> &str {
            "broken"
        }
        fn len(&self) -> usize {
            self.0.len()
        }
        fn labels(&self) -> &Labels {
            self.0.labels()
        }
        fn sample_id(&self, index: usize) -> String {
            self.0.sample_id(index)
        }
        fn image(&self, index: usize) -> Result<Image> {
            if self.1.contains(&index) {
                return Err(Error::format("broken").record(format!("sample {index}")));
            }
            self.0.image(index)
        }
    }

    #[test]
    fn subset_keeps_codes_and_finds_samples_again() {
        let whole: Arc<dyn Dataset> = Arc::new(ramp(7));
        let subset = Subset::new(whole.clone(), vec![5, 1, 5]).unwrap();
        assert_eq!(subset.labels().codes("identity").unwrap(), [2, 1, 2]);
        assert_eq!(subset.labels().classes("identity"), 3);
        assert_eq!(subset.image(0).unwrap().pixels, [5; 6]);
        assert_eq!(subset.sample_id(1), "1");
        assert!(subset.image(3).is_err());
        assert!(Subset::new(whole.clone(), vec![7]).is_err());
        let one = Subset::filter(whole, "identity", |_, name| name == "c2").unwrap();
        assert_eq!(one.indices(), [2, 5]);
    }

    #[test]
    fn in_memory_reports_the_first_broken_image() {
        let broken = Broken(ramp(200), vec![150, 31, 199]);
        let error = InMemory::new(&broken).err().unwrap();
        assert_eq!(error.to_string(), "sample 31: broken");
        assert_eq!(check(&broken).unwrap_err().to_string(), "sample 31: broken");
        let whole = ramp(20);
        let copy = InMemory::new(&whole).unwrap();
        assert_eq!(
            copy.image(9).unwrap().pixels,
            whole.image(9).unwrap().pixels
        );
        check(&copy).unwrap();
    }
}
