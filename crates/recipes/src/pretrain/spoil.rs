//! Images as they come from the web: cut off-centre, or showing no face at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use phiz_data::{Dataset, Image, Labels, stream_rng};
use rand::Rng;

/// Side of an off-centre window, in parts of the shorter side.
const WINDOW: f64 = 0.6;

/// A data set of which some images are spoilt. Which ones, and how, is a function of the seed and the index.
pub(super) struct Spoilt {
    inner: Arc<dyn Dataset>,
    spoilt: BTreeSet<usize>,
    off_centre: f64,
    non_faces: f64,
    seed: u64,
}

impl Spoilt {
    /// Spoils the given shares of the images at `indices`: an image that shows no face is not cut as well.
    pub fn new(
        inner: Arc<dyn Dataset>,
        indices: &[usize],
        off_centre: f64,
        non_faces: f64,
        seed: u64,
    ) -> Self {
        Self {
            inner,
            spoilt: indices.iter().copied().collect(),
            off_centre,
            non_faces,
            seed,
        }
    }
}

impl Dataset for Spoilt {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn labels(&self) -> &Labels {
        self.inner.labels()
    }

    fn sample_id(&self, index: usize) -> String {
        self.inner.sample_id(index)
    }

    fn image(&self, index: usize) -> phiz_data::Result<Image> {
        let image = self.inner.image(index)?;
        if !self.spoilt.contains(&index) {
            return Ok(image);
        }
        let mut rng = stream_rng(self.seed, "spoilt-images", 0, index as u64);
        let mut draw = || f64::from(rng.next_u32()) / 4_294_967_296.0;
        let (other, cut) = (draw() < self.non_faces, draw() < self.off_centre);
        if other {
            return Ok(pattern(&image, &mut draw));
        }
        Ok(if cut {
            window(&image, draw(), draw())
        } else {
            image
        })
    }

    fn rendered(&self) -> bool {
        self.inner.rendered()
    }
}

/// A square window of `image`, its corner at the given parts of the room there is.
fn window(image: &Image, x: f64, y: f64) -> Image {
    let side = ((image.width.min(image.height) as f64 * WINDOW).round() as usize).max(1);
    let corner = |room: usize, part: f64| ((room + 1) as f64 * part) as usize;
    let left = corner(image.width - side, x).min(image.width - side);
    let top = corner(image.height - side, y).min(image.height - side);
    let rows = image.pixels.chunks_exact(image.width * image.channels);
    let (from, count) = (left * image.channels, side * image.channels);
    let pixels = rows.skip(top).take(side);
    Image {
        width: side,
        height: side,
        channels: image.channels,
        pixels: pixels
            .flat_map(|row| row.iter().skip(from).take(count))
            .copied()
            .collect(),
    }
}

/// An image of the same shape without a face: two colours in stripes, tiles or a ramp, with a few boxes and discs on it.
fn pattern(like: &Image, draw: &mut impl FnMut() -> f64) -> Image {
    let mut colour = || [draw(), draw(), draw()].map(|part| 255. * part);
    let (one, two) = (colour(), colour());
    let things: Vec<[f64; 3]> = (0..5).map(|_| colour()).collect();
    let (kind, turn, period) = (
        (draw() * 3.) as usize,
        draw() * std::f64::consts::TAU,
        0.06 + 0.3 * draw(),
    );
    let places: Vec<[f64; 4]> = things
        .iter()
        .map(|_| [draw(), draw(), 0.05 + 0.25 * draw(), draw()])
        .collect();
    let (sin, cos) = turn.sin_cos();
    let mut pixels = Vec::with_capacity(like.pixels.len());
    for row in 0..like.height {
        for column in 0..like.width {
            let x = column as f64 / like.width as f64;
            let y = row as f64 / like.height as f64;
            let along = x * cos + y * sin;
            let across = y * cos - x * sin;
            let odd = |v: f64| (v / period).floor().rem_euclid(2.);
            let part = match kind {
                0 => odd(along),
                1 => (odd(along) - odd(across)).abs(),
                _ => (0.5 + 0.5 * along).clamp(0., 1.),
            };
            let mut seen: [f64; 3] = std::array::from_fn(|c| one[c] + part * (two[c] - one[c]));
            for ([left, top, size, shape], thing) in places.iter().zip(&things) {
                let (dx, dy) = (x - left, y - top);
                let inside = if *shape < 0.5 {
                    dx.abs().max(dy.abs()) < *size
                } else {
                    dx * dx + dy * dy < size * size
                };
                if inside {
                    seen = *thing;
                }
            }
            if like.channels >= 3 {
                pixels.extend(seen.map(|value| value as u8));
                pixels.extend(std::iter::repeat_n(255, like.channels - 3));
            } else {
                let grey = seen.iter().sum::<f64>() / 3.;
                pixels.push(grey as u8);
                pixels.extend(std::iter::repeat_n(255, like.channels - 1));
            }
        }
    }
    Image {
        pixels,
        width: like.width,
        height: like.height,
        channels: like.channels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_learned_images_alone_are_spoilt_the_same_way_each_time() {
        let faces = "synth:identities=20,per_expression=1,size=32";
        let faces = crate::source::open(faces).unwrap();
        let learned: Vec<usize> = (0..100).collect();
        let spoilt = Spoilt::new(Arc::clone(&faces), &learned, 0.5, 0.3, 4);
        let (mut cut, mut other) = (0, 0);
        for index in 0..140 {
            let (before, after) = (faces.image(index).unwrap(), spoilt.image(index).unwrap());
            assert_eq!(after, spoilt.image(index).unwrap());
            if index >= 100 {
                assert_eq!(before, after);
            } else if after.width < before.width {
                assert_eq!(
                    (after.width, after.height, after.pixels.len()),
                    (19, 19, 19 * 19 * 3)
                );
                cut += 1;
            } else if before != after {
                assert_eq!(after.pixels.len(), before.pixels.len());
                other += 1;
            }
        }
        // 30 +- 4.6 without a face; of the other 70 half, 35 +- 4.8.
        assert!(
            (14..48).contains(&other) && (19..53).contains(&cut),
            "{other} {cut}"
        );
        let seed = Spoilt::new(Arc::clone(&faces), &learned, 0.5, 0.3, 5);
        assert!((0..20).any(|i| seed.image(i).unwrap() != spoilt.image(i).unwrap()));
        assert!(spoilt.rendered() && spoilt.image(140).is_err());
    }

    #[test]
    fn a_window_stays_inside_at_its_extremes() {
        let image = Image {
            width: 10,
            height: 6,
            channels: 1,
            pixels: (0..60).collect(),
        };
        let corner = |x, y| window(&image, x, y).pixels;
        assert_eq!(corner(0., 0.)[..4], [0, 1, 2, 3]);
        assert_eq!(corner(0.9999, 0.9999)[12..], [56, 57, 58, 59]);
    }
}
