//! What is measured: every case of every group, as data that our side and the peers both read.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::losses::{Loss, LossSizes, losses};
use super::shapes::convolutions;
use crate::{Error, Result};

/// A table of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Single operations: every convolution of the networks, norms, pooling.
    Kernels,
    /// Whole training steps.
    Train,
    /// Networks in evaluation mode.
    Infer,
    /// Metric losses and heads, forward and backward.
    Losses,
    /// Judging embeddings.
    Eval,
}

impl Group {
    /// All groups, cheapest first.
    pub const ALL: [Group; 5] = [
        Group::Train,
        Group::Infer,
        Group::Losses,
        Group::Eval,
        Group::Kernels,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Group::Kernels => "kernels",
            Group::Train => "train",
            Group::Infer => "infer",
            Group::Losses => "losses",
            Group::Eval => "eval",
        }
    }

    /// What it measures, in one line.
    pub fn about(self) -> &'static str {
        match self {
            Group::Kernels => {
                "forward, input and weight gradient of every convolution of the networks; norms, pooling, losses"
            }
            Group::Train => {
                "whole training steps: forward, loss, backward, update; networks, SwAV, five face tasks"
            }
            Group::Infer => "the networks in evaluation mode, one image and sixteen",
            Group::Losses => {
                "metric losses with their miners and heads of 10000 classes, forward and backward"
            }
            Group::Eval => "curves, retrieval metrics and exact neighbours over many embeddings",
        }
    }

    /// The peers that have something to say about it.
    pub fn peers(self) -> &'static [&'static str] {
        match self {
            Group::Kernels | Group::Train => &["pytorch"],
            Group::Infer => &["pytorch", "onnxruntime"],
            Group::Losses => &["pml"],
            Group::Eval => &["sklearn", "pml", "faiss"],
        }
    }

    /// Whether every case gets fresh processes, so that its peak memory is its own. The many small
    /// cases of `kernels` share one process a side, and no memory is stated for them.
    pub fn fresh(self) -> bool {
        self != Group::Kernels
    }

    /// Its cases, in the order of the table.
    pub fn cases(self) -> Vec<Case> {
        match self {
            Group::Kernels => kernels(),
            Group::Train => train(),
            Group::Infer => infer(),
            Group::Losses => losses(),
            Group::Eval => eval(),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Group {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Group::ALL.into_iter().find(|group| group.name() == text);
        found.ok_or_else(|| {
            let names: Vec<_> = Group::ALL.iter().map(|group| group.name()).collect();
            Error::config(format!(
                "bench: no group {text:?}; expected one of {}",
                names.join(", ")
            ))
        })
    }
}

/// One row of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Name, unique in its group.
    pub name: String,
    /// What is done.
    pub work: Work,
    /// The peers that do it too.
    pub peers: Vec<&'static str>,
    /// Relative difference up to which `values` of two sides count as equal.
    pub tolerance: f64,
}

/// A network that is trained or evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BenchNetwork {
    /// IResNet-18 with a 512-d embedding.
    Iresnet18,
    /// MobileFaceNet (`mbf`) with a 512-d embedding.
    Mobilefacenet,
    /// The expression network with two branches and seven classes.
    Expression,
    /// Encoder and decoder of 28 x 28 digits: two strided 5 x 5 convolutions down to a code of 10 + 20
    /// numbers, two transposed 4 x 4 convolutions back.
    Digits,
}

impl BenchNetwork {
    /// All networks.
    pub const ALL: [BenchNetwork; 4] = [
        BenchNetwork::Iresnet18,
        BenchNetwork::Mobilefacenet,
        BenchNetwork::Expression,
        BenchNetwork::Digits,
    ];

    /// Name in rows.
    pub fn name(self) -> &'static str {
        match self {
            BenchNetwork::Iresnet18 => "iresnet18",
            BenchNetwork::Mobilefacenet => "mobilefacenet",
            BenchNetwork::Expression => "expression",
            BenchNetwork::Digits => "digits",
        }
    }

    /// Channels and side of its images.
    pub fn image(self) -> (usize, usize) {
        match self {
            BenchNetwork::Iresnet18 | BenchNetwork::Mobilefacenet => (3, 112),
            BenchNetwork::Expression => (3, 64),
            BenchNetwork::Digits => (1, 28),
        }
    }

    /// Images of a training step.
    pub fn batch(self) -> usize {
        match self {
            BenchNetwork::Iresnet18 => 16,
            BenchNetwork::Mobilefacenet => 32,
            BenchNetwork::Expression | BenchNetwork::Digits => 64,
        }
    }
}

