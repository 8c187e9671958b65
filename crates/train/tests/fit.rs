//! The loop on a small network: it learns, repeats bit for bit, survives interruption, and stops when it should.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use candle::{DType, Device, Tensor};
use candle_nn::{BatchNorm, Linear, Module};
use phiz_train::{
    Checkpoint, ErrorKind, FitConfig, Observer, OptimizerConfig, Outcome, Parameters, Progress,
    Schedule, StepOutput, Streams, fit,
};
use rand::RngExt;

const TOTAL: u64 = 23;

/// Two layers with batch norm between: weights, vectors and buffers.
struct Net {
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
struct Run {
    parameters: Parameters,
    net: Net,
    config: FitConfig,
    stop: AtomicBool,
    stop_at: Option<u64>,
    crash_at: Option<u64>,
    poison_at: Option<u64>,
}

#[derive(Default)]
struct Watcher {
    losses: Vec<f64>,
    messages: Vec<String>,
    checkpoints: Vec<u64>,
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

fn config(folder: Option<&Path>, optimizer: OptimizerConfig) -> FitConfig {
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
    fn new(folder: Option<&Path>, optimizer: OptimizerConfig) -> Self {
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

    fn loss(&self, step: u64) -> Result<StepOutput, Box<dyn std::error::Error + Send + Sync>> {
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

    fn go(&self, start: Option<Checkpoint>, watcher: &mut Watcher) -> phiz_train::Result<Outcome> {
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

    fn resume(&self, watcher: &mut Watcher) -> phiz_train::Result<Outcome> {
        let folder = self.config.run_dir.as_deref().unwrap();
        self.go(Checkpoint::latest(folder).unwrap(), watcher)
    }

    fn bits(&self) -> BTreeMap<String, Vec<u32>> {
        let all = self.parameters.tensors().into_iter();
        all.map(|(name, tensor)| {
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            (name, values.into_iter().map(f32::to_bits).collect())
        })
        .collect()
    }
}

/// The log without the pace, which is the only thing in it that time decides.
fn log(folder: &Path) -> Vec<serde_json::Value> {
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

fn optimizers() -> [OptimizerConfig; 2] {
    [
        OptimizerConfig::Sgd {
            momentum: 0.9,
            nesterov: true,
            weight_decay: 1e-3,
        },
        OptimizerConfig::adamw(),
    ]
}

#[test]
fn it_learns_and_two_runs_are_bit_equal() {
    for optimizer in optimizers() {
        let (first, second) = (Run::new(None, optimizer), Run::new(None, optimizer));
        let (mut a, mut b) = (Watcher::default(), Watcher::default());
        assert_eq!(first.go(None, &mut a).unwrap(), Outcome::Finished);
        assert_eq!(second.go(None, &mut b).unwrap(), Outcome::Finished);
        assert_eq!(a.losses, b.losses);
        assert_eq!(first.bits(), second.bits());
        assert_eq!(a.losses.len() as u64, TOTAL);
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        let (start, end) = (mean(&a.losses[..3]), mean(&a.losses[20..]));
        assert!(end < 0.5 * start, "{start} -> {end}");
        assert!(a.checkpoints.is_empty());
    }
}

#[test]
fn interrupted_or_crashed_anywhere_and_resumed_is_bit_equal() {
    for optimizer in optimizers() {
        let folder = tempfile::tempdir().unwrap();
        let unbroken = Run::new(Some(folder.path()), optimizer);
        let mut watcher = Watcher::default();
        unbroken.go(None, &mut watcher).unwrap();
        assert_eq!(watcher.checkpoints, [6, 12, 18, 23]);
        let model = folder.path().join("model.safetensors");
        unbroken.parameters.save(&model).unwrap();
        let model = std::fs::read(model).unwrap();
        assert_eq!(log(folder.path()).len(), 6);

        for breaks in [
            vec![0],
            vec![1],
            vec![7],
            vec![6, 13],
            vec![3, 4, 22],
            vec![11, 19],
        ] {
            for crash in [false, true] {
                let other = tempfile::tempdir().unwrap();
                for &at in &breaks {
                    let mut run = Run::new(Some(other.path()), optimizer);
                    let mut watcher = Watcher::default();
                    if crash {
                        // What is in memory is lost; the disk has the last checkpoint, or none yet.
                        run.crash_at = Some(at);
                        let error = run.resume(&mut watcher).unwrap_err();
                        assert!(
                            matches!(error.kind(), ErrorKind::Step { step, .. } if *step == at),
                            "{error}"
                        );
                        assert_eq!(error.to_string(), format!("step {at}: the lights went out"));
                    } else {
                        run.stop_at = Some(at);
                        let outcome = run.resume(&mut watcher).unwrap();
                        let expected = if at + 1 == TOTAL {
                            Outcome::Finished
                        } else {
                            Outcome::Interrupted { step: at + 1 }
                        };
                        assert_eq!(outcome, expected);
                        let saved = Checkpoint::latest(other.path()).unwrap().unwrap();
                        assert_eq!(saved.step(), at + 1);
                    }
                    assert!(watcher.messages.is_empty());
                }
                let last = Run::new(Some(other.path()), optimizer);
                assert_eq!(
                    last.resume(&mut Watcher::default()).unwrap(),
                    Outcome::Finished
                );
                assert_eq!(
                    last.bits(),
                    unbroken.bits(),
                    "breaks {breaks:?}, crash {crash}"
                );
                let saved = other.path().join("model.safetensors");
                last.parameters.save(&saved).unwrap();
                assert!(std::fs::read(saved).unwrap() == model);
                assert_eq!(
                    log(other.path()),
                    log(folder.path()),
                    "breaks {breaks:?}, crash {crash}"
                );
            }
        }
    }
}

#[test]
fn a_finished_run_resumes_to_finished_without_a_step() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::new(Some(folder.path()), OptimizerConfig::sgd());
    run.go(None, &mut Watcher::default()).unwrap();
    let again = Run::new(Some(folder.path()), OptimizerConfig::sgd());
    let mut watcher = Watcher::default();
    assert_eq!(again.resume(&mut watcher).unwrap(), Outcome::Finished);
    assert!(watcher.losses.is_empty());
    assert_eq!(again.bits(), run.bits());
}

#[test]
fn the_log_holds_means_since_the_last_entry() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::new(Some(folder.path()), OptimizerConfig::sgd());
    let mut watcher = Watcher::default();
    run.go(None, &mut watcher).unwrap();
    let log = log(folder.path());
    let steps: Vec<u64> = log
        .iter()
        .map(|entry| entry["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [4, 8, 12, 16, 20, 23]);
    assert_eq!(log[1]["twice"], 11.); // 2 · mean(4, 5, 6, 7)
    assert_eq!(log[1]["epoch"], 1);
    let mean = watcher.losses[4..8].iter().sum::<f64>() / 4.;
    assert!((log[1]["loss"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert_eq!(
        log[0]["lr"],
        0.05 * 0.5 * (1. + (std::f64::consts::PI * 0. / 20.).cos())
    );
}

#[test]
fn a_loss_that_is_not_finite_stops_before_the_update() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::new(Some(folder.path()), OptimizerConfig::sgd());
    run.poison_at = Some(6);
    let error = run.go(None, &mut Watcher::default()).unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::NonFinite {
            what: "loss",
            step: 6,
            ..
        }
    ));
    let text = error.to_string();
    assert!(
        text.contains("NaN") && text.contains("step 6") && text.contains("s6/1.pgm, s6/2.pgm"),
        "{text}"
    );
    // The weights are those of the checkpoint of step 6; the batch norm has seen the bad batch.
    let saved = Checkpoint::latest(folder.path()).unwrap().unwrap();
    assert_eq!(saved.step(), 6);
    for (name, var) in run.parameters.trainable() {
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(&var), values(&saved.model()[&name]), "{name}");
    }
}

#[test]
fn a_gradient_that_is_not_finite_stops_before_the_update() {
    let parameters = Parameters::new(Streams::new(5), DType::F32, &Device::Cpu);
    let w = parameters
        .var_builder()
        .get_with_hints(2, "w", candle_nn::Init::Const(0.))
        .unwrap();
    // The root of zero is finite, its slope is not.
    let mut objective = |_| -> candle::Result<StepOutput> {
        Ok(StepOutput {
            loss: w.sqrt()?.sum_all()?,
            metrics: vec![],
            samples: 1,
        })
    };
    let ids = |_| vec!["only".to_string()];
    let config = FitConfig {
        total_steps: 1,
        ..FitConfig::default()
    };
    let error = fit(
        &config,
        &parameters,
        None,
        &mut objective,
        &ids,
        &AtomicBool::new(false),
        &mut (),
    )
    .unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::NonFinite {
                what: "gradient norm",
                step: 0,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(
        parameters.get("w").unwrap().to_vec1::<f32>().unwrap(),
        [0., 0.]
    );
}

#[test]
fn a_variable_that_the_loss_does_not_use_is_named() {
    let run = Run::new(None, OptimizerConfig::sgd());
    candle_nn::linear(2, 2, run.parameters.var_builder().pp("idle")).unwrap();
    let error = run.go(None, &mut Watcher::default()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NoGradient));
    assert_eq!(error.record(), Some("idle.bias"));
    let mut run = Run::new(None, OptimizerConfig::sgd());
    candle_nn::linear(2, 2, run.parameters.var_builder().pp("idle")).unwrap();
    run.config.groups.allow_unused = true;
    assert_eq!(
        run.go(None, &mut Watcher::default()).unwrap(),
        Outcome::Finished
    );
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::new(Some(folder.path()), OptimizerConfig::sgd());
    run.stop_at = Some(2);
    run.go(None, &mut Watcher::default()).unwrap();
    let before = run.bits();

    // A new run does not walk over an old one.
    let error = run.go(None, &mut Watcher::default()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::RunExists { step: 3 }));
    assert_eq!(error.path(), Some(folder.path()));

    let mut other = Run::new(Some(folder.path()), OptimizerConfig::sgd());
    other.config.config_hash = "def".into();
    let error = other.resume(&mut Watcher::default()).unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::OtherRun {
                what: "configuration hash",
                ..
            }
        ),
        "{error}"
    );

    let mut other = Run::new(Some(folder.path()), OptimizerConfig::sgd());
    other.parameters = Parameters::new(Streams::new(6), DType::F32, &Device::Cpu);
    let error = other.resume(&mut Watcher::default()).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::OtherRun { what: "seed", .. }),
        "{error}"
    );

