//! Where a point of an image goes when the image is brought to a network: the geometry of a [`Transform`] alone.
//!
//! Pixel centres are at whole numbers, the first at (0, 0).

use rand::Rng;

use crate::rng::{symmetric, uniform};
use crate::{Augment, Fit, Result, Transform};

/// Indices that a mirrored 68-point face takes its points from: the left brow becomes the right one.
pub const MIRROR_68: [usize; 68] = [
    16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 26, 25, 24, 23, 22, 21, 20, 19, 18,
    17, 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40, 54, 53,
    52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
];

/// As [`MIRROR_68`] for the 98 points of WFLW.
pub const MIRROR_98: [usize; 98] = [
    32, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9,
    8, 7, 6, 5, 4, 3, 2, 1, 0, 46, 45, 44, 43, 42, 50, 49, 48, 47, 37, 36, 35, 34, 33, 41, 40, 39,
    38, 51, 52, 53, 54, 59, 58, 57, 56, 55, 72, 71, 70, 69, 68, 75, 74, 73, 64, 63, 62, 61, 60, 67,
    66, 65, 82, 81, 80, 79, 78, 77, 76, 87, 86, 85, 84, 83, 92, 91, 90, 89, 88, 95, 94, 93, 97, 96,
];

/// What a [`Transform`] does to the places of an image, random changes included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PointMap {
    /// Factors from the image to the network's size.
    scale: (f64, f64),
    /// What is added behind them.
    offset: (f64, f64),
    /// Width and height the network sees.
    size: (usize, usize),
    flip: bool,
    /// Cosine and sine of the turn, and the zoom.
    turn: (f64, f64, f64),
    shift: (f64, f64),
}

impl PointMap {
    /// The map of `transform` for an image of `width` x `height`. With a generator in the state that
    /// [`to_chw_f32`](crate::to_chw_f32) gets it (see [`augment_rng`](crate::augment_rng)) the random changes are the
    /// same; without one there are none.
    ///
    /// # Errors
    /// When the transform is invalid.
    pub fn new<R: Rng + ?Sized>(
        transform: &Transform,
        (width, height): (usize, usize),
        rng: Option<&mut R>,
    ) -> Result<Self> {
        transform.validate()?;
        let (target_h, target_w) = transform.size;
        let (by_h, by_w) = (
            target_h as f64 / height.max(1) as f64,
            target_w as f64 / width.max(1) as f64,
        );
        let factor = match transform.fit {
            Fit::Stretch => None,
            Fit::Pad => Some(by_h.min(by_w)),
            Fit::Crop => Some(by_h.max(by_w)),
        };
        // As the image is fitted: the inner size is a whole number of pixels.
        let inner = |n: usize, target: usize| match factor {
            None => target,
            Some(factor) => {
                let scaled = ((n as f64 * factor).round() as usize).max(1);
                match transform.fit {
                    Fit::Pad => scaled.min(target),
                    _ => scaled.max(target),
                }
            }
        };
        let side = |n: usize, target: usize| {
            let inner = inner(n, target);
            let scale = inner as f64 / n.max(1) as f64;
            let cut = (inner as isize - target as isize).div_euclid(2) as f64;
            (scale, 0.5 * scale - 0.5 - cut)
        };
        let (x, y) = (side(width, target_w), side(height, target_h));
        let mut map = Self {
            scale: (x.0, y.0),
            offset: (x.1, y.1),
            size: (target_w, target_h),
            flip: false,
            turn: (1., 0., 1.),
            shift: (0., 0.),
        };
        if let Some(rng) = rng
            && !transform.augment.is_off()
        {
            map.draw(&transform.augment, rng);
        }
        Ok(map)
    }

