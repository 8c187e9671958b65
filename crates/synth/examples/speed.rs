//! Measures the time to draw a face on one core, for several sizes.
#![allow(clippy::print_stdout)] // A program for people: the figures are its output.

use std::time::Instant;

use phiz_synth::{SynthConfig, render};

fn main() -> Result<(), phiz_synth::Error> {
    for size in [24, 48, 64, 112, 224] {
        let config = SynthConfig {
            size,
            identities: 30,
            per_expression: 1,
            ..SynthConfig::default()
        };
        // The best of five rounds: what the code takes when nothing else disturbs it.
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            let start = Instant::now();
            for index in 0..config.len() {
                std::hint::black_box(render(&config, index)?);
            }
            best = best.min(start.elapsed().as_secs_f64() / config.len() as f64);
        }
        println!("{size} x {size}: {:.3} ms a face", 1e3 * best);
    }
    Ok(())
}
