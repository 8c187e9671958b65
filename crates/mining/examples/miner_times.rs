//! How long each miner takes on a batch of unit-variance embeddings, D = 128, four items of each class.
//!
//!     cargo run --release -p phiz-mining --example miner_times -- 512 1024 2048 4096

#![expect(clippy::print_stdout, reason = "an example that reports")]

use std::time::Instant;

use candle::{Device, Result, Tensor};
use phiz_mining::*;

fn main() -> Result<()> {
    let sizes: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    let sizes = if sizes.is_empty() {
        vec![512, 2048]
    } else {
        sizes
    };
    let miners: [(&str, Measure, Box<dyn Miner>); 9] = [
        ("batch hard", Measure::L2, Box::new(BatchHardMiner)),
        (
            "batch easy-hard",
            Measure::L2,
            Box::new(BatchEasyHardMiner::default()),
        ),
        (
            "semi-hard triplets",
            Measure::L2,
            Box::new(TripletMarginMiner {
                margin: 0.05,
                kind: TripletKind::SemiHard,
            }),
        ),
        (
            "pair margin",
            Measure::L2,
            Box::new(PairMarginMiner::default()),
        ),
        (
            "multi-similarity",
            Measure::COSINE,
            Box::new(MultiSimilarityMiner::default()),
        ),
        (
            "angular, 35 degrees",
            Measure::L2,
            Box::new(AngularMiner { angle: 35.0 }),
        ),
        ("hdc", Measure::L2, Box::new(HdcMiner::default())),
        (
            "distance weighted",
            Measure::L2,
            Box::new(DistanceWeightedMiner::default()),
        ),
        (
            "uniform histogram",
            Measure::L2,
            Box::new(UniformHistogramMiner::default()),
        ),
    ];
    println!(
        "| miner | {} |",
        sizes
            .iter()
            .map(|b| format!("B {b}, ms"))
            .collect::<Vec<_>>()
            .join(" | ")
    );
    println!("|---|{}", "---|".repeat(sizes.len()));
    for (name, measure, miner) in &miners {
        let mut cells = Vec::new();
        for &b in &sizes {
            // Numbers without a pattern, from a formula.
            let value = |i: usize| ((i as f64 * 12.9898).sin() * 43_758.547).fract() as f32;
            let e = Tensor::from_vec((0..b * 128).map(value).collect(), (b, 128), &Device::Cpu)?;
            let labels: Vec<u32> = (0..b as u32).map(|i| i / 4).collect();
            let mut least = f64::INFINITY;
            for step in 0..5 {
                let start = Instant::now();
                let seen = Comparison::new(&e, &labels)?.measure(*measure);
                let mined = miner.tuples(&seen, Draw::new(0, step))?;
                least = least.min(start.elapsed().as_secs_f64());
                drop(mined);
            }
            cells.push(format!("{:.1}", least * 1e3));
        }
        println!("| {name} | {} |", cells.join(" | "));
    }
    Ok(())
}
