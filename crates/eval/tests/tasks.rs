//! Task metrics against SciPy, pingouin, scikit-learn and NumPy (`fixtures/eval/tasks.py`), and by property.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use phiz_eval::{
    BootstrapConfig, CalibrationConfig, Dense3d, FaceBox, LandmarkErrors, Normaliser,
    Reconstruction, Sparse2d, calibration, icc_3_1, regression,
};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    regression: Vec<RegressionCase>,
    ratings: Ratings,
    landmarks: Vec<LandmarkCase>,
    shape: ShapeCase,
    calibration: CalibrationCase,
}

#[derive(Deserialize)]
struct RegressionCase {
    predicted: Vec<f64>,
    truth: Vec<f64>,
    icc_pingouin: f64,
    #[serde(flatten)]
    figures: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Ratings {
    raters: usize,
    ratings: Vec<f64>,
    icc: f64,
}

#[derive(Deserialize)]
struct LandmarkCase {
    points: usize,
    predicted: Vec<f64>,
    truth: Vec<f64>,
    boxes: Vec<[f64; 2]>,
    figures: BTreeMap<String, LandmarkFiguresCase>,
}

#[derive(Deserialize)]
struct LandmarkFiguresCase {
    errors: Vec<f64>,
    nme: f64,
    by_threshold: Vec<[f64; 3]>,
}

#[derive(Deserialize)]
struct ShapeCase {
    predicted: Vec<f64>,
    truth: Vec<f64>,
    corners: [[f64; 3]; 2],
    sparse2d: f64,
    dense3d: f64,
    reconstruction: f64,
}

#[derive(Deserialize)]
struct CalibrationCase {
    classes: usize,
    probabilities: Vec<f64>,
    truth: Vec<u32>,
    #[serde(flatten)]
    figures: BTreeMap<String, serde_json::Value>,
}

fn golden() -> Golden {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/eval/tasks.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn close(what: &str, got: f64, want: f64, tolerance: f64) {
    assert!(
        (got - want).abs() <= tolerance,
        "{what}: {got} against {want}"
    );
}

#[test]
fn regression_equals_scipy_and_pingouin() {
    let golden = golden();
    assert_eq!(golden.regression.len(), 2);
    for case in &golden.regression {
        let judged = regression(&case.predicted, &case.truth, None, None).unwrap();
        let metrics = judged.metrics();
        assert_eq!(metrics.len(), 7);
        for (name, value) in metrics {
            close(&name, value, case.figures[&name].as_f64().unwrap(), 1e-12);
        }
        close("pingouin", judged.icc.unwrap(), case.icc_pingouin, 1e-6);
        // The two forms of ICC(3,1) for two raters are one.
        let table: Vec<f64> = case
            .predicted
            .iter()
            .zip(&case.truth)
            .flat_map(|(x, y)| [*x, *y])
            .collect();
        let whole = icc_3_1(&table, 2).unwrap().unwrap();
        close("icc", whole, judged.icc.unwrap(), 1e-12);
    }
    let r = golden.ratings;
    close(
        "four raters",
        icc_3_1(&r.ratings, r.raters).unwrap().unwrap(),
        r.icc,
        1e-13,
    );
}

#[test]
fn landmarks_equal_numpy_for_each_normaliser() {
    let mut checked = 0;
    for case in golden().landmarks {
        let boxes: Vec<FaceBox> = case
            .boxes
            .iter()
            .map(|&[width, height]| FaceBox { width, height })
            .collect();
        for normaliser in [
            Normaliser::InterOcular,
            Normaliser::InterPupil,
            Normaliser::MeanCorners,
            Normaliser::Box,
            Normaliser::Diagonal,
        ] {
            let found = LandmarkErrors::new(
                &case.predicted,
                &case.truth,
                case.points,
                normaliser,
                Some(&boxes),
            );
            let Some(want) = case.figures.get(&normaliser.to_string()) else {
                assert!(found.is_err(), "{normaliser} of {} points", case.points);
                continue;
            };
            let found = found.unwrap();
            for (got, want) in found.errors.iter().zip(&want.errors) {
                close("error", *got, *want, 1e-14);
            }
            for &[threshold, failure_rate, auc] in &want.by_threshold {
                let got = found.figures(threshold, None, None).unwrap();
                close("nme", got.nme, want.nme, 1e-14);
                assert_eq!(got.failure_rate, failure_rate);
                close("auc", got.auc, auc, 1e-12);
                let curve = found.ced(threshold, 10);
                assert!((curve[10].1 - (1.0 - failure_rate)).abs() < 1e-15 && curve.len() == 11);
            }
            checked += 1;
        }
    }
    assert_eq!(checked, 12);
}

#[test]
fn three_errors_of_one_shape_are_three_numbers() {
    let case = golden().shape;
    let sparse: Vec<f64> = case.truth.chunks(3).flat_map(|p| [p[0], p[1]]).collect();
    let predicted: Vec<f64> = case
        .predicted
        .chunks(3)
        .flat_map(|p| [p[0], p[1]])
        .collect();
    let a = Sparse2d::new(&predicted, &sparse).unwrap().0;
    let b = Dense3d::new(&case.predicted, &case.truth).unwrap().0;
    let c = Reconstruction::new(&case.predicted, &case.truth, case.corners)
        .unwrap()
        .0;
    close("sparse", a, case.sparse2d, 1e-12);
    close("dense", b, case.dense3d, 1e-12);
    close("reconstruction", c, case.reconstruction, 1e-9);
    assert!((a - b).abs() > 1e-2 && (b - c).abs() > 1e-2);
}

#[test]
fn calibration_equals_numpy() {
    let case = golden().calibration;
    let config = CalibrationConfig::default();
    let bootstrap = BootstrapConfig::default();
    let got = calibration(
        &case.probabilities,
        case.classes,
        &case.truth,
        &config,
        None,
        Some(&bootstrap),
    )
    .unwrap();
    let metrics = got.metrics();
    assert_eq!(metrics.len(), 5);
    for (name, value) in metrics {
        close(&name, value, case.figures[&name].as_f64().unwrap(), 1e-12);
    }
    assert_eq!(
        got.bins.iter().map(|b| b.count).sum::<usize>(),
        case.truth.len()
    );
    let [low, high] = got.intervals["brier"];
    assert!(low < got.brier && got.brier < high);
}

proptest! {
    /// Order of rows changes nothing; common scale and shift change MSE and MAE as they should and PCC, ICC not at all.
    #[test]
    fn order_scale_and_shift(
        rows in prop::collection::vec((-5.0f64..5.0, -5.0f64..5.0), 4..40),
        rotate in 0usize..40,
        scale in 0.1f64..20.0,
        shift in -50.0f64..50.0,
    ) {
        let (x, y): (Vec<f64>, Vec<f64>) = rows.iter().copied().unzip();
        let config = BootstrapConfig { resamples: 20, ..Default::default() };
        let one = regression(&x, &y, None, Some(&config)).unwrap();
        let (mut x2, mut y2) = (x.clone(), y.clone());
        x2.rotate_left(rotate % rows.len());
        y2.rotate_left(rotate % rows.len());
        let two = regression(&x2, &y2, None, None).unwrap();
        for (name, value) in one.metrics() {
            prop_assert!((two.metrics()[&name] - value).abs() < 1e-9, "{}", name);
        }
        for (name, [low, high]) in &one.intervals {
            prop_assert!(low <= high, "{}", name);
        }
        let map = |v: &[f64]| v.iter().map(|v| scale * v + shift).collect::<Vec<f64>>();
        let three = regression(&map(&x), &map(&y), None, None).unwrap();
        prop_assert!((three.mae - scale * one.mae).abs() < 1e-9 * (1.0 + scale));
        prop_assert!((three.mse - scale * scale * one.mse).abs() < 1e-8 * (1.0 + scale * scale));
        for (a, b) in [(three.pcc, one.pcc), (three.ccc, one.ccc), (three.icc, one.icc)] {
            if let (Some(a), Some(b)) = (a, b) {
                prop_assert!((a - b).abs() < 1e-6);
            }
        }
    }
}
