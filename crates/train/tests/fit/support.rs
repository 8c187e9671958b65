//! A small network, and a run of it that can be stopped, crashed and poisoned.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use candle::{DType, Device, Tensor};
use candle_nn::{BatchNorm, Linear, Module};
use phiz_train::{
    Checkpoint, FitConfig, Observer, OptimizerConfig, Outcome, Parameters, Progress, Schedule,
    StepOutput, Streams, fit,
};
use rand::RngExt;

pub(crate) const TOTAL: u64 = 23;

/// Two layers with batch norm between: weights, vectors and buffers.
pub(crate) struct Net {
    first: Linear,
    norm: BatchNorm,
    second: Linear,
}

impl Net {
    fn new(parameters: &Parameters) -> Self {
        let builder = parameters.var_builder();
        Self {
            first: candle_nn::linear(3, 8, builder.pp("first")).unwrap(),
            norm: candle_nn::batch_norm(8, 1e-5, builder.pp("norm")).unwrap(),
            second: candle_nn::linear(8, 1, builder.pp("second")).unwrap(),
        }
    }

    fn forward(&self, x: &Tensor) -> candle::Result<Tensor> {
        let hidden = self.norm.forward_train(&self.first.forward(x)?)?.tanh()?;
        self.second.forward(&hidden)
    }
}

/// One process's view of a run: everything is made anew, as after a restart.
pub(crate) struct Run {
    pub(crate) parameters: Parameters,
    pub(crate) net: Net,
    pub(crate) config: FitConfig,
    pub(crate) stop: AtomicBool,
    pub(crate) stop_at: Option<u64>,
    pub(crate) crash_at: Option<u64>,
    pub(crate) poison_at: Option<u64>,
}

#[derive(Default)]
pub(crate) struct Watcher {
    pub(crate) losses: Vec<f64>,
    pub(crate) messages: Vec<String>,
    pub(crate) checkpoints: Vec<u64>,
}

impl Observer for Watcher {
    fn step(&mut self, progress: &Progress<'_>) {
        assert_eq!(progress.epoch, Some((progress.step - 1) / 5));
        assert_eq!(progress.total, TOTAL);
        assert!(progress.grad_norm.is_finite() && progress.images_per_s > 0.);
        self.losses.push(progress.loss);
    }

    fn message(&mut self, text: &str) {
        self.messages.push(text.to_string());
    }

    fn checkpoint(&mut self, step: u64, path: &Path) {
        assert!(path.is_file());
        self.checkpoints.push(step);
    }
}

pub(crate) fn config(folder: Option<&Path>, optimizer: OptimizerConfig) -> FitConfig {
    FitConfig {
        total_steps: TOTAL,
        steps_per_epoch: Some(5),
        base_lr: 0.05,
        schedule: Schedule::Cosine {
            warmup_steps: 3,
            final_fraction: 0.,
        },
        optimizer,
        clip_norm: Some(1.),
        checkpoint_every: 6,
        log_every: 4,
        run_dir: folder.map(Path::to_path_buf),
        config_hash: "abc".into(),
        ..FitConfig::default()
    }
}

impl Run {
    pub(crate) fn new(folder: Option<&Path>, optimizer: OptimizerConfig) -> Self {
        let parameters = Parameters::new(Streams::new(5), DType::F32, &Device::Cpu);
        let net = Net::new(&parameters);
        let config = config(folder, optimizer);
        Self {
            parameters,
            net,
            config,
            stop: AtomicBool::new(false),
            stop_at: None,
            crash_at: None,
            poison_at: None,
        }
    }

    pub(crate) fn loss(
        &self,
        step: u64,
    ) -> Result<StepOutput, Box<dyn std::error::Error + Send + Sync>> {
        if self.crash_at == Some(step) {
            return Err("the lights went out".into());
        }
        if self.stop_at == Some(step) {
            self.stop.store(true, Ordering::Relaxed);
        }
        let mut rng = self.parameters.streams().rng("batch", step);
        let x: Vec<f32> = (0..48).map(|_| rng.random::<f32>() * 2. - 1.).collect();
        let y: Vec<f32> = x
            .chunks(3)
            .map(|x| x[0] * 2. - x[1] + (3. * x[2]).sin())
            .collect();
        let x = Tensor::from_vec(x, (16, 3), &Device::Cpu)?;
        let y = Tensor::from_vec(y, (16, 1), &Device::Cpu)?;
        let loss = (self.net.forward(&x)? - y)?.sqr()?.mean_all()?;
        let loss = if self.poison_at == Some(step) {
            (loss * f64::NAN)?
        } else {
            loss
        };
        Ok(StepOutput {
            loss,
            metrics: vec![("twice".into(), 2. * step as f64)],
            samples: 16,
        })
    }

    pub(crate) fn go(
        &self,
        start: Option<Checkpoint>,
        watcher: &mut Watcher,
    ) -> phiz_train::Result<Outcome> {
        let ids = |step: u64| vec![format!("s{step}/1.pgm"), format!("s{step}/2.pgm")];
        fit(
            &self.config,
            &self.parameters,
            start,
            &mut |step| self.loss(step),
            &ids,
            &self.stop,
            watcher,
        )
    }

    pub(crate) fn resume(&self, watcher: &mut Watcher) -> phiz_train::Result<Outcome> {
        let folder = self.config.run_dir.as_deref().unwrap();
        self.go(Checkpoint::latest(folder).unwrap(), watcher)
    }

    pub(crate) fn bits(&self) -> BTreeMap<String, Vec<u32>> {
        let all = self.parameters.tensors().into_iter();
        all.map(|(name, tensor)| {
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            (name, values.into_iter().map(f32::to_bits).collect())
        })
        .collect()
    }
}

/// The log without the pace, which is the only thing in it that time decides.
pub(crate) fn log(folder: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(value["images_per_s"].as_f64().unwrap() > 0.);
            value.as_object_mut().unwrap().remove("images_per_s");
            value
        })
        .collect()
}

pub(crate) fn optimizers() -> [OptimizerConfig; 2] {
    [
        OptimizerConfig::Sgd {
            momentum: 0.9,
            nesterov: true,
            weight_decay: 1e-3,
        },
        OptimizerConfig::adamw(),
    ]
}
