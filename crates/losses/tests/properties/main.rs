//! What must hold of every loss: starting identity, edge cases, invariances, bad input.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod adaptive;
mod edges;
mod heads;
mod input;
mod invariances;

use candle::{DType, Device, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use phiz_losses::*;
use phiz_mining::{Tuplet, Tuplets};

const REDUCTIONS: [TupletReduction; 4] = [
    TupletReduction::Mean,
    TupletReduction::MeanActive,
    TupletReduction::HalfSum,
    TupletReduction::Sum,
];

fn rows(list: &[Vec<f64>]) -> Tensor {
    Tensor::new(list.to_vec(), &Device::Cpu).unwrap()
}

fn random(n: usize, d: usize, seed: u64) -> Tensor {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f64> = (0..n * d).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(values, (n, d), &Device::Cpu).unwrap()
}

fn one(query: u32, positives: &[u32], negatives: &[u32]) -> Tuplets {
    Tuplets(vec![Tuplet {
        query,
        positives: positives.to_vec(),
        negatives: negatives.to_vec(),
    }])
}

fn fixed(reference_distance: f64, tau: f64, reduction: TupletReduction) -> TupletClustersConfig {
    TupletClustersConfig {
        reference_distance,
        tau,
        reduction,
        ..TupletClustersConfig::default()
    }
}

fn adaptive(dim: usize, config: AdaptiveConfig) -> Result<AdaptiveTupletClusters> {
    AdaptiveTupletClusters::new(
        dim,
        config,
        VarBuilder::from_varmap(&VarMap::new(), DType::F64, &Device::Cpu),
    )
}

/// Value and gradient with respect to the embeddings.
fn run(e: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> (f64, Vec<f64>) {
    let v = Var::from_tensor(&e.copy().unwrap()).unwrap();
    let loss = f(v.as_tensor()).unwrap();
    let store = loss.backward().unwrap();
    let grad = store
        .get(&v)
        .expect("a gradient")
        .to_dtype(DType::F64)
        .unwrap();
    let loss = loss.to_dtype(DType::F64).unwrap().to_scalar().unwrap();
    (loss, grad.flatten_all().unwrap().to_vec1().unwrap())
}

fn close(a: &[f64], b: &[f64], tol: f64) {
    assert_eq!(a.len(), b.len());
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= tol, "{a:?}\n{b:?}");
    }
}

/// Every loss over tuplets, by name.
type Loss = Box<dyn Fn(&Tensor, &Tuplets) -> Result<Tensor>>;

fn tuplet_losses(dim: usize) -> Vec<(&'static str, Loss)> {
    let cosine = TupletClustersConfig {
        distance: ClusterDistance::Cosine,
        ..fixed(0.5, 0.4, TupletReduction::Mean)
    };
    let unit = TupletClustersConfig {
        normalize: true,
        ..fixed(0.5, 0.4, TupletReduction::Mean)
    };
    let learned = adaptive(dim, AdaptiveConfig::default()).unwrap();
    let distance = NPairForm::Distance { margin: 0.5 };
    vec![
        (
            "fixed",
            Box::new(move |e, t| tuplet_clusters(e, t, fixed(0.8, 0.6, TupletReduction::Mean))),
        ),
        (
            "cosine",
            Box::new(move |e, t| tuplet_clusters(e, t, cosine)),
        ),
        ("unit", Box::new(move |e, t| tuplet_clusters(e, t, unit))),
        (
            "adaptive",
            Box::new(move |e, t| learned.forward(&e.to_dtype(DType::F64)?, t)),
        ),
        ("coupled", Box::new(|e, t| coupled_clusters(e, t, 0.5))),
        (
            "n-pair",
            Box::new(|e, t| n_pair(e, t, NPairConfig::default())),
        ),
        (
            "n-pair distance",
            Box::new(move |e, t| n_pair(e, t, distance)),
        ),
        (
            "triplet",
            Box::new(|e, t| triplet(e, &t.to_triplets(), 0.5)),
        ),
    ]
}
