//! A run in a process of its own, killed without warning again and again, ends as one that was not.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are not recognised as tests"
)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use candle::{DType, Device, Tensor};
use candle_nn::Module;
use phiz_train::{
    Checkpoint, FitConfig, OptimizerConfig, Outcome, Parameters, StepOutput, Streams, fit,
};
use rand::RngExt;

/// Set in the child process: the run's folder.
const RUN: &str = "PHIZ_TRAIN_TEST_RUN";

/// Trains to the end from wherever the folder's run is, saving after every step.
fn train(folder: &Path) {
    let parameters = Parameters::new(Streams::new(11), DType::F32, &Device::Cpu);
    let layer = candle_nn::linear(64, 64, parameters.var_builder().pp("layer")).unwrap();
    let config = FitConfig {
        total_steps: 150,
        base_lr: 0.01,
        optimizer: OptimizerConfig::adamw(),
        checkpoint_every: 1,
        log_every: 3,
        run_dir: Some(folder.to_path_buf()),
        ..FitConfig::default()
    };
    let mut objective = |step| -> candle::Result<StepOutput> {
        let mut rng = parameters.streams().rng("batch", step);
        let x: Vec<f32> = (0..64 * 8).map(|_| rng.random()).collect();
        let x = Tensor::from_vec(x, (8, 64), &Device::Cpu)?;
        let loss = (layer.forward(&x)? - x.sin()?)?.sqr()?.mean_all()?;
        Ok(StepOutput {
            loss,
            metrics: vec![],
            samples: 8,
        })
    };
    let start = Checkpoint::latest(folder).unwrap();
    let stop = AtomicBool::new(false);
    let outcome = fit(
        &config,
        &parameters,
        start,
        &mut objective,
        &|_| vec![],
        &stop,
        &mut (),
    )
    .unwrap();
    assert_eq!(outcome, Outcome::Finished);
    parameters.save(&folder.join("model.safetensors")).unwrap();
}

/// The child's part of the test below; by itself it trains once in a folder of its own.
#[test]
fn child() {
    match std::env::var_os(RUN) {
        Some(folder) => train(Path::new(&folder)),
        None => {
            let folder = tempfile::tempdir().unwrap();
            train(folder.path());
            assert!(folder.path().join("model.safetensors").is_file());
        }
    }
}

#[test]
fn killed_at_random_points_and_resumed_is_bit_equal() {
    let unbroken = tempfile::tempdir().unwrap();
    train(unbroken.path());
    let broken = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["child", "--exact"])
        .env(RUN, broken.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut kills = 0;
    let mut rng = Streams::new(1).rng("kill", 0);
    let model = broken.path().join("model.safetensors");
    while !model.is_file() {
        let before = Checkpoint::latest(broken.path())
            .unwrap()
            .map_or(0, |checkpoint| checkpoint.step());
        let mut process = child.spawn().unwrap();
        // Wait until it got somewhere, so that every round makes progress, then a little longer.
        loop {
            let now = Checkpoint::latest(broken.path())
                .ok()
                .flatten()
                .map_or(0, |checkpoint| checkpoint.step());
            if now > before + 2 || process.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(0..5_000)));
        if kills < 6 && process.try_wait().unwrap().is_none() {
            process.kill().unwrap();
            kills += 1;
        }
        process.wait().unwrap();
    }
    assert!(kills >= 2, "the child was killed {kills} times only");
    assert!(
        std::fs::read(&model).unwrap()
            == std::fs::read(unbroken.path().join("model.safetensors")).unwrap()
    );
    let entries = |folder: &Path| {
        std::fs::read_to_string(folder.join("metrics.jsonl"))
            .unwrap()
            .lines()
            .count()
    };
    assert_eq!(entries(broken.path()), entries(unbroken.path()));
}
