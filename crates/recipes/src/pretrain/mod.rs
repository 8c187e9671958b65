//! Pre-training recipes: a trunk learned from faces without labels, or with labels that may be wrong.
//!
//! They have a configuration of their own ([`PretrainConfig`]), because what they choose (views, prototypes, a queue) has
//! no counterpart in the other recipes. A run is a folder like every other: its `model.safetensors` holds the trunk under
//! `backbone.`, so that `model.init` of any other recipe can start from it.
//!
//! Judging never trains the trunk: weighted nearest neighbours and a linear probe on its frozen features, for the
//! identity and for the expression of people that were not in training, beside the same trunk as it was initialised and
//! beside the pixels ([`probe`]). When training ends, the trunk's norms are fitted to whole images, as they are shown to it from
//! then on; probes on the way (in `metrics.jsonl`) still see it with the statistics of crops.

mod config;
mod judge;
mod kept;
mod learner;
mod named;
mod observer;
mod page;
mod part;
mod probe;
mod run;
mod spoil;

pub use config::{
    MethodConfig, MethodName, PretrainConfig, PretrainData, PretrainModel, PretrainTrain,
    ProbeSettings, SupervisedHead, TrunkName, TrunkStem, ViewsConfig,
};
pub use judge::{PretrainVerdict, embed, judge};
pub(crate) use kept::pretrained;
pub(crate) use named::{FACES, TO_START_FROM};
pub use named::{NAMED, Named, named};
pub(crate) use part::kept;
pub(crate) use probe::Yardstick;
pub use probe::{Probed, probe};
pub use run::{PretrainRun, resume, train};
