//! ExpressionNet: a small Inception network for 48 to 64 pixel faces, with two branches.
//!
//! ```text
//! image -- stem1 3 x 3 -- max pool /2 -- stem2 3 x 3 -- max pool /2 -- stem3 3 x 3 -- inception 1, 2 -- max pool /2
//!       -- inception 3, 4 -- average pool to grid x grid ==> features (F)
//!
//! features -- classifier.fc1, norm, ReLU (256) --+-- classifier.fc2 ==> classification embedding (D)
//!     |                                    |        `-- ReLU -- classifier.logits ==> logits
//!     `----------- concatenated -----------+-- metric.fc ==> metric embedding (D)
//! ```
//!
//! What was chosen, and why:
//!
//! * **Trunk**: the order of Mollahosseini et al. (stem, pooling, Inception blocks, fully connected
//!   layers), narrowed to 27 MMAC at 64 x 64 so that a run of tens of thousands of images takes
//!   a minute or two on a CPU. Batch norm and ReLU follow every convolution, and the first fully connected
//!   layer: without norm there the loss stands still for the first epochs. The stem is three small
//!   convolutions at full, half and quarter size; a strided 5 x 5 learned more slowly, since brows and lids
//!   are a few pixels high.
//! * **Pooling** to a small grid (4 x 4) instead of one cell: what an expression is depends on where
//!   in the face something happens; averaging over the whole map forgets that, a full
//!   flatten makes the first layer four times larger. `grid: 1` is global average pooling.
//! * **Two branches**: softmax and metric loss pull on embeddings of their own. The metric branch
//!   also sees the first layer of the classification branch (the connecting layer) and sends
//!   its gradient back through it; `stop_gradient` cuts that way.
//! * **Embeddings are linear** (no norm, no activation): squared distances between them stay
//!   free to take the scale the loss asks for, and cosines use the full range. ReLU comes after the
//!   classification embedding, so the logits are not one linear map of `fc1` written twice.
//! * **Test path**: [`ExpressionNet::classify`] runs trunk and classification branch alone.
//! * **One branch** ([`Branches::One`]), the baseline: both losses act on the one embedding that feeds
//!   the logits.
//!
//! Sources: Mollahosseini, Chan and Mahoor, "Going Deeper in Facial Expression Recognition Using Deep
//! Neural Networks" (WACV 2016); the branches follow Liu et al., "Adaptive Deep Metric Learning
//! for Identity-Aware Facial Expression Recognition" (CVPRW 2017), whose layer widths are
//! not published: those here are ours.

use std::sync::Arc;

use candle::{DType, Module, Result, Tensor};
use candle_nn::VarBuilder;
use phiz_kernels::inference::{Builder, Program};
use phiz_kernels::layers::{
    BatchNorm, BatchNormConfig, Linear, batch_norm, fold_batch_norm_linear,
};
use phiz_kernels::{Activation, avg_pool2d, max_pool2d, relu};

use crate::cost::Cost;
use crate::inception::{Inception, Mix, conv_relu};
use crate::unit::{Unit, check_images, he_linear};

/// How many stacks of fully connected layers stand on the trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Branches {
    /// One for classification and one for the metric loss. The default.
    #[default]
    Two,
    /// One for both: the metric embedding is the classification embedding.
    One,
}

/// Shape of an [`ExpressionNet`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpressionNetConfig {
    /// Channels of the input. Default 3.
    pub in_channels: usize,
    /// Side of the square input in pixels, a multiple of 8; side / 8 is a multiple of `grid`.
    /// Default 64.
    pub image_size: usize,
    /// Classes to tell apart. Default 7.
    pub classes: usize,
    /// Length of both embeddings. Default 128.
    pub embedding_dim: usize,
    /// Width of the first fully connected layer. Default 256.
    pub hidden_dim: usize,
    /// One or two branches. Default two.
    pub branches: Branches,
    /// Cuts the gradient of the metric branch at the connecting layer, so that the metric loss
    /// reaches the trunk but not `classifier.fc1`. Default off.
    pub stop_gradient: bool,
    /// Factor on the channels of the trunk, rounded to multiples of 4; the cost grows with its
    /// square. Default 1.
    pub width: f64,
    /// Cells along one side of the pooled map. Default 4.
    pub grid: usize,
}

