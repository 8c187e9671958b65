//! `train`: from a recipe to a run folder, judged.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use phiz_recipes::disentangle::DisentangleConfig;
use phiz_recipes::pretrain::PretrainConfig;
use phiz_recipes::{Asked, Config, Judgement, Outcome, Recipe, TaskConfig, recipe_names};

use crate::Done;
use crate::args::TrainArgs;
use crate::commands::{print_text, stop_on_ctrl_c};
use crate::progress::Shown;

/// Trains, judges on the held-out part, and says what to type next.
pub fn run(args: &TrainArgs) -> Result<Done> {
    if args.list {
        return list();
    }
    said_once(args)?;
    if is_of::<PretrainConfig>(args)? {
        return of_kind::<PretrainConfig>(args);
    }
    if is_of::<DisentangleConfig>(args)? {
        return of_kind::<DisentangleConfig>(args);
    }
    if is_of::<TaskConfig>(args)? {
        return of_kind::<TaskConfig>(args);
    }
    of_kind::<Config>(args)
}

fn list() -> Result<Done> {
    for (name, summary) in recipe_names() {
        print_text(&format!("{name:<18} {summary}"))?;
    }
    Ok(Done::Finished)
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

/// Whether a recipe of this kind is asked for, by a run's folder, by its name, or by a file.
fn is_of<R: Recipe>(args: &TrainArgs) -> Result<bool> {
    Ok(match (&args.resume, &args.recipe, &args.config) {
        (Some(folder), ..) => R::has_run(folder),
        (None, Some(name), _) => R::is_named(name),
        (None, None, Some(file)) => R::named_in(file)?.is_some(),
        (None, None, None) => false,
    })
}

fn of_kind<R: Recipe>(args: &TrainArgs) -> Result<Done> {
    let (outcome, folder) = match &args.resume {
        Some(folder) => {
            let stop = stop_on_ctrl_c()?;
            let outcome = R::resume(folder, &args.device, stop, &mut Shown::new(""))?;
            (outcome, folder.clone())
        }
        None => {
            let config = R::configured(&Asked {
                name: args.recipe.as_deref(),
                file: args.config.as_deref(),
                source: args.data.as_deref(),
                seed: args.seed,
                words: &args.set,
            })?;
            if args.print_config {
                print_text(config.written()?.trim_end())?;
                return Ok(Done::Finished);
            }
            let out = match &args.out {
                Some(out) => out.clone(),
                None => new_folder(config.recipe())?,
            };
            let stop = stop_on_ctrl_c()?;
            eprintln!("run folder: {}", out.display());
            let outcome = config.train(&out, &args.device, stop, &mut Shown::new(""))?;
            (outcome, out)
        }
    };
    match outcome {
        Outcome::Interrupted { step } => {
            eprintln!("interrupted after step {step}, saved; go on with:");
            eprintln!("  cargo xtask train --resume {}", folder.display());
            Ok(Done::Interrupted)
        }
        Outcome::Finished(run) => {
            let verdict = R::judge(&run, &args.device)?;
            verdict.write(&folder)?;
            eprint!("{}", verdict.table());
            eprintln!("report: {}", folder.join("report.html").display());
            eprintln!("next:   cargo xtask eval {}", folder.display());
            Ok(Done::Finished)
        }
    }
}

/// `runs/<recipe>-<seconds since 1970>`, or the next number that is free.
fn new_folder(recipe: &str) -> Result<PathBuf> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock stands before 1970")?;
    let folder = |number: u64| Path::new("runs").join(format!("{recipe}-{number}"));
    let free = (now.as_secs()..)
        .map(folder)
        .find(|folder| !folder.exists());
    free.context("no free folder name under runs/")
}
