//! Small batches, equal embeddings, what cannot be compared, and settings without sense.

use candle::{DType, Tensor};
use phiz_mining::*;

use crate::common::*;

#[test]
fn equal_embeddings_lone_batches_and_one_class() {
    let same = tensor(&vec![vec![1.0, 2.0, 3.0]; 6]);
    for labels in [[0u32, 0, 1, 1, 2, 2], [4; 6], [1, 2, 3, 4, 5, 6]] {
        let c = Comparison::new(&same, &labels).unwrap();
        for miner in every_miner() {
            valid(&miner.tuples(&c, Draw::default()).unwrap(), &&labels);
        }
        // Every triplet has t = 0: all are hard, none semi-hard.
        let count = |kind| TripletMarginMiner { margin: 0.2, kind }.count(&c).unwrap();
        assert_eq!(count(TripletKind::Hard), all_triplets(&labels).len() as u64);
        assert_eq!(
            (count(TripletKind::SemiHard), count(TripletKind::Easy)),
            (0, 0)
        );
    }
    let one = tensor(&[vec![1.0, 0.0]]);
    let none = Tensor::zeros((0, 3), DType::F32, &DEVICE).unwrap();
    for (e, labels) in [(&one, vec![3u32]), (&none, vec![])] {
        let c = Comparison::new(e, &labels).unwrap();
        for miner in every_miner() {
            assert!(miner.tuples(&c, Draw::default()).unwrap().is_empty());
        }
    }
    // No references at all.
    let relation = LabelsBetween {
        anchors: &[3u32],
        references: &[],
    };
    let c = Comparison::with_references(
        &one,
        &Tensor::zeros((0, 2), DType::F64, &DEVICE).unwrap(),
        relation,
    )
    .unwrap();
    for miner in every_miner() {
        assert!(miner.tuples(&c, Draw::default()).unwrap().is_empty());
    }
}

#[test]
fn what_cannot_be_compared_is_named() {
    let e = tensor(&[vec![0.0, 1.0], vec![1.0, f64::NAN], vec![1.0, 0.0]]);
    let text = |r: candle::Result<Comparison<'_>>| r.unwrap_err().to_string();
    assert!(text(Comparison::new(&e, &[0, 0, 1])).contains("embedding 1 of 3"));
    let fine = tensor(&[vec![0.0, 1.0], vec![1.0, 1.0], vec![1.0, 0.0]]);
    assert!(text(Comparison::new(&fine, &[0, 0])).contains("3 embeddings but 2 labels"));
    let between = LabelsBetween {
        anchors: &[0, 0, 1],
        references: &[1, 0],
    };
    assert!(text(Comparison::new(&fine, between)).contains("with_references"));
    assert!(
        text(Comparison::with_references(&fine, &fine, between))
            .contains("3 references but 2 labels")
    );
    assert!(text(Comparison::with_references(&fine, &fine, &[0, 0, 1])).contains("LabelsBetween"));
    let narrow = tensor(&[vec![0.0], vec![1.0]]);
    assert!(text(Comparison::with_references(&fine, &narrow, between)).contains("of 2 values"));
    let matrix = tensor(&[vec![0.0, 1.0], vec![f64::INFINITY, 0.0]]);
    assert!(
        text(Comparison::from_matrix(&matrix, Order::Distance, &[0, 1])).contains("score (1, 0)")
    );
    assert!(
        text(Comparison::from_matrix(&fine, Order::Distance, &[0, 1, 1]))
            .contains("2 references but 3 labels")
    );
    let flat = Tensor::zeros(3, DType::F32, &DEVICE).unwrap();
    assert!(text(Comparison::new(&flat, &[0, 0, 1])).contains("(B, D)"));
    let empty = Tensor::zeros((2, 0), DType::F32, &DEVICE).unwrap();
    assert!(text(Comparison::new(&empty, &[0, 0])).contains("0 values"));
    let level = Comparison::new(&tensor(&[vec![1.0, 1.0], vec![1.0, 0.0]]), &[0, 0])
        .unwrap()
        .measure(Measure::SNR);
    assert!(
        BatchHardMiner
            .mine(&level)
            .unwrap_err()
            .to_string()
            .contains("embedding 0 has no variance")
    );
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let e = tensor(&[vec![0.0, 1.0], vec![1.0, 1.0], vec![1.0, 0.0]]);
    let labels = [0, 0, 1];
    let c = || Comparison::new(&e, &labels).unwrap();
    let refused = |miner: &dyn Miner, c: Comparison<'_>, word: &str| {
        let text = miner.tuples(&c, Draw::default()).unwrap_err().to_string();
        assert!(text.contains(word), "{text}");
    };
    let picks = |positive, negative| BatchEasyHardMiner {
        positive,
        negative,
        ..Default::default()
    };
    refused(&picks(Pick::SemiHard, Pick::SemiHard), c(), "both");
    refused(&picks(Pick::All, Pick::SemiHard), c(), "one partner");
    refused(&picks(Pick::SemiHard, Pick::All), c(), "one partner");
    refused(
        &TripletMarginMiner {
            margin: f64::NAN,
            ..Default::default()
        },
        c(),
        "finite",
    );
    refused(
        &PairMarginMiner {
            positive_margin: f64::INFINITY,
            ..Default::default()
        },
        c(),
        "finite",
    );
    refused(&MultiSimilarityMiner { epsilon: f64::NAN }, c(), "finite");
    refused(&AngularMiner { angle: 91.0 }, c(), "90");
    refused(&HdcMiner { share: 0.0 }, c(), "share");
    refused(
        &UniformHistogramMiner {
            bins: 0,
            ..Default::default()
        },
        c(),
        "bin",
    );
    refused(
        &RankedMiner {
            positives: 1..1,
            negatives: 0..1,
        },
        c(),
        "empty",
    );
    refused(
        &DistanceWeightedMiner {
            cutoff: 0.0,
            ..Default::default()
        },
        c(),
        "cutoff",
    );
    refused(
        &DistanceWeightedMiner::default(),
        c().measure(Measure::COSINE),
        "Euclidean",
    );
    refused(
        &DistanceWeightedMiner::default(),
        c().measure(Measure::L2.unnormalized()),
        "unit vectors",
    );
    refused(
        &AngularMiner::default(),
        c().measure(Measure::COSINE),
        "Euclidean",
    );
    let matrix = e.matmul(&e.t().unwrap()).unwrap();
    let given = || Comparison::from_matrix(&matrix, Order::Distance, &labels).unwrap();
    refused(&DistanceWeightedMiner::default(), given(), "dimension");
    DistanceWeightedMiner::default()
        .mine(&given().dimension(2), Draw::default())
        .unwrap();
    let between = LabelsBetween {
        anchors: &labels,
        references: &labels,
    };
    let refs = Comparison::from_matrix(&matrix, Order::Distance, between).unwrap();
    refused(&AngularMiner::default(), refs, "with each other");
    assert!(
        TripletMarginMiner::default()
            .mine_some(&c(), 0, Draw::default())
            .is_err()
    );
    let first = Pairs {
        positive: vec![(0, 3)],
        negative: vec![],
    };
    assert!(
        HdcMiner::default()
            .mine_from(&c(), &first)
            .unwrap_err()
            .to_string()
            .contains("(0, 3)")
    );
    assert!(
        packaged_triplets(7)
            .unwrap_err()
            .to_string()
            .contains("multiple of 3")
    );
    assert_eq!(
        packaged_triplets(6).unwrap().iter().collect::<Vec<_>>(),
        [(0, 1, 2), (3, 4, 5)]
    );
    refused(
        &PackagedTriplets,
        Comparison::with_references(&e, &e, between).unwrap(),
        "one batch",
    );
}

