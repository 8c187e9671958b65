//! From factors to the measures of one face: where the lids, brows, nose and lips are, in face units.
//!
//! Face units: the chart looks at the head straight from the front; x to the right of the image, y up, the origin
//! between the eyes and a little below them, 1 unit about 11 cm. The chin of the mean face is at y = -1.02, its eyes
//! at y = 0.06, its half width 0.72. Every rule from an action unit to a displacement is in this file.

use crate::factors::Factors;
use crate::math::step;
use crate::person::Shape;
use crate::scene::Scene;
use crate::warp::Warp;

/// One eye's lids (both eyes are alike).
#[derive(Debug, Clone, Copy)]
pub(crate) struct EyeRig {
    /// Centre of the (right-hand) eye.
    pub x: f32,
    pub y: f32,
    /// Half width.
    pub a: f32,
    /// Sine and cosine of the tilt (outer corner up).
    pub tilt: (f32, f32),
    /// Heights of the lids' edges over and under the line between the corners.
    pub upper: f32,
    pub lower: f32,
    /// Skew of the upper lid: positive peaks outwards.
    pub skew: f32,
    /// Iris radius and gaze offset.
    pub iris: f32,
    pub gaze: (f32, f32),
    /// Height of the fold over the upper lid's edge.
    pub hood: f32,
    /// Strength of the fold below the eye and of crow's feet.
    pub bag: f32,
    pub crow: f32,
}

/// One brow: a quadratic through inner, middle and outer height.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BrowRig {
    pub x_inner: f32,
    pub x_outer: f32,
    pub y_inner: f32,
    pub y_mid: f32,
    pub y_outer: f32,
    pub thick: f32,
}

/// Lips and mouth opening.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MouthRig {
    /// Height of the closed lip line at the centre.
    pub y: f32,
    /// Half width between the corners.
    pub w: f32,
    /// Rise of the line towards the corners, as s^2 and as s^4.
    pub rise2: f32,
    pub rise4: f32,
    /// Opening above and below the line.
    pub gap_up: f32,
    pub gap_down: f32,
    /// Squareness of the opening.
    pub square: f32,
    /// Depth of the bow of the upper lip.
    pub bow: f32,
    /// Strength of the dimples at the corners: left and right of the image.
    pub dimple: (f32, f32),
    /// Thickness of the lips at the centre.
    pub upper: f32,
    pub lower: f32,
    /// Length of the teeth seen from above and from below.
    pub teeth_up: f32,
    pub teeth_down: f32,
}

/// Folds and wrinkles, strengths from 0 to about 0.7.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoldRig {
    pub nasolabial: f32,
    pub forehead_inner: f32,
    pub forehead_outer: f32,
    pub glabella: f32,
    pub nose: f32,
    pub chin: f32,
    pub marionette: f32,
    pub stretch: f32,
}

/// Measures of the head's surface.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadRig {
    pub half_width: f32,
    pub chin_y: f32,
    /// Height of the chin at rest.
    pub chin_rest: f32,
    pub crown_y: f32,
    pub depth: f32,
    pub jaw: f32,
    pub chin: f32,
    pub chin_out: f32,
    pub cheek: f32,
    pub cheek_y: f32,
    pub cheekbone: f32,
    pub socket: f32,
    pub brow_ridge: f32,
    pub nose_tip: f32,
    pub nose_base: f32,
    pub nose_width: f32,
    pub nose_out: f32,
    pub bridge: f32,
    pub ear: f32,
    pub hair_line: f32,
    pub hair_volume: f32,
    pub hair_part: f32,
    /// Lower end of hair behind the face; `None` when it is short.
    pub curtain: Option<f32>,
    /// Height of the ears' middle, and how far they stand out.
    pub ear_y: f32,
    pub ear_out: f32,
    /// Width of the neck relative to the mean.
    pub neck: f32,
}

/// All measures of one face.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rig {
    pub head: HeadRig,
    pub eye: EyeRig,
    pub brow: BrowRig,
    pub mouth: MouthRig,
    pub fold: FoldRig,
    pub warp: Warp,
    /// Beard coverage, 0 to 0.95.
    pub beard: f32,
}

/// Height of the centre of the head's chart, where the outline is widest.
pub(crate) const HEAD_Y: f32 = 0.10;

const EYE_Y: f32 = 0.06;

impl Rig {
    pub(crate) fn new(f: &Factors) -> Self {
        let whole = f.shape.with_directions();
        let s = &whole;
        let eye = eye(f, s, &f.scene);
        let head = head(f, s);
        let mouth = mouth(f, s, &head);
        let warp = Warp::new(s, &head, &mouth, f.lateral, corner_shift(f));
        Self {
            head,
            eye,
            warp,
            brow: brow(f, s, &eye),
            mouth,
            fold: fold(f, s),
            beard: (0.6 * (s.beard - 0.8))
                .clamp(0.0, 0.75)
                .max(0.95 * f.disguise.false_beard.clamp(0.0, 1.0)),
        }
    }
}

