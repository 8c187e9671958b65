//! `train`: from a recipe to a run folder, judged.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use phiz_recipes::disentangle::DisentangleRun;
use phiz_recipes::pretrain::{self, PretrainConfig};
use phiz_recipes::{
    Config, NAMED, Outcome, TASK_RECIPES, TaskRun, judge, named, resume, resume_task, train,
    train_task,
};

use crate::Done;
use crate::args::TrainArgs;
use crate::commands::{disentangle, print_text, stop_on_ctrl_c, task};
use crate::progress::Shown;

/// Trains, judges on the held-out part, and says what to type next.
pub fn run(args: &TrainArgs) -> Result<Done> {
    if args.list {
        for recipe in NAMED {
            print_text(&format!("{:<18} {}", recipe.name, recipe.summary))?;
        }
        for recipe in pretrain::NAMED {
            print_text(&format!("{:<18} {}", recipe.name, recipe.summary))?;
        }
        for (name, summary) in phiz_recipes::disentangle::NAMED {
            print_text(&format!("{name:<18} {summary}"))?;
        }
        for (name, summary) in TASK_RECIPES {
            print_text(&format!("{name:<18} {summary}"))?;
        }
        return Ok(Done::Finished);
    }
    said_once(args)?;
    if is_pretrain(args) {
        return run_pretrain(args);
    }
    if let Some(folder) = &args.resume {
        if DisentangleRun::is_one(folder) {
            return disentangle::resume(folder, &args.device);
        }
        let stop = stop_on_ctrl_c()?;
        if TaskRun::is_one(folder) {
            let outcome = resume_task(folder, &args.device, stop, &mut Shown::new(""))?;
            return task::finish(outcome, folder, &args.device);
        }
        return finish(
            resume(folder, &args.device, stop, &mut Shown::new(""))?,
            folder,
            &args.device,
        );
    }
    if let Some(name) = disentangle::asked(args)? {
        return disentangle::run(args, &name);
    }
    if let Some(name) = task::asked(args)? {
        let config = task::config(&name, args)?;
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
        let outcome = train_task(&config, &out, &args.device, stop, &mut Shown::new(""))?;
        return task::finish(outcome, &out, &args.device);
    }
    let config = config(args)?;
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
    finish(
        train(&config, &out, &args.device, stop, &mut Shown::new(""))?,
        &out,
        &args.device,
    )
}

/// What has an option of its own must not be set by `--set` too: one of the two would be lost.
fn said_once(args: &TrainArgs) -> Result<()> {
    let options = [
        ("--data", "data.source", args.data.is_some()),
        ("--seed", "seed", args.seed.is_some()),
    ];
    for (option, key, given) in options {
        let named = |word: &&String| word.split('=').next().is_some_and(|k| k.trim() == key);
        if let Some(word) = args.set.iter().find(named).filter(|_| given) {
            bail!("`{option}` and `--set {word}` both say what `{key}` is; give one of them");
        }
    }
    Ok(())
}

/// Whether a pre-training recipe is asked for, by its name, its file or its folder.
fn is_pretrain(args: &TrainArgs) -> bool {
    match (&args.resume, &args.recipe, &args.config) {
        (Some(folder), ..) => pretrain::is_pretrain_run(folder),
        (None, Some(name), _) => pretrain::is_pretrain(name),
        (None, None, Some(file)) => pretrain::is_pretrain_run(file),
        (None, None, None) => false,
    }
}

fn run_pretrain(args: &TrainArgs) -> Result<Done> {
    let (outcome, folder) = if let Some(folder) = &args.resume {
        let stop = stop_on_ctrl_c()?;
        let outcome = pretrain::resume(folder, &args.device, stop, &mut Shown::new(""))?;
        (outcome, folder.clone())
    } else {
        let config = pretrain_config(args)?;
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
        let outcome = pretrain::train(&config, &out, &args.device, stop, &mut Shown::new(""))?;
        (outcome, out)
    };
    match outcome {
        Outcome::Interrupted { step } => Ok(interrupted(step, &folder)),
        Outcome::Finished(run) => {
            let verdict = pretrain::judge(&run, None, &args.device)?;
            verdict.write(&folder)?;
            eprint!("{}", verdict.table());
            eprintln!("report: {}", folder.join("report.html").display());
            eprintln!("next:   cargo xtask eval {}", folder.display());
            Ok(Done::Finished)
        }
    }
}

fn pretrain_config(args: &TrainArgs) -> Result<PretrainConfig> {
    let mut config = pretrain::named(args.recipe.as_deref().unwrap_or("swav"))?;
    if let Some(path) = &args.config {
        config = PretrainConfig::from_file(path, &config)?;
    }
    if let Some(spec) = &args.data {
        config.data.source.clone_from(spec);
    }
    if let Some(seed) = args.seed {
        config.seed = seed;
    }
    Ok(config.set_all(args.set.iter().map(String::as_str))?)
}

fn interrupted(step: u64, folder: &Path) -> Done {
    eprintln!("interrupted after step {step}, saved; go on with:");
    eprintln!("  cargo xtask train --resume {}", folder.display());
    Done::Interrupted
}

fn finish(outcome: Outcome, folder: &Path, device: &str) -> Result<Done> {
    match outcome {
        Outcome::Interrupted { step } => Ok(interrupted(step, folder)),
        Outcome::Finished(run) => {
            let verdict = judge(&run, None, &[], device)?;
            verdict.write(folder)?;
            eprint!("{}", verdict.table());
            eprintln!("report: {}", folder.join("report.html").display());
            eprintln!("next:   cargo xtask eval {}", folder.display());
            Ok(Done::Finished)
        }
    }
}

fn config(args: &TrainArgs) -> Result<Config> {
    let mut config = named(args.recipe.as_deref().unwrap_or("tuplet"))?;
    if let Some(path) = &args.config {
        config = Config::from_file(path, &config)?;
    }
    if let Some(spec) = &args.data {
        config.data.source.clone_from(spec);
    }
    if let Some(seed) = args.seed {
        config.seed = seed;
    }
    Ok(config.set_all(args.set.iter().map(String::as_str))?)
}

/// `runs/<recipe>-<seconds since 1970>`, or the next number that is free.
pub(super) fn new_folder(recipe: &str) -> Result<PathBuf> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock stands before 1970")?;
    let folder = |number: u64| Path::new("runs").join(format!("{recipe}-{number}"));
    let free = (now.as_secs()..)
        .map(folder)
        .find(|folder| !folder.exists());
    free.context("no free folder name under runs/")
}