/// Which pass of an operation is timed. Gradients are timed through the tape of each side
/// (`backward` of the output), because that is what training pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    /// The output.
    Forward,
    /// The gradient of the input alone.
    Input,
    /// The gradient of the weight alone.
    Weight,
    /// All gradients.
    Backward,
}

impl Pass {
    fn name(self) -> &'static str {
        match self {
            Pass::Forward => "forward",
            Pass::Input => "input gradient",
            Pass::Weight => "weight gradient",
            Pass::Backward => "backward",
        }
    }
}

/// Sizes of a convolution over square images with a square kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Convolution {
    /// Images.
    pub batch: usize,
    /// Input channels.
    pub channels: usize,
    /// Side of the input.
    pub image: usize,
    /// Output channels.
    pub outputs: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Step.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
    /// Groups.
    pub groups: usize,
    /// Whether it is the transposed convolution: `channels` in, `outputs` out, image grown by `stride`.
    pub transposed: bool,
}

impl Convolution {
    /// Side of the output.
    pub fn out_image(&self) -> usize {
        if self.transposed {
            ((self.image.max(1) - 1) * self.stride + self.kernel).saturating_sub(2 * self.padding)
        } else {
            (self.image + 2 * self.padding).saturating_sub(self.kernel) / self.stride.max(1) + 1
        }
    }

    /// Multiply-accumulates of one image, borders counted as if the padding were data.
    pub fn macs(&self) -> u64 {
        let side = if self.transposed {
            self.image
        } else {
            self.out_image()
        };
        let inner = self.channels / self.groups.max(1);
        (self.outputs * inner * self.kernel * self.kernel * side * side) as u64
    }

    fn name(&self) -> String {
        let Convolution {
            batch,
            channels,
            image,
            outputs,
            kernel,
            stride,
            groups,
            ..
        } = *self;
        let kind = if self.transposed {
            "transposed "
        } else if groups == channels && channels > 1 {
            "depthwise "
        } else if groups > 1 {
            "grouped "
        } else {
            ""
        };
        let step = if stride > 1 {
            format!(" /{stride}")
        } else {
            String::new()
        };
        let groups = if groups > 1 && groups != channels {
            format!(" groups {groups}")
        } else {
            String::new()
        };
        format!("{kind}{kernel}x{kernel} {channels}->{outputs} @{image}{step}{groups} b{batch}")
    }
}

/// An operation other than a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// Batch norm in training mode, running statistics included.
    BatchNorm,
    /// Batch norm and PReLU in training mode.
    BatchNormPrelu,
    /// Batch norm and ReLU in training mode.
    BatchNormRelu,
    /// PReLU with one slope a channel.
    Prelu,
    /// ReLU.
    Relu,
    /// Max pooling 2 x 2, stride 2.
    MaxPool2,
    /// Max pooling 3 x 3, stride 1, padding 1.
    MaxPool3,
    /// Average pooling 2 x 2, stride 2.
    AvgPool2,
    /// The mean of each map.
    GlobalAvgPool,
    /// Affine layer to 512 numbers.
    Linear512,
    /// Softmax cross-entropy of the rows.
    CrossEntropy,
}

impl Layer {
    fn name(self) -> &'static str {
        match self {
            Layer::BatchNorm => "batch norm",
            Layer::BatchNormPrelu => "batch norm + PReLU",
            Layer::BatchNormRelu => "batch norm + ReLU",
            Layer::Prelu => "PReLU",
            Layer::Relu => "ReLU",
            Layer::MaxPool2 => "max pool 2x2 /2",
            Layer::MaxPool3 => "max pool 3x3",
            Layer::AvgPool2 => "average pool 2x2 /2",
            Layer::GlobalAvgPool => "global average pool",
            Layer::Linear512 => "linear to 512",
            Layer::CrossEntropy => "cross-entropy",
        }
    }
}

/// A face task whose fine-tuning step is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BenchTask {
    /// 68 heat maps through two transposed convolutions of 32 channels, cross-entropy.
    Landmarks,
    /// Seven expressions by cross-entropy; valence and arousal by 1 - CCC and squared error.
    Affect,
    /// Twelve intensities by squared error.
    ActionUnits,
    /// 3,904 vertices through a learned basis of 40, squared error.
    Face3d,
    /// 64 people by ArcFace on embeddings of 128.
    Recognition,
}