fn head(f: &Factors, s: &Shape) -> HeadRig {
    let a = &f.actions;
    let nose_tip = -0.255 - 0.030 * s.nose_length + 0.035 * a.au9 + 0.01 * a.au10;
    let chin_rest = -1.02 - 0.050 * s.face_length;
    HeadRig {
        half_width: 0.72 * (1.0 + 0.045 * s.face_width),
        chin_y: chin_rest - 0.17 * a.au26 + 0.03 * a.au17,
        chin_rest,
        crown_y: 1.10 + 0.05 * s.forehead,
        depth: 0.78 * (1.0 + 0.035 * s.head_depth),
        jaw: 0.05 * s.jaw_width,
        chin: 0.06 * s.chin_width,
        chin_out: 0.10 + 0.03 * s.chin_projection + 0.02 * a.au17,
        cheek: 0.05 + 0.022 * s.cheek + 0.05 * a.au12 + 0.045 * a.au6 + 0.02 * a.au10,
        cheek_y: -0.24 + 0.06 * a.au12 + 0.05 * a.au6,
        cheekbone: 0.04 + 0.018 * s.cheekbone,
        socket: 0.075 + 0.02 * s.eye_depth,
        brow_ridge: 0.030 + 0.010 * s.eye_depth + 0.011 * s.brow_ridge + 0.025 * a.au4,
        nose_tip,
        nose_base: nose_tip - 0.075,
        nose_width: 0.128 * (1.0 + 0.13 * s.nose_width)
            + 0.016 * a.au9
            + 0.016 * a.au12
            + 0.008 * a.au10,
        nose_out: 0.215 * (1.0 + 0.15 * s.nose_projection),
        bridge: 0.07 + 0.02 * s.nose_bridge,
        ear: 1.0 + 0.12 * s.ear_size,
        hair_line: 0.70 + 0.07 * s.hair_line + 0.03 * s.forehead,
        hair_volume: (0.085 + 0.03 * s.hair_volume).max(0.02),
        hair_part: s.hair_part,
        curtain: (s.hair_length > 0.2).then_some(-0.55 - 0.5 * s.hair_length),
        ear_y: -0.06 + 0.025 * s.ear_height,
        ear_out: 0.02 + 0.02 * s.ear_projection,
        neck: (1.0 + 0.08 * s.neck_width).max(0.6),
    }
}

fn eye(f: &Factors, s: &Shape, scene: &Scene) -> EyeRig {
    let a = &f.actions;
    let size = 1.0 + 0.07 * s.eye_size;
    let iris = 0.076 * (1.0 + 0.03 * s.eye_size);
    let sad = (a.au1 * a.au4).min(1.0);
    let upper = 0.066 * size + 0.013 * s.eye_openness + 0.055 * a.au5
        - 0.020 * a.au7
        - 0.010 * a.au4
        - 0.012 * a.au9
        - 0.006 * a.au6
        + 0.008 * a.au2
        - 0.016 * a.au15 * (1.0 - a.au5).max(0.0);
    let lower = 0.046 * size + 0.006 * s.eye_openness + 0.006 * a.au5
        - 0.022 * a.au7
        - 0.022 * a.au6
        - 0.016 * a.au9;
    // Closing brings the upper lid down to the lower one.
    let shut = a.au43.clamp(0.0, 1.0);
    let (upper, lower) = (upper.max(0.014), lower.max(0.006));
    EyeRig {
        x: 0.305 * (1.0 + 0.055 * s.eye_spacing + 0.02 * s.face_width),
        y: EYE_Y,
        a: 0.160 * size,
        tilt: crate::math::sin_cos(0.05 + 0.065 * s.eye_tilt),
        upper: upper - shut * (upper + 0.85 * lower),
        lower,
        skew: -0.12 + 0.11 * s.eye_roundness - 0.45 * sad,
        hood: (0.030 - 0.009 * s.lid_fold).max(0.004),
        iris,
        gaze: (scene.gaze_x * iris, scene.gaze_y * iris + 0.006),
        bag: (0.10
            + 0.06 * s.age
            + 0.05 * s.under_eye
            + 0.30 * a.au6
            + 0.18 * a.au7
            + 0.15 * a.au9)
            .clamp(0.0, 0.6),
        crow: (0.04 * s.age + 0.45 * a.au6).clamp(0.0, 0.6),
    }
}

