//! The program as a person runs it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(dead_code, reason = "each test file uses some of them")]

use std::path::Path;
use std::process::{Command, Output};

/// A run small enough for a test: 4 steps on 42 rendered faces of 32 pixels.
pub const SMALL: &[&str] = &[
    "--set",
    "data.source=synth:identities=6,per_expression=1,size=32",
    "--set",
    "image.size=32",
    "--set",
    "model.width=0.25",
    "--set",
    "sampling.tuplets=2",
    "--set",
    "sampling.candidates=8",
    "--set",
    "train.epochs=8",
    "--set",
    "train.checkpoint_every=2",
    "--set",
    "train.log_every=1",
];

pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.current_dir(folder);
    command
}

pub fn xtask(folder: &Path, words: &[&str]) -> Output {
    command(folder).args(words).output().unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Ran, exit code 0; gives standard output.
pub fn ok(folder: &Path, words: &[&str]) -> String {
    let output = xtask(folder, words);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{words:?}: {}",
        stderr(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Exit code 2, nothing on standard output, and exactly one line that begins with `error: `; gives
/// that line.
pub fn refused(folder: &Path, words: &[&str]) -> String {
    let output = xtask(folder, words);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{words:?}: {text}");
    assert!(
        output.stdout.is_empty(),
        "{words:?}: printed on standard output"
    );
    let errors: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{words:?}: {text}");
    assert_eq!(text.lines().last(), Some(errors[0]), "{words:?}: {text}");
    assert!(!text.contains("panicked"), "{text}");
    errors[0].to_string()
}

/// `train` with the small setting and more words.
pub fn small(words: &[&str]) -> Vec<String> {
    ["train"]
        .iter()
        .chain(SMALL)
        .chain(words)
        .map(|word| (*word).to_string())
        .collect()
}

pub fn train_small(folder: &Path, words: &[&str]) {
    let all = small(words);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    ok(folder, &all);
}
