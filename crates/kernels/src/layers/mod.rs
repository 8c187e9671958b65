//! Layers over the functions of this crate, in the manner of candle-nn: a struct, `new` from tensors,
//! and a free function that takes a `VarBuilder`. Parameter names are PyTorch's.

#![expect(
    clippy::needless_pass_by_value,
    reason = "candle-nn hands builders over by value, and so do its users"
)]

mod batch_norm;
mod conv;
mod conv_bn;
mod conv_transpose;
mod fold;
mod layer_norm;
mod linear;
mod prelu;
mod transformer;

pub use batch_norm::{BatchNorm, BatchNormConfig, batch_norm};
pub use conv::{Conv2d, conv2d, conv2d_no_bias};
pub use conv_bn::{ConvBn, conv_bn};
pub use conv_transpose::{ConvTranspose2d, conv_transpose2d, conv_transpose2d_no_bias};
pub use fold::{
    fold_batch_norm, fold_batch_norm_before, fold_batch_norm_before_linear, fold_batch_norm_linear,
};
pub use layer_norm::{LayerNorm, layer_norm};
pub use linear::{Linear, linear, linear_no_bias, linear_zero_bias};
pub use prelu::{PRelu, prelu};
pub use transformer::{TransformerBlock, TransformerBlockConfig, transformer_block};
