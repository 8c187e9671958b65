//! Describing a network, with every size checked.

use super::compile;
use super::run::Program;
use crate::activation::Activation;
use crate::layers::Conv2d;
use candle::{DType, Result, Tensor};

pub(super) const OP: &str = "inference";

/// Neighbouring channels of one map of a network under construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    pub(super) map: usize,
    pub(super) first: usize,
    pub(super) count: usize,
}

impl Channels {
    /// `count` of these channels, from `first` on.
    ///
    /// # Errors
    /// When there are not as many.
    pub fn narrow(self, first: usize, count: usize) -> Result<Self> {
        if count == 0 || first.checked_add(count).is_none_or(|end| end > self.count) {
            candle::bail!(
                "{OP}: channels {first} to {first} + {count} of {}",
                self.count
            );
        }
        Ok(Self {
            first: self.first + first,
            count,
            ..self
        })
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.count
    }
}

/// Size of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

/// What follows the sum of a convolution, for its output channels.
#[derive(Debug, Clone)]
pub(super) enum After {
    Nothing,
    Relu,
    PRelu(Vec<f32>),
}

#[derive(Debug, Clone)]
pub(super) struct Conv {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) kernel: (usize, usize),
    pub(super) padding: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    pub(super) after: After,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Pool {
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) mean: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Layer {
    Conv(Conv),
    Pool(Pool),
}

/// One layer from channels to channels.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) from: Channels,
    pub(super) to: Channels,
    pub(super) layer: Layer,
}

/// A network under construction; see the [module text](super).
#[derive(Debug, Clone)]
pub struct Builder {
    pub(super) maps: Vec<Size>,
    /// Which channels of each map have been written.
    written: Vec<Vec<bool>>,
    pub(super) steps: Vec<Step>,
}

impl Builder {
    /// A network for images of `channels` x `height` x `width`.
    ///
    /// # Errors
    /// When a size is zero.
    pub fn new(channels: usize, height: usize, width: usize) -> Result<Self> {
        let mut builder = Self {
            maps: Vec::new(),
            written: Vec::new(),
            steps: Vec::new(),
        };
        let input = builder.map(channels, height, width)?;
        builder.mark(input);
        Ok(builder)
    }

    /// The images.
    pub fn input(&self) -> Channels {
        self.whole(0)
    }

    fn whole(&self, map: usize) -> Channels {
        Channels {
            map,
            first: 0,
            count: self.maps.get(map).map_or(0, |size| size.channels),
        }
    }

    /// A new map for layers to write to.
    ///
    /// # Errors
    /// When a size is zero or the map is larger than memory can be.
    pub fn map(&mut self, channels: usize, height: usize, width: usize) -> Result<Channels> {
        let pixels = height.checked_mul(width);
        let len = pixels.and_then(|pixels| pixels.checked_mul(channels));
        if len.is_none_or(|len| len == 0 || len > isize::MAX as usize / 64) {
            candle::bail!("{OP}: a map of {channels} x {height} x {width}");
        }
        self.maps.push(Size {
            channels,
            height,
            width,
        });
        self.written.push(vec![false; channels]);
        Ok(self.whole(self.maps.len() - 1))
    }

    fn size(&self, channels: Channels) -> Result<Size> {
        match self.maps.get(channels.map) {
            Some(size) if channels.first + channels.count <= size.channels => Ok(*size),
            _ => candle::bail!("{OP}: channels of another network"),
        }
    }

    fn mark(&mut self, channels: Channels) {
        if let Some(written) = self.written.get_mut(channels.map) {
            let end = channels.first + channels.count;
            written[channels.first..end].fill(true);
        }
    }

    /// Adds a step after the checks that all have in common.
    fn step(&mut self, from: Channels, to: Channels, layer: Layer) -> Result<()> {
        if from.map == to.map {
            candle::bail!("{OP}: a layer from a map to the same map");
        }
        if to.map == 0 {
            candle::bail!("{OP}: a layer that writes to the images");
        }
        self.ready(from)?;
        self.mark(to);
        self.steps.push(Step { from, to, layer });
        Ok(())
    }

    fn ready(&self, from: Channels) -> Result<()> {
        let written = self.written.get(from.map);
        let written = written.and_then(|w| w.get(from.first..from.first + from.count));
        if !written.is_some_and(|w| w.iter().all(|w| *w)) {
            candle::bail!("{OP}: {from:?} are read before they are written");
        }
        Ok(())
    }

