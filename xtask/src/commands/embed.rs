//! `embed`: the embeddings of a data set under a run's network, as one file.

use anyhow::Result;
use phiz_recipes::disentangle::{self, DisentangleRun};
use phiz_recipes::pretrain::{self, PretrainRun};
use phiz_recipes::{Run, embed};

use crate::args::EmbedArgs;

/// Embeds and writes.
pub fn run(args: &EmbedArgs) -> Result<()> {
    let embeddings = if pretrain::is_pretrain_run(&args.run) {
        pretrain::embed(&PretrainRun::open(&args.run)?, &args.data, &args.device)?
    } else if DisentangleRun::is_one(&args.run) {
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
