//! What stands behind the head: a gradient of two colours under one of a few textures.

use crate::factors::Factors;
use crate::math::{V3, clamp01, hill, hill2, linear, mix3, noise1, noise2, scale3, sin_cos, step};
use crate::palette::hue;
use crate::surroundings::Texture;

/// The background of one image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backdrop {
    high: V3,
    low: V3,
    other: V3,
    texture: Texture,
    /// Place of the soft spot, in parts of the side.
    spot: (f32, f32),
    /// Sine and cosine of the texture's turn.
    turn: (f32, f32),
    /// Where in the noise this image lies.
    offset: f32,
}

impl Backdrop {
    pub(crate) fn new(f: &Factors) -> Self {
        let s = &f.scene;
        let t = f.texture;
        let high = hue(s.background_hue, s.background_colour, s.background_light);
        let low = hue(
            s.background_hue + 0.12,
            0.8 * s.background_colour,
            0.72 * s.background_light,
        );
        let contrast = if s.background_light > 0.5 {
            -0.45
        } else {
            0.45
        };
        let other = hue(
            s.background_hue + 0.35,
            s.background_colour + 0.15,
            clamp01(s.background_light + contrast),
        );
        Self {
            high: linear(high),
            low: linear(low),
            other: linear(other),
            texture: t,
            spot: (
                noise1(97.3 * s.background_hue + 3.0),
                noise1(53.1 * s.background_hue + 40.0),
            ),
            turn: sin_cos(std::f32::consts::TAU * t.texture_turn),
            offset: 100.0 * t.texture_turn + 37.0 * t.texture_kind,
        }
    }

    /// Linear light at (`u`, `v`), parts of the side; `pixel` is the width of a sample in them.
    pub(crate) fn at(&self, u: f32, v: f32, pixel: f32) -> V3 {
        let spot = 0.5 * hill2(u - self.spot.0, v - self.spot.1, 0.8, 0.8);
        let mut colour = scale3(mix3(self.high, self.low, clamp01(v)), 0.85 + spot);
        let strength = clamp01(self.texture.texture);
        if strength > 0.0 {
            colour = mix3(
                colour,
                self.other,
                0.75 * strength * self.pattern(u, v, pixel),
            );
        }
        colour
    }

    /// Cover of the second colour, 0 to 1.
    fn pattern(&self, u: f32, v: f32, pixel: f32) -> f32 {
        let (st, ct) = self.turn;
        let (x, y) = (u * ct - v * st, u * st + v * ct);
        let scale = 2.0 + 9.0 * clamp01(self.texture.texture_scale);
        let (x, y) = (scale * x + self.offset, scale * y + self.offset);
        let soft = (2.0 * scale * pixel).clamp(0.04, 0.5);
        match (4.0 * clamp01(self.texture.texture_kind)) as u32 {
            // Clouds, as of a wall or leaves out of focus.
            0 => {
                let n = 0.6 * noise2(x, y) + 0.4 * noise2(2.1 * x + 9.0, 2.1 * y);
                step(0.35, 0.65, n)
            }
            // Stripes, as of curtains or boards.
            1 => {
                let t = x - x.floor();
                let edge = (t - 0.5).abs() - 0.25;
                clamp01(0.5 - edge / soft)
            }
            // Spots of light out of focus, one in each cell.
            2 => {
                let (i, j) = (x.floor(), y.floor());
                let (dx, dy) = (
                    x - i - 0.3 - 0.4 * noise2(5.1 * i, 7.7 * j),
                    y - j - 0.3 - 0.4 * noise2(3.3 * i, 9.1 * j),
                );
                let r = 0.18 + 0.12 * noise2(2.3 * i, 1.9 * j);
                hill((dx * dx + dy * dy) / (4.0 * r * r))
            }
            // Shelves and books: bricks of different shade.
            _ => {
                let row = y.floor();
                let column = (2.5 * x + 0.5 * row).floor();
                let shade = noise2(4.7 * column + 0.5, 6.1 * row + 0.5);
                let gap = (y - row - 0.5).abs() - 0.44;
                shade * clamp01(0.5 - gap / soft)
            }
        }
    }
}
