//! Trunk and head of a task.
//!
//! Parameters stand under `backbone.` (with the names of the backbone's PyTorch counterpart) and `head.`.

use std::collections::BTreeMap;
use std::path::Path;

use candle::{ModuleT, Tensor};
use candle_nn::VarBuilder;
use phiz_backbones::{
    ResNet, ResNetConfig, Stem, VisionTransformer, VisionTransformerConfig, load_pytorch, resnet18,
    resnet50, vit_small, vit_tiny,
};
use phiz_kernels::global_avg_pool;
use phiz_tasks::{
    ActionUnitConfig, ActionUnitHead, ActionUnitLoss, AffectConfig, AffectHead, HeatmapConfig,
    HeatmapHead, HeatmapLoss, Margin, PointHead, PointLoss, RecognitionConfig, RecognitionHead,
    ShapeHead, pca_basis, point_loss, shape_loss,
};
use phiz_train::Parameters;

use super::config::{Mode, TaskBackbone, TaskConfig, TaskHead, TaskKind};
use super::source::{Targets, TaskSource};
use crate::{Error, Result};

/// Trunk and head of a task.
pub struct TaskNetwork {
    trunk: Trunk,
    head: Head,
    frozen: bool,
}

enum Trunk {
    ResNet(Box<ResNet>),
    Transformer(Box<VisionTransformer>),
}

enum Head {
    Heatmap(HeatmapHead),
    Points(PointHead),
    Shape(ShapeHead),
    Affect(AffectHead),
    Units(ActionUnitHead),
    People(RecognitionHead),
}

/// What images become at test time.
pub struct Prediction {
    /// Points (B, N, D) in parts of the image, intensities (B, units), valence and arousal (B, 2), or unit embeddings
    /// (B, E).
    pub values: Option<Tensor>,
    /// Probabilities of the expressions (B, classes).
    pub classes: Option<Tensor>,
}

impl Trunk {
    fn new(config: &TaskConfig, vb: VarBuilder) -> Result<Self> {
        let (model, image) = (&config.model, &config.image);
        let resnet = ResNetConfig {
            in_channels: image.channels,
            base_channels: ResNetConfig::width(model.width),
            stem: Stem::for_side(image.size),
            outputs: None,
        };
        let transformer = VisionTransformerConfig {
            image_size: image.size,
            patch_size: model.patch,
            in_channels: image.channels,
            depth: model.depth,
            ..Default::default()
        };
        Ok(match model.backbone {
            TaskBackbone::Resnet18 => Self::ResNet(Box::new(resnet18(resnet, vb)?)),
            TaskBackbone::Resnet50 => Self::ResNet(Box::new(resnet50(resnet, vb)?)),
            TaskBackbone::VitTiny => Self::Transformer(Box::new(vit_tiny(transformer, vb)?)),
            TaskBackbone::VitSmall => Self::Transformer(Box::new(vit_small(transformer, vb)?)),
        })
    }

    fn width(&self) -> usize {
        match self {
            Self::ResNet(net) => net.features(),
            Self::Transformer(net) => net.features(),
        }
    }

    fn features(&self, images: &Tensor, train: bool) -> candle::Result<Tensor> {
        match self {
            Self::ResNet(net) => global_avg_pool(&net.forward_maps(images, train)?),
            Self::Transformer(net) => net.forward_t(images, train),
        }
    }

    fn maps(&self, images: &Tensor, train: bool) -> candle::Result<Tensor> {
        match self {
            Self::ResNet(net) => net.forward_maps(images, train),
            Self::Transformer(net) => {
                let tokens = net.encode(&net.patches(images)?)?;
                let (batch, count, width) = tokens.dims3()?;
                let side = (((count - 1) as f64).sqrt().round() as usize).max(1);
                let patches = tokens.narrow(1, 1, count - 1)?.transpose(1, 2)?;
                patches.contiguous()?.reshape((batch, width, side, side))
            }
        }
    }
}

