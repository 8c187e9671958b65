//! Recipes of face tasks: a trunk, tuned or frozen, under the head of one task, on all or few of the images.
//!
//! [`task_recipe`] gives the recipes by name: `landmarks`, `affect`, `action-units`, `face3d` and `recognition`.
//! [`train_task`] makes a run's folder as other recipes do, [`resume_task`] goes on with one, [`judge_task`] judges it on
//! people it was not trained on. The headline is the state after the last step; the best of the checks made on the
//! way stands apart, since it was chosen on the images it is judged by.
//!
//! Modes: `fine-tune` trains everything; `frozen` trains the head alone on a trunk in evaluation mode, without random
//! changes of the images, so that the trunk sees every image once.
//!
//! Few images: `data.fraction` takes a nested part of the training images by the rule `data.rule`
//! ([`nested_subset`]); its list stands in the run's `subset.json`.

mod config;
mod few_shot;
mod judge;
mod network;
mod run;
mod source;
mod subset;

pub use config::{
    Mode, TASK_RECIPES, TaskBackbone, TaskConfig, TaskData, TaskHead, TaskKind, TaskModel,
    TaskSettings, task_recipe,
};
pub(crate) use few_shot::{FEW_SHOT, few_shot, figures};
pub use judge::{TaskVerdict, judge_task};
pub use network::{Prediction, TaskNetwork};
pub use run::{TaskRun, resume_task, train_task};
pub(crate) use source::Shelf;
pub use subset::{Rule, nested_subset};
