//! The light of a scene: one lamp and light from all sides.

use crate::factors::Factors;
use crate::looks::Surround;
use crate::math::{V3, clamp01, dot, mix3, mul3, scale3, sin_cos, unit};
use crate::palette::hue;

/// Directional light and light from all sides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Light {
    pub direction: V3,
    half: V3,
    pub colour: V3,
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

    /// Whether the lamp can reach a surface with normal `n` at all, counting what creeps round the edge.
    pub(crate) fn faces(&self, n: V3) -> bool {
        dot(n, self.direction) > -0.42
    }

    /// Light that falls on a surface with normal `n`, of which the lamp reaches the part `lit`. `bleed` lets it creep
    /// round the edge of the shadow, red first, as in skin.
    pub(crate) fn falls(&self, n: V3, bleed: f32, lit: f32) -> V3 {
        let cosine = dot(n, self.direction);
        let wrap = |w: f32| {
            let shade = lit + (1.0 - lit) * 0.25 * w * bleed;
            shade * ((cosine + w * bleed) / (1.0 + w * bleed)).max(0.0)
        };
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
    pub(crate) fn shines(&self, n: V3, sharpness: u32) -> f32 {
        let mut k = dot(n, self.half).max(0.0);
        for _ in 0..sharpness {
            k *= k;
        }
        k
    }
}
