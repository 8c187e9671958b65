//! From what a sample sees to light: colours of the person, light, skin, hair, clothes and background.

use crate::factors::{Colours, Factors};
use crate::geometry::{self, Material};
use crate::looks::{Disguise, Makeup, Surround};
use crate::math::{
    V3, clamp01, dot, hill2, line, linear, mix, mix3, mul3, noise1, scale3, sin_cos, step, unit,
};
use crate::paint::{self, Surface};
use crate::raster::{Camera, Sample};
use crate::rig::Rig;
use crate::wear;

/// Colours of a face in linear light.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Palette {
    pub skin: V3,
    pub flush: V3,
    pub lips: V3,
    pub hair: V3,
    pub brow: V3,
    pub lash: V3,
    pub iris: V3,
    pub clothes: V3,
    /// Worn things: mask, scarf, hat.
    pub cloth: V3,
    pub cloth_too: V3,
    pub beard: V3,
    /// Colours of the make-up, and how much of each.
    pub rouge: V3,
    pub eye_shadow: V3,
    pub paint: Makeup,
    /// Side of the catchlight in the eyes: 1 to the left.
    pub catch: f32,
}

/// Skin from light to dark, sRGB; between the entries colours are mixed.
const SKIN: [V3; 4] = [
    [0.97, 0.82, 0.73],
    [0.90, 0.70, 0.56],
    [0.70, 0.49, 0.36],
    [0.45, 0.30, 0.22],
];

fn ramp<const N: usize>(table: &[V3; N], t: f32) -> V3 {
    let t = clamp01(t) * (N - 1) as f32;
    let k = (t as usize).min(N - 2);
    mix3(table[k], table[k + 1], t - k as f32)
}

impl Palette {
    pub(crate) fn new(f: &Factors) -> Self {
        let c: &Colours = &f.colours;
        let base = ramp(&SKIN, c.melanin);
        let blood = 2.0 * c.haemoglobin - 1.0;
        let skin = [
            base[0] * (1.0 + 0.02 * blood),
            base[1] * (1.0 - 0.05 * blood),
            base[2] * (1.0 - 0.06 * blood),
        ];
        let flush = [skin[0] * 0.98, skin[1] * 0.78, skin[2] * 0.76];
        let red_lips = [0.80, 0.33, 0.33];
        let dark = mix(1.0, 0.62, c.melanin);
        let lips = mix3(
            [skin[0] * 0.90, skin[1] * 0.70, skin[2] * 0.68],
            scale3(red_lips, dark),
            c.lip_red,
        );
        let brown = ramp(
            &[
                [0.80, 0.66, 0.42],
                [0.50, 0.36, 0.22],
                [0.27, 0.18, 0.12],
                [0.10, 0.08, 0.07],
            ],
            c.hair_melanin,
        );
        let red = mix3(
            brown,
            [
                0.60 * mix(1.0, 0.5, c.hair_melanin),
                0.28 * mix(1.0, 0.5, c.hair_melanin),
                0.12,
            ],
            c.hair_red,
        );
        let hair = mix3(red, [0.68, 0.67, 0.66], c.hair_grey);
        let brow = mix3(skin, scale3(hair, 0.72), 0.35 + 0.65 * c.brow_dark);
        let iris = ramp(
            &[
                [0.20, 0.11, 0.06],
                [0.36, 0.22, 0.10],
                [0.35, 0.40, 0.20],
                [0.30, 0.45, 0.55],
                [0.45, 0.62, 0.78],
            ],
            c.iris,
        );
        let m = f.makeup;
        let stick = ramp(
            &[[0.80, 0.36, 0.40], [0.72, 0.06, 0.10], [0.36, 0.04, 0.14]],
            m.lipstick_tone,
        );
        let lips = mix3(lips, stick, clamp01(m.lipstick));
        let even = scale3(skin, 1.03);
        let skin = mix3(skin, even, clamp01(m.foundation));
        let d = &f.disguise;
        let tone = mix(0.16, 0.72, clamp01(d.disguise_tone));
        let cloth = hue(d.disguise_hue, 0.38, tone);
        let cloth_too = hue(d.disguise_hue + 0.45, 0.30, mix(tone, 1.0 - tone, 0.7));
        let beard = if d.false_beard >= 0.5 {
            mix3(scale3(hair, 0.75), [0.10, 0.07, 0.05], 0.4)
        } else {
            scale3(hair, 0.9)
        };
        let dark_lid = mix(0.75, 0.45, c.melanin);
        let lash = scale3(mix3(hair, [0.10, 0.07, 0.06], 0.75), 0.8);
        Self {
            skin: linear(skin),
            flush: linear(flush),
            lips: linear(lips),
            hair: linear(hair),
            brow: linear(brow),
            lash: linear(lash),
            iris: linear(iris),
            cloth: linear(cloth),
            cloth_too: linear(cloth_too),
            beard: linear(beard),
            rouge: linear(mul3(skin, [1.0, 0.52, 0.56])),
            eye_shadow: linear(hue(m.eye_shadow_hue, 0.55, 0.55 * dark_lid + 0.05)),
            paint: m,
            clothes: linear(hue(f.scene.clothes_hue, 0.30, 0.42)),
            catch: if f.scene.light_azimuth < 0.0 {
                1.0
            } else {
                -1.0
            },
        }
    }
}

