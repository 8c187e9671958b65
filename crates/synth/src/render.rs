//! Draws a face: meshes into the depth buffer, samples to light, light to pixels.

use std::cell::RefCell;

use crate::annotate::{self, Annotations};
use crate::config::{SynthConfig, check_size};
use crate::error::Error;
use crate::factors::{Factors, factors};
use crate::geometry::{self, Material, Mesh};
use crate::glasses;
use crate::image::Image;
use crate::math::{hash, mix};
use crate::raster::{Buffer, Camera};
use crate::rig::Rig;
use crate::shade::Scenery;
use crate::wear;

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
        let linear = scratch.light(factors, &rig, &camera, size);
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

/// Buffers kept between faces: they are rewritten for each, so that they save time and carry nothing over.
#[derive(Default)]
struct Scratch {
    buffer: Buffer,
    lens: Buffer,
    mesh: Mesh,
    light: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    /// Linear light, three values a pixel.
    fn light(&mut self, f: &Factors, rig: &Rig, camera: &Camera, size: usize) -> &mut Vec<f32> {
        let per_pixel = if size < 48 { 3 } else { 2 };
        let side = size * per_pixel;
        let Self {
            buffer,
            lens,
            mesh,
            light,
        } = self;
        buffer.reset(side);
        geometry::head(rig, mesh);
        buffer.draw(mesh, Material::Head, camera, per_pixel, false, 0.0);
        for side in [-1.0, 1.0] {
            geometry::ear(rig, side, mesh);
            buffer.draw(mesh, Material::Ear, camera, per_pixel, false, 0.0);
        }
        let chin = rig.head.chin_y;
        geometry::barrel(
            (-0.30, -1.9),
            ((0.41 * rig.head.neck, 0.38), (0.49 * rig.head.neck, 0.46)),
            -0.12,
            1.75,
            mesh,
        );
        buffer.draw(mesh, Material::Neck, camera, per_pixel, false, 0.0);
        geometry::barrel(
            (chin.min(-1.05) - 0.22, chin.min(-1.05) - 0.75),
            ((0.50, 0.42), (1.60, 0.70)),
            -0.22,
            1.75,
            mesh,
        );
        buffer.draw(mesh, Material::Clothes, camera, per_pixel, false, 0.0);
        if let Some(bottom) = rig.head.curtain {
            geometry::curtain(rig, bottom, mesh);
            buffer.draw(mesh, Material::Curtain, camera, per_pixel, true, 0.0);
        }
        if f.disguise.mask >= 0.5 {
            wear::mask(rig, mesh);
            buffer.draw(mesh, Material::Mask, camera, per_pixel, true, 0.0);
        }
        if f.disguise.scarf >= 0.5 {
            wear::scarf(rig, mesh);
            buffer.draw(mesh, Material::Scarf, camera, per_pixel, false, 0.0);
        }
        if f.disguise.hat >= 0.5 {
            wear::hat(rig, mesh);
            buffer.draw(mesh, Material::Hat, camera, per_pixel, false, 0.0);
        }
        let worn = f.scene.glasses >= 0.5 || f.disguise.sunglasses >= 0.5;
        if worn {
            glasses::sheet(rig, mesh);
            lens.reset(side);
            lens.draw(mesh, Material::Head, camera, per_pixel, true, 0.06);
        }

        let scenery = Scenery::new(f, rig, camera, per_pixel);
        light.clear();
        light.resize(size * size * 3, 0.0);
        let weight = 1.0 / (per_pixel * per_pixel) as f32;
        let unit = 1.0 / side as f32;
        for y in 0..side {
            let v = (y as f32 + 0.5) * unit;
            let row = (y / per_pixel) * size;
            for x in 0..side {
                let sample = &buffer.samples[y * side + x];
                let u = (x as f32 + 0.5) * unit;
                let mut colour = scenery.shade(sample, u, v);
                if worn {
                    let glass = &lens.samples[y * side + x];
                    if glass.material != Material::None && glass.depth > sample.depth {
                        let (tint, alpha) = glasses::frame(rig, f, glass.x, glass.y, scenery.px);
                        for (c, t) in colour.iter_mut().zip(tint) {
                            *c = mix(*c, t, alpha);
                        }
                    }
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

/// Linear light to bytes: blur, gamma 2, noise.
fn develop(f: &Factors, light: &mut [f32], size: usize) -> Vec<u8> {
    blur(light, size, f.scene.blur * size as f32 / 64.0);
    // Four bytes of one hash make a value of mean 0 and variance 1 (to 0.1 %).
    let noise = f.scene.noise;
    const CENTRE: f32 = 510.0;
    const SPREAD: f32 = 1.0 / 147.8;
    light
        .iter()
        .enumerate()
        .map(|(k, &value)| {
            let mut out = 255.0 * value.clamp(0.0, 1.0).sqrt();
            if noise > 0.0 {
                let word = hash(f.noise_seed.wrapping_add(k as u64));
                let sum =
                    (word & 255) + (word >> 16 & 255) + (word >> 32 & 255) + (word >> 48 & 255);
                out += noise * (sum as f32 - CENTRE) * SPREAD;
            }
            (out + 0.5).clamp(0.0, 255.0) as u8
        })
        .collect()
}

/// Gaussian blur of standard deviation `sigma` pixels, as repeated three-point averages: the variance of each is at
/// most a half, their sum is `sigma` squared.
fn blur(light: &mut [f32], size: usize, sigma: f32) {
    let variance = sigma * sigma;
    if variance < 1e-4 {
        return;
    }
    let passes = (variance / 0.5).ceil().clamp(1.0, 64.0);
    let side = (0.5 * variance / passes).min(0.25);
    let centre = 1.0 - 2.0 * side;
    let row = size * 3;
    let mut old = vec![0.0; row];
    for _ in 0..passes as usize {
        for line in light.chunks_exact_mut(row) {
            old.copy_from_slice(line);
            for (k, out) in line.iter_mut().enumerate() {
                let left = old[if k < 3 { k } else { k - 3 }];
                let right = old[if k + 3 < row { k + 3 } else { k }];
                *out = centre * old[k] + side * (left + right);
            }
        }
        // Downwards: `old` keeps the row above as it was.
        old.copy_from_slice(&light[..row]);
        for y in 0..size {
            for (k, above) in old.iter_mut().enumerate() {
                let at = y * row + k;
                let here = light[at];
                let below = if y + 1 < size { light[at + row] } else { here };
                light[at] = centre * here + side * (*above + below);
                *above = here;
            }
        }
    }
}
