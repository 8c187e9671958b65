//! Every miner against pytorch-metric-learning 2.9 in f64: equal index sets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle::{Device, Tensor};
use phiz_mining::*;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

/// One batch of the fixture, under one measure.
struct Case<'f> {
    embeddings: Tensor,
    references: Option<Tensor>,
    labels: Vec<u32>,
    ref_labels: Vec<u32>,
    result: &'f Value,
    similarity: bool,
}

impl Case<'_> {
    fn width(&self) -> u64 {
        self.ref_labels.len() as u64
    }

    fn compare(&self) -> Comparison<'_> {
        self.compare_part(self.embeddings.dim(1).unwrap())
    }

    /// The comparison of the first `dim` values of each embedding.
    fn compare_part(&self, dim: usize) -> Comparison<'_> {
        let part = |t: &Tensor| t.narrow(1, 0, dim).unwrap();
        let measure = match self.result["measure"].as_str().unwrap() {
            "euclidean" => Measure::L2,
            "euclidean_raw" => Measure::L2.unnormalized(),
            "squared" => Measure::SQUARED_L2,
            "cosine" => Measure::COSINE,
            "dot_raw" => Measure::DOT,
            _ => Measure::SNR,
        };
        match &self.references {
            None => Comparison::new(&part(&self.embeddings), &self.labels),
            Some(references) => {
                let relation = LabelsBetween {
                    anchors: &self.labels,
                    references: &self.ref_labels,
                };
                Comparison::with_references(&part(&self.embeddings), &part(references), relation)
            }
        }
        .unwrap()
        .measure(measure)
    }

    fn pairs(&self, pairs: &Pairs) -> [Vec<u64>; 2] {
        [&pairs.positive, &pairs.negative].map(|list| {
            let mut codes: Vec<u64> = list
                .iter()
                .map(|&(a, b)| u64::from(a) * self.width() + u64::from(b))
                .collect();
            codes.sort_unstable();
            codes
        })
    }

    fn triplets(&self, triplets: &Triplets) -> Vec<u64> {
        let mut codes: Vec<u64> = triplets
            .iter()
            .map(|(a, p, n)| {
                (u64::from(a) * self.width() + u64::from(p)) * self.width() + u64::from(n)
            })
            .collect();
        codes.sort_unstable();
        codes
    }

    /// (a, b) and (b, a) are equally far, so which of them a cut through the middle keeps is no part of the rule.
    fn unordered(&self, codes: [Vec<u64>; 2]) -> [Vec<u64>; 2] {
        if self.references.is_some() {
            return codes;
        }
        let width = self.width();
        codes.map(|list| {
            let turned = |c: u64| (c / width).min(c % width) * width + (c / width).max(c % width);
            let mut list: Vec<u64> = list.into_iter().map(turned).collect();
            list.sort_unstable();
            list
        })
    }
}

