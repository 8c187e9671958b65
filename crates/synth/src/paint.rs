//! Features painted on the face's chart: eyes, brows, mouth. Each is a few smooth curves; the distance to a curve,
//! divided by the width of a sample, gives how much of the sample lies on either side.

use crate::curves::Lips;
use crate::math::{V3, clamp01, cover, hill2, line, mix, mix3, noise2, scale3, step};
use crate::palette::Palette;
use crate::rig::{BrowRig, EyeRig, MouthRig};

/// What a point of the skin looks like before light: colour, and parts that shade or shine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surface {
    pub colour: V3,
    /// Part of the light that arrives (folds and hollows).
    pub open: f32,
    /// Strength of the highlight.
    pub gloss: f32,
    /// Light added whatever the direction (the catchlight of an eye).
    pub glint: f32,
}

impl Surface {
    fn blend(&mut self, colour: V3, t: f32) {
        self.colour = mix3(self.colour, colour, t);
    }
}

/// Paints the eye around (x, y); `px` is the width of a sample.
pub(crate) fn eye(e: &EyeRig, p: &Palette, x: f32, y: f32, px: f32, s: &mut Surface) {
    let side = if x < 0.0 { -1.0 } else { 1.0 };
    let (dx, dy) = (x * side - e.x, y - e.y);
    if dx.abs() > 0.30 || !(-0.20..=0.24).contains(&dy) {
        return;
    }
    let (st, ct) = e.tilt;
    let (u, v) = (dx * ct + dy * st, dy * ct - dx * st);
    let r = u / e.a;
    let (upper, lower, inside) = e.lids(r);
    // Shadow of the socket towards the nose and above the lid.
    s.open *= 1.0 - 0.20 * hill2(dx + 0.10, dy - 0.06, 0.16, 0.12);
    let wide = clamp01(1.25 - r * r);
    if p.paint.eye_shadow > 0.0 {
        // From the lashes over the lid, thinning out towards the brow and beyond the outer corner.
        let high = v - upper;
        let reach = step(1.30, 0.95, r) * step(-1.15, -0.75, r);
        let over = step(-0.01, 0.005, high) * step(0.135, 0.045, high);
        s.blend(
            p.eye_shadow,
            clamp01(0.85 * p.paint.eye_shadow * reach * over),
        );
    }
    // Fold of the upper lid, then the one below the eye.
    let crease = upper + e.hood + 0.012 * inside;
    s.open *= 1.0 - 0.35 * wide * line(v - crease, 0.022 + 0.5 * px);
    s.open *= 1.0 - e.bag * wide * line(v - lower + 0.055, 0.035 + 0.5 * px);
    if r.abs() < 1.0 {
        let ball = cover(upper - v, px).min(cover(v - lower, px));
        if ball > 0.0 {
            let (gx, gy) = (u * side - e.gaze.0, v - e.gaze.1);
            let d = (gx * gx + gy * gy).sqrt();
            // The white is never white: darker to the corners and under the upper lid, pink at the inner corner.
            let white = 0.56 - 0.26 * r * r;
            let mut colour = [white, 0.92 * white, 0.88 * white];
            let corner = hill2(
                u + 0.90 * e.a,
                v + 0.1 * e.lower,
                0.28 * e.a,
                0.9 * e.lower + 0.01,
            );
            colour = mix3(colour, [0.42, 0.20, 0.17], clamp01(1.2 * corner));
            let iris = cover(e.iris - d, px);
            if iris > 0.0 {
                let rim = step(0.70, 1.0, d / e.iris);
                // Fibres run outwards; light that enters above leaves below.
                let fibre = if px < 0.012 {
                    noise2(14.0 * gx / (d + 0.01), 14.0 * gy / (d + 0.01))
                } else {
                    0.5
                };
                let glow = 0.80 + 0.35 * fibre - 0.25 * clamp01(0.5 + gy / (2.0 * e.iris));
                let tint = scale3(p.iris, glow * (1.0 - 0.70 * rim));
                colour = mix3(colour, tint, iris);
                colour = mix3(colour, [0.004; 3], cover(0.42 * e.iris - d, px));
            }
            colour = scale3(colour, 1.0 - 0.55 * step(0.050, 0.0, upper - v));
            s.blend(colour, ball);
            s.open = mix(s.open, 1.0, ball);
            s.gloss *= 1.0 - ball;
            let (hx, hy) = (gx + 0.030 * p.catch, gy - 0.030);
            s.glint += 0.75 * ball * cover(0.018 - (hx * hx + hy * hy).sqrt(), px.max(0.02));
        }
    }
    // Lashes: thick above, and a little beyond the outer corner.
    if (-1.02..=1.10).contains(&r) {
        let liner = clamp01(p.paint.eye_liner);
        let thick = (0.013 + 0.006 * r) * (1.0 + 0.7 * liner);
        let above = cover(thick - (v - upper - 0.3 * thick).abs(), px.max(0.012));
        let below = cover(0.004 + 0.004 * liner - (v - lower).abs(), px.max(0.012));
        s.blend(p.lash, (0.92 * above).max(mix(0.35, 0.85, liner) * below));
    }
    // Crow's feet.
    if e.crow > 0.01 && dx > e.a {
        let reach = step(e.a, e.a + 0.04, dx) * step(e.a + 0.14, e.a + 0.08, dx);
        let k = dx - e.a;
        let rays = line(dy - 0.02 - 0.35 * k, 0.02)
            .max(line(dy + 0.015 + 0.1 * k, 0.02))
            .max(line(dy + 0.05 + 0.5 * k, 0.02));
        s.open *= 1.0 - e.crow * reach * rays;
    }
}

