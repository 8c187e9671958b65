//! Things worn over the face: surgical mask, scarf, hat. Each is a mesh that lies on the head's surface like cloth.

use std::f32::consts::PI;

use crate::geometry::{self, Mesh, Vertex};
use crate::math::{mix, sin_cos, step};
use crate::rig::{HEAD_Y, Rig};

/// Columns and rows of the mask.
const MASK_COLUMNS: usize = 21;
const MASK_ROWS: usize = 17;

/// Upper edge of the mask at frontal `x`: over the bridge of the nose, lower on the cheeks.
pub(crate) fn mask_top(rig: &Rig, x: f32) -> f32 {
    let half = mask_half_width(rig);
    let s = (x / half).clamp(-1.0, 1.0);
    0.35 * rig.head.nose_tip + 0.03 - 0.10 * s * s
}

/// Half width of the mask, where the loops to the ears begin.
pub(crate) fn mask_half_width(rig: &Rig) -> f32 {
    0.80 * rig.head.half_width
}

/// The surgical mask: a membrane over nose, mouth and chin. The chart is the frontal plane; `front` runs from 0 at
/// the lower to 1 at the upper edge.
pub(crate) fn mask(rig: &Rig, mesh: &mut Mesh) {
    let half = mask_half_width(rig);
    let low = rig.head.chin_y - 0.02;
    let mut height = [[0.0f32; MASK_COLUMNS]; MASK_ROWS];
    let mut place = [[(0.0f32, 0.0f32); MASK_COLUMNS]; MASK_ROWS];
    let near = 0.5 * half / (MASK_COLUMNS - 1) as f32;
    for row in 0..MASK_ROWS {
        let t = row as f32 / (MASK_ROWS - 1) as f32;
        for column in 0..MASK_COLUMNS {
            let s = 2.0 * column as f32 / (MASK_COLUMNS - 1) as f32 - 1.0;
            let top = mask_top(rig, half * s);
            // The lower edge runs up to the ears along the jaw.
            let bottom = low + 0.42 * s * s;
            let (x, y) = (s * half, mix(top, bottom, t));
            let [px, py, mut z] = geometry::surface(rig, x, y);
            // The cloth is coarser than the face: it clears what stands out between its corners.
            for (dx, dy) in [(near, 0.0), (-near, 0.0), (0.0, near), (0.0, -near)] {
                z = z.max(geometry::surface(rig, x + dx, y + dy)[2]);
            }
            place[row][column] = (px, py);
            height[row][column] = z + if t < 1.0 { 0.03 } else { 0.0 };
        }
    }
    // Stretched cloth: nowhere below the face, elsewhere the mean of its neighbours.
    let floor = height;
    for _ in 0..24 {
        for row in 1..MASK_ROWS - 1 {
            for column in 1..MASK_COLUMNS - 1 {
                let mean = 0.25
                    * (height[row - 1][column]
                        + height[row + 1][column]
                        + height[row][column - 1]
                        + height[row][column + 1]);
                height[row][column] = mean.max(floor[row][column]);
            }
        }
    }
    mesh.columns = MASK_COLUMNS;
    mesh.rows = MASK_ROWS;
    mesh.vertices.clear();
    for (row, (heights, places)) in height.iter().zip(&place).enumerate() {
        let t = row as f32 / (MASK_ROWS - 1) as f32;
        for (z, (x, y)) in heights.iter().zip(places) {
            mesh.vertices.push(Vertex {
                at: [*x, *y, *z],
                x: *x,
                y: *y,
                front: 1.0 - t,
                normal: [0.0; 3],
            });
        }
    }
    geometry::normals(mesh);
}

