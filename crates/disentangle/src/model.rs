//! The players: encoders of d and l, classifier, decoder, and the adversaries that look for what a code should not hold.

use candle::{D, Result, Tensor};
use candle_nn::VarBuilder;
use phiz_kernels::layers::{Linear, linear};

use crate::factor::Factor;
use crate::mlp::{Mlp, Weights};
use crate::networks::{Decoder, DecoderConfig, Trunk};
use crate::rules::Information;

/// Sizes of the codes and networks.
#[derive(Debug, Clone, PartialEq)]
pub struct DisentanglerConfig {
    /// Classes of the task.
    pub classes: usize,
    /// Size of the discriminative code d (default 10).
    pub d_dim: usize,
    /// Size of the latent code l (default 20).
    pub l_dim: usize,
    /// Hidden layers of the classifier on d (default 128).
    pub classifier_hidden: Vec<usize>,
    /// Hidden layers of each adversary (default 128, 128).
    pub adversary_hidden: Vec<usize>,
    /// The decoder.
    pub decoder: DecoderConfig,
    /// How mutual information is estimated (default CLUB); MINE needs networks of its own.
    pub information: Information,
}

impl Default for DisentanglerConfig {
    fn default() -> Self {
        Self {
            classes: 10,
            d_dim: 10,
            l_dim: 20,
            classifier_hidden: vec![128],
            adversary_hidden: vec![128, 128],
            decoder: DecoderConfig::default(),
            information: Information::default(),
        }
    }
}

/// Encoders, classifier, decoder and adversaries.
///
/// Parameters stand under `trunk` (and `trunk_l` where l has a trunk of its own) by the caller's choice of builder,
/// and here under `head_d`, `head_l`, `classifier`, `decoder` and `adversary`; the last is what plays against the rest.
pub struct Disentangler {
    trunk: Box<dyn Trunk>,
    trunk_l: Option<Box<dyn Trunk>>,
    head_d: Linear,
    head_l: Linear,
    classifier: Mlp,
    decoder: Decoder,
    factors: Vec<Factor>,
    classes: usize,
    pub(crate) adversaries: Adversaries,
}

/// What is asked of codes that should not know the answer.
pub(crate) struct Adversaries {
    /// Each factor from d, and the class where the game is played given it; also CLUB's estimator of I(d; s).
    pub(crate) factors_from_d: Vec<Mlp>,
    /// The class from l.
    pub(crate) class_from_l: Mlp,
    /// Each factor from l: the estimator of I(l; s).
    pub(crate) factors_from_l: Vec<Mlp>,
    /// Mean and log-variance of l from d: the estimator of I(d; l).
    pub(crate) l_from_d: Mlp,
    /// MINE's networks, where information is estimated by them.
    pub(crate) statistics: Option<Statistics>,
}

/// MINE's networks: from two parts side by side to one number.
pub(crate) struct Statistics {
    /// d and each factor.
    pub(crate) factors_d: Vec<Mlp>,
    /// l and each factor.
    pub(crate) factors_l: Vec<Mlp>,
    /// d and l.
    pub(crate) l_d: Mlp,
}

/// The two codes of a batch.
#[derive(Debug, Clone)]
pub struct Codes {
    /// Discriminative, (B, `d_dim`), in (-1, 1).
    pub d: Tensor,
    /// Latent, (B, `l_dim`), in (-1, 1).
    pub l: Tensor,
}

