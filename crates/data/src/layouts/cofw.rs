//! COFW: faces behind things, with 29 landmarks, each marked as seen or hidden. Cargo feature `cofw`.
//!
//! Follows Burgos-Artizzu, Perona and Dollár, "Robust Face Landmark Estimation under Occlusion", ICCV 2013. A part is one MATLAB
//! file of version 7.3, which is HDF5, `COFW_train_color.mat` or `COFW_test_color.mat`:
//!
//! | variable | MATLAB's size | what |
//! |---|---|---|
//! | `IsTr`, `IsT` | cell, n x 1 | images, (height, width, 3) or (height, width) of bytes |
//! | `phisTr`, `phisT` | n x 87 | x of 29 landmarks, their y, and whether each is hidden |
//! | `bboxesTr`, `bboxesT` | n x 4 | left, top, width and height of the face |
//!
//! HDF5 names sizes the other way round. MATLAB counts pixels from one; here the centre of the first lies at (0, 0).

use std::path::Path;

use super::FaceCrops;
use crate::{Error, Result};

/// The two parts.
pub const PARTS: [&str; 2] = ["train", "test"];

/// Opens a part of COFW, `train` where none is named. Labels: `landmarks` (29, 2), `hidden` (29) with 1 for each landmark
/// that something stands before, and `factor.hidden`, their share.
///
/// # Errors
/// Names file and variable: one that is missing or of another size, a number that is not finite, a box that is empty, a cell that
/// holds no image.
#[cfg(feature = "cofw")]
pub fn open(root: &Path, part: Option<&str>) -> Result<FaceCrops> {
    read::open(root, part.unwrap_or(PARTS[0]))
}

/// Says what this build lacks.
///
/// # Errors
/// Always.
#[cfg(not(feature = "cofw"))]
pub fn open(root: &Path, _part: Option<&str>) -> Result<FaceCrops> {
    Err(Error::config("`cofw` is HDF5; expected a build with the cargo feature `cofw`").at(root))
}

#[cfg(feature = "cofw")]
mod read {
    use hdf5_pure::{Dataset as Variable, File, Object};
    use std::path::PathBuf;

    use super::{Error, FaceCrops, Path, Result};
    use crate::labels::check_indices;
    use crate::layouts::crops::Face;
    use crate::layouts::find;
    use crate::{Column, Dataset, ErrorKind, Image, Labels, Vectors};

    const POINTS: usize = 29;

    /// Most bytes of an image.
    const MAX: u64 = 1 << 28;

    /// The photographs of a part, each read when it is asked for.
    struct Cells {
        path: PathBuf,
        variable: String,
        images: Vec<Variable>,
        labels: Labels,
    }