    let other = Run::new(Some(folder.path()), OptimizerConfig::adamw());
    let error = other.resume(&mut Watcher::default()).unwrap_err();
    assert_eq!(
        error.record(),
        Some("optimizer.first.bias.exp_avg"),
        "{error}"
    );

    let mut wider = Run::new(Some(folder.path()), OptimizerConfig::sgd());
    wider.parameters = Parameters::new(Streams::new(5), DType::F32, &Device::Cpu);
    candle_nn::linear(3, 9, wider.parameters.var_builder().pp("first")).unwrap();
    let error = wider.resume(&mut Watcher::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("the model has shape [9], the file [8] [first.bias]"),
        "{text}"
    );
    assert!(text.contains("step-0000000003.safetensors"), "{text}");
    assert_eq!(run.bits(), before);
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let cases: [(&str, fn(&mut FitConfig)); 6] = [
        ("base_lr", |config| config.base_lr = f64::NAN),
        ("base_lr", |config| config.base_lr = -1.),
        ("clip_norm", |config| config.clip_norm = Some(0.)),
        ("log_every", |config| config.log_every = 0),
        ("steps_per_epoch", |config| config.steps_per_epoch = Some(0)),
        ("schedule", |config| {
            config.schedule = Schedule::Constant {
                warmup_steps: TOTAL + 1,
            }
        }),
    ];
    for (record, change) in cases {
        let mut run = Run::new(None, OptimizerConfig::sgd());
        change(&mut run.config);
        let error = run.go(None, &mut Watcher::default()).unwrap_err();
        assert_eq!(error.record(), Some(record));
    }
}

