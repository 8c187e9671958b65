//! Draws a face: meshes into the depth buffer, samples to light, light to pixels.

use std::cell::RefCell;

use crate::annotate::{self, Annotations, HeadMesh};
use crate::config::{SynthConfig, check_size};
use crate::develop::develop;
use crate::draw::factors;
use crate::error::Error;
use crate::factors::Factors;
use crate::geometry::{Material, Mesh};
use crate::glasses;
use crate::image::Image;
use crate::light::Light;
use crate::math::mix3;
use crate::occluder::Occluding;
use crate::parts;
use crate::raster::{Buffer, Camera};
use crate::rig::Rig;
use crate::shade::Scenery;
use crate::shadow::Shadow;
use crate::stage;

/// A rendered face with everything known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// The image, RGB.
    pub image: Image,
    /// Five points (x, y) in pixels, pixel centres at whole numbers, in the usual order of face alignment: the pupil
    /// of the eye on the left of the image, the one on the right, the tip of the nose, the corner of the mouth on the
    /// left, the one on the right.
    pub landmarks: [[f32; 2]; 5],
    /// All labels that need no drawing.
    pub annotations: Annotations,
    /// What the face was made from.
    pub factors: Factors,
}

/// Draws sample `index`: the same bytes on every machine and thread.
///
/// # Errors
/// When the configuration does not validate or has no such sample.
pub fn render(config: &SynthConfig, index: usize) -> Result<Rendered, Error> {
    let factors = factors(config, index)?;
    render_factors(&factors, config.size)
}

/// Draws a face from given factors, `size` x `size` pixels. Factors far outside their ranges still give an image,
/// though not always a face.
///
/// # Errors
/// When the size is not 24 to 1024, or a factor is not finite.
pub fn render_factors(factors: &Factors, size: usize) -> Result<Rendered, Error> {
    check_size(size)?;
    factors.check()?;
    let rig = Rig::new(factors);
    let camera = Camera::new(&factors.scene, size);
    let pixels = SCRATCH.with_borrow_mut(|scratch| {
        let linear = scratch.light(factors, &rig, &camera, size, |_, _| ());
        develop(factors, linear, size)
    });
    let annotations = annotate::labels(factors, &rig, &camera, size);
    Ok(Rendered {
        image: Image::new(size, size, 3, pixels)?,
        landmarks: annotations.five,
        annotations,
        factors: *factors,
    })
}

/// A rendered face with every label there is, those that need drawing as well.
#[derive(Debug, Clone, PartialEq)]
pub struct Complete {
    /// The picture and the labels beside it.
    pub rendered: Rendered,
    /// The head's mesh, as [`crate::head_mesh_of`] gives it.
    pub mesh: HeadMesh,
    /// Which of the [`crate::PARTS`] each pixel shows, as [`crate::segment_factors`] gives it.
    pub parts: Image,
}

/// Draws a face and its label image in one go: what [`render_factors`], [`crate::head_mesh_of`] and
/// [`crate::segment_factors`] give, to the bit, for less work than the three.
///
/// # Errors
/// When the size is not 24 to 1024, or a factor is not finite.
pub fn render_complete(factors: &Factors, size: usize) -> Result<Complete, Error> {
    check_size(size)?;
    factors.check()?;
    let rig = Rig::new(factors);
    let camera = Camera::new(&factors.scene, size);
    SCRATCH.with_borrow_mut(|scratch| {
        let mut plain = std::mem::take(&mut scratch.plain);
        plain.reset(size);
        let linear = scratch.light(factors, &rig, &camera, size, |mesh, act| {
            plain.draw(mesh, act.material, &camera, 1, act.both_sides, 0.0);
        });
        let pixels = develop(factors, linear, size);
        let parts = parts::label(factors, &rig, &camera, &plain, &mut scratch.mesh);
        scratch.plain = plain;
        let annotations = annotate::labels(factors, &rig, &camera, size);
        Ok(Complete {
            rendered: Rendered {
                image: Image::new(size, size, 3, pixels)?,
                landmarks: annotations.five,
                annotations,
                factors: *factors,
            },
            mesh: annotate::mesh_of(factors, &rig),
            parts: parts?,
        })
    })
}

/// Buffers kept between faces: they are rewritten for each, so that they save time and carry nothing over.
#[derive(Default)]
struct Scratch {
    buffer: Buffer,
    lens: Buffer,
    /// One sample a pixel, for the label image.
    plain: Buffer,
    mesh: Mesh,
    shadow: Shadow,
    light: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    /// Linear light, three values a pixel; `also` sees every mesh.
    fn light(
        &mut self,
        f: &Factors,
        rig: &Rig,
        camera: &Camera,
        size: usize,
        mut also: impl FnMut(&Mesh, stage::Act),
    ) -> &mut Vec<f32> {
        let per_pixel = if size < 48 { 3 } else { 2 };
        let side = size * per_pixel;
        let Self {
            buffer,
            lens,
            mesh,
            shadow,
            light,
            plain: _,
        } = self;
        let lamp = Light::new(f);
        buffer.reset(side);
        shadow.reset(lamp.direction);
        stage::meshes(f, rig, mesh, |mesh, act| {
            also(mesh, act);
            buffer.draw(mesh, act.material, camera, per_pixel, act.both_sides, 0.0);
            if !matches!(
                act.material,
                Material::Neck | Material::Clothes | Material::Curtain
            ) {
                shadow.draw(mesh, camera);
            }
        });
        let worn = f.scene.glasses >= 0.5 || f.disguise.sunglasses >= 0.5;
        if worn {
            glasses::sheet(rig, mesh);
            lens.reset(side);
            lens.draw(mesh, Material::Head, camera, per_pixel, true, 0.06);
        }

        let occluding = Occluding::new(f, lamp.direction);
        let scenery = Scenery::new(f, rig, camera, lamp, shadow, (size, per_pixel));
        light.clear();
        light.resize(size * size * 3, 0.0);
        let weight = 1.0 / (per_pixel * per_pixel) as f32;
        let unit = 1.0 / side as f32;
        for y in 0..side {
            let row = (y / per_pixel) * size;
            for x in 0..side {
                let sample = &buffer.samples[y * side + x];
                let mut colour = scenery.shade(sample, x, y);
                if worn {
                    let glass = &lens.samples[y * side + x];
                    if glass.material != Material::None && glass.depth > sample.depth {
                        let (tint, alpha) = glasses::frame(rig, f, glass.x, glass.y, scenery.px);
                        colour = mix3(colour, tint, alpha);
                    }
                }
                if let Some(thing) = &occluding {
                    let (u, v) = ((x as f32 + 0.5) * unit, (y as f32 + 0.5) * unit);
                    let (tint, alpha) = thing.at(u, v, unit);
                    colour = mix3(colour, tint, alpha);
                }
                let at = (row + x / per_pixel) * 3;
                for (sum, c) in light[at..at + 3].iter_mut().zip(colour) {
                    *sum += weight * c;
                }
            }
        }
        light
    }
}
