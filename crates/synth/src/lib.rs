//! Faces rendered from known factors. Plain Rust, no tensors.
//!
//! Every image is a function of a [`SynthConfig`] and an index: who it shows, with which expression, in which pose
//! and light, is drawn from seeded streams and given back as labels, so that what a representation keeps and what it
//! drops can be measured against the truth. The images are drawn, not photographed: figures on them say how a method
//! behaves under control, not how it does on people.
//!
//! ```
//! use phiz_synth::{EXPRESSIONS, SynthConfig, render};
//!
//! let config = SynthConfig { identities: 10, per_expression: 2, ..SynthConfig::default() };
//! assert_eq!(config.len(), 10 * EXPRESSIONS.len() * 2);
//! let face = render(&config, 37)?;
//! assert_eq!((face.image.width, face.image.height, face.image.channels), (64, 64, 3));
//! assert_eq!(EXPRESSIONS[face.factors.expression as usize], "happiness");
//! let [left_eye, right_eye, ..] = face.landmarks;
//! assert!(left_eye[0] < right_eye[0]);
//! # Ok::<(), phiz_synth::Error>(())
//! ```
//!
//! # The face model
//!
//! *Factors* ([`Factors`]): 67 shape z-scores, 8 colours and 19 gains of style a person; 19 facial action units, pose,
//! gaze, light, glasses, background and camera a sample. *Rig*: rules turn them into measures in face units (heights
//! of lids and brows, curves of the lips, depth of folds). An action of mean strength moves a measure two to
//! three standard deviations of identity: the resting brow of one person is another's raised one, so that identity
//! confounds expression as it does in photographs. *Surface*: a chart over angle and height whose outline narrows to
//! jaw and chin, with smooth hills for nose, sockets, lids, cheeks, lips and chin; smooth displacements for skull,
//! soft parts and asymmetry on top. *Mesh* ([`HeadMesh`]): 3904 vertices of one topology, tied to the landmarks, so
//! that a vertex is the same place of every face; ears, neck, shoulders, hair and glasses are further meshes.
//! *Drawing*: meshes go through a perspective camera into a depth buffer with 2 x 2 samples a pixel; eyes, brows,
//! lips, teeth and folds are painted as smooth curves in the face's frontal chart, so they turn with the head (eyeballs are no
//! meshes of their own: iris and pupil lie where the ball behind the lids would show them from the front, which is what the
//! labels of gaze say); skin is
//! lit by a lamp that bleeds red into the shadow and casts shadows (a depth map from the lamp), and by light from all
//! sides; then blur, a shoulder as of film, gamma 2 and noise. *Labels* ([`Annotations`]) come from the same curves and surface, and need no drawing.
//!
//! # Looks
//!
//! Make-up ([`Makeup`]), disguise ([`Disguise`]) and marked light ([`LIGHTS`], with spherical harmonics from all sides,
//! [`Surround`]) are off by default; [`SynthConfig`] switches each on for a share of the samples. Which class a
//! sample drew stands in [`States`]: [`MAKEUP`], [`DISGUISES`], [`LIGHTS`], [`OCCLUSIONS`], so that a protocol can
//! train on some classes and test on others. Hands and things before the face ([`Occluder`]), loss of resolution and
//! JPEG ([`Recording`]) are shares as well. A share has a stream of its own and moves nothing else of a sample. [`sheet`] draws
//! one row of faces for each factor.
//!
//! # Flawed collections
//!
//! [`Flaws`] makes a set like those gathered in the wild: expressions out of balance, wrong labels for person or
//! expression (the right ones stay beside them), repeated takes, and a correlation between any two factors that
//! nothing in a face explains. All are off by default, all are functions of seed and index like everything else.
//!
//! # Sequences, parts, factors of variation
//!
//! [`video_frame`] and [`render_frame`] give sequences in which an expression comes and goes, the head moves, eyes
//! blink and jump, and people talk. [`segment`] says which of the [`PARTS`] each pixel shows. [`GroundTruth`] is the
//! set of all combinations of a few factors, for measures of disentanglement.
//!
//! # Expressions
//!
//! Seven ([`EXPRESSIONS`]) and contempt, as sets of action units with several forms each. A sample draws a form, a peak intensity
//! (0.35 to 1), a jitter for every unit, and on top the person's own gains, small spontaneous movements and, one
//! time in five, speech. [`textbook`] gives the unmistakable form at full strength.
//!
//! # The same bytes everywhere
//!
//! All randomness is counter based (ChaCha8, one stream for each person and each sample). Only operations that IEEE
//! 754 fixes reach a pixel: sine is a polynomial of our own, powers are products and square roots, gamma is 2. Tests
//! pin checksums; what holds for x86-64 with and without AVX holds for aarch64 by the same rule (no fused multiply-add is
//! asked for), where it was not run. Buffers are reused within a thread but rewritten for each face.

mod actions;
mod affect;
mod annotate;
mod backdrop;
mod config;
mod curves;
mod develop;
mod draw;
mod error;
mod expression;
mod factors;
mod flaws;
mod geometry;
mod glasses;
mod group;
mod image;
mod jpeg;
mod landmarks;
mod light;
mod looks;
mod math;
mod occluder;
mod paint;
mod palette;
mod parts;
mod person;
mod raster;
mod render;
mod rig;
mod scene;
mod shade;
mod shadow;
mod sheet;
mod skin;
mod stage;
mod stream;
mod surroundings;
mod template;
mod truth;
mod video;
mod warp;
mod wear;

pub use actions::{Actions, Style};
pub use affect::{AFFECT_RULE, DISTRESS, affect};
pub use annotate::{
    ACTION_UNITS, Annotations, Camera, HeadMesh, Pose, annotate, annotate_factors, head_mesh,
    head_mesh_of, landmark_vertices, triangles,
};
pub use config::{Place, SynthConfig};
pub use draw::factors;
pub use error::{Error, ErrorKind};
pub use expression::{ALL_EXPRESSIONS, EXPRESSIONS, blend, textbook};
pub use factors::Factors;
pub use flaws::{FactorName, Flaws};
pub use image::{Image, grid};
pub use landmarks::{LANDMARKS, MIRROR};
pub use looks::{DISGUISES, Disguise, LIGHTS, MAKEUP, Makeup, States, Surround};
pub use parts::{PARTS, segment, segment_factors};
pub use person::{Colours, Shape};
pub use render::{Complete, Rendered, render, render_complete, render_factors};
pub use scene::Scene;
pub use sheet::{SHEET_COLUMNS, SheetRow, sheet, sheet_rows};
pub use surroundings::{OCCLUSIONS, Occluder, Recording, Skin, Texture};
pub use truth::{GroundFactor, GroundRow, GroundTruth};
pub use video::{Frame, PHASES, Phase, VideoConfig, render_frame, video_frame};
