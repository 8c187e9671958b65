//! Smooth displacements of the head's surface: what makes skulls and soft parts differ beyond the measures of the
//! features, the rise of the jaw from chin to ear, left-right asymmetry and one-sided expressions.
//!
//! A displacement moves points in space and leaves what is drawn on them where it was on the skin, so that painted
//! features, landmarks and mesh move together. Each is a smooth hill (1 - r^2)^2 around a centre that lies on a
//! feature of this face; amounts are in face units (0.01 is about 1.1 mm) a standard deviation.

use crate::math::{V3, hill2, step};
use crate::person::Shape;
use crate::rig::{HEAD_Y, HeadRig, MouthRig};

/// Which sides a bump moves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sides {
    /// Mirrored: the sideways part points outwards on both sides.
    Both,
    /// As given.
    One,
}

/// One hill of displacement.
#[derive(Debug, Clone, Copy)]
struct Bump {
    sides: Sides,
    x: f32,
    y: f32,
    rx: f32,
    ry: f32,
    by: V3,
}

const NONE: Bump = Bump {
    sides: Sides::One,
    x: 0.0,
    y: 0.0,
    rx: 1.0,
    ry: 1.0,
    by: [0.0; 3],
};

/// Most bumps of one face.
const MOST: usize = 40;

/// All displacements of one face.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Warp {
    /// How far the lower edge of the jaw rises from the chin to below the ear.
    lift: f32,
    chin_y: f32,
    count: usize,
    bumps: [Bump; MOST],
}

impl Warp {
    pub(crate) fn new(
        s: &Shape,
        h: &HeadRig,
        m: &MouthRig,
        lateral: f32,
        corner: (f32, f32),
    ) -> Self {
        let mut out = Self {
            lift: (0.40 + 0.05 * s.jaw_angle).max(0.1),
            chin_y: h.chin_rest,
            count: 0,
            bumps: [NONE; MOST],
        };
        let tip = h.nose_tip;
        let (both, one) = (Sides::Both, Sides::One);
        // Skull and soft parts, the same on both sides.
        out.add(
            both,
            (0.0, 0.62),
            (0.9, 0.50),
            [0.0, 0.0, -0.035 * s.forehead_slope],
        );
        out.add(
            both,
            (0.62, 0.38),
            (0.34, 0.36),
            [0.030 * s.temple_width, 0.0, 0.0],
        );
        out.add(
            both,
            (0.56, -0.52),
            (0.30, 0.34),
            [0.030 * s.jaw_corner, 0.0, 0.0],
        );
        out.add(
            both,
            (0.0, -0.98),
            (0.60, 0.36),
            [0.0, -0.030 * s.chin_height, 0.0],
        );
        out.add(
            both,
            (0.40, -0.44),
            (0.22, 0.26),
            [0.0, 0.0, -0.028 * s.cheek_hollow],
        );
        out.add(
            both,
            (0.44, -0.10),
            (0.30, 0.28),
            [0.0, 0.030 * s.cheek_height, 0.0],
        );
        out.add(
            both,
            (0.0, -0.25),
            (0.60, 0.50),
            [0.0, 0.0, 0.030 * s.midface],
        );
        out.add(
            both,
            (0.30, -0.10),
            (0.16, 0.10),
            [0.0, 0.0, -0.014 * s.under_eye],
        );
        // Nose.
        out.add(
            both,
            (0.0, tip),
            (0.17, 0.15),
            [0.0, 0.022 * s.nose_turn, 0.0],
        );
        out.add(
            both,
            (0.0, 0.45 * tip),
            (0.10, 0.13),
            [0.0, 0.0, 0.022 * s.nose_hump],
        );
        out.add(
            both,
            (0.075, 0.02),
            (0.11, 0.16),
            [0.012 * s.nose_root, 0.0, 0.010 * s.nose_root],
        );
        out.add(
            both,
            (0.75 * h.nose_width, tip - 0.05),
            (0.10, 0.09),
            [0.014 * s.nostril_flare, 0.0, 0.0],
        );
        // Mouth and chin.
        let between = 0.5 * (h.nose_base + m.y);
        out.add(
            both,
            (0.0, between),
            (0.07, 0.10),
            [0.0, 0.0, -0.014 * s.philtrum_depth],
        );
        out.add(
            both,
            (0.0, m.y),
            (0.40, 0.28),
            [0.0, 0.0, 0.026 * s.mouth_projection],
        );
        out.add(
            both,
            (0.0, m.y - 0.06),
            (0.26, 0.10),
            [0.0, 0.0, 0.018 * s.lower_lip_projection],
        );
        out.add(
            both,
            (0.0, h.chin_y + 0.14),
            (0.06, 0.12),
            [0.0, 0.0, -0.016 * s.chin_cleft],
        );
        // Asymmetry.
        out.add(one, (0.0, -0.70), (1.1, 0.70), [0.022 * s.skew, 0.0, 0.0]);
        out.add(
            one,
            (0.0, tip),
            (0.22, 0.30),
            [0.016 * s.nose_bend, 0.0, 0.0],
        );
        for side in [-1.0, 1.0] {
            out.add(
                one,
                (side * 0.9 * m.w, m.y),
                (0.30, 0.26),
                [0.0, side * 0.013 * s.mouth_slant, 0.0],
            );
            out.add(
                one,
                (side * 0.30, 0.06),
                (0.28, 0.26),
                [0.0, side * 0.010 * s.eye_slant, 0.0],
            );
            out.add(
                one,
                (side * 0.28, 0.28),
                (0.34, 0.18),
                [0.0, side * 0.013 * s.brow_slant, 0.0],
            );
            out.add(
                one,
                (side * 0.50, -0.42),
                (0.34, 0.42),
                [0.018 * s.cheek_uneven, 0.0, 0.0],
            );
        }
        // A one-sided mouth: on the weaker side the corner goes back to where it rests.
        if lateral != 0.0 {
            let weak = if lateral > 0.0 { -1.0 } else { 1.0 };
            let amount = lateral.abs().min(1.0);
            out.add(
                one,
                (weak * m.w, m.corner()),
                (0.30, 0.26),
                [-weak * amount * corner.0, -amount * corner.1, 0.0],
            );
        }
        out
    }

