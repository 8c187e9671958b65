//! The curves of lids, brows and lips on the face's chart. The painter draws them and the landmarks lie on them, so
//! that a label and its picture cannot disagree.

use crate::math::{line, pow34};
use crate::rig::{BrowRig, EyeRig, MouthRig};

impl EyeRig {
    /// Heights of the upper and the lower lid's edge over the line between the corners, at `r` half widths from the
    /// middle (outwards positive), and how open the almond is there.
    #[inline]
    pub(crate) fn lids(&self, r: f32) -> (f32, f32, f32) {
        let inside = (1.0 - r * r).max(0.0);
        let almond = inside * (1.0 + 0.30 * r * r);
        let upper = self.upper * almond * (1.0 + self.skew * r);
        let lower = -self.lower * almond * (1.0 + 0.15 * r);
        (upper, lower, inside)
    }

    /// Chart coordinates of a point given in the eye's own axes, outwards and upwards from its middle; `side` is 1
    /// for the eye on the right of the image and -1 for the other.
    #[inline]
    pub(crate) fn chart(&self, side: f32, u: f32, v: f32) -> (f32, f32) {
        let (st, ct) = self.tilt;
        (side * (self.x + u * ct - v * st), self.y + v * ct + u * st)
    }

    /// Chart coordinates of the pupil. The gaze turns both eyes the same way in the image.
    pub(crate) fn pupil(&self, side: f32) -> (f32, f32) {
        self.chart(side, self.gaze.0 * side, self.gaze.1)
    }
}

impl BrowRig {
    /// Height of the brow's middle line at `t` from its inner (0) to its outer end (1).
    #[inline]
    pub(crate) fn height(&self, t: f32) -> f32 {
        // The quadratic through the three heights, with the middle at 0.6 of the way.
        let (y0, y1, y2) = (self.y_inner, self.y_mid, self.y_outer);
        const M: f32 = 0.6;
        y0 * (t - M) * (t - 1.0) / M - y1 * t * (t - 1.0) / (M * (1.0 - M))
            + y2 * t * (t - M) / (1.0 - M)
    }

    /// Chart coordinates of the brow's middle line.
    pub(crate) fn chart(&self, side: f32, t: f32) -> (f32, f32) {
        let x = self.x_inner + t * (self.x_outer - self.x_inner);
        (side * x, self.height(t))
    }
}

/// Heights of the lips at one place of their width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lips {
    /// Upper edge of the upper lip.
    pub upper: f32,
    /// Lower edge of the upper lip, where the opening begins.
    pub top: f32,
    /// Upper edge of the lower lip, where the opening ends.
    pub low: f32,
    /// Lower edge of the lower lip.
    pub lower: f32,
}

impl MouthRig {
    /// The lips at `r` half widths from the middle of the mouth.
    #[inline]
    pub(crate) fn lips(&self, r: f32) -> Lips {
        let r2 = (r * r).min(1.3);
        let e = (1.0 - r2).max(0.0);
        let rise = self.rise2 * r2 + self.rise4 * r2 * r2;
        let centre = self.y + rise;
        let shape = e * (1.0 + self.square * r2);
        let top = centre + self.gap_up * shape;
        let low = centre - self.gap_down * shape;
        let round = pow34(e);
        // The bow of the upper lip dips in the middle.
        let bow = 1.0 - self.bow * line(r, 0.30) + 0.12 * line(r.abs() - 0.30, 0.30);
        Lips {
            upper: top + self.upper * round * bow,
            top,
            low,
            lower: low - self.lower * round * (1.0 - 0.10 * r2),
        }
    }

    /// Height of the corners.
    pub(crate) fn corner(&self) -> f32 {
        self.y + self.rise2 + self.rise4
    }
}
