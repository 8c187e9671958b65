//! The network of a recipe: a trunk of any kind, an embedding for the metric loss, logits, and
//! the embedding that is used at test time.
//!
//! Parameters stand under `backbone.` (with the names of the backbone's PyTorch counterpart),
//! `head.` (the class weights of networks that bring none of their own) and `metric_loss.`.

use candle::{Module, Tensor};
use candle_nn::VarBuilder;
use phiz_backbones::{
    Branches, ExpressionNet, ExpressionNetConfig, IResNet, IResNetConfig, MobileFaceNet,
    MobileFaceNetConfig, ResNet, ResNetConfig, Stem, iresnet18, iresnet34, iresnet50, iresnet100,
    mobilefacenet, resnet18, resnet50,
};
use phiz_kernels::layers::{Linear, linear};
use phiz_losses::{ArcFace, ArcFaceConfig, CosFace, CosFaceConfig};

use crate::config::{self, Backbone, Config, Head};
use crate::{Error, Result};

/// Trunk and head of a recipe.
pub struct Network {
    trunk: Trunk,
    head: ClassHead,
}

enum Trunk {
    Expression(Box<ExpressionNet>),
    IResNet(Box<IResNet>),
    MobileFaceNet(Box<MobileFaceNet>),
    ResNet(Box<ResNet>),
}

enum ClassHead {
    /// The trunk has a classification branch of its own.
    Own,
    /// No softmax loss is trained, so there are no logits.
    Absent,
    Linear(Linear),
    ArcFace(ArcFace),
    CosFace(CosFace),
}

/// What a training batch becomes.
pub struct Outputs {
    /// Class scores (B, classes), margins applied; none where no softmax loss is trained.
    pub logits: Option<Tensor>,
    /// Embedding for the metric loss (B, D).
    pub metric_embedding: Tensor,
}

/// What a batch becomes at test time.
pub struct Judged {
    /// Embedding (B, D), as trained: not scaled to unit length.
    pub embedding: Tensor,
    /// Class scores (B, classes): logits of a linear head, cosines times the scale of a margin head; none where no softmax loss
    /// was trained.
    pub logits: Option<Tensor>,
}

impl Network {
    /// Builds the network `config.model` names.
    ///
    /// # Errors
    /// When image size, channels or width do not suit the network.
    pub fn new(config: &Config, classes: usize, vb: &VarBuilder) -> Result<Network> {
        let model = &config.model;
        let (image_size, in_channels) = (config.image.size, config.image.channels);
        let embedding_dim = model.embedding_dim;
        let branches = match model.branches {
            config::Branches::Two => Branches::Two,
            config::Branches::One => Branches::One,
        };
        let below = vb.pp("backbone");
        let iresnet = || -> Result<IResNetConfig> {
            Ok(IResNetConfig {
                image_size,
                in_channels,
                embedding_dim,
                base_channels: ((64.0 * model.width).round() as usize).max(1),
                dropout: model.dropout,
            })
        };
        let resnet = || ResNetConfig {
            in_channels,
            base_channels: ResNetConfig::width(model.width),
            stem: Stem::for_side(image_size),
            outputs: Some(embedding_dim),
        };
        let trunk = match model.backbone {
            Backbone::Resnet18 => Trunk::ResNet(Box::new(resnet18(resnet(), below)?)),
            Backbone::Resnet50 => Trunk::ResNet(Box::new(resnet50(resnet(), below)?)),
            Backbone::ExpressionNet => {
                let net = ExpressionNetConfig {
                    in_channels,
                    image_size,
                    classes,
                    embedding_dim,
                    branches,
                    stop_gradient: model.stop_gradient,
                    width: model.width,
                    ..ExpressionNetConfig::default()
                };
                Trunk::Expression(Box::new(ExpressionNet::new(net, below)?))
            }
            Backbone::Iresnet18 => Trunk::IResNet(Box::new(iresnet18(iresnet()?, below)?)),
            Backbone::Iresnet34 => Trunk::IResNet(Box::new(iresnet34(iresnet()?, below)?)),
            Backbone::Iresnet50 => Trunk::IResNet(Box::new(iresnet50(iresnet()?, below)?)),
            Backbone::Iresnet100 => Trunk::IResNet(Box::new(iresnet100(iresnet()?, below)?)),
            Backbone::Mobilefacenet => {
                let net = MobileFaceNetConfig {
                    image_size,
                    in_channels,
                    embedding_dim,
                    ..MobileFaceNetConfig::default()
                };
                Trunk::MobileFaceNet(Box::new(mobilefacenet(net, below)?))
            }
        };
        if branches == Branches::Two && !matches!(trunk, Trunk::Expression(_)) {
            return Err(Error::config(
                "`model.branches` is \"two\"; only the expression-net has two, expected \"one\"",
            ));
        }
        let objective = &config.objective;
        let head_vb = vb.pp("head");
        let head = match (objective.head, &trunk) {
            (Head::Linear, Trunk::Expression(_)) => ClassHead::Own,
            (_, Trunk::Expression(_)) => {
                return Err(Error::config(
                    "`objective.head`: the expression-net has a linear head of its own, expected \"linear\"",
                ));
            }
            _ if objective.softmax_weight == 0.0 => ClassHead::Absent,
            (Head::Linear, _) => ClassHead::Linear(linear(embedding_dim, classes, head_vb)?),
            (Head::Arcface, _) => {
                let head = ArcFaceConfig {
                    scale: objective.scale,
                    margin: objective.margin,
                    ..ArcFaceConfig::default()
                };
                ClassHead::ArcFace(ArcFace::new(embedding_dim, classes, head, head_vb)?)
            }
            (Head::Cosface, _) => {
                let head = CosFaceConfig {
                    scale: objective.scale,
                    margin: objective.margin,
                };
                ClassHead::CosFace(CosFace::new(embedding_dim, classes, head, head_vb)?)
            }
        };
        Ok(Network { trunk, head })
    }

