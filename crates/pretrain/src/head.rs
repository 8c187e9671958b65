//! Fully connected heads: projection, expander, predictor.

use candle::{D, Module, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};
use phiz_kernels::Activation;
use phiz_kernels::layers::{BatchNorm, BatchNormConfig, Linear, batch_norm};

/// Shape of an [`Mlp`].
#[derive(Debug, Clone, PartialEq)]
pub struct MlpConfig {
    /// Widths of the hidden layers; none is one linear layer.
    pub hidden: Vec<usize>,
    /// Length of the output.
    pub out: usize,
    /// Batch norm behind each hidden layer. Default true.
    pub norm: bool,
    /// Bias in the hidden layers. Default true.
    pub hidden_bias: bool,
    /// Bias in the last layer. Default true.
    pub out_bias: bool,
}

impl MlpConfig {
    /// One hidden layer with batch norm, biases everywhere: SwAV's projection head.
    pub fn new(hidden: usize, out: usize) -> Self {
        Self {
            hidden: vec![hidden],
            out,
            norm: true,
            hidden_bias: true,
            out_bias: true,
        }
    }
}

/// `[linear, batch norm, ReLU] * hidden, linear`, with the parameter names that `torch.nn.Sequential` gives: `0.weight`,
/// `1.running_mean`, `3.weight`. Layers start as PyTorch's do: uniform within `1 / sqrt(inputs)`.
#[derive(Debug, Clone)]
pub struct Mlp {
    hidden: Vec<(Linear, Option<BatchNorm>)>,
    out: Linear,
}

impl Mlp {
    /// A head on features of length `inputs`.
    ///
    /// # Errors
    /// When a width is 0 or the builder cannot give the tensors.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "candle's constructors take the builder by value"
    )]
    pub fn new(config: &MlpConfig, inputs: usize, vb: VarBuilder) -> Result<Self> {
        if inputs == 0 || config.out == 0 || config.hidden.contains(&0) {
            bail!(
                "head: every layer needs a width of at least 1, got {inputs}, {:?}, {}",
                config.hidden,
                config.out
            );
        }
        let mut width = inputs;
        let mut place = 0;
        let mut hidden = Vec::with_capacity(config.hidden.len());
        for &next in &config.hidden {
            let layer = linear(width, next, config.hidden_bias, &vb.pp(place))?;
            let norm = config
                .norm
                .then(|| batch_norm(next, BatchNormConfig::default(), vb.pp(place + 1)))
                .transpose()?;
            place += if config.norm { 3 } else { 2 };
            hidden.push((layer, norm));
            width = next;
        }
        Ok(Self {
            hidden,
            out: linear(width, config.out, config.out_bias, &vb.pp(place))?,
        })
    }

    /// The output, not normalised.
    ///
    /// # Shapes
    /// `x` (N, inputs); result (N, out).
    ///
    /// # Errors
    /// When the length of the features is another.
    pub fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let mut x = x.clone();
        for (layer, norm) in &self.hidden {
            x = layer.forward(&x)?;
            x = match norm {
                Some(norm) => norm.forward_act(&x, Activation::Relu, train)?,
                None => phiz_kernels::relu(&x)?,
            };
        }
        self.out.forward(&x)
    }
}

fn linear(inputs: usize, outputs: usize, bias: bool, vb: &VarBuilder) -> Result<Linear> {
    let bound = 1.0 / (inputs as f64).sqrt();
    let init = Init::Uniform {
        lo: -bound,
        up: bound,
    };
    let weight = vb.get_with_hints((outputs, inputs), "weight", init)?;
    let bias = bias
        .then(|| vb.get_with_hints(outputs, "bias", init))
        .transpose()?;
    Ok(Linear::new(weight, bias))
}

/// Rows of unit length.
pub(crate) fn unit(x: &Tensor) -> Result<Tensor> {
    phiz_kernels::safe::normalize(x, D::Minus1)
}