/// A colour of hue `h` (turns), colourfulness `c` and brightness `b`.
fn hue(h: f32, c: f32, b: f32) -> V3 {
    let turn = std::f32::consts::TAU;
    let at = |shift: f32| clamp01(b + 0.5 * c * sin_cos(turn * (h + shift)).1);
    [at(0.0), at(-1.0 / 3.0), at(1.0 / 3.0)]
}

/// Directional light and light from all sides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Light {
    direction: V3,
    half: V3,
    colour: V3,
    ambient: V3,
    surround: Surround,
}

impl Light {
    pub(crate) fn new(f: &Factors) -> Self {
        let s = &f.scene;
        let radians = |degrees: f32| degrees * (std::f32::consts::PI / 180.0);
        let (sa, ca) = sin_cos(radians(s.light_azimuth));
        let (se, ce) = sin_cos(radians(s.light_elevation));
        let direction = [sa * ce, se, ca * ce];
        let w = s.warmth;
        let tint = [1.0 + 0.10 * w, 1.0, 1.0 - 0.14 * w];
        Self {
            direction,
            half: unit([direction[0], direction[1], direction[2] + 1.0]),
            colour: scale3(tint, s.light_strength),
            ambient: mul3(
                scale3([1.0 + 0.04 * w, 1.0, 1.0 - 0.05 * w], 0.82 * s.ambient),
                mix3(
                    [1.0; 3],
                    scale3(hue(f.surround.ambient_hue, 1.0, 0.6), 1.5),
                    clamp01(f.surround.ambient_colour),
                ),
            ),
            surround: f.surround,
        }
    }

    /// Light that falls on a surface with normal `n`. `bleed` lets it creep round the edge of the shadow, red first,
    /// as in skin.
    fn falls(&self, n: V3, bleed: f32) -> V3 {
        let cosine = dot(n, self.direction);
        let wrap = |w: f32| ((cosine + w * bleed) / (1.0 + w * bleed)).max(0.0);
        let s = &self.surround;
        let [x, y, z] = n;
        let sky = (1.0
            + s.sh_x * x
            + s.sh_y * y
            + s.sh_z * z
            + s.sh_xy * x * y
            + s.sh_yz * y * z
            + s.sh_xz * x * z
            + s.sh_zz * (1.5 * z * z - 0.5)
            + s.sh_xx * (x * x - y * y))
            .max(0.05);
        [
            self.ambient[0] * sky + self.colour[0] * wrap(0.40),
            self.ambient[1] * sky + self.colour[1] * wrap(0.26),
            self.ambient[2] * sky + self.colour[2] * wrap(0.22),
        ]
    }

    /// Highlight, 0 to 1; the exponent is 2^`sharpness`.
    fn shines(&self, n: V3, sharpness: u32) -> f32 {
        let mut k = dot(n, self.half).max(0.0);
        for _ in 0..sharpness {
            k *= k;
        }
        k
    }
}

/// Everything needed to shade one face.
pub(crate) struct Scenery<'a> {
    pub rig: &'a Rig,
    pub palette: Palette,
    pub light: Light,
    worn: Disguise,
    /// Width of a sample in face units.
    pub px: f32,
    /// Nearness of the light's shadow of the nose: its shift to the side.
    shadow: f32,
    background: (V3, V3),
    /// Place of the background's soft spot, in parts of the side.
    spot: (f32, f32),
}

