//! Parquet image sets, out of files made here.
#![cfg(feature = "parquet")]
#![allow(clippy::unwrap_used)] // functions outside of #[test]

mod common;

use std::fs;

use common::{check_rows, rows, write_hub};
use phiz_data::parquet_images::ParquetImages;
use phiz_data::{Dataset, Spec, check};
use proptest::prelude::*;

#[test]
fn a_parquet_file_opens_by_its_specification() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("faces.parquet");
    write_hub(&file, &rows());
    let set = format!("parquet:{}", file.display())
        .parse::<Spec>()
        .unwrap()
        .open()
        .unwrap();
    check_rows(set.as_ref());
    assert_eq!(set.sample_id(2), "faces.parquet#2");
}

#[test]
fn what_is_wrong_is_told_with_file_and_row() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("x.parquet");
    let told = || {
        ParquetImages::open(&file)
            .err()
            .unwrap()
            .to_string()
            .replace(&file.display().to_string(), "FILE")
    };
    fs::write(&file, b"PAR1 this is no parquet file PAR1").unwrap();
    assert!(
        told().starts_with("FILE: not a readable parquet file: "),
        "{}",
        told()
    );
    fs::write(&file, b"").unwrap();
    assert!(
        told().starts_with("FILE: not a readable parquet file: "),
        "{}",
        told()
    );
    let mut wrong = rows();
    wrong[1].1 = 3;
    write_hub(&file, &wrong);
    assert_eq!(told(), "FILE: row 1: label \"3\", expected 0 to 2");
    wrong[1].1 = 1;
    wrong[2].0 = Vec::new();
    write_hub(&file, &wrong);
    assert_eq!(told(), "FILE: row 2: no image in column \"image\"");
    wrong[2].0 = b"not an image".to_vec();
    write_hub(&file, &wrong);
    let set = ParquetImages::open(&file).unwrap();
    set.image(1).unwrap();
    assert!(
        set.image(2)
            .unwrap_err()
            .to_string()
            .contains("row 2: not a PNG, JPEG or PNM image")
    );
    assert!(ParquetImages::open(&root.path().join("none")).is_err());
    fs::create_dir(root.path().join("empty")).unwrap();
    assert!(ParquetImages::open(&root.path().join("empty")).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_files_are_errors_or_other_values(at in 0usize..4000, value in any::<u8>(), cut in 0usize..8000) {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("x.parquet");
        write_hub(&file, &rows());
        let mut bytes = fs::read(&file).unwrap();
        let at = at % bytes.len();
        bytes[at] = value;
        bytes.truncate(cut.max(1));
        fs::write(&file, &bytes).unwrap();
        match ParquetImages::open(&file) {
            Ok(set) => {
                let _ = check(&set);
            }
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
    }
}
