//! Pre-training runs as a library's user makes them: interrupted anywhere and resumed, they end bit-equal; what they log;
//! whom they alarm.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use phiz_recipes::Outcome;
use phiz_recipes::pretrain::{self, PretrainConfig, PretrainRun, judge, named, resume, train};
use phiz_train::{Observer, Progress};

/// Twelve steps of seven images: prototypes frozen for two, the queue filled from step 2 and in use from step 4.
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
    "train.epochs=3",
    "train.log_every=2",
    "probe.every=1",
];

fn small(recipe: &str, words: &[&str]) -> PretrainConfig {
    let fitting = SMALL.iter().filter(|word| {
        recipe == "swav" || !(word.starts_with("views.small") || word.starts_with("method.queue"))
    });
    named(recipe)
        .unwrap()
        .set_all(fitting.chain(words).copied())
        .unwrap()
}

/// Asks the run to stop after a step.
struct StopAfter<'a>(u64, &'a AtomicBool);

impl Observer for StopAfter<'_> {
    fn step(&mut self, progress: &Progress<'_>) {
        if progress.step == self.0 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

fn finished(outcome: Outcome<PretrainRun>) -> PretrainRun {
    match outcome {
        Outcome::Finished(run) => *run,
        Outcome::Interrupted { step } => panic!("interrupted after {step}"),
    }
}

fn whole(config: &PretrainConfig, out: &Path) -> PretrainRun {
    let stop = AtomicBool::new(false);
    finished(train(config, out, "cpu", &stop, &mut ()).unwrap())
}

fn model(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("model.safetensors")).unwrap()
}

/// The log without what the clock says.
fn log(folder: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let mut entry: serde_json::Value = serde_json::from_str(line).unwrap();
            entry.as_object_mut().unwrap().remove("images_per_s");
            entry
        })
        .collect()
}

#[test]
fn interrupted_in_any_phase_of_the_queue_and_resumed_ends_bit_equal() {
    let folder = tempfile::tempdir().unwrap();
    let config = small("swav", &[]);
    let straight = folder.path().join("whole");
    whole(&config, &straight);
    // Prototypes frozen, queue half full, queue just full, queue in use.
    for step in [1, 3, 4, 9] {
        let out = folder.path().join(format!("stopped-{step}"));
        let stop = AtomicBool::new(false);
        let outcome = train(&config, &out, "cpu", &stop, &mut StopAfter(step, &stop)).unwrap();
        assert!(matches!(outcome, Outcome::Interrupted { step: at } if at == step));
        let stop = AtomicBool::new(false);
        finished(resume(&out, "cpu", &stop, &mut ()).unwrap());
        assert_eq!(model(&out), model(&straight), "stopped after step {step}");
        assert_eq!(log(&out), log(&straight), "stopped after step {step}");
    }
}

#[test]
fn every_line_of_the_log_has_the_monitors_and_probes_come_when_they_should() {
    let folder = tempfile::tempdir().unwrap();
    let run = whole(&small("swav", &[]), &folder.path().join("run"));
    let entries = log(&run.folder);
    assert_eq!(entries.len(), 6);
    for entry in &entries {
        for name in [
            "spread",
            "prediction_entropy",
            "choice_entropy",
            "loss_over_chance",
            "marginal_error",
        ] {
            assert!(entry[name].as_f64().unwrap().is_finite(), "{name}: {entry}");
        }
    }
    assert_eq!(entries[0]["queue_in_use"], 0.0);
    assert_eq!(entries[5]["queue_in_use"], 1.0);
    // Four steps an epoch; not after the last, which is judged anyway.
    let probed: Vec<u64> = entries
        .iter()
        .filter(|entry| entry.get("knn_identity").is_some())
        .map(|entry| entry["step"].as_u64().unwrap())
        .collect();
    assert_eq!(probed, [4, 8]);

    let verdict = judge(&run, None, "cpu").unwrap();
    let metrics = verdict.metrics();
    for name in [
        "knn_identity",
        "linear_expression",
        "initialised_linear_identity",
        "pixels_knn_expression",
    ] {
        assert!((0.0..=1.0).contains(&metrics[name]), "{name}");
    }
    // The same again, from the folder alone.
    let opened = PretrainRun::open(&run.folder).unwrap();
    assert_eq!(judge(&opened, None, "cpu").unwrap().metrics(), metrics);
    // The weights probed by their file are those of the run.
    let probed = pretrain::probe(&run.config, &run.folder, "cpu").unwrap();
    assert_eq!(probed["trunk"].knn_identity, metrics["knn_identity"]);
}

