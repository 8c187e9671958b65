//! Disentangling from the command line: the smallest table on digits of our own making, and a run that is killed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{command, stderr};

/// Files of MNIST's names and sizes, in which digit k is a bar at the k-th place of a ring.
fn make_digits(cache: &Path) {
    let folder = cache.join("mnist");
    fs::create_dir_all(&folder).unwrap();
    for (half, count) in [("train", 60_000usize), ("t10k", 10_000)] {
        let labels: Vec<u8> = (0..count).map(|i| (i * 7 % 10) as u8).collect();
        let mut images = vec![0u8; count * 784];
        for (i, image) in images.chunks_mut(784).enumerate() {
            let angle = f64::from(labels[i]) * 0.628;
            let wave = (i % 13) as f64 * 0.05;
            for step in 0..8 {
                let r = 3. + f64::from(step) + wave;
                let (y, x) = (14. + r * angle.sin(), 14. + r * angle.cos());
                image[y as usize * 28 + x as usize] = 255;
                image[y as usize * 28 + x as usize + 1] = 200;
            }
        }
        let mut file = vec![0, 0, 8, 1];
        file.extend((count as u32).to_be_bytes());
        file.extend(&labels);
        fs::write(folder.join(format!("{half}-labels-idx1-ubyte")), file).unwrap();
        let mut file = vec![0, 0, 8, 3];
        for n in [count as u32, 28, 28] {
            file.extend(n.to_be_bytes());
        }
        file.extend(&images);
        fs::write(folder.join(format!("{half}-images-idx3-ubyte")), file).unwrap();
    }
}

fn here(folder: &Path) -> Command {
    let mut command = command(folder);
    command.env("PHIZ_CACHE", folder.join("cache"));
    command
}

/// Networks of a few channels and a few turns.
const TINY: &[&str] = &[
    "--set",
    "model.widths=[4,8,8]",
    "--set",
    "model.features=16",
    "--set",
    "model.adversary_hidden=[8]",
    "--set",
    "model.decoder_widths=[8,4,4]",
    "--set",
    "train.turns=8",
    "--set",
    "train.batch=16",
    "--set",
    "train.checkpoint_every=3",
    "--set",
    "train.log_every=1",
    "--set",
    "game.warmup=1",
    "--set",
    "game.ramp=2",
    "--set",
    "eval.images=60",
    "--set",
    "eval.probe_rows=60",
];

#[test]
fn the_digits_table_is_made_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    make_digits(&folder.path().join("cache"));
    let words = [
        "reproduce",
        "mnist-rot-minute",
        "--seeds",
        "1",
        "--json",
        "--out",
        "table",
    ];
    let table = || {
        let output = here(folder.path()).args(words).args(TINY).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let first = table();
    let rows = first["rows"].as_array().unwrap();
    let names: Vec<&str> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["full", "classifier", "uai"]);
    for row in rows {
        for metric in [
            "accuracy_seen",
            "accuracy_55",
            "accuracy_65",
            "angle_from_d",
            "accuracy_dilate4",
        ] {
            let mean = row["metrics"][metric]["mean"].as_f64().unwrap();
            assert!(
                (0. ..=1.).contains(&mean),
                "{} {metric} {mean}",
                row["name"]
            );
        }
    }
    let page = fs::read_to_string(folder.path().join("table/full-0/report.html")).unwrap();
    assert!(page.contains("Swapped") && page.contains("Losses of the adversaries"));
    // Again: nothing is trained, nothing changes.
    let model = folder.path().join("table/full-0/model.safetensors");
    let made = fs::metadata(&model).unwrap().modified().unwrap();
    assert_eq!(table(), first);
    assert_eq!(fs::metadata(&model).unwrap().modified().unwrap(), made);

    let output = here(folder.path())
        .args(["reproduce", "mnist-rott"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("mnist-rot,"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_killed_game_goes_on_bit_equal() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    make_digits(&at.join("cache"));
    let start = |out: &str| {
        let mut command = here(at);
        command
            .args(["train", "disentangle", "--out", out])
            .args(TINY);
        command.args(["--set", "train.turns=30"]);
        command.stderr(Stdio::null());
        command
    };
    assert!(start("whole").status().unwrap().success());
    let whole = fs::read(at.join("whole/model.safetensors")).unwrap();
    let mut child = start("killed").spawn().unwrap();
    for round in 0..3u64 {
        let started = Instant::now();
        while !at.join("killed/checkpoint/latest.json").is_file()
            && started.elapsed() < Duration::from_secs(60)
        {
            sleep(Duration::from_millis(2));
        }
        sleep(Duration::from_millis(20 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        child = here(at)
            .args(["train", "--resume", "killed"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
    }
    assert!(child.wait().unwrap().success());
    assert!(fs::read(at.join("killed/model.safetensors")).unwrap() == whole);
    let output = here(at)
        .args(["eval", "killed", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(verdict["metrics"]["angle_from_d"].as_f64().unwrap() <= 1.);
}
