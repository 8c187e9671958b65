//! Agreement with scikit-learn and pytorch-metric-learning (`fixtures/eval/make.py`).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use phiz_eval::{
    Classification, Embeddings, EvaluateOptions, Logits, Protocol, RetrievalConfig, Roc, Score,
    VerificationConfig, evaluate, retrieve, verify_all_pairs,
};
use serde::Deserialize;

/// f64 throughout on both sides; the interpolation of the EER over there is a root search.
const TOLERANCE: f64 = 1e-12;

#[derive(Deserialize)]
struct Golden {
    fars: Vec<f64>,
    roc: Vec<RocCase>,
    embeddings: Vec<EmbeddingCase>,
    classification: ClassificationCase,
}

#[derive(Deserialize)]
struct Figures {
    auc: f64,
    eer: f64,
    best_accuracy: f64,
    tar: BTreeMap<String, Option<f64>>,
}

#[derive(Deserialize)]
struct RocCase {
    name: String,
    genuine: Vec<f64>,
    impostor: Vec<f64>,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Deserialize)]
struct EmbeddingCase {
    name: String,
    score: String,
    dim: usize,
    values: Vec<f32>,
    labels: Vec<u32>,
    verification: Figures,
    retrieval: Option<RetrievalFigures>,
}

#[derive(Deserialize)]
struct RetrievalFigures {
    precision_at_1: f64,
    r_precision: f64,
    mean_average_precision_at_r: f64,
    mean_reciprocal_rank: f64,
    cmc: Vec<f64>,
}

#[derive(Deserialize)]
struct ClassificationCase {
    classes: usize,
    truth: Vec<u32>,
    logits: Vec<f32>,
    predicted: Vec<u32>,
    accuracy: f64,
    mean_class_accuracy: f64,
    macro_f1: f64,
    log_loss: f64,
    confusion: Vec<Vec<u64>>,
}

fn golden() -> Golden {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/eval/golden.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn close(what: &str, got: f64, want: f64) {
    assert!(
        (got - want).abs() <= TOLERANCE,
        "{what}: {got} against {want}"
    );
}

fn check(name: &str, roc: &Roc, figures: &Figures, fars: &[f64]) {
    close(&format!("{name}, auc"), roc.auc(), figures.auc);
    close(&format!("{name}, eer"), roc.equal_error().rate, figures.eer);
    close(
        &format!("{name}, accuracy"),
        roc.best_accuracy().0,
        figures.best_accuracy,
    );
    assert_eq!(fars.len(), figures.tar.len());
    for &far in fars {
        let want = figures.tar[&format!("{far:?}")];
        let got = roc.tar_at_far(far);
        assert_eq!(got.is_some(), want.is_some(), "{name}, tar at {far}");
        if let (Some(got), Some(want)) = (got, want) {
            close(&format!("{name}, tar at {far}"), got.tar, want);
            assert!(got.far <= far);
        }
    }
}

#[test]
fn curves_equal_scikit_learn() {
    let golden = golden();
    assert_eq!(golden.roc.len(), 9);
    for case in &golden.roc {
        let roc = Roc::from_scores(&case.genuine, &case.impostor).unwrap();
        check(&case.name, &roc, &case.figures, &golden.fars);
    }
}

#[test]
fn all_pairs_equal_scikit_learn() {
    let golden = golden();
    for case in &golden.embeddings {
        let table = Embeddings::new(case.values.clone(), case.dim).unwrap();
        let config = VerificationConfig {
            score: case.score.parse().unwrap(),
            bootstrap: None,
            ..Default::default()
        };
        let result = verify_all_pairs(&table, &case.labels, &config).unwrap();
        check(&case.name, &result.roc, &case.verification, &golden.fars);
    }
}

#[test]
fn retrieval_equals_pytorch_metric_learning() {
    let mut cases = 0;
    for case in &golden().embeddings {
        let Some(want) = &case.retrieval else {
            continue;
        };
        let table = Embeddings::new(case.values.clone(), case.dim).unwrap();
        let config = RetrievalConfig {
            score: case.score.parse::<Score>().unwrap(),
            cmc: 10,
            bootstrap: None,
            ..Default::default()
        };
        let got = retrieve(&table, &case.labels, &config).unwrap();
        close("precision at 1", got.rank1, want.precision_at_1);
        close("r-precision", got.r_precision, want.r_precision);
        close("map at r", got.map_at_r, want.mean_average_precision_at_r);
        // Their mean of reciprocal ranks is taken in f32.
        let difference = got.mean_reciprocal_rank - want.mean_reciprocal_rank;
        assert!(difference.abs() < 1e-6, "mrr: {difference}");
        assert_eq!(got.cmc.len(), want.cmc.len());
        for (k, (got, want)) in got.cmc.iter().zip(&want.cmc).enumerate() {
            close(&format!("cmc {k}"), *got, *want);
        }
        assert_eq!(got.lone, 2);
        cases += 1;
    }
    assert_eq!(cases, 2);
}

#[test]
fn classification_equals_scikit_learn() {
    let case = golden().classification;
    let logits = Logits {
        classes: case.classes,
        values: case.logits.clone(),
    };
    let from_logits = Classification::from_logits(&logits, &case.truth, None, None).unwrap();
    let from_predictions =
        Classification::from_predictions(&case.predicted, &case.truth, None, None).unwrap();
    for got in [&from_logits, &from_predictions] {
        close("accuracy", got.accuracy, case.accuracy);
        close(
            "mean class accuracy",
            got.mean_class_accuracy,
            case.mean_class_accuracy,
        );
        close("macro f1", got.macro_f1, case.macro_f1);
        for (truth, row) in case.confusion.iter().enumerate() {
            for (called, &count) in row.iter().enumerate() {
                assert_eq!(got.confusion.count(truth, called), count);
            }
        }
    }
    close("log-loss", from_logits.log_loss.unwrap(), case.log_loss);
    assert!(from_predictions.log_loss.is_none());

    // The same by the protocol's name.
    let n = case.truth.len();
    let table = Embeddings::new(vec![1.0; n], 1)
        .unwrap()
        .with_labels("expression", case.truth.clone())
        .unwrap()
        .with_logits(case.logits, case.classes)
        .unwrap();
    let got = evaluate(
        &Protocol::Classification,
        &table,
        &EvaluateOptions::default(),
    )
    .unwrap();
    close("protocol", got.metrics["macro_f1"], case.macro_f1);
    assert_eq!(got.protocol["label"], "expression");
    assert_eq!(got.protocol["bootstrap"]["unit"], "sample");
}
