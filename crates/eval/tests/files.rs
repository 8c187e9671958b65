//! Predictions, points, codes and groups from files, judged by protocol names.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use phiz_eval::{Embeddings, EvaluateOptions, Evaluation, Protocol, compare, evaluate};

fn options() -> EvaluateOptions {
    EvaluateOptions::default()
}

fn judge(table: &Embeddings, protocol: &str, options: &EvaluateOptions) -> Evaluation {
    evaluate(&protocol.parse().unwrap(), table, options).unwrap()
}

fn noise(i: u32) -> f64 {
    let mut z = u64::from(i).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64 - 0.5
}

#[test]
fn predictions_without_an_embedding() {
    let text = "id,valence,predicted.valence,level,predicted.level,person\n\
                a,0.5,0.25,3,2,ann\nb,-0.5,-0.25,1,1,ann\nc,1.0,0.5,4,4,bob\nd,-1.0,-1.0,0,1,bob\n";
    let table = Embeddings::from_csv(text.as_bytes()).unwrap();
    let with = EvaluateOptions {
        cluster: Some("person".into()),
        group: Some("person".into()),
        ..options()
    };
    let found = judge(&table, "regression", &with);
    assert!((found.metrics["mae[valence]"] - 0.25).abs() < 1e-12);
    assert!((found.metrics["mae[level]"] - 0.5).abs() < 1e-12);
    assert!((found.metrics["mae"] - 0.375).abs() < 1e-12);
    for figure in ["mse", "rmse", "sagr", "pcc", "ccc", "icc"] {
        assert!(found.metrics.contains_key(figure), "{figure}");
    }
    assert_eq!(found.protocol["bootstrap"]["unit"], "person");
    assert!((found.metrics["mae[valence][bob]"] - 0.25).abs() < 1e-12);
    assert!((found.metrics["mae[level]_gap"] - 0.0).abs() < 1e-12);
    let error = evaluate(
        &Protocol::Regression,
        &Embeddings::from_csv(b"predicted.x,y\n1,2\n").unwrap(),
        &options(),
    );
    assert!(error.unwrap_err().to_string().contains("no column `x`"));

    let classes = "label,predictions,person\n0,0,a\n1,0,a\n1,1,b\n0,0,b\n";
    let table = Embeddings::from_csv(classes.as_bytes()).unwrap();
    let with = EvaluateOptions {
        group: Some("person".into()),
        ..options()
    };
    let found = judge(&table, "classification", &with);
    assert_eq!(found.metrics["accuracy"], 0.75);
    assert_eq!(found.metrics["accuracy[a]"], 0.5);
    assert_eq!(found.metrics["accuracy[b]"], 1.0);
    assert_eq!(found.metrics["accuracy_gap"], 0.5);
    assert_eq!(found.protocol["group_counts"]["a"], 2);
}

#[test]
fn an_id_that_stands_twice_is_named() {
    let error = Embeddings::from_csv(b"id,e0,e1,label\na,1,2,0\nb,2,1,0\na,1,1,1\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "ids, row 2: the id `a` stands in row 0 already"
    );
}

fn points(shift: f32) -> String {
    let mut text = (0..136).fold("id".to_string(), |text, i| format!("{text},e{i}"));
    text.push_str(",person\n");
    for image in 0..3 {
        let _ = write!(text, "i{image}");
        for point in 0..68u16 {
            // The outer eye corners, 36 and 45, are 90 apart.
            let _ = write!(text, ",{},{}", 10.0 * f32::from(point) + shift, image);
        }
        text.push_str(",p\n");
    }
    text
}

#[test]
fn landmarks_against_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let truth = folder.path().join("truth.csv");
    fs::write(&truth, points(0.0)).unwrap();
    let table = Embeddings::from_csv(points(4.5).as_bytes()).unwrap();
    let protocol = format!("landmarks:{}", truth.display());
    let found = judge(&table, &protocol, &options());
    assert!((found.metrics["nme"] - 0.05).abs() < 1e-7);
    assert_eq!(found.metrics["failure_rate@0.1"], 0.0);
    assert_eq!(found.protocol["normaliser"], "inter-ocular");
    assert_eq!(found.curves.ced.last().unwrap().1, 1.0);
    let file = folder.path().join("p.toml");
    let text = "name = 'x'\nkind = 'landmarks'\ntruth = 'truth.csv'\nfailure = 0.04\n";
    fs::write(&file, text).unwrap();
    let found = judge(&table, file.to_str().unwrap(), &options());
    assert_eq!(found.metrics["failure_rate@0.04"], 1.0);
    fs::write(&file, format!("{text}normaliser = 'box'\n")).unwrap();
    let protocol: Protocol = file.to_str().unwrap().parse().unwrap();
    let error = evaluate(&protocol, &table, &options()).unwrap_err();
    assert!(error.to_string().contains("needs a box"), "{error}");
    let error = evaluate(&protocol, &table.select(&[0, 2]).unwrap(), &options()).unwrap_err();
    assert!(
        error.to_string().contains("3 rows for 2 predictions"),
        "{error}"
    );
}