impl BenchTask {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Landmarks, "landmarks"),
        (Self::Affect, "affect"),
        (Self::ActionUnits, "action-units"),
        (Self::Face3d, "face3d"),
        (Self::Recognition, "recognition"),
    ];
}

/// What is done, in numbers that any language can read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    /// One training step: forward, loss, backward, SGD with momentum 0.9 and weight decay 5e-4.
    Train {
        /// What is trained.
        network: BenchNetwork,
        /// Images.
        batch: usize,
    },
    /// One step of SwAV on ResNet-18: two crops of 64 and four of 32 pixels, 256 prototypes, a queue of eight batches in
    /// use; forward, assignments, loss, backward, LARC in front of SGD with momentum 0.9.
    Swav {
        /// Images.
        batch: usize,
    },
    /// One fine-tuning step of a face task on ResNet-18 at 64 pixels: forward, loss, backward, AdamW.
    Task {
        /// Which task.
        task: BenchTask,
        /// Images.
        batch: usize,
    },
    /// One forward pass in evaluation mode without gradients.
    Infer {
        /// What is evaluated.
        network: BenchNetwork,
        /// Images.
        batch: usize,
    },
    /// One pass of a convolution.
    Convolution {
        /// Its sizes.
        convolution: Convolution,
        /// The pass.
        pass: Pass,
    },
    /// One pass of another operation on a tensor of this shape.
    Layer {
        /// The operation.
        layer: Layer,
        /// Shape of its input.
        shape: Vec<usize>,
        /// The pass: forward or backward.
        pass: Pass,
    },
    /// A loss of a batch and its gradient.
    Loss {
        /// The loss.
        loss: Loss,
        /// Its sizes.
        #[serde(flatten)]
        sizes: LossSizes,
    },
    /// The ROC curve of this many scores and the area under it.
    Roc {
        /// Scores.
        pairs: usize,
    },
    /// Retrieval metrics of a table of unit embeddings against itself.
    Retrieval {
        /// Embeddings.
        rows: usize,
        /// Their length.
        dim: usize,
        /// Embeddings of one class.
        per_class: usize,
    },
    /// The nearest rows by cosine, exactly.
    Neighbours {
        /// Rows that ask.
        queries: usize,
        /// Rows to find.
        gallery: usize,
        /// Their length.
        dim: usize,
        /// Neighbours of each.
        k: usize,
    },
}

impl Work {
    /// Floating point operations of one repetition, a multiply-add counted as two; none where the
    /// work is bound by memory and the figure would say nothing.
    pub fn flops(&self) -> Option<f64> {
        match self {
            Work::Convolution { convolution, .. } => {
                Some(2. * convolution.macs() as f64 * convolution.batch as f64)
            }
            Work::Layer {
                layer: Layer::Linear512,
                shape,
                pass,
            } => {
                let passes = if *pass == Pass::Backward { 2. } else { 1. };
                Some(passes * 2. * 512. * shape.iter().product::<usize>() as f64)
            }
            _ => None,
        }
    }

    /// The size along which the times of a [`series`](Self::series) grow.
    pub fn size(&self) -> Option<usize> {
        match self {
            Work::Loss { sizes, .. } if sizes.classes == 0 => Some(sizes.batch),
            _ => None,
        }
    }

    /// Works of the same series differ by [`size`](Self::size) alone.
    pub fn series(&self) -> Option<String> {
        match self {
            Work::Loss { loss, sizes } if sizes.classes == 0 => Some(loss.name().to_string()),
            _ => None,
        }
    }
}

fn train() -> Vec<Case> {
    let row = |network: BenchNetwork| Case {
        name: format!(
            "{} {}px b{}",
            network.name(),
            network.image().1,
            network.batch()
        ),
        work: Work::Train {
            network,
            batch: network.batch(),
        },
        peers: vec!["pytorch"],
        tolerance: 0.,
    };
    let task = |(task, name): (BenchTask, &str)| Case {
        name: format!("{name} resnet18 64px b32"),
        work: Work::Task { task, batch: 32 },
        peers: vec!["pytorch"],
        tolerance: 0.,
    };
    let swav = Case {
        name: "swav resnet18 2x64+4x32px b64".to_string(),
        work: Work::Swav { batch: 64 },
        peers: vec!["pytorch"],
        tolerance: 0.,
    };
    BenchNetwork::ALL
        .into_iter()
        .map(row)
        .chain([swav])
        .chain(BenchTask::ALL.map(task))
        .collect()
}

