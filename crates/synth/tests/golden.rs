//! Every factor's pictures, pinned: a checksum over 32 samples of each stands in `fixtures/synth/golden.txt`.
//!
//! `PHIZ_WRITE_GOLDEN=1 cargo test --release -p phiz-synth --test golden` writes the file anew, for when faces are
//! meant to change.

#![allow(clippy::unwrap_used)] // Helpers of a test may fail like the test itself.

use std::fmt::Write as _;
use std::path::Path;

use phiz_synth::{Factors, SynthConfig, factors, render_factors};

const SAMPLES: usize = 32;

/// Sample `k` of the 32 that show `name`: another person and expression each time, and the factor moved.
fn sample(name: &str, k: usize) -> Factors {
    let config = SynthConfig {
        identities: SAMPLES,
        per_expression: 1,
        glasses: 0.4,
        makeup: 0.5,
        disguise: 0.5,
        lighting: 0.3,
        occlusion: 0.3,
        low_resolution: 0.2,
        jpeg: 0.2,
        ..SynthConfig::default()
    };
    let mut face = factors(&config, k * 7 + k % 7).unwrap();
    let value = face.values().iter().find(|v| v.0 == name).unwrap().1;
    let move_by = match name {
        "yaw" | "pitch" | "roll" | "light_azimuth" | "light_elevation" | "occluder_turn" => 3.0,
        "jpeg" => 4.0,
        _ => 0.08,
    };
    face.set(name, value + move_by * (k as f32 - 15.5)).unwrap();
    face
}

fn checksum(name: &str) -> u64 {
    (0..SAMPLES).fold(0xcbf2_9ce4_8422_2325, |sum, k| {
        let drawn = render_factors(&sample(name, k), 24).unwrap();
        drawn.image.pixels.iter().fold(sum, |h, &b| {
            (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    })
}

#[test]
fn every_factor_draws_the_pinned_pictures() {
    let names: Vec<&str> = Factors::default().values().iter().map(|v| v.0).collect();
    let half = names.len() / 2;
    let sums: Vec<u64> = std::thread::scope(|scope| {
        let parts = [&names[..half], &names[half..]];
        let threads =
            parts.map(|part| scope.spawn(move || part.iter().map(|n| checksum(n)).collect()));
        threads
            .into_iter()
            .flat_map(|t: std::thread::ScopedJoinHandle<'_, Vec<u64>>| t.join().unwrap())
            .collect()
    });
    let mut found = String::new();
    for (name, sum) in names.iter().zip(&sums) {
        writeln!(found, "{name} {sum:016x}").unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/synth/golden.txt");
    if std::env::var_os("PHIZ_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let pinned = std::fs::read_to_string(&path).unwrap();
    let changed: Vec<&str> = found
        .lines()
        .filter(|line| !pinned.lines().any(|other| other == *line))
        .collect();
    assert!(
        changed.is_empty() && pinned.lines().count() == names.len(),
        "{} of {} factors draw other pictures, first {:?}",
        changed.len(),
        names.len(),
        changed.first()
    );
}
