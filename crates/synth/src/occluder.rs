//! Hands and things before the face, drawn in the plane of the image with soft edges and round shading.

use crate::factors::Factors;
use crate::math::{V3, clamp01, cover, linear, mix, mix3, scale3, sin_cos, unit};
use crate::palette::{hue, skin_tone};

/// The occluder of one image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Occluding {
    hand: bool,
    at: (f32, f32),
    turn: (f32, f32),
    /// One unit of the occluder in parts of the side.
    size: f32,
    colour: V3,
    /// How square the thing is, 0 to 1.
    square: f32,
    lamp: V3,
    strength: f32,
    ambient: f32,
}

/// A finger from (x, y) to (x, y), with half widths at both ends.
type Finger = ((f32, f32), (f32, f32), f32, f32);

/// The palm is centred at the origin; y runs up. The thumb is the last.
const FINGERS: [Finger; 5] = [
    ((-0.46, 0.42), (-0.58, 1.12), 0.125, 0.095),
    ((-0.16, 0.52), (-0.19, 1.42), 0.130, 0.100),
    ((0.15, 0.52), (0.19, 1.36), 0.130, 0.100),
    ((0.44, 0.40), (0.56, 1.14), 0.115, 0.085),
    ((-0.46, -0.28), (-0.98, 0.34), 0.170, 0.110),
];

impl Occluding {
    /// `None` when nothing stands before the face.
    pub(crate) fn new(f: &Factors, direction: V3) -> Option<Self> {
        let o = &f.occluder;
        let hand = o.hand >= 0.5;
        if !hand && o.object < 0.5 {
            return None;
        }
        let radians = o.occluder_turn * (std::f32::consts::PI / 180.0);
        let colour = if hand {
            linear(scale3(skin_tone(o.occluder_hue), 0.95))
        } else {
            linear(hue(o.occluder_hue, 0.45, 0.45))
        };
        let size = o.occluder_size.clamp(0.05, 20.0);
        Some(Self {
            hand,
            at: (0.5 + o.occluder_x, 0.5 + o.occluder_y),
            turn: sin_cos(radians),
            size: if hand { 0.16 * size } else { 0.17 * size },
            colour,
            square: clamp01(2.0 * o.occluder_hue - 0.5),
            lamp: direction,
            strength: f.scene.light_strength,
            ambient: f.scene.ambient,
        })
    }

    /// Linear light at (`u`, `v`) parts of the side, and its cover; `pixel` is the width of a sample in them.
    pub(crate) fn at(&self, u: f32, v: f32, pixel: f32) -> (V3, f32) {
        let (dx, dy) = ((u - self.at.0) / self.size, (v - self.at.1) / self.size);
        let (st, ct) = self.turn;
        let (x, y) = (dx * ct + dy * st, dx * st - dy * ct);
        if x * x + y * y > 30.0 {
            return (self.colour, 0.0);
        }
        let px = 1.5 * pixel / self.size;
        if self.hand {
            self.hand(x, y, px)
        } else {
            self.thing(x, y, px)
        }
    }

    fn lit(&self, colour: V3, slope: (f32, f32), z: f32, open: f32) -> V3 {
        // Back from the occluder's axes to the viewer's (y up).
        let (st, ct) = self.turn;
        let n = unit([
            slope.0 * ct + slope.1 * st,
            -slope.0 * st + slope.1 * ct,
            z.max(0.05),
        ]);
        let lamp = (n[0] * self.lamp[0] + n[1] * self.lamp[1] + n[2] * self.lamp[2] + 0.2) / 1.2;
        let light = self.ambient * (0.8 + 0.2 * n[1]) + self.strength * lamp.max(0.0);
        scale3(colour, light * open)
    }

    fn hand(&self, x: f32, y: f32, px: f32) -> (V3, f32) {
        let mut best = -1e9;
        let mut slope = (0.0, 0.0);
        let mut round = 1.0;
        let mut second = -1e9f32;
        let mut tip = 0.0;
        for (index, ((ax, ay), (bx, by), wide, narrow)) in FINGERS.into_iter().enumerate() {
            let (ex, ey) = (bx - ax, by - ay);
            let t = clamp01(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey));
            let (cx, cy) = (x - ax - t * ex, y - ay - t * ey);
            let d = (cx * cx + cy * cy).sqrt();
            // Knuckles are a little thicker.
            let knuckle = 1.0 + 0.06 * (1.0 - (2.0 * (2.0 * t - (2.0 * t).floor()) - 1.0).abs());
            let w = mix(wide, narrow, t) * knuckle;
            if w - d > best {
                second = second.max(best);
                best = w - d;
                slope = (cx / w, cy / w);
                round = (1.0 - (d / w) * (d / w)).max(0.0).sqrt();
                tip = if index < 4 { t } else { 0.9 * t };
            } else {
                second = second.max(w - d);
            }
        }
        // Palm and wrist as one rounded box.
        let wrist = clamp01(-(y + 0.35) / 0.8);
        let half = mix(0.58, 0.36, wrist);
        let (qx, qy) = (x.abs() - half + 0.22, (y + 0.9).abs() - 1.40 + 0.22);
        let outside = (qx.max(0.0) * qx.max(0.0) + qy.max(0.0) * qy.max(0.0)).sqrt();
        let palm = 0.22 - outside - qx.max(qy).min(0.0);
        let mut gap = 1.0;
        if palm > best {
            best = palm;
            let edge = clamp01(1.0 - palm / 0.22);
            slope = (
                edge * x.signum() * 0.8,
                if y > 0.3 { 0.4 * edge } else { 0.0 },
            );
            round = (1.0 - 0.6 * edge * edge).sqrt();
            // Creases of the palm's edge towards the fingers.
            gap = 1.0 - 0.25 * clamp01(1.0 - (y - 0.42).abs() / 0.08);
        } else if second > -0.05 && best < 0.06 {
            // Dark lines where fingers touch.
            gap = 0.72;
        }
        let nail = if tip > 0.88 && slope.0.abs() < 0.55 && round > 0.5 {
            0.5
        } else {
            0.0
        };
        let colour = mix3(
            self.colour,
            [
                1.1 * self.colour[0],
                0.85 * self.colour[1],
                0.85 * self.colour[2],
            ],
            nail,
        );
        (self.lit(colour, slope, round, gap), cover(best, px))
    }

    fn thing(&self, x: f32, y: f32, px: f32) -> (V3, f32) {
        let round = 1.0 - (x * x + y * y).sqrt();
        let box_ = 0.85 - x.abs().max(1.25 * y.abs());
        let inside = mix(round, box_, if self.square > 0.5 { 1.0 } else { 0.0 });
        let slope = if self.square > 0.5 {
            (0.25 * x, 0.15 * y)
        } else {
            (0.7 * x, 0.7 * y)
        };
        let band = (y - 0.15).abs() < 0.16;
        let rim = clamp01(inside / 0.05);
        let colour = if band {
            mix3(self.colour, [0.75, 0.74, 0.70], 0.8)
        } else {
            self.colour
        };
        (
            self.lit(colour, slope, 0.8, 0.75 + 0.25 * rim),
            cover(inside, px),
        )
    }
}
