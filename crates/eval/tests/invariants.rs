//! What must not change a figure, what known embeddings must give, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use phiz_eval::{
    Condition, Embeddings, EvaluateOptions, FoldRule, KMeansConfig, Pair, PairKind, PairList,
    PoolConfig, Protocol, Relation, RetrievalConfig, Roc, Score, TemplateIndex, TemplatePairs,
    ThresholdRule, VerificationConfig, compare, evaluate, identify, kmeans, pool_templates,
    retrieve, verify_all_pairs, verify_folds, verify_pairs, verify_templates,
};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn table(labels: &[u32], dim: usize, spread: f32, seed: u64) -> Embeddings {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let most = labels.iter().max().unwrap() + 1;
    let centres: Vec<f32> = (0..most as usize * dim)
        .map(|_| rng.random::<f32>() - 0.5)
        .collect();
    let values = labels
        .iter()
        .flat_map(|&l| centres[l as usize * dim..(l as usize + 1) * dim].to_vec())
        .map(|c| c + spread * (rng.random::<f32>() - 0.5))
        .collect();
    Embeddings::new(values, dim)
        .unwrap()
        .with_labels("labels", labels.to_vec())
        .unwrap()
}

/// Ranks by a full sort in f64, the slow statement of retrieval.
fn plain_retrieval(table: &Embeddings, labels: &[u32], score: Score) -> [f64; 5] {
    let n = table.len();
    let pairs: Vec<Pair> = (0..n * n)
        .map(|i| Pair {
            a: i / n,
            b: i % n,
            same: false,
            fold: None,
        })
        .collect();
    let scores = phiz_eval::score_pairs(table, &pairs, score).unwrap();
    let (mut sums, mut queries) = ([0.0; 5], 0.0);
    for q in 0..n {
        let mut others: Vec<usize> = (0..n).filter(|&j| j != q).collect();
        others.sort_by(|&i, &j| {
            scores[q * n + j]
                .total_cmp(&scores[q * n + i])
                .then(i.cmp(&j))
        });
        let relevant = others.iter().filter(|&&j| labels[j] == labels[q]).count();
        if relevant == 0 {
            continue;
        }
        queries += 1.0;
        let (mut hits, mut first) = (0.0, 0.0);
        for (i, &j) in others.iter().enumerate() {
            if labels[j] != labels[q] {
                continue;
            }
            hits += 1.0;
            let precision = hits / (i + 1) as f64;
            if first == 0.0 {
                first = 1.0 / (i + 1) as f64;
            }
            sums[2] += precision / relevant as f64;
            if i < relevant {
                sums[1] += 1.0 / relevant as f64;
                sums[3] += precision / relevant as f64;
            }
        }
        sums[0] += f64::from(u8::from(first == 1.0));
        sums[4] += first;
    }
    sums.map(|s| s / queries)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Both ways of counting, few and many relevant samples, ties and duplicates, equal a full sort.
    #[test]
    fn retrieval_equals_a_full_sort(
        labels in proptest::collection::vec(0u32..6, 60..400),
        dim in 1usize..9, coarse in any::<bool>(), seed in 0u64..1000,
    ) {
        let mut table = table(&labels, dim, 1.5, seed);
        if coarse {
            let values = table.values().iter().map(|v| (v * 3.0).round() + 0.25).collect();
            table = Embeddings::new(values, dim).unwrap();
        }
        for score in [Score::Cosine, Score::Euclid] {
            let config = RetrievalConfig { score, bootstrap: None, ..Default::default() };
            let got = retrieve(&table, &labels, &config).unwrap();
            let want = plain_retrieval(&table, &labels, score);
            let got = [got.rank1, got.r_precision, got.map, got.map_at_r, got.mean_reciprocal_rank];
            for (got, want) in got.iter().zip(want) {
                prop_assert!((got - want).abs() < 1e-12, "{score} {got} {want}");
            }
        }
    }

    /// Every row as a query one by one gives what all rows at once give.
    #[test]
    fn queries_apart_equal_queries_together(seed in 0u64..1000) {
        let labels: Vec<u32> = (0..300).map(|i| i % 37).collect();
        let table = table(&labels, 6, 1.5, seed);
        let config = RetrievalConfig { bootstrap: None, ..Default::default() };
        let all = retrieve(&table, &labels, &config).unwrap();
        let mut found: Vec<_> = (0..3)
            .flat_map(|part| {
                let queries = Some((part * 100..(part + 1) * 100).collect());
                let config = RetrievalConfig { queries, ..config.clone() };
                retrieve(&table, &labels, &config).unwrap().per_query
            })
            .collect();
        found.sort_by_key(|q| (q.label, q.row));
        prop_assert_eq!(found, all.per_query);
    }

    /// Order of rows, order of pairs, names of labels and a rescaling by a power of two change nothing.
    #[test]
    fn what_changes_nothing(seed in 0u64..1000) {
        let labels: Vec<u32> = (0..80).map(|i| i * 7 % 13).collect();
        let one = table(&labels, 5, 1.2, seed);
        let mut rng = ChaCha8Rng::seed_from_u64(seed + 1);
        let mut order: Vec<usize> = (0..80).collect();
        for i in (1..80).rev() {
            order.swap(i, rng.random_range(0..=i));
        }
        let moved = one.select(&order).unwrap();
        let scaled: Vec<f32> = moved.values().iter().map(|v| v * 8.0).collect();
        let renamed: Vec<u32> = order.iter().map(|&i| 4_000_000_000 - labels[i]).collect();
        let other = Embeddings::new(scaled, 5).unwrap().with_labels("labels", renamed).unwrap();
        let options = EvaluateOptions { bootstrap: None, ..Default::default() };
        for protocol in [Protocol::VerificationAllPairs, Protocol::Retrieval] {
            let (x, y) = (
                evaluate(&protocol, &one, &options).unwrap(),
                evaluate(&protocol, &other, &options).unwrap(),
            );
            for (name, value) in &x.metrics {
                prop_assert!((value - y.metrics[name]).abs() < 1e-12, "{name}");
            }
        }
        let mut pairs: Vec<Pair> = (0..400)
            .map(|i| {
                let (a, b) = (rng.random_range(0..80usize), rng.random_range(0..80usize));
                Pair { a, b, same: labels[a] == labels[b], fold: Some(i % 7) }
            })
            .collect();
        let config = VerificationConfig { bootstrap: None, ..Default::default() };
        let verify = |pairs: &[Pair]| {
            let list = PairList::new(pairs.to_vec(), 80).unwrap();
            verify_pairs(&one, &list, None, &config).unwrap().metrics()
        };
        let before = verify(&pairs);
        pairs.reverse();
        prop_assert_eq!(before, verify(&pairs));
    }
}

