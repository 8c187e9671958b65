//! The training engine: random streams, parameters, optimisers, schedules, the loop, checkpoints and logs.
//!
//! It knows no model and no data set: [`fit`] calls a closure that computes a loss for a step number and does the
//! rest. Everything is a function of the seed and the step, so the same seed gives the same bits, and a run that
//! was killed and resumed ends bit-equal to one that was not (on the same device with the same number of threads).
//! Optimisers and clipping have PyTorch's semantics and are checked against it. Checkpoints survive a kill or a
//! full disk at any moment (see [`Checkpoint`]).
//!
//! A run's folder gets
//!
//! * `metrics.jsonl`: per logged step `step`, `epoch`, `lr`, `images_per_s`, and the means since the last entry of
//!   `loss`, `grad_norm` and the objective's own metrics; on resumption cut back to the checkpoint's step;
//! * `events.out.tfevents.*`: the same scalars for TensorBoard, one file per start of the run. They are written by
//!   this crate itself: of the crates that do, `tboard` 0.1 needs the program `protoc` to build and `tensorboard-rs`
//!   0.5 panics on a full disk. TensorBoard 2.21 reads them and drops the steps that a resumed run does again;
//! * `checkpoint/`: all state.
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//! use candle::{DType, Device, Tensor};
//! use candle_nn::Module;
//! use phiz_train::{FitConfig, Outcome, Parameters, StepOutput, Streams, fit};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let parameters = Parameters::new(Streams::new(0), DType::F32, &Device::Cpu);
//! let layer = candle_nn::linear(1, 1, parameters.var_builder().pp("layer"))?;
//! let x = Tensor::new(&[[-1f32], [0.], [1.], [2.]], &Device::Cpu)?;
//! let y = ((&x * 3.)? + 1.)?;
//!
//! let config = FitConfig { total_steps: 100, base_lr: 0.05, ..FitConfig::default() };
//! let mut objective = |_step: u64| -> candle::Result<StepOutput> {
//!     let loss = (layer.forward(&x)? - &y)?.sqr()?.mean_all()?;
//!     Ok(StepOutput { loss, metrics: vec![], samples: 4 })
//! };
//! let stop = AtomicBool::new(false); // set it from a Ctrl-C handler
//! let outcome = fit(&config, &parameters, None, &mut objective, &|_| vec![], &stop, &mut ())?;
//! assert_eq!(outcome, Outcome::Finished);
//! let slope = layer.weight().flatten_all()?.to_vec1::<f32>()?[0];
//! assert!((slope - 3.).abs() < 0.1, "{slope}");
//! # Ok(()) }
//! ```

mod checkpoint;
mod clip;
mod error;
mod events;
mod files;
mod fit;
mod fused;
mod init;
mod metrics;
mod observer;
mod optimizer;
mod optimizer_config;
mod parameters;
mod schedule;
mod streams;
mod weights;

pub use checkpoint::{CHECKPOINT_VERSION, Checkpoint};
pub use clip::{clip_coefficient, clip_grad_norm, grad_norm};
pub use error::{Error, ErrorKind, Result};
pub use fit::{FitConfig, Outcome, StepOutput, fit};
pub use observer::{Observer, Progress};
pub use optimizer::Optimizer;
pub use optimizer_config::{GroupRules, OptimizerConfig, PrefixRule};
pub use parameters::{Parameters, is_buffer};
pub use schedule::Schedule;
pub use streams::Streams;
pub use weights::{Matching, Skipped, read_tensors, save_tensors};
