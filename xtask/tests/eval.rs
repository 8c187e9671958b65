//! `eval` on embeddings from elsewhere: inputs, protocols, comparison, and one line for each fault.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::{ok, refused};
use serde_json::Value;

/// `rows` samples of three numbers, five samples a person.
fn csv(rows: usize, shift: f64) -> String {
    let mut text = "id,e0,e1,e2,label,pose\n".to_string();
    for i in 0..rows {
        let (person, x) = ((i / 5) as f64, (i * 7 % 11) as f64 / 11.0);
        let angle = 0.4 * person + shift * x;
        let pose = if i % 2 == 0 { "frontal" } else { "profile" };
        text.push_str(&format!(
            "img{i}.png,{},{},{},{},{pose}\n",
            angle.cos(),
            angle.sin(),
            x - 0.5,
            i / 5
        ));
    }
    text
}

fn json(here: &Path, words: &[&str]) -> Value {
    serde_json::from_str(&ok(here, words)).unwrap()
}

#[test]
fn tables_protocols_and_comparison() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("a.csv"), csv(60, 0.2)).unwrap();
    fs::write(here.join("b.csv"), csv(60, 0.8)).unwrap();
    let found = json(
        here,
        &["eval", "--embeddings", "a.csv", "--json", "--far", "0.05"],
    );
    assert_eq!(found["protocol"]["genuine_pairs"], 120);
    assert!(found["metrics"]["tar@far=5e-2"].is_number());

    let words = [
        "eval",
        "--embeddings",
        "a.csv",
        "--against",
        "b.csv",
        "--json",
        "--resamples",
        "50",
        "--protocol",
        "verification-all-pairs",
        "--protocol",
        "retrieval",
        "--protocol",
        "clustering",
    ];
    let found = json(here, &words);
    let difference = &found["against"][0]["differences"]["auc"];
    assert_eq!(difference["interval"].as_array().unwrap().len(), 2);
    assert!(found["against"][2]["plain"]["ami"].is_number());
    assert!(found["metrics"]["nmi"].is_number() && found["metrics"]["map@r"].is_number());
    let table = ok(
        here,
        &words
            .iter()
            .filter(|w| **w != "--json")
            .copied()
            .collect::<Vec<_>>(),
    );
    assert!(table.contains("difference, retrieval"), "{table}");

    let pairs: String = (0..50)
        .map(|i| {
            format!(
                "img{i}.png,img{}.png,{}\n",
                (i + 1) % 60,
                u8::from(i / 5 == (i + 1) % 60 / 5)
            )
        })
        .collect();
    fs::write(here.join("pairs.csv"), pairs).unwrap();
    for rule in ["strict", "insightface", "facex-zoo"] {
        let protocol = format!("lfw-{rule}:pairs.csv");
        // Neighbours of folds share a person here, which the strict rules refuse.
        let words = [
            "eval",
            "--embeddings",
            "a.csv",
            "--json",
            "--protocol",
            &protocol,
        ];
        if rule == "strict" {
            let error = refused(here, &words);
            assert!(
                error.contains("pairs.csv: identity 1 is in folds 0 and 1"),
                "{error}"
            );
        } else {
            assert!(json(here, &words)["metrics"]["fold_accuracy"].is_number());
        }
    }
    fs::write(
        here.join("mine.toml"),
        "name = 'cross pose'\nkind = 'verification'\nresamples = 0\nfars = [0.1]\n[[condition]]\ncolumn = 'pose'\nrelation = 'different'\n",
    )
    .unwrap();
    let found = json(
        here,
        &[
            "eval",
            "--embeddings",
            "a.csv",
            "--json",
            "--protocol",
            "mine.toml",
            "--out",
            "seen",
        ],
    );
    assert_eq!(
        found["protocol"]["conditions"][0],
        "pairs with different `pose`"
    );
    assert!(here.join("seen/report.html").is_file());
}

