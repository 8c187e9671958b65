//! Five face tasks on top of any trunk: for each the contract with the data, a head, a loss and its decoding.
//!
//! | task | head | reads | target | loss | decoded to |
//! |---|---|---|---|---|---|
//! | recognition | [`RecognitionHead`] | features | class numbers | margin softmax | unit embeddings |
//! | expression, valence, arousal | [`AffectHead`] | features | class numbers, [`VALENCE_AROUSAL`] | cross-entropy, [`affect_loss`] | probabilities, -1..1 |
//! | action units | [`ActionUnitHead`] | features | [`ACTION_UNITS`] | squared, or [`ordinal_loss`] | intensities 0..5 |
//! | landmarks | [`HeatmapHead`] | maps | [`LANDMARKS`] | [`heatmap_loss`] | sub-pixel points |
//! | landmarks, 3D points | [`PointHead`] | features | [`LANDMARKS`], [`POINTS_3D`] | [`point_loss`] | points |
//! | dense 3D | [`ShapeHead`] | features | [`VERTICES`] | [`shape_loss`] | vertices |
//!
//! *Features* are pooled, (B, F); *maps* are a trunk's last map, (B, C, h, w). Points are given to heads and losses
//! in [parts of the image](unit_points), so that nothing here depends on the size of an image. A target that is NaN
//! is unknown and takes no part in a loss. Whether the trunk learns too is the caller's matter: detach what a head
//! reads, and only the head is trained.
//!
//! Metrics are not here: decoded predictions go to `phiz-eval`, which names each figure by its rules.
//!
//! ```
//! use candle::{DType, Device, Tensor};
//! use candle_nn::{VarBuilder, VarMap};
//! use phiz_tasks::{ActionUnitConfig, ActionUnitHead};
//!
//! # fn main() -> candle::Result<()> {
//! let parameters = VarMap::new();
//! let vb = VarBuilder::from_varmap(&parameters, DType::F32, &Device::Cpu);
//! let head = ActionUnitHead::new(16, 3, ActionUnitConfig::default(), vb)?;
//! let features = Tensor::randn(0f32, 1., (4, 16), &Device::Cpu)?;
//! // The second image's third unit was not coded.
//! let coded = [[0f32, 1., 5.], [2., 0., f32::NAN], [0., 0., 1.], [4., 3., 0.]];
//! let output = head.forward(&features)?;
//! let loss = head.loss(&output, &Tensor::new(&coded, &Device::Cpu)?)?;
//! assert!(loss.to_scalar::<f32>()?.is_finite());
//! assert_eq!(head.decode(&output)?.dims(), [4, 3]);
//! # Ok(()) }
//! ```

pub mod action_units;
pub mod affect;
pub mod contract;
pub mod heatmap;
mod known;
pub mod points;
pub mod recognition;
pub mod shape;

pub use action_units::{ActionUnitConfig, ActionUnitHead, ActionUnitLoss, ordinal_loss};
pub use affect::{AffectConfig, AffectHead, AffectOutput, affect_loss, ccc_loss};
pub use contract::{
    ACTION_UNITS, Contract, LANDMARKS, POINTS_3D, VALENCE_AROUSAL, VERTICES, image_points,
    unit_points,
};
pub use heatmap::{
    HeatmapConfig, HeatmapHead, HeatmapLoss, decode_heatmaps, heatmap_loss, heatmap_targets,
};
pub use known::masked_squared_error;
pub use points::{PointHead, PointLoss, point_loss};
pub use recognition::{Margin, RecognitionConfig, RecognitionHead};
pub use shape::{ShapeBasis, ShapeHead, pca_basis, shape_loss};