fn infer() -> Vec<Case> {
    let faces = [
        BenchNetwork::Iresnet18,
        BenchNetwork::Mobilefacenet,
        BenchNetwork::Expression,
    ];
    let both = |network: BenchNetwork| [1, 16].map(|batch| (network, batch));
    let row = |(network, batch): (BenchNetwork, usize)| Case {
        name: format!("{} {}px b{batch}", network.name(), network.image().1),
        work: Work::Infer { network, batch },
        peers: vec!["pytorch", "onnxruntime"],
        tolerance: 0.,
    };
    faces.into_iter().flat_map(both).map(row).collect()
}

fn eval() -> Vec<Case> {
    let row = |name: &str, work, peer, tolerance| Case {
        name: name.to_string(),
        work,
        peers: vec![peer],
        tolerance,
    };
    vec![
        row(
            "ROC and AUC of 8 million scores",
            Work::Roc { pairs: 8_000_000 },
            "sklearn",
            1e-9,
        ),
        // pytorch-metric-learning ranks in f32, where neighbours this close may change places.
        row(
            "retrieval metrics of 20000 x 128",
            Work::Retrieval {
                rows: 20_000,
                dim: 128,
                per_class: 20,
            },
            "pml",
            1e-4,
        ),
        row(
            "exact top 10 of 5000 in 100000 x 256",
            Work::Neighbours {
                queries: 5_000,
                gallery: 100_000,
                dim: 256,
                k: 10,
            },
            "faiss",
            1e-4,
        ),
    ]
}

fn kernels() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut push = |name: String, work: Work| {
        cases.push(Case {
            name,
            work,
            peers: vec!["pytorch"],
            tolerance: 0.,
        });
    };
    for (convolution, users) in convolutions() {
        let names: Vec<_> = users.iter().map(|network| network.name()).collect();
        let whose = if names.is_empty() {
            String::new()
        } else {
            format!(" ({})", names.join(", "))
        };
        for pass in [Pass::Forward, Pass::Input, Pass::Weight] {
            push(
                format!("{}{whose} {}", convolution.name(), pass.name()),
                Work::Convolution { convolution, pass },
            );
        }
    }
    let maps = [16, 64, 56, 56];
    let small = [64, 32, 32, 32];
    let layers: [(Layer, &[usize]); 13] = [
        (Layer::BatchNorm, &maps),
        (Layer::BatchNormPrelu, &maps),
        (Layer::BatchNormPrelu, &[16, 64, 112, 112]),
        (Layer::BatchNormRelu, &small),
        (Layer::BatchNorm, &[16, 512]),
        (Layer::Prelu, &maps),
        (Layer::Relu, &maps),
        (Layer::MaxPool2, &small),
        (Layer::MaxPool3, &[64, 16, 16, 16]),
        (Layer::AvgPool2, &small),
        (Layer::GlobalAvgPool, &[16, 512, 7, 7]),
        (Layer::Linear512, &[16, 25088]),
        (Layer::CrossEntropy, &[64, 1000]),
    ];
    for (layer, shape) in layers {
        let dims: Vec<_> = shape.iter().map(ToString::to_string).collect();
        for pass in [Pass::Forward, Pass::Backward] {
            push(
                format!("{} {} {}", layer.name(), dims.join("x"), pass.name()),
                Work::Layer {
                    layer,
                    shape: shape.to_vec(),
                    pass,
                },
            );
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_work_survives_the_wire() {
        for group in Group::ALL {
            let cases = group.cases();
            let names: BTreeSet<_> = cases.iter().map(|case| case.name.clone()).collect();
            assert_eq!(names.len(), cases.len(), "{group}");
            for case in cases {
                let text = serde_json::to_string(&case.work).unwrap();
                assert_eq!(
                    serde_json::from_str::<Work>(&text).unwrap(),
                    case.work,
                    "{text}"
                );
                for peer in &case.peers {
                    assert!(group.peers().contains(peer), "{}", case.name);
                }
            }
            assert_eq!(group.name().parse::<Group>().unwrap(), group);
        }
        let error = "kernel".parse::<Group>().unwrap_err().to_string();
        assert!(error.contains("kernels"), "{error}");
    }

    #[test]
    fn a_transposed_convolution_doubles_the_side() {
        let up = Convolution {
            batch: 1,
            channels: 8,
            image: 7,
            outputs: 4,
            kernel: 4,
            stride: 2,
            padding: 1,
            groups: 1,
            transposed: true,
        };
        assert_eq!(up.out_image(), 14);
        assert_eq!(up.macs(), 8 * 4 * 16 * 49);
    }
}