#[test]
fn a_loss_that_is_no_scalar_and_a_reserved_metric_are_errors() {
    let parameters = Parameters::new(Streams::new(5), DType::F32, &Device::Cpu);
    let w = parameters
        .var_builder()
        .get_with_hints(2, "w", candle_nn::Init::Const(1.))
        .unwrap();
    let config = FitConfig {
        total_steps: 1,
        ..FitConfig::default()
    };
    let stop = AtomicBool::new(false);
    let try_with = |loss: &dyn Fn() -> candle::Result<Tensor>, metric: &str| {
        let mut objective = |_| -> candle::Result<StepOutput> {
            Ok(StepOutput {
                loss: loss()?,
                metrics: vec![(metric.into(), 1.)],
                samples: 1,
            })
        };
        fit(
            &config,
            &parameters,
            None,
            &mut objective,
            &|_| vec![],
            &stop,
            &mut (),
        )
    };
    let error = try_with(&|| w.sqr(), "fine").unwrap_err().to_string();
    assert!(error.contains("scalar") && error.contains("[2]"), "{error}");
    let error = try_with(&|| w.sqr()?.sum_all(), "lr").unwrap_err();
    assert_eq!(error.record(), Some("lr"));
}

#[test]
fn an_output_folder_that_cannot_be_made_is_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let mut blocked = vec![file.join("run")];
    if cfg!(target_os = "linux") {
        // Read-only even for root, whom permissions do not stop.
        blocked.push("/proc/phiz-run".into());
    }
    for path in blocked {
        let run = Run::new(Some(&path), OptimizerConfig::sgd());
        let steps = Cell::new(0);
        let mut objective = |step| {
            steps.set(steps.get() + 1);
            run.loss(step)
        };
        let result = fit(
            &run.config,
            &run.parameters,
            None,
            &mut objective,
            &|_| vec![],
            &run.stop,
            &mut (),
        );
        let error = result.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{error}");
        assert_eq!(error.path(), Some(path.as_path()));
        assert_eq!(
            steps.get(),
            0,
            "no step is wasted on a folder that cannot be written"
        );
    }
}

