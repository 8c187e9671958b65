//! A whole step of SwAV: six crops of each image, queue, assignments, loss, backward, LARC.

use std::time::Instant;

use candle::{DType, Device};
use candle_nn::ModuleT;
use phiz_backbones::resnet::{ResNetConfig, Stem, resnet18};
use phiz_pretrain::{Method, Moment, Swav, SwavConfig, Views};
use phiz_train::{GroupRules, Optimizer, OptimizerConfig, Parameters, Streams};

use super::{Ready, normal};
use crate::Result;

/// ResNet-18 at full width with the stem for 64 pixels; 2 x 64 + 4 x 32 pixels, hidden layer 2048, 256 prototypes, a
/// queue of eight batches in use.
pub(super) fn swav(batch: usize) -> Result<Ready> {
    let parameters = Parameters::new(Streams::new(0), DType::F32, &Device::Cpu);
    let vb = parameters.var_builder();
    let trunk = ResNetConfig {
        stem: Stem::Half,
        ..ResNetConfig::default()
    };
    let trunk = resnet18(trunk, vb.pp("backbone"))?;
    let config = SwavConfig {
        prototypes: 256,
        queue: 8 * batch,
        freeze_steps: 0,
        ..SwavConfig::default()
    };
    let swav = Swav::new(&config, trunk.features(), batch, vb)?;
    let rules = GroupRules {
        decay_vectors: true,
        ..GroupRules::default()
    };
    let mut optimizer = Optimizer::new(&parameters, OptimizerConfig::larc(), &rules)?;
    let large = normal(1, (2 * batch, 3, 64, 64))?;
    let small = normal(2, (4 * batch, 3, 32, 32))?;
    let views = Views::new(vec![large, small], batch)?;
    let count = parameters.trainable_count();
    // Late enough for the queue to be in use.
    let moment = Moment {
        step: 1000,
        total: 2000,
    };
    let mut step = move || -> Result<_> {
        let start = Instant::now();
        let features = |x: &candle::Tensor, train: bool| trunk.forward_t(x, train);
        let report = swav.step(&features, &views, moment)?;
        let gradients = report.loss.backward()?;
        optimizer.step(&gradients, 0.1)?;
        drop(gradients);
        Ok(start.elapsed())
    };
    step()?;
    Ok(Ready::new(step).fact("parameters", count).fact("views", 6))
}
