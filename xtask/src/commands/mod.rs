//! One module a command; each turns arguments into a library call and its result into text.

pub mod bench;
pub mod check;
pub mod data;
pub mod embed;
pub mod eval;
pub mod realism;
pub mod reproduce;
pub mod train;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use serde::Serialize;

/// Set by Ctrl-C; a second Ctrl-C ends the program at once.
static STOP: AtomicBool = AtomicBool::new(false);

/// The flag that Ctrl-C sets.
fn stop_on_ctrl_c() -> Result<&'static AtomicBool> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step; once more to stop without saving");
    })
    .context("cannot listen to Ctrl-C")?;
    Ok(&STOP)
}

/// One JSON object on standard output, and nothing else there.
fn print_json(value: &impl Serialize) -> Result<()> {
    print_text(&serde_json::to_string_pretty(value).context("cannot write JSON")?)
}

fn print_text(text: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context("cannot write to standard output")
}
