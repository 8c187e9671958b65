//! Disentangling runs: every mode, names that are wrong, games that diverge, runs that are interrupted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use phiz_recipes::Outcome;
use phiz_recipes::disentangle::{self, DisentangleConfig, DisentangleRun};
use phiz_train::{Observer, Progress};
use serde_json::Value;

/// Faces of 32 pixels; expression is learned and the light taken out, or what `words` say.
fn small(words: &[&str]) -> phiz_recipes::Result<DisentangleConfig> {
    let own = [
        "data.source=synth:identities=10,per_expression=1,size=32,lighting=0.9",
        "data.target=expression",
        "data.remove=[\"light\"]",
        "data.train_fraction=0.5",
        "data.workers=1",
        "model.widths=[4,8]",
        "model.features=16",
        "model.d_dim=8",
        "model.l_dim=4",
        "model.classifier_hidden=[8]",
        "model.adversary_hidden=[8]",
        "model.decoder_widths=[8,4]",
        "game.adversary_turns=2",
        "game.warmup=1",
        "game.ramp=2",
        "train.turns=5",
        "train.batch=16",
        "train.checkpoint_every=4",
        "train.log_every=1",
        "eval.probe_rows=40",
    ];
    DisentangleConfig::named("disentangle-faces")?.set_all(own.iter().chain(words).copied())
}

fn train(config: &DisentangleConfig, out: &Path) -> DisentangleRun {
    let stop = AtomicBool::new(false);
    match disentangle::train(config, out, "cpu", &stop, &mut ()).unwrap() {
        Outcome::Finished(run) => *run,
        Outcome::Interrupted { step } => panic!("interrupted at {step}"),
    }
}

