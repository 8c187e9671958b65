//! Recipes that take a nuisance out of a code: d, s and l by a game of adversaries, and the baselines beside it.
//!
//! A recipe is a [`DisentangleConfig`]; [`NAMED`] lists those that have a name. What is removed is named
//! (`data.remove = ["light"]`), which players there are is [`GameConfig::mode`]. [`train`] makes a run, [`resume`] goes on with
//! one, [`judge`] asks what each part of the code can do and what it still says.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::atomic::AtomicBool;
//! use phiz_recipes::Outcome;
//! use phiz_recipes::disentangle::{DisentangleConfig, judge, train};
//!
//! # fn main() -> phiz_recipes::Result<()> {
//! let config = DisentangleConfig::named("disentangle")?.set_all(["game.mode=uniform"])?;
//! let stop = AtomicBool::new(false);
//! if let Outcome::Finished(run) = train(&config, Path::new("runs/mine"), "cpu", &stop, &mut ())? {
//!     let verdict = judge(&run, "cpu")?;
//!     println!("{:.3}, angle {:.3}", verdict.metrics["accuracy_seen"], verdict.metrics["angle_from_d"]);
//! }
//! # Ok(()) }
//! ```

mod alarms;
mod codes;
mod config;
mod factors;
mod judge;
mod material;
mod model;
mod named;
mod page;
mod pictures;
mod plans;
mod run;
mod table;
mod turns;

pub use config::{
    DisentangleConfig, DisentangleData, DisentangleEval, DisentangleImage, DisentangleModel,
    Doubling, GameConfig, GameTrain, Halving, IgnorantKind, InformationKind, Mode, Task, TrunkKind,
};
pub use factors::{FactorColumn, FactorColumnValues};
pub use judge::{DisentangleVerdict, embed, judge};
pub use model::Splitter;
pub use named::NAMED;
pub(crate) use plans::table_names;
pub use run::{DisentangleRun, resume, train};
pub(crate) use table::reproduce;