impl<'a> Scenery<'a> {
    pub(crate) fn new(f: &Factors, rig: &'a Rig, camera: &Camera, per_pixel: usize) -> Self {
        let s = &f.scene;
        let light = Light::new(f);
        let high = hue(s.background_hue, s.background_colour, s.background_light);
        let low = hue(
            s.background_hue + 0.12,
            0.8 * s.background_colour,
            0.72 * s.background_light,
        );
        Self {
            rig,
            worn: f.disguise,
            palette: Palette::new(f),
            shadow: -0.14 * light.direction[0],
            light,
            px: 1.25 * camera.pixel() / per_pixel as f32,
            background: (linear(high), linear(low)),
            spot: (
                noise1(97.3 * s.background_hue + 3.0),
                noise1(53.1 * s.background_hue + 40.0),
            ),
        }
    }

    /// Linear light of a sample; `u`, `v` are its place in parts of the side.
    pub(crate) fn shade(&self, sample: &Sample, u: f32, v: f32) -> V3 {
        match sample.material {
            Material::None => self.backdrop(u, v),
            Material::Head => self.face(sample),
            Material::Ear => self.ear(sample),
            Material::Neck => self.neck(sample),
            Material::Curtain => {
                // Hair behind the face lies in its shadow.
                let streak = 0.75 + 0.45 * noise1(23.0 * sample.front + 9.0 * sample.x);
                let n = unit(sample.normal);
                let lit = self.light.falls(n, 0.3);
                scale3(mul3(self.palette.hair, lit), 0.62 * streak)
            }
            Material::Clothes => {
                let n = unit(sample.normal);
                mul3(self.palette.clothes, self.light.falls(n, 0.0))
            }
            Material::Mask => self.mask(sample),
            Material::Scarf | Material::Hat => self.cloth(sample),
        }
    }

    /// The surgical mask: pale blue, pleated, with a seam along its edges.
    fn mask(&self, sample: &Sample) -> V3 {
        let n = unit(sample.normal);
        let t = sample.front;
        let pleat = line(t - 0.36, 0.035)
            .max(line(t - 0.52, 0.035))
            .max(line(t - 0.68, 0.035));
        let seam = line(t, 0.05).max(line(t - 1.0, 0.05));
        let lit = self.light.falls(n, 0.6);
        let blue = mix3([0.36, 0.58, 0.66], [0.66, 0.76, 0.80], 0.6 * seam);
        scale3(mul3(blue, lit), 1.0 - 0.22 * pleat)
    }

    /// Knitted cloth of hat and scarf: ribs, and stripes of a second colour.
    fn cloth(&self, sample: &Sample) -> V3 {
        let n = unit(sample.normal);
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
        let lit = self.light.falls(n, 0.3);
        scale3(mul3(colour, lit), (1.08 - 0.5 * rib) * (1.0 - edge))
    }

    fn backdrop(&self, u: f32, v: f32) -> V3 {
        let (high, low) = self.background;
        let spot = 0.5 * hill2(u - self.spot.0, v - self.spot.1, 0.8, 0.8);
        scale3(mix3(high, low, clamp01(v)), 0.85 + spot)
    }

    fn hair(&self, sample: &Sample, n: V3) -> V3 {
        let strand = 26.0 * sample.x / (0.35 + sample.front.abs()) + 4.0 * sample.y;
        let streak = 0.72 + 0.40 * noise1(strand) + 0.16 * noise1(2.7 * strand + 50.0);
        let lit = self.light.falls(n, 0.3);
        let colour = scale3(mul3(self.palette.hair, lit), streak);
        let shine = 0.10 * self.light.shines(n, 3) * streak;
        [colour[0] + shine, colour[1] + shine, colour[2] + shine]
    }

    fn ear(&self, sample: &Sample) -> V3 {
        let n = unit(sample.normal);
        let lit = self.light.falls(n, 1.0);
        let hollow = 1.0 - 0.45 * hill2(sample.x, sample.y - 0.1, 0.5, 0.6);
        scale3(mul3(self.palette.flush, lit), 0.9 * hollow)
    }

    fn neck(&self, sample: &Sample) -> V3 {
        let n = unit(sample.normal);
        let lit = self.light.falls(n, 1.0);
        let chin = self.rig.head.chin_y;
        let shadow = 1.0 - 0.55 * step(chin - 0.42, chin + 0.02, sample.y);
        scale3(mul3(self.palette.skin, lit), shadow)
    }