/// A scarf wound around neck, chin and mouth. The chart is (angle in half turns, height).
pub(crate) fn scarf(rig: &Rig, mesh: &mut Mesh) {
    const COLUMNS: usize = 33;
    const ROWS: usize = 25;
    let h = &rig.head;
    let (top, bottom) = (h.nose_base + 0.02, h.chin_y.min(-0.9) - 0.62);
    mesh.columns = COLUMNS;
    mesh.rows = ROWS;
    mesh.vertices.clear();
    let mut out = 0.0f32;
    let cheek = geometry::surface(rig, 2.0, h.nose_base)[0]
        .abs()
        .min(1.2 * h.half_width)
        .max(0.9 * h.half_width);
    for row in 0..ROWS {
        let t = row as f32 / (ROWS - 1) as f32;
        let y = mix(top, bottom, t);
        let wide = 0.06 + mix(cheek, 0.80, t * t);
        out = out.max(geometry::surface(rig, 0.0, y.max(h.chin_y + 0.05))[2]);
        let deep = mix(out, 0.86, t) + 0.05;
        for column in 0..COLUMNS {
            let u = 2.0 * column as f32 / (COLUMNS - 1) as f32 - 1.0;
            let (s, c) = sin_cos(2.0 * u);
            // Three windings, each sagging in front, with folds across.
            let (wave, _) = sin_cos(PI * (6.0 * t + 0.9 * u * u + 0.5 * u));
            let (ripple, _) = sin_cos(PI * (9.0 * t - 4.0 * u));
            let fold = 0.030 * wave + 0.010 * ripple;
            let sag = 0.10 * u * u * (1.0 - t);
            mesh.vertices.push(Vertex {
                at: [(wide + fold) * s, y + sag, (deep + fold) * c - 0.06 * t],
                x: u,
                y: t,
                front: c,
                normal: [0.0; 3],
            });
        }
    }
    geometry::normals(mesh);
}

/// Lower edge of the hat in front.
pub(crate) fn hat_edge(rig: &Rig) -> f32 {
    rig.head.hair_line.min(0.74) - 0.12
}

/// A knitted hat. The chart is (angle in half turns, 0 at the edge to 1 at the crown).
pub(crate) fn hat(rig: &Rig, mesh: &mut Mesh) {
    const COLUMNS: usize = 33;
    const ROWS: usize = 19;
    let h = &rig.head;
    let edge = hat_edge(rig);
    let crown = h.crown_y + h.hair_volume + 0.14;
    // The skull where the hat sits, with its person's own shape.
    let temple = geometry::point(rig, h.half_width, HEAD_Y + 0.25, 0.0)[0];
    let front = geometry::surface(rig, 0.0, edge + 0.1)[2].max(h.depth);
    mesh.columns = COLUMNS;
    mesh.rows = ROWS;
    mesh.vertices.clear();
    for row in 0..ROWS {
        let t = 1.0 - row as f32 / (ROWS - 1) as f32;
        let (up, _) = sin_cos(0.5 * PI * t);
        let y = mix(edge, crown, mix(t, up, 0.6));
        let q = ((y - HEAD_Y) / (crown - HEAD_Y)).clamp(0.0, 1.0);
        let round = (1.0 - q * q * q).max(0.0).sqrt();
        let band = 0.030 * step(0.30, 0.27, t);
        let wide = (temple.max(h.half_width) + 0.8 * h.hair_volume + 0.05) * round + band;
        let deep = (front + 0.5 * h.hair_volume + 0.06) * round + band;
        for column in 0..COLUMNS {
            let u = 2.0 * column as f32 / (COLUMNS - 1) as f32 - 1.0;
            let (s, c) = sin_cos(2.3 * u);
            // Flat in front like the forehead; lower over the ears.
            let flat = if c > 0.0 { c * (1.28 - 0.28 * c) } else { c };
            let drop = 0.30 * (1.0 - c) * (1.0 - t);
            mesh.vertices.push(Vertex {
                at: [wide * s, y - drop, deep * flat],
                x: u,
                y: t,
                front: c,
                normal: [0.0; 3],
            });
        }
    }
    geometry::normals(mesh);
}
