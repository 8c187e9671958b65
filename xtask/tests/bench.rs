//! `bench` as a person runs it: our side alone, and what it says when something is not there.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{ok, refused};
use serde_json::Value;

#[test]
fn without_a_group_the_groups_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let text = ok(folder.path(), &["bench"]);
    for group in ["train", "infer", "losses", "eval", "kernels"] {
        assert!(text.contains(group), "{text}");
    }
}

#[test]
fn our_side_alone_is_measured_as_one_json_object() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["bench", "kernels", "--filter", "7x7 512", "--repeats", "1"];
    let text = ok(folder.path(), &[&words[..], &["--json"]].concat());
    let report: Value = serde_json::from_str(&text).unwrap();
    let rows = report["rows"].as_array().unwrap();
    // Three passes of the last convolution of MobileFaceNet.
    assert_eq!(rows.len(), 3, "{text}");
    for row in rows {
        assert!(row["ours"]["median_s"].as_f64().unwrap() > 0.);
        assert!(row["ours"]["gflops"].as_f64().unwrap() > 0.);
        assert_eq!(row["peers"], serde_json::json!({}));
    }
    assert!(report["peak_gflops"].as_f64().unwrap() > 1.);
    assert_eq!(report["geomean"], serde_json::json!({}));
}

#[test]
fn what_is_not_there_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(folder.path(), &["bench", "kernel"]);
    assert!(error.contains("kernels"), "{error}");
    let error = refused(folder.path(), &["bench", "train", "--filter", "nothing"]);
    assert!(error.contains("nothing"), "{error}");
    let absent = [
        "bench",
        "train",
        "--peers",
        "--python",
        "/nonexistent/python",
    ];
    let error = refused(folder.path(), &absent);
    assert!(error.contains("/nonexistent/python"), "{error}");
    let error = refused(folder.path(), &["bench", "train", "--threads", "0"]);
    assert!(error.contains("threads"), "{error}");
}
