//! Runs from the command line: what they leave behind, the same seed twice, killed and resumed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{command, ok, refused, small, train_small};

#[test]
fn a_run_is_a_folder_that_can_be_judged_embedded_and_trained_again() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    train_small(here, &["--out", "run"]);
    let run = here.join("run");
    for file in [
        "config.toml",
        "classes.json",
        "model.safetensors",
        "metrics.jsonl",
        "eval.json",
        "report.html",
    ] {
        assert!(run.join(file).is_file(), "{file}");
    }
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(
        page.contains("endered"),
        "a report on rendered faces says so"
    );

    let printed = ok(here, &["eval", "run", "--json"]);
    let verdict: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(verdict["protocol"]["data"]["rendered"], true);
    assert!(verdict["metrics"]["accuracy"].as_f64().unwrap() <= 1.0);
    assert!(verdict["metrics"]["auc"].as_f64().unwrap() <= 1.0);

    ok(
        here,
        &[
            "embed",
            "run",
            "--data",
            "synth:identities=2,per_expression=1,size=32",
            "--out",
            "e.safetensors",
        ],
    );
    let printed = ok(
        here,
        &[
            "eval",
            "--embeddings",
            "e.safetensors",
            "--protocol",
            "verification-all-pairs",
            "--json",
        ],
    );
    let verdict: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert!(verdict["metrics"]["eer"].as_f64().unwrap() <= 1.0);

    // The configuration is complete: it makes the same run again.
    ok(
        here,
        &["train", "--config", "run/config.toml", "--out", "again"],
    );
    assert_eq!(
        fs::read(run.join("model.safetensors")).unwrap(),
        fs::read(here.join("again/model.safetensors")).unwrap()
    );
    let error = refused(
        here,
        &["train", "--config", "run/config.toml", "--out", "run"],
    );
    assert!(error.contains("run: not empty"), "{error}");
}

#[test]
fn every_recipe_trains() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    for recipe in [
        "softmax",
        "triplet",
        "npair",
        "coupled",
        "tuplet-fixed",
        "tuplet-one-branch",
    ] {
        let mut words = vec![
            recipe,
            "--out",
            recipe,
            "--set",
            "train.epochs=1",
            "--set",
            "train.warmup_epochs=0",
        ];
        words.extend([
            "--set",
            "sampling.images=14",
            "--set",
            "sampling.per_class=2",
        ]);
        train_small(here, &words);
        assert!(here.join(recipe).join("report.html").is_file());
    }
    ok(
        here,
        &[
            "train",
            "identity",
            "--data",
            "synth:identities=6,per_expression=1,size=32",
            "--set",
            "image.size=32",
            "--set",
            "model.width=0.0625",
            "--set",
            "train.epochs=2",
            "--set",
            "train.warmup_epochs=0",
            "--set",
            "sampling.images=20",
            "--out",
            "identity",
        ],
    );
    assert!(here.join("identity/report.html").is_file());
}

#[test]
fn killed_at_random_points_and_resumed_ends_bit_equal() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    train_small(here, &["--out", "whole"]);
    let whole = fs::read(here.join("whole/model.safetensors")).unwrap();

    let mut child = command(here)
        .args(small(&["--out", "killed"]))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Five times at points that the clock chooses, as soon as there is something to resume.
    for round in 0..5u64 {
        let started = Instant::now();
        while !has_checkpoint(&here.join("killed")) && started.elapsed() < Duration::from_secs(60) {
            if child.try_wait().unwrap().is_some() {
                break;
            }
            sleep(Duration::from_millis(2));
        }
        sleep(Duration::from_millis(37 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        child = command(here)
            .args(["train", "--resume", "killed"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(
        fs::read(here.join("killed/model.safetensors")).unwrap(),
        whole
    );
    let steps = |run: &str| -> Vec<u64> {
        let text = fs::read_to_string(here.join(run).join("metrics.jsonl")).unwrap();
        let step = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["step"]
                .as_u64()
                .unwrap()
        };
        text.lines().map(step).collect()
    };
    assert_eq!(
        steps("killed"),
        steps("whole"),
        "no step is missing from the log or in it twice"
    );
}

fn has_checkpoint(run: &Path) -> bool {
    run.join("checkpoint").join("latest.json").is_file()
}