impl TaskNetwork {
    /// Builds what the configuration names; `count` and `classes` are those of the data.
    pub(crate) fn new(
        config: &TaskConfig,
        count: usize,
        classes: usize,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let trunk = Trunk::new(config, vb.pp("backbone"))?;
        let (task, below, width) = (&config.task, vb.pp("head"), trunk.width());
        let head = match (task.kind, task.head) {
            (TaskKind::Landmarks, TaskHead::Heatmap | TaskHead::HeatmapDistribution) => {
                let config = HeatmapConfig {
                    points: count,
                    stages: task.stages,
                    channels: task.channels,
                    sigma: task.sigma,
                    loss: match task.head {
                        TaskHead::Heatmap => HeatmapLoss::Squared,
                        _ => HeatmapLoss::CrossEntropy,
                    },
                };
                Head::Heatmap(HeatmapHead::new(width, config, below)?)
            }
            (TaskKind::Landmarks, _) => Head::Points(PointHead::new(width, count, 2, below)?),
            (TaskKind::Face3d, TaskHead::Dense) => {
                let size = (count, 3);
                let head = ShapeHead::new(width, size, task.components, task.learned_basis, below)?;
                Head::Shape(head)
            }
            (TaskKind::Face3d, _) => Head::Points(PointHead::new(width, count, 3, below)?),
            (TaskKind::Affect, _) => {
                let config = AffectConfig {
                    classes,
                    dimensional: count > 0,
                    class_weight: task.class_weight,
                    label_smoothing: 0.,
                    ccc_weight: task.ccc_weight,
                    squared_weight: task.squared_weight,
                };
                Head::Affect(AffectHead::new(width, config, below)?)
            }
            (TaskKind::ActionUnits, head) => {
                let loss = match head {
                    TaskHead::Ordinal => ActionUnitLoss::Ordinal,
                    _ => ActionUnitLoss::Squared,
                };
                let config = ActionUnitConfig { loss };
                Head::Units(ActionUnitHead::new(width, count, config, below)?)
            }
            (TaskKind::Recognition, head) => {
                let config = RecognitionConfig {
                    embedding: task.embedding,
                    margin: match head {
                        TaskHead::Cosface => Margin::CosFace(task.margin),
                        _ => Margin::ArcFace(task.margin),
                    },
                    scale: task.scale,
                };
                Head::People(RecognitionHead::new(width, classes, config, below)?)
            }
        };
        Ok(Self {
            trunk,
            head,
            frozen: config.model.mode == Mode::Frozen,
        })
    }

