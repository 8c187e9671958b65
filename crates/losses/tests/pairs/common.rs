//! Every loss over pairs and triplets, embeddings for them, and how results are compared.

use candle::{DType, Device, Result, Tensor, Var};
use phiz_losses::*;

pub type Boxed = Box<dyn MetricLoss + Send + Sync>;

/// Every loss of a batch with labels.
pub fn all() -> Vec<(&'static str, Boxed)> {
    vec![
        ("contrastive", Box::new(Contrastive::default())),
        ("contrastive cosine", Box::new(Contrastive::cosine())),
        ("contrastive snr", Box::new(Contrastive::snr())),
        ("nt_xent", Box::new(NtXent::from(0.3))),
        ("dcl", Box::new(Dcl::default())),
        ("dclw", Box::new(Dcl::weighted())),
        ("sup_con", Box::new(SupCon::from(0.4))),
        ("multi_similarity", Box::new(MultiSimilarity::default())),
        ("multi_similarity mined", Box::new(MultiSimilarity::mined())),
        (
            "circle",
            Box::new(Circle {
                gamma: 8.0,
                ..Circle::default()
            }),
        ),
        ("lifted", Box::new(LiftedStructure::default())),
        (
            "generalized lifted",
            Box::new(GeneralizedLiftedStructure::default()),
        ),
        (
            "tuplet_margin",
            Box::new(TupletMargin {
                scale: 8.0,
                ..TupletMargin::default()
            }),
        ),
        ("intra_pair", Box::new(IntraPairVariance::default())),
        (
            "threshold_consistent",
            Box::new(ThresholdConsistentMargin::default()),
        ),
        ("nca", Box::new(Nca::default())),
        ("fast_ap", Box::new(FastAp::default())),
        ("histogram", Box::new(Histogram { n_bins: 12 })),
        ("ranked_list", Box::new(RankedList::default())),
        (
            "smooth_ap",
            Box::new(SmoothAp {
                temperature: 0.2,
                ..SmoothAp::default()
            }),
        ),
        (
            "pnp",
            Box::new(Pnp {
                anneal: 0.2,
                ..Pnp::default()
            }),
        ),
        ("triplet", Box::new(TripletMargin::default())),
        (
            "triplet smooth",
            Box::new(TripletMargin {
                smooth: true,
                ..TripletMargin::default()
            }),
        ),
        (
            "triplet swap",
            Box::new(TripletMargin {
                swap: true,
                ..TripletMargin::default()
            }),
        ),
        (
            "triplet semihard",
            Box::new(TripletMargin {
                select: Select::SemiHard,
                ..TripletMargin::default()
            }),
        ),
        ("triplet hardest", Box::new(TripletMargin::batch_hard())),
        ("margin", Box::new(Margin::default())),
        ("angular", Box::new(Angular::default())),
        (
            "selectively contrastive",
            Box::new(SelectivelyContrastive::default()),
        ),
    ]
}

pub fn numbers(n: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0
        })
        .collect()
}

pub fn embeddings(n: usize, d: usize, seed: u64) -> Tensor {
    Tensor::from_vec(numbers(n * d, seed), (n, d), &Device::Cpu).unwrap()
}

pub const LABELS: [i64; 11] = [4, 1, 4, 7, 1, 1, 4, 7, 30, 4, 7];

pub fn run(loss: &dyn MetricLoss, batch: &Batch, vars: &[&Var]) -> Result<(f64, Vec<Vec<f64>>)> {
    let loss = loss.forward(batch)?;
    let store = loss.backward()?;
    let mut grads = vec![];
    for v in vars {
        let g = store.get(v).expect("a gradient");
        grads.push(g.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?);
    }
    Ok((loss.to_dtype(DType::F64)?.to_scalar()?, grads))
}

pub fn labelled(loss: &dyn MetricLoss, x: &Tensor, labels: &[i64]) -> Result<(f64, Vec<f64>)> {
    let x = Var::from_tensor(x)?;
    let (value, mut grads) = run(loss, &Batch::new(&x, labels)?, &[&x])?;
    Ok((value, grads.remove(0)))
}

pub fn close(what: &str, a: &[f64], b: &[f64], tol: f64) {
    assert_eq!(a.len(), b.len(), "{what}");
    let scale = b.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= tol * scale, "{what}: {x} and {y}");
    }
}
