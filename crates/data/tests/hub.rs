//! Parquet image sets, out of files made here and out of a cache laid out as the hub client does.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used)] // helpers outside of #[test] functions

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use phiz_data::hub::open_cached;
use phiz_data::parquet_images::ParquetImages;
use phiz_data::{Dataset, Image, Spec, check, encode_png};
use proptest::prelude::*;

fn png(value: u8) -> Vec<u8> {
    encode_png(&Image {
        width: 5,
        height: 4,
        channels: 3,
        pixels: vec![value; 60],
    })
    .unwrap()
}

const HUB_SCHEMA: &str = "message schema {
    optional group image { optional binary bytes; optional binary path (UTF8); }
    optional int64 label;
    optional binary identity (UTF8);
    optional double age;
}";

const CLASSES: &str = r#"{"info": {"features": {"image": {"_type": "Image"},
    "label": {"names": ["neutral", "joy", "fear"], "_type": "ClassLabel"}}}}"#;

/// Rows as the hub's `datasets` writes them: (image, label, identity, age).
fn write_hub(path: &Path, rows: &[(Vec<u8>, i64, &str, f64)]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let schema = Arc::new(parse_message_type(HUB_SCHEMA).unwrap());
    let metadata = vec![KeyValue::new(
        "huggingface".to_string(),
        CLASSES.to_string(),
    )];
    let properties = WriterProperties::builder()
        .set_key_value_metadata(Some(metadata))
        .build();
    let mut writer =
        SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties))
            .unwrap();
    // Two row groups, so that more than one is read.
    for rows in rows.chunks(rows.len().div_ceil(2)) {
        let mut group = writer.next_row_group().unwrap();
        let strings =
            |values: Vec<Vec<u8>>| values.into_iter().map(ByteArray::from).collect::<Vec<_>>();
        let columns = [
            strings(rows.iter().map(|row| row.0.clone()).collect()),
            strings(rows.iter().map(|_| b"x.png".to_vec()).collect()),
        ];
        for values in columns {
            let mut column = group.next_column().unwrap().unwrap();
            column
                .typed::<ByteArrayType>()
                .write_batch(&values, Some(&vec![2; rows.len()]), None)
                .unwrap();
            column.close().unwrap();
        }
        let present = vec![1; rows.len()];
        let mut column = group.next_column().unwrap().unwrap();
        let labels: Vec<i64> = rows.iter().map(|row| row.1).collect();
        column
            .typed::<Int64Type>()
            .write_batch(&labels, Some(&present), None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let people = strings(rows.iter().map(|row| row.2.as_bytes().to_vec()).collect());
        column
            .typed::<ByteArrayType>()
            .write_batch(&people, Some(&present), None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let ages: Vec<f64> = rows.iter().map(|row| row.3).collect();
        column
            .typed::<DoubleType>()
            .write_batch(&ages, Some(&present), None)
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn rows() -> Vec<(Vec<u8>, i64, &'static str, f64)> {
    vec![
        (png(0), 2, "s10", 1.5),
        (png(1), 0, "s2", f64::NAN),
        (png(2), 2, "s2", 3.25),
    ]
}

fn check_rows(set: &dyn Dataset) {
    assert_eq!(
        set.labels().names("label").unwrap(),
        ["neutral", "joy", "fear"]
    );
    assert_eq!(set.labels().codes("label").unwrap(), [2, 0, 2]);
    assert_eq!(set.labels().names("identity").unwrap(), ["s2", "s10"]);
    assert_eq!(set.labels().codes("identity").unwrap(), [1, 0, 0]);
    let age = set.labels().values("factor.age").unwrap();
    assert!(age[0] == 1.5 && age[1].is_nan() && age[2] == 3.25);
    for i in 0..3 {
        assert_eq!(set.image(i).unwrap().pixels, [i as u8; 60]);
    }
    check(set).unwrap();
}

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

/// A cache as the hub client leaves it: blobs, snapshots that link to them, refs.
fn cache(root: &Path) {
    let repo = root.join("datasets--someone--faces");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    write_hub(&repo.join("blobs/aaaa"), &rows());
    write_hub(&repo.join("blobs/bbbb"), &rows()[..1]);
    for (name, blob) in [
        ("default/train/0000.parquet", "aaaa"),
        ("default/test/0000.parquet", "bbbb"),
    ] {
        let path = repo.join("snapshots").join(commit).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(Path::new("../../../../blobs").join(blob), &path).unwrap();
        #[cfg(not(unix))]
        fs::copy(repo.join("blobs").join(blob), &path)
            .map(|_| ())
            .unwrap();
    }
    fs::create_dir_all(repo.join("refs/refs/convert")).unwrap();
    fs::write(repo.join("refs/refs/convert/parquet"), commit).unwrap();
}

#[test]
fn a_set_in_the_hub_clients_cache_opens_without_the_network() {
    let root = tempfile::tempdir().unwrap();
    cache(root.path());
    let train = open_cached(root.path(), "someone/faces", Some("train")).unwrap();
    assert_eq!(train.name(), "hub:someone/faces,train");
    check_rows(&train);
    assert_eq!(
        open_cached(root.path(), "someone/faces", Some("test"))
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        open_cached(root.path(), "someone/faces", None)
            .unwrap()
            .len(),
        4
    );
    let error = open_cached(root.path(), "someone/faces", Some("tes"))
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.ends_with("no parquet file of split \"tes\""),
        "{error}"
    );
    let error = open_cached(root.path(), "someone/else", None)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.ends_with("the hub's cache holds no parquet files of someone/else"),
        "{error}"
    );
    let bad = root
        .path()
        .join("datasets--someone--faces/refs/refs/convert/parquet");
    fs::write(bad, "../../elsewhere").unwrap();
    assert!(open_cached(root.path(), "someone/faces", None).is_err());
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