#[test]
fn perfect_reversed_and_random_embeddings() {
    let labels: Vec<u32> = (0..60).map(|i| i / 3).collect();
    // One direction for each label.
    let values = labels
        .iter()
        .flat_map(|&l| (0..20).map(move |d| f32::from(u8::from(d == l))))
        .collect();
    let perfect = Embeddings::new(values, 20)
        .unwrap()
        .with_labels("labels", labels.clone())
        .unwrap();
    let options = EvaluateOptions {
        bootstrap: None,
        ..Default::default()
    };
    for protocol in [
        Protocol::VerificationAllPairs,
        Protocol::Retrieval,
        Protocol::Clustering,
    ] {
        let found = evaluate(&protocol, &perfect, &options).unwrap();
        for (name, value) in found.metrics {
            let want = f64::from(u8::from(name != "eer"));
            assert_eq!(value, want, "{name}");
        }
    }
    // Genuine pairs opposite, impostor pairs at right angles or nearer.
    let values = (0..40).flat_map(|i| {
        let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
        (0..20).map(move |d| if d == i / 2 { sign } else { 0.0 })
    });
    let labels: Vec<u32> = (0..40).map(|i| i / 2).collect();
    let reversed = Embeddings::new(values.collect(), 20).unwrap();
    let found = verify_all_pairs(&reversed, &labels, &VerificationConfig::default()).unwrap();
    assert_eq!((found.auc, found.eer.rate), (0.0, 1.0));
    let found = retrieve(&reversed, &labels, &RetrievalConfig::default()).unwrap();
    assert_eq!((found.rank1, found.map_at_r), (0.0, 0.0));
    assert!((found.mean_reciprocal_rank - 1.0 / 39.0).abs() < 1e-15);
    // All alike: every score is one tie.
    let alike = Embeddings::new([0.6f32, 0.8].repeat(40), 2).unwrap();
    let found = verify_all_pairs(&alike, &labels, &VerificationConfig::default()).unwrap();
    assert_eq!((found.auc, found.eer.rate), (0.5, 0.5));
    // Random: an area within four standard errors of one half.
    let labels: Vec<u32> = (0..400).map(|i| i / 4).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let random =
        Embeddings::new((0..400 * 8).map(|_| rng.random::<f32>() - 0.5).collect(), 8).unwrap();
    let found = verify_all_pairs(
        &random,
        &labels,
        &VerificationConfig {
            bootstrap: None,
            ..Default::default()
        },
    )
    .unwrap();
    assert!(
        (found.auc - 0.5).abs() < 4.0 * 0.29 / 600f64.sqrt(),
        "{}",
        found.auc
    );
}

