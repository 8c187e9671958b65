//! Splits an image into three parts that do not know of each other.
//!
//! An input x becomes **d**, discriminative: it tells the class and nothing of the labelled factors; **s**, semantic: the
//! labelled factors themselves (light, make-up, pose, an angle); **l**, latent: the rest that a decoder needs. An encoder
//! pair gives d and l, a classifier reads the class from d, a decoder rebuilds x from (d, s, l), and adversaries try to
//! read the factors from d and the class and the factors from l, while the encoders see to it that they cannot
//! (X. Liu et al., "Feature-level Frankenstein", CVPR 2019, and its extension with mutual information in TPAMI 44(9)).
//! At test time d alone is used. Where a factor goes with the class in training, [`Factor::given_class`] asks d to say no more
//! of it than the class does. The papers leave many details open; what is done here and why stands with each item.
//!
//! ```
//! use candle::{DType, Device, Tensor};
//! use candle_nn::{VarBuilder, VarMap};
//! use phiz_disentangle::{
//!     Batch, ConvEncoder, ConvEncoderConfig, Disentangler, DisentanglerConfig, Factor, FactorValues, Objective, Schedule, Turn,
//! };
//! # fn main() -> candle::Result<()> {
//! let vars = VarMap::new();
//! let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
//! let encoder = ConvEncoderConfig { widths: vec![4, 8], features: 16, ..Default::default() };
//! let trunk = Box::new(ConvEncoder::new(&encoder, &vb.pp("trunk"))?);
//! let angle = [0, 1, 2, 0];
//! let config = DisentanglerConfig::default();
//! let factors = vec![Factor::categorical("angle", &angle)?];
//! let model = Disentangler::new(&config, factors, trunk, None, &vb)?;
//!
//! let batch = Batch {
//!     images: Tensor::randn(0f32, 0.5, (4, 1, 28, 28), &Device::Cpu)?,
//!     labels: Tensor::new(&[0u32, 1, 2, 3], &Device::Cpu)?,
//!     factors: vec![FactorValues::Categorical(Tensor::new(&angle, &Device::Cpu)?)],
//! };
//! let (turn, ramp) = Schedule::default().turn(5); // steps 0 to 4 are the adversaries'
//! assert_eq!(turn, Turn::Main);
//! let step = model.main_step(&batch, &Objective::default(), ramp)?;
//! let gradients = step.loss.backward()?;
//! # assert!(gradients.get(&vars.data().lock().unwrap()["head_d.weight"]).is_some());
//! # assert!(gradients.get(&vars.data().lock().unwrap()["adversary.class_from_l.0.weight"]).is_none());
//! # Ok(()) }
//! ```

mod alarm;
mod factor;
mod game;
mod given;
mod information;
mod mlp;
mod model;
mod networks;
mod reconstruct;
mod reversal;
mod rules;
mod tally;
mod targets;
mod uai;

pub use alarm::Alarm;
pub use factor::{Factor, FactorKind, FactorValues};
pub use game::{Batch, Step, TaskLoss};
pub use given::{club_given_class, ignorance_given_class};
pub use information::{
    club, club_categorical, club_gaussian, club_multi_label, gaussian_nll, mine,
    negative_log_likelihood,
};
pub use mlp::{Mlp, Weights};
pub use model::{Codes, Disentangler, DisentanglerConfig};
pub use networks::{
    ConvEncoder, ConvEncoderConfig, Decoder, DecoderConfig, Doubling, Halving, Trunk,
};
pub use reconstruct::{Reconstruction, ssim};
pub use reversal::reverse_gradient;
pub use rules::{Against, Ignorant, Information, Objective, Schedule, Turn};
pub use targets::{
    certainty, ignorance, negative_binary_entropy, negative_entropy, target_binary_cross_entropy,
    target_cross_entropy,
};
pub use uai::{Uai, UaiNoise, UaiObjective};
