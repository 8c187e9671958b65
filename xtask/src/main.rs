//! The command line of phiz: reads arguments, calls the libraries, prints.
//!
//! Exit codes: 0 done, 2 usage or input error (one line on standard error), 130 interrupted and
//! saved.

#![expect(
    clippy::print_stderr,
    reason = "this is the one crate that talks to a person"
)]

mod args;
mod commands;
mod progress;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

/// Keeps the large buffers of a training step for the next one.
#[global_allocator]
static ALLOCATOR: phiz_kernels::Recycler = phiz_kernels::Recycler::new();

/// How a command ended without an error.
pub enum Done {
    /// All of it.
    Finished,
    /// Interrupted by the user; what was done is saved.
    Interrupted,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Command::Train(args) => commands::train::run(args),
        Command::Eval(args) => commands::eval::run(args).map(|()| Done::Finished),
        Command::Embed(args) => commands::embed::run(args).map(|()| Done::Finished),
        Command::Data(command) => commands::data::run(command).map(|()| Done::Finished),
        Command::Reproduce(args) => commands::reproduce::run(args),
        Command::Bench(args) => commands::bench::run(args).map(|()| Done::Finished),
        Command::Check(args) => commands::check::run(args).map(|()| Done::Finished),
    };
    match done {
        Ok(Done::Finished) => ExitCode::SUCCESS,
        Ok(Done::Interrupted) => ExitCode::from(130),
        Err(error) => {
            if broken_pipe(&error) {
                // The reader of our output has seen enough, as in `... | head`.
                return ExitCode::SUCCESS;
            }
            // One line, causes after colons, whatever they contain.
            let text = format!("{error:#}");
            eprintln!(
                "error: {}",
                text.split_whitespace().collect::<Vec<_>>().join(" ")
            );
            ExitCode::from(2)
        }
    }
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
