//! Fast, differentiable CPU operations for candle.
//!
//! candle's convolution and most of its backward passes run at a fraction of what a CPU can do, and
//! some of its gradients are wrong or missing. This crate has the operations that training a
//! convolutional network needs, as candle custom ops with backward passes written by hand: convolution
//! (matrix products over unfolded tiles, direct loops for depthwise kernels), batch normalisation fused
//! with its activation, pooling, losses, and forms of roots, norms and maxima whose gradient is finite
//! everywhere. f32 and f64 on the CPU; on other devices the same functions compose candle's own
//! operations. Results are a function of inputs and thread count, never of timing.
//!
//! Instruction sets (AVX2, AVX-512, NEON) are chosen at run time: no compiler flags are needed. The
//! environment variable `PHIZ_ISA` forces a lower one; see [`isa`]. For comparison, `PHIZ_OPS=candle` has
//! candle's own operations do the work; see [`ops`].
//!
//! # What is where, and why
//!
//! Operations per byte are those in f32 against memory beyond the caches, to an order of magnitude (C
//! channels, kernels of k x k). The last column is what two cores reached of the 230 GFLOP/s that `bench` finds they reach at
//! most: forward, input gradient, weight gradient, over the convolutions of the networks (`cargo xtask bench
//! kernels --peers --repeats 3`, 2026-11-23). Gradients are through candle's backward pass, whose zeros and
//! additions are in them; 3 x 3 kernels count nine multiplications a pixel, of which minimal filtering does a
//! quarter, and so may exceed the peak.
//!
//! | pass | how | operations per byte | why so | share of peak |
//! |---|---|---|---|---|
//! | 3 x 3, stride 1, 16 channels and more | minimal filtering over tiles of 4 x 4 pixels | C / 3 to C | a quarter of the multiplications; a block of tiles goes through all three stages within the second-level cache | from 64 channels on 1.0 to 2.3, 1.0 to 2.1, 0.65 to 2.0; 16 to 48 channels 0.65 to 1.8, 0.5 to 1.45, 0.65 to 1.6 |
//! | other full kernels | windows of channels-last images times weights, in place | C k^2 / 4 | no copy for every tap: a kernel row's values lie side by side; the input gradient is one such product for each phase of the stride | 0.65 to 0.8, 0.45 to 0.8, 0.5 to 0.7 |
//! | stems (1 or 3 channels), grouped kernels, few weights | tiles of unfolded columns times weights, neither packed, rows split by phase first where the stride is above 1; weights' gradients as products of rows of pixels | C k^2 / 4 | packing pays when values are used hundreds of times | stems 0.4 to 0.6, 0.15 to 0.4, 0.45; 8 and 12 channels 0.5 to 0.6, 0.4, 0.4 to 0.6; groups of two 0.15, 0.1, 0.15 |
//! | 1 x 1 | the image itself as the matrix; not packed up to 8192 weights | C / 4 | no unfolding | 0.6 to 0.9, 0.2 to 0.7, 0.4 to 0.75 |
//! | depthwise, up to 32 pixels wide | sixteen channels as lanes | k^2 / 4 | short rows fill no vectors | memory-bound |
//! | depthwise 3 x 3, wider, stride 1 | strips of pixels down the map, sums in registers | k^2 / 4 | nine multiplications take three loads | memory-bound, 0.2, 0.1, 0.15 |
//! | depthwise, over the whole map | products of vectors | 1 / 4 | one output pixel: kernel and map are rows of the same length | memory-bound, 0.1, 0.04, 0.03 |
//! | depthwise, other | direct loops over padded, phase-split rows | k^2 / 4 | each plane is read once and written once | memory-bound, 0.04, 0.02, 0.03 |
//! | linear layers of up to 16 rows | products of rows as they lie | rows / 2 | each weight is read once, which is what a single image waits for | memory-bound |
//! | layers of an [`inference::Program`] | as windows in place, weights packed beforehand; threads stay together for the whole image | C k^2 / 4 | maps stay in the cache; a layer takes less time than waking a thread | 0.7 to 1.0 of one core |
//! | batch norm with activation | one task a channel: sums, then values | 1 | memory-bound: the second pass finds the channel in the cache | |
//! | pooling, activations, optimiser | one pass | below 1 | memory-bound | |
//!
//! What is bound by memory is made cheaper by touching less of it. Convolution, norm and activation are one
//! op of the graph, since candle fills a tensor with zeros and adds to it for every operand that gets a
//! gradient. Results are written into memory that was not cleared. [`Recycler`] keeps large buffers from
//! step to step, and inner loops take theirs from a pool of each thread. For inference a whole network
//! becomes one [`inference::Program`], whose maps stay in the cache from layer to layer.
//!
//! In processor time of one core, on a machine busy with other work: a training step of an 18-layer
//! network (112 x 112, batch 16) took 3.6 s at first, 3.0 s with buffers recycled and not cleared, 2.5 s
//! with minimal filtering, where PyTorch 2.15 took 3.6 to 4.1 s; MobileFaceNet (batch 32) 2.9 s, then 2.1 s,
//! against 3.2 to 3.4 s.
//!
//! # Example
//!
//! ```
//! use candle::{DType, Device, Tensor};
//! use candle_nn::{Module, VarBuilder, VarMap};
//! use phiz_kernels::{Activation, Conv2dConfig, global_avg_pool, layers};
//!
//! # fn main() -> candle::Result<()> {
//! let vars = VarMap::new();
//! let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
//! let cfg = Conv2dConfig { padding: 1, ..Default::default() };
//! let conv = layers::conv2d_no_bias(3, 8, 3, cfg, vb.pp("conv"))?;
//! let norm = layers::batch_norm(8, 1e-5, vb.pp("bn"))?;
//!
//! let images = Tensor::randn(0f32, 1., (4, 3, 16, 16), &Device::Cpu)?;
//! let maps = norm.forward_act(&conv.forward(&images)?, Activation::Relu, true)?;
//! let features = global_avg_pool(&maps)?;
//! assert_eq!(features.dims(), [4, 8]);
//! let grads = features.sqr()?.mean_all()?.backward()?;
//! assert!(grads.get(conv.weight()).is_some());
//! # Ok(()) }
//! ```

