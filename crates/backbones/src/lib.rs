//! Networks from image to features, under PyTorch's parameter names.
//!
//! * [`ExpressionNet`]: a small Inception network for 48 to 64 pixel faces with a classification
//!   and a metric branch; 21 MMAC an image, made to be trained on a CPU.
//! * [`IResNet`] 18, 34, 50, 100 and [`MobileFaceNet`]: the two families of the ArcFace training
//!   code, layer by layer and name by name, so that its checkpoints load as they are.
//! * [`ResNet`] 18 and 50 (version 1.5) with stems for small images, and [`VisionTransformer`] Tiny and Small, under
//!   torchvision's and timm's names: trunks for pre-training and for tasks on maps.
//! * [`load_pytorch`], [`save_pytorch`]: safetensors and `torch.save` archives in, safetensors out.
//!
//! Networks take images (B, C, S, S) in the scale (p / 255 - 0.5) / 0.5 and give embeddings that
//! are not normalised. They hold no optimiser, no loss and no file: parameters come from a
//! `VarBuilder`, and every operation from `phiz-kernels`.
//!
//! ```
//! use candle::{DType, Device, Tensor};
//! use candle_nn::{ModuleT, VarBuilder, VarMap};
//! use phiz_backbones::{IResNet, IResNetConfig};
//! # fn main() -> candle::Result<()> {
//! let parameters = VarMap::new();
//! let vb = VarBuilder::from_varmap(&parameters, DType::F32, &Device::Cpu);
//! // A narrow network for grey 32-pixel faces; `iresnet18` and the defaults give the published one.
//! let config = IResNetConfig { image_size: 32, in_channels: 1, base_channels: 8, embedding_dim: 64, ..Default::default() };
//! let network = IResNet::new([1, 1, 1, 1], config, vb)?;
//!
//! let images = Tensor::zeros((2, 1, 32, 32), DType::F32, &Device::Cpu)?;
//! let embeddings = network.forward_t(&images, false)?;
//! assert_eq!(embeddings.dims(), [2, 64]);
//! # Ok(()) }
//! ```

mod cost;
pub mod expression;
mod inception;
pub mod iresnet;
pub mod mobilefacenet;
pub mod pytorch;
pub mod resnet;
mod unit;
pub mod vit;

pub use expression::{
    Branches, Classification, ExpressionNet, ExpressionNetConfig, ExpressionOutput,
};
pub use iresnet::{IResNet, IResNetConfig, iresnet18, iresnet34, iresnet50, iresnet100};
pub use mobilefacenet::{MobileFaceNet, MobileFaceNetConfig, mobilefacenet};
pub use pytorch::{load_pytorch, save_pytorch, select, var_builder};
pub use resnet::{ResNet, ResNetBlock, ResNetConfig, Stem, resnet18, resnet50};
pub use vit::{VisionTransformer, VisionTransformerConfig, vit_small, vit_tiny};
