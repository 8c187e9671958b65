//! Studies, reference models and transfer as a library's user makes them, small: rows, what is kept, what goes on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use phiz_recipes::pretrain::{PretrainRun, embed};
use phiz_recipes::{Progressed, Reproduction, Table, reproduce};
use phiz_train::{Observer, Progress};

/// Everything small; views for images of 24 pixels.
const SMALL: &[&str] = &[
    "views.large_size=24",
    "model.width=0.05",
    "model.stem=full",
    "method.hidden=16",
    "method.dim=8",
    "method.prototypes=8",
    "method.freeze_steps=1",
    "train.batch=8",
];

const STUDY: &[&str] = &["study.steps=3", "study.images=56", "study.people=2"];

struct StopAfter<'a>(u64, &'a AtomicBool);

impl Observer for StopAfter<'_> {
    fn step(&mut self, progress: &Progress<'_>) {
        if progress.step == self.0 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

fn wanted(name: &str, out: &Path, words: &[&[&str]]) -> Reproduction {
    Reproduction {
        name: name.to_string(),
        seeds: 1,
        set: words.concat().iter().map(ToString::to_string).collect(),
        rows: Vec::new(),
        trunks: Vec::new(),
        out: out.to_path_buf(),
        device: "cpu".to_string(),
    }
}

fn made(wanted: &Reproduction) -> Table {
    let stop = AtomicBool::new(false);
    match reproduce(wanted, &stop, &mut |_| Box::new(())).unwrap() {
        Progressed::Finished(table) => table,
        Progressed::Interrupted => panic!("interrupted"),
    }
}

fn refused(wanted: &Reproduction) -> String {
    let stop = AtomicBool::new(false);
    let refused = reproduce(wanted, &stop, &mut |_| Box::new(()));
    refused.err().unwrap().to_string()
}

#[test]
fn a_study_keeps_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = &["study.sizes=56,84"][..];
    let ask = wanted("data-size", folder.path(), &[SMALL, STUDY, sizes]);
    let runs = std::cell::Cell::new(0);
    let count = || {
        let stop = AtomicBool::new(false);
        let made = reproduce(&ask, &stop, &mut |_| {
            runs.set(runs.get() + 1);
            Box::new(())
        });
        let Progressed::Finished(table) = made.unwrap() else {
            panic!("interrupted")
        };
        table
    };
    count();
    let written = || std::fs::read_to_string(folder.path().join("table.json")).unwrap();
    let first = written();
    let table = count();
    // The second time nothing was trained.
    assert_eq!(runs.get(), 4);
    assert_eq!(written(), first);
    let [study, floor] = table.parts.as_slice() else {
        panic!("two parts")
    };
    let names =
        |table: &Table| -> Vec<String> { table.rows.iter().map(|row| row.name.clone()).collect() };
    assert_eq!(
        names(study),
        ["supervised 56", "supervised 84", "swav 56", "swav 84"]
    );
    assert_eq!(names(floor), ["initialised", "pixels"]);
    for row in study.rows.iter().chain(&floor.rows) {
        for metric in &study.metrics {
            let values = &row.values[*metric];
            assert!(
                values.len() == 1 && (0. ..=1.).contains(&values[0]),
                "{metric}"
            );
        }
    }
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("images, log10") && page.contains("rendered"));
    // Another number of steps is another study.
    let other = &["study.steps=4"][..];
    let text = refused(&wanted(
        "data-size",
        folder.path(),
        &[SMALL, STUDY, sizes, other],
    ));
    assert!(text.contains("another configuration"), "{text}");
}

#[test]
fn a_study_that_is_stopped_in_the_middle_of_a_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = &["study.sizes=56", "train.checkpoint_every=1"][..];
    let mut ask = wanted("data-size", folder.path(), &[SMALL, STUDY, sizes]);
    ask.rows = vec!["swav".to_string()];
    static STOP: AtomicBool = AtomicBool::new(false);
    let progressed = reproduce(&ask, &STOP, &mut |_| Box::new(StopAfter(1, &STOP)));
    assert!(matches!(progressed.unwrap(), Progressed::Interrupted));
    let table = made(&ask);
    assert_eq!(table.parts[0].rows[0].values["knn_identity"].len(), 1);
}

