//! How long the pair and triplet losses take, forward and backward, and how that grows with the batch.
//!
//! `cargo run --release -p phiz-losses --example pair_losses -- 512 1024 2048 4096` prints milliseconds (the least of five runs)
//! and the exponent of B between the last two sizes; D = 128, four items a class, f32.

#![allow(clippy::print_stdout, reason = "an example prints what it measured")]

use std::time::Instant;

use candle::{Device, Result, Tensor, Var};
use phiz_losses::*;

fn main() -> Result<()> {
    let sizes: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|a| a.parse().ok())
        .collect();
    let sizes = if sizes.is_empty() {
        vec![512, 1024]
    } else {
        sizes
    };
    let losses: Vec<(&str, Box<dyn MetricLoss>)> = vec![
        ("contrastive", Box::new(Contrastive::default())),
        ("triplet, all", Box::new(TripletMargin::default())),
        (
            "triplet, smooth",
            Box::new(TripletMargin {
                smooth: true,
                ..TripletMargin::default()
            }),
        ),
        (
            "triplet, swap",
            Box::new(TripletMargin {
                swap: true,
                ..TripletMargin::default()
            }),
        ),
        ("triplet, batch hard", Box::new(TripletMargin::batch_hard())),
        (
            "multi-similarity, mined",
            Box::new(MultiSimilarity::mined()),
        ),
        ("NT-Xent", Box::new(NtXent::default())),
        ("SupCon", Box::new(SupCon::default())),
        ("DCLW", Box::new(Dcl::weighted())),
        ("circle", Box::new(Circle::default())),
        ("lifted", Box::new(LiftedStructure::default())),
        (
            "generalised lifted",
            Box::new(GeneralizedLiftedStructure::default()),
        ),
        ("SNR contrastive", Box::new(Contrastive::snr())),
        ("tuplet margin", Box::new(TupletMargin::default())),
        ("margin", Box::new(Margin::default())),
        ("NCA", Box::new(Nca::default())),
        ("angular", Box::new(Angular::default())),
        (
            "intra-pair variance",
            Box::new(IntraPairVariance::default()),
        ),
        (
            "threshold consistent",
            Box::new(ThresholdConsistentMargin::default()),
        ),
        ("FastAP", Box::new(FastAp::default())),
        ("histogram", Box::new(Histogram::default())),
        ("ranked list", Box::new(RankedList::default())),
        ("Smooth-AP", Box::new(SmoothAp::default())),
        ("PNP", Box::new(Pnp::default())),
    ];
    println!(
        "{:26}{}",
        "loss",
        sizes.iter().map(|b| format!("{b:>10}")).collect::<String>() + "  exponent"
    );
    for (name, loss) in losses {
        let mut times = Vec::new();
        for &b in &sizes {
            let x = Var::from_tensor(&Tensor::randn(0f32, 1., (b, 128), &Device::Cpu)?)?;
            let labels: Vec<u32> = (0..b as u32).map(|i| i / 4).collect();
            let mut best = f64::INFINITY;
            for _ in 0..5 {
                let start = Instant::now();
                let store = loss.forward(&Batch::new(&x, &labels)?)?.backward()?;
                assert!(store.get(&x).is_some());
                best = best.min(start.elapsed().as_secs_f64() * 1e3);
            }
            times.push(best);
        }
        let exponent = match (times.as_slice(), sizes.as_slice()) {
            ([.., a, b], [.., m, n]) => (b / a).ln() / (*n as f64 / *m as f64).ln(),
            _ => f64::NAN,
        };
        let row: String = times.iter().map(|t| format!("{t:>10.2}")).collect();
        println!("{name:26}{row}{exponent:>10.2}");
    }
    Ok(())
}
