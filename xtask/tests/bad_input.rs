//! Bad input is normal input: one clear line, exit code 2, nothing half-written.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;

use common::{ok, refused, train_small};

/// A folder of two people with three rendered pictures each.
fn pictures(here: &Path) {
    ok(
        here,
        &[
            "data", "render", "--out", "rendered", "--count", "28", "--size", "32",
        ],
    );
    for person in ["a", "b"] {
        fs::create_dir_all(here.join("photos").join(person)).unwrap();
    }
    let mut files: Vec<_> = walk(&here.join("rendered"))
        .into_iter()
        .filter(|path| path.ends_with(".png"))
        .collect();
    files.sort();
    for (at, from) in files.iter().take(6).enumerate() {
        let person = if at < 3 { "a" } else { "b" };
        fs::copy(
            from,
            here.join("photos").join(person).join(format!("{at}.png")),
        )
        .unwrap();
    }
}

fn walk(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path.to_str().unwrap().to_string());
        }
    }
    found
}

#[test]
fn image_files_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    pictures(here);
    let train = [
        "train",
        "identity",
        "--data",
        "folder:photos",
        "--out",
        "run",
    ];

    let good = fs::read(here.join("photos/a/0.png")).unwrap();
    for (name, bytes) in [
        ("cut.png", &good[..good.len() / 2]),
        ("empty.png", &[][..]),
        ("text.png", &b"this is no picture"[..]),
        ("cut.jpg", &b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01"[..]),
    ] {
        let path = here.join("photos/a").join(name);
        fs::write(&path, bytes).unwrap();
        let error = refused(here, &train);
        assert!(error.contains(name), "{error}");
        let error = refused(here, &["data", "info", "folder:photos", "--json"]);
        assert!(error.contains(name), "{error}");
        fs::remove_file(path).unwrap();
    }
    assert!(!here.join("run").exists(), "nothing half-written");
}

#[test]
fn data_that_cannot_be_learned_from() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    pictures(here);

    fs::create_dir(here.join("nothing")).unwrap();
    let error = refused(
        here,
        &[
            "train",
            "identity",
            "--data",
            "folder:nothing",
            "--out",
            "run",
        ],
    );
    assert!(error.contains("nothing"), "{error}");

    fs::remove_dir_all(here.join("photos/b")).unwrap();
    let one = [
        "train",
        "identity",
        "--data",
        "folder:photos",
        "--set",
        "data.split=none",
        "--out",
        "run",
    ];
    let error = refused(here, &one);
    assert!(
        error.contains("1 class") && error.contains("at least two"),
        "{error}"
    );

    fs::write(
        here.join("photos/index.csv"),
        "path,identity\na/0.png,a\na/gone.png,b\n",
    )
    .unwrap();
    let error = refused(
        here,
        &[
            "train",
            "identity",
            "--data",
            "folder:photos",
            "--out",
            "run",
        ],
    );
    assert!(error.contains("gone.png"), "{error}");

    let error = refused(here, &["train", "--data", "sinth", "--out", "run"]);
    assert!(
        error.contains("sinth") && error.contains("synth"),
        "{error}"
    );
    let error = refused(here, &["data", "info", "synth:identitis=3"]);
    assert!(error.contains("identities"), "{error}");
    assert!(!here.join("run").exists(), "nothing half-written");
}

#[test]
fn words_that_mean_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let error = refused(here, &["train", "--set", "train.epoch=3"]);
    assert!(
        error.contains("nearest known one is `train.epochs`"),
        "{error}"
    );
    let error = refused(here, &["train", "tripet"]);
    assert!(error.contains("did you mean `triplet`?"), "{error}");
    let error = refused(here, &["eval", "no-such-run"]);
    assert!(error.contains("no-such-run"), "{error}");
    let error = refused(here, &["eval", "--embeddings", "none.safetensors"]);
    assert!(error.contains("none.safetensors"), "{error}");
    let error = refused(here, &["reproduce", "everything"]);
    assert!(error.contains("fer-ablation"), "{error}");
    if cfg!(not(feature = "cuda")) {
        let error = refused(here, &["train", "--device", "cuda"]);
        assert!(error.contains("`cuda` feature"), "{error}");
    }
    fs::write(
        here.join("recipe.toml"),
        "[train]\nlr = 0.1\nlearning_rat = 0.2\n",
    )
    .unwrap();
    let error = refused(here, &["train", "--config", "recipe.toml"]);
    assert!(
        error.contains("recipe.toml") && error.contains("train.learning_rat"),
        "{error}"
    );
    assert!(!here.join("runs").exists(), "nothing half-written");
}

