//! Probes against scikit-learn and NumPy (`fixtures/eval/probes.py`).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use phiz_eval::{Logistic, LogisticConfig, NeighbourConfig, Ridge, Rows, nearest_neighbours};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    logistic: Vec<LogisticCase>,
    ridge: RidgeCase,
    neighbours: NeighbourCase,
}

#[derive(Deserialize)]
struct LogisticCase {
    dim: usize,
    x: Vec<f64>,
    y: Vec<u32>,
    c: f64,
    weights: Vec<f64>,
    bias: Vec<f64>,
    probabilities: Vec<f64>,
}

#[derive(Deserialize)]
struct RidgeCase {
    x: Vec<f64>,
    y: Vec<f64>,
    fits: Vec<RidgeFit>,
}

#[derive(Deserialize)]
struct RidgeFit {
    alpha: f64,
    weights: Vec<f64>,
    bias: f64,
}

#[derive(Deserialize)]
struct NeighbourCase {
    train: Vec<f64>,
    labels: Vec<u32>,
    queries: Vec<f64>,
    votes: Vec<u32>,
}

fn golden() -> Golden {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/eval/probes.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn all_close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < tolerance, "{what}: {got} {want}");
    }
}

#[test]
fn logistic_regression_equals_scikit_learn() {
    let cases = golden().logistic;
    assert_eq!(cases.len(), 4);
    for case in cases {
        let rows = Rows::new(case.x, case.dim).unwrap();
        let config = LogisticConfig {
            c: case.c,
            tolerance: 1e-10,
            ..Default::default()
        };
        let fit = Logistic::fit(&rows, &case.y, &config).unwrap();
        let (weights, bias) = fit.parameters();
        all_close("weights", &weights, &case.weights, 1e-7);
        let probabilities = fit.probabilities(&rows).unwrap();
        all_close("probabilities", &probabilities, &case.probabilities, 1e-8);
        if bias.len() == 1 {
            all_close("bias", bias, &case.bias, 1e-7);
        } else {
            // A constant added to all biases changes nothing: compare differences.
            let minus = |b: &[f64]| b.iter().map(|v| v - b[0]).collect::<Vec<f64>>();
            all_close("bias", &minus(bias), &minus(&case.bias), 1e-7);
        }
    }
}

#[test]
fn ridge_equals_scikit_learn() {
    let case = golden().ridge;
    let rows = Rows::new(case.x, 4).unwrap();
    for want in case.fits {
        let fit = Ridge::fit(&rows, &case.y, want.alpha).unwrap();
        all_close("weights", &fit.weights, &want.weights, 1e-10);
        all_close("bias", &[fit.bias], &[want.bias], 1e-9);
    }
}

#[test]
fn neighbours_vote_as_stated() {
    let case = golden().neighbours;
    let train = Rows::new(case.train, 6).unwrap();
    let queries = Rows::new(case.queries, 6).unwrap();
    let config = NeighbourConfig {
        k: 15,
        temperature: 0.07,
    };
    let votes = nearest_neighbours(&train, &case.labels, &queries, &config).unwrap();
    assert_eq!(votes, case.votes);
}
