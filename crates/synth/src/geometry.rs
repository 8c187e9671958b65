//! The head as a surface: outline, depth and the hills and hollows of the face, and the meshes that are drawn.
//!
//! The head is a chart over angle (around the vertical axis) and height. Its cross-sections are rounded; the outline
//! narrows from the cheekbones to jaw and chin; nose, lids, cheeks, lips and chin are smooth hills on it that move
//! along the line of sight, so a point of the face keeps its frontal (x, y), which is what the skin is drawn in.

use std::f32::consts::FRAC_PI_2;

use crate::landmarks::Spot;
use crate::math::{V3, clamp01, cross, dot, hill, hill2, line, mix, sin_cos, step, unit};
use crate::rig::{HEAD_Y, HeadRig, Rig};
pub(crate) use crate::template::head;

/// What a mesh is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Material {
    None = 0,
    Head = 1,
    Ear = 2,
    Neck = 3,
    Curtain = 4,
    Clothes = 5,
    Mask = 6,
    Scarf = 7,
    Hat = 8,
}

/// A corner of a mesh: place in the head's space, frontal coordinates, how frontal it is (cosine of the angle around
/// the vertical axis), normal.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Vertex {
    pub at: V3,
    pub x: f32,
    pub y: f32,
    pub front: f32,
    pub normal: V3,
}

/// A mesh of `columns` x `rows` vertices; columns run to the right, rows down.
#[derive(Debug, Default)]
pub(crate) struct Mesh {
    pub columns: usize,
    pub rows: usize,
    pub vertices: Vec<Vertex>,
}

/// Half width and depth of the head at height `y`.
pub(crate) fn outline(h: &HeadRig, y: f32) -> (f32, f32) {
    if y >= HEAD_Y {
        let q = ((y - HEAD_Y) / (h.crown_y - HEAD_Y)).min(1.0);
        let q2 = q * q;
        let w = (1.0 - 0.45 * q2 - 0.55 * q2 * q2).max(0.0).sqrt();
        let d = (1.0 - 0.35 * q2 - 0.65 * q2 * q2).max(0.0).sqrt();
        (h.half_width * w, h.depth * d)
    } else {
        let q = ((HEAD_Y - y) / (HEAD_Y - h.chin_y)).min(1.0);
        let q2 = q * q;
        let q4 = q2 * q2;
        let close = (1.0 - q4 * q4).max(0.0).sqrt();
        let jaw = (0.08 - h.jaw) * step(0.12, 0.78, q);
        let chin = (0.20 - h.chin) * step(0.42, 1.0, q);
        let deep = (1.0 - q4 * q4 * q4).max(0.0).sqrt();
        (
            h.half_width * (1.0 - jaw - chin) * close,
            h.depth * (1.0 - 0.10 * q) * deep,
        )
    }
}

/// How far the face stands out at frontal (x, y) beyond the plain head.
fn relief(rig: &Rig, x: f32, y: f32) -> f32 {
    let h = &rig.head;
    let ax = x.abs();
    let mut z = 0.0;
    let eye = &rig.eye;
    // Nothing stands out above the forehead.
    if y > 0.75 {
        return 0.0;
    }
    // Sockets, eyeballs, ridge of the brows, temples.
    if y > eye.y - 0.20 {
        z -= h.socket * hill2(ax - eye.x + 0.02, y - eye.y - 0.02, 0.26, 0.20);
        z += 0.045 * hill2(ax - eye.x, y - eye.y, 0.17, 0.13);
        z += h.brow_ridge * hill2(ax - 0.27, y - eye.y - 0.20, 0.30, 0.14);
    }
    z -= 0.05 * hill2(ax - 0.62, y - 0.28, 0.22, 0.35);
    // Nose: a ridge that grows from the root to the tip, the tip, the wings.
    let root = eye.y + 0.10;
    if y < root + 0.08 && ax < 0.3 {
        let t = clamp01((root - y) / (root - h.nose_tip));
        let end = step(h.nose_base - 0.06, h.nose_tip, y);
        let high =
            mix(h.bridge, h.nose_out, t * (0.55 + 0.45 * t)) * step(root + 0.08, root - 0.06, y);
        let wide = mix(0.085, 0.15, t);
        z += high * end * line(ax, wide);
        z += 0.07 * hill2(ax, y - h.nose_tip, 0.12, 0.11);
        z += 0.085 * hill2(ax - 0.72 * h.nose_width, y - h.nose_tip + 0.03, 0.075, 0.08);
    }
    // Cheeks and cheekbones.
    if y > 0.20 {
        return z;
    }
    z += h.cheekbone * hill2(ax - 0.46, y + 0.14, 0.24, 0.20);
    z += h.cheek * hill2(ax - 0.36, y - h.cheek_y, 0.27, 0.24);
    // Mouth: the barrel of the teeth, then each lip; the groove below and the chin.
    let m = &rig.mouth;
    let low = m.y - m.gap_down;
    z += 0.05 * hill2(ax, y - m.y, 0.40, 0.30);
    z += 0.035
        * hill2(
            ax,
            y - m.y - m.gap_up - 0.5 * m.upper,
            0.9 * m.w,
            0.8 * m.upper + 0.03,
        );
    z += 0.045
        * hill2(
            ax,
            y - low + 0.5 * m.lower,
            0.75 * m.w,
            0.8 * m.lower + 0.03,
        );
    z -= 0.035 * hill2(ax, y - low + m.lower + 0.06, 0.22, 0.07);
    // Between parted lips the surface falls back, so that their edges stand before it.
    let gap = m.gap_up + m.gap_down;
    if gap > 0.01 && ax < m.w {
        let lips = m.lips(x / m.w);
        let inside = (lips.top - y).min(y - lips.low);
        z -= 0.10 * step(0.0, 0.05, inside) * step(0.01, 0.12, gap);
    }
    z += h.chin_out * hill2(ax, y - h.chin_y - 0.12, 0.26 + h.chin, 0.17);
    z
}