#[test]
fn each_fault_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let judge = |file: &str, more: &[&str]| {
        let mut words = vec!["eval", "--embeddings", file];
        words.extend(more);
        refused(here, &words)
    };
    let check = |name: &str, text: &str, more: &[&str], message: &str| {
        fs::write(here.join(name), text).unwrap();
        let error = judge(name, more);
        assert!(error.contains(message), "{error}");
    };
    check(
        "nan.csv",
        "e0,e1,label\n1,2,3\n1,NaN,3\n",
        &[],
        "embeddings, row 1: column 1 is NaN",
    );
    check(
        "inf.csv",
        "e0,e1,label\n1,2,3\n1,inf,3\n",
        &[],
        "embeddings, row 1: column 1 is an infinity",
    );
    check(
        "zero.csv",
        "e0,e1,label\n1,2,3\n0,0,3\n1,0,4\n",
        &[],
        "row 1: all zeros",
    );
    check("alone.csv", "e0,label\n1,3\n2,4\n", &[], "no genuine pair");
    check("one.csv", "e0,label\n1,3\n2,3\n", &[], "one class only");
    check(
        "short.csv",
        "e0,label\n1,3\n2\n",
        &[],
        "line 3: 1 entries, but there are 2 columns",
    );
    check(
        "text.csv",
        "e0,label\nx,3\n",
        &[],
        "line 2: column `e0` is not a number: `x`",
    );
    fs::write(here.join("pairs.csv"), "a,a,1\n").unwrap();
    check(
        "twice.csv",
        "id,e0,label\na,1,3\na,2,3\n",
        &["--protocol", "verification-pairs:pairs.csv"],
        "ids, row 1: the id `a` stands in row 0 already",
    );
    check("mine.toml", "name = 'x'\nkind = 'door'\n", &[], "mine.toml");
    fs::write(here.join("good.csv"), csv(20, 0.2)).unwrap();
    let error = judge("good.csv", &["--protocol", "mine.toml"]);
    assert!(
        error.contains("mine.toml: line 2: unknown variant `door`"),
        "{error}"
    );
    fs::write(here.join("less.csv"), csv(15, 0.2)).unwrap();
    let error = judge("good.csv", &["--against", "less.csv"]);
    assert!(error.contains("20 embeddings against 15"), "{error}");
    let error = judge("good.csv", &["--far", "0"]);
    assert!(
        error.contains("--far must lie in (0, 1], found 0"),
        "{error}"
    );
    let error = judge("good.csv", &["--score", "magic"]);
    assert!(error.contains("unknown score `magic`"), "{error}");
    let error = judge("good.csv", &["--label", "age"]);
    assert!(error.contains("no labels `age`"), "{error}");
    // A pickle in disguise, and a table that ends early.
    let mut bytes = b"\x93NUMPY\x01\x00\x47\x00".to_vec();
    bytes.extend(
        b"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }              \n\x80\x04N.",
    );
    fs::write(here.join("object.npy"), &bytes).unwrap();
    let error = judge("object.npy", &[]);
    assert!(
        error.contains("object.npy") && error.contains("pickled"),
        "{error}"
    );
    let mut bytes = b"\x93NUMPY\x01\x00\x47\x00".to_vec();
    bytes.extend(
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }           \n\0\0\0\0",
    );
    fs::write(here.join("cut.npy"), &bytes).unwrap();
    let error = judge("cut.npy", &[]);
    assert!(
        error.contains("needs 24 bytes, the file holds 4"),
        "{error}"
    );
    // Too few impostors for the rate: withheld, with the reason, and no error.
    let found = json(
        here,
        &[
            "eval",
            "--embeddings",
            "good.csv",
            "--json",
            "--far",
            "1e-4",
        ],
    );
    assert!(found["metrics"].get("tar@far=1e-4").is_none());
    assert_eq!(
        found["undefined"]["tar@far=1e-4"],
        "needs 10000 impostor pairs, there are 150"
    );
}