#[test]
fn conditions_choose_the_pairs() {
    let labels: Vec<u32> = (0..48).map(|i| i / 4).collect();
    let pose: Vec<u32> = (0..48).map(|i| i % 3).collect();
    let table = table(&labels, 4, 1.0, 3);
    let condition = |relation, pairs| Condition {
        column: "pose".into(),
        codes: pose.clone(),
        relation,
        pairs,
    };
    for conditions in [
        vec![condition(Relation::Different, PairKind::All)],
        vec![condition(Relation::Same, PairKind::Impostor)],
        vec![condition(Relation::Between(0, 2), PairKind::Genuine)],
    ] {
        let config = VerificationConfig {
            bootstrap: None,
            conditions: conditions.clone(),
            ..Default::default()
        };
        let got = verify_all_pairs(&table, &labels, &config).unwrap();
        let mut pairs = Vec::new();
        for a in 0..48 {
            for b in a + 1..48 {
                let same = labels[a] == labels[b];
                if conditions.iter().all(|c| c.admits(a, b, same)) {
                    pairs.push(Pair {
                        a,
                        b,
                        same,
                        fold: None,
                    });
                }
            }
        }
        let list = PairList::new(pairs, 48).unwrap();
        let plain = VerificationConfig {
            bootstrap: None,
            ..Default::default()
        };
        let want = verify_pairs(&table, &list, None, &plain).unwrap();
        assert_eq!(got.roc.genuine(), want.roc.genuine());
        assert_eq!(got.roc.impostor(), want.roc.impostor());
        assert_eq!(got.metrics(), want.metrics());
    }
    let config = VerificationConfig {
        conditions: vec![condition(Relation::Between(7, 8), PairKind::Genuine)],
        ..Default::default()
    };
    let error = verify_all_pairs(&table, &labels, &config).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no genuine pair: a ROC needs pairs of one and of different identities; asked for: genuine pairs with `pose` 7 and 8"
    );
}

#[test]
fn a_threshold_is_carried_over() {
    let labels: Vec<u32> = (0..60).map(|i| i / 5).collect();
    let (dev, test) = (table(&labels, 6, 1.2, 1), table(&labels, 6, 1.2, 2));
    let config = VerificationConfig {
        bootstrap: None,
        ..Default::default()
    };
    let chosen_on = verify_all_pairs(&dev, &labels, &config).unwrap();
    for rule in [
        ThresholdRule::EqualError,
        ThresholdRule::BestAccuracy,
        ThresholdRule::Far(0.01),
    ] {
        let t = chosen_on.roc.threshold(rule).unwrap();
        let config = VerificationConfig {
            thresholds: vec![t],
            ..config.clone()
        };
        let found = verify_all_pairs(&test, &labels, &config).unwrap();
        let at = found.operating[0];
        let pairs: Vec<Pair> = (0..60)
            .flat_map(|a| (a + 1..60).map(move |b| (a, b)))
            .map(|(a, b)| Pair {
                a,
                b,
                same: labels[a] == labels[b],
                fold: None,
            })
            .collect();
        let scores = phiz_eval::score_pairs(&test, &pairs, Score::Cosine).unwrap();
        let accepted = |same: bool| {
            pairs
                .iter()
                .zip(&scores)
                .filter(|(p, s)| p.same == same && **s >= t)
                .count() as u64
        };
        assert_eq!(
            (at.true_accepts, at.false_accepts),
            (accepted(true), accepted(false))
        );
        // On the set it was chosen on it does what the rule says.
        if let ThresholdRule::Far(far) = rule {
            let own = chosen_on.roc.operating(t).unwrap();
            assert!(own.far <= far);
            assert_eq!(own.tar, chosen_on.roc.tar_at_far(far).unwrap().tar);
        }
    }
    let error = chosen_on
        .roc
        .threshold(ThresholdRule::Far(1e-9))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("needs 1000000000 impostor pairs, there are 1650"),
        "{error}"
    );
    assert!("far=2".parse::<ThresholdRule>().is_err());
}

