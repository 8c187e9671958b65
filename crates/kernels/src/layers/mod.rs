//! Layers over the functions of this crate, in the manner of candle-nn: a struct, `new` from tensors,
//! and a free function that takes a `VarBuilder`. Parameter names are PyTorch's.

#![expect(
    clippy::needless_pass_by_value,
    reason = "candle-nn hands builders over by value, and so do its users"
)]

mod batch_norm;
mod conv;
mod conv_transpose;
mod linear;
mod prelu;

pub use batch_norm::{BatchNorm, BatchNormConfig, batch_norm};
pub use conv::{Conv2d, conv2d, conv2d_no_bias};
pub use conv_transpose::{ConvTranspose2d, conv_transpose2d, conv_transpose2d_no_bias};
pub use linear::{Linear, linear, linear_no_bias};
pub use prelu::{PRelu, prelu};
