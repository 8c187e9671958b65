//! The page: complete, closed, escaped, and asking nothing from the network.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use phiz_eval::report::{ExampleImage, ExamplePair, Headline, Report, RocSeries, Series};
use phiz_eval::{
    BootstrapConfig, Classification, Embeddings, EvaluateOptions, Protocol, ScoreHistogram,
    evaluate,
};

/// A page with every kind of section.
fn full() -> String {
    let n = 60;
    let values = (0..n * 4)
        .map(|i| ((i * i * 37) % 101) as f32 / 101.0 - 0.4)
        .collect();
    let identity: Vec<u32> = (0..n as u32).map(|i| i % 20).collect();
    let expression: Vec<u32> = (0..n as u32).map(|i| i % 7).collect();
    let logits = (0..n * 7).map(|i| ((i * 13) % 17) as f32).collect();
    let table = Embeddings::new(values, 4)
        .unwrap()
        .with_labels("identity", identity)
        .unwrap()
        .with_labels("expression", expression)
        .unwrap()
        .with_names(
            "expression",
            vec!["<b>calm</b>".to_string(), "joy & more".to_string()],
        )
        .with_logits(logits, 7)
        .unwrap();
    let options = |label: &str| EvaluateOptions {
        label: label.to_string(),
        bootstrap: Some(BootstrapConfig {
            resamples: 20,
            ..Default::default()
        }),
        ..Default::default()
    };
    let by = |p: Protocol, label| evaluate(&p, &table, &options(label)).unwrap();
    let verification = by(Protocol::VerificationAllPairs, "identity");
    let series = vec![
        RocSeries::new("ours", verification.curves.roc.clone())
            .with_band(verification.curves.band.clone()),
        RocSeries::new("\"raw\" pixels", verification.curves.roc.clone()),
    ];
    let many: Vec<u32> = (0..400).map(|i| i % 40).collect();
    let wrong: Vec<u32> = many
        .iter()
        .map(|c| if c % 3 == 0 { 0 } else { *c })
        .collect();
    let large = Classification::from_predictions(&wrong, &many, None, None).unwrap();
    let huge = Classification::from_predictions(&[0, 300, 7], &[0, 2, 7], None, None).unwrap();
    let mut report = Report::new("<script>alert('x')</script>");
    report
        .subtitle("a & b")
        .rendered_faces(true)
        .fact("Seed", "<7>")
        .headline(
            "Summary",
            "",
            &[Headline {
                label: "AUC".to_string(),
                value: f64::NAN,
                interval: None,
            }],
        )
        .evaluation(&verification)
        .evaluation(&by(Protocol::Retrieval, "identity"))
        .evaluation(&by(Protocol::Classification, "expression"))
        .embedding_map("Map", &table, "identity")
        .unwrap()
        .embedding_map("Map of expressions", &table, "expression")
        .unwrap()
        .neighbour_map("Neighbours", &table, "expression")
        .unwrap()
        .ced(
            "CED",
            &[Series {
                name: "ours".to_string(),
                points: (0..50)
                    .map(|i| (f64::from(i) / 500.0, f64::from(i) / 49.0))
                    .collect(),
            }],
            Some(0.07),
        )
        .intervals(
            "By group",
            "note",
            &[
                Headline {
                    label: "a group <with> a name that is too long to stand beside a chart"
                        .to_string(),
                    value: 0.7,
                    interval: Some([0.6, 0.8]),
                },
                Headline {
                    label: "b".to_string(),
                    value: f64::NAN,
                    interval: None,
                },
            ],
            Some(0.5),
        )
        .roc("Two curves", &series)
        .det("DET", &series)
        .training(
            "Loss",
            "Step",
            "Loss",
            true,
            &[
                Series {
                    name: "loss".to_string(),
                    points: (0..2000)
                        .map(|i| (f64::from(i), (f64::from(-i) / 500.0).exp()))
                        .collect(),
                },
                Series {
                    name: "gaps".to_string(),
                    points: vec![(0.0, f64::NAN), (5.0, 0.5), (9.0, f64::INFINITY)],
                },
                Series {
                    name: "nothing".to_string(),
                    points: vec![],
                },
            ],
        )
        .confusion("Forty classes", &large.confusion, &[])
        .confusion("Three hundred classes", &huge.confusion, &[])
        .images(
            "Images",
            "note",
            &[ExampleImage {
                png: vec![0x89, b'P', b'N', b'G'],
                caption: "a < b".to_string(),
            }],
        )
        .pairs(
            "Pairs",
            "",
            &[ExamplePair {
                left: vec![0xff, 0xd8],
                right: vec![],
                score: 0.5,
                caption: "x".to_string(),
            }],
        )
        .table(
            "Table",
            "caption",
            &["name".to_string(), "value".to_string()],
            &[vec!["a<".to_string(), "0.5".to_string()]],
        );
    report.to_html()
}

