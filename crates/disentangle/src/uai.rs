//! A baseline without labels of the nuisance: unsupervised adversarial invariance (Jaiswal et al., "Unsupervised
//! Adversarial Invariance", NeurIPS 2018).
//!
//! Two codes: d, from which the class is read, and l. The decoder rebuilds the image from l and a d of which half is dropped
//! out, so that whatever the image needs and the class does not is safer in l. Two disentanglers, one layer each, predict
//! l from d and d from l; the encoder makes their answers look like noise. Here d and l have the names they have in the
//! [`Disentangler`](crate::Disentangler) (the paper's e1 and e2).

use candle::{D, Result, Tensor};
use candle_nn::VarBuilder;
use phiz_kernels::layers::{Linear, linear};

use crate::game::Step;
use crate::mlp::{Mlp, Weights};
use crate::model::{Codes, DisentanglerConfig};
use crate::networks::{Decoder, Trunk};
use crate::tally::{Tally, accuracy, mean_deviation};

/// Weights of the terms, as the authors' program sets them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UaiObjective {
    /// Of the classification loss (default 100).
    pub classification: f64,
    /// Of the mean squared error of the reconstruction (default 0.1).
    pub reconstruction: f64,
    /// Of the disentanglers' mean squared error (default 1).
    pub disentangler: f64,
}

impl Default for UaiObjective {
    fn default() -> Self {
        Self {
            classification: 100.,
            reconstruction: 0.1,
            disentangler: 1.,
        }
    }
}

/// What is random in a main turn, drawn by the caller.
#[derive(Debug, Clone)]
pub struct UaiNoise {
    /// Factors on d before the decoder, (B, `d_dim`): 0 with the dropout's probability p (the authors' is 0.5), else `1 / (1 - p)`.
    pub dropout: Tensor,
    /// What the prediction of d is to look like, uniform in [-1, 1], (B, `d_dim`).
    pub d: Tensor,
    /// What the prediction of l is to look like, uniform in [-1, 1], (B, `l_dim`).
    pub l: Tensor,
}

/// Encoder, classifier, decoder and the two disentanglers.
///
/// Parameters stand under `head_d`, `head_l`, `classifier`, `decoder` and `adversary` as in the disentangler.
pub struct Uai {
    trunk: Box<dyn Trunk>,
    head_d: Linear,
    head_l: Linear,
    classifier: Mlp,
    decoder: Decoder,
    l_from_d: Mlp,
    d_from_l: Mlp,
}

impl Uai {
    /// The sizes of `config` that concern it: all but the adversaries' hidden layers, which it has none of.
    ///
    /// # Errors
    /// When a size is 0, or the builder cannot give the tensors.
    pub fn new(
        config: &DisentanglerConfig,
        trunk: Box<dyn Trunk>,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let (d_dim, l_dim) = (config.d_dim, config.l_dim);
        if config.classes < 2 || d_dim == 0 || l_dim == 0 {
            candle::bail!(
                "UAI: {} classes, d of {d_dim} and l of {l_dim} numbers; expected at least 2, 1 and 1",
                config.classes
            )
        }
        let hidden = &config.classifier_hidden;
        let adversary = vb.pp("adversary");
        Ok(Self {
            head_d: linear(trunk.dim(), d_dim, vb.pp("head_d"))?,
            head_l: linear(trunk.dim(), l_dim, vb.pp("head_l"))?,
            classifier: Mlp::new(d_dim, hidden, config.classes, &vb.pp("classifier"))?,
            decoder: Decoder::new(d_dim + l_dim, &config.decoder, &vb.pp("decoder"))?,
            l_from_d: Mlp::new(d_dim, &[], l_dim, &adversary.pp("l_from_d"))?,
            d_from_l: Mlp::new(l_dim, &[], d_dim, &adversary.pp("d_from_l"))?,
            trunk,
        })
    }

    /// d and l of a batch (B, C, H, W), each in (-1, 1).
    ///
    /// # Errors
    /// When the images do not fit the trunk.
    pub fn encode(&self, images: &Tensor, train: bool) -> Result<Codes> {
        use candle::Module;
        let features = self.trunk.features(images, train)?;
        Ok(Codes {
            d: self.head_d.forward(&features)?.tanh()?,
            l: self.head_l.forward(&features)?.tanh()?,
        })
    }

    /// Class scores (B, classes) from d (B, `d_dim`).
    ///
    /// # Errors
    /// When d has another width.
    pub fn classify(&self, d: &Tensor) -> Result<Tensor> {
        self.classifier.forward(d, Weights::Learning)
    }

    /// An image (B, C, H, W) in (-1, 1) from its two parts.
    ///
    /// # Errors
    /// When a part has another width.
    pub fn decode(&self, d: &Tensor, l: &Tensor, train: bool) -> Result<Tensor> {
        self.decoder
            .forward(&Tensor::cat(&[d, l], D::Minus1)?, train)
    }

    /// The disentanglers' turn: the mean squared error of each prediction, on codes without gradient.
    ///
    /// # Errors
    /// When the images do not fit.
    pub fn adversary_step(&self, images: &Tensor) -> Result<Step> {
        let codes = self.encode(images, true)?;
        let (d, l) = (codes.d.detach(), codes.l.detach());
        let mut tally = Tally::default();
        let error = squared(&self.predict(&self.l_from_d, &d, Weights::Learning)?, &l)?;
        tally.note("l_from_d", &error)?;
        tally.add(&error, 1.)?;
        let error = squared(&self.predict(&self.d_from_l, &l, Weights::Learning)?, &d)?;
        tally.note("d_from_l", &error)?;
        tally.add(&error, 1.)?;
        tally.finish()
    }

    /// The main players' turn.
    ///
    /// # Shapes
    /// `images` (B, C, H, W), `labels` (B) u32.
    ///
    /// # Errors
    /// When images, labels or noise do not fit.
    pub fn main_step(
        &self,
        images: &Tensor,
        labels: &Tensor,
        objective: &UaiObjective,
        noise: &UaiNoise,
    ) -> Result<Step> {
        let codes = self.encode(images, true)?;
        let mut tally = Tally::default();
        let logits = self.classify(&codes.d)?;
        let loss = phiz_kernels::cross_entropy(&logits, labels, 0.)?;
        tally.note("classification", &loss)?;
        tally.value("accuracy", accuracy(&logits, labels)?);
        tally.add(&loss, objective.classification)?;
        let image = self.decode(&(&codes.d * &noise.dropout)?, &codes.l, true)?;
        let error = squared(&image, images)?;
        tally.note("reconstruction", &error)?;
        tally.add(&error, objective.reconstruction)?;
        tally.value("l_deviation", mean_deviation(&codes.l)?);
        let l = self.predict(&self.l_from_d, &codes.d, Weights::Frozen)?;
        let d = self.predict(&self.d_from_l, &codes.l, Weights::Frozen)?;
        tally.add(&squared(&l, &noise.l)?, objective.disentangler)?;
        tally.add(&squared(&d, &noise.d)?, objective.disentangler)?;
        tally.finish()
    }

    fn predict(&self, net: &Mlp, from: &Tensor, weights: Weights) -> Result<Tensor> {
        net.forward(from, weights)?.tanh()
    }
}

fn squared(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    (a - b)?.sqr()?.mean_all()
}
