//! Runs of face tasks, for `train` and `eval`.

use std::path::Path;

use anyhow::Result;
use phiz_recipes::{Outcome, TaskConfig, TaskRun, TaskVerdict, is_task, judge_task, task_recipe};

use crate::Done;
use crate::args::TrainArgs;

/// The task that `train` is asked for, by name or in a configuration file.
pub fn asked(args: &TrainArgs) -> Result<Option<String>> {
    match (&args.recipe, &args.config) {
        (Some(name), _) => Ok(is_task(name).then(|| name.clone())),
        (None, Some(path)) => Ok(TaskConfig::named_in(path)?),
        (None, None) => Ok(None),
    }
}

/// The configuration that the arguments of `train` ask for.
pub fn config(name: &str, args: &TrainArgs) -> Result<TaskConfig> {
    let mut config = task_recipe(name)?;
    if let Some(path) = &args.config {
        config = TaskConfig::from_file(path, &config)?;
    }
    if let Some(spec) = &args.data {
        config.data.source.clone_from(spec);
    }
    if let Some(seed) = args.seed {
        config.seed = seed;
    }
    Ok(config.set_all(args.set.iter().map(String::as_str))?)
}

/// Judges a finished run and says what to type next.
pub fn finish(outcome: Outcome<TaskRun>, folder: &Path, device: &str) -> Result<Done> {
    match outcome {
        Outcome::Interrupted { step } => {
            eprintln!("interrupted after step {step}, saved; go on with:");
            eprintln!("  cargo xtask train --resume {}", folder.display());
            Ok(Done::Interrupted)
        }
        Outcome::Finished(run) => {
            let verdict: TaskVerdict = judge_task(&run, None, device)?;
            verdict.write(folder)?;
            eprint!("{}", verdict.table());
            eprintln!("report: {}", folder.join("report.html").display());
            eprintln!("next:   cargo xtask eval {}", folder.display());
            Ok(Done::Finished)
        }
    }
}
