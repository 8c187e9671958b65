//! Where the landmarks lie on the face's chart.

use crate::rig::{HEAD_Y, Rig};

/// Number of landmarks of the 300-W order.
pub const LANDMARKS: usize = 68;

/// For each landmark the one that takes its place when the image is mirrored.
pub const MIRROR: [usize; LANDMARKS] = [
    16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 26, 25, 24, 23, 22, 21, 20, 19, 18,
    17, 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40, 54, 53,
    52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
];

/// Height (part of the way from the widest place of the head to the chin) and sideways place (sine of the angle) of
/// the contour's points, from the ear to the chin: the silhouette of the mean face from the front. Points begin at the
/// height of the eyes and thin out towards the jaw, as in the 300-W mark-up.
const CONTOUR: [(f32, f32); 9] = [
    (-0.045, 0.990),
    (0.180, 0.990),
    (0.360, 0.987),
    (0.545, 0.962),
    (0.694, 0.912),
    (0.811, 0.827),
    (0.888, 0.717),
    (0.930, 0.510),
    (0.950, 0.0),
];

/// A landmark's place on the chart: contour points by sine of their angle and height, all others by frontal (x, y).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Spot {
    Contour { sine: f32, y: f32 },
    Face { x: f32, y: f32 },
}

/// The 68 points of the 300-W mark-up, numbered from 0: contour 0-16 from the left of the image, brows 17-26, bridge
/// 27-30, base of the nose 31-35, eyes 36-47, outer lips 48-59, inner lips 60-67.
pub(crate) fn spots(rig: &Rig) -> [Spot; LANDMARKS] {
    let mut out = [Spot::Face { x: 0.0, y: 0.0 }; LANDMARKS];
    let face = |(x, y): (f32, f32)| Spot::Face { x, y };
    let head = &rig.head;
    for (k, &(q, sine)) in CONTOUR.iter().enumerate() {
        // The chin moves with the jaw, what lies near the ear hardly does.
        let y = HEAD_Y - q * (HEAD_Y - head.chin_rest) + q * q * (head.chin_y - head.chin_rest);
        out[k] = Spot::Contour { sine: -sine, y };
        out[16 - k] = Spot::Contour { sine, y };
    }
    let brow = &rig.brow;
    for k in 0..5 {
        let t = 0.03 + 0.235 * k as f32;
        out[22 + k] = face(brow.chart(1.0, t));
        out[21 - k] = face(brow.chart(-1.0, t));
    }
    let eye = &rig.eye;
    let root = eye.y + 0.03;
    for k in 0..4 {
        out[27 + k] = face((0.0, root + (head.nose_tip - root) * k as f32 / 3.0));
    }
    let (base, w) = (head.nose_base, head.nose_width);
    for (k, (x, y)) in [(0.85, 0.015), (0.42, -0.008), (0.0, -0.020)]
        .into_iter()
        .enumerate()
    {
        out[31 + k] = face((-x * w, base + y));
        out[35 - k] = face((x * w, base + y));
    }
    // In the eye's own axes, from the inner corner over the upper lid to the outer one and back below.
    let lid = |r: f32, above: bool| {
        let (upper, lower, _) = eye.lids(r);
        (r * eye.a, if above { upper } else { lower })
    };
    let round = [
        (-eye.a, 0.0),
        lid(-0.36, true),
        lid(0.36, true),
        (eye.a, 0.0),
        lid(0.36, false),
        lid(-0.36, false),
    ];
    for (k, (u, v)) in round.into_iter().enumerate() {
        out[42 + k] = face(eye.chart(1.0, u, v));
        // The other eye begins at its outer corner: 36 mirrors 45, 37 mirrors 44, ...
        let mirrored = [39, 38, 37, 36, 41, 40][k];
        out[mirrored] = face(eye.chart(-1.0, u, v));
    }
    let m = &rig.mouth;
    out[48] = face((-m.w, m.corner()));
    out[54] = face((m.w, m.corner()));
    for (k, r) in [-0.68, -0.30, 0.0, 0.30, 0.68].into_iter().enumerate() {
        out[49 + k] = face((r * m.w, m.lips(r).upper));
    }
    for (k, r) in [0.70, 0.35, 0.0, -0.35, -0.70].into_iter().enumerate() {
        out[55 + k] = face((r * m.w, m.lips(r).lower));
    }
    const INNER: f32 = 0.86;
    let seam = |r: f32| {
        let lips = m.lips(r);
        (r * m.w, 0.5 * (lips.top + lips.low))
    };
    out[60] = face(seam(-INNER));
    out[64] = face(seam(INNER));
    for (k, r) in [-0.28, 0.0, 0.28].into_iter().enumerate() {
        out[61 + k] = face((r * m.w, m.lips(r).top));
        out[67 - k] = face((r * m.w, m.lips(r).low));
    }
    out
}

/// The five points of face alignment on the chart: pupil on the left of the image, pupil on the right, tip of the
/// nose, corner of the mouth on the left, on the right.
pub(crate) fn five(rig: &Rig) -> [(f32, f32); 5] {
    let m = &rig.mouth;
    [
        rig.eye.pupil(-1.0),
        rig.eye.pupil(1.0),
        (0.0, rig.head.nose_tip),
        (-m.w, m.corner()),
        (m.w, m.corner()),
    ]
}