fn refused(words: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let stop = AtomicBool::new(false);
    let found =
        small(words).and_then(|config| disentangle::train(&config, &out, "cpu", &stop, &mut ()));
    let Err(error) = found else {
        panic!("{words:?} was taken")
    };
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn every_mode_trains_and_is_judged() {
    let folder = tempfile::tempdir().unwrap();
    let modes: &[(&str, &[&str])] = &[
        ("full", &[]),
        ("mine", &["game.information=mine"]),
        ("tuplet", &["game.task=tuplet", "train.batch=24"]),
        (
            "trunks",
            &[
                "model.separate_trunk=true",
                "model.halving=stride",
                "model.doubling=transposed",
            ],
        ),
        ("uniform", &["game.mode=uniform", "game.teach=false"]),
        ("information", &["game.mode=information"]),
        (
            "reconstruction",
            &["game.mode=reconstruction", "game.ssim=0.5"],
        ),
        ("classifier", &["game.mode=classifier"]),
        ("reversal", &["game.mode=reversal"]),
        ("uai", &["game.mode=uai"]),
        ("given-class", &["game.given_class=true"]),
        (
            "given-class-number",
            &[
                "game.given_class=true",
                "data.remove=[\"light\", \"factor.yaw\"]",
            ],
        ),
    ];
    for (name, words) in modes {
        let out = folder.path().join(name);
        let run = train(&small(words).unwrap(), &out);
        let verdict = disentangle::judge(&run, "cpu").unwrap();
        for metric in [
            "accuracy_test",
            "light_from_d",
            "light_from_d_leakage",
            "expression_from_d",
        ] {
            let value = verdict.metrics.get(metric).unwrap();
            assert!((-1.0..=1.0).contains(value), "{name} {metric}: {value}");
        }
        let decodes = !["classifier", "reversal"].contains(name);
        assert_eq!(
            verdict.metrics.contains_key("light_from_l"),
            decodes,
            "{name}"
        );
        verdict.write(&out).unwrap();
        let page = fs::read_to_string(out.join("report.html")).unwrap();
        assert!(page.contains("Rendered faces."), "{name}");
        assert_eq!(page.contains("Swapped"), decodes, "{name}");
        // Each player's loss and gradient is in the log.
        let log = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let mut wanted = vec!["\"accuracy\"", "grad_norm.trunk", "grad_norm.classifier"];
        match *name {
            "classifier" | "reconstruction" => {}
            "uai" => wanted.extend(["d_from_l", "grad_norm.adversary", "adversary_loss"]),
            "reversal" => wanted.extend(["light_from_d_accuracy", "grad_norm.adversary"]),
            _ => wanted.extend([
                "light_from_d_accuracy",
                "class_from_l_accuracy",
                "grad_norm.adversary",
            ]),
        }
        for word in wanted {
            assert!(log.contains(word), "{name}: no {word} in {log}");
        }
        if name.starts_with("given-class") {
            let factors = fs::read_to_string(out.join("factors.json")).unwrap();
            let factors: Value = serde_json::from_str(&factors).unwrap();
            for factor in factors.as_array().unwrap() {
                by_class_agrees_with_the_whole(factor);
            }
        }
        if *name == "full" {
            let table =
                disentangle::embed(&run, "synth:identities=2,per_expression=1,size=32", "cpu");
            let table = table.unwrap();
            assert_eq!((table.len(), table.dim()), (14, 8));
            assert_eq!(table.labels("light").unwrap().len(), 14);
            assert_eq!(table.factors()["l3"].len(), 14);
        }
    }
}

/// All classes have as many images, so that the mean over classes is that of the training set.
fn by_class_agrees_with_the_whole(factor: &Value) {
    let rows: Vec<Vec<f64>> = serde_json::from_value(factor["by_class"].clone()).unwrap();
    assert_eq!(rows.len(), 7);
    let mean = |at: usize| rows.iter().map(|row| row[at]).sum::<f64>() / 7.;
    if let Some(prior) = factor["values"]["categorical"]["prior"].as_array() {
        for (at, share) in prior.iter().enumerate() {
            assert!((mean(at) - share.as_f64().unwrap()).abs() < 1e-9);
        }
    } else {
        // Standardised: mean 0 and mean square 1.
        assert!(mean(0).abs() < 1e-4, "{rows:?}");
        let square = rows.iter().map(|row| row[0] * row[0] + row[1].exp());
        let square = square.sum::<f64>() / 7.;
        assert!((square - 1.).abs() < 0.02, "{square}");
    }
}

#[test]
fn new_identities_are_compared_across_states() {
    let folder = tempfile::tempdir().unwrap();
    let config = small(&[
        "data.target=identity",
        "data.train_states=[\"light=usual|frontal|left|dim\"]",
        "data.test_states=[\"light=right|top|below|coloured\"]",
        "data.keep=[\"expression\"]",
    ])
    .unwrap();
    let run = train(&config, &folder.path().join("run"));
    let verdict = disentangle::judge(&run, "cpu").unwrap();
    for metric in [
        "auc",
        "auc across light",
        "eer across light",
        "expression_from_d",
        "identity_from_l",
    ] {
        assert!(
            verdict.metrics.contains_key(metric),
            "{metric}: {:?}",
            verdict.metrics
        );
    }
    // All eight lights are asked for, though training knew four.
    assert!((verdict.metrics["light_from_d_chance"] - 0.125).abs() < 0.02);
}

#[test]
fn names_that_are_wrong_are_told() {
    let text = refused(&["data.remove=[\"ligth\"]"]);
    assert!(
        text.contains("`ligth`") && text.contains("did you mean `light`?"),
        "{text}"
    );
    assert!(
        text.contains("disguise") && text.contains("numbers"),
        "{text}"
    );
    let text = refused(&["data.remove=[\"light\"]", "data.keep=[\"light\"]"]);
    assert!(
        text.contains("in `data.remove` and in `data.keep`"),
        "{text}"
    );
    let text = refused(&["data.remove=[\"expression\"]"]);
    assert!(text.contains("which is what is learned"), "{text}");
    let text = refused(&["game.given_class=true", "game.mode=uai"]);
    assert!(text.contains("nobody asks d"), "{text}");
    let text = refused(&["game.given_class=true", "game.information=mine"]);
    assert!(text.contains("expected \"club\""), "{text}");
    let text = refused(&["eval.parts=[\"a=orl\", \"a=orl\"]"]);
    assert!(text.contains("no other part has"), "{text}");
    let text = refused(&["data.remove=[]"]);
    assert!(text.contains("nothing to remove"), "{text}");
    let text = refused(&["data.train_states=[\"light=left\"]"]);
    assert!(
        text.contains("factor `light` has one value (left)"),
        "{text}"
    );
    let text = refused(&["data.remove=[\"makeup\"]"]);
    assert!(
        text.contains("factor `makeup` has one value (none)"),
        "{text}"
    );
    let text = refused(&["data.train_states=[\"light=noon\"]"]);
    assert!(
        text.contains("no value `noon`") && text.contains("frontal"),
        "{text}"
    );
    let text = refused(&["data.remove=[\"light+makeup\"]"]);
    assert!(text.contains("yes-or-no"), "{text}");
    let text = refused(&["data.target=mood"]);
    assert!(text.contains("mood"), "{text}");
    let text = refused(&["game.mode=ful"]);
    assert!(text.contains("ful") && text.contains("full"), "{text}");
    let text = refused(&["game.adversary_turns=0", "game.teach=false"]);
    assert!(text.contains("would never learn"), "{text}");
    let text = refused(&["train.batch=4000"]);
    assert!(
        text.contains("`train.batch` is 4000; there are 35 images"),
        "{text}"
    );
}

#[test]
fn all_means_every_class_that_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let config = small(&[
        "data.source=synth:identities=10,per_expression=1,size=32,lighting=0.9,makeup=0.5,disguise=0.9",
        "data.remove=[\"all\", \"factor.yaw\"]",
        "data.keep=[\"disguise\"]",
        "train.turns=1",
    ])
    .unwrap();
    let run = train(&config, &folder.path().join("run"));
    let names: Vec<&str> = run.factors.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["light", "makeup", "factor.yaw"]);
    let verdict = disentangle::judge(&run, "cpu").unwrap();
    assert!(
        verdict.metrics.contains_key("factor.yaw_from_d_r2"),
        "{:?}",
        verdict.metrics
    );
    assert!(verdict.metrics.contains_key("disguise_from_d"));
}

