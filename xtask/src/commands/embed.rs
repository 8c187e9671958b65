//! `embed`: the embeddings of a data set under a run's network, as one file.

use anyhow::Result;
use phiz_recipes::disentangle::{self, DisentangleConfig, DisentangleRun};
use phiz_recipes::pretrain::{self, PretrainConfig, PretrainRun};
use phiz_recipes::{Recipe, Run, embed};

use crate::args::EmbedArgs;

/// Embeds and writes.
pub fn run(args: &EmbedArgs) -> Result<()> {
    let embeddings = if PretrainConfig::has_run(&args.run) {
        pretrain::embed(&PretrainRun::open(&args.run)?, &args.data, &args.device)?
    } else if DisentangleConfig::has_run(&args.run) {
        disentangle::embed(&DisentangleRun::open(&args.run)?, &args.data, &args.device)?
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
