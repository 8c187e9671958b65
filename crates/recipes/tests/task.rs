//! Tasks from configuration to figures, on rendered faces small enough for seconds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use phiz_recipes::{
    Outcome, Progressed, Reproduction, TaskConfig, TaskRun, judge_task, reproduce, resume_task,
    task_recipe, train_task,
};
use phiz_train::{Observer, Progress};

const SMALL: &[&str] = &[
    "data.source=synth:identities=8,per_expression=1,size=40",
    "image.size=40",
    "model.width=0.1",
    "task.components=5",
    "task.stages=1",
    "task.channels=8",
    "task.embedding=16",
    "task.min_steps=6",
    "task.checks=2",
    "data.batch=14",
    "train.epochs=2",
    "train.checkpoint_every=3",
];

fn small(name: &str, more: &[&str]) -> TaskConfig {
    let words = SMALL.iter().chain(more).copied();
    task_recipe(name).unwrap().set_all(words).unwrap()
}

fn run(config: &TaskConfig, out: &Path) -> TaskRun {
    let stop = AtomicBool::new(false);
    match train_task(config, out, "cpu", &stop, &mut ()).unwrap() {
        Outcome::Finished(run) => *run,
        Outcome::Interrupted { .. } => panic!("nobody asked it to stop"),
    }
}

#[test]
fn every_task_trains_is_judged_and_reads_back() {
    let root = tempfile::tempdir().unwrap();
    let cases: [(&str, &[&str], &[&str]); 9] = [
        ("landmarks", &[], &["nme", "failure_rate", "auc"]),
        ("landmarks", &["task.head=heatmap"], &["nme"]),
        (
            "landmarks",
            &["task.head=points", "model.mode=frozen"],
            &["nme"],
        ),
        ("affect", &[], &["ccc", "pcc", "rmse", "sagr", "accuracy"]),
        (
            "action-units",
            &["model.mode=frozen"],
            &["icc", "mse", "mae"],
        ),
        ("action-units", &["task.head=ordinal"], &["mae"]),
        ("face3d", &[], &["dense3d", "reconstruction"]),
        (
            "face3d",
            &["task.head=points"],
            &["sparse2d", "reconstruction"],
        ),
        (
            "recognition",
            &["data.rule=within-subject"],
            &["auc", "eer"],
        ),
    ];
    for (i, (name, words, metrics)) in cases.into_iter().enumerate() {
        let out = root.path().join(format!("{i}"));
        let config = small(name, words);
        let trained = run(&config, &out);
        let verdict = judge_task(&trained, None, "cpu").unwrap();
        for metric in metrics {
            let value = verdict.metrics.get(*metric);
            assert!(
                value.is_some_and(|v| v.is_finite()),
                "{name} {words:?}: {metric}"
            );
        }
        assert!(verdict.best.is_some(), "{name}: no check on the way");
        verdict.write(&out).unwrap();
        let page = std::fs::read_to_string(out.join("report.html")).unwrap();
        assert!(page.contains("rendered"), "{name}");
        // Read back, judged again: the same figures.
        let again = judge_task(&TaskRun::open(&out).unwrap(), None, "cpu").unwrap();
        assert_eq!(again.metrics, verdict.metrics, "{name} {words:?}");
        assert_eq!(again.to_json()["protocol"]["data"]["rendered"], true);
        let back = TaskConfig::from_file(&out.join("config.toml"), &config).unwrap();
        assert_eq!(back, config);
    }
}

/// Sets the flag after some steps.
struct StopAfter<'a>(u64, &'a AtomicBool);

impl Observer for StopAfter<'_> {
    fn step(&mut self, progress: &Progress<'_>) {
        if progress.step >= self.0 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
    fn message(&mut self, _: &str) {}
    fn checkpoint(&mut self, _: u64, _: &Path) {}
}

#[test]
fn an_interrupted_run_ends_as_an_unbroken_one() {
    let root = tempfile::tempdir().unwrap();
    for (name, words) in [
        ("face3d", &["model.mode=frozen"][..]),
        ("landmarks", &["data.fraction=0.4"]),
    ] {
        let config = small(name, words);
        let (whole, broken) = (
            root.path().join(format!("{name}-whole")),
            root.path().join(format!("{name}-broken")),
        );
        run(&config, &whole);
        let stop = AtomicBool::new(false);
        let outcome = train_task(&config, &broken, "cpu", &stop, &mut StopAfter(4, &stop)).unwrap();
        assert!(matches!(outcome, Outcome::Interrupted { step: 4 }));
        assert!(
            TaskRun::open(&broken)
                .err()
                .unwrap()
                .to_string()
                .contains("not finished")
        );
        let stop = AtomicBool::new(false);
        resume_task(&broken, "cpu", &stop, &mut ()).unwrap();
        for file in ["model.safetensors", "checks.jsonl", "subset.json"] {
            let read = |folder: &Path| std::fs::read(folder.join(file)).unwrap();
            assert!(read(&whole) == read(&broken), "{name}: {file} differs");
        }
    }
}