fn brow(f: &Factors, s: &Shape, eye: &EyeRig) -> BrowRig {
    let a = &f.actions;
    let base = eye.y + 0.205 + 0.036 * s.brow_height - 0.02 * a.au9 - 0.012 * a.au6;
    let tilt = 0.012 + 0.026 * s.brow_tilt;
    let arch = 0.034 + 0.014 * s.brow_arch;
    BrowRig {
        x_inner: 0.115 + 0.014 * s.brow_spacing - 0.045 * a.au4 - 0.01 * a.au9,
        x_outer: eye.x + 0.215 - 0.01 * a.au4,
        y_inner: base - tilt + 0.115 * a.au1 + 0.02 * a.au2 - 0.095 * a.au4 - 0.025 * a.au9,
        y_mid: base + arch + 0.050 * a.au1 + 0.075 * a.au2 - 0.065 * a.au4,
        y_outer: base + tilt - 0.012 + 0.095 * a.au2 - 0.015 * a.au4 - 0.02 * a.au1,
        thick: (0.030 * (1.0 + 0.25 * s.brow_thickness)).max(0.012),
    }
}

fn mouth(f: &Factors, s: &Shape, head: &HeadRig) -> MouthRig {
    let a = &f.actions;
    // The jaw can open only as far as the lips let it be seen.
    let open = (1.6 * a.au25).min(1.0);
    let jaw = 0.215 * a.au26 * open;
    let part = 0.040 * a.au25;
    let curve = 0.024 * s.mouth_curvature;
    let thin = (1.0 - 0.55 * a.au23 - 0.50 * a.au24 - 0.28 * a.au12 - 0.25 * a.au20).max(0.25);
    let dimple =
        |side: f32| (a.au14 * (1.0 + side * f.lateral.clamp(-1.0, 1.0)).min(1.0)).clamp(0.0, 1.0);
    let gap_up = 0.30 * part + open * (0.034 * a.au10 + 0.030 * a.au12);
    let gap_down = 0.70 * part + jaw + open * (0.035 * a.au16 + 0.012 * a.au20);
    MouthRig {
        y: head.nose_base - 0.215 - 0.018 * s.mouth_drop - 0.012 * s.face_length
            + 0.030 * a.au17
            + 0.022 * a.au10
            + 0.010 * a.au9
            - 0.012 * a.au12,
        w: (0.232 * (1.0 + 0.085 * s.mouth_width) + 0.085 * a.au12 + 0.070 * a.au20
            - 0.045 * a.au23
            - 0.025 * a.au24
            + 0.028 * a.au14
            - 0.030 * a.au26 * open
            - 0.030 * a.au17
            + 0.015 * a.au10
            + 0.010 * a.au15)
            .max(0.12),
        rise2: curve + 0.115 * a.au12 + 0.040 * a.au14
            - 0.045 * a.au15
            - 0.020 * a.au17
            - 0.030 * a.au10
            - 0.020 * a.au20,
        rise4: -0.055 * a.au15 - 0.015 * a.au20,
        gap_up,
        gap_down,
        square: (0.5 * a.au20 + 0.7 * a.au10 + 0.6 * a.au16 + 0.2 * a.au12).min(1.0),
        bow: 0.28 + 0.07 * s.lip_bow,
        dimple: (dimple(-1.0), dimple(1.0)),
        upper: ((0.044 * (1.0 + 0.25 * s.upper_lip)) * thin).max(0.008),
        lower: ((0.058 * (1.0 + 0.22 * s.lower_lip)) * thin + 0.012 * a.au17).max(0.010),
        teeth_up: 0.012
            + 0.055 * step(0.0, 0.8, a.au12 + a.au10 + 0.4 * a.au20)
            + 0.020 * step(0.3, 1.0, a.au26),
        teeth_down: 0.050 * (a.au16 + 0.5 * a.au20).min(1.0),
    }
}

fn fold(f: &Factors, s: &Shape) -> FoldRig {
    let a = &f.actions;
    let cut = |x: f32| x.clamp(0.0, 0.7);
    let age = 0.05 * s.age;
    FoldRig {
        nasolabial: cut(0.10
            + 1.6 * age
            + 0.42 * a.au12
            + 0.40 * a.au10
            + 0.38 * a.au9
            + 0.12 * a.au15
            + 0.10 * a.au14),
        forehead_inner: cut(0.8 * age + 0.42 * a.au1),
        forehead_outer: cut(0.8 * age + 0.42 * a.au2),
        glabella: cut(age + 0.60 * a.au4 + 0.15 * a.au9),
        nose: cut(0.65 * a.au9),
        chin: cut(0.14 + age + 0.45 * a.au17),
        marionette: cut(1.2 * age + 0.42 * a.au15),
        stretch: cut(0.40 * a.au20),
    }
}

/// How far actions pull the corners of the mouth outwards and upwards.
fn corner_shift(f: &Factors) -> (f32, f32) {
    let with = |f: &Factors| {
        let s = Shape::default();
        let m = mouth(f, &s, &head(f, &s));
        (m.w, m.corner())
    };
    let (w, y) = with(f);
    let (w0, y0) = with(&Factors::default());
    (w - w0, y - y0)
}