    /// Gives heads on mean shapes their start from the training targets.
    pub(crate) fn begin(&self, config: &TaskConfig, source: &TaskSource) -> Result<()> {
        if !matches!(self.head, Head::Points(_) | Head::Shape(_)) {
            return Ok(());
        }
        // Evenly spaced and at most so many: the cost of components grows with their square.
        let step = source.train.indices.len().div_ceil(400).max(1);
        let chosen: Vec<usize> = source.train.indices.iter().copied().step_by(step).collect();
        let maps = source.maps(&source.train, config, &chosen)?;
        let device = candle::Device::Cpu;
        let Targets::Points(points) =
            source.targets(&source.train, config, &chosen, &maps, &device)?
        else {
            return Err(Error::config("a head of points has no points as targets"));
        };
        match &self.head {
            Head::Points(head) => head.set_mean(&points.mean(0)?)?,
            Head::Shape(head) => {
                let wanted = config.task.components;
                let shapes = points.dim(0)?;
                if shapes <= wanted {
                    return Err(Error::config(format!(
                        "`task.components` is {wanted}, but there are {shapes} shapes to train on; expected at most {}",
                        shapes.saturating_sub(1)
                    )));
                }
                head.set_basis(&pca_basis(&points, wanted)?)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What the head reads: the last map (B, C, h, w) for heat maps, else features (B, F). A frozen trunk is in
    /// evaluation mode and gets no gradient.
    ///
    /// # Errors
    /// When the images have another shape than the network was built for.
    pub fn read(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        let train = train && !self.frozen;
        let seen = match &self.head {
            Head::Heatmap(_) => self.trunk.maps(images, train)?,
            _ => self.trunk.features(images, train)?,
        };
        Ok(if self.frozen { seen.detach() } else { seen })
    }

    pub(crate) fn loss(&self, seen: &Tensor, targets: &Targets) -> Result<Tensor> {
        Ok(match (&self.head, targets) {
            (Head::Heatmap(head), Targets::Points(points)) => {
                head.loss(&head.forward(seen, true)?, points)?
            }
            (Head::Points(head), Targets::Points(points)) => {
                point_loss(&head.forward(seen)?, points, PointLoss::SmoothL1)?
            }
            (Head::Shape(head), Targets::Points(points)) => {
                shape_loss(&head.forward(seen)?, points)?
            }
            (Head::Affect(head), Targets::Affect(classes, numbers)) => {
                head.loss(&head.forward(seen)?, classes.as_ref(), numbers.as_ref())?
            }
            (Head::Units(head), Targets::Units(units)) => head.loss(&head.forward(seen)?, units)?,
            (Head::People(head), Targets::People(people)) => {
                head.loss(&head.forward(seen, true)?, people)?
            }
            _ => {
                return Err(Error::config(
                    "the targets are of another task than the head",
                ));
            }
        })
    }

    /// What was read, decoded.
    ///
    /// # Errors
    /// When `seen` was not read by this network.
    pub fn predict(&self, seen: &Tensor) -> Result<Prediction> {
        let values = match &self.head {
            Head::Affect(head) => {
                let out = head.decode(&head.forward(seen)?)?;
                return Ok(Prediction {
                    values: out.dimensional,
                    classes: out.logits,
                });
            }
            Head::Heatmap(head) => head.decode(&head.forward(seen, false)?)?,
            Head::Points(head) => head.forward(seen)?,
            Head::Shape(head) => head.forward(seen)?,
            Head::Units(head) => head.decode(&head.forward(seen)?)?,
            Head::People(head) => head.decode(&head.forward(seen, false)?)?,
        };
        Ok(Prediction {
            values: Some(values),
            classes: None,
        })
    }
}

/// Prefixes a trunk may stand under in a file from elsewhere, the longest first.
const PREFIXES: [&str; 6] = [
    "module.base_net.",
    "module.backbone.",
    "base_net.",
    "backbone.",
    "trunk.",
    "encoder.",
];

/// Gives the trunk its start from a run's folder or a weight file, and says how many tensors fitted.
pub(crate) fn start_trunk(parameters: &Parameters, from: &Path) -> Result<usize> {
    let file = crate::folder::weights_of(from);
    let tensors = load_pytorch(&file)?;
    let prefix = PREFIXES
        .iter()
        .find(|prefix| tensors.keys().any(|name| name.starts_with(**prefix)))
        .copied()
        .unwrap_or_default();
    let bare: BTreeMap<String, Tensor> = tensors
        .into_iter()
        .filter_map(|(name, tensor)| {
            Some((format!("backbone.{}", name.strip_prefix(prefix)?), tensor))
        })
        .collect();
    // A trunk that fits in part would pass for pre-trained: all of it, or an error that names the first misfit.
    for (name, var) in parameters.variables() {
        if !name.starts_with("backbone.") {
            continue;
        }
        let Some(tensor) = bare.get(&name) else {
            return Err(Error::run(
                &file,
                format!("no tensor {name}: it holds another trunk than `model` names"),
            ));
        };
        if tensor.dims() != var.dims() {
            return Err(Error::run(
                &file,
                format!(
                    "{name} has shape {:?}, the trunk {:?}: set `model.width` and `image` as they were",
                    tensor.dims(),
                    var.dims()
                ),
            ));
        }
    }
    Ok(parameters
        .load_matching(&bare, &["backbone."])?
        .loaded
        .len())
}
