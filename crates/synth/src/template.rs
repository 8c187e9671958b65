//! The mesh of the head: one topology for everybody, its vertices tied to the landmarks.
//!
//! A grid of 61 columns (angle around the vertical axis) and 64 rows (part of the way to crown or chin), made here and
//! not scanned. Each of the 68 landmarks owns a vertex; the shift of these vertices from the plain grid, in (angle,
//! height), is interpolated to all others by radial basis functions (Wendland's C2 function of compact support: D.
//! Wendland, 1995), so that vertex i means the same place of the face for every shape and every action. What is drawn
//! on the skin does not depend on the grid: it only says where the surface is sampled.

use std::f32::consts::PI;
use std::sync::OnceLock;

use crate::actions::Actions;
use crate::factors::Factors;
use crate::geometry::{Mesh, Vertex, chart, in_hair, normals, outline, point};
use crate::landmarks::{self, LANDMARKS, MIRROR};
use crate::math::{V3, mix, sin_cos, step, unit};
use crate::rig::{HEAD_Y, HeadRig, Rig};

/// Columns and rows of the head's mesh.
pub(crate) const HEAD_COLUMNS: usize = 61;
pub(crate) const HEAD_ROWS: usize = 64;
/// Rows above the widest place of the head.
const UPPER_ROWS: usize = 24;
const VERTICES: usize = HEAD_COLUMNS * HEAD_ROWS;
const MIDDLE: usize = HEAD_COLUMNS / 2;

/// How far the shift of a landmark reaches, in face units.
const REACH: f32 = 0.5;
/// Width of the head by which angles are turned to lengths.
const WIDTH: f32 = 0.72;

/// What is the same for all heads.
struct Template {
    angles: [f32; HEAD_COLUMNS],
    /// The vertex of each landmark.
    owned: [usize; LANDMARKS],
    /// Inverse of the matrix of basis functions between landmarks.
    inverse: Vec<f64>,
    /// For each vertex the landmarks within reach and their basis functions; `ends[i]` is where vertex i stops.
    basis: Vec<(u8, f32)>,
    ends: Vec<u32>,
}

/// Angle of a column.
fn angle(column: usize) -> f32 {
    let t = 2.0 * column as f32 / (HEAD_COLUMNS - 1) as f32 - 1.0;
    // Denser in front, all the way round.
    PI * (0.40 * t + 0.60 * t * t * t)
}

/// Height of a row on a plain head.
fn height(h: &HeadRig, row: usize) -> f32 {
    let part = |t: f32| mix(t, sin_cos(0.5 * PI * t).0, 0.6);
    if row < UPPER_ROWS {
        let t = (UPPER_ROWS - row) as f32 / UPPER_ROWS as f32;
        HEAD_Y + (h.crown_y - HEAD_Y) * part(t)
    } else {
        let t = (row - UPPER_ROWS) as f32 / (HEAD_ROWS - 1 - UPPER_ROWS) as f32;
        HEAD_Y - (HEAD_Y - h.chin_y) * part(t)
    }
}

/// Wendland's function of the squared distance in units of [`REACH`]: (1 - r)^4 (4 r + 1).
fn wendland(r2: f32) -> f32 {
    if r2 >= 1.0 {
        return 0.0;
    }
    let r = r2.sqrt();
    let t = (1.0 - r) * (1.0 - r);
    t * t * (4.0 * r + 1.0)
}

fn kernel(a: (f32, f32), b: (f32, f32)) -> f32 {
    let (dx, dy) = ((a.0 - b.0) / REACH, (a.1 - b.1) / REACH);
    wendland(dx * dx + dy * dy)
}

/// Angle around the vertical axis of a landmark, by Newton's method on our own sine.
fn arc_sine(s: f32) -> f32 {
    let s = s.clamp(-0.995, 0.995);
    let mut a = s + s * s * s / 6.0;
    for _ in 0..6 {
        let (sine, cosine) = sin_cos(a);
        a -= (sine - s) / cosine.max(0.05);
    }
    a
}

/// Two numbers a landmark.
type Points = [(f32, f32); LANDMARKS];

/// Landmarks as (angle, height), and as they are on the chart.
fn goals(rig: &Rig) -> (Points, Points) {
    let on_chart = landmarks::spots(rig).map(|spot| chart(rig, spot));
    let turned = on_chart.map(|(x, y)| (arc_sine(x / outline(&rig.head, y).0.max(1e-3)), y));
    (turned, on_chart)
}

