//! The trunk of a pre-training recipe and what is minimised on it.

use candle::{Module, Tensor};
use candle_nn::{ModuleT, VarBuilder};
use phiz_backbones::resnet::{ResNet, ResNetConfig, Stem, resnet18, resnet50};
use phiz_backbones::{VisionTransformer, VisionTransformerConfig, vit_small, vit_tiny};
use phiz_kernels::cross_entropy;
use phiz_kernels::layers::{Linear, linear};
use phiz_losses::{ArcFace, ArcFaceConfig, CosFace, CosFaceConfig};
use phiz_pretrain::{
    BarlowTwins, BarlowTwinsConfig, Byol, ByolConfig, Ema, Mae, MaeConfig, Method, Moment, SimClr,
    SimClrConfig, SinkhornConfig, StepReport, Swav, SwavConfig, TokenShape, Tokens, Trunk, VicReg,
    VicRegConfig, Views, spread, target_builder,
};
use phiz_train::Parameters;

use super::config::{MethodName, PretrainConfig, SupervisedHead, TrunkName, TrunkStem};
use crate::{Error, Result};

/// Where the trunk's parameters stand.
pub(super) const TRUNK: &str = "backbone";

/// The network that is kept.
pub(super) enum Backbone {
    ResNet(Box<ResNet>),
    Transformer(Box<VisionTransformer>),
}

impl Backbone {
    /// The trunk a configuration names.
    ///
    /// # Errors
    /// When a size does not suit the network.
    pub fn new(config: &PretrainConfig, vb: &VarBuilder) -> Result<Self> {
        let (model, below) = (&config.model, vb.pp(TRUNK));
        let resnet = ResNetConfig {
            base_channels: ResNetConfig::width(model.width),
            stem: match model.stem {
                TrunkStem::Imagenet => Stem::Imagenet,
                TrunkStem::Half => Stem::Half,
                TrunkStem::Full => Stem::Full,
            },
            ..ResNetConfig::default()
        };
        let transformer = VisionTransformerConfig {
            image_size: config.views.large_size,
            patch_size: model.patch,
            depth: model.depth,
            ..VisionTransformerConfig::default()
        };
        Ok(match model.trunk {
            TrunkName::Resnet18 => Self::ResNet(Box::new(resnet18(resnet, below)?)),
            TrunkName::Resnet50 => Self::ResNet(Box::new(resnet50(resnet, below)?)),
            TrunkName::VitTiny => Self::Transformer(Box::new(vit_tiny(transformer, below)?)),
            TrunkName::VitSmall => Self::Transformer(Box::new(vit_small(transformer, below)?)),
        })
    }

    /// Length of the features.
    pub fn features(&self) -> usize {
        match self {
            Self::ResNet(net) => net.features(),
            Self::Transformer(net) => net.features(),
        }
    }

    /// The network for inference.
    pub fn folded(&self) -> Result<Self> {
        Ok(match self {
            Self::ResNet(net) => Self::ResNet(Box::new(net.folded()?)),
            Self::Transformer(net) => Self::Transformer(net.clone()),
        })
    }
}

impl Trunk for Backbone {
    fn features(&self, images: &Tensor, train: bool) -> candle::Result<Tensor> {
        match self {
            Self::ResNet(net) => net.forward_t(images, train),
            Self::Transformer(net) => net.forward_t(images, train),
        }
    }

    fn tokens(&self) -> Option<&dyn Tokens> {
        match self {
            Self::ResNet(_) => None,
            Self::Transformer(_) => Some(self),
        }
    }
}

impl Tokens for Backbone {
    fn patches(&self, images: &Tensor) -> candle::Result<Tensor> {
        match self {
            Self::ResNet(_) => candle::bail!("a ResNet has no tokens"),
            Self::Transformer(net) => net.patches(images),
        }
    }

    fn encode(&self, tokens: &Tensor) -> candle::Result<Tensor> {
        match self {
            Self::ResNet(_) => candle::bail!("a ResNet has no tokens"),
            Self::Transformer(net) => net.encode(tokens),
        }
    }
}

/// Trunk and method of a run.
pub(super) struct Learner {
    pub backbone: Backbone,
    kind: Kind,
}

enum Kind {
    Unlabelled(Box<dyn Method>),
    Labelled(Box<Labelled>),
}

/// A class head on a linear embedding of the features.
struct Labelled {
    embedding: Linear,
    head: ClassHead,
}

enum ClassHead {
    Softmax(Linear),
    ArcFace(ArcFace),
    CosFace(CosFace),
}