#[test]
fn a_trunk_is_taken_whole_or_refused() {
    let root = tempfile::tempdir().unwrap();
    let before = root.path().join("before");
    run(&small("affect", &[]), &before);
    let init = format!("model.init={}", before.display());
    // Frozen, it is in the new run as it was in the old one.
    let after = root.path().join("after");
    run(
        &small("action-units", &[&init, "model.mode=frozen", "seed=5"]),
        &after,
    );
    let read = |folder: &Path| phiz_train::read_tensors(&folder.join("model.safetensors")).unwrap();
    let (old, new) = (read(&before), read(&after));
    let mut same = 0;
    for (name, tensor) in new.iter().filter(|(name, _)| name.starts_with("backbone.")) {
        let apart = (tensor - &old[name]).unwrap().abs().unwrap();
        assert_eq!(
            apart.sum_all().unwrap().to_scalar::<f32>().unwrap(),
            0.,
            "{name}"
        );
        same += 1;
    }
    assert!(same > 90, "{same}");
    let line = |words: &[&str]| {
        let stop = AtomicBool::new(false);
        let out = root.path().join("never");
        let config = small("action-units", words);
        let error = train_task(&config, &out, "cpu", &stop, &mut ())
            .err()
            .unwrap();
        assert!(!out.exists(), "a refused run leaves nothing");
        error.to_string()
    };
    let wide = line(&[&init, "model.width=0.2"]);
    assert!(
        wide.contains("has shape") && wide.contains("model.width"),
        "{wide}"
    );
    let other = line(&[&init, "model.backbone=resnet50"]);
    assert!(other.contains("backbone."), "{other}");
    let few = small("face3d", &["data.fraction=0.05", "task.components=20"]);
    let stop = AtomicBool::new(false);
    let error = train_task(&few, &root.path().join("never"), "cpu", &stop, &mut ());
    let error = error.err().unwrap().to_string();
    assert!(error.contains("`task.components` is 20"), "{error}");
}

#[test]
fn what_cannot_be_is_said_in_one_line() {
    let line = |name: &str, word: &str| {
        let error = task_recipe(name).unwrap().set_all([word]).err().unwrap();
        error.to_string()
    };
    assert_eq!(
        line("landmarks", "task.sigmas=2"),
        "unknown key `task.sigmas`; the nearest known one is `task.sigma`"
    );
    assert!(line("landmarks", "task.head=dense").contains("is none of Landmarks"));
    assert!(line("face3d", "image.augment.flip=0.5").contains("mirrored mesh"));
    assert!(line("affect", "data.fraction=0").contains("`data.fraction` is 0"));
    let error = task_recipe("landmark").err().unwrap().to_string();
    assert!(error.contains("did you mean `landmarks`?"), "{error}");
    let stop = AtomicBool::new(false);
    let config = task_recipe("landmarks").unwrap();
    let config = config.set_all(["data.source=mnist", "data.judged=synth"]);
    assert!(config.is_ok(), "a spec is read when it is opened");
    let none = small("landmarks", &["data.train_fraction=0.01"]);
    let error = train_task(&none, Path::new("never"), "cpu", &stop, &mut ());
    assert!(
        error
            .err()
            .unwrap()
            .to_string()
            .contains("leaves none on one side")
    );
}

#[test]
fn the_small_few_shot_table_is_walked_and_kept() {
    let root = tempfile::tempdir().unwrap();
    let mut wanted = Reproduction {
        name: "few-shot-small".to_string(),
        seeds: 1,
        set: Vec::new(),
        rows: Vec::new(),
        trunks: Vec::new(),
        out: root.path().to_path_buf(),
        device: "cpu".to_string(),
    };
    let stop = AtomicBool::new(false);
    let mut trained = 0;
    let make = |wanted: &Reproduction, trained: &mut usize| {
        let progressed = reproduce(wanted, &stop, &mut |_| {
            *trained += 1;
            Box::new(())
        });
        match progressed.unwrap() {
            Progressed::Finished(table) => table,
            Progressed::Interrupted => panic!("nobody asked it to stop"),
        }
    };
    let table = make(&wanted, &mut trained);
    // Five tasks, two shares, three trunks, of which two are made first.
    assert_eq!(trained, 5 * 2 * 3 + 2);
    assert_eq!(table.parts.len(), 10);
    for part in &table.parts {
        for row in &part.rows {
            let values = row.values.get(part.metrics[0]);
            assert!(values.is_some_and(|v| v.len() == 1), "{}", row.name);
        }
    }
    let text = std::fs::read_to_string(root.path().join("table.md")).unwrap();
    assert!(text.contains("| landmarks 10% swav |"), "{text}");
    // Nested: the tenth lies within the whole.
    let list = |share: &str| -> Vec<String> {
        let path = root
            .path()
            .join(format!("landmarks-{share}-random-0/subset.json"));
        let value: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        serde_json::from_value(value["samples"].clone()).unwrap()
    };
    let (all, tenth) = (list("100%"), list("10%"));
    assert!(tenth.len() * 8 < all.len() && tenth.iter().all(|id| all.contains(id)));
    // Again: nothing is trained; a named trunk adds its rows.
    let mut trained = 0;
    make(&wanted, &mut trained);
    assert_eq!(trained, 0);
    let trunk = root.path().join("trunk-swav");
    wanted.trunks = vec![format!("mine={}", trunk.display())];
    wanted.rows = vec!["affect 10% mine".to_string()];
    let mut trained = 0;
    make(&wanted, &mut trained);
    assert_eq!(trained, 1);
}
