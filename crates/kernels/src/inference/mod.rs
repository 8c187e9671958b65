//! Whole networks for inference: every layer compiled for maps of one size, channels last.
//!
//! A [`Program`] is what a folded network becomes where nothing is to be learned any more. Against one
//! operation after the other it saves what small maps spend most of their time on: weights are packed
//! when the program is made, maps never change their layout (channels last: windows are read where they
//! lie, see the convolutions without unfolding), branches write straight into the channels of the
//! map that joins them, bias, residual and activation happen in registers, and nothing is allocated. A
//! batch is split over threads image by image, whose maps stay in the cache from layer to layer; a
//! single image's larger layers are split by pixels.
//!
//! ```
//! use candle::{Device, Tensor};
//! use phiz_kernels::layers::Conv2d;
//! use phiz_kernels::{Activation, Conv2dConfig, conv2d_act, inference};
//!
//! # fn main() -> candle::Result<()> {
//! let cfg = Conv2dConfig { padding: 1, ..Default::default() };
//! let weight = Tensor::randn(0f32, 0.1, (8, 3, 3, 3), &Device::Cpu)?;
//! let bias = Tensor::randn(0f32, 0.1, 8, &Device::Cpu)?;
//! let conv = Conv2d::new(weight.clone(), Some(bias.clone()), cfg);
//!
//! let mut network = inference::Builder::new(3, 16, 16)?;
//! let maps = network.map(8, 16, 16)?;
//! network.conv(network.input(), &conv, Activation::Relu, maps)?;
//! let pooled = network.map(8, 8, 8)?;
//! network.max_pool(maps, 2, 2, 0, pooled)?;
//! let program = network.finish(pooled)?;
//!
//! let x = Tensor::randn(0f32, 1., (4, 3, 16, 16), &Device::Cpu)?;
//! let ours = program.run(&x)?;
//! let maps = conv2d_act(&x, &weight, Some(&bias), None, cfg, Activation::Relu)?;
//! let off = (ours - phiz_kernels::max_pool2d(&maps, 2, 2, 0)?)?.abs()?.max_all()?;
//! assert!(off.to_scalar::<f32>()? < 1e-5);
//! # Ok(()) }
//! ```

mod build;
mod compile;
mod pool;
mod run;
mod team;

pub use build::{Builder, Channels};
pub use run::Program;

#[cfg(test)]
mod tests;
