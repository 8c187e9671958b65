//! The bench with programs that only pretend to measure: what it makes of times, and of peers that
//! die, talk nonsense, lack packages or did other work.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use phiz_recipes::ErrorKind;
use phiz_recipes::bench::{Group, Options, Party, Report, measure};

/// A shell program that answers each kind of request with one line; `$n` counts the runs.
fn fake(name: &str, prepare: &str, run: &str) -> Party {
    let open = r#"echo '{"ok": {"version": "1.0"}}'"#;
    script(name, open, prepare, run)
}

fn script(name: &str, open: &str, prepare: &str, run: &str) -> Party {
    let text = format!(
        r#"n=0
while read line; do case "$line" in
*'"do":"open"'*) {open};;
*'"do":"prepare"'*) {prepare};;
*'"do":"run"'*) n=$((n+1)); {run};;
*'"do":"memory"'*) echo '{{"ok": {{"peak_mb": 100.0}}}}';;
*'"do":"peak"'*) echo '{{"ok": {{"gflops": 200.0}}}}';;
*) echo '{{"ok": {{}}}}';;
esac; done"#
    );
    Party {
        name: name.into(),
        command: vec!["sh".into(), "-c".into(), text.into()],
    }
}

const READY: &str = r#"echo '{"ok": {"base_mb": 40.0, "facts": {"parameters": 7}}}'"#;

