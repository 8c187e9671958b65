//! Glasses: a sheet in front of the eyes, seen only where nothing lies before it.

use crate::factors::Factors;
use crate::geometry::{self, Mesh, Vertex};
use crate::math::{V3, clamp01, cover, linear, mix, mix3};
use crate::rig::Rig;

/// The sheet that carries the frame; its chart is the frontal plane.
pub(crate) fn sheet(rig: &Rig, mesh: &mut Mesh) {
    const COLUMNS: usize = 17;
    const ROWS: usize = 3;
    let front = geometry::surface(rig, rig.eye.x, rig.eye.y)[2] + 0.13;
    mesh.columns = COLUMNS;
    mesh.rows = ROWS;
    mesh.vertices.clear();
    for row in 0..ROWS {
        let y = mix(
            rig.eye.y + 0.24,
            rig.eye.y - 0.28,
            row as f32 / (ROWS - 1) as f32,
        );
        for column in 0..COLUMNS {
            let x = mix(-0.78, 0.78, column as f32 / (COLUMNS - 1) as f32);
            // Flat before the eyes, then back along the temples to the ears.
            let back = (x.abs() - 0.60).max(0.0) / 0.18;
            mesh.vertices.push(Vertex {
                at: [x, y, front - 0.10 * x * x - back * (front - 0.05)],
                x,
                y,
                front: 1.0,
                normal: [0.0, 0.0, 1.0],
            });
        }
    }
}

/// Colour of the frame or lens at frontal (x, y), and how much it covers.
pub(crate) fn frame(rig: &Rig, f: &Factors, x: f32, y: f32, px: f32) -> (V3, f32) {
    let scene = &f.scene;
    let sun = f.disguise.sunglasses >= 0.5;
    let ax = x.abs();
    let e = &rig.eye;
    let (w, h) = if sun {
        (0.258, mix(0.225, 0.190, scene.glasses_shape))
    } else {
        (0.225, mix(0.205, 0.165, scene.glasses_shape))
    };
    let (dx, dy) = (
        ((ax - e.x - 0.005) / w).abs(),
        ((y - e.y + 0.015) / h).abs(),
    );
    let round = (dx * dx + dy * dy).sqrt();
    let (x4, y4) = (dx * dx * dx * dx, dy * dy * dy * dy);
    let square = (x4 + y4).sqrt().sqrt();
    let r = mix(round, square, scene.glasses_shape);
    let inside = (1.0 - r) * h;
    let rim = cover(0.020 - inside.abs(), px);
    let bridge = if ax < e.x - w + 0.03 {
        cover(0.016 - (y - e.y - 0.045 + 0.8 * x * x).abs(), px)
    } else {
        0.0
    };
    let temple = if ax > e.x + w - 0.01 {
        cover(0.020 - (y - e.y - 0.05).abs(), px)
    } else {
        0.0
    };
    let dark = [0.07, 0.06, 0.06];
    let frame = linear(mix3(
        dark,
        [0.72, 0.68, 0.60],
        scene.glasses_tone * scene.glasses_tone,
    ));
    let solid = rim.max(bridge).max(temple);
    // A pale reflection across the upper part of the lens.
    let band = clamp01(1.0 - ((x * 0.6 + y - e.y - 0.10).abs() / 0.06));
    let (lens, glass) = if sun {
        // Nearly black, a little lighter downwards.
        let fade = clamp01(0.5 - (y - e.y) / (2.0 * h));
        let tint = 0.012 + 0.05 * fade * fade + 0.10 * band;
        (
            cover(inside, px) * (0.97 - 0.10 * fade),
            [0.9 * tint, 0.95 * tint, tint],
        )
    } else {
        (cover(inside, px) * (0.05 + 0.12 * band), [0.75, 0.80, 0.85])
    };
    let alpha = solid.max(lens);
    (mix3(glass, frame, clamp01(solid / alpha.max(1e-6))), alpha)
}
