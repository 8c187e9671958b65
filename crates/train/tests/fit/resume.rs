//! Interruption, crash, resumption, and checkpoints that are damaged or of another run.

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::Ordering;

use candle::{DType, Device};
use phiz_train::{Checkpoint, ErrorKind, OptimizerConfig, Outcome, Parameters, Streams};

use crate::support::{Run, TOTAL, Watcher, log, optimizers};

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
