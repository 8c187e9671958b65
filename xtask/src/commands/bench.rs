//! `bench`: our times beside those of Python peers, in the same run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use phiz_recipes::bench::{self, Group, Options, Party, measure};

use crate::args::BenchArgs;
use crate::commands::{print_json, print_text};

/// The word that makes this program one side of a bench.
const SERVE: &str = "--serve";

/// Measures a group and prints its table; without a group, says which there are.
pub fn run(args: &BenchArgs) -> Result<()> {
    if args.serve {
        return Ok(bench::serve(
            std::io::stdin().lock(),
            std::io::stdout().lock(),
        )?);
    }
    let Some(group) = &args.group else {
        return list();
    };
    let group: Group = group.parse()?;
    let this = std::env::current_exe().context("cannot find this program")?;
    let ours = Party {
        name: "ours".into(),
        command: vec![this.into_os_string(), "bench".into(), SERVE.into()],
    };
    let peers = if args.peers {
        bench::peers(group, &python(args), &scripts()?)
    } else {
        Vec::new()
    };
    let options = Options {
        filter: args.filter.clone(),
        repeats: args.repeats,
        threads: args.threads,
        ..Options::default()
    };
    let report = measure(group, &ours, &peers, &options, &mut |line| {
        eprintln!("{line}");
    })?;
    if args.json {
        print_json(&report.to_json())?;
    } else {
        print_text(report.table().trim_end())?;
    }
    match report.failures() {
        0 => Ok(()),
        1 => bail!("bench {group}: one measurement failed, see its row"),
        failed => bail!("bench {group}: {failed} measurements failed, see their rows"),
    }
}

fn list() -> Result<()> {
    for group in Group::ALL {
        print_text(&format!(
            "{:<8} {:>3} cases  {}",
            group.name(),
            group.cases().len(),
            group.about()
        ))?;
        print_text(&format!("{:<18} peers: {}", "", group.peers().join(", ")))?;
    }
    print_text("next: cargo xtask bench GROUP --peers")
}

fn python(args: &BenchArgs) -> OsString {
    interpreter(args.python.clone())
}

/// `given`, PHIZ_PEERS_PYTHON, or `python3`.
pub(crate) fn interpreter(given: Option<PathBuf>) -> OsString {
    given
        .map(PathBuf::into_os_string)
        .or_else(|| std::env::var_os("PHIZ_PEERS_PYTHON"))
        .unwrap_or_else(|| "python3".into())
}

fn scripts() -> Result<PathBuf> {
    Ok(fixtures()?.join("peers"))
}

/// The folder of scripts and golden values.
pub(crate) fn fixtures() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.parent().context("xtask lies outside a workspace")?;
    Ok(root.join("fixtures"))
}