#[test]
fn strict_folds_share_no_identity() {
    let labels: Vec<u32> = (0..80).map(|i| i / 4).collect();
    let table = table(&labels, 5, 0.8, 4);
    let pair = |a: usize, b: usize| Pair {
        a,
        b,
        same: labels[a] == labels[b],
        fold: None,
    };
    let pairs: Vec<Pair> = (0..10)
        .flat_map(|f| {
            [
                pair(8 * f, 8 * f + 1),
                pair(8 * f + 4, 8 * f + 5),
                pair(8 * f, 8 * f + 5),
                pair(8 * f + 1, 8 * f + 4),
            ]
        })
        .collect();
    let list = PairList::new(pairs.clone(), 80).unwrap();
    let found = verify_folds(
        &table,
        &list,
        Some(&labels),
        FoldRule::Strict,
        Score::Cosine,
    )
    .unwrap();
    assert_eq!(found.accuracies.len(), 10);
    assert_eq!(found.spread, found.sd);
    let mut crossed = pairs;
    crossed[0] = pair(0, 79);
    let list = PairList::new(crossed, 80).unwrap();
    let error = verify_folds(
        &table,
        &list,
        Some(&labels),
        FoldRule::Strict,
        Score::Cosine,
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("identity 19 is in folds 0 and 9"),
        "{error}"
    );
    assert!(
        verify_folds(
            &table,
            &list,
            Some(&labels),
            FoldRule::Insightface,
            Score::Cosine
        )
        .is_ok()
    );
}

#[test]
fn templates_by_hand() {
    // Template 4: medium 1 holds two images, medium 2 one. Mean (1, 1) + (2, 0) = (3, 1).
    let table =
        Embeddings::new(vec![2.0, 0.0, 0.0, 2.0, 2.0, 0.0, 3.0, 1.0, 1.0, -3.0], 2).unwrap();
    let index = TemplateIndex::new(vec![4, 4, 4, 9, 2], vec![1, 1, 2, 1, 1]).unwrap();
    let templates = pool_templates(&table, &index, &PoolConfig::default()).unwrap();
    assert_eq!(templates.ids(), [2, 4, 9]);
    let root = 10f64.sqrt();
    assert_eq!(templates.feature(1).unwrap(), [3.0 / root, 1.0 / root]);
    let pairs = TemplatePairs::new(vec![4, 4], vec![9, 2], vec![true, false]).unwrap();
    let found = verify_templates(&templates, &pairs, &[0.5, 1.0]).unwrap();
    assert_eq!(found.auc, 1.0);
    assert!(found.exact[0].1.is_none());
    let found = identify(
        &templates,
        &[(4, 1), (2, 2)],
        &[(9, 1)],
        &Default::default(),
    )
    .unwrap();
    assert_eq!(
        (found.mated, found.non_mated, found.ranks[0]),
        (1, 0, (1, 1.0))
    );
    assert!(found.exact[0].1.is_none() && found.insightface.is_empty());
    let pairs = TemplatePairs::new(vec![4], vec![8], vec![true]).unwrap();
    let error = verify_templates(&templates, &pairs, &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "pair 0: template 8 has no image in the index"
    );
    let flat = Embeddings::new(vec![1.0, 0.0, -1.0, 0.0], 2).unwrap();
    let index = TemplateIndex::new(vec![3, 3], vec![1, 2]).unwrap();
    let error = pool_templates(&flat, &index, &PoolConfig::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "template 3: its image features sum to zero"
    );
}

