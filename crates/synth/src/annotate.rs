//! Everything known about a face but its pixels, without drawing it.
//!
//! Conventions. *Image*: pixels, x to the right, y down, sub-pixel, the centre of the first pixel at (0, 0).
//! *Camera*: face units (1 unit about 11 cm), x to the right, y down, z away from the camera, which stands at the
//! origin: the frame of OpenCV. *Canonical*: face units in the head's own frame, x to the right of a frontal image
//! (the subject's left), y up, z out of the face. [`Camera::project`] takes camera to image,
//! [`Pose::to_camera`] canonical to camera.

use crate::actions::Actions;
use crate::affect::affect;
use crate::config::{SynthConfig, check_size};
use crate::draw::factors;
use crate::error::Error;
use crate::factors::Factors;
use crate::geometry::{self, Mesh};
use crate::landmarks::{self, LANDMARKS, Spot};
use crate::raster::Camera as View;
use crate::rig::Rig;
use crate::template::{self, HEAD_COLUMNS, HEAD_ROWS};

/// Number of action units with an intensity; their numbers are [`Actions::UNITS`].
pub const ACTION_UNITS: usize = Actions::UNITS.len();

/// Radius of an eyeball, face units (about 12 mm), and height of a resting pupil over the line of the corners.
const BALL: f32 = 0.11;
const REST: f32 = 0.006;

/// Where the head is and how it is turned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// Rotation from the canonical to the camera frame, row by row; its determinant is 1.
    pub rotation: [[f32; 3]; 3],
    /// Place of the canonical origin in the camera frame, face units.
    pub translation: [f32; 3],
    /// Turn about the vertical axis in degrees, positive to the right of the image.
    pub yaw: f32,
    /// Nod in degrees, positive downwards.
    pub pitch: f32,
    /// Roll in the image plane in degrees, positive clockwise.
    pub roll: f32,
}

impl Pose {
    /// A point from the canonical to the camera frame: `rotation * point + translation`.
    #[must_use]
    pub fn to_camera(&self, point: [f32; 3]) -> [f32; 3] {
        let mut out = self.translation;
        for (out, row) in out.iter_mut().zip(&self.rotation) {
            *out += row[0] * point[0] + row[1] * point[1] + row[2] * point[2];
        }
        out
    }
}

/// A pinhole camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Camera {
    /// Focal length in pixels, the same along both axes.
    pub focal: f32,
    /// Image coordinates (x, y) of the optical axis.
    pub principal: [f32; 2],
}

impl Camera {
    /// Image coordinates of a point in the camera frame: `principal + focal * (x, y) / z`.
    #[must_use]
    pub fn project(&self, point: [f32; 3]) -> [f32; 2] {
        let k = self.focal / point[2];
        [
            self.principal[0] + k * point[0],
            self.principal[1] + k * point[1],
        ]
    }
}

