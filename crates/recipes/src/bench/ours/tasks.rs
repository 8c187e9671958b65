//! A fine-tuning step of each face task: ResNet-18, head, loss, backward, AdamW.

use std::time::Instant;

use candle::{DType, Device, Tensor};
use phiz_backbones::resnet::{ResNetConfig, Stem, resnet18};
use phiz_kernels::global_avg_pool;
use phiz_tasks::{
    ActionUnitConfig, ActionUnitHead, AffectConfig, AffectHead, HeatmapConfig, HeatmapHead,
    HeatmapLoss, Margin, RecognitionConfig, RecognitionHead, ShapeHead, shape_loss,
};
use phiz_train::{GroupRules, Optimizer, OptimizerConfig, Parameters, Streams};

use super::{Ready, normal};
use crate::Result;
use crate::bench::cases::BenchTask;

/// Small, so that the numbers stay in range however often the step is repeated.
const LEARNING_RATE: f64 = 1e-5;

/// Loss of the last maps of a batch.
type Objective = Box<dyn Fn(&Tensor) -> candle::Result<Tensor>>;

/// Sizes are those of the recipes, on a trunk of full width; targets are noise.
pub(super) fn step(task: BenchTask, batch: usize) -> Result<Ready> {
    let parameters = Parameters::new(Streams::new(0), DType::F32, &Device::Cpu);
    let vb = parameters.var_builder();
    let trunk = ResNetConfig {
        stem: Stem::Half,
        ..ResNetConfig::default()
    };
    let trunk = resnet18(trunk, vb.pp("backbone"))?;
    let (features, below) = (trunk.features(), vb.pp("head"));
    let classes =
        |count: u32| Tensor::from_iter((0..batch as u32).map(|i| i % count), &Device::Cpu);
    let objective: Objective = match task {
        BenchTask::Landmarks => {
            let config = HeatmapConfig {
                stages: 2,
                channels: 32,
                sigma: 1.,
                loss: HeatmapLoss::CrossEntropy,
                ..HeatmapConfig::default()
            };
            let head = HeatmapHead::new(features, config, below)?;
            let points = (normal(2, (batch, 68, 2))? * 0.1)?;
            Box::new(move |maps| head.loss(&head.forward(maps, true)?, &points))
        }
        BenchTask::Affect => {
            let config = AffectConfig {
                classes: 7,
                ..AffectConfig::default()
            };
            let head = AffectHead::new(features, config, below)?;
            let (labels, numbers) = (classes(7)?, (normal(2, (batch, 2))? * 0.3)?);
            Box::new(move |maps| {
                let out = head.forward(&global_avg_pool(maps)?)?;
                head.loss(&out, Some(&labels), Some(&numbers))
            })
        }
        BenchTask::ActionUnits => {
            let head = ActionUnitHead::new(features, 12, ActionUnitConfig::default(), below)?;
            let target = normal(2, (batch, 12))?.clamp(0f32, 5f32)?;
            Box::new(move |maps| head.loss(&head.forward(&global_avg_pool(maps)?)?, &target))
        }
        BenchTask::Face3d => {
            let head = ShapeHead::new(features, (3904, 3), 40, true, below)?;
            let target = (normal(2, (batch, 3904, 3))? * 0.1)?;
            Box::new(move |maps| shape_loss(&head.forward(&global_avg_pool(maps)?)?, &target))
        }
        BenchTask::Recognition => {
            let config = RecognitionConfig {
                embedding: 128,
                margin: Margin::ArcFace(0.4),
                scale: 16.,
            };
            let head = RecognitionHead::new(features, 64, config, below)?;
            let people = classes(64)?;
            Box::new(move |maps| {
                let embedding = head.forward(&global_avg_pool(maps)?, true)?;
                head.loss(&embedding, &people)
            })
        }
    };
    // As torch.optim.AdamW does by default.
    let rules = GroupRules {
        decay_vectors: true,
        ..GroupRules::default()
    };
    let mut optimizer = Optimizer::new(&parameters, OptimizerConfig::adamw(), &rules)?;
    let images = normal(1, (batch, 3, 64, 64))?;
    let count = parameters.trainable_count();
    let mut step = move || -> Result<_> {
        let start = Instant::now();
        let loss = objective(&trunk.forward_maps(&images, true)?)?;
        let gradients = loss.backward()?;
        optimizer.step(&gradients, LEARNING_RATE)?;
        drop((loss, gradients));
        Ok(start.elapsed())
    };
    step()?;
    Ok(Ready::new(step).fact("parameters", count))
}
