//! Faces cut out of photographs by their boxes, with the points that lie on them.

use crate::labels::check_indices;
use crate::{Column, Dataset, Error, Image, Labels, Result, Vectors};

/// The side of a crop, as a multiple of the longer side of the face's box.
pub const MARGIN: f32 = 1.25;

/// One face in a photograph: where it is and its points, in pixels of the photograph.
pub(super) struct Face {
    /// Left, top, right, bottom.
    pub bounds: [f32; 4],
    /// (x, y), or (x, y, z) where `points3d` is asked for.
    pub points: Vec<Vec<f32>>,
}

impl Face {
    /// A face whose box is the tightest around its points.
    pub fn around(points: Vec<Vec<f32>>) -> Self {
        let extent = |axis: usize| {
            let values = points
                .iter()
                .filter_map(move |point| point.get(axis).copied());
            let low = values.clone().fold(f32::INFINITY, f32::min);
            (low, values.fold(f32::NEG_INFINITY, f32::max))
        };
        let ((left, right), (top, bottom)) = (extent(0), extent(1));
        Self {
            bounds: [left, top, right, bottom],
            points,
        }
    }
}

/// Photographs cut to squares around their faces: [`MARGIN`] times the longer side of the box, about its middle, in
/// whole pixels of the photograph; what lies outside of it repeats its edge.
///
/// `landmarks` and `points3d` are in pixels of the crop; `factor.box_width` and `factor.box_height` keep the size of the box, which
/// the normalisers of the landmark error need.
pub struct FaceCrops {
    photographs: Box<dyn Dataset>,
    labels: Labels,
    /// Left, top and side of each crop.
    squares: Vec<[i64; 3]>,
}

impl FaceCrops {
    /// Cuts `photographs`, which have one of `faces` each, with as many points in each.
    ///
    /// # Errors
    /// Names the sample: a box that is empty, not finite or more than 100,000 pixels wide.
    pub(super) fn new(photographs: impl Dataset + 'static, faces: &[Face]) -> Result<Self> {
        let mut labels = photographs.labels().clone();
        let mut squares = Vec::with_capacity(faces.len());
        let (mut flat, mut deep) = (Vec::new(), Vec::new());
        let mut sizes = [Vec::new(), Vec::new()];
        for (index, face) in faces.iter().enumerate() {
            let [left, top, right, bottom] = face.bounds;
            let (width, height) = (right - left, bottom - top);
            let side = MARGIN * width.max(height);
            if !(width > 0.0 && height > 0.0 && side < 1e5 && left.abs() < 1e5 && top.abs() < 1e5) {
                return Err(Error::format(format!(
                    "expected a box left, top, right, bottom of some size, found {:?}",
                    face.bounds
                ))
                .record(photographs.sample_id(index)));
            }
            let square = [
                ((left + right - side) / 2.0).round() as i64,
                ((top + bottom - side) / 2.0).round() as i64,
                (side.round() as i64).max(1),
            ];
            sizes[0].push(width);
            sizes[1].push(height);
            for point in &face.points {
                let at = |axis: usize| point.get(axis).copied().unwrap_or(f32::NAN);
                let (x, y) = (at(0) - square[0] as f32, at(1) - square[1] as f32);
                flat.extend([x, y]);
                deep.extend([x, y, at(2)]);
            }
            squares.push(square);
        }
        let points = faces.first().map_or(0, |face| face.points.len());
        let in_space = faces
            .first()
            .is_some_and(|face| face.points.iter().all(|p| p.len() == 3));
        labels.insert_vectors("landmarks", Vectors::new(vec![points, 2], flat)?)?;
        if in_space {
            labels.insert_vectors("points3d", Vectors::new(vec![points, 3], deep)?)?;
        }
        let [widths, heights] = sizes;
        labels.insert("factor.box_width", Column::Continuous(widths))?;
        labels.insert("factor.box_height", Column::Continuous(heights))?;
        Ok(Self {
            photographs: Box::new(photographs),
            labels,
            squares,
        })
    }
}

impl Dataset for FaceCrops {
    fn name(&self) -> &str {
        self.photographs.name()
    }
    fn len(&self) -> usize {
        self.squares.len()
    }
    fn labels(&self) -> &Labels {
        &self.labels
    }
    fn sample_id(&self, index: usize) -> String {
        self.photographs.sample_id(index)
    }
    fn image(&self, index: usize) -> Result<Image> {
        check_indices(&[index], self.squares.len())?;
        Ok(cut(&self.photographs.image(index)?, self.squares[index]))
    }
}

fn cut(image: &Image, [left, top, side]: [i64; 3]) -> Image {
    let within = |at: i64, length: usize| at.clamp(0, length as i64 - 1) as usize;
    let channels = image.channels;
    let mut pixels = Vec::with_capacity((side * side) as usize * channels);
    for y in top..top + side {
        let row = within(y, image.height) * image.width;
        for x in left..left + side {
            let at = (row + within(x, image.width)) * channels;
            pixels.extend_from_slice(&image.pixels[at..at + channels]);
        }
    }
    Image {
        width: side as usize,
        height: side as usize,
        channels,
        pixels,
    }
}
