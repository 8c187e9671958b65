//! Mirror images as further identities: twice the people from the same photographs.

use std::sync::Arc;

use crate::{Column, Dataset, Image, Labels, Result};

/// A data set followed by its mirror images, each mirrored person an identity of its own.
///
/// Faces are not symmetric, so a mirrored person is somebody else to a network that has to tell
/// people apart. Where identities are few this doubles them; it takes the place of random mirroring,
/// which would make the two the same again.
///
/// Sample `n + i` is the mirror image of sample `i`, its id ends in `~mirrored`, and so does the name
/// of its identity. Other labels of one value are the same for both; those of several (landmarks) are left out, for
/// they would have to be mirrored each in its own way.
pub struct Mirrored {
    whole: Arc<dyn Dataset>,
    labels: Labels,
}

impl Mirrored {
    /// Doubles `whole`; `identity` is the label that is doubled too.
    ///
    /// # Errors
    /// When `whole` has no categorical label of that name.
    pub fn new(whole: Arc<dyn Dataset>, identity: &str) -> Result<Self> {
        whole.labels().codes(identity)?;
        let mut labels = Labels::new(2 * whole.len());
        for (name, column) in whole.labels().columns() {
            let doubled = match column {
                Column::Categorical { codes, names } if name == identity => {
                    let offset = names.len() as u32;
                    let mirrored = codes.iter().map(|code| code + offset);
                    Column::Categorical {
                        codes: codes.iter().copied().chain(mirrored).collect(),
                        names: names
                            .iter()
                            .cloned()
                            .chain(names.iter().map(|name| format!("{name}~mirrored")))
                            .collect(),
                    }
                }
                Column::Categorical { codes, names } => Column::Categorical {
                    codes: codes.repeat(2),
                    names: names.clone(),
                },
                Column::Continuous(values) => Column::Continuous(values.repeat(2)),
            };
            labels.insert(name.clone(), doubled)?;
        }
        Ok(Self { whole, labels })
    }
}

impl Dataset for Mirrored {
    fn name(&self) -> &str {
        self.whole.name()
    }

    fn len(&self) -> usize {
        2 * self.whole.len()
    }

    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn sample_id(&self, index: usize) -> String {
        match index.checked_sub(self.whole.len()) {
            Some(index) => format!("{}~mirrored", self.whole.sample_id(index)),
            None => self.whole.sample_id(index),
        }
    }

    fn image(&self, index: usize) -> Result<Image> {
        let Some(index) = index.checked_sub(self.whole.len()) else {
            return self.whole.image(index);
        };
        let mut image = self.whole.image(index)?;
        let row = (image.width * image.channels).max(1);
        for row in image.pixels.chunks_exact_mut(row) {
            row.reverse();
            // Reversing the bytes of a row reversed the channels of each pixel too.
            for pixel in row.chunks_exact_mut(image.channels.max(1)) {
                pixel.reverse();
            }
        }
        Ok(image)
    }

    fn rendered(&self) -> bool {
        self.whole.rendered()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InMemory;

    #[test]
    fn mirrored_people_are_new_people() {
        let image = Image {
            width: 2,
            height: 1,
            channels: 3,
            pixels: vec![1, 2, 3, 4, 5, 6],
        };
        let columns = vec![
            ("identity", Column::from_names(&["a"])),
            ("expression", Column::from_names(&["neutral"])),
        ];
        let one = InMemory::from_images("one", vec![image], columns).unwrap();
        let two = Mirrored::new(Arc::new(one), "identity").unwrap();
        assert_eq!(two.len(), 2);
        assert_eq!(two.image(0).unwrap().pixels, [1, 2, 3, 4, 5, 6]);
        assert_eq!(two.image(1).unwrap().pixels, [4, 5, 6, 1, 2, 3]);
        assert_eq!(two.labels().codes("identity").unwrap(), [0, 1]);
        assert_eq!(two.labels().names("identity").unwrap(), ["a", "a~mirrored"]);
        assert_eq!(two.labels().codes("expression").unwrap(), [0, 0]);
        assert_eq!(two.sample_id(1), "0~mirrored");
        assert!(two.image(2).is_err());
        assert!(Mirrored::new(Arc::new(two), "age").is_err());
    }
}