    fn face(&self, sample: &Sample) -> V3 {
        let (x, y) = (sample.x, sample.y);
        let n = unit(sample.normal);
        let head = &self.rig.head;
        let p = &self.palette;
        let mut within = geometry::in_hair(head, x, y, sample.front);
        if within.abs() < 0.08 {
            within += 0.03 * (noise1(19.0 * x + 7.0) - 0.5);
        }
        let hair = step(-0.03, 0.035, within);
        if hair >= 1.0 {
            return self.hair(sample, n);
        }
        let mut s = Surface {
            colour: p.skin,
            open: 1.0,
            gloss: 0.055,
            glint: 0.0,
        };
        // The hair's shadow on the forehead.
        s.open *= 1.0 - 0.25 * step(-0.14, 0.0, within);
        if sample.front > 0.12 {
            self.skin(x, y, &mut s);
            let rig = self.rig;
            paint::eye(&rig.eye, p, x, y, self.px, &mut s);
            if y > rig.eye.y {
                paint::brow(&rig.brow, p, x, y, self.px, &mut s);
            }
            if y < head.nose_base {
                paint::mouth(&rig.mouth, p, x, y, self.px, &mut s);
            }
        } else if self.rig.beard > 0.0 {
            self.beard(x, y, &mut s);
        }
        if self.worn.mask >= 0.5 {
            self.loops(x, y, &mut s);
        }
        if self.worn.hat >= 0.5 {
            s.open *= 1.0 - 0.35 * step(0.20, 0.0, wear::hat_edge(self.rig) - y);
        }
        // The underside of the jaw lies in shadow.
        s.open *= 1.0 - 0.30 * step(head.chin_y + 0.10, head.chin_y - 0.02, y);
        let lit = self.light.falls(n, 1.0);
        let shine = s.gloss * self.light.shines(n, 4) * s.open + s.glint;
        let mut out = scale3(mul3(s.colour, lit), s.open);
        for (out, light) in out.iter_mut().zip(self.light.colour) {
            *out += shine * light;
        }
        if hair > 0.0 {
            out = mix3(out, self.hair(sample, n), hair);
        }
        out
    }

    /// The mask's loops, from its corners to the ears.
    fn loops(&self, x: f32, y: f32, s: &mut Surface) {
        let from = wear::mask_half_width(self.rig);
        let ax = x.abs();
        if ax < from - 0.02 {
            return;
        }
        let t = (ax - from) / (self.rig.head.half_width - from);
        let high = mix(wear::mask_top(self.rig, from) - 0.02, 0.06, t);
        let low = mix(self.rig.head.chin_y + 0.44, -0.14, t);
        let string = line(y - high, 0.022).max(line(y - low, 0.022));
        s.colour = mix3(s.colour, [0.72, 0.74, 0.76], string);
    }