impl Default for ExpressionNetConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            image_size: 64,
            classes: 7,
            embedding_dim: 128,
            hidden_dim: 256,
            branches: Branches::Two,
            stop_gradient: false,
            width: 1.,
            grid: 4,
        }
    }
}

/// What a batch becomes while training.
#[derive(Debug, Clone)]
pub struct ExpressionOutput {
    /// Pooled output of the trunk, (B, F).
    pub features: Tensor,
    /// Embedding in front of the logits, (B, D).
    pub classification_embedding: Tensor,
    /// Unnormalised class scores, (B, classes).
    pub logits: Tensor,
    /// Embedding for the metric loss, (B, D); with one branch the classification embedding.
    pub metric_embedding: Tensor,
}

/// What a batch becomes at test time: trunk and classification branch.
#[derive(Debug, Clone)]
pub struct Classification {
    /// Embedding in front of the logits, (B, D).
    pub embedding: Tensor,
    /// Unnormalised class scores, (B, classes).
    pub logits: Tensor,
}

#[derive(Debug, Clone)]
struct Trunk {
    stem: [Unit; 3],
    blocks: [Inception; 4],
    /// Side of a cell of the pooled map.
    cell: usize,
    /// The same compiled, once folded; for f32 on the CPU.
    program: Option<Arc<Program>>,
}

impl Trunk {
    /// The trunk and the number of its features.
    fn new(
        config: &ExpressionNetConfig,
        cost: &mut Cost,
        vb: &VarBuilder,
    ) -> Result<(Self, usize)> {
        let wide =
            |channels: usize| ((channels as f64 * config.width / 4.).round() as usize).max(1) * 4;
        let mix = |one, reduce3, three, reduce5, five, pool| Mix {
            one: wide(one),
            reduce3: wide(reduce3),
            three: wide(three),
            reduce5: wide(reduce5),
            five: wide(five),
            pool: wide(pool),
        };
        let first = conv_relu((config.in_channels, wide(16)), 3, 1, cost, &vb.pp("stem1"))?;
        cost.pool(2, 2, 0)?;
        let second = conv_relu((wide(16), wide(32)), 3, 1, cost, &vb.pp("stem2"))?;
        cost.pool(2, 2, 0)?;
        let third = conv_relu((wide(32), wide(48)), 3, 1, cost, &vb.pp("stem3"))?;
        let mixes = [
            mix(16, 24, 32, 8, 16, 16),
            mix(24, 32, 48, 8, 16, 16),
            mix(32, 40, 64, 12, 24, 24),
            mix(48, 48, 80, 16, 32, 32),
        ];
        let block1 = Inception::new(wide(48), mixes[0], cost, &vb.pp("inception1"))?;
        let block2 = Inception::new(mixes[0].out(), mixes[1], cost, &vb.pp("inception2"))?;
        cost.pool(2, 2, 0)?;
        let block3 = Inception::new(mixes[1].out(), mixes[2], cost, &vb.pp("inception3"))?;
        let block4 = Inception::new(mixes[2].out(), mixes[3], cost, &vb.pp("inception4"))?;
        if !cost.side.is_multiple_of(config.grid) {
            candle::bail!(
                "ExpressionNet: a map of {0} x {0} (image size / 8) cannot be pooled to {1} x {1} cells",
                cost.side,
                config.grid
            )
        }
        let cell = cost.side / config.grid;
        let features = mixes[3].out() * config.grid * config.grid;
        Ok((
            Self {
                stem: [first, second, third],
                blocks: [block1, block2, block3, block4],
                cell,
                program: None,
            },
            features,
        ))
    }

    /// For images of `side` x `side`.
    fn folded(&self, side: usize) -> Result<Self> {
        let [first, second, third] = &self.stem;
        let [a, b, c, d] = &self.blocks;
        let folded = Self {
            stem: [first.folded()?, second.folded()?, third.folded()?],
            blocks: [a.folded()?, b.folded()?, c.folded()?, d.folded()?],
            cell: self.cell,
            program: None,
        };
        let weight = folded.stem[0].conv().weight();
        let program = if weight.dtype() == DType::F32 && weight.device().is_cpu() {
            Some(Arc::new(folded.compile(side)?))
        } else {
            None
        };
        Ok(Self { program, ..folded })
    }