    /// A convolution with bias and activation from some channels to others of another map.
    ///
    /// # Errors
    /// When sizes do not fit, `from` is not written yet, or the convolution has groups or is not f32 on
    /// the CPU.
    pub fn conv(
        &mut self,
        from: Channels,
        conv: &Conv2d,
        act: Activation<'_>,
        to: Channels,
    ) -> Result<()> {
        let (source, target) = (self.size(from)?, self.size(to)?);
        let (outputs, inputs, kh, kw) = conv.weight().dims4()?;
        let cfg = *conv.config();
        if cfg.groups != 1 || inputs != from.count || outputs != to.count {
            candle::bail!(
                "{OP}: weight {:?} in {} groups does not take {} channels to {}",
                conv.weight().shape(),
                cfg.groups,
                from.count,
                to.count
            );
        }
        let shape = [1, inputs, source.height, source.width];
        let g = crate::conv::geometry::Geometry::new(&shape, conv.weight().dims(), &cfg)?;
        if (g.out_height, g.out_width) != (target.height, target.width) {
            candle::bail!(
                "{OP}: a convolution gives {} x {}, its map is {} x {}",
                g.out_height,
                g.out_width,
                target.height,
                target.width
            );
        }
        let bias = match conv.bias() {
            Some(bias) => values("bias", bias, outputs)?,
            None => vec![0.0; outputs],
        };
        let after = match act {
            Activation::None => After::Nothing,
            Activation::Relu => After::Relu,
            Activation::PRelu(slope) => After::PRelu(values("slope", slope, outputs)?),
        };
        let layer = Layer::Conv(Conv {
            weight: values("weight", conv.weight(), g.weight_len())?,
            bias,
            kernel: (kh, kw),
            padding: cfg.padding,
            stride: cfg.stride,
            dilation: cfg.dilation,
            after,
        });
        self.step(from, to, layer)
    }

    /// The largest value of windows of `kernel` x `kernel`; padding never wins.
    ///
    /// # Errors
    /// When sizes do not fit or `from` is not written yet.
    pub fn max_pool(
        &mut self,
        from: Channels,
        kernel: usize,
        stride: usize,
        padding: usize,
        to: Channels,
    ) -> Result<()> {
        self.pool(
            from,
            Pool {
                kernel,
                stride,
                padding,
                mean: false,
            },
            to,
        )
    }

    /// The mean of windows of `kernel` x `kernel`.
    ///
    /// # Errors
    /// As [`Builder::max_pool`].
    pub fn avg_pool(
        &mut self,
        from: Channels,
        kernel: usize,
        stride: usize,
        to: Channels,
    ) -> Result<()> {
        self.pool(
            from,
            Pool {
                kernel,
                stride,
                padding: 0,
                mean: true,
            },
            to,
        )
    }

    fn pool(&mut self, from: Channels, pool: Pool, to: Channels) -> Result<()> {
        let (source, target) = (self.size(from)?, self.size(to)?);
        let out = |size: usize| {
            let padded = pool.padding.checked_mul(2)?.checked_add(size)?;
            let room = padded.checked_sub(pool.kernel)?;
            Some(room.checked_div(pool.stride)? + 1)
        };
        let fits = pool.kernel > 0
            && 2 * pool.padding <= pool.kernel
            && from.count == to.count
            && out(source.height) == Some(target.height)
            && out(source.width) == Some(target.width);
        if !fits {
            candle::bail!("{OP}: {pool:?} does not take {source:?} to {target:?}");
        }
        self.step(from, to, Layer::Pool(pool))
    }

    /// The program whose result are `output`.
    ///
    /// # Errors
    /// When these are not written.
    pub fn finish(&self, output: Channels) -> Result<Program> {
        self.size(output)?;
        self.ready(output)?;
        compile::compile(self, output)
    }
}

/// The elements of a parameter.
fn values(name: &str, tensor: &Tensor, len: usize) -> Result<Vec<f32>> {
    if tensor.dtype() != DType::F32 || !tensor.device().is_cpu() {
        candle::bail!(
            "{OP}: {name} is {:?} on {:?}, expected f32 on the cpu",
            tensor.dtype(),
            tensor.device().location()
        );
    }
    if tensor.elem_count() != len {
        candle::bail!("{OP}: {name} {:?}, expected {len} values", tensor.shape());
    }
    tensor.detach().flatten_all()?.to_vec1()
}
