//! Images a second of training and evaluation steps, on the CPU:
//! `cargo run --release -p phiz-backbones --example throughput -- [expression|iresnet18|mobilefacenet] [batch] [side] [steps]`
#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use std::time::Instant;

use candle::{DType, Device, Result, Tensor};
use candle_nn::{ModuleT, VarBuilder, VarMap};
use phiz_backbones::{
    ExpressionNet, ExpressionNetConfig, IResNet, IResNetConfig, MobileFaceNet, MobileFaceNetConfig,
    iresnet18, mobilefacenet,
};
use phiz_kernels::cross_entropy;

fn main() -> Result<()> {
    let args = std::env::args().skip(1).collect::<Vec<_>>();
    let number = |i: usize, default| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (batch, side, steps) = (number(1, 64), number(2, 64), number(3, 5));
    let parameters = VarMap::new();
    let vb = VarBuilder::from_varmap(&parameters, DType::F32, &Device::Cpu);
    let (images, target) = (
        Tensor::randn(0f32, 0.5, (batch, 3, side, side), &Device::Cpu)?,
        Tensor::from_iter((0..batch as u32).map(|i| i % 7), &Device::Cpu)?,
    );
    type Forward = Box<dyn Fn(&Tensor, bool) -> Result<Tensor>>;
    // The network, and its form for inference.
    let (macs, forward, folded): (u64, Forward, Forward) =
        match args.first().map_or("expression", String::as_str) {
            "iresnet18" => {
                let config = IResNetConfig {
                    image_size: side,
                    ..Default::default()
                };
                let network = iresnet18(config, vb)?;
                let (macs, folded) = (network.macs(), network.folded()?);
                let run = |network: IResNet| -> Forward {
                    Box::new(move |x, train| network.forward_t(x, train))
                };
                (macs, run(network), run(folded))
            }
            "mobilefacenet" => {
                let config = MobileFaceNetConfig {
                    image_size: side,
                    ..Default::default()
                };
                let network = mobilefacenet(config, vb)?;
                let (macs, folded) = (network.macs(), network.folded()?);
                let run = |network: MobileFaceNet| -> Forward {
                    Box::new(move |x, train| network.forward_t(x, train))
                };
                (macs, run(network), run(folded))
            }
            _ => {
                let config = ExpressionNetConfig {
                    image_size: side,
                    ..Default::default()
                };
                let network = ExpressionNet::new(config, vb)?;
                let (macs, folded) = (network.macs(), network.folded()?);
                let run = |network: ExpressionNet| -> Forward {
                    Box::new(move |x, train| {
                        let out = network.forward_t(x, train)?;
                        Tensor::cat(&[&out.logits, &out.metric_embedding], 1)
                    })
                };
                (macs, run(network), run(folded))
            }
        };
    println!("{:.1} MMAC an image", macs as f64 / 1e6);
    for step in 0..=steps {
        let start = Instant::now();
        let loss = cross_entropy(&forward(&images, true)?, &target, 0.)?;
        let forward_s = start.elapsed().as_secs_f64();
        let grads = loss.backward()?;
        let step_s = start.elapsed().as_secs_f64();
        let start = Instant::now();
        forward(&images, false)?;
        let eval_s = start.elapsed().as_secs_f64();
        let start = Instant::now();
        folded(&images, false)?;
        let folded_s = start.elapsed().as_secs_f64();
        let gflops = macs as f64 * 6. * batch as f64 / step_s / 1e9;
        // The first step pays for memory and thread start.
        if step > 0 {
            println!(
                "train {:.0} images/s (forward {:.0} ms, backward {:.0} ms, {gflops:.0} GFLOP/s), evaluate {:.0} images/s, folded {:.0}; {} gradients",
                batch as f64 / step_s,
                forward_s * 1e3,
                (step_s - forward_s) * 1e3,
                batch as f64 / eval_s,
                batch as f64 / folded_s,
                grads.get_ids().count(),
            );
        }
    }
    Ok(())
}