/// A side whose repetitions take this long: from a quarter of a second on a block is one repetition, and counts.
fn takes(name: &str, seconds: f64) -> Party {
    let run = format!(r#"echo '{{"ok": {{"seconds": [{seconds}]}}}}'"#);
    fake(name, READY, &run)
}

fn options() -> Options {
    Options {
        filter: Some("expression".into()),
        repeats: Some(3),
        threads: 1,
        patience: Duration::from_secs(30),
    }
}

fn against(peer: Party) -> Report {
    let mut lines = Vec::new();
    let ours = takes("ours", 1.0);
    let report = measure(Group::Train, &ours, &[peer], &options(), &mut |line| {
        lines.push(line.to_string());
    })
    .unwrap();
    assert_eq!(report.rows.len(), 1);
    assert!(lines.iter().any(|line| line.starts_with("1/1 expression")));
    report
}

fn fault(report: &Report) -> String {
    assert!(report.rows[0].ours.is_ok());
    assert_eq!(report.failures(), 1);
    assert!(report.geomean().is_empty());
    let json = report.to_json();
    let why = report.rows[0].peers[0].1.clone().unwrap_err();
    assert_eq!(
        json["rows"][0]["peers"]["pytorch"]["error"],
        why.clone().as_str()
    );
    assert!(report.table().contains(&why));
    why
}

#[test]
fn times_become_medians_and_ratios() {
    let report = against(takes("pytorch", 2.5));
    let json = report.to_json();
    let row = &json["rows"][0];
    assert_eq!(row["name"], "expression 64px b64");
    assert_eq!(row["ours"]["median_s"], 1.0);
    assert_eq!(row["ours"]["peak_mb"], 100.0);
    assert_eq!(row["ours"]["base_mb"], 40.0);
    assert_eq!(row["ours"]["repetitions"], 3);
    assert_eq!(row["peers"]["pytorch"]["median_s"], 2.5);
    assert_eq!(row["peers"]["pytorch"]["ratio"], 2.5);
    assert_eq!(row["facts"]["parameters"], 7);
    assert!((json["geomean"]["pytorch"].as_f64().unwrap() - 2.5).abs() < 1e-12);
    assert_eq!(json["versions"]["pytorch"], "1.0");
    let table = report.table();
    assert!(
        table.contains("2.50") && table.contains("100 (60)"),
        "{table}"
    );
    assert_eq!(report.failures(), 0);
}

#[test]
fn the_first_quick_repetition_of_a_block_is_not_counted() {
    let woken = r#"case "$line" in *'"times":2'*) s='0.9, 0.0625';; *) s='0.0625';; esac; echo "{\"ok\": {\"seconds\": [$s]}}""#;
    let report = against(fake("pytorch", READY, woken));
    let json = report.to_json();
    let peer = &json["rows"][0]["peers"]["pytorch"];
    assert_eq!(peer["ratio"], 0.0625, "{json}");
    assert_eq!(peer["repetitions"], 3);
}

#[test]
fn repetitions_alternate() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("order");
    let noted = |name: &str| {
        let file = log.display();
        let note = format!(r#"echo {name} >> {file}; echo '{{"ok": {{"seconds": [2.0]}}}}'"#);
        fake(name, READY, &note)
    };
    let (ours, peer) = (noted("ours"), noted("pytorch"));
    measure(Group::Train, &ours, &[peer], &options(), &mut |_| {}).unwrap();
    let order: String = std::fs::read_to_string(&log)
        .unwrap()
        .lines()
        .map(|name| &name[..1])
        .collect();
    // Warm-up of one side after the other, then in turn.
    assert!(order.ends_with("opopop"), "{order}");
}

#[test]
fn a_peer_that_dies_is_an_error_of_its_row() {
    let dies = r#"if [ $n -gt 3 ]; then echo 'out of memory' >&2; exit 7; fi; echo '{"ok": {"seconds": [1.0]}}'"#;
    let why = fault(&against(fake("pytorch", READY, dies)));
    assert!(why.contains("out of memory") && why.contains('7'), "{why}");
}

#[test]
fn a_peer_that_died_is_started_again_for_the_next_case() {
    let dies = r#"case "$line" in *expression*) exit 3;; esac; echo '{"ok": {}}'"#;
    let run = r#"echo '{"ok": {"seconds": [1.0]}}'"#;
    let all = Options {
        filter: None,
        ..options()
    };
    let (ours, peer) = (takes("ours", 1.0), fake("pytorch", dies, run));
    let report = measure(Group::Train, &ours, &[peer], &all, &mut |_| {}).unwrap();
    let failed: Vec<_> = report
        .rows
        .iter()
        .filter(|row| row.ratio("pytorch").is_none())
        .map(|row| row.name.as_str())
        .collect();
    assert_eq!(failed, ["expression 64px b64"]);
    assert!(report.rows.len() > 1);
}

#[test]
fn nonsense_is_quoted() {
    let why = fault(&against(fake("pytorch", READY, "echo Segmentation fault")));
    assert!(why.contains("Segmentation fault"), "{why}");
    for answer in [
        r#"{"ok": {"seconds": "many"}}"#,
        r#"{"ok": {}, "error": "both"}"#,
        "[]",
        "{}",
    ] {
        let peer = fake("pytorch", READY, &format!("echo '{answer}'"));
        let why = fault(&against(peer));
        assert!(why.contains("answered"), "{answer}: {why}");
    }
    let negative = fake("pytorch", READY, r#"echo '{"ok": {"seconds": [-1.0]}}'"#);
    assert!(fault(&against(negative)).contains("below 0"));
}

#[test]
fn what_a_peer_refuses_stands_in_its_row() {
    let refuses = fake(
        "pytorch",
        r#"echo '{"error": "MemoryError: too large"}'"#,
        ":",
    );
    assert_eq!(fault(&against(refuses)), "MemoryError: too large");
}

#[test]
fn other_work_is_no_comparison() {
    let other = r#"echo '{"ok": {"facts": {"parameters": 8}}}'"#;
    let run = r#"echo '{"ok": {"seconds": [1.0]}}'"#;
    let why = fault(&against(fake("pytorch", other, run)));
    assert!(
        why.contains("parameters is 8") && why.contains("ours 7"),
        "{why}"
    );
}

#[test]
fn a_missing_package_stops_before_anything_is_measured() {
    let missing = r#"echo '{"missing": ["torch", "numpy"]}'"#;
    let peer = script("pytorch", missing, ":", ":");
    let ours = takes("ours", 1.0);
    let error = measure(Group::Train, &ours, &[peer], &options(), &mut |line| {
        assert!(!line.starts_with("1/"), "{line}");
    })
    .unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Missing(..)));
    let text = error.to_string();
    assert!(text.contains("pip install torch numpy"), "{text}");
}

#[test]
fn a_peer_that_cannot_start_or_never_answers_is_one_line() {
    let peer = |words: &[&str]| Party {
        name: "pytorch".into(),
        command: words.iter().map(Into::into).collect(),
    };
    let short = Options {
        patience: Duration::from_secs(2),
        ..options()
    };
    for (peer, options, word) in [
        (
            peer(&["/nonexistent/python"]),
            options(),
            "/nonexistent/python",
        ),
        (peer(&["sleep", "600"]), short, "no answer"),
        (peer(&[]), options(), "command is empty"),
    ] {
        let ours = takes("ours", 1.0);
        let result = measure(Group::Train, &ours, &[peer], &options, &mut |_| {});
        let text = result.unwrap_err().to_string();
        assert!(text.contains(word) && !text.contains('\n'), "{text}");
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let ours = takes("ours", 1.0);
    let no_case = Options {
        filter: Some("no such case".into()),
        ..options()
    };
    let no_thread = Options {
        threads: 0,
        ..options()
    };
    let no_round = Options {
        repeats: Some(0),
        ..options()
    };
    for bad in [no_case, no_thread, no_round] {
        assert!(measure(Group::Train, &ours, &[], &bad, &mut |_| {}).is_err());
    }
}
