//! Agreement with scikit-learn, pytorch-metric-learning and NumPy statements of insightface's and FaceX-Zoo's rules
//! (`fixtures/eval/protocols.py`).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use phiz_eval::{
    Embeddings, Flip, FoldRule, IdentificationConfig, Pair, PairList, PoolConfig, RetrievalConfig,
    Roc, Score, TemplateIndex, TemplatePairs, compare_clusters, identify, pool_templates, retrieve,
    verify_folds, verify_templates,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    fars: Vec<f64>,
    fpirs: Vec<f64>,
    folds: Vec<FoldCase>,
    templates: Vec<TemplateCase>,
    curves: Vec<CurveCase>,
    clusters: Vec<ClusterCase>,
    retrieval: Vec<RetrievalCase>,
}

#[derive(Deserialize)]
struct FoldCase {
    name: String,
    dim: usize,
    values: Vec<f32>,
    pairs: Vec<(usize, usize, bool)>,
    insightface: FoldFigures,
    facex_zoo: FoldFigures,
}

#[derive(Deserialize)]
struct FoldFigures {
    accuracies: Vec<f64>,
    mean: f64,
    spread: f64,
    val: Option<f64>,
    val_sd: Option<f64>,
    far: Option<f64>,
}

#[derive(Deserialize)]
struct TemplateCase {
    name: String,
    dim: usize,
    values: Vec<f32>,
    template: Vec<u32>,
    media: Vec<u32>,
    detector: Vec<f32>,
    pairs: Vec<(u32, u32, bool)>,
    gallery: Vec<(u32, u32)>,
    probes: Vec<(u32, u32)>,
    figures: Vec<TemplateFigures>,
}

#[derive(Deserialize)]
struct TemplateFigures {
    keep_norm: bool,
    detector: bool,
    flip: bool,
    auc: f64,
    nearest: Vec<f64>,
    exact: Vec<Option<f64>>,
    open_set: OpenSet,
}

#[derive(Deserialize)]
struct OpenSet {
    mated: usize,
    rank: BTreeMap<String, f64>,
    insightface: Vec<f64>,
    exact: Vec<Option<f64>>,
}

#[derive(Deserialize)]
struct CurveCase {
    name: String,
    scores: Vec<f64>,
    same: Vec<bool>,
    auc: f64,
    ap: f64,
    det: Vec<(f64, f64)>,
    nearest: Vec<f64>,
}

#[derive(Deserialize)]
struct ClusterCase {
    name: String,
    labels: Vec<u32>,
    clusters: Vec<u32>,
    nmi: f64,
    ami: f64,
    homogeneity: f64,
    completeness: f64,
    pair_f: f64,
}

#[derive(Deserialize)]
struct RetrievalCase {
    name: String,
    dim: usize,
    values: Vec<f32>,
    labels: Vec<u32>,
    micro: BTreeMap<String, f64>,
    r#macro: BTreeMap<String, f64>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../fixtures/eval/protocols.json")).unwrap()
}

#[track_caller]
fn close(got: f64, want: f64, tolerance: f64, what: &str) {
    assert!(
        (got - want).abs() <= tolerance,
        "{what}: {got}, expected {want}"
    );
}

#[test]
fn folds_by_the_rules_of_insightface_and_facex_zoo() {
    for case in golden().folds {
        let table = Embeddings::new(case.values, case.dim).unwrap();
        let pairs: Vec<Pair> = case
            .pairs
            .iter()
            .map(|&(a, b, same)| Pair {
                a,
                b,
                same,
                fold: None,
            })
            .collect();
        let list = PairList::new(pairs, table.len()).unwrap();
        for (rule, want) in [
            (FoldRule::Insightface, &case.insightface),
            (FoldRule::FaceXZoo, &case.facex_zoo),
        ] {
            let what = format!("{} {rule}", case.name);
            let got = verify_folds(&table, &list, None, rule, Score::Cosine).unwrap();
            for (got, want) in got.accuracies.iter().zip(&want.accuracies) {
                close(*got, *want, 1e-12, &what);
            }
            assert_eq!(got.accuracies.len(), want.accuracies.len());
            close(got.mean, want.mean, 1e-12, &what);
            close(got.spread, want.spread, 1e-12, &what);
            let validation = got.validation.map(|v| [v.val, v.val_sd, v.far]);
            let wanted = [want.val, want.val_sd, want.far];
            match validation {
                Some(found) => {
                    for (got, want) in found.iter().zip(wanted) {
                        close(*got, want.unwrap(), 1e-12, &what);
                    }
                }
                None => assert_eq!(wanted, [None, None, None]),
            }
        }
    }
}

