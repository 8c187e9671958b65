//! `eval`: figures of a run, or of embeddings written by any program.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use phiz_recipes::{Run, judge, judge_embeddings, protocols};

use crate::args::EvalArgs;
use crate::commands::{print_json, print_text};

/// Judges, prints, and writes `eval.json` and `report.html`.
pub fn run(args: &EvalArgs) -> Result<()> {
    let protocols = protocols(&args.protocols)?;
    let (verdict, out) = match &args.embeddings {
        Some(file) => (judge_embeddings(file, &protocols)?, args.out.clone()),
        None => {
            let folder = match &args.run {
                Some(folder) => folder.clone(),
                None => newest_run()?,
            };
            let run = Run::open(&folder)?;
            let verdict = judge(&run, args.data.as_deref(), &protocols, &args.device)?;
            (verdict, Some(args.out.clone().unwrap_or(folder)))
        }
    };
    if let Some(out) = &out {
        verdict.write(out)?;
        eprintln!("report: {}", out.join("report.html").display());
    }
    if args.json {
        return print_json(&verdict.to_json());
    }
    print_text(verdict.table().trim_end())
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