    /// The first draws of an augmentation, in its order.
    fn draw<R: Rng + ?Sized>(&mut self, augment: &Augment, rng: &mut R) {
        self.flip = uniform(rng) < augment.flip;
        let degrees = symmetric(rng, augment.rotate);
        let zoom = 1. + symmetric(rng, augment.zoom);
        let shift = |u: f32, side: usize| f64::from((u * side as f32).round());
        let down = shift(symmetric(rng, augment.crop_pad), self.size.1);
        let right = shift(symmetric(rng, augment.crop_pad), self.size.0);
        let (sin, cos) = degrees.to_radians().sin_cos();
        self.turn = (f64::from(cos), f64::from(sin), f64::from(zoom));
        self.shift = (right, down);
    }

    /// Whether the image is mirrored: then named points change places too (see [`MIRROR_68`]).
    #[must_use]
    pub fn mirrored(&self) -> bool {
        self.flip
    }

    /// Where the point (x, y) of the image is in what the network sees.
    #[must_use]
    pub fn point(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let (width, height) = (self.size.0 as f64, self.size.1 as f64);
        let mut x = f64::from(x) * self.scale.0 + self.offset.0;
        let mut y = f64::from(y) * self.scale.1 + self.offset.1;
        if self.flip {
            x = width - 1. - x;
        }
        let (cos, sin, zoom) = self.turn;
        let (cx, cy) = ((width - 1.) / 2., (height - 1.) / 2.);
        (x, y) = (x - cx, y - cy);
        (x, y) = (
            cx + zoom * (cos * x + sin * y),
            cy + zoom * (cos * y - sin * x),
        );
        [(x + self.shift.0) as f32, (y + self.shift.1) as f32]
    }

    /// Where a point of what the network sees is in the image: the inverse of [`point`](Self::point).
    #[must_use]
    pub fn back(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let (width, height) = (self.size.0 as f64, self.size.1 as f64);
        let (cos, sin, zoom) = self.turn;
        let (cx, cy) = ((width - 1.) / 2., (height - 1.) / 2.);
        let (x, y) = (
            (f64::from(x) - self.shift.0 - cx) / zoom,
            (f64::from(y) - self.shift.1 - cy) / zoom,
        );
        let (mut x, y) = (cx + cos * x - sin * y, cy + cos * y + sin * x);
        if self.flip {
            x = width - 1. - x;
        }
        [
            ((x - self.offset.0) / self.scale.0) as f32,
            ((y - self.offset.1) / self.scale.1) as f32,
        ]
    }

    /// By how much depth grows: with the image and the zoom.
    #[must_use]
    pub fn depth(&self, z: f32) -> f32 {
        let scale = (self.scale.0 * self.scale.1).sqrt();
        (f64::from(z) * scale * self.turn.2) as f32
    }

