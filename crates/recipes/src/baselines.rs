//! Two face embeddings without a network, to stand beside the trained ones in a table.
//!
//! * [`centred_pixels`]: the pixels, each image's own mean removed. Under cosine similarity the
//!   score of two images is then the correlation of their grey values.
//! * [`Fisherfaces`]: principal components, then Fisher's linear discriminant, fitted on labelled
//!   images of other people than those it is judged on.
//!
//! Both take images as rows of equal length, in any scale.

use std::collections::BTreeMap;
use std::fmt;

use nalgebra::{DMatrix, DVector, SymmetricEigen};

/// Eigenvalues below this part of the largest are taken for 0.
const RANK_TOLERANCE: f64 = 1e-10;

/// Why a baseline could not be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BaselineError {
    /// A row has another length than the rows the baseline is for.
    Length {
        /// Index of the row.
        row: usize,
        /// Length of the others.
        expected: usize,
        /// Length of this one.
        found: usize,
    },
    /// A row holds a value that is not a finite number.
    NotFinite {
        /// Index of the row.
        row: usize,
    },
    /// There are not as many labels as rows.
    Labels {
        /// Number of rows.
        rows: usize,
        /// Number of labels.
        labels: usize,
    },
    /// Two classes are needed, and more images than classes.
    TooFew {
        /// Number of rows.
        rows: usize,
        /// Number of different labels.
        classes: usize,
    },
    /// All rows are equal.
    NoVariation,
}

impl fmt::Display for BaselineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length {
                row,
                expected,
                found,
            } => {
                write!(f, "image {row} has {found} values, expected {expected}")
            }
            Self::NotFinite { row } => {
                write!(f, "image {row} holds a value that is not a finite number")
            }
            Self::Labels { rows, labels } => write!(f, "{rows} images but {labels} labels"),
            Self::TooFew { rows, classes } => {
                write!(
                    f,
                    "{rows} images of {classes} classes; expected at least 2 classes and more images than classes"
                )
            }
            Self::NoVariation => write!(f, "all images are equal"),
        }
    }
}

impl std::error::Error for BaselineError {}

/// The pixels of every image less their mean over that image.
///
/// # Shapes
/// `images`: N rows of D values; result: N rows of D. An empty row stays empty.
pub fn centred_pixels(images: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let centre = |image: &Vec<f32>| {
        let mean = image.iter().copied().map(f64::from).sum::<f64>() / image.len().max(1) as f64;
        image
            .iter()
            .map(|&p| (f64::from(p) - mean) as f32)
            .collect()
    };
    images.iter().map(centre).collect()
}

/// A linear map from pixels to at most (classes - 1) discriminant values.
///
/// 1. Remove the mean image of the N training images and project onto their first N - C principal
///    components (C classes), so that the scatter within the classes has full rank. The
///    components come from the N x N matrix of inner products, which is small where
///    images are few and large.
/// 2. With the scatters `S_w = sum_c sum_(i in c) (x_i - m_c)(x_i - m_c)'` and
///    `S_b = sum_c n_c (m_c - m)(m_c - m)'`, take the C - 1 directions `v` with the largest
///    `v' S_b v / v' S_w v`.
/// 3. Scale every direction to unit length. This keeps a direction in which the classes hardly
///    differ from the noise from weighing as much as a good one, which happens under the scaling
///    `v' S_w v = 1` because in N - C dimensions the training images leave some directions with
///    almost no scatter. On the ORL faces (fitted on 20 people, judged on the 20 others) it
///    is the difference between an AUC of 0.945 and one of 0.866.
///
/// All in f64. Source: Belhumeur, Hespanha and Kriegman, "Eigenfaces vs. Fisherfaces" (PAMI 1997).
#[derive(Debug, Clone)]
pub struct Fisherfaces {
    mean: DVector<f64>,
    /// (D, directions).
    directions: DMatrix<f64>,
}