/// Labels of one face.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Annotations {
    /// Side of the square image in pixels.
    pub size: usize,
    /// The 68 points in 300-W order (numbered from 0: contour 0-16, brows 17-26, nose 27-35, eyes 36-47, outer lips
    /// 48-59, inner lips 60-67), image coordinates. The contour is a fixed line on the head, as in 300W-LP: under
    /// yaw it does not follow the silhouette.
    pub landmarks: [[f32; 2]; LANDMARKS],
    /// Whether the head itself leaves each point in sight of the camera. Hands, glasses and other things before the
    /// face do not count, nor does the border of the image.
    pub landmarks_visible: [bool; LANDMARKS],
    /// The 68 points in the camera frame; their projection is `landmarks`.
    pub landmarks_camera: [[f32; 3]; LANDMARKS],
    /// The 68 points in the canonical frame, with expression, without pose.
    pub landmarks_canonical: [[f32; 3]; LANDMARKS],
    /// Pupil on the left of the image, pupil on the right, tip of the nose, corner of the mouth on the left, on the
    /// right: image coordinates.
    pub five: [[f32; 2]; 5],
    /// Visibility of `five`, as for the 68 points.
    pub five_visible: [bool; 5],
    /// Directions of the gaze of the eye on the left of the image and of the one on the right, unit vectors in the
    /// camera frame (away from the face, so that z is negative when it looks at the viewer).
    pub gaze: [[f32; 3]; 2],
    /// Centres of the eyeballs, left and right of the image, in the canonical frame.
    pub eyeballs: [[f32; 3]; 2],
    /// Rotation and place of the head.
    pub pose: Pose,
    /// The camera.
    pub camera: Camera,
    /// Intensities of the action units [`Actions::UNITS`] on the scale of FACS, 0 absent to 5 maximum: five times
    /// the factor, cut at 5.
    pub action_units: [f32; ACTION_UNITS],
    /// Expression that is shown, an index into [`crate::ALL_EXPRESSIONS`].
    pub expression: u32,
    /// How pleasant, -1 to 1, by the rule of [`affect`](crate::affect).
    pub valence: f32,
    /// How excited, -1 to 1, by the rule of [`affect`](crate::affect).
    pub arousal: f32,
    /// The face from hair line to chin and from side to side of the contour, image coordinates: left, top, right,
    /// bottom. May reach beyond the image.
    pub bounding_box: [f32; 4],
}

/// The head as a mesh.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadMesh {
    /// Vertices in the canonical frame; vertex i has the same place on every head ([`triangles`] joins them).
    pub canonical: Vec<[f32; 3]>,
    /// The same vertices in the camera frame.
    pub camera: Vec<[f32; 3]>,
}

/// Labels of sample `index`, without drawing it.
///
/// # Errors
/// When the configuration does not validate or has no such sample.
pub fn annotate(config: &SynthConfig, index: usize) -> Result<Annotations, Error> {
    annotate_factors(&factors(config, index)?, config.size)
}

/// Labels of the face that [`crate::render_factors`] would draw.
///
/// # Errors
/// When the size is not 24 to 1024, or a factor is not finite.
pub fn annotate_factors(factors: &Factors, size: usize) -> Result<Annotations, Error> {
    check_size(size)?;
    factors.check()?;
    let rig = Rig::new(factors);
    Ok(labels(
        factors,
        &rig,
        &View::new(&factors.scene, size),
        size,
    ))
}

/// The mesh of sample `index`.
///
/// # Errors
/// When the configuration does not validate or has no such sample.
pub fn head_mesh(config: &SynthConfig, index: usize) -> Result<HeadMesh, Error> {
    head_mesh_of(&factors(config, index)?)
}

/// The mesh of a face. The canonical part depends on shape, actions and hair alone. For the neutral face of the
/// same person set `factors.actions` to its default.
///
/// # Errors
/// When a factor is not finite.
pub fn head_mesh_of(factors: &Factors) -> Result<HeadMesh, Error> {
    factors.check()?;
    Ok(mesh_of(factors, &Rig::new(factors)))
}

/// The mesh of the head of a `rig` of these factors.
pub(crate) fn mesh_of(factors: &Factors, rig: &Rig) -> HeadMesh {
    let mut mesh = Mesh::default();
    geometry::head(rig, &mut mesh);
    // Pose does not depend on the size of the image.
    let pose = pose(factors, &View::new(&factors.scene, 64));
    let canonical: Vec<_> = mesh.vertices.iter().map(|v| v.at).collect();
    let camera = canonical.iter().map(|&p| pose.to_camera(p)).collect();
    HeadMesh { canonical, camera }
}

/// The triangles of every head, three vertices each, counter-clockwise seen from outside.
#[must_use]
pub fn triangles() -> Vec<[u32; 3]> {
    let (columns, rows) = (HEAD_COLUMNS as u32, HEAD_ROWS as u32);
    let mut out = Vec::with_capacity(2 * ((columns - 1) * (rows - 1)) as usize);
    for row in 1..rows {
        for column in 1..columns {
            let d = row * columns + column;
            let (a, b, c) = (d - columns - 1, d - columns, d - 1);
            out.push([a, c, b]);
            out.push([b, c, d]);
        }
    }
    out
}