    /// The training path. `dropout_seed` decides this step's dropout mask.
    ///
    /// # Errors
    /// When the images or labels have another shape than the network was built for.
    pub fn forward(&self, images: &Tensor, labels: &Tensor, dropout_seed: u64) -> Result<Outputs> {
        let embedding = match &self.trunk {
            Trunk::Expression(net) => {
                let out = net.forward_t(images, true)?;
                return Ok(Outputs {
                    logits: Some(out.logits),
                    metric_embedding: out.metric_embedding,
                });
            }
            Trunk::IResNet(net) => net.forward_seeded(images, true, dropout_seed)?,
            Trunk::MobileFaceNet(net) => candle_nn::ModuleT::forward_t(net.as_ref(), images, true)?,
            Trunk::ResNet(net) => candle_nn::ModuleT::forward_t(net.as_ref(), images, true)?,
        };
        let logits = match &self.head {
            ClassHead::Own => return Err(Error::config("this trunk has no classification branch")),
            ClassHead::Absent => None,
            ClassHead::Linear(head) => Some(head.forward(&embedding)?),
            ClassHead::ArcFace(head) => Some(head.forward(&embedding, labels)?),
            ClassHead::CosFace(head) => Some(head.forward(&embedding, labels)?),
        };
        Ok(Outputs {
            logits,
            metric_embedding: embedding,
        })
    }

    /// The test path: running statistics, no margins, no metric branch.
    ///
    /// # Errors
    /// When the images have another shape than the network was built for.
    pub fn judge(&self, images: &Tensor) -> Result<Judged> {
        let embedding = match &self.trunk {
            Trunk::Expression(net) => {
                let out = net.classify(images)?;
                return Ok(Judged {
                    embedding: out.embedding,
                    logits: Some(out.logits),
                });
            }
            Trunk::IResNet(net) => net.forward_seeded(images, false, 0)?,
            Trunk::MobileFaceNet(net) => {
                candle_nn::ModuleT::forward_t(net.as_ref(), images, false)?
            }
            Trunk::ResNet(net) => candle_nn::ModuleT::forward_t(net.as_ref(), images, false)?,
        };
        let logits = match &self.head {
            ClassHead::Own => return Err(Error::config("this trunk has no classification branch")),
            ClassHead::Absent => None,
            ClassHead::Linear(head) => Some(head.forward(&embedding)?),
            ClassHead::ArcFace(head) => Some(head.cosine(&embedding)?),
            ClassHead::CosFace(head) => Some(head.cosine(&embedding)?),
        };
        Ok(Judged { embedding, logits })
    }
}
