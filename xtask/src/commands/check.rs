//! `check`: exactly what CI runs, cheapest first.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::args::CheckArgs;

/// Which crates of the workspace a crate may see. What is not listed here may not exist.
const ROOMS: &[(&str, &[&str])] = &[
    ("phiz-kernels", &[]),
    ("phiz-mining", &["phiz-kernels"]),
    ("phiz-losses", &["phiz-kernels", "phiz-mining"]),
    ("phiz-backbones", &["phiz-kernels"]),
    ("phiz-disentangle", &["phiz-kernels"]),
    ("phiz-pretrain", &["phiz-kernels"]),
    ("phiz-tasks", &["phiz-kernels", "phiz-losses"]),
    ("phiz-synth", &[]),
    ("phiz-data", &["phiz-synth"]),
    ("phiz-eval", &[]),
    ("phiz-train", &[]),
    (
        "phiz-recipes",
        &[
            "phiz-kernels",
            "phiz-mining",
            "phiz-losses",
            "phiz-backbones",
            "phiz-pretrain",
            "phiz-tasks",
            "phiz-disentangle",
            "phiz-synth",
            "phiz-data",
            "phiz-eval",
            "phiz-train",
        ],
    ),
    (
        "phiz",
        &[
            "phiz-kernels",
            "phiz-mining",
            "phiz-losses",
            "phiz-backbones",
            "phiz-disentangle",
            "phiz-pretrain",
            "phiz-tasks",
            "phiz-synth",
            "phiz-data",
            "phiz-eval",
            "phiz-train",
            "phiz-recipes",
        ],
    ),
    (
        "xtask",
        &[
            "phiz-kernels",
            "phiz-recipes",
            "phiz-data",
            "phiz-eval",
            "phiz-train",
        ],
    ),
    // Not a room but a guest: an example crate that sees what a user sees.
    ("outside-user", &["phiz-losses", "phiz-mining"]),
];

/// Packages from outside that only some crates may use.
const RESERVED: &[(&str, &[&str])] = &[
    ("anyhow", &["xtask"]),
    ("clap", &["xtask"]),
    ("indicatif", &["xtask"]),
    ("ctrlc", &["xtask"]),
];

/// Packages some crates may never use.
const FORBIDDEN: &[(&str, &[&str])] = &[("phiz-synth", &["candle-core", "candle-nn"])];

