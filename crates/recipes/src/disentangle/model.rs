//! The networks of a disentangling recipe.

use candle::Tensor;
use candle_nn::{ModuleT, VarBuilder};
use phiz_backbones::{
    IResNet, IResNetConfig, MobileFaceNet, MobileFaceNetConfig, iresnet18, mobilefacenet,
};
use phiz_disentangle::{Codes, ConvEncoder, ConvEncoderConfig, Disentangler, Factor, Trunk, Uai};

use super::config::{DisentangleConfig, Mode, TrunkKind};
use crate::Result;

/// The networks that split an image.
pub enum Splitter {
    /// d, s and l.
    Game(Box<Disentangler>),
    /// d and l, without labels of factors.
    Uai(Box<Uai>),
}

impl Splitter {
    pub(crate) fn new(
        config: &DisentangleConfig,
        classes: usize,
        factors: Vec<Factor>,
        vb: &VarBuilder<'_>,
    ) -> Result<Splitter> {
        let sizes = config.sizes(classes);
        let own = trunk(config, &vb.pp("trunk"))?;
        if config.game.mode == Mode::Uai {
            return Ok(Splitter::Uai(Box::new(Uai::new(&sizes, own, vb)?)));
        }
        let of_l = config
            .model
            .separate_trunk
            .then(|| trunk(config, &vb.pp("trunk_l")))
            .transpose()?;
        let game = Disentangler::new(&sizes, factors, own, of_l, vb)?;
        Ok(Splitter::Game(Box::new(game)))
    }

    /// d and l of images (B, C, H, W), by running statistics.
    ///
    /// # Errors
    /// When the images do not fit the networks.
    pub fn encode(&self, images: &Tensor) -> Result<Codes> {
        Ok(match self {
            Splitter::Game(game) => game.encode(images, false)?,
            Splitter::Uai(uai) => uai.encode(images, false)?,
        })
    }

    /// Class scores (B, classes) from d.
    ///
    /// # Errors
    /// When d has another width.
    pub fn classify(&self, d: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Splitter::Game(game) => game.classify(d)?,
            Splitter::Uai(uai) => uai.classify(d)?,
        })
    }

    /// Images from their parts; where the networks know of no factors, `s` does not count.
    ///
    /// # Errors
    /// When a part has another width.
    pub fn decode(&self, d: &Tensor, s: &Tensor, l: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Splitter::Game(game) => game.decode(d, s, l, false)?,
            Splitter::Uai(uai) => uai.decode(d, l, false)?,
        })
    }
}

fn trunk(config: &DisentangleConfig, vb: &VarBuilder<'_>) -> Result<Box<dyn Trunk>> {
    let (image, model) = (&config.image, &config.model);
    Ok(match model.trunk {
        TrunkKind::Conv => {
            let encoder = ConvEncoderConfig {
                image_size: image.size,
                channels: image.channels,
                widths: model.widths.clone(),
                features: model.features,
                halving: config.halving(),
            };
            Box::new(ConvEncoder::new(&encoder, vb)?)
        }
        TrunkKind::Iresnet18 => {
            let net = IResNetConfig {
                image_size: image.size,
                in_channels: image.channels,
                embedding_dim: model.features,
                base_channels: ((64.0 * model.width).round() as usize).max(1),
                dropout: 0.0,
            };
            Box::new(Residual {
                net: iresnet18(net, vb.clone())?,
                dim: model.features,
            })
        }
        TrunkKind::Mobilefacenet => {
            let net = MobileFaceNetConfig {
                image_size: image.size,
                in_channels: image.channels,
                embedding_dim: model.features,
                ..MobileFaceNetConfig::default()
            };
            Box::new(Mobile {
                net: mobilefacenet(net, vb.clone())?,
                dim: model.features,
            })
        }
    })
}

struct Residual {
    net: IResNet,
    dim: usize,
}

impl Trunk for Residual {
    fn dim(&self) -> usize {
        self.dim
    }
    fn features(&self, images: &Tensor, train: bool) -> candle::Result<Tensor> {
        self.net.forward_t(images, train)
    }
}

struct Mobile {
    net: MobileFaceNet,
    dim: usize,
}

impl Trunk for Mobile {
    fn dim(&self) -> usize {
        self.dim
    }
    fn features(&self, images: &Tensor, train: bool) -> candle::Result<Tensor> {
        self.net.forward_t(images, train)
    }
}