impl Learner {
    /// Makes everything from `parameters`, which then hold all that a checkpoint needs.
    ///
    /// # Errors
    /// When a size does not suit the network or the method.
    pub fn new(
        config: &PretrainConfig,
        classes: usize,
        steps_per_epoch: u64,
        parameters: &Parameters,
    ) -> Result<Self> {
        let vb = parameters.var_builder();
        let backbone = Backbone::new(config, &vb)?;
        let features = backbone.features();
        let method = &config.method;
        let (hidden, dim) = (method.hidden, method.dim);
        let unlabelled: Box<dyn Method> = match method.name {
            MethodName::Swav => {
                let settings = SwavConfig {
                    hidden,
                    dim,
                    head_norm: method.head_norm,
                    prototypes: method.prototypes,
                    temperature: method.temperature,
                    sinkhorn: SinkhornConfig {
                        epsilon: method.epsilon,
                        iterations: method.iterations,
                    },
                    hard: method.hard,
                    queue: method.queue,
                    queue_from: (method.queue_from * steps_per_epoch as f64).round() as u64,
                    freeze_steps: method.freeze_steps,
                    ..SwavConfig::default()
                };
                Box::new(Swav::new(&settings, features, config.train.batch, vb)?)
            }
            MethodName::Simclr => {
                let settings = SimClrConfig {
                    hidden,
                    dim,
                    temperature: method.temperature,
                };
                Box::new(SimClr::new(&settings, features, vb)?)
            }
            MethodName::Byol => {
                let settings = ByolConfig {
                    hidden,
                    dim,
                    momentum: method.momentum,
                };
                let target = target_builder(vb.clone());
                let slow = Box::new(Backbone::new(config, &target)?);
                let pairs = || Ema::new(&parameters.variables());
                Box::new(Byol::new(&settings, features, vb, target, slow, pairs)?)
            }
            MethodName::Vicreg => {
                let [invariance, variance, covariance] = method.vic;
                let settings = VicRegConfig {
                    hidden,
                    dim,
                    invariance,
                    variance,
                    covariance,
                    ..VicRegConfig::default()
                };
                Box::new(VicReg::new(&settings, features, vb)?)
            }
            MethodName::BarlowTwins => {
                let settings = BarlowTwinsConfig {
                    hidden,
                    dim,
                    lambda: method.lambda,
                };
                Box::new(BarlowTwins::new(&settings, features, vb)?)
            }
            MethodName::Mae => {
                let settings = MaeConfig {
                    hidden: method.masked,
                    dim,
                    depth: method.decoder_depth,
                    heads: method.decoder_heads,
                    normalised: true,
                    seed: config.seed,
                };
                let shape = TokenShape {
                    dim: features,
                    image: config.views.large_size,
                    patch: config.model.patch,
                    channels: 3,
                };
                Box::new(Mae::new(&settings, shape, vb)?)
            }
            MethodName::Supervised => {
                let head = match method.head {
                    SupervisedHead::Softmax => {
                        ClassHead::Softmax(linear(dim, classes, vb.pp("head"))?)
                    }
                    SupervisedHead::Arcface => {
                        let settings = ArcFaceConfig {
                            scale: method.scale,
                            margin: method.margin,
                            ..ArcFaceConfig::default()
                        };
                        ClassHead::ArcFace(ArcFace::new(dim, classes, settings, vb.pp("head"))?)
                    }
                    SupervisedHead::Cosface => {
                        let settings = CosFaceConfig {
                            scale: method.scale,
                            margin: method.margin,
                        };
                        ClassHead::CosFace(CosFace::new(dim, classes, settings, vb.pp("head"))?)
                    }
                };
                let embedding = linear(features, dim, vb.pp("embedding"))?;
                return Ok(Self {
                    backbone,
                    kind: Kind::Labelled(Box::new(Labelled { embedding, head })),
                });
            }
        };
        Ok(Self {
            backbone,
            kind: Kind::Unlabelled(unlabelled),
        })
    }

    /// Loss and metrics of a batch; `labels` are looked at by supervised pre-training alone.
    ///
    /// # Errors
    /// When the views are not what the method needs.
    pub fn step(&self, groups: Vec<Tensor>, labels: &[u32], moment: Moment) -> Result<StepReport> {
        let views = Views::new(groups, labels.len())?;
        match &self.kind {
            Kind::Unlabelled(method) => Ok(method.step(&self.backbone, &views, moment)?),
            Kind::Labelled(own) => own.step(&self.backbone, &views, labels),
        }
    }
}

impl Labelled {
    fn step(&self, trunk: &dyn Trunk, views: &Views, labels: &[u32]) -> Result<StepReport> {
        let embedding = self.embedding.forward(&views.features(trunk, true)?)?;
        let targets = Tensor::new(labels, embedding.device())?;
        let logits = match &self.head {
            ClassHead::Softmax(head) => head.forward(&embedding)?,
            ClassHead::ArcFace(head) => head.forward(&embedding, &targets)?,
            ClassHead::CosFace(head) => head.forward(&embedding, &targets)?,
        };
        let best = logits
            .detach()
            .argmax(candle::D::Minus1)?
            .to_vec1::<u32>()?;
        let right = best.iter().zip(labels).filter(|(a, b)| a == b).count();
        if labels.is_empty() {
            return Err(Error::config("a batch without images"));
        }
        Ok(StepReport {
            loss: cross_entropy(&logits, &targets, 0.0)?,
            metrics: vec![
                ("spread".to_string(), spread(&embedding)?),
                (
                    "batch_accuracy".to_string(),
                    right as f64 / labels.len() as f64,
                ),
            ],
        })
    }
}
