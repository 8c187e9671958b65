//! Measures the time to draw a face on one core, for several sizes, and how many a second come with all labels.
#![allow(clippy::print_stdout)] // A program for people: the figures are its output.

use std::time::Instant;

use phiz_synth::{SynthConfig, annotate, factors, render, render_complete};

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
    let config = SynthConfig::default();
    let start = Instant::now();
    for index in 0..config.len() {
        std::hint::black_box(annotate(&config, index)?);
    }
    let each = start.elapsed().as_secs_f64() / config.len() as f64;
    println!("labels without drawing: {:.3} ms a face", 1e3 * each);
    // Picture, labels, mesh and label image, on several threads.
    for size in [64, 224] {
        let config = SynthConfig { size, ..config };
        for threads in [1, 2] {
            let count = if size < 100 { 1000 } else { 160 };
            let start = Instant::now();
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    scope.spawn(move || {
                        for index in (thread..count).step_by(threads) {
                            let face = factors(&config, index);
                            let drawn = face.and_then(|f| render_complete(&f, size));
                            std::hint::black_box(drawn.ok());
                        }
                    });
                }
            });
            let rate = count as f64 / start.elapsed().as_secs_f64();
            println!("{size} x {size} with all labels, {threads} threads: {rate:.0} a second");
        }
    }
    Ok(())
}