    fn compile(&self, side: usize) -> Result<Program> {
        let weight = |unit: &Unit| unit.conv().weight().dims4();
        let (_, channels, _, _) = weight(&self.stem[0])?;
        let mut network = Builder::new(channels, side, side)?;
        let (mut at, mut side) = (network.input(), side);
        for (index, unit) in self.stem.iter().enumerate() {
            let maps = network.map(weight(unit)?.0, side, side)?;
            unit.compile(&mut network, at, maps)?;
            at = maps;
            // Pooling stands between the three, not behind them.
            if index < 2 {
                side /= 2;
                at = network.map(maps.count(), side, side)?;
                network.max_pool(maps, 2, 2, 0, at)?;
            }
        }
        let [a, b, c, d] = &self.blocks;
        at = a.compile(&mut network, at, side)?;
        at = b.compile(&mut network, at, side)?;
        side /= 2;
        let half = network.map(at.count(), side, side)?;
        network.max_pool(at, 2, 2, 0, half)?;
        at = c.compile(&mut network, half, side)?;
        at = d.compile(&mut network, at, side)?;
        side /= self.cell;
        let cells = network.map(at.count(), side, side)?;
        network.avg_pool(at, self.cell, self.cell, cells)?;
        network.finish(cells)
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        if let Some(program) = &self.program
            && !train
            && !x.track_op()
            && x.dtype() == DType::F32
            && x.device().is_cpu()
        {
            return program.run(x)?.flatten_from(1);
        }
        let x = self.stem[0].forward(x, train)?;
        let x = self.stem[1].forward(&max_pool2d(&x, 2, 2, 0)?, train)?;
        let x = self.stem[2].forward(&max_pool2d(&x, 2, 2, 0)?, train)?;
        let x = self.blocks[1].forward(&self.blocks[0].forward(&x, train)?, train)?;
        let x = max_pool2d(&x, 2, 2, 0)?;
        let x = self.blocks[3].forward(&self.blocks[2].forward(&x, train)?, train)?;
        avg_pool2d(&x, self.cell, self.cell, 0)?.flatten_from(1)
    }
}

/// Images (B, C, S, S) to embeddings and class scores. See the [module text](self).
#[derive(Debug, Clone)]
pub struct ExpressionNet {
    config: ExpressionNetConfig,
    trunk: Trunk,
    fc1: Linear,
    /// None once folded.
    bn1: Option<BatchNorm>,
    fc2: Linear,
    logits: Linear,
    metric: Option<Linear>,
    features: usize,
    macs: u64,
}

