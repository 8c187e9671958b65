//! Recognition: an embedding that tells people apart, learned with a margin softmax.
//!
//! `embedding` maps features to the embedding, `bn` normalises it while training (without it a frozen trunk's
//! features have any scale), and `classes` is the margin head's weight. Judged are unit embeddings of people who were
//! not trained on, by verification.
//!
//! Source: Deng et al., "ArcFace" (CVPR 2019); Wang et al., "CosFace" (CVPR 2018).

use candle::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use phiz_kernels::layers::{BatchNorm, BatchNormConfig, Linear, batch_norm, linear};
use phiz_kernels::safe::normalize_last_dim;
use phiz_kernels::{Activation, cross_entropy};
use phiz_losses::{ArcFace, ArcFaceConfig, CosFace, CosFaceConfig};

/// The margin of a [`RecognitionHead`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Margin {
    /// Additive angular margin, radians.
    ArcFace(f64),
    /// Additive cosine margin.
    CosFace(f64),
}

/// Shape and loss of a [`RecognitionHead`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecognitionConfig {
    /// Length of the embedding. Default 128.
    pub embedding: usize,
    /// The margin. Default ArcFace's 0.5.
    pub margin: Margin,
    /// Scale of the logits. Default 64; with few people 16 to 32 learns faster.
    pub scale: f64,
}

impl Default for RecognitionConfig {
    fn default() -> Self {
        Self {
            embedding: 128,
            margin: Margin::ArcFace(0.5),
            scale: 64.,
        }
    }
}

#[derive(Debug, Clone)]
enum Classes {
    Arc(ArcFace),
    Cos(CosFace),
}

/// Features (B, F) to embeddings (B, E), and the margin softmax over the people trained on.
#[derive(Debug, Clone)]
pub struct RecognitionHead {
    embedding: Linear,
    norm: BatchNorm,
    classes: Classes,
}

impl RecognitionHead {
    /// A head on `features` numbers an image, for `people` to be trained on.
    ///
    /// # Errors
    /// When a size is 0, the margin is out of range, or the builder cannot give the tensors.
    pub fn new(
        features: usize,
        people: usize,
        config: RecognitionConfig,
        vb: VarBuilder,
    ) -> Result<Self> {
        let (dim, scale) = (config.embedding, config.scale);
        if features == 0 || dim == 0 || people < 2 {
            candle::bail!("RecognitionHead: {features} features, {dim} numbers, {people} people")
        }
        let below = vb.pp("classes");
        let classes = match config.margin {
            Margin::ArcFace(margin) => {
                let config = ArcFaceConfig {
                    scale,
                    margin,
                    ..ArcFaceConfig::default()
                };
                Classes::Arc(ArcFace::new(dim, people, config, below)?)
            }
            Margin::CosFace(margin) => Classes::Cos(CosFace::new(
                dim,
                people,
                CosFaceConfig { scale, margin },
                below,
            )?),
        };
        // As in IResNet: a learned scale would change no cosine.
        let norm = BatchNormConfig {
            learn_scale: false,
            ..Default::default()
        };
        Ok(Self {
            embedding: linear(features, dim, vb.pp("embedding"))?,
            norm: batch_norm(dim, norm, vb.pp("bn"))?,
            classes,
        })
    }

    /// Embeddings, not scaled to unit length.
    ///
    /// # Shapes
    /// `features` (B, F); result (B, E).
    ///
    /// # Errors
    /// When the features have another length, or `train` is set with fewer than two rows.
    pub fn forward(&self, features: &Tensor, train: bool) -> Result<Tensor> {
        let raw = self.embedding.forward(features)?;
        self.norm.forward_act(&raw, Activation::None, train)
    }

    /// Margin softmax.
    ///
    /// # Shapes
    /// `embeddings` (B, E), `people` (B) u32; result: scalar.
    ///
    /// # Errors
    /// When the shapes disagree, or a number is beyond the people of the head.
    pub fn loss(&self, embeddings: &Tensor, people: &Tensor) -> Result<Tensor> {
        let logits = match &self.classes {
            Classes::Arc(head) => head.forward(embeddings, people)?,
            Classes::Cos(head) => head.forward(embeddings, people)?,
        };
        cross_entropy(&logits, people, 0.)
    }

    /// Unit embeddings, to be compared by their inner products.
    ///
    /// # Errors
    /// When they are not (B, E).
    pub fn decode(&self, embeddings: &Tensor) -> Result<Tensor> {
        normalize_last_dim(&embeddings.contiguous()?)
    }
}
