//! Heads, proxies, centres and weight regularisers: golden values and gradients, invariances, edges, wrappers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod build;
mod edges;
mod golden;
mod invariances;
mod state;
mod wrappers;

use candle::{DType, Device, Result, Tensor, Var};

fn cpu() -> &'static Device {
    &Device::Cpu
}

/// Numbers without structure in [-scale, scale].
fn numbers(shape: (usize, usize), seed: u64, scale: f64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0) * scale
    };
    let values: Vec<f64> = (0..shape.0 * shape.1).map(|_| next()).collect();
    Tensor::from_vec(values, shape, cpu()).unwrap()
}

fn labels(values: &[u32]) -> Tensor {
    Tensor::new(values, cpu()).unwrap()
}

fn var(t: &Tensor) -> Var {
    Var::from_tensor(&t.copy().unwrap()).unwrap()
}

fn values(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    t.to_vec1().unwrap()
}

/// Value, gradient by the embeddings, gradient by the weight.
fn run(
    e: &Tensor,
    w: &Tensor,
    f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> (f64, Vec<f64>, Vec<f64>) {
    let (e, w) = (var(e), var(w));
    let loss = f(&e, &w).unwrap();
    assert_eq!(loss.rank(), 0);
    let store = loss.backward().unwrap();
    let grad = |v: &Var| match store.get(v) {
        Some(g) => values(g),
        None => vec![0.0; v.elem_count()],
    };
    (values(&loss)[0], grad(&e), grad(&w))
}

fn close(what: &str, ours: &[f64], theirs: &[f64], tol: f64) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let scale = theirs.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let gap = (a - b).abs();
        assert!(
            gap <= tol * scale,
            "{what}, element {i}: ours {a}, theirs {b}"
        );
    }
}