impl Disentangler {
    /// `trunk` gives the features of both heads, or of d alone when there is a `trunk_l`.
    ///
    /// # Errors
    /// When there is no factor or two have one name, a size is 0, or the builder cannot give the tensors.
    pub fn new(
        config: &DisentanglerConfig,
        factors: Vec<Factor>,
        trunk: Box<dyn Trunk>,
        trunk_l: Option<Box<dyn Trunk>>,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let mut names: Vec<&str> = factors.iter().map(|factor| factor.name.as_str()).collect();
        names.sort_unstable();
        if let Some([name, _]) = names.array_windows().find(|[a, b]| a == b) {
            candle::bail!("disentangler: two factors are called `{name}`")
        }
        if config.classes < 2 || config.d_dim == 0 || config.l_dim == 0 {
            candle::bail!(
                "disentangler: {} classes, d of {} and l of {} numbers; expected at least 2, 1 and 1",
                config.classes,
                config.d_dim,
                config.l_dim
            )
        }
        let semantic: usize = factors.iter().map(Factor::code_dim).sum();
        let hidden = &config.adversary_hidden;
        let adversary = vb.pp("adversary");
        let wrong = |factor: &&Factor| ![0, config.classes].contains(&factor.by_class.len());
        if let Some(factor) = factors.iter().find(wrong) {
            candle::bail!(
                "disentangler: factor `{}` is given for {} classes; expected {}",
                factor.name,
                factor.by_class.len(),
                config.classes
            )
        }
        let given = factors.iter().find(|factor| !factor.by_class.is_empty());
        if let (Information::Mine, Some(factor)) = (config.information, given) {
            candle::bail!(
                "disentangler: factor `{}` is given by class; MINE estimates no information given the class, expected CLUB",
                factor.name
            )
        }
        let about = |factor: &Factor, from: usize, name: &str| -> Result<Mlp> {
            let vb = adversary.pp(name).pp(&factor.name);
            Mlp::undecided(from, hidden, factor.output_dim(), &vb)
        };
        let from_d = |factor: &Factor| {
            let told = factor.by_class.len();
            about(factor, config.d_dim + told, "factor_from_d")
        };
        let from_l = |factor: &Factor| about(factor, config.l_dim, "factor_from_l");
        let statistics = match config.information {
            Information::Club => None,
            Information::Mine => {
                let vb = adversary.pp("mine");
                let with_factors = |from: usize, name: &str| -> Result<Vec<Mlp>> {
                    let net = |factor: &Factor| {
                        let vb = vb.pp(name).pp(&factor.name);
                        Mlp::undecided(from + factor.code_dim(), hidden, 1, &vb)
                    };
                    factors.iter().map(net).collect()
                };
                Some(Statistics {
                    factors_d: with_factors(config.d_dim, "factor_d")?,
                    factors_l: with_factors(config.l_dim, "factor_l")?,
                    l_d: Mlp::undecided(config.d_dim + config.l_dim, hidden, 1, &vb.pp("l_d"))?,
                })
            }
        };
        let adversaries = Adversaries {
            statistics,
            factors_from_d: factors.iter().map(from_d).collect::<Result<_>>()?,
            class_from_l: Mlp::undecided(
                config.l_dim,
                hidden,
                config.classes,
                &adversary.pp("class_from_l"),
            )?,
            factors_from_l: factors.iter().map(from_l).collect::<Result<_>>()?,
            l_from_d: Mlp::undecided(
                config.d_dim,
                hidden,
                2 * config.l_dim,
                &adversary.pp("l_from_d"),
            )?,
        };
        let l_features = trunk_l.as_ref().map_or(trunk.dim(), |trunk| trunk.dim());
        Ok(Self {
            head_d: linear(trunk.dim(), config.d_dim, vb.pp("head_d"))?,
            head_l: linear(l_features, config.l_dim, vb.pp("head_l"))?,
            classifier: Mlp::new(
                config.d_dim,
                &config.classifier_hidden,
                config.classes,
                &vb.pp("classifier"),
            )?,
            decoder: Decoder::new(
                config.d_dim + semantic + config.l_dim,
                &config.decoder,
                &vb.pp("decoder"),
            )?,
            trunk,
            trunk_l,
            factors,
            classes: config.classes,
            adversaries,
        })
    }

    /// The factors d is to be free of, in the order their values are given.
    pub fn factors(&self) -> &[Factor] {
        &self.factors
    }

    /// Classes of the task.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// d and l of a batch.
    ///
    /// # Shapes
    /// `images` (B, C, H, W).
    ///
    /// # Errors
    /// When the images do not fit the trunk.
    pub fn encode(&self, images: &Tensor, train: bool) -> Result<Codes> {
        use candle::Module;
        let features = self.trunk.features(images, train)?;
        let d = self.head_d.forward(&features)?.tanh()?;
        let features = match &self.trunk_l {
            Some(trunk) => trunk.features(images, train)?,
            None => features,
        };
        let l = self.head_l.forward(&features)?.tanh()?;
        Ok(Codes { d, l })
    }

    /// Class scores (B, classes) from d (B, `d_dim`).
    ///
    /// # Errors
    /// When d has another width.
    pub fn classify(&self, d: &Tensor) -> Result<Tensor> {
        self.classifier.forward(d, Weights::Learning)
    }

    /// An image from its three parts; s is the factors' codes ([`Factor::code`]) side by side.
    ///
    /// # Shapes
    /// `d` (B, `d_dim`), `s` (B, sum of code sizes), `l` (B, `l_dim`); result (B, C, H, W) in (-1, 1).
    ///
    /// # Errors
    /// When a part has another width.
    pub fn decode(&self, d: &Tensor, s: &Tensor, l: &Tensor, train: bool) -> Result<Tensor> {
        self.decoder
            .forward(&Tensor::cat(&[d, s, l], D::Minus1)?, train)
    }
}
