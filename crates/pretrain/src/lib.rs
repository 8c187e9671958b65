//! Self-supervised pre-training: what a network can learn from faces that nobody labelled.
//!
//! Every [`Method`] takes a trunk ([`Trunk`]: images to features), several views of the same images ([`Views`]) and
//! the number of the step, and gives a loss and what is worth logging. What it learns beside the trunk (projection
//! head, prototypes, predictor) and what it remembers (a queue of embeddings, a slow copy of the network) are
//! parameters of the builder it was made from, so that a checkpoint of those is a checkpoint of it: a method holds
//! no state of its own.
//!
//! | method | from | keeps from collapsing by |
//! |---|---|---|
//! | [`Swav`] | Caron et al., NeurIPS 2020 | equal shares of the prototypes, by Sinkhorn |
//! | [`SimClr`] | Chen et al., ICML 2020 | the other images of the batch |
//! | [`Byol`] | Grill et al., NeurIPS 2020 | a predictor and a slow copy of the network |
//! | [`VicReg`] | Bardes et al., ICLR 2022 | a hinge on each dimension's deviation |
//! | [`BarlowTwins`] | Zbontar et al., ICML 2021 | cross-correlations that should be the identity |
//! | [`Mae`] | He et al., CVPR 2022 | telling the pixels of patches that were hidden |
//!
//! The losses are free functions as well ([`swapped_prediction`], [`nt_xent`], [`regression`], [`vic_reg`],
//! [`barlow_twins`]), and so is the assignment, [`sinkhorn`], in the log domain. [`CollapseWatch`] reads the metrics
//! of every step and says when a run goes wrong and what to do about it.
//!
//! ```
//! use candle::{DType, Device, Tensor};
//! use candle_nn::{VarBuilder, VarMap};
//! use phiz_pretrain::{Method, Moment, Swav, SwavConfig, Views};
//!
//! # fn main() -> candle::Result<()> {
//! let parameters = VarMap::new();
//! let vb = VarBuilder::from_varmap(&parameters, DType::F32, &Device::Cpu);
//! let init = candle_nn::init::DEFAULT_KAIMING_NORMAL;
//! let weight = vb.get_with_hints((8, 3), "trunk.weight", init)?;
//! // A trunk for images of any size: the mean colour, through one layer.
//! let trunk = |x: &Tensor, _train: bool| phiz_kernels::linear(&x.mean((2, 3))?, &weight, None);
//!
//! let config = SwavConfig { hidden: 16, dim: 4, prototypes: 4, ..SwavConfig::default() };
//! let swav = Swav::new(&config, 8, 5, vb.clone())?;
//! // Two large and four small crops of five images, grouped by resolution.
//! let large = Tensor::randn(0f32, 1., (2 * 5, 3, 16, 16), &Device::Cpu)?;
//! let small = Tensor::randn(0f32, 1., (4 * 5, 3, 8, 8), &Device::Cpu)?;
//! let views = Views::new(vec![large, small], 5)?;
//! let report = swav.step(&trunk, &views, Moment { step: 0, total: 100 })?;
//! assert!(report.loss.to_scalar::<f32>()?.is_finite());
//! # Ok(()) }
//! ```

mod barlow;
mod byol;
mod check;
mod clr;
mod ema;
mod head;
mod mae;
mod masking;
mod method;
mod monitor;
mod prototypes;
mod queue;
mod sinkhorn;
mod swap;
mod swav;
mod vicreg;
mod views;
mod watch;

pub use barlow::{BarlowTwins, BarlowTwinsConfig, barlow_twins};
pub use byol::{Byol, ByolConfig, regression};
pub use clr::{SimClr, SimClrConfig, nt_xent};
pub use ema::{Ema, target_builder, target_name};
pub use head::{Mlp, MlpConfig};
pub use mae::{Mae, MaeConfig, TokenShape};
pub use masking::{Mask, patch_rows};
pub use method::{Method, Moment, StepReport};
pub use monitor::{choice_entropy, prediction_entropy, spread};
pub use prototypes::Prototypes;
pub use queue::Queue;
pub use sinkhorn::{Assignment, SinkhornConfig, sinkhorn};
pub use swap::swapped_prediction;
pub use swav::{Swav, SwavConfig};
pub use vicreg::{VicReg, VicRegConfig, vic_reg};
pub use views::{Tokens, Trunk, Views};
pub use watch::{CollapseWatch, WatchConfig};