mod activation;
mod conv;
mod conv_act;
mod conv_norm;
mod conv_transpose;
mod cpu;
mod exp;
mod gemm;
pub mod gradcheck;
pub mod inference;
pub mod isa;
mod layer_norm;
pub mod layers;
mod linear;
mod loss;
mod lower_gemm;
mod max_pool;
mod norm;
pub mod ops;
pub mod pairwise;
mod panel;
mod pool;
mod recycler;
mod reduce;
pub mod row_loss;
mod rows;
pub mod safe;
mod scratch;
mod simd;
mod upsample;
mod weighted;

pub use activation::{Activation, dropout, prelu, relu, softplus};
pub use conv::{Conv2dConfig, conv2d};
pub use conv_act::conv2d_act;
pub use conv_norm::{conv_transpose2d_batch_norm_train, conv2d_batch_norm_train};
pub use conv_transpose::{ConvTranspose2dConfig, conv_transpose2d};
pub use cpu::Real;
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use loss::{cross_entropy, log_softmax};
pub use norm::{BatchStats, batch_norm_eval, batch_norm_train};
pub use pool::{
    Pool2dConfig, adaptive_avg_pool2d, avg_pool2d, avg_pool2d_with, global_avg_pool, max_pool2d,
    max_pool2d_with,
};
pub use recycler::Recycler;
pub use upsample::{
    upsample_bilinear2d, upsample_bilinear2d_scale, upsample_nearest2d, upsample_nearest2d_scale,
};
