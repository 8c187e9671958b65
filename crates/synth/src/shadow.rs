//! Cast shadows: how far the lamp sees along each of its rays.

use crate::geometry::Mesh;
use crate::math::{V3, cross, dot, unit};
use crate::raster::Camera;

/// Side of the map in samples.
const SIDE: usize = 112;
/// Half of what the map covers, in face units about the middle of the head.
const REACH: f32 = 1.7;
/// Samples a face unit.
const SCALE: f32 = SIDE as f32 / (2.0 * REACH);
/// Points within this distance of what the lamp sees first are lit, face units: the meshes are coarse.
const BIAS: f32 = 0.035;
/// How far a point is lifted off its surface before it is looked up, face units.
const LIFT: f32 = 0.045;

/// A depth map from the lamp, parallel rays.
#[derive(Debug, Default)]
pub(crate) struct Shadow {
    depth: Vec<f32>,
    axes: [V3; 3],
    corners: Vec<V3>,
}

impl Shadow {
    /// An empty map for light from `direction` (viewer's space, unit length).
    pub(crate) fn reset(&mut self, direction: V3) {
        let helper = if direction[1].abs() > 0.9 {
            [0.0, 0.0, 1.0]
        } else {
            [0.0, 1.0, 0.0]
        };
        let right = unit(cross(helper, direction));
        self.axes = [right, cross(direction, right), direction];
        self.depth.clear();
        self.depth.resize(SIDE * SIDE, -1e9);
    }

    fn place(&self, p: V3) -> V3 {
        let [right, up, toward] = self.axes;
        [
            (dot(p, right) + REACH) * SCALE - 0.5,
            (dot(p, up) + REACH) * SCALE - 0.5,
            dot(p, toward),
        ]
    }

    /// Adds a mesh that casts a shadow.
    pub(crate) fn draw(&mut self, mesh: &Mesh, camera: &Camera) {
        let mut corners = std::mem::take(&mut self.corners);
        corners.clear();
        corners.extend(mesh.vertices.iter().map(|v| self.place(camera.view(v.at))));
        for row in 1..mesh.rows {
            for column in 1..mesh.columns {
                let d = row * mesh.columns + column;
                let (a, b, c) = (d - mesh.columns - 1, d - mesh.columns, d - 1);
                self.triangle(corners[a], corners[b], corners[c]);
                self.triangle(corners[b], corners[d], corners[c]);
            }
        }
        self.corners = corners;
    }

    fn triangle(&mut self, a: V3, b: V3, c: V3) {
        let area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
        if area.abs() < 1e-6 {
            return;
        }
        let last = SIDE as f32 - 1.0;
        let low = |k: usize| a[k].min(b[k]).min(c[k]).max(0.0);
        let high = |k: usize| a[k].max(b[k]).max(c[k]).min(last);
        let (x1, y1) = (high(0), high(1));
        if x1 < 0.0 || y1 < 0.0 {
            return;
        }
        let first = |v: f32| {
            let k = v as usize;
            if (k as f32) < v { k + 1 } else { k }
        };
        let inverse = 1.0 / area;
        for y in first(low(1))..=y1 as usize {
            for x in first(low(0))..=x1 as usize {
                let (dx, dy) = (x as f32 - a[0], y as f32 - a[1]);
                let wb = ((c[1] - a[1]) * dx - (c[0] - a[0]) * dy) * inverse;
                let wc = ((b[0] - a[0]) * dy - (b[1] - a[1]) * dx) * inverse;
                let wa = 1.0 - wb - wc;
                if wa < -1e-5 || wb < -1e-5 || wc < -1e-5 {
                    continue;
                }
                let depth = wa * a[2] + wb * b[2] + wc * c[2];
                let slot = &mut self.depth[y * SIDE + x];
                *slot = slot.max(depth);
            }
        }
    }

    /// Part of the lamp's light that reaches a point of the viewer's space with normal `n`, 0 to 1: a tent over
    /// three by three samples, so that edges are soft.
    pub(crate) fn reaches(&self, p: V3, n: V3) -> f32 {
        let [x, y, z] = self.place([p[0] + LIFT * n[0], p[1] + LIFT * n[1], p[2] + LIFT * n[2]]);
        let edge = SIDE as f32 - 3.0;
        if !(1.0..edge).contains(&x) || !(1.0..edge).contains(&y) {
            return 1.0;
        }
        // Centre the tent: samples from half a step before to half a step after.
        let (x, y) = (x - 0.5, y - 0.5);
        let (column, row) = (x as usize, y as usize);
        let (tx, ty) = (x - column as f32, y - row as f32);
        let weights = |t: f32| [0.5 * (1.0 - t), 0.5, 0.5 * t];
        let near = z + BIAS;
        let mut lit = 0.0;
        let across = weights(tx);
        for (j, wy) in weights(ty).into_iter().enumerate() {
            let base = (row + j) * SIDE + column;
            // Within the map by the edges above.
            for (wx, &depth) in across.into_iter().zip(&self.depth[base..base + 3]) {
                lit += if depth <= near { wx * wy } else { 0.0 };
            }
        }
        lit
    }
}