#[test]
fn templates_by_the_rules_of_insightface() {
    let golden = golden();
    for case in &golden.templates {
        let table = Embeddings::new(case.values.clone(), case.dim).unwrap();
        let index = TemplateIndex::new(case.template.clone(), case.media.clone()).unwrap();
        let pairs = TemplatePairs::new(
            case.pairs.iter().map(|p| p.0).collect(),
            case.pairs.iter().map(|p| p.1).collect(),
            case.pairs.iter().map(|p| p.2).collect(),
        )
        .unwrap();
        for want in &case.figures {
            let what = format!(
                "{} N{} D{} F{}",
                case.name, want.keep_norm, want.detector, want.flip
            );
            let config = PoolConfig {
                keep_norm: want.keep_norm,
                flip: if want.flip { Flip::Sum } else { Flip::First },
                detector: want.detector.then(|| case.detector.clone()),
            };
            let templates = pool_templates(&table, &index, &config).unwrap();
            let got = verify_templates(&templates, &pairs, &golden.fars).unwrap();
            close(got.auc, want.auc, 1e-9, &what);
            for ((far, got), want) in got.nearest.iter().zip(&want.nearest) {
                close(got.tar, *want, 1e-12, &format!("{what} nearest {far}"));
            }
            for ((far, got), want) in got.exact.iter().zip(&want.exact) {
                let got = got.map(|t| t.tar);
                assert_eq!(got.is_some(), want.is_some(), "{what} exact {far}");
                close(got.unwrap_or(0.0), want.unwrap_or(0.0), 1e-12, &what);
            }
            let config = IdentificationConfig {
                fpirs: golden.fpirs.clone(),
                ..Default::default()
            };
            let got = identify(&templates, &case.gallery, &case.probes, &config).unwrap();
            let open = &want.open_set;
            assert_eq!(got.mated, open.mated, "{what}");
            for (k, rank) in &got.ranks {
                close(*rank, open.rank[&k.to_string()], 1e-12, &what);
                close(got.cmc[k - 1], *rank, 0.0, &what);
            }
            for ((fpir, got), want) in got.insightface.iter().zip(&open.insightface) {
                close(
                    got.tpir,
                    *want,
                    1e-12,
                    &format!("{what} insightface {fpir}"),
                );
            }
            for ((fpir, got), want) in got.exact.iter().zip(&open.exact) {
                assert_eq!(got.is_some(), want.is_some(), "{what} {fpir}");
                if let (Some(got), Some(want)) = (got, want) {
                    close(got.tpir, *want, 1e-12, &format!("{what} exact {fpir}"));
                    assert!(got.fpir <= *fpir);
                }
            }
        }
    }
}

#[test]
fn curves_of_scikit_learn() {
    let golden = golden();
    for case in &golden.curves {
        let roc = Roc::from_labelled(&case.scores, &case.same).unwrap();
        close(roc.auc(), case.auc, 1e-12, &case.name);
        close(roc.average_precision(), case.ap, 1e-12, &case.name);
        for (far, want) in golden.fars.iter().zip(&case.nearest) {
            let got = roc.tar_at_nearest_far(*far).unwrap();
            close(got.tar, *want, 1e-12, &format!("{} {far}", case.name));
        }
        // Every point of scikit-learn's curve is one of ours.
        let det = roc.det();
        for (far, frr) in &case.det {
            let near = |p: &&phiz_eval::DetPoint| {
                (p.far - far).abs() < 1e-12 && (p.frr - frr).abs() < 1e-12
            };
            assert!(det.iter().find(near).is_some(), "{} {far} {frr}", case.name);
        }
    }
}

#[test]
fn clusters_of_scikit_learn() {
    for case in golden().clusters {
        let got = compare_clusters(&case.labels, &case.clusters).unwrap();
        for (got, want, figure) in [
            (got.nmi, case.nmi, "nmi"),
            (got.ami, case.ami, "ami"),
            (got.homogeneity, case.homogeneity, "homogeneity"),
            (got.completeness, case.completeness, "completeness"),
            (got.pair_f, case.pair_f, "pair F"),
        ] {
            close(got, want, 1e-9, &format!("{} {figure}", case.name));
        }
        // Other names for labels and clusters.
        let rename = |v: &[u32]| v.iter().map(|x| 1_000_000 - 7 * x).collect::<Vec<u32>>();
        let renamed = compare_clusters(&rename(&case.labels), &rename(&case.clusters)).unwrap();
        close(renamed.ami, got.ami, 1e-12, &case.name);
        close(renamed.nmi, got.nmi, 1e-12, &case.name);
    }
}

#[test]
fn retrieval_of_pytorch_metric_learning() {
    for case in golden().retrieval {
        let table = Embeddings::new(case.values, case.dim).unwrap();
        let config = RetrievalConfig {
            score: Score::Euclid,
            bootstrap: None,
            ..Default::default()
        };
        let found = retrieve(&table, &case.labels, &config).unwrap();
        let got = found.metrics();
        for (ours, theirs) in [
            ("precision@1", "precision_at_1"),
            ("r_precision", "r_precision"),
            ("map@r", "mean_average_precision_at_r"),
            ("map", "mean_average_precision"),
            ("mrr", "mean_reciprocal_rank"),
        ] {
            close(
                got[ours],
                case.micro[theirs],
                1e-6,
                &format!("{} {ours}", case.name),
            );
            let macro_figure = got[&format!("macro_{ours}")];
            close(
                macro_figure,
                case.r#macro[theirs],
                1e-6,
                &format!("{} macro {ours}", case.name),
            );
        }
    }
}
