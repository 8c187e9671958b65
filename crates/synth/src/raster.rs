//! Camera and depth buffer: which point of which surface each sample of the image sees.

use crate::annotate::Camera as Pinhole;
use crate::geometry::{Material, Mesh, Vertex};
use crate::math::{V3, sin_cos};
use crate::scene::Scene;

/// The camera: rotation of the head, perspective, place in the image. Image coordinates have pixel centres at
/// whole numbers, x to the right, y down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Camera {
    rotation: [V3; 3],
    scale: f32,
    centre: (f32, f32),
}

/// The head turns about a point inside the skull.
const PIVOT: V3 = [0.0, -0.12, 0.05];
/// Distance of the camera in face units; about 70 cm, as for a portrait.
const DISTANCE: f32 = 6.5;
/// Pixels a face unit, as part of the image's side.
const SCALE: f32 = 0.425;
/// Height of the face's middle, which lies in the middle of the image.
const MIDDLE: f32 = -0.05;

impl Camera {
    pub(crate) fn new(scene: &Scene, size: usize) -> Self {
        let radians = |degrees: f32| degrees * (std::f32::consts::PI / 180.0);
        let (sy, cy) = sin_cos(radians(scene.yaw));
        let (sp, cp) = sin_cos(radians(scene.pitch));
        let (sr, cr) = sin_cos(radians(-scene.roll));
        // Roll after pitch after yaw.
        let yaw = [[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]];
        let pitch = [[1.0, 0.0, 0.0], [0.0, cp, -sp], [0.0, sp, cp]];
        let roll = [[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]];
        let side = size as f32;
        Self {
            rotation: product(&roll, &product(&pitch, &yaw)),
            scale: SCALE * side * scene.zoom,
            centre: (
                0.5 * side - 0.5 + scene.shift_x * side,
                0.5 * side - 0.5 + scene.shift_y * side,
            ),
        }
    }

    /// Turns a direction from the head's space to the viewer's.
    pub(crate) fn turn(&self, v: V3) -> V3 {
        let r = &self.rotation;
        [
            r[0][0] * v[0] + r[0][1] * v[1] + r[0][2] * v[2],
            r[1][0] * v[0] + r[1][1] * v[1] + r[1][2] * v[2],
            r[2][0] * v[0] + r[2][1] * v[1] + r[2][2] * v[2],
        ]
    }

    /// A point of the head's space in the viewer's: x to the right, y up, z to the viewer.
    pub(crate) fn view(&self, at: V3) -> V3 {
        let p = self.turn([at[0] - PIVOT[0], at[1] - PIVOT[1], at[2] - PIVOT[2]]);
        [p[0] + PIVOT[0], p[1] + PIVOT[1] - MIDDLE, p[2] + PIVOT[2]]
    }

    /// The point of the viewer's space at image coordinates (`u`, `v`) and depth `z`.
    pub(crate) fn unproject(&self, u: f32, v: f32, z: f32) -> V3 {
        let k = (DISTANCE - z) / (self.scale * DISTANCE);
        [(u - self.centre.0) * k, (self.centre.1 - v) * k, z]
    }

    /// Image coordinates and depth (larger is nearer) of a point in the head's space.
    pub(crate) fn project(&self, at: V3) -> V3 {
        let p = self.turn([at[0] - PIVOT[0], at[1] - PIVOT[1], at[2] - PIVOT[2]]);
        let (x, y, z) = (p[0] + PIVOT[0], p[1] + PIVOT[1] - MIDDLE, p[2] + PIVOT[2]);
        let k = self.scale * DISTANCE / (DISTANCE - z);
        [self.centre.0 + k * x, self.centre.1 - k * y, z]
    }

    /// Rotation and translation from the head's space to a camera at the origin that looks along z with y down.
    pub(crate) fn extrinsics(&self) -> ([V3; 3], V3) {
        let turned = self.turn(PIVOT);
        let [x, y, z] = self.rotation;
        (
            [x, [-y[0], -y[1], -y[2]], [-z[0], -z[1], -z[2]]],
            [
                PIVOT[0] - turned[0],
                -(PIVOT[1] - MIDDLE - turned[1]),
                DISTANCE - (PIVOT[2] - turned[2]),
            ],
        )
    }

    /// Focal length and principal point.
    pub(crate) fn pinhole(&self) -> Pinhole {
        Pinhole {
            focal: self.scale * DISTANCE,
            principal: [self.centre.0, self.centre.1],
        }
    }

    /// Where the camera stands, in the head's space.
    pub(crate) fn eye(&self) -> V3 {
        let r = &self.rotation;
        let v = [-PIVOT[0], MIDDLE - PIVOT[1], DISTANCE - PIVOT[2]];
        // The inverse of a rotation is its transpose.
        let back = |k: usize| r[0][k] * v[0] + r[1][k] * v[1] + r[2][k] * v[2] + PIVOT[k];
        [back(0), back(1), back(2)]
    }

    /// Width of a pixel in face units.
    pub(crate) fn pixel(&self) -> f32 {
        1.0 / self.scale
    }
}

fn product(a: &[V3; 3], b: &[V3; 3]) -> [V3; 3] {
    let mut out = [[0.0; 3]; 3];
    for (row, a) in out.iter_mut().zip(a) {
        for (j, cell) in row.iter_mut().enumerate() {
            *cell = a[0] * b[0][j] + a[1] * b[1][j] + a[2] * b[2][j];
        }
    }
    out
}