/// Collects messages.
struct Heard(Vec<String>);

impl Observer for Heard {
    fn message(&mut self, text: &str) {
        self.0.push(text.to_string());
    }
}

#[test]
fn a_run_that_cannot_learn_raises_an_alarm_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    // A rate of 0: the loss stays where it is, at that of chance for a temperature this high.
    let config = small(
        "swav",
        &[
            "train.lr=0",
            "train.final_lr=0",
            "method.temperature=100",
            "train.epochs=140",
            "probe.every=0",
            "views.small=0",
            "train.checkpoint_every=1000",
            "train.warmup_epochs=0",
        ],
    );
    let stop = AtomicBool::new(false);
    let mut heard = Heard(Vec::new());
    finished(
        train(
            &config,
            &folder.path().join("run"),
            "cpu",
            &stop,
            &mut heard,
        )
        .unwrap(),
    );
    let alarms: Vec<&String> = heard
        .0
        .iter()
        .filter(|text| text.starts_with("alarm: "))
        .collect();
    assert!(
        alarms
            .iter()
            .any(|text| text.contains("does not leave that of chance") && text.contains("epsilon")),
        "{alarms:?}"
    );
}

#[test]
fn every_method_trains_and_resumes_bit_equal() {
    let folder = tempfile::tempdir().unwrap();
    for recipe in [
        "simclr",
        "byol",
        "vicreg",
        "barlow-twins",
        "mae",
        "pretrain-identity",
    ] {
        let words = ["train.epochs=1", "probe.every=0", "model.depth=1"];
        let config = small(recipe, &words);
        let straight = folder.path().join(recipe);
        let run = whole(&config, &straight);
        assert!(judge(&run, None, "cpu").unwrap().metrics()["knn_identity"] <= 1.0);
        let out = folder.path().join(format!("{recipe}-stopped"));
        let stop = AtomicBool::new(false);
        train(&config, &out, "cpu", &stop, &mut StopAfter(2, &stop)).unwrap();
        let stop = AtomicBool::new(false);
        finished(resume(&out, "cpu", &stop, &mut ()).unwrap());
        assert_eq!(model(&out), model(&straight), "{recipe}");
    }
    // Margin heads, wrong labels and uneven people.
    for words in [
        ["method.head=arcface", "data.label_noise=0.3"],
        ["method.head=cosface", "data.imbalance=3"],
    ] {
        let mut all = vec!["train.epochs=1", "train.batch=6", "probe.every=0"];
        all.extend(words);
        whole(
            &small("pretrain-identity", &all),
            &folder.path().join(words[0]),
        );
    }
}

#[test]
fn settings_that_make_no_sense_are_named_with_what_would() {
    let refused = |recipe: &str, words: &str| -> String {
        named(recipe)
            .unwrap()
            .set_all(words.split_whitespace())
            .unwrap_err()
            .to_string()
    };
    let text = refused("swav", "method.prototypes=3000");
    for word in [
        "method.prototypes",
        "3000",
        "batch of 64",
        "method.queue = 2944",
    ] {
        assert!(text.contains(word), "{text}");
    }
    assert!(refused("swav", "method.queue=100").contains("multiple of `train.batch`"));
    assert!(refused("simclr", "views.small=2").contains("views.small = 0"));
    assert!(refused("swav", "train.larc=true").contains("train.larc"));
    assert!(refused("swav", "views.large_scale=[0.9,0.2]").contains("scale"));
    assert!(refused("mae", "model.trunk=resnet18").contains("vit-tiny"));
    assert!(refused("swav", "model.trunk=vit-tiny views.small=2").contains("views.small = 0"));
    assert!(refused("mae", "model.patch=7").contains("does not divide"));
    assert!(refused("swav", "data.train_fraction=1").contains("probe.every = 0"));
    assert!(refused("swav", "data.non_faces=2").contains("0 to 1"));
    assert!(refused("swav", "method.prototype=5").contains("method.prototypes"));
    assert!(refused("byol", "method.momentum=1.5").contains("0 to 1"));
}