/// Two classes of text on either side of 0, the names in another order in each table.
fn classes(path: &Path, names: [&str; 2], start: u32) -> Embeddings {
    let mut text = "e0,e1,label,person\n".to_string();
    for i in start..start + 60 {
        let (x, y) = (noise(3 * i), noise(3 * i + 1));
        let class = names[usize::from(i % 2 == 1)];
        let side = if i % 2 == 1 { 1.0 } else { -1.0 };
        let _ = writeln!(text, "{},{y},{class},p{}", x + side, i / 6);
    }
    fs::write(path, text).unwrap();
    Embeddings::read(path).unwrap()
}

#[test]
fn probes_fitted_to_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let train = folder.path().join("train.csv");
    classes(&train, ["smile", "frown"], 0);
    // A third name before the others moves every code.
    let text = fs::read_to_string(&train).unwrap() + "0.9,0,aaa,q\n0.8,0.1,aaa,q\n-0.9,0,aaa,r\n";
    fs::write(&train, text).unwrap();
    let table = classes(&folder.path().join("test.csv"), ["smile", "frown"], 600);
    let found = judge(&table, &format!("probes:{}", train.display()), &options());
    for figure in ["linear.accuracy", "mlp.accuracy", "knn.accuracy"] {
        assert!(found.metrics[figure] > 0.9, "{figure} {:?}", found.metrics);
    }
    let file = folder.path().join("p.toml");
    fs::write(
        &file,
        "name = 'x'\nkind = 'probes'\ntrain = 'train.csv'\nshots = [2]\n",
    )
    .unwrap();
    let found = judge(&table, file.to_str().unwrap(), &options());
    assert!(found.metrics["few_shot@2.balanced_accuracy"] > 0.5);
}

#[test]
fn codes_against_factors() {
    let mut text = "e0,e1,factor.a,factor.b,labels\n".to_string();
    for i in 0..600u32 {
        let (a, b) = (i % 4, i / 4 % 5);
        let _ = writeln!(text, "{a}.0,{b}.5,{a},{b},0");
    }
    let table = Embeddings::from_csv(text.as_bytes()).unwrap();
    let found = judge(&table, "disentanglement", &options());
    assert!(found.metrics["mig"] > 0.9, "{:?}", found.metrics);
    assert!(found.metrics["dci_disentanglement"] > 0.9);
    assert_eq!(found.protocol["factors"].as_array().unwrap().len(), 2);
    let constant = Embeddings::from_csv(b"e0,e1,a\n1,2,3\n2,1,3\n").unwrap();
    let error = evaluate(&Protocol::Disentanglement, &constant, &options()).unwrap_err();
    assert!(
        error.to_string().contains("the factor `a` is constant"),
        "{error}"
    );
}

/// 40 people of two groups with three images each; group 1 is noisier.
fn people(noisy: f64) -> Embeddings {
    let mut text = "e0,e1,e2,e3,label,group,identity\n".to_string();
    for i in 0..120u32 {
        let person = i / 3;
        let group = person % 2;
        let amount = if group == 1 { noisy } else { 0.2 };
        for k in 0..4 {
            let value = noise(1000 + 4 * person + k) + amount * noise(9000 + 4 * i + k);
            let _ = write!(text, "{value},");
        }
        // Labels are pairs of people, so that identities are not labels.
        let _ = writeln!(text, "{person},{group},{}", person / 2);
    }
    Embeddings::from_csv(text.as_bytes()).unwrap()
}