/// Runs every check in turn and stops at the first that fails.
pub fn run(args: &CheckArgs) -> Result<()> {
    let root = workspace_root()?;
    let steps: &[(&str, &[&str])] = &[
        ("format", &["fmt", "--all", "--check"]),
        (
            "lints",
            &[
                "clippy",
                "--release",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
        ),
        (
            "documentation",
            &["doc", "--release", "--workspace", "--no-deps"],
        ),
        ("tests", &["test", "--release", "--workspace"]),
    ];
    step("rooms", || rooms(&root))?;
    for (name, words) in steps {
        step(name, || cargo(&root, words))?;
    }
    if !args.no_run {
        step("a small training run and its evaluation", || walk(&root))?;
    }
    eprintln!("check: all passed");
    Ok(())
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("check: {name}");
    let start = Instant::now();
    work().with_context(|| format!("check failed: {name}"))?;
    eprintln!(
        "check: {name}: passed in {:.0} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// The README's main command in a small setting, then `eval` on its run, in a folder that is
/// removed afterwards.
fn walk(root: &Path) -> Result<()> {
    let run = root.join("target").join("check-run");
    if run.exists() {
        std::fs::remove_dir_all(&run).with_context(|| format!("cannot clear {}", run.display()))?;
    }
    let folder = run.to_string_lossy().into_owned();
    let this = |words: &[&str]| -> Result<Vec<u8>> {
        eprintln!("check: cargo xtask {}", words.join(" "));
        // By way of cargo, as a person types it: building the tests may have replaced this very file.
        let output = Command::new(cargo_program())
            .current_dir(root)
            .arg("xtask")
            .args(words)
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cargo xtask {}: {}", words.join(" "), output.status);
        }
        Ok(output.stdout)
    };
    this(&[
        "train",
        "--set",
        "data.source=synth:identities=12,per_expression=2",
        "--set",
        "train.epochs=4",
        "--out",
        &folder,
    ])?;
    let printed = this(&["eval", &folder, "--json"])?;
    let value: Value = serde_json::from_slice(&printed)
        .context("eval --json: standard output is not one JSON object")?;
    let accuracy = value["metrics"]["accuracy"]
        .as_f64()
        .context("eval --json: no metrics.accuracy")?;
    if !(0.0..=1.0).contains(&accuracy) {
        bail!("eval --json: accuracy {accuracy} is not a share");
    }
    for file in [
        "config.toml",
        "model.safetensors",
        "metrics.jsonl",
        "eval.json",
        "report.html",
    ] {
        if !run.join(file).is_file() {
            bail!("{}: the run left no {file}", run.display());
        }
    }
    std::fs::remove_dir_all(&run).with_context(|| format!("cannot remove {}", run.display()))
}

/// The invariants of `ARCHITECTURE.md`, read from `cargo metadata`.
fn rooms(root: &Path) -> Result<()> {
    let output = Command::new(cargo_program())
        .current_dir(root)
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", output.status);
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata: not JSON")?;
    let faults = room_faults(&metadata);
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    Ok(())
}

fn room_faults(metadata: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, may_see)) = ROOMS.iter().find(|(room, _)| *room == name) else {
            faults.push(format!(
                "{name}: not a room of ARCHITECTURE.md; add it there and to `check`"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let sees = dependency["name"].as_str().unwrap_or_default();
            let for_tests = dependency["kind"].as_str() == Some("dev");
            let ours = sees == "phiz" || sees.starts_with("phiz-");
            if ours && !for_tests && !may_see.contains(&sees) {
                faults.push(format!("{name} may not depend on {sees}"));
            }
            let reserved = RESERVED.iter().find(|(outside, _)| *outside == sees);
            if reserved.is_some_and(|(_, users)| !users.contains(&name)) && !for_tests {
                faults.push(format!(
                    "{name} may not use {sees}: it belongs to the command line"
                ));
            }
            let forbidden = FORBIDDEN.iter().find(|(room, _)| *room == name);
            if forbidden.is_some_and(|(_, packages)| packages.contains(&sees)) {
                faults.push(format!("{name} may not use {sees}"));
            }
        }
    }
    faults
}

fn cargo(root: &Path, words: &[&str]) -> Result<()> {
    let status = Command::new(cargo_program())
        .current_dir(root)
        .args(words)
        .env("RUSTDOCFLAGS", "-D warnings")
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("cargo {}: {status}", words.join(" "));
    }
    Ok(())
}

fn cargo_program() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_string())
}

fn workspace_root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .map(Path::to_path_buf)
        .context("xtask lies outside a workspace")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::room_faults;

    #[test]
    fn a_crate_that_looks_into_a_forbidden_room_is_named() {
        let metadata = json!({"packages": [
            {"name": "phiz-losses", "dependencies": [
                {"name": "phiz-kernels", "kind": null},
                {"name": "phiz-data", "kind": null},
                {"name": "anyhow", "kind": null},
            ]},
            {"name": "phiz-synth", "dependencies": [{"name": "candle-core", "kind": null}]},
            {"name": "phiz-eval", "dependencies": [{"name": "phiz-data", "kind": "dev"}]},
            {"name": "stray", "dependencies": []},
        ]});
        assert_eq!(
            room_faults(&metadata),
            [
                "phiz-losses may not depend on phiz-data",
                "phiz-losses may not use anyhow: it belongs to the command line",
                "phiz-synth may not use candle-core",
                "stray: not a room of ARCHITECTURE.md; add it there and to `check`",
            ]
        );
    }
}
