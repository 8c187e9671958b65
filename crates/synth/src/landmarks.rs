//! Where the landmarks lie on the face's chart.

use crate::rig::Rig;

/// Number of landmarks of the 300-W order.
pub const LANDMARKS: usize = 68;

/// Height (part of the way from the widest place of the head to the chin) and sideways place (sine of the angle) of
/// the contour's points, from the ear to the chin.
const CONTOUR: [(f32, f32); 9] = [
    (0.09, 0.985),
    (0.27, 0.985),
    (0.43, 0.98),
    (0.58, 0.975),
    (0.715, 0.96),
    (0.83, 0.93),
    (0.92, 0.84),
    (0.97, 0.60),
    (0.985, 0.0),
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
        let y = crate::rig::HEAD_Y - q * (crate::rig::HEAD_Y - head.chin_y);
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
    for (k, r) in [-0.42, 0.0, 0.42].into_iter().enumerate() {
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
