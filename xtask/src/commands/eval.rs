//! `eval`: figures of a run, or of embeddings written by any program.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use phiz_eval::{BootstrapConfig, Embeddings, EvaluateOptions};
use phiz_recipes::disentangle::{self, DisentangleRun};
use phiz_recipes::pretrain::{self, PretrainRun};
use phiz_recipes::{Run, TaskRun, Verdict, judge, judge_embeddings, judge_task, protocols};

use crate::args::EvalArgs;
use crate::commands::{print_json, print_text};

/// Judges, prints, and writes `eval.json` and `report.html`.
pub fn run(args: &EvalArgs) -> Result<()> {
    let protocols = protocols(&args.protocols)?;
    let (verdict, out) = match &args.embeddings {
        Some(file) => {
            let options = options(args)?;
            let table = read(file, args.labels.as_deref())?;
            let mut verdict = judge_embeddings(file, table, &protocols, &options)?;
            if let Some(against) = &args.against {
                let other = read(against, args.labels.as_deref())?;
                verdict.against(against, &other, &protocols, &options)?;
            }
            (verdict, args.out.clone())
        }
        None => {
            let folder = match &args.run {
                Some(folder) => folder.clone(),
                None => newest_run()?,
            };
            if pretrain::is_pretrain_run(&folder) {
                return run_pretrain(args, &folder);
            }
            if DisentangleRun::is_one(&folder) {
                if args.data.is_none() && protocols.is_empty() {
                    return judged(&folder, args);
                }
                let run = DisentangleRun::open(&folder)?;
                let data = args.data.as_ref().unwrap_or(&run.config.data.source);
                let table = disentangle::embed(&run, data, &args.device)?;
                let verdict = judge_embeddings(&folder, table, &protocols, &options(args)?)?;
                return shown(&verdict, args.out.as_deref(), args.json);
            }
            if TaskRun::is_one(&folder) {
                return task(args, &folder);
            }
            let run = Run::open(&folder)?;
            let verdict = judge(&run, args.data.as_deref(), &protocols, &args.device)?;
            (verdict, Some(args.out.clone().unwrap_or(folder)))
        }
    };
    shown(&verdict, out.as_deref(), args.json)
}

fn shown(verdict: &Verdict, out: Option<&Path>, json: bool) -> Result<()> {
    if let Some(out) = out {
        verdict.write(out)?;
        eprintln!("report: {}", out.join("report.html").display());
    }
    if json {
        return print_json(&verdict.to_json());
    }
    print_text(verdict.table().trim_end())
}

/// A disentangling run by its own rules.
fn judged(folder: &Path, args: &EvalArgs) -> Result<()> {
    let verdict = disentangle::judge(&DisentangleRun::open(folder)?, &args.device)?;
    let out = args.out.as_deref().unwrap_or(folder);
    verdict.write(out)?;
    eprintln!("report: {}", out.join("report.html").display());
    if args.json {
        return print_json(&verdict.to_json());
    }
    print_text(verdict.table().trim_end())
}

/// A pre-training run has one way of being judged.
fn run_pretrain(args: &EvalArgs, folder: &Path) -> Result<()> {
    if let Some(name) = args.protocols.first() {
        anyhow::bail!(
            "--protocol {name}: a pre-training run is judged by frozen probes alone; `cargo xtask embed` writes embeddings \
             that every protocol takes"
        );
    }
    let run = PretrainRun::open(folder)?;
    let verdict = pretrain::judge(&run, args.data.as_deref(), &args.device)?;
    let out = args.out.as_deref().unwrap_or(folder);
    verdict.write(out)?;
    eprintln!("report: {}", out.join("report.html").display());
    if args.json {
        return print_json(&verdict.to_json());
    }
    print_text(verdict.table().trim_end())
}

/// Judges a run of a task.
fn task(args: &EvalArgs, folder: &Path) -> Result<()> {
    if let Some(protocol) = args.protocols.first() {
        anyhow::bail!("--protocol {protocol}: a run of a task is judged by its task's own figures");
    }
    let verdict = judge_task(&TaskRun::open(folder)?, args.data.as_deref(), &args.device)?;
    let out = args.out.as_deref().unwrap_or(folder);
    verdict.write(out)?;
    eprintln!("report: {}", out.join("report.html").display());
    if args.json {
        return print_json(&verdict.to_json());
    }
    print_text(verdict.table().trim_end())
}

fn read(file: &Path, labels: Option<&Path>) -> Result<Embeddings> {
    Ok(match labels {
        Some(labels) => Embeddings::read_npy(file, Some(labels))?,
        None => Embeddings::read(file)?,
    })
}

fn options(args: &EvalArgs) -> Result<EvaluateOptions> {
    let mut options = EvaluateOptions::default();
    if let Some(label) = &args.label {
        options.label.clone_from(label);
    }
    options.cluster.clone_from(&args.identity);
    options.group.clone_from(&args.group);
    if let Some(score) = &args.score {
        options.score = score.parse()?;
    }
    if !args.fars.is_empty() {
        options.fars.clone_from(&args.fars);
    }
    if let Some(bad) = args.fars.iter().find(|f| !(**f > 0.0 && **f <= 1.0)) {
        anyhow::bail!("--far must lie in (0, 1], found {bad}");
    }
    options.bootstrap = (args.resamples > 0).then_some(BootstrapConfig {
        resamples: args.resamples,
        seed: args.seed,
        ..Default::default()
    });
    Ok(options)
}

fn newest_run() -> Result<PathBuf> {
    let runs = Path::new("runs");
    let entries = runs
        .read_dir()
        .context("no RUN given, and no folder runs/ here; expected `cargo xtask eval RUN`")?;
    let newest = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("model.safetensors").is_file())
        .max_by_key(|path| {
            let model = path
                .join("model.safetensors")
                .metadata()
                .and_then(|data| data.modified());
            model.unwrap_or(SystemTime::UNIX_EPOCH)
        })
        .context(
            "no RUN given, and no finished run under runs/; expected `cargo xtask eval RUN`",
        )?;
    eprintln!("judging the newest run: {}", newest.display());
    Ok(newest)
}