/// A point of the head at frontal (x, y), where the cosine of the angle around the vertical axis is `c`, in the
/// head's space.
pub(crate) fn point(rig: &Rig, x: f32, y: f32, c: f32) -> V3 {
    let (_, d) = outline(&rig.head, y);
    let mut z = d * flatten(c);
    if c > 0.0 {
        z += relief(rig, x, y) * step(0.0, 0.45, c);
    }
    let off = rig.warp.at(x, y, c);
    [x + off[0], y + off[1], z + off[2]]
}

/// A point of the face from its frontal coordinates, in the head's space. Points beyond the outline go to its edge.
pub(crate) fn surface(rig: &Rig, x: f32, y: f32) -> V3 {
    point(rig, x, y, cosine(rig, x, y))
}

/// Cosine of the angle around the vertical axis of a point in front.
fn cosine(rig: &Rig, x: f32, y: f32) -> f32 {
    let (w, _) = outline(&rig.head, y);
    let s = if w > 1e-4 {
        (x / w).clamp(-1.0, 1.0)
    } else {
        0.0
    };
    (1.0 - s * s).max(0.0).sqrt()
}

/// Frontal coordinates of a landmark.
pub(crate) fn chart(rig: &Rig, spot: Spot) -> (f32, f32) {
    match spot {
        Spot::Face { x, y } => (x, y),
        Spot::Contour { sine, y } => (sine * outline(&rig.head, y).0, y),
    }
}

/// Place of a landmark in the head's space.
pub(crate) fn place(rig: &Rig, spot: Spot) -> V3 {
    let (x, y) = chart(rig, spot);
    surface(rig, x, y)
}

/// Whether the head leaves the point at frontal (x, y) in sight of an eye at `eye` in the head's space: the skin must
/// face the eye, and the way to it must not lie under the skin. The way is walked on the chart.
pub(crate) fn sees(rig: &Rig, spot: Spot, eye: V3) -> bool {
    let (x, y) = chart(rig, spot);
    let at = surface(rig, x, y);
    let way = unit(sub(eye, at));
    let h = &rig.head;
    let (w, d) = outline(h, y);
    if matches!(spot, Spot::Contour { .. }) {
        // Along and down the surface, away from the edge of the outline.
        let towards = if x > 0.0 { -0.04 } else { 0.04 };
        let across = sub(surface(rig, x + towards, y), at);
        let along = sub(
            surface(rig, x * outline(h, y + 0.03).0 / w.max(1e-3), y + 0.03),
            at,
        );
        let mut normal = cross(across, along);
        if towards < 0.0 {
            normal = [-normal[0], -normal[1], -normal[2]];
        }
        // On the silhouette from the front the two are at right angles.
        if dot(unit(normal), way) < -0.20 {
            return false;
        }
    }
    let c = cosine(rig, x, y);
    let start = [
        x,
        y,
        d * flatten(c) + relief(rig, x, y) * step(0.0, 0.45, c),
    ];
    (1..=16).all(|k| {
        let k = k as f32;
        let t = 0.025 * k + 0.0015 * k * k;
        let (x, y) = (start[0] + t * way[0], start[1] + t * way[1]);
        let z = start[2] + t * way[2];
        let (w, d) = outline(h, y);
        if x.abs() >= w || y <= h.chin_y || y >= h.crown_y {
            return true;
        }
        let c = cosine(rig, x, y);
        let skin = d * flatten(c) + relief(rig, x, y) * step(0.0, 0.45, c);
        // The back of the head bounds it from behind.
        z > skin - 0.008 || z < d * flatten(-c)
    })
}

/// Faces are flatter in front than a circle.
fn flatten(c: f32) -> f32 {
    if c > 0.0 {
        c * (1.0 + 0.28 * (1.0 - c))
    } else {
        1.28 * c
    }
}

