//! MNIST and Fashion-MNIST: idx images and labels, not faces but real data that is quickly there.

use std::path::{Path, PathBuf};

use crate::idx::read_idx;
use crate::labels::check_indices;
use crate::{Column, Dataset, Error, Image, Labels, Result};

/// Which half of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Half {
    /// The training images (60,000).
    #[default]
    Train,
    /// The test images (10,000).
    Test,
}

impl Half {
    /// As written in a specification: `train` or `test`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }

    fn stem(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "t10k",
        }
    }
}

/// Class names of Fashion-MNIST, in the order of its label numbers.
pub const FASHION_CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// Grey images and one label each, from a pair of idx files.
pub struct Mnist {
    name: String,
    half: Half,
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    labels: Labels,
}

impl Mnist {
    /// Opens `{train,t10k}-{images-idx3,labels-idx1}-ubyte`, each with or without `.gz`, in `folder`.
    /// `classes` names the label numbers; where it is empty, their digits do. Label column: `label`.
    ///
    /// # Errors
    /// Names the file: missing, not idx, images and labels of different number, a label without a class.
    pub fn open(name: &str, folder: &Path, half: Half, classes: &[&str]) -> Result<Self> {
        let images_path = find(folder, &format!("{}-images-idx3-ubyte", half.stem()))?;
        let labels_path = find(folder, &format!("{}-labels-idx1-ubyte", half.stem()))?;
        let images = read_idx(&images_path)?;
        let &[n, height, width] = &images.dims[..] else {
            let message = format!(
                "expected images x rows x columns, found sizes {:?}",
                images.dims
            );
            return Err(Error::format(message).at(&images_path));
        };
        let numbers = read_idx(&labels_path)?;
        if numbers.dims != [n] {
            let message = format!(
                "expected {n} labels, one an image, found sizes {:?}",
                numbers.dims
            );
            return Err(Error::format(message).at(&labels_path));
        }
        let codes: Vec<u32> = numbers.data.iter().map(|&label| u32::from(label)).collect();
        let names: Vec<String> = if classes.is_empty() {
            let most = codes.iter().max().map_or(0, |&label| label + 1).max(10);
            (0..most).map(|label| label.to_string()).collect()
        } else {
            classes.iter().map(ToString::to_string).collect()
        };
        if let Some(at) = codes
            .iter()
            .position(|&label| label as usize >= names.len())
        {
            let message = format!(
                "label {} where 0 to {} are known",
                codes[at],
                names.len() - 1
            );
            return Err(Error::format(message)
                .record(format!("record {at}"))
                .at(&labels_path));
        }
        let mut labels = Labels::new(n);
        labels.insert("label", Column::Categorical { codes, names })?;
        Ok(Self {
            name: format!("{name}:{}", half.name()),
            half,
            width,
            height,
            pixels: images.data,
            labels,
        })
    }
}

fn find(folder: &Path, file: &str) -> Result<PathBuf> {
    let candidates = [folder.join(file), folder.join(format!("{file}.gz"))];
    candidates
        .iter()
        .find(|path| path.is_file())
        .cloned()
        .ok_or_else(|| {
            Error::missing(format!("expected {file} or {file}.gz in this folder")).at(folder)
        })
}

impl Dataset for Mnist {
    fn name(&self) -> &str {
        &self.name
    }
    fn len(&self) -> usize {
        self.labels.len()
    }
    fn labels(&self) -> &Labels {
        &self.labels
    }
    fn sample_id(&self, index: usize) -> String {
        if index < self.len() {
            format!("{}/{index}", self.half.name())
        } else {
            String::new()
        }
    }
    fn image(&self, index: usize) -> Result<Image> {
        check_indices(&[index], self.len())?;
        let size = self.width * self.height;
        let pixels = self.pixels[index * size..(index + 1) * size].to_vec();
        Ok(Image {
            width: self.width,
            height: self.height,
            channels: 1,
            pixels,
        })
    }
}
