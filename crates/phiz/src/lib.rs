//! Face representation learning on candle. This crate only re-exports: one page that says which
//! crate to take.
//!
//! # Which crate
//!
//! | you want to | take |
//! |---|---|
//! | train a metric loss or margin head in your own loop | [`losses`] and [`mining`] |
//! | a convolution, batch norm or pooling whose CPU gradient is right and fast | [`kernels`] |
//! | an IResNet, MobileFaceNet or expression network that reads PyTorch's weights | [`backbones`] |
//! | a code that tells the class and not a labelled factor, by an adversarial game | [`disentangle`] |
//! | landmarks, 3D, action units, affect or recognition on top of any trunk | [`tasks`] |
//! | a representation learned without labels: SwAV and its peers | [`pretrain`] |
//! | faces with every factor known, without a download | [`synth`] |
//! | data sets, subject-independent splits, an ordered loader | [`data`] |
//! | optimisers, schedules and checkpoints that resume bit for bit | [`train`] |
//! | figures for embeddings written by any program | [`eval`] |
//! | whole pipelines, as `cargo xtask train` runs them | [`recipes`] |
//!
//! # Crate topology
//!
//! `kernels`, `train`, `eval` and `synth` depend on nothing of ours; `mining`, `backbones`, `disentangle`
//! and `pretrain` stand on `kernels`; `losses` on `kernels` and `mining`; `tasks` on `kernels` and
//! `losses`; `data` on `synth`; `recipes` on all of them. A user of `losses` builds neither image codecs
//! nor the renderer.
//!
//! # A loss in ten lines
//!
//! ```
//! use candle::{Device, Tensor};
//! use phiz::losses::{TripletConfig, triplet};
//! use phiz::mining::batch_hard;
//!
//! # fn main() -> candle::Result<()> {
//! let embeddings = Tensor::randn(0f32, 1., (8, 16), &Device::Cpu)?;
//! let labels = [0, 0, 1, 1, 2, 2, 3, 3];
//! let triplets = batch_hard(&embeddings, &labels)?;
//! let loss = triplet(&embeddings, &triplets, TripletConfig::default())?;
//! assert_eq!(loss.rank(), 0);
//! # Ok(()) }
//! ```

pub use phiz_backbones as backbones;
pub use phiz_data as data;
pub use phiz_disentangle as disentangle;
pub use phiz_eval as eval;
pub use phiz_kernels as kernels;
pub use phiz_losses as losses;
pub use phiz_mining as mining;
pub use phiz_pretrain as pretrain;
pub use phiz_recipes as recipes;
pub use phiz_synth as synth;
pub use phiz_tasks as tasks;
pub use phiz_train as train;