impl Template {
    fn get() -> &'static Self {
        static TEMPLATE: OnceLock<Template> = OnceLock::new();
        TEMPLATE.get_or_init(Self::new)
    }

    fn new() -> Self {
        // The mean face with its lips apart, so that upper and lower lip own different vertices.
        let rig = Rig::new(&Factors {
            actions: Actions {
                au25: 0.8,
                au26: 0.5,
                ..Actions::default()
            },
            ..Factors::default()
        });
        let angles = std::array::from_fn(angle);
        let heights: [f32; HEAD_ROWS] = std::array::from_fn(|row| height(&rig.head, row));
        let flat = |vertex: usize| {
            let (row, column) = (vertex / HEAD_COLUMNS, vertex % HEAD_COLUMNS);
            let a: f32 = angles[column];
            (WIDTH * a, heights[row])
        };
        let (turned, _) = goals(&rig);
        let mut owned = [usize::MAX; LANDMARKS];
        for k in 0..LANDMARKS {
            let (a, y) = turned[k];
            // Points of the left side mirror those of the right.
            if MIRROR[k] != k && a < 0.0 {
                continue;
            }
            let columns = if MIRROR[k] == k {
                MIDDLE..MIDDLE + 1
            } else {
                MIDDLE + 1..HEAD_COLUMNS - 1
            };
            let mut best = (f32::INFINITY, 0);
            for row in 1..HEAD_ROWS - 1 {
                for column in columns.clone() {
                    let vertex = row * HEAD_COLUMNS + column;
                    let (u, v) = flat(vertex);
                    let (dx, dy) = (u - WIDTH * a, v - y);
                    let d = dx * dx + dy * dy;
                    if d < best.0 && !owned.contains(&vertex) {
                        best = (d, vertex);
                    }
                }
            }
            let (row, column) = (best.1 / HEAD_COLUMNS, best.1 % HEAD_COLUMNS);
            owned[k] = best.1;
            owned[MIRROR[k]] = row * HEAD_COLUMNS + (HEAD_COLUMNS - 1 - column);
        }
        let centres = owned.map(flat);
        let mut matrix = vec![0.0f64; LANDMARKS * LANDMARKS];
        for (i, &a) in centres.iter().enumerate() {
            for (j, &b) in centres.iter().enumerate() {
                matrix[i * LANDMARKS + j] = f64::from(kernel(a, b));
            }
        }
        let (mut basis, mut ends) = (Vec::new(), Vec::with_capacity(VERTICES));
        for vertex in 0..VERTICES {
            let at = flat(vertex);
            for (k, &centre) in centres.iter().enumerate() {
                let value = kernel(at, centre);
                if value > 1e-6 {
                    basis.push((k as u8, value));
                }
            }
            ends.push(basis.len() as u32);
        }
        Self {
            angles,
            owned,
            inverse: inverse(matrix, LANDMARKS),
            basis,
            ends,
        }
    }
}

/// Inverse of a symmetric positive definite matrix by Gauss-Jordan elimination, in a fixed order.
fn inverse(mut a: Vec<f64>, n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    for i in 0..n {
        out[i * n + i] = 1.0;
    }
    for i in 0..n {
        let pivot = 1.0 / a[i * n + i];
        for j in 0..n {
            a[i * n + j] *= pivot;
            out[i * n + j] *= pivot;
        }
        for row in 0..n {
            let factor = a[row * n + i];
            if row != i && factor != 0.0 {
                for j in 0..n {
                    a[row * n + j] -= factor * a[i * n + j];
                    out[row * n + j] -= factor * out[i * n + j];
                }
            }
        }
    }
    out
}

/// Number of the vertex that each landmark owns.
pub(crate) fn landmark_vertices() -> &'static [usize; LANDMARKS] {
    &Template::get().owned
}

/// The head with its hair.
pub(crate) fn head(rig: &Rig, mesh: &mut Mesh) {
    let template = Template::get();
    let h = &rig.head;
    mesh.columns = HEAD_COLUMNS;
    mesh.rows = HEAD_ROWS;
    mesh.vertices.clear();
    let heights: [f32; HEAD_ROWS] = std::array::from_fn(|row| height(h, row));
    let (turned, on_chart) = goals(rig);
    let mut shift = [(0.0f64, 0.0f64); LANDMARKS];
    for (k, out) in shift.iter_mut().enumerate() {
        let (row, column) = (
            template.owned[k] / HEAD_COLUMNS,
            template.owned[k] % HEAD_COLUMNS,
        );
        *out = (
            f64::from(turned[k].0 - template.angles[column]),
            f64::from(turned[k].1 - heights[row]),
        );
    }
    let mut weights = [(0.0f32, 0.0f32); LANDMARKS];
    for (out, row) in weights
        .iter_mut()
        .zip(template.inverse.chunks_exact(LANDMARKS))
    {
        let (mut a, mut y) = (0.0, 0.0);
        for (value, (da, dy)) in row.iter().zip(&shift) {
            a += value * da;
            y += value * dy;
        }
        *out = (a as f32, y as f32);
    }
    let mut start = 0;
    for (row, &plain) in heights.iter().enumerate() {
        for (column, &angle) in template.angles.iter().enumerate() {
            let end = template.ends[row * HEAD_COLUMNS + column] as usize;
            let (mut a, mut y) = (angle, plain);
            for &(k, value) in &template.basis[start..end] {
                let (da, dy) = weights[usize::from(k)];
                a += value * da;
                y += value * dy;
            }
            start = end;
            y = y.max(h.chin_y);
            let (sine, front) = sin_cos(a);
            mesh.vertices
                .push(vertex(rig, sine * outline(h, y).0, y, front));
        }
    }
    // To the bit where the landmarks are.
    for (&owned, (x, y)) in template.owned.iter().zip(on_chart) {
        let sine = x / outline(h, y).0.max(1e-4);
        let front = (1.0 - sine * sine).max(0.0).sqrt();
        mesh.vertices[owned] = vertex(rig, x, y, front);
    }
    normals(mesh);
}

/// A point of the skin, or of the hair over it.
fn vertex(rig: &Rig, x: f32, y: f32, front: f32) -> Vertex {
    let mut at: V3 = point(rig, x, y, front);
    let hair = step(-0.02, 0.16, in_hair(&rig.head, x, y, front));
    if hair > 0.0 {
        let out = unit([x, 0.8 * (y - HEAD_Y).max(0.0), at[2]]);
        let lift = hair * rig.head.hair_volume;
        at = [
            at[0] + lift * out[0],
            at[1] + lift * out[1],
            at[2] + lift * out[2],
        ];
    }
    Vertex {
        at,
        x,
        y,
        front,
        normal: [0.0; 3],
    }
}
