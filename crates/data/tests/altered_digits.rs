//! Turned, eroded and dilated digits: pixels as SciPy and a plain statement give them, sets as documented.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use phiz_data::altered_digits::{dilate, erode, rotate};
use phiz_data::{Dataset, Image, Spec};
use serde_json::Value;

fn bytes(value: &Value) -> Vec<u8> {
    let numbers = value.as_array().unwrap().iter();
    numbers.map(|x| x.as_u64().unwrap() as u8).collect()
}

#[test]
fn pixels_equal_the_statements() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/data/mnist_rot.json"
    );
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 28);
    for case in cases {
        let image = Image {
            height: case["shape"][0].as_u64().unwrap() as usize,
            width: case["shape"][1].as_u64().unwrap() as usize,
            channels: 1,
            pixels: bytes(&case["image"]),
        };
        let by = case["by"].as_f64().unwrap();
        let found = match case["what"].as_str().unwrap() {
            "rotate" => rotate(&image, by),
            "erode" => erode(&image, by as usize),
            "dilate" => dilate(&image, by as usize),
            other => panic!("{other}"),
        };
        assert_eq!(found.pixels, bytes(&case["out"]), "{} {by}", case["what"]);
    }
}

/// idx files of `n` small digits.
fn digits(folder: &std::path::Path, stem: &str, n: u32) {
    let mut images = vec![0, 0, 8, 3];
    for size in [n, 4, 4] {
        images.extend(size.to_be_bytes());
    }
    images.extend((0..n * 16).map(|i| (i % 251) as u8));
    std::fs::write(folder.join(format!("{stem}-images-idx3-ubyte")), images).unwrap();
    let mut labels = vec![0, 0, 8, 1];
    labels.extend(n.to_be_bytes());
    labels.extend((0..n).map(|i| (i % 10) as u8));
    std::fs::write(folder.join(format!("{stem}-labels-idx1-ubyte")), labels).unwrap();
}

fn open(folder: &std::path::Path, part: &str) -> phiz_data::Result<std::sync::Arc<dyn Dataset>> {
    let (name, part) = part.split_once(':').unwrap();
    format!("{name}:{},{part}", folder.display())
        .parse::<Spec>()?
        .open()
}

#[test]
fn every_image_stands_with_every_angle() {
    let root = tempfile::tempdir().unwrap();
    digits(root.path(), "t10k", 12);
    let seen = open(root.path(), "mnist-rot:test").unwrap();
    assert_eq!(seen.len(), 60);
    assert_eq!(
        seen.labels().names("angle").unwrap(),
        ["-45", "-22.5", "0", "22.5", "45"]
    );
    assert_eq!(
        seen.labels().codes("angle").unwrap()[..6],
        [0, 1, 2, 3, 4, 0]
    );
    assert_eq!(
        seen.labels().codes("label").unwrap()[..6],
        [0, 0, 0, 0, 0, 1]
    );
    let plain: Spec = format!("mnist:{},test", root.path().display())
        .parse()
        .unwrap();
    let plain = plain.open().unwrap();
    assert_eq!(
        seen.image(7).unwrap().pixels,
        plain.image(1).unwrap().pixels
    );
    assert_eq!(
        seen.image(9).unwrap(),
        rotate(&plain.image(1).unwrap(), 45.)
    );
    assert!(seen.image(60).is_err());
    let unseen = open(root.path(), "mnist-rot:65").unwrap();
    assert_eq!(unseen.len(), 24);
    assert_eq!(unseen.labels().names("angle").unwrap(), ["-65", "65"]);
    let thick = open(root.path(), "mnist-dil:dilate3").unwrap();
    assert_eq!(thick.len(), 12);
    assert!(thick.labels().codes("angle").is_err());
    assert_eq!(thick.image(5).unwrap(), dilate(&plain.image(5).unwrap(), 3));
}

#[test]
fn training_and_validation_share_no_image() {
    let root = tempfile::tempdir().unwrap();
    digits(root.path(), "train", 60_000);
    let train = open(root.path(), "mnist-rot:train").unwrap();
    let held = open(root.path(), "mnist-rot:validation").unwrap();
    assert_eq!((train.len(), held.len()), (250_000, 50_000));
    let of = |set: &dyn Dataset| -> std::collections::BTreeSet<String> {
        let first_of_each = (0..set.len()).step_by(5);
        first_of_each.map(|i| set.sample_id(i)).collect()
    };
    assert!(of(train.as_ref()).is_disjoint(&of(held.as_ref())));
    digits(root.path(), "train", 100);
    let error = open(root.path(), "mnist-rot:train")
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("expected MNIST's 60000 training images, found 100"),
        "{error}"
    );
}
