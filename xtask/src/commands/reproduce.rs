//! `reproduce`: a whole table, row by row and seed by seed.

use std::path::PathBuf;

use anyhow::{Context, Result};
use phiz_recipes::{Progressed, Reproduction, reproduce};

use crate::Done;
use crate::args::ReproduceArgs;
use crate::commands::{print_json, print_text, realism, stop_on_ctrl_c};
use crate::progress::Shown;

/// Trains what is missing, prints the table.
pub fn run(args: &ReproduceArgs) -> Result<Done> {
    let out = match &args.out {
        Some(out) => out.clone(),
        None => PathBuf::from("runs").join(format!("reproduce-{}", args.name)),
    };
    if args.name == "synth-realism" {
        realism::run(&out, args.json)?;
        return Ok(Done::Finished);
    }
    let wanted = Reproduction {
        name: args.name.clone(),
        seeds: args.seeds,
        set: args.set.clone(),
        rows: args.rows.clone(),
        trunks: args.trunks.clone(),
        out: out.clone(),
        device: args.device.clone(),
    };
    let stop = stop_on_ctrl_c()?;
    let progressed = reproduce(&wanted, stop, &mut |run| Box::new(Shown::new(run)))
        .with_context(|| format!("reproduce {}", args.name))?;
    match progressed {
        Progressed::Interrupted => {
            eprintln!("interrupted and saved; the same command goes on");
            Ok(Done::Interrupted)
        }
        Progressed::Finished(table) => {
            eprintln!("table: {}", out.join("table.md").display());
            if args.json {
                print_json(&table.to_json())?;
            } else {
                print_text(table.to_markdown().trim_end())?;
            }
            Ok(Done::Finished)
        }
    }
}