#[test]
fn a_game_that_diverges_is_stopped_with_the_remedy() {
    for mode in ["full", "reversal"] {
        let mode = format!("game.mode={mode}");
        let text = refused(&[
            &mode,
            "game.warmup=0",
            "game.alpha=100",
            "train.adversary_lr=30",
            "train.clip_norm=0",
            "train.turns=300",
        ]);
        assert!(
            text.contains("diverges") && text.contains("train.adversary_lr"),
            "{text}"
        );
    }
}

/// Asks to stop once a number of steps is done.
struct StopAt<'a> {
    step: u64,
    stop: &'a AtomicBool,
}

impl Observer for StopAt<'_> {
    fn step(&mut self, progress: &Progress<'_>) {
        if progress.step == self.step {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_run_that_is_interrupted_or_killed_ends_bit_equal() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    for (name, words) in [
        ("full", &["game.information=mine"][..]),
        ("uai", &["game.mode=uai"][..]),
        ("given-class", &["game.given_class=true"][..]),
    ] {
        let config = small(words).unwrap();
        let whole = here.join(format!("{name}-whole"));
        train(&config, &whole);
        let expected = fs::read(whole.join("model.safetensors")).unwrap();
        // 15 steps: two turns of the adversaries, one of the main players, five times. Checkpoints after 4, 8, 12.
        for (at, killed) in [(1, false), (7, false), (9, true)] {
            let out = here.join(format!("{name}-{at}"));
            let stop = AtomicBool::new(false);
            let mut watch = StopAt {
                step: at,
                stop: &stop,
            };
            let outcome = disentangle::train(&config, &out, "cpu", &stop, &mut watch).unwrap();
            assert!(matches!(outcome, Outcome::Interrupted { step } if step == at));
            if killed {
                // As if the process had died before it could save itself: only the checkpoint after step 8 is there.
                let checkpoints = out.join("checkpoint");
                fs::remove_file(checkpoints.join("step-0000000009.safetensors")).unwrap();
                fs::remove_file(checkpoints.join("latest.json")).unwrap();
            }
            let stop = AtomicBool::new(false);
            let outcome = disentangle::resume(&out, "cpu", &stop, &mut ()).unwrap();
            assert!(matches!(outcome, Outcome::Finished(_)));
            let found = fs::read(out.join("model.safetensors")).unwrap();
            assert!(found == expected, "{name} stopped at {at}");
        }
    }
}
