//! Which part of the face each pixel shows.

use crate::config::{SynthConfig, check_size};
use crate::draw::factors;
use crate::error::Error;
use crate::factors::Factors;
use crate::geometry::{self, Material, Mesh};
use crate::glasses;
use crate::image::Image;
use crate::occluder::Occluding;
use crate::raster::{Buffer, Camera, Sample};
use crate::rig::Rig;
use crate::stage;

/// Parts of a face, in the order of their numbers in the label image; left and right are the image's. Near the
/// classes of CelebAMask-HQ.
pub const PARTS: [&str; 20] = [
    "background",
    "skin",
    "brow_left",
    "brow_right",
    "eye_left",
    "eye_right",
    "nose",
    "upper_lip",
    "lower_lip",
    "mouth",
    "ear_left",
    "ear_right",
    "neck",
    "hair",
    "clothes",
    "glasses",
    "mask",
    "scarf",
    "hat",
    "occluder",
];

/// The label image of sample `index`: one byte a pixel, an index into [`PARTS`], of what lies at the pixel's centre.
///
/// # Errors
/// When the configuration does not validate or has no such sample.
pub fn segment(config: &SynthConfig, index: usize) -> Result<Image, Error> {
    segment_factors(&factors(config, index)?, config.size)
}

/// The label image of the face that [`crate::render_factors`] would draw. Edges are those of the drawing before blur;
/// a beard counts as skin, an eye as what lies between its lids, and glass that is looked through as glasses.
///
/// # Errors
/// When the size is not 24 to 1024, or a factor is not finite.
pub fn segment_factors(factors: &Factors, size: usize) -> Result<Image, Error> {
    check_size(size)?;
    factors.check()?;
    let rig = Rig::new(factors);
    let camera = Camera::new(&factors.scene, size);
    let (mut buffer, mut mesh) = (Buffer::default(), Mesh::default());
    buffer.reset(size);
    stage::meshes(factors, &rig, &mut mesh, |mesh, act| {
        buffer.draw(mesh, act.material, &camera, 1, act.both_sides, 0.0);
    });
    label(factors, &rig, &camera, &buffer, &mut mesh)
}

/// The label image of what lies in a buffer of one sample a pixel; `mesh` is scratch.
pub(crate) fn label(
    factors: &Factors,
    rig: &Rig,
    camera: &Camera,
    buffer: &Buffer,
    mesh: &mut Mesh,
) -> Result<Image, Error> {
    let size = buffer.side;
    let middle = camera.project([0.0, rig.head.ear_y, -0.1])[0];
    let mut pixels: Vec<u8> = buffer
        .samples
        .iter()
        .enumerate()
        .map(|(at, sample)| part(rig, sample, ((at % size) as f32) > middle))
        .collect();
    if factors.scene.glasses >= 0.5 || factors.disguise.sunglasses >= 0.5 {
        let mut lens = Buffer::default();
        glasses::sheet(rig, mesh);
        lens.reset(size);
        lens.draw(mesh, Material::Head, camera, 1, true, 0.06);
        let px = 1.25 * camera.pixel();
        for ((pixel, glass), sample) in pixels.iter_mut().zip(&lens.samples).zip(&buffer.samples) {
            if glass.material != Material::None && glass.depth > sample.depth {
                let (_, alpha) = glasses::frame(rig, factors, glass.x, glass.y, px);
                // Frames cover wholly, clear lenses a little.
                if alpha > 0.04 {
                    *pixel = 15;
                }
            }
        }
    }
    if let Some(thing) = Occluding::new(factors, [0.0, 0.0, 1.0]) {
        let unit = 1.0 / size as f32;
        for (at, pixel) in pixels.iter_mut().enumerate() {
            let (u, v) = (at % size, at / size);
            let (_, alpha) = thing.at((u as f32 + 0.5) * unit, (v as f32 + 0.5) * unit, unit);
            if alpha > 0.5 {
                *pixel = 19;
            }
        }
    }
    Image::new(size, size, 1, pixels)
}

fn part(rig: &Rig, sample: &Sample, right: bool) -> u8 {
    match sample.material {
        Material::None => 0,
        Material::Head => face(rig, sample),
        Material::Ear => 10 + u8::from(right),
        Material::Neck => 12,
        Material::Curtain => 13,
        Material::Clothes => 14,
        Material::Mask => 16,
        Material::Scarf => 17,
        Material::Hat => 18,
    }
}

fn face(rig: &Rig, sample: &Sample) -> u8 {
    let (x, y) = (sample.x, sample.y);
    let head = &rig.head;
    if geometry::in_hair(head, x, y, sample.front) > 0.0 {
        return 13;
    }
    if sample.front <= 0.12 {
        return 1;
    }
    let right = u8::from(x > 0.0);
    let ax = x.abs();
    let eye = &rig.eye;
    let (dx, dy) = (ax - eye.x, y - eye.y);
    let (st, ct) = eye.tilt;
    let (u, v) = (dx * ct + dy * st, dy * ct - dx * st);
    let r = u / eye.a;
    if r.abs() < 1.0 {
        let (upper, lower, _) = eye.lids(r);
        if v < upper && v > lower {
            return 4 + right;
        }
    }
    let brow = &rig.brow;
    let t = (ax - brow.x_inner) / (brow.x_outer - brow.x_inner);
    if (-0.05..=1.0).contains(&t) {
        let slope = (brow.y_outer - brow.y_inner) / (brow.x_outer - brow.x_inner);
        let d = (y - brow.height(t)).abs() / (1.0 + slope * slope).sqrt();
        if d < brow.thick * (1.0 - 0.55 * crate::math::step(0.45, 1.0, t)) {
            return 2 + right;
        }
    }
    let m = &rig.mouth;
    if ax < m.w {
        let lips = m.lips(x / m.w);
        if y < lips.upper && y > lips.lower {
            return if y >= lips.top && lips.top >= lips.low {
                7
            } else if y > lips.low {
                9
            } else {
                8
            };
        }
    }
    let root = eye.y + 0.06;
    if y < root && y > head.nose_base - 0.02 {
        let down = (root - y) / (root - head.nose_tip);
        let wide = crate::math::mix(0.07, 1.12 * head.nose_width, down.min(1.0));
        if ax < wide {
            return 6;
        }
    }
    1
}