impl ExpressionNet {
    /// Builds the network; its parameters stand under `trunk`, `classifier` and `metric`.
    ///
    /// # Errors
    /// When the image size does not suit the pooling, a width is 0, `width` is not a positive
    /// number, or the builder has no tensor of that name and shape.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "candle's constructors take the builder by value"
    )]
    pub fn new(config: ExpressionNetConfig, vb: VarBuilder) -> Result<Self> {
        let ExpressionNetConfig {
            in_channels,
            image_size,
            classes,
            embedding_dim,
            hidden_dim,
            grid,
            ..
        } = config;
        if image_size == 0 || !image_size.is_multiple_of(8) {
            candle::bail!("ExpressionNet: image size {image_size} is not a positive multiple of 8")
        }
        if in_channels == 0 || classes == 0 || embedding_dim == 0 || hidden_dim == 0 || grid == 0 {
            candle::bail!(
                "ExpressionNet: channels ({in_channels}), classes ({classes}), embedding ({embedding_dim}), \
                 hidden layer ({hidden_dim}) and grid ({grid}) must be positive"
            )
        }
        if !(config.width > 0. && config.width <= 64.) {
            candle::bail!("ExpressionNet: width {} is outside (0, 64]", config.width)
        }
        let mut cost = Cost::new(image_size);
        let (trunk, features) = Trunk::new(&config, &mut cost, &vb.pp("trunk"))?;
        let classifier = vb.pp("classifier");
        let fc1 = he_linear(features, hidden_dim, &classifier.pp("fc1"))?;
        let bn1 = batch_norm(hidden_dim, BatchNormConfig::default(), classifier.pp("bn1"))?;
        let fc2 = he_linear(hidden_dim, embedding_dim, &classifier.pp("fc2"))?;
        let logits = he_linear(embedding_dim, classes, &classifier.pp("logits"))?;
        let metric = match config.branches {
            Branches::Two => Some(he_linear(
                features + hidden_dim,
                embedding_dim,
                &vb.pp("metric").pp("fc"),
            )?),
            Branches::One => None,
        };
        for layer in [Some(&fc1), Some(&fc2), Some(&logits), metric.as_ref()]
            .into_iter()
            .flatten()
        {
            cost.linear(layer);
        }
        Ok(Self {
            config,
            trunk,
            fc1,
            bn1: Some(bn1),
            fc2,
            logits,
            metric,
            features,
            macs: cost.macs,
        })
    }

    /// The configuration the network was made with.
    pub fn config(&self) -> &ExpressionNetConfig {
        &self.config
    }

    /// Number of trunk features F.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Multiply-accumulates of one forward pass with all branches, for one image.
    pub fn macs(&self) -> u64 {
        self.macs
    }

    /// All outputs; with `train`, norms use the batch's statistics and update their running ones.
    ///
    /// # Shapes
    /// `x` (B, C, S, S) in the scale (p / 255 - 0.5) / 0.5; results as in [`ExpressionOutput`].
    ///
    /// # Errors
    /// When `x` has another shape.
    pub fn forward_t(&self, x: &Tensor, train: bool) -> Result<ExpressionOutput> {
        let features = self.trunk_features(x, train)?;
        if train && features.dim(0)? < 2 {
            candle::bail!(
                "ExpressionNet: a batch of 1 is too small to train on, its norms need at least 2 images"
            )
        }
        let hidden = self.hidden(&features, train)?;
        let Classification { embedding, logits } = self.classify_hidden(&hidden)?;
        let metric_embedding = match &self.metric {
            Some(fc) => {
                let connected = if self.config.stop_gradient {
                    hidden.detach()
                } else {
                    hidden
                };
                fc.forward(&Tensor::cat(&[&features, &connected], 1)?)?
            }
            None => embedding.clone(),
        };
        Ok(ExpressionOutput {
            features,
            classification_embedding: embedding,
            logits,
            metric_embedding,
        })
    }

    /// The path used at test time: trunk and classification branch, in evaluation mode.
    ///
    /// # Shapes
    /// `x` (B, C, S, S); results as in [`Classification`].
    ///
    /// # Errors
    /// When `x` has another shape.
    pub fn classify(&self, x: &Tensor) -> Result<Classification> {
        let features = self.trunk_features(x, false)?;
        self.classify_hidden(&self.hidden(&features, false)?)
    }

    /// The same network for inference, made of what its parameters and running statistics are now:
    /// norms stand in the weights of the layers in front of them, activations are applied where the
    /// convolution leaves its result. Outputs agree to rounding (f32: within 1e-4 of the largest value).
    /// It cannot be trained, and later changes of the parameters do not reach it.
    ///
    /// # Errors
    /// When memory for the new weights cannot be had.
    pub fn folded(&self) -> Result<Self> {
        Ok(Self {
            trunk: self.trunk.folded(self.config.image_size)?,
            fc1: match &self.bn1 {
                Some(norm) => fold_batch_norm_linear(&self.fc1, norm)?,
                None => self.fc1.clone(),
            },
            bn1: None,
            ..self.clone()
        })
    }

    /// The first layer of the classification branch, which the metric branch sees too.
    fn hidden(&self, features: &Tensor, train: bool) -> Result<Tensor> {
        let hidden = self.fc1.forward(features)?;
        match &self.bn1 {
            Some(norm) => norm.forward_act(&hidden, Activation::Relu, train),
            None => relu(&hidden),
        }
    }

    fn trunk_features(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        check_images(
            "ExpressionNet",
            x,
            self.config.in_channels,
            self.config.image_size,
            1,
        )?;
        self.trunk.forward(x, train)
    }

    fn classify_hidden(&self, hidden: &Tensor) -> Result<Classification> {
        let embedding = self.fc2.forward(hidden)?;
        let logits = self.logits.forward(&relu(&embedding)?)?;
        Ok(Classification { embedding, logits })
    }
}
