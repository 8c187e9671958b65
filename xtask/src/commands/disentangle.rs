//! `train` of the disentangling recipes: another configuration, the same way of asking.

use std::path::Path;

use anyhow::Result;
use phiz_recipes::Outcome;
use phiz_recipes::disentangle::{self, DisentangleConfig, DisentangleRun};

use crate::Done;
use crate::args::TrainArgs;
use crate::commands::train::new_folder;
use crate::commands::{print_text, stop_on_ctrl_c};
use crate::progress::Shown;

/// The recipe `args` asks for, where it is a disentangling one.
pub fn asked(args: &TrainArgs) -> Result<Option<String>> {
    if let Some(name) = &args.recipe {
        return Ok(DisentangleConfig::is_named(name).then(|| name.clone()));
    }
    match &args.config {
        Some(path) => Ok(DisentangleConfig::names_one(path)?),
        None => Ok(None),
    }
}

/// Trains, judges, and says what to type next.
pub fn run(args: &TrainArgs, name: &str) -> Result<Done> {
    let mut config = DisentangleConfig::named(name)?;
    if let Some(path) = &args.config {
        config = DisentangleConfig::from_file(path, &config)?;
    }
    if let Some(spec) = &args.data {
        config.data.source.clone_from(spec);
    }
    if let Some(seed) = args.seed {
        config.seed = seed;
    }
    let config = config.set_all(args.set.iter().map(String::as_str))?;
    if args.print_config {
        print_text(config.to_toml()?.trim_end())?;
        return Ok(Done::Finished);
    }
    let out = match &args.out {
        Some(out) => out.clone(),
        None => new_folder(&config.recipe)?,
    };
    let stop = stop_on_ctrl_c()?;
    eprintln!("run folder: {}", out.display());
    let outcome = disentangle::train(&config, &out, &args.device, stop, &mut Shown::new(""))?;
    finish(outcome, &out, &args.device)
}

/// Goes on with an interrupted run.
pub fn resume(folder: &Path, device: &str) -> Result<Done> {
    let stop = stop_on_ctrl_c()?;
    let outcome = disentangle::resume(folder, device, stop, &mut Shown::new(""))?;
    finish(outcome, folder, device)
}

fn finish(outcome: Outcome<DisentangleRun>, folder: &Path, device: &str) -> Result<Done> {
    match outcome {
        Outcome::Interrupted { step } => {
            eprintln!("interrupted after step {step}, saved; go on with:");
            eprintln!("  cargo xtask train --resume {}", folder.display());
            Ok(Done::Interrupted)
        }
        Outcome::Finished(run) => {
            let verdict = disentangle::judge(&run, device)?;
            verdict.write(folder)?;
            eprint!("{}", verdict.table());
            eprintln!("report: {}", folder.join("report.html").display());
            Ok(Done::Finished)
        }
    }
}
