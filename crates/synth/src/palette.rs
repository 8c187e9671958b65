//! Colours of one face, from the amounts of its pigments.

use crate::factors::Factors;
use crate::looks::Makeup;
use crate::math::{V3, clamp01, linear, mix, mix3, mul3, scale3, sin_cos};
use crate::person::Colours;

/// Colours of a face in linear light.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Palette {
    pub skin: V3,
    pub flush: V3,
    /// Freckles and moles.
    pub spot: V3,
    /// Rings under the eyes.
    pub ring: V3,
    /// Stubble under the skin.
    pub stubble: V3,
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

/// Colour of skin with this much melanin, sRGB.
pub(crate) fn skin_tone(melanin: f32) -> V3 {
    ramp(&SKIN, melanin)
}

impl Palette {
    pub(crate) fn new(f: &Factors) -> Self {
        let c: &Colours = &f.colours;
        let base = skin_tone(c.melanin);
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
            spot: linear([skin[0] * 0.62, skin[1] * 0.50, skin[2] * 0.44]),
            ring: linear([skin[0] * 0.72, skin[1] * 0.62, skin[2] * 0.66]),
            stubble: linear(mix3(
                skin,
                scale3(mix3(hair, [0.22, 0.24, 0.27], 0.5), 0.9),
                0.62,
            )),
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
pub(crate) fn hue(h: f32, c: f32, b: f32) -> V3 {
    let turn = std::f32::consts::TAU;
    let at = |shift: f32| clamp01(b + 0.5 * c * sin_cos(turn * (h + shift)).1);
    [at(0.0), at(-1.0 / 3.0), at(1.0 / 3.0)]
}
