//! A small parquet file as the hub's `datasets` writes it.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use phiz_data::{Dataset, Image, check, encode_png};

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
pub fn write_hub(path: &Path, rows: &[(Vec<u8>, i64, &str, f64)]) {
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

pub fn rows() -> Vec<(Vec<u8>, i64, &'static str, f64)> {
    vec![
        (png(0), 2, "s10", 1.5),
        (png(1), 0, "s2", f64::NAN),
        (png(2), 2, "s2", 3.25),
    ]
}

pub fn check_rows(set: &dyn Dataset) {
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
