//! Learning, repeating, logging, and errors that stop a run.

use std::cell::Cell;
use std::sync::atomic::AtomicBool;

use candle::{DType, Device, Tensor};
use phiz_train::{
    Checkpoint, ErrorKind, FitConfig, OptimizerConfig, Outcome, Parameters, Schedule, StepOutput,
    Streams, fit,
};

use crate::support::{Run, TOTAL, Watcher, log, optimizers};

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
fn settings_that_make_no_sense_are_named() {
    type Change = fn(&mut FitConfig);
    let cases: [(&str, Change); 6] = [
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