impl Fisherfaces {
    /// Fits the map.
    ///
    /// # Shapes
    /// `rows`: N images of D values; `labels`: N.
    ///
    /// # Errors
    /// When the rows differ in length or are not finite, the labels are not N, there are fewer than two
    /// classes or no more images than classes, or all images are equal.
    pub fn fit(rows: &[Vec<f32>], labels: &[u32]) -> Result<Self, BaselineError> {
        if rows.len() != labels.len() {
            return Err(BaselineError::Labels {
                rows: rows.len(),
                labels: labels.len(),
            });
        }
        let mut classes = BTreeMap::<u32, Vec<usize>>::new();
        for (i, &label) in labels.iter().enumerate() {
            classes.entry(label).or_default().push(i);
        }
        if classes.len() < 2 || rows.len() <= classes.len() {
            return Err(BaselineError::TooFew {
                rows: rows.len(),
                classes: classes.len(),
            });
        }
        let dim = rows.first().map_or(0, Vec::len);
        let mut x = matrix(rows, dim)?;
        let mean = x.column_mean();
        for mut column in x.column_iter_mut() {
            column -= &mean;
        }

        // Principal components: x = U diag(s) V' has the Gram matrix V diag(s^2) V'.
        let (values, vectors) = descending(x.tr_mul(&x));
        let floor = values.first().map_or(0., |v| v * RANK_TOLERANCE);
        let rank = values
            .iter()
            .take_while(|v| **v > floor && **v > 0.)
            .count();
        let kept = rank.min(rows.len() - classes.len());
        if kept == 0 {
            return Err(BaselineError::NoVariation);
        }
        let roots = DVector::from_iterator(kept, values.iter().take(kept).map(|v| v.sqrt()));
        let basis = vectors.columns(0, kept).into_owned();
        // Training images in these components, one a row.
        let scores = scale_columns(&basis, roots.iter().copied());

        let (within, between) = scatters(&scores, &classes);
        let found = discriminants(within, &between, classes.len() - 1);
        // Back to pixels: component k is x times column k of the basis, divided by its root.
        let directions = x * scale_columns(&basis, roots.iter().map(|r| 1. / r)) * found;
        Ok(Self { mean, directions })
    }

    /// Number of values of a projected image: classes - 1, or fewer where the data has lower rank.
    pub fn dim(&self) -> usize {
        self.directions.ncols()
    }