    /// Rows of `width` coordinates (2: x, y; 3: x, y, z) in place; the points of a mirrored face, 68 or 98, change
    /// their names.
    ///
    /// # Errors
    /// When `width` is neither 2 nor 3, the numbers are no whole points, or they are mirrored and of another number than
    /// 68 or 98, so that nobody knows which is which's mirror.
    pub fn rows(&self, points: &mut [f32], width: usize) -> Result<()> {
        if !(2..=3).contains(&width) || !points.len().is_multiple_of(width) {
            return Err(crate::Error::config(format!(
                "{} numbers are no points of {width} coordinates",
                points.len()
            )));
        }
        let mirror: &[usize] = match points.len() / width {
            _ if !self.flip => &[],
            68 => &MIRROR_68,
            98 => &MIRROR_98,
            count => {
                return Err(crate::Error::config(format!(
                    "{count} points cannot be mirrored, only 68 or 98: set augment.flip to 0"
                )));
            }
        };
        for point in points.chunks_exact_mut(width) {
            if let [x, y, rest @ ..] = point {
                [*x, *y] = self.point([*x, *y]);
                if let [z] = rest {
                    *z = self.depth(*z);
                }
            }
        }
        if !mirror.is_empty() {
            let before = points.to_vec();
            for (point, &from) in points.chunks_exact_mut(width).zip(mirror) {
                point.copy_from_slice(&before[from * width..(from + 1) * width]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Image, augment_rng, to_chw_f32};

    /// A soft bright spot at (x, y) on black.
    fn spot(width: usize, height: usize, at: [f32; 2]) -> Image {
        let pixels = (0..width * height)
            .map(|i| {
                let (dx, dy) = ((i % width) as f32 - at[0], (i / width) as f32 - at[1]);
                (255. * (-(dx * dx + dy * dy) / 8.).exp()).round() as u8
            })
            .collect();
        Image {
            width,
            height,
            channels: 1,
            pixels,
        }
    }

    /// The centre of brightness of an image with values in -1..1.
    fn centre(values: &[f32], width: usize) -> [f32; 2] {
        let (mut sum, mut x, mut y) = (0., 0., 0.);
        for (i, v) in values.iter().enumerate() {
            let v = (v + 1.) / 2.;
            sum += v;
            x += v * (i % width) as f32;
            y += v * (i / width) as f32;
        }
        [x / sum, y / sum]
    }

    #[test]
    fn points_go_where_their_pixels_go() {
        let augment = Augment {
            flip: 0.5,
            rotate: 20.,
            zoom: 0.2,
            crop_pad: 0.05,
            ..Augment::default()
        };
        let (mut mirrored, mut seen) = (0, 0);
        for fit in [Fit::Stretch, Fit::Pad, Fit::Crop] {
            for (width, height) in [(48, 48), (60, 40), (33, 50)] {
                for position in 0..6 {
                    let transform = Transform {
                        size: (44, 52),
                        channels: 1,
                        fit,
                        augment,
                        ..Transform::default()
                    };
                    let at = [width as f32 * 0.55, height as f32 * 0.4];
                    let image = spot(width, height, at);
                    let mut rng = augment_rng(3, 1, position);
                    let seen_by = to_chw_f32(&image, &transform, Some(&mut rng)).unwrap();
                    let mut rng = augment_rng(3, 1, position);
                    let map = PointMap::new(&transform, (width, height), Some(&mut rng)).unwrap();
                    let (want, got) = (centre(&seen_by, 52), map.point(at));
                    let apart = (want[0] - got[0]).hypot(want[1] - got[1]);
                    assert!(apart < 0.25, "{fit:?} {width}x{height}: {want:?} {got:?}");
                    let back = map.back(got);
                    assert!((back[0] - at[0]).hypot(back[1] - at[1]) < 1e-3);
                    mirrored += u8::from(map.mirrored());
                    seen += 1;
                }
            }
        }
        assert!(mirrored > 5 && mirrored < seen - 5);
    }

    #[test]
    fn names_change_sides_and_back() {
        for mirror in [&MIRROR_68[..], &MIRROR_98] {
            for (i, &from) in mirror.iter().enumerate() {
                assert_eq!(mirror[from], i);
            }
        }
        // WFLW: outer corners of the eyes, pupils, ends of the contour.
        assert_eq!([MIRROR_98[60], MIRROR_98[96], MIRROR_98[0]], [72, 97, 32]);
        let always = Transform {
            size: (10, 10),
            augment: Augment {
                flip: 1.,
                ..Augment::default()
            },
            ..Transform::default()
        };
        let mut rng = augment_rng(0, 0, 0);
        let map = PointMap::new(&always, (10, 10), Some(&mut rng)).unwrap();
        let mut points: Vec<f32> = (0..68).flat_map(|i| [i as f32, 0., 1.]).collect();
        map.rows(&mut points, 3).unwrap();
        // The outer corner of one eye is now the other's, mirrored.
        assert_eq!(points[36 * 3..37 * 3], [9. - 45., 0., 1.]);
        assert!(map.rows(&mut points, 5).is_err());
        let line = map.rows(&mut points[..58], 2).unwrap_err().to_string();
        assert!(line.contains("29 points cannot be mirrored"), "{line}");
    }
}