#[test]
fn damaged_checkpoints_fall_back_to_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::new(Some(folder.path()), OptimizerConfig::sgd());
    run.go(None, &mut Watcher::default()).unwrap();
    let checkpoints = folder.path().join("checkpoint");
    let names = || {
        let mut names: Vec<String> = std::fs::read_dir(&checkpoints)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        names(),
        [
            "latest.json",
            "step-0000000018.safetensors",
            "step-0000000023.safetensors"
        ]
    );

    let newest = checkpoints.join("step-0000000023.safetensors");
    let good = std::fs::read(&newest).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let damaged = [
        good[..good.len() - 5].to_vec(),
        flipped,
        vec![],
        b"junk".to_vec(),
    ];
    for bytes in damaged {
        std::fs::write(&newest, bytes).unwrap();
        let found = Checkpoint::latest(folder.path()).unwrap().unwrap();
        assert_eq!(found.step(), 18);
        assert_eq!(found.warnings().len(), 1);
        assert!(
            found.warnings()[0].contains("step-0000000023"),
            "{:?}",
            found.warnings()
        );
    }
    std::fs::remove_file(&newest).unwrap();
    assert_eq!(
        Checkpoint::latest(folder.path()).unwrap().unwrap().step(),
        18
    );

    // From there the run ends as before, and says why it went back.
    let again = Run::new(Some(folder.path()), OptimizerConfig::sgd());
    let mut watcher = Watcher::default();
    assert_eq!(again.resume(&mut watcher).unwrap(), Outcome::Finished);
    assert_eq!(again.bits(), run.bits());
    assert_eq!(watcher.messages.len(), 1);
    assert!(
        std::fs::read(&newest).unwrap() == good,
        "a checkpoint's bytes are a function of the run"
    );

    // Without the list, whole files are found by themselves.
    std::fs::remove_file(checkpoints.join("latest.json")).unwrap();
    assert_eq!(
        Checkpoint::latest(folder.path()).unwrap().unwrap().step(),
        23
    );
    std::fs::write(&newest, b"junk").unwrap();
    std::fs::write(checkpoints.join("step-0000000018.safetensors"), b"junk").unwrap();
    let error = Checkpoint::latest(folder.path()).unwrap_err();
    assert!(
        error
            .path()
            .unwrap()
            .ends_with("step-0000000023.safetensors"),
        "{error}"
    );
    assert!(
        Checkpoint::latest(Path::new("/no/such/run"))
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_list_that_leads_out_of_the_folder_or_is_of_another_version_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::new(Some(folder.path()), OptimizerConfig::sgd());
    run.go(None, &mut Watcher::default()).unwrap();
    let index = folder.path().join("checkpoint/latest.json");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(
        &index,
        text.replace("step-0000000023", "../checkpoint/step-0000000023"),
    )
    .unwrap();
    let found = Checkpoint::latest(folder.path()).unwrap().unwrap();
    assert_eq!(found.step(), 18);
    assert!(found.warnings()[0].contains("not a file name"));
    std::fs::write(&index, text.replace("\"version\": 1", "\"version\": 2")).unwrap();
    let found = Checkpoint::latest(folder.path()).unwrap().unwrap();
    assert!(
        found.warnings()[0].contains("format version 2"),
        "{:?}",
        found.warnings()
    );

    // The same for the file's own version.
    let path = folder.path().join("checkpoint/step-0000000023.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes
        .windows(12)
        .position(|w| w == br#"\"version\":1"#.get(..12).unwrap())
        .unwrap();
    let mut other = bytes.clone();
    let digit = at + other[at..].iter().position(u8::is_ascii_digit).unwrap();
    other[digit] = b'9';
    std::fs::write(&path, other).unwrap();
    let error = Checkpoint::open(&path).unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Version {
                expected: 1,
                found: 9
            }
        ),
        "{error}"
    );
    let error = Checkpoint::open(&index).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::BadFile(_)), "{error}");
}

#[test]
fn a_stop_that_is_set_before_the_first_step_saves_nothing_new() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::new(Some(folder.path()), OptimizerConfig::sgd());
    run.stop.store(true, Ordering::Relaxed);
    let seen = RefCell::new(Watcher::default());
    assert_eq!(
        run.go(None, &mut seen.borrow_mut()).unwrap(),
        Outcome::Interrupted { step: 0 }
    );
    assert_eq!(
        seen.borrow().checkpoints,
        [0],
        "the first weights are a state to resume from"
    );
    let again = Run::new(Some(folder.path()), OptimizerConfig::sgd());
    assert_eq!(
        again.resume(&mut Watcher::default()).unwrap(),
        Outcome::Finished
    );
}
