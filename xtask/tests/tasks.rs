//! Runs of face tasks, from the command line.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;

use common::{ok, refused};

/// Fourteen images to train on and fourteen to judge, a head on a frozen trunk: a second.
const SMALL: &[&str] = &[
    "--set",
    "data.source=synth:identities=4,per_expression=1,size=40",
    "--set",
    "data.train_fraction=0.5",
    "--set",
    "image.size=40",
    "--set",
    "model.width=0.05",
    "--set",
    "model.mode=frozen",
    "--set",
    "task.stages=1",
    "--set",
    "task.channels=4",
    "--set",
    "task.min_steps=4",
    "--set",
    "task.checks=2",
    "--set",
    "train.epochs=1",
];

fn train<'a>(task: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["train", task], SMALL, more].concat()
}

#[test]
fn a_task_is_trained_judged_and_started_from() {
    let root = tempfile::tempdir().unwrap();
    let here = root.path();
    ok(here, &train("landmarks", &["--out", "first"]));
    for file in [
        "config.toml",
        "subset.json",
        "checks.jsonl",
        "model.safetensors",
        "eval.json",
        "report.html",
    ] {
        assert!(here.join("first").join(file).is_file(), "{file}");
    }
    let text = ok(here, &["eval", "first", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(value["metrics"]["nme"].as_f64().unwrap() > 0.0);
    assert_eq!(value["protocol"]["data"]["rendered"], true);
    assert_eq!(value["best_check"]["note"], "chosen on the judged images");
    // Other people, the same figures by name.
    let others = "synth:identities=2,per_expression=1,size=40,first_identity=900";
    let text = ok(
        here,
        &[
            "eval", "first", "--data", others, "--json", "--out", "others",
        ],
    );
    assert!(text.contains("\"nme\""), "{text}");
    // A file that names its recipe, and a trunk from the run before.
    let config = "recipe = \"action-units\"\n[model]\ninit = \"first\"\n";
    fs::write(here.join("mine.toml"), config).unwrap();
    let words = [
        &["train", "--config", "mine.toml", "--out", "second"],
        SMALL,
    ]
    .concat();
    ok(here, &words);
    let list = ok(here, &["train", "--list"]);
    assert!(list.contains("face3d") && list.contains("swav"), "{list}");
}

#[test]
fn what_cannot_be_is_one_line() {
    let root = tempfile::tempdir().unwrap();
    let here = root.path();
    let line = refused(here, &train("landmarks", &["--set", "task.head=dense"]));
    assert!(line.contains("`task.head`"), "{line}");
    let line = refused(here, &train("affect", &["--set", "model.init=nowhere"]));
    assert!(line.contains("nowhere"), "{line}");
    let line = refused(here, &train("face3d", &["--set", "data.fraction=7"]));
    assert!(line.contains("`data.fraction` is 7"), "{line}");
    let render = [
        "data", "render", "--out", "faces", "--count", "28", "--size", "40",
    ];
    ok(here, &render);
    let line = refused(
        here,
        &train("landmarks", &["--set", "data.source=folder:faces"]),
    );
    assert!(line.contains("no label \"landmarks\""), "{line}");
    assert!(!here.join("runs").exists(), "a refused run leaves nothing");
    let words = ["reproduce", "few-shot-small", "--trunk", "x=nowhere"];
    let line = refused(here, &words);
    assert!(line.contains("nowhere: no such trunk"), "{line}");
}