#[test]
fn nothing_is_fetched_and_nothing_runs_but_the_one_script() {
    let whole = full();
    // The page's own script is the last element of the body, and the only one.
    let (html, script) = whole.split_once("<script>").unwrap();
    assert!(script.ends_with("</script></body></html>\n"));
    assert_eq!(whole.matches("<script").count(), 1);
    for word in [
        "fetch",
        "XMLHttp",
        "import",
        "eval",
        "innerHTML",
        "src",
        "http",
    ] {
        assert!(!script.contains(word), "{word}");
    }
    assert!(html.contains("default-src 'none'"));
    for word in [
        "http:",
        "https:",
        "@import",
        "url(",
        "//cdn",
        "javascript:",
        " on",
    ] {
        // " on" would be an event attribute; in prose it is not followed by letters and "=".
        let found = html.match_indices(word).find(|(at, _)| {
            word != " on"
                || html[at + 3..].split_once('=').is_some_and(|(name, _)| {
                    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase())
                })
        });
        assert!(
            found.is_none(),
            "{word}: {:?}",
            found.map(|(at, _)| &html[at..at + 60])
        );
    }
    assert!(html.contains("prefers-color-scheme: dark"));
    assert!(html.contains("Rendered faces."));
    for src in html.split("src=\"").skip(1) {
        assert!(src.starts_with("data:image/"), "{}", &src[..20]);
    }
}

#[test]
fn text_is_escaped() {
    let html = full();
    assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"));
    assert!(html.contains("&lt;b&gt;calm&lt;/b&gt;") && html.contains("joy &amp; more"));
    let (html, _) = html.split_once("<script>").unwrap();
    assert!(!html.contains("NaN") && !html.contains("inf\""));
}

#[test]
fn tags_are_closed_and_ids_are_unique() {
    let html = full();
    let body = &html[html.find("</style>").unwrap() + 8..html.find("<script>").unwrap()];
    let mut open: Vec<&str> = vec!["html", "head"];
    let mut ids = BTreeSet::new();
    let mut wanted = BTreeSet::new();
    for tag in body.split('<').skip(1) {
        let tag = &tag[..tag.find('>').expect("a tag that ends")];
        let name = tag
            .trim_start_matches('/')
            .split([' ', '/'])
            .next()
            .unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closing {tag}");
        } else if !tag.ends_with('/') && !["img", "meta", "link", "br"].contains(&name) {
            open.push(name);
        }
        if let Some((_, id)) = tag.split_once(" id=\"") {
            assert!(ids.insert(id.split('"').next().unwrap()), "{tag}");
        }
        for key in ["aria-labelledby=\"", "href=\"#"] {
            if let Some((_, list)) = tag.split_once(key) {
                wanted.extend(list.split('"').next().unwrap().split(' '));
            }
        }
        if name == "svg" && !tag.starts_with('/') {
            assert!(
                tag.contains("aria-hidden") || tag.contains("role=\"img\""),
                "{tag}"
            );
        }
        if name == "img" {
            assert!(tag.contains(" alt=\""), "{tag}");
        }
    }
    assert_eq!(open, ["html", "body"], "left open where the script begins");
    assert!(wanted.is_subset(&ids), "{:?}", wanted.difference(&ids));
    assert_eq!(
        body.matches("<table").count(),
        body.matches("<caption>").count()
    );
}

#[test]
fn the_same_input_gives_the_same_page() {
    assert_eq!(full(), full());
}