    /// Flush, beard, nose and folds.
    fn skin(&self, x: f32, y: f32, s: &mut Surface) {
        let head = &self.rig.head;
        let fold = &self.rig.fold;
        let p = &self.palette;
        let ax = x.abs();
        let flush = 0.42 * hill2(ax - 0.38, y - head.cheek_y + 0.02, 0.26, 0.22)
            + 0.35 * hill2(ax, y - head.nose_tip, 0.16, 0.12);
        let cover = clamp01(p.paint.foundation);
        s.colour = mix3(s.colour, p.flush, flush * (1.0 - 0.75 * cover));
        s.gloss *= 1.0 - 0.6 * cover;
        if p.paint.blush > 0.0 {
            let rouge = hill2(
                ax - 0.43 - 0.25 * (y - head.cheek_y),
                y - head.cheek_y - 0.05,
                0.24,
                0.17,
            );
            s.colour = mix3(s.colour, p.rouge, clamp01(0.85 * p.paint.blush * rouge));
        }
        self.beard(x, y, s);

        if y > self.rig.eye.y - 0.02 {
            if y > 0.30 {
                let strength = mix(
                    fold.forehead_inner,
                    fold.forehead_outer,
                    step(0.10, 0.34, ax),
                );
                let brow = self.rig.brow.y_mid;
                let bend = 0.06 * x * x;
                let lines = line(y - brow - 0.14 + bend, 0.024)
                    .max(line(y - brow - 0.23 + bend, 0.026))
                    .max(0.8 * line(y - brow - 0.32 + bend, 0.024));
                s.open *= 1.0 - strength * lines * step(0.50, 0.34, ax);
            }
            let brow = self.rig.brow.y_inner;
            s.open *= 1.0 - fold.glabella * hill2(ax - 0.045, y - brow, 0.024, 0.11);
            s.open *= 1.0 - 0.5 * fold.glabella * hill2(ax, y - brow + 0.10, 0.10, 0.05);
        }
        if y < 0.20 && y > head.nose_base - 0.20 {
            self.nose(x, y, s);
        }
        let m = &self.rig.mouth;
        // Nasolabial fold: from the wing of the nose around the corner of the mouth.
        let (y0, y1) = (head.nose_tip + 0.03, m.y + 0.02 + m.rise2.max(-0.02));
        let t = (y0 - y) / (y0 - y1);
        if (0.0..=1.15).contains(&t) {
            let at = mix(head.nose_width + 0.03, m.w + 0.075, t) + 0.07 * t * (1.0 - t);
            let strength = fold.nasolabial * step(0.0, 0.2, t) * step(1.15, 0.8, t);
            s.open *= 1.0 - strength * line(ax - at, 0.040);
        }
        if y < m.y + 0.05 {
            let low = m.y - m.gap_down - m.lower;
            let corner = m.y + m.rise2 + m.rise4;
            s.open *=
                1.0 - fold.marionette * hill2(ax - m.w - 0.035, y - corner + 0.07, 0.035, 0.11);
            s.open *= 1.0 - fold.stretch * hill2(ax - m.w - 0.06, y - corner, 0.035, 0.15);
            s.open *= 1.0 - fold.chin * hill2(x, y - low + 0.055 + 0.5 * x * x, 0.22, 0.040);
        }
    }

    fn nose(&self, x: f32, y: f32, s: &mut Surface) {
        let head = &self.rig.head;
        let fold = &self.rig.fold;
        let ax = x.abs();
        let (tip, base, w) = (head.nose_tip, head.nose_base, head.nose_width);
        // Sides of the ridge, shadow below, creases of the wings, nostrils.
        s.open *= 1.0 - 0.20 * hill2(ax - 0.105, y - 0.4 * tip, 0.06, 0.24);
        s.open *= 1.0 - 0.30 * hill2(x - self.shadow, y - base + 0.045, 1.25 * w, 0.085);
        let crease = hill2(ax - w - 0.005, y - tip + 0.025, 0.028, 0.065);
        s.open *= 1.0 - 0.50 * crease;
        let nostril = hill2(ax - 0.46 * w, y - base - 0.008, 0.40 * w, 0.032);
        s.open *= 1.0 - 0.80 * nostril;
        s.gloss += 0.14 * hill2(x, y - tip - 0.02, 0.05, 0.06)
            + 0.05 * hill2(x, y - 0.4 * tip, 0.035, 0.16);
        if fold.nose > 0.0 {
            let middle = step(0.12, 0.06, ax);
            let lines = line(y - 0.15 + 0.5 * ax, 0.022)
                .max(line(y - 0.085 + 0.5 * ax, 0.022))
                .max(0.7 * line(y - 0.02 + 0.5 * ax, 0.022));
            s.open *= 1.0 - fold.nose * middle * lines;
            s.open *= 1.0 - 0.8 * fold.nose * hill2(ax - 0.12, y - 0.35 * tip, 0.05, 0.11);
        }
    }

    /// Darkens jaw, chin and the upper lip.
    fn beard(&self, x: f32, y: f32, s: &mut Surface) {
        let amount = self.rig.beard;
        if amount <= 0.0 {
            return;
        }
        let m = &self.rig.mouth;
        let ax = x.abs();
        let edge = m.y + 0.08 + 0.9 * (ax - 0.25).max(0.0);
        let below = m.y - m.gap_down - m.lower - y;
        let jaw = step(edge + 0.08, edge - 0.10, y)
            * step(0.0, 0.14, (ax - m.w).max(below)).max(step(-0.02, 0.10, below));
        let lip =
            step(0.065, 0.0, (y - m.y - 0.105).abs() - 0.02) * step(m.w + 0.10, m.w - 0.05, ax);
        let t = amount * jaw.max(lip);
        s.colour = mix3(s.colour, self.palette.beard, t);
        s.gloss *= 1.0 - t;
    }
}