/// Paints the brow.
pub(crate) fn brow(b: &BrowRig, p: &Palette, x: f32, y: f32, px: f32, s: &mut Surface) {
    let ax = x.abs();
    let t = (ax - b.x_inner) / (b.x_outer - b.x_inner);
    if !(-0.15..=1.1).contains(&t) {
        return;
    }
    let height = b.height(t);
    let slope = (b.y_outer - b.y_inner) / (b.x_outer - b.x_inner);
    let thick = b.thick * (1.0 - 0.55 * step(0.45, 1.0, t));
    let d = (y - height).abs() / (1.0 + slope * slope).sqrt();
    if d > thick + 0.05 {
        return;
    }
    let ends = step(-0.12, 0.06, t) * step(1.06, 0.9, t);
    // Single hairs, leaning outwards, where they can be seen.
    let hairs = if px < 0.014 {
        0.55 + 0.75 * noise2(75.0 * ax - 38.0 * (y - height), 13.0 * (y - height) + 5.0)
    } else {
        0.90
    };
    let soft = px.max(0.026);
    s.blend(p.brow, (ends * hairs * cover(thick - d, soft)).min(0.95));
}

/// Paints lips, teeth and the inside of the mouth.
pub(crate) fn mouth(m: &MouthRig, p: &Palette, x: f32, y: f32, px: f32, s: &mut Surface) {
    let r = x / m.w;
    if r.abs() > 1.25 || y > m.y + 0.30 || y < m.y - m.gap_down - 0.32 {
        return;
    }
    let r2 = (r * r).min(1.3);
    let e = (1.0 - r2).max(0.0);
    let Lips {
        upper,
        top,
        low,
        lower,
    } = m.lips(r);

    // Shadow under the lower lip, and dimples at the corners.
    s.open *= 1.0 - 0.22 * hill2(x, y - lower + 0.030, 0.8 * m.w, 0.050);
    let corner = hill2(x.abs() - m.w, y - m.y - m.rise2 - m.rise4, 0.055, 0.05);
    let dimple = if x < 0.0 { m.dimple.0 } else { m.dimple.1 };
    s.open *= 1.0 - (0.45 + 0.35 * dimple) * corner;
    let pit = hill2(x.abs() - m.w - 0.055, y - m.corner(), 0.035, 0.085);
    s.open *= 1.0 - 0.40 * dimple * pit;

    let lips = cover(upper - y, px.max(0.014)).min(cover(y - lower, px.max(0.014)));
    if lips > 0.0 && r.abs() < 1.0 {
        // The upper lip faces down and is darker, the lower catches the light.
        let above = step(-0.02, 0.02, y - 0.5 * (top + low));
        let shade = mix(1.0, 0.80, above);
        s.blend(
            scale3(p.lips, shade),
            mix(0.90, 0.97, clamp01(p.paint.lipstick)) * lips,
        );
        s.gloss += mix(0.10, 0.22, clamp01(p.paint.lipstick))
            * lips
            * (1.0 - above)
            * line(y - low + 0.45 * m.lower, 0.5 * m.lower + 0.01);
    }
    let opening = cover(top - y, px).min(cover(y - low, px));
    if opening > 0.0 && r.abs() < 1.0 {
        let mut inner: V3 = [0.045, 0.012, 0.012];
        let gap = top - low;
        // Tongue, when wide open.
        let tongue = step(0.10, 0.20, gap) * hill2(x, y - low, 0.75 * m.w, 0.42 * gap);
        inner = mix3(inner, [0.30, 0.075, 0.070], clamp01(1.3 * tongue));
        let tooth = 0.62 - 0.30 * r2;
        let teeth = [tooth, 0.95 * tooth, 0.85 * tooth];
        let reach_up = m.teeth_up.min(0.75 * gap) * (1.0 - 0.35 * r2);
        let reach_down = m.teeth_down.min(0.35 * gap) * (1.0 - 0.5 * r2);
        let arch = step(1.0, 0.8, r.abs());
        inner = mix3(inner, teeth, arch * cover(y - (top - reach_up), px));
        if reach_down > 0.002 {
            inner = mix3(
                inner,
                scale3(teeth, 0.8),
                arch * cover(low + reach_down - y, px),
            );
        }
        s.blend(inner, opening);
        s.gloss *= 1.0 - opening;
    }
    // The line between the lips, which fades as they part.
    if r.abs() < 1.06 {
        let closed = step(0.05, 0.0, m.gap_up + m.gap_down);
        let thick = 0.0095 * (1.0 - 0.4 * r2);
        let seam = cover(thick - (y - 0.5 * (top + low)).abs(), px.max(0.014));
        let edge = cover(0.006 - (y - top).abs(), px.max(0.014));
        let dark = scale3(p.lips, 0.16);
        s.blend(
            dark,
            (0.85 * seam * mix(0.25 * e.min(1.0), 1.0, closed)).max(0.5 * edge * (1.0 - closed)),
        );
    }
}