    pub(super) fn open(root: &Path, part: &str) -> Result<FaceCrops> {
        let letters = if part == "test" { "T" } else { "Tr" };
        let path = find(root, &[&format!("COFW_{part}_color.mat")])?;
        let file =
            File::open_streaming(&path).map_err(|e| Error::format(e.to_string()).at(&path))?;
        let variable = |name: &str| {
            let found = file.dataset(name);
            found.map_err(|e| wrong(&path, name, e.to_string()))
        };
        let name = format!("Is{letters}");
        let cells = variable(&name)?.dereference();
        let mut images = Vec::new();
        for (cell, number) in cells
            .map_err(|e| wrong(&path, &name, e.to_string()))?
            .into_iter()
            .zip(1..)
        {
            match cell {
                Object::Dataset(image) => images.push(*image),
                _ => {
                    let name = format!("{name}, cell {number}");
                    return Err(wrong(&path, &name, "expected an image, found a group"));
                }
            }
        }
        if images.is_empty() {
            return Err(Error::new(ErrorKind::Empty("no image".into())).at(&path));
        }
        let count = images.len();
        // Columns of a variable with as many rows as there are images; HDF5 has columns first.
        let columns = |name: &str, expected: usize| -> Result<Vec<Vec<f32>>> {
            let failed = |e: hdf5_pure::Error| wrong(&path, name, e.to_string());
            let variable = variable(name)?;
            let shape = variable.shape().map_err(failed)?;
            if shape != [expected as u64, count as u64] {
                let found: Vec<String> = shape.iter().rev().map(u64::to_string).collect();
                let found = found.join(" x ");
                return Err(wrong(
                    &path,
                    name,
                    format!("expected {count} x {expected} numbers, found {found}"),
                ));
            }
            let values = variable.read_f64().map_err(failed)?;
            if values.len() != expected * count {
                let message = format!(
                    "expected {} numbers, found {}",
                    expected * count,
                    values.len()
                );
                return Err(wrong(&path, name, message));
            }
            if let Some(bad) = values.iter().position(|value| !value.is_finite()) {
                let name = format!("{name}, row {}", bad % count + 1);
                return Err(wrong(
                    &path,
                    &name,
                    format!("expected finite numbers, found {}", values[bad]),
                ));
            }
            Ok(values
                .chunks_exact(count)
                .map(|column| column.iter().map(|&value| value as f32).collect())
                .collect())
        };
        let marks = columns(&format!("phis{letters}"), 3 * POINTS)?;
        let boxes = columns(&format!("bboxes{letters}"), 4)?;
        let (mut faces, mut hidden, mut shares) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..count {
            let at = |column: usize| marks[column][index];
            let points = (0..POINTS).map(|i| vec![at(i) - 1.0, at(POINTS + i) - 1.0]);
            let [left, top, width, height] = [0, 1, 2, 3].map(|i| boxes[i][index]);
            faces.push(Face {
                bounds: [
                    left - 1.0,
                    top - 1.0,
                    left - 1.0 + width,
                    top - 1.0 + height,
                ],
                points: points.collect(),
            });
            let marked = (0..POINTS).map(|i| f32::from(at(2 * POINTS + i) != 0.0));
            shares.push(marked.clone().sum::<f32>() / POINTS as f32);
            hidden.extend(marked);
        }
        let mut labels = Labels::new(count);
        labels.insert_vectors("hidden", Vectors::new(vec![POINTS], hidden)?)?;
        labels.insert("factor.hidden", Column::Continuous(shares))?;
        let photographs = Cells {
            path: path.clone(),
            variable: name,
            images,
            labels,
        };
        FaceCrops::new(photographs, &faces).map_err(|e| e.at(&path))
    }

    fn wrong(path: &Path, record: &str, message: impl Into<String>) -> Error {
        Error::format(message).at(path).record(record)
    }

    impl Dataset for Cells {
        fn name(&self) -> &'static str {
            "cofw"
        }
        fn len(&self) -> usize {
            self.images.len()
        }
        fn labels(&self) -> &Labels {
            &self.labels
        }
        fn sample_id(&self, index: usize) -> String {
            if index < self.images.len() {
                format!("{}, cell {}", self.variable, index + 1)
            } else {
                String::new()
            }
        }
        fn image(&self, index: usize) -> Result<Image> {
            check_indices(&[index], self.images.len())?;
            let (cell, name) = (&self.images[index], self.sample_id(index));
            let failed = |e: hdf5_pure::Error| wrong(&self.path, &name, e.to_string());
            let shape = cell.shape().map_err(failed)?;
            let (planes, width, height) = match shape[..] {
                [width, height] => (1, width, height),
                [3, width, height] => (3, width, height),
                _ => (0, 0, 0),
            };
            let pixels = width.checked_mul(height).unwrap_or(0);
            if pixels == 0 || pixels > MAX / 3 {
                return Err(wrong(
                    &self.path,
                    &name,
                    format!(
                        "expected an image of one or three planes, found an array of {shape:?}"
                    ),
                ));
            }
            let bytes = cell.read_u8().map_err(failed)?;
            let (width, height) = (width as usize, height as usize);
            if bytes.len() != planes * width * height {
                let message = format!(
                    "expected {} bytes, found {}",
                    planes * width * height,
                    bytes.len()
                );
                return Err(wrong(&self.path, &name, message));
            }
            // Columns stand together; grey becomes three equal channels.
            let mut turned = Vec::with_capacity(3 * width * height);
            for y in 0..height {
                for x in 0..width {
                    for channel in 0..3 {
                        let plane = channel % planes;
                        turned.push(bytes[(plane * width + x) * height + y]);
                    }
                }
            }
            Ok(Image {
                width,
                height,
                channels: 3,
                pixels: turned,
            })
        }
    }
}
