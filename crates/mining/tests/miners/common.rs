//! Embeddings, all miners, and what holds for the tuples of each.

use candle::{Device, Tensor};
use phiz_mining::*;

pub const DEVICE: Device = Device::Cpu;

pub fn tensor(rows: &[Vec<f64>]) -> Tensor {
    Tensor::new(rows.to_vec(), &DEVICE).unwrap()
}

/// Embeddings that depend on nothing but their shape and a seed; values on a coarse grid, so that there are ties and duplicates.
pub fn grid(count: usize, dim: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 9) as f64 / 4.0 - 1.0
    };
    (0..count)
        .map(|_| (0..dim).map(|_| next()).collect())
        .collect()
}

/// Every miner, with its random choices fixed by the draw.
pub fn every_miner() -> Vec<Box<dyn Miner>> {
    vec![
        Box::new(BatchHardMiner),
        Box::new(BatchEasyHardMiner::default()),
        Box::new(BatchEasyHardMiner {
            positive: Pick::SemiHard,
            negative: Pick::Easy,
            positive_range: Some(0.1..=1.0),
            negative_range: None,
        }),
        Box::new(BatchEasyHardMiner {
            positive: Pick::All,
            negative: Pick::Hard,
            ..Default::default()
        }),
        Box::new(TripletMarginMiner::default()),
        Box::new(TripletMarginMiner {
            margin: 0.3,
            kind: TripletKind::SemiHard,
        }),
        Box::new(PairMarginMiner::default()),
        Box::new(MultiSimilarityMiner::default()),
        Box::new(AngularMiner::default()),
        Box::new(HdcMiner::default()),
        Box::new(RankedMiner {
            positives: 0..2,
            negatives: 1..4,
        }),
        Box::new(DistanceWeightedMiner::default()),
        Box::new(DistanceWeightedMiner {
            fallback: Fallback::Nearest,
            per_anchor: Some(3),
            ..Default::default()
        }),
        Box::new(UniformHistogramMiner {
            bins: 5,
            positive_per_bin: 2,
            negative_per_bin: 3,
        }),
    ]
}

/// Positives are positive, negatives negative, nothing is out of range or compared with itself.
pub fn valid(mined: &Mined, relation: &dyn Relation) {
    let own = relation.references().is_none();
    let (rows, columns) = (
        relation.anchors(),
        relation.references().unwrap_or(relation.anchors()),
    );
    let link = |a: u32, b: u32, wanted: Link| {
        assert!((a as usize) < rows && (b as usize) < columns);
        assert!(!own || a != b, "an item compared with itself");
        assert_eq!(relation.link(a as usize, b as usize), wanted);
    };
    match mined {
        Mined::Pairs(pairs) => {
            pairs.check(rows, columns).unwrap();
            pairs
                .positive
                .iter()
                .for_each(|&(a, p)| link(a, p, Link::Positive));
            pairs
                .negative
                .iter()
                .for_each(|&(a, n)| link(a, n, Link::Negative));
        }
        Mined::Triplets(triplets) => triplets.iter().for_each(|(a, p, n)| {
            link(a, p, Link::Positive);
            link(a, n, Link::Negative);
        }),
    }
}
