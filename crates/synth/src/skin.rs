//! What skin looks like: flush, folds, spots, beard, nose, and the light on it.

use crate::geometry;
use crate::math::{V3, cell, clamp01, hill2, line, mix, mix3, mul3, noise1, noise2, scale3, step};
use crate::paint::{self, Surface};
use crate::raster::Sample;
use crate::shade::Scenery;
use crate::surroundings::Skin;
use crate::wear;

/// A mole: place on the chart, radius, how much of it there is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mole {
    x: f32,
    y: f32,
    radius: f32,
    size: f32,
}

impl Mole {
    /// The moles of a face, for samples of width `px`; those that are not there have size 0.
    pub(crate) fn all(c: &Skin, px: f32) -> [Self; 4] {
        std::array::from_fn(|k| {
            let size = clamp01(c.moles - k as f32);
            if size <= 0.0 {
                return Self::default();
            }
            let seat = |n: f32| noise1(1000.0 * c.skin_pattern + 13.7 * n + 5.1 * k as f32);
            // On cheeks, jaw and temples, clear of eyes, nose and mouth.
            let side = if seat(4.0) < 0.5 { -1.0 } else { 1.0 };
            let r = 0.014 + 0.012 * seat(3.0) + 0.4 * px;
            Self {
                x: side * (0.30 + 0.30 * seat(1.0)),
                y: 0.02 - 0.62 * seat(2.0),
                radius: 1.6 * r,
                size,
            }
        })
    }
}

