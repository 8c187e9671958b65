//! How long the heads take, forward and backward, as one fused pass.
//!
//! `cargo run --release -p phiz-losses --example heads -- 10000 512 512` prints milliseconds (least and median of nine runs) for
//! that many classes, items and dimensions, f32; without arguments for these.

#![allow(clippy::print_stdout, reason = "an example prints what it measured")]

use std::time::Instant;

use candle::{DType, Device, Result, Tensor, Var, bail};
use candle_nn::{VarBuilder, VarMap};
use phiz_losses::{HEAD_NAMES, head_by_name};

fn main() -> Result<()> {
    let sizes: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|a| a.parse().ok())
        .collect();
    let (classes, batch, dim) = match sizes[..] {
        [] => (10_000, 512, 512),
        [classes, batch, dim] if classes > 0 && batch > 0 && dim > 0 => (classes, batch, dim),
        _ => bail!("expected three numbers: classes, items, dimensions"),
    };
    let device = &Device::Cpu;
    let embeddings = Var::from_tensor(&Tensor::randn(0f32, 1.0, (batch, dim), device)?)?;
    // Four items a class.
    let labels: Vec<u32> = (0..batch).map(|i| (i / 4 * 37 % classes) as u32).collect();
    let labels = Tensor::new(labels, device)?;
    println!("{classes} classes, {batch} items, {dim} dimensions");
    for name in HEAD_NAMES {
        // Several vectors for each class would be another amount of work.
        if matches!(name, "soft-triple" | "subcenter-arcface") {
            continue;
        }
        let variables = VarMap::new();
        let vb = VarBuilder::from_varmap(&variables, DType::F32, device);
        let head = head_by_name(name, dim, classes, vb)?;
        let mut times = Vec::new();
        for _ in 0..9 {
            let start = Instant::now();
            let gradients = head.loss(&embeddings, &labels)?.backward()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            if gradients.get(head.weight()).is_none() {
                bail!("{name}: no gradient");
            }
        }
        times.sort_by(f64::total_cmp);
        println!("{name:22} {:8.1} {:8.1}", times[0], times[4]);
    }
    Ok(())
}