#[test]
fn groups_and_identities() {
    let table = people(1.0);
    let with = EvaluateOptions {
        group: Some("group".into()),
        ..options()
    };
    for protocol in ["verification-all-pairs", "retrieval"] {
        let found = judge(&table, protocol, &with);
        let figure = if protocol == "retrieval" {
            "map@r"
        } else {
            "auc"
        };
        let (good, bad) = (
            found.metrics[&format!("{figure}[0]")],
            found.metrics[&format!("{figure}[1]")],
        );
        assert!(good > bad + 0.05, "{protocol}: {good} {bad}");
        let gap = format!("{figure}_gap");
        assert!((found.metrics[&gap] - (good - bad)).abs() < 1e-12);
        assert!(found.intervals[&gap][0] > 0.0, "{:?}", found.intervals);
        assert_eq!(found.protocol["bootstrap"]["unit"], "identity");
    }
    let error = evaluate(&Protocol::Clustering, &table, &with).unwrap_err();
    assert!(error.to_string().contains("--group judges"), "{error}");

    let other = people(0.6);
    for protocol in [Protocol::VerificationAllPairs, Protocol::Retrieval] {
        let by_identity = compare(&protocol, &other, &table, &options()).unwrap();
        assert_eq!(by_identity.unit, "identity");
        let by_label = EvaluateOptions {
            cluster: Some("labels".into()),
            ..options()
        };
        let by_label = compare(&protocol, &other, &table, &by_label).unwrap();
        assert_eq!(by_label.unit, "labels");
        let (x, y) = (
            by_identity.differences.values().next().unwrap(),
            by_label.differences.values().next().unwrap(),
        );
        assert!((x.difference - y.difference).abs() < 1e-12);
        assert_ne!(x.interval, y.interval);
        let missing = EvaluateOptions {
            cluster: Some("nobody".into()),
            ..options()
        };
        assert!(compare(&protocol, &other, &table, &missing).is_err());
    }
}

#[cfg(feature = "parquet")]
mod parquet_files {
    use std::fs::File;
    use std::path::Path;
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, FloatType, Int32Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use phiz_eval::Embeddings;

    const ROWS: [[f32; 3]; 3] = [[1.0, 0.5, -2.0], [0.25, -1.0, 3.0], [0.0, 7.0, 1.5]];

    /// Either one list a row, or one column a number; labels, names, factors and ids beside it.
    fn write(path: &Path, lists: bool) {
        let embedding = if lists {
            "required group embeddings (LIST) { repeated group list { required float element; } }"
        } else {
            "required float e0; required float e1; required float e2;"
        };
        let schema = format!(
            "message table {{ {embedding} required int32 label; required binary person (UTF8);\
             required double age; required binary id (UTF8); }}"
        );
        let schema = Arc::new(parse_message_type(&schema).unwrap());
        let properties = Arc::new(WriterProperties::builder().build());
        let mut file =
            SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
        let mut group = file.next_row_group().unwrap();
        if lists {
            let mut column = group.next_column().unwrap().unwrap();
            let flat = ROWS.concat();
            let definition = vec![1i16; flat.len()];
            let repetition: Vec<i16> = (0..flat.len()).map(|i| i16::from(i % 3 != 0)).collect();
            column
                .typed::<FloatType>()
                .write_batch(&flat, Some(&definition), Some(&repetition))
                .unwrap();
            column.close().unwrap();
        } else {
            for d in 0..3 {
                let mut column = group.next_column().unwrap().unwrap();
                let values: Vec<f32> = ROWS.iter().map(|row| row[d]).collect();
                column
                    .typed::<FloatType>()
                    .write_batch(&values, None, None)
                    .unwrap();
                column.close().unwrap();
            }
        }
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<Int32Type>()
            .write_batch(&[7, 7, 9], None, None)
            .unwrap();
        column.close().unwrap();
        let text = |values: [&str; 3]| -> Vec<ByteArray> { values.map(ByteArray::from).to_vec() };
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&text(["bob", "ann", "bob"]), None, None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<DoubleType>()
            .write_batch(&[20.5, 30.0, 40.0], None, None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&text(["x.png", "y.png", "z.png"]), None, None)
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
        file.close().unwrap();
    }

    #[test]
    fn a_table_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        for lists in [true, false] {
            let path = folder.path().join("e.parquet");
            write(&path, lists);
            let table = Embeddings::read(&path).unwrap();
            assert_eq!(table.values(), ROWS.concat());
            assert_eq!(table.dim(), 3);
            assert_eq!(table.labels("labels").unwrap(), [7, 7, 9]);
            assert_eq!(table.labels("person").unwrap(), [1, 0, 1]);
            assert_eq!(table.names("person"), ["ann", "bob"]);
            assert_eq!(table.factors()["age"], [20.5, 30.0, 40.0]);
            assert_eq!(table.id(2), "z.png");
            // Cut anywhere, it is refused in one line.
            let whole = std::fs::read(&path).unwrap();
            for cut in [whole.len() - 1, whole.len() / 2, 8, 3, 0] {
                std::fs::write(&path, &whole[..cut]).unwrap();
                let error = Embeddings::read(&path).unwrap_err().to_string();
                assert!(
                    error.starts_with(path.to_str().unwrap()) && !error.contains('\n'),
                    "{error}"
                );
            }
        }
    }
}