#[test]
fn kmeans_does_not_depend_on_threads() {
    let labels: Vec<u32> = (0..300).map(|i| i % 10).collect();
    let table = table(&labels, 6, 1.0, 8);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| kmeans(&table, 10, &KMeansConfig::default()).unwrap())
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn protocol_files() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let labels: Vec<u32> = (0..60).map(|i| i / 5).collect();
    let of = |seed| {
        table(&labels, 6, 1.2, seed)
            .with_labels("pose", (0..60).map(|i| i % 2).collect())
            .unwrap()
            .with_names("pose", vec!["frontal".into(), "profile".into()])
    };
    let one = of(1);
    of(2)
        .write_safetensors(here.join("dev.safetensors"))
        .unwrap();
    let judge = |text: &str| {
        let path = here.join("p.toml");
        fs::write(&path, text).unwrap();
        evaluate(&Protocol::File(path), &one, &EvaluateOptions::default())
    };
    let found = judge(
        "name = 'cross pose'\nkind = 'verification'\nresamples = 0\nfars = [0.1]\n\
         [[condition]]\ncolumn = 'pose'\nvalues = ['frontal', 'profile']\npairs = 'genuine'\n\
         [threshold]\nfrom = 'dev.safetensors'\nrule = 'eer'\n",
    )
    .unwrap();
    assert_eq!(found.name(), "cross pose");
    assert_eq!(found.protocol["genuine_pairs"], 12 * 6);
    assert!(
        found
            .metrics
            .keys()
            .any(|k| k.starts_with("far@threshold="))
    );
    assert!(found.intervals.is_empty());
    let found =
        judge("name = 'r'\nkind = 'retrieval'\nquery = { column = 'pose', value = 'profile' }\n")
            .unwrap();
    assert_eq!(found.protocol["queries"], 30);
    let found = judge("name = 'r'\nkind = 'retrieval'\nqueries = 7\n").unwrap();
    assert_eq!(found.protocol["queries"], 7);
    let found = judge("name = 'c'\nkind = 'clustering'\nclusters = 12\nseed = 3\n").unwrap();
    assert!(found.metrics["ami"] > 0.0);
    fs::write(
        here.join("tid_mid.txt"),
        (0..60)
            .map(|i| format!("{i}.jpg {} {}\n", i / 3, i % 2))
            .collect::<String>(),
    )
    .unwrap();
    fs::write(
        here.join("pairs.txt"),
        (0..19)
            .map(|i| format!("{i} {} {}\n", i + 1, i % 2))
            .collect::<String>(),
    )
    .unwrap();
    let subjects = |range: std::ops::Range<u32>| {
        let lines: String = range.map(|i| format!("{i},{}\n", i % 7)).collect();
        format!("TEMPLATE_ID,SUBJECT_ID\n{lines}")
    };
    fs::write(here.join("g1.csv"), subjects(0..4)).unwrap();
    fs::write(here.join("g2.csv"), subjects(4..7)).unwrap();
    fs::write(here.join("probes.csv"), subjects(7..20)).unwrap();
    let found = judge("name = 't'\nkind = 'templates'\nfars = [0.2, 1e-4]\n[templates]\nindex = 'tid_mid.txt'\npairs = 'pairs.txt'\n").unwrap();
    assert_eq!(found.protocol["flags"], "N1D0F0");
    assert!(found.metrics.contains_key("nearest_tar@far=1e-4"));
    assert_eq!(
        found.undefined["tar@far=1e-4"],
        "needs 10000 impostor pairs, there are 10"
    );
    let found = judge("name = 'i'\nkind = 'identification'\n[templates]\nindex = 'tid_mid.txt'\ngalleries = ['g1.csv', 'g2.csv']\nprobes = 'probes.csv'\nfpirs = [0.2]\n").unwrap();
    assert!(found.metrics.contains_key("rank-1") && found.metrics.contains_key("tpir@fpir=2e-1"));
    for (text, message) in [
        (
            "name = 'x'\nkind = 'folds'\n",
            "kind `folds` needs the key `pairs`",
        ),
        (
            "name = 'x'\nkind = 'templates'\n",
            "kind `templates` needs the key `[templates]`",
        ),
        (
            "name = 'x'\nkind = 'verification'\n[[condition]]\ncolumn = 'pose'\nvalues = ['frontal', 'up']\n",
            "column `pose` has no value called `up`; known: frontal, profile",
        ),
        (
            "name = 'x'\nkind = 'verification'\n[threshold]\nfrom = 'none.npy'\n",
            "none.npy: ",
        ),
    ] {
        let error = judge(text).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert!(error.starts_with(here.to_str().unwrap()), "{error}");
    }
}