fn each_case(mut check: impl FnMut(&Case<'_>)) {
    let text = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/mining/miners.json"
    ));
    let fixture: Value = serde_json::from_str(text).unwrap();
    let rows = |value: &Value| Tensor::new(read::<Vec<Vec<f64>>>(value), &Device::Cpu).unwrap();
    let mut seen = 0;
    for case in fixture["cases"].as_array().unwrap() {
        let labels: Vec<u32> = read(&case["labels"]);
        let references = case.get("references").map(rows);
        for result in case["results"].as_array().unwrap() {
            let measure = result["measure"].as_str().unwrap();
            check(&Case {
                embeddings: rows(&case["embeddings"]),
                references: references.clone(),
                ref_labels: case.get("ref_labels").map_or(labels.clone(), read),
                labels: labels.clone(),
                result,
                similarity: matches!(measure, "cosine" | "dot_raw"),
            });
            seen += 1;
        }
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn batch_easy_hard_and_batch_hard() {
    each_case(|case| {
        let pick = |value: &Value| match value.as_str().unwrap() {
            "hard" => Pick::Hard,
            "semihard" => Pick::SemiHard,
            "easy" => Pick::Easy,
            _ => Pick::All,
        };
        let ranges: [(f64, f64); 2] = read(&case.result["ranges"]);
        for wanted in case.result["easy_hard"].as_array().unwrap() {
            let range = |(low, high): (f64, f64)| (wanted["ranged"] == true).then_some(low..=high);
            let miner = BatchEasyHardMiner {
                positive: pick(&wanted["positive"]),
                negative: pick(&wanted["negative"]),
                positive_range: range(ranges[0]),
                negative_range: range(ranges[1]),
            };
            let found = miner.mine(&case.compare()).unwrap();
            assert_eq!(
                case.pairs(&found),
                read::<[Vec<u64>; 2]>(&wanted["pairs"]),
                "{miner:?} {}",
                case.result["measure"]
            );
        }
        let found = BatchHardMiner.mine(&case.compare()).unwrap();
        assert_eq!(
            case.triplets(&found),
            read::<Vec<u64>>(&case.result["batch_hard"])
        );
    });
}

#[test]
fn triplet_margin() {
    each_case(|case| {
        for wanted in case.result["triplet_margin"].as_array().unwrap() {
            let miner = TripletMarginMiner {
                margin: read(&wanted["margin"]),
                kind: match wanted["kind"].as_str().unwrap() {
                    "all" => TripletKind::All,
                    "hard" => TripletKind::Hard,
                    "semihard" => TripletKind::SemiHard,
                    _ => TripletKind::Easy,
                },
            };
            let found = miner.mine(&case.compare()).unwrap();
            let wanted: Vec<u64> = read(&wanted["triplets"]);
            assert_eq!(case.triplets(&found), wanted, "{miner:?}");
            assert_eq!(miner.count(&case.compare()).unwrap(), wanted.len() as u64);
        }
    });
}

#[test]
fn pair_margin_and_multi_similarity() {
    each_case(|case| {
        for wanted in case.result["pair_margin"].as_array().unwrap() {
            let (positive_margin, negative_margin) = read(&wanted["margins"]);
            let miner = PairMarginMiner {
                positive_margin,
                negative_margin,
            };
            let found = miner.mine(&case.compare()).unwrap();
            assert_eq!(case.pairs(&found), read::<[Vec<u64>; 2]>(&wanted["pairs"]));
        }
        for wanted in case.result["multi_similarity"].as_array().unwrap() {
            let miner = MultiSimilarityMiner {
                epsilon: read(&wanted["epsilon"]),
            };
            let found = miner.mine(&case.compare()).unwrap();
            assert_eq!(case.pairs(&found), read::<[Vec<u64>; 2]>(&wanted["pairs"]));
        }
    });
}

#[test]
fn hdc_and_its_second_stage() {
    each_case(|case| {
        for wanted in case.result["hdc"].as_array().unwrap() {
            let miner = HdcMiner {
                share: read(&wanted["share"]),
            };
            let found = case.pairs(&miner.mine(&case.compare()).unwrap());
            assert_eq!(
                case.unordered(found),
                case.unordered(read(&wanted["pairs"]))
            );
        }
        let first = HdcMiner::default().mine(&case.compare()).unwrap();
        let half = case.compare_part(case.embeddings.dim(1).unwrap() / 2);
        let second = HdcMiner { share: 0.3 }.mine_from(&half, &first).unwrap();
        assert_eq!(
            case.unordered(case.pairs(&second)),
            case.unordered(read(&case.result["hdc_chained"]))
        );
    });
}

#[test]
fn angles() {
    let mut seen = 0;
    each_case(|case| {
        for wanted in case.result["angular"].as_array().into_iter().flatten() {
            let miner = AngularMiner {
                angle: read(&wanted["angle"]),
            };
            let wanted: Vec<u64> = read(&wanted["triplets"]);
            // The package measures the embeddings as they are.
            let raw = case.compare().measure(Measure::L2.unnormalized());
            assert_eq!(case.triplets(&miner.mine(&raw).unwrap()), wanted);
            let squared = case.compare().measure(Measure::SQUARED_L2.unnormalized());
            assert_eq!(case.triplets(&miner.mine(&squared).unwrap()), wanted);
            seen += wanted.len();
        }
    });
    assert!(seen > 500, "{seen}");
}

#[test]
fn weights_of_the_distance_weighted_miner() {
    let mut seen = 0;
    each_case(|case| {
        let Some(rows) = case.result["weights"].as_array() else {
            return;
        };
        let miner = DistanceWeightedMiner::default();
        let dim = case.embeddings.dim(1).unwrap();
        let norm = |t: &Tensor| -> Vec<Vec<f64>> {
            let rows = t.to_vec2::<f64>().unwrap();
            let unit = |r: Vec<f64>| {
                let n = r.iter().map(|v| v * v).sum::<f64>().sqrt();
                r.into_iter().map(|v| v / n).collect()
            };
            rows.into_iter().map(unit).collect()
        };
        let anchors = norm(&case.embeddings);
        let others = norm(case.references.as_ref().unwrap_or(&case.embeddings));
        for (a, wanted) in rows.iter().enumerate() {
            let wanted: Vec<f64> = read(wanted);
            let weight = |j: usize| {
                let d: f64 = anchors[a]
                    .iter()
                    .zip(&others[j])
                    .map(|(x, y)| (x - y).powi(2))
                    .sum();
                let other = case.labels[a] != case.ref_labels[j];
                if other {
                    miner.log_weight(d.sqrt(), dim).exp()
                } else {
                    0.0
                }
            };
            let weights: Vec<f64> = (0..wanted.len()).map(weight).collect();
            let total: f64 = weights.iter().sum();
            for (w, wanted) in weights.iter().zip(&wanted) {
                let share = if total > 0.0 { w / total } else { 0.0 };
                assert!((share - wanted).abs() < 1e-9, "{share} {wanted}");
                seen += usize::from(*wanted > 0.0);
            }
        }
    });
    assert!(seen > 50, "{seen}");
}

#[test]
fn bins_of_the_uniform_histogram() {
    each_case(|case| {
        let wanted: [Vec<(u64, u64)>; 2] = read(&case.result["bins"]);
        let miner = UniformHistogramMiner {
            bins: 12,
            positive_per_bin: 300,
            negative_per_bin: 40,
        };
        let found = miner.mine(&case.compare(), Draw::new(3, 1)).unwrap();
        assert_eq!(found, miner.mine(&case.compare(), Draw::new(3, 1)).unwrap());
        for ((list, wanted), per_bin) in case.pairs(&found).into_iter().zip(wanted).zip([300, 40]) {
            let mut bins = std::collections::BTreeMap::<u64, usize>::new();
            let wanted: std::collections::BTreeMap<u64, u64> = wanted.into_iter().collect();
            for code in &list {
                *bins.entry(wanted[code]).or_default() += 1;
            }
            let there: std::collections::BTreeSet<u64> = wanted.values().copied().collect();
            assert_eq!(
                bins.len(),
                there.len(),
                "every bin that is not empty gives pairs"
            );
            assert!(bins.values().all(|&count| count == per_bin));
            if per_bin == 300 {
                // Bins of positives are small: 300 draws reach every pair.
                let drawn: std::collections::BTreeSet<_> = list.iter().collect();
                assert_eq!(drawn.len(), wanted.len());
            }
        }
    });
}

#[test]
fn a_matrix_gives_what_its_embeddings_give() {
    each_case(|case| {
        let e = |t: &Tensor| {
            let norms = t.sqr().unwrap().sum_keepdim(1).unwrap().sqrt().unwrap();
            t.broadcast_div(&norms).unwrap()
        };
        if case.result["measure"] != "cosine" {
            return;
        }
        assert!(case.similarity);
        let anchors = e(&case.embeddings);
        let others = e(case.references.as_ref().unwrap_or(&case.embeddings));
        let matrix = anchors.matmul(&others.t().unwrap()).unwrap();
        let given = match case.references {
            None => Comparison::from_matrix(&matrix, Order::Similarity, &case.labels),
            Some(_) => {
                let relation = LabelsBetween {
                    anchors: &case.labels,
                    references: &case.ref_labels,
                };
                Comparison::from_matrix(&matrix, Order::Similarity, relation)
            }
        }
        .unwrap();
        let own = case.compare();
        let miners: [Box<dyn Miner>; 6] = [
            Box::new(BatchHardMiner),
            Box::new(BatchEasyHardMiner::default()),
            Box::new(MultiSimilarityMiner::default()),
            Box::new(PairMarginMiner {
                positive_margin: 0.5,
                negative_margin: 0.1,
            }),
            Box::new(TripletMarginMiner::default()),
            Box::new(RankedMiner {
                positives: 0..2,
                negatives: 1..3,
            }),
        ];
        for miner in &miners {
            let draw = Draw::default();
            assert_eq!(
                miner.tuples(&given, draw).unwrap(),
                miner.tuples(&own, draw).unwrap()
            );
        }
    });
}

#[test]
fn conversions_and_weights() {
    let text = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/mining/miners.json"
    ));
    let fixture: Value = serde_json::from_str(text).unwrap();
    for case in fixture["cases"].as_array().unwrap() {
        let labels: Vec<u32> = read(&case["labels"]);
        let ref_labels: Option<Vec<u32>> = case.get("ref_labels").map(read);
        let near = ref_labels.is_some();
        let columns = ref_labels.clone().unwrap_or_else(|| labels.clone());
        let mut pairs = Pairs::default();
        for (a, la) in (0u32..).zip(&labels) {
            for (b, lb) in (0u32..).zip(&columns) {
                if la == lb && (near || a != b) {
                    pairs.positive.push((a, b));
                } else if la != lb {
                    pairs.negative.push((a, b));
                }
            }
        }
        let triplets = pairs.to_triplets();
        let width = columns.len() as u64;
        let mut codes: Vec<u64> = triplets
            .iter()
            .map(|(a, p, n)| (u64::from(a) * width + u64::from(p)) * width + u64::from(n))
            .collect();
        codes.sort_unstable();
        assert_eq!(codes, read::<Vec<u64>>(&case["joined"]));
        assert_eq!(codes, read::<Vec<u64>>(&case["all"]));
        let mined = Mined::from(pairs.clone());
        assert_eq!(
            mined.weights(labels.len(), near).unwrap(),
            read::<Vec<f64>>(&case["weights_of_pairs"])
        );
        assert_eq!(
            Mined::from(triplets).weights(labels.len(), near).unwrap(),
            read::<Vec<f64>>(&case["weights_of_triplets"])
        );
        assert_eq!(mined.into_pairs(), pairs);
    }
}
