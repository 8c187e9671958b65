//! From what a sample sees to light: light, skin, hair, clothes and background.

use crate::backdrop::Backdrop;
use crate::factors::Factors;
use crate::geometry::Material;
use crate::light::Light;
use crate::looks::Disguise;
use crate::math::{V3, line, mix3, mul3, noise1, noise2, scale3, step, unit};
use crate::palette::Palette;
use crate::raster::{Camera, Sample};
use crate::rig::Rig;
use crate::shadow::Shadow;
use crate::skin::Mole;
use crate::surroundings::Skin;

/// Everything needed to shade one face.
pub(crate) struct Scenery<'a> {
    pub rig: &'a Rig,
    pub palette: Palette,
    pub light: Light,
    pub worn: Disguise,
    pub complexion: Skin,
    pub moles: [Mole; 4],
    /// Width of a sample in face units.
    pub px: f32,
    camera: Camera,
    shadow: &'a Shadow,
    backdrop: Backdrop,
    /// Width of a sample in parts of the side, and in pixels.
    unit: f32,
    step: f32,
}

impl<'a> Scenery<'a> {
    pub(crate) fn new(
        f: &Factors,
        rig: &'a Rig,
        camera: &Camera,
        light: Light,
        shadow: &'a Shadow,
        (size, per_pixel): (usize, usize),
    ) -> Self {
        let px = 1.25 * camera.pixel() / per_pixel as f32;
        Self {
            rig,
            moles: Mole::all(&f.skin, px),
            worn: f.disguise,
            complexion: f.skin,
            palette: Palette::new(f),
            light,
            px,
            camera: *camera,
            shadow,
            backdrop: Backdrop::new(f),
            unit: 1.0 / (size * per_pixel) as f32,
            step: 1.0 / per_pixel as f32,
        }
    }

    /// Linear light of the sample in column `column`, row `row` of the buffer.
    pub(crate) fn shade(&self, sample: &Sample, column: usize, row: usize) -> V3 {
        let (x, y) = (column as f32 + 0.5, row as f32 + 0.5);
        if sample.material == Material::None {
            return self.backdrop.at(x * self.unit, y * self.unit, self.unit);
        }
        let n = unit(sample.normal);
        let lit = if self.light.faces(n) {
            let (u, v) = (x * self.step - 0.5, y * self.step - 0.5);
            self.shadow
                .reaches(self.camera.unproject(u, v, sample.depth), n)
        } else {
            0.0
        };
        match sample.material {
            Material::Head => self.face(sample, n, lit),
            Material::Ear => self.ear(sample, n, lit),
            Material::Neck => self.neck(sample, n, lit),
            Material::Curtain => {
                // Hair behind the face lies in its shadow.
                let strand = 31.0 * sample.front + 12.0 * sample.x;
                let streak = 0.70 + 0.35 * noise1(strand) + 0.25 * noise1(3.1 * strand + 9.0);
                let light = self.light.falls(n, 0.3, lit);
                scale3(mul3(self.palette.hair, light), 0.66 * streak)
            }
            Material::Mask => self.mask(sample, n, lit),
            Material::Scarf | Material::Hat => self.cloth(sample, n, lit),
            _ => mul3(self.palette.clothes, self.light.falls(n, 0.0, lit)),
        }
    }

    /// The surgical mask: pale blue, pleated, with a seam along its edges.
    fn mask(&self, sample: &Sample, n: V3, lit: f32) -> V3 {
        let t = sample.front;
        let pleat = line(t - 0.36, 0.035)
            .max(line(t - 0.52, 0.035))
            .max(line(t - 0.68, 0.035));
        let seam = line(t, 0.05).max(line(t - 1.0, 0.05));
        let lit = self.light.falls(n, 0.6, lit);
        let blue = mix3([0.36, 0.58, 0.66], [0.66, 0.76, 0.80], 0.6 * seam);
        scale3(mul3(blue, lit), 1.0 - 0.22 * pleat)
    }

    /// Knitted cloth of hat and scarf: ribs, and stripes of a second colour.
    fn cloth(&self, sample: &Sample, n: V3, lit: f32) -> V3 {
        let hat = sample.material == Material::Hat;
        let (ribs, stripe) = if hat {
            (44.0 * sample.x, line(sample.y - 0.55, 0.10))
        } else {
            let bands = 5.0 * sample.x + 1.5 * sample.y;
            (
                70.0 * sample.y + 4.0 * sample.x,
                step(0.45, 0.55, noise1(2.0 * bands)),
            )
        };
        let rib = (ribs - ribs.floor() - 0.5).abs();
        let edge = if hat {
            0.25 * line(sample.y - 0.285, 0.03)
        } else {
            0.0
        };
        let colour = mix3(self.palette.cloth, self.palette.cloth_too, stripe);
        let lit = self.light.falls(n, 0.3, lit);
        scale3(mul3(colour, lit), (1.08 - 0.5 * rib) * (1.0 - edge))
    }

    /// Hair of the head: strands, and the band of light that runs across them.
    pub(crate) fn hair(&self, sample: &Sample, n: V3, lit: f32) -> V3 {
        let strand = 26.0 * sample.x / (0.35 + sample.front.abs()) + 4.0 * sample.y;
        let bend = 3.0 * noise2(1.7 * sample.x + 3.0, 1.3 * sample.y);
        let fine = if self.px < 0.02 {
            0.22 * noise1(6.3 * strand + bend)
        } else {
            0.11
        };
        let streak =
            0.58 + 0.36 * noise1(strand + bend) + 0.18 * noise1(2.7 * strand + 50.0) + fine;
        let light = self.light.falls(n, 0.3, lit);
        let colour = scale3(mul3(self.palette.hair, light), streak);
        let shine = 0.13 * self.light.shines(n, 3) * streak * streak * lit;
        [
            colour[0] + shine * self.light.colour[0],
            colour[1] + shine * self.light.colour[1],
            colour[2] + shine * self.light.colour[2],
        ]
    }
}