    fn add(&mut self, sides: Sides, (x, y): (f32, f32), (rx, ry): (f32, f32), by: V3) {
        if by != [0.0; 3] && self.count < MOST {
            self.bumps[self.count] = Bump {
                sides,
                x,
                y,
                rx,
                ry,
                by,
            };
            self.count += 1;
        }
    }

    /// Displacement of the point at frontal (x, y), where the cosine of the angle around the vertical axis is `c`.
    pub(crate) fn at(&self, x: f32, y: f32, c: f32) -> V3 {
        let mut out = [0.0; 3];
        if y < HEAD_Y {
            let q = ((HEAD_Y - y) / (HEAD_Y - self.chin_y)).min(1.0);
            let back = 1.0 - c.max(-0.3);
            out[1] += self.lift * q * q * back * back.sqrt();
        }
        // The face only: bumps fade towards the ears.
        let face = step(-0.05, 0.35, c);
        if face <= 0.0 {
            return out;
        }
        for bump in &self.bumps[..self.count] {
            let dy = y - bump.y;
            if dy.abs() >= bump.ry {
                continue;
            }
            let (at, outwards) = match bump.sides {
                Sides::One => (x, 1.0),
                // Outwards turns over smoothly on the midline.
                Sides::Both => (x.abs(), (x / 0.08).clamp(-1.0, 1.0)),
            };
            let amount = face * hill2(at - bump.x, dy, bump.rx, bump.ry);
            if amount > 0.0 {
                out[0] += amount * outwards * bump.by[0];
                out[1] += amount * bump.by[1];
                out[2] += amount * bump.by[2];
            }
        }
        out
    }
}
