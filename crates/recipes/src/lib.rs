//! Whole pipelines as library code: which data, trunk, miner, loss and schedule make a run.
//!
//! A recipe is a typed configuration, written as TOML; [`named`] gives those that have a name. There are four
//! kinds ([`Config`], [`pretrain::PretrainConfig`], [`disentangle::DisentangleConfig`], [`TaskConfig`]), and [`Recipe`] is what
//! they share. A run is a folder: [`train`] makes one, [`resume`] goes on with one that was interrupted, [`Run::open`]
//! reads one back, [`judge`] evaluates it on what its training held out. What `cargo xtask` can do
//! is here:
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::atomic::AtomicBool;
//! use phiz_recipes::{Outcome, judge, named, train};
//!
//! # fn main() -> phiz_recipes::Result<()> {
//! let config = named("tuplet")?.set("train.epochs=5")?;
//! let stop = AtomicBool::new(false); // set it to interrupt; the run saves itself
//! let outcome = train(&config, Path::new("runs/mine"), "cpu", &stop, &mut ())?;
//! if let Outcome::Finished(run) = outcome {
//!     let verdict = judge(&run, None, &[], "cpu")?;
//!     println!("accuracy {:.3}", verdict.metrics["accuracy"]);
//! }
//! # Ok(()) }
//! ```

mod baselines;
pub mod bench;
mod config;
mod device;
pub mod disentangle;
mod error;
mod folder;
mod judge;
mod losses;
mod named;
mod network;
mod objective;
mod overlay;
mod page;
mod plain;
mod plan;
pub mod pretrain;
mod recipe;
mod reproduce;
mod run;
mod source;
mod study;
mod task;

pub use baselines::{BaselineError, Fisherfaces, centred_pixels};
pub use config::{
    Backbone, Branches, Config, DataConfig, Head, ImageConfig, LossConfig, Metric, ModelConfig,
    ObjectiveConfig, OptimizerKind, Sampling, SamplingConfig, ScheduleKind, Split, TrainConfig,
};
pub use device::open_device;
pub use error::{Error, ErrorKind, Result};
pub use folder::Outcome;
pub use judge::{Verdict, embed, judge, judge_embeddings, protocols};
pub use losses::loss_and_miner_names;
pub use named::{NAMED, Named, named};
pub use network::{Judged, Network, Outputs};
pub use plan::{Plan, PlannedBatch};
pub use recipe::{Asked, Judgement, Recipe, recipe_names};
pub use reproduce::{Progressed, Reproduction, Row, Table, reproduce};
pub use run::{Run, resume, train};
pub use source::{Source, open, open_source};
pub use task::{
    Mode, Prediction, Rule, TASK_RECIPES, TaskBackbone, TaskConfig, TaskData, TaskHead, TaskKind,
    TaskModel, TaskNetwork, TaskRun, TaskSettings, TaskVerdict, judge_task, nested_subset,
    resume_task, task_recipe, train_task,
};