#[test]
fn empty_input_draws_an_empty_chart() {
    let mut report = Report::new("empty");
    let histogram = ScoreHistogram {
        low: 0.0,
        high: 0.0,
        genuine: vec![],
        impostor: vec![],
    };
    report
        .roc("ROC", &[])
        .det("DET", &[RocSeries::new("", vec![])])
        .histogram("Scores", &histogram, Some(f64::INFINITY))
        .training("Loss", "", "", false, &[])
        .headline("Figures", "", &[])
        .images("Images", "", &[]);
    let html = report.to_html();
    let (html, _) = html.split_once("<script>").unwrap();
    assert!(html.contains("<svg") && !html.contains("NaN"));
}

#[test]
fn an_unwritable_place_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let report = Report::new("x");
    report.write(dir.path().join("report.html")).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let error = report
        .write(dir.path().join("no/such/report.html"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("report.html") && !error.contains('\n'),
        "{error}"
    );
}

/// The program to show pages with, if there is one.
fn browser() -> Option<String> {
    let named = std::env::var("CHROME").ok();
    let usual = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    named
        .into_iter()
        .chain(usual.map(String::from))
        .find(|name| {
            let asked = std::process::Command::new(name).arg("--version").output();
            asked.is_ok_and(|out| out.status.success())
        })
}

/// The page after its scripts have run, and what they wrote to the console.
fn shown(program: &str, html: &str) -> (String, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("report.html");
    std::fs::write(&page, html).unwrap();
    let out = std::process::Command::new(program)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-extensions",
            "--no-first-run",
            "--enable-logging=stderr",
            "--virtual-time-budget=3000",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            dir.path().join("profile").display()
        ))
        .arg(&page)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&out.stderr);
    let console = log.lines().filter(|line| line.contains("CONSOLE"));
    (
        String::from_utf8_lossy(&out.stdout).into_owned(),
        console.map(String::from).collect(),
    )
}

#[test]
fn a_browser_shows_it_without_complaint_and_sorts_it() {
    let Some(program) = browser() else {
        #[allow(clippy::print_stderr, reason = "a check that was left out must say so")]
        {
            eprintln!(
                "skipped: no chromium on this machine (CHROME=PROGRAM names another browser)"
            );
        }
        return;
    };
    // A page that complains is noticed.
    let (_, console) = shown(&program, "<script>console.error('no')</script>");
    assert_eq!(
        console.len(),
        1,
        "this browser does not tell of its console: {console:?}"
    );

    let rows: Vec<Vec<String>> = [
        ("b", "2"),
        ("c", "10"),
        ("a", "\u{2212}1.5"),
        ("d", "\u{2013}"),
    ]
    .iter()
    .map(|(name, value)| vec![(*name).to_string(), (*value).to_string()])
    .collect();
    let mut report = Report::new("Sorting");
    report.table(
        "Sorted",
        "c",
        &["name".to_string(), "value".to_string()],
        &rows,
    );
    let html = report.to_html();
    let order = |clicks: usize| {
        let click = "document.querySelectorAll('thead button')[1].click();".repeat(clicks);
        let changed = html.replace("</body>", &format!("<script>{click}</script></body>"));
        let (dom, console) = shown(&program, &changed);
        assert!(console.is_empty(), "{console:?}");
        let body = dom
            .split("<tbody>")
            .nth(1)
            .unwrap()
            .split("</tbody>")
            .next()
            .unwrap();
        let names = body.split("<th scope=\"row\">").skip(1);
        let names: String = names.filter_map(|n| n.chars().next()).collect();
        let head = dom
            .split("<thead>")
            .nth(1)
            .unwrap()
            .split("</thead>")
            .next()
            .unwrap();
        (names, head.contains("aria-sort=\"ascending\""))
    };
    assert_eq!(order(0), ("bcad".to_string(), false));
    assert_eq!(
        order(1),
        ("abcd".to_string(), true),
        "a missing value stands last"
    );
    assert_eq!(order(2), ("cbad".to_string(), false), "and stays last");

    let (dom, console) = shown(&program, &full());
    assert!(console.is_empty(), "{console:?}");
    for words in [
        "Two curves",
        "Cumulative error curve",
        "Reliability diagram",
        "on a map that keeps neighbours together",
        "<button type=\"button\">",
        "class=\"band s0\"",
    ] {
        assert!(dom.contains(words), "{words}");
    }
}