#[test]
fn low_precision_and_large_scales() {
    let rows = grid(12, 5, 8);
    let labels: Vec<u32> = (0..12).map(|i| i % 4).collect();
    let exact = BatchHardMiner
        .mine(&Comparison::new(&tensor(&rows), &labels).unwrap())
        .unwrap();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        // Grid values are exact in each of them.
        let e = tensor(&rows).to_dtype(dtype).unwrap();
        let found = BatchHardMiner
            .mine(&Comparison::new(&e, &labels).unwrap())
            .unwrap();
        assert_eq!(found, exact, "{dtype:?}");
    }
    // Lengths neither overflow nor vanish.
    for scale in [1e200, 1e-200] {
        let e = (tensor(&rows) * scale).unwrap();
        let c = Comparison::new(&e, &labels).unwrap();
        assert_eq!(BatchHardMiner.mine(&c).unwrap().len(), exact.len());
    }
}

#[test]
fn blocks_do_not_show() {
    // 3,000 references make several blocks of anchors.
    let count = 3000;
    let rows: Vec<Vec<f64>> = (0..count)
        .map(|i| {
            vec![
                (i as f64 * 0.7).sin(),
                (i as f64 * 1.3).cos(),
                (i as f64 * 0.11).sin(),
            ]
        })
        .collect();
    let labels: Vec<u32> = (0..count as u32).map(|i| i % 750).collect();
    let found = BatchHardMiner
        .mine(
            &Comparison::new(&tensor(&rows), &labels)
                .unwrap()
                .measure(Distance::Squared),
        )
        .unwrap();
    assert_eq!(found.len(), count);
    let d = |a: usize, b: usize| {
        rows[a]
            .iter()
            .zip(&rows[b])
            .map(|(x, y)| (x - y) * (x - y))
            .sum::<f64>()
    };
    for (a, p, n) in found.iter().step_by(97) {
        let a = a as usize;
        let far = (0..count)
            .filter(|&j| j != a && labels[j] == labels[a])
            .map(|j| d(a, j))
            .fold(0.0, f64::max);
        let near = (0..count)
            .filter(|&j| labels[j] != labels[a])
            .map(|j| d(a, j))
            .fold(f64::INFINITY, f64::min);
        assert!((d(a, p as usize) - far).abs() < 1e-12 && (d(a, n as usize) - near).abs() < 1e-12);
    }
}