    /// Projects images.
    ///
    /// # Shapes
    /// `rows`: N images of D values; result: N rows of [`Fisherfaces::dim`] values.
    ///
    /// # Errors
    /// When a row has another length than the images of the fit, or is not finite.
    pub fn project(&self, rows: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, BaselineError> {
        let mut x = matrix(rows, self.mean.len())?;
        for mut column in x.column_iter_mut() {
            column -= &self.mean;
        }
        let projected = self.directions.tr_mul(&x);
        Ok(projected
            .column_iter()
            .map(|c| c.iter().map(|&v| v as f32).collect())
            .collect())
    }
}

/// Images as the columns of a (D, N) matrix.
fn matrix(rows: &[Vec<f32>], dim: usize) -> Result<DMatrix<f64>, BaselineError> {
    for (row, values) in rows.iter().enumerate() {
        if values.len() != dim {
            return Err(BaselineError::Length {
                row,
                expected: dim,
                found: values.len(),
            });
        }
        if values.iter().any(|v| !v.is_finite()) {
            return Err(BaselineError::NotFinite { row });
        }
    }
    Ok(DMatrix::from_iterator(
        dim,
        rows.len(),
        rows.iter().flatten().map(|&v| f64::from(v)),
    ))
}

/// Eigenvalues of a symmetric matrix, largest first, and their unit vectors as columns.
fn descending(symmetric: DMatrix<f64>) -> (Vec<f64>, DMatrix<f64>) {
    let SymmetricEigen {
        eigenvalues,
        eigenvectors,
    } = SymmetricEigen::new(symmetric);
    let mut order = (0..eigenvalues.len()).collect::<Vec<_>>();
    order.sort_by(|&a, &b| eigenvalues[b].total_cmp(&eigenvalues[a]).then(a.cmp(&b)));
    (
        order.iter().map(|&i| eigenvalues[i]).collect(),
        eigenvectors.select_columns(&order),
    )
}

fn scale_columns(m: &DMatrix<f64>, factors: impl Iterator<Item = f64>) -> DMatrix<f64> {
    let mut scaled = m.clone();
    for (mut column, factor) in scaled.column_iter_mut().zip(factors) {
        column *= factor;
    }
    scaled
}

/// Scatter within and between the classes of `scores` (N, K), both (K, K).
///
/// The mean of the scores is 0, since the images were centred.
fn scatters(
    scores: &DMatrix<f64>,
    classes: &BTreeMap<u32, Vec<usize>>,
) -> (DMatrix<f64>, DMatrix<f64>) {
    let mut residuals = scores.clone();
    let mut means = DMatrix::zeros(classes.len(), scores.ncols());
    for (c, members) in classes.values().enumerate() {
        let mean = scores.select_rows(members).row_mean();
        for &i in members {
            let mut row = residuals.row_mut(i);
            row -= &mean;
        }
        means.set_row(c, &(mean * (members.len() as f64).sqrt()));
    }
    (residuals.tr_mul(&residuals), means.tr_mul(&means))
}

/// Unit vectors that maximise `v' between v / v' within v`, at most `count`, as columns.
fn discriminants(within: DMatrix<f64>, between: &DMatrix<f64>, count: usize) -> DMatrix<f64> {
    let (values, vectors) = descending(within);
    // Directions without scatter (repeated images) count as having a very small one.
    let floor = values.first().map_or(0., |v| v * RANK_TOLERANCE);
    let floor = if floor > 0. { floor } else { 1. };
    let whiten = scale_columns(&vectors, values.iter().map(|v| 1. / v.max(floor).sqrt()));
    let (_, best) = descending(whiten.tr_mul(&(between * &whiten)));
    let mut found = whiten * best.columns(0, count.min(best.ncols()));
    for mut column in found.column_iter_mut() {
        let norm = column.norm();
        if norm > 0. {
            column /= norm;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of the golden case: three classes, twelve values.
    fn rows(from: usize, count: usize) -> Vec<Vec<f32>> {
        let value = |i: usize, j: usize| {
            let (wave, class) = (
                ((i + 1) * (j + 1)) as f64 * 0.37,
                (((i - from) % 3 + 1) * j) as f64,
            );
            (wave.sin() + 0.5 * class.cos()) as f32
        };
        (from..from + count)
            .map(|i| (0..12).map(|j| value(i, j)).collect())
            .collect()
    }

    fn labels(count: u32) -> Vec<u32> {
        (0..count).map(|i| 40 + i % 3).collect()
    }

    fn assert_close(got: &[Vec<f32>], want: &[Vec<f32>], tolerance: f32) {
        for (g, w) in got.iter().flatten().zip(want.iter().flatten()) {
            assert!((g - w).abs() <= tolerance, "{got:?}\n{want:?}");
        }
    }

    #[test]
    fn centring_removes_the_mean_of_each_image() {
        let centred = centred_pixels(&[vec![1., 2., 6.], vec![10., 10.], vec![]]);
        assert_eq!(centred, [vec![-2., -1., 3.], vec![0., 0.], vec![]]);
    }

    /* Equivalent python code:
    U,s,Vt = np.linalg.svd(X-mu, full_matrices=False); A = (X-mu)@Vt[:6].T   # N = 9, C = 3
    w,V = scipy.linalg.eigh(Sb, Sw); V = V[:,::-1][:,:2]; V /= np.linalg.norm(V, axis=0)
    np.abs((T-mu)@Vt[:6].T@V)
    */
    #[test]
    fn projection_agrees_with_scipy() {
        let model = Fisherfaces::fit(&rows(0, 9), &labels(9)).unwrap();
        let projected = model.project(&rows(10, 4)).unwrap();
        let got = projected
            .iter()
            .map(|r| r.iter().map(|v| v.abs()).collect())
            .collect::<Vec<_>>();
        let want = [
            vec![0.314_862_1, 1.875_399_6],
            vec![0.739_341_1, 0.143_536_1],
            vec![0.523_780_8, 1.903_173],
            vec![0.269_828_2, 0.168_132_1],
        ];
        assert_close(&got, &want, 1e-5);
    }

    #[test]
    fn the_mean_image_does_not_matter() {
        let shift = |rows: Vec<Vec<f32>>| {
            rows.into_iter()
                .map(|r| r.into_iter().map(|v| v + 8.).collect())
                .collect()
        };
        let (train, test): (Vec<_>, Vec<_>) = (shift(rows(0, 9)), shift(rows(10, 4)));
        let moved = Fisherfaces::fit(&train, &labels(9))
            .unwrap()
            .project(&test)
            .unwrap();
        let plain = Fisherfaces::fit(&rows(0, 9), &labels(9))
            .unwrap()
            .project(&rows(10, 4))
            .unwrap();
        let size = |rows: Vec<Vec<f32>>| {
            rows.into_iter()
                .map(|r| r.into_iter().map(f32::abs).collect())
                .collect::<Vec<_>>()
        };
        assert_close(&size(moved), &size(plain), 1e-4);
    }

    #[test]
    fn finds_the_small_difference_under_a_large_nuisance() {
        // Value 3 tells the classes apart by 2; value 7 varies by hundreds in both.
        let image = |class: u32, i: u32| {
            let mut v = (0..10)
                .map(|j| ((i * 7 + j * 3 + class) as f32 * 1.3).sin() * 0.1)
                .collect::<Vec<_>>();
            v[3] += class as f32 * 2.;
            v[7] += (i as f32 * 2.1).sin() * 300.;
            v
        };
        let set = |from: u32| {
            (from..from + 12)
                .map(|i| image(i % 2, i))
                .collect::<Vec<_>>()
        };
        let classes = (0..12).map(|i| i % 2).collect::<Vec<_>>();
        let model = Fisherfaces::fit(&set(0), &classes).unwrap();
        assert_eq!(model.dim(), 1);
        let test = model.project(&set(100)).unwrap();
        let side = |class: u32| {
            let values = test
                .iter()
                .zip(&classes)
                .filter(move |(_, c)| **c == class)
                .map(|(r, _)| r[0]);
            let values = values.collect::<Vec<_>>();
            (
                values.iter().copied().fold(f32::MAX, f32::min),
                values.iter().copied().fold(f32::MIN, f32::max),
            )
        };
        let (a, b) = (side(0), side(1));
        assert!(a.1 + 0.5 < b.0 || b.1 + 0.5 < a.0, "{a:?} {b:?}");
    }

    #[test]
    fn repeated_images_give_finite_values() {
        let twice = vec![
            vec![1f32, 2., 3.],
            vec![1., 2., 3.],
            vec![3., 1., 0.],
            vec![3., 1., 0.],
        ];
        let projected = Fisherfaces::fit(&twice, &[0, 0, 1, 1])
            .unwrap()
            .project(&twice)
            .unwrap();
        assert!(projected.iter().flatten().all(|v| v.is_finite()));
        assert!(
            (projected[0][0] - projected[2][0]).abs() > 1.,
            "{projected:?}"
        );
    }

    #[test]
    fn bad_input_says_what_is_wrong() {
        let fit = |rows: &[Vec<f32>], labels: &[u32]| Fisherfaces::fit(rows, labels).unwrap_err();
        let ok = rows(0, 9);
        assert_eq!(fit(&ok, &labels(8)).to_string(), "9 images but 8 labels");
        assert_eq!(
            fit(&ok, &[5; 9]),
            BaselineError::TooFew {
                rows: 9,
                classes: 1
            }
        );
        assert_eq!(
            fit(&ok, &[0, 1, 2, 3, 4, 5, 6, 7, 8]),
            BaselineError::TooFew {
                rows: 9,
                classes: 9
            }
        );
        assert_eq!(
            fit(&[], &[]),
            BaselineError::TooFew {
                rows: 0,
                classes: 0
            }
        );
        assert_eq!(
            fit(&vec![vec![1.; 4]; 4], &[0, 0, 1, 1]),
            BaselineError::NoVariation
        );
        assert_eq!(
            fit(&vec![vec![]; 4], &[0, 0, 1, 1]),
            BaselineError::NoVariation
        );
        let mut ragged = ok.clone();
        ragged[2].pop();
        assert_eq!(
            fit(&ragged, &labels(9)).to_string(),
            "image 2 has 11 values, expected 12"
        );
        let mut nan = ok.clone();
        nan[4][1] = f32::NAN;
        assert_eq!(fit(&nan, &labels(9)), BaselineError::NotFinite { row: 4 });
        let model = Fisherfaces::fit(&ok, &labels(9)).unwrap();
        let wrong = model.project(&[vec![0.; 11]]).unwrap_err();
        assert_eq!(
            wrong,
            BaselineError::Length {
                row: 0,
                expected: 12,
                found: 11
            }
        );
    }
}