#[test]
fn quality_and_video_have_their_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut ask = wanted(
        "data-quality",
        &folder.path().join("quality"),
        &[SMALL, STUDY],
    );
    ask.rows = vec!["swav all".to_string(), "supervised noise".to_string()];
    let table = made(&ask);
    assert_eq!(table.parts[0].rows.len(), 2);
    let mut ask = wanted(
        "video-redundancy",
        &folder.path().join("video"),
        &[SMALL, STUDY],
    );
    ask.rows = vec!["x 20".to_string(), "1%".to_string()];
    let table = made(&ask);
    let rows: Vec<&str> = table.parts[0]
        .rows
        .iter()
        .map(|row| row.name.as_str())
        .collect();
    assert_eq!(rows, ["3 x 20", "2 x 4 s, 1%"]);
    ask.rows = vec!["nothing".to_string()];
    assert!(refused(&ask).contains("no row"));
}

#[test]
fn reference_models_are_small_runs_that_embed_and_start_a_transfer() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    let data = &[
        "data.source=synth:identities=10,per_expression=1,size=24",
        "train.epochs=1",
        "train.warmup_epochs=0",
        "probe.every=0",
    ][..];
    let table = made(&wanted("release-models", &models, &[SMALL, data]));
    assert_eq!(table.rows.len(), 2);
    for name in ["swav", "supervised"] {
        let out = models.join(name);
        let run = PretrainRun::open(&out).unwrap();
        let embeddings = embed(&run, "synth:identities=2,per_expression=1,size=24", "cpu").unwrap();
        assert_eq!(embeddings.len(), 14);
        let card = std::fs::read_to_string(out.join("README.md")).unwrap();
        for word in ["rendered faces only", "Limits", "seed 0", "--row"] {
            assert!(card.contains(word), "{word}");
        }
        let whole = std::fs::metadata(models.join("runs").join(name).join("model.safetensors"));
        let half = std::fs::metadata(out.join("model.safetensors"))
            .unwrap()
            .len();
        assert!(half * 2 < whole.unwrap().len() + 20_000);
    }

    // The same division of people as the table has on ORL, on rendered faces; both models in their three ways.
    let mut ask = wanted("orl-transfer", &folder.path().join("transfer"), &[]);
    ask.trunks = ["swav", "supervised"]
        .map(|name| format!("{name}={}", models.join(name).display()))
        .into();
    ask.set = [
        "data.source=synth:identities=4,per_expression=1,size=24",
        "image.size=24",
        "model.width=0.05",
        "task.embedding=8",
        "task.min_steps=2",
        "train.epochs=1",
        "train.warmup_epochs=0",
    ]
    .map(String::from)
    .into();
    let table = made(&ask);
    let rows: Vec<&str> = table.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(
        rows,
        [
            "scratch",
            "swav fine-tuned",
            "swav head",
            "swav features",
            "supervised fine-tuned",
            "supervised head",
            "supervised features"
        ]
    );
    assert!(table.rows.iter().all(|row| row.values["auc"].len() == 1));
    ask.trunks = vec!["swav=nowhere".to_string()];
    assert!(refused(&ask).contains("--trunk"));
}

#[test]
fn the_models_that_are_checked_in_are_small_and_work_without_training() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models");
    for name in ["swav", "supervised"] {
        let folder = models.join(name);
        let file = std::fs::metadata(folder.join("model.safetensors")).unwrap();
        assert!(file.len() < 2_000_000, "{name}: {} bytes", file.len());
        let card = std::fs::read_to_string(folder.join("README.md")).unwrap();
        assert!(card.contains("rendered faces only"), "{name}");
        let run = PretrainRun::open(&folder).unwrap();
        let faces = "synth:identities=6,per_expression=1,background=0,first_identity=2000000";
        let embeddings = embed(&run, faces, "cpu").unwrap();
        let people = embeddings.labels("labels").unwrap();
        // The nearest other image shows the same person more often than by chance, one in eight.
        let unit = |row: usize| -> Vec<f64> {
            let values: Vec<f64> = embeddings
                .row(row)
                .unwrap()
                .iter()
                .map(|v| f64::from(*v))
                .collect();
            let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
            values.iter().map(|v| v / norm).collect()
        };
        let rows: Vec<Vec<f64>> = (0..embeddings.len()).map(unit).collect();
        let right = (0..rows.len()).filter(|&a| {
            let cosine = |b: usize| {
                rows[a]
                    .iter()
                    .zip(&rows[b])
                    .map(|(x, y)| x * y)
                    .sum::<f64>()
            };
            let others = (0..rows.len()).filter(|&b| b != a);
            let nearest = others
                .max_by(|&b, &c| cosine(b).total_cmp(&cosine(c)))
                .unwrap();
            people[nearest] == people[a]
        });
        let right = right.count();
        assert!(right * 3 > rows.len(), "{name}: {right} of {}", rows.len());
    }
}