/// The vertex that each of the 68 landmarks is.
#[must_use]
pub fn landmark_vertices() -> [usize; LANDMARKS] {
    *template::landmark_vertices()
}

fn pose(factors: &Factors, view: &View) -> Pose {
    let (rotation, translation) = view.extrinsics();
    Pose {
        rotation,
        translation,
        yaw: factors.scene.yaw,
        pitch: factors.scene.pitch,
        roll: factors.scene.roll,
    }
}

/// The labels; `rig` and `view` are those of `factors`.
pub(crate) fn labels(factors: &Factors, rig: &Rig, view: &View, size: usize) -> Annotations {
    let pose = pose(factors, view);
    let camera = view.pinhole();
    let spots = landmarks::spots(rig);
    let eye = view.eye();
    let canonical = spots.map(|spot| geometry::place(rig, spot));
    let on_camera = canonical.map(|p| pose.to_camera(p));
    let landmarks = on_camera.map(|p| camera.project(p));
    let five_spots = landmarks::five(rig).map(|(x, y)| Spot::Face { x, y });
    let five = five_spots.map(|spot| geometry::place(rig, spot));
    // The pupil lies on a ball behind the lids; at rest it looks straight ahead.
    let ahead = |side: f32| {
        let (x, y) = rig.eye.chart(side, 0.0, REST);
        let at = geometry::place(rig, Spot::Face { x, y });
        [at[0], at[1], at[2] - BALL]
    };
    let eyeballs = [ahead(-1.0), ahead(1.0)];
    let gaze = [-1.0f32, 1.0].map(|side| {
        let (dx, dy) = (rig.eye.gaze.0, rig.eye.gaze.1 - REST);
        let (st, ct) = rig.eye.tilt;
        // Out of the eye's own axes, which are mirrored on the left.
        let (u, v) = (side * dx, dy);
        let (x, y) = (side * (u * ct - v * st) / BALL, (v * ct + u * st) / BALL);
        let [x, y] = [x, y].map(|d| d.clamp(-0.7, 0.7));
        let z = (1.0 - x * x - y * y).max(0.0).sqrt();
        let r = &pose.rotation;
        [0, 1, 2].map(|k| r[k][0] * x + r[k][1] * y + r[k][2] * z)
    });
    let (valence, arousal) = affect(&factors.actions);

    let mut bounding_box = [f32::MAX, f32::MAX, f32::MIN, f32::MIN];
    let mut widen = |[x, y]: [f32; 2]| {
        bounding_box[0] = bounding_box[0].min(x);
        bounding_box[1] = bounding_box[1].min(y);
        bounding_box[2] = bounding_box[2].max(x);
        bounding_box[3] = bounding_box[3].max(y);
    };
    for point in landmarks {
        widen(point);
    }
    for x in [-0.4, -0.2, 0.0, 0.2, 0.4] {
        let y = rig.head.hair_line - 0.20 * x * x;
        let p = geometry::place(rig, Spot::Face { x, y });
        widen(camera.project(pose.to_camera(p)));
    }
    Annotations {
        size,
        landmarks,
        landmarks_visible: spots.map(|spot| geometry::sees(rig, spot, eye)),
        landmarks_camera: on_camera,
        landmarks_canonical: canonical,
        five: five.map(|p| camera.project(pose.to_camera(p))),
        five_visible: five_spots.map(|spot| geometry::sees(rig, spot, eye)),
        gaze,
        eyeballs,
        pose,
        camera,
        action_units: factors
            .actions
            .intensities()
            .map(|a| (5.0 * a).clamp(0.0, 5.0)),
        expression: factors.true_expression,
        valence,
        arousal,
        bounding_box,
    }
}
