//! One Inception block: four views of the same map, side by side.
//!
//! ```text
//!    +-- 1 x 1 (one) --------------------------------------------+
//! x -+-- 1 x 1 (reduce3) -- 3 x 3 (three) -----------------------+-- concatenated channels
//!    +-- 1 x 1 (reduce5) -- 3 x 3 (five1) -- 3 x 3 (five2) ------+
//!    +-- 1 x 1 (pool) ----- max pool 3 x 3 ----------------------+
//! ```
//!
//! The 5 x 5 view is two 3 x 3 convolutions: the same field at 18/25 of the cost, with one more
//! activation. In the pooling view the 1 x 1 convolution stands before the pooling, not behind it,
//! which leaves a fifth of the maps to pool. Every convolution is followed by batch norm and ReLU.
//! Computing the four 1 x 1 convolutions as one and cutting its output was tried: what the larger
//! matrix product gains, the copies of the slices and of their gradients take back.
//!
//! Source: Szegedy et al., "Going Deeper with Convolutions" (CVPR 2015); the two 3 x 3 are from
//! "Rethinking the Inception Architecture" (CVPR 2016).

use candle::{Result, Tensor};
use candle_nn::VarBuilder;
use candle_nn::init::DEFAULT_KAIMING_NORMAL;
use phiz_kernels::inference::{Builder, Channels};
use phiz_kernels::layers::{Conv2d, batch_norm};
use phiz_kernels::{Activation, max_pool2d};

use crate::cost::Cost;
use crate::unit::{Act, Unit, conv, same};

/// Channels of the branches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mix {
    pub(crate) one: usize,
    pub(crate) reduce3: usize,
    pub(crate) three: usize,
    pub(crate) reduce5: usize,
    pub(crate) five: usize,
    pub(crate) pool: usize,
}

impl Mix {
    /// Channels after the block.
    pub(crate) fn out(&self) -> usize {
        self.one + self.three + self.five + self.pool
    }
}

/// Convolution, batch norm and ReLU under `conv` and `bn`.
pub(crate) fn conv_relu(
    channels: (usize, usize),
    kernel: usize,
    stride: usize,
    cost: &mut Cost,
    vb: &VarBuilder,
) -> Result<Unit> {
    let conv = conv(
        channels,
        kernel,
        same(kernel, stride),
        DEFAULT_KAIMING_NORMAL,
        &vb.pp("conv"),
    )?;
    cost.conv(&conv)?;
    let norm = batch_norm(channels.1, 1e-5, vb.pp("bn"))?;
    Ok(Unit::new(conv, norm, Act::Relu))
}

/// The block of the [module text](self).
#[derive(Debug, Clone)]
pub(crate) struct Inception {
    one: Unit,
    reduce3: Unit,
    reduce5: Unit,
    pool: Unit,
    three: Unit,
    five: [Unit; 2],
}

impl Inception {
    pub(crate) fn new(from: usize, mix: Mix, cost: &mut Cost, vb: &VarBuilder) -> Result<Self> {
        Ok(Self {
            one: conv_relu((from, mix.one), 1, 1, cost, &vb.pp("one"))?,
            reduce3: conv_relu((from, mix.reduce3), 1, 1, cost, &vb.pp("reduce3"))?,
            reduce5: conv_relu((from, mix.reduce5), 1, 1, cost, &vb.pp("reduce5"))?,
            pool: conv_relu((from, mix.pool), 1, 1, cost, &vb.pp("pool"))?,
            three: conv_relu((mix.reduce3, mix.three), 3, 1, cost, &vb.pp("three"))?,
            five: [
                conv_relu((mix.reduce5, mix.five), 3, 1, cost, &vb.pp("five1"))?,
                conv_relu((mix.five, mix.five), 3, 1, cost, &vb.pp("five2"))?,
            ],
        })
    }

    /// The block for inference, norms in the convolutions.
    pub(crate) fn folded(&self) -> Result<Self> {
        Ok(Self {
            one: self.one.folded()?,
            reduce3: self.reduce3.folded()?,
            reduce5: self.reduce5.folded()?,
            pool: self.pool.folded()?,
            three: self.three.folded()?,
            five: [self.five[0].folded()?, self.five[1].folded()?],
        })
    }

    pub(crate) fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let one = self.one.forward(x, train)?;
        let three = self
            .three
            .forward(&self.reduce3.forward(x, train)?, train)?;
        let five = self.five[0].forward(&self.reduce5.forward(x, train)?, train)?;
        let five = self.five[1].forward(&five, train)?;
        let pool = max_pool2d(&self.pool.forward(x, train)?, 3, 1, 1)?;
        Tensor::cat(&[&one, &three, &five, &pool], 1)
    }

    /// Adds the folded block to a network for inference, for maps of `side` x `side`; returns its result.
    ///
    /// The three 1 x 1 convolutions whose results are not the block's own are one product here.
    pub(crate) fn compile(
        &self,
        network: &mut Builder,
        from: Channels,
        side: usize,
    ) -> Result<Channels> {
        let channels = |unit: &Unit| unit.conv().weight().dim(0);
        let (one, three, five) = (
            channels(&self.one)?,
            channels(&self.three)?,
            channels(&self.five[1])?,
        );
        let inner = [&self.reduce3, &self.reduce5, &self.pool];
        let [reduce3, reduce5, pool] = [
            channels(&self.reduce3)?,
            channels(&self.reduce5)?,
            channels(&self.pool)?,
        ];
        let weights = inner.map(|unit| unit.conv().weight());
        let biases: Vec<&Tensor> = inner.iter().filter_map(|unit| unit.conv().bias()).collect();
        let joined = Conv2d::new(
            Tensor::cat(&weights, 0)?,
            Some(Tensor::cat(&biases, 0)?),
            *self.reduce3.conv().config(),
        );
        let out = network.map(one + three + five + pool, side, side)?;
        let mixed = network.map(reduce3 + reduce5 + pool, side, side)?;
        network.conv(from, &joined, Activation::Relu, mixed)?;
        self.one.compile(network, from, out.narrow(0, one)?)?;
        let of_three = out.narrow(one, three)?;
        self.three
            .compile(network, mixed.narrow(0, reduce3)?, of_three)?;
        let middle = network.map(five, side, side)?;
        self.five[0].compile(network, mixed.narrow(reduce3, reduce5)?, middle)?;
        let of_five = out.narrow(one + three, five)?;
        self.five[1].compile(network, middle, of_five)?;
        let of_pool = mixed.narrow(reduce3 + reduce5, pool)?;
        network.max_pool(of_pool, 3, 1, 1, out.narrow(one + three + five, pool)?)?;
        Ok(out)
    }
}