#[test]
fn weights_of_another_network_and_folders_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    train_small(
        here,
        &[
            "--out",
            "run",
            "--set",
            "train.epochs=1",
            "--set",
            "train.warmup_epochs=0",
        ],
    );

    let config = fs::read_to_string(here.join("run/config.toml")).unwrap();
    fs::write(
        here.join("run/config.toml"),
        config.replace("width = 0.25", "width = 0.5"),
    )
    .unwrap();
    let error = refused(here, &["eval", "run"]);
    assert!(
        error.contains("backbone."),
        "names the first tensor that differs: {error}"
    );
    assert!(error.contains("model.safetensors"), "{error}");
    let error = refused(here, &["train", "--resume", "run"]);
    assert!(error.contains("checkpoint"), "{error}");

    // Permission bits do not stop the superuser; a file where the folder should be stops anybody.
    fs::write(here.join("file"), "").unwrap();
    let mut words = vec!["train"];
    words.extend(common::SMALL);
    words.extend(["--out", "file/run"]);
    let error = refused(here, &words);
    assert!(error.contains("file"), "{error}");
    let error = refused(here, &["data", "render", "--out", "run", "--count", "3"]);
    assert!(error.contains("run"), "{error}");
}

#[test]
fn embeddings_that_cannot_be_judged() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(
        here.join("short.safetensors"),
        [9, 0, 0, 0, 0, 0, 0, 0, b'{'],
    )
    .unwrap();
    let error = refused(
        here,
        &["eval", "--embeddings", "short.safetensors", "--json"],
    );
    assert!(error.contains("short.safetensors"), "{error}");
    fs::write(here.join("text.npy"), "hello").unwrap();
    let error = refused(here, &["eval", "--embeddings", "text.npy"]);
    assert!(error.contains("text.npy"), "{error}");
}

#[test]
fn a_loss_that_is_not_finite_names_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let mut words = vec!["train"];
    words.extend(common::SMALL);
    words.extend([
        "--set",
        "train.optimizer=sgd",
        "--set",
        "train.lr=1e6",
        "--set",
        "train.clip_norm=0",
    ]);
    words.extend([
        "--set",
        "train.warmup_epochs=0",
        "--set",
        "train.epochs=40",
        "--out",
        "run",
    ]);
    let error = refused(here, &words);
    assert!(
        error.contains("not finite") || error.contains("NaN") || error.contains("inf"),
        "{error}"
    );
    assert!(
        error.contains("step") && error.contains("p0"),
        "names samples: {error}"
    );
}

#[test]
fn what_is_said_twice() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    for recipe in ["tuplet", "swav", "landmarks", "disentangle"] {
        let train = ["train", recipe, "--print-config", "--data", "orl"];
        let error = refused(
            here,
            &[&train[..], &["--set", "data.source=mnist"]].concat(),
        );
        assert!(
            error.contains("`--data`") && error.contains("`--set data.source=mnist`"),
            "{error}"
        );
        let seeds = ["train", recipe, "--print-config", "--seed", "3", "--set"];
        let error = refused(here, &[&seeds[..], &["seed=4"]].concat());
        assert!(error.contains("`--seed`"), "{error}");
    }
    // Neither stands in the other's way.
    let printed = ok(
        here,
        &[
            "train",
            "--print-config",
            "--data",
            "orl",
            "--set",
            "seed=4",
        ],
    );
    assert!(printed.contains("source = \"orl\"") && printed.contains("seed = 4"));
}