#[test]
fn two_runs_compared() {
    let labels: Vec<u32> = (0..60).map(|i| i / 5).collect();
    let (good, bad) = (table(&labels, 6, 0.6, 1), table(&labels, 6, 2.5, 1));
    let options = EvaluateOptions::default();
    let found = compare(&Protocol::VerificationAllPairs, &good, &bad, &options).unwrap();
    let auc = found.differences["auc"];
    assert!(auc.difference > 0.0 && auc.interval.unwrap()[0] > 0.0);
    assert!((found.delong.unwrap().difference - auc.difference).abs() < 1e-12);
    let found = compare(&Protocol::Retrieval, &good, &good, &options).unwrap();
    assert_eq!(found.differences["map@r"].interval, Some([0.0, 0.0]));
    let found = compare(&Protocol::Clustering, &good, &bad, &options).unwrap();
    assert!(found.plain["ami"] > 0.0);
    let other = good
        .clone()
        .with_labels(
            "labels",
            labels.iter().map(|l| l + u32::from(*l == 11)).collect(),
        )
        .unwrap();
    let error = compare(&Protocol::Retrieval, &good, &other, &options).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("row 55: `labels` is 11 in one table and 12"),
        "{error}"
    );
}

#[test]
fn mapped_files_are_judged_as_read_ones() {
    let folder = tempfile::tempdir().unwrap();
    let labels: Vec<u32> = (0..90).map(|i| i / 3).collect();
    let one = table(&labels, 7, 1.0, 6);
    let (npy, safetensors) = (
        folder.path().join("e.npy"),
        folder.path().join("e.safetensors"),
    );
    one.write_npy(&npy).unwrap();
    one.write_safetensors(&safetensors).unwrap();
    for path in [&npy, &safetensors] {
        let mapped = Embeddings::map(path).unwrap();
        assert_eq!(mapped, Embeddings::read(path).unwrap());
        assert_eq!(mapped, one);
        let options = EvaluateOptions::default();
        let found = evaluate(&Protocol::Retrieval, &mapped, &options).unwrap();
        assert_eq!(
            found.metrics,
            evaluate(&Protocol::Retrieval, &one, &options)
                .unwrap()
                .metrics
        );
    }
    let bytes = fs::read(&npy).unwrap();
    fs::write(&npy, &bytes[..bytes.len() - 5]).unwrap();
    let error = Embeddings::map(&npy).unwrap_err().to_string();
    assert!(
        error.contains("needs 2520 bytes, the file holds 2515"),
        "{error}"
    );
    assert!(Embeddings::map(folder.path().join("e.csv")).is_err());
}

#[test]
fn columns_beside_an_npy_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("e.npy");
    let labels = vec![3, 3, 4];
    let values = Embeddings::new(vec![0.5; 6], 2).unwrap();
    values
        .clone()
        .with_labels("labels", labels.clone())
        .unwrap()
        .write_npy(&path)
        .unwrap();
    fs::copy(
        folder.path().join("e.labels.npy"),
        folder.path().join("e.pose.npy"),
    )
    .unwrap();
    let read = Embeddings::read(&path).unwrap();
    assert_eq!(read.labels("pose").unwrap(), labels);
    assert_eq!(read.labels("labels").unwrap(), labels);
    fs::remove_file(folder.path().join("e.labels.npy")).unwrap();
    assert!(Embeddings::read(&path).unwrap().labels("labels").is_err());
    // A Python object array is refused by its header; its pickle is never looked at.
    let mut bytes = b"\x93NUMPY\x01\x00\x47\x00".to_vec();
    bytes.extend(
        b"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }              \n\x80\x04N.",
    );
    fs::write(folder.path().join("e.labels.npy"), bytes).unwrap();
    let error = Embeddings::read(&path).unwrap_err().to_string();
    assert!(
        error.contains("e.labels.npy") && error.contains("pickled"),
        "{error}"
    );
}

#[cfg(feature = "parquet")]
#[test]
fn truncated_parquet_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("e.parquet");
    fs::write(&path, b"PAR1 and no more").unwrap();
    let error = Embeddings::read(&path).unwrap_err().to_string();
    assert!(
        error.starts_with(path.to_str().unwrap()) && !error.contains('\n'),
        "{error}"
    );
}

#[test]
fn eight_million_scores_need_no_more_than_they_should() {
    // The listed curve of many equal scores stays small.
    let genuine: Vec<f64> = (0..100_000).map(|i| f64::from(i % 7)).collect();
    let impostor: Vec<f64> = (0..300_000).map(|i| f64::from(i % 5)).collect();
    let roc = Roc::from_scores(&genuine, &impostor).unwrap();
    assert_eq!(roc.det().len(), 8);
}
