//! Pre-training from the command line: what a run leaves behind, and that it is judged, embedded and started from.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;

use common::{ok, refused};

const SMALL: &[&str] = &[
    "data.source=synth:identities=6,per_expression=1,size=32",
    "data.train_fraction=0.67",
    "views.large_size=32",
    "views.small_size=16",
    "model.width=0.0625",
    "method.hidden=16",
    "method.dim=8",
    "method.prototypes=12",
    "method.queue=14",
    "method.queue_from=0.5",
    "method.freeze_steps=2",
    "train.batch=7",
    "train.epochs=2",
    "train.log_every=1",
];

fn words<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let set = SMALL.iter().flat_map(|word| ["--set", word]);
    first
        .iter()
        .copied()
        .chain(set)
        .chain(more.iter().copied())
        .collect()
}

#[test]
fn a_small_run_is_judged_embedded_and_trained_again() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    ok(here, &words(&["train", "swav"], &["--out", "run"]));
    let run = here.join("run");
    for file in [
        "config.toml",
        "model.safetensors",
        "metrics.jsonl",
        "eval.json",
        "report.html",
    ] {
        assert!(run.join(file).is_file(), "{file}");
    }
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    for word in [
        "endered",
        "Monitors of collapse",
        "the trunk as initialised",
    ] {
        assert!(page.contains(word), "{word}");
    }
    let printed = ok(here, &["eval", "run", "--json"]);
    let verdict: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(verdict["protocol"]["data"]["rendered"], true);
    for name in [
        "knn_identity",
        "linear_expression",
        "initialised_knn_identity",
        "pixels_knn_identity",
    ] {
        assert!(verdict["metrics"][name].as_f64().unwrap() <= 1.0, "{name}");
    }
    let data = "synth:identities=2,per_expression=1,size=32";
    ok(
        here,
        &["embed", "run", "--data", data, "--out", "e.safetensors"],
    );
    let protocol = [
        "eval",
        "--embeddings",
        "e.safetensors",
        "--protocol",
        "verification-all-pairs",
        "--json",
    ];
    ok(here, &protocol);

    ok(
        here,
        &["train", "--config", "run/config.toml", "--out", "again"],
    );
    let model = |name: &str| fs::read(here.join(name).join("model.safetensors")).unwrap();
    assert_eq!(model("run"), model("again"));
    // Another run starts from its trunk.
    let from = [
        "--out",
        "next",
        "--set",
        "model.init=run",
        "--set",
        "train.epochs=1",
    ];
    ok(here, &words(&["train", "swav"], &from));
    assert_ne!(model("run"), model("next"));

    let error = refused(
        here,
        &["train", "--config", "run/config.toml", "--out", "run"],
    );
    assert!(error.contains("run: not empty"), "{error}");
    let error = refused(here, &["eval", "run", "--protocol", "retrieval"]);
    assert!(error.contains("frozen probes"), "{error}");
}

#[test]
fn the_list_names_the_recipes_and_their_settings_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let list = ok(here, &["train", "--list"]);
    for name in [
        "swav",
        "simclr",
        "byol",
        "vicreg",
        "barlow-twins",
        "pretrain-identity",
    ] {
        assert!(list.contains(name), "{name}");
        let printed = ok(here, &["train", name, "--print-config"]);
        assert!(
            printed.contains(&format!("recipe = \"{name}\"")),
            "{printed}"
        );
    }
    let error = refused(here, &["train", "swav", "--set", "method.prototypes=5000"]);
    assert!(error.contains("method.queue = "), "{error}");
    let error = refused(here, &["train", "swav", "--set", "method.epsilom=0.03"]);
    assert!(error.contains("method.epsilon"), "{error}");
    let error = refused(
        here,
        &words(
            &["train", "swav"],
            &[
                "--out",
                "x",
                "--set",
                "train.batch=70",
                "--set",
                "method.queue=0",
            ],
        ),
    );
    assert!(error.contains("train.batch"), "{error}");
    assert!(!here.join("x").exists(), "nothing is left behind");
}