impl Scenery<'_> {
    pub(crate) fn ear(&self, sample: &Sample, n: V3, lit: f32) -> V3 {
        let lit = self.light.falls(n, 1.0, lit);
        let hollow = 1.0 - 0.45 * hill2(sample.x, sample.y - 0.1, 0.5, 0.6);
        scale3(mul3(self.palette.flush, lit), 0.9 * hollow)
    }

    pub(crate) fn neck(&self, sample: &Sample, n: V3, lit: f32) -> V3 {
        let lit = self.light.falls(n, 1.0, lit);
        let chin = self.rig.head.chin_y;
        let shadow = 1.0 - 0.42 * step(chin - 0.42, chin + 0.02, sample.y);
        scale3(mul3(self.palette.skin, lit), shadow)
    }

    pub(crate) fn face(&self, sample: &Sample, n: V3, lit: f32) -> V3 {
        let (x, y) = (sample.x, sample.y);
        let head = &self.rig.head;
        let p = &self.palette;
        let mut within = geometry::in_hair(head, x, y, sample.front);
        if within.abs() < 0.10 {
            // Tufts, and single hairs where they can be seen.
            within += 0.05 * (noise1(17.0 * x + 7.0) - 0.5);
            if self.px < 0.02 {
                within += 0.030 * (noise2(83.0 * x + 11.0 * y, 9.0 * y) - 0.5)
                    + 0.035 * (noise2(31.0 * x - 6.0 * y, 5.0 * y) - 0.5);
            }
        }
        let hair = step(-0.045, 0.045, within);
        if hair >= 1.0 {
            return self.hair(sample, n, lit);
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
            let mut bare = s;
            self.skin(x, y, &mut s);
            // Frontal coordinates smear where the skin turns away: what is painted in them fades out, but for a beard.
            let seen = step(0.12, 0.34, sample.front);
            if seen < 1.0 {
                self.beard(x, y, &mut bare);
                s.colour = mix3(bare.colour, s.colour, seen);
                s.open = mix(bare.open, s.open, seen);
                s.gloss = mix(bare.gloss, s.gloss, seen);
            }
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
            s.open *= 1.0 - 0.22 * step(0.16, 0.0, wear::hat_edge(self.rig) - y);
        }
        // The underside of the jaw lies in shadow.
        s.open *= 1.0 - 0.30 * step(head.chin_y + 0.10, head.chin_y - 0.02, y);
        let light = self.light.falls(n, 1.0, lit);
        // A broad sheen of oily skin under a narrower one.
        let sheen = self.light.shines(n, 4) + 0.35 * self.light.shines(n, 2);
        let shine = s.gloss * sheen * s.open * lit + s.glint;
        let mut out = scale3(mul3(s.colour, light), s.open);
        for (out, light) in out.iter_mut().zip(self.light.colour) {
            *out += shine * light;
        }
        if hair > 0.0 {
            out = mix3(out, self.hair(sample, n, lit), hair);
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
        let uncovered = 1.0 - 0.75 * cover;
        s.colour = mix3(s.colour, p.flush, flush * uncovered);
        self.complexion(x, y, uncovered, s);
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

    /// Uneven redness, pores, rings under the eyes, freckles, moles and the shadow of a shaven beard; `bare` is how
    /// much of it foundation leaves.
    fn complexion(&self, x: f32, y: f32, bare: f32, s: &mut Surface) {
        let c = &self.complexion;
        let p = &self.palette;
        let (px, py) = (x + 31.0 * c.skin_pattern, y + 17.0 * c.skin_pattern);
        let blotch = 0.65 * noise2(6.0 * px, 6.0 * py) + 0.35 * noise2(14.0 * px, 14.0 * py);
        let red = c.blotches * (blotch - 0.45);
        s.colour = mix3(s.colour, p.flush, (0.9 * red * bare).clamp(-0.3, 0.6));
        if self.px < 0.018 {
            let pore = noise2(95.0 * px, 95.0 * py) + noise2(47.0 * px, 47.0 * py) - 1.0;
            s.open *= 1.0 + 0.05 * pore * bare;
            s.gloss *= 1.0 + 0.8 * pore;
        }
        let eye = &self.rig.eye;
        let ax = x.abs();
        let ring = hill2(
            ax - eye.x + 0.03,
            y - eye.y + eye.lower + 0.065,
            0.15,
            0.060,
        );
        s.colour = mix3(s.colour, p.ring, clamp01(0.8 * c.eye_rings * ring * bare));
        if c.freckles > 0.02 {
            let region = hill2(ax - 0.24, y + 0.13, 0.36, 0.24).sqrt();
            if region > 0.0 {
                let spots = self.freckles(px, py);
                let amount = 0.75 * spots * clamp01(1.4 * c.freckles) * region * bare;
                s.colour = mix3(s.colour, p.spot, clamp01(amount));
            }
        }
        for mole in &self.moles {
            let amount = mole.size * hill2(x - mole.x, y - mole.y, mole.radius, mole.radius) * bare;
            if amount > 0.0 {
                s.colour = mix3(s.colour, scale3(p.spot, 0.55), clamp01(amount));
            }
        }
        if c.stubble > 0.0 {
            let grain = if self.px < 0.02 {
                0.55 + 0.9 * noise2(120.0 * px, 120.0 * py)
            } else {
                1.0
            };
            let amount = 0.75 * c.stubble * self.beard_area(x, y) * grain * bare;
            s.colour = mix3(s.colour, p.stubble, clamp01(amount));
        }
    }

    /// Freckles: a spot in some cells of a lattice, smeared out where samples are coarser than it.
    fn freckles(&self, x: f32, y: f32) -> f32 {
        const CELL: f32 = 0.042;
        if self.px > 0.6 * CELL {
            return 0.22;
        }
        let (u, v) = (x / CELL, y / CELL);
        let (i, j) = (u.floor(), v.floor());
        let (ci, cj) = (i as i32, j as i32);
        if cell(ci, cj) > 0.75 {
            return 0.0;
        }
        let (dx, dy) = (
            u - i - 0.3 - 0.4 * cell(ci.wrapping_add(77), cj),
            v - j - 0.3 - 0.4 * cell(ci, cj.wrapping_add(91)),
        );
        let r = 0.20 + 0.18 * cell(ci.wrapping_add(13), cj.wrapping_add(7));
        hill2(dx, dy, r + self.px / CELL, r + self.px / CELL) * (r / (r + 0.5 * self.px / CELL))
    }

    fn nose(&self, x: f32, y: f32, s: &mut Surface) {
        let head = &self.rig.head;
        let fold = &self.rig.fold;
        let ax = x.abs();
        let (tip, base, w) = (head.nose_tip, head.nose_base, head.nose_width);
        // Sides of the ridge, shadow below, creases of the wings, nostrils.
        s.open *= 1.0 - 0.20 * hill2(ax - 0.105, y - 0.4 * tip, 0.06, 0.24);
        s.open *= 1.0 - 0.22 * hill2(x, y - base + 0.045, 1.15 * w, 0.075);
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

    /// Where beards grow: jaw, chin and the upper lip, 0 to 1.
    fn beard_area(&self, x: f32, y: f32) -> f32 {
        let m = &self.rig.mouth;
        let ax = x.abs();
        if y > 0.15 {
            return 0.0;
        }
        let edge = m.y + 0.08 + 0.9 * (ax - 0.25).max(0.0);
        let below = m.y - m.gap_down - m.lower - y;
        let jaw = step(edge + 0.08, edge - 0.10, y)
            * step(0.0, 0.14, (ax - m.w).max(below)).max(step(-0.02, 0.10, below));
        let lip =
            step(0.065, 0.0, (y - m.y - 0.105).abs() - 0.02) * step(m.w + 0.10, m.w - 0.05, ax);
        jaw.max(lip)
    }

    /// A beard: hair over the skin, its edge ragged.
    fn beard(&self, x: f32, y: f32, s: &mut Surface) {
        let amount = self.rig.beard;
        if amount <= 0.0 {
            return;
        }
        let area = self.beard_area(x, y);
        if area <= 0.0 {
            return;
        }
        let strand = if self.px < 0.02 {
            noise2(85.0 * x + 20.0 * y, 26.0 * y)
        } else {
            0.5
        };
        let t = clamp01(amount * step(0.05, 0.55, area + 0.3 * (strand - 0.5)) * area.sqrt());
        let hair = scale3(self.palette.beard, 0.70 + 0.6 * strand);
        s.colour = mix3(s.colour, hair, t);
        s.gloss *= 1.0 - t;
    }
}
