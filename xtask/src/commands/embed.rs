//! `embed`: the embeddings of a data set under a run's network, as one file.

use anyhow::{Result, bail};
use phiz_recipes::disentangle::{self, DisentangleConfig, DisentangleRun};
use phiz_recipes::pretrain::{self, PretrainConfig, PretrainRun};
use phiz_recipes::{Recipe, Run, TaskConfig, embed};

use crate::args::EmbedArgs;

/// Embeds and writes.
pub fn run(args: &EmbedArgs) -> Result<()> {
    let embeddings = if PretrainConfig::has_run(&args.run) {
        pretrain::embed(&PretrainRun::open(&args.run)?, &args.data, &args.device)?
    } else if DisentangleConfig::has_run(&args.run) {
        disentangle::embed(&DisentangleRun::open(&args.run)?, &args.data, &args.device)?
    } else if TaskConfig::has_run(&args.run) {
        bail!(
            "{}: a run of a task gives its task's answers and no embeddings; `cargo xtask eval` judges them",
            args.run.display()
        );
    } else {
        embed(&Run::open(&args.run)?, &args.data, &args.device)?
    };
    embeddings.write_safetensors(&args.out)?;
    eprintln!(
        "{} embeddings of {} numbers: {}",
        embeddings.len(),
        embeddings.dim(),
        args.out.display()
    );
    Ok(())
}
