//! Speed of the three passes of a convolution on the CPU, in GFLOP/s and milliseconds (minimum over
//! repetitions): the four stages of an 18-layer residual network, its stem, and depthwise layers.
//! Gradients are timed through candle's backward pass, whose own bookkeeping (a zero tensor and a sum
//! for every gradient, on one thread) is included: the ops themselves are faster than the figures.
//!
//! `cargo run --release -p phiz-kernels --example bench_conv [REPETITIONS] [PART OF A NAME]`

#![allow(clippy::print_stdout)]

use candle::{Device, Result, Tensor, Var};
use phiz_kernels::{Conv2dConfig, conv2d};
use std::time::{Duration, Instant};

/// Name, batch, input channels, image size, output channels, kernel, stride, groups.
type Case = (
    &'static str,
    usize,
    usize,
    usize,
    usize,
    usize,
    usize,
    usize,
);

#[global_allocator]
static ALLOCATOR: phiz_kernels::Recycler = phiz_kernels::Recycler::new();

const CASES: [Case; 35] = [
    ("stem 3x3 3->64 112", 16, 3, 112, 64, 3, 1, 1),
    ("3x3 64->64 112 /2", 16, 64, 112, 64, 3, 2, 1),
    ("3x3 64->64 56", 16, 64, 56, 64, 3, 1, 1),
    ("3x3 64->128 56 /2", 16, 64, 56, 128, 3, 2, 1),
    ("3x3 128->128 28", 16, 128, 28, 128, 3, 1, 1),
    ("3x3 256->256 14", 16, 256, 14, 256, 3, 1, 1),
    ("3x3 256->512 14 /2", 16, 256, 14, 512, 3, 2, 1),
    ("3x3 512->512 7", 16, 512, 7, 512, 3, 1, 1),
    ("1x1 64->128 56 /2", 16, 64, 56, 128, 1, 2, 1),
    ("1x1 64->128 56", 16, 64, 56, 128, 1, 1, 1),
    ("3x3 64->64 56, batch 1", 1, 64, 56, 64, 3, 1, 1),
    ("depthwise 3x3 64 56", 16, 64, 56, 64, 3, 1, 64),
    ("depthwise 3x3 128 56 /2", 16, 128, 56, 128, 3, 2, 128),
    ("5x5 1->64 28 /2", 64, 1, 28, 64, 5, 2, 1),
    ("5x5 64->128 14 /2", 64, 64, 14, 128, 5, 2, 1),
    ("4x4 64->128 14 /2", 64, 64, 14, 128, 4, 2, 1),
    ("4x4 32->64 28 /2", 64, 32, 28, 64, 4, 2, 1),
    ("3x3 3->128 112 /2", 32, 3, 112, 128, 3, 2, 1),
    ("3x3 3->16 64", 64, 3, 64, 16, 3, 1, 1),
    ("3x3 8->16 16", 64, 8, 16, 16, 3, 1, 1),
    ("3x3 128->128 56 /2", 16, 128, 56, 128, 3, 2, 1),
    ("3x3 512->512 14 /2", 16, 512, 14, 512, 3, 2, 1),
    ("3x3 256->256 28 /2", 16, 256, 28, 256, 3, 2, 1),
    ("1x1 48->16 16", 64, 48, 16, 16, 1, 1, 1),
    ("1x1 80->24 16", 64, 80, 16, 24, 1, 1, 1),
    ("1x1 144->48 8", 64, 144, 8, 48, 1, 1, 1),
    ("1x1 128->128 56", 32, 128, 56, 128, 1, 1, 1),
    ("1x1 128->128 28", 32, 128, 28, 128, 1, 1, 1),
    ("1x1 256->512 14", 32, 256, 14, 512, 1, 1, 1),
    ("1x1 256->512 14 /2", 16, 256, 14, 512, 1, 2, 1),
    ("grouped 3x3 128 56", 32, 128, 56, 128, 3, 1, 64),
    ("depthwise 3x3 256 14", 32, 256, 14, 256, 3, 1, 256),
    ("depthwise 3x3 512 14 /2", 32, 512, 14, 512, 3, 2, 512),
    ("depthwise 3x3 256 7", 32, 256, 7, 256, 3, 1, 256),
    ("depthwise 7x7 512 7", 32, 512, 7, 512, 7, 7, 512),
];

fn main() -> Result<()> {
    let repetitions = std::env::args()
        .nth(1)
        .and_then(|a| a.parse().ok())
        .unwrap_or(8);
    let wanted = std::env::args().nth(2).unwrap_or_default();
    for (name, batch, cin, size, cout, kernel, stride, groups) in CASES {
        if !name.contains(&wanted) {
            continue;
        }
        let cfg = Conv2dConfig {
            padding: (kernel - 1) / 2,
            stride,
            dilation: 1,
            groups,
        };
        let x = Var::randn(0f32, 1.0, (batch, cin, size, size), &Device::Cpu)?;
        let w = Var::randn(
            0f32,
            0.1,
            (cout, cin / groups, kernel, kernel),
            &Device::Cpu,
        )?;
        let (xc, wc) = (x.as_detached_tensor(), w.as_detached_tensor());
        let y = conv2d(&xc, &wc, None, cfg)?;
        let flops = 2.0 * (y.elem_count() * cin / groups * kernel * kernel) as f64;
        let backward = |x: &Tensor, w: &Tensor| -> Result<Duration> {
            let loss = conv2d(x, w, None, cfg)?;
            let start = Instant::now();
            loss.backward()?;
            Ok(start.elapsed())
        };
        let mut best = [Duration::MAX; 3];
        for _ in 0..repetitions {
            let start = Instant::now();
            conv2d(&xc, &wc, None, cfg)?;
            let times = [start.elapsed(), backward(&x, &wc)?, backward(&xc, &w)?];
            for (best, time) in best.iter_mut().zip(times) {
                *best = (*best).min(time);
            }
        }
        let [forward, input, weight] = best.map(|t| {
            let s = t.as_secs_f64();
            format!("{:6.1} GFLOP/s {:7.2} ms", flops / s / 1e9, s * 1e3)
        });
        println!("{name:24} forward {forward}   input gradient {input}   weight gradient {weight}");
    }
    Ok(())
}
