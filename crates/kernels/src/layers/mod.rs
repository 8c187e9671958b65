//! Layers over the functions of this crate, in the manner of candle-nn: a struct, `new` from tensors,
//! and a free function that takes a `VarBuilder`. Parameter names are PyTorch's.

mod batch_norm;
mod conv;
mod linear;
mod prelu;

pub use batch_norm::{BatchNorm, BatchNormConfig, batch_norm};
pub use conv::{Conv2d, conv2d, conv2d_no_bias};
pub use linear::{Linear, linear, linear_no_bias};
pub use prelu::{PRelu, prelu};