/// What a sample sees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub depth: f32,
    pub material: Material,
    /// Frontal coordinates and frontality of the point (see [`Vertex`]).
    pub x: f32,
    pub y: f32,
    pub front: f32,
    /// Normal in the viewer's space, not yet of unit length.
    pub normal: V3,
}

/// Nothing but background.
pub(crate) const EMPTY: Sample = Sample {
    depth: -1e9,
    material: Material::None,
    x: 0.0,
    y: 0.0,
    front: 0.0,
    normal: [0.0, 0.0, 1.0],
};

/// A square of samples, `per_pixel` x `per_pixel` a pixel.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    pub side: usize,
    pub samples: Vec<Sample>,
    /// Projected corners, kept between meshes to save allocations.
    corners: Vec<Sample>,
    screen: Vec<(f32, f32)>,
}

impl Buffer {
    pub(crate) fn reset(&mut self, side: usize) {
        self.side = side;
        self.samples.clear();
        self.samples.resize(side * side, EMPTY);
    }

    /// Draws a mesh. `bias` brings it nearer to the viewer; with `both_sides` its back is seen too.
    pub(crate) fn draw(
        &mut self,
        mesh: &Mesh,
        material: Material,
        camera: &Camera,
        per_pixel: usize,
        both_sides: bool,
        bias: f32,
    ) {
        let k = per_pixel as f32;
        // Sample i of an axis lies at pixel (i + 0.5) / per_pixel - 0.5.
        let shift = 0.5 * k - 0.5;
        self.corners.clear();
        self.screen.clear();
        for v in &mesh.vertices {
            let Vertex {
                at,
                x,
                y,
                front,
                normal,
            } = *v;
            let p = camera.project(at);
            let mut normal = camera.turn(normal);
            if both_sides && normal[2] < 0.0 {
                normal = [-normal[0], -normal[1], -normal[2]];
            }
            self.screen.push((p[0] * k + shift, p[1] * k + shift));
            self.corners.push(Sample {
                depth: p[2] + bias,
                material,
                x,
                y,
                front,
                normal,
            });
        }
        for row in 1..mesh.rows {
            for column in 1..mesh.columns {
                let d = row * mesh.columns + column;
                let (a, b, c) = (d - mesh.columns - 1, d - mesh.columns, d - 1);
                self.triangle([a, b, c], both_sides);
                self.triangle([b, d, c], both_sides);
            }
        }
    }

    fn triangle(&mut self, corners: [usize; 3], both_sides: bool) {
        let [i, mut j, mut k] = corners;
        let (a, b, c) = (self.screen[i], self.screen[j], self.screen[k]);
        let mut area = (b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0);
        if area < 0.0 && both_sides {
            std::mem::swap(&mut j, &mut k);
            area = -area;
        }
        if area < 1e-6 {
            return;
        }
        let (b, c) = (self.screen[j], self.screen[k]);
        let last = self.side as f32 - 1.0;
        let (x0, x1) = bounds(a.0, b.0, c.0, last);
        let (y0, y1) = bounds(a.1, b.1, c.1, last);
        if x1 < x0 || y1 < y0 {
            return;
        }
        let (va, vb, vc) = (&self.corners[i], &self.corners[j], &self.corners[k]);
        let inverse = 1.0 / area;
        // Weight of corner b and c as planes over the image; that of a is the rest.
        let (bx, by) = ((c.1 - a.1) * inverse, -(c.0 - a.0) * inverse);
        let (cx, cy) = (-(b.1 - a.1) * inverse, (b.0 - a.0) * inverse);
        for y in y0..=y1 {
            let dy = y as f32 - a.1;
            for x in x0..=x1 {
                let dx = x as f32 - a.0;
                let wb = bx * dx + by * dy;
                let wc = cx * dx + cy * dy;
                let wa = 1.0 - wb - wc;
                // A hair's breadth of overlap closes the seams between neighbours.
                if wa < -1e-5 || wb < -1e-5 || wc < -1e-5 {
                    continue;
                }
                let depth = wa * va.depth + wb * vb.depth + wc * vc.depth;
                let sample = &mut self.samples[y * self.side + x];
                if depth > sample.depth {
                    let blend = |p: f32, q: f32, r: f32| wa * p + wb * q + wc * r;
                    *sample = Sample {
                        depth,
                        material: va.material,
                        x: blend(va.x, vb.x, vc.x),
                        y: blend(va.y, vb.y, vc.y),
                        front: blend(va.front, vb.front, vc.front),
                        normal: [
                            blend(va.normal[0], vb.normal[0], vc.normal[0]),
                            blend(va.normal[1], vb.normal[1], vc.normal[1]),
                            blend(va.normal[2], vb.normal[2], vc.normal[2]),
                        ],
                    };
                }
            }
        }
    }
}

/// First and last whole sample between the three values, within the image; an empty range where there is none.
/// Conversions to whole numbers instead of `floor` and `ceil`, which are calls on the oldest x86-64.
fn bounds(a: f32, b: f32, c: f32, last: f32) -> (usize, usize) {
    let low = a.min(b).min(c).max(0.0);
    let high = a.max(b).max(c).min(last);
    if high < 0.0 {
        return (1, 0);
    }
    let first = low as usize;
    let first = if (first as f32) < low {
        first + 1
    } else {
        first
    };
    (first, high as usize)
}
