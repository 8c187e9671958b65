//! `eval`: figures of a run, or of embeddings written by any program.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use phiz_eval::{BootstrapConfig, Embeddings, EvaluateOptions};
use phiz_recipes::disentangle::{self, DisentangleConfig, DisentangleRun};
use phiz_recipes::pretrain::{self, PretrainConfig, PretrainRun};
use phiz_recipes::{
    Judgement, Recipe, Run, TaskConfig, TaskRun, judge, judge_embeddings, judge_task, protocols,
};

use crate::args::EvalArgs;
use crate::commands::{print_json, print_text};

/// Judges, prints, and writes `eval.json` and `report.html`.
pub fn run(args: &EvalArgs) -> Result<()> {
    let protocols = protocols(&args.protocols)?;
    if let Some(file) = &args.embeddings {
        let options = options(args)?;
        let table = read(file, args.labels.as_deref())?;
        let mut verdict = judge_embeddings(file, table, &protocols, &options)?;
        if let Some(against) = &args.against {
            let other = read(against, args.labels.as_deref())?;
            verdict.against(against, &other, &protocols, &options)?;
        }
        return shown(&verdict, args.out.as_deref(), args.json);
    }
    let folder = match &args.run {
        Some(folder) => folder.clone(),
        None => newest_run()?,
    };
    let (data, device) = (args.data.as_deref(), &args.device);
    let mut out = Some(args.out.as_deref().unwrap_or(&folder));
    let verdict: Box<dyn Judgement> = if PretrainConfig::has_run(&folder) {
        if let Some(name) = args.protocols.first() {
            bail!(
                "--protocol {name}: a pre-training run is judged by frozen probes alone; `cargo xtask embed` writes embeddings \
                 that every protocol takes"
            );
        }
        Box::new(pretrain::judge(&PretrainRun::open(&folder)?, data, device)?)
    } else if TaskConfig::has_run(&folder) {
        if let Some(name) = args.protocols.first() {
            bail!("--protocol {name}: a run of a task is judged by its task's own figures");
        }
        Box::new(judge_task(&TaskRun::open(&folder)?, data, device)?)
    } else if DisentangleConfig::has_run(&folder) {
        let run = DisentangleRun::open(&folder)?;
        if data.is_none() && protocols.is_empty() {
            Box::new(disentangle::judge(&run, device)?)
        } else {
            // Other figures than the run's own, which stay where they are.
            out = args.out.as_deref();
            let data = data.unwrap_or(&run.config.data.source);
            let table = disentangle::embed(&run, data, device)?;
            let options = options(args)?;
            Box::new(judge_embeddings(&folder, table, &protocols, &options)?)
        }
    } else {
        Box::new(judge(&Run::open(&folder)?, data, &protocols, device)?)
    };
    shown(verdict.as_ref(), out, args.json)
}

fn shown(verdict: &dyn Judgement, out: Option<&Path>, json: bool) -> Result<()> {
    if let Some(out) = out {
        verdict.write(out)?;
        eprintln!("report: {}", out.join("report.html").display());
    }
    if json {
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
        bail!("--far must lie in (0, 1], found {bad}");
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