/// How far frontal (x, y) lies within the hair, in face units (positive inside).
pub(crate) fn in_hair(h: &HeadRig, x: f32, y: f32, front: f32) -> f32 {
    let part = h.hair_part;
    let sweep = 0.10 * part * x
        - 0.05 * part.abs() * hill(((x + 0.25 * part) / 0.5) * ((x + 0.25 * part) / 0.5));
    let top = h.hair_line - 0.20 * x * x + sweep;
    let temple = mix(top, 0.10, step(0.66, 0.36, front));
    let nape = mix(temple, -0.55, step(0.10, -0.15, front));
    y - nape
}

/// An ear; `side` is 1 or -1.
pub(crate) fn ear(rig: &Rig, side: f32, mesh: &mut Mesh) {
    let h = &rig.head;
    let centre = [side * (h.half_width + 0.005), h.ear_y, -0.10];
    let radii = [0.085 * h.ear, 0.185 * h.ear, 0.10 * h.ear];
    mesh.columns = 9;
    mesh.rows = 9;
    mesh.vertices.clear();
    for row in 0..9 {
        let (sy, cy) = sin_cos(FRAC_PI_2 * (1.0 - row as f32 / 4.0));
        for column in 0..9 {
            let (sx, cx) = sin_cos(1.75 * (column as f32 / 4.0 - 1.0));
            let p = [radii[0] * sx * cy, radii[1] * sy, radii[2] * cx * cy];
            mesh.vertices.push(Vertex {
                at: [
                    centre[0] + p[0] + side * (0.18 * p[1] + h.ear_out * (0.4 - cx)),
                    centre[1] + p[1],
                    centre[2] + p[2],
                ],
                x: sx * cy,
                y: sy,
                front: cx,
                normal: [0.0; 3],
            });
        }
    }
    normals(mesh);
}

/// A barrel around the vertical axis from `top` to `bottom`, with half width and depth growing from `start` to `end`.
pub(crate) fn barrel(
    (top, bottom): (f32, f32),
    (start, end): ((f32, f32), (f32, f32)),
    centre_z: f32,
    reach: f32,
    mesh: &mut Mesh,
) {
    const COLUMNS: usize = 15;
    const ROWS: usize = 8;
    mesh.columns = COLUMNS;
    mesh.rows = ROWS;
    mesh.vertices.clear();
    for row in 0..ROWS {
        let t = row as f32 / (ROWS - 1) as f32;
        let y = mix(top, bottom, t);
        let w = mix(start.0, end.0, t);
        let d = mix(start.1, end.1, t);
        for column in 0..COLUMNS {
            let u = 2.0 * column as f32 / (COLUMNS - 1) as f32 - 1.0;
            let (s, c) = sin_cos(reach * u);
            mesh.vertices.push(Vertex {
                at: [w * s, y, centre_z + d * c],
                x: w * s,
                y,
                front: c,
                normal: [0.0; 3],
            });
        }
    }
    normals(mesh);
}

/// Hair that falls behind the face, from one temple around the back to the other, seen from inside.
pub(crate) fn curtain(rig: &Rig, bottom: f32, mesh: &mut Mesh) {
    const COLUMNS: usize = 21;
    const ROWS: usize = 12;
    let h = &rig.head;
    let wide = h.half_width + 0.6 * h.hair_volume + 0.05;
    mesh.columns = COLUMNS;
    mesh.rows = ROWS;
    mesh.vertices.clear();
    for row in 0..ROWS {
        let t = row as f32 / (ROWS - 1) as f32;
        let y = mix(0.75, bottom, t);
        // Narrow at the crown, widest at the cheeks, a little in again at the ends.
        let w = wide * (0.80 + 0.28 * step(0.0, 0.45, t) - 0.12 * step(0.6, 1.0, t));
        for column in 0..COLUMNS {
            let u = 2.0 * column as f32 / (COLUMNS - 1) as f32 - 1.0;
            let (s, c) = sin_cos(std::f32::consts::PI + 1.85 * u);
            mesh.vertices.push(Vertex {
                at: [w * s, y, -0.12 + 0.62 * c],
                x: w * s,
                y,
                front: c,
                normal: [0.0; 3],
            });
        }
    }
    normals(mesh);
}

/// Normals by central differences over the mesh.
pub(crate) fn normals(mesh: &mut Mesh) {
    let (columns, rows) = (mesh.columns, mesh.rows);
    let v = &mut mesh.vertices;
    for row in 0..rows {
        let (up, down) = (row.saturating_sub(1), (row + 1).min(rows - 1));
        for column in 0..columns {
            let (left, right) = (column.saturating_sub(1), (column + 1).min(columns - 1));
            let across = sub(v[row * columns + right].at, v[row * columns + left].at);
            let along = sub(v[down * columns + column].at, v[up * columns + column].at);
            let n = cross(along, across);
            // At a pole all columns meet: there the way out is up or down.
            v[row * columns + column].normal = if dot(n, n) > 1e-14 {
                unit(n)
            } else {
                [0.0, if row < rows / 2 { 1.0 } else { -1.0 }, 0.0]
            };
        }
    }
}

fn sub(a: V3, b: V3) -> V3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}
