//! Time of forward and backward of an 18-layer improved residual network (112 x 112, 512-d) on the
//! CPU: median and minimum over repetitions.
//!
//! `cargo run --release -p phiz-kernels --example bench_step [BATCH] [REPETITIONS]`

#![allow(clippy::print_stdout)]

use candle::{DType, Device, Result, Tensor};
use candle_nn::{Module, ModuleT, VarBuilder, VarMap};
use phiz_kernels::layers::{self, BatchNorm, Conv2d, Linear, PRelu};
use phiz_kernels::{Activation, Conv2dConfig};
use std::time::Instant;

struct Block {
    norm1: BatchNorm,
    conv1: Conv2d,
    norm2: BatchNorm,
    act: PRelu,
    conv2: Conv2d,
    norm3: BatchNorm,
    shortcut: Option<(Conv2d, BatchNorm)>,
}

fn conv(
    cin: usize,
    cout: usize,
    kernel: usize,
    stride: usize,
    vb: VarBuilder<'_>,
) -> Result<Conv2d> {
    let cfg = Conv2dConfig {
        padding: kernel / 2,
        stride,
        ..Default::default()
    };
    layers::conv2d_no_bias(cin, cout, kernel, cfg, vb)
}

impl Block {
    fn new(cin: usize, cout: usize, stride: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let shortcut = if stride > 1 || cin != cout {
            let norm = layers::batch_norm(cout, 1e-5, vb.pp("down.1"))?;
            Some((conv(cin, cout, 1, stride, vb.pp("down.0"))?, norm))
        } else {
            None
        };
        Ok(Self {
            norm1: layers::batch_norm(cin, 1e-5, vb.pp("bn1"))?,
            conv1: conv(cin, cout, 3, 1, vb.pp("conv1"))?,
            norm2: layers::batch_norm(cout, 1e-5, vb.pp("bn2"))?,
            act: layers::prelu(cout, vb.pp("act"))?,
            conv2: conv(cout, cout, 3, stride, vb.pp("conv2"))?,
            norm3: layers::batch_norm(cout, 1e-5, vb.pp("bn3"))?,
            shortcut,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.forward_t(x, true)?)?;
        let h = self.norm2.forward_act(&h, self.act.activation(), true)?;
        let h = self.norm3.forward_t(&self.conv2.forward(&h)?, true)?;
        match &self.shortcut {
            None => h + x,
            Some((conv, norm)) => h + norm.forward_t(&conv.forward(x)?, true)?,
        }
    }
}

struct Net {
    stem: Conv2d,
    norm: BatchNorm,
    act: PRelu,
    blocks: Vec<Block>,
    last: BatchNorm,
    fc: Linear,
}

impl Net {
    fn new(vb: &VarBuilder<'_>) -> Result<Self> {
        let mut blocks = Vec::new();
        let mut cin = 64;
        for (stage, cout) in [64, 128, 256, 512].into_iter().enumerate() {
            for index in 0..2 {
                let stride = if index == 0 { 2 } else { 1 };
                blocks.push(Block::new(
                    cin,
                    cout,
                    stride,
                    &vb.pp(format!("layer{stage}.{index}")),
                )?);
                cin = cout;
            }
        }
        Ok(Self {
            stem: conv(3, 64, 3, 1, vb.pp("conv1"))?,
            norm: layers::batch_norm(64, 1e-5, vb.pp("bn1"))?,
            act: layers::prelu(64, vb.pp("prelu"))?,
            blocks,
            last: layers::batch_norm(512, 1e-5, vb.pp("bn2"))?,
            fc: layers::linear(512 * 49, 512, vb.pp("fc"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut h = self
            .norm
            .forward_act(&self.stem.forward(x)?, self.act.activation(), true)?;
        for block in &self.blocks {
            h = block.forward(&h)?;
        }
        let h = self.last.forward_act(&h, Activation::None, true)?;
        self.fc.forward(&h.flatten_from(1)?)
    }
}

fn main() -> Result<()> {
    let argument = |n: usize| {
        std::env::args()
            .nth(n)
            .and_then(|a| a.parse::<usize>().ok())
    };
    let (batch, repetitions) = (argument(1).unwrap_or(16), argument(2).unwrap_or(5).max(1));
    let vars = VarMap::new();
    let net = Net::new(&VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
    let x = Tensor::randn(0f32, 1.0, (batch, 3, 112, 112), &Device::Cpu)?;
    let mut times = Vec::new();
    for _ in 0..repetitions {
        let start = Instant::now();
        let loss = net.forward(&x)?.sqr()?.mean_all()?;
        let forward = start.elapsed().as_secs_f64();
        loss.backward()?;
        times.push((start.elapsed().as_secs_f64(), forward));
    }
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (best, forward) = times[0];
    let median = times[times.len() / 2].0;
    println!(
        "batch {batch}: step median {median:.3} s, minimum {best:.3} s (forward {forward:.3} s), {:.1} images/s",
        batch as f64 / best
    );
    Ok(())
}
